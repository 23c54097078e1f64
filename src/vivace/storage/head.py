"""The head: recent spans of one tenant in memory, readable the moment they are durable.

Rule 1  batches of one generation share a dictionary, so joining them is laying columns end to end.
Rule 2  a cut seals the generation: it stays readable, unchanged, until its block is in the catalog; spans that go on
        arriving start the next one. What the cut leaves behind (traces still active) moves to the new generation.
Rule 3  one writer: append, seal and release are called from the commit thread only. Readers take parts() at any time.

Durability is the WAL's (wal.py); what becomes of a cut is store.py's.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vivace.model.adopt import adopt, join
from vivace.model.batch import SpanBatch, concat
from vivace.model.dictionary import Dictionary
from vivace.model.rows import take

MERGE_WAYS = 16
"""Small batches are joined 16 at a time, so a span is copied at most log16 of the head's batch count."""

PART_SPANS_MAX = 65_536
"""Parts of this size are not joined further: a copy of more would hold up the commit for too long."""

SPARE = 2.0
"""Active traces may hold this times the share that should stay after a cut for want of memory; if they hold more, those
that began before the edge are cut while they grow: a few endless traces must not keep the head full."""

ID_MIX = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class Part:
    """Spans that arrived together, or were joined since. `first_sequence`: their oldest WAL record."""

    batch: SpanBatch
    first_sequence: int
    first_arrival: float
    last_arrival: float


@dataclass(frozen=True, slots=True)
class Sealed:
    """A generation that is being cut. Sequences below `wal_until` have all their spans here or in blocks."""

    parts: tuple[Part, ...]
    wal_until: int
    nbytes: int


