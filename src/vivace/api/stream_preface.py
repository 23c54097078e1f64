"""HTTP/1.1 and HTTP/2 on one port: the first bytes of a connection tell them apart, in plain text and inside TLS alike.

A client with prior knowledge of HTTP/2 begins with a preface that no HTTP/1.1 request begins with (RFC 9113, 3.4). Whoever
begins otherwise speaks HTTP/1.1; who says nothing for `seconds` is sent away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class PrefaceProtocol(asyncio.Protocol):
    """Reads until it knows, then hands the connection with all its bytes to one of the two protocols.

    `connections` is the server's register of open ones, on which it calls shutdown() when it stops.
    """

    _transport: asyncio.Transport
    _deadline: asyncio.TimerHandle

    def __init__(
        self,
        http1: Callable[[], asyncio.Protocol],
        http2: Callable[[], asyncio.Protocol],
        connections: set[Any],
        seconds: float,
    ) -> None:
        self._http1 = http1
        self._http2 = http2
        self._connections = connections
        self._seconds = seconds
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's do not inherit from it
        self._deadline = asyncio.get_running_loop().call_later(self._seconds, self._transport.abort)
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        self._head += data
        if len(self._head) < len(PREFACE) and PREFACE.startswith(self._head):
            return
        self._forget()
        protocol = self._http2() if self._head.startswith(PREFACE) else self._http1()
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        protocol.data_received(self._head)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()

    def shutdown(self) -> None:
        self._transport.close()

    def _forget(self) -> None:
        self._deadline.cancel()
        self._connections.discard(self)
