"""Search: the newest traces with spansets that a query finds.

Rule 1  sources are taken newest first; when `limit` traces are found and no later source can have a newer one, it ends.
Rule 2  the same data and query give the same answer: by start, then by id.
Rule 3  a query that runs out of time, or meets a source too large for its memory, answers with what it has and says so.

Frames: sources.py.  Spansets: spansets.py.  Searches by tags: legacy.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from vivace.errors import CorruptionError
from vivace.model.frame import Fixed, Mask
from vivace.query import legacy
from vivace.query.answers import QueryCost, SearchAnswer, SearchRequest
from vivace.query.control import QueryControl
from vivace.query.plan import Plan, plan
from vivace.query.sources import Source, SourceRoom
from vivace.query.spans import Spans
from vivace.query.spansets import Spansets, run
from vivace.query.summaries import Match, summarise
from vivace.query.visits import SECOND, TIME_IS_UP, cost_of, outside, too_large, visited
from vivace.storage.store import Store

PROGRESS_SECONDS = 0.5
"""Answers on the way are given at most this often."""

SPAN_BYTES = 64
"""Memory that evaluating a source takes for each span, beside its columns: masks, row numbers, structure."""

COLUMN_BYTES = 12


@dataclass(slots=True)
class _Run:
    """What a search has so far."""

    matches: list[Match] = field(default_factory=list)
    cost: QueryCost = field(default_factory=QueryCost)
    message: str = ""
    notes: list[str] = field(default_factory=list)


class Search:
    """Runs searches of one tenant, synchronously."""

    def __init__(self, store: Store, room: SourceRoom) -> None:
        self._store = store
        self._room = room

    def run(
        self,
        tenant: str,
        request: SearchRequest,
        control: QueryControl,
        on_progress: Callable[[SearchAnswer], None] | None = None,
    ) -> SearchAnswer:
        """The newest traces. Raises QueryStoppedError when nobody waits any more."""
        planned = plan(request.query) if request.query is not None else None
        state = _Run()
        with self._store.snapshot(tenant) as snapshot:
            sources = self._room.sources(snapshot)
            state.cost = cost_of(snapshot, len(sources))
            reported = control.clock()
            for source in sources:
                if control.is_over():
                    state.message = TIME_IS_UP
                    break
                if _is_complete(state.matches, request.limit, source):
                    break
                self._visit(source, request, planned, control, state)
                if on_progress is not None and control.clock() - reported >= PROGRESS_SECONDS:
                    on_progress(_answer(request, planned, state))
                    reported = control.clock()
            return _answer(request, planned, state)

    def _visit(
        self, source: Source, request: SearchRequest, planned: Plan | None, control: QueryControl, state: _Run
    ) -> None:
        started = control.clock()
        why = _skip(source, request, planned)
        if why:
            _count(state, source, 0)
            if request.explain:
                state.notes.append(f"{source.name}: skipped, {why}")
            return
        columns = len(planned.reads) if planned else 4
        needed = source.span_count * (SPAN_BYTES + COLUMN_BYTES * columns)
        with control.memory.reserved(needed, control) as granted:
            if not granted:
                state.message = too_large(source.name)
                return
            try:
                spans = Spans(source.open())
                found = _find(spans, source, request, planned)
            except CorruptionError as e:
                self._room.suspect(source, e)
                return
            _count(state, source, spans.frame.inspected_bytes)
            state.matches = sorted([*state.matches, *found], key=Match.order)[: request.limit]
        if request.explain:
            seconds = control.clock() - started
            state.notes.append(
                f"{source.name}: {source.span_count} spans, {len(found)} traces, "
                f"{spans.frame.inspected_bytes} bytes, {seconds * 1000:.1f} ms"
            )


def _count(state: _Run, source: Source, inspected_bytes: int) -> None:
    state.cost = visited(state.cost, traces=source.trace_count, spans=source.span_count, byte_count=inspected_bytes)


def _is_complete(matches: Sequence[Match], limit: int, source: Source) -> bool:
    """Whether neither this source nor a later one can have a trace that is newer than the last that is wanted."""
    return len(matches) >= limit and matches[-1].start > source.start_max


def _skip(source: Source, request: SearchRequest, planned: Plan | None) -> str:
    """Why a source cannot hold an answer; empty when it can."""
    why = outside(source.start_min, source.end_max, request.start_seconds, request.end_seconds)
    if why:
        return why
    if planned is not None and source.meta is not None and not planned.may_match(source.meta):
        return "no row has the attributes"
    return ""


def in_range(spans: Spans, start_seconds: int | None, end_seconds: int | None) -> Mask | None:
    """Traces that overlap a range of time; None for all."""
    if start_seconds is None and end_seconds is None:
        return None
    start = spans.numbers(Fixed.TRACE_START)
    inside = np.ones(len(start), bool)
    if end_seconds is not None:
        inside &= start <= end_seconds * SECOND
    if start_seconds is not None:
        inside &= start + spans.numbers(Fixed.TRACE_DURATION) >= start_seconds * SECOND
    return inside


def _find(spans: Spans, source: Source, request: SearchRequest, planned: Plan | None) -> list[Match]:
    """The newest traces of one source."""
    high, low = spans.numbers(Fixed.TRACE_ID_HIGH), spans.numbers(Fixed.TRACE_ID_LOW)
    wanted = in_range(spans, request.start_seconds, request.end_seconds)
    mine = source.wanted(high, low)
    if mine is not None:
        wanted = mine if wanted is None else wanted & mine
    sets: Spansets | None = None
    if planned is not None:
        sets = run(spans, planned.query.pipeline)
        traces = np.unique(spans.trace[sets.rows[sets.firsts]])
    else:
        traces = np.flatnonzero(legacy.matching(spans, request.tags))
    if wanted is not None:
        traces = traces[wanted[traces]]
    start = spans.numbers(Fixed.TRACE_START)[traces]
    newest = np.lexsort((low[traces], high[traces], -start))[: request.limit]
    return [
        Match(int(start[i]), int(high[t]) << 64 | int(low[t]), int(t), spans, sets)
        for i, t in zip(newest.tolist(), traces[newest].tolist(), strict=True)
    ]


def _answer(request: SearchRequest, planned: Plan | None, state: _Run) -> SearchAnswer:
    explain = ""
    if request.explain:
        lines = planned.lines() if planned else ["query   by tags" if request.tags else "query   all traces"]
        cost = state.cost
        lines.append(f"visited {cost.completed_jobs} of {cost.total_jobs} sources, {cost.inspected_spans} spans")
        explain = "\n".join([*lines, *state.notes])
    traces = summarise(state.matches, planned, request.spans_max)
    return SearchAnswer(traces, state.cost, state.message, explain)
