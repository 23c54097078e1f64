"""Compaction: what is merged and what is not; merged blocks hold the same spans, as if they had come at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import builders as b
import numpy as np
import polars as pl
import pytest

from vivace.model.batch import SpanBatch
from vivace.storage import compaction, layout
from vivace.storage.block_reader import Block
from vivace.storage.compaction import (
    BLOCK_SPANS_MAX,
    FAN_IN_MAX,
    CompactionSettings,
    DamagedInput,
    choose,
    compact,
)
from vivace.storage.layout import BlockMeta

MINUTE = 60 * b.SECOND
HOUR = 60 * MINUTE
NOW = b.NOON + 100 * HOUR
SETTINGS = CompactionSettings(timedelta(hours=1), 1 << 26, 1_000_000, 10_000)


@dataclass(frozen=True, slots=True)
class Stored:
    """A block as far as the policy looks at it."""

    meta: BlockMeta


def stored(
    id: str, *, end: int = NOW - 30 * MINUTE, spans: int = 100, traces: int = 10, bytes: int = 1000, wal_until: int = 0
) -> Any:
    return Stored(
        BlockMeta(
            id=id, tenant="t", start_time_unix_nano=0, end_time_unix_nano=end, created_unix_nano=0, span_count=spans,
            trace_count=traces, event_count=0, link_count=0, overflow={}, row_groups=(), wal_until=wal_until, level=0,
            keys=(), files={"a": bytes},
        )
    )  # fmt: skip


EDGE = NOW // HOUR * HOUR
OLD_EDGE = (NOW - 48 * HOUR) // (6 * HOUR) * (6 * HOUR)

# what: blocks, ids of those to merge in any order
CHOICES: dict[str, tuple[list[Any], str]] = {
    "none": ([], ""),
    "one": ([stored("a")], ""),
    "two of one window": ([stored("a"), stored("b")], "ab"),
    "two of two windows": ([stored("a", end=EDGE - 1), stored("b", end=EDGE)], ""),
    "the fullest window": (
        [stored("a"), stored("b", end=EDGE - HOUR - 1), stored("c", end=EDGE - HOUR - 1), stored("d"), stored("e")],
        "ade",
    ),
    "old windows are longer": ([stored("a", end=OLD_EDGE), stored("b", end=OLD_EDGE + 5 * HOUR)], "ab"),
    "but have ends, too": ([stored("a", end=OLD_EDGE - 1), stored("b", end=OLD_EDGE)], ""),
    "in the future": ([stored("a", end=NOW + 9000 * HOUR), stored("b", end=NOW + 9000 * HOUR + 1)], "ab"),
    "the WAL still has records of one": ([stored("a", wal_until=7), stored("b")], ""),
    "the WAL has let go of it": ([stored("a", wal_until=6), stored("b", wal_until=5)], "ab"),
    "large enough already": ([stored("a", spans=BLOCK_SPANS_MAX), stored("b")], ""),
    "together too many spans": (
        [stored("a", spans=BLOCK_SPANS_MAX // 2 + 1), stored("b", spans=BLOCK_SPANS_MAX // 2)],
        "",
    ),
    "together too many traces": ([stored("a", traces=6000), stored("b", traces=4001)], ""),
    "together too many bytes": ([stored("a", bytes=600_000), stored("b", bytes=400_001)], ""),
    "as many as fit": (
        [stored("a", bytes=1), stored("b", bytes=9, spans=101), stored("c", bytes=999_999, spans=102)],
        "ab",
    ),
    "no large block is rewritten for a few spans": ([stored("a"), stored("b"), stored("c", spans=401)], "ab"),
    "a large one for half as many is": ([stored("a"), stored("b"), stored("c", spans=400)], "abc"),
    "nor when there are but two": ([stored("a"), stored("b", spans=201)], ""),
    "a tiny one does not hold up the others": ([stored("a", spans=1), stored("b"), stored("c")], "bc"),
    "the smallest first": ([stored("a", spans=50), *(stored(str(i)) for i in range(8))], "a0123456"),
    "no more than the fan-in": ([stored(str(i)) for i in range(FAN_IN_MAX + 1)], "01234567"),
}


@pytest.mark.parametrize(("blocks", "expected"), CHOICES.values(), ids=CHOICES.keys())
def test_choice(blocks: list[Any], expected: str) -> None:
    chosen = choose(blocks, SETTINGS, now_unix_nano=NOW, wal_first=6)
    assert sorted(block.meta.id for block in chosen) == sorted(expected)


def test_merging_ends(tmp_path: Path) -> None:
    """Whatever there is, merging what choose() says comes to an end and rewrites each span few times."""
    random = np.random.default_rng(3)
    blocks = [stored(f"{i:03}", spans=int(random.integers(1, 5000))) for i in range(100)]
    total, rewritten, rounds = sum(x.meta.span_count for x in blocks), 0, 0
    while chosen := choose(blocks, replace(SETTINGS, block_traces_max=10**9), now_unix_nano=NOW, wal_first=0):
        spans = sum(x.meta.span_count for x in chosen)
        blocks = [x for x in blocks if x not in chosen] + [stored(f"m{rounds:03}", spans=spans, bytes=spans)]
        rewritten += spans
        rounds += 1
        assert rounds < 100
    assert len(blocks) <= 4
    assert rewritten < 5 * total


def merge(*blocks: Block, id: str = "merged", memory_bytes: int = 1 << 26, **more: Any) -> Block:
    done = compact(
        blocks, directory=blocks[0].directory.parent, block_id=id, memory_bytes=memory_bytes, now_unix_nano=NOW, **more
    )
    assert done.meta.replaces == tuple(
        x.meta.id for x in sorted(blocks, key=lambda x: (x.meta.end_time_unix_nano, x.meta.id))
    )
    assert (done.meta.wal_until, done.meta.created_unix_nano) == (0, NOW)
    return Block(done.directory, done.meta)


def tree(trace: int, size: int, seed: int) -> list[Any]:
    """A trace of random shape, a second long, in random order."""
    random = np.random.default_rng(seed)
    spans = [
        b.span(trace, i, int(random.integers(1, i)) if i > 1 else 0, start=b.NOON + trace * 1000 + i, name=str(i),
               attributes={"i": i, "rare" if i % 50 == 0 else "often": str(i)}, events=[b.event(str(i))] * (i % 2))
        for i in range(1, size + 1)
    ]  # fmt: skip
    return [spans[i] for i in random.permutation(size)]


def test_split_traces_come_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Merged from many parts, over many row groups, the block is byte for byte that of the spans in one batch."""
    monkeypatch.setattr(layout, "ROW_GROUP_SPANS", 40)
    traces = [tree(t, size, t) for t, size in enumerate([5, 90, 17, 33, 1, 60, 2, 41], 1)]
    parts: list[list[Any]] = [[], [], [], []]
    for number, spans in enumerate(traces):
        for place, span in enumerate(spans):
            parts[(number + place // 3) % 4].append(span)
    blocks = [
        b.write_block(tmp_path, b.batch(b.request(*p, resource={"service.name": "s"})), str(i))
        for i, p in enumerate(parts)
    ]
    expected = b.write_block(
        tmp_path, b.batch(b.request(*(s for p in traces for s in p), resource={"service.name": "s"})), "whole"
    )
    merged = merge(*blocks, memory_bytes=1)  # no room to keep a row group: each is decoded when needed
    assert b.contents(b.all_rows(merged)) == b.contents(b.all_rows(expected))
    for file in (layout.SPANS, layout.TRACES, layout.EVENTS):
        fixed, whole = (pl.read_parquet(x.directory / file) for x in (merged, expected))
        assert fixed.select(sorted(fixed.columns)).equals(whole.select(sorted(whole.columns))), file
    assert [merged.ids.find(0, t) for t in range(1, 9)] == [expected.ids.find(0, t) for t in range(1, 9)]
    assert merged.meta.row_groups == expected.meta.row_groups
    assert merged.meta.level == 1


def test_copies_become_one_and_near_copies_stay(tmp_path: Path) -> None:
    span = {"attributes": {"a": 1, "b": "x"}, "events": [b.event("e", 5, {"k": "v"})], "links": [b.link(b"1", b"2")]}
    near: list[Any] = [
        b.request(b.span(**span)),
        b.request(b.span(**span), resource={"service.name": "other"}),
        b.request(b.span(**span), scope="other"),
        b.request(b.span(**{**span, "attributes": {"a": 2, "b": "x"}})),
        b.request(b.span(**{**span, "attributes": {"a": 1.0, "b": "x"}})),
        b.request(b.span(**{**span, "attributes": {"a": 1}})),
        b.request(b.span(**{**span, "events": [b.event("e", 6, {"k": "v"})]})),
        b.request(b.span(**{**span, "events": [b.event("e", 5, {"k": "w"})]})),
        b.request(b.span(**{**span, "events": [b.event("e", 5, {"k": "v"})] * 2})),
        b.request(b.span(**{**span, "links": [b.link(b"1", b"3")]})),
        b.request(b.span(name="x", **span)),
        b.request(b.span(duration=1001, **span)),
        b.request(b.span(status=(1, ""), **span)),
        b.request(b.span(trace=2, **span)),
    ]
    blocks = [b.write_block(tmp_path, b.batch(*near), "0")]
    assert blocks[0].meta.span_count == len(near), "none of them is a copy of another"
    blocks += [
        b.write_block(tmp_path, b.batch(*some), str(i)) for i, some in enumerate((near, near[:3], near[::-1]), 1)
    ]
    done = compact(blocks, directory=tmp_path, block_id="m", memory_bytes=1 << 26, now_unix_nano=0)
    assert done.duplicates == 2 * len(near) + 3
    assert b.contents(b.all_rows(Block(done.directory, done.meta))) == b.contents(*near)


def test_of_several_roots_the_first_to_start_names_the_trace(tmp_path: Path) -> None:
    early = b.write_block(tmp_path, b.batch(b.request(*(b.span(1, i, name="early") for i in range(1, 9)))), "z")
    late = b.write_block(tmp_path, b.batch(b.request(b.span(1, 9, name="late", start=b.NOON + 9))), "a")
    traces = pl.read_parquet(merge(late, early).directory / layout.TRACES)
    assert traces["root_name"].to_list() == ["early"]


def test_columns_are_chosen_anew(tmp_path: Path) -> None:
    """A key that is rare here and frequent there, of another type there, present in one only."""
    one = b.write_block(
        tmp_path, b.batch(b.request(*(b.span(i, attributes={"k": i, "one": "1"}) for i in range(1, 20)))), "1"
    )
    many = [b.span(1000 + i, attributes={"k": "text"} if i == 5 else {"two": 2}) for i in range(1000)]
    two = b.write_block(tmp_path, b.batch(b.request(*many)), "2")
    columns = {(k.key.name, k.key.type.name): (k.rows, k.column) for k in merge(one, two).meta.keys}
    assert columns == {
        ("two", "INT"): (999, "span.two"),
        ("k", "INT"): (19, "span.k"),
        ("one", "STRING"): (19, "span.one"),
        ("k", "STRING"): (1, ""),
    }


@pytest.mark.parametrize("file", [layout.SPANS, layout.TRACES, layout.RESOURCES])
def test_a_damaged_input_is_named_and_nothing_is_left(tmp_path: Path, file: str) -> None:
    blocks = [b.write_block(tmp_path, b.batch(b.request(b.span(t))), str(t)) for t in (1, 2, 3)]
    (blocks[1].directory / file).write_bytes(b"PAR1 no more")
    with pytest.raises(DamagedInput) as error:
        merge(*blocks)
    assert error.value.block is blocks[1]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1", "2", "3"]


def test_stopping_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "ROW_GROUP_SPANS", 10)
    blocks = [b.write_block(tmp_path, b.batch(b.request(*tree(t, 30, t))), str(t)) for t in (1, 2, 3)]
    steps = 0

    def stop_at_the_third() -> None:
        nonlocal steps
        steps += 1
        if steps == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge(*blocks, check=stop_at_the_third)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1", "2", "3"]


def test_decoded_input_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row groups of interleaved blocks are held up to the budget, and each is decoded only when it must be."""
    monkeypatch.setattr(layout, "ROW_GROUP_SPANS", 100)
    blocks = [
        b.write_block(tmp_path, b.batch(b.request(*(b.span(t, start=b.NOON + t) for t in range(n, 2000, 4)))), str(n))
        for n in range(1, 5)
    ]
    read: list[tuple[str, int]] = []
    rows = Block.rows

    def counting(self: Block, first: int, count: int) -> SpanBatch:
        read.append((self.meta.id, first))
        return rows(self, first, count)

    monkeypatch.setattr(Block, "rows", counting)
    merge(*blocks)
    assert len(read) == len(set(read)) == 20, "in order of time, each row group once"
    held: list[int] = []
    original = compaction._RowGroups._row_group

    def measured(self: Any, number: int, group: int, base: int) -> SpanBatch:
        found = original(self, number, group, base)
        held.append(self._bytes - compaction._size(found))
        return found

    monkeypatch.setattr(compaction._RowGroups, "_row_group", measured)
    merge(*blocks, id="again", memory_bytes=200_000)
    assert max(held) <= 200_000 * compaction.CACHE_SHARE


def test_row_groups_of_large_spans_are_short(tmp_path: Path) -> None:
    """Else a row group of 62,500 spans of 10 KB would be 600 MB, and merging needs several."""
    large = [b.request(*(b.span(t, i, attributes={"body": f"{t}/{i}" * 3000}) for i in (1, 2))) for t in range(1, 1501)]
    block = b.write_block(tmp_path, b.batch(*large))
    assert block.meta.span_bytes > 10_000
    assert 2 <= len(block.meta.row_groups) <= 4
    assert len(merge(block).meta.row_groups) == len(block.meta.row_groups)
    small = b.write_block(tmp_path, b.batch(*(b.request(b.span(t)) for t in range(1, 1501))), "small")
    assert small.meta.row_groups == (1500,)
