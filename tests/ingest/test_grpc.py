"""The gRPC receiver: statuses to the letter, limits, broken and slow clients, stopping.

Good requests come from grpcio's client; what grpcio would never send comes from a raw HTTP/2 client on ngh2.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import zlib
from collections.abc import AsyncIterator

import grpc
import ngh2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from receiver_doubles import MemoryCommitter, run, serving, until

from vivace.access import Credentials, Guard, Secret
from vivace.errors import ConfigError, DecodeError, DiskFullError, LimitError, RequestError, UnavailableError
from vivace.ingest import otlp_grpc
from vivace.ingest.accept import Accepted
from vivace.ingest.grpc_connection import UnaryConnection
from vivace.ingest.otlp_grpc import EXPORT_PATH, GrpcOptions, GrpcReceiver, Keepalive
from vivace.model.proto.otlp_pb2 import ExportTraceServiceResponse
from vivace.model.proto.status_pb2 import RetryInfo, Status

METHOD = EXPORT_PATH.decode()
CODES = grpc.StatusCode


@contextlib.asynccontextmanager
async def calling(port: int) -> AsyncIterator[grpc.aio.UnaryUnaryMultiCallable]:
    options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        yield channel.unary_unary(METHOD)


def receiver_of(committer: MemoryCommitter, options: GrpcOptions | None = None) -> GrpcReceiver:
    return GrpcReceiver(committer, "127.0.0.1:0", options=options)


# Answers


def test_accepted_is_an_empty_partial_success() -> None:
    async def scenario() -> None:
        committer = MemoryCommitter(Accepted(1))
        async with serving(receiver_of(committer)) as port, calling(port) as export:
            assert await export(b"raw bytes") == b"\x0a\x00"
        assert committer.bodies == [b"raw bytes"]
        assert committer.tenants == ["single-tenant"]

    run(scenario())


def test_runs_on_the_standard_event_loop_too() -> None:
    async def scenario() -> None:
        async with serving(receiver_of(MemoryCommitter(Accepted(0)))) as port, calling(port) as export:
            assert await export(b"") == b"\x0a\x00"

    asyncio.run(scenario())


def test_rejected_spans_are_told() -> None:
    async def scenario() -> bytes:
        committer = MemoryCommitter(Accepted(3, rejected=2, message="2 spans without a trace id"))
        async with serving(receiver_of(committer)) as port, calling(port) as export:
            return await export(b"x")

    partial = ExportTraceServiceResponse.FromString(run(scenario())).partial_success
    assert (partial.rejected_spans, partial.error_message) == (2, "2 spans without a trace id")


def limit_error(retry_after_seconds: float | None) -> LimitError:
    return LimitError("RATE_LIMITED: 100%41 ü", limit="l", allowed=1, seen=2, retry_after_seconds=retry_after_seconds)


# (error, status, message, seconds in RetryInfo)
REFUSALS = [
    (DecodeError("bad tag", offset=7, field="spans"), CODES.INVALID_ARGUMENT, "cannot decode spans at byte 7: bad tag", None),
    (limit_error(1.5), CODES.RESOURCE_EXHAUSTED, "RATE_LIMITED: 100%41 ü", 1.5),
    (limit_error(None), CODES.RESOURCE_EXHAUSTED, "RATE_LIMITED: 100%41 ü", None),
    (DiskFullError("disk is full"), CODES.UNAVAILABLE, "disk is full", 5.0),
    (UnavailableError("starting"), CODES.UNAVAILABLE, "starting", 1.0),
    (RequestError("no org id", status=401), CODES.UNAUTHENTICATED, "no org id", None),
    (RequestError("x" * 5000), CODES.INVALID_ARGUMENT, "x" * 1021 + "...", None),
    (ValueError("secret"), CODES.INTERNAL, "internal error, the server's log says more", None),
]  # fmt: skip


@pytest.mark.parametrize(("error", "code", "message", "retry"), REFUSALS, ids=lambda case: str(case)[:30])
def test_refusals(error: Exception, code: CODES, message: str, retry: float | None) -> None:
    async def scenario() -> grpc.aio.AioRpcError:
        async with serving(receiver_of(MemoryCommitter(error))) as port, calling(port) as export:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await export(b"x")
            return refused.value

    refused = run(scenario())
    assert (refused.code(), refused.details()) == (code, message)
    details = dict(refused.trailing_metadata()).get("grpc-status-details-bin")
    if retry is None:
        assert details is None
        return
    status = Status.FromString(details)
    assert (status.code, status.message) == (code.value[0], message)
    assert status.details[0].type_url == "type.googleapis.com/google.rpc.RetryInfo"
    assert RetryInfo.FromString(status.details[0].value).retry_delay.ToNanoseconds() == retry * 1e9


def test_our_own_faults_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    test_refusals(ValueError("secret"), CODES.INTERNAL, "internal error, the server's log says more", None)
    assert "secret" in caplog.text


def test_unknown_methods() -> None:
    async def scenario() -> None:
        async with (
            serving(receiver_of(MemoryCommitter())) as port,
            grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        ):
            with pytest.raises(grpc.aio.AioRpcError, match=r"unknown method /a\.B/C") as refused:
                await channel.unary_unary("/a.B/C")(b"x")
        assert refused.value.code() is CODES.UNIMPLEMENTED

    run(scenario())


def test_the_tenant_comes_from_the_callable() -> None:
    def named(header: str | None) -> str:
        if header is None:
            raise RequestError("no org id", status=401)
        return header

    async def scenario() -> None:
        committer = MemoryCommitter(Accepted(0))
        receiver = GrpcReceiver(committer, "127.0.0.1:0", named=named)
        async with serving(receiver) as port, calling(port) as export:
            await export(b"", metadata=[("x-scope-orgid", "team-a")])
            with pytest.raises(grpc.aio.AioRpcError, match="no org id"):
                await export(b"")
        assert committer.tenants == ["team-a"]

    run(scenario())


def test_who_must_not_send_is_refused_before_the_message_is_kept() -> None:
    async def scenario() -> None:
        committer = MemoryCommitter()
        guard = Guard(Credentials(tokens=(Secret("here", text="t"),)))
        options = GrpcOptions(max_recv_msg_size_bytes=10)
        receiver = GrpcReceiver(committer, "127.0.0.1:0", options=options, guard=guard)
        async with serving(receiver) as port, calling(port) as export:
            for metadata in ([], [("authorization", "Bearer x")]):
                with pytest.raises(
                    grpc.aio.AioRpcError, match="expected Bearer in the Authorization header"
                ) as refused:
                    await export(b"x" * 1000, metadata=metadata)
                assert refused.value.code() is CODES.UNAUTHENTICATED
            await export(b"", metadata=[("authorization", "Bearer t")])
        assert committer.bodies == [b""]

    run(scenario())


# Sizes and compression


@pytest.mark.parametrize("compression", list(grpc.Compression))
def test_compression(compression: grpc.Compression) -> None:
    async def scenario() -> None:
        committer = MemoryCommitter(Accepted(1))
        async with serving(receiver_of(committer)) as port, calling(port) as export:
            await export(b"spans " * 50_000, compression=compression)
            await export(b"", compression=compression)
        assert committer.bodies == [b"spans " * 50_000, b""]

    run(scenario())


def test_message_sizes() -> None:
    async def scenario() -> None:
        committer = MemoryCommitter(Accepted(1))
        receiver = receiver_of(committer, GrpcOptions(max_recv_msg_size_bytes=100_000))
        async with serving(receiver) as port, calling(port) as export:
            await export(b"x" * 100_000)
            for size, compression in ((100_001, None), (8_000_000, None), (100_001, grpc.Compression.Gzip)):
                with pytest.raises(grpc.aio.AioRpcError, match="exceeds") as refused:
                    await export(bytes(size), compression=compression)
                assert refused.value.code() is CODES.RESOURCE_EXHAUSTED
            await export(b"and on it goes")
            assert receiver.budget.held_bytes == 0
        assert len(committer.bodies) == 2

    run(scenario())


def test_the_budget_refuses_what_does_not_fit() -> None:
    async def scenario() -> None:
        committer = MemoryCommitter(Accepted(1))
        committer.gate = asyncio.Event()
        receiver = receiver_of(committer, GrpcOptions(max_buffered_bytes=1000))
        async with serving(receiver) as port, calling(port) as export:
            first = asyncio.ensure_future(export(bytes(900)))
            await committer.arrived.acquire()
            with pytest.raises(grpc.aio.AioRpcError, match="already holds 905 of at most 1000 bytes") as refused:
                await export(bytes(200))
            assert refused.value.code() is CODES.UNAVAILABLE
            committer.gate.set()
            await first
            await export(bytes(200))
            with pytest.raises(grpc.aio.AioRpcError, match="of at most 1000 bytes") as refused:
                await export(bytes(5000), compression=grpc.Compression.Gzip)  # few bytes until they are inflated
            assert refused.value.code() is CODES.UNAVAILABLE
            assert receiver.budget.held_bytes == 0

    run(scenario())


# Concurrency and life of connections


def test_many_connections_at_once() -> None:
    async def one(port: int, number: int) -> None:
        async with calling(port) as export:
            for _ in range(3):
                await asyncio.gather(*(export(b"%d" % number * 1000) for _ in range(3)))

    async def scenario() -> None:
        committer = MemoryCommitter(Accepted(1))
        receiver = receiver_of(committer)
        async with serving(receiver) as port:
            await asyncio.gather(*(one(port, number) for number in range(50)))
        assert len(committer.bodies) == 450
        assert receiver.budget.held_bytes == 0

    run(scenario())


def test_one_connection_for_long() -> None:
    """More bytes than every window holds, and more streams than are allowed at once."""

    async def scenario() -> None:
        committer = MemoryCommitter(Accepted(1))
        receiver = receiver_of(committer, GrpcOptions(max_concurrent_streams=8))
        async with serving(receiver) as port, calling(port) as export:
            for _ in range(10):
                await asyncio.gather(*(export(bytes(130_000)) for _ in range(30)))
            assert len(receiver._connections) == 1
        assert len(committer.bodies) == 300

    run(scenario())


def test_connections_are_counted() -> None:
    async def scenario() -> None:
        receiver = receiver_of(MemoryCommitter(Accepted(1)), GrpcOptions(max_connections=1))
        async with serving(receiver) as port, calling(port) as first, calling(port) as second:
            await first(b"x")
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await second(b"x")
            assert refused.value.code() is CODES.UNAVAILABLE
            await first(b"x")

    run(scenario())


def test_stop_answers_what_is_under_way() -> None:
    async def scenario() -> None:
        committer = MemoryCommitter(Accepted(1))
        committer.gate = asyncio.Event()
        receiver = receiver_of(committer)
        await receiver.start()
        async with calling(receiver.port) as export:
            under_way = asyncio.ensure_future(export(b"x"))
            await committer.arrived.acquire()
            stopping = asyncio.ensure_future(receiver.stop(10))
            asyncio.get_running_loop().call_later(0.05, committer.gate.set)
            assert await under_way == b"\x0a\x00"
            await stopping
            await receiver.stop(10)
            with pytest.raises(grpc.aio.AioRpcError):
                await export(b"y")

    run(scenario())


def test_stop_says_goodbye_first() -> None:
    async def scenario() -> None:
        receiver = receiver_of(MemoryCommitter())
        await receiver.start()
        client = await RawClient.connect(receiver.port)
        await client.flush()
        await until(lambda: any(connection.settled for connection in receiver._connections))
        await receiver.stop(5)
        await client.closed()
        assert any(isinstance(event, ngh2.GoAwayReceived) and event.error_code == 0 for event in client.events)

    run(scenario())


def test_stop_does_not_wait_beyond_its_grace() -> None:
    async def scenario() -> None:
        committer = MemoryCommitter(Accepted(1))
        committer.gate = asyncio.Event()
        receiver = receiver_of(committer)
        await receiver.start()
        async with calling(receiver.port) as export:
            under_way = asyncio.ensure_future(export(b"x"))
            await committer.arrived.acquire()
            await receiver.stop(0.05)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await under_way
            assert refused.value.code() is CODES.UNAVAILABLE
            assert receiver.budget.held_bytes == 0

    run(scenario())


def test_a_taken_port_is_an_error() -> None:
    async def scenario() -> None:
        async with serving(receiver_of(MemoryCommitter())) as port:
            with pytest.raises(OSError, match="address already in use"):
                await GrpcReceiver(MemoryCommitter(), f"127.0.0.1:{port}").start()

    run(scenario())


@pytest.mark.parametrize("endpoint", ["localhost", "", ":", "localhost:grpc", "localhost:70000", "[::1]"])
def test_endpoints_that_cannot_be(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="expected host:port"):
        GrpcReceiver(MemoryCommitter(), endpoint)


# A raw client


class RawClient:
    """HTTP/2 by hand: sends what it is told, gathers what comes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.http2 = ngh2.Connection(ngh2.Role.CLIENT)
        self.http2.initiate_connection()
        self.headers: dict[int, dict[bytes, bytes]] = {}
        self.ended: set[int] = set()
        self.events: list[ngh2.Event] = []

    @classmethod
    async def connect(cls, port: int) -> RawClient:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def open(self, *, path: bytes = EXPORT_PATH, end: bool = False, **headers: str) -> int:
        fields = {"content-type": "application/grpc", **{name.replace("_", "-"): v for name, v in headers.items()}}
        stream_id = self.http2.send_request(
            [(b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"x"), (b":path", path)]
            + [(name.encode(), value.encode()) for name, value in fields.items()],
            end_stream=end,
        )
        await self.flush()
        return stream_id

    async def send(self, stream_id: int, data: bytes, *, end: bool = True) -> None:
        self.http2.send_data(stream_id, data, end_stream=end)
        await self.flush()

    async def flush(self) -> None:
        self.writer.write(self.http2.data_to_send())
        await self.writer.drain()

    async def receive(self) -> bool:
        """Take what comes next; False when the server has closed."""
        data = await self.reader.read(65536)
        if not data:
            return False
        self.http2.receive_data(data)
        for event in self.http2.events():
            self.events.append(event)
            if isinstance(event, ngh2.ResponseReceived | ngh2.TrailersReceived):
                self.headers.setdefault(event.stream_id, {}).update(event.headers)
            if isinstance(event, ngh2.StreamClosed | ngh2.StreamReset):
                self.ended.add(event.stream_id)
        await self.flush()
        return True

    async def answer(self, stream_id: int) -> dict[bytes, bytes]:
        """Headers and trailers of one stream, once it has ended."""
        while stream_id not in self.ended:
            assert await self.receive()
        return self.headers.get(stream_id, {})

    async def closed(self) -> None:
        with contextlib.suppress(ConnectionError):
            while await self.receive():
                pass
        self.writer.close()


