"""Names and values of attributes: the same wherever the spans lie, with a filter and without; limits and damage are survived.

The recorded answers are not part of the repository; without them that test is skipped.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import unquote

import builders as b
import oracle_traces
import pytest
import random_traces
import recorded
from builders import NOON, SECOND, TENANT
from engine import PLACES, Place
from oracle_conditions import holds

from vivace.errors import RequestError
from vivace.query.answers import TagsAnswer, TagsRequest, TagValuesAnswer, TagValuesRequest
from vivace.query.control import QueryControl, QueryMemory
from vivace.query.sources import SourceRoom
from vivace.query.tag_values import TagValues
from vivace.query.tags import INTRINSICS, TagNames
from vivace.storage import layout
from vivace.storage.column_cache import ColumnCache
from vivace.traceql import extract_tag_filter
from vivace.traceql.ast import Query, SpansetFilter

MEBIBYTE = 1 << 20
NOON_SECONDS = NOON // SECOND


class Tags:
    """Both engines over one store."""

    def __init__(self, house: b.House, *, bytes_max: int = 0, blocks_max: int = 0) -> None:
        columns = ColumnCache(16 * MEBIBYTE)
        room = SourceRoom(house.store, columns)
        self.seconds_max = 0.0
        self.memory = QueryMemory(64 * MEBIBYTE, 32 * MEBIBYTE)
        self.clock: Callable[[], float] = lambda: 0.0
        self._names = TagNames(house.store, room, columns, bytes_max=lambda tenant: bytes_max)
        self._values = TagValues(
            house.store,
            room,
            columns,
            columns,
            bytes_max=lambda tenant: bytes_max,
            blocks_max=lambda tenant: blocks_max,
        )

    def names(self, scope: str = "", filter: str = "", **asked: Any) -> TagsAnswer:
        return self._names.run(TENANT, TagsRequest(scope, filter, **asked), self.control())

    def values(self, tag: str, filter: str = "", **asked: Any) -> TagValuesAnswer:
        return self._values.run(TENANT, TagValuesRequest(tag, filter, **asked), self.control())

    def values_v1(self, tag: str, **asked: Any) -> tuple[str, ...]:
        return self._values.run_v1(TENANT, TagValuesRequest(tag, **asked), self.control())

    def control(self) -> QueryControl:
        return QueryControl(self.memory, self.clock, self.seconds_max)


@contextmanager
def laid(place: Place, directory: Path, requests: Sequence[Any]) -> Iterator[Tags]:
    with pytest.MonkeyPatch.context() as patch, b.house(directory) as house:
        if place.row_group_spans:
            patch.setattr(layout, "ROW_GROUP_SPANS", place.row_group_spans)
        place.lay(house, requests)
        yield Tags(house)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[b.House]:
    with b.house(tmp_path) as made:
        yield made


def pairs(answer: TagValuesAnswer) -> list[tuple[str, str]]:
    """All values, sorted; none may come twice."""
    assert answer.message == ""
    return sorted((v.type, v.value) for v in answer.values)


def strings(*texts: str) -> list[tuple[str, str]]:
    return sorted(("string", text) for text in texts)


def attributes(answer: TagsAnswer) -> dict[str, tuple[str, ...]]:
    return {scope: names for scope, names in answer.scopes.items() if scope != "intrinsic"}


# -- what is answered -------------------------------------------------------------------------------------------------

REQUESTS = (
    b.request(
        b.span(1, 1, name="GET /", kind=2, duration=4000, attributes={"http.method": "GET", "v": 500, "n": 1, "both": "s"},
               events=[b.event("tick", attributes={"at": 1})]),
        b.span(1, 2, 1, name="db", kind=3, duration=1000, attributes={"v": 500.0, "n": 2, "codes": [1, 2, "x", [3]]}),
        resource={"service.name": "web", "host": "h1", "both": "r"}, scope="lib", version="1.0",
        scope_attributes={"rank": 7},
    ),
    b.request(
        b.span(1, 3, 1, name="POST /cart", start=NOON + SECOND, duration=9000, status=(2, "boom"),
               attributes={"http.method": "POST", "v": "500", "odd": {"x": 1}, "raw": b"\x00", "unset": None},
               links=[b.link(b"\x01" * 16, b"\x02" * 8, attributes={"reason": "retry"})]),
        resource={"service.name": "cart", "host": "h2"},
    ),
    b.request(
        b.span(2, 4, 99, name="orphan", start=NOON + 60 * SECOND, duration=2000, attributes={"v": True, "n": 3, "big": 1e300},
               events=[b.event("tick", attributes={"at": 2}), b.event("", attributes={"at": -1.5})]),
        resource={"region": "eu"},
    ),
)  # fmt: skip
"""Trace 1 has its root in web; trace 2 has none, and no service name."""

DURATION_1 = SECOND + 9000

VALUES: list[tuple[str, str, list[tuple[str, str]]]] = [
    # tag, filter, values
    ("resource.service.name", "", strings("web", "cart", "")),
    ("resource.host", "", strings("h1", "h2")),
    ("span.v", "", [("bool", "true"), ("float", "500.0"), ("int", "500"), ("string", "500")]),
    ("span.big", "", [("float", "1e+300")]),
    ("span.codes", "", [("int", "1"), ("int", "2"), ("string", "x")]),
    ("span.odd", "", []),
    ("span.raw", "", []),
    ("span.unset", "", []),
    ("span.nothing", "", []),
    ("span.both", "", strings("s")),
    (".both", "", strings("r", "s")),
    (".host", "", strings("h1", "h2")),
    (".at", "", []),
    ("event.at", "", [("float", "-1.5"), ("int", "1"), ("int", "2")]),
    ("link.reason", "", strings("retry")),
    ("instrumentation.rank", "", [("int", "7")]),
    ("parent.v", "", []),
    ("name", "", strings("GET /", "db", "POST /cart", "orphan")),
    ("span:name", "", strings("GET /", "db", "POST /cart", "orphan")),
    ("statusMessage", "", strings("", "boom")),
    ("event:name", "", strings("tick", "")),
    ("instrumentation:name", "", strings("lib", "")),
    ("instrumentation:version", "", strings("1.0", "")),
    ("rootName", "", strings("GET /")),
    ("trace:rootService", "", strings("web")),
    ("trace:duration", "", [("int", str(DURATION_1)), ("int", "2000")]),
    ("duration", "", [("int", "1000"), ("int", "2000"), ("int", "4000"), ("int", "9000")]),
    ("status", "", [("keyword", "error"), ("keyword", "ok"), ("keyword", "unset")]),
    ("span:status", "", [("int", "0"), ("int", "2")]),
    ("kind", "{ kind = client }", [("keyword", "client")]),
    ("span:id", "", []),
    ("trace:id", "", []),
    ("link:traceID", "", []),
    ("nestedSetLeft", "", []),
    # filters choose spans
    ("span.http.method", '{ resource.service.name = "cart" }', strings("POST")),
    ("resource.host", "{ status = error }", strings("h2")),
    ("resource.service.name", "{ span.n > 1 }", strings("", "web")),
    ("event.at", '{ name = "orphan" && event:name = "tick" }', [("float", "-1.5"), ("int", "2")]),
    ("link.reason", '{ name = "GET /" }', []),
    ("instrumentation:name", "{ status = error }", strings("")),
    ("rootName", "{ status = error }", strings("GET /")),
    ("trace:duration", '{ name = "db" }', [("int", str(DURATION_1))]),
    ("span.n", '{ rootServiceName = "web" }', [("int", "1"), ("int", "2")]),
    ("span.n", '{ span.nothing = "x" }', []),
    # conditions on the tag itself
    ("span.n", "{ span.n = 2 }", [("int", "2")]),
    ("span.v", "{ span.v = 500 }", [("float", "500.0"), ("int", "500")]),
    ("span.codes", "{ span.codes = 2 }", [("int", "2")]),
    ("event.at", '{ event.at = 2 && name = "orphan" }', [("int", "2")]),
    ("span:status", "{ status = error }", [("int", "2")]),
    ("span.n", "{ span.n > 1 }", [("int", "2"), ("int", "3")]),
    # filters that are unfinished, or too much for a filter, or cannot hold
    ("span.n", "{ span.http.method = ", [("int", "1"), ("int", "2"), ("int", "3")]),
    ("span.n", '{ resource.service.name = "cart" } || { }', [("int", "1"), ("int", "2"), ("int", "3")]),
    ("span.n", "{ name = 1 }", []),
]

V1_VALUES: list[tuple[str, tuple[str, ...]]] = [
    ("http.method", ("GET", "POST")),
    ("v", ("500", "500.0", "true")),
    ("both", ("r", "s")),
    ("service.name", ("", "cart", "web")),
    ("name", ("GET /", "POST /cart", "db", "orphan")),
    ("rootServiceName", ("web",)),
    ("status", ()),
    ("at", ()),
    ("status.code", ("0", "1", "2", "error", "ok", "unset")),
    ("error", ("true",)),
]

EVERYTHING = {
    "span": ("big", "both", "codes", "http.method", "n", "odd", "raw", "unset", "v"),
    "resource": ("both", "host", "region", "service.name"),
    "instrumentation": ("rank",),
    "event": ("at",),
    "link": ("reason",),
}

NAMES: list[tuple[str, str, dict[str, tuple[str, ...]]]] = [
    # scope, filter, names
    ("", "", EVERYTHING),
    ("none", "", EVERYTHING),
    ("intrinsic", "", {}),
    *((scope, "", {scope: names}) for scope, names in EVERYTHING.items()),
    ("", "{ name = 1 }", {}),
    (
        "",
        "{ status = error }",
        {"span": ("http.method", "odd", "raw", "unset", "v"), "resource": ("host", "service.name"), "link": ("reason",)},
    ),
    ("span", '{ rootName = "GET /" && kind = client }', {"span": ("codes", "http.method", "n", "v")}),
    ("event", '{ name = "orphan" }', {"event": ("at",)}),
    # service.name and http.method are well known, so they are named of any span
    ("", "{ span.n = 3 }", {"span": ("big", "http.method", "n", "v"), "resource": ("region", "service.name"), "event": ("at",)}),
    ("", "{ span.n = 4 }", {}),
]  # fmt: skip


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
def test_answers(place: Place, tmp_path: Path) -> None:
    with laid(place, tmp_path, REQUESTS) as tags:
        for _ in range(2):  # at first from the files, then from what is remembered
            for tag, filter, values in VALUES:
                assert pairs(tags.values(tag, filter)) == sorted(values), (tag, filter)
        for tag, texts in V1_VALUES:
            assert tags.values_v1(tag) == texts, tag
        for scope, filter, names in NAMES:
            assert attributes(tags.names(scope, filter)) == names, (scope, filter)


@pytest.mark.parametrize(
    ("scope", "filter", "named"),
    [("", "", True), ("none", "{ span.n = 4 }", True), ("intrinsic", "", True), ("span", "", False), ("", "{ name = 1 }", False)],
)  # fmt: skip
def test_intrinsics_are_named_where_asked_for(house: b.House, scope: str, filter: str, named: bool) -> None:
    house.send(*REQUESTS)
    assert Tags(house).names(scope, filter, limit=3).scopes.get("intrinsic") == (INTRINSICS if named else None)


def test_a_tag_that_is_no_identifier(house: b.House) -> None:
    with pytest.raises(
        RequestError, match=r"please provide a valid tagName: failed to parse identifier service\.name: "
    ):
        Tags(house).values("service.name")


@pytest.mark.parametrize("cut", [True, False], ids=["block", "head"])
def test_resources_that_no_span_has_count_for_nothing(house: b.House, cut: bool) -> None:
    """Row 0 of the tables of resources and scopes is the empty one, had or not."""
    house.send(b.request(b.span(1), resource={"service.name": "a"}, scope="lib"))
    if cut:
        house.store.cut(TENANT, everything=True)
    house.send(b.request(b.span(2, start=NOON + 60 * SECOND), resource={"service.name": "b", "late": "x"}, scope="lib"))
    tags = Tags(house)
    assert pairs(tags.values("resource.service.name")) == strings("a", "b")
    assert pairs(tags.values("instrumentation:name")) == strings("lib")
    early = {"end_seconds": NOON_SECONDS + 30}
    assert pairs(tags.values("resource.service.name", **early)) == strings("a")
    assert attributes(tags.names("resource", **early)) == {"resource": ("service.name",)}


# -- limits -----------------------------------------------------------------------------------------------------------


def many(house: b.House, *, cut: bool = True) -> None:
    """Three blocks of 10 values each, the newest from v20 to v29; a minute apart."""
    for block in range(3):
        start = NOON + block * 60 * SECOND
        spans = (
            b.span(block * 10 + i + 1, start=start, duration=0, attributes={"v": f"v{block}{i}", f"k{i}": i})
            for i in range(10)
        )
        house.send(b.request(*spans))
        if cut:
            house.store.cut(TENANT, everything=True)


@pytest.mark.parametrize("cut", [True, False], ids=["blocks", "head"])
@pytest.mark.parametrize(
    ("limits", "asked", "count", "message"),
    [
        ({}, {}, 30, ""),
        ({}, {"limit": 30}, 30, ""),
        ({}, {"limit": 29}, 29, "only 29 values are given"),
        ({}, {"limit": 1}, 1, "only 1 values are given"),
        ({"bytes_max": 270}, {}, 30, ""),
        ({"bytes_max": 269}, {}, 29, "larger than read.max_bytes_per_tag_values_query, 269 bytes"),
        ({"bytes_max": 8}, {}, 0, "larger than read.max_bytes_per_tag_values_query, 8 bytes"),
    ],
)
@pytest.mark.parametrize("filter", ["", '{ name = "" }'])
def test_values_over_a_limit(
    house: b.House, cut: bool, limits: dict[str, int], asked: dict[str, int], count: int, message: str, filter: str
) -> None:
    many(house, cut=cut)
    answer = Tags(house, **limits).values("span.v", filter, **asked)
    assert len(answer.values) == count
    assert message in answer.message
    assert bool(message) == bool(answer.message)


@pytest.mark.parametrize("filter", ["", '{ name = "" }'])
def test_only_the_newest_blocks_are_read(house: b.House, filter: str) -> None:
    many(house)
    answer = Tags(house, blocks_max=2).values("span.v", filter)
    assert {v.value[:2] for v in answer.values} == {"v1", "v2"}
    assert answer.message == "only the newest 2 of 3 blocks were read: read.max_blocks_per_tag_values_query"
    assert answer.cost.total_blocks == 2


def test_no_more_is_read_than_a_limit_needs(house: b.House) -> None:
    many(house)
    answer = Tags(house).values("span.v", limit=5)
    assert {v.value[:2] for v in answer.values} == {"v2"}
    assert (answer.cost.completed_jobs, answer.cost.total_jobs) == (1, 3)


@pytest.mark.parametrize(("limits", "asked", "count"), [({}, {"limit": 4}, 4), ({"bytes_max": 7}, {}, 3), ({}, {}, 11)])
@pytest.mark.parametrize("filter", ["", '{ name = "" }'])
def test_names_over_a_limit(
    house: b.House, limits: dict[str, int], asked: dict[str, int], count: int, filter: str
) -> None:
    many(house)
    assert len(Tags(house, **limits).names("span", filter, **asked).scopes["span"]) == count


@pytest.mark.parametrize("filter", ["", '{ name = "" }'])
def test_the_time_is_up(house: b.House, filter: str) -> None:
    many(house)
    tags = Tags(house)
    clock = iter(range(100))
    tags.clock, tags.seconds_max = (lambda: float(next(clock))), 2.0
    answer = tags.values("span.v", filter)
    assert {v.value[:2] for v in answer.values} == {"v2"}
    assert answer.message == "the time limit was reached before all data was searched, a partial response is returned"
    assert tags.names("span", '{ name = "" }').cost.completed_jobs == 1


def test_a_source_too_large_for_memory_is_said(house: b.House) -> None:
    many(house)
    tags = Tags(house)
    tags.memory = QueryMemory(100, 100)
    for filter in ("", '{ name = "" }'):
        answer = tags.values("span.v", filter)
        assert not answer.values
        assert "is too large for the memory of a query" in answer.message


# -- ranges -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [True, False], ids=["blocks", "head"])
@pytest.mark.parametrize("filter", ["", '{ name = "" }'])
@pytest.mark.parametrize(
    ("start", "end", "blocks"),
    [
        (None, None, "012"),
        (0, 0, "0"),
        (60, None, "12"),
        (None, 60, "01"),
        (59, 61, "1"),
        (120, None, "2"),
        (121, None, ""),
        (61, 119, ""),
    ],
)
def test_a_range_chooses_blocks_and_parts(
    house: b.House, cut: bool, filter: str, start: int | None, end: int | None, blocks: str
) -> None:
    many(house, cut=cut)
    asked = {
        "start_seconds": None if start is None else NOON_SECONDS + start,
        "end_seconds": None if end is None else NOON_SECONDS + end,
    }
    tags = Tags(house)
    assert {v.value[1] for v in tags.values("span.v", filter, **asked).values} == set(blocks)
    assert bool(tags.names("span", filter, **asked).scopes) == bool(blocks)


def test_a_range_chooses_row_groups(house: b.House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "ROW_GROUP_SPANS", 10)
    many(house, cut=False)
    house.store.cut(TENANT, everything=True)
    tags = Tags(house)
    for _ in range(2):
        answer = tags.values("span.v", start_seconds=NOON_SECONDS + 50, end_seconds=NOON_SECONDS + 70)
        assert {v.value[1] for v in answer.values} == {"1"}
    assert len(tags.values("span.v").values) == 30


# -- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("filter", ["", '{ name = "" }'])
@pytest.mark.parametrize("file", [layout.SPANS, layout.RESOURCES])
def test_a_damaged_block_costs_its_own_values_only(house: b.House, filter: str, file: str) -> None:
    many(house)
    house.restart()  # blocks that were found on disk are checked before they are read
    path = next((house.directory / "blocks").glob(f"*/0002/{file}"))
    b.flip_byte(path, path.stat().st_size - 30)
    tags = Tags(house)
    assert {v.value[:2] for v in tags.values("span.v", filter).values} == {"v0", "v2"}
    assert house.quarantined == 1
    assert len(tags.names("span", filter).scopes["span"]) == 11


# -- the same as one by one -------------------------------------------------------------------------------------------

FILTERS = ("", "{ span.i > 1 }", '{ resource.service.name = "web" }', "{ event.b = true }", "{ status = error }")
TAGS = ("span.mixed", "resource.mixed", "event.many", "link.tags", "instrumentation.s", ".i", "resource.service.name")


def belongings(span: oracle_traces.OSpan) -> list[tuple[str, dict[str, Any]]]:
    """All attributes of a span and what hangs on it, by scope."""
    return [
        ("span", span.attributes),
        ("resource", span.resource),
        ("instrumentation", span.scope_attributes),
        *(("event", event.attributes) for event in span.events),
        *(("link", link.attributes) for link in span.links),
    ]


def satisfying(spans: Sequence[oracle_traces.OSpan], filter: str) -> list[oracle_traces.OSpan]:
    match extract_tag_filter(filter):
        case Query(pipeline=(SpansetFilter(expression=expression),)) if expression is not None:
            return [span for span in spans if holds(expression, span)]
        case _:
            return list(spans)


def all_names(spans: Sequence[oracle_traces.OSpan]) -> set[tuple[str, str]]:
    return {(scope, name) for span in spans for scope, attributes in belongings(span) for name in attributes}


def all_values(spans: Sequence[oracle_traces.OSpan], tag: str) -> set[tuple[str, str]]:
    scope, name = tag.split(".", 1)
    found: set[tuple[str, str]] = set()
    for span in spans:
        for own_scope, attributes in belongings(span):
            if own_scope == scope or (not scope and own_scope in ("span", "resource")):
                value = attributes.get(name, "" if (own_scope, name) == ("resource", "service.name") else None)
                found |= {as_pair(v) for v in (value if isinstance(value, tuple) else (value,)) if is_scalar(v)}
    return found


def is_scalar(value: Any) -> bool:
    return type(value) in (str, int, float, bool)


def as_pair(value: Any) -> tuple[str, str]:
    kinds = {str: "string", int: "int", float: "float", bool: "bool"}
    return kinds[type(value)], str(value).lower() if type(value) is bool else str(value)


WELL_KNOWN = {("resource", "service.name"), ("span", "http.status_code")}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
def test_as_if_each_span_was_looked_at(place: Place, seed: int, tmp_path: Path) -> None:
    requests = random_traces.requests(Random(seed), settled=True)
    spans = [span for trace in oracle_traces.traces_of(requests) for span in trace.spans]
    with laid(place, tmp_path, requests) as tags:
        for filter in FILTERS:
            chosen = satisfying(spans, filter)
            names = {(s, name) for s, found in attributes(tags.names("", filter)).items() for name in found}
            well_known = all_names(spans) & WELL_KNOWN if chosen else set()
            assert names == all_names(chosen) | well_known, (seed, filter)
            for tag in TAGS:
                expected = all_values(chosen, tag)
                if tag == "resource.service.name" and tag in filter:
                    expected &= {("string", "web")}
                assert pairs(tags.values(tag, filter)) == sorted(expected), (seed, tag, filter)


# -- as Tempo answered ------------------------------------------------------------------------------------------------


@pytest.mark.skipif(recorded.ABSENT, reason="no recorded answers")
@pytest.mark.parametrize("place", PLACES[:2], ids=lambda place: place.name)
def test_recorded_answers(place: Place, tmp_path: Path) -> None:
    added = json.loads((recorded.CONFORMANCE / "divergences.json").read_text())
    seen = 0
    with b.house(tmp_path) as house:
        house.send(*recorded.requests())
        if place.name == "block":
            house.store.cut(TENANT, everything=True)
        tags = Tags(house)
        for answer in map(json.loads, gzip.decompress(recorded.ANSWERS.read_bytes()).splitlines()):
            asked, body = answer["params"], answer["body"]
            if answer["group"] not in ("tags", "values") or answer["status"] != 200 or "limit" in asked:
                continue
            seen += 1
            own, said = _both(tags, answer["path"], asked, body)
            for scope, names in added.get(answer["id"], {}).get("add", {}).items():
                said |= {(scope, name) for name in names} if "scopes" in body else set(names)
            assert own == said, answer["id"]
    assert seen > 30


def _both(tags: Tags, path: str, asked: dict[str, str], body: dict[str, Any]) -> tuple[set[Any], set[Any]]:
    """What is answered here and what Tempo answered, in one form."""
    range = {"start_seconds": int(asked["start"]), "end_seconds": int(asked["end"])}
    if path.endswith("/search/tags"):
        scope = asked.get("scope", "")
        found = tags.names(scope, asked.get("q", ""), **range).scopes
        if "scopes" in body:
            own = {(scope, name) for scope, names in found.items() for name in names}
            return own, {(scope["name"], name) for scope in body["scopes"] for name in scope["tags"]}
        merged = {name for key, names in found.items() if key != "intrinsic" or scope == key for name in names}
        return merged, set(body["tagNames"])
    tag = unquote(path.split("/tag/")[1].removesuffix("/values"))
    if path.startswith("/api/v2/"):
        values = tags.values(tag, asked.get("q", ""), **range).values
        return {(v.type, v.value) for v in values}, {(v["type"], v.get("value", "")) for v in body["tagValues"]}
    return set(tags.values_v1(tag, **range)), set(body["tagValues"])
