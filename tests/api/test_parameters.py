"""URLs as requests to the engines: what is read, what is refused and how, and every recorded request of Grafana Tempo."""

from __future__ import annotations

import gzip
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from engines import NOW

from vivace.api.deps import QueryLimits
from vivace.api.logfmt import parse_tags
from vivace.api.parameters import asked_range, asked_search, asked_series, asked_summary, tag_limit, tag_scope
from vivace.api.requests import bounded_range, metrics_request, search_request, summary_request
from vivace.api.times import auto_step, parse_duration, parse_instant, parse_step
from vivace.errors import ClientError, RequestError
from vivace.query.answers import LegacyTags, MetricsRequest, SearchRequest
from vivace.traceql import canonical

CONFORMANCE = Path(__file__).parents[3] / "shared" / "conformance"
ANSWERS = CONFORMANCE / "answers.jsonl.gz"

NOW_NANO = NOW * 10**9
DEFAULTS = QueryLimits()
OPEN = QueryLimits(search_duration_max=timedelta(0))
WEEK = 168 * 3600
SECOND, MS = 10**9, 10**6


def search(parameters: dict[str, str], limits: QueryLimits = OPEN) -> SearchRequest:
    return search_request(asked_search(parameters, NOW_NANO), limits, NOW_NANO)


def series(parameters: dict[str, str], limits: QueryLimits = DEFAULTS, *, instant: bool = False) -> MetricsRequest:
    return metrics_request(asked_series(parameters, NOW_NANO, instant=instant), limits, NOW_NANO)


# ---- search ----

SEARCHES: list[tuple[dict[str, str], dict[str, Any]]] = [
    ({}, {"query": None, "tags": None, "start_seconds": None, "end_seconds": None, "limit": 20, "spans_max": 3, "explain": False}),
    ({"start": "5", "end": "9"}, {"start_seconds": 5, "end_seconds": 9, "tags": None}),
    ({"start": "0", "end": "0"}, {"start_seconds": None, "end_seconds": None}),
    ({"end": "9"}, {"start_seconds": None, "end_seconds": 9}),
    ({"since": "1d"}, {"start_seconds": NOW - 86400, "end_seconds": None, "tags": None}),
    ({"since": "1h30m", "end": "9"}, {"start_seconds": None, "end_seconds": 9}),
    ({"limit": "100", "spss": "100"}, {"limit": 100, "spans_max": 100}),
    ({"spss": "0"}, {"spans_max": 3}),
    ({"explain": "1"}, {"explain": True, "tags": None}),
    ({"tags": 'a=b c="d e" f'}, {"tags": LegacyTags({"a": "b", "c": "d e", "f": ""})}),
    ({"minDuration": "1.0009s"}, {"tags": LegacyTags({}, 1000 * MS)}),
    ({"minDuration": "10ms", "maxDuration": "1m20s"}, {"tags": LegacyTags({}, 10 * MS, 80 * SECOND)}),
    ({"minDuration": "0", "maxDuration": "9us"}, {"tags": None}),
    ({"service.name": "web", "limit": "5"}, {"tags": LegacyTags({"service.name": "web"}), "limit": 5}),
    ({"service.name": "web", "start": "5", "end": "9"}, {"tags": None}),
    ({"service.name": "web", "tags": "a=b"}, {"tags": LegacyTags({"a": "b"})}),
    ({"q": "{ true }", "minDuration": "1s"}, {"tags": None}),
]  # fmt: skip


@pytest.mark.parametrize(("parameters", "expected"), SEARCHES)
def test_search(parameters: dict[str, str], expected: dict[str, Any]) -> None:
    request = search(parameters)
    assert {name: getattr(request, name) for name in expected} == expected


def test_search_query_is_checked() -> None:
    query = search({"q": '{name="x"}'}).query
    assert query is not None
    assert canonical(query) == "{ name = `x` }"


