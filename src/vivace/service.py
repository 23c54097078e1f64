"""The service: builds every part, connects them, starts them in the order that spans flow, stops them in reverse.

    receivers ─► group commit ─► WAL ─► head ─cut─► blocks ─► compaction, retention      (ingest/, storage/)
                                          └───────────┴─► lookups ─► HTTP API            (query/, api/)

Read this first; then each room's own front page. What a part needs comes through its constructor, and only from here.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import math
import secrets
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta

import pyarrow as pa
from prometheus_client import Gauge

from vivace import __version__
from vivace.api.app import build_app
from vivace.api.deps import ApiDeps, ConfigMode, ServiceRow
from vivace.api.grpc_server import GrpcLimits, GrpcServer
from vivace.api.server import HttpServer, HttpTimeouts
from vivace.config.dump import to_yaml
from vivace.config.live import LiveLimits
from vivace.config.receivers import OtlpGrpc, OtlpHttp, ReceiverTls
from vivace.config.server import ListenTls, Server
from vivace.config.settings import Settings
from vivace.config.unfinished import unfinished
from vivace.config.units import BytesOrPercent
from vivace.errors import NotFoundError, StorageError, UnavailableError, VivaceError
from vivace.ingest.admission import Admission
from vivace.ingest.commit import GroupCommit
from vivace.ingest.decode import native_notice
from vivace.ingest.otlp_grpc import GrpcOptions, GrpcReceiver, Keepalive
from vivace.ingest.otlp_http import CorsOptions, HttpOptions, HttpReceiver
from vivace.ingest.replay import replay
from vivace.observers import CommitObserver, Gauges
from vivace.query.lookup import TraceLookup
from vivace.query.pool import QueryPool
from vivace.storage.catalog import QUARANTINE, Catalog
from vivace.storage.compaction import CompactionSettings
from vivace.storage.disk import DiskBudget
from vivace.storage.layout import BlockMeta
from vivace.storage.maintenance import Upkeep, UpkeepObservers, UpkeepSettings
from vivace.storage.retention import Retention
from vivace.storage.store import CutSettings, Observers, Store, claimed_until
from vivace.storage.wal import Wal
from vivace.telemetry import Telemetry
from vivace.tls import TlsOptions

log = logging.getLogger(__name__)

STOP_SECONDS = 5.0
"""For requests under way at a stop: with the rest of the way down it stays below the 10 s of `docker stop`."""


def run(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT; returns the exit code."""
    limit_malloc_arenas()
    # one allocator for all: what a cut frees then goes back with trim_memory(); 110 MB less while 1M spans come in
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_run(settings))
    except VivaceError as e:
        log.error("%s", e)
        return 1
    except OSError as e:
        log.error("cannot start: %s", e)
        return 1


async def _run(settings: Settings) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    service = Service(settings)

    def ask_to_stop() -> None:
        stop.set()
        service.interrupt()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask_to_stop)
    try:
        await service.start()
        await stop.wait()
        log.info("stopping")
        await service.drain()
    except StartInterruptedError:
        log.info("stopping before the start was done")
    finally:
        await service.stop()
    log.info("stopped")
    return 0


def limit_malloc_arenas() -> None:
    """Two malloc arenas instead of eight a core: freed memory of one thread then serves the others.

    Measured while 1M spans came in: 90 MB less at the peak, no slower. Does nothing where there is no glibc.
    """
    m_arena_max = -8
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").mallopt(m_arena_max, 2)


