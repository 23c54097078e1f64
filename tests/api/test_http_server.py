"""The real server on a free port: HTTP as clients speak it, bounds on a request's head, start and stop, TLS."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from vivace.api import server as server_module
from vivace.api.server import HttpServer, HttpTimeouts
from vivace.errors import ConfigError, InvariantError
from vivace.tls import TlsOptions

DEADLINE_SECONDS = 10
DEFAULT = HttpTimeouts()
Steps = Callable[[HttpServer], Awaitable[None]]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"] == "/wait":
        await asyncio.Event().wait()
    await PlainTextResponse(scope["path"] + " " + scope["method"])(scope, receive, send)


@asynccontextmanager
async def serving(timeouts: HttpTimeouts, tls: TlsOptions | None = None) -> AsyncIterator[HttpServer]:
    server = HttpServer(app, "127.0.0.1", 0, timeouts=timeouts, tls=tls)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def run(steps: Steps, timeouts: HttpTimeouts = DEFAULT, tls: TlsOptions | None = None) -> None:
    async def main() -> None:
        async with asyncio.timeout(DEADLINE_SECONDS), serving(timeouts, tls) as server:
            await steps(server)

    asyncio.run(main())


async def exchange(server: HttpServer, request: bytes) -> bytes:
    """Send `request`, read until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(request)
        return await reader.read()
    finally:
        writer.close()


def test_requests() -> None:
    async def steps(server: HttpServer) -> None:
        reply = await exchange(server, b"GET /a%2Fb?q HTTP/1.1\r\nHost: v\r\nConnection: close\r\n\r\n")
        head, body = reply.split(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\nserver:" not in head.lower()
        assert body == b"/a/b GET"
        reply = await exchange(server, b"HEAD / HTTP/1.1\r\nHost: v\r\nConnection: close\r\n\r\n")
        assert reply.endswith(b"content-length: 6\r\n\r\n") or b"content-length: 6\r\n" in reply
        assert reply.split(b"\r\n\r\n")[1] == b""

    run(steps)


GET = b"GET / HTTP/1.1\r\nHost: v\r\n\r\n"
NEVER_COMPLETE = {
    "nothing": b"",
    "half a head": b"GET / HTTP/1.1\r\nHost: v\r\n",
    "half a second head": b"GET / HTTP/1.1\r\nHost: v\r\n\r\nGET / HTT",
    "half a body": b"POST / HTTP/1.1\r\nHost: v\r\nContent-Length: 9\r\n\r\nbody",
}


@pytest.mark.parametrize("case", NEVER_COMPLETE)
def test_a_request_that_does_not_come_closes_the_connection(case: str) -> None:
    async def steps(server: HttpServer) -> None:
        reply = await exchange(server, NEVER_COMPLETE[case])
        assert reply.count(b"HTTP/1.1 200") == NEVER_COMPLETE[case].count(b"\r\n\r\n")

    run(steps, HttpTimeouts(read_seconds=0.05, idle_seconds=1000))


def test_a_connection_may_idle_between_requests_for_longer_than_a_head_may_take() -> None:
    async def steps(server: HttpServer) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for _ in range(2):
            writer.write(b"GET / HTTP/1.1\r\nHost: v\r\n\r\n")
            await reader.readuntil(b"/ GET")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.1)
        writer.close()

    run(steps, HttpTimeouts(read_seconds=0.05, idle_seconds=1000))


def test_what_is_no_request_does_not_keep_the_connection() -> None:
    """A body that comes byte by byte after its answer, empty lines between requests."""

    async def steps(server: HttpServer) -> None:
        for head, drop in ((b"POST / HTTP/1.1\r\nHost: v\r\nContent-Length: 999\r\n\r\n", b"x"), (GET, b"\r\n")):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(head)
            await reader.readuntil(b"/ " + head.split()[0])
            with contextlib.suppress(ConnectionError):
                while True:
                    writer.write(drop)
                    await writer.drain()
                    await asyncio.sleep(0.01)
            writer.close()

    run(steps, HttpTimeouts(read_seconds=0.1, idle_seconds=1))


def test_an_endless_head_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "HEAD_SIZE_MAX", 1000)

    async def steps(server: HttpServer) -> None:
        reply = await exchange(server, b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200)
        assert reply.startswith(b"HTTP/1.1 400")
        assert reply.endswith(b"request line and headers are over 1000 bytes")

    run(steps)


def test_stop_cancels_what_does_not_end() -> None:
    async def steps(server: HttpServer) -> None:
        stuck = asyncio.create_task(exchange(server, b"GET /wait HTTP/1.1\r\nHost: v\r\n\r\n"))
        await asyncio.sleep(0)
        reply = await exchange(server, b"GET / HTTP/1.1\r\nHost: v\r\nConnection: close\r\n\r\n")
        assert reply.endswith(b"/ GET")
        await server.stop()
        assert not (await stuck).startswith(b"HTTP/1.1 200")
        with pytest.raises(ConnectionError):
            await asyncio.open_connection("127.0.0.1", server.port)
        await server.stop()

    run(steps, HttpTimeouts(stop_seconds=0))


def test_starting() -> None:
    async def steps(server: HttpServer) -> None:
        with pytest.raises(InvariantError, match="twice"):
            await server.start()
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{server.port}"):
            await HttpServer(app, "127.0.0.1", server.port).start()
        with pytest.raises(ConfigError, match="listen address"):
            await HttpServer(app, "256.1.1.1", 0).start()
        missing = TlsOptions(cert_file="/nowhere.pem", key_file="/nowhere.key")
        with pytest.raises(ConfigError, match="TLS files"):
            await HttpServer(app, "127.0.0.1", 0, tls=missing).start()

    run(steps)


@pytest.mark.parametrize("client_is_known", [True, False])
def test_tls_with_client_certificates(tmp_path: Path, client_is_known: bool) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    client = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    if client_is_known:
        authority.issue_cert("client").configure_cert(client)

    async def steps(server: HttpServer) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=client)
        writer.write(b"GET / HTTP/1.1\r\nHost: v\r\nConnection: close\r\n\r\n")
        reply = b""
        with contextlib.suppress(OSError):  # how the refusal reaches a TLS 1.3 client depends on timing
            reply = await reader.read()
        assert reply.endswith(b"/ GET") is client_is_known
        writer.close()

    pem = tmp_path / "server.pem"
    run(steps, tls=TlsOptions(cert_file=str(pem), key_file=str(pem), client_ca_file=str(tmp_path / "ca.pem")))
