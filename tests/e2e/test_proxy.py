"""Clients through an HTTP reverse proxy with TLS: what they send, ask and are refused is what it is without one.

The proxy's hosts are those of deploy/kubernetes/ingress-*.yaml, each on a port of its own: the whole of a host goes to one port of
the server, its path as it is. As there, gRPC is passed on as HTTP/2 and all else as HTTP/1.1, and nothing is held back on the way.
"""

from __future__ import annotations

import gzip
import json
import random
import re
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import grpc
import ngh2
import pytest
import trustme
import yaml
from google.protobuf import json_format
from google.rpc import status_pb2
from nginx import Nginx
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from server import Server

from vivace.model.proto import tempopb_pb2 as pb

INGRESSES = sorted((Path(__file__).parents[2] / "deploy/kubernetes").glob("ingress-*.yaml"))
TIMEOUT_SECONDS = 30.0
HTTP_API, GRPC_API, OTLP_GRPC, OTLP_HTTP = 3200, 9095, 4317, 4318

PASSED_ON = """
    client_max_body_size 0;
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
    proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme;
    proxy_request_buffering off; proxy_buffering off;
"""

COLLECTOR = {
    "User-Agent": "OpenTelemetry Collector Contrib/0.139.0 (linux/amd64)",
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "gzip",
    "Accept-Encoding": "gzip",
}
"""What the Collector, and Alloy with it, sends with every request."""

GRAFANA = {"User-Agent": "Grafana/12.2.0", "Accept-Encoding": "gzip"}

NOW = int(time.time())
AROUND = f"start={NOW - 600}&end={NOW + 600}"


