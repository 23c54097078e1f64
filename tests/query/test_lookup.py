"""Trace by id: wherever its spans lie, the answer is one trace, whole, each span once; limits and damage are survived."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import builders as b
import pytest
from builders import House, house

from vivace.errors import StorageError
from vivace.model.proto.otlp_pb2 import ExportTraceServiceRequest
from vivace.query.lookup import TraceLookup
from vivace.query.pool import QueryPool
from vivace.storage import layout
from vivace.storage.block_reader import Block

HOUR = 3600 * b.SECOND
ID = b.trace_id(1)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[House]:
    with house(tmp_path) as opened:
        yield opened


def lookup(made: House, limit: int = 0) -> TraceLookup:
    return TraceLookup(made.store, QueryPool(1), lambda tenant: limit)


def find(made: House, trace: bytes = ID, *, start: int | None = None, end: int | None = None, mode: str = "all",
         limit: int = 0, tenant: str = b.TENANT) -> Any:  # fmt: skip
    return lookup(made, limit).find(tenant, trace, start, end, mode)


def part(number: int, **fields: Any) -> Any:
    """One of three parts of trace 1, an hour after the other, beside another trace."""
    start = b.NOON + number * HOUR
    spans = [b.span(1, 10 * number + i, 1 if number + i > 1 else 0, start=start + i, **fields) for i in (1, 2, 3)]
    return b.request(*spans, b.span(2, 99 + number, start=start), resource={"part": number})


def own(*requests: Any) -> list[bytes]:
    """Contents of the requests, trace 1 only."""
    copies = []
    for original in requests:
        copy = ExportTraceServiceRequest.FromString(original.SerializeToString())
        spans = copy.resource_spans[0].scope_spans[0].spans
        mine = [s for s in spans if s.trace_id == ID]
        del spans[:]
        spans.extend(mine)
        copies.append(copy)
    return b.contents(*copies)


@pytest.fixture
def spread(made: House) -> House:
    """Parts 0 and 1 in blocks, part 2 in the head."""
    for number in (0, 1, 2):
        made.send(part(number))
        if number < 2:
            made.store.cut(b.TENANT, everything=True)
    assert len(made.catalog.blocks()) == 2
    return made


def test_a_trace_in_head_and_blocks_is_one(spread: House) -> None:
    found = find(spread)
    assert b.contents(found.otlp) == own(part(0), part(1), part(2))
    assert not found.partial
    assert found.inspected_bytes > 0
    for trace in (b.trace_id(3), b.trace_id(0), b.trace_id(2**127)):
        assert find(spread, trace) is None
    assert find(spread, tenant="nobody") is None


def test_the_same_from_coroutines(spread: House) -> None:
    found = asyncio.run(lookup(spread).trace(b.TENANT, ID, None, None, "all"))
    assert found == find(spread)


HOURS = [(b.NOON + i * HOUR) // b.SECOND for i in range(4)]

# what: start, end, mode, parts in the answer
CHOICES: dict[str, tuple[int | None, int | None, str, tuple[int, ...]]] = {
    "everywhere": (None, None, "all", (0, 1, 2)),
    "recent spans": (None, None, "ingesters", (2,)),
    "blocks": (None, None, "blocks", (0, 1)),
    "another server": (None, None, "external", ()),
    "the head is always read": (1, 2, "all", (2,)),
    "the first block": (HOURS[0], HOURS[0] + 1, "all", (0, 2)),
    "the second block, spans outside the bounds too": (HOURS[1], HOURS[1], "blocks", (1,)),
    "both": (HOURS[0] + 1, HOURS[1], "blocks", (1,)),
    "between": (HOURS[0] + 10, HOURS[1] - 10, "blocks", ()),
    "one bound is none": (HOURS[3], None, "blocks", (0, 1)),
}


@pytest.mark.parametrize(("start", "end", "mode", "parts"), CHOICES.values(), ids=CHOICES.keys())
def test_which_parts_are_read(
    spread: House, start: int | None, end: int | None, mode: str, parts: tuple[int, ...]
) -> None:
    found = find(spread, start=start, end=end, mode=mode)
    assert (b.contents(found.otlp) if found else []) == own(*(part(p) for p in parts))


def test_a_span_in_several_places_is_answered_once(made: House) -> None:
    for _ in range(3):
        made.send(part(0))
        made.store.cut(b.TENANT, everything=True)
    made.send(part(0))
    assert b.contents(find(made).otlp) == own(part(0))


@pytest.mark.parametrize("limit", [1, 300, 1000, 5000])
def test_a_trace_over_the_limit_is_cut_and_says_so(made: House, limit: int) -> None:
    spans = [b.span(1, i + 1, attributes={"pad": "x" * (700 if i < 3 else 10)}) for i in range(200)]
    made.send(b.request(*spans))
    found = find(made, limit=limit)
    assert found.partial
    some = b.contents(found.otlp)
    assert 1 <= len(some) < 200
    assert set(some) <= set(b.contents(b.request(*spans)))
    assert len(found.otlp) <= limit or len(some) == 1
    whole = find(made)
    assert find(made, limit=len(whole.otlp)) == whole


def test_shared_spans_are_told_apart(made: House) -> None:
    made.send(b.request(b.span(1, 10, kind=3), b.span(1, 10, kind=2, start=b.NOON + 1)))
    answer = ExportTraceServiceRequest.FromString(find(made).otlp)
    ids = {(s.kind, s.span_id[-1], s.parent_span_id[-1:]) for s in answer.resource_spans[0].scope_spans[0].spans}
    assert ids == {(3, 10, b""), (2, 1, b"\x0a")}


@pytest.mark.parametrize("file", [layout.SPANS, layout.RESOURCES, layout.INDEX])
def test_a_damaged_block_costs_its_own_spans_only(spread: House, file: str) -> None:
    path = spread.catalog.blocks()[-1].directory / file
    b.flip_byte(path, path.stat().st_size - 30)
    spread.restart()
    found = find(spread)
    assert b.contents(found.otlp) == own(part(1), part(2))
    assert spread.quarantined == 1
    assert b.contents(find(spread).otlp) == own(part(1), part(2))


def test_a_failure_to_read_is_no_silent_gap(spread: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(Block, "_rows", fail)
        with pytest.raises(StorageError, match="Too many open files"):
            find(spread)
    assert spread.quarantined == 0
    assert b.contents(find(spread).otlp) == own(part(0), part(1), part(2))
