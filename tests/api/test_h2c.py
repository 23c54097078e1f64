"""HTTP/1.1 and HTTP/2 on one port: telling them apart, requests of both, bounds on slow, silent and greedy clients."""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
import ngh2
import pytest
import trustme
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send
from stream_room import DEADLINE_SECONDS, SlowEngines, ask, call, refusal
from stream_room import run as run_ports

from vivace.api import stream_http2
from vivace.api.grpc_server import HEALTH_SERVICE, SERVING
from vivace.api.server import HttpServer, HttpTimeouts
from vivace.api.stream_preface import PREFACE
from vivace.api.stream_wire import WireLimits
from vivace.model.proto import tempopb_pb2 as pb
from vivace.query.answers import QueryCost, SearchAnswer, TraceSummary
from vivace.tls import TlsOptions

DEFAULT = HttpTimeouts(stop_seconds=0)
HTTP1 = b"GET /one HTTP/1.1\r\nHost: v\r\n\r\n"
LARGE = 3 << 20


@dataclass
class App:
    """/wait never answers; /read answers the size of the body, /unread does not read it; /large sends LARGE bytes."""

    gone: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["path"]:
            case "/wait":
                self.waiting.set()
                while (await receive())["type"] != "http.disconnect":
                    pass
                self.gone.set()
                return
            case "/fail":
                raise ValueError("by design")
            case "/read":
                size, more = 0, True
                while more:
                    event = await receive()
                    size, more = size + len(event["body"]), event["more_body"]
                await PlainTextResponse(str(size))(scope, receive, send)
            case "/large":
                await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
                for _ in range(4):
                    await send({"type": "http.response.body", "body": b"x" * (LARGE // 4), "more_body": True})
                await send({"type": "http.response.body", "body": b""})
            case _:
                headers = dict(scope["headers"])
                text = f"{scope['method']} {scope['path']} {scope['query_string'].decode()} {headers[b'host'].decode()}"
                await Response(text + f" {scope['http_version']} {scope['scheme']}")(scope, receive, send)


class Client:
    """An HTTP/2 client that reads frames only when it is told to, and gives windows back only if it `takes`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, takes: bool) -> None:
        self.reader, self.writer = reader, writer
        self.http2 = ngh2.Connection(ngh2.Role.CLIENT, ngh2.Configuration(auto_window_update=takes))
        self.http2.initiate_connection({})
        self.heads: dict[int, dict[bytes, bytes]] = {}
        self.bodies: dict[int, bytes] = {}
        self.ended: dict[int, int] = {}
        self.said_goodbye = False

    def request(self, path: str, method: str = "GET", body: bytes | None = None, *, ends: bool = True) -> int:
        headers = [
            (b":method", method.encode()),
            (b":path", path.encode()),
            (b":scheme", b"http"),
            (b":authority", b"v"),
        ]
        stream = self.http2.send_request(headers, end_stream=ends and body is None)
        if body is not None:
            self.http2.send_data(stream, body, end_stream=ends)
        self.flush()
        return stream

    def flush(self) -> None:
        with contextlib.suppress(ngh2.ConnectionStateError):  # the server said goodbye
            self.writer.write(self.http2.data_to_send())

    async def step(self) -> bool:
        """Read once; False at the end of the connection."""
        try:
            data = await self.reader.read(1 << 20)
        except ConnectionResetError:
            return False
        if not data:
            return False
        self.http2.receive_data(data)
        for event in self.http2.events():
            match event:
                case ngh2.ResponseReceived():
                    self.heads[event.stream_id] = dict(event.headers)
                case ngh2.DataReceived():
                    self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
                case ngh2.StreamClosed():
                    self.ended[event.stream_id] = event.error_code
                case ngh2.GoAwayReceived():
                    self.said_goodbye = True
        self.flush()
        return True

    async def answer(self, stream: int) -> tuple[int, bytes]:
        while stream not in self.ended:
            assert await self.step(), "the connection ended"
        return int(self.heads[stream][b":status"]), self.bodies.get(stream, b"")


@asynccontextmanager
async def connected(
    server: HttpServer, *, takes: bool = True, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=tls)
    try:
        yield Client(reader, writer, takes=takes)
    finally:
        writer.transport.abort()


def run(
    steps: Callable[[HttpServer, App], Awaitable[None]], timeouts: HttpTimeouts = DEFAULT, tls: TlsOptions | None = None
) -> None:
    async def main() -> None:
        app = App()
        server = HttpServer(app, "127.0.0.1", 0, timeouts=timeouts, tls=tls, http2=True)
        async with asyncio.timeout(DEADLINE_SECONDS):
            await server.start()
            try:
                await steps(server, app)
            finally:
                await server.stop()

    asyncio.run(main())


async def exchange(server: HttpServer, *pieces: bytes) -> bytes:
    """Send the pieces one after the other, read until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.001)  # so that they arrive apart, which no answer depends on
        return await reader.read()
    finally:
        writer.close()


async def until(condition: Callable[[], object]) -> None:
    """Return when `condition` holds; run() has the deadline."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


def tasks_of(server: HttpServer) -> set[asyncio.Task[None]]:
    return server._server.server_state.tasks


# -- telling them apart -----------------------------------------------------------------------------------------------

CLOSING = b"GET /one HTTP/1.1\r\nHost: v\r\nConnection: close\r\n\r\n"
POSTING = b"POST /one HTTP/1.1\r\nHost: v\r\nConnection: close\r\n\r\n"
ANSWERED = {
    "whole": [CLOSING],
    "its first byte is the preface's": [POSTING],
    "byte by byte": [bytes([byte]) for byte in POSTING],
    "first byte alone": [POSTING[:1], POSTING[1:]],
    "two requests at once": [HTTP1 + CLOSING],
}


@pytest.mark.parametrize("case", ANSWERED)
def test_http1(case: str) -> None:
    async def steps(server: HttpServer, app: App) -> None:
        pieces = ANSWERED[case]
        reply = await exchange(server, *pieces)
        method = b"POST" if pieces[0].startswith(b"P") else b"GET"
        assert reply.endswith(method + b" /one  v 1.1 http")
        assert reply.count(b"200 OK") == b"".join(pieces).count(b"HTTP/1.1")

    run(steps)


def test_http1_keeps_its_connection() -> None:
    async def steps(server: HttpServer, app: App) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for _ in range(3):
            writer.write(HTTP1)
            assert (await reader.readuntil(b"1.1 http")).startswith(b"HTTP/1.1 200")
        writer.close()

    run(steps)


def test_the_preface_in_two_pieces() -> None:
    async def steps(server: HttpServer, app: App) -> None:
        for cut in range(1, len(PREFACE)):
            async with connected(server) as client:
                client.http2.send_request(
                    [(b":method", b"GET"), (b":path", b"/"), (b":scheme", b"http"), (b":authority", b"v")],
                    end_stream=True,
                )
                data = client.http2.data_to_send()
                client.writer.write(data[:cut])
                await asyncio.sleep(0.001)
                client.writer.write(data[cut:])
                assert (await client.answer(1))[0] == 200

    run(steps)


SILENT = {
    "nothing": b"",
    "half a preface": PREFACE[:9],
    "half a request": b"POST / HT",
    "a preface and nothing": PREFACE,
    "half a HEADERS": PREFACE + b"\0\0\0\4\0\0\0\0\0" + b"\0\1\0\1\4\0\0\0\1" + b"\x82\x86",
    "HEADERS without their end": PREFACE + b"\0\0\0\4\0\0\0\0\0" + b"\0\0\2\1\0\0\0\0\1" + b"\x82\x86",
}


@pytest.mark.parametrize("case", SILENT)
def test_who_says_no_more_is_sent_away(case: str) -> None:
    async def steps(server: HttpServer, app: App) -> None:
        await asyncio.gather(exchange(server, SILENT[case]), return_exceptions=True)  # ends; perhaps with a reset

    run(steps, HttpTimeouts(read_seconds=0.1, idle_seconds=0.1, stop_seconds=0))


def test_garbage_after_the_preface() -> None:
    rng = random.Random(7)

    async def steps(server: HttpServer, app: App) -> None:
        for _ in range(20):
            await asyncio.gather(exchange(server, PREFACE + rng.randbytes(200)), return_exceptions=True)
        async with connected(server) as client:
            assert (await client.answer(client.request("/")))[0] == 200

    run(steps, HttpTimeouts(idle_seconds=0.1, stop_seconds=0))


# -- HTTP/2 -----------------------------------------------------------------------------------------------------------


def test_requests() -> None:
    async def steps(server: HttpServer, app: App) -> None:
        async with connected(server) as client:
            assert await client.answer(client.request("/a%2Fb?q=%20")) == (200, b"GET /a/b q=%20 v 2 http")
            assert await client.answer(client.request("/x", "DELETE")) == (200, b"DELETE /x  v 2 http")
            head = client.request("/x", "HEAD")
            assert await client.answer(head) == (200, b"")
            assert client.heads[head][b"content-length"] == b"17"
            assert b"date" in client.heads[head]
            assert await client.answer(client.request("/large", "HEAD")) == (200, b"")
            body = bytes(1_000_000)  # several windows
            assert await client.answer(client.request("/read", "POST", body)) == (200, b"1000000")
            status, large = await client.answer(client.request("/large"))
            assert (status, len(large)) == (200, LARGE)
            many = [client.request("/") for _ in range(90)]
            for stream in many:
                assert (await client.answer(stream))[0] == 200

    run(steps)


def test_a_body_that_nobody_reads() -> None:
    """The answer comes, the client is told to stop, and the connection goes on with its window whole."""

    async def steps(server: HttpServer, app: App) -> None:
        async with connected(server) as client:
            for _ in range(8):  # of 256 KiB each, in a window of 1 MiB
                stream = client.request("/", "POST", bytes(stream_http2.STREAM_WINDOW_BYTES * 2))
                assert (await client.answer(stream))[0] == 200
                assert client.ended[stream] == ngh2.ErrorCode.NO_ERROR
            assert (await client.answer(client.request("/read", "POST", bytes(900_000)))) == (200, b"900000")

    run(steps)


def test_an_application_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    async def steps(server: HttpServer, app: App) -> None:
        async with connected(server) as client:
            stream = client.request("/fail")
            while stream not in client.ended:
                assert await client.step()
            assert client.ended[stream] == ngh2.ErrorCode.INTERNAL_ERROR
            assert (await client.answer(client.request("/")))[0] == 200

    run(steps)
    assert "GET /fail failed" in caplog.text


@pytest.mark.parametrize("how", ["reset", "close"])
def test_a_client_that_goes_is_a_disconnect(how: str) -> None:
    async def steps(server: HttpServer, app: App) -> None:
        async with connected(server) as client:
            stream = client.request("/wait")
            await app.waiting.wait()
            if how == "reset":
                client.http2.reset_stream(stream)
                client.flush()
                await app.gone.wait()
                assert (await client.answer(client.request("/")))[0] == 200
        await app.gone.wait()

    run(steps)


def test_a_client_with_its_window_shut() -> None:
    """Its request is reset; its other requests are answered."""

    async def steps(server: HttpServer, app: App) -> None:
        async with connected(server, takes=False) as client:
            client.request("/large")
            while not client.ended:
                assert await client.step()
            assert client.ended == {1: ngh2.ErrorCode.CANCEL}
            assert len(client.bodies[1]) == 65535
            assert (await client.answer(client.request("/", "HEAD")))[0] == 200

    run(steps, HttpTimeouts(write_seconds=0.2, stop_seconds=0))


def test_a_client_that_does_not_read() -> None:
    """What its socket does not take waits here for a while, and no longer."""

    async def steps(server: HttpServer, app: App) -> None:
        async with connected(server) as client:
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            client.http2.update_settings({ngh2.Setting.INITIAL_WINDOW_SIZE: 2**31 - 1})
            client.http2.set_local_window_size(2**31 - 1)
            for _ in range(20):  # more than the buffers of both sockets
                client.request("/large")
            await until(lambda: tasks_of(server))
            await until(lambda: not tasks_of(server) and not server._server.server_state.connections)

    run(steps, HttpTimeouts(write_seconds=0.2, stop_seconds=0))


def test_more_streams_than_allowed() -> None:
    async def steps(server: HttpServer, app: App) -> None:
        async with connected(server) as client:
            client.flush()
            await client.step()
            assert client.http2.remote_settings[ngh2.Setting.MAX_CONCURRENT_STREAMS] == stream_http2.STREAMS_MAX
            for _ in range(stream_http2.STREAMS_MAX + 5):
                client.request("/wait")
            await app.waiting.wait()
            assert len(tasks_of(server)) <= stream_http2.STREAMS_MAX

    run(steps)


def test_more_than_the_server_takes() -> None:
    """What is refused costs the connection nothing: its window is whole again when the server takes requests."""

    async def steps(server: HttpServer, app: App) -> None:
        async with connected(server) as client:
            client.flush()
            await client.step()
            limit, server._server.config.limit_concurrency = server._server.config.limit_concurrency, 1
            for _ in range(20):
                stream = client.request("/read", "POST", bytes(60_000))
                while stream not in client.ended:
                    assert await client.step()
                assert client.ended[stream] == ngh2.ErrorCode.REFUSED_STREAM
            server._server.config.limit_concurrency = limit
            assert await client.answer(client.request("/read", "POST", bytes(900_000))) == (200, b"900000")

    run(steps)


def test_idle_connections_are_closed() -> None:
    async def steps(server: HttpServer, app: App) -> None:
        async with connected(server) as client:
            assert (await client.answer(client.request("/")))[0] == 200
            while await client.step():
                pass
            assert client.said_goodbye

    run(steps, HttpTimeouts(idle_seconds=0.1, stop_seconds=0))


def test_stop() -> None:
    """Idle connections go at once; requests under way are cancelled when the time is over."""

    async def steps(server: HttpServer, app: App) -> None:
        async with connected(server) as idle, connected(server) as busy:
            assert (await idle.answer(idle.request("/")))[0] == 200
            busy.request("/wait")
            await app.waiting.wait()
            silent = asyncio.ensure_future(exchange(server, b""))
            await server.stop()
            for client in (idle, busy):
                while await client.step():
                    pass
            assert idle.said_goodbye
            await asyncio.gather(silent, return_exceptions=True)

    run(steps)


# -- gRPC over it -----------------------------------------------------------------------------------------------------


def test_one_port_for_all() -> None:
    """gRPC, health, and the routes of HTTP/1.1, on the HTTP port."""

    async def steps(addresses: dict[str, str]) -> None:
        address = addresses["http"]
        assert len(await ask(address, "Search", pb.SearchRequest())) == 1
        async with grpc.aio.insecure_channel(address) as channel:
            assert await channel.unary_unary(f"/{HEALTH_SERVICE}/Check")(b"") == SERVING
        reader, writer = await asyncio.open_connection(*address.split(":"))
        writer.write(b"GET /api/echo HTTP/1.1\r\nHost: v\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).endswith(b"echo\n")
        writer.close()
        plain_reader, plain_writer = await asyncio.open_connection(*address.split(":"))
        client = Client(plain_reader, plain_writer, takes=True)
        assert await client.answer(client.request("/api/search")) == (200, b'{"traces":[],"metrics":{}}')
        assert await client.answer(client.request("/tempopb.StreamingQuerier/Search")) == (404, b"404 page not found\n")
        plain_writer.close()

    run_ports(steps, SlowEngines())


def test_many_calls_at_once() -> None:
    engines = SlowEngines(hangs=True)

    async def steps(addresses: dict[str, str]) -> None:
        async with grpc.aio.insecure_channel(addresses["http"]) as channel:
            calls = [asyncio.ensure_future(call(channel, "Search", pb.SearchRequest()).read()) for _ in range(50)]
            await until(lambda: len(engines.tenants) == 50)
            engines.go.set()
            assert await asyncio.gather(*calls) == [pb.SearchResponse(metrics=pb.SearchMetrics())] * 50

    run_ports(steps, engines)


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_requests(compression: grpc.Compression) -> None:
    engines = SlowEngines()

    async def steps(addresses: dict[str, str]) -> None:
        request = pb.SearchRequest(Query="{ " + "span.a = 1 || " * 300 + "span.b = 2 }")
        await ask(addresses["http"], "Search", request, compression=compression)
        assert engines.asked[0].query is not None

    run_ports(steps, engines)


def test_limits_of_messages() -> None:
    large = SearchAnswer(tuple(TraceSummary(n, "w" * 500, "n", 1, 1) for n in range(1, 9)), QueryCost())
    engines = SlowEngines(found=large)
    request = pb.SearchRequest(Query="a" * 3000)

    async def steps(addresses: dict[str, str]) -> None:
        address = addresses["http"]
        assert await refusal(address, "Search", request) == (
            "RESOURCE_EXHAUSTED",
            "received message larger than max (3003 vs. 2000)",
        )
        assert await refusal(address, "Search", request, compression=grpc.Compression.Gzip) == (
            "RESOURCE_EXHAUSTED",
            "received message larger than max (2001 vs. 2000)",
        )
        code, text = await refusal(address, "Search", pb.SearchRequest())
        assert code == "RESOURCE_EXHAUSTED"
        assert text.startswith("message to send larger than max")

    run_ports(steps, engines, limits=WireLimits(receive_bytes_max=2000, send_bytes_max=3000))


def test_requests_that_are_being_read_are_bounded() -> None:
    async def steps(addresses: dict[str, str]) -> None:
        request = pb.SearchRequest(Query="a" * 200)
        code, text = await refusal(addresses["http"], "Search", request)
        assert (code, text) == (
            "RESOURCE_EXHAUSTED",
            "requests being read already hold 0 of 100 bytes, try again",
        )
        for _ in range(20):  # each gives its 7 bytes back
            assert len(await ask(addresses["http"], "Search", pb.SearchRequest(Limit=1))) == 1

    run_ports(steps, SlowEngines(), limits=WireLimits(pending_bytes_max=100))


FRAMES = {  # what follows the headers: the body, grpc-encoding, the status
    "nothing": (b"", b"identity", b"3"),
    "half a prefix": (b"\0\0", b"identity", b"3"),
    "less than it says": (b"\0\0\0\0\5\x20\1", b"identity", b"3"),
    "two messages": (b"\0\0\0\0\0" * 2, b"identity", b"3"),
    "unknown flag": (b"\2\0\0\0\0", b"gzip", b"12"),
    "unknown compression": (b"\1\0\0\0\0", b"snappy", b"12"),
    "no gzip": (b"\1\0\0\0\3abc", b"gzip", b"3"),
    "torn gzip": (b"\1\0\0\0\2\x1f\x8b", b"gzip", b"3"),
    "an empty message": (b"\0\0\0\0\0", b"identity", b"0"),
    "never an end": (None, b"identity", b"4"),
}


def test_frames_that_are_no_message() -> None:
    async def steps(addresses: dict[str, str]) -> None:
        for case, (body, encoding, status) in FRAMES.items():
            reader, writer = await asyncio.open_connection(*addresses["http"].split(":"))
            client = Client(reader, writer, takes=True)
            headers = [
                (b":method", b"POST"),
                (b":path", b"/tempopb.StreamingQuerier/Search"),
                (b":scheme", b"http"),
                (b":authority", b"v"),
                (b"content-type", b"application/grpc+proto"),
                (b"grpc-encoding", encoding),
            ]
            stream = client.http2.send_request(headers)
            if body is not None:
                client.http2.send_data(stream, body, end_stream=True)
            client.flush()
            trailers: dict[bytes, bytes] = {}
            while not trailers:
                client.http2.receive_data(await reader.read(1 << 16))
                for event in client.http2.events():
                    if isinstance(event, ngh2.TrailersReceived):
                        trailers = dict(event.headers)
            assert trailers[b"grpc-status"] == status, (case, trailers)
            writer.close()

    run_ports(steps, SlowEngines(), limits=WireLimits(read_seconds=0.2))


def test_tls() -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    pem = certificate.cert_chain_pems[0].bytes().decode()
    tls = TlsOptions(cert_pem=pem, key_pem=certificate.private_key_pem.bytes().decode())
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)

    async def steps(addresses: dict[str, str]) -> None:
        credentials = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
        async with grpc.aio.secure_channel(addresses["http"], credentials) as channel:
            assert await channel.unary_unary(f"/{HEALTH_SERVICE}/Check")(b"") == SERVING
            assert await call(channel, "Search", pb.SearchRequest()).read() == pb.SearchResponse(
                metrics=pb.SearchMetrics()
            )
        reader, writer = await asyncio.open_connection(*addresses["http"].split(":"), ssl=trusting)
        writer.write(b"GET /api/echo HTTP/1.1\r\nHost: v\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).endswith(b"echo\n")
        writer.close()

    run_ports(steps, SlowEngines(), tls=tls)
