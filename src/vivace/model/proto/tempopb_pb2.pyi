import datetime
from collections.abc import Iterable as _Iterable
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar

from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper

from vivace.model.proto import otlp_pb2 as _otlp_pb2

DESCRIPTOR: _descriptor.FileDescriptor

class PartialStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COMPLETE: _ClassVar[PartialStatus]
    PARTIAL: _ClassVar[PartialStatus]

COMPLETE: PartialStatus
PARTIAL: PartialStatus

class TraceByIDRequest(_message.Message):
    __slots__ = ("RF1After", "allowPartialTrace", "blockEnd", "blockStart", "queryMode", "traceID")
    TRACEID_FIELD_NUMBER: _ClassVar[int]
    BLOCKSTART_FIELD_NUMBER: _ClassVar[int]
    BLOCKEND_FIELD_NUMBER: _ClassVar[int]
    QUERYMODE_FIELD_NUMBER: _ClassVar[int]
    ALLOWPARTIALTRACE_FIELD_NUMBER: _ClassVar[int]
    RF1AFTER_FIELD_NUMBER: _ClassVar[int]
    traceID: bytes
    blockStart: str
    blockEnd: str
    queryMode: str
    allowPartialTrace: bool
    RF1After: _timestamp_pb2.Timestamp
    def __init__(
        self,
        traceID: bytes | None = ...,
        blockStart: str | None = ...,
        blockEnd: str | None = ...,
        queryMode: str | None = ...,
        allowPartialTrace: bool | None = ...,
        RF1After: datetime.datetime | _timestamp_pb2.Timestamp | _Mapping | None = ...,
    ) -> None: ...

class TraceByIDResponse(_message.Message):
    __slots__ = ("message", "metrics", "status", "trace")
    TRACE_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    trace: Trace
    metrics: TraceByIDMetrics
    status: PartialStatus
    message: str
    def __init__(
        self,
        trace: Trace | _Mapping | None = ...,
        metrics: TraceByIDMetrics | _Mapping | None = ...,
        status: PartialStatus | str | None = ...,
        message: str | None = ...,
    ) -> None: ...

class TraceByIDMetrics(_message.Message):
    __slots__ = ("inspectedBytes",)
    INSPECTEDBYTES_FIELD_NUMBER: _ClassVar[int]
    inspectedBytes: int
    def __init__(self, inspectedBytes: int | None = ...) -> None: ...

class Trace(_message.Message):
    __slots__ = ("resourceSpans",)
    RESOURCESPANS_FIELD_NUMBER: _ClassVar[int]
    resourceSpans: _containers.RepeatedCompositeFieldContainer[_otlp_pb2.ResourceSpans]
    def __init__(self, resourceSpans: _Iterable[_otlp_pb2.ResourceSpans | _Mapping] | None = ...) -> None: ...

class SearchRequest(_message.Message):
    __slots__ = (
        "Limit",
        "MaxDurationMs",
        "MinDurationMs",
        "Query",
        "RF1After",
        "SpansPerSpanSet",
        "Tags",
        "end",
        "start",
    )
    class TagsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: str | None = ..., value: str | None = ...) -> None: ...

    TAGS_FIELD_NUMBER: _ClassVar[int]
    MINDURATIONMS_FIELD_NUMBER: _ClassVar[int]
    MAXDURATIONMS_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    SPANSPERSPANSET_FIELD_NUMBER: _ClassVar[int]
    RF1AFTER_FIELD_NUMBER: _ClassVar[int]
    Tags: _containers.ScalarMap[str, str]
    MinDurationMs: int
    MaxDurationMs: int
    Limit: int
    start: int
    end: int
    Query: str
    SpansPerSpanSet: int
    RF1After: _timestamp_pb2.Timestamp
    def __init__(
        self,
        Tags: _Mapping[str, str] | None = ...,
        MinDurationMs: int | None = ...,
        MaxDurationMs: int | None = ...,
        Limit: int | None = ...,
        start: int | None = ...,
        end: int | None = ...,
        Query: str | None = ...,
        SpansPerSpanSet: int | None = ...,
        RF1After: datetime.datetime | _timestamp_pb2.Timestamp | _Mapping | None = ...,
    ) -> None: ...