def trim_memory() -> None:
    """Give freed heap pages back to the system, after a cut has let go of much."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


class StartInterruptedError(UnavailableError):
    """A stop was asked for while the service started."""


class Service:
    """All parts of one process. start(), then drain() and stop(); stop() alone also loses nothing."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._clock = time.monotonic
        self._state = "Starting"
        self._interrupted = False
        self._reason: str | None = "starting: reading blocks and the write-ahead log"
        self._telemetry = Telemetry(version=__version__)
        self._limits = self._read_limits()
        self._following: asyncio.Task[None] | None = None
        self._disk = self._build_disk()
        trace = settings.storage.trace
        self._wal = Wal(
            trace.wal.path,
            segment_bytes_max=trace.wal.segment_max_bytes,
            sync=trace.wal.sync,
            sequence_min=claimed_until(trace.local.path),
            on_fsync=self._telemetry.wal_fsync_seconds.observe,
        )
        self._catalog = Catalog(trace.local.path, on_quarantine=self._telemetry.blocks_quarantined.inc)
        self._store = self._build_store()
        self._upkeep = self._build_upkeep()
        self._commit = self._build_commit()
        self._queries = QueryPool(settings.query_frontend.max_outstanding_per_tenant)
        self._receivers = self._build_receivers()
        self._http = self._build_http()
        server = settings.server
        self._grpc = GrpcServer(
            server.grpc_listen_address,
            server.grpc_listen_port,
            readiness=lambda: self._reason,
            limits=_grpc_limits(server),
            tls=_listen_tls(server.grpc_tls_config, "server.grpc_tls_config", server.tls_min_version),
        )
        gauges = Gauges(self._store, self._commit, self._disk, self._clock, time.time_ns)
        self._telemetry.register_gauges(gauges.read)

    # -- building ---------------------------------------------------------------------------------------------------

    def _read_limits(self) -> LiveLimits:
        usable = Gauge(
            "tempo_runtime_config_last_reload_successful",
            "1 while the per-tenant file is in force as it is, 0 while it cannot be used.",
            registry=self._telemetry.registry,
        )
        overrides = self.settings.overrides
        return LiveLimits(overrides.defaults, overrides.per_tenant_override_config, usable.set)

    def _build_disk(self) -> DiskBudget:
        trace = self.settings.storage.trace
        blocks = trace.local.path
        for path in (blocks, trace.wal.path):
            path.mkdir(parents=True, exist_ok=True)
        directories = {"wal": trace.wal.path, "blocks": blocks, "quarantine": blocks / QUARANTINE}
        generator = self.settings.metrics_generator.storage.path
        if generator is not None:
            directories["generator"] = generator
        return DiskBudget(
            blocks,
            directories,  # type: ignore[arg-type]
            cap=_disk_limit(trace.local.max_bytes),
            floor=_disk_limit(trace.local.min_free_bytes),
        )

    def _build_store(self) -> Store:
        ingester = self.settings.ingester
        return Store(
            wal=self._wal,
            catalog=self._catalog,
            disk=self._disk,
            cut=CutSettings(
                head_bytes_max=ingester.head_max_bytes,
                trace_idle=ingester.trace_idle_period,
                trace_live=ingester.trace_live_period,
                block_duration_max=ingester.max_block_duration,
            ),
            observers=Observers(self._cut_done, self._telemetry.tempo_ingester_blocks_flushed.inc, self._duplicates),
            clock=self._clock,
            now_unix_nano=time.time_ns,
            new_id=new_block_id,
        )

    def _cut_done(self, seconds: float) -> None:
        self._telemetry.block_cut_seconds.observe(seconds)
        trim_memory()

    def _duplicates(self, tenant: str, spans: int) -> None:
        self._telemetry.spans.labels(self._telemetry.tenant_label(tenant), "duplicate").inc(spans)

    def _build_upkeep(self) -> Upkeep:
        compaction = self.settings.compactor.compaction
        usual = CompactionSettings(
            window=compaction.compaction_window,
            memory_bytes=compaction.memory_max_bytes,
            block_bytes_max=compaction.max_block_bytes,
            block_traces_max=compaction.max_compaction_objects,
        )

        def of_tenant(tenant: str) -> CompactionSettings | None:
            limits = self._limits.of(tenant).compaction
            if limits.compaction_disabled:
                return None
            return replace(usual, window=limits.compaction_window or usual.window)

        settings = UpkeepSettings(
            cut_check=self.settings.ingester.flush_check_period,
            cycle=compaction.compaction_cycle,
            compacts=not self.settings.compactor.disabled,
            compaction=usual,
            retention=self._retention,
            compaction_of=of_tenant,
        )
        observers = UpkeepObservers(
            compacted=self._compacted,
            compaction_failed=self._telemetry.tempodb_compaction_errors.inc,
            deleted=self._telemetry.tempodb_retention_deleted.inc,
            duplicates=self._duplicates,
        )
        return Upkeep(
            self._store, settings, observers, clock=self._clock, now_unix_nano=time.time_ns, new_id=new_block_id
        )

    def _retention(self) -> Retention:
        if self.settings.compactor.disabled:
            return Retention(timedelta(0))
        limits = {tenant: self._limits.of(tenant).compaction for tenant in self._catalog.tenants()}
        own = {t: timedelta.max if c.compaction_disabled else c.block_retention for t, c in limits.items()}
        return Retention(self.settings.compactor.compaction.block_retention, own)

    def _compacted(self, blocks: int, meta: BlockMeta, seconds: float) -> None:
        self._telemetry.compaction_seconds.observe(seconds)
        self._telemetry.tempodb_compaction_blocks.labels(str(meta.level)).inc(blocks)
        self._telemetry.tempodb_compaction_bytes_written.labels(str(meta.level)).inc(meta.data_bytes)
        trim_memory()

    def _build_commit(self) -> GroupCommit:
        return GroupCommit(
            self._store,
            self._store.writer,
            Admission(lambda tenant: self._limits.of(tenant).ingestion, self._clock),
            attribute_bytes_max=self._attribute_bytes_max,
            observer=CommitObserver(self._telemetry),
        )

    def _attribute_bytes_max(self, tenant: str) -> int:
        return self._limits.of(tenant).ingestion.max_attribute_bytes or self.settings.distributor.max_attribute_bytes

    def _build_receivers(self) -> list[GrpcReceiver | HttpReceiver]:
        otlp = self.settings.distributor.receivers.otlp
        receivers: list[GrpcReceiver | HttpReceiver] = []
        if otlp is not None and otlp.protocols.grpc is not None:
            receivers.append(_grpc_receiver(self._commit, otlp.protocols.grpc))
        if otlp is not None and otlp.protocols.http is not None:
            receivers.append(_http_receiver(self._commit, otlp.protocols.http))
        return receivers

    def _build_http(self) -> HttpServer:
        server = self.settings.server
        frontend = self.settings.query_frontend
        deps = ApiDeps(
            lookup=TraceLookup(self._store, self._queries, self._max_bytes_per_trace),
            telemetry=self._telemetry,
            status=_Status(self),
            readiness=lambda: self._reason,
            flush=self.flush,
            shutdown=self.drain,
            max_bytes_per_trace=self._max_bytes_per_trace,
            http_api_prefix=self.settings.http_api_prefix,
            api_timeout_seconds=min(
                filter(None, (frontend.api_timeout, server.http_server_write_timeout)), default=timedelta(0)
            ).total_seconds(),
        )
        timeouts = HttpTimeouts(
            header_seconds=_seconds_or_never(server.http_server_read_timeout),
            idle_seconds=_seconds_or_never(server.http_server_idle_timeout or server.http_server_read_timeout),
            write_seconds=_seconds_or_never(server.http_server_write_timeout),
            stop_seconds=min(int(STOP_SECONDS), int(server.graceful_shutdown_timeout.total_seconds())),
        )
        return HttpServer(
            build_app(deps),
            server.http_listen_address,
            server.http_listen_port,
            tls=_listen_tls(server.http_tls_config, "server.http_tls_config", server.tls_min_version),
            timeouts=timeouts,
        )

    def _max_bytes_per_trace(self, tenant: str) -> int:
        return self._limits.of(tenant).global_.max_bytes_per_trace

    # -- running ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Bring everything up; on return spans are taken and queries answered."""
        for notice in filter(None, (native_notice(), *unfinished(self.settings))):
            if notice not in self.settings.notices:  # those are told already
                log.warning(notice)
        await self._http.start()
        await self._grpc.start()
        await asyncio.to_thread(self._recover)
        self._commit.start()
        self._upkeep.start()
        for receiver in self._receivers:
            await receiver.start()
        self._following = asyncio.create_task(self._follow_limits(), name="limits")
        # what is here now stays: the collector need not walk it again (5 % of the CPU of small requests, measured)
        gc.collect()
        gc.freeze()
        self._state, self._reason = "Running", None
        log.info(
            "ready: vivace %s, API on port %d, gRPC on port %d, %s",
            __version__, self._http.port, self._grpc.port, self._receiver_ports(),
        )  # fmt: skip

    def _receiver_ports(self) -> str:
        return ", ".join(f"{type(r).__name__} on port {r.port}" for r in self._receivers) or "no receiver"

    def _recover(self) -> None:
        """Read blocks and WAL. Ends with every acknowledged span in a block or in a head."""
        self._catalog.open()
        self._store.check_claims()
        self._disk.rescan()
        started = self._clock()
        spans = replay(
            self._wal.replay(),
            self._store,
            attribute_bytes_max=self._attribute_bytes_max,
            after_group=self._cut_while_replaying,
        )
        self._store.replay_done()
        report = self._wal.report
        self._telemetry.wal_replayed_records.inc(report.records)
        self._telemetry.wal_torn_tails.inc(report.torn_tails)
        self._telemetry.wal_broken_records.inc(report.broken_records)
        log.info("replayed %d spans of %d WAL records in %.2f s", spans, report.records, self._clock() - started)

    async def _follow_limits(self) -> None:
        """Read the per-tenant file again every period, until cancelled."""
        overrides = self.settings.overrides
        period = overrides.per_tenant_override_period.total_seconds()
        while overrides.per_tenant_override_config is not None and period:
            await asyncio.sleep(period)
            try:
                await asyncio.to_thread(self._limits.reload)
            except Exception:
                log.exception("reading the limits of tenants failed; trying again in %g s", period)

    async def _stop_following(self) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait([self._following])

    def interrupt(self) -> None:
        """Let a start that is under way end soon, with StartInterruptedError; what was replayed is replayed again."""
        self._interrupted = True

    def _cut_while_replaying(self) -> None:
        if self._interrupted:
            raise StartInterruptedError("stopping")
        if self._store.is_full():
            for tenant in self._store.due():
                try:
                    self._store.cut(tenant)
                except (StorageError, OSError) as e:
                    # a full disk must not keep us from starting: the WAL holds little more than one head
                    log.error("cannot write a block of tenant %s while replaying, going on in memory: %s", tenant, e)

    async def flush(self, tenant: str | None) -> None:
        """Write the recent spans of one tenant, or of all, into blocks."""
        tenants = self._store.tenants()
        if tenant is not None and tenant not in tenants:
            raise NotFoundError(f"no such tenant: {tenant}")
        for name in tenants if tenant is None else [tenant]:
            await asyncio.to_thread(self._store.cut, name, everything=True)

    async def drain(self) -> None:
        """Stop taking spans, keep what was acknowledged; queries go on being answered."""
        if self._state != "Running":
            return
        self._state, self._reason = "Stopping", "Application is stopping"
        await asyncio.sleep(self.settings.shutdown_delay.total_seconds())
        await asyncio.gather(*(r.stop(STOP_SECONDS) for r in self._receivers))
        await self._commit.stop()
        if self.settings.ingester.flush_all_on_shutdown:
            await self.flush(None)

    async def stop(self) -> None:
        """Take everything down, in the reverse order of start()."""
        steps: list[Callable[[], Awaitable[object]]] = [
            self.drain,
            self._stop_following,
            self._http.stop,
            lambda: self._grpc.stop(STOP_SECONDS),
            lambda: asyncio.to_thread(self._queries.close),
            lambda: asyncio.to_thread(self._upkeep.stop),
            lambda: asyncio.to_thread(self._store.close),
        ]
        for step in steps:
            try:
                await step()
            except Exception:
                log.exception("while stopping; going on")
        self._state = "Terminated"


