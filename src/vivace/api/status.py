"""What the server says of itself: build information for Grafana's version gate, and the /status pages in text."""

from __future__ import annotations

import asyncio
import html
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from vivace.api.deps import ApiDeps, ConfigMode
from vivace.api.negotiate import api_response
from vivace.api.routing import Route
from vivace.errors import RequestError
from vivace.telemetry import TEMPO_VERSION

API_DOCUMENTATION = "docs/http-api.md"


TOP_VALUES = 10
TOP_VALUES_MAX = 1000
"""Values of each label on the page of cardinality: what it shows when it is not told, and at most."""


@dataclass(frozen=True, slots=True)
class StatusRoutes:
    """`all_routes` gives the finished route table, which these routes are part of themselves."""

    deps: ApiDeps
    all_routes: Callable[[], Sequence[Route]]

    def routes(self) -> Sequence[Route]:
        return (
            Route.of("/api/status/buildinfo", self.build_info, prefix=self.deps.http_api_prefix, is_api=True),
            Route.of("/status", self.overview),
            Route.of("/status/overrides", self.overrides),
            Route.of("/status/overrides/{tenant}", self.overrides),
            Route.of("/status/usage-stats", self.usage_stats),
            Route.of("/status/cardinality", self.cardinality),
            Route.of("/status/{endpoint}", self.section),
        )

    async def build_info(self, request: Request) -> Response:
        status = self.deps.status
        info = {
            "version": TEMPO_VERSION,  # Grafana compares it: search streaming from 2.2.0 on, metrics streaming from 2.7.0
            "revision": status.revision,
            "branch": "",
            "buildUser": "",
            "buildDate": "",
            "goVersion": "",
            "vivaceVersion": status.version,
            "pythonVersion": platform.python_version(),
        }
        return await api_response(request, orjson.dumps(info), "application/json")

    async def overview(self, request: Request) -> Response:
        mode = _mode(request, *ConfigMode)
        return PlainTextResponse("\n".join((self._version(), self._services(), self._endpoints(), self._config(mode))))

    async def section(self, request: Request) -> Response:
        match request.path_params["endpoint"]:
            case "version":
                return PlainTextResponse(self._version())
            case "services":
                return PlainTextResponse(self._services())
            case "endpoints":
                return PlainTextResponse(self._endpoints())
            case "config":
                return PlainTextResponse(self._config(_mode(request, *ConfigMode)))
            case "runtime_config":
                mode = _mode(request, ConfigMode.EFFECTIVE, ConfigMode.DIFF)
                text = self.deps.status.runtime_config_yaml(mode)
                return PlainTextResponse(f"GET /status/runtime_config\n---\n{text}")
            case other:
                known = "version, services, endpoints, config, runtime_config, overrides, usage-stats"
                raise RequestError(f"there is no status page {other}; there are {known}", status=404)

    async def overrides(self, request: Request) -> Response:
        tenant = request.path_params.get("tenant")
        title = f"Limits of tenant {tenant}" if tenant else "Limits of tenants without their own"
        text = self.deps.status.overrides_yaml(tenant)
        return HTMLResponse(
            f"<!DOCTYPE html><html><head><title>{html.escape(title)}</title></head>"
            f"<body><h1>{html.escape(title)}</h1><pre>{html.escape(text)}</pre></body></html>\n"
        )

    async def cardinality(self, request: Request) -> Response:
        text = request.query_params.get("top", str(TOP_VALUES))
        if not (text.isascii() and text.isdigit() and 0 < int(text) <= TOP_VALUES_MAX):
            raise RequestError(f"invalid top: {text}, expected a number from 1 to {TOP_VALUES_MAX}")
        tenant = self.deps.tenant_of(request)
        found = await asyncio.to_thread(self.deps.cardinality, tenant, int(text))
        if found is None:
            raise RequestError(f"no series are made of the spans of {tenant}", status=404)
        return Response(orjson.dumps(found, option=orjson.OPT_INDENT_2), media_type="application/json")

    async def usage_stats(self, request: Request) -> Response:
        return PlainTextResponse("usage-stats is not enabled\n")

    def _version(self) -> str:
        status = self.deps.status
        rows = [
            ("version", status.version),
            ("tempo_version", TEMPO_VERSION),
            ("revision", status.revision),
            ("python_version", platform.python_version()),
        ]
        return "GET /status/version\n" + table(("NAME", "VALUE"), rows)

    def _services(self) -> str:
        rows = [(row.name, row.state, row.failure) for row in self.deps.status.services()]
        return "GET /status/services\n" + table(("SERVICE NAME", "STATUS", "FAILURE CASE"), rows)

    def _endpoints(self) -> str:
        rows = sorted((route.path, f"^{route.regex.pattern}$") for route in self.all_routes())
        return f"GET /status/endpoints\n{table(('NAME', 'REGEX'), rows)}\nAPI documentation: {API_DOCUMENTATION}\n"

    def _config(self, mode: ConfigMode) -> str:
        return f"GET /status/config\n---\n{self.deps.status.config_yaml(mode)}"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A plain-text table, one space around each cell, columns as wide as their widest cell."""
    widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads))]
    rule = "+" + "+".join("-" * (width + 2) for width in widths) + "+\n"
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |\n" for row in (heads, *rows)]
    return rule + lines[0] + rule + "".join(lines[1:]) + rule


def _mode(request: Request, *allowed: ConfigMode) -> ConfigMode:
    text = request.query_params.get("mode", "")
    for mode in allowed:
        if text == mode:
            return mode
    names = " or ".join(mode for mode in allowed if mode)
    raise RequestError(f"invalid value for mode {text}: leave it out, or use {names}")