SEARCHES_REFUSED: list[tuple[dict[str, str], str]] = [
    ({"q": "{"}, "invalid TraceQL query: parse error at line 1, col 2: syntax error: unexpected $end"),
    ({"q": " "}, "invalid TraceQL query: parse error at line 1, col 2: syntax error: unexpected $end"),
    ({"q": "{ }", "tags": "a=b"}, "invalid request: can't specify tags and q in the same query"),
    ({"tags": "a=b a=c"}, "invalid tags: tag a has been set twice"),
    ({"tags": 'a="b'}, "invalid tags: unterminated quoted value at pos 4"),
    ({"minDuration": "5"}, 'invalid minDuration: time: missing unit in duration "5"'),
    ({"maxDuration": "-5s"}, 'invalid maxDuration: time: invalid duration "-5s"'),
    ({"minDuration": "2s", "maxDuration": "1s"}, "invalid maxDuration: must be greater than minDuration"),
    ({"limit": "0"}, "invalid limit: must be a positive number"),
    ({"limit": "-1"}, "invalid limit: must be a positive number"),
    ({"limit": "abc"}, 'invalid limit: strconv.Atoi: parsing "abc": invalid syntax'),
    ({"limit": "1_0"}, 'invalid limit: strconv.Atoi: parsing "1_0": invalid syntax'),
    ({"limit": "٣"}, 'invalid limit: strconv.Atoi: parsing "٣": invalid syntax'),
    ({"limit": "9" * 20}, f'invalid limit: strconv.Atoi: parsing "{"9" * 20}": value out of range'),
    ({"limit": "51"}, "limit 51 exceeds max limit 50"),
    ({"spss": "101"}, "spans per span set exceeds 100. received 101"),
    ({"spss": "-1"}, "invalid spss: must be a non-negative number"),
    ({"start": "x", "end": "9"}, 'invalid start: strconv.ParseInt: parsing "x": invalid syntax'),
    ({"end": "4294967296"}, 'invalid end: strconv.ParseInt: parsing "4294967296": value out of range'),
    ({"start": "-1", "end": "9"}, 'invalid start: strconv.ParseInt: parsing "-1": value out of range'),
    ({"start": "9", "end": "5"}, "http parameter start must be before end. received start=9 end=5"),
    ({"start": "5"}, "http parameter start must be before end. received start=5 end=0"),
    ({"since": "soon"}, 'invalid since: time: invalid duration "soon"'),
    ({"start": "1", "end": "604802"}, "range specified by start and end exceeds 168h0m0s. received start=1 end=604802"),
    ({"since": "8d"}, f"range specified by start and end exceeds 168h0m0s. received start={NOW - 8 * 86400} end={NOW}"),
    ({"q": "{ name = `" + "x" * 90 + "` }"}, "TraceQL expression exceeds the configured maximum size of 100 bytes, reduce the query expression size or contact your system administrator"),
]  # fmt: skip


@pytest.mark.parametrize(("parameters", "text"), SEARCHES_REFUSED)
def test_search_refused(parameters: dict[str, str], text: str) -> None:
    with pytest.raises(ClientError) as refused:
        search(parameters, QueryLimits(result_limit_max=50, expression_bytes_max=100))
    assert str(refused.value) == text
    assert getattr(refused.value, "status", 400) == 400


def test_open_ranges_keep_to_the_limit() -> None:
    limits = QueryLimits()
    assert (search({}, limits).start_seconds, search({}, limits).end_seconds) == (NOW - WEEK, None)
    assert search({"end": "1700000000"}, limits).start_seconds == 1_700_000_000 - WEEK
    assert search({"end": "9"}, limits).start_seconds == 1
    exact = search({"start": "1", "end": str(WEEK + 1)}, limits)
    assert (exact.start_seconds, exact.end_seconds) == (1, WEEK + 1)


def test_end_cutoff() -> None:
    limits = QueryLimits(search_duration_max=timedelta(0), end_cutoff=timedelta(seconds=30))
    assert search({}, limits).end_seconds == NOW - 30
    assert search({"start": "5", "end": str(NOW)}, limits).end_seconds == NOW - 30
    assert search({"start": "5", "end": "9"}, limits).end_seconds == 9
    assert series({"q": "{} | rate()"}, limits).end_unix_nano == (NOW - 30) * SECOND