@dataclass(frozen=True, slots=True)
class _Status:
    """What the /status pages show."""

    service: Service

    @property
    def version(self) -> str:
        return __version__

    @property
    def revision(self) -> str:
        return ""

    def services(self) -> list[ServiceRow]:
        state = self.service._state
        receivers = [type(r).__name__ for r in self.service._receivers]
        return [ServiceRow(name, state) for name in ("store", "group commit", "upkeep", *receivers, "http api")]

    def config_yaml(self, mode: ConfigMode) -> str:
        names = {ConfigMode.EFFECTIVE: "all", ConfigMode.DIFF: "diff", ConfigMode.DEFAULTS: "defaults"}
        return self.service.settings.to_yaml(names[mode])  # type: ignore[arg-type]

    def runtime_config_yaml(self, mode: ConfigMode) -> str:
        tenants = self.service._limits.tenants
        entries = tenants.entries if tenants else {}
        return (
            "".join(f"{name}:\n{_indent(to_yaml(limits, 'all'))}" for name, limits in sorted(entries.items())) or "{}\n"
        )

    def overrides_yaml(self, tenant: str | None) -> str:
        limits = self.service._limits
        if tenant is not None and tenant not in self.service._store.tenants():
            raise NotFoundError(f"no such tenant: {tenant}")
        return to_yaml(limits.of(tenant) if tenant else limits.defaults, "all")


