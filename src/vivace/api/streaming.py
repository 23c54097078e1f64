"""`tempopb.StreamingQuerier`: searches, tags and metrics as Grafana asks for them, answered in parts while they run.

Rule 1  at most one message each INTERVAL_SECONDS, then always a last one with the final cost; a fast query gives that alone.
        Only what is over PACKET_BYTES_MAX comes in more.
Rule 2  a request means what the same request over HTTP means: it passes through the same parameters, limits and engines.
Rule 3  what is sent of an answer: stream_parts.py.  Errors and what is observed: stream_calls.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import TypeVar

from google.protobuf.message import DecodeError as BadMessageError
from google.protobuf.message import Message

from vivace.api.deps import ApiDeps, QueryEngines, QueryLimits
from vivace.api.messages import (
    instant_response,
    range_response,
    search_response,
    tag_names_response,
    tag_values_response,
    tag_values_v1_response,
    tags_response,
)
from vivace.api.negotiate import INLINE_SIZE_MAX
from vivace.api.parameters import SINCE_DEFAULT, asked_range, asked_search, tag_scope
from vivace.api.query_json import tag_names
from vivace.api.questions import INLINE_TEXT_MAX, VALUE_SIZE, Operation, count_bytes, counted
from vivace.api.requests import (
    AskedRange,
    AskedSeries,
    bounded_range,
    checked_size,
    metrics_query,
    metrics_request,
    search_request,
)
from vivace.api.stream_calls import Call, Metadata, observed, request_of
from vivace.api.stream_parts import Parts, SearchParts, SeriesParts, answers, packets
from vivace.errors import RequestError
from vivace.model.proto import tempopb_pb2 as pb
from vivace.query.answers import (
    LegacyTags,
    MetricsAnswer,
    MetricsRequest,
    SearchAnswer,
    SearchRequest,
    TagsAnswer,
    TagsRequest,
    TagValuesRequest,
)

SERVICE = "tempopb.StreamingQuerier"

INTERVAL_SECONDS = 0.5
"""Between messages, as in Tempo: often enough to be seen as progress, seldom enough to cost nothing."""

INT64_END = 2**63

_Message = TypeVar("_Message", bound=Message)
_Question = TypeVar("_Question")
_Answer = TypeVar("_Answer", SearchAnswer, MetricsAnswer)
_Rpc = Callable[[str, bytes], AsyncGenerator[bytes, None]]


class StreamingQuerier:
    """The calls of the service. `interval_seconds` is for tests."""

    def __init__(self, deps: ApiDeps, queries: QueryEngines, *, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._deps = deps
        self._queries = queries
        self._interval_seconds = interval_seconds

    def calls(self) -> dict[str, Call]:
        """By the path of their requests, "/tempopb.StreamingQuerier/Search"."""
        rpcs: dict[str, _Rpc] = {
            "Search": self._search,
            "SearchTags": self._tags_v1,
            "SearchTagsV2": self._tags_v2,
            "SearchTagValues": self._values_v1,
            "SearchTagValuesV2": self._values_v2,
            "MetricsQueryRange": self._range,
            "MetricsQueryInstant": self._instant,
        }
        return {f"/{SERVICE}/{name}": self._call(f"/{SERVICE}/{name}", rpc) for name, rpc in rpcs.items()}

    def tenant_of(self, metadata: Metadata) -> str:
        """Whose call it is, decided as for HTTP by the same headers. Raises AccessError for who may not ask, RequestError."""
        request = request_of(metadata)
        self._deps.guard.check(request.headers.get("Authorization"))
        return self._deps.tenant_of(request)

    def _call(self, path: str, rpc: _Rpc) -> Call:
        def call(metadata: Metadata, message: bytes) -> AsyncGenerator[bytes, None]:
            return self._with_tenant(rpc, metadata, message)

        return observed(path, call, self._deps.telemetry, self._deps.error_id)

    async def _with_tenant(self, rpc: _Rpc, metadata: Metadata, message: bytes) -> AsyncGenerator[bytes, None]:
        async with aclosing(rpc(self.tenant_of(metadata), message)) as replies:
            async for reply in replies:
                yield reply

    # Search

    async def _search(self, tenant: str, message: bytes) -> AsyncGenerator[bytes, None]:
        limits = self._queries.limits(tenant)
        now = self._queries.now()
        asked = await _read(message, lambda: search_question(_parsed(pb.SearchRequest, message), limits, now))
        padded = limits.left_pad_trace_ids
        async with aclosing(
            self._progress(
                "search",
                tenant,
                lambda on_progress: self._queries.search.search(tenant, asked, on_progress),
                SearchParts(asked.query),
                lambda part: search_response(part, padded_ids=padded),
            )
        ) as replies:
            async for reply in replies:
                yield reply

    # TraceQL metrics

    async def _range(self, tenant: str, message: bytes) -> AsyncGenerator[bytes, None]:
        limits = self._queries.limits(tenant)
        now = self._queries.now()
        asked = await _read(message, lambda: range_question(_parsed(pb.QueryRangeRequest, message), limits, now))
        async with aclosing(self._series(tenant, asked, range_response)) as replies:
            async for reply in replies:
                yield reply

    async def _instant(self, tenant: str, message: bytes) -> AsyncGenerator[bytes, None]:
        limits = self._queries.limits(tenant)
        now = self._queries.now()
        asked = await _read(message, lambda: instant_question(_parsed(pb.QueryInstantRequest, message), limits, now))
        async with aclosing(self._series(tenant, asked, instant_response)) as replies:
            async for reply in replies:
                yield reply

    def _series(
        self, tenant: str, asked: MetricsRequest, render: Callable[[MetricsAnswer], Message]
    ) -> AsyncGenerator[bytes, None]:
        return self._progress(
            "metrics",
            tenant,
            lambda on_progress: self._queries.metrics.series(tenant, asked, on_progress),
            SeriesParts(asked.query),
            render,
        )

    async def _progress(
        self,
        operation: Operation,
        tenant: str,
        run: Callable[[Callable[[_Answer], None]], Awaitable[_Answer]],
        parts: Parts[_Answer],
        render: Callable[[_Answer], Message],
    ) -> AsyncGenerator[bytes, None]:
        """The messages of a query that tells how it gets on."""
        telemetry = self._deps.telemetry
        found = answers(lambda tell: counted(telemetry, operation, tenant, run(tell)), self._interval_seconds)
        async with aclosing(found):
            async for answer, is_last in found:
                part = parts.next(answer, is_last=is_last)
                if is_last:
                    count_bytes(telemetry, operation, tenant, answer.cost)
                for packet in await _rendered(_size(part), render, part):
                    yield packet

    # Tags: the engines give all names or values at once, so nothing is ever sent twice.

    async def _tags_v1(self, tenant: str, message: bytes) -> AsyncGenerator[bytes, None]:
        asked = self._tags_question(tenant, message, filtered=False)
        found = await self._tags(tenant, asked)
        names = tag_names(found, scope=asked.scope, limit=asked.limit)
        for packet in await _rendered(len(names), lambda found: tag_names_response(names, found), found):
            yield packet

    async def _tags_v2(self, tenant: str, message: bytes) -> AsyncGenerator[bytes, None]:
        found = await self._tags(tenant, self._tags_question(tenant, message, filtered=True))
        for packet in await _rendered(sum(map(len, found.scopes.values())), tags_response, found):
            yield packet

    async def _values_v1(self, tenant: str, message: bytes) -> AsyncGenerator[bytes, None]:
        asked = self._values_question(tenant, message, filtered=False)
        work = self._queries.tags.values_v1(tenant, asked)
        found = await counted(self._deps.telemetry, "metadata", tenant, work)
        for packet in await _rendered(len(found), tag_values_v1_response, found):
            yield packet

    async def _values_v2(self, tenant: str, message: bytes) -> AsyncGenerator[bytes, None]:
        asked = self._values_question(tenant, message, filtered=True)
        work = self._queries.tags.values(tenant, asked)
        found = await counted(self._deps.telemetry, "metadata", tenant, work)
        count_bytes(self._deps.telemetry, "metadata", tenant, found.cost)
        for packet in await _rendered(len(found.values), tag_values_response, found):
            yield packet

    async def _tags(self, tenant: str, asked: TagsRequest) -> TagsAnswer:
        work = self._queries.tags.tags(tenant, asked)
        found = await counted(self._deps.telemetry, "metadata", tenant, work)
        count_bytes(self._deps.telemetry, "metadata", tenant, found.cost)
        return found

    def _tags_question(self, tenant: str, message: bytes, *, filtered: bool) -> TagsRequest:
        asked = _parsed(pb.SearchTagsRequest, message)
        limits = self._queries.limits(tenant)
        query = asked.query if filtered else ""
        checked_size(query, limits)
        within = _within(asked.start, asked.end, limits, self._queries.now())
        scope = tag_scope({"scope": asked.scope})
        return TagsRequest(scope, query, within.start, within.end, asked.maxTagsPerScope)

    def _values_question(self, tenant: str, message: bytes, *, filtered: bool) -> TagValuesRequest:
        asked = _parsed(pb.SearchTagValuesRequest, message)
        limits = self._queries.limits(tenant)
        query = asked.query if filtered else ""
        checked_size(query, limits)
        within = _within(asked.start, asked.end, limits, self._queries.now())
        return TagValuesRequest(asked.tagName, query, within.start, within.end, asked.maxTagValues)


def search_question(asked: pb.SearchRequest, limits: QueryLimits, now: int) -> SearchRequest:
    """What the engine is asked. Raises RequestError and TraceQLError as HTTP does; zeros are "not said"."""
    numbers = {"limit": asked.Limit, "spss": asked.SpansPerSpanSet, "start": asked.start, "end": asked.end}
    durations = {"minDuration": asked.MinDurationMs, "maxDuration": asked.MaxDurationMs}
    parameters = {name: str(number) for name, number in numbers.items() if number}
    parameters |= {name: f"{milliseconds}ms" for name, milliseconds in durations.items() if milliseconds}
    read = asked_search(parameters, now)
    if asked.Tags:
        if asked.Query:
            raise RequestError("invalid request: can't specify tags and q in the same query")
        tags = dict(asked.Tags)
        read = replace(read, tags=replace(read.tags, tags=tags) if read.tags else LegacyTags(tags))
    return search_request(replace(read, query=asked.Query), limits, now)


def range_question(asked: pb.QueryRangeRequest, limits: QueryLimits, now: int) -> MetricsRequest:
    """What the engine is asked. Raises RequestError; zeros are "not said"."""
    start, end = _nano_range(asked.start, asked.end, now)
    return _metrics_question(
        AskedSeries(
            query=asked.query,
            start=start,
            end=end,
            step=min(asked.step, INT64_END - 1) or None,
            exemplars=asked.exemplars,
            series=asked.maxSeries,
        ),
        limits,
        now,
    )


def instant_question(asked: pb.QueryInstantRequest, limits: QueryLimits, now: int) -> MetricsRequest:
    """What the engine is asked. Raises RequestError; zeros are "not said"."""
    start, end = _nano_range(asked.start, asked.end, now)
    return _metrics_question(AskedSeries(asked.query, start, end, instant=True), limits, now)


def _metrics_question(asked: AskedSeries, limits: QueryLimits, now: int) -> MetricsRequest:
    checked_size(asked.query, limits)
    try:
        return metrics_request(asked, limits, now)
    except RequestError:
        _refuse_what_makes_no_series(asked.query, limits)
        raise


def _refuse_what_makes_no_series(text: str, limits: QueryLimits) -> None:
    """Tempo answers such queries with status UNKNOWN, which 422 becomes, not INVALID_ARGUMENT."""
    try:
        metrics_query(text, limits)
    except RequestError as error:
        raise RequestError(str(error), status=422) from error


def _nano_range(start: int, end: int, now: int) -> tuple[int, int]:
    """Unix nanoseconds, within int64 like all times. Raises RequestError."""
    for name, nano in (("start", start), ("end", end)):
        if nano >= INT64_END:
            raise RequestError(f"invalid {name}: {nano} is not between the years 1970 and 2262")
    end = end or now
    return start or max(0, end - SINCE_DEFAULT), end


def _within(start: int, end: int, limits: QueryLimits, now: int) -> AskedRange:
    return bounded_range(asked_range({"start": str(start), "end": str(end)}, now), limits, now)


def _parsed(kind: type[_Message], message: bytes) -> _Message:
    try:
        return kind.FromString(message)
    except BadMessageError as error:
        raise RequestError(f"cannot decode {kind.DESCRIPTOR.full_name}: {error}") from error


async def _read(message: bytes, parse: Callable[[], _Question]) -> _Question:
    """`parse()`, which takes time in proportion to the message: here when that is short, else in a thread."""
    return parse() if len(message) <= INLINE_TEXT_MAX else await asyncio.to_thread(parse)


async def _rendered(count: int, render: Callable[[_Question], Message], answer: _Question) -> list[bytes]:
    """The packets of an answer that holds `count` values: many are rendered in a thread."""

    def work() -> list[bytes]:
        return list(packets(render(answer)))

    return work() if count * VALUE_SIZE <= INLINE_SIZE_MAX else await asyncio.to_thread(work)


def _size(part: SearchAnswer | MetricsAnswer) -> int:
    """Spans, or samples and exemplars."""
    match part:
        case SearchAnswer():
            return sum(1 + sum(len(spanset.spans) for spanset in trace.spansets) for trace in part.traces)
        case MetricsAnswer():
            return sum(len(series.values) + len(series.exemplars) for series in part.series)
