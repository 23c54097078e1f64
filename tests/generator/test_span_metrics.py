"""Span metrics: what is counted under which labels."""

from __future__ import annotations

from typing import Any

import pytest
from builders import NOON, SECOND, Pairs, request, span
from room import CLIENT, ERROR, SERVER, Room

from vivace.generator.settings import Mapping, Match, Multiplier, Policy, SpanMetricsSettings

CALLS, LATENCY = "traces_spanmetrics_calls_total", "traces_spanmetrics_latency"


def made(**settings: Any) -> Room:
    return Room("span-metrics", span_metrics=SpanMetricsSettings(**settings))


def calls(resource: Pairs, attributes: Pairs, **settings: Any) -> list[dict[str, str]]:
    """The labels under which one server span counts, intrinsic ones aside."""
    room = made(**settings)
    room.send(request(span(attributes=attributes, kind=SERVER, name="GET"), resource=resource))
    intrinsic = {"span_name": "GET", "span_kind": "SPAN_KIND_SERVER", "status_code": "STATUS_CODE_UNSET"}
    found = [labels for labels, _ in room.values(CALLS)]
    assert all(intrinsic.items() <= labels.items() for labels in found)
    return [{n: v for n, v in labels.items() if n not in intrinsic} for labels in found]


def test_intrinsic_labels() -> None:
    room = made(intrinsics=frozenset({"service", "span_name", "span_kind", "status_code", "status_message"}))
    room.send(
        request(
            span(1, 1, name="a", kind=CLIENT, status=(2, "broken")),
            span(1, 2, name="b", kind=0, status=(1, "")),
            span(1, 3, name="a", kind=CLIENT, status=(2, "broken")),
            span(1, 4, name="c", kind=77),
            resource={"service.name": "shop"},
        )
    )
    assert room.values(CALLS) == [
        (
            {
                "service": "shop", "span_kind": "77", "span_name": "c", "status_code": "STATUS_CODE_UNSET",
            },
            1,
        ),
        (
            {
                "service": "shop", "span_kind": "SPAN_KIND_CLIENT", "span_name": "a",
                "status_code": "STATUS_CODE_ERROR", "status_message": "broken",
            },
            2,
        ),
        (
            {
                "service": "shop", "span_kind": "SPAN_KIND_UNSPECIFIED", "span_name": "b",
                "status_code": "STATUS_CODE_OK",
            },
            1,
        ),
    ]  # fmt: skip


def test_no_labels_at_all() -> None:
    room = made(intrinsics=frozenset())
    room.send(request(span(1, 1), span(1, 2)))
    assert room.values(CALLS) == [({}, 2)]


LABELS: list[tuple[str, Pairs, Pairs, dict[str, Any], dict[str, str]]] = [
    ("resource before span", {"k": "r"}, {"k": "s"}, {"dimensions": ("k",)}, {"k": "r"}),
    ("an empty one on the resource hides the span's", {"k": ""}, {"k": "s"}, {"dimensions": ("k",)}, {}),
    ("missing", {}, {"other": 1}, {"dimensions": ("k",)}, {}),
    ("first of two", {}, [("k", "a"), ("k", "b")], {"dimensions": ("k",)}, {"k": "a"}),
    ("types", {}, {"a": 200, "b": True, "c": 0.5}, {"dimensions": ("a", "b", "c")}, {"a": "200", "b": "true", "c": "0.5"}),
    ("dots", {"service.name": "x"}, {"http.method": "GET"}, {"dimensions": ("service.name", "http.method")}, {"service": "x", "service_name": "x", "http_method": "GET"}),
    ("a taken name", {}, {"service": "x", "span.kind": "y"}, {"dimensions": ("service", "span.kind")}, {"__service": "x", "__span_kind": "y"}),
    ("one name twice, the later wins", {}, {"a.b": "1", "a_b": "2"}, {"dimensions": ("a.b", "a_b")}, {"a_b": "2"}),
    ("one name twice, the later is missing", {}, {"a.b": "1"}, {"dimensions": ("a.b", "a_b")}, {"a_b": "1"}),
    ("a mapping", {"a": "1"}, {"b": "2", "c": ""}, {"mappings": (Mapping("x.y", ("a", "c", "b"), "/"),)}, {"x_y": "1/2"}),
    ("a mapping of nothing", {}, {}, {"mappings": (Mapping("x", ("a",), "/"),)}, {}),
    ("a template", {}, {"http.target": "/users/17?x=1"}, {"dimensions": ("http.target",), "templates": frozenset({"http.target"})}, {"http_target": "/users/{id}"}),
    ("intrinsics off", {"service.name": "x"}, {}, {"intrinsics": frozenset({"span_name", "span_kind", "status_code"})}, {}),
    ("reserved names", {}, {"le": "1", "__name__": "2"}, {"dimensions": ("le", "__name__")}, {}),
]  # fmt: skip


