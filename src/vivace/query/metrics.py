"""TraceQL metrics: series over everything that is stored.

Rule 1  a source gives a partial, partials merge in any order, so memory does not grow with the range.
Rule 2  the partial of a row group that lies wholly in the window is kept for the next query of the same text and step.
Rule 3  what is left out for a limit is said in the answer.

Partials: measures.py, contrasts.py.  Their sum: partials.py.  Series: series.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from vivace.errors import CorruptionError, RequestError
from vivace.model.tenant import split
from vivace.query import contrasts, series
from vivace.query.answers import Exemplar, MetricsAnswer, MetricsRequest, QueryCost
from vivace.query.control import QueryControl
from vivace.query.measures import Window, counted, measure
from vivace.query.partials import Labels, Partial, Totals
from vivace.query.plan import Plan, plan
from vivace.query.search import COLUMN_BYTES, PROGRESS_SECONDS, SPAN_BYTES
from vivace.query.sources import Source, SourceRoom
from vivace.query.spans import Spans
from vivace.storage.column_cache import ColumnCache, ColumnKey
from vivace.storage.store import Store
from vivace.traceql import canonical
from vivace.traceql.ast import Compare, MetricsFunction, MetricsKind, Query, Static

LABELS_MAX = 200_000
"""Series while a query runs, before topk and the like; about 100 MB."""

_REDUCE = {MetricsKind.MIN: np.minimum, MetricsKind.MAX: np.maximum}


@dataclass(slots=True)
class _Run:
    totals: Totals
    cost: QueryCost
    message: str = ""


class Metrics:
    """Runs metrics queries of one tenant, synchronously."""

    def __init__(self, store: Store, room: SourceRoom, partials: ColumnCache) -> None:
        """partials: where those of row groups are kept."""
        self._store = store
        self._room = room
        self._partials = partials

    def run(
        self,
        tenant: str,
        request: MetricsRequest,
        control: QueryControl,
        on_progress: Callable[[MetricsAnswer], None] | None = None,
    ) -> MetricsAnswer:
        """The series. Raises QueryStoppedError when nobody waits any more, RequestError when it is no metrics query."""
        query = request.query
        if query.metrics is None:
            raise RequestError("not a metrics query")
        window = (
            Window.instant(request.start_unix_nano, request.end_unix_nano)
            if request.instant
            else Window.of_range(request.start_unix_nano, request.end_unix_nano, request.step_nano)
        )
        kind = query.metrics.kind if isinstance(query.metrics, MetricsFunction) else MetricsKind.COUNT
        state = _Run(Totals(_REDUCE.get(kind, np.add), LABELS_MAX), QueryCost())
        job = _Job(query, plan(query), window, request.exemplars_max > 0 and _wants_exemplars(query))
        with self._store.snapshot(*split(tenant)) as snapshot:
            sources = self._room.sources(snapshot)
            state.cost = QueryCost(
                total_blocks=len(snapshot.blocks),
                total_jobs=len(sources),
                total_block_bytes=sum(b.meta.data_bytes for b in snapshot.blocks),
            )
            reported = control.clock()
            for source in sources:
                if control.is_over():
                    state.message = (
                        "the time limit was reached before all data was read, a partial response is returned"
                    )
                    break
                if source.start_min <= window.end and source.end_max > window.begin:
                    self._visit(source, job, control, state)
                state.cost = replace(state.cost, completed_jobs=state.cost.completed_jobs + 1)
                if on_progress is not None and control.clock() - reported >= PROGRESS_SECONDS:
                    on_progress(_answer(request, job, state))
                    reported = control.clock()
            return _answer(request, job, state)

    def _visit(self, source: Source, job: _Job, control: QueryControl, state: _Run) -> None:
        if source.block is not None and not job.plan.may_match(source.block):
            return
        needed = source.span_count * (SPAN_BYTES + COLUMN_BYTES * len(job.plan.reads))
        with control.memory.reserved(needed, control) as granted:
            if not granted:
                state.message = f"{source.name} is too large for the memory of a query, a partial response is returned"
                return
            try:
                partial, inspected = self._partial(source, job)
            except CorruptionError as e:
                self._room.suspect(source, e)
                return
        state.totals.add(partial)
        cost = state.cost
        state.cost = replace(
            cost,
            inspected_traces=cost.inspected_traces + source.trace_count,
            inspected_spans=cost.inspected_spans + source.span_count,
            inspected_bytes=cost.inspected_bytes + inspected,
        )

    def _partial(self, source: Source, job: _Job) -> tuple[Partial, int]:
        inspected = 0
        # spans that start after their trace's end lie outside of its bounds, and are in the partial that is kept all the same
        whole = source.block is not None and not len(source.leave) and job.holds(source)

        def make() -> Partial:
            nonlocal inspected
            spans = Spans(source.open())
            partial = job.partial(spans, source, None if whole else job.window)
            inspected = spans.frame.inspected_bytes
            return partial

        if source.block is None or not whole:
            return make(), inspected
        key = ColumnKey(source.block.meta.id, source.row_group, job.key)
        return self._partials.get(key, make), inspected


@dataclass(frozen=True, slots=True)
class _Job:
    """What is done with each source."""

    query: Query
    plan: Plan
    window: Window
    exemplars: bool

    @property
    def key(self) -> tuple[str, int, int, int]:
        """What a partial of a whole row group depends on."""
        text = canonical(replace(self.query, second_stages=(), hints=()))
        return text, self.window.step, self.window.offset, self.window.spread if self.exemplars else 0

    def holds(self, source: Source) -> bool:
        """Whether all spans of a source lie in the window."""
        return source.start_min > self.window.begin and source.end_max <= self.window.end

    def partial(self, spans: Spans, source: Source, within: Window | None) -> Partial:
        """What a source contributes: its spans in a window, None for all of them."""
        rows = counted(spans, self.query.pipeline, within, source.wanted(spans))
        match self.query.metrics:
            case Compare() as function:
                return contrasts.contrast(spans, self.query, function, rows, self.window)
            case MetricsFunction() as function:
                return measure(spans, function, rows, self.window, exemplars=self.exemplars)
            case None:
                raise AssertionError("run() refuses queries without a metrics function")


def _wants_exemplars(query: Query) -> bool:
    for hint in query.hints:
        if hint.name == "exemplars" and isinstance(hint.value, Static):
            return hint.value.value is not False and hint.value.value != 0
    return True


def _answer(request: MetricsRequest, job: _Job, state: _Run) -> MetricsAnswer:
    function = request.query.metrics
    message = state.message
    examples: dict[Labels, list[Exemplar]] = {}
    if isinstance(function, Compare):
        table = contrasts.finish(state.totals, function, job.window)
    else:
        assert function is not None  # run() refuses others
        table, cut = series.finish(state.totals, function, job.window)
        if cut or state.totals.overflow:
            message = message or "more series than memory allows, a partial response is returned"
        table = series.second_stages(request.query.second_stages, table)
        examples = series.exemplars(state.totals, table, function, job.window, _exemplars_max(request))
    found = series.series_of(table, job.window, examples)
    if request.series_max and len(found) > request.series_max:
        found = found[: request.series_max]
        message = (
            f"Response exceeds maximum series limit of {request.series_max}, a partial response is returned. "
            "Warning: the accuracy of each individual value is not guaranteed."
        )
    return MetricsAnswer(found, state.cost, message)


def _exemplars_max(request: MetricsRequest) -> int:
    for hint in request.query.hints:
        if hint.name == "exemplars" and type(hint.value.value) is int:
            return min(request.exemplars_max, max(0, hint.value.value))
    return request.exemplars_max
