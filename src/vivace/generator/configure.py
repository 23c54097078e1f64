"""The generator's settings of a tenant, from the configuration and the tenant's limits: what a limit names goes first.

Knows the keys of a configuration file, so that no other module of this room does. The rules of each key are in its
description (docs/configuration.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from vivace.config.generator import FilterPolicy, HostInfo, MetricsGenerator, PolicyMatch, ServiceGraphs, SpanMetrics
from vivace.config.overrides import GeneratorLimits, HostInfoLimits, ServiceGraphsLimits, SpanMetricsLimits
from vivace.generator.settings import (
    HistogramSettings,
    HostInfoSettings,
    Mapping,
    Match,
    Multiplier,
    Policy,
    RegistrySettings,
    ServiceGraphsSettings,
    SpanMetricsSettings,
    TenantSettings,
)

TRACE_ID_LABEL = "traceID"

T = TypeVar("T")


def tenant_settings(usual: MetricsGenerator, limits: GeneratorLimits, tenant: str) -> TenantSettings:
    """What holds for `tenant`, whose limits these are."""
    own = limits.processor
    return TenantSettings(
        processors=frozenset(limits.processors),
        span_metrics=span_metrics(usual.processor.span_metrics, own.span_metrics, limits),
        service_graphs=service_graphs(usual.processor.service_graphs, own.service_graphs, limits),
        host_info=host_info(usual.processor.host_info, own.host_info),
        registry=registry(usual, limits, tenant),
        collection_seconds=(limits.collection_interval or usual.registry.collection_interval).total_seconds(),
        collects=not limits.disable_collection,
        slack_seconds=(limits.ingestion_time_range_slack or usual.metrics_ingestion_time_range_slack).total_seconds(),
    )


def registry(usual: MetricsGenerator, limits: GeneratorLimits, tenant: str) -> RegistrySettings:
    settings = usual.registry
    labels = dict(settings.external_labels)
    if settings.inject_tenant_id_as:
        labels[settings.inject_tenant_id_as] = tenant
    return RegistrySettings(
        external_labels=tuple(labels.items()),
        stale_seconds=settings.stale_duration.total_seconds(),
        label_name_bytes_max=settings.max_label_name_length,
        label_value_bytes_max=settings.max_label_value_length,
        limit_entities=usual.limiter_type == "entity",
        series_max=limits.max_active_series,
        entities_max=limits.max_active_entities,
        values_per_label_max=limits.max_cardinality_per_label,
        trace_id_label=limits.trace_id_label_name or TRACE_ID_LABEL,
    )


def span_metrics(usual: SpanMetrics, own: SpanMetricsLimits, limits: GeneratorLimits) -> SpanMetricsSettings:
    excluded = _or(own.target_info_excluded_dimensions, usual.target_info_excluded_dimensions)
    return SpanMetricsSettings(
        histogram=histogram(_or(own.histogram_buckets, usual.histogram_buckets), limits),
        intrinsics=_intrinsics(usual, own),
        dimensions=_or(own.dimensions, usual.dimensions),
        templates=frozenset(usual.dimension_templates),
        mappings=tuple(
            Mapping(mapping.name, mapping.source_labels, mapping.join)
            for mapping in _or(own.dimension_mappings, usual.dimension_mappings)
        ),
        target_info=_or(own.enable_target_info, usual.enable_target_info),
        target_info_excluded=frozenset(excluded),
        instance_label=_or(own.enable_instance_label, usual.enable_instance_label),
        multiplier=Multiplier(
            _or(own.span_multiplier_key, usual.span_multiplier_key),
            _or(own.enable_tracestate_span_multiplier, usual.enable_tracestate_span_multiplier),
        ),
        policies=policies(_or(own.filter_policies, usual.filter_policies)),
        latency_aliases=usual.latency_metric_aliases,
    )


def _intrinsics(usual: SpanMetrics, own: SpanMetricsLimits) -> frozenset[str]:
    """A tenant switches single ones on or off."""
    switches = usual.intrinsic_dimensions
    on = {
        "service": switches.service,
        "span_name": switches.span_name,
        "span_kind": switches.span_kind,
        "status_code": switches.status_code,
        "status_message": switches.status_message,
    }
    return frozenset(name for name, is_on in {**on, **(own.intrinsic_dimensions or {})}.items() if is_on)


def service_graphs(usual: ServiceGraphs, own: ServiceGraphsLimits, limits: GeneratorLimits) -> ServiceGraphsSettings:
    return ServiceGraphsSettings(
        histogram=histogram(_or(own.histogram_buckets, usual.histogram_buckets), limits),
        wait=usual.wait.total_seconds(),
        items_max=usual.max_items,
        dimensions=_or(own.dimensions, usual.dimensions),
        side_prefix=_or(own.enable_client_server_prefix, usual.enable_client_server_prefix),
        messaging_latency=_or(
            own.enable_messaging_system_latency_histogram, usual.enable_messaging_system_latency_histogram
        ),
        virtual_node_label=_or(own.enable_virtual_node_label, usual.enable_virtual_node_label),
        peer_attributes=_or(own.peer_attributes, usual.peer_attributes),
        database_attributes=usual.database_name_attributes,
        multiplier=Multiplier(
            _or(own.span_multiplier_key, usual.span_multiplier_key),
            _or(own.enable_tracestate_span_multiplier, usual.enable_tracestate_span_multiplier),
        ),
        policies=policies(_or(own.filter_policies, usual.filter_policies)),
    )


def host_info(usual: HostInfo, own: HostInfoLimits) -> HostInfoSettings:
    return HostInfoSettings(_or(own.host_identifiers, usual.host_identifiers), _or(own.metric_name, usual.metric_name))


def histogram(buckets: Iterable[float], limits: GeneratorLimits) -> HistogramSettings:
    return HistogramSettings(
        buckets=tuple(sorted(set(buckets))),
        mode=limits.generate_native_histograms,
        native_factor=limits.native_histogram_bucket_factor,
        native_buckets_max=limits.native_histogram_max_bucket_number,
        native_reset_seconds=limits.native_histogram_min_reset_duration.total_seconds(),
    )


def policies(configured: Iterable[FilterPolicy]) -> tuple[Policy, ...]:
    return tuple(Policy(_match(p.include), _match(p.include_any), _match(p.exclude)) for p in configured)


def _match(configured: PolicyMatch | None) -> Match | None:
    if configured is None:
        return None
    comparisons = tuple((attribute.key, attribute.value) for attribute in configured.attributes)
    return Match(configured.match_type == "regex", comparisons)


def _or(own: T | None, usual: T) -> T:
    """What the tenant says, else what holds for all."""
    return usual if own is None else own