class SearchResponse(_message.Message):
    __slots__ = ("metrics", "traces")
    TRACES_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    traces: _containers.RepeatedCompositeFieldContainer[TraceSearchMetadata]
    metrics: SearchMetrics
    def __init__(
        self,
        traces: _Iterable[TraceSearchMetadata | _Mapping] | None = ...,
        metrics: SearchMetrics | _Mapping | None = ...,
    ) -> None: ...

class TraceSearchMetadata(_message.Message):
    __slots__ = (
        "durationMs",
        "rootServiceName",
        "rootTraceName",
        "serviceStats",
        "spanSet",
        "spanSets",
        "startTimeUnixNano",
        "traceID",
    )
    class ServiceStatsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: ServiceStats
        def __init__(self, key: str | None = ..., value: ServiceStats | _Mapping | None = ...) -> None: ...

    TRACEID_FIELD_NUMBER: _ClassVar[int]
    ROOTSERVICENAME_FIELD_NUMBER: _ClassVar[int]
    ROOTTRACENAME_FIELD_NUMBER: _ClassVar[int]
    STARTTIMEUNIXNANO_FIELD_NUMBER: _ClassVar[int]
    DURATIONMS_FIELD_NUMBER: _ClassVar[int]
    SPANSET_FIELD_NUMBER: _ClassVar[int]
    SPANSETS_FIELD_NUMBER: _ClassVar[int]
    SERVICESTATS_FIELD_NUMBER: _ClassVar[int]
    traceID: str
    rootServiceName: str
    rootTraceName: str
    startTimeUnixNano: int
    durationMs: int
    spanSet: SpanSet
    spanSets: _containers.RepeatedCompositeFieldContainer[SpanSet]
    serviceStats: _containers.MessageMap[str, ServiceStats]
    def __init__(
        self,
        traceID: str | None = ...,
        rootServiceName: str | None = ...,
        rootTraceName: str | None = ...,
        startTimeUnixNano: int | None = ...,
        durationMs: int | None = ...,
        spanSet: SpanSet | _Mapping | None = ...,
        spanSets: _Iterable[SpanSet | _Mapping] | None = ...,
        serviceStats: _Mapping[str, ServiceStats] | None = ...,
    ) -> None: ...

class ServiceStats(_message.Message):
    __slots__ = ("errorCount", "spanCount")
    SPANCOUNT_FIELD_NUMBER: _ClassVar[int]
    ERRORCOUNT_FIELD_NUMBER: _ClassVar[int]
    spanCount: int
    errorCount: int
    def __init__(self, spanCount: int | None = ..., errorCount: int | None = ...) -> None: ...

class SpanSet(_message.Message):
    __slots__ = ("attributes", "matched", "spans")
    SPANS_FIELD_NUMBER: _ClassVar[int]
    MATCHED_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    spans: _containers.RepeatedCompositeFieldContainer[Span]
    matched: int
    attributes: _containers.RepeatedCompositeFieldContainer[_otlp_pb2.KeyValue]
    def __init__(
        self,
        spans: _Iterable[Span | _Mapping] | None = ...,
        matched: int | None = ...,
        attributes: _Iterable[_otlp_pb2.KeyValue | _Mapping] | None = ...,
    ) -> None: ...

class Span(_message.Message):
    __slots__ = ("attributes", "durationNanos", "name", "spanID", "startTimeUnixNano")
    SPANID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    STARTTIMEUNIXNANO_FIELD_NUMBER: _ClassVar[int]
    DURATIONNANOS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    spanID: str
    name: str
    startTimeUnixNano: int
    durationNanos: int
    attributes: _containers.RepeatedCompositeFieldContainer[_otlp_pb2.KeyValue]
    def __init__(
        self,
        spanID: str | None = ...,
        name: str | None = ...,
        startTimeUnixNano: int | None = ...,
        durationNanos: int | None = ...,
        attributes: _Iterable[_otlp_pb2.KeyValue | _Mapping] | None = ...,
    ) -> None: ...

