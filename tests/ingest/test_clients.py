"""The exporters that people use, against the receivers over a real socket: what they sent is what arrived.

The receiver runs on its own thread's event loop, since the Python exporters block.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
import uvloop
from google.protobuf.json_format import MessageToDict
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from receiver_doubles import Certificates, MemoryCommitter

from vivace.errors import ConfigError, UnavailableError
from vivace.ingest.accept import Accepted
from vivace.ingest.otlp_grpc import GrpcReceiver
from vivace.ingest.otlp_http import HttpReceiver
from vivace.model.proto.otlp_pb2 import Span
from vivace.tls import TlsOptions

ROOT = Path(__file__).parents[2]
JS = Path(__file__).parent / "js"

Receiver = GrpcReceiver | HttpReceiver


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("certificates"))


@contextlib.contextmanager
def served(receiver: Receiver) -> Iterator[int]:
    """Run a receiver on a thread of its own; yield its port."""
    stop = threading.Event()
    started: list[int | BaseException] = []
    ready = threading.Event()

    async def serve() -> None:
        try:
            await receiver.start()
        except BaseException as error:
            started.append(error)
            ready.set()
            return
        started.append(receiver.port)
        ready.set()
        await asyncio.to_thread(stop.wait)
        await receiver.stop(5)

    thread = threading.Thread(target=lambda: uvloop.run(serve()))
    thread.start()
    ready.wait(10)
    try:
        if isinstance(started[0], BaseException):
            raise started[0]
        yield started[0]
    finally:
        stop.set()
        thread.join(10)
        assert not thread.is_alive()


def finished_spans() -> list:
    """A trace with every kind of attribute, an event, a link and a status."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "shop", "replicas": 3}))
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracer = provider.get_tracer("tracer", "1.2.3", attributes={"scope.key": True})
    linked = SpanContext(0xABC, 0xDEF, is_remote=True, trace_flags=TraceFlags(1))
    with tracer.start_as_current_span(
        "GET /basket",
        kind=SpanKind.SERVER,
        attributes={
            "text": "žluťoučký",
            "whole": -(2**63),
            "fraction": 2.5,
            "yes": True,
            "texts": ["a", "b"],
            "numbers": [1, 2],
            "fractions": [0.5],
            "booleans": [True, False],
        },
        links=[Link(linked, {"reason": "retry"})],
    ) as root:
        root.add_event("cache miss", {"key": "basket:7"}, timestamp=1_700_000_000_000_000_001)
        with tracer.start_as_current_span("SELECT", kind=SpanKind.CLIENT) as child:
            child.set_status(Status(StatusCode.ERROR, "deadlock"))
    provider.shutdown()
    return list(memory.get_finished_spans())


def check_arrived(committer: MemoryCommitter) -> None:
    (request,) = committer.requests()
    (resource_spans,) = request.resource_spans
    assert values(resource_spans.resource.attributes) == {"service.name": "shop", "replicas": 3}
    (scope_spans,) = resource_spans.scope_spans
    assert (scope_spans.scope.name, scope_spans.scope.version) == ("tracer", "1.2.3")
    child, root = scope_spans.spans
    assert (root.name, root.kind, len(root.trace_id), len(root.span_id)) == (
        "GET /basket",
        Span.SPAN_KIND_SERVER,
        16,
        8,
    )
    assert child.parent_span_id == root.span_id
    assert (child.status.code, child.status.message) == (2, "deadlock")
    assert values(root.attributes) == {
        "text": "žluťoučký",
        "whole": -(2**63),
        "fraction": 2.5,
        "yes": True,
        "texts": ["a", "b"],
        "numbers": [1, 2],
        "fractions": [0.5],
        "booleans": [True, False],
    }
    (event,) = root.events
    assert (event.name, event.time_unix_nano) == ("cache miss", 1_700_000_000_000_000_001)
    assert values(event.attributes) == {"key": "basket:7"}
    (link,) = root.links
    assert (link.trace_id, link.span_id) == ((0xABC).to_bytes(16, "big"), (0xDEF).to_bytes(8, "big"))
    assert values(link.attributes) == {"reason": "retry"}


def values(attributes: object) -> dict[str, object]:
    """Attributes as plain values; 64-bit numbers come out of the JSON mapping as text, so they are made numbers."""

    def plain(value: dict) -> object:
        ((kind, content),) = value.items()
        if kind == "arrayValue":
            return [plain(item) for item in content["values"]]
        return int(content) if kind == "intValue" else content

    return {attribute.key: plain(MessageToDict(attribute.value)) for attribute in attributes}


