"""TraceQL metrics: /api/metrics/query_range, its instant form /api/metrics/query, and the old /api/metrics/summary.

All answer JSON, whatever Accept says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from vivace.api.deps import ApiDeps, QueryEngines, QueryLimits
from vivace.api.parameters import asked_series, asked_summary, parameters_of
from vivace.api.query_json import instant_json, range_json, summary_json
from vivace.api.questions import count_bytes, counted, json_answer, read
from vivace.api.requests import SummaryRequest, metrics_request, summary_request
from vivace.api.routing import Route
from vivace.api.tenancy import refuse_several
from vivace.query.answers import MetricsAnswer, MetricsRequest


@dataclass(frozen=True, slots=True)
class MetricsRoutes:
    deps: ApiDeps
    queries: QueryEngines

    def routes(self) -> Sequence[Route]:
        prefix = self.deps.http_api_prefix
        return (
            Route.of("/api/metrics/query_range", self.query_range, prefix=prefix, is_api=True),
            Route.of("/api/metrics/query", self.query_instant, prefix=prefix, is_api=True),
            Route.of("/api/metrics/summary", self.summary, prefix=prefix, is_api=True),
        )

    async def query_range(self, request: Request) -> Response:
        found = await self._series(request, instant=False)
        count = sum(len(series.values) + len(series.exemplars) for series in found.series)
        return await json_answer(request, count, lambda: range_json(found))

    async def query_instant(self, request: Request) -> Response:
        found = await self._series(request, instant=True)
        return await json_answer(request, len(found.series), lambda: instant_json(found))

    async def summary(self, request: Request) -> Response:
        tenant = refuse_several(self.deps.tenant_of(request))
        limits = self.queries.limits(tenant)
        asked = await read(request, lambda: self._summary_request(request, limits))
        work = self.queries.metrics.summary(
            tenant, asked.query, asked.group_by, asked.range.start, asked.range.end, asked.limit
        )
        rows = await counted(self.deps.telemetry, "metrics", tenant, work)
        return await json_answer(request, len(rows), lambda: summary_json(rows))

    async def _series(self, request: Request, *, instant: bool) -> MetricsAnswer:
        tenant = self.deps.tenant_of(request)
        limits = self.queries.limits(tenant)
        asked = await read(request, lambda: self._metrics_request(request, limits, instant=instant))
        found = await counted(self.deps.telemetry, "metrics", tenant, self.queries.metrics.series(tenant, asked))
        count_bytes(self.deps.telemetry, "metrics", tenant, found.cost)
        return found

    def _metrics_request(self, request: Request, limits: QueryLimits, *, instant: bool) -> MetricsRequest:
        now = self.queries.now()
        return metrics_request(asked_series(parameters_of(request), now, instant=instant), limits, now)

    def _summary_request(self, request: Request, limits: QueryLimits) -> SummaryRequest:
        now = self.queries.now()
        return summary_request(asked_summary(parameters_of(request), now), limits, now)
