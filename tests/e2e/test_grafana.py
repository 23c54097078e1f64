"""Grafana 12's Tempo data source: each request that it makes, sent as it sends it, and what it reads from the answer.

One home's traces lie in a server with the generator of a first user's tempo.yaml, and a real Prometheus takes its series. The
links between traces, logs and metrics are those of the user's data sources.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import builders
import grpc
import httpx
import pytest
import yaml
from google.protobuf import json_format
from google.protobuf.message import Message
from prometheus import Prometheus
from server import Server, eventually, merged

from e2e.grafana import (
    BACKEND,
    DEFAULT_TAGS,
    METADATA,
    PROXY,
    TENANT,
    TRACE,
    USER_AGENT,
    Row,
    link,
    node_graph,
    provisioned,
    rows,
    selector,
    values,
)
from vivace.model.proto import otlp_pb2 as otlp
from vivace.model.proto import tempopb_pb2 as pb

TESTS = Path(__file__).parents[1]
TEMPO_YAML = TESTS / "e2e/data/tempo.yaml"
SOURCES = provisioned(TESTS / "deploy/tempo/datasources.yaml")

SECOND, MILLISECOND = 1_000_000_000, 1_000_000
TIMEOUT_SECONDS = 30.0
SERIES_SECONDS_MAX = 60.0
GZIP_BYTES_MIN = 1024

# -- the spans --------------------------------------------------------------------------------------------------------

PHOTO = 0x7F3C9A1B2D4E5F60718293A4B5C6D7E8
"""A photo is looked at: its model is asked, its database too."""
ALERT = 0x9D2C4B6A80F1E3D5
"""A notice that fails. An id of 64 bits, as older instrumentation makes them: sixteen digits."""
EVENTS = 0x0005B8EFFF798038103D269B633813FC
"""A lone request, its id beginning with zeros."""

PODS = {  # service -> pod and namespace
    "immich": ("immich-server-5c9d7f6b8-x2lqv", "immich"),
    "ollama": ("ollama-0", "ai"),
    "frigate": ("frigate-7bd5c9d4f-9kq8z", "frigate"),
    "ntfy": ("ntfy-6f8d9b7c5-lm4tn", "ntfy"),
}
CLUSTER = {"cluster": "ringtail"}
"""On every span: the user's Alloy puts it there."""


def http(method: str, url: str, status: int) -> dict[str, str | int]:
    target = "/" + url.split("/", 3)[3]
    return {"http.method": method, "http.url": url, "http.target": target, "http.status_code": status}


ASSET = http("GET", "http://immich.example.org/api/assets/8", 200)
EMBED = http("POST", "http://ollama.ai:11434/api/embed", 200)
NOTICE = http("POST", "http://ntfy.ntfy/frigate-events", 507)
LIST = http("GET", "http://frigate.example.org/api/events?limit=5&after=0", 200)
SELECT = {"db.system": "postgresql", "db.name": "photos"}
INTERNAL, SERVER, CLIENT = otlp.Span.SPAN_KIND_INTERNAL, otlp.Span.SPAN_KIND_SERVER, otlp.Span.SPAN_KIND_CLIENT


@dataclass(frozen=True, slots=True)
class Made:
    """A span; start and duration in milliseconds, the start as from the moment at which its trace begins."""

    trace: int
    service: str
    id: int
    parent: int
    name: str
    kind: Any
    start: int
    duration: int
    attributes: Mapping[str, str | int]

    @property
    def duration_nanos(self) -> int:
        """A little more than the milliseconds, for digits that rounding would lose."""
        return self.duration * MILLISECOND + 7


SPANS = [
    Made(PHOTO, "immich", 1, 0, "GET /api/assets/{id}", SERVER, 0, 200, ASSET),
    Made(PHOTO, "immich", 2, 1, "SELECT assets", CLIENT, 10, 30, SELECT),
    Made(PHOTO, "immich", 3, 1, "POST", CLIENT, 50, 130, EMBED),
    Made(PHOTO, "ollama", 4, 3, "POST /api/embed", SERVER, 60, 110, EMBED),
    Made(PHOTO, "ollama", 5, 4, "embed", INTERNAL, 70, 90, {}),
    Made(ALERT, "frigate", 1, 0, "POST", CLIENT, 0, 90, NOTICE),
    Made(ALERT, "ntfy", 2, 1, "POST /frigate-events", SERVER, 10, 70, NOTICE),
    Made(EVENTS, "frigate", 1, 0, "GET /api/events", SERVER, 0, 3, LIST),
]
FULL = "no room for another message"
STATUS = {(ALERT, 1): (2, ""), (ALERT, 2): (2, FULL)}
EXCEPTION = {
    "exception.type": "InsufficientStorage",
    "exception.message": FULL,
    "exception.stacktrace": "at publish\n" * 60,
}


def sent(begin: int, *, ids_from: int = 0) -> bytes:
    """All of SPANS, each under the resource of its service. ids_from: what is added to the trace ids."""
    made = otlp.ExportTraceServiceRequest()
    for each in SPANS:
        at = begin + each.start * MILLISECOND
        pod, namespace = PODS[each.service]
        span = builders.span(
            each.trace + ids_from,
            each.id,
            each.parent,
            start=at,
            duration=each.duration_nanos,
            name=each.name,
            kind=each.kind,
            attributes={**each.attributes, **CLUSTER},
            status=STATUS.get((each.trace, each.id), (0, "")),
            events=[builders.event("exception", at + MILLISECOND, EXCEPTION)] if each.service == "ntfy" else (),
            trace_state="rpi=1",
            links=[builders.link(builders.trace_id(EVENTS), (1).to_bytes(8))]
            if (each.trace, each.id) == (ALERT, 1)
            else (),
        )
        resource = {"service.name": each.service, "k8s.pod.name": pod, "k8s.namespace.name": namespace}
        made.MergeFrom(builders.request(span, resource=resource, scope="beyla", version="2.7.4"))
    return made.SerializeToString()


