"""HTTP/2 for the ASGI application: one connection, many requests at a time.

HTTP/2 itself (framing, HPACK, flow control, floods) is libnghttp2's, by way of ngh2, which does no I/O; this file moves bytes
between it and an asyncio transport, and requests between it and the application, as uvicorn does for HTTP/1.1.

Rule 1  a request body is acknowledged as the application reads it, so a client can send no more than the windows ahead.
Rule 2  send() returns when the client's window has taken the bytes: at most BODY_PIECE_BYTES of a response wait here.
Rule 3  a client that goes away, or takes in nothing for write_seconds, is an http.disconnect for the application.
Rule 4  a request that fails, fails alone; only a violation of HTTP/2 ends the connection.

Who speaks HTTP/2: stream_preface.py.  gRPC's wire: stream_wire.py.  Why not grpcio or uvicorn: docs/decisions/005-http2-front.md.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from typing import cast
from urllib.parse import unquote

import ngh2
from starlette.types import Message, Scope
from uvicorn.config import Config
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

logger = logging.getLogger(__name__)

STREAMS_MAX = 100
"""Requests at a time on a connection, as Tempo allows."""

STREAM_WINDOW_BYTES = 256 << 10
CONNECTION_WINDOW_BYTES = 1 << 20
"""Of request bodies not yet read. Queries are below 1 KiB; what is larger goes a window at a time."""

BODY_PIECE_BYTES = 64 << 10

HEADER_LIST_BYTES_MAX = 128 << 10
"""A URL may be 64 KiB, which is libnghttp2's own bound on one field."""

HOP_BY_HOP = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))
"""Not allowed in HTTP/2. Source: RFC 9113, 8.2.2."""


