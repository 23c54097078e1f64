"""The `overrides` keys: limits for everyone, and for single tenants.

A tenant's entry replaces `defaults` as a whole: a limit that it does not name is zero (off, none, or "use the global
setting"), not the default. The few limits marked KeepsDefault are the exception.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from .generator import DimensionMapping, FilterPolicy
from .remote_write import Headers
from .section import KeepsDefault, Section, has_mark, section_type
from .units import ByteSize, Count, Duration, Number, PrometheusDuration, Switch

Processor = Literal[
    "span-metrics",
    "span-metrics-latency",
    "span-metrics-count",
    "span-metrics-size",
    "service-graphs",
    "host-info",
    "local-blocks",
]


class IngestionLimits(Section):
    """How much may come in."""

    rate_limit_bytes: ByteSize = Field(
        default=15_000_000,
        description="Bytes of spans a second, averaged; more takes more, beyond it requests are refused as retryable.",
    )
    burst_size_bytes: ByteSize = Field(
        default=20_000_000,
        description="Bytes of spans at once; also the largest request, so keep it above the exporters' batches.",
    )
    max_attribute_bytes: ByteSize = Field(
        default=0,
        description="Longer attribute keys and string values are cut to this many bytes; 0 means the distributor's.",
    )


class ReadLimits(Section):
    """What queries may cost."""

    max_bytes_per_tag_values_query: ByteSize = Field(
        default=1_000_000,
        description="Most bytes of tag names or values in an answer; more shows more, 0 sets no limit.",
    )
    max_blocks_per_tag_values_query: Count = Field(
        default=0,
        description="Most blocks read for tag values, newest first; less is faster and misses old values, 0 reads all.",
    )
    max_search_duration: PrometheusDuration = Field(
        default=timedelta(0),
        description="Longest time range of a search; 0 means `query_frontend.search.max_duration`.",
    )
    max_metrics_duration: PrometheusDuration = Field(
        default=timedelta(0),
        description="Longest time range of a metrics query; 0 means `query_frontend.metrics.max_duration`.",
    )
    left_pad_trace_ids: Switch = Field(
        default=False,
        description="Whether search gives trace ids with all 32 digits instead of without leading zeros (Tempo 3.0).",
    )


class CompactionLimits(Section):
    """How long traces are kept."""

    block_retention: PrometheusDuration = Field(
        default=timedelta(0),
        description="Blocks older than this are deleted; 0 means `compactor.compaction.block_retention`.",
    )
    compaction_window: Duration = Field(
        default=timedelta(0),
        description="Blocks of the same window may be merged; 0 means `compactor.compaction.compaction_window`.",
    )
    compaction_disabled: Switch = Field(default=False, description="Whether merging and retention by time are off.")


class GlobalLimits(Section):
    """Limits that hold on every way in."""

    max_bytes_per_trace: ByteSize = Field(
        default=50_000_000,
        description="An answer holds at most this many bytes of a trace; spans beyond it are kept but left out of the answer, "
        "which says so. More shows larger traces and takes more memory, 0 sets no limit (Tempo's default is 5000000).",
    )


class SpanMetricsLimits(Section):
    """Span metrics of a tenant; what is absent comes from `metrics_generator.processor.span_metrics`."""

    histogram_buckets: tuple[Number, ...] | None = Field(
        default=None, description="Upper bounds of latency buckets in seconds."
    )
    dimensions: tuple[str, ...] | None = Field(default=None, description="Attributes that become labels.")
    intrinsic_dimensions: Mapping[str, Switch] | None = Field(
        default=None, description="Labels that are no attributes, on or off."
    )
    filter_policies: tuple[FilterPolicy, ...] | None = Field(default=None, description="Which spans count.")
    dimension_mappings: tuple[DimensionMapping, ...] | None = Field(
        default=None, description="Labels joined of attributes."
    )
    enable_target_info: Switch | None = Field(default=None, description="Whether resource attributes are sent.")
    target_info_excluded_dimensions: tuple[str, ...] | None = Field(
        default=None, description="Resource attributes left out."
    )
    enable_instance_label: Switch | None = Field(default=None, description="Whether series carry `instance`.")
    span_multiplier_key: str | None = Field(default=None, description="Double attribute X: a span counts as 1/X spans.")
    enable_tracestate_span_multiplier: Switch | None = Field(
        default=None, description="Whether the trace state weighs a span."
    )


class ServiceGraphsLimits(Section):
    """Service graphs of a tenant; what is absent comes from `metrics_generator.processor.service_graphs`."""

    histogram_buckets: tuple[Number, ...] | None = Field(
        default=None, description="Upper bounds of latency buckets in seconds."
    )
    dimensions: tuple[str, ...] | None = Field(default=None, description="Attributes that become labels.")
    peer_attributes: tuple[str, ...] | None = Field(
        default=None, description="Span attributes that name an unseen service."
    )
    enable_client_server_prefix: Switch | None = Field(default=None, description="Whether labels name their side.")
    enable_messaging_system_latency_histogram: Switch | None = Field(
        default=None, description="Whether the time between producer and consumer gets a histogram."
    )
    enable_virtual_node_label: Switch | None = Field(
        default=None, description="Whether unseen services get `virtual_node`."
    )
    filter_policies: tuple[FilterPolicy, ...] | None = Field(default=None, description="Which spans count.")
    span_multiplier_key: str | None = Field(default=None, description="Double attribute X: a span counts as 1/X spans.")
    enable_tracestate_span_multiplier: Switch | None = Field(
        default=None, description="Whether the trace state weighs a span."
    )


class HostInfoLimits(Section):
    """Host info of a tenant; what is absent comes from `metrics_generator.processor.host_info`."""

    host_identifiers: tuple[str, ...] | None = Field(
        default=None, description="Resource attributes that identify a host."
    )
    metric_name: str | None = Field(default=None, description="Name of the metric.")


class ProcessorLimits(Section):
    """How each processor works for a tenant."""

    span_metrics: SpanMetricsLimits = Field(
        default=SpanMetricsLimits(), description="Calls, latency and size of spans."
    )
    service_graphs: ServiceGraphsLimits = Field(default=ServiceGraphsLimits(), description="Requests between services.")
    host_info: HostInfoLimits = Field(default=HostInfoLimits(), description="Hosts that send spans.")


class GeneratorLimits(Section):
    """Series made of spans."""

    processors: tuple[Processor, ...] = Field(default=(), description="Processors that run; none makes no series.")
    max_active_series: Count = Field(
        default=0, description="Most series; beyond it new label sets are folded into one, 0 sets no limit."
    )
    max_active_entities: Count = Field(
        default=0, description="Most label sets with `limiter_type: entity`; 0 sets no limit."
    )
    max_cardinality_per_label: Count = Field(
        default=0, description="Most values of one label, the others are folded into one (Tempo 3.0); 0 sets no limit."
    )
    collection_interval: Duration = Field(
        default=timedelta(0),
        description="How often samples are sent; 0 means `metrics_generator.registry.collection_interval`.",
    )
    disable_collection: Switch = Field(default=False, description="Whether series are counted and not sent.")
    generate_native_histograms: Annotated[Literal["classic", "native", "both"], KeepsDefault()] = Field(
        default="classic",
        description="Form of histograms; native takes fewer series, classic is understood everywhere.",
    )
    native_histogram_bucket_factor: Annotated[Number, KeepsDefault()] = Field(
        default=1.1, description="Growth from one native bucket to the next; nearer to 1 is finer and larger."
    )
    native_histogram_max_bucket_number: Annotated[Count, KeepsDefault()] = Field(
        default=100, description="Most buckets of a native histogram; more is finer and larger."
    )
    native_histogram_min_reset_duration: Annotated[Duration, KeepsDefault()] = Field(
        default=timedelta(minutes=15),
        description="A native histogram over its bucket limit starts anew at most this often.",
    )
    trace_id_label_name: str = Field(
        default="", description="Label of exemplars that carries the trace id; empty means traceID."
    )
    remote_write_headers: Headers = Field(default={}, description="Headers added to remote-write requests.")
    ingestion_time_range_slack: Duration = Field(
        default=timedelta(0),
        description="Spans that ended longer ago count for no metric; 0 means "
        "`metrics_generator.metrics_ingestion_time_range_slack`.",
    )
    processor: ProcessorLimits = Field(default=ProcessorLimits(), description="How each processor works.")


class Limits(Section):
    """What one tenant may do."""

    ingestion: IngestionLimits = Field(default=IngestionLimits(), description="How much may come in.")
    read: ReadLimits = Field(default=ReadLimits(), description="What queries may cost.")
    compaction: CompactionLimits = Field(default=CompactionLimits(), description="How long traces are kept.")
    global_: GlobalLimits = Field(
        default=GlobalLimits(), alias="global", description="Limits that hold on every way in."
    )
    metrics_generator: GeneratorLimits = Field(default=GeneratorLimits(), description="Series made of spans.")

    @classmethod
    def of_tenant(cls, entry: Mapping[str, Any]) -> Self:
        """Limits of a tenant with this entry (nested, YAML names); what it does not name is zero. Raises ValidationError."""
        return cls.model_validate(_fill_zeros(cls, entry))


def _fill_zeros(section: type[Section], entry: Mapping[str, Any]) -> dict[str, Any]:
    """The entry with every key of the section in it; zero is what the type of the default calls empty: 0, "", (), False."""
    filled: dict[str, Any] = dict(entry)
    for name, field in section.model_fields.items():
        key = field.alias or name
        child = section_type(field.annotation)
        if child is not None:
            filled[key] = _fill_zeros(child, filled.get(key, {}))
        elif key not in filled and field.default is not None and not has_mark(field, KeepsDefault):
            filled[key] = type(field.default)()
    return filled


class Overrides(Section):
    """Limits for everyone, and where those for single tenants are."""

    defaults: Limits = Field(default=Limits(), description="Limits of tenants that have no entry of their own.")
    per_tenant_override_config: Path | None = Field(
        default=None, description="File with `overrides: {TENANT: {...}}`; an entry replaces the defaults as a whole."
    )
    per_tenant_override_period: PrometheusDuration = Field(
        default=timedelta(seconds=10),
        description="How often that file is read again; less follows changes sooner, 0 never does.",
    )
