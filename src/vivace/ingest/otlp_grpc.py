"""OTLP over gRPC: `TraceService/Export` on its own port, raw request bytes to the Committer and its answer back.

Rule 1  a request is answered OK only after Committer.submit() returned; nothing here parses spans.
Rule 2  start() returns with the port bound; stop() first lets calls under way finish, then closes what is left.
Rule 3  every connection, stream and byte is counted against a limit; the sweep ends what has gone quiet.

HTTP/2 and gRPC's wire: grpc_connection.py.  What senders are told: replies.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field

from vivace.access import OPEN, Guard
from vivace.errors import UnavailableError
from vivace.ingest.accept import Committer
from vivace.ingest.budget import Budget
from vivace.ingest.endpoint import Endpoint
from vivace.ingest.grpc_connection import Handler, UnaryConnection
from vivace.ingest.replies import TenantOf, accepted_bytes, refusal_of, single_tenant, tenant_of
from vivace.tls import TlsOptions

logger = logging.getLogger(__name__)

EXPORT_PATH = b"/opentelemetry.proto.collector.trace.v1.TraceService/Export"

# Timeouts below are in whole seconds, so looking once a second is enough; a pass over 1,000 connections takes 0.3 ms.
SWEEP_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Keepalive:
    """`keepalive.server_parameters` of the Collector, in seconds. Infinity: never."""

    time_seconds: float = 7200.0  # a connection that was silent so long is pinged
    timeout_seconds: float = 20.0  # ... and closed when no answer came for so long
    max_connection_idle_seconds: float = float("inf")  # without a call
    max_connection_age_seconds: float = float("inf")
    max_connection_age_grace_seconds: float = float("inf")  # for calls under way when the age was reached


@dataclass(frozen=True, slots=True)
class GrpcOptions:
    """Limits of the gRPC receiver. Sizes are bytes."""

    max_recv_msg_size_bytes: int = 4 << 20  # compressed and decompressed; gRPC's own default
    max_concurrent_streams: int = 100  # a connection; exporters use one to ten
    max_connections: int = 1000  # each costs about 20 KB idle
    max_buffered_bytes: int = 64 << 20  # all requests being read or committed: sixteen of the largest
    read_timeout_seconds: float = 30.0  # for the first sign of HTTP/2, and for a whole request
    keepalive: Keepalive = field(default_factory=Keepalive)


class GrpcReceiver:
    """The OTLP/gRPC server. Runs on the event loop that calls start(); `port` is the bound one from then on."""

    def __init__(
        self,
        committer: Committer,
        endpoint: str,
        *,
        options: GrpcOptions | None = None,
        tls: TlsOptions | None = None,
        named: TenantOf = single_tenant,
        guard: Guard = OPEN,
    ) -> None:
        options = options or GrpcOptions()
        self._committer = committer
        self._endpoint = Endpoint.parse(endpoint)
        self._options = options
        self._tls = tls
        self._named = named
        self._guard = guard
        self._connections: set[UnaryConnection] = set()
        self._answers: set[asyncio.Future[None]] = set()
        self._quiet = asyncio.Event()
        self._listener: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self.port = self._endpoint.port
        # What a UnaryConnection reads:
        self.routes: Mapping[bytes, Handler] = {EXPORT_PATH: self._export}
        self.message_bytes_max = options.max_recv_msg_size_bytes
        self.concurrent_streams_max = options.max_concurrent_streams
        self.budget = Budget(options.max_buffered_bytes)

    async def start(self) -> None:
        """Bind and serve.

        Raises  ConfigError for TLS files that cannot be used, OSError when the port cannot be bound.
        """
        context = self._tls.server_context(["h2"]) if self._tls else None
        self.loop = asyncio.get_running_loop()
        self._listener = await self.loop.create_server(
            lambda: UnaryConnection(self), self._endpoint.host, self._endpoint.port, ssl=context
        )
        self.port = self._listener.sockets[0].getsockname()[1]
        self._sweeper = self.loop.call_later(SWEEP_SECONDS, self._sweep)

    async def stop(self, grace_seconds: float) -> None:
        """Take no new calls, wait at most `grace_seconds` for those under way, then close. Safe to call twice."""
        if self._listener is None or self._sweeper is None:
            return
        self._listener.close()
        self._sweeper.cancel()
        for connection in list(self._connections):
            connection.drain()
        self._note_quiet()
        try:
            await asyncio.wait_for(self._quiet.wait(), grace_seconds)
        except TimeoutError:
            logger.warning("closing with calls unanswered after %s s: their senders will send again", grace_seconds)
        for connection in list(self._connections):
            connection.transport.close()
        for answer in self._answers:
            answer.cancel()
        await asyncio.gather(*self._answers, return_exceptions=True)
        self._listener = None

    # For UnaryConnection

    def connection_opened(self, connection: UnaryConnection) -> bool:
        if len(self._connections) >= self._options.max_connections:
            logger.warning("refused a connection: %d are open", len(self._connections))
            return False
        self._connections.add(connection)
        return True

    def connection_closed(self, connection: UnaryConnection) -> None:
        self._connections.discard(connection)
        self._note_quiet()

    def run(self, call: Awaitable[None]) -> None:
        answer = asyncio.ensure_future(call)
        self._answers.add(answer)
        answer.add_done_callback(self._answered)

    def check(self, headers: Mapping[bytes, bytes]) -> None:
        tenant_of(headers, self._guard, self._named)

    # Own

    async def _export(self, headers: Mapping[bytes, bytes], message: bytes) -> bytes:
        tenant = tenant_of(headers, self._guard, self._named)
        return accepted_bytes(await self._committer.submit(tenant, message))

    def _answered(self, answer: asyncio.Future[None]) -> None:
        self._answers.discard(answer)
        if not answer.cancelled() and (error := answer.exception()) is not None:
            logger.error("answering a call failed by our fault", exc_info=error)
        self._note_quiet()

    def _note_quiet(self) -> None:
        """Let stop() go on once no call is open anywhere."""
        if self._listener is None or self._listener.is_serving():
            return
        if not self._answers and not any(connection.calls for connection in self._connections):
            self._quiet.set()

    def _sweep(self) -> None:
        """Ping the silent, close the dead, the idle and the aged, refuse requests that do not arrive."""
        now = self.loop.time()
        for connection in list(self._connections):
            self._sweep_connection(connection, now)
        self._sweeper = self.loop.call_later(SWEEP_SECONDS, self._sweep)

    def _sweep_connection(self, connection: UnaryConnection, now: float) -> None:
        keepalive, options = self._options.keepalive, self._options
        if not connection.settled and now - connection.opened_at > options.read_timeout_seconds:
            connection.transport.abort()
            return
        if connection.ping_sent_at is not None:
            if now - connection.ping_sent_at > keepalive.timeout_seconds:
                connection.transport.abort()
                return
        elif now - connection.read_at > keepalive.time_seconds:
            connection.ping()
        for stream_id, call in list(connection.calls.items()):
            if not call.complete and now - call.started_at > options.read_timeout_seconds:
                late = UnavailableError(f"the request was not complete after {options.read_timeout_seconds:g} seconds")
                connection.refuse(stream_id, refusal_of(late))
        idle = not connection.calls and now - connection.active_at > keepalive.max_connection_idle_seconds
        if idle or now - connection.opened_at > keepalive.max_connection_age_seconds:
            connection.drain()
        if connection.draining_since is not None:
            overdue = now - connection.draining_since > keepalive.max_connection_age_grace_seconds
            if overdue or not connection.calls:
                connection.transport.close()
