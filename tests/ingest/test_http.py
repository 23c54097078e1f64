"""The HTTP receiver: replies to the letter, encodings and bombs, broken and slow clients, CORS, stopping."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import signal
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import cramjam
import httpx
import pytest
from receiver_doubles import MemoryCommitter, run, serving, until

from vivace.access import Credentials, Guard, Secret
from vivace.errors import DecodeError, DiskFullError, LimitError, RequestError, UnavailableError
from vivace.ingest import compression
from vivace.ingest.accept import Accepted
from vivace.ingest.compression import decompress
from vivace.ingest.otlp_http import CorsOptions, HttpOptions, HttpReceiver
from vivace.model.proto.otlp_pb2 import ExportTraceServiceResponse
from vivace.model.proto.status_pb2 import Status
from vivace.model.tenant import one

PROTOBUF = {"Content-Type": "application/x-protobuf"}
JSON = {"Content-Type": "application/json"}
EMPTY_REQUEST = b'{"resourceSpans":[]}'


@contextlib.asynccontextmanager
async def client_of(receiver: HttpReceiver) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(receiver) as port, plain_client(port) as client:
        yield client


def plain_client(port: int) -> httpx.AsyncClient:
    """Without TLS, so without the 0.2 s of reading every known authority."""
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", verify=False, trust_env=False)


def receiver_of(committer: MemoryCommitter, options: HttpOptions | None = None) -> HttpReceiver:
    return HttpReceiver(committer, "127.0.0.1:0", options=options)


def exchange(
    committer: MemoryCommitter, method: str, path: str, options: HttpOptions | None = None, **request: Any
) -> httpx.Response:
    async def scenario() -> httpx.Response:
        async with client_of(receiver_of(committer, options)) as client:
            return await client.request(method, path, **request)

    return run(scenario())


# Answers

TEXT = "text/plain; charset=utf-8"
MEDIA = b"415 unsupported media type, supported: [application/json, application/x-protobuf]"
ANSWERS: dict[str, tuple[str, str, dict[str, str], bytes, tuple[int, str, bytes]]] = {
    "protobuf": ("POST", "/v1/traces", PROTOBUF, b"", (200, "application/x-protobuf", b"\x0a\x00")),
    "json": ("POST", "/v1/traces", JSON, EMPTY_REQUEST, (200, "application/json", b'{"partialSuccess":{}}')),
    "media type with parameters": (
        "POST", "/v1/traces", {"Content-Type": "Application/JSON; charset=utf-8"}, EMPTY_REQUEST,
        (200, "application/json", b'{"partialSuccess":{}}'),
    ),
    "query string": ("POST", "/v1/traces?x=1", PROTOBUF, b"", (200, "application/x-protobuf", b"\x0a\x00")),
    "no media type": ("POST", "/v1/traces", {}, b"", (415, TEXT, MEDIA)),
    "wrong media type": ("POST", "/v1/traces", {"Content-Type": "text/plain"}, b"", (415, TEXT, MEDIA)),
    "GET": ("GET", "/v1/traces", JSON, b"", (405, TEXT, b"405 method not allowed, supported: [POST]")),
    "PUT": ("PUT", "/v1/traces", JSON, b"", (405, TEXT, b"405 method not allowed, supported: [POST]")),
    "other path": ("POST", "/v1/metrics", PROTOBUF, b"", (404, TEXT, b"404 page not found\n")),
    "empty json": (
        "POST", "/v1/traces", JSON, b"",
        (400, "application/json", b'{"code":3,"message":"cannot read the body as JSON: Input is a zero-length, empty '
         b'document: line 1 column 1 (char 0)"}'),
    ),
    "unknown encoding": (
        "POST", "/v1/traces", {**JSON, "Content-Encoding": "br"}, b"x",
        (400, "application/json", b'{"code":3,"message":"unsupported Content-Encoding: br"}'),
    ),
    "unknown encoding, protobuf": (
        "POST", "/v1/traces", {**PROTOBUF, "Content-Encoding": "br"}, b"x",
        (400, "application/x-protobuf", Status(code=3, message="unsupported Content-Encoding: br").SerializeToString()),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_answers(name: str) -> None:
    method, path, headers, content, (status, media_type, body) = ANSWERS[name]
    reply = exchange(MemoryCommitter(), method, path, headers=headers, content=content)
    assert (reply.status_code, reply.headers["content-type"], reply.content) == (status, media_type, body)
    assert "server" not in reply.headers


def test_the_path_is_configurable() -> None:
    options = HttpOptions(traces_url_path="/otlp/traces")
    assert exchange(MemoryCommitter(), "POST", "/otlp/traces", options, headers=PROTOBUF).status_code == 200
    assert exchange(MemoryCommitter(), "POST", "/v1/traces", options, headers=PROTOBUF).status_code == 404


def test_rejected_spans_are_told() -> None:
    fate = Accepted(3, rejected=2, message="2 spans without a trace id")
    reply = exchange(MemoryCommitter(fate), "POST", "/v1/traces", headers=JSON, content=EMPTY_REQUEST)
    assert reply.status_code == 200
    assert reply.content == (b'{"partialSuccess":{"rejectedSpans":"2","errorMessage":"2 spans without a trace id"}}')
    reply = exchange(MemoryCommitter(fate), "POST", "/v1/traces", headers=PROTOBUF)
    partial = ExportTraceServiceResponse.FromString(reply.content).partial_success
    assert (partial.rejected_spans, partial.error_message) == (2, "2 spans without a trace id")


def limit_error(retry_after_seconds: float | None) -> LimitError:
    return LimitError("RATE_LIMITED", limit="l", allowed=1, seen=2, retry_after_seconds=retry_after_seconds)


# (error, HTTP status, code, Retry-After, message)
REFUSALS: list[tuple[Exception, int, int, str | None, str]] = [
    (DecodeError("bad tag", offset=7, field="spans"), 400, 3, None, "cannot decode spans at byte 7: bad tag"),
    (limit_error(1.2), 429, 8, "2", "RATE_LIMITED"),
    (limit_error(0.0), 429, 8, "1", "RATE_LIMITED"),
    (limit_error(None), 413, 8, None, "RATE_LIMITED"),
    (DiskFullError("disk is full"), 503, 14, "5", "disk is full"),
    (UnavailableError("starting"), 503, 14, "1", "starting"),
    (RequestError("no org id", status=401), 401, 16, None, "no org id"),
    (ValueError("secret"), 500, 13, None, "internal error, the server's log says more"),
]


@pytest.mark.parametrize(
    ("error", "http_status", "code", "retry", "message"), REFUSALS, ids=lambda case: str(case)[:30]
)
def test_refusals(error: Exception, http_status: int, code: int, retry: str | None, message: str) -> None:
    reply = exchange(MemoryCommitter(error), "POST", "/v1/traces", headers=JSON, content=EMPTY_REQUEST)
    assert reply.status_code == http_status
    assert reply.headers.get("retry-after") == retry
    assert json.loads(reply.content) == {"code": code, "message": message}
    reply = exchange(MemoryCommitter(error), "POST", "/v1/traces", headers=PROTOBUF)
    assert reply.status_code == http_status
    status = Status.FromString(reply.content)
    assert (status.code, status.message, len(status.details)) == (code, message, 1 if retry else 0)


def test_our_own_faults_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    exchange(MemoryCommitter(ValueError("secret")), "POST", "/v1/traces", headers=PROTOBUF)
    assert "secret" in caplog.text


def test_the_tenant_comes_from_the_callable() -> None:
    async def scenario() -> None:
        committer = MemoryCommitter()
        receiver = HttpReceiver(committer, "127.0.0.1:0", named=lambda header: header or "nobody")
        async with client_of(receiver) as client:
            await client.post("/v1/traces", headers={**PROTOBUF, "X-Scope-OrgID": "team-a"})
            await client.post("/v1/traces", headers=PROTOBUF)
        assert committer.tenants == ["team-a", "nobody"]

    run(scenario())


UNKNOWN = "found credentials that are not known here, expected Bearer in the Authorization header"


@pytest.mark.parametrize("media_type", ["application/x-protobuf", "application/json"])
def test_who_must_not_send_is_refused_before_the_body_is_kept(media_type: str) -> None:
    async def scenario() -> None:
        committer = MemoryCommitter()
        guard = Guard(Credentials(tokens=(Secret("here", text="t"),)))
        options = HttpOptions(max_request_body_size_bytes=10)
        receiver = HttpReceiver(committer, "127.0.0.1:0", options=options, named=one, guard=guard)
        async with client_of(receiver) as client:

            async def send(**headers: str) -> httpx.Response:
                return await client.post(
                    "/v1/traces", headers={"Content-Type": media_type, **headers}, content=b"x" * 1000
                )

            wrong, nobody = await send(Authorization="Bearer x"), await send(Authorization="Bearer t")
            assert (wrong.status_code, wrong.headers["WWW-Authenticate"]) == (401, 'Bearer realm="vivace"')
            assert (nobody.status_code, "WWW-Authenticate" in nobody.headers) == (401, False)
            for reply, message in ((wrong, UNKNOWN), (nobody, "no org id")):
                is_json = media_type == "application/json"
                assert (reply.json()["message"] if is_json else Status.FromString(reply.content).message) == message
        assert committer.bodies == []

    run(scenario())


def test_by_default_the_tenant_header_is_ignored() -> None:
    committer = MemoryCommitter()
    exchange(committer, "POST", "/v1/traces", headers={**PROTOBUF, "X-Scope-OrgID": "team-a"})
    assert committer.tenants == ["single-tenant"]


# Encodings

SPANS = b"spans and spans " * 5000
ENCODERS: dict[str, Callable[[bytes], Any]] = {
    "": bytes,
    "identity": bytes,
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "deflate": zlib.compress,
    "snappy": cramjam.snappy.compress_raw,
    "x-snappy-framed": cramjam.snappy.compress,
    "zstd": cramjam.zstd.compress,
    "lz4": cramjam.lz4.compress,
}
COMPRESSED = [name for name in ENCODERS if name not in ("", "identity")]


@pytest.mark.parametrize("encoding", ENCODERS)
@pytest.mark.parametrize("spans", [SPANS, bytes(range(256)) * 400, b"x"], ids=["repeated", "long", "short"])
def test_encodings(encoding: str, spans: bytes) -> None:
    committer = MemoryCommitter(Accepted(1))
    headers = {**PROTOBUF, "Content-Encoding": encoding} if encoding else PROTOBUF
    content = bytes(ENCODERS[encoding](spans))
    assert exchange(committer, "POST", "/v1/traces", headers=headers, content=content).status_code == 200
    assert committer.bodies == [spans]


def test_long_bodies_are_inflated_off_the_loop() -> None:
    noise = b"".join(number.to_bytes(4, "big") for number in range(3**10))
    content = gzip.compress(noise)
    assert len(content) > compression.INLINE_BYTES_MAX
    committer = MemoryCommitter(Accepted(1))
    exchange(committer, "POST", "/v1/traces", headers={**PROTOBUF, "Content-Encoding": "GZIP"}, content=content)
    assert committer.bodies == [noise]


@pytest.mark.parametrize("encoding", COMPRESSED)
def test_the_bound_is_exact(encoding: str) -> None:
    content = bytes(ENCODERS[encoding](SPANS))
    assert decompress(content, encoding, len(SPANS)) == SPANS
    with pytest.raises(LimitError, match=f"exceeds {len(SPANS) - 1} bytes"):
        decompress(content, encoding, len(SPANS) - 1)


@pytest.mark.parametrize("encoding", COMPRESSED)
def test_damaged_bodies(encoding: str) -> None:
    content = bytes(ENCODERS[encoding](SPANS))
    damaged = [b"", content[:-1], content[: len(content) // 2], b"\x01\x02garbage" + content, content + b"\x01\x02\x03"]
    for body in damaged:
        with pytest.raises(RequestError, match="cannot decompress"):
            decompress(body, encoding, 1 << 20)


def test_gzip_members_follow_each_other() -> None:
    assert decompress(gzip.compress(b"one") + gzip.compress(b"two"), "gzip", 6) == b"onetwo"
    with pytest.raises(LimitError):
        decompress(gzip.compress(b"one") + gzip.compress(b"two"), "gzip", 5)


def test_framed_snappy_under_the_name_of_snappy() -> None:
    assert decompress(bytes(cramjam.snappy.compress(SPANS)), "snappy", 1 << 20) == SPANS


@pytest.mark.parametrize("encoding", COMPRESSED)
def test_bombs_are_cut_off(encoding: str) -> None:
    bomb = bytes(ENCODERS[encoding](bytes(48 << 20)))
    tracemalloc.start()
    try:
        with pytest.raises(LimitError):
            decompress(bomb, encoding, 1 << 20)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


TOO_LARGE = {"code": 3, "message": "http: request body too large"}


def test_bodies_over_the_bound() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield bytes(100)

    options = HttpOptions(max_request_body_size_bytes=2000)
    cases: list[tuple[dict[str, str], Any]] = [
        (JSON, bytes(2001)),
        (JSON, chunks()),
        ({**JSON, "Content-Encoding": "gzip"}, gzip.compress(bytes(2001))),
    ]
    for headers, content in cases:
        reply = exchange(MemoryCommitter(), "POST", "/v1/traces", options, headers=headers, content=content)
        assert (reply.status_code, reply.json()) == (400, TOO_LARGE)
    committer = MemoryCommitter(Accepted(1))
    exchange(committer, "POST", "/v1/traces", options, headers=PROTOBUF, content=bytes(2000))
    assert committer.bodies == [bytes(2000)]


def test_the_budget_refuses_what_does_not_fit() -> None:
    async def scenario() -> None:
        committer = MemoryCommitter(Accepted(1))
        committer.gate = asyncio.Event()
        async with client_of(receiver_of(committer, HttpOptions(max_buffered_bytes=1000))) as client:
            first = asyncio.ensure_future(client.post("/v1/traces", headers=PROTOBUF, content=bytes(900)))
            await committer.arrived.acquire()
            reply = await client.post("/v1/traces", headers=JSON, content=bytes(101))
            assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
            assert "already holds 900 of at most 1000 bytes" in reply.json()["message"]
            committer.gate.set()
            assert (await first).status_code == 200
            assert (await client.post("/v1/traces", headers=PROTOBUF, content=bytes(900))).status_code == 200

    run(scenario())


def test_json_paths_come_back() -> None:
    content = b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"abc"}]}]}]}'
    reply = exchange(MemoryCommitter(), "POST", "/v1/traces", headers=JSON, content=content)
    assert (reply.status_code, reply.json()["code"]) == (400, 3)
    assert reply.json()["message"].startswith('resourceSpans[0].scopeSpans[0].spans[0].traceId is "abc"')


def test_long_json_is_encoded_off_the_loop() -> None:
    spans = [{"name": "n" * 100}] * 1000
    content = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]})
    committer = MemoryCommitter()
    assert exchange(committer, "POST", "/v1/traces", headers=JSON, content=content).status_code == 200
    assert len(committer.spans) == 1000


# Broken and slow clients

HEAD = b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nContent-Type: application/"
PROTOBUF_HEAD, JSON_HEAD = HEAD + b"x-protobuf\r\n\r\n", HEAD + b"json\r\n\r\n"


def test_a_client_that_goes_away_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        committer = MemoryCommitter(Accepted(1))
        receiver = receiver_of(committer, HttpOptions(max_buffered_bytes=100))
        async with client_of(receiver) as client:
            for sent in (b"POST", PROTOBUF_HEAD, PROTOBUF_HEAD + b"half"):
                _, writer = await asyncio.open_connection("127.0.0.1", receiver.port)
                writer.write(sent)
                await writer.drain()
                writer.close()
            await client.post("/v1/traces", headers=PROTOBUF)
            await until(lambda: len(receiver.connections) == 1)
            await until(lambda: not receiver.replies)
            reply = await client.post("/v1/traces", headers=PROTOBUF, content=bytes(100))
            assert reply.status_code == 200
        assert committer.bodies == [b"", bytes(100)]

    run(scenario())
    assert [record for record in caplog.records if record.levelname in ("ERROR", "WARNING")] == []


def test_a_body_that_does_not_come_is_refused() -> None:
    async def scenario() -> bytes:
        receiver = receiver_of(MemoryCommitter(), HttpOptions(read_timeout_seconds=0.05))
        async with serving(receiver):
            reader, writer = await asyncio.open_connection("127.0.0.1", receiver.port)
            writer.write(JSON_HEAD + b"half")
            reply = await reader.readuntil(b"}")
            writer.close()
            return reply

    reply = run(scenario())
    assert reply.startswith(b"HTTP/1.1 503 ")
    assert b'{"code":14,"message":"the body was not complete after 0.05 seconds"}' in reply


def test_a_connection_that_never_asks_is_closed() -> None:
    async def scenario() -> None:
        async with serving(receiver_of(MemoryCommitter(), HttpOptions(idle_timeout_seconds=0))) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await reader.read() == b""
            writer.close()

    run(scenario())


def test_the_idle_timeout_spares_a_slow_commit() -> None:
    async def scenario() -> None:
        committer = MemoryCommitter(Accepted(1))
        committer.gate = asyncio.Event()
        async with client_of(receiver_of(committer, HttpOptions(idle_timeout_seconds=0.05))) as client:
            asyncio.get_running_loop().call_later(0.15, committer.gate.set)
            assert (await client.post("/v1/traces", headers=PROTOBUF)).status_code == 200

    run(scenario())


def test_not_http_is_400() -> None:
    async def scenario() -> None:
        async with serving(receiver_of(MemoryCommitter())) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"\x16\x03\x01 not HTTP\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
            writer.close()

    run(scenario())


def test_many_connections_at_once() -> None:
    """Raw clients: a client library would take longer than the receiver."""
    request = (
        b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: 5000\r\n\r\n"
    )

    async def one(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(6):
            writer.write(request + bytes(5000))
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            assert await reader.readexactly(2) == b"\x0a\x00"
        writer.close()

    async def scenario() -> None:
        committer = MemoryCommitter(Accepted(1))
        async with serving(receiver_of(committer)) as port:
            await asyncio.gather(*(one(port) for _ in range(50)))
        assert committer.bodies == [bytes(5000)] * 300

    run(scenario())


def test_connections_are_counted() -> None:
    async def scenario() -> None:
        receiver = receiver_of(MemoryCommitter(), HttpOptions(max_connections=1))
        async with client_of(receiver) as first, plain_client(receiver.port) as second:
            assert (await first.post("/v1/traces", headers=PROTOBUF)).status_code == 200
            assert (await second.post("/v1/traces", headers=PROTOBUF)).status_code == 503
            await second.aclose()
            await until(lambda: len(receiver.connections) == 1)
            assert (await first.post("/v1/traces", headers=PROTOBUF)).status_code == 200

    run(scenario())


# Stopping


def test_stop_answers_what_is_under_way_and_installs_no_signal_handlers() -> None:
    async def scenario() -> None:
        committer = MemoryCommitter(Accepted(1))
        committer.gate = asyncio.Event()
        receiver = receiver_of(committer)
        before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
        async with client_of(receiver) as client:
            assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
            under_way = asyncio.ensure_future(client.post("/v1/traces", headers=PROTOBUF))
            await committer.arrived.acquire()
            idle, writer = await asyncio.open_connection("127.0.0.1", receiver.port)
            await until(lambda: len(receiver.connections) == 2)
            stopping = asyncio.ensure_future(receiver.stop(10))
            assert await idle.read() == b""
            writer.close()
            committer.gate.set()
            assert (await under_way).status_code == 200
            await stopping
            with pytest.raises(httpx.TransportError):
                await client.post("/v1/traces", headers=PROTOBUF)

    run(scenario())


def test_stop_does_not_wait_beyond_its_grace() -> None:
    async def scenario() -> None:
        committer = MemoryCommitter(Accepted(1))
        committer.gate = asyncio.Event()
        receiver = receiver_of(committer)
        async with client_of(receiver) as client:
            under_way = asyncio.ensure_future(client.post("/v1/traces", headers=PROTOBUF))
            await committer.arrived.acquire()
            await receiver.stop(0.05)
            reply = await under_way
            assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")

    run(scenario())


def test_a_taken_port_is_an_error() -> None:
    async def scenario() -> None:
        async with serving(receiver_of(MemoryCommitter())) as port:
            with pytest.raises(OSError, match="address already in use"):
                await HttpReceiver(MemoryCommitter(), f"127.0.0.1:{port}").start()

    run(scenario())


# CORS

CORS = CorsOptions(("https://app.example.com", "https://*.example.org"), ("x-custom",), max_age_seconds=7200)


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://app.example.com", True),
        ("https://a.b.example.org", True),
        ("https://example.org", False),
        ("https://app.example.com.evil.net", False),
        ("https://evil.net/.example.org", True),  # a star is any run of characters, as in the Collector
        ("http://app.example.com", False),
    ],
)
def test_cors(origin: str, allowed: bool) -> None:
    options = HttpOptions(cors=CORS)
    preflight = exchange(
        MemoryCommitter(), "OPTIONS", "/v1/traces", options,
        headers={
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type,x-custom",
        },
    )  # fmt: skip
    assert preflight.status_code == (200 if allowed else 400)
    if allowed:
        assert preflight.headers["access-control-max-age"] == "7200"
        assert "x-custom" in preflight.headers["access-control-allow-headers"]
    reply = exchange(MemoryCommitter(), "POST", "/v1/traces", options, headers={**PROTOBUF, "Origin": origin})
    assert reply.status_code == 200
    assert reply.headers.get("access-control-allow-origin") == (origin if allowed else None)


def test_cors_for_every_origin() -> None:
    options = HttpOptions(cors=CorsOptions(("*",), ("*",)))
    reply = exchange(MemoryCommitter(), "POST", "/v1/traces", options, headers={**PROTOBUF, "Origin": "https://x.y"})
    assert reply.headers["access-control-allow-origin"] in ("*", "https://x.y")


def test_without_cors_there_are_no_headers() -> None:
    headers = {"Origin": "https://x.y", "Access-Control-Request-Method": "POST"}
    assert exchange(MemoryCommitter(), "OPTIONS", "/v1/traces", headers=headers).status_code == 405


def test_many_requests_sent_ahead() -> None:
    """Each is answered, in order; what needs no waiting is not answered from within the one before."""
    ahead = 3000
    kept = b"POST /v1/traces HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"
    refused = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"

    async def scenario() -> bytes:
        async with serving(receiver_of(MemoryCommitter())) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
            writer.write(kept + refused * ahead + kept)
            found = await reader.readuntil(b"\x0a\x00")
            found += await reader.readuntil(b"\x0a\x00")
            writer.close()
            return found

    answers = run(scenario()).split(b"HTTP/1.1 ")[1:]
    assert [answer[:3] for answer in answers] == [b"200", *[b"404"] * ahead, b"200"]
