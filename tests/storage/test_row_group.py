"""Row groups of a block give the columns that the same spans give in memory; what they read, and what they do not."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import builders as b
import numpy as np
import pyarrow as pa
import pytest
from frames import KEYS, contents, of_column, some_spans

from vivace.errors import CorruptionError
from vivace.model.arrange import arrange
from vivace.model.batch import SpanBatch
from vivace.model.frame import Fixed, Frame, Level
from vivace.model.memory_frame import MemoryFrame
from vivace.model.schema import AttributeScope
from vivace.storage import layout
from vivace.storage.block_reader import Block
from vivace.storage.column_cache import ColumnCache
from vivace.storage.column_files import numbers_of, strings_of
from vivace.storage.compaction import compact

CACHE_BYTES = 1 << 30


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several row groups of a few spans, and fewer columns than keys."""
    monkeypatch.setattr(layout, "ROW_GROUP_SPANS", 25)
    monkeypatch.setattr(layout, "COLUMNS_MAX", 6)


def frames_of(block: Block, cache: ColumnCache | None = None) -> list[Frame]:
    return [*block.row_groups(ColumnCache(CACHE_BYTES) if cache is None else cache)]


def in_memory(spans: SpanBatch) -> list[Frame]:
    return [MemoryFrame(arrange(spans))]


@pytest.mark.parametrize("seed", range(6))
def test_a_block_and_its_spans_in_memory_are_the_same(tmp_path: Path, seed: int) -> None:
    spans = some_spans(seed)
    block = b.write_block(tmp_path, spans)
    assert len(block.meta.row_groups) > 3
    assert block.meta.overflow.keys() == {scope.value for scope in AttributeScope}
    expected = contents(in_memory(spans))
    cache = ColumnCache(CACHE_BYTES)
    assert contents(frames_of(block, cache)) == expected, f"read, seed {seed}"
    misses = cache.misses
    assert contents(frames_of(block, cache)) == expected, f"from the cache, seed {seed}"
    assert cache.misses == misses


def test_without_a_cache(tmp_path: Path) -> None:
    spans = some_spans(9, traces=8)
    cache = ColumnCache(0)
    assert contents(frames_of(b.write_block(tmp_path, spans), cache)) == contents(in_memory(spans))
    assert (cache.hits, cache.entry_count) == (0, 0)


def test_every_attribute_a_column_and_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spans = some_spans(100)
    expected = contents(in_memory(spans))
    for columns in (0, 1000):
        monkeypatch.setattr(layout, "COLUMNS_MAX", columns)
        assert contents(frames_of(b.write_block(tmp_path, spans, f"{columns}"))) == expected


def test_merged_blocks(tmp_path: Path) -> None:
    spans = some_spans(7, traces=40)
    half = len(spans) // 2
    blocks = [
        b.write_block(tmp_path, s, str(i)) for i, s in enumerate((spans.slice(0, half), spans.slice(half, len(spans))))
    ]
    done = compact(blocks, directory=tmp_path, block_id="merged", memory_bytes=64 << 20, now_unix_nano=b.NOON)
    found, expected = contents(frames_of(Block(done.directory, done.meta))), contents(in_memory(spans))
    assert found == expected


