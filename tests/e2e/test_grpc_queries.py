"""gRPC queries of the real server, with a client generated from tempopb.proto: on both ports, the same answers as over HTTP.

The recorded queries of Grafana Tempo are asked where they lie beside this repository; they are not part of it.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import re
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import grpc_tools
import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from grpc_tools import protoc
from server import Server

import vivace
from vivace.api.logfmt import parse_tags
from vivace.api.times import MILLISECOND, SECOND, parse_duration, parse_instant, parse_step
from vivace.errors import RequestError
from vivace.model.proto import otlp_pb2 as otlp
from vivace.model.proto import tempopb_pb2 as pb

CONFORMANCE = Path(__file__).parents[3] / "shared" / "conformance"
RECORDED = pytest.mark.skipif(not (CONFORMANCE / "conformance.py").exists(), reason=f"no queries in {CONFORMANCE}")
SETTINGS = {
    "stream_over_http_enabled": True,
    "query_frontend": {
        "search": {"max_duration": "0s", "max_spans_per_span_set": 0},
        "metrics": {"max_duration": "0s"},
    },
}
NOW = 1_795_100_000
"""Unix seconds of the spans of spans()."""
TIMEOUT_SECONDS = 30.0


def module_of(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The client that protoc makes of the .proto; its messages are those of the package."""
    target = tmp_path_factory.mktemp("client")
    source = Path(vivace.__file__).parents[1]
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    name = "vivace/model/proto/tempopb.proto"
    assert protoc.main(["protoc", f"-I{source}", f"-I{well_known}", f"--grpc_python_out={target}", name]) == 0
    return module_of(target / "vivace/model/proto/tempopb_pb2_grpc.py")


@dataclass
class Clients:
    """Both ports of one server, and its HTTP API."""

    server: Server
    stubs: dict[str, Any] = field(default_factory=dict)

    def stream(self, port: str, rpc: str, request: Message) -> list[Any]:
        return list(getattr(self.stubs[port], rpc)(request, timeout=TIMEOUT_SECONDS))

    def json(self, path: str, parameters: dict[str, str]) -> tuple[int, Any]:
        status, body = self.server.get(f"{path}?{urllib.parse.urlencode(parameters)}")
        return status, json.loads(body) if status == 200 else body.decode()


@pytest.fixture(scope="module")
def clients(generated: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clients]:
    with Server(tmp_path_factory.mktemp("server"), SETTINGS) as server:
        grpc_port = re.search(r"gRPC on port (\d+)", server.log())
        assert grpc_port is not None
        addresses = {"grpc": f"127.0.0.1:{grpc_port[1]}", "http": server.http.removeprefix("http://")}
        channels = {port: grpc.insecure_channel(address) for port, address in addresses.items()}
        yield Clients(server, {p: generated.StreamingQuerierStub(channel) for p, channel in channels.items()})
        for channel in channels.values():
            channel.close()


# -- our own spans ----------------------------------------------------------------------------------------------------


def spans() -> bytes:
    """Three traces of service `web`, one span each, a second apart."""
    attributes = [otlp.KeyValue(key="service.name", value=otlp.AnyValue(string_value="web"))]
    made = [
        otlp.Span(
            trace_id=n.to_bytes(16, "big"),
            span_id=n.to_bytes(8, "big"),
            name=f"GET /{n}",
            start_time_unix_nano=(NOW + n) * SECOND,
            end_time_unix_nano=(NOW + n) * SECOND + n * MILLISECOND,
            attributes=[otlp.KeyValue(key="code", value=otlp.AnyValue(int_value=200 + n))],
        )
        for n in (1, 2, 3)
    ]
    whole = otlp.ResourceSpans(resource=otlp.Resource(attributes=attributes), scope_spans=[otlp.ScopeSpans(spans=made)])
    return pb.Trace(resourceSpans=[whole]).SerializeToString()


SECONDS = {"start": NOW, "end": NOW + 60}
NANOSECONDS = {"start": NOW * SECOND, "end": (NOW + 60) * SECOND}
RATE = "{ } | count_over_time() by (name)"
QUESTIONS: list[tuple[str, Message, str, dict[str, Any]]] = [
    ("Search", pb.SearchRequest(Query="{ span.code > 201 }", **SECONDS), "/api/search", {"q": "{ span.code > 201 }"}),
    ("Search", pb.SearchRequest(Tags={"service.name": "web"}, **SECONDS), "/api/search", {"tags": "service.name=web"}),
    ("SearchTags", pb.SearchTagsRequest(**SECONDS), "/api/search/tags", {}),
    ("SearchTagsV2", pb.SearchTagsRequest(scope="span", **SECONDS), "/api/v2/search/tags", {"scope": "span"}),
    ("SearchTagValues", pb.SearchTagValuesRequest(tagName="code", **SECONDS), "/api/search/tag/code/values", {}),
    ("SearchTagValuesV2", pb.SearchTagValuesRequest(tagName="span.code", **SECONDS), "/api/v2/search/tag/span.code/values", {}),
    ("MetricsQueryRange", pb.QueryRangeRequest(query=RATE, **NANOSECONDS), "/api/metrics/query_range", {"q": RATE}),
    ("MetricsQueryInstant", pb.QueryInstantRequest(query=RATE, **NANOSECONDS), "/api/metrics/query", {"q": RATE}),
]  # fmt: skip


