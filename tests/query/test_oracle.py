"""The oracle itself, held against facts: the fixture of the language reference, and what Grafana Tempo 2.10 answered.

The recorded answers are not part of the repository; without them those tests are skipped.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import oracle
import oracle_metrics
import pytest
import random_queries
import random_traces
import recorded
from builders import set_value

from vivace.model.proto import otlp_pb2
from vivace.traceql import check, parse

MS = 1_000_000
START = 1_763_812_800_000 * MS

# name: parent, kind, milliseconds, status, attributes
SPANS: dict[str, tuple[str, int, int, int, dict[str, Any]]] = {
    "A1": (
        "",
        2,
        500,
        0,
        {
            "http.method": "GET",
            "http.status_code": 200,
            "i": 2,
            "dup": "S",
            "tags": ["x", "y"],
            "s": "hello",
            "flag": True,
        },
    ),
    "A2": ("A1", 3, 400, 2, {"http.method": "POST", "http.status_code": 500, "i": 5, "s": "world"}),
    "A3": ("A2", 2, 300, 2, {"http.status_code": 500, "i": 7}),
    "A4": ("A3", 3, 50, 1, {"db.system": "pg", "i": 1}),
    "A5": ("A3", 1, 10, 0, {}),
    "B1": ("", 1, 1, 0, {"v": 500}),
    "B2": ("B1", 1, 2, 0, {"v": 500.0}),
    "B3": ("B1", 1, 3, 0, {"v": "500"}),
    "B4": ("B1", 1, 4, 0, {"v": True}),
    "B5": ("B1", 1, 5, 0, {"w": 1}),
    "C1": ("CF", 1, 20, 0, {"i": 9}),
    "C2": ("C1", 1, 10, 0, {}),
}
OFFSETS_MS = {"A2": 10, "A3": 20, "A4": 30, "A5": 90}
WEB = {"service.name": "web", "team": "red", "dup": "R"}
RESOURCES = {
    "A1": WEB,
    "A2": WEB,
    "A": {"service.name": "api"},
    "B": {"service.name": "typed"},
    "C": {"service.name": "orphan"},
}

# Source: the fixture of the language reference, with our divergences (oracle.py, rules 12, 13, 18 and 30).
FIXTURE = [
    ("{}", "A1 A2 A3 A4 A5 / B1 B2 B3 B4 B5 / C1 C2"),
    ("{ status = error }", "A2 A3"),
    ("{ kind = server }", "A1 A3"),
    ('{ name = "A1" || name = "A3" }', "A1 A3"),
    ('{ name =~ "A[12]" }', "A1 A2"),
    ('{ name =~ "A" }', ""),
    ('{ name !~ "A.*" }', "B1 B2 B3 B4 B5 / C1 C2"),
    ('{ resource.service.name = "api" }', "A3 A4 A5"),
    ('{ .service.name = "api" }', "A3 A4 A5"),
    ('{ span.service.name = "api" }', ""),
    ('{ .dup = "R" }', "A2"),
    ('{ .dup = "S" }', "A1"),
    ('{ resource.dup = "R" }', "A1 A2"),
    ("{ span.i > 2 }", "A2 A3 / C1"),
    ("{ span.i != 2 }", "A2 A3 A4 / C1"),
    ("{ span.i >= 2 && span.i < 7 }", "A1 A2"),
    ("{ span.i + 1 = 3 }", "A1"),
    ("{ span.i > 1.5 }", "A1 A2 A3 / C1"),
    ("{ span.i * 1.0 > 1.5 }", "A1 A2 A3 / C1"),
    ("{ span.i = nil }", "A5 / B1 B2 B3 B4 B5 / C2"),
    ("{ span.i != nil }", "A1 A2 A3 A4 / C1"),
    ("{ span.v = 500 }", "B1 B2"),
    ("{ span.v = 500.0 }", "B1 B2"),
    ('{ span.v = "500" }', "B3"),
    ("{ span.v = true }", "B4"),
    ("{ span.v }", "B4"),
    ("{ span.v != 500 }", ""),
    ('{ span.v != "x" }', "B3"),
    ("{ span.v > 499 }", "B1 B2"),
    ("{ span.v + 0 > 499 }", "B1 B2"),
    ("{ span.v != nil }", "B1 B2 B3 B4"),
    ("{ span.flag }", "A1"),
    ("{ span.flag = false }", ""),
    ('{ span.tags = "x" }', "A1"),
    ('{ span.tags != "x" }', "A1"),
    ('{ span.tags =~ "y|z" }', "A1"),
    ('{ span.missing = "a" }', ""),
    ('{ span.missing != "a" }', ""),
    ('{ !(span.missing = "a") }', "A1 A2 A3 A4 A5 / B1 B2 B3 B4 B5 / C1 C2"),
    ("{ duration > 200ms }", "A1 A2 A3"),
    ("{ duration > 200000000 }", "A1 A2 A3"),
    ("{ duration >= 1ms && duration <= 3ms }", "B1 B2 B3"),
    ("{ traceDuration > 400ms }", "A1 A2 A3 A4 A5"),
    ('{ rootName = "A1" }', "A1 A2 A3 A4 A5"),
    ('{ rootServiceName = "web" && status = error }', "A2 A3"),
    ('{ rootName = "" }', "C1 C2"),
    ('{ trace:id = "a000000000000000000000000000000a" }', "A1 A2 A3 A4 A5"),
    ('{ span:id = "aa00000000000003" }', "A3"),
    ('{ span:parentID = "aa00000000000003" }', "A4 A5"),
    ('{ span:parentID = "0000000000000000" }', "A1 / B1"),
    ('{ statusMessage = "boom" }', "A2"),
    ("{ status != ok }", "A1 A2 A3 A5 / B1 B2 B3 B4 B5 / C1 C2"),
    ('{ event:name = "ev1" }', "A1"),
    ("{ event.k = 2 }", "A1"),
    ('{ event:name = "ev1" && event.k = 2 }', ""),
    ("{ event:timeSinceStart > 10ms }", "A1"),
    ('{ link:traceID = "b000000000000000000000000000000b" }', "A1"),
    ('{ link.lk = "v" }', "A1"),
    ('{ instrumentation:name = "lib2" }', "A3 A4 A5"),
    ('{ instrumentation:version = "1.0" }', "A1 A2"),
    ("{ nestedSetParent < 0 }", "A1 / B1"),
    ('{ name = "A1" } > {}', "A2"),
    ('{ name = "A1" } >> {}', "A2 A3 A4 A5"),
    ('{ name = "A3" } < {}', "A2"),
    ('{ name = "A5" } << {}', "A1 A2 A3"),
    ('{ name = "A4" } ~ {}', "A5"),
    ("{ status = error } > { status = error }", "A3"),
    ('{ name = "A1" } !> { kind = client }', "A4"),
    ("{} !< {}", "A4 A5 / B2 B3 B4 B5 / C2"),
    ("{} !> {}", "A1 / B1 / C1"),
    ("{} !>> {}", "A1 / B1 / C1"),
    ('{ name = "A1" } &> { name = "A2" }', "A1 A2"),
    ('{ name = "A4" } &~ {}', "A4 A5"),
    ('{ name = "A1" } &>> { name = "A5" }', "A1 A5"),
    ('{ name = "C1" } > { name = "C2" }', "C2"),
    ("{ kind = server } && { kind = client }", "A1 A2 A3 A4"),
    ('{ name = "A1" } && { name = "B1" }', ""),
    ('{ name = "A1" } || { name = "B1" }', "A1 / B1"),
    ('{ name = "A1" } >> { kind = server } >> { status = ok }', "A4"),
    ("{} | count() > 3", "A1 A2 A3 A4 A5 (count()=5) / B1 B2 B3 B4 B5 (count()=5)"),
    ("{} | count() = 2", "C1 C2 (count()=2)"),
    ("{ status = error } | count() >= 2", "A2 A3 (count()=2)"),
    ("{} | avg(duration) > 200ms", "A1 A2 A3 A4 A5 (avg(duration)=252ms)"),
    ("{} | max(duration) > 450ms", "A1 A2 A3 A4 A5 (max(duration)=500ms)"),
    ("{} | min(span.i) = 1", "A1 A2 A3 A4 A5 (min(span.i)=1)"),
    ("{} | sum(span.i) = 15", "A1 A2 A3 A4 A5 (sum(span.i)=15)"),
    ("{} | avg(span.i) > 3", "A1 A2 A3 A4 A5 (avg(span.i)=3.75) / C1 C2 (avg(span.i)=9)"),
    (
        "{} | by(resource.service.name) | count() > 2",
        "A3 A4 A5 (by(resource.service.name)=api, count()=3) / B1 B2 B3 B4 B5 (by(resource.service.name)=typed, count()=5)",
    ),
    (
        "{} | by(span.http.method) | count() = 1",
        "A1 (by(span.http.method)=GET, count()=1) / A2 (by(span.http.method)=POST, count()=1)",
    ),
    (
        "{} | by(status) | count() = 2",
        "A2 A3 (by(status)=error, count()=2) / A1 A5 (by(status)=unset, count()=2) / C1 C2 (by(status)=unset, count()=2)",
    ),
    ("{} | by(kind) | count() > 0 | coalesce()", "A1 A2 A3 A4 A5 / B1 B2 B3 B4 B5 / C1 C2"),
    ("{ kind = server } | { status = error }", "A3"),
    ("{ status = error } | select(span.http.method, resource.team)", "A2 A3"),
    ("count() > 3", "A1 A2 A3 A4 A5 (count()=5) / B1 B2 B3 B4 B5 (count()=5)"),
    ("{ true || false && false }", ""),
    ('{ .i = 2 || .i = 5 && .s = "hello" }', "A1"),
    ('{ .i = 2 || (.i = 5 && .s = "hello") }', "A1"),
    ("{ duration = traceDuration }", "A1 / B5 / C1"),
    ("{ span.i = span.http.status_code }", ""),
    ("{ span.i < span.http.status_code }", "A1 A2 A3"),
    ('{ "a" != "b" && kind = internal }', "A5 / B1 B2 B3 B4 B5 / C1 C2"),
]


def fixture() -> list[oracle.OTrace]:
    requests = [otlp_pb2.ExportTraceServiceRequest() for _ in SPANS]
    for request, (name, (parent, kind, milliseconds, status, attributes)) in zip(requests, SPANS.items(), strict=True):
        resource_spans = request.resource_spans.add()
        for key, value in RESOURCES.get(name, RESOURCES.get(name[0], {})).items():
            set_value(resource_spans.resource.attributes.add(key=key).value, value)
        scope_spans = resource_spans.scope_spans.add()
        if name[0] == "A":
            scope_spans.scope.name, scope_spans.scope.version = (
                ("lib1", "1.0") if name in ("A1", "A2") else ("lib2", "2.0")
            )
        start = START + OFFSETS_MS.get(name, 0) * MS
        span = scope_spans.spans.add(
            trace_id=trace_id(name[0]),
            span_id=span_id(name),
            parent_span_id=span_id(parent) if parent else b"",
            name=name,
            kind=otlp_pb2.Span.SpanKind.Name(kind),
            start_time_unix_nano=start,
            end_time_unix_nano=start + milliseconds * MS,
            status=otlp_pb2.Status(
                code=otlp_pb2.Status.StatusCode.Name(status), message="boom" if name == "A2" else ""
            ),
        )
        for key, value in attributes.items():
            set_value(span.attributes.add(key=key).value, value)
        if name == "A1":
            for event_name, after_ms, k in (("ev1", 5, 1), ("ev2", 50, 2)):
                event = span.events.add(name=event_name, time_unix_nano=start + after_ms * MS)
                set_value(event.attributes.add(key="k").value, k)
            link = span.links.add(trace_id=trace_id("B"), span_id=span_id("B1"))
            set_value(link.attributes.add(key="lk").value, "v")
    return oracle.traces_of(requests)


def trace_id(letter: str) -> bytes:
    return bytes.fromhex(f"{letter.lower()}0{0:028}0{letter.lower()}")


def span_id(name: str) -> bytes:
    return bytes.fromhex(f"{name[0].lower() * 2}{0:012}{name[1:].lower() * 2 if name[1:] == 'F' else '0' + name[1:]}")


def rendering(found: dict[int, list[oracle.OSpanset]]) -> str:
    """As the table has it: `A1 A2 (count()=2) / B1 (count()=1)`, in any order of spansets."""
    shown = []
    for spanset in (s for spansets in found.values() for s in spansets):
        attributes = ", ".join(f"{k}={v:g}" if isinstance(v, float) else f"{k}={v!s}" for k, v in spanset.attributes)
        names = " ".join(sorted(s.name for s in spanset.spans))
        shown.append(f"{names} ({attributes})" if attributes else names)
    return " / ".join(sorted(shown))


def test_fixture() -> None:
    traces = fixture()
    wrong = []
    for text, expected in FIXTURE:
        got = rendering(oracle.search(check(parse(text)), traces))
        if got != " / ".join(sorted(expected.split(" / "))):
            wrong.append((text, expected, got))
    assert wrong == []


@pytest.fixture(scope="module")
def recorded_traces() -> list[oracle.OTrace]:
    return oracle.traces_of(recorded.requests())


@pytest.mark.skipif(recorded.ABSENT, reason=f"no recorded answers in {recorded.CONFORMANCE}")
def test_recorded_searches(recorded_traces: list[oracle.OTrace]) -> None:
    wrong, count = [], 0
    for answer in recorded.answers("search", "refused"):
        query = check(parse(answer["params"]["q"]))
        found = oracle.search(query, recorded_traces)
        count += 1
        matched = sum(s.matched for spansets in found.values() for s in spansets)
        if answer["divergence"] is not None:
            want: object = answer["divergence"]["matched"]
            got: object = matched
        else:
            want, got = told(answer["body"]), known(query, found)
        if want != got:
            wrong.append((answer["id"], answer["params"]["q"]))
    assert wrong == []
    assert count > 200


def told(body: dict[str, Any]) -> dict[int, Counter[str]]:
    """Trace id → its spansets, spans with all that is shown of them."""
    return {
        int(trace["traceID"], 16): Counter(
            _spanset(
                [
                    (
                        int(s["spanID"], 16),
                        s.get("name", ""),
                        int(s["startTimeUnixNano"]),
                        int(s.get("durationNanos", 0)),
                        recorded.pairs(s.get("attributes")),
                    )
                    for s in spanset["spans"]
                ],
                recorded.pairs(spanset.get("attributes")),
            )
            for spanset in trace.get("spanSets") or []
        )
        for trace in body.get("traces") or []
    }


def known(query: Any, found: dict[int, list[oracle.OSpanset]]) -> dict[int, Counter[str]]:
    """The same of the oracle's answer."""
    said = oracle.Shown(query)
    return {
        trace: Counter(
            _spanset(
                [
                    (
                        s.id,
                        said.name(s) or "",
                        s.start,
                        s.end - s.start,
                        said.attributes(s),
                    )
                    for s in spanset.spans
                ],
                spanset.attributes,
            )
            for spanset in spansets
        )
        for trace, spansets in found.items()
    }


