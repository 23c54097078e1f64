"""What the HTTP API needs of the rest of the house, as Protocols: the API itself knows neither storage nor configuration."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Protocol

from starlette.requests import Request

from vivace.access import OPEN, Guard
from vivace.api.tenancy import single_tenant
from vivace.query.answers import (
    MetricsAnswer,
    MetricsRequest,
    SearchAnswer,
    SearchRequest,
    SummaryRow,
    TagsAnswer,
    TagsRequest,
    TagValuesAnswer,
    TagValuesRequest,
)
from vivace.query.lookup import FoundTrace
from vivace.telemetry import Telemetry
from vivace.traceql import CheckedQuery
from vivace.traceql.ast import Field


class LookupMode(StrEnum):
    """Where trace-by-id looks: everywhere, in recent spans only, in blocks only, or in another server (we have none)."""

    ALL = "all"
    INGESTERS = "ingesters"
    BLOCKS = "blocks"
    EXTERNAL = "external"


class TraceLookup(Protocol):
    """Finds a trace by its id."""

    async def trace(
        self, tenant: str, trace_id: bytes, start_seconds: int | None, end_seconds: int | None, mode: str
    ) -> FoundTrace | None:
        """The trace with that 16-byte id, None when no span of it is stored. Cancelling the caller stops the search.

        start_seconds and end_seconds (Unix, start < end, both or none) say which blocks to read; recent spans are always read.
        mode is one of LookupMode. Stops at the tenant's max_bytes_per_trace and says so in `partial`.
        """
        ...


class SearchEngine(Protocol):
    """Finds traces."""

    async def search(
        self, tenant: str, request: SearchRequest, on_progress: Callable[[SearchAnswer], None] | None = None
    ) -> SearchAnswer:
        """Up to `request.limit` traces, newest first. Cancelling the caller stops the search.

        on_progress gets what was found so far, each answer taking the place of the one before; perhaps on another thread.
        """
        ...


class TagEngine(Protocol):
    """Lists the names and values of attributes. Cancelling the caller stops the work."""

    async def tags(self, tenant: str, request: TagsRequest) -> TagsAnswer: ...

    async def values(self, tenant: str, request: TagValuesRequest) -> TagValuesAnswer:
        """Values with their types; `tag` is a TraceQL identifier. Raises RequestError when it is none."""
        ...

    async def values_v1(self, tenant: str, request: TagValuesRequest) -> tuple[str, ...]:
        """Values as text, sorted; `tag` is the name of an attribute without its scope."""
        ...


class MetricsEngine(Protocol):
    """Makes series of spans. Cancelling the caller stops the work."""

    async def series(
        self, tenant: str, request: MetricsRequest, on_progress: Callable[[MetricsAnswer], None] | None = None
    ) -> MetricsAnswer:
        """The series of a range, or with one value each of an instant query; on_progress as in SearchEngine."""
        ...

    async def summary(
        self,
        tenant: str,
        query: CheckedQuery,
        group_by: tuple[Field, ...],
        start_seconds: int | None,
        end_seconds: int | None,
        limit: int,
    ) -> tuple[SummaryRow, ...]:
        """Counts and durations of the spans that `query` matches, by group, at most `limit` groups; None bounds are open."""
        ...


@dataclass(frozen=True, slots=True)
class QueryLimits:
    """What one tenant's queries may ask for, and what they get when they do not say; defaults are Tempo's. 0 is no limit.

    result_limit_default, .._max   traces of a search
    spans_default, .._max          spans shown of a spanset
    search_duration_max            time range of searches, tag names and values; without a start they go back this far
    metrics_duration_max           time range of metrics queries
    intervals_max                  steps in the range of a metrics query
    exemplars_max                  of a metrics answer; 0 gives none
    series_max                     of a metrics answer, which says so when it leaves some out
    expression_bytes_max           TraceQL text
    end_cutoff                     queries end this long before now
    left_pad_trace_ids             search gives trace ids with all 32 digits
    """

    result_limit_default: int = 20
    result_limit_max: int = 0
    spans_default: int = 3
    spans_max: int = 100
    search_duration_max: timedelta = timedelta(hours=168)
    metrics_duration_max: timedelta = timedelta(hours=3)
    intervals_max: int = 10_000
    exemplars_max: int = 100
    series_max: int = 0
    expression_bytes_max: int = 131_072
    end_cutoff: timedelta = timedelta(0)
    left_pad_trace_ids: bool = False


@dataclass(frozen=True, slots=True)
class QueryEngines:
    """Who answers searches, tags and metrics, and within which limits of a tenant. `now` is unix nanoseconds."""

    search: SearchEngine
    tags: TagEngine
    metrics: MetricsEngine
    limits: Callable[[str], QueryLimits]
    now: Callable[[], int] = time.time_ns


class ConfigMode(StrEnum):
    """Which settings a configuration page shows: those in force, those that differ from the defaults, or the defaults."""

    EFFECTIVE = ""
    DIFF = "diff"
    DEFAULTS = "defaults"


@dataclass(frozen=True, slots=True)
class ServiceRow:
    """One part of the service; state as Tempo names them (Running, Starting, Stopping, Failed), failure empty when none."""

    name: str
    state: str
    failure: str = ""


class StatusSource(Protocol):
    """What the /status pages show. Called on the event loop: every method must be quick."""

    @property
    def version(self) -> str:
        """Vivace's own version."""
        ...

    @property
    def revision(self) -> str:
        """The commit that this was built from, empty when unknown."""
        ...

    def services(self) -> Sequence[ServiceRow]: ...

    def config_yaml(self, mode: ConfigMode) -> str: ...

    def runtime_config_yaml(self, mode: ConfigMode) -> str:
        """The per-tenant overrides of all tenants; mode is EFFECTIVE or DIFF."""
        ...

    def overrides_yaml(self, tenant: str | None) -> str:
        """The limits in force for one tenant (None: for all without their own). Raises NotFoundError for an unknown one."""
        ...


