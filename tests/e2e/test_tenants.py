"""Several tenants in one real server, and who may use it: real exporters with headers, limits that change, remote write."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cramjam
import grpc
import httpx
import pytest
import trustme
import yaml
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from remote_write_messages import WriteRequest
from server import Server, eventually

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
PROTOBUF = {"Content-Type": "application/x-protobuf"}
SUCCESS, FAILURE = SpanExportResult.SUCCESS, SpanExportResult.FAILURE


def trace() -> tuple[str, ReadableSpan, ReadableSpan]:
    """A trace id, its root span and the child of that."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "shop"}))
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracer = provider.get_tracer("tests")
    with tracer.start_as_current_span("GET /basket"), tracer.start_as_current_span("SELECT"):
        pass
    provider.shutdown()
    child, root = memory.get_finished_spans()
    return f"{root.context.trace_id:032x}", root, child


class Written:
    """A remote-write endpoint that keeps headers and labels of what it is sent."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], list[dict[str, str]]]] = []

    def tenants(self) -> set[tuple[str | None, str | None, str | None]]:
        """The tenant by X-Scope-OrgID, that by each series' label, and the header that limits add."""
        return {
            (headers.get("x-scope-orgid"), labels.get("team"), headers.get("x-own"))
            for headers, series in self.requests
            for labels in series
        }


@contextmanager
def endpoint() -> Iterator[tuple[Written, str]]:
    written = Written()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            message = WriteRequest.FromString(bytes(cramjam.snappy.decompress_raw(body)))
            labels = [{label.name: label.value for label in series.labels} for series in message.timeseries]
            written.requests.append(({name.lower(): value for name, value in self.headers.items()}, labels))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield written, f"http://127.0.0.1:{server.server_port}/api/v1/write"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def limits(file: Path, **changes: Any) -> None:
    """Write the file of tenants in one step; a and b make series, `changes` are further limits of a."""
    ample = {"rate_limit_bytes": 1_000_000_000, "burst_size_bytes": 1_000_000_000}

    def entry(name: str) -> dict[str, Any]:
        generator = {"processors": ["span-metrics"], "remote_write_headers": {"X-Own": name}}
        return {"ingestion": ample, "metrics_generator": generator}

    new = file.with_name("new")
    new.write_text(yaml.safe_dump({"overrides": {"team-a": entry("a") | changes, "team-b": entry("b")}}))
    new.replace(file)


def ask(server: Server, path: str, tenant: str | None = None, **arguments: Any) -> httpx.Response:
    headers = {} if tenant is None else {"X-Scope-OrgID": tenant}
    return httpx.get(server.http + path, headers=headers, **arguments)


def spans_of(reply: httpx.Response) -> list[str]:
    assert reply.status_code == 200, reply.text
    batches = reply.json()["batches"]
    return sorted(span["name"] for batch in batches for scoped in batch["scopeSpans"] for span in scoped["spans"])


def export_code(server: Server, metadata: list[tuple[str, str]]) -> tuple[str, str]:
    with grpc.insecure_channel(server.otlp_grpc) as channel:
        try:
            channel.unary_unary(EXPORT)(b"", metadata=metadata, timeout=20)
        except grpc.RpcError as error:
            return error.code().name, error.details()
    return "OK", ""


def test_tenants(tmp_path: Path) -> None:
    file = tmp_path / "tenants.yaml"
    limits(file)
    with endpoint() as (written, url):
        settings = {
            "multitenancy_enabled": True,
            "metrics_generator": {
                "registry": {"collection_interval": "100ms", "inject_tenant_id_as": "team"},
                "storage": {"path": str(tmp_path / "generator"), "remote_write": [{"url": url}]},
            },
            "overrides": {"per_tenant_override_config": str(file), "per_tenant_override_period": "50ms"},
        }
        with Server(tmp_path / "server", settings) as server:
            check_separation(server)
            eventually(
                lambda: written.tenants() == {("team-a", "team-a", "a"), ("team-b", "team-b", "b")},
                "series of both tenants, each under its own name",
            )
            check_limits(server, file)
            assert server.stop() == 0


def check_separation(server: Server) -> None:
    trace_id, root, child = trace()
    a = HttpExporter(f"{server.otlp_http}/v1/traces", headers={"X-Scope-OrgID": "team-a"})
    b = GrpcExporter(server.otlp_grpc, insecure=True, headers={"x-scope-orgid": "team-b"})
    assert [a.export([root]), b.export([child])] == [SUCCESS, SUCCESS]

    path = f"/api/traces/{trace_id}"
    assert spans_of(ask(server, path, "team-a")) == ["GET /basket"]
    assert spans_of(ask(server, path, "team-b")) == ["SELECT"]
    assert spans_of(ask(server, path, "team-b|team-a")) == ["GET /basket", "SELECT"]
    assert ask(server, path, "team-c").status_code == 404
    assert (ask(server, path).status_code, ask(server, path).text) == (401, "no org id")
    (found,) = ask(server, "/api/search", "team-a|team-b", params={"q": "{ }"}).json()["traces"]
    assert (found["rootTraceName"], found["spanSet"]["matched"]) == ("GET /basket", 2)
    counted = ask(server, "/api/metrics/query", "team-a|team-b", params={"q": "{ } | count_over_time()"}).json()
    assert [series["value"] for series in counted["series"]] == [2]
    names = ask(server, "/api/search/tag/name/values", "team-a|team-b").json()["tagValues"]
    assert sorted(names) == ["GET /basket", "SELECT"]
    refused = ask(server, "/api/metrics/summary", "team-a|team-b", params={"q": "{ }", "groupBy": "name"})
    assert (refused.status_code, refused.text) == (400, "multi-tenant query unsupported")

    nobody = httpx.post(f"{server.otlp_http}/v1/traces", headers=PROTOBUF, content=b"")
    assert (nobody.status_code, b"no org id" in nobody.content) == (401, True)
    several = httpx.post(f"{server.otlp_http}/v1/traces", headers={**PROTOBUF, "X-Scope-OrgID": "a|b"}, content=b"")
    assert several.status_code == 400
    assert export_code(server, []) == ("UNAUTHENTICATED", "no org id")
    assert export_code(server, [("x-scope-orgid", "a/b")])[0] == "INVALID_ARGUMENT"
    assert export_code(server, [("x-scope-orgid", "team-c")])[0] == "OK"
    a.shutdown()
    b.shutdown()