def _spanset(spans: list[tuple[int, str, int, int, list[tuple[str, Any]]]], attributes: list[tuple[str, Any]]) -> str:
    shown = sorted(repr((*rest, sorted(map(repr, pairs)))) for *rest, pairs in spans)
    return f"{shown} {sorted(map(repr, attributes))}"


@pytest.mark.skipif(recorded.ABSENT, reason=f"no recorded answers in {recorded.CONFORMANCE}")
def test_recorded_series(recorded_traces: list[oracle.OTrace]) -> None:
    wrong, count = [], 0
    for answer in recorded.answers("metrics", "instant"):
        q, start, end, step, instant = recorded.asked_series(answer)
        got = oracle_metrics.metrics(check(parse(q)), recorded_traces, start, end, step, instant)
        want = {
            tuple(oracle_metrics.label(*pair) for pair in recorded.pairs(series["labels"])): told_samples(series, end)
            for series in answer["body"].get("series") or []
        }
        if "compare(" in q:
            want = {labels: samples for labels, samples in want.items() if str(labels[0][2]).endswith("_total")}
        count += 1
        if by_name(want) != by_name(got):
            wrong.append((answer["id"], q))
    assert wrong == []
    assert count > 40


def told_samples(series: dict[str, Any], end: int) -> dict[int, float]:
    if "samples" in series:
        return {int(s["timestampMs"]): s.get("value", 0) for s in series["samples"]}
    return {end // MS: series.get("value", 0)}


def by_name(answer: oracle_metrics.Answer) -> dict[str, dict[int, Any]]:
    """Series by their labels in any order, values up to rounding."""
    return {
        str(sorted(map(repr, labels))): {t: pytest.approx(x, rel=1e-9) for t, x in samples.items()}
        for labels, samples in answer.items()
    }


def test_random_queries_are_varied() -> None:
    """That the generators are worth asking: no crash, and neither nothing nor everything found, most of the time."""
    random = Random(7)
    outcomes: Counter[str] = Counter()
    for _ in range(40):
        traces = oracle.traces_of(random_traces.requests(random))
        spans = sum(len(t.spans) for t in traces)
        for _ in range(10):
            found = oracle.search(random_queries.search_query(random), traces)
            matched = sum(s.matched for spansets in found.values() for s in spansets)
            outcomes["nothing" if not matched else "everything" if matched >= spans else "some"] += 1
    assert outcomes["some"] > 80, outcomes
    assert outcomes["nothing"] < 250, outcomes
