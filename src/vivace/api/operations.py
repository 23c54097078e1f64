"""Operational routes: echo, readiness, metrics, flush, shutdown. None needs a tenant's data."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from vivace.api.deps import ApiDeps
from vivace.api.routing import Route


@dataclass(frozen=True, slots=True)
class OperationRoutes:
    deps: ApiDeps

    def routes(self) -> Sequence[Route]:
        return (
            Route.of("/api/echo", self.echo, prefix=self.deps.http_api_prefix, is_api=True),
            Route.of("/ready", self.ready),
            Route.of("/metrics", self.metrics),
            Route.of("/flush", self.flush, methods=("GET", "POST")),
            Route.of("/shutdown", self.shutdown, methods=("GET", "POST")),
            Route.of("/memberlist", self.memberlist),
        )

    async def echo(self, request: Request) -> Response:
        return PlainTextResponse("echo\n")

    async def ready(self, request: Request) -> Response:
        reason = self.deps.readiness()
        return PlainTextResponse("ready\n") if reason is None else PlainTextResponse(reason.rstrip("\n") + "\n", 503)

    async def metrics(self, request: Request) -> Response:
        # in a thread: sources of gauges may touch the file system
        accept = ",".join(request.headers.getlist("Accept"))
        body, content_type = await asyncio.to_thread(self.deps.telemetry.render, accept)
        return Response(body, headers={"Content-Type": content_type})

    async def flush(self, request: Request) -> Response:
        """Cut and write the recent spans of ?tenant=, or of all; an unknown tenant is answered 404."""
        await self.deps.flush(request.query_params.get("tenant") or None)
        return Response(status_code=204)

    async def shutdown(self, request: Request) -> Response:
        await self.deps.shutdown()
        return PlainTextResponse("shutdown job acknowledged")

    async def memberlist(self, request: Request) -> Response:
        return PlainTextResponse("This instance doesn't use memberlist.")
