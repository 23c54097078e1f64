"""Tag names and values over an engine with fixed answers: forms of v1 and v2, what the engine is asked, errors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from engines import PROTOBUF, Engines

from vivace.api.deps import QueryLimits
from vivace.api.metrics import MetricsRoutes
from vivace.api.search import SearchRoutes
from vivace.api.tags import TagRoutes
from vivace.errors import RequestError
from vivace.model.proto.tempopb_pb2 import (
    SearchTagsResponse,
    SearchTagsV2Response,
    SearchTagValuesResponse,
    SearchTagValuesV2Response,
)
from vivace.query.answers import QueryCost, TagsAnswer, TagsRequest, TagValue, TagValuesAnswer, TagValuesRequest

COST = QueryCost(5, 6, 100, 1, 2, 3, 400)
METRICS_JSON = '{"inspectedBytes":"100","totalJobs":3,"completedJobs":2,"totalBlocks":1,"totalBlockBytes":"400"}'
NAMES = TagsAnswer({"resource": ("a", "x"), "span": ("a", "b<c"), "intrinsic": ("duration", "name")}, COST)
VALUES = TagValuesAnswer((TagValue("string", "a&b"), TagValue("string", ""), TagValue("int", "200")), COST)
WEEK = 168 * 3600
RANGE = f"start=1&end={WEEK}"


def engines(**changes: Any) -> Engines:
    return Engines(tag_names=NAMES, tag_values=VALUES, **changes)


REPLIES = {
    "/api/search/tags": '{"tagNames":["a","b\\u003cc","x"],"metrics":' + METRICS_JSON + "}",
    "/api/search/tags?limit=2": '{"tagNames":["a","b\\u003cc"],"metrics":' + METRICS_JSON + "}",
    "/api/search/tags?scope=none": '{"tagNames":["a","b\\u003cc","x"],"metrics":' + METRICS_JSON + "}",
    "/api/search/tags?scope=intrinsic": '{"tagNames":["a","b\\u003cc","duration","name","x"],"metrics":' + METRICS_JSON + "}",
    "/api/v2/search/tags": '{"scopes":[{"name":"resource","tags":["a","x"]},{"name":"span","tags":["a","b\\u003cc"]},'
    '{"name":"intrinsic","tags":["duration","name"]}],"metrics":' + METRICS_JSON + "}",
    "/api/search/tag/http.url/values": '{"tagValues":["a\\u0026b","","200"],"metrics":{}}',
    "/api/v2/search/tag/span.http.url/values": '{"tagValues":[{"type":"string","value":"a\\u0026b"},{"type":"string"},'
    '{"type":"int","value":"200"}],"metrics":' + METRICS_JSON + "}",
}  # fmt: skip


@pytest.mark.parametrize("path", REPLIES)
def test_json(path: str) -> None:
    reply = engines().ask(path)
    assert (reply.status_code, reply.headers["content-type"], reply.text) == (200, "application/json", REPLIES[path])


def test_empty_answers() -> None:
    paths = ("/api/search/tags", "/api/v2/search/tags", "/api/search/tag/a/values", "/api/v2/search/tag/.a/values")
    assert [Engines().ask(path).text for path in paths] == [
        '{"tagNames":[],"metrics":{}}',
        '{"scopes":[],"metrics":{}}',
        '{"tagValues":[],"metrics":{}}',
        '{"tagValues":[],"metrics":{}}',
    ]


def test_values_that_were_left_out_are_spoken_of() -> None:
    partial = Engines(tag_values=TagValuesAnswer((), QueryCost(), "over 1 MB"))
    reply = partial.ask("/api/v2/search/tag/.a/values")
    assert reply.text == '{"tagValues":[],"metrics":{},"status":"PARTIAL","message":"over 1 MB"}'


def test_protobuf() -> None:
    def content(path: str) -> bytes:
        reply = engines().ask(path, PROTOBUF)
        assert reply.headers["content-type"] == "application/protobuf"
        return reply.content

    names = SearchTagsResponse.FromString(content("/api/search/tags"))
    assert (list(names.tagNames), names.metrics.totalBlockBytes) == (["a", "b<c", "x"], 400)
    scopes = SearchTagsV2Response.FromString(content("/api/v2/search/tags"))
    assert {scope.name: tuple(scope.tags) for scope in scopes.scopes} == NAMES.scopes
    assert scopes.metrics.inspectedBytes == 100
    values = SearchTagValuesResponse.FromString(content("/api/search/tag/a/values"))
    assert list(values.tagValues) == ["a&b", "", "200"]
    typed = SearchTagValuesV2Response.FromString(content("/api/v2/search/tag/.a/values"))
    assert [(v.type, v.value) for v in typed.tagValues] == [("string", "a&b"), ("string", ""), ("int", "200")]
    assert (typed.metrics.totalJobs, typed.metrics.completedJobs) == (3, 2)


ASKED = {
    f"/api/search/tags?{RANGE}&limit=7&q={{name=%22x%22}}": TagsRequest("", "", 1, WEEK, 7),
    f"/api/v2/search/tags?{RANGE}&scope=span&q={{+a+}}": TagsRequest("span", "{ a }", 1, WEEK, 0),
    f"/api/search/tag/a/b%2Fc/values?{RANGE}&q={{}}": TagValuesRequest("a/b/c", "", 1, WEEK, 0),
    f"/api/v2/search/tag/span.a%20b/values?{RANGE}&limit=9&q={{}}": TagValuesRequest("span.a b", "{}", 1, WEEK, 9),
    f"/api/v2/search/tag/trace%253Aid/values?{RANGE}": TagValuesRequest("trace:id", "", 1, WEEK, 0),
    f"/api/v2/search/tag/.a/values/values?{RANGE}": TagValuesRequest(".a/values", "", 1, WEEK, 0),
}


@pytest.mark.parametrize("path", ASKED)
def test_what_the_engine_is_asked(path: str) -> None:
    house = engines()
    assert house.ask(path).status_code == 200
    assert house.asked == [ASKED[path]]


TOO_LONG = (
    "TraceQL expression exceeds the configured maximum size of 100 bytes, "
    "reduce the query expression size or contact your system administrator"
)
REFUSED = {
    "/api/search/tags?scope=bogus": (400, "invalid scope: bogus"),
    "/api/v2/search/tags?scope=bogus": (400, "invalid scope: bogus"),
    "/api/v2/search/tags?limit=-1": (400, "invalid limit: must be a non-negative number"),
    "/api/v2/search/tag/.a/values?start=9&end=5": (400, "http parameter start must be before end. received start=9 end=5"),
    "/api/search/tag/a/values?start=1&end=700000": (400, "range specified by start and end exceeds 168h0m0s. received start=1 end=700000"),
    "/api/v2/search/tags?q=" + "x" * 101: (400, TOO_LONG),
    "/api/v2/search/tag/.a/values?q=" + "x" * 101: (400, TOO_LONG),
    "/api/search/tag//values": (301, ""),
    "/api/search/tag/values": (404, "404 page not found\n"),
}  # fmt: skip


@pytest.mark.parametrize("path", REFUSED)
def test_refused(path: str) -> None:
    house = engines(limits=QueryLimits(expression_bytes_max=100))
    reply = house.ask(path)
    assert (reply.status_code, reply.text) == REFUSED[path]
    assert house.asked == []


def test_a_tag_that_is_none() -> None:
    house = engines(error=RequestError("please provide a valid tagName"))
    reply = house.ask("/api/v2/search/tag/service.name/values")
    assert (reply.status_code, reply.text) == (400, "please provide a valid tagName")


def test_counted() -> None:
    house = engines()
    house.ask("/api/v2/search/tags")
    house.ask("/api/v2/search/tag/.a/values")
    text = house.telemetry.render("")[0].decode()
    assert 'tempo_query_frontend_queries_total{op="metadata",result="completed",tenant="single-tenant"} 2.0' in text
    assert 'tempo_query_frontend_bytes_inspected_total{op="metadata",tenant="single-tenant"} 200.0' in text


def test_every_query_route_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs/http-api.md").read_text().split("## Query routes")[1].split("\n## ")[0]
    deps: Any = type("Deps", (), {"http_api_prefix": ""})
    families = [family(deps, Engines().queries()) for family in (SearchRoutes, TagRoutes, MetricsRoutes)]
    paths = {route.path for family in families for route in family.routes()}
    assert paths == set(re.findall(r"^\| `(\S+)` \|", page, re.MULTILINE))