def check_limits(server: Server, file: Path) -> None:
    """Retention and rate of one tenant change while the server runs; the other keeps its own."""
    assert ask(server, "/flush").status_code == 204

    def kept() -> set[str]:
        return {block.parent.name for block in server.blocks()}

    assert kept() == {"team-a", "team-b"}
    limits(file, ingestion={"rate_limit_bytes": 1, "burst_size_bytes": 1}, compaction={"block_retention": "1s"})
    eventually(lambda: kept() == {"team-b"}, "the blocks of team-a are too old")
    content = b"\x0a\x00" * 10
    replies = {
        tenant: httpx.post(
            f"{server.otlp_http}/v1/traces", headers={**PROTOBUF, "X-Scope-OrgID": tenant}, content=content
        ).status_code
        for tenant in ("team-a", "team-b")
    }
    assert replies == {"team-a": 413, "team-b": 200}


def test_without_multi_tenancy_the_header_means_nothing(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        trace_id, root, _ = trace()
        exporter = HttpExporter(f"{server.otlp_http}/v1/traces", headers={"X-Scope-OrgID": "team-a"})
        assert exporter.export([root]) is SUCCESS
        exporter.shutdown()
        for tenant in (None, "team-b", "../.."):
            assert spans_of(ask(server, f"/api/traces/{trace_id}", tenant)) == ["GET /basket"]


SECRETS = ("collector-password", "sender-token", "viewer-password")


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Server]:
    """A server with TLS on its receivers and credentials on both sides."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    tls = {"cert_file": str(tmp_path / "server.pem"), "key_file": str(tmp_path / "server.pem")}
    (tmp_path / "token").write_text(f"{SECRETS[1]}\n")
    settings = {
        "distributor": {"receivers": {"otlp": {"protocols": {"grpc": {"tls": tls}, "http": {"tls": tls}}}}},
        "access": {
            "ingest": {
                "users": [{"name": "collector", "password": SECRETS[0]}],
                "tokens": [{"token_file": str(tmp_path / "token")}],
            },
            "query": {"users": [{"name": "viewer", "password": SECRETS[2]}], "open_paths": ["/ready", "/metrics"]},
        },
    }
    with Server(tmp_path / "server", settings) as server:
        yield server


def test_credentials(guarded: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # requests prefers these to the file that it is given
        monkeypatch.delenv(name, raising=False)
    trace_id, root, _ = trace()
    viewer = ("viewer", SECRETS[2])
    basic = httpx.BasicAuth("collector", SECRETS[0])._auth_header
    headers = [f"Bearer {SECRETS[1]}", basic, "Bearer wrong", None]
    exporters = [exporter for value in headers for exporter in exporters_of(guarded, tmp_path / "ca.pem", value)]
    assert [exporter.export([root]) for exporter in exporters] == [SUCCESS] * 4 + [FAILURE] * 4
    for exporter in exporters:
        exporter.shutdown()

    path = f"/api/traces/{trace_id}"
    assert spans_of(ask(guarded, path, auth=viewer)) == ["GET /basket"]
    for wrong in (None, ("collector", SECRETS[0]), ("viewer", "wrong")):
        reply = ask(guarded, path, auth=wrong)
        assert (reply.status_code, reply.headers["WWW-Authenticate"]) == (401, 'Basic realm="vivace"')
    opened = {path: ask(guarded, path).status_code for path in ("/ready", "/metrics", "/status", "/api/echo", "/flush")}
    assert opened == {"/ready": 200, "/metrics": 200, "/status": 401, "/api/echo": 401, "/flush": 401}

    shown = ask(guarded, "/status/config", auth=viewer).text + guarded.log()
    assert "<secret>" in shown
    assert [secret for secret in SECRETS if secret in shown] == []

    (tmp_path / "new").write_text("another-token")
    (tmp_path / "new").replace(tmp_path / "token")
    http, _ = exporters_of(guarded, tmp_path / "ca.pem", "Bearer another-token")
    eventually(lambda: http.export([root]) is SUCCESS, "the new token is known")
    http.shutdown()


def exporters_of(server: Server, ca: Path, authorization: str | None) -> tuple[SpanExporter, SpanExporter]:
    """One for OTLP/HTTP, one for OTLP/gRPC."""
    headers = {} if authorization is None else {"authorization": authorization}
    address = server.otlp_http.replace("http://", "https://")
    channel = grpc.ssl_channel_credentials(ca.read_bytes())
    return (
        HttpExporter(f"{address}/v1/traces", headers=headers, certificate_file=str(ca)),
        GrpcExporter(server.otlp_grpc, credentials=channel, headers=headers, timeout=20),
    )
