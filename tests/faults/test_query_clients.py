"""Slow and silent clients of the query ports: they cost a connection each, for as long as a request may take, and nobody else
anything. While they do their worst, queries and senders are answered; when they are gone, so is what they held.

`pytest -s` shows the figures.
"""

from __future__ import annotations

import re
import socket
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from threading import Event, Thread
from urllib.parse import quote, urlsplit

import grpc
import ngh2
import orjson
import pytest
from server import Server, eventually

from faults.load import START_UNIX_NANO, HttpSender, Ledger, Load
from vivace.api.stream_preface import PREFACE
from vivace.model.proto import tempopb_pb2 as pb

READ_SECONDS = 2
IDLE_SECONDS = 2
DRIP_SECONDS = 0.25
"""Between two bytes of a slow client: often enough that no limit between two of them would find it."""

CLOSED_SECONDS_MAX = 10.0
ANSWER_SECONDS_MAX = 5.0
"""Usual is some 10 ms; an answer that had to wait for a slow client would take until that one is sent away or for ever."""

RSS_MEBIBYTES_MAX = 40
FDS_MAX = 16
"""More than at first: of files and connections of queries, cuts and merges beside the clients."""

SETTINGS = {
    "stream_over_http_enabled": True,
    "server": {
        "http_server_read_timeout": f"{READ_SECONDS}s",
        "http_server_idle_timeout": f"{IDLE_SECONDS}s",
        "grpc_server_max_connection_idle": f"{IDLE_SECONDS}s",
    },
}
TRACES = 40
SECONDS = START_UNIX_NANO // 10**9

# -- what slow clients send: at first, and then again and again -------------------------------------------------------

POST = b"POST /api/search HTTP/1.1\r\nHost: x\r\n"
GET = b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n"


def frame(kind: int, flags: int, payload: bytes, length: int | None = None) -> bytes:
    """Of stream 1, or of the connection. `length`: what it says of its payload, if that is not true."""
    size = len(payload) if length is None else length
    return (
        size.to_bytes(3, "big")
        + bytes((kind, flags))
        + int(kind in (DATA, HEADERS, CONTINUATION)).to_bytes(4, "big")
        + payload
    )


DATA, HEADERS, SETTINGS_FRAME, PING, CONTINUATION = 0, 1, 4, 6, 9
END_HEADERS = 4
HELLO = PREFACE + frame(SETTINGS_FRAME, 0, b"")


def call(content_type: str) -> bytes:
    """The head of a request that has a body."""
    client = ngh2.Connection(ngh2.Role.CLIENT, ngh2.Configuration())
    client.initiate_connection({})
    path = b"/tempopb.StreamingQuerier/Search"
    target = [(b":method", b"POST"), (b":path", path), (b":scheme", b"http"), (b":authority", b"v")]
    client.send_request([*target, (b"content-type", content_type.encode())], end_stream=False)
    return bytes(client.data_to_send())