def framed(message: bytes, flag: int = 0) -> bytes:
    return bytes([flag]) + len(message).to_bytes(4, "big") + message


# (headers, bytes of the stream, grpc-status, words of grpc-message)
WIRE_CASES = {
    "whole": ({}, framed(b"x"), b"0", b""),
    "gzip flag without encoding": ({}, framed(b"x", 1), b"12", b"grpc-encoding identity"),
    "unknown encoding": ({"grpc_encoding": "br"}, framed(b"x", 1), b"12", b"grpc-encoding br"),
    "unknown flag": ({"grpc_encoding": "gzip"}, framed(b"x", 2), b"12", b"compression flag 2"),
    "encoding without flag": ({"grpc_encoding": "br"}, framed(b"x"), b"0", b""),
    "damaged deflate": ({"grpc_encoding": "deflate"}, framed(zlib.compress(b"x" * 99)[:-2], 1), b"3", b"ends early"),
    "nothing": ({}, b"", b"3", b"before a whole message"),
    "half a prefix": ({}, b"\0\0", b"3", b"before a whole message"),
    "short": ({}, framed(b"abc")[:-1], b"3", b"its prefix says 3 bytes, the stream has 2"),
    "long": ({}, framed(b"abc") + b"d", b"3", b"its prefix says 3 bytes, the stream has 4"),
    "two messages": ({}, framed(b"a") * 2, b"3", b"its prefix says 1 bytes, the stream has 7"),
    "content type with suffix": ({"content_type": "application/grpc+proto"}, framed(b"x"), b"0", b""),
}  # fmt: skip


