"""The query API against requests that are wrong in every way: each is answered or refused in words, none is an error of ours.

ROUNDS and SEED in the environment ask for more and others; `pytest -s` shows what was answered:

    ROUNDS=100 SEED=$RANDOM pytest -s tests/api/test_query_fuzz.py
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import os
import re
import socket
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from random import Random
from urllib.parse import unquote_to_bytes, urlsplit

import fuzz_requests as fuzz
import grpc
import ngh2
import pytest
import random_traces
from google.protobuf.message import DecodeError, Message
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from server import Server
from traceql import asts

from vivace.model.proto import otlp_pb2
from vivace.model.proto import tempopb_pb2 as pb
from vivace.traceql import canonical

ROUNDS = int(os.environ.get("ROUNDS", "1"))
SEED = int(os.environ.get("SEED", "0"))
TIMEOUT_SECONDS = 20.0

COMPILING = ("compiling query: ", "not a metrics query")
"""Texts of what a gRPC client gets as UNKNOWN, as Tempo gives it."""

REFUSING = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNIMPLEMENTED,
)


def case(examples: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """So many examples, the same every time unless SEED is given."""
    limits = settings(
        max_examples=examples * ROUNDS,
        deadline=None,
        derandomize=not SEED,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    return lambda test: seed(SEED)(limits(test)) if SEED else limits(test)


class Asked:
    """One server with a few traces in memory and in blocks, and connections to its two ports."""

    def __init__(self, server: Server) -> None:
        self.server = server
        found = re.search(r"gRPC on port (\d+)", server.log())
        assert found is not None
        self.address = ("127.0.0.1", int(server.http.rsplit(":", 1)[1]))
        self.channels = [grpc.insecure_channel(f"127.0.0.1:{port}") for port in (self.address[1], int(found[1]))]
        self.counts: Counter[str] = Counter()
        self.slowest = (0.0, "")
        self._socket: socket.socket | None = None
        self._http2: Http2Client | None = None

    def http(self, request: fuzz.HttpRequest) -> tuple[int, dict[str, str], bytes]:
        """Over HTTP/1.1, on a connection that is kept as long as the server keeps it."""
        headers = b"".join(f"{name}: ".encode() + value + b"\r\n" for name, value in request.headers)
        length = b"Content-Length: %d\r\n" % len(request.body) if request.body else b""
        host = b"" if any(name == "Host" for name, _ in request.headers) else b"Host: v\r\n"
        data = request.method.encode() + b" " + request.target + b" HTTP/1.1\r\n" + host + headers + length
        if self._socket is None:
            self._socket = socket.create_connection(self.address, TIMEOUT_SECONDS)
        self._socket.sendall(data + b"\r\n" + request.body)
        reply = http.client.HTTPResponse(self._socket, method=request.method)
        reply.begin()
        body = reply.read()
        if reply.will_close:
            self.close_http()
        return reply.status, {name.lower(): value for name, value in reply.getheaders()}, body

    def http2(self, headers: list[tuple[bytes, bytes]], body: bytes) -> tuple[dict[bytes, bytes], bytes]:
        """Over HTTP/2: the headers and the trailers of the answer in one, and its body. The status of a request that is refused
        as none of HTTP/2 is "reset"."""
        if self._http2 is None:
            self._http2 = Http2Client(self.address)
        return self._http2.exchange(headers, body)

    def close_http(self) -> None:
        for connection in (self._socket, self._http2):
            if connection is not None:
                connection.close()
        self._socket = self._http2 = None

    def timed(self, started: float, what: object) -> None:
        self.slowest = max(self.slowest, (time.monotonic() - started, str(what)[:500]))


class Http2Client:
    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.create_connection(address, TIMEOUT_SECONDS)
        self._http2 = ngh2.Connection(ngh2.Role.CLIENT, ngh2.Configuration())
        self._http2.initiate_connection({})

    def close(self) -> None:
        self._socket.close()

    def exchange(self, headers: list[tuple[bytes, bytes]], body: bytes) -> tuple[dict[bytes, bytes], bytes]:
        stream = self._http2.send_request(headers, end_stream=not body)
        if body:
            self._http2.send_data(stream, body, end_stream=True)
        answer, found = b"", {}
        while True:
            self._socket.sendall(self._http2.data_to_send())
            data = self._socket.recv(1 << 16)
            assert data, "the connection was closed"
            self._http2.receive_data(data)
            for event in self._http2.events():
                match event:
                    case ngh2.ResponseReceived() | ngh2.TrailersReceived() if event.stream_id == stream:
                        found |= dict(event.headers)
                    case ngh2.DataReceived() if event.stream_id == stream:
                        answer += event.data
                    case ngh2.StreamClosed() if event.stream_id == stream:
                        if event.error_code == ngh2.ErrorCode.PROTOCOL_ERROR:
                            return {b":status": b"reset"}, b""
                        assert event.error_code == ngh2.ErrorCode.NO_ERROR, event.error_code
                        return found, answer


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    changes = {
        "stream_over_http_enabled": True,
        "multitenancy_enabled": True,
        "query_frontend": {"search": {"max_duration": "0s"}, "metrics": {"max_duration": "0s"}},
        "ingester": {
            "max_block_duration": "1h",
            "flush_check_period": "1h",
            "trace_idle_period": "1h",
            "trace_live_period": "1h",
        },
    }
    with Server(tmp_path_factory.mktemp("fuzz"), changes) as server:
        for number in range(20):
            for message in random_traces.requests(Random(number)):
                send(server, message)
            if number == 12:
                assert server.get("/flush")[0] == 204
        asked = Asked(server)
        started = time.monotonic()
        try:
            yield asked
        finally:
            asked.close_http()
            for channel in asked.channels:
                channel.close()
        seconds = time.monotonic() - started
        print(
            f"\n{asked.counts.total()} requests in {seconds:.0f} s, the slowest {asked.slowest[0]:.2f} s: {asked.slowest[1]}"
        )
        print(", ".join(f"{name}: {count}" for name, count in sorted(asked.counts.items())))


def send(server: Server, message: otlp_pb2.ExportTraceServiceRequest) -> None:
    headers = {"Content-Type": "application/x-protobuf", "X-Scope-OrgID": fuzz.TENANT}
    request = urllib.request.Request(f"{server.otlp_http}/v1/traces", message.SerializeToString(), headers)
    urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS).close()


@pytest.fixture(autouse=True)
def still_there(asked: Asked) -> Iterator[None]:
    """After each test the server answers as ever, and has not complained of itself."""
    yield
    assert asked.server.process.poll() is None
    assert asked.server.get("/ready") == (200, b"ready\n")
    target = f"/api/search?limit=1000&start={fuzz.START - 60}&end={fuzz.START + 600}"
    status, _, body = asked.http(fuzz.HttpRequest("GET", target.encode(), (("X-Scope-OrgID", fuzz.TENANT.encode()),)))
    assert status == 200
    assert len(json.loads(body)["traces"]) > 10
    assert "Traceback" not in asked.server.log()
    assert "level=error" not in asked.server.log()


# -- HTTP -------------------------------------------------------------------------------------------------------------


def check_http(asked: Asked, request: fuzz.HttpRequest) -> None:
    """Ask, and fail on an answer that should not be."""
    started = time.monotonic()
    try:
        status, headers, body = asked.http(request)
    except (http.client.HTTPException, OSError) as error:
        asked.close_http()
        raise AssertionError(f"no answer to {request}") from error
    asked.timed(started, request)
    asked.counts[f"HTTP {status}"] += 1
    problem = http_problem(request, status, headers, body)
    assert not problem, f"{problem}: {request} -> {status} {headers} {body[:500]!r}"


def http_problem(request: fuzz.HttpRequest, status: int, headers: dict[str, str], body: bytes) -> str:
    """What is wrong with an answer; empty when nothing is."""
    if status not in (200, 301, 400, 401, 404, 405, 422):
        return "a status that no request of these should get"
    if request.method == "HEAD":
        return "a body for HEAD" if body else ""
    if headers.get("content-encoding") == "gzip":
        body = gzip.decompress(body)
    if status == 301:
        return "" if headers.get("location", "").startswith("/") else "nowhere to go"
    if status >= 400:
        unsaid = status == 405 or (
            status == 404 and b"/api/" in unquote_to_bytes(request.target)
        )  # v1's "no such trace"
        return "" if body or unsaid else "refused without a word"
    kind = headers["content-type"]
    if kind == "application/json":
        json.loads(body, parse_constant=lambda name: pytest.fail(f"{name} is no JSON: {request}"))
    if kind == "application/protobuf" and not parses(urlsplit(request.target).path, body):
        return "no protobuf"
    return ""


def parses(path: bytes, body: bytes) -> bool:
    """Whether an answer in protobuf is of the type of its path."""
    version_2, kind = b"/v2/" in path, pb.TraceByIDResponse if b"/v2/" in path else pb.Trace
    if b"/values" in path:
        kind = pb.SearchTagValuesV2Response if version_2 else pb.SearchTagValuesResponse
    elif b"/search/tags" in path:
        kind = pb.SearchTagsV2Response if version_2 else pb.SearchTagsResponse
    elif b"/search" in path:
        kind = pb.SearchResponse
    with contextlib.suppress(DecodeError):
        kind.FromString(body)
        return True
    return False


randoms = st.integers(0, 2**63).map(Random)
"""Not st.randoms(), whose numbers are mostly small, so that most requests would be of the same few kinds."""


@case(500)
@given(randoms)
def test_parameters(asked: Asked, random: Random) -> None:
    """Random parameters, names in paths, headers and methods of every route."""
    check_http(asked, fuzz.http_request(random))


@case(150)
@given(randoms, asts.query)
def test_queries(asked: Asked, random: Random, query: object) -> None:
    """Every query that there can be, on spans that know none of its names; and queries that are almost one."""
    text = canonical(query)  # type: ignore[arg-type]
    check_http(asked, fuzz.query_request(random, fuzz.mutated(random, text) if random.random() < 0.5 else text))


@case(100)
@given(st.binary(max_size=60), st.sampled_from(fuzz.METHODS))
def test_bytes(asked: Asked, junk: bytes, method: str) -> None:
    """Paths and queries of random bytes, but for those that end the request line."""
    target = bytes(byte for byte in junk if byte not in b" \r\n")
    for start in (b"/", b"/api/traces/", b"/api/v2/search/tag/", b"/api/search?"):
        check_http(asked, fuzz.HttpRequest(method, start + target, (("X-Scope-OrgID", fuzz.TENANT.encode()),)))


NOT_IN_PATHS = re.compile(rb"[\0-\x20\x7f]")  # a request with such bytes is malformed: RFC 9113, 8.3.1


@case(200)
@given(randoms)
def test_http2(asked: Asked, random: Random) -> None:
    """The same over HTTP/2, where bytes are in a path that HTTP/1.1 refuses."""
    request = fuzz.http_request(random)
    pseudo = [
        (b":method", request.method.encode()),
        (b":path", request.target),
        (b":scheme", b"http"),
        (b":authority", b"v"),
    ]
    fields = [(name.lower().encode(), value) for name, value in request.headers if name not in ("Host", "Content-Type")]
    try:
        found, body = asked.http2(pseudo + fields, request.body)
    except (ngh2.NGH2Error, OSError, AssertionError) as error:
        asked.close_http()
        raise AssertionError(f"no answer to {request}: {error!r}") from error
    if found[b":status"] == b"reset":
        asked.counts["HTTP/2 reset"] += 1
        assert NOT_IN_PATHS.search(request.target), f"reset: {request}"
        return
    status = int(found[b":status"])
    asked.counts[f"HTTP/2 {status}"] += 1
    problem = http_problem(
        request, status, {name.decode(): value.decode("latin-1") for name, value in found.items()}, body
    )
    assert not problem, f"{problem}: {request} -> {found} {body[:500]!r}"


# -- gRPC -------------------------------------------------------------------------------------------------------------

REPLIES: dict[str, type[Message]] = {
    "Search": pb.SearchResponse,
    "SearchTags": pb.SearchTagsResponse,
    "SearchTagsV2": pb.SearchTagsV2Response,
    "SearchTagValues": pb.SearchTagValuesResponse,
    "SearchTagValuesV2": pb.SearchTagValuesV2Response,
    "MetricsQueryRange": pb.QueryRangeResponse,
    "MetricsQueryInstant": pb.QueryInstantResponse,
}


@case(400)
@given(randoms, st.sampled_from(sorted(fuzz.REQUESTS)), st.integers(0, 1))
def test_messages(asked: Asked, random: Random, rpc: str, port: int) -> None:
    """Messages of every method, right and damaged, on both ports; the answer is of its type or says what is wrong."""
    message = fuzz.message(random, rpc)
    tenant = random.choice(fuzz.TENANTS)
    metadata = (("x-scope-orgid", tenant),) if tenant.isascii() else ()
    started = time.monotonic()
    call = asked.channels[port].unary_stream(fuzz.SERVICE + rpc)
    try:
        replies = list(call(message, metadata=metadata, timeout=TIMEOUT_SECONDS))
    except grpc.RpcError as error:
        code, text = error.code(), error.details()
        asked.counts[f"gRPC {code.name}"] += 1
        expected = code in REFUSING or (code is grpc.StatusCode.UNKNOWN and text.startswith(COMPILING))
        assert expected, f"{rpc} {message!r}, tenant {tenant!r}: {code} {text}"
        assert text, f"refused without a word: {rpc} {message!r}, tenant {tenant!r}: {code}"
    else:
        asked.counts["gRPC OK"] += 1
        assert replies
        for reply in replies:
            REPLIES[rpc].FromString(reply)
    asked.timed(started, f"{rpc} {message!r}")


FRAMES: dict[str, Callable[[Random, bytes], bytes]] = {
    "right": lambda random, message: b"\0" + len(message).to_bytes(4, "big") + message,
    "compressed": lambda random, message: b"\1" + len(data := gzip.compress(message)).to_bytes(4, "big") + data,
    "damaged gzip": lambda random, message: (
        b"\1" + len(data := fuzz.damaged(random, gzip.compress(message))).to_bytes(4, "big") + data
    ),
    "a flag": lambda random, message: random.randbytes(1) + len(message).to_bytes(4, "big") + message,
    "a length": lambda random, message: b"\0" + random.randbytes(4) + message,
    "two": lambda random, message: 2 * (b"\0" + len(message).to_bytes(4, "big") + message),
    "bytes": lambda random, message: random.randbytes(random.randrange(40)),
}


@case(150)
@given(randoms, st.sampled_from(sorted(fuzz.REQUESTS)), st.sampled_from(sorted(FRAMES)))
def test_frames(asked: Asked, random: Random, rpc: str, frame: str) -> None:
    """What is around a message, on 3200, where it is ours to read."""
    body = FRAMES[frame](random, fuzz.message(random, rpc))
    path = random.choice((fuzz.SERVICE + rpc,) * 9 + (fuzz.SERVICE, "/", "/é", fuzz.SERVICE + rpc + "?"))
    headers = {
        ":method": random.choice(("POST",) * 9 + ("GET", "HEAD")),
        ":path": path,
        ":scheme": "http",
        ":authority": "v",
        "content-type": random.choice(("application/grpc", "application/grpc+proto", "application/grpc-web")),
        "te": "trailers",
        "grpc-encoding": random.choice(("gzip", "gzip", "identity", "deflate", "br", "")),
        "grpc-timeout": random.choice(("20S", "1n", "x", "")),
        "x-scope-orgid": fuzz.TENANT,
    }
    try:
        found, _ = asked.http2([(name.encode(), value.encode()) for name, value in headers.items()], body)
    except (ngh2.NGH2Error, OSError, AssertionError) as error:
        asked.close_http()
        raise AssertionError(f"no answer to {headers} {body!r}: {error!r}") from error
    code = int(found[b"grpc-status"])
    text = unquote_to_bytes(found.get(b"grpc-message", b""))
    asked.counts[f"gRPC {code} on the wire"] += 1
    codes = {status.value[0] for status in REFUSING}
    expected = code == 0 or code in codes or (code == 2 and text.decode().startswith(COMPILING))
    assert expected, f"{frame}: {headers} {body!r} -> {found}"
    assert bool(text) == bool(code), f"{frame}: {headers} {body!r} -> {found}"
