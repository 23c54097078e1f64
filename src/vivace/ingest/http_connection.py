"""One HTTP/1.1 connection of the OTLP receiver: whole requests in, short replies out.

Parsing is llhttp's (the parser of Node.js), by way of httptools; this file moves bytes between it and an asyncio transport.
uvicorn serves the query API; here its general machinery, a task and three awaited messages a request, cost as much as
all the rest of a small request (docs/decisions/003-http-front.md).

Rule 1  a request reaches the handler only whole. One is handled at a time; what a client sends ahead waits unread.
Rule 2  what can be refused by its head is refused before its body is kept, and a body over the bound is kept no longer.
Rule 3  bytes of a request are charged to the server's budget and given back exactly once.
Rule 4  a client that goes away does not undo what the handler has begun; its reply is dropped.
"""

from __future__ import annotations

import asyncio
import http
import logging
from collections import deque
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, cast

import httptools

from vivace.errors import VivaceError
from vivace.ingest.accept import Accepted
from vivace.ingest.budget import Budget

logger = logging.getLogger(__name__)

HEAD_BYTES_MAX = (
    64 << 10
)  # request line and headers; OTLP senders need some 300 bytes, a trace context and a token more

STATUS_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in http.HTTPStatus}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

Headers = dict[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Response:
    """A whole reply; the connection adds Content-Length and, where it ends, Connection.

    encoded  its bytes where the connection goes on, for a reply that is sent often
    """

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes
    encoded: bytes = b""


BAD_REQUEST = Response(400, ((b"content-type", b"text/plain; charset=utf-8"),), b"not an HTTP/1.1 request")
TOO_MANY = Response(
    503, ((b"content-type", b"text/plain; charset=utf-8"), (b"retry-after", b"1")), b"too many connections, try again"
)


@dataclass(slots=True)
class Request:
    """One request; `path` without the query string, header names in lower case. `refusal` answers it in advance."""

    method: str = ""
    path: str = ""
    headers: Headers = field(default_factory=dict)
    chunks: list[bytes] = field(default_factory=list)
    body_bytes: int = 0
    charged_bytes: int = 0
    keeps_alive: bool = True
    refusal: Response | None = None

    @property
    def body(self) -> bytes:
        return self.chunks[0] if len(self.chunks) == 1 else b"".join(self.chunks)


class HttpServer(Protocol):
    """What a connection needs of the receiver that owns it."""

    body_bytes_max: int
    budget: Budget
    loop: asyncio.AbstractEventLoop

    def connection_opened(self, connection: HttpConnection) -> bool:
        """False when there are too many already: the connection's requests are then refused, and it ends."""
        ...

    def connection_closed(self, connection: HttpConnection) -> None: ...

    def run(self, reply: Coroutine[None, None, None]) -> None:
        """Run one request as a task that the server keeps and awaits when it stops."""
        ...

    def refuse_early(self, request: Request) -> Response | None:
        """The reply to a request that its head condemns."""
        ...

    def refuse(self, request: Request, error: VivaceError) -> Response:
        """The reply to a request that is too large, too late, or does not fit into the budget."""
        ...

    def keep(self, request: Request) -> asyncio.Future[Accepted] | Response | None:
        """The fate of a whole request whose body is kept as it came, or its refusal; None: ask respond()."""
        ...

    def kept(self, request: Request, fate: asyncio.Future[Accepted]) -> Response:
        """The reply to a request whose fate is known. Never raises."""
        ...

    async def respond(self, request: Request) -> Response:
        """The reply to any whole request. Never raises but on cancellation; answers that too, if only once."""
        ...


class HttpConnection(asyncio.Protocol):
    """The server's side of one connection; parser callbacks (on_...) run inside data_received()."""

    transport: asyncio.Transport

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._nothing = Request()
        self._request = self._nothing
        self._target = b""
        self._head_bytes = 0
        self._waiting: deque[Request] = deque()
        self._ended: bool = False
        self._welcome = True
        self.is_answering = False
        self.is_draining = False
        self.asking_since: float | None = None  # a request has begun and is not whole yet
        self.quiet_since = server.loop.time()

    # From the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's do not inherit from it
        self._welcome = self._server.connection_opened(self)

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # the request was parsed whole; we do not upgrade, and what follows might be of the other protocol
            self.is_draining = True
        except httptools.HttpParserError as error:
            self._not_http(error)

    def _not_http(self, error: httptools.HttpParserError) -> None:
        if not self._ended:  # else a callback has refused the request, by way of the parser
            logger.debug("not HTTP: %s", error)
            self._end(BAD_REQUEST)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._give_back(self._request)
        for request in self._waiting:
            self._give_back(request)
        self._waiting.clear()
        self._server.connection_closed(self)

    # From the parser

    def on_message_begin(self) -> None:
        self._request = Request()
        self._target = b""
        self._head_bytes = 0
        self.asking_since = self._server.loop.time()

    def on_url(self, url: bytes) -> None:
        self._count_head(len(url))
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_head(len(name) + len(value))
        self._request.headers[name.lower()] = value

    def _count_head(self, byte_count: int) -> None:
        self._head_bytes += byte_count
        if self._head_bytes > HEAD_BYTES_MAX:
            self._end(Response(431, BAD_REQUEST.headers, b"the request's head is too large"))
            raise httptools.HttpParserError("head too large")

    def on_headers_complete(self) -> None:
        request = self._request
        request.method = self._parser.get_method().decode("latin-1")
        request.keeps_alive = self._parser.should_keep_alive()
        request.path = self._target.partition(b"?")[0].decode("latin-1")
        request.refusal = self._server.refuse_early(request) if self._welcome else TOO_MANY
        if request.refusal is None and request.headers.get(b"expect", b"").lower() == b"100-continue":
            self.transport.write(CONTINUE)

    def on_body(self, chunk: bytes) -> None:
        request = self._request
        if request.refusal is not None:
            return  # read and dropped: a close with bytes unread would reset the connection, and the reply with it
        request.body_bytes += len(chunk)
        try:
            if request.body_bytes > self._server.body_bytes_max:
                raise BodyTooLargeError
            self._server.budget.take(len(chunk))
        except VivaceError as error:
            self._give_back(request)
            request.refusal = self._server.refuse(request, error)
            return
        request.charged_bytes += len(chunk)
        request.chunks.append(chunk)

    def on_message_complete(self) -> None:
        self.asking_since = None
        request, self._request = self._request, self._nothing
        if self.is_answering:
            self._waiting.append(request)
            self.transport.pause_reading()
        else:
            self._start(request)

    # Answering

    def _start(self, request: Request) -> None:
        self.is_answering = True
        reply = request.refusal or self._server.keep(request)
        if reply is None:
            self._server.run(self._answer(request))
        elif isinstance(reply, Response):
            self._give_back(request)
            self._write(reply, request.keeps_alive)
        else:
            reply.add_done_callback(partial(self._kept, request))

    def _kept(self, request: Request, fate: asyncio.Future[Accepted]) -> None:
        self._give_back(request)
        self._write(self._server.kept(request, fate), request.keeps_alive)

    async def _answer(self, request: Request) -> None:
        try:
            response = await self._server.respond(request)
        finally:
            self._give_back(request)
        self._write(response, request.keeps_alive)

    def _write(self, response: Response, keeps_alive: bool) -> None:
        """Send a reply, then go on with the next request, or end."""
        self.is_answering = False
        self.quiet_since = self._server.loop.time()
        if self._ended:
            return
        if not keeps_alive or self.is_draining or not self._welcome:
            self._end(response)
            return
        self.transport.write(response.encoded or encode(response, ends=False))
        if self._waiting:
            self.is_answering = True
            # not from here: a thousand that need no waiting would be answered a thousand calls deep
            self._server.loop.call_soon(self._start_next)

    def _start_next(self) -> None:
        if not self._waiting:
            return  # the client has gone
        self._start(self._waiting.popleft())
        if not self._waiting and not self._ended:
            self.transport.resume_reading()

    def _end(self, response: Response) -> None:
        """Send a last reply and close."""
        self._ended = True
        self.transport.write(encode(response, ends=True))
        self.transport.close()

    def _give_back(self, request: Request) -> None:
        self._server.budget.give_back(request.charged_bytes)
        request.charged_bytes = 0
        request.chunks = []

    # From the server

    def drain(self) -> None:
        """End after the reply that is under way, at once when there is none."""
        self.is_draining = True
        if not self.is_answering:
            self.transport.close()

    def refuse_late(self, error: VivaceError) -> None:
        """End a connection whose request does not become whole."""
        if not self._ended:
            self._end(self._request.refusal or self._server.refuse(self._request, error))


class BodyTooLargeError(VivaceError):
    """A body over the receiver's bound, seen while it was read."""


def encode(response: Response, *, ends: bool) -> bytes:
    """The bytes of a reply; `ends`: no other will follow on this connection."""
    lines = [b"%b: %b\r\n" % header for header in response.headers]
    if ends:
        lines.append(b"connection: close\r\n")
    length = b"content-length: %d\r\n\r\n" % len(response.body)
    return b"".join((STATUS_LINES[response.status], *lines, length, response.body))
