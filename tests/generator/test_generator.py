"""The generator as a whole: what waits, tenants, changed settings, failures, the thread, the report of cardinality."""

from __future__ import annotations

import gc
import logging
import threading
import time
import weakref
from collections.abc import Iterable
from dataclasses import replace

import pytest
from builders import NOON, SECOND, batch, request, span
from received import Received
from room import CLIENT, SERVER, Room

from vivace.generator.cardinality import LabelCardinality, MetricCardinality
from vivace.generator.generator import Generator
from vivace.generator.settings import RegistrySettings, SpanMetricsSettings, TenantSettings
from vivace.observers import generator_observer, generator_readings
from vivace.telemetry import MemoryFigures, Telemetry

CALLS = "traces_spanmetrics_calls_total"
BOTH = TenantSettings(processors=frozenset({"span-metrics", "service-graphs"}))


def test_collections_keep_their_rhythm() -> None:
    room = Room("span-metrics", collection_seconds=15)
    room.send(request(span()))
    for seconds, collections in [(14, 0), (1, 1), (17, 2), (13, 3), (40, 4), (1, 4), (30, 5)]:
        room.wait(seconds)
        assert room.counted[("collected",)] == collections, seconds


def test_what_waits_is_bounded() -> None:
    room = Room("span-metrics")
    offered = batch(request(*(span(1, n) for n in range(1, 11))), dictionary=room.dictionary)
    small = Generator(
        lambda tenant: room.settings, room.received, clock=room.clock, now_unix_nano=room.clock.now_unix_nano,
        host="here", observer=room.counted.observer(), waiting_bytes_max=offered.nbytes * 2,
    )  # fmt: skip
    for _ in range(3):
        small.offer("t", offered)
    assert room.counted["discarded", "buffer_full", ""] == 10
    small.collect()
    small.offer("t", offered)
    small.collect()
    assert list(room.received.of(CALLS).values()) == [30]


def test_tenants_are_apart() -> None:
    room = Room("span-metrics")
    sent: dict[str, Received] = {}

    def sink(tenant: str, requests: Iterable[bytes]) -> None:
        sent.setdefault(tenant, Received())(tenant, requests)

    other = replace(BOTH, processors=frozenset({"local-blocks"}))
    generator = Generator(
        {"a": room.settings, "b": room.settings, "c": other}.__getitem__, sink,
        clock=room.clock, now_unix_nano=room.clock.now_unix_nano, host="here",
    )  # fmt: skip
    for tenant in "aabc":
        generator.offer(tenant, batch(request(span())))
    generator.collect()
    assert {t: list(r.of(CALLS).values()) for t, r in sent.items()} == {"a": [2], "b": [1], "c": []}
    assert {t: f.processors for t, f in generator.figures().items()} == {
        "a": ("span-metrics",), "b": ("span-metrics",), "c": ("local-blocks",),
    }  # fmt: skip


def test_changed_settings_replace_a_processor() -> None:
    room = Room("span-metrics", "service-graphs")
    spans = request(span(kind=CLIENT), span(1, 2, 1, kind=SERVER), resource={"service.name": "s"})
    room.send(spans)
    room.settings = replace(room.settings, span_metrics=SpanMetricsSettings(intrinsics=frozenset()))
    room.wait(10)
    assert room.values(CALLS) == []
    room.send(spans)
    assert room.values(CALLS) == [({}, 2)]
    assert [n for _, n in room.values("traces_service_graph_request_total")] == [2]
    room.settings = replace(room.settings, processors=frozenset({"service-graphs"}))
    room.wait(10)
    assert room.values(CALLS) == []
    assert room.generator.figures()["t"].processors == ("service-graphs",)


def test_a_changed_limit_keeps_the_series() -> None:
    room = Room("span-metrics")
    room.send(request(span(name="a")))
    room.settings = replace(room.settings, registry=RegistrySettings(series_max=1, trace_id_label="x"))
    room.wait(10)
    room.send(request(span(name="a", start=NOON + 10 * SECOND), span(1, 2, name="b", start=NOON + 10 * SECOND)))
    assert [(labels.get("span_name"), n) for labels, n in room.values(CALLS)] == [(None, 1), ("a", 2)]


def test_an_unknown_processor_is_reported_and_the_others_run(caplog: pytest.LogCaptureFixture) -> None:
    room = Room("span-metrics", "span-matrix")
    room.send(request(span()))
    assert len(room.values(CALLS)) == 1
    assert "unknown processor span-matrix" in caplog.text
    assert room.counted[("update_failed",)] == 1


def test_a_failing_sink_is_counted_and_the_next_collection_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    room = Room("span-metrics", collection_seconds=15)
    failing = True

    def sink(tenant: str, requests: Iterable[bytes]) -> None:
        if failing:
            raise OSError("no disk")
        room.received(tenant, requests)

    generator = Generator(
        lambda tenant: room.settings, sink, clock=room.clock, now_unix_nano=room.clock.now_unix_nano, host="here",
        observer=room.counted.observer(),
    )  # fmt: skip
    generator.offer("t", batch(request(span())))
    with caplog.at_level(logging.ERROR):
        generator.collect()
    assert room.counted["collection_failed", "OSError"] == 1
    failing = False
    generator.collect()
    assert list(room.received.of(CALLS).values()) == [1]
    assert [len(s) for labels, s in room.received.samples.items() if dict(labels)["__name__"] == CALLS] == [2]