class Head:
    """Recent spans of one tenant."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._dictionary = Dictionary()
        self._parts: list[Part] = []
        self._sealed: Sealed | None = None
        self._bytes = 0
        self.active_bytes = 0
        """Bytes held by the generation that is being filled, its dictionary included."""

    @property
    def dictionary(self) -> Dictionary:
        """What the next batch must be decoded into."""
        return self._dictionary

    @property
    def nbytes(self) -> int:
        """Bytes held in all, the generation that is being cut included."""
        sealed = self._sealed
        return self.active_bytes + (sealed.nbytes if sealed else 0)

    @property
    def span_count(self) -> int:
        return sum(len(p.batch) for p in self.parts())

    def trace_count(self) -> int:
        """Traces with a span here. Cost: a sort of their ids, some 20 ms at 500,000 spans; for scrapes, not for queries."""
        ids = [p.batch.trace_id_high * ID_MIX + p.batch.trace_id_low for p in self.parts()]
        return len(np.unique(np.concatenate(ids))) if ids else 0

    @property
    def is_cutting(self) -> bool:
        return self._sealed is not None

    @property
    def first_arrival(self) -> float | None:
        """When the oldest span of the active generation arrived; None when it is empty."""
        parts = self._parts
        return parts[0].first_arrival if parts else None

    @property
    def first_sequence(self) -> int | None:
        """The oldest WAL record with a span in the head; None when the head is empty."""
        return min((p.first_sequence for p in self.parts()), default=None)

    def parts(self) -> list[Part]:
        """All parts, oldest first."""
        with self._lock:
            return [*(self._sealed.parts if self._sealed else ()), *self._parts]

    def append(self, batch: SpanBatch, first_sequence: int, now: float) -> None:
        """Publish durable spans, decoded into `dictionary`."""
        if not len(batch):
            return
        with self._lock:
            self._parts.append(Part(batch, first_sequence, now, now))
            self._bytes += batch.nbytes
            self._merge_tail()
            self._measure()

    def _measure(self) -> None:
        """Bring `active_bytes` up to date; it is asked for at every commit, so it is not computed there."""
        self.active_bytes = self._bytes + self._dictionary.nbytes if self._parts else 0

    def _merge_tail(self) -> None:
        """Join the last MERGE_WAYS parts while they are of one order of size."""
        while len(self._parts) >= MERGE_WAYS:
            tail = self._parts[-MERGE_WAYS:]
            sizes = [len(p.batch) for p in tail]
            if sum(sizes) > PART_SPANS_MAX or max(sizes) >= MERGE_WAYS * sizes[-1]:
                return
            before = sum(p.batch.nbytes for p in tail)
            joined = concat([p.batch for p in tail])
            first_sequence = min(p.first_sequence for p in tail)
            self._parts[-MERGE_WAYS:] = [Part(joined, first_sequence, tail[0].first_arrival, tail[-1].last_arrival)]
            self._bytes += joined.nbytes - before

    def seal(self, wal_until: int) -> Sealed | None:
        """Close the active generation for a cut and start the next; None when it is empty or a cut is under way."""
        with self._lock:
            if self._sealed is not None or not self._parts:
                return None
            self._sealed = Sealed(tuple(self._parts), wal_until, self.active_bytes)
            self._dictionary, self._parts, self._bytes = Dictionary(), [], 0
            self._measure()
            return self._sealed

    def adopt(self, stays: list[Part]) -> list[Part]:
        """Parts of the sealed generation, coded anew for the active one."""
        return _recoded(stays, self._dictionary)

    def release(self, adopted: list[Part]) -> None:
        """Forget the sealed generation but for `adopted`, which go on in the active one, as its oldest."""
        with self._lock:
            self._sealed = None
            self._parts[:0] = adopted
            self._bytes += sum(p.batch.nbytes for p in adopted)
            self._measure()

    def unseal(self) -> None:
        """Take a failed cut back: the sealed generation is active again, what came since goes behind it."""
        with self._lock:
            sealed = self._sealed
            if sealed is None:
                return
            dictionary = sealed.parts[0].batch.dictionary
            newer = _recoded(self._parts, dictionary)  # takes memory: before anything is changed
            self._sealed, self._dictionary, self._parts = None, dictionary, [*sealed.parts, *newer]
            self._bytes = sum(p.batch.nbytes for p in self._parts)
            self._measure()


def _recoded(parts: list[Part], dictionary: Dictionary) -> list[Part]:
    return [Part(adopt(p.batch, dictionary), p.first_sequence, p.first_arrival, p.last_arrival) for p in parts]


def find_trace(parts: list[Part], high: int, low: int) -> SpanBatch | None:
    """All spans of a trace in some parts, in order of arrival; None when there is none."""
    found = []
    for part in parts:
        batch = part.batch
        rows = np.flatnonzero((batch.trace_id_low == np.uint64(low)) & (batch.trace_id_high == np.uint64(high)))
        if len(rows):
            found.append(take(batch, rows))
    return join(found) if found else None


@dataclass(frozen=True, slots=True)
class CutRule:
    """Which traces of a sealed generation are cut; the others may still be growing.

    idle_before     a trace whose last span arrived before this is complete
    live_before     a trace whose first span arrived before this is cut even while it grows: WAL and head stay bounded
    share_min       at least about this share of the spans is cut, oldest first, or memory would not be freed
    """

    idle_before: float
    live_before: float
    share_min: float


def divide(sealed: Sealed, rule: CutRule) -> tuple[SpanBatch, list[Part]]:
    """(spans to cut, parts that stay). Traces stay whole: all of a trace's spans fall on the same side."""
    batch = concat([p.batch for p in sealed.parts])
    arrived = np.array([p.last_arrival for p in sealed.parts])
    ends = np.cumsum([len(p.batch) for p in sealed.parts])
    idle_rows = max(_rows_before(arrived, ends, rule.idle_before), int(rule.share_min * len(batch)))
    if idle_rows >= len(batch):
        return batch, []
    live_rows = _rows_before(np.array([p.first_arrival for p in sealed.parts]), ends, rule.live_before)
    stays = _active(batch, idle_rows, live_rows)
    if stays.mean() > SPARE * (1 - rule.share_min):  # a few endless traces hold it all
        stays = _active(batch, idle_rows, max(idle_rows, live_rows))
    if not stays.any():
        return batch, []
    part_of_row = np.searchsorted(ends, np.flatnonzero(stays), side="right")
    starts = ends - np.array([len(p.batch) for p in sealed.parts])
    left = []
    for number in np.unique(part_of_row).tolist():
        part = sealed.parts[number]
        rows = np.flatnonzero(stays[starts[number] : ends[number]])
        left.append(Part(take(part.batch, rows), part.first_sequence, part.first_arrival, part.last_arrival))
    return take(batch, np.flatnonzero(~stays)), left


def _rows_before(times: NDArray[np.float64], ends: NDArray[np.int64], moment: float) -> int:
    """Rows of the parts before the first whose time is not earlier than `moment`."""
    late = np.flatnonzero(times >= moment)
    if not len(late):
        return int(ends[-1])
    return int(ends[late[0] - 1]) if late[0] else 0


def _active(batch: SpanBatch, idle_rows: int, live_rows: int) -> NDArray[np.bool_]:
    """Rows of traces with a span at or past `idle_rows` and none before `live_rows`.

    Traces are told apart by a mix of both id words; if two ever share it, both go the same way, which is harmless.
    """
    trace = batch.trace_id_high * ID_MIX + batch.trace_id_low
    order = np.argsort(trace, kind="stable")
    grouped = trace[order]
    first = np.flatnonzero(np.append(True, grouped[1:] != grouped[:-1]))
    last = np.append(first[1:], len(order)) - 1
    active = (order[last] >= idle_rows) & (order[first] >= live_rows)
    stays = np.empty(len(order), bool)
    stays[order] = np.repeat(active, last - first + 1)
    return stays