@pytest.mark.parametrize("name", WIRE_CASES)
@pytest.mark.parametrize("step", [1, 1000], ids=["byte by byte", "at once"])
def test_wire(name: str, step: int) -> None:
    headers, data, status, words = WIRE_CASES[name]

    async def scenario() -> dict[bytes, bytes]:
        async with serving(receiver_of(MemoryCommitter(Accepted(1)))) as port:
            client = await RawClient.connect(port)
            stream_id = await client.open(**headers)
            for start in range(0, len(data), step):
                await client.send(stream_id, data[start : start + step], end=False)
            await client.send(stream_id, b"")
            answer = await client.answer(stream_id)
            client.writer.close()
            return answer

    answer = run(scenario())
    assert (answer[b":status"], answer[b"content-type"]) == (b"200", b"application/grpc")
    assert answer[b"grpc-status"] == status
    assert words in answer.get(b"grpc-message", b"")
    assert (b"grpc-accept-encoding" in answer) is (status == b"12")


def test_not_grpc_is_415() -> None:
    async def scenario() -> None:
        async with serving(receiver_of(MemoryCommitter())) as port:
            client = await RawClient.connect(port)
            answer = await client.answer(await client.open(content_type="application/json", end=True))
            assert answer[b":status"] == b"415"
            client.writer.close()

    run(scenario())


