"""Trace by id: every span of one trace, from head and blocks, as OTLP.

Rule 1  a trace that lies in several places is one trace: parts are joined, exact copies dropped, then ordered.
Rule 2  a damaged block is set aside and the answer made of the others; a query is no reason to fail twice.
Rule 3  time bounds say which blocks to read, never which spans to return; the head is always read.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

from vivace.errors import CorruptionError, RequestError
from vivace.model.adopt import join
from vivace.model.arrange import arrange
from vivace.model.batch import SpanBatch
from vivace.model.encode import encode
from vivace.model.tenant import split
from vivace.query.pool import QueryPool
from vivace.query.shared_spans import separate
from vivace.storage.block_reader import Block
from vivace.storage.store import Store

SECOND = 1_000_000_000

HEAD_MODES = frozenset({"all", "ingesters"})
BLOCK_MODES = frozenset({"all", "blocks"})


@dataclass(frozen=True, slots=True)
class FoundTrace:
    """A trace as it is stored.

    otlp             wire bytes of a TracesData, at least one span
    inspected_bytes  bytes of the columns that were read
    partial          the trace is over the tenant's max_bytes_per_trace, and spans were left out for it
    """

    otlp: bytes
    inspected_bytes: int
    partial: bool


class TraceLookup:
    """Finds traces by id; see api/deps.py for the contract."""

    def __init__(
        self,
        store: Store,
        pool: QueryPool,
        max_bytes_per_trace: Callable[[str], int],
        *,
        seconds_max: float | None = None,
    ) -> None:
        """seconds_max: how long a look-up may take, its wait for a thread included; None is for ever."""
        self._store = store
        self._pool = pool
        self._max_bytes_per_trace = max_bytes_per_trace
        self._seconds_max = seconds_max

    async def trace(
        self, tenant: str, trace_id: bytes, start_seconds: int | None, end_seconds: int | None, mode: str
    ) -> FoundTrace | None:
        """The trace with that 16-byte id, or None. Raises RequestError (504) when it takes too long."""
        try:
            async with asyncio.timeout(self._seconds_max):
                return await self._pool.run(tenant, self.find, tenant, trace_id, start_seconds, end_seconds, mode)
        except TimeoutError as e:
            reason = f"the trace was not found within {self._seconds_max:g} s (querier.trace_by_id.query_timeout)"
            raise RequestError(reason, status=504) from e

    def find(
        self, tenant: str, trace_id: bytes, start_seconds: int | None, end_seconds: int | None, mode: str
    ) -> FoundTrace | None:
        """As trace(), synchronously."""
        high, low = int.from_bytes(trace_id[:8], "big"), int.from_bytes(trace_id[8:], "big")
        bounds = (start_seconds, end_seconds) if start_seconds and end_seconds else None
        parts = self._parts(tenant, high, low, bounds, mode)
        if not parts:
            return None
        inspected = sum(p.nbytes for p in parts)
        batch = separate(arrange(join(parts)))
        otlp = encode(batch)
        limit = self._max_bytes_per_trace(tenant)
        if not limit or len(otlp) <= limit:
            return FoundTrace(otlp, inspected, partial=False)
        fitting = bisect_right(range(1, len(batch)), limit, key=lambda n: len(encode(batch.slice(0, n)))) or 1
        return FoundTrace(encode(batch.slice(0, fitting)), inspected, partial=True)

    def _parts(self, tenant: str, high: int, low: int, bounds: tuple[int, int] | None, mode: str) -> list[SpanBatch]:
        found: list[SpanBatch | None] = []
        with self._store.snapshot(*split(tenant)) as snapshot:
            if mode in HEAD_MODES:
                found.append(snapshot.recent(high, low))
            if mode in BLOCK_MODES:
                found += [self._read(b, high, low) for b in snapshot.blocks if _overlaps(b, bounds)]
        return [part for part in found if part is not None]

    def _read(self, block: Block, high: int, low: int) -> SpanBatch | None:
        try:
            return block.trace(high, low)
        except CorruptionError as e:
            self._store.catalog.suspect(block, e)
            return None


def _overlaps(block: Block, bounds: tuple[int, int] | None) -> bool:
    if bounds is None:
        return True
    start, end = bounds
    return block.meta.start_time_unix_nano <= end * SECOND and block.meta.end_time_unix_nano >= start * SECOND
