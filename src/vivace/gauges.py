"""Figures that are asked for at each scrape: their names, labels and meaning. What happens is counted: telemetry.py."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Pulled(StrEnum):
    """The gauges that are asked for at each scrape; PULLED says their labels and meaning."""

    BACKEND_BYTES = "tempodb_backend_bytes_total"
    BACKEND_OBJECTS = "tempodb_backend_objects_total"
    BLOCKLIST_LENGTH = "tempodb_blocklist_length"
    LIVE_TRACES = "tempo_ingester_live_traces"
    DISK_BYTES = "vivace_disk_bytes"
    DISK_FREE_BYTES = "vivace_disk_free_bytes"
    DISK_CAP_BYTES = "vivace_disk_cap_bytes"
    DISK_FLOOR_BYTES = "vivace_disk_floor_bytes"
    DISK_TIME_TO_FULL_SECONDS = "vivace_disk_time_to_full_seconds"
    RETENTION_EFFECTIVE_SECONDS = "vivace_retention_effective_seconds"
    HEAD_BYTES = "vivace_head_bytes"
    HEAD_BYTES_LIMIT = "vivace_head_bytes_limit"
    HEAD_SPANS = "vivace_head_spans"
    HEAD_TRACES = "vivace_head_traces"
    QUERY_CACHE_BYTES = "vivace_query_cache_bytes"
    QUERY_CACHE_BYTES_LIMIT = "vivace_query_cache_bytes_limit"
    QUERY_CACHE_READS = "vivace_query_cache_reads"
    QUERY_CACHE_EVICTIONS = "vivace_query_cache_evictions"
    QUERY_MEMORY_BYTES = "vivace_query_memory_bytes"
    QUERY_MEMORY_WAITS = "vivace_query_memory_waits"
    QUERY_MEMORY_REFUSALS = "vivace_query_memory_refusals"
    COMMIT_QUEUE_REQUESTS = "vivace_commit_queue_requests"
    COMMIT_QUEUE_BYTES = "vivace_commit_queue_bytes"
    GENERATOR_PROCESSORS = "tempo_metrics_generator_active_processors"
    GENERATOR_SERIES = "tempo_metrics_generator_registry_active_series"
    GENERATOR_SERIES_MAX = "tempo_metrics_generator_registry_max_active_series"
    GENERATOR_SERIES_DEMAND = "tempo_metrics_generator_registry_active_series_demand_estimate"
    GENERATOR_ENTITY_DEMAND = "tempo_metrics_generator_registry_entity_demand_estimate"
    GENERATOR_SERIES_BY_METRIC = "vivace_generator_series"
    GENERATOR_LABEL_VALUES = "vivace_generator_label_values"
    REMOTE_SAMPLES_PENDING = "prometheus_remote_storage_samples_pending"
    REMOTE_SENT_TIMESTAMP = "prometheus_remote_storage_queue_highest_sent_timestamp_seconds"
    REMOTE_TIMESTAMP = "prometheus_remote_storage_highest_timestamp_in_seconds"
    REMOTE_QUEUE_BYTES = "vivace_remote_write_queue_bytes"
    REMOTE_OLDEST_SECONDS = "vivace_remote_write_oldest_seconds"


PULLED: dict[Pulled, tuple[tuple[str, ...], str]] = {
    Pulled.BACKEND_BYTES: (("tenant", "status"), "Bytes of the blocks' data files; status is live or compacted."),
    Pulled.BACKEND_OBJECTS: (("tenant", "status"), "Traces in blocks, counted once per block."),
    Pulled.BLOCKLIST_LENGTH: (("tenant",), "Live blocks."),
    Pulled.LIVE_TRACES: (("tenant",), "Traces in the head."),
    Pulled.DISK_BYTES: (("kind",), "Bytes on disk; kind is wal, blocks, quarantine, generator or other."),
    Pulled.DISK_FREE_BYTES: ((), "Bytes that the file system of the data has left for us."),
    Pulled.DISK_CAP_BYTES: ((), "Bytes that all our files together may take."),
    Pulled.DISK_FLOOR_BYTES: ((), "Free bytes below which spans are refused."),
    Pulled.DISK_TIME_TO_FULL_SECONDS: ((), "Seconds until the cap is reached at the present rate of growth."),
    Pulled.RETENTION_EFFECTIVE_SECONDS: ((), "Age of the oldest stored span."),
    Pulled.HEAD_BYTES: ((), "Bytes of the recent spans held in memory."),
    Pulled.HEAD_BYTES_LIMIT: ((), "Bytes at which the head is cut."),
    Pulled.HEAD_SPANS: ((), "Spans in the head."),
    Pulled.HEAD_TRACES: ((), "Traces in the head, all tenants together."),
    Pulled.QUERY_CACHE_BYTES: (("cache",), "Bytes kept for queries: decoded columns, and results of row groups."),
    Pulled.QUERY_CACHE_BYTES_LIMIT: (("cache",), "Bytes that may be kept; the least used go beyond it."),
    Pulled.QUERY_CACHE_READS: (("cache", "found"), "Times that something was asked for, and whether it was there."),
    Pulled.QUERY_CACHE_EVICTIONS: (("cache",), "Entries that went to make room."),
    Pulled.QUERY_MEMORY_BYTES: ((), "Memory that running queries have reserved."),
    Pulled.QUERY_MEMORY_WAITS: ((), "Times that a query waited for the memory of others."),
    Pulled.QUERY_MEMORY_REFUSALS: ((), "Times that a query left out what was too large for its memory."),
    Pulled.COMMIT_QUEUE_REQUESTS: ((), "Requests waiting for the next group commit."),
    Pulled.COMMIT_QUEUE_BYTES: ((), "Bytes of the requests waiting for the next group commit."),
    Pulled.GENERATOR_PROCESSORS: (("processor", "tenant"), "1 for each processor of the metrics generator that runs."),
    Pulled.GENERATOR_SERIES: (("tenant",), "Series of the metrics generator."),
    Pulled.GENERATOR_SERIES_MAX: (("tenant",), "Most series that a tenant may have; 0 sets no limit."),
    Pulled.GENERATOR_SERIES_DEMAND: (("tenant",), "Series that there would be without a limit, about."),
    Pulled.GENERATOR_ENTITY_DEMAND: (("tenant",), "Label sets that there would be without a limit, about."),
    Pulled.GENERATOR_SERIES_BY_METRIC: (("tenant", "metric"), "Generated series by metric, counted once a minute."),
    Pulled.GENERATOR_LABEL_VALUES: (("tenant", "label"), "Distinct values of a label of generated series."),
    Pulled.REMOTE_SAMPLES_PENDING: (("remote_name", "url"), "Samples, exemplars and histograms that wait on disk."),
    Pulled.REMOTE_SENT_TIMESTAMP: (("remote_name", "url"), "Unix time of the newest samples that were sent."),
    Pulled.REMOTE_TIMESTAMP: ((), "Unix time of the newest samples that were queued."),
    Pulled.REMOTE_QUEUE_BYTES: ((), "Bytes of requests on disk for remote write."),
    Pulled.REMOTE_OLDEST_SECONDS: (("remote_name", "url"), "Age of the oldest request that waits to be sent."),
}


@dataclass(frozen=True, slots=True)
class Reading:
    """The present figure of a pulled gauge; `labels` in the order that PULLED gives. Readings alike in both add up."""

    gauge: Pulled
    value: float
    labels: tuple[str, ...] = ()
