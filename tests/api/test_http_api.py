"""The routes against a fake store: replies to the letter of the interface, errors, cancelling, what is measured."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status, TracesData
from starlette.requests import Request

from vivace.access import Credentials, Guard, Secret
from vivace.api.app import build_app
from vivace.api.deps import ApiDeps, ConfigMode, ServiceRow
from vivace.api.status import table
from vivace.api.tenancy import single_tenant, tenant_from_header, tenants_from_header
from vivace.errors import (
    CorruptionError,
    DiskFullError,
    InvariantError,
    LimitError,
    NotFoundError,
    RequestError,
    UnavailableError,
)
from vivace.query.lookup import FoundTrace
from vivace.telemetry import Telemetry

TRACE_ID = bytes.fromhex("0000000000000000000000000abc1d00")
LIMIT = 5_000_000


def trace_of(span_count: int) -> bytes:
    spans = [
        Span(trace_id=TRACE_ID, span_id=i.to_bytes(8, "big"), name="n", start_time_unix_nano=5, status=Status())
        for i in range(1, span_count + 1)
    ]
    resource = Resource(attributes=[KeyValue(key="service.name", value=AnyValue(string_value="web"))])
    scope_spans = [ScopeSpans(scope=InstrumentationScope(), spans=spans)]
    return TracesData(resource_spans=[ResourceSpans(resource=resource, scope_spans=scope_spans)]).SerializeToString()


TRACE = trace_of(1)
RESOURCE_SPANS_JSON = (
    '[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"web"}}]},"scopeSpans":[{"scope":{},"spans":'
    '[{"traceId":"AAAAAAAAAAAAAAAACrwdAA==","spanId":"AAAAAAAAAAE=","name":"n","startTimeUnixNano":"5","status":{}}]}]}]'
)


@dataclass
class Store:
    """A TraceLookup with one trace; remembers what it was asked."""

    found: FoundTrace = field(default_factory=lambda: FoundTrace(TRACE, 1234, partial=False))
    error: Exception | None = None
    asked: list[tuple[Any, ...]] = field(default_factory=list)

    async def trace(
        self, tenant: str, trace_id: bytes, start_seconds: int | None, end_seconds: int | None, mode: str
    ) -> FoundTrace | None:
        self.asked.append((tenant, trace_id, start_seconds, end_seconds, mode))
        if self.error is not None:
            raise self.error
        return self.found if trace_id == TRACE_ID else None


class StatusPages:
    version = "0.3.1"
    revision = "abc123"

    def services(self) -> Sequence[ServiceRow]:
        return [ServiceRow("head", "Running"), ServiceRow("generator", "Failed", "queue is full")]

    def config_yaml(self, mode: ConfigMode) -> str:
        return f"mode: {mode.value!r}\n"

    def runtime_config_yaml(self, mode: ConfigMode) -> str:
        return f"overrides: {mode.value!r}\n"

    def overrides_yaml(self, tenant: str | None) -> str:
        if tenant == "nobody":
            raise NotFoundError("there is no tenant nobody")
        return "a: <b>\n"


@dataclass
class Operator:
    """The operational callbacks; remembers what was called."""

    calls: list[Any] = field(default_factory=list)
    reason: str | None = None

    def readiness(self) -> str | None:
        return self.reason

    async def flush(self, tenant: str | None) -> None:
        if tenant == "nobody":
            raise NotFoundError("there is no tenant nobody")
        self.calls.append(("flush", tenant))

    async def shutdown(self) -> None:
        self.calls.append("shutdown")


@dataclass
class House:
    store: Store = field(default_factory=Store)
    operator: Operator = field(default_factory=Operator)
    telemetry: Telemetry = field(default_factory=lambda: Telemetry(version="0.3.1"))

    def deps(self, **changes: Any) -> ApiDeps:
        given: dict[str, Any] = {
            "lookup": self.store,
            "telemetry": self.telemetry,
            "status": StatusPages(),
            "readiness": self.operator.readiness,
            "flush": self.operator.flush,
            "shutdown": self.operator.shutdown,
            "max_bytes_per_trace": lambda tenant: LIMIT,
            "error_id": lambda: "e1",
        }
        return ApiDeps(**(given | changes))

    def ask(
        self, path: str, *, method: str = "GET", headers: dict[str, str] | None = None, **changes: Any
    ) -> httpx.Response:
        async def request() -> httpx.Response:
            transport = httpx.ASGITransport(build_app(self.deps(**changes)))
            async with httpx.AsyncClient(transport=transport, base_url="http://v") as client:
                client.headers.clear()
                return await client.request(method, path, headers=headers)

        return asyncio.run(request())


@pytest.fixture
def house() -> House:
    return House()


# ---- trace by id ----

ID = TRACE_ID.hex()
MISSING = "f" * 32
PROTOBUF = {"Accept": "application/protobuf"}
FOUND_V1 = f'{{"batches":{RESOURCE_SPANS_JSON}}}'.encode()
FOUND_V2 = f'{{"trace":{{"resourceSpans":{RESOURCE_SPANS_JSON}}},"metrics":{{"inspectedBytes":"1234"}}}}'.encode()
FOUND_V2_PROTOBUF = b"\x0a" + bytes([len(TRACE)]) + TRACE + b"\x12\x03\x08\xd2\x09"

TRACES: dict[str, tuple[str, dict[str, str], int, str, bytes]] = {
    "v1": (f"/api/traces/{ID}", {}, 200, "application/json", FOUND_V1),
    "v1 protobuf": (f"/api/traces/{ID}", PROTOBUF, 200, "application/protobuf", TRACE),
    "v1 missing": (f"/api/traces/{MISSING}", {}, 404, "application/json", b""),
    "v1 llm": (f"/api/traces/{ID}", {"Accept": "application/vnd.grafana.llm"}, 200, "application/vnd.grafana.llm", FOUND_V1),
    "v2": (f"/api/v2/traces/{ID}", {}, 200, "application/json", FOUND_V2),
    "v2 protobuf": (f"/api/v2/traces/{ID}", PROTOBUF, 200, "application/protobuf", FOUND_V2_PROTOBUF),
    "v2 llm": (f"/api/v2/traces/{ID}", {"Accept": "application/vnd.grafana.llm+json"}, 200, "application/vnd.grafana.llm+json", FOUND_V2),
    "v2 missing": (f"/api/v2/traces/{MISSING}", {}, 200, "application/json", b'{"trace":{},"metrics":{}}'),
    "v2 missing protobuf": (f"/api/v2/traces/{MISSING}", PROTOBUF, 200, "application/protobuf", b"\x0a\x00\x12\x00"),
    "short id, odd, upper case": ("/api/traces/ABC1D00", {}, 200, "application/json", FOUND_V1),
    "percent-encoded id": ("/api/traces/%61bc1d00", {}, 200, "application/json", FOUND_V1),
    "Accept: */*": (f"/api/traces/{ID}", {"Accept": "*/*"}, 200, "application/json", FOUND_V1),
    "Accept with both": (f"/api/traces/{ID}", {"Accept": "application/json, application/protobuf;q=0.1"}, 200, "application/protobuf", TRACE),
    "mode empty": (f"/api/traces/{ID}?mode=", {}, 200, "application/json", FOUND_V1),
}  # fmt: skip


@pytest.mark.parametrize("case", TRACES)
def test_trace(house: House, case: str) -> None:
    path, headers, status, content_type, body = TRACES[case]
    reply = house.ask(path, headers=headers)
    assert (reply.status_code, reply.headers["content-type"], reply.content) == (status, content_type, body)
    assert reply.headers["vary"] == "Accept-Encoding"


REFUSED = {
    "/api/traces/x1": "trace IDs can only contain hex characters: invalid character 'x' at position 1",
    f"/api/traces/{ID}zz": "trace IDs can only contain hex characters: invalid character 'z' at position 33",
    "/api/v2/traces/%C3%A9": "trace IDs can only contain hex characters: invalid character 'é' at position 1",
    f"/api/v2/traces/{ID}0": "trace IDs can't be larger than 128 bits",
    f"/api/traces/{ID}?mode=foo": "invalid value for mode foo",
    f"/api/traces/{ID}?start=9&end=5": "http parameter start must be before end. received start=9 end=5",
    f"/api/v2/traces/{ID}?start=5&end=5": "http parameter start must be before end. received start=5 end=5",
    f"/api/traces/{ID}?start=1.5&end=5": "invalid start: '1.5' is not a whole number of Unix seconds",
    f"/api/traces/{ID}?start=1&end=9223372036854775808": "invalid end: '9223372036854775808' is not a whole number of Unix seconds",
    f"/api/traces/{ID}?start=1_0": "invalid start: '1_0' is not a whole number of Unix seconds",
}  # fmt: skip


@pytest.mark.parametrize("path", REFUSED)
def test_refused(house: House, path: str) -> None:
    reply = house.ask(path)
    assert (reply.status_code, reply.text) == (400, REFUSED[path])
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert house.store.asked == []


RANGES = {
    "": (None, None, "all"),
    "?start=1700000000&end=1700000060": (1700000000, 1700000060, "all"),
    "?start=1700000000": (None, None, "all"),
    "?start=0&end=0": (None, None, "all"),
    "?start=&end=5&mode=blocks": (None, None, "blocks"),
    "?start=-5&end=5&mode=ingesters": (-5, 5, "ingesters"),
    "?mode=external": (None, None, "external"),
}


@pytest.mark.parametrize("query", RANGES)
def test_what_the_lookup_is_asked(house: House, query: str) -> None:
    house.ask(f"/api/v2/traces/{ID}{query}")
    assert house.store.asked == [("single-tenant", TRACE_ID, *RANGES[query])]


def test_a_trace_over_the_limit(house: House) -> None:
    house.store.found = FoundTrace(TRACE, 1234, partial=True)
    v1 = house.ask(f"/api/traces/{ID}")
    assert (v1.status_code, v1.text) == (422, "trace exceeds max size (max bytes: 5000000)")
    message = "Trace exceeds maximum size of 5000000 bytes, a partial trace is returned"
    v2 = house.ask(f"/api/v2/traces/{ID}")
    assert v2.content == FOUND_V2[:-1] + f',"status":"PARTIAL","message":"{message}"}}'.encode()
    protobuf = house.ask(f"/api/v2/traces/{ID}", headers=PROTOBUF)
    assert protobuf.content == FOUND_V2_PROTOBUF + b"\x18\x01\x22" + bytes([len(message)]) + message.encode()


def test_a_large_trace_is_encoded_off_the_loop_and_is_whole(house: House) -> None:
    house.store.found = FoundTrace(trace_of(5000), 0, partial=False)
    reply = house.ask(f"/api/v2/traces/{ID}").json()
    assert len(reply["trace"]["resourceSpans"][0]["scopeSpans"][0]["spans"]) == 5000
    assert reply["metrics"] == {}


ENCODINGS = [("gzip", True), ("deflate, GZIP;q=0.5", True), ("*", True), ("", False), ("br", False), ("gzip;q=0", False),
             ("gzip; q=0.000, br", False), ("gzip;q=1.0", True)]  # fmt: skip


@pytest.mark.parametrize(("accepted", "compressed"), ENCODINGS)
def test_gzip(house: House, accepted: str, compressed: bool) -> None:
    house.store.found = FoundTrace(trace_of(20), 0, partial=False)
    reply = house.ask(f"/api/traces/{ID}", headers={"Accept-Encoding": accepted})
    assert (reply.headers.get("content-encoding") == "gzip") is compressed
    assert len(reply.json()["batches"][0]["scopeSpans"][0]["spans"]) == 20


def test_small_replies_are_not_compressed(house: House) -> None:
    assert "content-encoding" not in house.ask(f"/api/traces/{ID}", headers={"Accept-Encoding": "gzip"}).headers


# ---- routing ----

PATHS: dict[str, tuple[int, str]] = {
    "/": (404, ""),
    "/api": (404, ""),
    "/api/echo/": (404, ""),
    "/api/traces/": (404, ""),
    "/api/traces/a/b": (404, ""),
    "/api/traces/a%2Fb": (404, ""),
    "/api//echo": (301, "/api/echo"),
    "/api///echo?a=b&c=%2F": (301, "/api/echo?a=b&c=%2F"),
    "/api/%2e%2e/status/%2e/version": (301, "/status/version"),
    "/api/search/tag//values": (301, "/api/search/tag/values"),
    "/x//a%20b/": (301, "/x/a%20b/"),
    "/api/search/tag/a%2F%2Fb/values": (301, "/api/search/tag/a/b/values"),
}  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_paths_that_are_no_route(house: House, path: str) -> None:
    reply = house.ask(path)
    assert (reply.status_code, reply.headers.get("location", "")) == PATHS[path]
    if reply.status_code == 404:
        assert reply.text == "404 page not found\n"
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS"])
def test_api_routes_take_any_method(house: House, method: str) -> None:
    assert house.ask("/api/echo", method=method).text == "echo\n"


def test_prefix_stands_before_api_paths_only(house: House) -> None:
    replies = {p: house.ask(p, http_api_prefix="/tempo").status_code for p in ("/tempo/api/echo", "/api/echo", "/ready", "/tempo/ready")}  # fmt: skip
    assert replies == {"/tempo/api/echo": 200, "/api/echo": 404, "/ready": 200, "/tempo/ready": 404}


# ---- operations and status ----

PAGES: dict[str, tuple[int, str]] = {
    "/api/echo": (200, "echo\n"),
    "/ready": (200, "ready\n"),
    "/memberlist": (200, "This instance doesn't use memberlist."),
    "/status/usage-stats": (200, "usage-stats is not enabled\n"),
    "/status/cardinality": (404, "no series are made of the spans of single-tenant"),
    "/status/cardinality?top=0": (400, "invalid top: 0, expected a number from 1 to 1000"),
    "/status/config": (200, "GET /status/config\n---\nmode: ''\n"),
    "/status/config?mode=diff": (200, "GET /status/config\n---\nmode: 'diff'\n"),
    "/status/config?mode=defaults": (200, "GET /status/config\n---\nmode: 'defaults'\n"),
    "/status/config?mode=x": (400, "invalid value for mode x: leave it out, or use diff or defaults"),
    "/status/runtime_config?mode=diff": (200, "GET /status/runtime_config\n---\noverrides: 'diff'\n"),
    "/status/runtime_config?mode=defaults": (400, "invalid value for mode defaults: leave it out, or use diff"),
    "/status/nothing": (404, "there is no status page nothing; there are version, services, endpoints, config, runtime_config, overrides, usage-stats"),
    "/status/overrides/nobody": (404, "there is no tenant nobody"),
    "/flush": (204, ""),
    "/flush?tenant=nobody": (404, "there is no tenant nobody"),
    "/shutdown": (200, "shutdown job acknowledged"),
}  # fmt: skip


@pytest.mark.parametrize("path", PAGES)
def test_page(house: House, path: str) -> None:
    reply = house.ask(path)
    assert (reply.status_code, reply.text) == PAGES[path]


def test_not_ready(house: House) -> None:
    house.operator.reason = "Some services are not Running:\nStarting: 1"
    reply = house.ask("/ready")
    assert (reply.status_code, reply.text) == (503, "Some services are not Running:\nStarting: 1\n")


def test_flush_and_shutdown_reach_the_service_by_get_and_post_only(house: House) -> None:
    house.ask("/flush?tenant=a", method="POST")
    house.ask("/flush")
    house.ask("/shutdown", method="POST")
    refused = house.ask("/shutdown", method="PUT")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, POST")
    assert house.operator.calls == [("flush", "a"), ("flush", None), "shutdown"]


def test_buildinfo_passes_the_version_gate(house: House) -> None:
    info = house.ask("/api/status/buildinfo").json()
    assert [int(part) for part in info["version"].split(".")] >= [2, 7, 0]
    assert (info["vivaceVersion"], info["revision"]) == ("0.3.1", "abc123")
    assert {"branch", "buildUser", "buildDate", "goVersion"} < info.keys()


def test_status_has_all_sections(house: House) -> None:
    text = house.ask("/status").text
    sections = [house.ask(f"/status/{name}").text for name in ("version", "services", "endpoints", "config")]
    assert text == "\n".join(sections)
    assert [section.split("\n")[0] for section in sections] == [
        "GET /status/version", "GET /status/services", "GET /status/endpoints", "GET /status/config"
    ]  # fmt: skip
    assert "| generator    | Failed  | queue is full |" in text
    assert "| /api/v2/traces/{traceID} | ^/api/v2/traces/(?P<traceID>[^/]+)$" in " ".join(text.split())
    assert table(("A", "B"), []) == "+---+---+\n| A | B |\n+---+---+\n+---+---+\n"


def test_every_route_is_documented(house: House) -> None:
    page = (Path(__file__).parents[2] / "docs/http-api.md").read_text().split("## Routes")[1].split("\n## ")[0]
    rows = house.ask("/status/endpoints").text.splitlines()[4:]
    assert {row.split()[1] for row in rows if row.startswith("| /")} == set(
        re.findall(r"^\| `(\S+)` \|", page, re.MULTILINE)
    )


def test_overrides_page_escapes(house: House) -> None:
    reply = house.ask("/status/overrides/%3Cx%3E")
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert "&lt;x&gt;" in reply.text
    assert "a: &lt;b&gt;" in reply.text


# ---- tenants ----

ONE, MANY = tenant_from_header, tenants_from_header
INVALID = (
    "invalid tenant '..': use up to 150 letters, digits and !-_.*'(), "
    "other than . and .., .quarantine, and names that end in .tmp or .deleted"
)

TENANTS: list[tuple[Callable[[Request], str], str | None, tuple[int, str] | str]] = [
    # which rule, the header, the refusal or the tenant that is asked for
    (ONE, None, (401, "no org id")),
    (ONE, "", (401, "no org id")),
    (ONE, "team-1", "team-1"),
    (ONE, "a|b", (400, "multi-tenant query unsupported")),
    (ONE, "..", (400, INVALID)),
    (MANY, None, (401, "no org id")),
    (MANY, "a|", (401, "no org id")),
    (MANY, "team-1", "team-1"),
    (MANY, "b|a|b", "a|b"),
    (MANY, "a|..", (400, INVALID)),
    (single_tenant, "a|..", "single-tenant"),
    (single_tenant, None, "single-tenant"),
]


@pytest.mark.parametrize(("rule", "header", "expected"), TENANTS)
def test_tenants(
    house: House, rule: Callable[[Request], str], header: str | None, expected: tuple[int, str] | str
) -> None:
    headers = {} if header is None else {"X-Scope-OrgID": header}
    reply = house.ask(f"/api/traces/{ID}", headers=headers, tenant_of=rule)
    if isinstance(expected, str):
        assert [asked[0] for asked in house.store.asked] == [expected]
    else:
        assert (reply.status_code, reply.text) == expected
        assert house.store.asked == []


# ---- credentials ----

LOGIN = "Basic dTpw"  # u:p
GUARDED = ["/ready", "/metrics", "/status", "/status/config", f"/api/traces/{ID}", "/api/echo", "/flush", "/shutdown"]
OPENED = [  # open_paths, those of GUARDED that need no credentials
    (("/ready",), ["/ready"]),
    ((), []),
    (("/metrics", "/status/"), ["/metrics", "/status/config"]),
    (("/stat", "/api"), [f"/api/traces/{ID}", "/api/echo"]),
]


@pytest.mark.parametrize(("open_paths", "expected"), OPENED)
def test_credentials(house: House, open_paths: tuple[str, ...], expected: list[str]) -> None:
    guard = Guard(Credentials(users=(("u", Secret("here", text="p")),)))
    replies = {path: house.ask(path, guard=guard, open_paths=open_paths) for path in GUARDED}
    assert [path for path, reply in replies.items() if reply.status_code != 401] == expected
    refused = [reply for reply in replies.values() if reply.status_code == 401]
    assert {reply.headers["WWW-Authenticate"] for reply in refused} == {'Basic realm="vivace"'}
    assert house.operator.calls == []
    headers = {"Authorization": LOGIN}
    assert house.ask("/metrics", guard=guard, open_paths=open_paths, headers=headers).status_code == 200


# ---- errors ----

ERRORS: list[tuple[Exception, int, str, str | None]] = [
    (RequestError("what", status=418), 418, "what", None),
    (LimitError("slow down", limit="l", allowed=1, seen=2, retry_after_seconds=0.2), 429, "slow down", "1"),
    (LimitError("too big", limit="l", allowed=1, seen=2, retry_after_seconds=None), 422, "too big", None),
    (NotFoundError("gone"), 404, "gone", None),
    (UnavailableError("starting", retry_after_seconds=3), 503, "starting", "3"),
    (DiskFullError("full"), 503, "full", "5"),
    (CorruptionError(Path("/secret"), offset=1, expected="a", found="b"), 500, "storage error e1: see the server's log", None),
    (InvariantError("bug"), 500, "internal error e1: see the server's log", None),
    (ZeroDivisionError("oops"), 500, "internal error e1: see the server's log", None),
    (TimeoutError("not ours"), 500, "internal error e1: see the server's log", None),
]  # fmt: skip


@pytest.mark.parametrize(("error", "status", "text", "retry_after"), ERRORS, ids=[type(e[0]).__name__ for e in ERRORS])
def test_error(
    house: House, caplog: pytest.LogCaptureFixture, error: Exception, status: int, text: str, retry_after: str | None
) -> None:
    house.store.error = error
    with caplog.at_level(logging.ERROR):
        reply = house.ask(f"/api/traces/{ID}")
    assert (reply.status_code, reply.text, reply.headers.get("retry-after")) == (status, text, retry_after)
    logged = [record.getMessage() for record in caplog.records]
    assert logged == (["error e1: GET /api/traces/{traceID} failed"] if status == 500 else [])


# ---- waiting ----


@dataclass
class StuckStore:
    """A lookup that never ends by itself."""

    begun: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: bool = False

    async def trace(self, *asked: Any) -> FoundTrace | None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return None


def test_api_timeout(house: House) -> None:
    store = StuckStore()
    reply = house.ask(f"/api/traces/{ID}", lookup=store, api_timeout_seconds=0.01)
    assert (reply.status_code, reply.text) == (503, "unable to process request in the configured timeout")
    assert store.cancelled


def test_a_client_that_leaves_cancels_its_lookup(house: House) -> None:
    store = StuckStore()
    sent: list[Any] = []
    messages = [{"type": "http.request", "body": b"dropped", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await store.begun.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": f"/api/traces/{ID}", "query_string": b"", "headers": []}
    asyncio.run(_awaited(build_app(house.deps(lookup=store))(scope, receive, send)))
    assert store.cancelled
    assert sent == []
    text = house.telemetry.render("")[0].decode()
    assert (
        'tempo_request_duration_seconds_count{method="GET",route="api_traces_traceid",status_code="499",ws="false"} 1.0'
        in text
    )
    assert 'tempo_query_frontend_queries_total{op="traces",result="canceled",tenant="single-tenant"} 1.0' in text


async def _awaited(work: Awaitable[None]) -> None:
    await work


# ---- what is measured ----


def test_requests_are_recorded_under_their_routes(house: House) -> None:
    house.ask(f"/api/v2/traces/{ID}")
    for path in ("/api/traces/x", "/nowhere", "/status/version", "/api//ready", "/api/echo"):
        house.ask(path, method="PURGE" if path == "/api/echo" else "GET")
    reply = house.ask("/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    recorded = {
        line.split("{")[1].split("}")[0] for line in reply.text.splitlines() if line.startswith("tempo_request_duration_seconds_count")
    }  # fmt: skip
    assert recorded == {
        f'method="{method}",route="{route}",status_code="{status}",ws="false"'
        for method, route, status in [
            ("GET", "api_v2_traces_traceid", 200), ("GET", "api_traces_traceid", 400), ("GET", "other", 404),
            ("GET", "status_endpoint", 200), ("GET", "other", 301), ("other", "api_echo", 200),
        ]
    }  # fmt: skip
    assert 'tempo_query_frontend_bytes_inspected_total{op="traces",tenant="single-tenant"} 1234.0' in reply.text
    assert 'tempo_query_frontend_result_metrics_duration_seconds_count{op="traces"} 1.0' in reply.text


def test_openmetrics_when_negotiated(house: House) -> None:
    reply = house.ask("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert reply.headers["content-type"].startswith("application/openmetrics-text")
    assert reply.text.endswith("# EOF\n")
