"""What is asked of the query engines and what they answer, free of HTTP, gRPC and storage.

Times are unix nanoseconds unless the name says seconds. Values of attributes are Python's str, int, float, bool, bytes, a
tuple (array), a dict (key/value list), or None (a value that is not set).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from vivace.traceql import CheckedQuery

Value: TypeAlias = "str | int | float | bool | bytes | tuple[Value, ...] | Mapping[str, Value] | None"
Pairs: TypeAlias = tuple[tuple[str, Value], ...]
"""Attributes of an answer in their order."""


@dataclass(frozen=True, slots=True)
class LegacyTags:
    """A search without TraceQL: each tag may hold on another span of the trace; durations are of the trace."""

    tags: Mapping[str, str]
    duration_min_nano: int | None = None
    duration_max_nano: int | None = None


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """Traces wanted: by `query`, by `tags`, or all (both None). Bounds in unix seconds choose traces, not spans; None = open.

    limit   traces;  spans_max: spans shown of each spanset, 0 = all
    """

    query: CheckedQuery | None
    tags: LegacyTags | None = None
    start_seconds: int | None = None
    end_seconds: int | None = None
    limit: int = 20
    spans_max: int = 3
    explain: bool = False


@dataclass(frozen=True, slots=True)
class FoundSpan:
    """A matching span. `name` only where the query speaks of it."""

    span_id: int
    name: str | None
    start_unix_nano: int
    duration_nano: int
    attributes: Pairs


@dataclass(frozen=True, slots=True)
class FoundSpanset:
    """Spans that matched together. `matched` counts all of them, `spans` are the first."""

    spans: tuple[FoundSpan, ...]
    matched: int
    attributes: Pairs = ()


@dataclass(frozen=True, slots=True)
class ServiceStats:
    span_count: int
    error_count: int


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """A trace that was found. Root names are None where the root span is not stored; `services` is None where the search has
    no spansets (by tags, or for everything).
    """

    trace_id: int
    """128 bits."""
    root_service_name: str | None
    root_name: str | None
    start_unix_nano: int
    duration_nano: int
    spansets: tuple[FoundSpanset, ...] = ()
    services: Mapping[str, ServiceStats] | None = None


@dataclass(frozen=True, slots=True)
class QueryCost:
    """What a query read. Jobs are row groups of blocks and the head."""

    inspected_traces: int = 0
    inspected_spans: int = 0
    inspected_bytes: int = 0
    total_blocks: int = 0
    completed_jobs: int = 0
    total_jobs: int = 0
    total_block_bytes: int = 0


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """Traces by start, newest first. `message` is empty unless the answer is partial, and then says why."""

    traces: tuple[TraceSummary, ...]
    cost: QueryCost
    message: str = ""
    explain: str = ""


@dataclass(frozen=True, slots=True)
class TagsRequest:
    """Names of attributes wanted. scope: one of "", none, span, resource, event, link, instrumentation, intrinsic.

    filter  `{ a = b && … }` text of the spans whose attributes are wanted; "" = all
    limit   names a scope, 0 = all
    """

    scope: str = ""
    filter: str = ""
    start_seconds: int | None = None
    end_seconds: int | None = None
    limit: int = 0


@dataclass(frozen=True, slots=True)
class TagsAnswer:
    """Names by scope, sorted; scopes without names are left out."""

    scopes: Mapping[str, tuple[str, ...]]
    cost: QueryCost


@dataclass(frozen=True, slots=True)
class TagValuesRequest:
    """Values of one tag wanted. tag: for v2 a TraceQL identifier, for v1 a bare attribute name.

    limit   values, 0 = all
    """

    tag: str
    filter: str = ""
    start_seconds: int | None = None
    end_seconds: int | None = None
    limit: int = 0


@dataclass(frozen=True, slots=True)
class TagValue:
    """A value as text, and its type: string, int, float, bool, keyword."""

    type: str
    value: str


class TagValueColumns(Sequence[TagValue]):
    """Many values by type: 80,000 of them are made ten times faster than as objects, which come to be only where one looks."""

    def __init__(self, by_type: Sequence[tuple[str, Sequence[str]]]) -> None:
        self.by_type = by_type

    def __len__(self) -> int:
        return sum(len(texts) for _, texts in self.by_type)

    @overload
    def __getitem__(self, at: int) -> TagValue: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[TagValue]: ...
    def __getitem__(self, at: int | slice) -> TagValue | Sequence[TagValue]:
        return list(self)[at]

    def __iter__(self) -> Iterator[TagValue]:
        return (TagValue(kind, text) for kind, texts in self.by_type for text in texts)


def by_type(values: Sequence[TagValue]) -> Sequence[tuple[str, Sequence[str]]]:
    """Values as (type, texts), in their order."""
    if isinstance(values, TagValueColumns):
        return values.by_type
    return [(value.type, [value.value]) for value in values]


@dataclass(frozen=True, slots=True)
class TagValuesAnswer:
    """Distinct values; `message` says so when some were left out for a limit."""

    values: Sequence[TagValue]
    cost: QueryCost
    message: str = ""


@dataclass(frozen=True, slots=True)
class MetricsRequest:
    """Series wanted of [start, end]. An instant query has one interval: step_nano is then the whole range.

    start and end are as the caller gave them; alignment to steps is done by the engine.
    exemplars_max   0 = none;  series_max: 0 = all
    """

    query: CheckedQuery
    start_unix_nano: int
    end_unix_nano: int
    step_nano: int
    instant: bool = False
    exemplars_max: int = 0
    series_max: int = 0


@dataclass(frozen=True, slots=True)
class Exemplar:
    labels: Pairs
    value: float
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class Series:
    """A series. `timestamps_ms` and `values` go together (one entry for an instant query); steps without a value are left out."""

    labels: Pairs
    timestamps_ms: NDArray[np.int64]
    values: NDArray[np.float64]
    exemplars: tuple[Exemplar, ...] = ()


@dataclass(frozen=True, slots=True)
class MetricsAnswer:
    """Series by their labels. `message` is empty unless the answer is partial, and then says why."""

    series: tuple[Series, ...]
    cost: QueryCost
    message: str = ""


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """Spans of one group: counts and quantiles of their duration in nanoseconds (p50, p90, p95, p99 by key 50, 90, 95, 99)."""

    group: Pairs
    span_count: int
    error_span_count: int
    quantiles_nano: Mapping[int, int] = field(default_factory=dict)