def exporter_of(kind: str, port: int, scheme: str = "http", **options: object) -> SpanExporter:
    if kind == "grpc":
        return GrpcExporter(endpoint=f"{scheme}://localhost:{port}", timeout=5, **options)
    return HttpExporter(endpoint=f"{scheme}://localhost:{port}/v1/traces", timeout=5, **options)


def receiver_of(kind: str, committer: MemoryCommitter, tls: TlsOptions | None = None) -> Receiver:
    return (GrpcReceiver if kind == "grpc" else HttpReceiver)(committer, "localhost:0", tls=tls)


GZIP = {"grpc": grpc.Compression.Gzip, "http": Compression.Gzip}
kinds = pytest.mark.parametrize("kind", ["grpc", "http"])


@kinds
@pytest.mark.parametrize("gzip", [False, True], ids=["plain", "gzip"])
def test_python_sdk(kind: str, gzip: bool) -> None:
    committer = MemoryCommitter()
    with served(receiver_of(kind, committer)) as port:
        exporter = exporter_of(kind, port, **({"compression": GZIP[kind]} if gzip else {}))
        assert exporter.export(finished_spans()) is SpanExportResult.SUCCESS
        exporter.shutdown()
    check_arrived(committer)


@kinds
def test_python_sdk_sends_again_when_told(kind: str) -> None:
    class Recovering(MemoryCommitter):
        async def submit(self, tenant: str, body: bytes) -> Accepted:
            self.fate = UnavailableError("starting", retry_after_seconds=0.05) if not self.bodies else None
            return await super().submit(tenant, body)

    committer = Recovering()
    with served(receiver_of(kind, committer)) as port:
        exporter = exporter_of(kind, port)
        assert exporter.export(finished_spans()) is SpanExportResult.SUCCESS
        exporter.shutdown()
    assert len(committer.bodies) == 2


@kinds
def test_one_exporter_for_long_and_many_at_once(kind: str) -> None:
    committer = MemoryCommitter()
    spans = finished_spans()

    def export(exporter: SpanExporter, times: int) -> None:
        for _ in range(times):
            assert exporter.export(spans) is SpanExportResult.SUCCESS

    with served(receiver_of(kind, committer)) as port, ThreadPoolExecutor(50) as pool:
        exporters = [exporter_of(kind, port) for _ in range(50)]
        list(pool.map(export, exporters, [50] + [2] * 49))
        for exporter in exporters:
            exporter.shutdown()
    assert len(committer.spans) == 2 * (50 + 2 * 49)


# TLS


def tls_exporter(kind: str, port: int, certificates: Certificates, *, with_client_certificate: bool) -> SpanExporter:
    client = (certificates.client_cert_file, certificates.client_key_file) if with_client_certificate else None
    if kind == "grpc":
        key = Path(client[1]).read_bytes() if client else None
        chain = Path(client[0]).read_bytes() if client else None
        credentials = grpc.ssl_channel_credentials(Path(certificates.ca_file).read_bytes(), key, chain)
        return exporter_of(kind, port, "https", credentials=credentials)
    options = {"client_certificate_file": client[0], "client_key_file": client[1]} if client else {}
    return exporter_of(kind, port, "https", certificate_file=certificates.ca_file, **options)