def test_a_dictionary_that_grew_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past a megabyte of dictionary Parquet goes on without one: the column comes in several kinds of pages."""
    monkeypatch.setattr(layout, "ROW_GROUP_SPANS", 62_500)
    monkeypatch.setattr(layout, "COLUMNS_MAX", 128)
    values = [f"{i:02000}" for i in range(1000)]
    spans = b.batch(b.request(*(b.span(i + 1, 1, name="n" + v, attributes={"k": v}) for i, v in enumerate(values * 3))))
    block = b.write_block(tmp_path, spans)
    (group,) = block.row_groups(ColumnCache(CACHE_BYTES))
    found = group.attribute(AttributeScope.SPAN, "k")
    assert found is not None
    assert found.strings is not None
    assert of_column(found.strings) == values * 3
    assert of_column(group.fixed(Fixed.NAME)) == ["n" + v for v in values * 3]


def test_pieces_of_a_column_become_one() -> None:
    pieces = (["a", None, "b"], ["c", "b"], [None])
    column = pa.chunked_array([pa.array(values, pa.string()).dictionary_encode() for values in pieces])
    for first in range(4):
        assert of_column(strings_of(column.slice(first))) == ["a", None, "b", "c", "b", None][first:]
    for values in ([1, None, 3], [True, None, False], [0.5, None, -0.0]):
        for first in range(3):
            found = of_column(numbers_of(pa.chunked_array([values, values[:1]]).slice(first)))
            assert found == [v.hex() if isinstance(v, float) else v for v in [*values, values[0]][first:]]


def test_what_a_block_does_not_have_needs_no_file(tmp_path: Path) -> None:
    block = b.write_block(tmp_path, b.batch(b.request(b.span(attributes={"there": 1}))))
    groups = block.row_groups(ColumnCache(CACHE_BYTES))
    shutil.rmtree(block.directory)
    for group in groups:
        assert all(group.attribute(scope, key) is None for scope in AttributeScope for key in ("k", ""))
        assert [group.count(level) for level in (Level.SPAN, Level.EVENT, Level.LINK)] == [1, 0, 0]
        assert [len(group.fixed(c)) for c in Fixed if c.level in (Level.EVENT, Level.LINK)] == [0, 0, 0, 0]
        assert [len(group.owners(level)) for level in (Level.EVENT, Level.LINK)] == [0, 0]
        assert group.inspected_bytes == 0
    with pytest.raises(CorruptionError, match=r"spans\.parquet"):
        groups[0].attribute(AttributeScope.SPAN, "there")


def test_only_the_column_that_is_asked_for_is_read(tmp_path: Path) -> None:
    """The other files may be gone."""
    block = b.write_block(tmp_path, some_spans(3))
    for name in {*layout.DATA_FILES} - {layout.SPANS}:
        (block.directory / name).unlink(missing_ok=True)
    for group in block.row_groups(ColumnCache(CACHE_BYTES)):
        assert len(group.fixed(Fixed.NAME)) == group.span_count


def test_planning(tmp_path: Path) -> None:
    spans = b.batch(
        b.request(
            *(b.span(1, i + 1, start=b.NOON + i) for i in range(22)),
            *(b.span(2, i + 1, start=b.NOON + 100, duration=-50) for i in range(3)),
            *(b.span(3, i + 1, start=b.NOON + 200 + i, duration=7) for i in range(30)),
            b.span(4, 1, start=2**64 - 1, duration=1 - 2**63),
        )
    )
    groups = b.write_block(tmp_path, spans).row_groups(ColumnCache(CACHE_BYTES))
    found = [
        (g.index, g.first_row, g.span_count, g.trace_count, g.start_min, g.start_max, g.end_max) for g in groups
    ]  # fmt: skip
    assert found == [
        (0, 0, 25, 2, b.NOON, b.NOON + 100, b.NOON + 1021),
        (1, 25, 30, 1, b.NOON + 200, b.NOON + 200, b.NOON + 236),
        (2, 55, 1, 1, 2**64 - 1, 2**64 - 1, 2**64 - 1),
    ]
    assert all(type(n) is int for row in found for n in row)


def test_each_column_is_counted_once_a_frame(tmp_path: Path) -> None:
    block = b.write_block(tmp_path, some_spans(5))
    cache = ColumnCache(CACHE_BYTES)
    for _ in range(2):
        group = block.row_groups(cache)[0]
        assert (group.start_min > 0, group.inspected_bytes) == (True, 0)
        names, key = group.fixed(Fixed.NAME), group.attribute(AttributeScope.SPAN, "k")
        group.fixed(Fixed.NAME)
        group.attribute(AttributeScope.SPAN, "k")
        assert key is not None
        assert group.inspected_bytes == names.nbytes + key.nbytes


def test_many_threads_see_the_same(tmp_path: Path) -> None:
    spans = some_spans(6)
    block, expected = b.write_block(tmp_path, spans), contents(in_memory(spans))
    cache = ColumnCache(300_000)  # about half of what they ask for
    with ThreadPoolExecutor(3) as threads:
        assert all(threads.map(lambda _: contents(frames_of(block, cache)) == expected, range(3)))
    assert cache.evictions
    assert cache.nbytes <= cache.bytes_max


def test_a_block_is_checked_before_it_is_read(tmp_path: Path) -> None:
    block = b.write_block(tmp_path, some_spans(1))
    b.flip_byte(block.directory / layout.TRACES, 100)
    found = Block(block.directory, block.meta, checked=False)
    with pytest.raises(CorruptionError, match=r"traces\.parquet"):
        found.row_groups(ColumnCache(CACHE_BYTES))


def reads(group: Frame) -> Iterator[Callable[[], object]]:
    for column in Fixed:
        yield lambda: group.fixed(column)  # noqa: B023 - called before the next one
    for level in (Level.RESOURCE, Level.SCOPE, Level.TRACE, Level.EVENT, Level.LINK):
        yield lambda: group.owners(level)  # noqa: B023
    for scope in AttributeScope:
        for key in KEYS:
            yield lambda: group.attribute(scope, key)  # noqa: B023
    yield group.first_rows


def ask(block: Block) -> int:
    """Read all of a block as far as it can be read: how often it could not."""
    raised = 0
    for group in block.row_groups(ColumnCache(CACHE_BYTES)):
        for read in reads(group):
            try:
                read()
            except CorruptionError:
                raised += 1
    return raised


def test_a_file_that_is_cut_off_or_gone(tmp_path: Path) -> None:
    block = b.write_block(tmp_path, some_spans(2, traces=8))
    assert ask(block) == 0
    for name in (n for n in block.meta.files if n != layout.INDEX):
        path = block.directory / name
        good = path.read_bytes()
        path.write_bytes(good[: len(good) // 2])
        assert ask(Block(block.directory, block.meta)), f"half of {name}"
        path.unlink()
        assert ask(Block(block.directory, block.meta)), f"no {name}"
        path.write_bytes(good)


def test_flipped_bits_are_an_error_of_ours_or_are_not_noticed(tmp_path: Path) -> None:
    """Without looking at checksums: CorruptionError or other values, nothing else."""
    block = b.write_block(tmp_path, some_spans(2, traces=8))
    random = np.random.default_rng(3)
    for name in (layout.SPANS, layout.TRACES, layout.EVENTS, layout.LINKS):
        path = block.directory / name
        good = path.read_bytes()
        for offset in random.integers(0, len(good), 6).tolist():
            b.flip_byte(path, offset)
            ask(Block(block.directory, block.meta))
            path.write_bytes(good)


def test_a_block_whose_files_do_not_fit_together(tmp_path: Path) -> None:
    block = b.write_block(tmp_path, some_spans(2))
    wrong = replace(block.meta, row_groups=(block.meta.span_count,))
    with pytest.raises(CorruptionError, match="1 row groups"):
        _ = Block(block.directory, wrong).row_groups(ColumnCache(CACHE_BYTES))[0].start_min