class Http2Connection(asyncio.Protocol):
    """The server's side of one connection, in uvicorn's server.

    idle_seconds    without a request, then the connection is closed
    write_seconds   for a client to take in BODY_PIECE_BYTES of a response
    """

    _transport: asyncio.Transport

    def __init__(self, config: Config, state: ServerState, *, idle_seconds: float, write_seconds: float) -> None:
        self._config = config
        self._state = state
        self._idle_seconds = idle_seconds
        self.write_seconds = write_seconds
        self._loop = asyncio.get_running_loop()
        self.http2 = ngh2.Connection(
            ngh2.Role.SERVER,
            ngh2.Configuration(auto_window_update=False, max_inbound_header_list_size=HEADER_LIST_BYTES_MAX),
        )
        self._streams: dict[int, _Stream] = {}
        self._draining = False
        self._flush_is_due = False
        self.writing_is_paused = False
        self._idle: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None

    # From the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's do not inherit from it
        self._state.connections.add(self)  # type: ignore[arg-type]  # uvicorn calls shutdown() and no more
        self.http2.initiate_connection(
            {
                ngh2.Setting.MAX_CONCURRENT_STREAMS: STREAMS_MAX,
                ngh2.Setting.INITIAL_WINDOW_SIZE: STREAM_WINDOW_BYTES,
                ngh2.Setting.MAX_HEADER_LIST_SIZE: HEADER_LIST_BYTES_MAX,
            }
        )
        self.http2.set_local_window_size(CONNECTION_WINDOW_BYTES)
        self._await_request()
        self.flush()

    def data_received(self, data: bytes) -> None:
        try:
            self.http2.receive_data(data)
            self._take_events()
        except ngh2.NGH2Error as error:
            self._abort(error)
            return
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._state.connections.discard(self)
        for timer in (self._idle, self._stalled):
            if timer is not None:
                timer.cancel()
        for stream in self._streams.values():
            stream.leave()
        self._streams.clear()

    def pause_writing(self) -> None:
        self.writing_is_paused = True
        # abort, for close() would wait for the client to take in what is buffered
        self._stalled = self._loop.call_later(self.write_seconds, self._transport.abort)

    def resume_writing(self) -> None:
        self.writing_is_paused = False
        if self._stalled is not None:
            self._stalled.cancel()
        self.flush()

    # From the server

    def shutdown(self) -> None:
        """Take no more requests; those under way are answered, after which libnghttp2 reports the end of the connection.

        It does not while the head of a request is not complete, for which it would wait forever.
        """
        if not self._draining and not self._transport.is_closing():
            self._draining = True
            self.http2.send_goaway()
            self.flush()
        if not self._streams:
            self._transport.close()

    # From streams

    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """The date, which uvicorn keeps."""
        return self._state.default_headers

    def flush_soon(self) -> None:
        """One write for all that is sent in this turn of the loop."""
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        self._flush_is_due = False
        try:
            while not self.writing_is_paused and not self._transport.is_closing():
                data = self.http2.data_to_send(BODY_PIECE_BYTES)
                if not data:
                    break
                self._transport.write(data)
            self._take_events()  # sending has events of its own: streams that end with it
        except ngh2.NGH2Error as error:
            self._abort(error)
            return
        for stream in self._streams.values():
            stream.moved.set()

    def reset(self, stream_id: int, code: ngh2.ErrorCode) -> None:
        try:
            self.http2.reset_stream(stream_id, code)
        except ngh2.NGH2Error as error:
            logger.info("a stream ended before it could be reset: %s", error)
        self.flush_soon()

    # Events

    def _take_events(self) -> None:
        for event in self.http2.events():
            match event:
                case ngh2.RequestReceived():
                    self._open(event.stream_id, event.headers, event.end_stream)
                case ngh2.DataReceived():
                    if (stream := self._streams.get(event.stream_id)) is not None:
                        stream.feed(event.data, event.end_stream)
                    else:  # no one will read it, and the connection's window must not stay smaller
                        self.http2.acknowledge_received_data(len(event.data), event.stream_id)
                case ngh2.TrailersReceived():
                    if (stream := self._streams.get(event.stream_id)) is not None:
                        stream.feed(b"", True)
                case ngh2.StreamClosed():
                    self._close(event.stream_id)
                case ngh2.ConnectionClosed():
                    self._transport.close()  # after what was written
                case _:
                    pass  # window updates, priorities, pings: libnghttp2 acts on them by itself

    def _open(self, stream_id: int, headers: Iterable[tuple[bytes, bytes]], is_complete: bool) -> None:
        limit = self._config.limit_concurrency
        if limit is not None and (len(self._state.connections) >= limit or len(self._state.tasks) >= limit):
            self.reset(stream_id, ngh2.ErrorCode.REFUSED_STREAM)
            return
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        stream = _Stream(self, stream_id, self._scope(headers), is_complete)
        self._streams[stream_id] = stream
        task = self._loop.create_task(self._run(stream), name=f"HTTP/2 stream {stream_id}")
        self._state.tasks.add(task)
        task.add_done_callback(self._state.tasks.discard)

    def _close(self, stream_id: int) -> None:
        stream = self._streams.pop(stream_id, None)
        if stream is not None:
            stream.leave()
            if not self._streams:
                self._await_request()

    def _await_request(self) -> None:
        self._idle = self._loop.call_later(self._idle_seconds, self.shutdown)

    def _scope(self, headers: Iterable[tuple[bytes, bytes]]) -> Scope:
        pseudo: dict[bytes, bytes] = {}
        plain: list[tuple[bytes, bytes]] = []
        for name, value in headers:
            if name.startswith(b":"):
                pseudo[name] = bytes(value)
            else:
                plain.append((bytes(name), bytes(value)))
        if b":authority" in pseudo and not any(name == b"host" for name, _ in plain):
            plain.insert(0, (b"host", pseudo[b":authority"]))
        raw_path, _, query = pseudo.get(b":path", b"/").partition(b"?")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "2",
            "method": pseudo[b":method"].decode("latin-1"),
            "scheme": "https" if is_ssl(self._transport) else "http",
            "path": unquote(raw_path.decode("latin-1")),
            "raw_path": raw_path,
            "query_string": query,
            "root_path": self._config.root_path,
            "headers": plain,
            "client": get_remote_addr(self._transport),
            "server": get_local_addr(self._transport),
            "state": {},
            "extensions": {"http.response.trailers": {}},
        }

    async def _run(self, stream: _Stream) -> None:
        """One request. The application answers its own errors; what comes through here is a fault of it."""
        try:
            await self._config.loaded_app(stream.scope, stream.receive, stream.send)
            if not stream.is_answered and not stream.is_gone:
                logger.error("%s %s was not answered", stream.scope["method"], stream.scope["path"])
        except Exception:
            logger.exception("%s %s failed", stream.scope["method"], stream.scope["path"])
        finally:
            stream.finish()

    def _abort(self, error: ngh2.NGH2Error) -> None:
        """End a connection whose HTTP/2 state is beyond use."""
        logger.info("closing a connection that broke HTTP/2: %s", error)
        self._transport.abort()