@kinds
@pytest.mark.parametrize("mutual", [False, True], ids=["tls", "mtls"])
def test_tls(kind: str, mutual: bool, certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    # requests, under the HTTP exporter, prefers these to the certificate_file that it is given.
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    committer = MemoryCommitter()
    with served(receiver_of(kind, committer, certificates.tls(mutual=mutual))) as port:
        exporter = tls_exporter(kind, port, certificates, with_client_certificate=mutual)
        assert exporter.export(finished_spans()) is SpanExportResult.SUCCESS
        exporter.shutdown()
    check_arrived(committer)


@kinds
def test_mtls_wants_a_certificate(kind: str, certificates: Certificates) -> None:
    """Checked at the socket: exporters would try again and again."""
    context = ssl.create_default_context(cafile=certificates.ca_file)
    context.set_alpn_protocols(["h2", "http/1.1"])
    with served(receiver_of(kind, MemoryCommitter(), certificates.tls(mutual=True))) as port:

        async def talk() -> bytes:
            reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            try:
                return await reader.read()
            except (ssl.SSLError, ConnectionError):
                return b""  # with TLS 1.3 the refusal may come as an alert or as a plain end
            finally:
                writer.close()

        assert asyncio.run(talk()) == b""


def test_pem_text_serves_as_well_as_files(certificates: Certificates) -> None:
    committer = MemoryCommitter()
    tls = TlsOptions(
        cert_pem=Path(certificates.cert_file).read_text(),
        key_pem=Path(certificates.key_file).read_text(),
        client_ca_pem=Path(certificates.ca_file).read_text(),
        min_version="1.3",
    )
    with served(GrpcReceiver(committer, "localhost:0", tls=tls)) as port:
        exporter = tls_exporter("grpc", port, certificates, with_client_certificate=True)
        assert exporter.export(finished_spans()) is SpanExportResult.SUCCESS
        exporter.shutdown()
    check_arrived(committer)


def test_tls_blocks_that_cannot_be(certificates: Certificates, tmp_path: Path) -> None:
    cert, key, garbage = certificates.cert_file, certificates.key_file, tmp_path / "garbage.pem"
    garbage.write_text("not PEM")
    cases = [
        (TlsOptions(cert_file=cert), "neither of tls.key_file and tls.key_pem set"),
        (TlsOptions(cert_file=cert, cert_pem="x", key_file=key), "both of tls.cert_file and tls.cert_pem set"),
        (TlsOptions(cert_file="/nowhere.pem", key_file=key), "cannot use the certificate /nowhere.pem with the key"),
        (TlsOptions(cert_file=cert, key_pem="not PEM"), "cannot use the certificate"),
        (TlsOptions(cert_file=cert, key_file=key, client_ca_file=str(garbage)), "cannot read client certificates'"),
        (TlsOptions(cert_file=cert, key_file=key, min_version="1.0"), "tls.min_version is '1.0', expected 1.2 or 1.3"),
    ]
    for options, words in cases:
        with pytest.raises(ConfigError) as refused:
            options.server_context(["h2"])
        assert words in str(refused.value)


# JavaScript


@pytest.fixture(scope="module")
def js_exporter() -> Path:
    """The script beside its installed packages, in a cache that outlives the run; made anew when the lock changes."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed, so the OpenTelemetry JavaScript exporter cannot be")
    version = hashlib.sha256((JS / "package-lock.json").read_bytes()).hexdigest()[:16]
    directory = ROOT / ".make" / "js" / version
    if not (directory / "installed").exists():
        directory.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(JS / name, directory)
        subprocess.run([npm, "ci", "--no-audit", "--no-fund"], cwd=directory, check=True, capture_output=True)
        (directory / "installed").touch()
    return Path(shutil.copy(JS / "export.mjs", directory))


@pytest.mark.parametrize(
    ("protocol", "compression"),
    [("http", "none"), ("http", "gzip"), ("proto", "none"), ("grpc", "none"), ("grpc", "gzip")],
)
def test_javascript_sdk(js_exporter: Path, protocol: str, compression: str) -> None:
    """`http` is the exporter that sends JSON; `grpc` brings an HTTP/2 and gRPC of its own, apart from grpcio's."""
    committer = MemoryCommitter()
    with served(receiver_of("grpc" if protocol == "grpc" else "http", committer)) as port:
        url = f"http://localhost:{port}" + ("" if protocol == "grpc" else "/v1/traces")
        command = ["node", str(js_exporter), protocol, url, compression]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)
    sent = json.loads(done.stdout)
    (request,) = committer.requests()
    (resource_spans,) = request.resource_spans
    assert values(resource_spans.resource.attributes)["service.name"] == "js-shop"
    (scope_spans,) = resource_spans.scope_spans
    assert (scope_spans.scope.name, scope_spans.scope.version) == ("js-tracer", "1.2.3")
    child, root = scope_spans.spans
    assert (root.trace_id.hex(), root.span_id.hex()) == (sent["trace"], sent["root"])
    assert child.parent_span_id == root.span_id
    assert (root.name, root.kind) == ("GET /basket", Span.SPAN_KIND_SERVER)
    assert root.start_time_unix_nano == 1_700_000_000_123_456_789
    assert root.end_time_unix_nano == 1_700_000_001_000_000_000
    assert values(root.attributes) == {
        "text": "žluťoučký",
        "whole": 42,
        "large": 2**53 - 1,
        "fraction": 2.5,
        "yes": True,
        "texts": ["a", "b"],
        "numbers": [1, 2],
    }
    assert (root.events[0].name, values(root.events[0].attributes)) == ("cache miss", {"key": "basket:7"})
    assert root.links[0].trace_id.hex() == "0af7651916cd43dd8448eb211c80319c"
    assert (child.kind, child.status.code, child.status.message) == (Span.SPAN_KIND_CLIENT, 2, "deadlock")


def test_the_lock_names_no_registry() -> None:
    text = (JS / "package-lock.json").read_text()
    assert '"resolved"' not in text
    assert "registry" not in text
