"""Sources: all that a query reads, as frames of whole traces, newest first.

Rule 1  every span of a snapshot is in exactly one source; traces that lie in several places are gathered into frames of
        their own, and left out of the others.
Rule 2  a source is opened when the query gets to it; before, only its bounds are known.
Rule 3  what is made of the head is kept while the head keeps it, within HEAD_BYTES_MAX for all tenants.

A source is a row group of a block, a part of the head, or some gathered traces.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vivace.errors import CorruptionError
from vivace.model.adopt import join
from vivace.model.arrange import Arranged, arrange
from vivace.model.batch import SpanBatch
from vivace.model.frame import Fixed, Frame, Mask
from vivace.model.memory_frame import MemoryFrame
from vivace.model.rows import take
from vivace.query.spans import Spans
from vivace.query.splits import Splits, TraceIds
from vivace.storage.block_reader import Block
from vivace.storage.column_cache import ColumnCache
from vivace.storage.head import Part
from vivace.storage.row_group import RowGroup
from vivace.storage.store import Snapshot, Store

HEAD_BYTES_MAX = 32 << 20
"""Parts of the head in block order, about as large as the parts themselves. Searches end at the newest of them."""

HEAD_COLUMNS_BYTES_MAX = 24 << 20
"""Columns made of those parts; making one again takes some 3 ms for 60,000 spans."""

GATHERED_SPANS_MAX = 65_536
"""Spans gathered into one frame; one trace alone may be larger."""

PIECES_BYTES_MAX = 16 << 20
"""Pieces of split traces, read from blocks; each costs some 7 ms to read."""


@dataclass(frozen=True, slots=True)
class Source:
    """A frame that is not opened yet. Bounds are unix nanoseconds of its traces: earliest and latest start, latest end.

    block    that it is a row group of, else None
    leave    traces that are to be left out: they are in another source
    """

    name: str
    start_min: int
    start_max: int
    end_max: int
    span_count: int
    trace_count: int
    open: Callable[[], Frame]
    leave: TraceIds
    block: Block | None = None
    row_group: int = 0
    column_bytes: int = 0

    def wanted(self, spans: Spans) -> Mask | None:
        """Which traces of the opened source count; None for all. Ids are read only when there are traces to leave out."""
        if not len(self.leave):
            return None
        left_out = self.leave.contains(spans.numbers(Fixed.TRACE_ID_HIGH), spans.numbers(Fixed.TRACE_ID_LOW))
        return ~left_out if left_out.any() else None


class SourceMemory:
    """What is dear to make of sources, of all tenants: a query of two tenants finds what one of each has made. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._head: OrderedDict[int, tuple[SpanBatch, MemoryFrame]] = OrderedDict()
        self._pieces: OrderedDict[tuple[str, int], SpanBatch] = OrderedDict()

    def arranged(self, batch: SpanBatch) -> Frame:
        """A part of the head in block order."""
        with self._lock:
            known = self._head.get(id(batch))
            if known is not None:
                self._head.move_to_end(id(batch))
                self._trim_columns()
                return known[1]
        frame = MemoryFrame(arrange(batch))
        with self._lock:
            self._head[id(batch)] = (batch, frame)
            while sum(b.nbytes for b, _ in self._head.values()) > HEAD_BYTES_MAX and len(self._head) > 1:
                self._head.popitem(last=False)
        return frame

    def _trim_columns(self) -> None:
        """Forget columns of the parts least used, but never of the one that was asked for last."""
        kept = sum(frame.kept_bytes for _, frame in self._head.values())
        for _, frame in list(self._head.values())[:-1]:
            if kept <= HEAD_COLUMNS_BYTES_MAX:
                return
            kept -= frame.kept_bytes
            frame.forget_columns()

    def forget(self, batches: Iterable[int]) -> None:
        """Parts that the head has no longer, by id()."""
        with self._lock:
            for gone in batches:
                self._head.pop(gone, None)

    def piece(self, block: Block, high: int, low: int) -> SpanBatch | None:
        """What a block has of a trace. Raises CorruptionError."""
        key = (block.meta.id, high << 64 | low)
        with self._lock:
            piece = self._pieces.get(key)
            if piece is not None:
                self._pieces.move_to_end(key)
                return piece
        piece = block.trace(high, low)
        if piece is not None:
            with self._lock:
                self._pieces[key] = piece
                while sum(p.nbytes for p in self._pieces.values()) > PIECES_BYTES_MAX and len(self._pieces) > 1:
                    self._pieces.popitem(last=False)
        return piece


