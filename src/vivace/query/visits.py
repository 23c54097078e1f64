"""Visits: what all queries say and count of the sources that they go through."""

from __future__ import annotations

from dataclasses import replace

from vivace.query.answers import QueryCost
from vivace.storage.store import Snapshot

SECOND = 1_000_000_000

TIME_IS_UP = "the time limit was reached before all data was searched, a partial response is returned"


def too_large(name: str) -> str:
    """Of a source that no query may hold in memory."""
    return f"{name} is too large for the memory of a query, a partial response is returned"


def cost_of(snapshot: Snapshot, jobs: int) -> QueryCost:
    """The cost of a query that has visited none of its sources so far."""
    return QueryCost(
        total_blocks=len(snapshot.blocks),
        total_jobs=jobs,
        total_block_bytes=sum(b.meta.data_bytes for b in snapshot.blocks),
    )


def visited(cost: QueryCost, *, traces: int, spans: int, byte_count: int, jobs: int = 1) -> QueryCost:
    """`cost` after some more sources; those of which no byte was read have not been inspected."""
    if not byte_count:
        return replace(cost, completed_jobs=cost.completed_jobs + jobs)
    return replace(
        cost,
        inspected_traces=cost.inspected_traces + traces,
        inspected_spans=cost.inspected_spans + spans,
        inspected_bytes=cost.inspected_bytes + byte_count,
        completed_jobs=cost.completed_jobs + jobs,
    )


def outside(start_nano: int, end_nano: int, start_seconds: int | None, end_seconds: int | None) -> str:
    """Why what lies between two times cannot be in a range; empty when it can."""
    if end_seconds is not None and start_nano > end_seconds * SECOND:
        return "it begins later"
    if start_seconds is not None and end_nano < start_seconds * SECOND:
        return "it ends earlier"
    return ""
