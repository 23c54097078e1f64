"""Both ports that serve gRPC queries over engines that do as they are told, and clients of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from engines import Engines
from google.protobuf.message import Message

from vivace.api.app import build_app
from vivace.api.deps import ApiDeps
from vivace.api.grpc_server import GrpcServer, health_calls
from vivace.api.server import HttpServer, HttpTimeouts
from vivace.api.stream_calls import Call
from vivace.api.stream_wire import GrpcApplication, WireLimits
from vivace.api.streaming import SERVICE, StreamingQuerier
from vivace.model.proto import tempopb_pb2 as pb
from vivace.query.answers import MetricsAnswer, MetricsRequest, SearchAnswer, SearchRequest
from vivace.tls import TlsOptions

DEADLINE_SECONDS = 20.0
TIMEOUTS = HttpTimeouts(stop_seconds=0)
LIMITS = WireLimits()
PORTS = ("grpc", "http")

RPCS: dict[str, tuple[type[Message], type[Message]]] = {
    "Search": (pb.SearchRequest, pb.SearchResponse),
    "SearchTags": (pb.SearchTagsRequest, pb.SearchTagsResponse),
    "SearchTagsV2": (pb.SearchTagsRequest, pb.SearchTagsV2Response),
    "SearchTagValues": (pb.SearchTagValuesRequest, pb.SearchTagValuesResponse),
    "SearchTagValuesV2": (pb.SearchTagValuesRequest, pb.SearchTagValuesV2Response),
    "MetricsQueryRange": (pb.QueryRangeRequest, pb.QueryRangeResponse),
    "MetricsQueryInstant": (pb.QueryInstantRequest, pb.QueryInstantResponse),
}


@dataclass
class SlowEngines(Engines):
    """Engines that tell, on another thread, what they have so far; then wait for `go` where they are told to hang."""

    before: tuple[Any, ...] = ()
    hangs: bool = False
    tenants: list[str] = field(default_factory=list)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    running: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    async def search(self, tenant: str, request: SearchRequest, on_progress: Any = None) -> SearchAnswer:
        await self._take_time(tenant, on_progress)
        return await super().search(tenant, request)

    async def series(self, tenant: str, request: MetricsRequest, on_progress: Any = None) -> MetricsAnswer:
        await self._take_time(tenant, on_progress)
        return await super().series(tenant, request)

    async def _take_time(self, tenant: str, on_progress: Callable[[Any], None]) -> None:
        self.tenants.append(tenant)
        self.running.set()
        try:
            for answer in self.before:
                await asyncio.to_thread(on_progress, answer)
            if self.hangs:
                await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


def deps_of(engines: Engines, **changes: Any) -> ApiDeps:
    unused: Callable[..., Any] = lambda *_: None  # noqa: E731
    given: dict[str, Any] = {
        "lookup": unused,
        "telemetry": engines.telemetry,
        "status": unused,
        "readiness": lambda: None,
        "flush": unused,
        "shutdown": unused,
        "max_bytes_per_trace": unused,
        "error_id": lambda: "e1",
        "queries": engines.queries(),
    }
    return ApiDeps(**given | changes)


def calls_of(engines: Engines, *, interval_seconds: float = 0.5, **changes: Any) -> dict[str, Call]:
    return StreamingQuerier(deps_of(engines, **changes), engines.queries(), interval_seconds=interval_seconds).calls()


@asynccontextmanager
async def serving(
    engines: Engines,
    *,
    timeouts: HttpTimeouts = TIMEOUTS,
    limits: WireLimits = LIMITS,
    tls: TlsOptions | None = None,
    interval_seconds: float = 0.5,
    **changes: Any,
) -> AsyncIterator[dict[str, str]]:
    """The addresses of both ports by their name in PORTS."""
    deps = deps_of(engines, **changes)
    calls = calls_of(engines, interval_seconds=interval_seconds, **changes)
    app = GrpcApplication(calls | health_calls(deps.readiness), build_app(deps), limits=limits)
    http = HttpServer(app, "127.0.0.1", 0, timeouts=timeouts, tls=tls, http2=True)
    grpc_server = GrpcServer("127.0.0.1", 0, readiness=deps.readiness, calls=calls)
    await http.start()
    await grpc_server.start()
    try:
        yield {"grpc": f"127.0.0.1:{grpc_server.port}", "http": f"127.0.0.1:{http.port}"}
    finally:
        await grpc_server.stop(0)
        await http.stop()


def run(steps: Callable[[dict[str, str]], Awaitable[None]], engines: Engines, **settings: Any) -> None:
    async def main() -> None:
        async with asyncio.timeout(DEADLINE_SECONDS), serving(engines, **settings) as addresses:
            await steps(addresses)

    asyncio.run(main())


def call(channel: grpc.aio.Channel, rpc: str, request: Message | bytes, **options: Any) -> Any:
    """The call of a client, which is an asynchronous iterator of replies. A request may be raw bytes."""
    return channel.unary_stream(
        f"/{SERVICE}/{rpc}",
        request_serializer=lambda r: r if isinstance(r, bytes) else r.SerializeToString(),
        response_deserializer=RPCS[rpc][1].FromString,
    )(request, timeout=DEADLINE_SECONDS, **options)


async def ask(address: str, rpc: str, request: Message | bytes, **options: Any) -> list[Any]:
    """All replies. Raises grpc.aio.AioRpcError."""
    async with grpc.aio.insecure_channel(address) as channel:
        return [reply async for reply in call(channel, rpc, request, **options)]


async def refusal(address: str, rpc: str, request: Message | bytes, **options: Any) -> tuple[str, str]:
    """Name of the status and text of a call that fails."""
    try:
        replies = await ask(address, rpc, request, **options)
    except grpc.aio.AioRpcError as error:
        return error.code().name, error.details() or ""
    raise AssertionError(f"answered: {replies}")
