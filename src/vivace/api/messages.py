"""Answers of searches, tags and metrics as the messages of tempopb.proto: HTTP with Accept: application/protobuf, and gRPC.

Pure functions, one for each kind of reply; the same answers in JSON: query_json.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import assert_never

from vivace.api.query_json import NO_ROOT, duration_ms, span_id_text, trace_id_text
from vivace.model.proto.otlp_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from vivace.model.proto.tempopb_pb2 import (
    PARTIAL,
    Exemplar,
    InstantSeries,
    MetadataMetrics,
    QueryInstantResponse,
    QueryRangeResponse,
    Sample,
    SearchMetrics,
    SearchResponse,
    SearchTagsResponse,
    SearchTagsV2Response,
    SearchTagsV2Scope,
    SearchTagValuesResponse,
    SearchTagValuesV2Response,
    ServiceStats,
    Span,
    SpanSet,
    TagValue,
    TimeSeries,
    TraceSearchMetadata,
)
from vivace.query.answers import (
    FoundSpan,
    FoundSpanset,
    MetricsAnswer,
    Pairs,
    QueryCost,
    SearchAnswer,
    Series,
    TagsAnswer,
    TagValuesAnswer,
    TraceSummary,
    Value,
    by_type,
)

_UINT32_MAX = 2**32 - 1


def search_response(answer: SearchAnswer, *, padded_ids: bool = False) -> SearchResponse:
    """The message has no place for `message` and `explain`."""
    traces = [_trace(trace, padded_ids) for trace in answer.traces]
    return SearchResponse(traces=traces, metrics=search_metrics(answer.cost))


def tags_response(answer: TagsAnswer) -> SearchTagsV2Response:
    scopes = [SearchTagsV2Scope(name=name, tags=tags) for name, tags in answer.scopes.items()]
    return SearchTagsV2Response(scopes=scopes, metrics=metadata_metrics(answer.cost))


def tag_names_response(names: Sequence[str], answer: TagsAnswer) -> SearchTagsResponse:
    """The v1 form: names without scopes, as query_json.tag_names() merges them."""
    return SearchTagsResponse(tagNames=names, metrics=metadata_metrics(answer.cost))


def tag_values_response(answer: TagValuesAnswer) -> SearchTagValuesV2Response:
    values = [TagValue(type=kind, value=text) for kind, texts in by_type(answer.values) for text in texts]
    return SearchTagValuesV2Response(tagValues=values, metrics=metadata_metrics(answer.cost))


def tag_values_v1_response(values: Sequence[str]) -> SearchTagValuesResponse:
    return SearchTagValuesResponse(tagValues=values, metrics=MetadataMetrics())


def range_response(answer: MetricsAnswer) -> QueryRangeResponse:
    return QueryRangeResponse(
        series=[_series(series) for series in answer.series],
        metrics=search_metrics(answer.cost),
        status=PARTIAL if answer.message else None,
        message=answer.message,
    )


def instant_response(answer: MetricsAnswer) -> QueryInstantResponse:
    return QueryInstantResponse(
        series=[
            InstantSeries(labels=key_values(series.labels), value=value)
            for series in answer.series
            for value in series.values[:1].tolist()
        ],
        metrics=search_metrics(answer.cost),
        status=PARTIAL if answer.message else None,
        message=answer.message,
    )


def search_metrics(cost: QueryCost) -> SearchMetrics:
    return SearchMetrics(
        inspectedTraces=min(cost.inspected_traces, _UINT32_MAX),
        inspectedBytes=cost.inspected_bytes,
        totalBlocks=cost.total_blocks,
        completedJobs=cost.completed_jobs,
        totalJobs=cost.total_jobs,
        totalBlockBytes=cost.total_block_bytes,
        inspectedSpans=cost.inspected_spans,
    )


def metadata_metrics(cost: QueryCost) -> MetadataMetrics:
    return MetadataMetrics(
        inspectedBytes=cost.inspected_bytes,
        totalJobs=cost.total_jobs,
        completedJobs=cost.completed_jobs,
        totalBlocks=cost.total_blocks,
        totalBlockBytes=cost.total_block_bytes,
    )


def key_values(pairs: Pairs) -> Iterator[KeyValue]:
    return (KeyValue(key=key, value=any_value(value)) for key, value in pairs)


def any_value(value: Value) -> AnyValue:
    match value:
        case str():
            return AnyValue(string_value=value)
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case bytes():
            return AnyValue(bytes_value=value)
        case tuple():
            return AnyValue(array_value=ArrayValue(values=[any_value(item) for item in value]))
        case Mapping():
            return AnyValue(kvlist_value=KeyValueList(values=key_values(tuple(value.items()))))
        case None:
            return AnyValue()
        case _:
            assert_never(value)


def _trace(trace: TraceSummary, padded_ids: bool) -> TraceSearchMetadata:
    spansets = [_spanset(spanset) for spanset in trace.spansets]
    services = trace.services or {}
    return TraceSearchMetadata(
        traceID=trace_id_text(trace.trace_id, padded=padded_ids),
        rootServiceName=NO_ROOT if trace.root_service_name is None else trace.root_service_name,
        rootTraceName=trace.root_name or "",
        startTimeUnixNano=trace.start_unix_nano,
        durationMs=min(duration_ms(trace.duration_nano), _UINT32_MAX),
        spanSet=spansets[0] if spansets else None,
        spanSets=spansets,
        serviceStats={
            name: ServiceStats(spanCount=stats.span_count, errorCount=stats.error_count)
            for name, stats in services.items()
        },
    )


def _spanset(spanset: FoundSpanset) -> SpanSet:
    spans = [_span(span) for span in spanset.spans]
    return SpanSet(spans=spans, matched=spanset.matched, attributes=key_values(spanset.attributes))


def _span(span: FoundSpan) -> Span:
    return Span(
        spanID=span_id_text(span.span_id),
        name=span.name or "",
        startTimeUnixNano=span.start_unix_nano,
        durationNanos=span.duration_nano,
        attributes=key_values(span.attributes),
    )


def _series(series: Series) -> TimeSeries:
    samples = zip(series.timestamps_ms.tolist(), series.values.tolist(), strict=True)
    return TimeSeries(
        labels=key_values(series.labels),
        samples=[Sample(timestamp_ms=ms, value=value) for ms, value in samples],
        exemplars=[
            Exemplar(labels=key_values(e.labels), value=e.value, timestamp_ms=e.timestamp_ms) for e in series.exemplars
        ],
    )