def span_id(number: int) -> str:
    return f"{number:016x}"


def cut(trace: int) -> str:
    """A trace id as searches and exemplars show it: without leading zeros."""
    return f"{trace:x}"


# -- a server, a Prometheus, and who asks them ------------------------------------------------------------------------

EDGES = {("user", "immich"), ("immich", "photos"), ("immich", "ollama"), ("frigate", "ntfy"), ("user", "frigate")}
FAILED = {("frigate", "ntfy")}
RECENT_SECONDS, EARLIER_SECONDS = 60, 120


def settings(directory: Path, write_url: str) -> dict[str, Any]:
    """The user's generator: paths and times are a test's, and Prometheus is told of native histograms too."""
    user = yaml.safe_load(TEMPO_YAML.read_text())
    generator = user["metrics_generator"]
    (write,) = generator["storage"]["remote_write"]
    changes = {
        "registry": {"collection_interval": "1s"},
        "metrics_ingestion_time_range_slack": "1h",
        "storage": {
            "path": str(directory / "generator"),
            "remote_write": [{**write, "url": write_url, "send_native_histograms": True}],
        },
        "traces_storage": {"path": str(directory / "traces")},
        "processor": {
            # The user's data source asks for this name, which is the Collector's and not Tempo's.
            "span_metrics": {"latency_metric_aliases": ["traces_spanmetrics_duration_seconds"]},
            "service_graphs": {"wait": "1s"},
        },
    }
    native = {"defaults": {"metrics_generator": {"generate_native_histograms": "both"}}}
    return {
        "stream_over_http_enabled": user["stream_over_http_enabled"],
        "metrics_generator": merged(generator, changes),
        "overrides": merged(user["overrides"], native),
    }


