"""`compression_algorithms`: only the encodings that are named are taken."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import pytest
from receiver_doubles import MemoryCommitter

from vivace.ingest.otlp_http import HttpOptions, TracesApplication
from vivace.ingest.replies import single_tenant

ALL = HttpOptions().encodings
CASES = [  # taken, Content-Encoding, status
    (ALL, "gzip", 200),
    (ALL, None, 200),
    (frozenset({"gzip"}), "gzip", 200),
    (frozenset({"gzip"}), None, 400),
    (frozenset({"gzip"}), "identity", 400),
    (frozenset({"", "zstd"}), "gzip", 400),
    (frozenset({"", "zstd"}), "identity", 200),
    (ALL, "br", 400),
]


@pytest.mark.parametrize(("taken", "encoding", "status"), CASES)
def test_encodings_that_are_taken(taken: frozenset[str], encoding: str | None, status: int) -> None:
    sent: list[dict[str, Any]] = []
    body = gzip.compress(b"") if encoding == "gzip" else b""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/x-protobuf")]
    headers += [(b"content-encoding", encoding.encode())] if encoding else []
    scope = {"type": "http", "method": "POST", "path": "/v1/traces", "headers": headers}
    application = TracesApplication(MemoryCommitter(), HttpOptions(encodings=taken), single_tenant)
    asyncio.run(application(scope, receive, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == status
    if status == 400:
        assert f"unsupported Content-Encoding: {encoding if encoding == 'br' else ''}".encode() in sent[1]["body"]