@pytest.mark.parametrize(("case", "resource", "attributes", "settings", "labels"), LABELS, ids=[c[0] for c in LABELS])
def test_labels(
    case: str, resource: Pairs, attributes: Pairs, settings: dict[str, Any], labels: dict[str, str]
) -> None:
    assert calls(resource, attributes, **settings) == [labels]


def test_some_resources_say_it_and_some_spans() -> None:
    room = made(dimensions=("k",), intrinsics=frozenset())
    room.send(
        request(span(1, 1, attributes={"k": "s1"}), resource={"k": "r"}),
        request(span(1, 2, attributes={"k": "s2"}), span(1, 3), resource={"other": "x"}),
    )
    assert room.values(CALLS) == [({}, 1), ({"k": "r"}, 1), ({"k": "s2"}, 1)]


def test_templates_fold_series() -> None:
    room = made(dimensions=("http.target",), templates=frozenset({"http.target"}))
    room.send(request(*(span(1, n, attributes={"http.target": f"/users/{n}"}) for n in range(1, 50))))
    ((labels, count),) = room.values(CALLS)
    assert (labels["http_target"], count) == ("/users/{id}", 49)


def test_latency_and_size() -> None:
    room = made()
    spans = [span(1, n, duration=d) for n, d in enumerate([2_000_000, 3_000_000, 20 * SECOND, -5], 1)]
    room.send(request(*spans))
    assert room.values(f"{LATENCY}_count")[0][1] == 4
    assert room.values(f"{LATENCY}_sum")[0][1] == pytest.approx(20.005)
    buckets = {labels["le"]: value for labels, value in room.values(f"{LATENCY}_bucket")}
    assert (buckets["0.002"], buckets["0.004"], buckets["16.384"], buckets["+Inf"]) == (2, 3, 3, 4)
    assert len(buckets) == 15
    assert room.values("traces_spanmetrics_size_total")[0][1] == sum(s.ByteSize() for s in spans)


def test_counts_go_on_over_batches_and_dictionaries() -> None:
    room = made(dimensions=("k",))
    for _ in range(3):
        room.send(request(span(1, 1, attributes={"k": "v"})), request(span(1, 2, attributes={"k": 7})))
        room.dictionary = type(room.dictionary)()
    assert [(labels.get("k"), n) for labels, n in room.values(CALLS)] == [("7", 3), ("v", 3)]


@pytest.mark.parametrize(
    ("part", "families"),
    [
        ("span-metrics-count", {CALLS}),
        ("span-metrics-size", {"traces_spanmetrics_size_total"}),
        ("span-metrics-latency", {f"{LATENCY}_bucket", f"{LATENCY}_sum", f"{LATENCY}_count"}),
    ],
)
def test_parts(part: str, families: set[str]) -> None:
    room = Room(part)
    room.send(request(span()))
    assert {dict(s)["__name__"] for s in room.collect().latest()} == families