class SearchMetrics(_message.Message):
    __slots__ = (
        "completedJobs",
        "inspectedBytes",
        "inspectedSpans",
        "inspectedTraces",
        "totalBlockBytes",
        "totalBlocks",
        "totalJobs",
    )
    INSPECTEDTRACES_FIELD_NUMBER: _ClassVar[int]
    INSPECTEDBYTES_FIELD_NUMBER: _ClassVar[int]
    TOTALBLOCKS_FIELD_NUMBER: _ClassVar[int]
    COMPLETEDJOBS_FIELD_NUMBER: _ClassVar[int]
    TOTALJOBS_FIELD_NUMBER: _ClassVar[int]
    TOTALBLOCKBYTES_FIELD_NUMBER: _ClassVar[int]
    INSPECTEDSPANS_FIELD_NUMBER: _ClassVar[int]
    inspectedTraces: int
    inspectedBytes: int
    totalBlocks: int
    completedJobs: int
    totalJobs: int
    totalBlockBytes: int
    inspectedSpans: int
    def __init__(
        self,
        inspectedTraces: int | None = ...,
        inspectedBytes: int | None = ...,
        totalBlocks: int | None = ...,
        completedJobs: int | None = ...,
        totalJobs: int | None = ...,
        totalBlockBytes: int | None = ...,
        inspectedSpans: int | None = ...,
    ) -> None: ...

class SearchTagsRequest(_message.Message):
    __slots__ = ("RF1After", "end", "maxTagsPerScope", "query", "scope", "staleValuesThreshold", "start")
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    MAXTAGSPERSCOPE_FIELD_NUMBER: _ClassVar[int]
    STALEVALUESTHRESHOLD_FIELD_NUMBER: _ClassVar[int]
    RF1AFTER_FIELD_NUMBER: _ClassVar[int]
    scope: str
    query: str
    start: int
    end: int
    maxTagsPerScope: int
    staleValuesThreshold: int
    RF1After: _timestamp_pb2.Timestamp
    def __init__(
        self,
        scope: str | None = ...,
        query: str | None = ...,
        start: int | None = ...,
        end: int | None = ...,
        maxTagsPerScope: int | None = ...,
        staleValuesThreshold: int | None = ...,
        RF1After: datetime.datetime | _timestamp_pb2.Timestamp | _Mapping | None = ...,
    ) -> None: ...

class SearchTagsResponse(_message.Message):
    __slots__ = ("metrics", "tagNames")
    TAGNAMES_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    tagNames: _containers.RepeatedScalarFieldContainer[str]
    metrics: MetadataMetrics
    def __init__(
        self, tagNames: _Iterable[str] | None = ..., metrics: MetadataMetrics | _Mapping | None = ...
    ) -> None: ...

class SearchTagsV2Response(_message.Message):
    __slots__ = ("metrics", "scopes")
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    scopes: _containers.RepeatedCompositeFieldContainer[SearchTagsV2Scope]
    metrics: MetadataMetrics
    def __init__(
        self,
        scopes: _Iterable[SearchTagsV2Scope | _Mapping] | None = ...,
        metrics: MetadataMetrics | _Mapping | None = ...,
    ) -> None: ...

class SearchTagsV2Scope(_message.Message):
    __slots__ = ("name", "tags")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    name: str
    tags: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: str | None = ..., tags: _Iterable[str] | None = ...) -> None: ...

class SearchTagValuesRequest(_message.Message):
    __slots__ = ("RF1After", "end", "maxTagValues", "query", "staleValueThreshold", "start", "tagName")
    TAGNAME_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    MAXTAGVALUES_FIELD_NUMBER: _ClassVar[int]
    STALEVALUETHRESHOLD_FIELD_NUMBER: _ClassVar[int]
    RF1AFTER_FIELD_NUMBER: _ClassVar[int]
    tagName: str
    query: str
    start: int
    end: int
    maxTagValues: int
    staleValueThreshold: int
    RF1After: _timestamp_pb2.Timestamp
    def __init__(
        self,
        tagName: str | None = ...,
        query: str | None = ...,
        start: int | None = ...,
        end: int | None = ...,
        maxTagValues: int | None = ...,
        staleValueThreshold: int | None = ...,
        RF1After: datetime.datetime | _timestamp_pb2.Timestamp | _Mapping | None = ...,
    ) -> None: ...