def test_defaults_keep_to_the_limits() -> None:
    request = search({}, QueryLimits(result_limit_max=5, spans_max=2))
    assert (request.limit, request.spans_max) == (5, 2)


def test_spans_without_a_limit() -> None:
    limits = QueryLimits(spans_max=0, spans_default=7)
    spans = [search(p, limits).spans_max for p in ({}, {"spss": "0"}, {"spss": "1000"})]
    assert spans == [7, 0, 1000]


# ---- tags ----


def test_scope_and_limit() -> None:
    assert tag_scope({"scope": "none"}) == "none"
    assert (tag_limit({}), tag_limit({"limit": "0"}), tag_limit({"limit": "5"})) == (0, 0, 5)
    with pytest.raises(RequestError, match=r"^invalid scope: bogus$"):
        tag_scope({"scope": "bogus"})


LOGFMT = {
    "": {},
    "  \t": {},
    "a=b": {"a": "b"},
    " a=b\tc= d": {"a": "b", "c": "", "d": ""},
    r'http.url="a \"b\" \u00e9\\"': {"http.url": 'a "b" é\\'},
    'é="=="': {"é": "=="},
}

LOGFMT_REFUSED = {
    "=b": "unexpected '=' at pos 1",
    "a=b=c": "unexpected '=' at pos 4",
    'a"b': "unexpected '\"' at pos 2",
    'a="b"c': "unexpected 'c' at pos 6",
    'a="b\\': "unterminated quoted value at pos 5",
    r'a="\x"': "invalid quoted value at pos 3",
    r'a="\ud800"': "invalid quoted value at pos 3",
}


def test_logfmt() -> None:
    assert {text: parse_tags(text) for text in LOGFMT} == LOGFMT
    for text, reason in LOGFMT_REFUSED.items():
        with pytest.raises(RequestError) as refused:
            parse_tags(text)
        assert str(refused.value) == f"invalid tags: {reason}"


# ---- metrics ----

START, END = 1_795_175_700 * SECOND, 1_795_178_700 * SECOND
HOUR = {"q": "{ } | rate()", "start": "1795175700", "end": "1795178700"}