def test_latency_under_more_names() -> None:
    room = made(latency_aliases=("traces_spanmetrics_duration_seconds",))
    room.send(request(span(trace=5)))
    received = room.collect()
    for kind in ("bucket", "sum", "count"):
        usual = received.of(f"{LATENCY}_{kind}")
        assert usual
        assert received.of(f"traces_spanmetrics_duration_seconds_{kind}") == usual
    assert {dict(s)["__name__"] for s in received.exemplars} == {
        f"{LATENCY}_bucket", "traces_spanmetrics_duration_seconds_bucket",
    }  # fmt: skip


# ---- weights ----

WEIGHTS: list[tuple[str, Pairs, Pairs, str, Multiplier, float]] = [
    ("span", {}, {"ratio": 0.25}, "", Multiplier("ratio"), 4),
    ("resource", {"ratio": 0.5}, {}, "", Multiplier("ratio"), 2),
    ("span first", {"ratio": 0.5}, {"ratio": 0.1}, "", Multiplier("ratio"), 10),
    ("integers do not count", {}, {"ratio": 2}, "", Multiplier("ratio"), 1),
    ("nor does zero", {}, {"ratio": 0.0}, "", Multiplier("ratio"), 1),
    ("trace state", {}, {}, "a=b,ot=rv:1;th:c,x=y", Multiplier(tracestate=True), 4),
    ("trace state without threshold", {}, {}, "ot=rv:1", Multiplier(tracestate=True), 1),
    ("the key wins", {}, {"ratio": 0.5}, "ot=th:c", Multiplier("ratio", True), 2),
]


@pytest.mark.parametrize(("case", "resource", "attributes", "state", "multiplier", "weight"), WEIGHTS)
def test_weights(
    case: str, resource: Pairs, attributes: Pairs, state: str, multiplier: Multiplier, weight: float
) -> None:
    room = made(multiplier=multiplier)
    room.send(request(span(attributes=attributes, trace_state=state, duration=SECOND), resource=resource))
    assert room.values(CALLS)[0][1] == pytest.approx(weight)
    assert room.values(f"{LATENCY}_sum")[0][1] == pytest.approx(weight)


# ---- filter policies: name -> (policies, kept names) ----


def strict(*comparisons: tuple[str, Any]) -> Match:
    return Match(False, comparisons)


def regex(*comparisons: tuple[str, Any]) -> Match:
    return Match(True, comparisons)


POLICIES: dict[str, tuple[list[Policy], str]] = {
    "kind": ([Policy(strict(("kind", "SPAN_KIND_SERVER")))], "a"),
    "status": ([Policy(strict(("status", "STATUS_CODE_ERROR")))], "b"),
    "name": ([Policy(strict(("name", "c")))], "c"),
    "string": ([Policy(strict(("span.s", "x")))], "a"),
    "int": ([Policy(strict(("span.n", 1)))], "a"),
    "an int is no string": ([Policy(strict(("span.n", "1")))], ""),
    "float": ([Policy(strict(("span.f", 0.5)))], "b"),
    "bool": ([Policy(strict(("span.b", True)))], "c"),
    "resource": ([Policy(strict(("resource.service.name", "shop")))], "abc"),
    "all of several": ([Policy(strict(("kind", "SPAN_KIND_SERVER"), ("name", "b")))], ""),
    "regex is not anchored": ([Policy(regex(("kind", "SERV|CLI")))], "ab"),
    "regex of an attribute": ([Policy(regex(("span.s", "^.$")))], "ab"),
    "regex wants strings": ([Policy(regex(("span.n", "1")))], ""),
    "exclude": ([Policy(exclude=strict(("name", "a")))], "bc"),
    "include and exclude": ([Policy(regex(("name", "[ab]")), exclude=strict(("name", "a")))], "b"),
    "every policy": ([Policy(regex(("name", "[ab]"))), Policy(regex(("name", "[bc]")))], "b"),
    "any of several": ([Policy(include_any=strict(("name", "a"), ("name", "c")))], "ac"),
}


