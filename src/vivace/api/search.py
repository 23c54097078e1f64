"""GET /api/search: traces by TraceQL (`q`), by tags, or the newest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from vivace.api.deps import ApiDeps, QueryEngines, QueryLimits
from vivace.api.messages import search_response
from vivace.api.negotiate import form_of
from vivace.api.parameters import asked_search, parameters_of
from vivace.api.query_json import search_json
from vivace.api.questions import answer, count_bytes, counted, read
from vivace.api.requests import search_request
from vivace.api.routing import Route
from vivace.query.answers import SearchRequest


@dataclass(frozen=True, slots=True)
class SearchRoutes:
    deps: ApiDeps
    queries: QueryEngines

    def routes(self) -> Sequence[Route]:
        return (Route.of("/api/search", self.search, prefix=self.deps.http_api_prefix, is_api=True),)

    async def search(self, request: Request) -> Response:
        tenant = self.deps.tenant_of(request)
        limits = self.queries.limits(tenant)
        asked = await read(request, lambda: self._asked(request, limits))
        work = self.queries.search.search(tenant, asked)
        found = await counted(self.deps.telemetry, "search", tenant, work)
        count_bytes(self.deps.telemetry, "search", tenant, found.cost)
        padded = limits.left_pad_trace_ids
        return await answer(
            request,
            form_of(request),
            sum(1 + sum(len(spanset.spans) for spanset in trace.spansets) for trace in found.traces),
            lambda: search_json(found, padded_ids=padded),
            lambda: search_response(found, padded_ids=padded),
        )

    def _asked(self, request: Request, limits: QueryLimits) -> SearchRequest:
        now = self.queries.now()
        return search_request(asked_search(parameters_of(request), now), limits, now)
