"""What a sender is told: the one mapping from the fate of a request to OTLP bytes, for gRPC and HTTP alike.

| fate                                      | gRPC code             | HTTP | retry delay                  |
| ----------------------------------------- | --------------------- | ---- | ---------------------------- |
| Accepted, all or part                     | OK                    | 200  |                              |
| DecodeError                               | INVALID_ARGUMENT 3    | 400  |                              |
| RequestError                              | by its HTTP status    | its  |                              |
| LimitError, waiting helps                 | RESOURCE_EXHAUSTED 8  | 429  | told                         |
| LimitError, it never fits                 | RESOURCE_EXHAUSTED 8  | 413  | none: senders must not retry |
| DiskFullError, UnavailableError           | UNAVAILABLE 14        | 503  | told                         |
| anything else: our bug, logged            | INTERNAL 13           | 500  |                              |

OTLP senders retry on RESOURCE_EXHAUSTED only when a RetryInfo comes with it, and over HTTP on 429 and 503 only.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum

import orjson

from vivace.access import Guard
from vivace.errors import DecodeError, DiskFullError, LimitError, RequestError, UnavailableError
from vivace.ingest.accept import Accepted
from vivace.model.proto.otlp_pb2 import ExportTraceServiceResponse
from vivace.model.proto.status_pb2 import RetryInfo, Status
from vivace.model.tenant import SINGLE_TENANT

logger = logging.getLogger(__name__)

# Answers the value of the x-scope-orgid header (None when absent) with the tenant; RequestError refuses the request.
TenantOf = Callable[[str | None], str]

# An empty partial_success, present: what senders of every request that was kept whole get.
ACCEPTED_ALL = b"\x0a\x00"
ACCEPTED_ALL_JSON = b'{"partialSuccess":{}}'

RETRY_INFO_TYPE = "type.googleapis.com/google.rpc.RetryInfo"

# A gRPC message travels in a trailer, and clients refuse trailers from 8 KiB on; percent-encoding may triple it.
MESSAGE_LENGTH_MAX = 1024


class Code(IntEnum):
    """The gRPC status codes that a receiver answers with."""

    OK = 0
    INVALID_ARGUMENT = 3
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


CODE_OF_HTTP_STATUS = {
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    413: Code.RESOURCE_EXHAUSTED,
    429: Code.RESOURCE_EXHAUSTED,
    500: Code.INTERNAL,
    501: Code.UNIMPLEMENTED,
    503: Code.UNAVAILABLE,
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why nothing of a request was kept, in the words of both protocols."""

    code: Code
    http_status: int
    message: str
    retry_after_seconds: float | None = None

    def status(self) -> bytes:
        """The google.rpc.Status message, with a RetryInfo where waiting helps."""
        status = Status(code=self.code, message=self.message)
        if self.retry_after_seconds is not None:
            retry = RetryInfo()
            retry.retry_delay.FromNanoseconds(math.ceil(self.retry_after_seconds * 1e9))
            status.details.add(type_url=RETRY_INFO_TYPE, value=retry.SerializeToString())
        return status.SerializeToString()

    def status_json(self) -> bytes:
        return orjson.dumps({"code": self.code, "message": self.message})


def single_tenant(_header: str | None) -> str:
    """Every request belongs to the one tenant, whatever its headers say."""
    return SINGLE_TENANT


def tenant_of(headers: Mapping[bytes, bytes], guard: Guard, named: TenantOf) -> str:
    """Whose spans a request with these headers (names in lower case) brings. Raises RequestError for one that must not."""
    guard.check(_text(headers.get(b"authorization")))
    return named(_text(headers.get(b"x-scope-orgid")))


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")


def accepted_bytes(accepted: Accepted) -> bytes:
    """ExportTraceServiceResponse for a request that was kept."""
    if not accepted.rejected:
        return ACCEPTED_ALL
    response = ExportTraceServiceResponse()
    response.partial_success.rejected_spans = accepted.rejected
    response.partial_success.error_message = accepted.message
    return response.SerializeToString()


def accepted_json(accepted: Accepted) -> bytes:
    """The same as OTLP/JSON, where 64-bit numbers are strings."""
    if not accepted.rejected:
        return ACCEPTED_ALL_JSON
    partial = {"rejectedSpans": str(accepted.rejected), "errorMessage": accepted.message}
    return orjson.dumps({"partialSuccess": partial})


def refusal_of(error: Exception) -> Refusal:
    """The mapping at the top of this file. Logs what is our fault."""
    message = str(error)
    if len(message) > MESSAGE_LENGTH_MAX:
        message = message[: MESSAGE_LENGTH_MAX - 3] + "..."
    match error:
        case DecodeError():
            return Refusal(Code.INVALID_ARGUMENT, 400, message)
        case RequestError():
            return Refusal(CODE_OF_HTTP_STATUS.get(error.status, Code.INVALID_ARGUMENT), error.status, message)
        case LimitError(retry_after_seconds=None):
            return Refusal(Code.RESOURCE_EXHAUSTED, 413, message)
        case LimitError():
            return Refusal(Code.RESOURCE_EXHAUSTED, 429, message, error.retry_after_seconds)
        case DiskFullError() | UnavailableError():
            return Refusal(Code.UNAVAILABLE, 503, message, error.retry_after_seconds)
        case _:
            logger.error("a request failed by our fault", exc_info=error)
            return Refusal(Code.INTERNAL, 500, "internal error, the server's log says more")