METRICS: list[tuple[dict[str, str], dict[str, Any]]] = [
    ({"q": "{} | rate()"}, {"start_unix_nano": NOW_NANO - 3600 * SECOND, "end_unix_nano": NOW_NANO, "step_nano": 15 * SECOND, "exemplars_max": 100, "series_max": 0, "instant": False}),
    ({"query": "{} | rate()", "since": "30m"}, {"start_unix_nano": NOW_NANO - 1800 * SECOND, "step_nano": 5 * SECOND}),
    ({"q": "{} | rate()", "end": "1795178700"}, {"start_unix_nano": END - 3600 * SECOND, "end_unix_nano": END}),
    (HOUR, {"start_unix_nano": START, "end_unix_nano": END, "step_nano": 10 * SECOND}),
    (HOUR | {"start": str(START), "end": "1795178700.5"}, {"start_unix_nano": START, "end_unix_nano": END + SECOND // 2}),
    (HOUR | {"start": "2026-11-20T12:15:00Z"}, {"start_unix_nano": 1_795_176_900 * SECOND}),
    (HOUR | {"step": "5m"}, {"step_nano": 300 * SECOND}),
    (HOUR | {"step": "0.3"}, {"step_nano": 300 * MS}),
    (HOUR | {"exemplars": "0"}, {"exemplars_max": 100}),
    (HOUR | {"exemplars": "7"}, {"exemplars_max": 7}),
    (HOUR | {"exemplars": "700"}, {"exemplars_max": 100}),
    (HOUR | {"q": "{} | rate() with(exemplars=false)"}, {"exemplars_max": 0}),
    (HOUR | {"q": "{} | rate() with(exemplars=true)", "exemplars": "7"}, {"exemplars_max": 7}),
    (HOUR | {"q": "{} | rate() with(exemplars=5)", "exemplars": "7"}, {"exemplars_max": 5}),
    (HOUR | {"q": "{} | rate() with(exemplars=-5)"}, {"exemplars_max": 0}),
    (HOUR | {"maxSeries": "7"}, {"series_max": 7}),
]  # fmt: skip


@pytest.mark.parametrize(("parameters", "expected"), METRICS)
def test_metrics(parameters: dict[str, str], expected: dict[str, Any]) -> None:
    request = series(parameters)
    assert {name: getattr(request, name) for name in expected} == expected


def test_series_are_limited() -> None:
    limits = QueryLimits(series_max=10)
    assert [series(HOUR | {"maxSeries": n}, limits).series_max for n in ("0", "7", "70")] == [10, 7, 10]


def test_instant() -> None:
    request = series(HOUR | {"step": "abc", "exemplars": "abc"}, instant=True)
    assert (request.instant, request.step_nano, request.exemplars_max) == (True, END - START, 0)


def test_exactly_the_longest_range_is_within_it() -> None:
    assert series(HOUR | {"end": "1795186500"}).end_unix_nano == START + 10_800 * SECOND


METRICS_REFUSED: list[tuple[dict[str, str], str]] = [
    ({}, "compiling query: parse error : syntax error: unexpected $end"),
    (HOUR | {"q": "{ }"}, "not a metrics query"),
    (HOUR | {"q": "{ } | rate() | topk(0)"}, "compiling query: limit must be greater than 0"),
    (HOUR | {"start": "1795178700", "end": "1795175700"}, "end must be greater than start"),
    (HOUR | {"start": "q"}, "invalid start: 'q' is neither Unix seconds or nanoseconds nor RFC 3339 (2006-01-02T15:04:05Z)"),
    (HOUR | {"start": "2026-13-20T12:15:00Z"}, "invalid start: '2026-13-20T12:15:00Z' is no time: month must be in 1..12"),
    (HOUR | {"end": "9" * 20}, f"invalid end: {'9' * 20} is beyond the year 2262"),
    (HOUR | {"end": "9" * 19}, f"invalid end: {'9' * 19} is not between the years 1970 and 2262"),
    (HOUR | {"end": "1795186501"}, "metrics query time range exceeds the maximum allowed duration of 3h0m0s"),
    (HOUR | {"step": "0s"}, "step of 0s is too small, minimum step for given range is 300ms"),
    (HOUR | {"step": "1ms"}, "step of 1ms is too small, minimum step for given range is 300ms"),
    (HOUR | {"step": "abc"}, 'cannot parse "abc" to a valid duration'),
    (HOUR | {"step": "-1s"}, 'cannot parse "-1s" to a valid duration'),
    (HOUR | {"exemplars": "-1"}, "invalid exemplars: must be a non-negative number"),
    (HOUR | {"maxSeries": "x"}, 'invalid maxSeries: strconv.Atoi: parsing "x": invalid syntax'),
    ({"q": "{} | rate()", "since": "1"}, 'invalid since: time: invalid duration "1"'),
]  # fmt: skip


@pytest.mark.parametrize(("parameters", "text"), METRICS_REFUSED)
def test_metrics_refused(parameters: dict[str, str], text: str) -> None:
    with pytest.raises(RequestError) as refused:
        series(parameters)
    assert (str(refused.value), refused.value.status) == (text, 400)


def test_steps_without_a_limit() -> None:
    limits = QueryLimits(intervals_max=0)
    assert series(HOUR | {"step": "1ns"}, limits).step_nano == 1
    with pytest.raises(RequestError, match=r"^step of 0s is too small"):
        series(HOUR | {"step": "0"}, limits)
    assert series(HOUR, QueryLimits(intervals_max=100)).step_nano == 30 * SECOND


def test_summary() -> None:
    asked = asked_summary({"groupBy": "resource.service.name, span.http.method", "limit": "5000"}, NOW_NANO)
    request = summary_request(asked, OPEN, NOW_NANO)
    assert [canonical(group) for group in request.group_by] == ["resource.service.name", "span.http.method"]
    assert (canonical(request.query), request.limit, request.range.start) == ("{ }", 1000, None)
    for parameters, text in (
        ({}, "missing groupBy: name the attributes to group by, such as groupBy=resource.service.name"),
        ({"groupBy": "a"}, "invalid groupBy: 'a': parse error at line 1, col 1: unknown identifier: a"),
        ({"groupBy": "parent.a"}, "invalid groupBy: 'parent.a': parent not yet supported"),
        ({"groupBy": "name,parent"}, "invalid groupBy: 'parent': intrinsic (parent) not yet supported"),
    ):
        with pytest.raises(RequestError) as refused:
            summary_request(asked_summary(parameters, NOW_NANO), OPEN, NOW_NANO)
        assert str(refused.value) == text


# ---- times ----

INSTANTS = {
    "0": 0,
    "1": SECOND,
    "1700000000": 1_700_000_000 * SECOND,
    "17000000000": 17_000_000_000,
    "1700000000.123456789123": 1_700_000_000_123_456_789,
    ".5": SECOND // 2,
    "5.": 5 * SECOND,
    "2023-11-14T22:13:20Z": 1_700_000_000 * SECOND,
    "2023-11-15t00:13:20.000000001+02:00": 1_700_000_000 * SECOND + 1,
    "1970-01-01T00:00:00z": 0,
}

STEPS = {"1": SECOND, "0.25": SECOND // 4, "1m30s": 90 * SECOND, "0": 0, "1d": 86400 * SECOND}

AUTO_STEPS = {0: 1, 1: 1, 240: 1, 1199: 4, 1200: 5, 2399: 5, 2400: 10, 3600: 15, 86_400: 360}
"""Range to step, in seconds."""


def test_times() -> None:
    assert {text: parse_instant(text) for text in INSTANTS} == INSTANTS
    assert {text: parse_step(text) for text in STEPS} == STEPS
    assert {seconds: auto_step(seconds * SECOND) // SECOND for seconds in AUTO_STEPS} == AUTO_STEPS
    assert (parse_duration("0"), parse_duration("1.5h")) == (0, 5400 * SECOND)
    for text in ("", ".", "-1", "1e9", "1 ", "12345678901.5", "1969-12-31T23:59:59Z", "2023-11-14T22:13:20", "2023-11-14 22:13:20Z"):  # fmt: skip
        with pytest.raises(ValueError):  # noqa: PT011
            parse_instant(text)


# ---- recorded ----


def read_recorded(path: str, parameters: dict[str, str]) -> None:
    """Read the parameters as the route does, under the limits of the server that was recorded."""
    limits = QueryLimits(search_duration_max=timedelta(0), metrics_duration_max=timedelta(0), spans_max=0)
    if path == "/api/search":
        search(parameters, limits)
    elif path in ("/api/metrics/query_range", "/api/metrics/query"):
        series(parameters, limits, instant=path.endswith("query"))
    elif "/search/tag" in path:
        tag_scope(parameters)
        bounded_range(asked_range(parameters, NOW_NANO), limits, NOW_NANO)


@pytest.mark.skipif(not ANSWERS.exists(), reason=f"no recorded answers in {CONFORMANCE}")
def test_recorded_requests() -> None:
    divergences = json.loads((CONFORMANCE / "divergences.json").read_text())
    with gzip.open(ANSWERS) as lines:
        answers = [json.loads(line) for line in lines]
    asked = [a for a in answers if a["id"] not in divergences and a["group"] != "trace"]
    assert sum(a["group"] in ("params", "refused") for a in asked) == 75
    wrong = []
    for answer in asked:
        parameters = {name: value for name, value in answer["params"].items() if value}
        text = ""
        try:
            read_recorded(answer["path"], parameters)
        except ClientError as error:
            text = str(error)
        if (answer["status"] == 200) != (text == ""):
            wrong.append((answer["id"], answer["path"], answer["params"], answer["status"], text))
        elif answer["status"] != 200 and text not in answer["body"].replace("at line 0", "at line 1"):
            wrong.append((answer["id"], answer["body"], text))
    assert wrong == []