def _indent(text: str) -> str:
    return "".join(f"  {line}\n" for line in text.splitlines())


def new_block_id() -> str:
    """Sorts by time of creation, and is unique without asking anyone."""
    return f"{time.time_ns() // 1_000_000:012x}-{secrets.token_hex(8)}"


def _disk_limit(limit: BytesOrPercent) -> int | float:
    """As DiskBudget takes it: bytes, or a fraction of the file system."""
    return limit.size_bytes if limit.size_bytes is not None else (limit.percent or 0.0) / 100


def _grpc_receiver(commit: GroupCommit, settings: OtlpGrpc) -> GrpcReceiver:
    defaults = GrpcOptions()
    times = settings.keepalive.server_parameters
    usual = defaults.keepalive
    return GrpcReceiver(
        commit,
        settings.endpoint,
        options=GrpcOptions(
            max_recv_msg_size_bytes=(settings.max_recv_msg_size_mib or 4) << 20,
            max_concurrent_streams=settings.max_concurrent_streams or defaults.max_concurrent_streams,
            keepalive=Keepalive(
                time_seconds=times.time.total_seconds() or usual.time_seconds,
                timeout_seconds=times.timeout.total_seconds() or usual.timeout_seconds,
                max_connection_idle_seconds=times.max_connection_idle.total_seconds()
                or usual.max_connection_idle_seconds,
                max_connection_age_seconds=times.max_connection_age.total_seconds() or usual.max_connection_age_seconds,
                max_connection_age_grace_seconds=times.max_connection_age_grace.total_seconds()
                or usual.max_connection_age_grace_seconds,
            ),
        ),
        tls=_receiver_tls(settings.tls),
    )