def test_details_need_no_padding() -> None:
    async def scenario() -> bytes:
        async with serving(receiver_of(MemoryCommitter(UnavailableError("u")))) as port:
            client = await RawClient.connect(port)
            stream_id = await client.open()
            await client.send(stream_id, framed(b""))
            answer = await client.answer(stream_id)
            client.writer.close()
            return answer[b"grpc-status-details-bin"]

    details = run(scenario())
    assert b"=" not in details
    assert Status.FromString(base64.b64decode(details + b"==")).code == 14


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n\r\n", bytes(100), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 50]
)
def test_not_http2_is_cut_off_and_harms_nobody(data: bytes) -> None:
    async def scenario() -> None:
        receiver = receiver_of(MemoryCommitter(Accepted(1)))
        async with serving(receiver) as port, calling(port) as export:
            await export(b"x")
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(data)
            with contextlib.suppress(ConnectionError):
                while await reader.read(1000):
                    pass
            writer.close()
            await export(b"x")

    run(scenario())


class DeadTransport(asyncio.Transport):
    """Takes what is written and never sends it."""

    closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closing

    def close(self) -> None:
        self.closing = True

    abort = close

    def is_closing(self) -> bool:
        return self.closing


def client_bytes() -> bytes:
    """What a client sends for three calls: one as usual, one compressed in pieces, one that it resets."""
    client = ngh2.Connection(ngh2.Role.CLIENT)
    client.initiate_connection()
    sent = b""
    for end, payload in ((True, framed(b"abc")), (True, framed(zlib.compress(bytes(3000)), 1)), (False, b"\0\0")):
        headers = [(b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"x"), (b":path", EXPORT_PATH)]
        headers += [(b"content-type", b"application/grpc"), (b"grpc-encoding", b"deflate")]
        stream_id = client.send_request(headers)
        for start in range(0, len(payload), 7):
            client.send_data(stream_id, payload[start : start + 7], end_stream=False)
            sent += client.data_to_send()
        if end:
            client.end_stream(stream_id)
        else:
            client.reset_stream(stream_id)
        sent += client.data_to_send()
    return sent


