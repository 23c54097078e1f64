"""What the routes of search, tags and metrics do alike: read the question, count it, send the answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Literal, TypeVar

from google.protobuf.message import Message
from starlette.requests import Request
from starlette.responses import Response

from vivace.api.negotiate import Form, api_response, run_sized
from vivace.query.answers import QueryCost
from vivace.telemetry import Telemetry

_Result = TypeVar("_Result")

Operation = Literal["search", "metadata", "metrics"]
"""The label `op` of tempo_query_frontend_queries_total."""

INLINE_TEXT_MAX = 2048
"""Characters of a URL that are read on the event loop, TraceQL included: below 10 ms of work. More goes to a thread."""

VALUE_SIZE = 64
"""Bytes that one tag, sample or span is taken for, to tell small answers from large ones before they are rendered."""


async def read(request: Request, parse: Callable[[], _Result]) -> _Result:
    """`parse()`, which takes time in proportion to the URL: here when that is short, else in a thread."""
    short = len(request.scope["query_string"]) <= INLINE_TEXT_MAX
    return parse() if short else await asyncio.to_thread(parse)


async def counted(telemetry: Telemetry, operation: Operation, tenant: str, work: Awaitable[_Result]) -> _Result:
    """What `work` gives; its time and its end are observed, however it ends."""
    begun = time.perf_counter()
    result = "completed"
    try:
        return await work
    except asyncio.CancelledError:
        result = "canceled"
        raise
    finally:
        telemetry.tempo_query_frontend_queries.labels(operation, result, telemetry.tenant_label(tenant)).inc()
        seconds = time.perf_counter() - begun
        telemetry.tempo_query_frontend_result_metrics_duration_seconds.labels(operation).observe(seconds)


def count_bytes(telemetry: Telemetry, operation: Operation, tenant: str, cost: QueryCost) -> None:
    label = telemetry.tenant_label(tenant)
    telemetry.tempo_query_frontend_bytes_inspected.labels(operation, label).inc(cost.inspected_bytes)


async def answer(
    request: Request, form: Form, count: int, json: Callable[[], bytes], protobuf: Callable[[], Message]
) -> Response:
    """The reply in the form that was asked for. `count` is how many values it holds: many are rendered in a thread."""
    render = (lambda: protobuf().SerializeToString()) if form is Form.PROTOBUF else json
    return await api_response(request, await run_sized(count * VALUE_SIZE, render), media_type(form))


async def json_answer(request: Request, count: int, json: Callable[[], bytes]) -> Response:
    """The reply of a route that knows no other form."""
    return await api_response(request, await run_sized(count * VALUE_SIZE, json), Form.JSON.value)


def media_type(form: Form) -> str:
    """The LLM form has no promised shape: ours is plain JSON, and says so."""
    return Form.PROTOBUF.value if form is Form.PROTOBUF else Form.JSON.value
