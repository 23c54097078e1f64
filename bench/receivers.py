"""Server CPU per request of the receivers, and of other gRPC servers doing the same job.

    python bench/receivers.py [FRONT ...]      grpc http json: ours; grpc-aio grpc-threads grpclib h2corn: to compare

Each front runs in a process of its own on a uvloop, before a committer that resolves everything that waits in one go, as
group commit does, but keeps nothing. The load comes from this process: CONNECTIONS connections, STREAMS requests at a
time on each (HTTP/1.1: one). CPU is user and system time of the server with all its threads, from /proc/PID/stat.
Results: docs/decisions/001-grpc-front.md. grpclib and h2corn are measured when they are installed.
"""

from __future__ import annotations

import asyncio
import http.client
import importlib.util
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import uvloop

from vivace.ingest.accept import Accepted
from vivace.ingest.otlp_grpc import EXPORT_PATH, GrpcReceiver
from vivace.ingest.otlp_http import HttpReceiver
from vivace.model.proto.otlp_pb2 import ExportTraceServiceRequest, KeyValue, Span

CONNECTIONS, STREAMS = 4, 4
CASES = ((20, 8000), (500, 2000))  # spans a request, requests
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
METHOD = EXPORT_PATH.decode()
REPLY = b"\n\x00"

Send = Callable[[bytes], None]


class GroupCommitter:
    """Answers all that wait in the next turn of the loop."""

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[Accepted]] = []
        self.kept: list[object] = []  # servers that nothing else holds on to

    async def submit(self, tenant: str, body: bytes) -> Accepted:
        return await self.enqueue(tenant, body)

    def enqueue(self, tenant: str, body: bytes) -> asyncio.Future[Accepted]:
        loop = asyncio.get_running_loop()
        fate: asyncio.Future[Accepted] = loop.create_future()
        self._waiting.append(fate)
        if len(self._waiting) == 1:
            loop.call_soon(self._commit)
        return fate

    def _commit(self) -> None:
        waiting, self._waiting = self._waiting, []
        for fate in waiting:
            if not fate.done():
                fate.set_result(Accepted(20))


# Servers: each starts one and returns its port.


async def serve_grpc(committer: GroupCommitter) -> int:
    receiver = GrpcReceiver(committer, "127.0.0.1:0")
    await receiver.start()
    return receiver.port


async def serve_http(committer: GroupCommitter) -> int:
    receiver = HttpReceiver(committer, "127.0.0.1:0")
    await receiver.start()
    return receiver.port


async def serve_grpc_aio(committer: GroupCommitter) -> int:
    async def export(request: bytes, _context: object) -> bytes:
        await committer.submit("t", request)
        return REPLY

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_generic(export),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    committer.kept.append(server)
    return port