CLIENT_BYTES = client_bytes()


@settings(max_examples=300, deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(0, len(CLIENT_BYTES) - 1), st.binary(max_size=12)), max_size=4),
    cuts=st.lists(st.integers(0, len(CLIENT_BYTES)), max_size=5),
)
def test_no_bytes_break_a_connection_or_leak(changes: list[tuple[int, bytes]], cuts: list[int]) -> None:
    """A client's bytes, altered and cut at will: nothing is raised, and all bytes are given back at the end."""
    data = CLIENT_BYTES
    for place, replacement in changes:
        data = data[:place] + replacement + data[place + len(replacement) :]

    async def scenario() -> None:
        receiver = receiver_of(MemoryCommitter(Accepted(1)))
        receiver.loop = asyncio.get_running_loop()
        connection = UnaryConnection(receiver)
        transport = DeadTransport()
        connection.connection_made(transport)
        bounds = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
        for start, end in itertools.pairwise(bounds):
            if not transport.closing:
                connection.data_received(data[start:end])
            await asyncio.sleep(0)
        while receiver._answers:
            await asyncio.gather(*receiver._answers)
        connection.connection_lost(None)
        assert receiver.budget.held_bytes == 0
        assert connection.calls == {}

    asyncio.run(scenario())


def test_a_client_that_goes_away_or_resets_gives_its_bytes_back(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        committer = MemoryCommitter(Accepted(1))
        committer.gate = asyncio.Event()
        receiver = receiver_of(committer)
        async with serving(receiver) as port:
            client = await RawClient.connect(port)
            half, reset, committing, last = [await client.open() for _ in range(4)]
            for stream_id in (half, reset):
                await client.send(stream_id, framed(bytes(900))[:500], end=False)
            await client.send(committing, framed(bytes(900)))
            await committer.arrived.acquire()
            assert receiver.budget.held_bytes == 1905
            client.http2.reset_stream(reset)
            client.http2.reset_stream(committing)  # its commit goes on, its answer is dropped
            await client.send(last, framed(b""))
            await committer.arrived.acquire()
            assert receiver.budget.held_bytes == 505
            committer.gate.set()
            assert (await client.answer(last))[b"grpc-status"] == b"0"
            client.writer.close()
            await until(lambda: not receiver._connections)
            assert receiver.budget.held_bytes == 0

    caplog.set_level("INFO", "vivace.ingest")
    run(scenario())
    assert caplog.records == []


# The sweep


@pytest.fixture
def quick_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp_grpc, "SWEEP_SECONDS", 0.01)