@pytest.mark.parametrize("case", POLICIES)
def test_policies(case: str) -> None:
    policies, kept = POLICIES[case]
    room = made(policies=tuple(policies))
    room.send(
        request(
            span(1, 1, name="a", kind=SERVER, attributes={"s": "x", "n": 1}),
            span(1, 2, name="b", kind=CLIENT, status=ERROR, attributes={"s": "y", "f": 0.5}),
            span(1, 3, name="c", attributes={"s": "long", "b": True}),
            resource={"service.name": "shop"},
        )
    )
    assert "".join(sorted(labels["span_name"] for labels, _ in room.values(CALLS))) == kept
    assert room.counted["discarded", "span_metrics_filtered", "span-metrics"] == 3 - len(kept)


@pytest.mark.parametrize("match", [strict(("foo", 1)), regex(("name", "("))])
def test_policies_that_cannot_be_used(match: Match, caplog: pytest.LogCaptureFixture) -> None:
    room = made(policies=(Policy(match),))
    room.send(request(span()))
    assert room.collect().samples == {}
    assert room.counted[("update_failed",)] == 1
    assert "span-metrics cannot be used" in caplog.text


# ---- target info ----


def test_target_info() -> None:
    room = made(target_info=True, target_info_excluded=frozenset({"secret"}))
    room.send(
        request(
            span(1, 1),
            resource={
                "service.name": "shop", "service.namespace": "eu", "service.instance.id": "i1", "host.name": "h",
                "secret": "x", "1st": "y", "job": "z", "n": 3,
            },
        ),
        request(span(1, 2), resource={"service.name": "bare"}),
        request(span(1, 3), resource={"host.name": "nobody"}),
    )  # fmt: skip
    info = {"job": "eu/shop", "instance": "i1", "host_name": "h", "__job": "z", "n": "3"}
    assert room.values("traces_target_info") == [(info, 1)]
    found = sorted((labels.get("job", ""), labels.get("instance", "")) for labels, _ in room.values(CALLS))
    assert found == [("", ""), ("bare", ""), ("eu/shop", "i1")]


def test_target_info_without_instance() -> None:
    room = made(target_info=True, instance_label=False)
    room.send(request(span(), resource={"service.name": "s", "service.instance.id": "i", "a": "b"}))
    assert room.values("traces_target_info") == [({"job": "s", "a": "b"}, 1)]
    assert "instance" not in room.values(CALLS)[0][0]


def test_spans_of_long_ago_or_of_next_week_do_not_count() -> None:
    room = made()
    room.wait(100)
    now = NOON + 100 * SECOND
    room.send(
        request(
            span(1, 1, start=now - 31 * SECOND, duration=0, name="old"),
            span(1, 2, start=now - 60 * SECOND, duration=31 * SECOND, name="ended in time"),
            span(1, 3, start=now + 6 * 86400 * SECOND, name="future", attributes={"k": "v"}),
            span(1, 4, start=now, name="now"),
        )
    )
    assert sorted(labels["span_name"] for labels, _ in room.values(CALLS)) == ["ended in time", "now"]
    assert room.counted["discarded", "outside_metrics_ingestion_slack", ""] == 2


def test_hosts() -> None:
    room = Room("host-info")
    room.send(
        request(span(1, 1), resource={"host.id": "h1", "k8s.node.name": "n1"}),
        request(span(1, 2), resource={"host.id": "h2", "k8s.node.name": 5}),
        request(span(1, 3), resource={"other": "x"}),
    )
    assert room.values("traces_host_info") == [
        ({"grafana_host_id": "h2", "host_source": "host.id"}, 1),
        ({"grafana_host_id": "n1", "host_source": "k8s.node.name"}, 1),
    ]