def items(body: dict[str, Any]) -> dict[str, Any]:
    """An answer without its cost, which depends on what was read before, and sorted."""
    return {k: sorted(v, key=repr) if isinstance(v, list) else v for k, v in body.items() if k != "metrics"}


def test_every_rpc(clients: Clients) -> None:
    request = urllib.request.Request(
        f"{clients.server.otlp_http}/v1/traces", spans(), {"Content-Type": "application/x-protobuf"}
    )
    urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS).close()
    for rpc, question, path, parameters in QUESTIONS:
        status, body = clients.json(path, {**SECONDS, **parameters})
        assert status == 200
        assert any(items(body).values()), f"{path} finds nothing"
        for port in clients.stubs:
            (reply,) = clients.stream(port, rpc, question)
            assert items(json_format.MessageToDict(reply)) == items(body), (rpc, port)


# -- the recorded queries ---------------------------------------------------------------------------------------------


def question(path: str, parameters: dict[str, str]) -> tuple[str, Message] | None:
    """A recorded request as a gRPC one; None for what has no such form: numbers that are none, zeros where they mean zero."""
    if "0" in (parameters.get("limit"), parameters.get("spss")) or parameters.get("step") == "0s":
        return None
    text = parameters.get("q", "")
    try:
        nano = {name: parse_instant(parameters[name]) for name in ("start", "end") if name in parameters}
        if path == "/api/metrics/query":
            return "MetricsQueryInstant", pb.QueryInstantRequest(query=text, **nano)
        if path == "/api/metrics/query_range":
            step = parse_step(parameters["step"]) if "step" in parameters else 0
            exemplars = int(parameters.get("exemplars", 0))
            return "MetricsQueryRange", pb.QueryRangeRequest(query=text, step=step, exemplars=exemplars, **nano)
        return "Search", pb.SearchRequest(
            Query=text,
            Tags=parse_tags(parameters.get("tags", "")),
            MinDurationMs=parse_duration(parameters.get("minDuration", "0")) // MILLISECOND,
            MaxDurationMs=parse_duration(parameters.get("maxDuration", "0")) // MILLISECOND,
            Limit=int(parameters.get("limit", 0)),
            SpansPerSpanSet=int(parameters.get("spss", 0)),
            **{name: int(parameters[name]) for name in nano},
        )
    except (ValueError, RequestError):
        return None


def recorded() -> Iterator[tuple[str, dict[str, str]]]:
    with gzip.open(CONFORMANCE / "answers.jsonl.gz", "rt") as lines:
        for line in lines:
            query = json.loads(line)
            if query["path"] in ("/api/search", "/api/metrics/query_range", "/api/metrics/query"):
                yield query["path"], {name: str(value) for name, value in query["params"].items()}


STATUS = {400: grpc.StatusCode.INVALID_ARGUMENT}
COMPILING = ("compiling query: ", "not a metrics query")  # UNKNOWN, as in Tempo


def difference(
    clients: Clients, reader: ModuleType, path: str, parameters: dict[str, str], asked: tuple[str, Message]
) -> str:
    """What is not the same over HTTP and over gRPC; empty when all is."""
    status, body = clients.json(path, parameters)
    port = "http" if len(parameters.get("q", "")) % 2 else "grpc"  # both get their share
    try:
        replies = clients.stream(port, *asked)
    except grpc.RpcError as error:
        code = grpc.StatusCode.UNKNOWN if str(body).startswith(COMPILING) else STATUS.get(status)
        return "" if (error.code(), error.details()) == (code, body) else f"HTTP: {status} {body}, gRPC: {error}"
    if status != 200 or len(replies) != 1:
        return f"HTTP: {status}, gRPC: {len(replies)} replies"
    reply = json_format.MessageToDict(replies[0])
    if path == "/api/search":
        same = reader.search(reply) == reader.search(body) and [t["traceID"] for t in reply.get("traces", [])] == [
            t["traceID"] for t in body["traces"]
        ]
        return "" if same else f"HTTP: {str(body)[:300]}, gRPC: {str(reply)[:300]}"
    return reader.same_series(reader.series(body), reader.series(reply)) or ""


@RECORDED
def test_recorded_queries(clients: Clients) -> None:
    reader = module_of(CONFORMANCE / "conformance.py")
    reader.load(clients.server.otlp_http, clients.server.http, 20)
    asked = [(path, parameters, question(path, parameters)) for path, parameters in recorded()]
    found = [
        f"{path} {parameters}: {why}"
        for path, parameters, same in asked
        if same is not None and (why := difference(clients, reader, path, parameters, same))
    ]
    assert len([same for *_, same in asked if same is not None]) > 320, "most recorded queries have a form in gRPC"
    assert found == []
