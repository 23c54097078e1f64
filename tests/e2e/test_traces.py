"""The OpenTelemetry SDK sends, the query API gives back: by id, in every form that it has, from memory and from blocks."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from faults.load import START_UNIX_NANO, HttpSender, Ledger, Load, read_trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import SpanKind, Status, StatusCode
from server import Server, merged

LARGE_TRACE_SPANS = int(os.environ.get("LARGE_TRACE_SPANS", "100_000"))
LARGE_TRACE_SECONDS_MAX = 20.0

CALM = {"ingester": {"max_block_duration": "1h", "flush_check_period": "1h"}}
"""Blocks when asked for."""


class FixedTraceId(RandomIdGenerator):
    def __init__(self, trace_id: int) -> None:
        self._trace_id = trace_id

    def generate_trace_id(self) -> int:
        return self._trace_id


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    limits = {"overrides": {"defaults": {"ingestion": {"max_attribute_bytes": 10_000}}}}
    with Server(tmp_path_factory.mktemp("traces"), merged(CALM, limits)) as server:
        yield server


def exporter(server: Server, protocol: str) -> SpanExporter:
    if protocol == "grpc":
        return GrpcExporter(server.otlp_grpc, insecure=True)
    return HttpExporter(server.otlp_http + "/v1/traces")


def trace_of_three(server: Server, protocol: str, trace_id: int) -> None:
    """A request, a query with an event, an error."""
    resource = Resource({"service.name": f"shop over {protocol}", "replicas": 3, "zones": ["a", "b"]})
    provider = TracerProvider(resource=resource, id_generator=FixedTraceId(trace_id))
    provider.add_span_processor(SimpleSpanProcessor(exporter(server, protocol)))
    tracer = provider.get_tracer("checkout", "1.2.3")
    with tracer.start_as_current_span("GET /cart", kind=SpanKind.SERVER, attributes={"http.status_code": 200}):
        with tracer.start_as_current_span("query", kind=SpanKind.CLIENT) as query:
            query.add_event("row", {"number": 1})
        with tracer.start_as_current_span("render") as render:
            render.set_status(Status(StatusCode.ERROR, "no template"))
    provider.shutdown()


def names(traces: TracesData) -> set[str]:
    return {s.name for g in traces.resource_spans for scope in g.scope_spans for s in scope.spans}


NAMES = {"GET /cart", "query", "render"}


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_sdk(server: Server, protocol: str) -> None:
    """What the SDK sends is there at once, the same over both versions and both forms, then again from the block."""
    trace_id = 0xABCDEF0123456789_00112233445566_01 if protocol == "grpc" else 0xABCDEF0123456789_00112233445566_02
    hexadecimal = f"{trace_id:032x}"
    trace_of_three(server, protocol, trace_id)
    for place in ("ingesters", "blocks"):
        if place == "blocks":
            assert read_trace(server, hexadecimal, "?mode=blocks") is None
            assert server.get("/flush")[0] == 204
        by_v2 = read_trace(server, hexadecimal, f"?mode={place}")
        assert by_v2 is not None
        assert names(by_v2) == NAMES
        status, body = server.get(f"/api/traces/{hexadecimal}?mode={place}", accept="application/protobuf")
        assert (status, TracesData.FromString(body)) == (200, by_v2)
        v1 = json.loads(server.get(f"/api/traces/{hexadecimal}?mode={place}")[1])
        v2 = json.loads(server.get(f"/api/v2/traces/{hexadecimal}?mode={place}")[1])
        assert v1["batches"] == v2["trace"]["resourceSpans"]
        (group,) = v1["batches"]
        resource = {a["key"]: a["value"] for a in group["resource"]["attributes"]}
        assert resource["service.name"] == {"stringValue": f"shop over {protocol}"}
        assert resource["replicas"] == {"intValue": "3"}
        assert resource["zones"] == {"arrayValue": {"values": [{"stringValue": "a"}, {"stringValue": "b"}]}}
        (scope,) = group["scopeSpans"]
        assert (scope["scope"]["name"], scope["scope"]["version"]) == ("checkout", "1.2.3")
        spans = {s["name"]: s for s in scope["spans"]}
        assert spans["GET /cart"]["kind"] == "SPAN_KIND_SERVER"
        assert base64.b64decode(spans["GET /cart"]["traceId"]) == trace_id.to_bytes(16, "big")
        assert spans["query"]["parentSpanId"] == spans["GET /cart"]["spanId"]
        assert spans["query"]["events"][0]["name"] == "row"
        assert spans["render"]["status"] == {"code": "STATUS_CODE_ERROR", "message": "no template"}


def test_forms_of_an_id(server: Server) -> None:
    """Upper case, without leading zeros, of an odd length: the same trace."""
    trace_id = 0xABC0123456789
    trace_of_three(server, "http", trace_id)
    for form in (f"{trace_id:032x}", f"{trace_id:016x}", f"{trace_id:x}", f"{trace_id:X}", f"{trace_id:032X}"):
        found = read_trace(server, form)
        assert found is not None, form
        assert names(found) == NAMES
        assert server.get(f"/api/traces/{form}")[0] == 200


CASES = [
    ("/api/traces/0123", 404, b""),
    ("/api/v2/traces/0123", 200, b'{"trace":{},"metrics":{}}'),
    ("/api/traces/xyz", 400, b"trace IDs can only contain hex characters: invalid character 'x' at position 1"),
    ("/api/v2/traces/" + "1" * 33, 400, b"trace IDs can't be larger than 128 bits"),
    ("/api/traces/0123?mode=foo", 400, b"invalid value for mode foo"),
    (
        "/api/traces/0123?start=9&end=5",
        400,
        b"http parameter start must be before end. received start=9 end=5",
    ),
]


@pytest.mark.parametrize(("path", "status", "body"), CASES)
def test_nothing_to_find(server: Server, path: str, status: int, body: bytes) -> None:
    found_status, found_body = server.get(path)
    assert (found_status, found_body.strip()) == (status, body)


def test_time_range(server: Server) -> None:
    """start and end choose blocks; what is in memory is always read."""
    load = Load(51)
    ledger = Ledger(load)
    with closing(HttpSender(server)) as sender:
        sender.send(load.request((0,), 0, 16).body)
    ledger.sending(load.request((0,), 0, 16))
    trace_id, second = load.trace_id(0).hex(), START_UNIX_NANO // 1_000_000_000
    around, before = f"?start={second - 10}&end={second + 10}", f"?start={second - 100}&end={second - 10}"
    assert read_trace(server, trace_id, around) is not None
    assert read_trace(server, trace_id, before) is not None
    assert server.get("/flush")[0] == 204
    assert read_trace(server, trace_id, around) is not None
    assert read_trace(server, trace_id, before) is None
    assert read_trace(server, trace_id, f"?start={second - 100}") is not None, "a bound alone has no effect"


def test_large_trace(server: Server) -> None:
    """A trace of 100,000 spans, sent in parts, comes back whole: from memory, from the block."""
    load = Load(52, spans_a_trace=LARGE_TRACE_SPANS)
    ledger = Ledger(load)
    with closing(HttpSender(server)) as sender:
        for first in range(0, LARGE_TRACE_SPANS, 5_000):
            request = load.request((0,), first, min(first + 5_000, LARGE_TRACE_SPANS))
            ledger.sending(request)
            sender.send(request.body)
            ledger.acknowledge(request)
    trace_id = load.trace_id(0).hex()
    for place in ("memory", "block"):
        if place == "block":
            assert server.get("/flush")[0] == 204
        started = time.monotonic()
        found = read_trace(server, trace_id)
        seconds = time.monotonic() - started
        print(f"{LARGE_TRACE_SPANS} spans from the {place} in {seconds:.2f} s")
        assert seconds < LARGE_TRACE_SECONDS_MAX
        assert found is not None
        count = sum(len(scope.spans) for group in found.resource_spans for scope in group.scope_spans)
        assert count == LARGE_TRACE_SPANS
    assert not load.problems(0, found, ledger.acknowledged(0), ledger.sent(0))
