"""Trace by id: GET /api/traces/{traceID} (v1) and /api/v2/traces/{traceID} (v2).

v1 answers the trace itself, 404 without a body when there is none, 422 when it is over the tenant's limit.
v2 wraps it with metrics and status and always answers 200: an empty trace is "not found", a trace over the limit is partial.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

import orjson
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from vivace.api.deps import ApiDeps, LookupMode
from vivace.api.negotiate import Form, api_response, form_of, run_sized
from vivace.api.otlp_json import trace_json
from vivace.api.routing import Route
from vivace.errors import RequestError
from vivace.query.lookup import FoundTrace

TRACE_ID_SIZE = 16
_PARTIAL = 1  # tempopb.PartialStatus
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")  # as many digits as an int64 has
_INT64_END = 2**63


@dataclass(frozen=True, slots=True)
class TraceRoutes:
    """The handlers of both versions."""

    deps: ApiDeps

    def routes(self) -> Sequence[Route]:
        prefix = self.deps.http_api_prefix
        return (
            Route.of("/api/traces/{traceID}", self.v1, prefix=prefix, is_api=True),
            Route.of("/api/v2/traces/{traceID}", self.v2, prefix=prefix, is_api=True),
        )

    async def v1(self, request: Request) -> Response:
        tenant = self.deps.tenant_of(request)
        form = form_of(request)
        found = await self._find(request, tenant)
        if found is None:
            return await api_response(request, b"", form.value, status=404)
        if found.partial:
            limit = self.deps.max_bytes_per_trace(tenant)
            return PlainTextResponse(f"trace exceeds max size (max bytes: {limit})", 422)
        if form is Form.PROTOBUF:
            return await api_response(request, found.otlp, form.value)
        body = await run_sized(len(found.otlp), lambda: trace_json(found.otlp, "batches"))
        return await api_response(request, body, form.value)

    async def v2(self, request: Request) -> Response:
        tenant = self.deps.tenant_of(request)
        form = form_of(request)
        found = await self._find(request, tenant) or FoundTrace(b"", 0, partial=False)
        message = ""
        if found.partial:
            limit = self.deps.max_bytes_per_trace(tenant)
            message = f"Trace exceeds maximum size of {limit} bytes, a partial trace is returned"
        if form is Form.PROTOBUF:
            return await api_response(request, _v2_protobuf(found, message), form.value)
        body = await run_sized(len(found.otlp), lambda: _v2_json(found, message))
        # the compact LLM form has no promised shape: ours is the JSON under its name
        return await api_response(request, body, "application/vnd.grafana.llm+json" if form is Form.LLM else form.value)

    async def _find(self, request: Request, tenant: str) -> FoundTrace | None:
        telemetry = self.deps.telemetry
        trace_id = parse_trace_id(request.path_params["traceID"])
        mode = _mode(request)
        start, end = time_range(request)
        label = telemetry.tenant_label(tenant)
        begun = time.perf_counter()
        result = "completed"
        try:
            found = await self.deps.lookup.trace(tenant, trace_id, start, end, mode)
        except asyncio.CancelledError:
            result = "canceled"
            raise
        finally:
            telemetry.tempo_query_frontend_queries.labels("traces", result, label).inc()
            seconds = time.perf_counter() - begun
            telemetry.tempo_query_frontend_result_metrics_duration_seconds.labels("traces").observe(seconds)
        if found is not None:
            telemetry.tempo_query_frontend_bytes_inspected.labels("traces", label).inc(found.inspected_bytes)
        return found


def parse_trace_id(text: str) -> bytes:
    """The id in 16 bytes: hex digits of any case, fewer than 32 mean leading zeros. Raises RequestError."""
    for position, character in enumerate(text, start=1):
        if character not in "0123456789abcdefABCDEF":
            raise RequestError(
                f"trace IDs can only contain hex characters: invalid character '{character}' at position {position}"
            )
    if len(text) > 2 * TRACE_ID_SIZE:
        raise RequestError("trace IDs can't be larger than 128 bits")
    return bytes.fromhex(text.rjust(2 * TRACE_ID_SIZE, "0"))


def time_range(request: Request) -> tuple[int | None, int | None]:
    """start and end in Unix seconds; (None, None) unless both are given. Raises RequestError.

    0 counts as not given: Grafana sends start=0&end=0 for "no range".
    """
    start, end = _seconds(request, "start"), _seconds(request, "end")
    if start is None or end is None:
        return None, None
    if start >= end:
        raise RequestError(f"http parameter start must be before end. received start={start} end={end}")
    return start, end


def _seconds(request: Request, name: str) -> int | None:
    text = request.query_params.get(name, "")
    if not text:
        return None
    seconds = int(text) if _INTEGER.fullmatch(text) else _INT64_END
    if not -_INT64_END <= seconds < _INT64_END:
        raise RequestError(f"invalid {name}: {text[:64]!r} is not a whole number of Unix seconds")
    return seconds or None


def _mode(request: Request) -> LookupMode:
    text = request.query_params.get("mode") or LookupMode.ALL
    try:
        return LookupMode(text)
    except ValueError:
        raise RequestError(f"invalid value for mode {text}") from None


def _v2_json(found: FoundTrace, message: str) -> bytes:
    metrics = b'{"inspectedBytes":"%d"}' % found.inspected_bytes if found.inspected_bytes else b"{}"
    status = b',"status":"PARTIAL","message":' + orjson.dumps(message) if found.partial else b""
    return b'{"trace":' + trace_json(found.otlp, "resourceSpans") + b',"metrics":' + metrics + status + b"}"


def _v2_protobuf(found: FoundTrace, message: str) -> bytes:
    """tempopb.TraceByIDResponse. Fields 1 and 2 stand there even when empty: Grafana reads them unasked."""
    metrics = b"\x08" + _varint(found.inspected_bytes) if found.inspected_bytes else b""
    parts = [b"\x0a", _varint(len(found.otlp)), found.otlp, b"\x12", _varint(len(metrics)), metrics]
    if found.partial:
        text = message.encode()
        parts += [b"\x18", _varint(_PARTIAL), b"\x22", _varint(len(text)), text]
    return b"".join(parts)


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
