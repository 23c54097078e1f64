"""How what happens in the rooms becomes metrics: one small class for each room that reports."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client import Counter

from vivace.errors import DecodeError, DiskFullError, LimitError
from vivace.generator.generator import Generator
from vivace.generator.observer import GeneratorObserver
from vivace.ingest.commit import GroupCommit
from vivace.ingest.outcome import Outcome
from vivace.query.engines import Engines
from vivace.storage.disk import DiskBudget
from vivace.storage.store import Store
from vivace.telemetry import Pulled, Reading, Telemetry

UNKNOWN_SPANS = 1
"""A refused request was not decoded, so its spans are not known: it counts as one."""


class _TenantCounters:
    """The counters of one tenant that every request moves, looked up once."""

    def __init__(self, telemetry: Telemetry, label: str) -> None:
        self.spans_received = telemetry.tempo_distributor_spans_received.labels(label)
        self.bytes_received = telemetry.tempo_distributor_bytes_received.labels(label)
        self.received = telemetry.spans.labels(label, "received")
        self.stored = telemetry.spans.labels(label, "stored")


class CommitObserver:
    """Counts what group commit took and refused."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.telemetry = telemetry
        self._counters: dict[str, _TenantCounters] = {}

    def _of(self, label: str) -> _TenantCounters:
        found = self._counters.get(label)
        if found is None:
            found = self._counters[label] = _TenantCounters(self.telemetry, label)
        return found

    def group(self, requests: int) -> None:
        self.telemetry.commit_group_requests.observe(requests)

    def committed(self, tenant: str, byte_count: int, outcomes: Sequence[Outcome]) -> None:
        t, label = self.telemetry, self.telemetry.tenant_label(tenant)
        counters = self._of(label)
        rows, rejected = sum(o.rows for o in outcomes), sum(o.rejected for o in outcomes)
        truncated = sum(o.truncated for o in outcomes)
        received = rows + rejected
        counters.spans_received.inc(received)
        counters.bytes_received.inc(byte_count)
        counters.received.inc(received)
        counters.stored.inc(rows)
        t.tempo_receiver_accepted_spans.inc(rows, "otlp", "all")
        if truncated:
            t.attributes_truncated.inc(truncated)
            t.tempo_distributor_attributes_truncated.labels(label).inc(truncated)
        if rejected:
            self._refused(label, rejected, "invalid_id")

    def refused(self, tenant: str, byte_count: int, error: Exception) -> None:
        label = self.telemetry.tenant_label(tenant)
        self.telemetry.tempo_distributor_bytes_received.labels(label).inc(byte_count)
        self._refused(label, UNKNOWN_SPANS, reason_of(error))

    def _refused(self, label: str, spans: int, reason: str) -> None:
        t = self.telemetry
        t.spans.labels(label, "refused").inc(spans)
        t.spans_refused.labels(label, reason).inc(spans)
        t.tempo_discarded_spans.labels(reason, label).inc(spans)
        t.tempo_receiver_refused_spans.inc(spans, "otlp", "all")

    def queue_full(self) -> None:
        self.telemetry.commit_queue_full.inc()

    def seconds(self, duration: float) -> None:
        self.telemetry.tempo_distributor_push_duration_seconds.observe(duration)


def reason_of(error: Exception) -> str:
    """The label value for a refusal; Tempo's word where it has one."""
    if isinstance(error, LimitError):
        return "rate_limited"
    if isinstance(error, DecodeError):
        return "undecodable"
    if isinstance(error, DiskFullError):
        return "disk_full"
    return "unavailable"


@dataclass(frozen=True, slots=True)
class Gauges:
    """Figures that are asked for at each scrape."""

    store: Store
    commit: GroupCommit
    disk: DiskBudget
    clock: Callable[[], float]
    now_unix_nano: Callable[[], int]

    def read(self) -> Iterable[Reading]:
        yield from self._blocks()
        yield from self._disk()
        requests, size = self.commit.queued
        yield Reading(Pulled.COMMIT_QUEUE_REQUESTS, requests)
        yield Reading(Pulled.COMMIT_QUEUE_BYTES, size)
        yield Reading(Pulled.HEAD_BYTES, self.store.head_bytes)
        yield Reading(Pulled.HEAD_BYTES_LIMIT, self.store.settings.head_bytes_max)
        yield Reading(Pulled.HEAD_SPANS, self.store.head_spans)
        total = 0
        for tenant in self.store.tenants():
            traces = self.store.head(tenant).trace_count()
            total += traces
            yield Reading(Pulled.LIVE_TRACES, traces, (tenant,))
        yield Reading(Pulled.HEAD_TRACES, total)

    def _blocks(self) -> Iterator[Reading]:
        oldest = None
        for tenant in self.store.tenants():
            metas = [b.meta for b in self.store.catalog.blocks(tenant)]
            yield Reading(Pulled.BACKEND_BYTES, sum(m.data_bytes for m in metas), (tenant, "live"))
            yield Reading(Pulled.BACKEND_OBJECTS, sum(m.trace_count for m in metas), (tenant, "live"))
            yield Reading(Pulled.BLOCKLIST_LENGTH, len(metas), (tenant,))
            starts = [m.start_time_unix_nano for m in metas]
            oldest = min([*starts, *([oldest] if oldest is not None else [])], default=None)
        age = max(0, self.now_unix_nano() - oldest) / 1e9 if oldest is not None else 0
        yield Reading(Pulled.RETENTION_EFFECTIVE_SECONDS, age)

    def _disk(self) -> Iterator[Reading]:
        figures = self.disk.figures(self.clock())
        for kind, used in figures.used_by_kind.items():
            yield Reading(Pulled.DISK_BYTES, used, (kind,))
        yield Reading(Pulled.DISK_FREE_BYTES, figures.free_bytes)
        yield Reading(Pulled.DISK_CAP_BYTES, figures.cap_bytes)
        yield Reading(Pulled.DISK_FLOOR_BYTES, figures.floor_bytes)
        if figures.time_to_full_seconds is not None:
            yield Reading(Pulled.DISK_TIME_TO_FULL_SECONDS, figures.time_to_full_seconds)


