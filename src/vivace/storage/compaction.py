"""Compaction: small blocks of one stretch of time become one, and traces that were split come together.

Rule 1  memory is bounded by MEMORY, not by the blocks: row groups are decoded one at a time, the least recently used
        goes first, and the output is written row group by row group.
Rule 2  only blocks whose WAL records are gone are merged: `wal_until` speaks of the traces of one block, and a merged
        block could not say it for each of its parts.
Rule 3  the new block names those it replaces; a crash at any point leaves either the old ones or the new one in force.
Rule 4  a damaged input is reported as such; the others are left as they are for the next round.

Order within the output and the removal of copies: model/arrange.py.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vivace.errors import CorruptionError
from vivace.model.adopt import join
from vivace.model.arrange import arrange
from vivace.model.attributes import I64, U64
from vivace.model.batch import SpanBatch
from vivace.model.rows import take
from vivace.model.schema import AttributeScope
from vivace.storage import layout
from vivace.storage.block_reader import Block
from vivace.storage.block_writer import BlockWriter
from vivace.storage.layout import BlockMeta, Key, choose_columns

FAN_IN_MAX = 8
"""Blocks merged at once. More would cost memory for little: a block is rewritten about log8 of its size."""

BLOCK_SPANS_MAX = 4_000_000
"""Merging stops here (some 150 MB): rewriting larger blocks costs more than a query gains, and retention by size
deletes whole blocks."""

OLD = timedelta(hours=24)
OLD_WINDOWS = 6
"""Blocks older than a day are merged over windows six times as long: a week is then some 50 blocks, not 170."""

CACHE_SHARE = 0.5
"""Of the memory budget: decoded input. The rest is for one output row group, its sorted copy and its encoding."""


@dataclass(frozen=True, slots=True)
class CompactionSettings:
    """window: blocks that end in the same one may be merged.  memory_bytes: budget of one merge."""

    window: timedelta
    memory_bytes: int
    block_bytes_max: int
    block_traces_max: int


def choose(blocks: Sequence[Block], settings: CompactionSettings, *, now_unix_nano: int, wal_first: int) -> list[Block]:
    """Blocks of one tenant that should become one now; none when there is nothing worth doing.

    The smallest of the fullest window that are of like size: each at most twice those before it together, so that no
    large block is rewritten for a few spans. A span is then rewritten a few times, and a window ends with few blocks.
    """
    windows: dict[tuple[int, int], list[Block]] = {}
    for block in blocks:
        meta = block.meta
        if meta.wal_until > wal_first or meta.span_count >= BLOCK_SPANS_MAX:
            continue
        age = now_unix_nano - meta.end_time_unix_nano
        length = settings.window * (OLD_WINDOWS if age > _nanoseconds(OLD) else 1)
        nanoseconds = max(1, _nanoseconds(length))
        windows.setdefault((nanoseconds, meta.end_time_unix_nano // nanoseconds), []).append(block)
    for window in sorted(windows, key=lambda w: -len(windows[w])):
        smallest_first = sorted(windows[window], key=lambda b: (b.meta.span_count, b.meta.id))
        for first in range(len(smallest_first) - 1):
            chosen = _within(smallest_first[first:], settings)
            if len(chosen) >= 2:
                return chosen
    return []


def _within(smallest_first: Sequence[Block], settings: CompactionSettings) -> list[Block]:
    chosen: list[Block] = []
    spans = traces = size = 0
    for block in smallest_first[:FAN_IN_MAX]:
        meta = block.meta
        fits = (
            spans + meta.span_count <= BLOCK_SPANS_MAX
            and traces + meta.trace_count <= settings.block_traces_max
            and size + meta.data_bytes <= settings.block_bytes_max
        )
        if not fits or (chosen and meta.span_count > 2 * spans):
            break
        chosen.append(block)
        spans, traces, size = spans + meta.span_count, traces + meta.trace_count, size + meta.data_bytes
    return chosen


@dataclass(frozen=True, slots=True)
class Merged:
    """The outcome of one compaction: the new block, not listed yet."""

    directory: Path
    meta: BlockMeta
    duplicates: int


class DamagedInput(Exception):
    """One of the inputs cannot be read; `block` says which."""

    def __init__(self, block: Block, error: CorruptionError) -> None:
        super().__init__(str(error))
        self.block = block
        self.error = error


def compact(
    blocks: Sequence[Block],
    *,
    directory: Path,
    block_id: str,
    memory_bytes: int,
    now_unix_nano: int,
    check: Callable[[], None] = lambda: None,
) -> Merged:
    """Merge blocks of one tenant into a new one in `directory`.

    `check` is called between row groups and may raise to stop.
    Raises  DamagedInput, DiskFullError, OSError; nothing is left behind then.
    """
    blocks = sorted(blocks, key=lambda b: (b.meta.end_time_unix_nano, b.meta.id))
    plan = choose_columns(*_key_counts([b.meta for b in blocks]))
    span_bytes = max(b.meta.span_bytes for b in blocks)
    writer = BlockWriter(directory, block_id, plan, span_bytes=span_bytes)
    duplicates = 0
    try:
        rows = _RowGroups(blocks, int(memory_bytes * CACHE_SHARE))
        for chunk in _chunks(blocks, layout.row_group_spans(span_bytes)):
            check()
            arranged = arrange(rows.gather(chunk))
            duplicates += arranged.duplicates
            writer.append(arranged)
        path, meta = writer.finish(
            tenant=blocks[0].meta.tenant,
            wal_until=0,
            level=max(b.meta.level for b in blocks) + 1,
            created_unix_nano=now_unix_nano,
            replaces=tuple(b.meta.id for b in blocks),
        )
    except BaseException:
        writer.abort()
        raise
    return Merged(path, meta, duplicates)


def _key_counts(metas: Sequence[BlockMeta]) -> tuple[dict[Key, int], dict[AttributeScope, int]]:
    counts: dict[Key, int] = {}
    for meta in metas:
        for stats in meta.keys:
            if stats.key.scope in (AttributeScope.SPAN, AttributeScope.EVENT, AttributeScope.LINK):
                counts[stats.key] = counts.get(stats.key, 0) + stats.rows
    rows = {
        AttributeScope.SPAN: sum(m.span_count for m in metas),
        AttributeScope.EVENT: sum(m.event_count for m in metas),
        AttributeScope.LINK: sum(m.link_count for m in metas),
    }
    return counts, rows


@dataclass(frozen=True, slots=True)
class _TraceList:
    """The traces of all inputs: one entry for each (trace, block), sorted as the output will be."""

    block: I64
    first_row: I64
    row_count: I64
    is_new: NDArray[np.bool_]


Chunk = list[tuple[int, I64, I64]]
"""For each input block: (its number, first rows, row counts) of the traces wanted."""


def _chunks(blocks: Sequence[Block], spans_max: int) -> Iterator[Chunk]:
    """Whole traces in output order, about a row group of `spans_max` spans at a time."""
    traces = _trace_list(blocks)
    ends = np.cumsum(traces.row_count)
    starts = np.flatnonzero(traces.is_new)
    first = 0
    while first < len(starts):
        begin = int(starts[first])
        target = int(ends[begin] - traces.row_count[begin]) + spans_max
        last = max(first + 1, int(np.searchsorted(ends[np.append(starts[1:], len(ends)) - 1], target, side="right")))
        stop = int(starts[last]) if last < len(starts) else len(ends)
        part = slice(begin, stop)
        yield [
            (number, traces.first_row[part][mine], traces.row_count[part][mine])
            for number in range(len(blocks))
            if (mine := traces.block[part] == number).any()
        ]
        first = last


def _trace_list(blocks: Sequence[Block]) -> _TraceList:
    high, low, start, first_row, row_count, block = (np.concatenate(c) for c in zip(*map(_traces, blocks, range(len(blocks))), strict=True))  # fmt: skip
    order = np.lexsort((low, high))
    new = np.ones(len(order), bool)
    new[1:] = (high[order][1:] != high[order][:-1]) | (low[order][1:] != low[order][:-1])
    first = np.flatnonzero(new)
    earliest = np.minimum.reduceat(start[order], first)
    counts = np.diff(first, append=len(order))
    # block number last, so that the parts of a trace keep the order of the blocks
    by_start = np.lexsort((block[order], low[order], high[order], np.repeat(earliest, counts)))
    order = order[by_start]
    new[1:] = (high[order][1:] != high[order][:-1]) | (low[order][1:] != low[order][:-1])
    return _TraceList(block[order], first_row[order], row_count[order], new)


def _traces(block: Block, number: int) -> tuple[U64, U64, I64, I64, I64, I64]:
    columns = ["trace_id", "start_time_unix_nano", "first_row", "span_count"]
    path = block.directory / layout.TRACES
    try:
        table = pq.read_table(path, columns=columns, use_threads=False).combine_chunks()
        ids = np.frombuffer(table["trace_id"].chunk(0).buffers()[1], ">u8").astype(np.uint64).reshape(-1, 2)
    except Exception as e:
        error = CorruptionError(path, offset=0, expected="the trace table", found=str(e))
        raise DamagedInput(block, error) from e
    rows = len(table)
    return (
        ids[:rows, 0],
        ids[:rows, 1],
        table["start_time_unix_nano"].to_numpy(),
        table["first_row"].to_numpy().astype(np.int64),
        table["span_count"].to_numpy().astype(np.int64),
        np.full(rows, number, np.int64),
    )


@dataclass(slots=True)
class _RowGroups:
    """Decoded row groups of the inputs, the least recently used dropped beyond `bytes_max`."""

    blocks: Sequence[Block]
    bytes_max: int
    _held: OrderedDict[tuple[int, int], SpanBatch] = field(default_factory=OrderedDict)
    _bytes: int = 0

    def gather(self, chunk: Chunk) -> SpanBatch:
        """The rows of a chunk as one batch."""
        parts = []
        for number, first_rows, row_counts in chunk:
            ends = np.cumsum(self.blocks[number].meta.row_groups)
            group_of_trace = np.searchsorted(ends, first_rows, side="right")
            for group in np.unique(group_of_trace).tolist():
                mine = group_of_trace == group
                base = int(ends[group]) - self.blocks[number].meta.row_groups[group]
                parts.append(
                    take(self._row_group(number, group, base), _ranges(first_rows[mine] - base, row_counts[mine]))
                )
        return join(parts)

    def _row_group(self, number: int, group: int, base: int) -> SpanBatch:
        key = (number, group)
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key]
        block = self.blocks[number]
        try:
            batch = block.rows(base, block.meta.row_groups[group])
        except CorruptionError as e:
            raise DamagedInput(block, e) from e
        self._held[key] = batch
        self._bytes += _size(batch)
        while self._bytes > self.bytes_max and len(self._held) > 1:
            _, dropped = self._held.popitem(last=False)
            self._bytes -= _size(dropped)
        return batch


def _ranges(first: I64, count: I64) -> I64:
    """Row numbers of many ranges, one after the other."""
    ends = np.cumsum(count)
    rows: I64 = np.repeat(first - (ends - count), count) + np.arange(int(ends[-1]))
    return rows


def _size(batch: SpanBatch) -> int:
    return batch.nbytes + batch.dictionary.nbytes


def _nanoseconds(duration: timedelta) -> int:
    return duration // timedelta(microseconds=1) * 1000
