"""The HTTP server's TLS as `server.http_tls_config` has it, and clients that do not take in their answer."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
import trustme
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from vivace.api.server import HttpServer, HttpTimeouts
from vivace.tls import TlsOptions

DEADLINE_SECONDS = 20
LARGE_BYTES = 64 << 20  # more than both sockets' buffers hold
PATIENT = HttpTimeouts()
AUTHORITY = trustme.CA()
CA = AUTHORITY.cert_pem.bytes().decode()
_SERVER = AUTHORITY.issue_cert("127.0.0.1")
TLS = TlsOptions(cert_pem=_SERVER.cert_chain_pems[0].bytes().decode(), key_pem=_SERVER.private_key_pem.bytes().decode())
OPTIONAL = replace(TLS, client_ca_pem=CA, client_optional=True)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("x" * LARGE_BYTES if scope["path"] == "/large" else "fine")(scope, receive, send)


def run(
    steps: Callable[[HttpServer], Awaitable[None]], *, tls: TlsOptions | None = None, timeouts: HttpTimeouts = PATIENT
) -> None:
    async def main() -> None:
        server = HttpServer(app, "127.0.0.1", 0, tls=tls, timeouts=timeouts)
        await server.start()
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                await steps(server)
        finally:
            await server.stop()

    asyncio.run(main())


def client(*, signed_by: trustme.CA | None = None, newest: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=CA)
    if signed_by is not None:
        signed_by.issue_cert("client").configure_cert(context)
    if newest is not None:
        context.maximum_version = newest
    return context


CLIENTS = [  # the server, the client, whether it is answered
    (TLS, client(), True),
    (TLS, client(newest=ssl.TLSVersion.TLSv1_2), True),
    (replace(TLS, min_version="1.3"), client(), True),
    (replace(TLS, min_version="1.3"), client(newest=ssl.TLSVersion.TLSv1_2), False),
    (OPTIONAL, client(), True),
    (OPTIONAL, client(signed_by=AUTHORITY), True),
    (OPTIONAL, client(signed_by=trustme.CA()), False),
    (replace(OPTIONAL, client_optional=False), client(), False),
]


@pytest.mark.parametrize(("tls", "context", "answered"), CLIENTS)
def test_clients(tls: TlsOptions, context: ssl.SSLContext, answered: bool) -> None:
    async def steps(server: HttpServer) -> None:
        reply = b""
        with contextlib.suppress(OSError):  # how a refusal reaches a TLS 1.3 client depends on timing
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
            writer.write(b"GET / HTTP/1.1\r\nHost: v\r\nConnection: close\r\n\r\n")
            reply = await reader.read()
            writer.close()
        assert reply.endswith(b"fine") is answered

    run(steps, tls=tls)


def test_who_does_not_take_in_the_answer_is_cut_off() -> None:
    async def steps(server: HttpServer) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /large HTTP/1.1\r\nHost: v\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        connections = server._server.server_state.connections
        while connections:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        with contextlib.suppress(ConnectionError):
            assert len(await reader.read()) < LARGE_BYTES
        writer.close()

    run(steps, timeouts=HttpTimeouts(write_seconds=0.05))


def test_zero_is_no_timeout() -> None:
    never = HttpTimeouts(read_seconds=float("inf"), idle_seconds=float("inf"), write_seconds=float("inf"))

    async def steps(server: HttpServer) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for path in ("/large", "/"):
            writer.write(f"GET {path} HTTP/1.1\r\nHost: v\r\n\r\n".encode())
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(LARGE_BYTES if path == "/large" else 4)
        writer.close()

    run(steps, timeouts=never)