def new_error_id() -> str:
    """16 hex digits that join a 500 reply to its log line."""
    return secrets.token_hex(8)


@dataclass(frozen=True, slots=True)
class ApiDeps:
    """Everything that the routes use.

    queries              None: there are no routes of search, tags and metrics
    cardinality          what the generated series of a tenant are made of, with so many top values a label; None: no series
    readiness            None when ready, else why not (the text of the 503)
    flush                cut and write one tenant's recent spans, or everybody's for None; NotFoundError for an unknown tenant
    shutdown             flush and stop taking spans; returns when that is done
    tenant_of            whose request it is, perhaps several tenants joined (model/tenant.py); RequestError(status=401) when it
                         does not say and must
    guard, open_paths    who may ask; paths that need no credentials, nor what is below them
    max_bytes_per_trace  by tenant, for the texts of replies; the lookup keeps to it
    http_api_prefix      stands before /api paths only, "" or like "/tempo"
    api_timeout_seconds  an /api request that takes longer is stopped and answered 503; 0 is no limit
    """

    lookup: TraceLookup
    telemetry: Telemetry
    status: StatusSource
    readiness: Callable[[], str | None]
    flush: Callable[[str | None], Awaitable[None]]
    shutdown: Callable[[], Awaitable[None]]
    max_bytes_per_trace: Callable[[str], int]
    tenant_of: Callable[[Request], str] = single_tenant
    guard: Guard = OPEN
    open_paths: tuple[str, ...] = ("/ready",)
    queries: QueryEngines | None = None
    cardinality: Callable[[str, int], Mapping[str, object] | None] = lambda tenant, top: None
    http_api_prefix: str = ""
    api_timeout_seconds: float = 0
    error_id: Callable[[], str] = new_error_id
