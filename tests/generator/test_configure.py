"""The generator's settings from a configuration file and a tenant's limits."""

from __future__ import annotations

from dataclasses import replace

from vivace.config.load import parse
from vivace.config.overrides import Limits
from vivace.generator.configure import tenant_settings
from vivace.generator.settings import (
    HistogramSettings,
    Mapping,
    Match,
    Multiplier,
    Policy,
    RegistrySettings,
    TenantSettings,
)

FIRST_USER = """
metrics_generator:
  registry: {external_labels: {source: tempo}}
  processor:
    span_metrics: {dimensions: [service.name, http.method, http.status_code, http.target]}
    service_graphs: {dimensions: [service.name]}
    local_blocks: {flush_to_storage: false}
overrides: {defaults: {metrics_generator: {processors: [span-metrics, service-graphs, local-blocks]}}}
"""

EVERYTHING = """
metrics_generator:
  limiter_type: entity
  metrics_ingestion_time_range_slack: 1m
  registry:
    collection_interval: 5s
    stale_duration: 1h
    external_labels: {a: b}
    inject_tenant_id_as: tenant
    max_label_name_length: 10
    max_label_value_length: 20
  processor:
    span_metrics:
      histogram_buckets: [2, 1, 2]
      intrinsic_dimensions: {status_message: true, service: false}
      dimensions: [x]
      dimension_mappings: [{name: n, source_labels: [a, b], join: "-"}]
      enable_target_info: true
      target_info_excluded_dimensions: [e]
      enable_instance_label: false
      span_multiplier_key: k
      enable_tracestate_span_multiplier: true
      filter_policies: [{include: {match_type: strict, attributes: [{key: kind, value: SPAN_KIND_SERVER}]}}]
      latency_metric_aliases: [traces_spanmetrics_duration_seconds]
      dimension_templates: [x]
    service_graphs:
      wait: 3s
      max_items: 7
      histogram_buckets: [1]
      dimensions: [y]
      enable_client_server_prefix: true
      enable_messaging_system_latency_histogram: true
      enable_virtual_node_label: true
      peer_attributes: [p]
      database_name_attributes: [d]
      span_multiplier_key: g
      filter_policies: [{exclude: {match_type: regex, attributes: [{key: name, value: z}]}}]
    host_info: {host_identifiers: [h], metric_name: m}
overrides:
  defaults:
    metrics_generator:
      processors: [host-info]
      max_active_series: 1
      max_active_entities: 2
      max_cardinality_per_label: 3
      generate_native_histograms: both
      native_histogram_bucket_factor: 1.5
      native_histogram_max_bucket_number: 50
      native_histogram_min_reset_duration: 1m
      trace_id_label_name: trace_id
"""


def settings_of(text: str, tenant: str = "t") -> TenantSettings:
    settings = parse(text)
    return tenant_settings(settings.metrics_generator, settings.overrides.defaults.metrics_generator, tenant)


def test_the_defaults_are_those_of_the_room() -> None:
    assert settings_of("") == TenantSettings()


def test_the_first_user() -> None:
    usual = TenantSettings()
    assert settings_of(FIRST_USER) == replace(
        usual,
        processors=frozenset({"span-metrics", "service-graphs", "local-blocks"}),
        span_metrics=replace(
            usual.span_metrics, dimensions=("service.name", "http.method", "http.status_code", "http.target")
        ),
        service_graphs=replace(usual.service_graphs, dimensions=("service.name",)),
        registry=RegistrySettings(external_labels=(("source", "tempo"),)),
    )


def test_every_key() -> None:
    found = settings_of(EVERYTHING, "shop")
    native = ("both", 1.5, 50, 60.0)
    assert (found.processors, found.collection_seconds, found.slack_seconds) == ({"host-info"}, 5, 60)
    assert found.registry == RegistrySettings((("a", "b"), ("tenant", "shop")), 3600, 10, 20, True, 1, 2, 3, "trace_id")
    spans = found.span_metrics
    assert spans.histogram == HistogramSettings((1.0, 2.0), *native)
    assert spans.intrinsics == {"span_name", "span_kind", "status_code", "status_message"}
    assert (spans.dimensions, spans.templates, spans.mappings) == (("x",), {"x"}, (Mapping("n", ("a", "b"), "-"),))
    assert (spans.target_info, spans.target_info_excluded, spans.instance_label) == (True, {"e"}, False)
    assert spans.multiplier == Multiplier("k", True)
    assert spans.policies == (Policy(include=Match(False, (("kind", "SPAN_KIND_SERVER"),))),)
    assert spans.latency_aliases == ("traces_spanmetrics_duration_seconds",)
    graphs = found.service_graphs
    assert graphs.histogram == HistogramSettings((1.0,), *native)
    assert (graphs.wait, graphs.items_max, graphs.dimensions) == (3, 7, ("y",))
    assert (graphs.side_prefix, graphs.messaging_latency, graphs.virtual_node_label) == (True, True, True)
    assert (graphs.peer_attributes, graphs.database_attributes) == (("p",), ("d",))
    assert graphs.multiplier == Multiplier("g")
    assert graphs.policies == (Policy(exclude=Match(True, (("name", "z"),))),)
    assert (found.host_info.identifiers, found.host_info.metric_name) == (("h",), "m")


def test_what_a_tenant_says_goes_first() -> None:
    usual = parse(EVERYTHING).metrics_generator
    limits = Limits.of_tenant(
        {
            "metrics_generator": {
                "processors": ["span-metrics"],
                "collection_interval": "1m",
                "disable_collection": True,
                "ingestion_time_range_slack": "2m",
                "processor": {
                    "span_metrics": {
                        "dimensions": [],
                        "enable_target_info": False,
                        "intrinsic_dimensions": {"service": True, "span_kind": False},
                    },
                    "service_graphs": {"enable_virtual_node_label": False, "histogram_buckets": [7]},
                    "host_info": {"metric_name": "own"},
                },
            }
        }
    ).metrics_generator
    found = tenant_settings(usual, limits, "t")
    assert (found.collection_seconds, found.collects, found.slack_seconds) == (60, False, 120)
    assert (found.span_metrics.dimensions, found.span_metrics.target_info) == ((), False)
    assert found.span_metrics.intrinsics == {"service", "span_name", "status_code", "status_message"}
    assert found.span_metrics.latency_aliases == ("traces_spanmetrics_duration_seconds",)
    assert (found.service_graphs.virtual_node_label, found.service_graphs.dimensions) == (False, ("y",))
    assert found.service_graphs.histogram.buckets == (7.0,)
    assert (found.host_info.metric_name, found.host_info.identifiers) == ("own", ("h",))
    assert (found.registry.series_max, found.registry.trace_id_label) == (0, "traceID")
    assert found.span_metrics.histogram.native_factor == 1.1
