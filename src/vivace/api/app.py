"""The HTTP API as one ASGI application: find the route, run its handler, turn errors into replies, record the request.

Rule 1  a handler raises errors of our tree; only errors.py knows their status codes.
Rule 2  a client that goes away cancels its handler, and with it the scan behind it.
Rule 3  before a handler runs, deps.guard has seen the credentials, but for open_paths; /ready is one.
Rule 4  every request is observed once in tempo_request_duration_seconds, under its route's name, or "other" without one.

A family of routes is a file with a `routes()`; add it to build_app(). Routes and texts: docs/http-api.md.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from vivace.api.deps import ApiDeps
from vivace.api.errors import error_response, not_found_page
from vivace.api.metrics import MetricsRoutes
from vivace.api.operations import OperationRoutes
from vivace.api.routing import Match, Route, clean_path, find_route, redirect_to
from vivace.api.search import SearchRoutes
from vivace.api.status import StatusRoutes
from vivace.api.tags import TagRoutes
from vivace.api.traces import TraceRoutes

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"))
CLIENT_CLOSED_REQUEST = 499


def build_app(deps: ApiDeps) -> ASGIApp:
    """The application; it has no lifespan and keeps no state between requests."""
    routes: list[Route] = []
    routes += TraceRoutes(deps).routes()
    if deps.queries is not None:
        routes += SearchRoutes(deps, deps.queries).routes()
        routes += TagRoutes(deps, deps.queries).routes()
        routes += MetricsRoutes(deps, deps.queries).routes()
    routes += OperationRoutes(deps).routes()
    routes += StatusRoutes(deps, lambda: routes).routes()
    return _Application(deps, routes)


@dataclass(frozen=True, slots=True)
class _Application:
    deps: ApiDeps
    routes: Sequence[Route]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(f"this application answers http, not {scope['type']}")
        begun = time.perf_counter()
        path = scope["path"]
        cleaned = clean_path(path)
        match = find_route(self.routes, path) if cleaned == path else None
        status = 500
        try:
            if cleaned != path:
                response: Response | None = redirect_to(cleaned, scope["query_string"])
            elif match is None:
                response = not_found_page()
            else:
                response = await self._answer(match, scope, receive)
            if response is None:
                status = CLIENT_CLOSED_REQUEST
                return
            if match is not None and match.route.is_api:
                response.headers["Vary"] = "Accept-Encoding"
            status = response.status_code
            await response(scope, receive, send)
        finally:
            self.deps.telemetry.tempo_request_duration_seconds.labels(
                # any token is a method on the wire; only the known ones become label values
                scope["method"] if scope["method"] in _METHODS else "other",
                match.route.name if match else "other",
                str(status),
                "false",
            ).observe(time.perf_counter() - begun)

    async def _answer(self, match: Match, scope: Scope, receive: Receive) -> Response | None:
        """The reply, or None when the client went away before it was ready."""
        route = match.route
        if route.methods is not None and scope["method"] not in route.methods:
            return Response(status_code=405, headers={"Allow": ", ".join(sorted(route.methods))})
        scope["path_params"] = match.parameters
        request = Request(scope)
        limit = self.deps.api_timeout_seconds if route.is_api else 0
        try:
            if not _is_open(scope["path"], self.deps.open_paths):
                self.deps.guard.check(request.headers.get("Authorization"))
            async with asyncio.timeout(limit or None) as timeout:
                return await _unless_disconnected(route, request, receive)
        except TimeoutError as error:
            if timeout.expired():
                return PlainTextResponse("unable to process request in the configured timeout", 503)
            return error_response(error, self.deps.error_id, what=f"{scope['method']} {route.path}")
        except Exception as error:
            return error_response(error, self.deps.error_id, what=f"{scope['method']} {route.path}")


def _is_open(path: str, open_paths: Sequence[str]) -> bool:
    return any(path == opened or path.startswith(f"{opened.rstrip('/')}/") for opened in open_paths)


async def _unless_disconnected(route: Route, request: Request, receive: Receive) -> Response | None:
    """The handler's reply; None, with the handler cancelled, when the client disconnects first."""
    work = asyncio.ensure_future(route.handler(request))
    watch = asyncio.ensure_future(_disconnect(receive))
    try:
        await asyncio.wait((work, watch), return_when=asyncio.FIRST_COMPLETED)
        return work.result() if work.done() else None
    finally:
        for task in (work, watch):
            task.cancel()
        await asyncio.gather(work, watch, return_exceptions=True)


async def _disconnect(receive: Receive) -> None:
    """Return when the client is gone. Request bodies are read and dropped: parameters stand in the URL."""
    while (await receive())["type"] != "http.disconnect":
        pass
