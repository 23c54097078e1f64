"""What the generator is told: plain values, made of the configuration by configure.py.

Times are seconds unless the name says otherwise. Equal settings make equal processors: a processor is replaced, and its
series begin anew, when its settings are no longer equal to the ones that it was made with.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

HistogramMode = Literal["classic", "native", "both"]
Scalar = bool | int | float | str

SPAN_METRICS_PARTS = ("span-metrics-count", "span-metrics-latency", "span-metrics-size")
"""What `span-metrics` is made of; each can be named alone."""

LATENCY_BUCKETS = (0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384)


@dataclass(frozen=True, slots=True)
class HistogramSettings:
    """`buckets` are upper bounds in seconds, rising. The rest says what native histograms are like."""

    buckets: tuple[float, ...]
    mode: HistogramMode = "classic"
    native_factor: float = 1.1
    native_buckets_max: int = 100
    native_reset_seconds: float = 900.0


@dataclass(frozen=True, slots=True)
class Match:
    """Comparisons (key, value) of a filter policy; a regular expression when `regex`."""

    regex: bool
    comparisons: tuple[tuple[str, Scalar], ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """A span passes when it fits `include` whole, one comparison of `include_any`, and not `exclude` whole."""

    include: Match | None = None
    include_any: Match | None = None
    exclude: Match | None = None


@dataclass(frozen=True, slots=True)
class Multiplier:
    """How many spans a sampled one stands for: 1 / the double attribute `key`, or as its trace state says."""

    key: str = ""
    tracestate: bool = False


@dataclass(frozen=True, slots=True)
class Mapping:
    """A label made of several attributes, joined by `join`."""

    name: str
    sources: tuple[str, ...]
    join: str = ""


@dataclass(frozen=True, slots=True)
class SpanMetricsSettings:
    """See `metrics_generator.processor.span_metrics` in docs/configuration.md."""

    histogram: HistogramSettings = HistogramSettings(LATENCY_BUCKETS)
    parts: frozenset[str] = frozenset(SPAN_METRICS_PARTS)
    intrinsics: frozenset[str] = frozenset({"service", "span_name", "span_kind", "status_code"})
    dimensions: tuple[str, ...] = ()
    templates: frozenset[str] = frozenset()
    mappings: tuple[Mapping, ...] = ()
    target_info: bool = False
    target_info_excluded: frozenset[str] = frozenset()
    instance_label: bool = True
    multiplier: Multiplier = Multiplier()
    policies: tuple[Policy, ...] = ()
    latency_aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ServiceGraphsSettings:
    """See `metrics_generator.processor.service_graphs` in docs/configuration.md."""

    histogram: HistogramSettings = HistogramSettings((0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8))
    wait: float = 10.0
    items_max: int = 10_000
    dimensions: tuple[str, ...] = ()
    side_prefix: bool = False
    messaging_latency: bool = False
    virtual_node_label: bool = False
    peer_attributes: tuple[str, ...] = ("peer.service", "db.name", "db.system")
    database_attributes: tuple[str, ...] = ("db.namespace", "db.name", "db.system")
    multiplier: Multiplier = Multiplier()
    policies: tuple[Policy, ...] = ()


@dataclass(frozen=True, slots=True)
class HostInfoSettings:
    """See `metrics_generator.processor.host_info` in docs/configuration.md."""

    identifiers: tuple[str, ...] = ("k8s.node.name", "host.id")
    metric_name: str = "traces_host_info"


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """What holds for all series of a tenant. A limit of 0 leaves only the one of memory (registry.SERIES_MAX)."""

    external_labels: tuple[tuple[str, str], ...] = ()
    stale_seconds: float = 900.0
    label_name_bytes_max: int = 1024
    label_value_bytes_max: int = 2048
    limit_entities: bool = False
    series_max: int = 0
    entities_max: int = 0
    values_per_label_max: int = 0
    trace_id_label: str = "traceID"


@dataclass(frozen=True, slots=True)
class TenantSettings:
    """All of one tenant. `processors` are names; one that does not exist is reported and left out."""

    processors: frozenset[str] = frozenset()
    span_metrics: SpanMetricsSettings = SpanMetricsSettings()
    service_graphs: ServiceGraphsSettings = ServiceGraphsSettings()
    host_info: HostInfoSettings = HostInfoSettings()
    registry: RegistrySettings = field(default_factory=RegistrySettings)
    collection_seconds: float = 15.0
    collects: bool = True
    slack_seconds: float = 30.0