@dataclass(frozen=True)
class Home:
    """begin  Unix nanoseconds of the traces; their like, which came earlier, is out of every range that is asked for
    until  Unix seconds at which a range of Prometheus's ends, the same for all queries; None is now"""

    server: Server
    prometheus: Prometheus
    client: httpx.Client
    channels: Mapping[str, grpc.Channel]
    begin: int
    until: float | None = None

    def times(self, unit: int) -> dict[str, Any]:
        """The range that a user looks at: `unit` nanoseconds are 1."""
        second = self.begin // SECOND
        return {"start": (second - RECENT_SECONDS) * SECOND // unit, "end": (second + 10) * SECOND // unit}

    def ask(self, path: str, parameters: Mapping[str, Any], headers: Mapping[str, str]) -> httpx.Response:
        """GET as Grafana's backend or its proxy does, of which the one writes a space as `+` and the other as %20."""
        query = urlencode(parameters) if "Accept-Language" not in headers else urlencode(parameters, quote_via=quote)
        reply = self.client.get(f"{self.server.http}{path}" + (f"?{query}" if query else ""), headers=headers)
        if reply.status_code == 200 and len(reply.content) >= GZIP_BYTES_MIN:
            assert reply.headers["content-encoding"] == "gzip"
        return reply

    def trace(self, id: str, headers: Mapping[str, str] = TRACE) -> dict[str, Row]:
        """By version 2, as rows; empty is what Grafana takes for "not found"."""
        reply = self.ask(f"/api/v2/traces/{id}", {}, headers)
        assert (reply.status_code, reply.headers["content-type"]) == (200, "application/protobuf"), reply.text
        answer = pb.TraceByIDResponse.FromString(reply.content)
        assert answer.HasField("trace"), "Grafana reads it unasked"
        assert (answer.status, answer.message) == (pb.COMPLETE, "")
        return rows(answer.trace)

    def stream(self, port: str, rpc: str, request: Message, reply: type[Any], tenant: Mapping[str, str]) -> list[Any]:
        call = self.channels[port].unary_stream(
            f"/tempopb.StreamingQuerier/{rpc}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=reply.FromString,
        )
        metadata = (*METADATA, *((name.lower(), text) for name, text in tenant.items()))
        return list(call(request, metadata=metadata, timeout=TIMEOUT_SECONDS))

    def evaluate(self, path: str, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
        """As Grafana's Prometheus data source does: a form, POSTed."""
        headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "gzip"}
        reply = self.client.post(f"{self.prometheus.url}/api/v1/{path}", data=dict(parameters), headers=headers)
        assert reply.status_code == 200, reply.text
        found: list[dict[str, Any]] = reply.json()["data"]["result"]
        return found

    def instant(self, query: str) -> list[dict[str, Any]]:
        return self.evaluate("query", {"query": query, "time": self.until or time.time()})

    def by(self, query: str, *labels: str) -> dict[Any, float]:
        """An instant vector as values by these labels; of one label, by its text alone."""
        found = {tuple(s["metric"].get(name, "") for name in labels): float(s["value"][1]) for s in self.instant(query)}
        return {key[0] if len(key) == 1 else key: each for key, each in found.items()}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    directory = tmp_path_factory.mktemp("grafana")
    with ExitStack() as stack:
        prometheus = stack.enter_context(Prometheus(directory / "prometheus"))
        server = stack.enter_context(Server(directory, settings(directory, prometheus.write_url)))
        grpc_port = re.search(r"gRPC on port (\d+)", server.log())
        assert grpc_port is not None
        ports = {"3200": server.http.removeprefix("http://"), "9095": f"127.0.0.1:{grpc_port[1]}"}
        options = [("grpc.primary_user_agent", USER_AGENT)]
        channels = {port: stack.enter_context(grpc.insecure_channel(at, options)) for port, at in ports.items()}
        client = stack.enter_context(httpx.Client(timeout=TIMEOUT_SECONDS))
        begin = (time.time_ns() // SECOND - 5) * SECOND + 123_456_789
        made = Home(server, prometheus, client, channels, begin)

        def send(body: bytes, count: int) -> None:
            reply = client.post(
                f"{server.otlp_http}/v1/traces", content=body, headers={"Content-Type": "application/x-protobuf"}
            )
            assert reply.status_code == 200
            edges = "sum by (client, server) (traces_service_graph_request_total)"
            spans = ("sum(traces_spanmetrics_calls_total)", "histogram_count(sum(traces_spanmetrics_latency))")
            eventually(
                lambda: (
                    made.by(edges, "client", "server") == dict.fromkeys(EDGES, count)
                    and all(made.by(query, "") == {"": count * len(SPANS)} for query in spans)
                ),
                f"every edge is at {count}, and so is every span",
                SERIES_SECONDS_MAX,
            )

        # Twice: sums have no sample 0 before their first, so that their rate() begins with the second round.
        send(sent(begin - EARLIER_SECONDS * SECOND, ids_from=1 << 64), 1)
        send(sent(begin), 2)
        yield replace(made, until=time.time())


@pytest.fixture(params=[{}, TENANT], ids=["", "tenant"])
def tenant(request: pytest.FixtureRequest) -> dict[str, str]:
    """Headers beyond the usual: none, or that of a data source which names a tenant to a server that has none."""
    found: dict[str, str] = request.param
    return found


PORTS = pytest.mark.parametrize("port", ["3200", "9095"])

# -- "Save & test", versions ------------------------------------------------------------------------------------------


def test_health(home: Home, tenant: dict[str, str]) -> None:
    reply = home.ask("/api/echo", {}, PROXY | tenant)
    assert (reply.status_code, reply.text) == (200, "echo\n")


@PORTS
def test_health_of_streaming(home: Home, tenant: dict[str, str], port: str) -> None:
    """A search over 15 minutes for one trace; Grafana shows an error unless the stream ends well."""
    now = int(time.time())
    request = pb.SearchRequest(Query="{}", Limit=1, start=now - 15 * 60, end=now)
    *_, last = home.stream(port, "Search", request, pb.SearchResponse, tenant)
    assert len(last.traces) == 1


def test_version(home: Home, tenant: dict[str, str]) -> None:
    """Search is streamed from 2.2.0 on, metrics from 2.7.0."""
    reply = home.ask("/api/status/buildinfo", {}, PROXY | tenant)
    assert reply.status_code == 200
    version = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", reply.json()["version"])
    assert version is not None, reply.text
    assert (2, 7, 0) <= tuple(map(int, version.groups())) < (3, 0, 0)


# -- a trace ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trace", [PHOTO, ALERT, EVENTS], ids=cut)
@pytest.mark.parametrize("times", ["range", "no range", "zeros"])
def test_trace(home: Home, tenant: dict[str, str], trace: int, times: str) -> None:
    """Every row of the trace view is the span that was sent. Zeros, too, mean that no range was chosen."""
    parameters = {"range": home.times(SECOND), "no range": {}, "zeros": {"start": 0, "end": 0}}[times]
    whole = pb.Trace.FromString(sent(home.begin))
    mine = [g for g in whole.resourceSpans if g.scope_spans[0].spans[0].trace_id == builders.trace_id(trace)]
    reply = home.ask(f"/api/v2/traces/{trace:032x}", parameters, TRACE | tenant)
    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/protobuf")
    answer = pb.TraceByIDResponse.FromString(reply.content)
    assert rows(answer.trace) == rows(pb.Trace(resourceSpans=mine))
    assert answer.status == pb.COMPLETE


def test_trace_view(home: Home) -> None:
    """Kinds, states, an exception, a reference: in the words of the trace view."""
    found = home.trace(f"{ALERT:032x}")
    notice, publish = found[span_id(1)], found[span_id(2)]
    assert (notice.service, notice.operation, notice.kind, notice.status) == ("frigate", "POST", "client", "error")
    assert (notice.parent_span_id, publish.parent_span_id) == ("", notice.span_id)
    assert notice.references == ((f"{EVENTS:032x}", span_id(1)),)
    assert (publish.service, publish.kind, publish.status, publish.status_message) == ("ntfy", "server", "error", FULL)
    assert publish.tags == NOTICE | CLUSTER
    ((at, name, attributes),) = publish.logs
    assert (name, dict(attributes)) == ("exception", EXCEPTION)
    assert publish.start < at < publish.start + publish.duration
    assert {row.status for row in home.trace(f"{PHOTO:032x}").values()} == {"unset"}


def test_node_graph(home: Home) -> None:
    """Built of the trace view's rows: who called whom, how long, how much of it outside of its children."""
    graph = node_graph(home.trace(f"{PHOTO:032x}"))
    assert graph.edges == {(span_id(s.parent), span_id(s.id)) for s in SPANS if s.trace == PHOTO and s.parent}
    own = {1: 40, 2: 30, 3: 20, 4: 20, 5: 90}
    expected = {span_id(s.id): (s.service, s.name, s.duration, own[s.id]) for s in SPANS if s.trace == PHOTO}
    rounded = {
        id: (title, subtitle, round(ms, 3), round(rest, 3)) for id, (title, subtitle, ms, rest) in graph.nodes.items()
    }
    assert rounded == expected


def test_trace_that_is_not_there(home: Home, tenant: dict[str, str]) -> None:
    """Version 2 answers with an empty trace; should it ever say 404, version 1 is asked, which does say so."""
    unknown = f"{PHOTO + 1:032x}"
    assert home.trace(unknown, TRACE | tenant) == {}
    reply = home.ask(f"/api/traces/{unknown}", {}, TRACE | tenant)
    assert (reply.status_code, reply.content) == (404, b"")


def test_trace_by_version_1(home: Home, tenant: dict[str, str]) -> None:
    reply = home.ask(f"/api/traces/{PHOTO:032x}", home.times(SECOND), TRACE | tenant)
    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/protobuf")
    assert reply.headers["content-encoding"] == "gzip"
    assert rows(pb.Trace.FromString(reply.content)) == home.trace(f"{PHOTO:032x}")


# -- searches ---------------------------------------------------------------------------------------------------------

UNINSTRUMENTED = " || ".join(  # a node that sends no spans itself: the service graph links to who called it
    f'span.{name}="photos"' for name in ("db.name", "db.system", "peer.service", "messaging.system", "net.peer.name")
)
POD = "{span.http.status_code=507} | select(resource.k8s.pod.name, span.http.url)"
TEXT, NUMBER = "stringValue", "intValue"


def pod(service: str) -> dict[str, Any]:
    return {
        "k8s.pod.name": {TEXT: PODS[service][0]},
        "http.status_code": {NUMBER: "507"},
        "http.url": {TEXT: NOTICE["http.url"]},
    }


Traces = dict[int, tuple[int, dict[int, dict[str, Any]]]]
"""Of each trace how many spans match, and attributes of those of them that must be shown."""

SEARCHES: list[tuple[str, Traces]] = [
    ("{}", {PHOTO: (5, {}), ALERT: (2, {1: {}, 2: {}}), EVENTS: (1, {1: {}})}),
    (
        '{resource.service.name="ollama" && name="embed"}',
        {PHOTO: (1, {5: {"service.name": {TEXT: "ollama"}}})},
    ),
    (
        "{status=error && kind=server}",
        {ALERT: (1, {2: {"status": {TEXT: "error"}, "kind": {TEXT: "server"}}})},
    ),
    (POD, {ALERT: (2, {1: pod("frigate"), 2: pod("ntfy")})}),
    ("{" + UNINSTRUMENTED + "}", {PHOTO: (1, {2: {"db.name": {TEXT: "photos"}}})}),
    ('{span.http.url=~".*limit=5&after=.*" && duration<1s}', {EVENTS: (1, {1: {"http.url": {TEXT: LIST["http.url"]}}})}),
    ('{resource.service.name="nobody"}', {}),
]  # fmt: skip
LIMIT, SPANS_SHOWN = 20, 3
ROOTS = {span.trace: span for span in SPANS if not span.parent}


def check_table(home: Home, found: list[dict[str, Any]], expected: Traces) -> None:
    """The table of traces, and the table of spans below each of them."""
    by_id = {trace["traceID"]: trace for trace in found}
    assert len(by_id) == len(found)
    assert by_id.keys() == {cut(trace) for trace in expected}
    for trace, (matched, attributes) in expected.items():
        row, root = by_id[cut(trace)], ROOTS[trace]
        assert (row["rootServiceName"], row["rootTraceName"]) == (root.service, root.name)
        assert row["durationMs"] == root.duration
        assert row["startTimeUnixNano"] == str(home.begin)
        (spans_of_one,) = row["spanSets"]
        assert spans_of_one["matched"] == matched
        shown = {span["spanID"]: span for span in spans_of_one["spans"]}
        assert len(shown) == min(matched, SPANS_SHOWN)
        lengths = {
            span_id(s.id): (str(home.begin + s.start * MILLISECOND), str(s.duration_nanos))
            for s in SPANS
            if s.trace == trace
        }
        for id, span in shown.items():
            assert (span["startTimeUnixNano"], span["durationNanos"]) == lengths[id]
        for number, wanted in attributes.items():
            read = {pair["key"]: pair["value"] for pair in shown[span_id(number)].get("attributes", [])}
            assert wanted.items() <= read.items()


@pytest.mark.parametrize(("query", "expected"), SEARCHES)
def test_search(home: Home, tenant: dict[str, str], query: str, expected: Traces) -> None:
    parameters = {"q": query, "limit": LIMIT, "spss": SPANS_SHOWN, **home.times(SECOND)}
    for headers in (PROXY, BACKEND):
        reply = home.ask("/api/search", parameters, headers | tenant)
        assert (reply.status_code, reply.headers["content-type"]) == (200, "application/json"), reply.text
        check_table(home, reply.json()["traces"], expected)


@PORTS
@pytest.mark.parametrize(("query", "expected"), SEARCHES)
def test_streamed_search(home: Home, tenant: dict[str, str], port: str, query: str, expected: Traces) -> None:
    request = pb.SearchRequest(Query=query, Limit=LIMIT, SpansPerSpanSet=SPANS_SHOWN, **home.times(SECOND))
    traces: dict[str, dict[str, Any]] = {}
    for part in home.stream(port, "Search", request, pb.SearchResponse, tenant):
        traces |= {trace["traceID"]: trace for trace in json_format.MessageToDict(part).get("traces", [])}
        assert part.metrics.completedJobs <= part.metrics.totalJobs, "the progress that is shown"
    check_table(home, list(traces.values()), expected)


@pytest.mark.parametrize("query", ["{ span.http.status_code = }", "{} | rate("])
def test_query_that_is_wrong(home: Home, query: str) -> None:
    """What Grafana shows is the text of the answer, so it names the place."""
    request = pb.SearchRequest(Query=query, **home.times(SECOND))
    reply = home.ask("/api/search", {"q": query, **home.times(SECOND)}, PROXY)
    assert (reply.status_code, reply.headers["content-type"]) == (400, "text/plain; charset=utf-8")
    assert "parse error at line 1, col " in reply.text
    with pytest.raises(grpc.RpcError) as raised:
        home.stream("3200", "Search", request, pb.SearchResponse, {})
    error: Any = raised.value
    assert (error.code(), error.details()) == (grpc.StatusCode.INVALID_ARGUMENT, reply.text)


# -- TraceQL metrics --------------------------------------------------------------------------------------------------

STEP_SECONDS = 10
SERVICES = {"immich": 3.0, "ollama": 2.0, "frigate": 2.0, "ntfy": 1.0}
BY_STATUS = "{ kind = server } | count_over_time() by (resource.service.name, span.http.status_code)"
BUCKETS = "{ } | histogram_over_time(duration) by (resource.service.name)"
"""Grafana sees by its text that it makes a heat map, and reads __bucket."""

Legend = frozenset[tuple[str, Any]]
METRICS: list[tuple[str, dict[Legend, float]]] = [  # query, and by labels the sum of all samples
    (
        "{ } | count_over_time() by (resource.service.name)",
        {frozenset({("resource.service.name", service)}): count for service, count in SERVICES.items()},
    ),
    (
        "{ } | rate() by (resource.service.name)",
        {frozenset({("resource.service.name", s)}): count / STEP_SECONDS for s, count in SERVICES.items()},
    ),
    ("{ status = error } | count_over_time()", {frozenset({("__name__", "count_over_time")}): 2.0}),
    (
        BY_STATUS,
        {
            frozenset({("resource.service.name", service), ("span.http.status_code", status)}): 1.0
            for service, status in (("immich", 200), ("ollama", 200), ("frigate", 200), ("ntfy", 507))
        },
    ),
    ('{ name = "embed" } | max_over_time(duration)', {frozenset({("__name__", "max_over_time")}): 0.090_000_007}),
    ('{ name = "embed" } | quantile_over_time(duration, .9)', {frozenset({("p", 0.9)}): 0.134_217_728}),
]  # fmt: skip


def legend(series: Any) -> Legend:
    assert all(each.value.WhichOneof("value") for each in series.labels), "labels have a type"
    return frozenset(values(series.labels).items())


def totals(series: Any, home: Home) -> dict[Legend, float]:
    """Sums by labels, of samples that stand at steps of the range, which begins and ends at whole ones."""
    found = {}
    step, asked = STEP_SECONDS * 1000, home.times(MILLISECOND)
    for each in series:
        times = [sample.timestamp_ms for sample in each.samples]
        assert times == sorted(set(times))
        assert all(moment % step == 0 for moment in times)
        assert asked["start"] - step < times[0] <= times[-1] < asked["end"] + step
        found[legend(each)] = sum(sample.value for sample in each.samples)
    return found


def exemplar_ids(series: Any) -> set[str]:
    return {values(e.labels)["trace:id"] for each in series for e in each.exemplars}


ENCODINGS = [(PROXY, SECOND, f"{STEP_SECONDS}"), (BACKEND, 1, f"{STEP_SECONDS}s")]
"""The browser asks in seconds, the backend in nanoseconds."""


@pytest.mark.parametrize(("headers", "unit", "step"), ENCODINGS, ids=["browser", "backend"])
@pytest.mark.parametrize(("query", "expected"), METRICS)
def test_metrics(
    home: Home,
    tenant: dict[str, str],
    query: str,
    expected: dict[Legend, float],
    headers: dict[str, str],
    unit: int,
    step: str,
) -> None:
    parameters = {"q": query, **home.times(unit), "step": step, "exemplars": 100}
    reply = home.ask("/api/metrics/query_range", parameters, headers | tenant)
    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/json"), reply.text
    answer = json_format.Parse(reply.content, pb.QueryRangeResponse())  # refuses keys that the message does not have
    assert totals(answer.series, home) == pytest.approx(expected)
    assert answer.status == pb.COMPLETE
    ids = exemplar_ids(answer.series)
    assert ids <= {cut(PHOTO), cut(ALERT), cut(EVENTS)}
    assert ids


@PORTS
@pytest.mark.parametrize(("query", "expected"), METRICS)
def test_streamed_metrics(
    home: Home, tenant: dict[str, str], port: str, query: str, expected: dict[Legend, float]
) -> None:
    request = pb.QueryRangeRequest(query=query, step=STEP_SECONDS * SECOND, exemplars=100, **home.times(1))
    series: dict[Legend, Any] = {}
    exemplars: set[str] = set()
    for part in home.stream(port, "MetricsQueryRange", request, pb.QueryRangeResponse, tenant):
        for each in part.series:
            samples = {s.timestamp_ms: s for s in series[legend(each)].samples} if legend(each) in series else {}
            samples |= {s.timestamp_ms: s for s in each.samples}
            series[legend(each)] = pb.TimeSeries(labels=each.labels, samples=[samples[at] for at in sorted(samples)])
        exemplars |= exemplar_ids(part.series)
    assert totals(series.values(), home) == pytest.approx(expected)
    assert exemplars


INSTANT = METRICS[0]


@pytest.mark.parametrize(("headers", "unit", "step"), ENCODINGS, ids=["browser", "backend"])
def test_instant_metrics(home: Home, tenant: dict[str, str], headers: dict[str, str], unit: int, step: str) -> None:
    query, expected = INSTANT
    reply = home.ask("/api/metrics/query", {"q": query, **home.times(unit)}, headers | tenant)
    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/json"), reply.text
    answer = json_format.Parse(reply.content, pb.QueryInstantResponse())
    assert {legend(each): each.value for each in answer.series} == expected


@PORTS
def test_streamed_instant_metrics(home: Home, tenant: dict[str, str], port: str) -> None:
    query, expected = INSTANT
    request = pb.QueryInstantRequest(query=query, **home.times(1))
    found: dict[Legend, float] = {}
    for part in home.stream(port, "MetricsQueryInstant", request, pb.QueryInstantResponse, tenant):
        found |= {legend(each): each.value for each in part.series}
    assert found == expected


def test_heat_map(home: Home) -> None:
    """Of each bucket its upper bound as a number, in seconds: the next power of two nanoseconds."""
    reply = home.ask("/api/metrics/query_range", {"q": BUCKETS, **home.times(SECOND), "step": STEP_SECONDS}, PROXY)
    answer = json_format.Parse(reply.content, pb.QueryRangeResponse())
    expected = Counter(
        frozenset({("resource.service.name", s.service), ("__bucket", (1 << s.duration_nanos.bit_length()) / SECOND)})
        for s in SPANS
    )
    assert totals(answer.series, home) == expected


@pytest.mark.parametrize("group", ["resource.service.name", "name"])
def test_aggregate_by(home: Home, tenant: dict[str, str], group: str) -> None:
    """Older than metrics in TraceQL; only Grafana's former versions offer it."""
    reply = home.ask("/api/metrics/summary", {"q": "{}", "groupBy": group, **home.times(SECOND)}, PROXY | tenant)
    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/json"), reply.text
    answer = json_format.Parse(reply.content, pb.SpanMetricsSummaryResponse())
    by_group = {each.series[0].value.s: each for each in answer.summaries}
    assert {each.series[0].value.type for each in answer.summaries} == {5}, "a string"
    expected: dict[str, list[bool]] = {}
    for span in SPANS:
        expected.setdefault(span.name if group == "name" else span.service, []).append((span.trace, span.id) in STATUS)
    counts = {name: (each.spanCount, each.errorSpanCount) for name, each in by_group.items()}
    assert counts == {name: (len(failed), sum(failed)) for name, failed in expected.items()}
    assert all(0 < each.p50 <= each.p90 <= each.p95 <= each.p99 for each in answer.summaries)


# -- tags: what the query editor offers -------------------------------------------------------------------------------

RESOURCE_TAGS = {"service.name", "k8s.pod.name", "k8s.namespace.name"}
SPAN_TAGS = {key for span in SPANS for key in span.attributes} | CLUSTER.keys()
TAGS_LIMIT = 5000

TAGS: list[tuple[dict[str, str], dict[str, set[str]]]] = [  # parameters, and names by scope that must be all of it
    ({}, {"resource": RESOURCE_TAGS, "span": SPAN_TAGS}),
    ({"scope": "resource"}, {"resource": RESOURCE_TAGS}),
    ({"scope": "span"}, {"span": SPAN_TAGS}),
    ({"q": '{resource.service.name="ollama"}'}, {"span": EMBED.keys() | CLUSTER.keys()}),
    ({"scope": "span", "q": '{resource.service.name="ollama" && }'}, {"span": EMBED.keys() | CLUSTER.keys()}),
]


@pytest.mark.parametrize("ranged", [False, True])
@pytest.mark.parametrize(("parameters", "expected"), TAGS)
def test_tags(
    home: Home, tenant: dict[str, str], parameters: dict[str, str], expected: dict[str, set[str]], ranged: bool
) -> None:
    asked = {"limit": TAGS_LIMIT, **parameters, **(home.times(SECOND) if ranged else {})}
    reply = home.ask("/api/v2/search/tags", asked, PROXY | tenant)
    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/json"), reply.text
    scopes = {scope["name"]: scope["tags"] for scope in reply.json()["scopes"]}
    for scope, names in expected.items():
        assert scopes[scope] == sorted(names)
    if "scope" in parameters:
        assert scopes.keys() == expected.keys()
    else:
        assert {"name", "kind", "status", "duration", "rootServiceName", "trace:id"} <= set(scopes["intrinsic"])


def test_tags_by_version_1(home: Home, tenant: dict[str, str]) -> None:
    reply = home.ask("/api/search/tags", {"limit": TAGS_LIMIT, **home.times(SECOND)}, PROXY | tenant)
    assert reply.status_code == 200
    assert reply.json()["tagNames"] == sorted(RESOURCE_TAGS | SPAN_TAGS | EXCEPTION.keys())


def texts(*found: str) -> set[tuple[str, str]]:
    return {("string", each) for each in found}


def words(found: str) -> set[tuple[str, str]]:
    return {("keyword", each) for each in found.split()}


URLS = tuple(str(made["http.url"]) for made in (ASSET, EMBED, NOTICE, LIST))
AT_NTFY = {"q": '{resource.service.name="ntfy" && status=error}'}
VALUES: list[tuple[str, dict[str, str], set[tuple[str, str]]]] = [
    ("resource.service.name", {}, texts(*PODS)),
    ("resource.service.name", {"q": "{status=error}"}, texts("frigate", "ntfy")),
    ("resource.k8s.pod.name", {}, texts(*(pod for pod, _ in PODS.values()))),
    ("span.http.url", {}, texts(*URLS)),
    ("span.http.url", AT_NTFY, texts(URLS[2])),
    ('span."http.url"', {}, texts(*URLS)),
    (".http.method", {}, texts("GET", "POST")),
    ("span.http.status_code", {}, {("int", "200"), ("int", "507")}),
    ("name", {}, texts(*(span.name for span in SPANS))),
    ("span:name", AT_NTFY, texts("POST /frigate-events")),
    ("rootServiceName", {}, texts("immich", "frigate")),
    ("trace:rootName", {}, texts(*(root.name for root in ROOTS.values()))),
    ("status", {}, words("error ok unset")),
    ("kind", {}, words("unspecified internal server client producer consumer")),
    ("span.nothing", {}, set()),
]  # fmt: skip


@pytest.mark.parametrize("encode", [lambda n: n, lambda n: quote(n, safe=""), lambda n: quote(quote(n, safe=""), safe="")],
                         ids=["plain", "encoded", "twice"])  # fmt: skip
@pytest.mark.parametrize(("name", "parameters", "expected"), VALUES)
def test_values(
    home: Home, name: str, parameters: dict[str, str], expected: set[tuple[str, str]], encode: Callable[[str], str]
) -> None:
    """The type decides whether the editor puts a value in quotes."""
    asked = {"limit": TAGS_LIMIT, **parameters, **home.times(SECOND)}
    reply = home.ask(f"/api/v2/search/tag/{encode(name)}/values", asked, PROXY)
    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/json"), reply.text
    found = [(each["type"], each["value"]) for each in reply.json()["tagValues"]]
    assert len(found) == len(set(found))
    assert set(found) == expected


def test_values_by_version_1(home: Home, tenant: dict[str, str]) -> None:
    for name, expected in (("service.name", PODS), ("http.method", ("GET", "POST"))):
        reply = home.ask(f"/api/search/tag/{name}/values", {"limit": TAGS_LIMIT, **home.times(SECOND)}, PROXY | tenant)
        assert (reply.status_code, reply.json()["tagValues"]) == (200, sorted(expected))


# -- Loki: from a log line to its trace, and from a span to its logs --------------------------------------------------

LOGGED = [  # a trace id as a log line has it, and whose it is
    (f"{PHOTO:032x}", PHOTO),
    (f"{PHOTO:032X}", PHOTO),
    (f"{ALERT:032x}", ALERT),
    (f"{ALERT:016x}", ALERT),
    (f"{ALERT:016X}", ALERT),
    (f"{EVENTS:032x}", EVENTS),
    (f"{EVENTS:x}", EVENTS),  # an odd count of digits
    (f"0{EVENTS:x}", EVENTS),
    (f"{EVENTS:X}", EVENTS),
]


@pytest.mark.parametrize(("id", "trace"), LOGGED, ids=[id for id, _ in LOGGED])
def test_from_a_log_line(home: Home, id: str, trace: int) -> None:
    """What the derived field captures is asked for as it is."""
    (derived,) = SOURCES["loki"]["derivedFields"]
    assert (derived["datasourceUid"], derived["url"]) == ("tempo", "${__value.raw}")
    line = json.dumps({"level": "error", "traceID": id, "msg": "no room"}, separators=(",", ":"))
    captured = re.search(derived["matcherRegex"], line)
    assert captured is not None
    found = home.trace(captured[1])
    assert len(found) == sum(span.trace == trace for span in SPANS)
    assert {row.trace_id for row in found.values()} == {f"{trace:032x}"}


LOG_TAGS = [  # of a data source, and the labels that they become: none as the user has it, and its pods' names
    ((), {"cluster": "ringtail", "service_name": "ollama"}),
    (
        (
            {"key": "service.name", "value": "app"},
            {"key": "k8s.pod.name", "value": "pod"},
            {"key": "k8s.namespace.name"},
            {"key": "http.target"},
        ),
        {"app": "ollama", "pod": "ollama-0", "k8s_namespace_name": "ai", "http_target": "/api/embed"},
    ),
]


@pytest.mark.parametrize(("tags", "labels"), LOG_TAGS)
def test_to_the_logs(home: Home, tags: tuple[dict[str, str], ...], labels: dict[str, str]) -> None:
    user = SOURCES["tempo"]["tracesToLogsV2"]
    assert user["datasourceUid"] == "loki"
    row = home.trace(f"{PHOTO:032x}")[span_id(4)]
    to = link(user, row, tags or user.get("tags") or DEFAULT_TAGS)
    assert to.labels == labels
    assert to.contains == (f"{PHOTO:032x}",), "by trace id, as the user has it, and not by span id"
    start = (home.begin + 60 * MILLISECOND) / MILLISECOND
    assert to.start == pytest.approx(start, abs=1e-3)
    assert to.end == pytest.approx(start + 110, abs=1e-3)


# -- Prometheus: a span's metrics, the service graph ------------------------------------------------------------------


def test_to_the_metrics(home: Home) -> None:
    """The queries of the user's data source about the service of each span, over the hours around it."""
    user = SOURCES["tempo"]["tracesToMetrics"]
    tags = user.get("tags") or [{"key": "service.name", "value": "service"}]  # the label that all series have
    found: dict[str, set[str]] = {query["name"]: set() for query in user["queries"]}
    for trace in (PHOTO, ALERT, EVENTS):
        for row in home.trace(f"{trace:032x}").values():
            to = link(user, row, tags)
            for query in user["queries"]:
                text = query["query"].replace("$__tags", selector(to.labels))
                series = home.evaluate(
                    "query_range", {"query": text, "start": to.start / 1e3, "end": to.end / 1e3, "step": 15}
                )
                if any(float(sample) > 0 for each in series for _, sample in each["values"]):
                    found[query["name"]].add(row.service)
    assert found == {
        "Request rate": set(PODS),
        "Error rate": {"frigate", "ntfy"},
        "Duration (p95)": set(PODS),
    }


RANGE = "900s"
"""$__range of the last 15 minutes."""


def rate(name: str, matchers: str = "") -> str:
    return f"rate({name}{matchers and '{' + matchers + '}'}[{RANGE}])"


@pytest.mark.parametrize("namespaces", ["", ", client_service_namespace, server_service_namespace"])
def test_service_map(home: Home, namespaces: str) -> None:
    """Edges with their requests, failures and seconds; a node's arcs are its share of failures."""

    def by_edge(name: str) -> dict[tuple[str, str], float]:
        found: dict[tuple[str, str], float] = home.by(
            f"sum by (client, server{namespaces}) ({rate(name)})", "client", "server"
        )
        return {edge: each for edge, each in found.items() if each > 0}

    assert SOURCES["tempo"]["serviceMap"]["datasourceUid"] == "prometheus"
    requests = by_edge("traces_service_graph_request_total")
    failed = by_edge("traces_service_graph_request_failed_total")
    seconds = by_edge("traces_service_graph_request_server_seconds_sum")
    assert requests.keys() == EDGES == seconds.keys()
    assert failed.keys() == FAILED
    assert failed == pytest.approx({edge: requests[edge] for edge in FAILED}), "all of them failed"


def test_connection_types(home: Home) -> None:
    query = f"sum by (client, server, connection_type) ({rate('traces_service_graph_request_total')})"
    found = home.by(query, "client", "server", "connection_type")
    others = {("user", "immich"): "virtual_node", ("user", "frigate"): "virtual_node", ("immich", "photos"): "database"}
    assert found.keys() == {(*edge, others.get(edge, "")) for edge in EDGES}


def test_an_edge(home: Home) -> None:
    """What a click on an edge shows: its rate, its failures, its latency, from either kind of histogram; and true sums."""
    of = 'client="immich", server="ollama"'
    name = "traces_service_graph_request_server_seconds"
    classic = f"histogram_quantile(0.9, sum({rate(name + '_bucket', of)}) by (le, client, server))"
    native = f"histogram_quantile(0.9, sum({rate(name, of)}) by (client, server))"
    edge = ("immich", "ollama")
    assert 0.1 < home.by(classic, "client", "server")[edge] <= 0.2
    assert home.by(native, "client", "server")[edge] == pytest.approx(0.11, rel=0.1)
    sums = home.by(f"{name}_sum{{{of}}} / {name}_count", "client", "server")
    assert sums == {edge: pytest.approx(0.11, rel=1e-3)}
    assert home.by('sum by (client) (traces_service_graph_request_failed_total{client="frigate"})', "client") == {
        "frigate": 2.0
    }


SERVED = {span.name for span in SPANS if span.kind == SERVER}


def test_apm_table(home: Home) -> None:
    """Beside the service graph: rate, errors and duration of the operations that are served most."""
    calls, top = "traces_spanmetrics_calls_total", "topk(5, sum({}) by (span_name))"
    served = home.by(top.format(rate(calls, 'span_kind="SPAN_KIND_SERVER"')), "span_name")
    assert served.keys() == SERVED
    assert all(each > 0 for each in served.values())
    names = "|".join(re.sub(r"([{}])", r"\\\\\1", name) for name in sorted(served))
    errors = home.by(top.format(rate(calls, f'status_code="STATUS_CODE_ERROR", span_name=~"{names}"')), "span_name")
    assert errors == {"POST /frigate-events": pytest.approx(served["POST /frigate-events"])}
    for name, least, most in (("POST /api/embed", 0.064, 0.128), ("POST /frigate-events", 0.064, 0.128)):
        buckets = rate("traces_spanmetrics_latency_bucket", f'span_name=~"{name}"')
        (latency,) = home.by(f"histogram_quantile(.9, sum({buckets}) by (le))", "span_name").values()
        assert least < latency <= most


def test_dimensions(home: Home) -> None:
    """Those of the user's file: the columns by which a dashboard splits its panels."""
    labels = ("service_name", "http_method", "http_status_code", "http_target", "span_kind", "status_code", "source")
    found = home.by('traces_spanmetrics_calls_total{service="ntfy"}', *labels)
    ntfy = ("ntfy", "POST", "507", "/frigate-events", "SPAN_KIND_SERVER", "STATUS_CODE_ERROR", "tempo")
    assert found == {ntfy: 2.0}


OF_NTFY = 'service="ntfy"'
BY_EDGE = "sum by (client, server) (rate({}[5m]))"

PANELS = (  # trace to metrics, service map, node graph, native histograms, as dashboards have them
    f"sum(rate(traces_spanmetrics_calls_total{{{OF_NTFY}}}[5m]))",
    f'sum(rate(traces_spanmetrics_calls_total{{{OF_NTFY}, status_code="STATUS_CODE_ERROR"}}[5m]))',
    f"histogram_quantile(0.95, sum(rate(traces_spanmetrics_duration_seconds_bucket{{{OF_NTFY}}}[5m])) by (le))",
    BY_EDGE.format("traces_service_graph_request_total"),
    BY_EDGE.format("traces_service_graph_request_failed_total"),
    "sum by (client, server) (rate(traces_service_graph_request_server_seconds_sum[5m]))",
    "histogram_quantile(0.9, sum by (le, client, server) (rate(traces_service_graph_request_server_seconds_bucket[5m])))",
    'topk(5, sum by (span_name) (rate(traces_spanmetrics_calls_total{span_kind="SPAN_KIND_SERVER"}[5m])))',
    'topk(5, sum by (span_name) (rate(traces_spanmetrics_calls_total{status_code="STATUS_CODE_ERROR"}[5m])))',
    f"histogram_quantile(0.9, sum by (le) (rate(traces_spanmetrics_latency_bucket{{{OF_NTFY}}}[5m])))",
    f"histogram_count(sum(traces_spanmetrics_latency{{{OF_NTFY}}})) > 0",
    "histogram_count(sum(traces_service_graph_request_server_seconds)) > 0",
)


@pytest.mark.parametrize("query", PANELS)
def test_what_grafana_asks_prometheus(home: Home, query: str) -> None:
    found = home.instant(query)
    assert found
    assert all(float(series["value"][1]) > 0 for series in found)


@pytest.mark.parametrize(
    "name", ["traces_spanmetrics_latency_bucket", "traces_service_graph_request_server_seconds_bucket"]
)
def test_exemplars(home: Home, name: str) -> None:
    """A point in a panel's chart leads to the trace that it stands for."""

    def ids() -> set[str]:
        now = time.time()
        found = home.prometheus.exemplars(name, now - 600, now + 60)
        return {e["labels"]["traceID"] for series in found for e in series["exemplars"]}

    eventually(lambda: {cut(PHOTO), cut(ALERT), cut(EVENTS)} <= ids(), f"exemplars of {name}")
    for id in ids():
        assert home.trace(id), f"{id} is not there"
