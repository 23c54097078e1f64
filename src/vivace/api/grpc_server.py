"""The gRPC server of the query port (9095): health, and the calls that it is given (streaming.py).

Messages of `grpc.health.v1` are one enum field, so they are written by hand. On grpcio, unlike the OTLP receiver: queries are
few, spans are many (docs/decisions/001-grpc-front.md). The same calls on the HTTP port: stream_wire.py.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta

import grpc

from vivace.api.stream_calls import Call, CallError, Metadata
from vivace.errors import ConfigError
from vivace.tls import TlsOptions

HEALTH_SERVICE = "grpc.health.v1.Health"
SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"
"""HealthCheckResponse{1 status}. Source: grpc.io, "Health Checking"."""

CALLS_MAX = 1000
"""Calls at a time over all connections, more are refused with RESOURCE_EXHAUSTED; as many as the HTTP port takes connections."""

MILLISECONDS_MAX = 2**31 - 1
"""grpcio keeps times as C ints; 25 days, and a longer time is as good as that."""


@dataclass(frozen=True, slots=True)
class GrpcLimits:
    """Bounds on messages and connections. A zero leaves grpcio's own value: no limit, or the time named here.

    receive_bytes_max, send_bytes_max   of one message
    connection_idle_max                 without a call, then the connection is closed
    connection_age_max, .._age_grace    then it is closed, running calls after the grace
    keepalive_time, keepalive_timeout   of silence, then we ping (2 h); without an answer, then we close (20 s)
    ping_interval_min                   clients that ping more often are disconnected (5 min)
    pings_without_calls                 whether a client may ping while it has no call open
    """

    receive_bytes_max: int = 16 << 20
    send_bytes_max: int = 16 << 20
    concurrent_streams_max: int = 100
    connection_idle_max: timedelta = timedelta(0)
    connection_age_max: timedelta = timedelta(0)
    connection_age_grace: timedelta = timedelta(0)
    keepalive_time: timedelta = timedelta(0)
    keepalive_timeout: timedelta = timedelta(0)
    ping_interval_min: timedelta = timedelta(seconds=10)
    pings_without_calls: bool = True

    def channel_arguments(self) -> list[tuple[str, int]]:
        """As grpcio takes them. Source: grpc/impl/channel_arg_names.h."""
        bounds = [
            ("grpc.max_receive_message_length", self.receive_bytes_max),
            ("grpc.max_send_message_length", self.send_bytes_max),
            ("grpc.max_concurrent_streams", self.concurrent_streams_max),
            ("grpc.max_connection_idle_ms", _milliseconds(self.connection_idle_max)),
            ("grpc.max_connection_age_ms", _milliseconds(self.connection_age_max)),
            ("grpc.max_connection_age_grace_ms", _milliseconds(self.connection_age_grace)),
            ("grpc.keepalive_time_ms", _milliseconds(self.keepalive_time)),
            ("grpc.keepalive_timeout_ms", _milliseconds(self.keepalive_timeout)),
            ("grpc.http2.min_ping_interval_without_data_ms", _milliseconds(self.ping_interval_min)),
        ]
        return [
            *((name, value) for name, value in bounds if value),
            ("grpc.keepalive_permit_without_calls", int(self.pings_without_calls)),
            ("grpc.so_reuseport", 0),  # a second server on the port is an error, not a partner
        ]


class GrpcServer:
    """Serves `calls`, by path, and health on host:port inside the running event loop. `readiness`: see health_calls()."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        readiness: Callable[[], str | None],
        calls: Mapping[str, Call] | None = None,
        limits: GrpcLimits = GrpcLimits(),
        tls: TlsOptions | None = None,
    ) -> None:
        self._calls = {**health_calls(readiness), **(calls or {})}
        self._address = f"{host or '[::]'}:{port}"
        self._limits = limits
        self._tls = tls
        self._server: grpc.aio.Server | None = None
        self.port = port

    async def start(self) -> None:
        """Listen. Raises ConfigError when the address or the TLS options cannot be used."""
        credentials = _credentials(self._tls) if self._tls else None
        server = grpc.aio.server(options=self._limits.channel_arguments(), maximum_concurrent_rpcs=CALLS_MAX)
        server.add_generic_rpc_handlers(_handlers(self._calls))
        try:
            if credentials is not None:
                self.port = server.add_secure_port(self._address, credentials)
            else:
                self.port = server.add_insecure_port(self._address)
        except RuntimeError as e:
            raise ConfigError(f"cannot listen on {self._address}: {e}", key="server.grpc_listen_port") from e
        await server.start()
        self._server = server

    async def stop(self, grace_seconds: float) -> None:
        """Take no more calls, cancel those that run after the grace."""
        if self._server is not None:
            await self._server.stop(grace_seconds)
            self._server = None


def health_calls(readiness: Callable[[], str | None]) -> dict[str, Call]:
    """`grpc.health.v1.Health`: serving when `readiness` gives None, else not. A watcher gets one message, and calls again
    when its stream ends."""

    async def status(metadata: Metadata, message: bytes) -> AsyncGenerator[bytes, None]:
        yield SERVING if readiness() is None else NOT_SERVING

    return {f"/{HEALTH_SERVICE}/Check": status, f"/{HEALTH_SERVICE}/Watch": status}


def _handlers(calls: Mapping[str, Call]) -> list[grpc.GenericRpcHandler]:
    """One for each service. All answer with streams: on the wire a unary answer is a stream of one message."""
    services: dict[str, dict[str, grpc.RpcMethodHandler]] = {}
    for path, call in calls.items():
        _, service, method = path.split("/")
        services.setdefault(service, {})[method] = grpc.unary_stream_rpc_method_handler(_handler(call))
    return [grpc.method_handlers_generic_handler(service, methods) for service, methods in services.items()]


def _handler(call: Call) -> Callable[[bytes, grpc.aio.ServicerContext], Awaitable[None]]:
    async def handle(message: bytes, context: grpc.aio.ServicerContext) -> None:
        metadata = [(name.encode(), _bytes(value)) for name, value in context.invocation_metadata() or ()]
        try:
            async with aclosing(call(metadata, message)) as replies:
                async for reply in replies:
                    await context.write(reply)
        except CallError as error:
            await context.abort(error.code, error.text)

    return handle


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _credentials(tls: TlsOptions) -> grpc.ServerCredentials:
    """A client CA makes client certificates mandatory: grpcio knows no other way, and offers TLS 1.2 and 1.3."""
    if tls.client_optional or tls.min_version != "1.2" or tls.max_version:
        raise ConfigError(
            f"{tls.where} asks for what gRPC has not: optional client certificates, or TLS versions", key=tls.where
        )
    pem = tls.pem()
    return grpc.ssl_server_credentials(
        [(pem.key, pem.certificate)],
        root_certificates=pem.client_ca,
        require_client_auth=pem.client_ca is not None,
    )


def _milliseconds(duration: timedelta) -> int:
    """Rounded up, so that only zero becomes zero."""
    return min(-(-duration // timedelta(milliseconds=1)), MILLISECONDS_MAX)
