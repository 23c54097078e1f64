"""Retention: who goes, in which order, and nobody else."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vivace.storage.retention import Retention, doomed_blocks

HOUR = 3_600 * 10**9
NOW = 1_000 * HOUR


@dataclass(frozen=True, slots=True)
class FakeBlock:
    id: str
    tenant: str
    end_time_unix_nano: int
    created_unix_nano: int
    bytes_on_disk: int


def block(id: str, *, hours_old: float, bytes: int = 10, tenant: str = "t", created: float | None = None) -> FakeBlock:
    created_hours_old = hours_old - 0.1 if created is None else created
    return FakeBlock(id, tenant, NOW - round(hours_old * HOUR), NOW - round(created_hours_old * HOUR), bytes)


def exactly(id: str, end_time_unix_nano: int) -> FakeBlock:
    return FakeBlock(id, "t", end_time_unix_nano, NOW, 10)


DAY = Retention(timedelta(days=1))
FOREVER = Retention(timedelta(0))
TENANTS = Retention(timedelta(days=1), {"short": timedelta(hours=1), "long": timedelta(days=7), "zero": timedelta(0)})

# what: blocks, retention, bytes over the cap, expected (id, reason)
CASES: list[tuple[str, list[FakeBlock], Retention, int, list[tuple[str, str]]]] = [
    ("nothing stored", [], DAY, 100, []),
    ("all young", [block("a", hours_old=1)], DAY, 0, []),
    ("too old", [block("a", hours_old=25), block("b", hours_old=23)], DAY, 0, [("a", "age")]),
    ("oldest first", [block("a", hours_old=30), block("b", hours_old=40)], DAY, 0, [("b", "age"), ("a", "age")]),
    ("exactly at the edge", [exactly("a", NOW - 24 * HOUR), exactly("b", NOW - 24 * HOUR - 1)], DAY, 0, [("b", "age")]),
    ("forever", [block("a", hours_old=900)], FOREVER, 0, []),
    ("forever, but over the cap", [block("a", hours_old=900)], FOREVER, 1, [("a", "size")]),
    ("age makes room enough", [block("a", hours_old=30), block("b", hours_old=2)], DAY, 10, [("a", "age")]),
    (
        "age makes too little room",
        [block("a", hours_old=30), block("b", hours_old=2), block("c", hours_old=3)],
        DAY,
        11,
        [("a", "age"), ("c", "size")],
    ),
    (
        "more over than there is",
        [block("a", hours_old=1), block("b", hours_old=2)],
        DAY,
        99,
        [("b", "size"), ("a", "size")],
    ),
    ("under the cap", [block("a", hours_old=1)], DAY, -50, []),
    (
        "each tenant its own",
        [block(tenant, hours_old=30, tenant=tenant) for tenant in ("short", "long", "zero", "other")],
        TENANTS,
        0,
        [("other", "age"), ("short", "age"), ("zero", "age")],
    ),
    (
        "size knows no tenants",
        [block("a", hours_old=30, tenant="long"), block("b", hours_old=0.5, tenant="short")],
        TENANTS,
        5,
        [("a", "size")],
    ),
    ("in the future: counts from creation", [block("a", hours_old=-500, created=25)], DAY, 0, [("a", "age")]),
    ("in the future, just created", [block("a", hours_old=-500, created=1)], DAY, 0, []),
    (
        "in the future is not the youngest for ever",
        [block("a", hours_old=-500, created=3), block("b", hours_old=2)],
        DAY,
        1,
        [("a", "size")],
    ),
    ("tie of times: creation", [block("a", hours_old=2, created=1), block("b", hours_old=2)], DAY, 1, [("b", "size")]),
    ("tie of all: id", [block("b", hours_old=2), block("a", hours_old=2)], DAY, 1, [("a", "size")]),
]


@pytest.mark.parametrize(("blocks", "retention", "over", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_who_goes(blocks: list[FakeBlock], retention: Retention, over: int, expected: list[tuple[str, str]]) -> None:
    doomed = doomed_blocks(blocks, retention, now_unix_nano=NOW, bytes_over_cap=over)
    assert [(each.block.id, each.reason) for each in doomed] == expected


BLOCKS = st.lists(
    st.builds(
        FakeBlock,
        id=st.uuids().map(str),
        tenant=st.sampled_from(["short", "long", "zero", "other"]),
        end_time_unix_nano=st.integers(NOW - 300 * HOUR, NOW + 10 * HOUR),
        created_unix_nano=st.integers(NOW - 300 * HOUR, NOW),
        bytes_on_disk=st.integers(0, 1000),
    ),
    unique_by=lambda block: block.id,
    max_size=12,
)


@settings(derandomize=True, deadline=None)
@given(blocks=BLOCKS, over=st.integers(-100, 6000))
def test_enough_goes_and_no_more(blocks: list[FakeBlock], over: int) -> None:
    doomed = doomed_blocks(blocks, TENANTS, now_unix_nano=NOW, bytes_over_cap=over)
    gone = {each.block.id for each in doomed}
    by_size = [each.block for each in doomed if each.reason == "size"]
    freed = sum(each.block.bytes_on_disk for each in doomed)
    kept = [each for each in blocks if each.id not in gone]

    assert len(gone) == len(doomed)
    assert freed >= over or not kept, "enough goes"
    if by_size:
        assert freed - by_size[-1].bytes_on_disk < over, "without the last one it would not have been enough"
        youngest_gone = min(by_size[-1].end_time_unix_nano, by_size[-1].created_unix_nano)
        assert all(min(each.end_time_unix_nano, each.created_unix_nano) >= youngest_gone for each in kept)