class SearchTagValuesResponse(_message.Message):
    __slots__ = ("metrics", "tagValues")
    TAGVALUES_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    tagValues: _containers.RepeatedScalarFieldContainer[str]
    metrics: MetadataMetrics
    def __init__(
        self, tagValues: _Iterable[str] | None = ..., metrics: MetadataMetrics | _Mapping | None = ...
    ) -> None: ...

class SearchTagValuesV2Response(_message.Message):
    __slots__ = ("metrics", "tagValues")
    TAGVALUES_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    tagValues: _containers.RepeatedCompositeFieldContainer[TagValue]
    metrics: MetadataMetrics
    def __init__(
        self, tagValues: _Iterable[TagValue | _Mapping] | None = ..., metrics: MetadataMetrics | _Mapping | None = ...
    ) -> None: ...

class TagValue(_message.Message):
    __slots__ = ("type", "value")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    type: str
    value: str
    def __init__(self, type: str | None = ..., value: str | None = ...) -> None: ...

class MetadataMetrics(_message.Message):
    __slots__ = ("completedJobs", "inspectedBytes", "totalBlockBytes", "totalBlocks", "totalJobs")
    INSPECTEDBYTES_FIELD_NUMBER: _ClassVar[int]
    TOTALJOBS_FIELD_NUMBER: _ClassVar[int]
    COMPLETEDJOBS_FIELD_NUMBER: _ClassVar[int]
    TOTALBLOCKS_FIELD_NUMBER: _ClassVar[int]
    TOTALBLOCKBYTES_FIELD_NUMBER: _ClassVar[int]
    inspectedBytes: int
    totalJobs: int
    completedJobs: int
    totalBlocks: int
    totalBlockBytes: int
    def __init__(
        self,
        inspectedBytes: int | None = ...,
        totalJobs: int | None = ...,
        completedJobs: int | None = ...,
        totalBlocks: int | None = ...,
        totalBlockBytes: int | None = ...,
    ) -> None: ...

class QueryInstantRequest(_message.Message):
    __slots__ = ("end", "query", "start")
    QUERY_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    query: str
    start: int
    end: int
    def __init__(self, query: str | None = ..., start: int | None = ..., end: int | None = ...) -> None: ...

class QueryInstantResponse(_message.Message):
    __slots__ = ("message", "metrics", "series", "status")
    SERIES_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    series: _containers.RepeatedCompositeFieldContainer[InstantSeries]
    metrics: SearchMetrics
    status: PartialStatus
    message: str
    def __init__(
        self,
        series: _Iterable[InstantSeries | _Mapping] | None = ...,
        metrics: SearchMetrics | _Mapping | None = ...,
        status: PartialStatus | str | None = ...,
        message: str | None = ...,
    ) -> None: ...

class InstantSeries(_message.Message):
    __slots__ = ("labels", "value")
    LABELS_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    labels: _containers.RepeatedCompositeFieldContainer[_otlp_pb2.KeyValue]
    value: float
    def __init__(
        self, labels: _Iterable[_otlp_pb2.KeyValue | _Mapping] | None = ..., value: float | None = ...
    ) -> None: ...