def generator_observer(telemetry: Telemetry) -> GeneratorObserver:
    """Counts what the metrics generator does."""
    t, label = telemetry, telemetry.tenant_label

    def received(tenant: str, spans: int, size: int) -> None:
        t.tempo_metrics_generator_spans_received.labels(label(tenant)).inc(spans)
        t.tempo_metrics_generator_bytes_received.labels(label(tenant)).inc(size)

    def of_tenant(counter: Counter) -> Callable[[str, int], None]:
        return lambda tenant, n: counter.labels(label(tenant)).inc(n)

    def discarded(tenant: str, reason: str, processor: str, spans: int) -> None:
        t.tempo_metrics_generator_spans_discarded.labels(processor, reason, label(tenant)).inc(spans)

    def collection_failed(tenant: str, error: str) -> None:
        t.tempo_metrics_generator_registry_collections_failed.labels(error, label(tenant)).inc()

    return GeneratorObserver(
        received=received,
        discarded=discarded,
        update_failed=lambda x: t.tempo_metrics_generator_active_processors_update_failed.labels(label(x)).inc(),
        series_added=of_tenant(t.tempo_metrics_generator_registry_series_added),
        series_removed=of_tenant(t.tempo_metrics_generator_registry_series_removed),
        series_limited=of_tenant(t.tempo_metrics_generator_registry_series_limited),
        collected=lambda tenant: t.tempo_metrics_generator_registry_collections.labels(label(tenant)).inc(),
        collection_failed=collection_failed,
        edges=lambda tenant, n: t.service_graphs_edges.inc(n, label(tenant)),
        edges_expired=lambda tenant, n: t.service_graphs_expired_edges.inc(n, label(tenant)),
        edges_dropped=lambda tenant, n: t.service_graphs_dropped_spans.inc(n, label(tenant)),
    )


def generator_readings(generator: Generator, telemetry: Telemetry) -> Iterator[Reading]:
    """The generator's figures, for a scrape."""
    for tenant, figures in generator.figures().items():
        label = (telemetry.tenant_label(tenant),)
        for processor in figures.processors:
            yield Reading(Pulled.GENERATOR_PROCESSORS, 1, (processor, *label))
        yield Reading(Pulled.GENERATOR_SERIES, figures.active_series, label)
        yield Reading(Pulled.GENERATOR_SERIES_MAX, figures.series_max, label)
        yield Reading(Pulled.GENERATOR_SERIES_DEMAND, figures.series_demand, label)
        yield Reading(Pulled.GENERATOR_ENTITY_DEMAND, figures.entity_demand, label)


def query_readings(engines: Engines) -> Iterator[Reading]:
    """What queries keep and reserve."""
    for name, cache in (("columns", engines.columns), ("results", engines.partials)):
        yield Reading(Pulled.QUERY_CACHE_BYTES, cache.nbytes, (name,))
        yield Reading(Pulled.QUERY_CACHE_BYTES_LIMIT, cache.bytes_max, (name,))
        yield Reading(Pulled.QUERY_CACHE_READS, cache.hits, (name, "yes"))
        yield Reading(Pulled.QUERY_CACHE_READS, cache.misses, (name, "no"))
        yield Reading(Pulled.QUERY_CACHE_EVICTIONS, cache.evictions, (name,))
    memory = engines.memory
    yield Reading(Pulled.QUERY_MEMORY_BYTES, memory.used)
    yield Reading(Pulled.QUERY_MEMORY_WAITS, memory.waits)
    yield Reading(Pulled.QUERY_MEMORY_REFUSALS, memory.refusals)
