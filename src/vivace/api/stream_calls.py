"""gRPC calls free of a transport: one request message in, a stream of reply messages out, or a status.

Rule 1  a Call takes and gives serialised messages; grpc_server.py and stream_wire.py put the same calls on the wire.
Rule 2  it raises CallError and nothing else, but for cancellation; closing it stops the work behind it.
Rule 3  texts and origins of errors are those of HTTP (errors.py), statuses follow from the HTTP ones by GRPC_STATUS.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import TypeAlias
from urllib.parse import quote

import grpc
from starlette.requests import Request

from vivace.api.errors import error_response
from vivace.telemetry import Telemetry

Metadata: TypeAlias = Sequence[tuple[bytes, bytes]]
"""Names in lower case."""

Call: TypeAlias = Callable[[Metadata, bytes], AsyncGenerator[bytes, None]]

GRPC_STATUS = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    404: grpc.StatusCode.NOT_FOUND,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    499: grpc.StatusCode.CANCELLED,
}
"""By HTTP status, as Tempo translates them, but for 401, which it makes UNKNOWN; 5xx are INTERNAL and the rest is UNKNOWN."""

MESSAGE_BYTES_MAX = 6000
"""Of a status text as it is sent: clients refuse 8 KiB of trailers, which the text shares with the rest."""

TEXT_PLAIN = " !\"#$&'()*+,/:;<=>?@[\\]^`{|}"
"""Characters that gRPC sends as they are, beside letters and digits. Source: gRPC over HTTP2, "Status-Message"."""

_END_SPACE = re.compile(r"\A | \Z")


class CallError(Exception):
    """How a call ended, where it did not end well."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


def request_of(metadata: Metadata) -> Request:
    """Metadata as a request's headers, which say whose request it is: see tenancy.py."""
    return Request({"type": "http", "headers": list(metadata)})


def encoded_text(text: str) -> str:
    """A status text as it is sent, without regard to its length. A space at an end is none of HTTP/2's (RFC 9113, 8.2.1)."""
    return _END_SPACE.sub("%20", quote(text, safe=TEXT_PLAIN, errors="replace"))


def observed(name: str, call: Call, telemetry: Telemetry, error_id: Callable[[], str]) -> Call:
    """`call` by Rule 2, and each of its runs observed once in tempo_request_duration_seconds under `name`."""

    async def run(metadata: Metadata, message: bytes) -> AsyncGenerator[bytes, None]:
        begun = time.perf_counter()
        result = "error"
        try:
            async with aclosing(call(metadata, message)) as replies:
                async for reply in replies:
                    yield reply
            result = "success"
        except (asyncio.CancelledError, GeneratorExit):
            result = "cancel"
            raise
        except CallError:
            raise
        except Exception as error:
            raise _call_error(error, error_id, name) from error
        finally:
            telemetry.tempo_request_duration_seconds.labels("gRPC", name, result, "false").observe(
                time.perf_counter() - begun
            )

    return run


def _call_error(error: Exception, error_id: Callable[[], str], what: str) -> CallError:
    response = error_response(error, error_id, what=what)
    code = grpc.StatusCode.INTERNAL if response.status_code >= 500 else grpc.StatusCode.UNKNOWN
    return CallError(GRPC_STATUS.get(response.status_code, code), _bounded(bytes(response.body).decode()))


def _bounded(text: str) -> str:
    shown = text
    while len(encoded_text(shown)) > MESSAGE_BYTES_MAX:
        shown = shown[: len(shown) * 3 // 4]
    return shown if shown == text else f"{shown}…"