class QueryRangeRequest(_message.Message):
    __slots__ = (
        "blockID",
        "dedicatedColumns",
        "encoding",
        "end",
        "exemplars",
        "footerSize",
        "instant",
        "maxSeries",
        "pagesToSearch",
        "query",
        "queryMode",
        "size",
        "start",
        "startPage",
        "step",
        "version",
    )
    QUERY_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    QUERYMODE_FIELD_NUMBER: _ClassVar[int]
    BLOCKID_FIELD_NUMBER: _ClassVar[int]
    STARTPAGE_FIELD_NUMBER: _ClassVar[int]
    PAGESTOSEARCH_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    FOOTERSIZE_FIELD_NUMBER: _ClassVar[int]
    DEDICATEDCOLUMNS_FIELD_NUMBER: _ClassVar[int]
    EXEMPLARS_FIELD_NUMBER: _ClassVar[int]
    MAXSERIES_FIELD_NUMBER: _ClassVar[int]
    INSTANT_FIELD_NUMBER: _ClassVar[int]
    query: str
    start: int
    end: int
    step: int
    queryMode: str
    blockID: str
    startPage: int
    pagesToSearch: int
    version: str
    encoding: str
    size: int
    footerSize: int
    dedicatedColumns: _containers.RepeatedCompositeFieldContainer[DedicatedColumn]
    exemplars: int
    maxSeries: int
    instant: bool
    def __init__(
        self,
        query: str | None = ...,
        start: int | None = ...,
        end: int | None = ...,
        step: int | None = ...,
        queryMode: str | None = ...,
        blockID: str | None = ...,
        startPage: int | None = ...,
        pagesToSearch: int | None = ...,
        version: str | None = ...,
        encoding: str | None = ...,
        size: int | None = ...,
        footerSize: int | None = ...,
        dedicatedColumns: _Iterable[DedicatedColumn | _Mapping] | None = ...,
        exemplars: int | None = ...,
        maxSeries: int | None = ...,
        instant: bool | None = ...,
    ) -> None: ...

class QueryRangeResponse(_message.Message):
    __slots__ = ("message", "metrics", "series", "status")
    SERIES_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    series: _containers.RepeatedCompositeFieldContainer[TimeSeries]
    metrics: SearchMetrics
    status: PartialStatus
    message: str
    def __init__(
        self,
        series: _Iterable[TimeSeries | _Mapping] | None = ...,
        metrics: SearchMetrics | _Mapping | None = ...,
        status: PartialStatus | str | None = ...,
        message: str | None = ...,
    ) -> None: ...

class TimeSeries(_message.Message):
    __slots__ = ("exemplars", "labels", "samples")
    LABELS_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    EXEMPLARS_FIELD_NUMBER: _ClassVar[int]
    labels: _containers.RepeatedCompositeFieldContainer[_otlp_pb2.KeyValue]
    samples: _containers.RepeatedCompositeFieldContainer[Sample]
    exemplars: _containers.RepeatedCompositeFieldContainer[Exemplar]
    def __init__(
        self,
        labels: _Iterable[_otlp_pb2.KeyValue | _Mapping] | None = ...,
        samples: _Iterable[Sample | _Mapping] | None = ...,
        exemplars: _Iterable[Exemplar | _Mapping] | None = ...,
    ) -> None: ...

class Sample(_message.Message):
    __slots__ = ("timestamp_ms", "value")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_MS_FIELD_NUMBER: _ClassVar[int]
    value: float
    timestamp_ms: int
    def __init__(self, value: float | None = ..., timestamp_ms: int | None = ...) -> None: ...

class Exemplar(_message.Message):
    __slots__ = ("labels", "timestamp_ms", "value")
    LABELS_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_MS_FIELD_NUMBER: _ClassVar[int]
    labels: _containers.RepeatedCompositeFieldContainer[_otlp_pb2.KeyValue]
    value: float
    timestamp_ms: int
    def __init__(
        self,
        labels: _Iterable[_otlp_pb2.KeyValue | _Mapping] | None = ...,
        value: float | None = ...,
        timestamp_ms: int | None = ...,
    ) -> None: ...

