"""Block order: traces by (start, id), spans within a trace by nested-set left; exact copies of a span become one.

A trace is then one slice of rows, parents stand before children, and row groups cover narrow ranges of time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vivace.model.attributes import I32, I64, U64
from vivace.model.batch import SpanBatch
from vivace.model.rows import signatures, take
from vivace.model.trees import number


@dataclass(frozen=True, slots=True)
class Arranged:
    """A batch in block order. `root` is the row of a trace's root span (of several the first), -1 where there is none.

    left, right, parent: nested-set numbers (trees.py), one a span. first_row and root: one a trace.
    """

    batch: SpanBatch
    left: I32
    right: I32
    parent: I32
    first_row: I64
    root: I64
    duplicates: int

    @property
    def trace_count(self) -> int:
        return len(self.first_row)

    @property
    def trace_id_high(self) -> U64:
        return self.batch.trace_id_high[self.first_row]

    @property
    def trace_id_low(self) -> U64:
        return self.batch.trace_id_low[self.first_row]

    @property
    def row_count(self) -> I64:
        """Spans a trace."""
        return np.diff(self.first_row, append=len(self.batch))


def arrange(batch: SpanBatch) -> Arranged:
    """Sort a batch of any order into block order. Its row order counts as order of arrival."""
    by_trace = _by_trace(batch)
    rows, ranks, first = _by_start(batch, by_trace)
    copies = _copies(batch, rows, ranks)
    if len(copies):
        keep = np.ones(len(rows), bool)
        keep[copies] = False
        rows, ranks = rows[keep], ranks[keep]
        first = _starts(ranks)
    span_id, parent_id = batch.span_id[rows], batch.parent_span_id[rows]
    order, left, right, parent = number(first, span_id, parent_id, batch.kind[rows])
    root = _roots(parent_id[order], ranks, len(first))
    sorted_batch = take(batch, rows[order])
    return Arranged(sorted_batch, left[order], right[order], parent[order], first, root, len(copies))


def _by_trace(batch: SpanBatch) -> I64:
    """Rows with those of one trace together, otherwise in any order: an unstable sort takes a third of the time."""
    high, low = batch.trace_id_high, batch.trace_id_low
    order: I64 = np.argsort(high)
    same_high = high[order][1:] == high[order][:-1]
    if (same_high & (low[order][1:] != low[order][:-1])).any():
        order = np.lexsort((low, high))
    return order


def _by_start(batch: SpanBatch, by_trace: I64) -> tuple[I64, I64, I64]:
    """Rows by (trace start, trace id, span start, span id, row); rank of each one's trace; first row of each trace."""
    if not len(by_trace):
        nothing = np.empty(0, np.int64)
        return nothing, nothing, nothing
    high, low, start = (c[by_trace] for c in (batch.trace_id_high, batch.trace_id_low, batch.start_time_unix_nano))
    new = np.ones(len(by_trace), bool)
    new[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    first = np.flatnonzero(new)
    trace_start = np.minimum.reduceat(start, first)
    rank_of_trace = np.empty(len(first), np.int64)
    rank_of_trace[np.lexsort((low[first], high[first], trace_start))] = np.arange(len(first))
    counts = np.diff(first, append=len(by_trace))
    rank = np.repeat(rank_of_trace, counts)
    order = _sorted_by(rank, start - np.repeat(trace_start, counts), (by_trace, batch.span_id[by_trace]))
    ranks = rank[order]
    return by_trace[order], ranks, _starts(ranks)


def _sorted_by(rank: I64, offset: U64, rest: tuple[I64, U64]) -> I64:
    """Order by rank, then offset, then `rest`, its last key first (as in np.lexsort).

    Rank and offset make one word nearly always, which sorts in a seventh of the time of all the keys one by one; the
    rest is for the few that are equal in it.
    """
    bits = int(offset.max()).bit_length()
    if bits + int(rank.max()).bit_length() > 64:
        return np.lexsort((*rest, offset, rank))
    key = rank.astype(np.uint64) << np.uint64(bits) | offset
    order: I64 = np.argsort(key)
    ordered = key[order]
    twin = ordered[1:] == ordered[:-1]
    if twin.any():
        places = np.flatnonzero(np.append(twin, False) | np.insert(twin, 0, False))
        tied = order[places]
        order[places] = tied[np.lexsort((*(column[tied] for column in rest), key[tied]))]
    return order


def _starts(ranks: I64) -> I64:
    new = np.ones(len(ranks), bool)
    new[1:] = ranks[1:] != ranks[:-1]
    return np.flatnonzero(new)


def _copies(batch: SpanBatch, rows: I64, ranks: I64) -> I64:
    """Positions in `rows` of spans that equal an earlier one in all that they hold."""
    span_id, start = batch.span_id[rows], batch.start_time_unix_nano[rows]
    twin = (span_id[1:] == span_id[:-1]) & (ranks[1:] == ranks[:-1]) & (start[1:] == start[:-1])
    if not twin.any():
        return np.empty(0, np.int64)
    suspect = np.flatnonzero(np.append(twin, False) | np.insert(twin, 0, False))
    marks = signatures(take(batch, rows[suspect]))
    _, first = np.unique(marks, return_index=True)
    return np.delete(suspect, first)


def _roots(parent_id: U64, ranks: I64, trace_count: int) -> I64:
    """Row (in block order) of each trace's first span without a parent id, or -1.

    Of several the one that started first, so that a merge, which knows no order of arrival, finds the same.
    """
    root = np.full(trace_count, -1, np.int64)
    candidates = np.flatnonzero(parent_id == 0)[::-1]
    root[ranks_from(ranks, candidates)] = candidates  # of several, the last assignment stands
    return root


def ranks_from(ranks: I64, rows: I64) -> I64:
    """Trace numbers 0.. of rows, `ranks` being ascending but perhaps with gaps."""
    return np.searchsorted(np.unique(ranks), ranks[rows])