class SourceRoom:
    """Makes the sources of snapshots of one tenant, or of the same several, and remembers which traces are split. Thread-safe."""

    def __init__(self, store: Store, columns: ColumnCache, memory: SourceMemory | None = None) -> None:
        """memory: shared with other rooms; without it the room has its own."""
        self._store = store
        self._columns = columns
        self._memory = memory or SourceMemory()
        self._splits = Splits()
        self._lock = threading.Lock()
        self._opened: set[int] = set()
        """Parts of the head that were arranged for this room, by id()."""

    def sources(self, snapshot: Snapshot) -> list[Source]:
        """All of a snapshot, newest first. Damaged blocks are set aside and left out."""
        split = self._splits.find(snapshot.parts, snapshot.blocks)
        found = [self._part(part, split) for part in snapshot.parts]
        self._forget_parts(snapshot.parts)
        for block in snapshot.blocks:
            found += self._row_groups(block, split)
        found += self._gathered(snapshot, split)
        return sorted(found, key=lambda s: (s.start_max, s.end_max, s.name), reverse=True)

    def suspect(self, source: Source, error: CorruptionError) -> None:
        """Reading a source failed: see Catalog.suspect."""
        if source.block is None:
            raise error
        self._store.catalog.suspect(source.block, error)

    # -- blocks -------------------------------------------------------------------------------------------------------

    def _row_groups(self, block: Block, split: TraceIds) -> Iterator[Source]:
        try:
            groups = block.row_groups(self._columns)
        except CorruptionError as e:
            self._store.catalog.suspect(block, e)
            return
        share = block.meta.data_bytes / max(1, block.meta.span_count)
        for group, leave in zip(groups, _by_group(block, groups, split), strict=True):
            yield Source(
                name=f"block {block.meta.id} row group {group.index}",
                start_min=group.start_min,
                start_max=group.start_max,
                end_max=group.end_max,
                span_count=group.span_count,
                trace_count=group.trace_count,
                open=lambda group=group: group,  # type: ignore[misc]  # mypy does not infer defaults of lambdas
                leave=leave,
                block=block,
                row_group=group.index,
                column_bytes=int(share * group.span_count),
            )

    # -- the head -----------------------------------------------------------------------------------------------------

    def _part(self, part: Part, split: TraceIds) -> Source:
        batch = part.batch
        start = batch.start_time_unix_nano
        return Source(
            name="head",
            start_min=int(start.min()),
            start_max=int(start.max()),
            end_max=max(int(batch.end_time_unix_nano.max()), int(start.max())),
            span_count=len(batch),
            trace_count=0,
            open=lambda: self._arranged(batch),
            leave=split,
            column_bytes=batch.nbytes,
        )

    def _arranged(self, batch: SpanBatch) -> Frame:
        with self._lock:
            self._opened.add(id(batch))
        return self._memory.arranged(batch)

    def _forget_parts(self, parts: Sequence[Part]) -> None:
        here = {id(part.batch) for part in parts}
        with self._lock:
            gone = self._opened - here
            self._opened &= here
        self._memory.forget(gone)

    # -- split traces -------------------------------------------------------------------------------------------------

    def _gathered(self, snapshot: Snapshot, split: TraceIds) -> Iterator[Source]:
        for ids in _portions(split, snapshot):
            frame, arranged = self._gather(snapshot, ids)
            if arranged is None:
                continue
            first = arranged.first_row
            starts = np.minimum.reduceat(arranged.batch.start_time_unix_nano, first)
            yield Source(
                name="gathered",
                start_min=int(starts.min()),
                start_max=int(starts.max()),
                end_max=max(int(arranged.batch.end_time_unix_nano.max()), int(starts.max())),
                span_count=len(arranged.batch),
                trace_count=arranged.trace_count,
                open=lambda frame=frame: frame,  # type: ignore[misc]  # mypy does not infer defaults of lambdas
                leave=TraceIds.none(),
                column_bytes=arranged.batch.nbytes,
            )

    def _gather(self, snapshot: Snapshot, ids: TraceIds) -> tuple[Frame | None, Arranged | None]:
        pieces: list[SpanBatch] = []
        for block in snapshot.blocks:
            pieces += self._pieces_of(block, ids)
        for part in snapshot.parts:
            rows = np.flatnonzero(ids.contains(part.batch.trace_id_high, part.batch.trace_id_low))
            if len(rows):
                pieces.append(take(part.batch, rows))
        if not pieces:
            return None, None
        arranged = arrange(join(pieces))
        return MemoryFrame(arranged), arranged

    def _pieces_of(self, block: Block, ids: TraceIds) -> Iterator[SpanBatch]:
        inside = np.flatnonzero(block.ids.contains(ids.high, ids.low)).tolist()
        for place in inside:
            high, low = int(ids.high[place]), int(ids.low[place])
            try:
                piece = self._memory.piece(block, high, low)
            except CorruptionError as e:
                self._store.catalog.suspect(block, e)
                return
            if piece is not None:
                yield piece


def _by_group(block: Block, groups: Sequence[RowGroup], split: TraceIds) -> list[TraceIds]:
    """The split traces of each row group. Most have none, and what is found in those can be remembered."""
    if not len(split):
        return [split] * len(groups)
    inside, first_row = block.ids.first_rows(split.high, split.low)
    high, low = split.high[inside], split.low[inside]
    group = np.searchsorted([g.first_row for g in groups], first_row, "right") - 1
    return [TraceIds(high[group == i], low[group == i]) for i in range(len(groups))]


def _portions(split: TraceIds, snapshot: Snapshot) -> Iterator[TraceIds]:
    """Split traces in portions of about GATHERED_SPANS_MAX spans."""
    if not len(split):
        return
    per_trace = max([1, *(b.meta.span_count // max(1, b.meta.trace_count) for b in snapshot.blocks)])
    step = max(1, GATHERED_SPANS_MAX // (2 * per_trace))
    for first in range(0, len(split), step):
        yield TraceIds(split.high[first : first + step], split.low[first : first + step])
