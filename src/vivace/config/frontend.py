"""The `query_frontend` and `querier` keys: what a query may cost and what it gives when it does not say."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from .section import Section
from .units import ByteSize, Count, Duration, Switch


class FrontendSearch(Section):
    """Search."""

    default_result_limit: Count = Field(
        default=20, description="Traces that a search gives when it does not say how many."
    )
    max_result_limit: Count = Field(
        default=0,
        description="Most traces that a search may ask for; more allows longer and larger answers, 0 sets no limit.",
    )
    max_duration: Duration = Field(
        default=timedelta(hours=168),
        description="Longest time range of a search; more allows dearer searches, 0 sets no limit.",
    )
    default_spans_per_span_set: Count = Field(
        default=3, description="Matching spans shown for each trace when a search does not say."
    )
    max_spans_per_span_set: Count = Field(
        default=100, description="Most spans for each trace that a search may ask for; 0 sets no limit."
    )


class FrontendMetrics(Section):
    """TraceQL metrics."""

    max_duration: Duration = Field(
        default=timedelta(hours=3),
        description="Longest time range of a metrics query; more allows dearer queries, 0 sets no limit.",
    )
    max_exemplars: Count = Field(
        default=100,
        description="Most exemplars in an answer; more shows more examples and makes larger answers, 0 gives none.",
    )
    max_response_series: Count = Field(
        default=0, description="Most series in an answer, the rest is cut off and said so; 0 sets no limit."
    )
    max_intervals: Count = Field(
        default=10_000,
        description="Most steps in the range of a query; more allows finer steps and larger answers, 0 sets no limit.",
    )


class QueryFrontend(Section):
    """Limits of the query API."""

    api_timeout: Duration = Field(
        default=timedelta(0),
        description="Longest run of any query; less protects the server, 0 sets no limit beyond the server's.",
    )
    max_outstanding_per_tenant: Count = Field(
        default=2000, description="Queries of one tenant that may wait; beyond it they are refused with 429."
    )
    multi_tenant_queries_enabled: Switch = Field(
        default=True, description="Whether `X-Scope-OrgID: a|b` queries several tenants at once."
    )
    max_query_expression_size_bytes: ByteSize = Field(
        default=131_072, description="Longest TraceQL text in bytes; longer ones are refused."
    )
    query_end_cutoff: Duration = Field(
        default=timedelta(0),
        description="Newest span of time that searches and metrics leave out; Vivace needs none, because an acknowledged span "
        "is searchable at once.",
    )
    search: FrontendSearch = Field(default=FrontendSearch(), description="Search.")
    metrics: FrontendMetrics = Field(default=FrontendMetrics(), description="TraceQL metrics.")


class QuerierSearch(Section):
    """Search."""

    query_timeout: Duration = Field(
        default=timedelta(seconds=30), description="Longest run of a search or metrics query; more allows dearer ones."
    )


class QuerierTraceById(Section):
    """Trace by id."""

    query_timeout: Duration = Field(default=timedelta(seconds=10), description="Longest run of a look-up by trace id.")


class Querier(Section):
    """How queries run."""

    max_concurrent_queries: Count = Field(
        default=20,
        description="Queries that run at the same time, the others wait; more takes more memory and CPU at the peak.",
    )
    search: QuerierSearch = Field(default=QuerierSearch(), description="Search.")
    trace_by_id: QuerierTraceById = Field(default=QuerierTraceById(), description="Trace by id.")