class _Stream:
    """One request and its response: ASGI's receive() and send()."""

    def __init__(self, connection: Http2Connection, stream_id: int, scope: Scope, is_complete: bool) -> None:
        self.scope = scope
        self.is_gone = False
        self.is_answered = False
        self.moved = asyncio.Event()  # bytes went out, or the stream is gone
        self._connection = connection
        self._id = stream_id
        self._chunks: deque[bytes] = deque()
        self._came = asyncio.Event()
        self._is_complete = is_complete
        self._is_read = False
        self._head: list[tuple[bytes, bytes]] | None = None  # of the response, held until the first of its body
        self._has_trailers = False

    # From the connection

    def feed(self, data: bytes, is_last: bool) -> None:
        self._chunks.append(data)
        self._is_complete = self._is_complete or is_last
        self._came.set()

    def leave(self) -> None:
        """The stream is closed, at its end or before."""
        self.is_gone = True
        self._acknowledge(sum(map(len, self._chunks)))
        self._chunks.clear()
        self._came.set()
        self.moved.set()

    def finish(self) -> None:
        """The application is done. A client that is still sending is told to stop."""
        if not self.is_gone:
            whole = ngh2.ErrorCode.NO_ERROR if self.is_answered else ngh2.ErrorCode.INTERNAL_ERROR
            if not (self.is_answered and self._is_complete):
                self._connection.flush()  # the reset must not overtake the answer
                self._connection.reset(self._id, whole)

    # For the application

    async def receive(self) -> Message:
        while not (self._chunks or self.is_gone or (self._is_complete and not self._is_read)):
            self._came.clear()
            await self._came.wait()
        if self.is_gone:
            return {"type": "http.disconnect"}
        body = b"".join(self._chunks)
        self._chunks.clear()
        self._acknowledge(len(body))
        self._is_read = self._is_complete
        return {"type": "http.request", "body": body, "more_body": not self._is_complete}

    async def send(self, message: Message) -> None:
        """What is sent to a client that is gone is dropped; receive() tells."""
        if self.is_gone:
            return
        try:
            match message["type"]:
                case "http.response.start":
                    self._has_trailers = message.get("trailers", False)
                    self._head = [
                        (b":status", str(message["status"]).encode()),
                        *self._connection.default_headers(),
                        *((n, v) for n, v in message.get("headers", ()) if n.lower() not in HOP_BY_HOP),
                    ]
                case "http.response.body":
                    await self._body(message.get("body", b""), more=message.get("more_body", False))
                case "http.response.trailers":
                    self._connection.http2.send_trailers(self._id, message["headers"])
                    self.is_answered = True
        except ngh2.NGH2Error as error:
            logger.info("a stream ended before its answer could be sent: %s", error)
        self._connection.flush_soon()

    async def _body(self, body: bytes, *, more: bool) -> None:
        if self.scope["method"] == "HEAD":
            body = b""
        self._send_head(is_all=not (body or more or self._has_trailers))
        for start in range(0, len(body), BODY_PIECE_BYTES):
            self._connection.http2.send_data(self._id, body[start : start + BODY_PIECE_BYTES])
            self._connection.flush_soon()
            await self._taken()
            if self.is_gone:
                return
        if not (more or self._has_trailers or self.is_answered):
            self._connection.http2.end_stream(self._id)
            self.is_answered = True

    def _send_head(self, *, is_all: bool) -> None:
        """Once. An answer without a body is one frame, which needs no window."""
        if self._head is not None:
            self._connection.http2.send_response(self._id, self._head, end_stream=is_all)
            self._head = None
            self.is_answered = is_all

    async def _taken(self) -> None:
        """Wait until all that was sent has left this process or the stream is gone, for which we may see to it ourselves."""
        try:
            async with asyncio.timeout(self._connection.write_seconds):
                while not self.is_gone and self._connection.http2.queued_body_size(self._id):
                    self.moved.clear()
                    await self.moved.wait()
        except TimeoutError:
            self._connection.reset(self._id, ngh2.ErrorCode.CANCEL)

    def _acknowledge(self, size: int) -> None:
        if size:
            try:
                self._connection.http2.acknowledge_received_data(size, self._id)
            except ngh2.NGH2Error as error:
                logger.info("cannot acknowledge %d bytes: %s", size, error)
            self._connection.flush_soon()