class DedicatedColumn(_message.Message):
    __slots__ = ("name", "options", "scope", "type")
    class Type(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STRING: _ClassVar[DedicatedColumn.Type]
        INT: _ClassVar[DedicatedColumn.Type]

    STRING: DedicatedColumn.Type
    INT: DedicatedColumn.Type
    class Scope(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SPAN: _ClassVar[DedicatedColumn.Scope]
        RESOURCE: _ClassVar[DedicatedColumn.Scope]
        EVENT: _ClassVar[DedicatedColumn.Scope]

    SPAN: DedicatedColumn.Scope
    RESOURCE: DedicatedColumn.Scope
    EVENT: DedicatedColumn.Scope
    class Option(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        NONE: _ClassVar[DedicatedColumn.Option]
        ARRAY: _ClassVar[DedicatedColumn.Option]
        BLOB: _ClassVar[DedicatedColumn.Option]

    NONE: DedicatedColumn.Option
    ARRAY: DedicatedColumn.Option
    BLOB: DedicatedColumn.Option
    TYPE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    type: DedicatedColumn.Type
    name: str
    scope: DedicatedColumn.Scope
    options: DedicatedColumn.Option
    def __init__(
        self,
        type: DedicatedColumn.Type | str | None = ...,
        name: str | None = ...,
        scope: DedicatedColumn.Scope | str | None = ...,
        options: DedicatedColumn.Option | str | None = ...,
    ) -> None: ...

class SpanMetricsSummaryRequest(_message.Message):
    __slots__ = ("end", "groupBy", "limit", "query", "start")
    QUERY_FIELD_NUMBER: _ClassVar[int]
    GROUPBY_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    query: str
    groupBy: str
    limit: int
    start: int
    end: int
    def __init__(
        self,
        query: str | None = ...,
        groupBy: str | None = ...,
        limit: int | None = ...,
        start: int | None = ...,
        end: int | None = ...,
    ) -> None: ...

class SpanMetricsSummaryResponse(_message.Message):
    __slots__ = ("summaries",)
    SUMMARIES_FIELD_NUMBER: _ClassVar[int]
    summaries: _containers.RepeatedCompositeFieldContainer[SpanMetricsSummary]
    def __init__(self, summaries: _Iterable[SpanMetricsSummary | _Mapping] | None = ...) -> None: ...

class SpanMetricsSummary(_message.Message):
    __slots__ = ("errorSpanCount", "p50", "p90", "p95", "p99", "series", "spanCount")
    SPANCOUNT_FIELD_NUMBER: _ClassVar[int]
    ERRORSPANCOUNT_FIELD_NUMBER: _ClassVar[int]
    SERIES_FIELD_NUMBER: _ClassVar[int]
    P99_FIELD_NUMBER: _ClassVar[int]
    P95_FIELD_NUMBER: _ClassVar[int]
    P90_FIELD_NUMBER: _ClassVar[int]
    P50_FIELD_NUMBER: _ClassVar[int]
    spanCount: int
    errorSpanCount: int
    series: _containers.RepeatedCompositeFieldContainer[KeyValue]
    p99: int
    p95: int
    p90: int
    p50: int
    def __init__(
        self,
        spanCount: int | None = ...,
        errorSpanCount: int | None = ...,
        series: _Iterable[KeyValue | _Mapping] | None = ...,
        p99: int | None = ...,
        p95: int | None = ...,
        p90: int | None = ...,
        p50: int | None = ...,
    ) -> None: ...

class KeyValue(_message.Message):
    __slots__ = ("key", "value")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key: str
    value: TraceQLStatic
    def __init__(self, key: str | None = ..., value: TraceQLStatic | _Mapping | None = ...) -> None: ...

class TraceQLStatic(_message.Message):
    __slots__ = ("b", "d", "f", "kind", "n", "s", "status", "type")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    F_FIELD_NUMBER: _ClassVar[int]
    S_FIELD_NUMBER: _ClassVar[int]
    B_FIELD_NUMBER: _ClassVar[int]
    D_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    type: int
    n: int
    f: float
    s: str
    b: bool
    d: int
    status: int
    kind: int
    def __init__(
        self,
        type: int | None = ...,
        n: int | None = ...,
        f: float | None = ...,
        s: str | None = ...,
        b: bool | None = ...,
        d: int | None = ...,
        status: int | None = ...,
        kind: int | None = ...,
    ) -> None: ...
