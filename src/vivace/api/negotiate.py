"""Which form a reply takes: JSON, protobuf or the LLM label, by Accept; gzip or plain, by Accept-Encoding.

Accept is searched for the media types as substrings, in the order of Form; nothing found means JSON. API replies are
compressed when that is asked for and they are worth it; app.py marks them all with Vary: Accept-Encoding.
"""

from __future__ import annotations

import asyncio
import gzip
import re
from collections.abc import Callable
from enum import Enum

from starlette.requests import Request
from starlette.responses import Response

GZIP_SIZE_MIN = 1024
"""Bytes; below it the gzip header and the work cost more than the wire."""

GZIP_LEVEL = 1
"""Trace JSON shrinks 10 times at level 1 (150 MB/s a core) and 13 times at level 6 (73 MB/s)."""

INLINE_SIZE_MAX = 64 * 1024
"""Bytes that are encoded on the event loop: below a millisecond of work. More goes to a thread."""


_REFUSED = re.compile(r"\s*[qQ]=0(\.0*)?\s*")


class Form(Enum):
    """Forms of a reply body, in the order in which Accept is searched for them."""

    PROTOBUF = "application/protobuf"
    JSON = "application/json"
    LLM = "application/vnd.grafana.llm"


def form_of(request: Request) -> Form:
    accept = ",".join(request.headers.getlist("Accept"))
    return next((form for form in Form if form.value in accept), Form.JSON)


async def run_sized(size: int, work: Callable[[], bytes]) -> bytes:
    """`work()`, which takes time in proportion to `size` bytes: here when that is short, else in a thread."""
    return work() if size <= INLINE_SIZE_MAX else await asyncio.to_thread(work)


async def api_response(request: Request, body: bytes, media_type: str, *, status: int = 200) -> Response:
    """The reply of an API route, compressed if that was asked for."""
    headers = {"Content-Type": media_type}
    if len(body) >= GZIP_SIZE_MIN and accepts_gzip(request):
        headers["Content-Encoding"] = "gzip"
        body = await run_sized(len(body), lambda: gzip.compress(body, GZIP_LEVEL, mtime=0))
    return Response(body, status, headers)


def accepts_gzip(request: Request) -> bool:
    """Whether Accept-Encoding names gzip (or *) and does not refuse it with q=0."""
    for offer in ",".join(request.headers.getlist("Accept-Encoding")).split(","):
        coding, _, parameters = offer.partition(";")
        if coding.strip().lower() in ("gzip", "*"):
            return not _REFUSED.fullmatch(parameters)
    return False
