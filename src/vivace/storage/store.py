"""The store: WAL, heads and blocks as one thing that keeps spans and finds them.

Rule 1  everything that changes a head or the WAL runs on one thread, the writer: append(), publish(), seal, release.
Rule 2  a reader's snapshot is taken under one lock together with the switch from head to block, so a span is in the
        head or in a block of the snapshot, never in both, never in neither.
Rule 3  a block says up to which WAL record it holds its traces (`wal_until`); replay leaves those spans out. A WAL
        segment goes when no head holds a span of it any more.
Rule 4  a cut that fails (a full disk) is taken back: the spans stay in the head and in the WAL, the next try repeats.

Cutting: divide() in head.py says what.  Merging: compaction.py.  Deleting: retention.py and maintenance.py.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vivace.errors import CorruptionError, DiskFullError, StorageError
from vivace.model.arrange import arrange
from vivace.model.batch import SpanBatch
from vivace.model.dictionary import Dictionary
from vivace.model.schema import AttributeScope
from vivace.storage.block_reader import Block
from vivace.storage.block_writer import BlockWriter, count_keys
from vivace.storage.catalog import Catalog
from vivace.storage.disk import DiskBudget
from vivace.storage.head import CutRule, Head, Part, Sealed, divide, find_trace
from vivace.storage.layout import META, BlockMeta, choose_columns, read_meta
from vivace.storage.wal import Wal

NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class CutSettings:
    """When a head is cut; see the configuration reference, `ingester`.

    head_bytes_max  memory for recent spans of all tenants
    """

    head_bytes_max: int
    trace_idle: timedelta
    trace_live: timedelta
    block_duration_max: timedelta

    @property
    def cut_bytes(self) -> int:
        """Where a cut starts: a third of the head, so that the rest can fill while the block is written, and because
        sorting takes two more copies of what is cut. At a half the peak is 70 MB higher (measured, 1M spans)."""
        return self.head_bytes_max // 3


@dataclass(frozen=True, slots=True)
class Observers:
    """What the store reports, beside figures that are asked for."""

    cut_seconds: Callable[[float], None]
    block_cut: Callable[[], None]
    duplicates: Callable[[str, int], None]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one query sees of its tenants: parts of the head, oldest first, and blocks, newest first."""

    parts: list[Part]
    blocks: list[Block]

    def recent(self, high: int, low: int) -> SpanBatch | None:
        """Spans of a trace in the head."""
        return find_trace(self.parts, high, low)


def claimed_until(directory: Path) -> int:
    """The first WAL sequence that no block below `directory` claims to hold; the log must not give out an earlier one.

    Reads metas only and changes nothing: it is asked before the lock of the WAL is held.
    """
    claims = [0]
    for path in directory.glob("*/*/" + META):
        try:
            claims.append(read_meta(path.parent).wal_until)
        except (CorruptionError, OSError):  # the catalog says so, and sets it aside
            continue
    return max(claims)


CUT_SHARE_MIN = 0.9
"""A cut for want of memory takes at least this share of the spans, or the next one would follow at once."""


