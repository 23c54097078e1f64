"""One HTTP/2 connection that carries unary gRPC calls, and nothing else.

HTTP/2 itself (framing, HPACK, flow control, floods) is libnghttp2's, by way of ngh2, which does no I/O; this file moves
bytes between it and an asyncio transport and knows gRPC's wire: docs of "gRPC over HTTP2".

Rule 1  a message reaches the handler only whole: one length-prefixed message, then the end of the stream.
Rule 2  every stream that we accepted gets exactly one status, unless the client resets it first.
Rule 3  a call that fails, fails alone; only a violation of HTTP/2 ends the connection.
Rule 4  bytes of unfinished and unanswered calls are charged to the server's budget, and given back exactly once.
Rule 5  a client that goes away does not undo a call whose handler has begun; its answer is dropped.

The peer's `grpc-timeout` is not enforced here: its client resets the stream when the time is over.
Why not grpcio: docs/decisions/001-grpc-front.md.  Which calls exist: otlp_grpc.py.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, cast
from urllib.parse import quote

import ngh2

from vivace.errors import DecodeError, LimitError, RequestError
from vivace.ingest.budget import Budget
from vivace.ingest.compression import inflate
from vivace.ingest.replies import Code, Refusal, refusal_of

logger = logging.getLogger(__name__)

# Takes the request's headers and one whole message, returns the reply message.
Handler = Callable[[Mapping[bytes, bytes], bytes], Awaitable[bytes]]

PREFIX_BYTES = 5  # one byte "compressed", four bytes length, big endian
STREAM_WINDOW_BYTES = 1 << 20  # a usual batch (130 KB at 500 spans) never waits for a WINDOW_UPDATE
CONNECTION_WINDOW_BYTES = 4 << 20
FRAME_BYTES_MAX = 1 << 18  # the default of 16 KiB would cut a batch into nine frames, each an event
HEADER_LIST_BYTES_MAX = 16 << 10  # tenants, user agents and trace context need far less
ENCODINGS = b"identity,gzip,deflate"

RESPONSE_HEADERS = ((b":status", b"200"), (b"content-type", b"application/grpc"))
OK_TRAILERS = ((b"grpc-status", b"0"),)
UNSUPPORTED_MEDIA_TYPE = ((b":status", b"415"),)


@dataclass(slots=True)
class Call:
    """One stream from its headers to its answer."""

    headers: dict[bytes, bytes]
    handler: Handler
    started_at: float
    chunks: list[bytes] = field(default_factory=list)
    received_bytes: int = 0
    charged_bytes: int = 0
    complete: bool = False


class UnaryServer(Protocol):
    """What a connection needs of the receiver that owns it."""

    routes: Mapping[bytes, Handler]
    message_bytes_max: int
    concurrent_streams_max: int
    budget: Budget
    loop: asyncio.AbstractEventLoop

    def connection_opened(self, connection: UnaryConnection) -> bool:
        """False when there are too many already; the connection is then closed."""
        ...

    def connection_closed(self, connection: UnaryConnection) -> None: ...

    def check(self, headers: Mapping[bytes, bytes]) -> None:
        """Raise a RequestError for a call that its headers condemn."""
        ...

    def run(self, call: Awaitable[None]) -> None:
        """Run one call as a task that the server keeps and awaits when it stops."""
        ...


class UnaryConnection(asyncio.Protocol):
    """The server's side of one connection. `calls` holds those that wait for bytes or for their answer."""

    transport: asyncio.Transport

    def __init__(self, server: UnaryServer) -> None:
        self._server = server
        self._http2 = ngh2.Connection(
            ngh2.Role.SERVER,
            ngh2.Configuration(max_inbound_header_list_size=HEADER_LIST_BYTES_MAX, max_inbound_header_count=100),
        )
        self._flush_scheduled = False
        self._writing_paused = False
        self.calls: dict[int, Call] = {}
        self.opened_at = self.active_at = self.read_at = server.loop.time()
        self.settled = False  # the client's SETTINGS came, so it does speak HTTP/2
        self.draining_since: float | None = None
        self.ping_sent_at: float | None = None

    # From the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's do not inherit from it
        self._http2.initiate_connection(
            {
                ngh2.Setting.MAX_CONCURRENT_STREAMS: self._server.concurrent_streams_max,
                ngh2.Setting.INITIAL_WINDOW_SIZE: STREAM_WINDOW_BYTES,
                ngh2.Setting.MAX_FRAME_SIZE: FRAME_BYTES_MAX,
                ngh2.Setting.MAX_HEADER_LIST_SIZE: HEADER_LIST_BYTES_MAX,
            }
        )
        self._http2.set_local_window_size(CONNECTION_WINDOW_BYTES)
        if self._server.connection_opened(self):
            self._flush()
        else:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        self.read_at = self._server.loop.time()
        try:
            self._http2.receive_data(data)
            for event in self._http2.events():
                self._on_event(event)
        except ngh2.NGH2Error as error:
            self._abort(error)
            return
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_all()
        self._server.connection_closed(self)

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        self._flush()

    # From the server

    def ping(self) -> None:
        self.ping_sent_at = self._server.loop.time()
        self._http2.ping()
        self._flush()

    def drain(self) -> None:
        """Tell the client to open no more streams; calls that are under way still get their answers."""
        if self.draining_since is None and not self.transport.is_closing():
            self.draining_since = self._server.loop.time()
            self._http2.send_goaway()
            self._flush()

    def refuse(self, stream_id: int, refusal: Refusal) -> None:
        """Answer with a status alone. A client that is still sending is told to stop."""
        call = self._forget(stream_id)
        try:
            self._http2.send_response(stream_id, RESPONSE_HEADERS + _trailers(refusal), end_stream=True)
            if call is not None and not call.complete:
                self._flush()  # the reset must not overtake the status
                self._http2.reset_stream(stream_id, ngh2.ErrorCode.NO_ERROR)
        except ngh2.NGH2Error as error:
            logger.info("a stream ended before its status could be sent: %s", error)
        self._flush_soon()

    # HTTP/2 events

    def _on_event(self, event: ngh2.Event) -> None:
        match event:
            case ngh2.DataReceived():
                self._on_data(event.stream_id, event.data)
                if event.end_stream:
                    self._on_end(event.stream_id)
            case ngh2.RequestReceived():
                self._on_request(event.stream_id, dict(event.headers))
                if event.end_stream:
                    self._on_end(event.stream_id)
            case ngh2.TrailersReceived():
                self._on_end(event.stream_id)
            case ngh2.StreamClosed():
                self._forget(event.stream_id)
            case ngh2.PingAcknowledged():
                self.ping_sent_at = None
            case ngh2.SettingsReceived():
                self.settled = True
            case ngh2.ConnectionClosed():
                self.transport.close()  # after what was written
            case _:
                pass  # window updates, priorities, pings: libnghttp2 acts on them by itself

    def _on_request(self, stream_id: int, headers: dict[bytes, bytes]) -> None:
        if not headers.get(b"content-type", b"").startswith(b"application/grpc"):
            self._http2.send_response(stream_id, UNSUPPORTED_MEDIA_TYPE, end_stream=True)
            return
        path = headers.get(b":path", b"")
        handler = self._server.routes.get(path)
        if handler is None:
            known = ", ".join(route.decode() for route in self._server.routes)
            message = f"unknown method {path.decode('latin-1')}, this port serves {known}"
            self.refuse(stream_id, Refusal(Code.UNIMPLEMENTED, 404, message))
            return
        try:
            self._server.check(headers)
        except RequestError as error:
            self.refuse(stream_id, refusal_of(error))
            return
        self.calls[stream_id] = Call(headers, handler, self.read_at)

    def _on_data(self, stream_id: int, data: bytes) -> None:
        call = self.calls.get(stream_id)
        if call is None:
            return  # refused while the client was still sending
        call.received_bytes += len(data)
        try:
            if call.received_bytes > PREFIX_BYTES + self._server.message_bytes_max:
                raise _too_large(call.received_bytes - PREFIX_BYTES, self._server.message_bytes_max)
            self._charge(call, len(data))
        except Exception as error:
            self.refuse(stream_id, refusal_of(error))
            return
        call.chunks.append(data)

    def _on_end(self, stream_id: int) -> None:
        call = self.calls.get(stream_id)
        if call is not None:
            call.complete = True
            self._server.run(self._answer(stream_id, call))

    # Calls

    async def _answer(self, stream_id: int, call: Call) -> None:
        """Run the handler on the call's message and send what it returns or raises."""
        try:
            reply = await call.handler(call.headers, await self._message(call))
        except Exception as error:
            refusal = refusal_of(error)
            if stream_id in self.calls:
                self.refuse(stream_id, refusal)
            return
        if self._forget(stream_id) is None:
            return
        try:
            self._http2.send_response(stream_id, RESPONSE_HEADERS)
            self._http2.send_data(stream_id, b"\x00" + len(reply).to_bytes(4, "big") + reply)
            self._http2.send_trailers(stream_id, OK_TRAILERS)
        except ngh2.NGH2Error as error:
            logger.info("a stream ended before its reply could be sent: %s", error)
        self._flush_soon()

    async def _message(self, call: Call) -> bytes:
        """The one message of a finished request, decompressed."""
        framed = call.chunks[0] if len(call.chunks) == 1 else b"".join(call.chunks)
        call.chunks.clear()
        if len(framed) < PREFIX_BYTES:
            raise DecodeError("the stream ended before a whole message", offset=len(framed), field="gRPC message")
        length = int.from_bytes(framed[1:PREFIX_BYTES], "big")
        if length != len(framed) - PREFIX_BYTES:
            raise DecodeError(
                f"its prefix says {length} bytes, the stream has {len(framed) - PREFIX_BYTES}",
                offset=PREFIX_BYTES,
                field="gRPC message",
            )
        body = framed[PREFIX_BYTES:]
        if framed[0] == 0:
            return body
        encoding = call.headers.get(b"grpc-encoding", b"identity").decode("latin-1")
        if framed[0] != 1 or encoding not in ("gzip", "deflate"):
            raise RequestError(
                f"cannot read a message with compression flag {framed[0]} and grpc-encoding {encoding}, "
                f"send one of {ENCODINGS.decode()}",
                status=501,
            )
        limit = self._server.message_bytes_max
        message = await inflate(body, encoding, limit)
        self._charge(call, len(message))
        return message

    def _charge(self, call: Call, size_bytes: int) -> None:
        self._server.budget.take(size_bytes)
        call.charged_bytes += size_bytes

    def _forget(self, stream_id: int) -> Call | None:
        """Drop a call and give its bytes back; None when it is gone already."""
        call = self.calls.pop(stream_id, None)
        if call is not None:
            self._server.budget.give_back(call.charged_bytes)
            self.active_at = self._server.loop.time()
        return call

    def _forget_all(self) -> None:
        for stream_id in list(self.calls):
            self._forget(stream_id)

    # Writing

    def _flush_soon(self) -> None:
        """One write for all calls that are answered in this turn of the loop."""
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._server.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        if self._writing_paused or self.transport.is_closing():
            return
        try:
            data = self._http2.data_to_send()
            if data:
                self.transport.write(data)
            # Sending has events of its own: streams that end with it, and a connection that ends with a GOAWAY.
            for event in self._http2.events():
                self._on_event(event)
        except ngh2.NGH2Error as error:
            self._abort(error)

    def _abort(self, error: ngh2.NGH2Error) -> None:
        """End a connection whose HTTP/2 state is beyond use."""
        logger.info("closing a connection that broke HTTP/2: %s", error)
        self._forget_all()
        self.transport.abort()


def _too_large(seen: int, allowed: int) -> LimitError:
    return LimitError(
        f"message of at least {seen} bytes exceeds max_recv_msg_size of {allowed} bytes, send smaller batches",
        limit="max_recv_msg_size_mib",
        allowed=allowed,
        seen=seen,
        retry_after_seconds=None,
    )


def _trailers(refusal: Refusal) -> tuple[tuple[bytes, bytes], ...]:
    trailers = (
        (b"grpc-status", str(int(refusal.code)).encode()),
        # gRPC keeps printable ASCII as it is, but for the percent sign.
        (b"grpc-message", quote(refusal.message, safe=" !\"#$&'()*+,/:;<=>?@[\\]^`{|}").encode()),
    )
    if refusal.code is Code.UNIMPLEMENTED:
        return (*trailers, (b"grpc-accept-encoding", ENCODINGS))
    if refusal.retry_after_seconds is None:
        return trailers
    details = base64.b64encode(refusal.status()).rstrip(b"=")
    return (*trailers, (b"grpc-status-details-bin", details))
