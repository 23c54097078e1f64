"""Searches: the engine against the oracle on random spans and against what Grafana Tempo answered; and what random queries do not reach.

The laws of the language are the oracle's (oracle.py); here stands no second opinion on them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import builders as b
import oracle
import pytest
import random_queries
import random_traces
import recorded
from builders import NOON, SECOND
from engine import PLACES, Engine, Place, cut, engine, expected, found, in_head, in_one_block, laid

from vivace.api.parameters import asked_search
from vivace.api.query_json import search_json
from vivace.errors import RequestError
from vivace.query.answers import LegacyTags, SearchAnswer
from vivace.query.control import QueryMemory, QueryStoppedError
from vivace.traceql import canonical

MILLISECOND = 1_000_000

SEEDS = range(4)
QUERIES = 14
"""Random queries for each of SEEDS and PLACES. Thousands were asked when the engine was made; these keep it so."""


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
@pytest.mark.parametrize("seed", SEEDS)
def test_random_queries_on_random_spans(tmp_path: Path, place: Place, seed: int) -> None:
    random = Random(seed)
    requests = random_traces.requests(random, settled=place.settled)
    traces = oracle.traces_of(requests)
    wrong = []
    with laid(place, tmp_path, requests) as made:
        for _ in range(QUERIES):
            query = random_queries.search_query(random)
            start = random_traces.START // SECOND + random.randrange(random_traces.SPAN_MINUTES * 60)
            limit = random.randint(1, 3)
            everything, in_time = expected(query, traces), expected(query, traces, start, start + 60)
            answers = (
                (found(made.search(query)), everything),
                (found(made.search(query)), everything),  # as it was remembered
                (found(made.search(query, limit=limit)), everything[:limit]),
                (found(made.search(query, start_seconds=start, end_seconds=start + 60)), in_time),
            )
            wrong += [(canonical(query), got, want) for got, want in answers if got != want]
    assert wrong == []


# -- recorded answers -------------------------------------------------------------------------------------------------

OVER_RECORDED = {"block": in_one_block, "head": in_head}


@pytest.fixture(scope="module", params=OVER_RECORDED)
def recorded_engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with engine(tmp_path_factory.mktemp("recorded")) as made:
        requests = recorded.requests()
        if request.param == "head":
            made.house.send(*requests)
        else:
            OVER_RECORDED[request.param](made.house, requests)
        yield made


@pytest.mark.skipif(recorded.ABSENT, reason=f"no recorded answers in {recorded.CONFORMANCE}")
def test_recorded_searches(recorded_engine: Engine) -> None:
    judge = recorded.judge()
    wrong, count = [], 0
    for answer in recorded.answers("search", "params", "refused", with_query=False):
        if answer["path"] != "/api/search":
            continue
        asked = asked_search(answer["params"], now=0)
        got = recorded_engine.search(
            asked.query or None,
            tags=asked.tags,
            start_seconds=asked.range.start,
            end_seconds=asked.range.end,
            limit=asked.limit or 20,
            spans_max=3 if asked.spans is None else asked.spans,
        )
        body = json.loads(search_json(got))
        divergence = answer["divergence"]
        why = judge.instead(divergence, answer, 200, body) if divergence else judge.judge(answer, 200, body)
        count += 1
        if why is not None:
            wrong.append((answer["id"], answer["params"], why))
    assert wrong == []
    assert count > 200


# -- what random queries do not reach ---------------------------------------------------------------------------------

HIGH = 0xAB << 120

SPANS = (
    b.request(
        b.span(0xABC1D, 1, name="short id", attributes={"big": 2**63 - 1, "small": -(2**63), "x": 2**53 + 1, "n": 7}),
        b.span(0xABC1D, 2, 1, name="child", attributes={"big": 2**63 - 2, "nan": math.nan, "inf": math.inf}),
        b.span(0xABC1D, 0x0F, 1, name="quoted", attributes={'a "b" {c}': "d", "é": "ü", "sp ace": True}),
        resource={"service.name": "ids", "x": "text", "both": 1},
    ),
    b.request(
        b.span(
            HIGH | 7,
            0xFFFF_FFFF_FFFF_FFFF,
            name="odd",
            attributes=[
                ("none", None),
                ("empty", []),
                ("bytes", b"\x00"),
                ("map", {"k": 1}),
                ("mixed", [1, "a", 2.5, True, [9]]),
                ("both", "span"),
                ("x", "own"),
                ("n", 7.0),
                ("twice", 5),
                ("twice", "text"),
                ("lines", "one\ntwo"),
            ],
            links=[b.link(bytes.fromhex("00" * 14 + "0c1d"), bytes.fromhex("00000000000000aa")), b.link(b"", b"")],
            events=[b.event("first", NOON), b.event("last", NOON + MILLISECOND, {"k": 1})],
        ),
        resource={"service.name": 7, "both": 1},
        scope="lib",
    ),
    b.request(b.span(3, 3, 0x99, name="orphan"), b.span(3, 4, 3, name="below")),
)

# query, names of the spans found
TABLE = [
    # ids: case and leading zeros do not matter, no id is not an id of zeros only by its spelling
    ('{ trace:id = "abc1d" }', "child quoted short id"),
    ('{ trace:id = "000ABC1D" }', "child quoted short id"),
    ('{ trace:id = "0x1" }', ""),
    ('{ trace:id != "abc1d" }', "below odd orphan"),
    ('{ trace:id = "ab000000000000000000000000000007" }', "odd"),
    ('{ trace:id = "1ab000000000000000000000000000007" }', ""),
    ('{ trace:id =~ "ab0+7" }', "odd"),
    ('{ span:id = "F" }', "quoted"),
    ('{ span:id = "ffffffffffffffff" }', "odd"),
    ('{ span:id != "zz" }', "below child odd orphan quoted short id"),
    ('{ span:parentID = "" }', "odd short id"),
    ('{ span:parentID = "0000000000000000" }', "odd short id"),
    ('{ span:parentID = "1" }', "child quoted"),
    ('{ link:traceID = "C1D" }', "odd"),
    ('{ link:spanID = "aa" && link:traceID = "" }', ""),
    ('{ link:spanID = "" && link:traceID = "" }', "odd"),
    # regular expressions
    ('{ span.lines =~ "one.two" }', "odd"),
    ('{ span.lines =~ "one" }', ""),
    ('{ span.lines =~ ".*two" }', "odd"),
    ('{ span.lines !~ ".*three.*" }', "odd"),
    ('{ span.é =~ "." }', "quoted"),
    ('{ name =~ "(?i)SHORT\\\\s.*" }', "short id"),
    ('{ name =~ "" }', ""),
    ('{ name =~ ".*" }', "below child odd orphan quoted short id"),
    ('{ name =~ ".*or.*" }', "orphan short id"),
    ('{ name =~ ".*.*" }', "below child odd orphan quoted short id"),
    ('{ name =~ "odd|child" }', "child odd"),
    # large numbers
    ("{ span.big = 9223372036854775807 }", "short id"),
    ("{ span.big < 9223372036854775807 }", "child"),
    ("{ span.small = minInt }", "short id"),
    ("{ span.big + 1 > 0 }", "child"),
    ("{ span.big - 1 = 9223372036854775806 }", "short id"),
    ("{ -span.small > 0 }", ""),
    ("{ span.small / -1 > 0 }", ""),
    ("{ span.x = 9007199254740993 }", "short id"),
    ("{ span.x = 9007199254740992 }", ""),
    ("{ span.x * 3 = 27021597764222979 }", "short id"),
    ("{ span.big ^ 2 > 0 }", ""),
    # not a number, and no end
    ("{ span.nan = span.nan }", ""),
    ("{ span.nan != span.nan }", "child"),
    ("{ span.nan > 0 || span.nan <= 0 }", ""),
    ("{ span.inf > 9223372036854775807 }", "child"),
    ("{ span.inf - span.inf = 0 || span.inf + 1 > 0 }", ""),
    # nil, and what no comparison reaches
    ("{ span.none != nil }", ""),
    ("{ span.none = nil }", "below child odd orphan quoted short id"),
    ("{ span.empty != nil && span.bytes != nil && span.map != nil }", "odd"),
    ('{ span.empty = "" || span.bytes = "" || span.map = 1 || span.empty != 1 }', ""),
    ("{ event.k = nil }", "odd"),
    ("{ nil = nil }", ""),
    # arrays: any element; not those of arrays inside
    ('{ span.mixed = 1 && span.mixed = "a" && span.mixed = 2.5 && span.mixed = true }', "odd"),
    ("{ span.mixed = 9 }", ""),
    ("{ span.mixed }", "odd"),
    ("{ span.mixed = span.mixed && span.mixed != span.mixed }", "odd"),
    # one key with several types, at span and resource
    ('{ .x = "own" }', "odd"),
    ('{ .x = "text" }', "child quoted"),
    ("{ .both = 1 }", "child quoted short id"),
    ('{ .both = "span" }', "odd"),
    ("{ resource.both = 1 }", "child odd quoted short id"),
    ('{ span.twice = "text" }', "odd"),
    ("{ span.twice = 5 }", ""),
    ("{ resource.service.name = 7 }", "odd"),
    ('{ resource.service.name = "" }', "below orphan"),
    # names that need quotes
    ('{ span."a \\"b\\" {c}" = "d" }', "quoted"),
    ('{ span."sp ace" }', "quoted"),
    # structure
    ("{ nestedSetParent < 0 }", "odd short id"),
    ("{ nestedSetParent = 0 }", "orphan"),
    ("{ nestedSetLeft = 1 && nestedSetRight = 6 }", "short id"),
    ("{ span:childCount = 2 }", "short id"),
    ("{ span:childCount > 0 }", "orphan short id"),
    ('{ } >> { name = "below" }', "below"),
    # events
    ('{ event:name = "first" && event.k = 1 }', ""),
    ("{ event:timeSinceStart = 1ms }", "odd"),
    # a condition as a value is one of the span
    ('{ (event:name = "first") = (event.k = 1) }', "below child odd orphan quoted short id"),
    ('{ (event:name = "first") && ((event.k = 1) = true) }', "odd"),
]


@pytest.fixture(scope="module", params=["head", "block"])
def table_engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with engine(tmp_path_factory.mktemp("table")) as made:
        made.house.send(*SPANS)
        if request.param == "block":
            cut(made.house)
        yield made


@pytest.mark.parametrize(("query", "names"), TABLE, ids=[query for query, _ in TABLE])
def test_table(table_engine: Engine, query: str, names: str) -> None:
    shown = table_engine.search(f"{query} | select(name)")
    assert " ".join(sorted(names_in(shown))) == names


def names_in(answer: SearchAnswer) -> list[str]:
    return [span.name or "" for trace in answer.traces for spanset in trace.spansets for span in spanset.spans]


# query; of the one span that is found, what is shown
SHOWN: list[tuple[str, dict[str, Any]]] = [
    ("{ span.twice != nil } | select(span.empty, span.bytes, span.map, span.mixed, span.none)",
     {"twice": "text", "empty": (), "bytes": b"\x00", "map": {"k": 1}, "mixed": (1, "a", 2.5, True, (9,))}),
    ('{ event:name = "last" || event:name = "first" }', {"event:name": "last"}),
    ('{ span.mixed = "a" || span.mixed = 1 }', {"mixed": (1, "a")}),
    ("{ span.mixed = 2.5 }", {"mixed": 2.5}),
    ('{ span:id = "ffffffffffffffff" } | select(span:parentID, link:spanID, link:traceID, trace:id)',
     {"span:parentID": "0" * 16, "link:spanID": f"{0xaa:016x}", "link:traceID": f"{0xc1d:032x}"}),
    ('{ span:id = "ffffffffffffffff" } | select(event:timeSinceStart, kind, status)',
     {"event:timeSinceStart": "0s", "kind": "unspecified", "status": "unset"}),
]  # fmt: skip


@pytest.mark.parametrize(("query", "attributes"), SHOWN, ids=[query for query, _ in SHOWN])
def test_shown(table_engine: Engine, query: str, attributes: dict[str, Any]) -> None:
    (trace,) = table_engine.search(query).traces
    assert dict(trace.spansets[0].spans[0].attributes) == attributes


# tags, least and greatest duration in milliseconds; names of the root spans found
LEGACY: list[tuple[dict[str, str], int | None, int | None, list[str]]] = [
    ({}, None, None, ["a", "b"]),
    ({"service.name": "shop"}, None, None, ["a"]),
    ({"service.name": "ho"}, None, None, ["a"]),
    ({"service.name": "ho", "http.method": "POST"}, None, None, ["a"]),
    ({"http.status_code": "500"}, None, None, ["a"]),
    ({"http.status_code": "50"}, None, None, []),
    ({"http.status_code": "²"}, None, None, []),
    ({"status.code": "error"}, None, None, ["b"]),
    ({"status.code": "Error"}, None, None, []),
    ({"plain": "val"}, None, None, []),
    ({"plain": "value"}, None, None, ["b"]),
    ({"number": "1"}, None, None, []),
    ({"name": "a2"}, None, None, ["a"]),
    ({"root.name": "b"}, None, None, ["b"]),
    ({}, 50, None, ["b"]),
    ({}, None, 50, ["a"]),
    ({"plain": "value"}, None, 50, []),
]


@pytest.mark.parametrize("place", [in_head, in_one_block])
def test_searches_by_tags(tmp_path: Path, place: Any) -> None:
    """Each tag may hold on another span of the trace. Nothing is told of spansets and services."""
    first = b.request(
        b.span(1, 1, name="a", start=NOON + SECOND, attributes={"http.status_code": 500}),
        b.span(1, 2, 1, name="a2", start=NOON + SECOND, attributes={"http.method": "POST"}),
        resource={"service.name": "shop"},
    )
    second = b.request(
        b.span(2, 1, name="b", duration=100 * MILLISECOND, status=(2, ""), attributes={"plain": "value", "number": 1})
    )
    with engine(tmp_path) as made:
        place(made.house, [first, second])
        for tags, least, most, names in LEGACY:
            bounds = [None if ms is None else ms * MILLISECOND for ms in (least, most)]
            answer = made.search(None, tags=LegacyTags(tags, *bounds))
            assert [t.root_name for t in answer.traces] == names, (tags, least, most)
            assert all(t.spansets == () and t.services is None for t in answer.traces)
        assert [t.root_name for t in made.search(None).traces] == ["a", "b"], "an empty query is for everything"


def test_most_recent_changes_nothing(table_engine: Engine) -> None:
    for limit in (1, 2, 3):
        plain = table_engine.search("{ }", limit=limit)
        assert found(table_engine.search("{ } with(most_recent=true)", limit=limit)) == found(plain)


@pytest.mark.parametrize(
    "query",
    [
        "{ } | by(name) | { } > { }",
        "{ } | by(name) | ({ } | count() > 0) && ({ })",
        "({ } | by(name)) >> ({ })",
    ],
)
def test_operators_need_one_spanset_a_trace(table_engine: Engine, query: str) -> None:
    with pytest.raises(RequestError, match="spanset operators are not supported for multiple spansets per trace"):
        table_engine.search(query)


# query; attributes of the spansets found
LABELS = [
    ("{ } | count() > 2", [(("count()", 3),)]),
    ("({ } | count() > 2) | max(duration) > 0", [(("count()", 3), ("max(duration)", "1µs"))]),
    ("{ } | ({ } | count() > 2)", [(("count()", 3),)]),
    ("({ } | count() > 2) && ({ })", [()]),
    ("{ } | count() > 2 | { } && { }", [()]),
    ("{ } | count() > 2 | { name = `child` }", [(("count()", 3),)]),
    ("{ } | count() > 2 | coalesce()", [()]),
    (
        "({ trace:id = `abc1d` } | by(span.big)) | count() = 1",
        [
            (("by(span.big)", 2**63 - 2), ("count()", 1)),
            (("by(span.big)", 2**63 - 1), ("count()", 1)),
            (("by(span.big)", "nil"), ("count()", 1)),
        ],
    ),
    ("{ trace:id = `abc1d` } | sum(span.big) < 0", []),
    ("{ } | max(span.n) > 0", [(("max(span.n)", 7),), (("max(span.n)", 7.0),)]),
    ("{ trace:id = `abc1d` } | min(span.big) > 0", [(("min(span.big)", 2**63 - 2),)]),
]


@pytest.mark.parametrize(("query", "labels"), LABELS, ids=[query for query, _ in LABELS])
def test_attributes_of_spansets(table_engine: Engine, query: str, labels: list[Any]) -> None:
    found = [s.attributes for trace in table_engine.search(query).traces for s in trace.spansets]
    assert repr(found) == repr(labels)  # 7 and 7.0 are not the same


def test_spans_of_a_spanset_are_cut_off(table_engine: Engine) -> None:
    (trace,) = table_engine.search('{ trace:id = "abc1d" }', spans_max=2).traces
    assert [(len(s.spans), s.matched) for s in trace.spansets] == [(2, 3)]


# -- limits -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def two_blocks(tmp_path: Path) -> Iterator[Engine]:
    """Two blocks, the newer one larger."""
    with engine(tmp_path) as made:
        for trace, spans in ((1, 1), (2, 50)):
            started = NOON + trace * SECOND
            made.house.send(b.request(*(b.span(trace, i + 1, name=f"{trace}", start=started) for i in range(spans))))
            cut(made.house)
        yield made


def test_out_of_time(two_blocks: Engine) -> None:
    ticks = iter(range(1000))
    two_blocks.clock, two_blocks.seconds_max = lambda: float(next(ticks)), 4
    answer = two_blocks.search("{ }")
    assert answer.message == "the time limit was reached before all data was searched, a partial response is returned"
    assert [t.root_name for t in answer.traces] == ["2"], "the newest are there"
    assert answer.cost.completed_jobs == 1


def test_too_large_for_the_memory(two_blocks: Engine) -> None:
    two_blocks.memory = QueryMemory(1000, 1000)
    answer = two_blocks.search("{ }")
    assert [t.root_name for t in answer.traces] == ["1"]
    assert answer.message == (
        "block 0002 row group 0 is too large for the memory of a query, a partial response is returned"
    )
    assert (two_blocks.memory.refusals, two_blocks.memory.used) == (1, 0)


def test_stopped(two_blocks: Engine) -> None:
    control = two_blocks.control()
    control.stop()
    with pytest.raises(QueryStoppedError):
        two_blocks.search("{ }", control=control)