def test_numbers_are_renewed_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vivace.generator.texts.TEXTS_MAX", 20)
    room = Room("span-metrics")
    for n in range(50):
        room.send(request(span(name=f"operation {n}"), span(1, 2, name="always")))
    found = {labels["span_name"]: n for labels, n in room.values(CALLS)}
    assert found.pop("always") == 50
    assert set(found.values()) == {1}
    assert len(found) == 50


def test_the_thread_counts_and_a_stop_collects() -> None:
    received = Received()
    generator = Generator(lambda tenant: BOTH, received, clock=time.monotonic, now_unix_nano=time.time_ns, host="here")
    generator.start()
    try:
        generator.offer("t", batch(request(span(start=time.time_ns()))))
        deadline = time.monotonic() + 10
        while not any(f.active_series for f in generator.figures().values()) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert generator.figures()["t"].active_series == 19
    finally:
        generator.stop()
    assert list(received.of(CALLS).values()) == [1]
    assert not any(thread.name == "vivace-generator" for thread in threading.enumerate())


def test_metrics_of_the_generator() -> None:
    """What it reports is on /metrics, under Tempo's names."""
    telemetry = Telemetry(version="1", memory=lambda: MemoryFigures(2, 1))
    room = Room("span-metrics", "service-graphs", "local-blocks", registry=RegistrySettings(series_max=40))
    generator = Generator(
        lambda tenant: room.settings, room.received, clock=room.clock, now_unix_nano=room.clock.now_unix_nano,
        host="here", observer=generator_observer(telemetry),
    )  # fmt: skip
    telemetry.register_gauges(lambda: generator_readings(generator, telemetry))
    spans = [span(1, 1, kind=CLIENT), span(1, 2, 1, kind=SERVER), span(1, 3, kind=CLIENT), span(1, 4, start=1, kind=7)]
    generator.offer("t", batch(request(*spans, resource={"service.name": "s"})))
    generator.tick()
    room.clock.seconds += 15
    generator.collect()
    lines = telemetry.render("")[0].decode().splitlines()
    name = "tempo_metrics_generator_"
    size = sum(s.ByteSize() for s in spans)
    for line in [
        f'{name}spans_received_total{{tenant="t"}} 4.0',
        f'{name}bytes_received_total{{tenant="t"}} {float(size)}',
        f'{name}spans_discarded_total{{processor="",reason="outside_metrics_ingestion_slack",tenant="t"}} 1.0',
        f'{name}active_processors{{processor="local-blocks",tenant="t"}} 1.0',
        f'{name}registry_active_series{{tenant="t"}} 42.0',
        f'{name}registry_max_active_series{{tenant="t"}} 40.0',
        f'{name}registry_active_series_demand_estimate{{tenant="t"}} 80.0',
        f'{name}registry_entity_demand_estimate{{tenant="t"}} 4.0',
        f'{name}registry_series_added_total{{tenant="t"}} 23.0',
        f'{name}registry_series_limited_total{{tenant="t"}} 38.0',
        f'{name}registry_collections_total{{tenant="t"}} 2.0',
        f'{name}processor_service_graphs_edges{{tenant="t"}} 2.0',
        f'{name}processor_service_graphs_expired_edges{{tenant="t"}} 1.0',
    ]:
        assert line in lines, (line, [x for x in lines if x.startswith(line.partition("{")[0])])


def test_cardinality() -> None:
    room = Room("span-metrics", registry=RegistrySettings(external_labels=(("source", "tempo"),)))
    assert room.generator.cardinality("t") is None
    room.send(
        request(
            *(span(1, n + 1, name=f"op {n % 3}", kind=n % 2 + 1) for n in range(12)), resource={"service.name": "s"}
        )
    )
    report = room.generator.cardinality("t", top=2)
    assert report is not None
    assert (report.tenant, report.series, report.label_sets) == ("t", 6 * 19, 6)
    assert report.metrics == (
        MetricCardinality("traces_spanmetrics_latency", 6 * 17),
        MetricCardinality(CALLS, 6),
        MetricCardinality("traces_spanmetrics_size_total", 6),
    )
    assert report.labels[:2] == (
        LabelCardinality("span_name", 3, (("op 0", 38), ("op 1", 38))),
        LabelCardinality("span_kind", 2, (("SPAN_KIND_INTERNAL", 57), ("SPAN_KIND_SERVER", 57))),
    )
    assert {label.name for label in report.labels} == {"service", "span_name", "span_kind", "status_code"}


def test_an_idle_tenant_lets_its_dictionary_go() -> None:
    room = Room("span-metrics", "service-graphs", "host-info", span_metrics=SpanMetricsSettings(target_info=True))
    room.send(request(span(), resource={"service.name": "s", "host.id": "h"}))
    seen = weakref.ref(room.generator._instances["t"]._views[0])
    room.collect()
    room.collect()
    gc.collect()
    assert seen() is None
