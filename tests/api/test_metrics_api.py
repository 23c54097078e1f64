"""TraceQL metrics over an engine with fixed answers: their JSON to the letter, protobuf for gRPC, errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
from engines import PROTOBUF, Engines

from vivace.api.messages import instant_response, range_response
from vivace.model.proto.tempopb_pb2 import PARTIAL, QueryInstantResponse, QueryRangeResponse
from vivace.query.answers import Exemplar, MetricsAnswer, QueryCost, Series, SummaryRow

MINUTES = np.array([60_000, 120_000, 180_000], np.int64)
EXEMPLARS = (Exemplar((("trace:id", "12ab"), ("p", 0.5)), 0.0022, 1795332631961), Exemplar((), 0.0, 0))
MADE = MetricsAnswer(
    (
        Series((("resource.service.name", "a<b"),), MINUTES, np.array([0.0, 2.0, 0.1]), EXEMPLARS),
        Series((("ok", False), ("n", 0), ("p", 1.0)), MINUTES.copy(), np.array([math.nan, -0.0, 1e21])),
        Series((), MINUTES[:1], np.array([math.inf])),
        Series((("__name__", "rate"),), MINUTES[:0], np.array([])),
    ),
    QueryCost(inspected_bytes=9, completed_jobs=1, total_jobs=1),
)
MADE_JSON = (
    '{"series":[{"labels":[{"key":"resource.service.name","value":{"stringValue":"a\\u003cb"}}],'
    '"samples":[{"timestampMs":"60000"},{"timestampMs":"120000","value":2},{"timestampMs":"180000","value":0.1}],'
    '"exemplars":[{"labels":[{"key":"trace:id","value":{"stringValue":"12ab"}},{"key":"p","value":{"doubleValue":0.5}}],'
    '"value":0.0022,"timestampMs":"1795332631961"},{"labels":[]}]},'
    '{"labels":[{"key":"ok","value":{"boolValue":false}},{"key":"n","value":{"intValue":"0"}},'
    '{"key":"p","value":{"doubleValue":1}}],"samples":[{"timestampMs":"60000","value":"NaN"},'
    '{"timestampMs":"120000","value":-0},{"timestampMs":"180000","value":1e+21}]},'
    '{"labels":[],"samples":[{"timestampMs":"60000","value":"Infinity"}]},'
    '{"labels":[{"key":"__name__","value":{"stringValue":"rate"}}],"samples":[]}],'
    '"metrics":{"inspectedBytes":"9","completedJobs":1,"totalJobs":1}}'
)
RATE = "q={}|rate()"


@pytest.mark.parametrize("headers", [{}, PROTOBUF, {"Accept": "application/vnd.grafana.llm"}])
def test_range_is_always_json(headers: dict[str, str]) -> None:
    reply = Engines(made=MADE).ask(f"/api/metrics/query_range?{RATE}", headers)
    assert (reply.status_code, reply.headers["content-type"], reply.text) == (200, "application/json", MADE_JSON)


def test_empty_and_partial() -> None:
    reply = Engines(made=MetricsAnswer((), QueryCost(), "over 5 series")).ask(f"/api/metrics/query_range?{RATE}")
    assert reply.text == '{"series":[],"metrics":{},"status":"PARTIAL","message":"over 5 series"}'


def test_instant() -> None:
    one = np.array([60_000], np.int64)
    series = [Series((("n", i),), one, np.array([value])) for i, value in enumerate((12.5, 0.0, 3.0, math.nan))]
    reply = Engines(made=MetricsAnswer(tuple(series), QueryCost())).ask(f"/api/metrics/query?{RATE}")
    label = '{{"labels":[{{"key":"n","value":{{"intValue":"{}"}}}}]{}}}'
    parts = [label.format(i, value) for i, value in enumerate((',"value":12.5', "", ',"value":3', ',"value":"NaN"'))]
    assert reply.text == f'{{"series":[{",".join(parts)}],"metrics":{{}}}}'


def test_what_the_engine_is_asked() -> None:
    engines = Engines()
    engines.ask(f"/api/metrics/query_range?{RATE}&start=600&end=1200&step=60&exemplars=5&maxSeries=6&instant=true")
    engines.ask(f"/api/metrics/query?{RATE}&start=600&end=1200")
    ranged, instant = engines.asked
    assert (ranged.start_unix_nano, ranged.end_unix_nano, ranged.step_nano) == (600 * 10**9, 1200 * 10**9, 60 * 10**9)
    assert (ranged.exemplars_max, ranged.series_max, ranged.instant) == (5, 6, False)
    assert (instant.step_nano, instant.exemplars_max, instant.instant) == (600 * 10**9, 0, True)


REFUSED = {
    "/api/metrics/query_range": "compiling query: parse error : syntax error: unexpected $end",
    "/api/metrics/query?q={}": "not a metrics query",
    f"/api/metrics/query_range?{RATE}&step=abc": 'cannot parse "abc" to a valid duration',
    f"/api/metrics/query_range?{RATE}&start=9&end=5": "end must be greater than start",
    "/api/metrics/summary?q={}": "missing groupBy: name the attributes to group by, such as groupBy=resource.service.name",
    "/api/metrics/summary?q={&groupBy=.a": "invalid TraceQL query: parse error at line 1, col 2: syntax error: unexpected $end",
}  # fmt: skip


@pytest.mark.parametrize("path", REFUSED)
def test_refused(path: str) -> None:
    engines = Engines()
    reply = engines.ask(path)
    assert (reply.status_code, reply.text, engines.asked) == (400, REFUSED[path], [])


def test_summary() -> None:
    group = (("resource.service.name", "x&y"), ("a", 5), ("b", 0.5), ("c", True), ("d", None), ("e", 0), ("f", (1,)))
    rows = (SummaryRow(group, 5, 1, {50: 1, 90: 2, 95: 3, 99: 4}), SummaryRow((), 0, 0))
    engines = Engines(rows=rows)
    assert engines.ask("/api/metrics/summary?q={}&groupBy=.a&start=5&end=9").text == (
        '{"summaries":[{"spanCount":"5","errorSpanCount":"1","series":['
        '{"key":"resource.service.name","value":{"type":5,"s":"x\\u0026y"}},{"key":"a","value":{"type":3,"n":"5"}},'
        '{"key":"b","value":{"type":4,"f":0.5}},{"key":"c","value":{"type":6,"b":true}},{"key":"d","value":{}},'
        '{"key":"e","value":{"type":3}},{"key":"f","value":{"type":5,"s":"{\\"arrayValue\\":{\\"values\\":[{\\"intValue\\":\\"1\\"}]}}"}}],'
        '"p99":"4","p95":"3","p90":"2","p50":"1"},{"series":[]}]}'
    )
    assert engines.asked[0][2:] == (5, 9, 1000)


def test_protobuf() -> None:
    message = QueryRangeResponse.FromString(range_response(MADE).SerializeToString())
    first = message.series[0]
    assert [(sample.timestamp_ms, sample.value) for sample in first.samples] == [
        (60_000, 0),
        (120_000, 2),
        (180_000, 0.1),
    ]
    assert (first.labels[0].value.string_value, first.exemplars[0].value) == ("a<b", 0.0022)
    assert math.isnan(message.series[1].samples[0].value)
    assert (message.metrics.inspectedBytes, message.status, message.message) == (9, 0, "")
    assert range_response(MetricsAnswer((), QueryCost(), "over 1 series")).status == PARTIAL
    partial = instant_response(MetricsAnswer(MADE.series[:1], QueryCost(), "over 1 series"))
    instant = QueryInstantResponse.FromString(partial.SerializeToString())
    assert (instant.series[0].value, instant.status, instant.message) == (0, PARTIAL, "over 1 series")


def test_counted() -> None:
    engines = Engines(made=MADE)
    engines.ask(f"/api/metrics/query_range?{RATE}")
    text = engines.telemetry.render("")[0].decode()
    assert 'tempo_query_frontend_queries_total{op="metrics",result="completed",tenant="single-tenant"} 1.0' in text
    assert 'tempo_query_frontend_bytes_inspected_total{op="metrics",tenant="single-tenant"} 9.0' in text