def _http_receiver(commit: GroupCommit, settings: OtlpHttp) -> HttpReceiver:
    cors = settings.cors
    return HttpReceiver(
        commit,
        settings.endpoint,
        options=HttpOptions(
            traces_url_path=settings.traces_url_path,
            max_request_body_size_bytes=settings.max_request_body_size or HttpOptions().max_request_body_size_bytes,
            encodings=frozenset(settings.compression_algorithms),
            cors=CorsOptions(cors.allowed_origins, cors.allowed_headers, cors.max_age or 600) if cors else None,
        ),
        tls=_receiver_tls(settings.tls),
    )


def _receiver_tls(settings: ReceiverTls | None) -> TlsOptions | None:
    if settings is None:
        return None
    return TlsOptions(
        cert_file=str(settings.cert_file or ""),
        cert_pem=settings.cert_pem,
        key_file=str(settings.key_file or ""),
        key_pem=settings.key_pem.get_secret_value() if settings.key_pem else "",
        client_ca_file=str(settings.client_ca_file or ""),
        client_ca_pem=settings.client_ca_pem,
        min_version=settings.min_version or "1.2",
        max_version=settings.max_version,
    )


def _listen_tls(settings: ListenTls, where: str, min_version: str) -> TlsOptions | None:
    if not settings.enabled:
        return None
    return TlsOptions(
        cert_file=str(settings.cert_file or ""),
        cert_pem=settings.cert,
        key_file=str(settings.key_file or ""),
        key_pem=settings.key.get_secret_value() if settings.key else "",
        client_ca_file=str(settings.client_ca_file or ""),
        client_ca_pem=settings.client_ca,
        min_version="1.3" if min_version == "VersionTLS13" else "1.2",
        client_optional=settings.client_auth_type == "VerifyClientCertIfGiven",
        where=where,
    )


def _grpc_limits(server: Server) -> GrpcLimits:
    return GrpcLimits(
        receive_bytes_max=server.grpc_server_max_recv_msg_size,
        send_bytes_max=server.grpc_server_max_send_msg_size,
        concurrent_streams_max=server.grpc_server_max_concurrent_streams,
        connection_idle_max=server.grpc_server_max_connection_idle,
        connection_age_max=server.grpc_server_max_connection_age,
        connection_age_grace=server.grpc_server_max_connection_age_grace,
        keepalive_time=server.grpc_server_keepalive_time,
        keepalive_timeout=server.grpc_server_keepalive_timeout,
        ping_interval_min=server.grpc_server_min_time_between_pings,
        pings_without_calls=server.grpc_server_ping_without_stream_allowed,
    )


def _seconds_or_never(timeout: timedelta) -> float:
    """As Go's HTTP server reads it: zero is no timeout."""
    return timeout.total_seconds() or math.inf
