"""The `metrics_generator` keys: series made of spans, and where they are sent."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from .remote_write import RemoteWrite
from .section import Section
from .units import ByteSize, Count, Duration, Number, Switch


class PolicyAttribute(Section):
    """One comparison of a filter policy."""

    key: str = Field(description="`kind`, `name`, `status`, `span.KEY` or `resource.KEY`; required.")
    value: bool | int | float | str = Field(description="Value to compare with, by its YAML type; required.")


class PolicyMatch(Section):
    """Comparisons that must all hold."""

    match_type: Literal["strict", "regex"] = Field(
        description="Equal value, or unanchored regular expression; required."
    )
    attributes: tuple[PolicyAttribute, ...] = Field(default=(), description="Comparisons; all must hold.")


class FilterPolicy(Section):
    """Which spans count: `include` must match and `exclude` must not; every policy must pass."""

    include: PolicyMatch | None = Field(default=None, description="Spans must match this.")
    include_any: PolicyMatch | None = Field(
        default=None, description="Spans must match one comparison of this (Tempo 3.0)."
    )
    exclude: PolicyMatch | None = Field(default=None, description="Spans must not match this.")


class DimensionMapping(Section):
    """A label joined of several attributes."""

    name: str = Field(description="Name of the label; required.")
    source_labels: tuple[str, ...] = Field(default=(), description="Attributes whose values are joined.")
    join: str = Field(default="", description="Text between the values.")


class IntrinsicDimensions(Section):
    """Labels of span metrics that are no attributes; each one more multiplies the series."""

    service: Switch = Field(default=True, description="Label `service`.")
    span_name: Switch = Field(default=True, description="Label `span_name`.")
    span_kind: Switch = Field(default=True, description="Label `span_kind`.")
    status_code: Switch = Field(default=True, description="Label `status_code`.")
    status_message: Switch = Field(default=False, description="Label `status_message`; often without bound.")


class SpanMetrics(Section):
    """Calls, latency and size of spans."""

    histogram_buckets: tuple[Number, ...] = Field(
        default=(0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384),
        description="Upper bounds of latency buckets in seconds; more gives finer quantiles and more series.",
    )
    intrinsic_dimensions: IntrinsicDimensions = Field(
        default=IntrinsicDimensions(), description="Labels that are no attributes."
    )
    dimensions: tuple[str, ...] = Field(
        default=(), description="Attributes that become labels, resource before span; each one multiplies the series."
    )
    dimension_mappings: tuple[DimensionMapping, ...] = Field(
        default=(), description="Labels joined of several attributes."
    )
    enable_target_info: Switch = Field(
        default=False, description="Whether resource attributes are sent as `traces_target_info`."
    )
    target_info_excluded_dimensions: tuple[str, ...] = Field(
        default=(), description="Resource attributes left out of it."
    )
    enable_instance_label: Switch = Field(
        default=True, description="Whether series carry `instance` when target info is on."
    )
    span_multiplier_key: str = Field(
        default="", description="Double attribute X: a span counts as 1/X spans; empty counts each once."
    )
    enable_tracestate_span_multiplier: Switch = Field(
        default=False, description="Whether the sampling threshold in the trace state weighs a span (Tempo 3.0)."
    )
    filter_policies: tuple[FilterPolicy, ...] = Field(default=(), description="Which spans count; none counts all.")
    latency_metric_aliases: tuple[str, ...] = Field(
        default=(),
        description="More names for the latency histogram, such as `traces_spanmetrics_duration_seconds`, for dashboards "
        "that look for it there; each one sends its series once more (ours).",
    )
    dimension_templates: tuple[str, ...] = Field(
        default=(),
        description="Dimensions that hold paths, such as `http.target`: their query is cut off and ids become `{id}`, "
        "so that `/users/123?tab=1` counts as `/users/{id}`; keeps series few (ours).",
    )


class ServiceGraphs(Section):
    """Requests between services."""

    wait: Duration = Field(
        default=timedelta(seconds=10),
        description="How long one side of a request waits for the other; more pairs late spans and takes more memory.",
    )
    max_items: Count = Field(
        default=10_000, description="Requests that may wait; more pairs more at high rates and takes more memory."
    )
    histogram_buckets: tuple[Number, ...] = Field(
        default=(0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8),
        description="Upper bounds of latency buckets in seconds; more gives finer quantiles and more series.",
    )
    dimensions: tuple[str, ...] = Field(
        default=(), description="Attributes that become labels, resource before span; each one multiplies the series."
    )
    enable_client_server_prefix: Switch = Field(
        default=False, description="Whether those labels begin with `client_` and `server_`, one from each side."
    )
    enable_messaging_system_latency_histogram: Switch = Field(
        default=False, description="Whether the time between producer and consumer gets a histogram."
    )
    enable_virtual_node_label: Switch = Field(
        default=False, description="Whether edges to unseen services get `virtual_node`."
    )
    peer_attributes: tuple[str, ...] = Field(
        default=("peer.service", "db.name", "db.system"),
        description="Span attributes that name an unseen service; first one wins.",
    )
    database_name_attributes: tuple[str, ...] = Field(
        default=("db.namespace", "db.name", "db.system"),
        description="Attributes that show that a client calls a database.",
    )
    span_multiplier_key: str = Field(
        default="", description="Double attribute X: a span counts as 1/X spans; empty counts each once."
    )
    enable_tracestate_span_multiplier: Switch = Field(
        default=False, description="Whether the sampling threshold in the trace state weighs a span (Tempo 3.0)."
    )
    filter_policies: tuple[FilterPolicy, ...] = Field(
        default=(), description="Which spans count (Tempo 3.0); none counts all."
    )


class HostInfo(Section):
    """Hosts that send spans."""

    host_identifiers: tuple[str, ...] = Field(
        default=("k8s.node.name", "host.id"),
        description="Resource attributes that identify a host; the first one present wins.",
    )
    metric_name: str = Field(default="traces_host_info", description="Name of the metric.")


class Processors(Section):
    """How each processor works; which ones run says `overrides.defaults.metrics_generator.processors`."""

    span_metrics: SpanMetrics = Field(default=SpanMetrics(), description="Calls, latency and size of spans.")
    service_graphs: ServiceGraphs = Field(default=ServiceGraphs(), description="Requests between services.")
    host_info: HostInfo = Field(default=HostInfo(), description="Hosts that send spans.")


class Registry(Section):
    """The series that are kept and sent."""

    collection_interval: Duration = Field(
        default=timedelta(seconds=15), description="How often samples are sent; less is fresher and sends more."
    )
    stale_duration: Duration = Field(
        default=timedelta(minutes=15),
        description="Series without a change for this time are forgotten; less frees memory sooner.",
    )
    external_labels: Mapping[str, str] = Field(default={}, description="Labels added to every series.")
    inject_tenant_id_as: str = Field(default="", description="Label that carries the tenant; empty adds none.")
    max_label_name_length: ByteSize = Field(default=1024, description="Longer label names are cut to this many bytes.")
    max_label_value_length: ByteSize = Field(
        default=2048, description="Longer label values are cut to this many bytes."
    )


class GeneratorWal(Section):
    """Samples on disk that wait to be sent."""

    wal_segment_size: ByteSize = Field(
        default=134_217_728, description="Size in bytes at which a new segment begins; less frees disk sooner."
    )


class GeneratorStorage(Section):
    """Where series go."""

    path: Path | None = Field(
        default=None, description="Directory for samples that wait to be sent; required with `remote_write`."
    )
    wal: GeneratorWal = Field(default=GeneratorWal(), description="Samples on disk that wait to be sent.")
    remote_write: tuple[RemoteWrite, ...] = Field(
        default=(), description="Endpoints, in Prometheus syntax; none sends nothing."
    )
    remote_write_flush_deadline: Duration = Field(
        default=timedelta(minutes=1),
        description="How long a stop tries to send what waits; more loses less, less stops sooner.",
    )
    remote_write_add_org_id_header: Switch = Field(
        default=True, description="Whether requests of a multi-tenant server carry `X-Scope-OrgID`."
    )

    @model_validator(mode="after")
    def _check_path(self) -> GeneratorStorage:
        if self.remote_write and self.path is None:
            raise ValueError("found remote_write without path, expected path: a directory for samples that wait")
        return self


class MetricsGenerator(Section):
    """Series made of spans."""

    processor: Processors = Field(default=Processors(), description="How each processor works.")
    registry: Registry = Field(default=Registry(), description="The series that are kept and sent.")
    storage: GeneratorStorage = Field(default=GeneratorStorage(), description="Where series go.")
    metrics_ingestion_time_range_slack: Duration = Field(
        default=timedelta(seconds=30),
        description="Spans that ended longer ago than this count for no metric; more takes later spans into account.",
    )
    limiter_type: Literal["series", "entity"] = Field(
        default="series", description="Whether `max_active_series` or `max_active_entities` limits the series."
    )
