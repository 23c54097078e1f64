"""Names and values of attributes, for editors: /api/search/tags and …/tag/{tagName}/values, each also under /api/v2.

v1 knows names without scopes and values as text; v2 has scopes, types, and a filter (`q`) of the spans that count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from vivace.api.deps import ApiDeps, QueryEngines
from vivace.api.messages import tag_names_response, tag_values_response, tag_values_v1_response, tags_response
from vivace.api.negotiate import form_of
from vivace.api.parameters import Parameters, asked_range, parameters_of, tag_limit, tag_name, tag_scope
from vivace.api.query_json import tag_names, tag_names_json, tag_values_json, tag_values_v1_json, tags_json
from vivace.api.questions import answer, count_bytes, counted
from vivace.api.requests import AskedRange, bounded_range, checked_size
from vivace.api.routing import Route
from vivace.query.answers import TagsAnswer, TagsRequest, TagValuesRequest


@dataclass(frozen=True, slots=True)
class TagRoutes:
    deps: ApiDeps
    queries: QueryEngines

    def routes(self) -> Sequence[Route]:
        prefix = self.deps.http_api_prefix
        return (
            Route.of("/api/search/tags", self.names_v1, prefix=prefix, is_api=True),
            Route.of("/api/v2/search/tags", self.names_v2, prefix=prefix, is_api=True),
            Route.of("/api/search/tag/{tagName:.*}/values", self.values_v1, prefix=prefix, is_api=True),
            Route.of("/api/v2/search/tag/{tagName:.*}/values", self.values_v2, prefix=prefix, is_api=True),
        )

    async def names_v1(self, request: Request) -> Response:
        tenant = self.deps.tenant_of(request)
        parameters = parameters_of(request)
        scope, limit = tag_scope(parameters), tag_limit(parameters)
        found = await self._names(tenant, parameters, "")
        names = tag_names(found, scope=scope, limit=limit)
        return await answer(
            request,
            form_of(request),
            len(names),
            lambda: tag_names_json(names, found),
            lambda: tag_names_response(names, found),
        )

    async def names_v2(self, request: Request) -> Response:
        tenant = self.deps.tenant_of(request)
        parameters = parameters_of(request)
        found = await self._names(tenant, parameters, parameters.get("q", ""))
        return await answer(
            request,
            form_of(request),
            sum(map(len, found.scopes.values())),
            lambda: tags_json(found),
            lambda: tags_response(found),
        )

    async def values_v1(self, request: Request) -> Response:
        tenant = self.deps.tenant_of(request)
        work = self.queries.tags.values_v1(tenant, self._values_request(tenant, request, filtered=False))
        values = await counted(self.deps.telemetry, "metadata", tenant, work)
        return await answer(
            request,
            form_of(request),
            len(values),
            lambda: tag_values_v1_json(values),
            lambda: tag_values_v1_response(values),
        )

    async def values_v2(self, request: Request) -> Response:
        tenant = self.deps.tenant_of(request)
        work = self.queries.tags.values(tenant, self._values_request(tenant, request, filtered=True))
        found = await counted(self.deps.telemetry, "metadata", tenant, work)
        count_bytes(self.deps.telemetry, "metadata", tenant, found.cost)
        return await answer(
            request,
            form_of(request),
            len(found.values),
            lambda: tag_values_json(found),
            lambda: tag_values_response(found),
        )

    async def _names(self, tenant: str, parameters: Parameters, filter_text: str) -> TagsAnswer:
        within = self._range(tenant, parameters)
        checked_size(filter_text, self.queries.limits(tenant))
        asked = TagsRequest(tag_scope(parameters), filter_text, within.start, within.end, tag_limit(parameters))
        found = await counted(self.deps.telemetry, "metadata", tenant, self.queries.tags.tags(tenant, asked))
        count_bytes(self.deps.telemetry, "metadata", tenant, found.cost)
        return found

    def _values_request(self, tenant: str, request: Request, *, filtered: bool) -> TagValuesRequest:
        parameters = parameters_of(request)
        within = self._range(tenant, parameters)
        filter_text = parameters.get("q", "") if filtered else ""
        checked_size(filter_text, self.queries.limits(tenant))
        tag = tag_name(request.path_params["tagName"])
        return TagValuesRequest(tag, filter_text, within.start, within.end, tag_limit(parameters))

    def _range(self, tenant: str, parameters: Parameters) -> AskedRange:
        now = self.queries.now()
        return bounded_range(asked_range(parameters, now), self.queries.limits(tenant), now)
