"""The service: builds every part, connects them, starts them in the order that spans flow, stops them in reverse.

    receivers ─► group commit ─► WAL ─► head ─cut─► blocks ─► compaction, retention      (ingest/, storage/)
                      │                   └───────────┴─► queries ─► HTTP API, gRPC      (query/, api/)
                      └─► generator ─► remote write                                      (generator/)

Read this first; then each room's own front page. What a part needs comes through its constructor, and only from here.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

from vivace import __version__
from vivace.api.app import build_app
from vivace.api.deps import ApiDeps, QueryEngines
from vivace.api.grpc_server import GrpcServer, health_calls
from vivace.api.server import HttpServer, HttpTimeouts
from vivace.api.stream_wire import GrpcApplication
from vivace.api.streaming import StreamingQuerier
from vivace.config.live import LiveLimits
from vivace.config.settings import Settings
from vivace.config.unfinished import unfinished
from vivace.errors import NotFoundError, StorageError, UnavailableError
from vivace.generation import Generation
from vivace.ingest.admission import Admission
from vivace.ingest.commit import GroupCommit
from vivace.ingest.decode import native_notice
from vivace.ingest.otlp_grpc import GrpcReceiver
from vivace.ingest.otlp_http import HttpReceiver
from vivace.ingest.replay import replay
from vivace.limits import QueryRules
from vivace.memory import trim_memory
from vivace.observers import CommitObserver, Gauges, query_readings
from vivace.query.engines import Engines
from vivace.query.lookup import TraceLookup
from vivace.query.pool import QueryPool
from vivace.status import Status
from vivace.storage.catalog import QUARANTINE, Catalog
from vivace.storage.compaction import CompactionSettings
from vivace.storage.disk import DiskBudget
from vivace.storage.layout import BlockMeta
from vivace.storage.maintenance import Upkeep, UpkeepObservers, UpkeepSettings
from vivace.storage.retention import Retention
from vivace.storage.store import CutSettings, Observers, Store, claimed_until
from vivace.storage.wal import Wal
from vivace.telemetry import Telemetry
from vivace.wiring import (
    asker,
    disk_limit,
    grpc_limits,
    grpc_receiver,
    http_receiver,
    ingest_guard,
    listen_tls,
    query_guard,
    seconds_or_never,
    sender,
    wire_limits,
)

log = logging.getLogger(__name__)

STOP_SECONDS = 5.0
"""For requests under way at a stop: with the rest of the way down it stays below the 10 s of `docker stop`."""


def new_block_id() -> str:
    """Sorts by time of creation, and is unique without asking anyone."""
    return f"{time.time_ns() // 1_000_000:012x}-{secrets.token_hex(8)}"


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
        overrides = settings.overrides
        usable = self._telemetry.tempo_runtime_config_last_reload_successful
        self._limits = LiveLimits(overrides.defaults, overrides.per_tenant_override_config, usable.set)
        self._rules = QueryRules(settings, self._limits)
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
        self._catalog = Catalog(
            trace.local.path,
            on_quarantine=self._telemetry.blocks_quarantined.inc,
            on_gone=lambda block_id: self._engines.forget(block_id),
        )
        self._store = self._build_store()
        self._upkeep = self._build_upkeep()
        self._generation = Generation(settings, self._limits, self._disk, self._telemetry)
        self._commit = self._build_commit()
        querier = settings.querier
        self._queries = QueryPool(settings.query_frontend.max_outstanding_per_tenant, querier.max_concurrent_queries)
        self._engines = Engines(
            self._store,
            self._queries,
            self._rules.of_engines(),
            tidy=trim_memory,
        )
        self._receivers = self._build_receivers()
        self._http = self._build_http()
        server = settings.server
        self._grpc = GrpcServer(
            server.grpc_listen_address,
            server.grpc_listen_port,
            readiness=lambda: self._reason,
            calls=self._calls,
            limits=grpc_limits(server),
            tls=listen_tls(server.grpc_tls_config, "server.grpc_tls_config", server.tls_min_version),
        )
        gauges = Gauges(self._store, self._commit, self._disk, self._clock, time.time_ns)
        self._telemetry.register_gauges(gauges.read)
        self._telemetry.register_gauges(lambda: query_readings(self._engines))

    # -- building ---------------------------------------------------------------------------------------------------

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
            cap=disk_limit(trace.local.max_bytes),
            floor=disk_limit(trace.local.min_free_bytes),
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
            sinks=[self._generation.offer],
        )

    def _attribute_bytes_max(self, tenant: str) -> int:
        return self._limits.of(tenant).ingestion.max_attribute_bytes or self.settings.distributor.max_attribute_bytes

    def _build_receivers(self) -> list[GrpcReceiver | HttpReceiver]:
        otlp = self.settings.distributor.receivers.otlp
        named, guard = sender(self.settings), ingest_guard(self.settings)
        receivers: list[GrpcReceiver | HttpReceiver] = []
        if otlp is not None and otlp.protocols.grpc is not None:
            receivers.append(grpc_receiver(self._commit, otlp.protocols.grpc, named, guard))
        if otlp is not None and otlp.protocols.http is not None:
            receivers.append(http_receiver(self._commit, otlp.protocols.http, named, guard))
        return receivers

    def _build_http(self) -> HttpServer:
        server = self.settings.server
        frontend = self.settings.query_frontend
        queries = QueryEngines(self._engines, self._engines, self._engines, self._rules.limits)
        deps = ApiDeps(
            lookup=TraceLookup(
                self._store,
                self._queries,
                self._rules.max_bytes_per_trace,
                seconds_max=self.settings.querier.trace_by_id.query_timeout.total_seconds() or None,
            ),
            queries=queries,
            telemetry=self._telemetry,
            cardinality=self._generation.cardinality,
            status=self._status(),
            readiness=lambda: self._reason,
            flush=self.flush,
            shutdown=self.drain,
            max_bytes_per_trace=self._rules.max_bytes_per_trace,
            tenant_of=asker(self.settings),
            guard=query_guard(self.settings),
            open_paths=self.settings.access.query.open_paths,
            http_api_prefix=self.settings.http_api_prefix,
            api_timeout_seconds=min(
                filter(None, (frontend.api_timeout, server.http_server_write_timeout)), default=timedelta(0)
            ).total_seconds(),
        )
        timeouts = HttpTimeouts(
            read_seconds=seconds_or_never(server.http_server_read_timeout),
            idle_seconds=seconds_or_never(server.http_server_idle_timeout or server.http_server_read_timeout),
            write_seconds=seconds_or_never(server.http_server_write_timeout),
            stop_seconds=min(int(STOP_SECONDS), int(server.graceful_shutdown_timeout.total_seconds())),
        )
        self._calls = StreamingQuerier(deps, queries).calls()
        app = build_app(deps)
        http2 = self.settings.stream_over_http_enabled
        if http2:
            calls = self._calls | health_calls(lambda: self._reason)
            app = GrpcApplication(calls, app, limits=wire_limits(server, timeouts.read_seconds))
        return HttpServer(
            app,
            server.http_listen_address,
            server.http_listen_port,
            tls=listen_tls(server.http_tls_config, "server.http_tls_config", server.tls_min_version),
            timeouts=timeouts,
            http2=http2,
        )

    def _status(self) -> Status:
        receivers = [type(r).__name__ for r in self._receivers]
        return Status(
            self.settings,
            self._limits,
            tenants=self._store.tenants,
            state=lambda: self._state,
            parts=("store", "group commit", "upkeep", *receivers, "http api", "grpc api"),
        )

    # -- running ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Bring everything up; on return spans are taken and queries answered."""
        for notice in filter(None, (native_notice(), *unfinished(self.settings))):
            if notice not in self.settings.notices:  # those are told already
                log.warning(notice)
        await self._http.start()
        await self._grpc.start()
        await asyncio.to_thread(self._recover)
        self._generation.start()
        self._commit.start()
        self._upkeep.start()
        for receiver in self._receivers:
            await receiver.start()
        self._following = asyncio.create_task(self._follow_limits(), name="limits")
        # what is here now stays: the collector need not walk it again (5 % of the CPU of small requests, measured)
        gc.collect()
        gc.freeze()
        trim_memory()
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
        await asyncio.to_thread(self._generation.stop, STOP_SECONDS)
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
