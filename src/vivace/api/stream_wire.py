"""gRPC over ASGI: the calls of stream_calls.py for HTTP/2 requests with the content type application/grpc.

Rule 1  a call gets its message whole: one length-prefixed message, then the end of the request.
Rule 2  every request gets exactly one status, in trailers, unless its client is gone; then its call is closed.
Rule 3  bytes of requests that are being read are counted, over all connections, against `pending_bytes_max`.

Source: grpc.io, "gRPC over HTTP2". HTTP/2 itself: stream_http2.py. `grpc-timeout` is the client's affair, which resets its stream.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Coroutine, Mapping
from contextlib import aclosing
from dataclasses import dataclass

import grpc
from starlette.types import ASGIApp, Receive, Scope, Send

from vivace.api.stream_calls import Call, CallError, encoded_text

MEDIA_TYPE = b"application/grpc"
PREFIX_BYTES = 5  # one byte "compressed", four bytes length, big endian
ENCODINGS = {b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}
ACCEPTED = (b"grpc-accept-encoding", b"identity,gzip,deflate")


@dataclass(frozen=True, slots=True)
class WireLimits:
    """Of one message either way, in bytes; of all requests being read; and seconds for a request to arrive whole."""

    receive_bytes_max: int = 16 << 20
    send_bytes_max: int = 16 << 20
    pending_bytes_max: int = 64 << 20  # four of the largest; a usual request is below 1 KiB
    read_seconds: float = 30


class GrpcApplication:
    """Serves `calls`, by path, to requests that are gRPC, and hands all others on to `other`."""

    def __init__(self, calls: Mapping[str, Call], other: ASGIApp, *, limits: WireLimits = WireLimits()) -> None:
        self._calls = calls
        self._other = other
        self._limits = limits
        self._pending_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not is_grpc(scope):
            await self._other(scope, receive, send)
            return
        reply = _Reply(send, self._limits.send_bytes_max)
        try:
            call = self._call(scope["path"])
            message = await self._message(scope, receive)
            if message is None or not await _unless_disconnected(_answer(call, scope, message, reply), receive):
                return
            await reply.end(grpc.StatusCode.OK, "")
        except CallError as error:
            await reply.end(error.code, error.text)

    def _call(self, path: str) -> Call:
        if path not in self._calls:
            raise CallError(grpc.StatusCode.UNIMPLEMENTED, f"unknown method {path[:200]}")
        return self._calls[path]

    async def _message(self, scope: Scope, receive: Receive) -> bytes | None:
        """The message of the request; None when the client is gone."""
        framed = bytearray()
        try:
            async with asyncio.timeout(self._limits.read_seconds):
                while True:
                    event = await receive()
                    if event["type"] == "http.disconnect":
                        return None
                    self._take(framed, event["body"])
                    if not event.get("more_body", False):
                        break
        except TimeoutError:
            raise CallError(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                f"the request was not complete after {self._limits.read_seconds:g} seconds",
            ) from None
        finally:
            self._pending_bytes -= len(framed)
        encoding = dict(scope["headers"]).get(b"grpc-encoding", b"identity")
        if framed[:1] == b"\0":
            return self._unframed(framed, encoding)
        return await asyncio.to_thread(self._unframed, framed, encoding)  # a small message may inflate to a large one

    def _take(self, framed: bytearray, chunk: bytes) -> None:
        limits = self._limits
        size = len(framed) + len(chunk) - PREFIX_BYTES
        if size > limits.receive_bytes_max:
            raise _too_large("received message", size, limits.receive_bytes_max)
        if self._pending_bytes + len(chunk) > limits.pending_bytes_max:
            raise CallError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"requests being read already hold {self._pending_bytes} of {limits.pending_bytes_max} bytes, try again",
            )
        framed += chunk
        self._pending_bytes += len(chunk)

    def _unframed(self, framed: bytearray, encoding: bytes) -> bytes:
        if len(framed) < PREFIX_BYTES:
            raise CallError(grpc.StatusCode.INVALID_ARGUMENT, "the request ended before a whole message")
        body = bytes(framed[PREFIX_BYTES:])
        length = int.from_bytes(framed[1:PREFIX_BYTES], "big")
        if length != len(body):
            raise CallError(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"the message's prefix says {length} bytes, the request has {len(body)}",
            )
        if not framed[0]:
            return body
        if framed[0] != 1 or encoding not in ENCODINGS:
            raise CallError(
                grpc.StatusCode.UNIMPLEMENTED,
                f"cannot read a message with compression flag {framed[0]} and grpc-encoding {encoding.decode('latin-1')}",
            )
        limit = self._limits.receive_bytes_max
        inflater = zlib.decompressobj(ENCODINGS[encoding])
        try:
            message = inflater.decompress(body, limit + 1)
        except zlib.error as error:
            raise CallError(grpc.StatusCode.INVALID_ARGUMENT, f"cannot decompress the message: {error}") from error
        if len(message) > limit:
            raise _too_large("received message", len(message), limit)
        if not inflater.eof:
            raise CallError(grpc.StatusCode.INVALID_ARGUMENT, "cannot decompress the message: it is not complete")
        return message


def is_grpc(scope: Scope) -> bool:
    """As Tempo tells them apart: HTTP/2, and the words anywhere in the content type."""
    if scope["type"] != "http" or scope["http_version"] != "2":
        return False
    return any(name == b"content-type" and MEDIA_TYPE in value for name, value in scope["headers"])


class _Reply:
    """The response of one call: headers before the first message, trailers after the last."""

    def __init__(self, send: Send, send_bytes_max: int) -> None:
        self._send = send
        self._send_bytes_max = send_bytes_max
        self._begun = False

    async def message(self, message: bytes) -> None:
        if len(message) > self._send_bytes_max:
            raise _too_large("message to send", len(message), self._send_bytes_max)
        await self._begin()
        framed = b"\0" + len(message).to_bytes(4, "big") + message
        await self._send({"type": "http.response.body", "body": framed, "more_body": True})

    async def end(self, code: grpc.StatusCode, text: str) -> None:
        await self._begin()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        headers = [(b"grpc-status", str(code.value[0]).encode())]
        if text:
            headers.append((b"grpc-message", encoded_text(text).encode()))
        if code is grpc.StatusCode.UNIMPLEMENTED:
            headers.append(ACCEPTED)
        await self._send({"type": "http.response.trailers", "headers": headers, "more_trailers": False})

    async def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            headers = [(b"content-type", MEDIA_TYPE)]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": True})


async def _answer(call: Call, scope: Scope, message: bytes, reply: _Reply) -> None:
    async with aclosing(call(scope["headers"], message)) as replies:
        async for packet in replies:
            await reply.message(packet)


async def _unless_disconnected(work: Coroutine[object, object, None], receive: Receive) -> bool:
    """Run `work`; False, with the work cancelled, when the client is gone first."""
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_disconnect(receive))
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            return False
        working.result()
        return True
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _too_large(what: str, seen: int, allowed: int) -> CallError:
    return CallError(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{what} larger than max ({seen} vs. {allowed})")
