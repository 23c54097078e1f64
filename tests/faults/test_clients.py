"""Slow and broken clients: they cost the server a connection each, and nobody else anything.

While one of them does its worst, a normal sender and a normal reader go on, see no error and wait no longer than usual.
"""

from __future__ import annotations

import os
import random
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from urllib.parse import urlsplit

import pytest
from server import Server

from faults.load import GrpcSender, HttpSender, Ledger, Load

SEED = int(os.environ.get("SEED", "0")) or 31

LATENCY_SECONDS_MAX = 1.0
"""Usual is some 5 ms; a request that had to wait for a stuck one would take until a timeout of many seconds."""

HEAD = b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: 100000\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("clients")) as server:
        yield server


def ports(server: Server) -> tuple[int, int, int]:
    """Of OTLP/HTTP, OTLP/gRPC and the API."""
    otlp, api = urlsplit(server.otlp_http).port, urlsplit(server.http).port
    assert otlp
    assert api
    return otlp, int(server.otlp_grpc.rsplit(":", 1)[1]), api


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=5)


def half_a_request(server: Server, held: ExitStack) -> None:
    """Some bytes, then silence, for as long as the connection is held."""
    otlp, grpc, api = ports(server)
    for port, data in (
        (otlp, HEAD + b"\x0a"),
        (otlp, HEAD[:20]),
        (api, b"GET /api/tra"),
        (grpc, b"PRI * HTTP/2.0\r\n"),
    ):
        for _ in range(10):
            held.enter_context(connect(port)).sendall(data)


def byte_by_byte(server: Server, held: ExitStack) -> None:
    """A body that comes one byte at a time."""
    connections = [held.enter_context(connect(ports(server)[0])) for _ in range(10)]
    for place in range(200):
        for connection in connections:
            connection.sendall(HEAD[place : place + 1] or b"\0")
    for connection in connections:
        connection.sendall(HEAD[200:])


def reset_in_the_body(server: Server, held: ExitStack) -> None:
    """RST instead of the rest."""
    otlp, grpc, api = ports(server)
    for port in (otlp, grpc, api) * 20:
        connection = connect(port)
        connection.sendall(HEAD + b"\x0a" * 1000)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()


def garbage(server: Server, held: ExitStack) -> None:
    """Bytes of no protocol, and of HTTP/2 with garbage behind its greeting, on every port."""
    chance = random.Random(SEED)
    for port in ports(server) * 10:
        for greeting in (b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"):
            with connect(port) as connection, suppress(OSError):
                connection.sendall(greeting + chance.randbytes(5000))
                while connection.recv(4096):
                    pass


def tls_hello(server: Server, held: ExitStack) -> None:
    """TLS where there is none: the client gets an error, soon."""
    context = ssl.create_default_context()
    for port in ports(server):
        with connect(port) as connection, pytest.raises((ssl.SSLError, OSError)):
            context.wrap_socket(connection, server_hostname="localhost")


def idle_connections(server: Server, held: ExitStack) -> None:
    """Two hundred connections that never say anything, a third of them on each port."""
    for number in range(200):
        held.enter_context(connect(ports(server)[number % 3]))


CLIENTS = (half_a_request, byte_by_byte, reset_in_the_body, garbage, tls_hello, idle_connections)


@pytest.mark.parametrize("misbehave", CLIENTS)
def test_broken_clients(server: Server, misbehave: Callable[[Server, ExitStack], None]) -> None:
    """Everyone else is served as before, during and after it."""
    ledger = Ledger(Load(SEED))
    first = 20 * CLIENTS.index(misbehave)
    slowest = 0.0

    def normal() -> None:
        nonlocal slowest
        with closing(GrpcSender(server)) as grpc, closing(HttpSender(server)) as http:
            for trace in range(first, first + 20):
                request = ledger.load.request((trace,), 0, 16)
                for sender in (grpc, http):
                    started = time.monotonic()
                    ledger.sending(request)
                    sender.send(request.body)
                    ledger.acknowledge(request)
                    slowest = max(slowest, time.monotonic() - started)
                started = time.monotonic()
                ledger.check(server, [trace])
                slowest = max(slowest, time.monotonic() - started)

    with ExitStack() as held:
        thread = threading.Thread(target=lambda: misbehave(server, held))
        if misbehave in (half_a_request, idle_connections):  # what they hold has to be held first
            misbehave(server, held)
        else:
            thread.start()
        normal()
        if thread.ident is not None:
            thread.join()
        normal()
    assert slowest < LATENCY_SECONDS_MAX
    assert server.get("/ready") == (200, b"ready\n")
    assert "Traceback" not in server.log()
    assert "level=error" not in server.log()