class Store:
    """Keeps spans of all tenants. `clock` gives seconds (monotonic), `now_unix_nano` the time of day, `new_id` block ids."""

    def __init__(
        self,
        *,
        wal: Wal,
        catalog: Catalog,
        disk: DiskBudget,
        cut: CutSettings,
        observers: Observers,
        clock: Callable[[], float],
        now_unix_nano: Callable[[], int],
        new_id: Callable[[], str],
        log: logging.Logger | None = None,
    ) -> None:
        self.wal = wal
        self.catalog = catalog
        self.disk = disk
        self.settings = cut
        self.writer = ThreadPoolExecutor(1, "vivace-writer")
        self.cut_wanted = threading.Event()
        self.cut_error: Exception | None = None
        self._observers = observers
        self._clock = clock
        self._now_unix_nano = now_unix_nano
        self._new_id = new_id
        self._log = log or logging.getLogger(__name__)
        self._heads: dict[str, Head] = {}
        self._switch = threading.Lock()
        self._cutting = threading.Lock()
        self._replaying = True
        self._replayed_until = 0

    # -- writing (writer thread) ------------------------------------------------------------------------------------

    def head(self, tenant: str) -> Head:
        """The head of a tenant, made on first use."""
        head = self._heads.get(tenant)
        if head is None:
            head = self._heads.setdefault(tenant, Head())
        return head

    def dictionary(self, tenant: str) -> Dictionary:
        """What the next batch of the tenant must be decoded into."""
        return self.head(tenant).dictionary

    def check_room(self, byte_count: int) -> None:
        """Raises DiskFullError when `byte_count` more bytes would not be kept safely."""
        self.disk.check_room(byte_count)
        if self.cut_error is not None and self.is_full():
            raise DiskFullError(f"the head is full and cannot be written to disk: {self.cut_error}")

    def append(self, records: Sequence[tuple[str, bytes]]) -> range:
        """Make requests durable, one fsync for all; returns their sequences."""
        with self._wal_counted():
            return self.wal.append(records)

    @contextmanager
    def _wal_counted(self) -> Iterator[None]:
        """Report what becomes of the WAL's size: also a segment that is closed gives room back, a megabyte perhaps."""
        before = self.wal.bytes_on_disk
        try:
            yield
        finally:
            self.disk.add("wal", self.wal.bytes_on_disk - before)

    def publish(self, tenant: str, batch: SpanBatch, first_sequence: int) -> None:
        """Let queries see durable spans."""
        self.head(tenant).append(batch, first_sequence, self._clock())
        if self.head(tenant).active_bytes >= self.settings.cut_bytes:
            self.cut_wanted.set()

    def is_full(self) -> bool:
        """Whether the heads hold all the memory that they may: writers have to wait for a cut."""
        return self.head_bytes >= self.settings.head_bytes_max

    # -- reading ----------------------------------------------------------------------------------------------------

    @contextmanager
    def snapshot(self, *tenants: str) -> Iterator[Snapshot]:
        """A consistent view of these tenants, no two the same, as if they were one; its blocks stay on disk while the
        context is open."""
        with self._switch:
            heads = [head for tenant in tenants if (head := self._heads.get(tenant)) is not None]
            parts = [part for head in heads for part in head.parts()]
            if len(heads) > 1:
                parts.sort(key=lambda part: part.first_arrival)
            pinned = self.catalog.pinned(*tenants)
            blocks = pinned.__enter__()
        try:
            yield Snapshot(parts, blocks)
        finally:
            pinned.__exit__(None, None, None)

    @contextmanager
    def switching(self) -> Iterator[None]:
        """While this is open no snapshot is taken: for changes that must be seen whole."""
        with self._switch:
            yield

    @property
    def head_bytes(self) -> int:
        return sum(h.nbytes for h in list(self._heads.values()))

    @property
    def head_spans(self) -> int:
        return sum(h.span_count for h in list(self._heads.values()))

    def tenants(self) -> list[str]:
        """Everyone with a span stored."""
        return sorted({*self.catalog.tenants(), *(t for t, h in list(self._heads.items()) if h.span_count)})

    # -- cutting (any thread but the writer) ------------------------------------------------------------------------

    def due(self) -> list[str]:
        """Tenants whose head should be cut now: too large, or too old."""
        oldest = self._clock() - self.settings.block_duration_max.total_seconds()
        crowded = self.settings.cut_bytes
        heads = sorted(list(self._heads.items()), key=lambda item: -item[1].active_bytes)
        over = self.head_bytes >= crowded
        found = []
        for place, (tenant, head) in enumerate(heads):
            arrival = head.first_arrival
            if arrival is not None and ((over and place == 0) or head.active_bytes >= crowded or arrival <= oldest):
                found.append(tenant)
        return found

    def cut(self, tenant: str, *, everything: bool = False) -> BlockMeta | None:
        """Write a block of a tenant's recent spans: those of traces that are complete, or `everything`.

        Raises  DiskFullError, OSError: nothing is lost, the spans stay in the head.
        """
        with self._cutting:
            head = self.head(tenant)
            sealed = self.writer.submit(self._seal, head).result()
            if sealed is None:
                return None
            started = self._clock()
            try:
                meta = self._cut(tenant, head, sealed, everything)
            except BaseException as e:
                self.cut_error = e if isinstance(e, Exception) else None
                self.writer.submit(head.unseal).result()
                raise
            self.cut_error = None
            self._observers.cut_seconds(self._clock() - started)
            return meta

    def _seal(self, head: Head) -> Sealed | None:
        head.unseal()  # does nothing, unless there was no memory to take the last cut back
        sealed = head.seal(self._replayed_until if self._replaying else self.wal.next_sequence)
        if sealed is not None and not self._replaying:
            with self._wal_counted():
                self.wal.rotate()
        return sealed

    def _cut(self, tenant: str, head: Head, sealed: Sealed, everything: bool) -> BlockMeta | None:
        batch, stays = divide(sealed, self._rule(everything))
        directory = meta = None
        if len(batch):
            directory, meta = self._write(tenant, batch, sealed.wal_until)
        del batch
        try:
            self.writer.submit(self._switch_over, head, stays, directory, meta).result()
        except BaseException:
            if directory is not None:
                self.catalog.discard(directory)
            raise
        if meta is not None:
            self.disk.add("blocks", meta.data_bytes)
            self._observers.block_cut()
            self._log.info(
                "block %s cut: %d spans, %d traces, %d bytes; %d spans stay in the head",
                meta.id, meta.span_count, meta.trace_count, meta.data_bytes, sum(len(p.batch) for p in stays),
            )  # fmt: skip
        return meta

    def _rule(self, everything: bool) -> CutRule:
        if everything:
            return CutRule(NEVER, NEVER, 1.0)
        now = self._clock()
        crowded = self.head_bytes >= self.settings.cut_bytes
        idle, live = self.settings.trace_idle.total_seconds(), self.settings.trace_live.total_seconds()
        return CutRule(now - idle, now - live, CUT_SHARE_MIN if crowded else 0.0)

    def _write(self, tenant: str, batch: SpanBatch, wal_until: int) -> tuple[Path, BlockMeta]:
        rows = {
            AttributeScope.SPAN: len(batch),
            AttributeScope.EVENT: len(batch.events),
            AttributeScope.LINK: len(batch.links),
        }
        plan = choose_columns(count_keys(batch), rows)
        arranged = arrange(batch)
        span_bytes = (batch.nbytes + batch.dictionary.nbytes) // len(batch)
        writer = BlockWriter(self.catalog.directory / tenant, self._new_id(), plan, span_bytes=span_bytes)
        try:
            writer.append(arranged)
            written = writer.finish(
                tenant=tenant, wal_until=wal_until, level=0, created_unix_nano=self._now_unix_nano()
            )
        except BaseException:
            writer.abort()
            raise
        if arranged.duplicates:
            self._observers.duplicates(tenant, arranged.duplicates)
        return written

    def _switch_over(self, head: Head, stays: list[Part], directory: Path | None, meta: BlockMeta | None) -> None:
        adopted = head.adopt(stays)
        with self._switch:
            if directory is not None and meta is not None:
                self.catalog.add(directory, meta)
            head.release(adopted)
        if not self._replaying:
            try:
                self.truncate_wal()
            except StorageError as e:  # the block stands; a log that is too long costs disk and a slower start
                self._log.error("%s; the next cut tries again", e)

    def truncate_wal(self) -> None:
        """Delete WAL segments that no head needs. Writer thread only."""
        oldest = [s for h in self._heads.values() if (s := h.first_sequence) is not None]
        with self._wal_counted():
            self.wal.truncate_before(min(oldest, default=self.wal.next_sequence))

    # -- replay -----------------------------------------------------------------------------------------------------

    def already_stored(self, tenant: str, batch: SpanBatch, sequences: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which rows of a replayed batch are in a block already; `sequences` is the WAL record of each row."""
        stored = np.zeros(len(batch), bool)
        for block in self.catalog.blocks(tenant):
            early = sequences < block.meta.wal_until
            if early.any():
                stored |= early & block.ids.contains(batch.trace_id_high, batch.trace_id_low)
        return stored

    def check_claims(self) -> None:
        """Set damaged blocks aside whose spans the WAL still has, so that the replay brings those back."""
        for block in self.catalog.blocks():
            if block.meta.wal_until > self.wal.first_sequence:
                try:
                    block.check()
                except CorruptionError as e:
                    self.catalog.quarantine(block, e)

    def replayed(self, until: int) -> None:
        """Every record before `until` is published. What a block claims to hold ends here: more would be left out by
        this replay or, after a crash, by the next."""
        self._replayed_until = until

    def replay_done(self) -> None:
        """From now on the WAL can be appended to and truncated."""
        self._replaying = False
        self.writer.submit(self.truncate_wal).result()

    def close(self) -> None:
        """Stop the writer and release the WAL; durable spans are found again at the next start."""
        self.writer.shutdown(wait=True)
        self.wal.close()
