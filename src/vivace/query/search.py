"""Search: the newest traces with spansets that a query finds.

Rule 1  sources are taken newest first; when `limit` traces are found and no later source can have a newer one, it ends.
Rule 2  the same data and query give the same answer: by start, then by id.
Rule 3  what a query finds in a row group is remembered: most queries are asked again, and blocks do not change.
Rule 4  a query that runs out of time, or meets a source too large for its memory, answers with what it has and says so.

Frames: sources.py.  Spansets: spansets.py.  Searches by tags: legacy.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from vivace.errors import CorruptionError
from vivace.model.frame import Fixed, Mask, Rows
from vivace.model.tenant import split
from vivace.query import legacy
from vivace.query.answers import QueryCost, SearchAnswer, SearchRequest
from vivace.query.control import QueryControl
from vivace.query.plan import Plan, plan
from vivace.query.sources import Source, SourceRoom
from vivace.query.spans import Spans
from vivace.query.spansets import Spansets, run
from vivace.query.summaries import Match, summarise
from vivace.query.visits import SECOND, TIME_IS_UP, cost_of, outside, too_large, visited
from vivace.storage.column_cache import ColumnCache, ColumnKey
from vivace.storage.store import Store

PROGRESS_SECONDS = 0.5
"""Answers on the way are given at most this often."""

REMEMBERED_SPANS_MAX = 2_000
"""Spans found in one row group that are worth remembering. Where there are more, a search soon has enough traces."""

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

    def __init__(self, store: Store, room: SourceRoom, results: ColumnCache) -> None:
        """results: where it is remembered what queries found in row groups."""
        self._store = store
        self._room = room
        self._results = results

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
        with self._store.snapshot(*split(tenant)) as snapshot:
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
                found = self._find(spans, source, request, planned)
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

    def _find(self, spans: Spans, source: Source, request: SearchRequest, planned: Plan | None) -> list[Match]:
        """The newest traces of one source."""
        sets = self._spansets(spans, source, planned) if planned is not None else None
        if sets is not None:
            traces = np.asarray(spans.trace[sets.rows[sets.firsts]], np.int64)
            if len(traces):
                traces = traces[np.append(True, traces[1:] != traces[:-1])]
        else:
            traces = np.flatnonzero(legacy.matching(spans, request.tags))
        if not len(traces):
            return []
        wanted = _wanted(spans, source, request)
        if wanted is not None:
            traces = traces[wanted[traces]]
        return _newest(spans, traces, sets, request.limit)

    def _spansets(self, spans: Spans, source: Source, planned: Plan) -> Spansets:
        """What the pipeline finds in a source; of a row group it is remembered where it is little."""
        if source.block is None:
            return run(spans, planned.query.pipeline)
        large: list[Spansets] = []

        def find() -> Spansets | None:
            found = run(spans, planned.query.pipeline)
            if len(found.rows) <= REMEMBERED_SPANS_MAX:
                return found
            large.append(found)
            return None

        key = ColumnKey(source.block.meta.id, source.row_group, planned.pipeline)
        remembered = self._results.get(key, find)
        if remembered is not None:
            return remembered
        return large[0] if large else run(spans, planned.query.pipeline)


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
    if planned is not None and source.block is not None and not planned.may_match(source.block):
        return "no row has the attributes"
    return ""


def in_range(spans: Spans, source: Source, start_seconds: int | None, end_seconds: int | None) -> Mask | None:
    """Traces that overlap a range of time; None for all."""
    if (end_seconds is None or source.start_max <= end_seconds * SECOND) and (
        start_seconds is None or source.start_min >= start_seconds * SECOND
    ):
        return None
    start = spans.numbers(Fixed.TRACE_START)
    inside = np.ones(len(start), bool)
    if end_seconds is not None:
        inside &= start <= end_seconds * SECOND
    if start_seconds is not None:
        inside &= start + spans.numbers(Fixed.TRACE_DURATION) >= start_seconds * SECOND
    return inside


def _wanted(spans: Spans, source: Source, request: SearchRequest) -> Mask | None:
    """Traces that count: in the range, and not gathered elsewhere; None for all."""
    wanted = in_range(spans, source, request.start_seconds, request.end_seconds)
    mine = source.wanted(spans)
    if wanted is None or mine is None:
        return wanted if mine is None else mine
    return wanted & mine


def _newest(spans: Spans, traces: Rows, sets: Spansets | None, limit: int) -> list[Match]:
    high, low = (spans.numbers(c)[traces] for c in (Fixed.TRACE_ID_HIGH, Fixed.TRACE_ID_LOW))
    start = spans.numbers(Fixed.TRACE_START)[traces]
    order = np.lexsort((low, high, -start))[:limit].tolist()
    return [Match(int(start[i]), int(high[i]) << 64 | int(low[i]), int(traces[i]), spans, sets) for i in order]


def _answer(request: SearchRequest, planned: Plan | None, state: _Run) -> SearchAnswer:
    explain = ""
    if request.explain:
        lines = planned.lines() if planned else ["query   by tags" if request.tags else "query   all traces"]
        cost = state.cost
        lines.append(f"visited {cost.completed_jobs} of {cost.total_jobs} sources, {cost.inspected_spans} spans")
        explain = "\n".join([*lines, *state.notes])
    traces = summarise(state.matches, planned, request.spans_max)
    return SearchAnswer(traces, state.cost, state.message, explain)
