"""What Vivace reports of itself: every metric of /metrics, declared here and nowhere else.

Rule 1  a `Telemetry` owns its registry; nothing is global, so two services (or tests) in one process do not meet.
Rule 2  a metric's attribute is its name without `vivace_` and `_total`: vivace_wal_torn_tails_total is wal_torn_tails,
        tempo_discarded_spans_total is tempo_discarded_spans.
Rule 3  what happens is counted where it happens; what merely is (bytes, lengths) is asked for at each scrape: gauges.py.
Rule 4  every label has a bounded set of values: constants of ours, route names, tenants (tenant_label() where a sender names them).
Rule 5  a name that Tempo has too means what it means there, or is absent. Counters start at 0 where they have no labels.

docs/metrics.md describes each one; a test holds the two together. How much memory we have: memory_figures().
"""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import GaugeMetricFamily, UnknownMetricFamily
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from vivace.gauges import PULLED, Pulled, Reading

__all__ = ["PULLED", "MemoryFigures", "Pulled", "Reading", "Telemetry", "memory_figures"]

log = logging.getLogger(__name__)

TEMPO_VERSION = "2.10.1"
"""The Tempo whose interface we speak; Grafana compares it as a semantic version."""

TENANTS_MAX = 1000
"""Tenants with label values of their own: at some 20 series a tenant, what one scrape can carry."""
TENANT_OVERFLOW = "__overflow__"

_REQUEST_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 1.5, 2.5, 5, 10, 25, 50, 100)  # Tempo's, for its mixin
_QUERY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 100)
_PUSH_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_FSYNC_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
_GROUP_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_SEND_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60, 120, 300)  # Prometheus's own
_WORK_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


@dataclass(frozen=True, slots=True)
class MemoryFigures:
    """Bytes: what this process may use at most, and what it uses (its resident set)."""

    budget: int
    resident: int


def memory_figures(root: Path = Path("/")) -> MemoryFigures:
    """The budget is the smallest memory limit of our control groups (v2 or v1), or all the machine's memory without one.

    Source  cgroups(7), proc(5). `root` is where /proc and /sys stand. Raises OSError or ValueError where there is no /proc.
    """
    total_line = next(x for x in (root / "proc/meminfo").read_text().splitlines() if x.startswith("MemTotal:"))
    limits = [int(total_line.split()[1]) * 1024]
    for line in (root / "proc/self/cgroup").read_text().splitlines():
        hierarchy, controllers, path = line.split(":", 2)
        if hierarchy == "0":
            top, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            top, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        own = top / path.strip("/")
        # a limit binds everything below it; inside a container the path may be the host's and only the top is ours to see
        for group in (own, *own.parents):
            if group.is_relative_to(top) and (group / name).is_file():
                text = (group / name).read_text().strip()
                limits += [] if text == "max" else [int(text)]
    resident_pages = int((root / "proc/self/statm").read_text().split()[1])
    return MemoryFigures(min(limits), resident_pages * os.sysconf("SC_PAGE_SIZE"))