HTTP1_HEADS = {"from its first byte": (b"", b"G"), "amid a header": (b"GET /ready HTTP/1.1\r\nx: ", b"a")}
HTTP1_BODIES = {
    "stalled": (POST + b"Content-Length: 100000\r\n\r\nabc", b""),
    "byte by byte": (POST + b"Content-Length: 100000\r\n\r\nabc", b"a"),
    "chunk by chunk": (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
    "empty lines": (GET, b"\r\n"),
}
HTTP2 = {
    "half a preface": (PREFACE[:9], b""),
    "a preface": (PREFACE, b""),
    "a preface byte by byte": (b"", PREFACE[:1]),
    "settings": (HELLO, b""),
    "pings": (HELLO, frame(PING, 0, b"12345678")),
    "half a HEADERS": (HELLO + frame(HEADERS, END_HEADERS, b"\x82\x86", 1000), b""),
    "HEADERS byte by byte": (HELLO + frame(HEADERS, END_HEADERS, b"\x40\x7f", 1000), b"\x7f"),
    "HEADERS without an end": (HELLO + frame(HEADERS, 0, b"\x82\x86\x84"), b""),
    "CONTINUATION by CONTINUATION": (HELLO + frame(HEADERS, 0, b"\x82\x86\x84"), frame(CONTINUATION, 0, b"")),
}
HTTP2_BODIES = {
    "stalled": (call("text/plain"), b""),
    "byte by byte": (call("text/plain"), frame(DATA, 0, b"a")),
    "of a call, stalled": (call("application/grpc") + frame(DATA, 0, b"\0\0\1\0\0abc"), b""),
    "of a call, byte by byte": (call("application/grpc") + frame(DATA, 0, b"\0\0\1\0\0abc"), frame(DATA, 0, b"a")),
    "of a call, half a DATA": (call("application/grpc") + frame(DATA, 0, b"\0\0\1\0\0abc", 5000), b""),
}
IDLE = {"never said anything": (b"", b""), "asked once": (GET, b"")}

# name: port, how many, what they send, whether the server sends them away. A call on 9095 may take as long as its client
# likes, as in Tempo: only max_connection_age bounds it.
CLIENTS: dict[str, tuple[str, int, Mapping[str, tuple[bytes, bytes]], bool]] = {
    "HTTP/1.1 heads on 3200": ("http", 50, HTTP1_HEADS, True),
    "HTTP/1.1 bodies on 3200": ("http", 50, HTTP1_BODIES, True),
    "HTTP/2 heads on 3200": ("http", 54, HTTP2, True),
    "HTTP/2 bodies on 3200": ("http", 50, HTTP2_BODIES, True),
    "HTTP/2 heads on 9095": ("grpc", 54, HTTP2, True),
    "HTTP/2 bodies on 9095": ("grpc", 48, {k: v for k, v in HTTP2_BODIES.items() if "call" in k}, False),
    "200 idle on 3200": ("http", 200, IDLE, True),
    "200 idle on 9095": ("grpc", 200, {"never said anything": (b"", b""), "said hello": (HELLO, b"")}, True),
}


class SlowClients:
    """Connections that send a little at a time. `gone` counts those that the server has closed."""

    def __init__(self, address: tuple[str, int], count: int, kinds: Mapping[str, tuple[bytes, bytes]]) -> None:
        self._held = ExitStack()
        self._open: list[tuple[str, socket.socket, bytes]] = []
        self._stop = Event()
        self.count = count
        for number in range(count):
            kind, (opening, drip) = list(kinds.items())[number % len(kinds)]
            connection = self._held.enter_context(socket.create_connection(address, timeout=10))
            connection.sendall(opening)
            connection.setblocking(False)
            self._open.append((kind, connection, drip))
        self._thread = Thread(target=self._drip, name="slow clients")
        self._thread.start()

    def __enter__(self) -> SlowClients:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()
        self._held.close()

    @property
    def left(self) -> list[str]:
        """Kinds of those that are still open."""
        return sorted(kind for kind, *_ in self._open)

    def _drip(self) -> None:
        while not self._stop.wait(DRIP_SECONDS):
            self._open = [client for client in self._open if self._is_open(*client[1:])]

    @staticmethod
    def _is_open(connection: socket.socket, drip: bytes) -> bool:
        try:
            while connection.recv(1 << 16):
                pass
        except BlockingIOError:
            with suppress(OSError):
                connection.send(drip)
            return True
        except OSError:
            pass
        return False


class Everyone:
    """Ordinary clients: they ask on every port, send, and keep the time that each answer takes."""

    def __init__(self, server: Server, grpc_port: int) -> None:
        self.server = server
        self.grpc_port = grpc_port
        self.seconds: list[float] = []
        self.descriptors = 0
        """Of the server, when there was nobody else."""
        self._ledger = Ledger(Load(83))
        self._sent = 0
        address = urlsplit(server.http).netloc
        self._channels = [grpc.insecure_channel(at) for at in (address, f"127.0.0.1:{grpc_port}")]
        self._searches = [
            channel.unary_stream("/tempopb.StreamingQuerier/Search", response_deserializer=pb.SearchResponse.FromString)
            for channel in self._channels
        ]

    def close(self) -> None:
        for channel in self._channels:
            channel.close()

    def send(self, traces: int) -> None:
        with closing(HttpSender(self.server)) as sender:
            for request in self._ledger.load.requests(range(self._sent, self._sent + traces)):
                self._ledger.sending(request)
                sender.send(request.body)
                self._ledger.acknowledge(request)
        self._sent += traces

    def ask(self) -> None:
        """Everything once. Fails when an answer is wrong."""
        load = self._ledger.load
        started = time.monotonic()
        self.send(1)
        self._took(started)
        sent = self._sent - 1
        query = f'{{ span."sent.as" = "trace {sent}, span 5 of seed {load.seed}" }}'
        expected = [load.trace_id(sent).hex().lstrip("0")]
        started = time.monotonic()
        status, body = self.server.get(f"/api/search?q={quote(query)}&start={SECONDS - 60}&end={SECONDS + 60}")
        self._took(started)
        assert (status, [trace["traceID"] for trace in orjson.loads(body)["traces"]]) == (200, expected)
        asked = pb.SearchRequest(Query=query, start=SECONDS - 60, end=SECONDS + 60).SerializeToString()
        for search in self._searches:
            started = time.monotonic()
            replies = list(search(asked, timeout=60, wait_for_ready=True))
            self._took(started)
            assert [trace.traceID for reply in replies for trace in reply.traces] == expected
        started = time.monotonic()
        self._ledger.check(self.server, [sent // 2])
        self._took(started)
        started = time.monotonic()
        assert self.server.get("/ready") == (200, b"ready\n")
        self._took(started)

    def _took(self, started: float) -> None:
        self.seconds.append(time.monotonic() - started)


def descriptors(server: Server) -> int:
    return len(list(Path(f"/proc/{server.pid}/fd").iterdir()))


def resident_mebibytes(server: Server) -> int:
    status = Path(f"/proc/{server.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) // 1024


@pytest.fixture(scope="module")
def everyone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Everyone]:
    with Server(tmp_path_factory.mktemp("query_clients"), SETTINGS) as server:
        found = re.search(r"gRPC on port (\d+)", server.log())
        assert found is not None
        with closing(Everyone(server, int(found[1]))) as everyone:
            everyone.send(TRACES)
            for _ in range(5):
                everyone.ask()  # so that what is loaded at first use does not count as theirs
            everyone.descriptors = descriptors(server)
            yield everyone


@pytest.mark.parametrize("name", CLIENTS)
def test_slow_clients(everyone: Everyone, name: str) -> None:
    port, count, kinds, are_sent_away = CLIENTS[name]
    server = everyone.server
    number = urlsplit(server.http).port if port == "http" else everyone.grpc_port
    assert number is not None
    before = resident_mebibytes(server)
    everyone.seconds.clear()

    with SlowClients(("127.0.0.1", number), count, kinds) as slow:
        opened = time.monotonic()
        eventually(lambda: descriptors(server) >= everyone.descriptors + count * 0.9, "the server takes them")
        most_descriptors, most = 0, 0
        while time.monotonic() - opened < READ_SECONDS * 0.9 or (
            are_sent_away and slow.left and time.monotonic() - opened < CLOSED_SECONDS_MAX
        ):
            everyone.ask()
            most_descriptors, most = max(most_descriptors, descriptors(server)), max(most, resident_mebibytes(server))
        seconds = time.monotonic() - opened
        if are_sent_away:
            assert slow.left == []
    eventually(lambda: descriptors(server) <= everyone.descriptors + FDS_MAX, "their descriptors are free again")
    everyone.ask()

    after = resident_mebibytes(server)
    print(
        f"\n{name}: {count} clients, {'gone after' if are_sent_away else 'held for'} {seconds:.1f} s, "
        f"{len(everyone.seconds)} answers, {statistics.median(everyone.seconds) * 1000:.0f} ms each, at most "
        f"{max(everyone.seconds) * 1000:.0f} ms; memory {before} MiB before, {most} while, {after} after; "
        f"descriptors {everyone.descriptors}, {most_descriptors}, {descriptors(server)}"
    )
    assert max(everyone.seconds) < ANSWER_SECONDS_MAX
    assert after < before + RSS_MEBIBYTES_MAX
    assert "Traceback" not in server.log()
    assert "level=error" not in server.log()
