"""Errors as HTTP replies: plain text without a trailing newline, as Tempo's frontend gives them.

| error | status |
| --- | --- |
| AccessError | 401 with WWW-Authenticate |
| RequestError | its own, 400 unless it says otherwise |
| LimitError | 429 with Retry-After where waiting helps, else 422 |
| other ClientError | 400 |
| NotFoundError | 404 |
| UnavailableError, DiskFullError | 503 with Retry-After |
| any other | 500 with an id that stands in the log too, and no more: what went wrong inside is for the log |
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from starlette.responses import PlainTextResponse, Response

from vivace.errors import (
    AccessError,
    ClientError,
    DiskFullError,
    LimitError,
    NotFoundError,
    RequestError,
    StorageError,
    UnavailableError,
)

log = logging.getLogger(__name__)


def not_found_page() -> Response:
    """The reply to a path that is no route."""
    return PlainTextResponse("404 page not found\n", 404, headers={"X-Content-Type-Options": "nosniff"})


def error_response(error: Exception, error_id: Callable[[], str], *, what: str) -> Response:
    """The reply to `error`; `what` names the request in the log. Only what is not the sender's fault is logged."""
    match error:
        case AccessError():
            return PlainTextResponse(str(error), error.status, headers={"WWW-Authenticate": error.challenge})
        case RequestError():
            return PlainTextResponse(str(error), error.status)
        case LimitError(retry_after_seconds=None):
            return PlainTextResponse(str(error), 422)
        case LimitError(retry_after_seconds=float() | int() as wait):
            return PlainTextResponse(str(error), 429, headers=_retry_after(wait))
        case ClientError():
            return PlainTextResponse(str(error), 400)
        case NotFoundError():
            return PlainTextResponse(str(error), 404)
        case UnavailableError() | DiskFullError():
            return PlainTextResponse(str(error), 503, headers=_retry_after(error.retry_after_seconds))
        case _:
            name = error_id()
            log.error("error %s: %s failed", name, what, exc_info=error)
            kind = "storage error" if isinstance(error, StorageError) else "internal error"
            return PlainTextResponse(f"{kind} {name}: see the server's log", 500)


def _retry_after(seconds: float) -> dict[str, str]:
    return {"Retry-After": str(math.ceil(seconds))}