class Telemetry:
    """All metrics of one service. Safe to use from any thread."""

    def __init__(self, *, version: str, memory: Callable[[], MemoryFigures] = memory_figures) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self._pulled = _PulledGauges()
        self._tenants: set[str] = set()
        r = self.registry
        ProcessCollector(registry=r)
        r.register(_MemoryGauges(memory))
        r.register(self._pulled)
        tenant = ("tenant",)

        # names that Tempo has too
        self.tempo_build_info = Gauge(
            "tempo_build_info",
            "1; version is the Tempo version whose interface this is.",
            ("branch", "goarch", "goos", "goversion", "revision", "tags", "version"),
            registry=r,
        )
        self.tempo_build_info.labels("", platform.machine(), platform.system().lower(), "", "", "", TEMPO_VERSION).set(
            1
        )
        self.tempo_request_duration_seconds = Histogram(
            "tempo_request_duration_seconds",
            "Time to answer an HTTP or gRPC request.",
            ("method", "route", "status_code", "ws"),
            buckets=_REQUEST_BUCKETS,
            registry=r,
        )
        self.tempo_receiver_accepted_spans = _PlainCounter(
            "tempo_receiver_accepted_spans", "Spans that a receiver took.", ("receiver", "transport"), r
        )
        self.tempo_receiver_refused_spans = _PlainCounter(
            "tempo_receiver_refused_spans", "Spans that a receiver refused.", ("receiver", "transport"), r
        )
        self.tempo_distributor_spans_received = Counter(
            "tempo_distributor_spans_received", "Spans received, kept or not.", tenant, registry=r
        )
        self.tempo_distributor_bytes_received = Counter(
            "tempo_distributor_bytes_received", "OTLP bytes received, after decompression.", tenant, registry=r
        )
        self.tempo_distributor_attributes_truncated = Counter(
            "tempo_distributor_attributes_truncated",
            "Attribute keys and values cut to their limit.",
            tenant,
            registry=r,
        )
        self.tempo_distributor_push_duration_seconds = Histogram(
            "tempo_distributor_push_duration_seconds",
            "Time from a decompressed OTLP request to its acknowledgement.",
            buckets=_PUSH_BUCKETS,
            registry=r,
        )
        self.tempo_discarded_spans = Counter(
            "tempo_discarded_spans", "Spans received and not kept.", ("reason", "tenant"), registry=r
        )
        self.tempo_warnings = Counter("tempo_warnings", "Oddities in received spans.", ("reason", "tenant"), registry=r)
        self.tempo_ingester_blocks_flushed = Counter(
            "tempo_ingester_blocks_flushed", "Blocks cut from the head.", registry=r
        )
        self.tempo_runtime_config_last_reload_successful = Gauge(
            "tempo_runtime_config_last_reload_successful",
            "1 while the per-tenant file is in force as it is, 0 while it cannot be used.",
            registry=r,
        )
        self.tempo_ingester_replay_errors = Counter(
            "tempo_ingester_replay_errors", "WAL records or segments that replay could not read.", tenant, registry=r
        )
        self.tempo_query_frontend_queries = Counter(
            "tempo_query_frontend_queries",
            "Queries; op is traces, search, metadata or metrics, result is completed or canceled.",
            ("op", "result", "tenant"),
            registry=r,
        )
        self.tempo_query_frontend_bytes_inspected = Counter(
            "tempo_query_frontend_bytes_inspected", "Bytes that queries read.", ("op", "tenant"), registry=r
        )
        self.tempo_query_frontend_result_metrics_duration_seconds = Histogram(
            "tempo_query_frontend_result_metrics_duration_seconds",
            "Time to answer a query; op as in tempo_query_frontend_queries_total.",
            ("op",),
            buckets=_QUERY_BUCKETS,
            registry=r,
        )
        self.tempodb_compaction_blocks = Counter(
            "tempodb_compaction_blocks", "Blocks compacted.", ("level",), registry=r
        )
        self.tempodb_compaction_bytes_written = Counter(
            "tempodb_compaction_bytes_written", "Bytes of blocks that compaction wrote.", ("level",), registry=r
        )
        self.tempodb_compaction_errors = Counter("tempodb_compaction_errors", "Compactions that failed.", registry=r)
        self.tempodb_retention_deleted = Counter(
            "tempodb_retention_deleted", "Blocks deleted by retention.", registry=r
        )

        made = partial(_generator_counter, r)
        self.tempo_metrics_generator_spans_received = made("spans_received", "Spans that reached it.", tenant)
        self.tempo_metrics_generator_bytes_received = made("bytes_received", "Bytes of these spans.", tenant)
        self.tempo_metrics_generator_spans_discarded = made(
            "spans_discarded", "Spans not counted; processor is empty where none counts them.", ("processor", "reason", *tenant)
        )  # fmt: skip
        self.tempo_metrics_generator_active_processors_update_failed = made(
            "active_processors_update_failed", "Settings or spans that a tenant's processors could not use.", tenant
        )
        self.tempo_metrics_generator_registry_series_added = made("registry_series_added", "Series made.", tenant)
        self.tempo_metrics_generator_registry_series_removed = made("registry_series_removed", "Series gone.", tenant)
        self.tempo_metrics_generator_registry_series_limited = made("registry_series_limited", "Refused ones.", tenant)
        self.tempo_metrics_generator_registry_collections = made("registry_collections", "Collections.", tenant)
        self.tempo_metrics_generator_registry_collections_failed = made(
            "registry_collections_failed", "Collections that failed.", ("error_type", *tenant)
        )
        graphs = "tempo_metrics_generator_processor_service_graphs_"
        self.service_graphs_edges = _PlainCounter(f"{graphs}edges", "Edges begun.", tenant, r)
        self.service_graphs_expired_edges = _PlainCounter(f"{graphs}expired_edges", "Edges with one side.", tenant, r)
        self.service_graphs_dropped_spans = _PlainCounter(f"{graphs}dropped_spans", "Sides over max_items.", tenant, r)
        remote = ("remote_name", "tenant", "url")
        counter = partial(Counter, registry=r)
        self.prometheus_remote_storage_samples = counter(
            "prometheus_remote_storage_samples", "Samples sent, each attempt counted.", remote
        )
        self.prometheus_remote_storage_samples_failed = counter(
            "prometheus_remote_storage_samples_failed", "Samples that the endpoint refused for good.", remote
        )
        self.prometheus_remote_storage_samples_retried = counter(
            "prometheus_remote_storage_samples_retried", "Samples whose attempt failed and is repeated.", remote
        )
        self.prometheus_remote_storage_samples_dropped = counter(
            "prometheus_remote_storage_samples_dropped", "Samples dropped unsent.", (*remote, "reason")
        )
        self.prometheus_remote_storage_exemplars = counter(
            "prometheus_remote_storage_exemplars", "Exemplars sent, each attempt counted.", remote
        )
        self.prometheus_remote_storage_exemplars_failed = counter(
            "prometheus_remote_storage_exemplars_failed", "Exemplars that the endpoint refused for good.", remote
        )
        self.prometheus_remote_storage_histograms = counter(
            "prometheus_remote_storage_histograms", "Native histograms sent, each attempt counted.", remote
        )
        self.prometheus_remote_storage_histograms_failed = counter(
            "prometheus_remote_storage_histograms_failed", "Native histograms refused for good.", remote
        )
        self.prometheus_remote_storage_bytes = counter(
            "prometheus_remote_storage_bytes", "Compressed bytes of samples, exemplars and histograms sent.", remote
        )
        self.prometheus_remote_storage_sent_batch_duration_seconds = Histogram(
            "prometheus_remote_storage_sent_batch_duration_seconds",
            "Time of one attempt to send a request.",
            ("remote_name", "url"),
            buckets=_SEND_BUCKETS,
            registry=r,
        )

        # our own
        self.remote_write_damaged_records = counter(
            "vivace_remote_write_damaged_records", "Damaged places of the remote-write queue passed over.", remote[:1]
        )
        self.build_info = Gauge("vivace_build_info", "1.", ("python_version", "version"), registry=r)
        self.build_info.labels(platform.python_version(), version).set(1)
        self.spans = Counter(
            "vivace_spans", "Spans by fate: received, stored, refused or duplicate.", ("tenant", "fate"), registry=r
        )
        self.spans_refused = Counter(
            "vivace_spans_refused", "Spans refused, by reason.", ("tenant", "reason"), registry=r
        )
        self.attributes_truncated = Counter(
            "vivace_attributes_truncated", "Attribute keys and values cut to their limit.", registry=r
        )
        self.wal_fsync_seconds = Histogram(
            "vivace_wal_fsync_seconds", "Time of one fsync of the WAL.", buckets=_FSYNC_BUCKETS, registry=r
        )
        self.wal_torn_tails = Counter(
            "vivace_wal_torn_tails", "WAL segments whose torn end replay cut off.", registry=r
        )
        self.wal_broken_records = Counter("vivace_wal_broken_records", "WAL records with a wrong checksum.", registry=r)
        self.wal_replayed_records = Counter(
            "vivace_wal_replayed_records", "WAL records read back at start.", registry=r
        )
        self.commit_queue_full = Counter(
            "vivace_commit_queue_full", "Requests refused because too many wait for commit.", registry=r
        )
        self.commit_group_requests = Histogram(
            "vivace_commit_group_requests", "Requests per group commit.", buckets=_GROUP_BUCKETS, registry=r
        )
        self.block_cut_seconds = Histogram(
            "vivace_block_cut_seconds", "Time to cut the head into a block.", buckets=_WORK_BUCKETS, registry=r
        )
        self.blocks_quarantined = Counter("vivace_blocks_quarantined", "Blocks set aside as damaged.", registry=r)
        self.compaction_seconds = Histogram(
            "vivace_compaction_seconds", "Time of one compaction.", buckets=_WORK_BUCKETS, registry=r
        )
        self.scrape_errors = Counter(
            "vivace_scrape_errors", "Sources of pulled gauges that failed during a scrape.", registry=r
        )
        self._pulled.errors = self.scrape_errors

    def register_gauges(self, source: Callable[[], Iterable[Reading]]) -> None:
        """Ask `source` for its readings at every scrape, on the scraping thread: it must be quick and must not wait.

        A source that raises is logged and counted in vivace_scrape_errors_total; the others are still reported.
        """
        self._pulled.sources.append(source)

    def tenant_label(self, tenant: str) -> str:
        """`tenant`, or "__overflow__" once TENANTS_MAX others have been seen: for tenants that a sender may make up."""
        if tenant not in self._tenants:
            if len(self._tenants) >= TENANTS_MAX:
                return TENANT_OVERFLOW
            self._tenants.add(tenant)
        return tenant

    def render(self, accept: str) -> tuple[bytes, str]:
        """The text of /metrics and its Content-Type: OpenMetrics when `accept` asks for it, else Prometheus text."""
        encode, content_type = choose_encoder(accept)
        return encode(_WithoutCreated(self.registry)), content_type


