"""`compression_algorithms`: only the encodings that are named are taken."""

from __future__ import annotations

import asyncio
import gzip

import pytest
from receiver_doubles import MemoryCommitter

from vivace.ingest.http_connection import Request
from vivace.ingest.otlp_http import HttpOptions, TracesHandler
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
    body = gzip.compress(b"") if encoding == "gzip" else b""
    headers = {b"content-type": b"application/x-protobuf"} | (
        {b"content-encoding": encoding.encode()} if encoding else {}
    )
    request = Request("POST", "/v1/traces", headers, [body])
    handler = TracesHandler(MemoryCommitter(), HttpOptions(encodings=taken), single_tenant)
    response = asyncio.run(handler.respond(request))
    assert response.status == status
    if status == 400:
        assert f"unsupported Content-Encoding: {encoding if encoding == 'br' else ''}".encode() in response.body