@pytest.mark.usefixtures("quick_sweep")
def test_slow_requests_are_refused_and_silent_connections_closed() -> None:
    async def scenario() -> None:
        receiver = receiver_of(MemoryCommitter(Accepted(1)), GrpcOptions(read_timeout_seconds=0.1))
        async with serving(receiver) as port:
            _, silent = await asyncio.open_connection("127.0.0.1", port)
            client = await RawClient.connect(port)
            slow = await client.open()
            await client.send(slow, framed(b"abc")[:6], end=False)
            answer = await client.answer(slow)
            assert (answer[b"grpc-status"], answer[b"grpc-message"]) == (
                b"14",
                b"the request was not complete after 0.1 seconds",
            )
            quick = await client.open()
            await client.send(quick, framed(b"abc"))
            assert (await client.answer(quick))[b"grpc-status"] == b"0"
            await until(lambda: len(receiver._connections) == 1)
            silent.close()
            client.writer.close()

    run(scenario())


@pytest.mark.usefixtures("quick_sweep")
def test_the_read_timeout_spares_a_slow_commit() -> None:
    async def scenario() -> None:
        committer = MemoryCommitter(Accepted(1))
        committer.gate = asyncio.Event()
        receiver = receiver_of(committer, GrpcOptions(read_timeout_seconds=0.05))
        async with serving(receiver) as port, calling(port) as export:
            asyncio.get_running_loop().call_later(0.15, committer.gate.set)
            assert await export(b"x") == b"\x0a\x00"

    run(scenario())


@pytest.mark.usefixtures("quick_sweep")
def test_keepalive_pings_and_closes_the_dead() -> None:
    async def scenario() -> None:
        keepalive = Keepalive(time_seconds=0.05, timeout_seconds=0.1)
        receiver = receiver_of(MemoryCommitter(Accepted(1)), GrpcOptions(keepalive=keepalive))
        async with serving(receiver) as port, calling(port) as alive:
            await alive(b"x")
            dead = await RawClient.connect(port)  # flushes its preface, then never reads
            await dead.flush()
            await until(lambda: len(receiver._connections) == 2)
            await until(lambda: len(receiver._connections) == 1)
            await alive(b"x")
            dead.writer.close()

    run(scenario())


@pytest.mark.usefixtures("quick_sweep")
@pytest.mark.parametrize("limit", ["max_connection_idle_seconds", "max_connection_age_seconds"])
def test_idle_and_aged_connections_are_drained(limit: str) -> None:
    async def scenario() -> None:
        receiver = receiver_of(MemoryCommitter(Accepted(1)), GrpcOptions(keepalive=Keepalive(**{limit: 0.05})))
        async with serving(receiver) as port:
            client = await RawClient.connect(port)
            await client.flush()
            await client.closed()
            assert any(isinstance(event, ngh2.GoAwayReceived) and event.error_code == 0 for event in client.events)

    run(scenario())


@pytest.mark.usefixtures("quick_sweep")
def test_an_aged_connection_gets_its_last_answers() -> None:
    async def scenario() -> None:
        committer = MemoryCommitter(Accepted(1))
        committer.gate = asyncio.Event()
        keepalive = Keepalive(max_connection_age_seconds=0.05)
        async with serving(receiver_of(committer, GrpcOptions(keepalive=keepalive))) as port:
            client = await RawClient.connect(port)
            stream_id = await client.open()
            await client.send(stream_id, framed(b"x"))
            while not any(isinstance(event, ngh2.GoAwayReceived) for event in client.events):
                assert await client.receive()
            committer.gate.set()
            assert (await client.answer(stream_id))[b"grpc-status"] == b"0"
            await client.closed()

    run(scenario())