@dataclass(slots=True, eq=False)
class _PulledGauges(Collector):
    """Asks the registered sources at every scrape."""

    sources: list[Callable[[], Iterable[Reading]]] = field(default_factory=list)
    errors: Counter | None = None

    def collect(self) -> Iterator[Metric]:
        figures: dict[Pulled, dict[tuple[str, ...], float]] = {gauge: {} for gauge in PULLED}
        for source in self.sources:
            try:
                for reading in source():
                    by_labels = figures[reading.gauge]
                    by_labels[reading.labels] = by_labels.get(reading.labels, 0) + reading.value
            except Exception:  # whatever it is, it must not take the other metrics with it
                log.exception("a source of gauges failed; its metrics are missing from this scrape")
                if self.errors is not None:
                    self.errors.inc()
        for gauge, by_labels in figures.items():
            names, meaning = PULLED[gauge]
            family = GaugeMetricFamily(gauge, meaning, labels=names)
            for labels, value in by_labels.items():
                family.add_metric(labels, value)
            yield family


@dataclass(frozen=True, slots=True, eq=False)
class _MemoryGauges(Collector):
    """Go's heap gauges, by the nearest truth here: sys is the memory budget, inuse the resident set, idle what is left.

    So 1 - idle / sys, the "Heap Usage" of Tempo dashboards, is the share of the budget in use.
    """

    memory: Callable[[], MemoryFigures]

    def collect(self) -> Iterator[Metric]:
        try:
            figures = self.memory()
        except (OSError, ValueError) as error:
            # no /proc (not Linux): the dashboards show no data, which is true
            log.debug("memory figures are not to be had: %s", error)
            return
        idle = max(0, figures.budget - figures.resident)
        yield GaugeMetricFamily("go_memstats_heap_sys_bytes", "Memory budget of this process.", figures.budget)
        yield GaugeMetricFamily("go_memstats_heap_inuse_bytes", "Resident set of this process.", figures.resident)
        yield GaugeMetricFamily("go_memstats_heap_idle_bytes", "Memory budget minus resident set.", idle)


def _generator_counter(registry: CollectorRegistry, name: str, meaning: str, labels: Sequence[str]) -> Counter:
    return Counter(f"tempo_metrics_generator_{name}", meaning, labels, registry=registry)


class _PlainCounter(Collector):
    """A counter whose name does not end in _total, which prometheus_client's own cannot be; its type reads "unknown"."""

    def __init__(self, name: str, meaning: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        self._name, self._meaning, self._labels = name, meaning, labels
        # unregistered: lends its locking and its children
        self._gauge = Gauge(name, meaning, labels, registry=None)
        registry.register(self)

    def inc(self, amount: float, *labels: str) -> None:
        """Add `amount` >= 0 to the series of `labels`, given in order."""
        self._gauge.labels(*labels).inc(amount)

    def collect(self) -> Iterator[Metric]:
        family = UnknownMetricFamily(self._name, self._meaning, labels=self._labels)
        for metric in self._gauge.collect():
            family.samples.extend(metric.samples)
        yield family


@dataclass(frozen=True, slots=True)
class _WithoutCreated(Collector):
    """A registry without the _created series: they double the counters, and nobody reads them."""

    registry: CollectorRegistry

    def collect(self) -> Iterator[Metric]:
        for metric in self.registry.collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric
