"""/api/search over an engine with fixed answers: its JSON to the letter, the same in protobuf, errors, what is counted."""

from __future__ import annotations

import asyncio
import json
import math

import numpy as np
import orjson
import pytest
from engines import NOW, PROTOBUF, Engines
from hypothesis import given
from hypothesis import strategies as st

from vivace.api.deps import QueryLimits
from vivace.api.messages import any_value, search_response
from vivace.api.otlp_json import double_text
from vivace.api.query_json import search_json
from vivace.api.questions import counted
from vivace.api.typed_json import double_texts, finished, value_json
from vivace.errors import InvariantError, UnavailableError
from vivace.model.proto.tempopb_pb2 import SearchResponse
from vivace.query.answers import (
    FoundSpan,
    FoundSpanset,
    QueryCost,
    SearchAnswer,
    ServiceStats,
    TraceSummary,
    Value,
)

SPANS = (
    FoundSpan(1, "root <op>", 1795332631961263261, 500_000_000, (("http.status_code", 200), ("status", "unset"))),
    FoundSpan(2**64 - 1, None, 0, 0, ()),
)
FOUND = SearchAnswer(
    (
        TraceSummary(
            0x123456789ABCDEF,
            "frontend",
            "root-op",
            1795332631961263261,
            173_811_999_999,
            (
                FoundSpanset(SPANS, 5, (("by(resource.service.name)", "a&b"), ("count()", 5))),
                FoundSpanset(SPANS[1:], 1),
            ),
            {"frontend": ServiceStats(2, 0), "backend": ServiceStats(3, 1)},
        ),
        TraceSummary(2**127, None, None, 0, 999_999),
    ),
    QueryCost(2, 7, 22609, 1, 2, 4, 35108),
)
SPAN_1 = (
    '{"spanID":"0000000000000001","name":"root \\u003cop\\u003e","startTimeUnixNano":"1795332631961263261",'
    '"durationNanos":"500000000","attributes":[{"key":"http.status_code","value":{"intValue":"200"}},'
    '{"key":"status","value":{"stringValue":"unset"}}]}'
)
SPAN_2 = '{"spanID":"ffffffffffffffff"}'
SPANSET_1 = (
    f'{{"spans":[{SPAN_1},{SPAN_2}],"matched":5,"attributes":[{{"key":"by(resource.service.name)","value":'
    '{"stringValue":"a\\u0026b"}},{"key":"count()","value":{"intValue":"5"}}]}'
)
FOUND_JSON = (
    '{"traces":[{"traceID":"123456789abcdef","rootServiceName":"frontend","rootTraceName":"root-op",'
    f'"startTimeUnixNano":"1795332631961263261","durationMs":173811,"spanSet":{SPANSET_1},'
    f'"spanSets":[{SPANSET_1},{{"spans":[{SPAN_2}],"matched":1}}],'
    '"serviceStats":{"backend":{"spanCount":3,"errorCount":1},"frontend":{"spanCount":2}}},'
    '{"traceID":"80000000000000000000000000000000","rootServiceName":"\\u003croot span not yet received\\u003e"}],'
    '"metrics":{"inspectedTraces":2,"inspectedBytes":"22609","totalBlocks":1,"completedJobs":2,"totalJobs":4,'
    '"totalBlockBytes":"35108","inspectedSpans":"7"}}'
)


def test_json() -> None:
    reply = Engines(found=FOUND).ask("/api/search?q={}")
    assert (reply.status_code, reply.headers["content-type"], reply.text) == (200, "application/json", FOUND_JSON)
    assert reply.headers["vary"] == "Accept-Encoding"


def test_nothing_found() -> None:
    assert Engines().ask("/api/search").text == '{"traces":[],"metrics":{}}'
    assert Engines().ask("/api/search", PROTOBUF).content == b"\x12\x00"


def test_partial_and_explained() -> None:
    answer = SearchAnswer((), QueryCost(), message="stopped after 30s", explain="scan a\n  scan b > 1")
    assert Engines(found=answer).ask("/api/search?explain=1").text == (
        '{"traces":[],"metrics":{},"status":"PARTIAL","message":"stopped after 30s","explain":["scan a","  scan b \\u003e 1"]}'
    )


def test_protobuf_says_the_same() -> None:
    reply = Engines(found=FOUND).ask("/api/search?q={}", PROTOBUF)
    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/protobuf")
    message = SearchResponse.FromString(reply.content)
    first, second = message.traces
    assert (first.traceID, first.durationMs, first.rootServiceName) == ("123456789abcdef", 173_811, "frontend")
    assert first.spanSet == first.spanSets[0]
    assert [span.spanID for span in first.spanSet.spans] == ["0000000000000001", "ffffffffffffffff"]
    assert first.spanSet.spans[0].attributes[0].value.int_value == 200
    assert first.spanSets[0].attributes[1].key == "count()"
    assert (first.serviceStats["backend"].spanCount, first.serviceStats["frontend"].errorCount) == (3, 0)
    assert (second.rootServiceName, second.HasField("spanSet")) == ("<root span not yet received>", False)
    assert (message.metrics.inspectedBytes, message.metrics.inspectedSpans) == (22609, 7)


def test_padded_ids() -> None:
    engines = Engines(found=FOUND, limits=QueryLimits(left_pad_trace_ids=True))
    assert engines.ask("/api/search").json()["traces"][0]["traceID"] == "00000000000000000123456789abcdef"
    message = SearchResponse.FromString(engines.ask("/api/search", PROTOBUF).content)
    assert message.traces[0].traceID == "00000000000000000123456789abcdef"


URLS = {
    "?q={}&limit=7&limit=9": (7, 3, None, None),
    "?q={}&limit=&spss=9": (20, 9, None, None),
    "?start=5&end=9": (20, 3, 5, 9),
}


@pytest.mark.parametrize("url", URLS)
def test_what_the_engine_is_asked(url: str) -> None:
    engines = Engines()
    engines.ask(f"/api/search{url}")
    (asked,) = engines.asked
    limit, spans, start, end = URLS[url]
    assert (asked.limit, asked.spans_max, asked.end_seconds) == (limit, spans, end)
    assert asked.start_seconds == (start or NOW - 168 * 3600)


REFUSED = {
    "?q={": (400, "invalid TraceQL query: parse error at line 1, col 2: syntax error: unexpected $end"),
    "?limit=0": (400, "invalid limit: must be a positive number"),
    "?start=9&end=5": (400, "http parameter start must be before end. received start=9 end=5"),
    "?q={}|rate()&tags=a": (400, "invalid request: can't specify tags and q in the same query"),
    "?q=" + "x" * 3000: (
        400,
        "invalid TraceQL query: parse error at line 1, col 1: syntax error: unexpected IDENTIFIER",
    ),
}


@pytest.mark.parametrize("url", REFUSED)
def test_refused(url: str) -> None:
    engines = Engines()
    reply = engines.ask(f"/api/search{url}")
    assert (reply.status_code, reply.text) == REFUSED[url]
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert engines.asked == []


def test_errors_of_the_engine() -> None:
    assert Engines(error=UnavailableError("busy")).ask("/api/search").status_code == 503
    assert Engines(error=InvariantError("bug")).ask("/api/search").status_code == 500


def test_prefix_and_absence() -> None:
    assert Engines().ask("/t/api/search", http_api_prefix="/t").status_code == 200
    assert Engines().ask("/api/search", http_api_prefix="/t").status_code == 404


def test_counted() -> None:
    engines = Engines(found=FOUND)
    engines.ask("/api/search")
    text = engines.telemetry.render("")[0].decode()
    assert 'tempo_query_frontend_queries_total{op="search",result="completed",tenant="single-tenant"} 1.0' in text
    assert 'tempo_query_frontend_bytes_inspected_total{op="search",tenant="single-tenant"} 22609.0' in text
    assert 'tempo_query_frontend_result_metrics_duration_seconds_count{op="search"} 1.0' in text


def test_cancelled_is_counted_so() -> None:
    engines = Engines()

    async def leave() -> None:
        task = asyncio.ensure_future(counted(engines.telemetry, "search", "t", asyncio.sleep(60)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(leave())
    text = engines.telemetry.render("")[0].decode()
    assert 'tempo_query_frontend_queries_total{op="search",result="canceled",tenant="t"} 1.0' in text


# ---- values ----

VALUES: list[tuple[Value, str]] = [
    ("", '{"stringValue":""}'),
    ("a<b>\u2028\u2029\x00\"é", '{"stringValue":"a\\u003cb\\u003e\\u2028\\u2029\\u0000\\"é"}'),
    (0, '{"intValue":"0"}'),
    (-(2**63), '{"intValue":"-9223372036854775808"}'),
    (False, '{"boolValue":false}'),
    (0.5, '{"doubleValue":0.5}'),
    (7.0, '{"doubleValue":7}'),
    (1e21, '{"doubleValue":1e+21}'),
    (math.nan, '{"doubleValue":"NaN"}'),
    (-math.inf, '{"doubleValue":"-Infinity"}'),
    (b"\x00\xff\xfe", '{"bytesValue":"AP/+"}'),
    (("a", 1, ()), '{"arrayValue":{"values":[{"stringValue":"a"},{"intValue":"1"},{"arrayValue":{}}]}}'),
    ({"k": None, "m": {}}, '{"kvlistValue":{"values":[{"key":"k","value":{}},{"key":"m","value":{"kvlistValue":{}}}]}}'),
    (None, "{}"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "text"), VALUES)
def test_values(value: Value, text: str) -> None:
    assert finished(orjson.dumps(value_json(value))).decode() == text


def test_values_in_protobuf() -> None:
    for value, text in VALUES:
        (kind, *_) = [*json.loads(text), None]
        assert any_value(value).WhichOneof("value") == (kind and kind.replace("Value", "_value"))
    nested = any_value(({"k": b"b"}, 2.5)).array_value.values
    assert (nested[0].kvlist_value.values[0].value.bytes_value, nested[1].double_value) == (b"b", 2.5)


@given(st.lists(st.floats()))
def test_double_texts_are_double_text(values: list[float]) -> None:
    texts = double_texts(np.array(values, np.float64))
    assert [text.decode() for text in texts] == [double_text(value) for value in values]


def test_a_large_answer_is_rendered_the_same() -> None:
    """Above the size that is rendered on the event loop, and compressed."""
    many = SearchAnswer(FOUND.traces * 2000, QueryCost())
    reply = Engines(found=many).ask("/api/search", {"Accept-Encoding": "gzip"})
    assert (reply.headers["content-encoding"], reply.content) == ("gzip", search_json(many))
    assert len(search_response(many).traces) == 4000
