"""The HTTP server: uvicorn inside an event loop that is someone else's, without its signal handlers and log settings.

A connection has read_seconds for a request to arrive, with the body that nobody reads (from accepting it, from the first byte
of a later one), and HEAD_SIZE_MAX bytes for its head; it may idle for idle_seconds between requests; its client has
write_seconds to take in what it was sent. uvicorn bounds only the third of the four by itself. How long an answer may take
to compute: app.py.

With `http2` the same port also speaks HTTP/2, to clients that begin with it: stream_preface.py, stream_http2.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from vivace.api.stream_http2 import Http2Connection
from vivace.api.stream_preface import PrefaceProtocol
from vivace.errors import ConfigError, InvariantError
from vivace.tls import TlsOptions

HEAD_SIZE_MAX = 1024 * 1024
"""Bytes of request line and headers, as Go's server allows; a TraceQL query of 128 KiB, percent-encoded, fits."""

IDLE_SECONDS_MAX = 10**8
"""Three years: uvicorn wants a whole number, and this is never."""

CONNECTIONS_MAX = 1000
"""More are answered 503. Dashboards need tens; a client that leaks connections must not take all file descriptors."""


@dataclass(frozen=True, slots=True)
class HttpTimeouts:
    """Seconds. stop_seconds: how long stop() lets running requests finish before it cancels them. Infinity: never."""

    read_seconds: float = 30
    idle_seconds: float = 120
    write_seconds: float = 30
    stop_seconds: int = 30


class HttpServer:
    """Serves `app` on host:port. Port 0 takes a free one; `port` says which after start()."""

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        port: int,
        *,
        tls: TlsOptions | None = None,
        timeouts: HttpTimeouts = HttpTimeouts(),
        http2: bool = False,
    ) -> None:
        """http2: whether the port speaks HTTP/2 beside HTTP/1.1; of plain text only with prior knowledge."""
        self._host = host
        self._port = port
        self._tls = tls
        self._alpn = ["h2", "http/1.1"] if http2 else ["http/1.1"]
        http1 = _protocol(timeouts)
        config = uvicorn.Config(
            app,
            http=_either(http1, timeouts) if http2 else http1,  # type: ignore[arg-type]  # uvicorn only calls it
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=CONNECTIONS_MAX,
            timeout_keep_alive=math.ceil(min(timeouts.idle_seconds, IDLE_SECONDS_MAX)),
            timeout_graceful_shutdown=timeouts.stop_seconds,
        )
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        return self._port

    async def start(self) -> None:
        """Listen; return when connections are taken. Raises ConfigError when the address or the TLS options cannot be used."""
        if self._task is not None:
            raise InvariantError("the HTTP server was started twice")
        self._server.config.load()
        self._server.config.ssl = self._context()  # uvicorn's own knows files only, and no versions
        listener = self._listen()
        self._port = listener.getsockname()[1]
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]), name="http server")
        while not self._server.started:
            if self._task.done():
                await self._task
                raise InvariantError("the HTTP server ended before it began")
            await asyncio.sleep(0.001)  # uvicorn has no event for it; one or two rounds

    async def stop(self) -> None:
        """Take no more connections, let requests finish for stop_seconds, then cancel them. Does nothing when not started."""
        if self._task is None:
            return
        self._server.should_exit = True
        await self._task
        self._task = None

    def _context(self) -> ssl.SSLContext | None:
        if self._tls is None:
            return None
        try:
            return self._tls.server_context(self._alpn)
        except ConfigError as error:
            raise ConfigError(f"cannot use the TLS files of the HTTP server: {error}", key=error.key) from error

    def _listen(self) -> socket.socket:
        try:
            family = socket.getaddrinfo(
                self._host or None, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            address_family, _, _, _, address = family[0]
            listener = socket.socket(address_family, socket.SOCK_STREAM)
        except OSError as error:
            raise ConfigError(f"cannot use {self._host!r} as a listen address: {error}") from error
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if address_family == socket.AF_INET6:
                # "::" then means every address of both families, as it does for Go's net.Listen
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listener.bind(address)
        except OSError as error:
            listener.close()
            raise ConfigError(f"cannot listen on {self._host}:{self._port}: {error}") from error
        return listener


class _Server(uvicorn.Server):
    """uvicorn's server, leaving signals to whoever owns the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _either(http1: type[HttpToolsProtocol], timeouts: HttpTimeouts) -> Callable[..., PrefaceProtocol]:
    """What makes the protocol of a new connection, which will be HTTP/1.1 or HTTP/2."""

    def new_protocol(
        config: uvicorn.Config, server_state: ServerState, app_state: dict[str, Any], **_: object
    ) -> PrefaceProtocol:
        return PrefaceProtocol(
            http1=partial(http1, config, server_state, app_state),
            http2=partial(
                Http2Connection,
                config,
                server_state,
                idle_seconds=timeouts.idle_seconds,
                write_seconds=timeouts.write_seconds,
            ),
            connections=server_state.connections,
            seconds=timeouts.read_seconds,
        )

    return new_protocol


def _protocol(timeouts: HttpTimeouts) -> type[HttpToolsProtocol]:
    """uvicorn's HTTP/1.1 protocol with bounds on requests, in seconds, their heads, in bytes, and slow readers."""

    class BoundedProtocol(HttpToolsProtocol):
        _deadline: asyncio.TimerHandle | None = None  # of the request that is arriving, or of the first
        _head_is_due = True
        _head_size = 0
        _stalled: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._await_request()

        def connection_lost(self, exc: Exception | None) -> None:
            self._request_is_here()
            self._client_reads()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._head_is_due:  # still, after these bytes
                self._head_size += len(data)
                if self._head_size > HEAD_SIZE_MAX:
                    self.send_400_response(f"request line and headers are over {HEAD_SIZE_MAX} bytes")
            elif self._deadline is None and self.cycle.response_complete:
                # the rest of a body, or an empty line; uvicorn has ended the idle time as if it were a request
                self._await_request()

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._head_is_due = True
            self._head_size = 0
            self._await_request()

        def on_headers_complete(self) -> None:
            super().on_headers_complete()
            self._head_is_due = False

        def on_message_complete(self) -> None:
            self._request_is_here()
            super().on_message_complete()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._client_reads()
            # abort, for close() would wait for the client to take in what is buffered
            self._stalled = self.loop.call_later(timeouts.write_seconds, self.transport.abort)

        def resume_writing(self) -> None:
            self._client_reads()
            super().resume_writing()

        def _client_reads(self) -> None:
            if self._stalled is not None:
                self._stalled.cancel()
                self._stalled = None

        def _await_request(self) -> None:
            if self._deadline is None:
                self._deadline = self.loop.call_later(timeouts.read_seconds, self.transport.close)

        def _request_is_here(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

    return BoundedProtocol
