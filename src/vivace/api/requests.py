"""What was asked, held against a tenant's limits, becomes what the engines are asked. The same for HTTP and gRPC.

Rule 1  a query over a limit is refused, with the limit in the text; only counts of exemplars and series are lowered in silence.
Rule 2  a search without a start goes back as far as a search may, so that leaving it out is never a way around the limit.
Rule 3  TraceQL is read here once; engines get it checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from vivace.api.deps import QueryLimits
from vivace.api.times import SECOND, auto_step
from vivace.errors import RequestError, TraceQLError
from vivace.query.answers import LegacyTags, MetricsRequest, SearchRequest
from vivace.traceql import CheckedQuery, check, check_field, parse, parse_field
from vivace.traceql.ast import Field, StaticKind
from vivace.traceql.literals import format_duration

SUMMARY_ROWS_DEFAULT = 1000
"""Groups of a metrics summary that does not say how many: enough for a table, and an answer has a bound."""


@dataclass(frozen=True, slots=True)
class AskedRange:
    """Unix seconds; None is open."""

    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class AskedSearch:
    """A search; None is "not said". `tags` is not looked at where there is a query."""

    query: str
    tags: LegacyTags | None
    limit: int | None
    spans: int | None
    range: AskedRange
    explain: bool = False


@dataclass(frozen=True, slots=True)
class AskedSeries:
    """A metrics query. Times are unix nanoseconds; step None, exemplars 0 and series 0 are "not said"."""

    query: str
    start: int
    end: int
    step: int | None = None
    exemplars: int = 0
    series: int = 0
    instant: bool = False


@dataclass(frozen=True, slots=True)
class AskedSummary:
    query: str
    group_by: tuple[str, ...]
    range: AskedRange
    limit: int | None


@dataclass(frozen=True, slots=True)
class SummaryRequest:
    """What MetricsEngine.summary takes."""

    query: CheckedQuery
    group_by: tuple[Field, ...]
    range: AskedRange
    limit: int


def search_request(asked: AskedSearch, limits: QueryLimits, now: int) -> SearchRequest:
    """Raises RequestError and TraceQLError. Cost: that of parsing, about 4 µs a character of TraceQL."""
    within = bounded_range(asked.range, limits, now)
    return SearchRequest(
        query=checked(asked.query, limits) if asked.query else None,
        tags=None if asked.query else asked.tags,
        start_seconds=within.start,
        end_seconds=within.end,
        limit=_result_limit(asked.limit, limits),
        spans_max=_spans(asked.spans, limits),
        explain=asked.explain,
    )


def bounded_range(asked: AskedRange, limits: QueryLimits, now: int) -> AskedRange:
    """The time range of searches and tags: no longer than the limit, and before the cut-off. Raises RequestError."""
    start, end = asked.start, asked.end
    longest = limits.search_duration_max // timedelta(seconds=1)
    if longest:
        until = now // SECOND if end is None else end
        if start is None:
            start = max(1, until - longest)
        if until - start > longest:
            text = format_duration(longest * SECOND)
            raise RequestError(f"range specified by start and end exceeds {text}. received start={start} end={until}")
    if limits.end_cutoff:
        newest = (now - _nano(limits.end_cutoff)) // SECOND
        end = newest if end is None else min(end, newest)
    return AskedRange(start, end)


def metrics_request(asked: AskedSeries, limits: QueryLimits, now: int) -> MetricsRequest:
    """Raises RequestError. The range is as it was asked, before steps are aligned: exactly the limit is within it."""
    query = metrics_query(asked.query, limits)
    start = asked.start
    end = min(asked.end, now - _nano(limits.end_cutoff)) if limits.end_cutoff else asked.end
    if start >= end:
        raise RequestError("end must be greater than start")
    longest = _nano(limits.metrics_duration_max)
    if longest and end - start > longest:
        text = format_duration(longest)
        raise RequestError(f"metrics query time range exceeds the maximum allowed duration of {text}")
    return MetricsRequest(
        query=query,
        start_unix_nano=start,
        end_unix_nano=end,
        step_nano=end - start if asked.instant else _step(asked.step, end - start, limits),
        instant=asked.instant,
        exemplars_max=0 if asked.instant else _exemplars(query, asked.exemplars, limits),
        series_max=min(filter(None, (asked.series, limits.series_max)), default=0),
    )


def summary_request(asked: AskedSummary, limits: QueryLimits, now: int) -> SummaryRequest:
    """Raises RequestError and TraceQLError."""
    return SummaryRequest(
        query=checked(asked.query or "{ }", limits),
        group_by=tuple(_group(name) for name in asked.group_by),
        range=bounded_range(asked.range, limits, now),
        limit=min(asked.limit or SUMMARY_ROWS_DEFAULT, SUMMARY_ROWS_DEFAULT),
    )


def checked(text: str, limits: QueryLimits) -> CheckedQuery:
    """Raises RequestError for a query that is too long, TraceQLError for one that is wrong."""
    checked_size(text, limits)
    return check(parse(text))


def checked_size(text: str, limits: QueryLimits) -> None:
    """Raises RequestError for TraceQL, or a filter of tags, that is too long."""
    longest = limits.expression_bytes_max
    if longest and len(text.encode(errors="replace")) > longest:
        raise RequestError(
            f"TraceQL expression exceeds the configured maximum size of {longest} bytes, "
            "reduce the query expression size or contact your system administrator"
        )


def metrics_query(text: str, limits: QueryLimits) -> CheckedQuery:
    """A query that makes series. Raises RequestError for any other."""
    try:
        query = checked(text, limits)
    except TraceQLError as error:
        raise RequestError(f"compiling query: {error.reason}") from error
    if query.metrics is None:
        raise RequestError("not a metrics query")
    return query


def _result_limit(asked: int | None, limits: QueryLimits) -> int:
    most = limits.result_limit_max
    if asked is None:
        return min(limits.result_limit_default, most or limits.result_limit_default)
    if most and asked > most:
        raise RequestError(f"limit {asked} exceeds max limit {most}")
    return asked


def _spans(asked: int | None, limits: QueryLimits) -> int:
    most = limits.spans_max
    if not most:
        return limits.spans_default if asked is None else asked
    if not asked:  # 0, all of them, would be over the limit; Tempo takes it for the default
        return min(limits.spans_default, most)
    if asked > most:
        raise RequestError(f"spans per span set exceeds {most}. received {asked}")
    return asked


def _group(name: str) -> Field:
    try:
        return check_field(parse_field(name), name)
    except TraceQLError as error:
        raise RequestError(f"invalid groupBy: {name[:64]!r}: {error.reason}") from error


def _step(asked: int | None, range_nano: int, limits: QueryLimits) -> int:
    shortest = -(-range_nano // limits.intervals_max) if limits.intervals_max else 1
    if asked is None:
        return max(auto_step(range_nano), shortest)
    if asked < shortest:
        raise RequestError(
            f"step of {format_duration(asked)} is too small, minimum step for given range is {format_duration(shortest)}"
        )
    return asked


def _exemplars(query: CheckedQuery, asked: int, limits: QueryLimits) -> int:
    """The hint `with(exemplars=…)` counts before the parameter; neither gets more than the limit."""
    most = limits.exemplars_max
    for hint in query.hints:
        if hint.name == "exemplars" and hint.value.kind is StaticKind.BOOL:
            return min(asked or most, most) if hint.value.value else 0
        if hint.name == "exemplars" and isinstance(hint.value.value, int) and hint.value.kind is StaticKind.INT:
            return max(0, min(hint.value.value, most))
    return min(asked or most, most)


def _nano(duration: timedelta) -> int:
    return duration // timedelta(microseconds=1) * 1000