@dataclass
class Proxied:
    """A server, and the nginx before it. `ports` has a host of each ingress, and hosts that show more of nginx."""

    server: Server
    ports: dict[str, int]
    ca_file: Path
    trust: ssl.SSLContext = field(init=False)

    def __post_init__(self) -> None:
        self.trust = ssl.create_default_context(cafile=str(self.ca_file))

    def ask(
        self, host: str, path: str, headers: dict[str, str] = GRAFANA, body: Any = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers with their names in lower case, and body as it came. A body that is an iterator goes in chunks."""
        connection = HTTPSConnection("127.0.0.1", self.ports[host], context=self.trust, timeout=TIMEOUT_SECONDS)
        with closing(connection):
            connection.request("GET" if body is None else "POST", path, body, headers)
            reply = connection.getresponse()
            return reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read()

    def post_over_http2(self, host: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        """As Go's clients do, which take HTTP/2 wherever TLS offers it."""
        trust = ssl.create_default_context(cafile=str(self.ca_file))
        trust.set_alpn_protocols(["h2", "http/1.1"])
        with (
            socket.create_connection(("127.0.0.1", self.ports[host]), TIMEOUT_SECONDS) as plain,
            trust.wrap_socket(plain, server_hostname="127.0.0.1") as tls,
        ):
            assert tls.selected_alpn_protocol() == "h2"
            http2 = ngh2.Connection(ngh2.Role.CLIENT, ngh2.Configuration())
            http2.initiate_connection({})
            target = {":method": "POST", ":scheme": "https", ":authority": "127.0.0.1", ":path": path}
            fields = [(k.lower().encode(), v.encode()) for k, v in (target | headers).items()]
            stream = http2.send_request(fields, end_stream=False)
            http2.send_data(stream, body, end_stream=True)
            status, answer = 0, b""
            while True:
                tls.sendall(http2.data_to_send())
                http2.receive_data(tls.recv(1 << 16))
                for event in http2.events():
                    match event:
                        case ngh2.ResponseReceived():
                            status = int(dict(event.headers)[b":status"])
                        case ngh2.DataReceived():
                            answer += event.data
                        case ngh2.StreamClosed():
                            return status, answer

    def channel(self, host: str) -> grpc.Channel:
        credentials = grpc.ssl_channel_credentials(self.ca_file.read_bytes())
        return grpc.secure_channel(f"127.0.0.1:{self.ports[host]}", credentials)


def ingress_servers() -> dict[str, str]:
    """What the ingresses of the deployment say, in nginx's words."""
    servers = {}
    for path in INGRESSES:
        spec = yaml.safe_load(path.read_text())["spec"]
        ((name,),) = (tls["hosts"] for tls in spec["tls"])
        locations = []
        for rule in (p for r in spec["rules"] for p in r["http"]["paths"]):
            assert rule["pathType"] == "Prefix"
            port = rule["backend"]["service"]["port"]["number"]
            locations.append(f"location {rule['path']} {{ proxy_pass http://http_{port}; }}")
            locations.append(f"location {rule['path']}tempopb. {{ grpc_pass grpc://grpc_{port}; }}")
        servers[name] = PASSED_ON + "\n".join(locations)
    return servers


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    tmp_path = tmp_path_factory.mktemp("proxy")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with Server(tmp_path / "server", {"stream_over_http_enabled": True}) as server:
        grpc_port = re.search(r"gRPC on port (\d+)", server.log())
        assert grpc_port is not None
        addresses = {
            HTTP_API: server.http.removeprefix("http://"),
            GRPC_API: f"127.0.0.1:{grpc_port[1]}",
            OTLP_GRPC: server.otlp_grpc,
            OTLP_HTTP: server.otlp_http.removeprefix("http://"),
        }
        upstreams = "".join(  # connections that are kept speak one protocol
            f"upstream {protocol}_{port} {{ server {address}; keepalive 4; }}\n"
            for port, address in addresses.items()
            for protocol in ("http", "grpc")
        )
        servers = ingress_servers() | {
            "grpc": "client_max_body_size 0; location / { grpc_pass grpc://grpc_9095; }",
            "otlp-grpc": "client_max_body_size 0; location / { grpc_pass grpc://grpc_4317; }",
        }
        certificate = authority.issue_cert("127.0.0.1")
        with Nginx(tmp_path / "nginx", certificate, servers, upstreams=upstreams) as nginx:
            yield Proxied(server, nginx.ports, tmp_path / "ca.pem")
            assert "[error]" not in nginx.log()


def test_the_ingresses(proxied: Proxied) -> None:
    """That there are two, for otherwise the tests below are of something else."""
    assert ingress_servers().keys() == {"tempo", "tempo-otlp"}
    assert proxied.ask("tempo", "/ready")[::2] == (200, b"ready\n")


# -- sending ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_sdk(proxied: Proxied, protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The OpenTelemetry SDK with TLS and gzip. Its spans are there when its call returns."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # requests trusts these before what the SDK tells it
        monkeypatch.delenv(name, raising=False)
    if protocol == "http":
        endpoint = f"https://127.0.0.1:{proxied.ports['tempo-otlp']}/v1/traces"
        exporter = HttpExporter(endpoint, certificate_file=str(proxied.ca_file), compression=Compression.Gzip)
    else:
        exporter = GrpcExporter(
            f"https://127.0.0.1:{proxied.ports['otlp-grpc']}",
            credentials=grpc.ssl_channel_credentials(proxied.ca_file.read_bytes()),
            compression=grpc.Compression.Gzip,
        )
    provider = TracerProvider(resource=Resource({"service.name": f"sdk over {protocol}"}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with provider.get_tracer("checkout").start_as_current_span("GET /cart") as span:
        span.set_attribute("cart", "x" * 5000)
    provider.shutdown()
    status, _, body = proxied.ask("tempo", f"/api/v2/traces/{span.get_span_context().trace_id:032x}", {})
    assert status == 200
    (group,) = json.loads(body)["trace"]["resourceSpans"]
    assert {"key": "service.name", "value": {"stringValue": f"sdk over {protocol}"}} in group["resource"]["attributes"]
    assert [s["name"] for s in group["scopeSpans"][0]["spans"]] == ["GET /cart"]


def export_request(service: str, trace_id: bytes, count: int = 64, noise_bytes: int = 8) -> bytes:
    """`count` spans of now, with enough text that answers about them are worth compressing, and noise that is not."""
    message = ExportTraceServiceRequest()
    group = message.resource_spans.add()
    group.resource.attributes.add(key="service.name").value.string_value = service
    spans = group.scope_spans.add()
    for number in range(count):
        span = spans.spans.add(
            trace_id=trace_id, span_id=(number + 1).to_bytes(8, "big"), name=f"GET /{service}/{number}"
        )
        span.start_time_unix_nano = NOW * 10**9 + number
        span.end_time_unix_nano = span.start_time_unix_nano + 1_000_000
        span.attributes.add(key="http/route").value.string_value = f"/{service}/{number:030}"
        span.attributes.add(key="noise").value.bytes_value = random.Random(number).randbytes(noise_bytes)
    return message.SerializeToString()


def pieces(body: bytes) -> Iterator[bytes]:
    """For a body that goes in chunks, without a Content-Length."""
    for start in range(0, len(body), 1000):
        yield body[start : start + 1000]


@pytest.mark.parametrize("how", ["http1", "http1 in chunks", "http2"])
def test_collector(proxied: Proxied, how: str) -> None:
    """What an agent sends, and all that Grafana asks about it: through the proxy as without, compressed where it is large."""
    service, trace_id = f"collector-{how}".replace(" ", "-"), how.encode().ljust(16, b"\1")[:16]
    body = gzip.compress(export_request(service, trace_id))
    if how == "http2":
        status, answer = proxied.post_over_http2("tempo-otlp", "/v1/traces", COLLECTOR, body)
    else:
        sent = pieces(body) if how.endswith("chunks") else body
        status, headers, answer = proxied.ask("tempo-otlp", "/v1/traces", COLLECTOR, sent)
        assert headers["content-type"] == "application/x-protobuf"
    assert status == 200
    assert not ExportTraceServiceResponse.FromString(answer).partial_success.rejected_spans

    query = f"%7Bresource.service.name%3D%22{service}%22%7D"
    questions = {
        f"/api/v2/traces/{trace_id.hex()}": "trace",
        f"/api/traces/{trace_id.hex()}": "batches",
        f"/api/search?q={query}&limit=5&spss=100&{AROUND}": "traces",
        f"/api/v2/search/tag/span.http%2Froute/values?q={query}&{AROUND}": "tagValues",
        f"/api/metrics/query_range?q={query}%7Crate()by(name)&{AROUND}&step=60": "series",
        f"/api/v2/search/tags?{AROUND}": "scopes",
    }
    for path, key in questions.items():
        status, headers, body = proxied.ask("tempo", path)
        assert (status, headers["content-type"], headers["vary"]) == (200, "application/json", "Accept-Encoding"), path
        if key != "scopes":  # few names, below what is worth it
            assert headers["content-encoding"] == "gzip", path
            body = gzip.decompress(body)
        found, direct = json.loads(body)[key], json.loads(proxied.server.get(path)[1])[key]
        assert found, path
        assert sorted(found, key=repr) == sorted(direct, key=repr), path
    assert service in str(json.loads(gzip.decompress(proxied.ask("tempo", f"/api/v2/traces/{trace_id.hex()}")[2])))


def test_large_requests(proxied: Proxied) -> None:
    """Far more than nginx itself takes by default; what is over the server's limit is refused in the server's words."""
    trace_id = bytes(range(16))
    large = export_request("large", trace_id, count=1000, noise_bytes=8000)
    status, _, answer = proxied.ask("tempo-otlp", "/v1/traces", COLLECTOR, gzip.compress(large, 1))
    assert (status, len(large) > 8_000_000) == (200, True), answer
    _, _, body = proxied.ask("tempo", f"/api/traces/{trace_id.hex()}", {"Accept": "application/protobuf"})
    assert len(body) > 8_000_000
    too_large = gzip.compress(export_request("large", trace_id, count=3000, noise_bytes=8000), 1)
    status, _, answer = proxied.ask("tempo-otlp", "/v1/traces", COLLECTOR, too_large)
    assert (status, "too large" in status_pb2.Status.FromString(answer).message) == (400, True), answer[:300]
    assert proxied.ask("tempo", "/ready")[0] == 200


REFUSED = [
    ("tempo", "/api/search?q=%7B", 400, b"invalid TraceQL query: "),
    ("tempo", "/api/traces/0123", 404, b""),
    ("tempo", "/api/nowhere", 404, b"404 page not found\n"),
    ("tempo-otlp", "/v1/traces", 405, b"405 method not allowed"),
]


@pytest.mark.parametrize(("host", "path", "status", "text"), REFUSED)
def test_refusals(proxied: Proxied, host: str, path: str, status: int, text: bytes) -> None:
    found, _, body = proxied.ask(host, path)
    assert found == status
    assert body.startswith(text)


# -- gRPC -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["tempo", "grpc"])
def test_streaming_search(proxied: Proxied, host: str) -> None:
    """Grafana's search, through the ingress of 3200 as its data source does, and before 9095."""
    trace_id = bytes(15) + b"\7"
    proxied.ask("tempo-otlp", "/v1/traces", COLLECTOR, gzip.compress(export_request("streamed", trace_id)))
    with proxied.channel(host) as channel:
        search = channel.unary_stream(
            "/tempopb.StreamingQuerier/Search", response_deserializer=pb.SearchResponse.FromString
        )
        asked = pb.SearchRequest(
            Query='{ resource.service.name = "streamed" }', Limit=5, start=NOW - 600, end=NOW + 600, SpansPerSpanSet=3
        )
        *_, last = search(asked.SerializeToString(), timeout=TIMEOUT_SECONDS)
        (trace,) = json_format.MessageToDict(last)["traces"]
        assert (trace["traceID"], trace["spanSets"][0]["matched"]) == ("7", 64)
        with pytest.raises(grpc.RpcError) as refused:
            list(search(pb.SearchRequest(Query="{ größe").SerializeToString(), timeout=TIMEOUT_SECONDS))
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert refused.value.details().startswith("invalid TraceQL query: ")
        with pytest.raises(grpc.RpcError) as refused:
            list(channel.unary_stream("/tempopb.StreamingQuerier/Nothing")(b"", timeout=TIMEOUT_SECONDS))
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


# -- a path prefix ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix_is_kept", [True, False])
def test_a_path_prefix(tmp_path: Path, prefix_is_kept: bool) -> None:
    """Below a path of a host with other things on it: the proxy takes the path off, or the server knows of it."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with Server(tmp_path / "server", {"http_api_prefix": "/tracing"} if prefix_is_kept else {}) as server:
        servers = {
            "api": PASSED_ON + f"location /tracing/ {{ proxy_pass {server.http}{'' if prefix_is_kept else '/'}; }}",
            "otlp": PASSED_ON + f"location /send/ {{ proxy_pass {server.otlp_http}/; }}",
        }
        with Nginx(tmp_path / "nginx", authority.issue_cert("127.0.0.1"), servers) as nginx:
            proxied = Proxied(server, nginx.ports, tmp_path / "ca.pem")
            request = gzip.compress(export_request("prefixed", b"\5" * 16))
            assert proxied.ask("otlp", "/send/v1/traces", COLLECTOR, request)[0] == 200
            for path in (
                f"traces/{'05' * 16}",
                "search?spss=100&q=%7Bname%3D~%22.*%22%7D",
                "search/tag/http%2Froute/values",
            ):
                status, headers, body = proxied.ask("api", f"/tracing/api/{path}")
                assert (status, headers["content-encoding"]) == (200, "gzip"), path
                assert b"prefixed" in gzip.decompress(body), path
            assert proxied.ask("api", "/tracing/api/echo")[::2] == (200, b"echo\n")
            assert proxied.ask("api", "/tracing/api/search/nothing")[0] == 404
            assert server.get("/api/echo")[0] == (404 if prefix_is_kept else 200)
            assert "[error]" not in nginx.log()