async def serve_grpc_threads(committer: GroupCommitter) -> int:
    loop = asyncio.get_running_loop()

    def export(request: bytes, _context: object) -> bytes:
        asyncio.run_coroutine_threadsafe(committer.submit("t", request), loop).result()
        return REPLY

    server = grpc.server(ThreadPoolExecutor(CONNECTIONS * STREAMS))
    server.add_generic_rpc_handlers((_generic(export),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    committer.kept.append(server)
    return port


def _generic(export: Callable[..., object]) -> grpc.GenericRpcHandler:
    service, method = METHOD.removeprefix("/").split("/")
    return grpc.method_handlers_generic_handler(service, {method: grpc.unary_unary_rpc_method_handler(export)})


async def serve_grpclib(committer: GroupCommitter) -> int:
    from grpclib.const import Cardinality, Handler
    from grpclib.encoding.base import CodecBase
    from grpclib.server import Server

    class RawCodec(CodecBase):
        __content_subtype__ = "proto"

        def encode(self, message: bytes, message_type: object) -> bytes:
            return message

        def decode(self, data: bytes, message_type: object) -> bytes:
            return data

    class Traces:
        async def export(self, stream) -> None:
            await committer.submit("t", await stream.recv_message())
            await stream.send_message(REPLY)

        def __mapping__(self) -> dict[str, Handler]:
            return {METHOD: Handler(self.export, Cardinality.UNARY_UNARY, bytes, bytes)}

    server = Server([Traces()], codec=RawCodec())
    await server.start("127.0.0.1", 0)
    committer.kept.append(server)
    return server._server.sockets[0].getsockname()[1]


async def serve_h2corn(committer: GroupCommitter) -> int:
    import socket

    import h2corn

    async def application(scope, receive, send) -> None:
        if scope["type"] != "http":
            return
        chunks, more = [], True
        while more:
            message = await receive()
            chunks.append(message.get("body", b""))
            more = message.get("more_body", False)
        await committer.submit("t", b"".join(chunks)[5:])
        headers = [(b"content-type", b"application/grpc")]
        await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": True})
        await send({"type": "http.response.body", "body": b"\0" + len(REPLY).to_bytes(4, "big") + REPLY})
        await send({"type": "http.response.trailers", "headers": [(b"grpc-status", b"0")]})

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = h2corn.Server(application, h2corn.Config(bind=f"127.0.0.1:{port}", grpc=True, access_log=False))
    committer.kept.append(asyncio.create_task(server.serve()))
    await asyncio.sleep(1)
    return port


SERVERS = {
    "grpc": serve_grpc,
    "http": serve_http,
    "json": serve_http,
    "grpc-aio": serve_grpc_aio,
    "grpc-threads": serve_grpc_threads,
    "grpclib": serve_grpclib,
    "h2corn": serve_h2corn,
}


async def serve(front: str) -> None:
    """Start a front, print its port, and go on until standard input ends."""
    print(await SERVERS[front](GroupCommitter()), flush=True)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, ended.set)
    await ended.wait()
    os._exit(0)  # some fronts leave threads that would keep the process


# Load


def request_of(spans: int) -> bytes:
    """A request of about 258 bytes a span."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.append(_attribute("service.name", "checkout"))
    scope = resource.scope_spans.add()
    for number in range(spans):
        scope.spans.append(
            Span(
                trace_id=(number // 10 + 1).to_bytes(16, "big"),
                span_id=(number + 1).to_bytes(8, "big"),
                parent_span_id=(number // 2 + 1).to_bytes(8, "big"),
                name="GET /api/items",
                kind=Span.SPAN_KIND_SERVER,
                start_time_unix_nano=1_700_000_000_000_000_000 + number,
                end_time_unix_nano=1_700_000_000_050_000_000 + number,
                attributes=[
                    _attribute("http.request.method", "GET"),
                    _attribute("url.full", f"https://shop.example.com/api/items/{number}"),
                    _attribute("net.peer.name", "shop.example.com"),
                    _attribute("thread.name", "worker-7"),
                ],
            )
        )
    return request.SerializeToString()


def _attribute(key: str, value: str) -> KeyValue:
    attribute = KeyValue(key=key)
    attribute.value.string_value = value
    return attribute


def json_of(spans: int) -> bytes:
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "ingest"))
    from otlp_json_mapping import to_json

    return to_json(ExportTraceServiceRequest.FromString(request_of(spans)))


def grpc_sender(port: int) -> Send:
    channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)])
    export = channel.unary_unary(METHOD)
    return lambda body: export(body, timeout=30)


def http_sender(port: int, media_type: str) -> Send:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def send(body: bytes) -> None:
        connection.request("POST", "/v1/traces", body, {"Content-Type": media_type})
        response = connection.getresponse()
        if response.read() and response.status != 200:
            raise RuntimeError(f"answered {response.status}")

    return send


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def measure(front: str, spans: int, requests: int) -> None:
    process = subprocess.Popen(
        [sys.executable, __file__, "--serve", front], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        port = int(process.stdout.readline())
        body = json_of(spans) if front == "json" else request_of(spans)
        if front in ("http", "json"):
            media_type = "application/json" if front == "json" else "application/x-protobuf"
            senders = [http_sender(port, media_type) for _ in range(CONNECTIONS)]
        else:
            senders = [sender for _ in range(CONNECTIONS) for sender in [grpc_sender(port)] * STREAMS]
        each = requests // len(senders)
        run_all(senders, body, 20)  # connections open, caches warm
        cpu, started = cpu_seconds(process.pid), time.perf_counter()
        run_all(senders, body, each)
        elapsed, used = time.perf_counter() - started, cpu_seconds(process.pid) - cpu
        count = each * len(senders)
        print(
            f"{front:13} {spans:4} spans {len(body):7} bytes  {used / count * 1e6:6.0f} us CPU a request  "
            f"{count / elapsed:6.0f} requests/s",
            flush=True,
        )
    finally:
        process.kill()
        process.wait()


def run_all(senders: list[Send], body: bytes, each: int) -> None:
    failures: list[Exception] = []

    def run(send: Send) -> None:
        try:
            for _ in range(each):
                send(body)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(send,)) for send in senders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        uvloop.run(serve(sys.argv[2]))
        return
    for front in sys.argv[1:] or SERVERS:
        if front in ("grpclib", "h2corn") and importlib.util.find_spec(front) is None:
            print(f"{front:13} not installed, not measured")
            continue
        for spans, requests in CASES:
            measure(front, spans, requests // 8 if front == "json" else requests)


if __name__ == "__main__":
    main()
