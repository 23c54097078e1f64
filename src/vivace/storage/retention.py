"""Which blocks go: first those past their tenant's retention, then the oldest until the disk cap holds.

Pure policy: no clock, no disk. The caller says what the time is and how many bytes are too many, and deletes in the
order that it is given.

Rule 1  a block's age counts from its newest span, but never from later than its creation: a sender whose clock runs
        ahead cannot keep a block longer.
Rule 2  a block whose age is exactly its retention stays; one nanosecond more and it goes.
Rule 3  size knows no tenants: the oldest block of all goes first, and no more than needed go.
Rule 4  a retention of zero means for a tenant "use the default", for the default "forever". Size still applies.

Who counts the bytes: disk.py.  Who deletes: the service.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Generic, Literal, Protocol, TypeVar

Reason = Literal["age", "size"]


class StoredBlock(Protocol):
    """What the policy wants to know of a block; times in nanoseconds since 1970."""

    @property
    def id(self) -> str:
        """Breaks ties, so that the order is the same everywhere."""
        ...

    @property
    def tenant(self) -> str: ...

    @property
    def end_time_unix_nano(self) -> int:
        """The latest end of a span in it, by the senders' clocks."""
        ...

    @property
    def created_unix_nano(self) -> int:
        """When the block was written, by ours."""
        ...

    @property
    def bytes_on_disk(self) -> int: ...


Block = TypeVar("Block", bound=StoredBlock)


@dataclass(frozen=True, slots=True)
class Retention:
    """How long blocks are kept; zero is explained by rule 4."""

    default: timedelta
    by_tenant: Mapping[str, timedelta] = field(default_factory=dict)

    def of(self, tenant: str) -> timedelta | None:
        """None: forever."""
        return self.by_tenant.get(tenant) or self.default or None


@dataclass(frozen=True, slots=True)
class Doomed(Generic[Block]):
    """A block to delete, and why."""

    block: Block
    reason: Reason


def doomed_blocks(
    blocks: Iterable[Block], retention: Retention, *, now_unix_nano: int, bytes_over_cap: int
) -> list[Doomed[Block]]:
    """What to delete, in this order: by age, oldest first, then by size, oldest first.

    bytes_over_cap  how much has to go to meet the cap, before any deletion; blocks that go by age count towards it.
    Cost            O(blocks log blocks).
    """
    oldest_first = sorted(blocks, key=lambda block: (_age_from(block), block.created_unix_nano, block.id))
    by_age: list[Doomed[Block]] = []
    younger: list[Block] = []
    for block in oldest_first:
        kept_for = retention.of(block.tenant)
        if kept_for is not None and _age_from(block) < now_unix_nano - _nanoseconds(kept_for):
            by_age.append(Doomed(block, "age"))
        else:
            younger.append(block)

    bytes_left_over = bytes_over_cap - sum(doomed.block.bytes_on_disk for doomed in by_age)
    by_size: list[Doomed[Block]] = []
    for block in younger:
        if bytes_left_over <= 0:
            break
        by_size.append(Doomed(block, "size"))
        bytes_left_over -= block.bytes_on_disk
    return by_age + by_size


def _age_from(block: StoredBlock) -> int:
    return min(block.end_time_unix_nano, block.created_unix_nano)


def _nanoseconds(duration: timedelta) -> int:
    return duration // timedelta(microseconds=1) * 1000
