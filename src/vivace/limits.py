"""What queries may do, by the tenant or the tenants that they ask for: of several, the strictest limit holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta

from vivace.api.deps import QueryLimits
from vivace.config.live import LiveLimits
from vivace.config.overrides import Limits, ReadLimits
from vivace.config.settings import Settings
from vivace.model.tenant import split
from vivace.query.engines import EngineLimits


class QueryRules:
    """Limits as queries ask for them; `tenant` may be joined, as in model/tenant.py. Follows `live`."""

    def __init__(self, settings: Settings, live: LiveLimits) -> None:
        self._settings = settings
        self._live = live

    def limits(self, tenant: str) -> QueryLimits:
        """What the API lets a query ask for."""
        first, *others = (query_limits(self._settings, limits.read) for limits in self._of(tenant))
        if not others:
            return first
        every = (first, *others)
        return replace(
            first,
            search_duration_max=_shortest(one.search_duration_max for one in every),
            metrics_duration_max=_shortest(one.metrics_duration_max for one in every),
            left_pad_trace_ids=all(one.left_pad_trace_ids for one in every),
        )

    def max_bytes_per_trace(self, tenant: str) -> int:
        return self._least(tenant, lambda limits: limits.global_.max_bytes_per_trace)

    def of_engines(self) -> EngineLimits:
        """What the engines keep to."""
        return EngineLimits(
            self._settings.querier.search.query_timeout.total_seconds(),
            lambda tenant: self._least(tenant, lambda limits: limits.read.max_bytes_per_tag_values_query),
            lambda tenant: self._least(tenant, lambda limits: limits.read.max_blocks_per_tag_values_query),
        )

    def _of(self, tenant: str) -> list[Limits]:
        return [self._live.of(name) for name in split(tenant)]

    def _least(self, tenant: str, limit: Callable[[Limits], int]) -> int:
        """0 is no limit."""
        return min(filter(None, map(limit, self._of(tenant))), default=0)


def _shortest(durations: Iterable[timedelta]) -> timedelta:
    """0 is no limit."""
    return min(filter(None, durations), default=timedelta(0))


def query_limits(settings: Settings, read: ReadLimits) -> QueryLimits:
    """What the queries of a tenant with these limits may ask for."""
    frontend = settings.query_frontend
    return QueryLimits(
        result_limit_default=frontend.search.default_result_limit,
        result_limit_max=frontend.search.max_result_limit,
        spans_default=frontend.search.default_spans_per_span_set,
        spans_max=frontend.search.max_spans_per_span_set,
        search_duration_max=read.max_search_duration or frontend.search.max_duration,
        metrics_duration_max=read.max_metrics_duration or frontend.metrics.max_duration,
        intervals_max=frontend.metrics.max_intervals,
        exemplars_max=frontend.metrics.max_exemplars,
        series_max=frontend.metrics.max_response_series,
        expression_bytes_max=frontend.max_query_expression_size_bytes,
        end_cutoff=frontend.query_end_cutoff,
        left_pad_trace_ids=read.left_pad_trace_ids,
    )
