"""What is sent of the series: first samples, limits, exemplars, native histograms, staleness, external labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from builders import NOON, SECOND, request, span
from room import SERVER, Room

from vivace.generator.metrics import Counter
from vivace.generator.native_histogram import bucket_keys, coarser, schema_of
from vivace.generator.registry import Registry, RegistryObserver
from vivace.generator.settings import HistogramSettings, HostInfoSettings, RegistrySettings, SpanMetricsSettings

CALLS, LATENCY = "traces_spanmetrics_calls_total", "traces_spanmetrics_latency"
NOON_MS = NOON // 1_000_000
PART = SpanMetricsSettings(intrinsics=frozenset({"span_name"}))


def made(*processors: str, span_metrics: SpanMetricsSettings = PART, **registry: Any) -> Room:
    return Room(*(processors or ("span-metrics",)), span_metrics=span_metrics, registry=RegistrySettings(**registry))


def named(*names: str, duration: int = 1000) -> Any:
    return request(*(span(1, n, name=name, duration=duration) for n, name in enumerate(names, 1)))


def samples(room: Room, name: str) -> list[tuple[int, float]]:
    """(ms since noon, value) of the one series of a name, in the order of their arrival."""
    (found,) = (s for labels, s in room.received.samples.items() if dict(labels)["__name__"] == name)
    return [(time - NOON_MS, value) for time, value in found]


def test_first_samples() -> None:
    room = made()
    room.wait(90.5)
    room.send(request(span(start=NOON + 90 * SECOND)))
    room.collect()
    assert samples(room, CALLS) == [(59_000, 0), (90_500, 1)]
    assert samples(room, f"{LATENCY}_count") == [(59_000, 0), (90_500, 1)]
    assert samples(room, f"{LATENCY}_sum") == [(90_500, pytest.approx(1e-6))]
    buckets = [s for labels, s in room.received.samples.items() if dict(labels)["__name__"] == f"{LATENCY}_bucket"]
    assert [len(s) for s in buckets] == [2] * 15
    room.wait(15)
    room.collect()
    assert samples(room, CALLS) == [(105_500, 1)]


def test_zero_samples_are_never_older_than_what_was_sent_before() -> None:
    """By this process, or by the one before it, which may have died in the same minute."""
    room = made()  # begins at noon: the minute's zero sample would lie a second before that
    room.wait(15)
    room.send(named("a"))
    room.collect()
    assert samples(room, CALLS) == [(0, 0), (15_000, 1)]
    room.wait(15)
    room.send(named("b"))
    found = room.collect().samples.items()
    (later,) = (v for s, v in found if dict(s)["__name__"] == CALLS and dict(s)["span_name"] == "b")
    assert [time - NOON_MS for time, _ in later] == [15_001, 30_000]


def test_gauges_have_no_first_zero() -> None:
    room = Room("host-info", host_info=HostInfoSettings())
    room.send(request(span(), resource={"host.id": "h"}))
    room.collect()
    assert samples(room, "traces_host_info") == [(0, 1)]


def test_a_series_that_came_later_begins_with_zero_too() -> None:
    room = made()
    room.send(named("a"))
    room.collect()
    room.send(named("b"))
    lengths = {dict(s)["span_name"]: len(v) for s, v in room.collect().samples.items() if dict(s)["__name__"] == CALLS}
    assert lengths == {"a": 1, "b": 2}


def test_external_labels_are_on_every_series_and_win() -> None:
    room = made(external_labels=(("source", "tempo"), ("__metrics_gen_instance", "x"), ("span_name", "mine")))
    room.send(named("a", "b"))
    latest = room.collect().latest()
    assert [v for s, v in latest.items() if dict(s)["__name__"] == CALLS] == [2]
    for series in latest:
        labels = dict(series)
        assert (labels["__metrics_gen_instance"], labels["source"], labels["span_name"]) == ("here", "tempo", "mine")


def test_stale_series_are_forgotten() -> None:
    room = made(stale_seconds=900)
    room.send(named("a", "b"))
    for minute in range(5, 21, 5):
        room.wait(300)
        room.send(request(span(name="a", start=NOON + minute * 60 * SECOND)))
    assert [labels["span_name"] for labels, _ in room.values(CALLS)] == ["a"]
    assert room.counted[("series_removed",)] == 19
    assert room.values(CALLS)[0][1] == 5
    room.send(request(span(name="b", start=NOON + 1200 * SECOND), span(1, 2, name="c", start=NOON + 1200 * SECOND)))
    found = {dict(s)["span_name"]: v for s, v in room.collect().samples.items() if dict(s)["__name__"] == CALLS}
    assert {name: [value for _, value in samples] for name, samples in found.items()} == {
        "a": [5],
        "b": [0, 1],
        "c": [0, 1],
    }


def test_optional_series_are_stale_on_their_own() -> None:
    registry = Registry(RegistrySettings(stale_seconds=10), (), RegistryObserver())
    one, two = Counter("one"), Counter("two", optional=True)
    table = registry.add(["l"], [one, two])
    rows = np.array(table.rows_of([("x",), ("y",)]), np.int32)
    one.add(rows, 1.0, 0.0)
    two.add(rows[:1], 1.0, 0.0)
    one.add(rows[:1], 1.0, 11.0)
    assert registry.drop_stale(11.0) == [table]
    assert (len(table), registry.active_series) == (1, 1)
    assert table.rows_of([("x",), ("y",)]) == [0, 1]


# ---- limits ----


@pytest.mark.parametrize(
    ("limits", "alone"),
    [
        ({"series_max": 19}, 1),
        ({"series_max": 18}, 0),
        ({"series_max": 3 * 19 - 1}, 2),
        ({"series_max": 0}, 4),
        ({"limit_entities": True, "entities_max": 2, "series_max": 19}, 2),
        ({"limit_entities": True, "entities_max": 0}, 4),
    ],
)
def test_over_a_limit_series_are_folded_into_one(limits: dict[str, Any], alone: int) -> None:
    room = made(**limits)
    room.send(named("a", "b", "c", "d"))
    room.send(named("a", "d"))
    found = room.values(CALLS)
    overflow = [n for labels, n in found if labels == {"metric_overflow": "true"}]
    assert [labels["span_name"] for labels, _ in found if "span_name" in labels] == list("abcd"[:alone])
    assert sum(n for _, n in found) == 6
    assert len(overflow) == (alone < 4)
    figures = room.generator.figures()["t"]
    assert figures.entity_demand >= 4
    assert (room.counted[("series_limited",)] > 0) == (alone < 4)


def test_room_made_by_staleness_is_used() -> None:
    room = made(series_max=19, stale_seconds=100)
    room.send(named("a", "b"))
    room.wait(301)
    room.send(request(span(name="b", start=NOON + 300 * SECOND)))
    assert room.values(CALLS) == [({"span_name": "b"}, 1)]


def test_values_of_one_label_are_limited() -> None:
    room = made(values_per_label_max=2)
    room.send(named("a", "b", "c", "d", "a"))
    room.send(named("c", "b"))
    assert [(labels["span_name"], n) for labels, n in room.values(CALLS)] == [
        ("__cardinality_overflow__", 3), ("a", 2), ("b", 2),
    ]  # fmt: skip


def test_labels_are_cut() -> None:
    room = made(
        span_metrics=SpanMetricsSettings(intrinsics=frozenset(), dimensions=("long.name",)),
        label_name_bytes_max=6,
        label_value_bytes_max=5,
    )
    room.send(request(span(attributes={"long.name": "äääää"}), span(1, 2, attributes={"long.name": "ääz"})))
    assert room.values(CALLS) == [({"long_n": "ää"}, 1), ({"long_n": "ääz"}, 1)]


def test_requests_are_small() -> None:
    room = made()
    room.send(named(*(f"operation number {n}" for n in range(400))))
    received = room.collect()
    assert len(received.latest()) == 400 * 19
    assert max(received.sizes) <= 1 << 20
    assert len(received.sizes) > 2


def test_nothing_is_sent_when_collection_is_off() -> None:
    room = Room("span-metrics", collects=False)
    room.send(named("a"))
    assert room.collect().samples == {}
    assert room.generator.figures()["t"].active_series == 19


# ---- exemplars ----


def test_exemplars() -> None:
    room = made(trace_id_label="trace_id")
    room.wait(1.25)
    room.send(
        request(span(trace=0xAB, duration=1000), span(trace=0xCD, duration=1500), span(trace=1 << 64, duration=SECOND))
    )
    found = {
        (dict(series)["le"], *((labels, time - NOON_MS, value) for labels, time, value in exemplars))
        for series, exemplars in room.collect().exemplars.items()
    }
    assert found == {
        ("0.002", ((("trace_id", "cd"),), 1250, 1.5e-6)),
        ("1.024", ((("trace_id", "10000000000000000"),), 1250, 1.0)),
    }
    assert room.collect().exemplars == {}


# ---- native histograms ----


def native(mode: Any, **settings: Any) -> Room:
    histogram = HistogramSettings((1.0,), mode, **settings)
    return made("span-metrics-latency", "span-metrics", span_metrics=SpanMetricsSettings(histogram=histogram))


@pytest.mark.parametrize(("mode", "classic", "exponential"), [("classic", 4, 0), ("native", 0, 1), ("both", 4, 1)])
def test_modes(mode: str, classic: int, exponential: int) -> None:
    room = native(mode)
    room.send(request(span(duration=SECOND, kind=SERVER)))
    received = room.collect()
    assert sum(LATENCY in dict(s)["__name__"] for s in received.latest()) == classic
    assert [dict(s)["__name__"] for s in received.histograms] == [LATENCY] * exponential


def test_a_native_histogram() -> None:
    room = native("native")
    for _ in range(2):
        room.send(request(*(span(1, n, duration=d) for n, d in enumerate([0, SECOND, SECOND, 2 * SECOND], 1))))
    ((found,),) = room.collect().histograms.values()
    assert (found[1], found[3], found[6], found[15]) == ([8], [8.0], [2], [NOON_MS])
    assert found[4] == [6]  # zigzag of schema 3
    assert found[12] == [bytes([8, 3])]  # counts 4, then 2 less, zigzag


def test_schema_and_buckets_are_prometheus_own() -> None:
    assert [schema_of(f) for f in (1.1, 2, 1.0028, 100_000, 1)] == [3, 0, 8, -4, 8]
    values = np.array([1e-9, 0.3, 0.5, 0.999, 1.0, 1.0001, 1.0905, 1.0906, 2.0, 3.0, 4.0, 1e6])
    for schema in (-2, 0, 3):
        keys = bucket_keys(values, schema)
        base = 2.0 ** (2.0**-schema)
        assert (base**keys >= values * (1 - 1e-12)).all()
        assert (base ** (keys - 1.0) < values).all()
        assert (coarser(keys, 1) == bucket_keys(values, schema - 1)).all()


def test_too_many_buckets_halve_the_resolution_or_begin_anew() -> None:
    room = native("native", native_buckets_max=4, native_reset_seconds=60)
    spread = request(*(span(1, n + 1, duration=SECOND << n) for n in range(8)))
    room.send(spread)
    ((found,),) = room.collect().histograms.values()
    assert found[1] == [8]
    assert found[4] == [3]  # zigzag of schema -2
    room.wait(30)
    room.send(request(span(duration=SECOND << 12, start=NOON + 30 * SECOND)))
    ((found,),) = room.collect().histograms.values()
    assert found[1] == [9]
    room.wait(100)
    room.send(request(*(span(1, n, start=NOON + 120 * SECOND, duration=SECOND << n) for n in range(3, 18, 2))))
    ((found,),) = room.collect().histograms.values()
    assert found[1] == [8]
