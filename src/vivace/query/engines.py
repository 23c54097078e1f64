"""The query engines as the API calls them: on the query threads, within limits, stopped when the caller goes.

What is built here is shared by all queries: the cache of columns, that of partial results, the memory budget, and what is known
of the sources of each tenant. A query of several tenants, joined as in model/tenant.py, sees their spans as if they were one's.
Contracts: api/deps.py.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

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
from vivace.query.control import QueryControl, QueryMemory
from vivace.query.metrics import Metrics
from vivace.query.pool import QueryPool
from vivace.query.search import Search
from vivace.query.sources import SourceMemory, SourceRoom
from vivace.query.summary import Summary
from vivace.query.tag_values import TagValues
from vivace.query.tags import TagNames
from vivace.storage.column_cache import ColumnCache
from vivace.storage.store import Store
from vivace.traceql import CheckedQuery
from vivace.traceql.ast import Field

T = TypeVar("T")

COLUMNS_BYTES_MAX = 64 << 20
"""Decoded columns. The 27 queries of the benchmark over a million spans would use 95 MB of them; with 64 they are no slower."""

PARTIALS_BYTES_MAX = 24 << 20
"""What queries made of row groups: spans found, partial series. One takes some 10 KB, more where many series come of it."""

MEMORY_BYTES_MAX = 192 << 20
QUERY_BYTES_MAX = 128 << 20
"""Memory of running queries beside the caches: of all, and of one. A row group takes some 10 MB at most; what needs more is one
trace of a million spans."""

TIDY_SECONDS = 2.0
"""Freed memory is given back after a query, at most this often: it takes some milliseconds."""

TENANTS_MAX = 100
"""Tenants, and sets of tenants that are asked for together, whose split traces are remembered; of the others they are found anew."""


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """What the engines need of a tenant's limits. Seconds: how long a query may run, 0 = for ever."""

    seconds_max: float
    tag_values_bytes_max: Callable[[str], int]
    tag_values_blocks_max: Callable[[str], int]


class Engines:
    """Search, tags and metrics of all tenants."""

    def __init__(
        self,
        store: Store,
        pool: QueryPool,
        limits: EngineLimits,
        *,
        clock: Callable[[], float] = time.monotonic,
        tidy: Callable[[], None] = lambda: None,
    ) -> None:
        """tidy: gives freed memory back to the system; called on a query thread now and then."""
        self.columns = ColumnCache(COLUMNS_BYTES_MAX)
        self.partials = ColumnCache(PARTIALS_BYTES_MAX)
        self.memory = QueryMemory(MEMORY_BYTES_MAX, QUERY_BYTES_MAX)
        self._sources = SourceMemory()
        self._store = store
        self._pool = pool
        self._limits = limits
        self._clock = clock
        self._tidy = tidy
        self._tidied = clock()
        self._rooms: dict[str, SourceRoom] = {}

    async def search(
        self, tenant: str, request: SearchRequest, on_progress: Callable[[SearchAnswer], None] | None = None
    ) -> SearchAnswer:
        engine = Search(self._store, self._room(tenant), self.partials)
        return await self._run(tenant, lambda control: engine.run(tenant, request, control, on_progress))

    async def tags(self, tenant: str, request: TagsRequest) -> TagsAnswer:
        bytes_max = self._limits.tag_values_bytes_max
        engine = TagNames(self._store, self._room(tenant), self.columns, bytes_max=bytes_max)
        return await self._run(tenant, lambda control: engine.run(tenant, request, control))

    async def values(self, tenant: str, request: TagValuesRequest) -> TagValuesAnswer:
        engine = self._values(tenant)
        return await self._run(tenant, lambda control: engine.run(tenant, request, control))

    async def values_v1(self, tenant: str, request: TagValuesRequest) -> tuple[str, ...]:
        engine = self._values(tenant)
        return await self._run(tenant, lambda control: engine.run_v1(tenant, request, control))

    async def series(
        self, tenant: str, request: MetricsRequest, on_progress: Callable[[MetricsAnswer], None] | None = None
    ) -> MetricsAnswer:
        engine = Metrics(self._store, self._room(tenant), self.partials)
        return await self._run(tenant, lambda control: engine.run(tenant, request, control, on_progress))

    async def summary(
        self,
        tenant: str,
        query: CheckedQuery,
        group_by: tuple[Field, ...],
        start_seconds: int | None,
        end_seconds: int | None,
        limit: int,
    ) -> tuple[SummaryRow, ...]:
        engine = Summary(self._store, self._room(tenant))
        return await self._run(
            tenant, lambda control: engine.run(tenant, query, group_by, start_seconds, end_seconds, limit, control)
        )

    def forget(self, block_id: str) -> None:
        """A block is gone: free what is remembered of it."""
        self.columns.forget(block_id)
        self.partials.forget(block_id)

    def _values(self, tenant: str) -> TagValues:
        limits = self._limits
        return TagValues(
            self._store,
            self._room(tenant),
            self.columns,
            self.partials,
            bytes_max=limits.tag_values_bytes_max,
            blocks_max=limits.tag_values_blocks_max,
        )

    def _room(self, tenant: str) -> SourceRoom:
        room = self._rooms.pop(tenant, None) or SourceRoom(self._store, self.columns, self._sources)
        self._rooms[tenant] = room  # the last used stands last
        while len(self._rooms) > TENANTS_MAX:
            del self._rooms[next(iter(self._rooms))]
        return room

    async def _run(self, tenant: str, query: Callable[[QueryControl], T]) -> T:
        control = QueryControl(self.memory, self._clock, self._limits.seconds_max)
        try:
            return await self._pool.run(tenant, self._tidily, query, control)
        except asyncio.CancelledError:
            control.stop()
            raise

    def _tidily(self, query: Callable[[QueryControl], T], control: QueryControl) -> T:
        try:
            return query(control)
        finally:
            if self._clock() - self._tidied > TIDY_SECONDS:
                self._tidied = self._clock()
                self._tidy()
