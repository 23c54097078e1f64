"""The gRPC server of the query port (9095): health for now; the streaming query services join it here.

Messages of `grpc.health.v1` are one enum field, so they are written by hand. On grpcio, unlike the OTLP receiver:
queries are few and stream, spans are many and do not (docs/decisions/001-grpc-front.md).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import grpc

from vivace.errors import ConfigError

HEALTH_SERVICE = "grpc.health.v1.Health"
SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"
"""HealthCheckResponse{1 status}. Source: grpc.io, "Health Checking"."""


class GrpcServer:
    """Serves on host:port inside the running event loop. `readiness`: None when ready, else why not."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        readiness: Callable[[], str | None],
        message_bytes_max: int,
        concurrent_streams_max: int,
    ) -> None:
        self._readiness = readiness
        self._address = f"{host or '[::]'}:{port}"
        self._options = [
            ("grpc.max_receive_message_length", message_bytes_max),
            ("grpc.max_send_message_length", message_bytes_max),
            ("grpc.max_concurrent_streams", concurrent_streams_max),
            ("grpc.so_reuseport", 0),  # a second server on the port is an error, not a partner
        ]
        self._server: grpc.aio.Server | None = None
        self.port = port

    async def start(self) -> None:
        """Listen. Raises ConfigError when the address cannot be used."""
        server = grpc.aio.server(options=self._options)
        server.add_generic_rpc_handlers((self._health(),))
        try:
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

    def _health(self) -> grpc.GenericRpcHandler:
        return grpc.method_handlers_generic_handler(
            HEALTH_SERVICE,
            {
                "Check": grpc.unary_unary_rpc_method_handler(self._check),
                "Watch": grpc.unary_stream_rpc_method_handler(self._watch),
            },
        )

    def _status(self) -> bytes:
        return SERVING if self._readiness() is None else NOT_SERVING

    async def _check(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return self._status()

    async def _watch(self, request: bytes, context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        """One message; a watcher that wants changes calls again when its stream ends."""
        yield self._status()
