"""Query engines that give fixed answers and remember what they were asked, and an application over them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from vivace.api.app import build_app
from vivace.api.deps import ApiDeps, QueryEngines, QueryLimits
from vivace.query.answers import (
    MetricsAnswer,
    MetricsRequest,
    QueryCost,
    SearchAnswer,
    SearchRequest,
    SummaryRow,
    TagsAnswer,
    TagsRequest,
    TagValuesAnswer,
    TagValuesRequest,
)
from vivace.telemetry import Telemetry

NOW = 1_795_180_000
"""Unix seconds."""

PROTOBUF = {"Accept": "application/protobuf"}


@dataclass
class Engines:
    """SearchEngine, TagEngine and MetricsEngine in one."""

    found: SearchAnswer = field(default_factory=lambda: SearchAnswer((), QueryCost()))
    tag_names: TagsAnswer = field(default_factory=lambda: TagsAnswer({}, QueryCost()))
    tag_values: TagValuesAnswer = field(default_factory=lambda: TagValuesAnswer((), QueryCost()))
    made: MetricsAnswer = field(default_factory=lambda: MetricsAnswer((), QueryCost()))
    rows: tuple[SummaryRow, ...] = ()
    limits: QueryLimits = field(default_factory=QueryLimits)
    telemetry: Telemetry = field(default_factory=lambda: Telemetry(version="0.3.1"))
    asked: list[Any] = field(default_factory=list)
    error: Exception | None = None

    async def search(self, tenant: str, request: SearchRequest, on_progress: object = None) -> SearchAnswer:
        return self._answer(self.found, request)

    async def tags(self, tenant: str, request: TagsRequest) -> TagsAnswer:
        return self._answer(self.tag_names, request)

    async def values(self, tenant: str, request: TagValuesRequest) -> TagValuesAnswer:
        return self._answer(self.tag_values, request)

    async def values_v1(self, tenant: str, request: TagValuesRequest) -> tuple[str, ...]:
        return self._answer(tuple(value.value for value in self.tag_values.values), request)

    async def series(self, tenant: str, request: MetricsRequest, on_progress: object = None) -> MetricsAnswer:
        return self._answer(self.made, request)

    async def summary(self, tenant: str, *asked: object) -> tuple[SummaryRow, ...]:
        return self._answer(self.rows, asked)

    def _answer(self, answer: Any, request: object) -> Any:
        self.asked.append(request)
        if self.error is not None:
            raise self.error
        return answer

    def queries(self) -> QueryEngines:
        return QueryEngines(self, self, self, limits=lambda tenant: self.limits, now=lambda: NOW * 10**9)

    def ask(self, path: str, headers: dict[str, str] | None = None, **changes: Any) -> httpx.Response:
        unused: Callable[..., Any] = lambda *_: None  # noqa: E731
        deps = ApiDeps(
            lookup=unused,
            telemetry=self.telemetry,
            status=unused,
            readiness=unused,
            flush=unused,
            shutdown=unused,
            max_bytes_per_trace=unused,
            error_id=lambda: "e1",
            queries=self.queries(),
            **changes,
        )

        async def request() -> httpx.Response:
            transport = httpx.ASGITransport(build_app(deps))
            async with httpx.AsyncClient(transport=transport, base_url="http://v") as client:
                client.headers.clear()
                return await client.get(path, headers=headers)

        return asyncio.run(request())
