"""What a column of a row group costs: read from the file, and taken from the cache.

Usage: python bench/row_group.py WORKLOAD [--directory DIR]
WORKLOAD is as for bench/decode.py. One block of all spans is written; then each column of its row groups is read alone,
the footer being parsed already, and asked for again. Milliseconds of CPU, files in the page cache, medians over
row groups. The same columns of the same spans in memory stand beside them. Columns above their budget are marked.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import TypeVar

from block import decode, write

from vivace.model.arrange import arrange
from vivace.model.frame import LEVEL_OF_SCOPE, Fixed, Frame, Level
from vivace.model.memory_frame import MemoryFrame
from vivace.storage.block_reader import Block
from vivace.storage.column_cache import ColumnCache
from vivace.storage.layout import ROW_GROUP_SPANS

CACHE_BYTES = 4 << 30
INT_MS, STRING_MS, CACHED_US = 2.0, 3.0, 10.0
"""Budgets of a column: numbers and strings read from the file, anything from the cache."""

S = TypeVar("S")
Read = Callable[[Frame], object]


def seconds(read: Callable[[S], object], source: S) -> float:
    start = time.process_time()
    read(source)
    return time.process_time() - start


def columns(block: Block) -> dict[str, tuple[Read, float]]:
    """What can be asked for, and how many milliseconds it may take."""
    found: dict[str, tuple[Read, float]] = {}
    for level in (Level.RESOURCE, Level.SCOPE, Level.TRACE, Level.EVENT, Level.LINK):
        found[f"owners: {level.value}"] = (lambda frame, level=level: frame.owners(level), INT_MS)
    for fixed in Fixed:
        is_text = fixed.name.endswith(("NAME", "VERSION", "MESSAGE", "LINK_TRACE_ID", "LINK_SPAN_ID"))
        found[fixed.column] = (lambda frame, fixed=fixed: frame.fixed(fixed), STRING_MS if is_text else INT_MS)
    for stats in block.meta.keys:
        key = stats.key
        name = f"{key.scope.value}.{key.name}: {key.type.name.lower()}" + ("" if stats.column else ", no column")
        budget = STRING_MS if key.type.name == "STRING" else INT_MS
        found[name] = (lambda frame, key=key: frame.attribute(key.scope, key.name), budget)
    return found


def show_columns(block: Block, memory: MemoryFrame) -> None:
    cache = ColumnCache(CACHE_BYTES)
    groups = [g for g in block.row_groups(cache) if g.span_count > ROW_GROUP_SPANS // 2]
    for level in Level:  # what is read once a block, and its footers
        groups[0].count(level)
    groups[0].fixed(Fixed.EVENT_TIME), groups[0].fixed(Fixed.KIND)
    groups = groups[1:]
    print(f"{len(groups)} row groups of about {ROW_GROUP_SPANS} spans")
    print(f"{'column':50} {'read ms':>8} {'cached us':>10} {'memory ms':>10}")
    for name, (read, budget) in columns(block).items():
        first = 1e3 * median(seconds(read, g) for g in groups)
        again = 1e6 * median(seconds(read, g) for g in groups)
        own = 1e3 * seconds(read, memory)
        mark = " !" if first > budget or again > CACHED_US else ""
        print(f"{name:50} {first:8.3f} {again:10.1f} {own:10.3f}{mark}")
    size, kept = cache.nbytes, cache.entry_count
    print(f"{kept} entries, {size / 1e6:.0f} MB kept; {cache.hits} hits, {cache.misses} misses")


def show_overhead(block: Block) -> None:
    """What comes before the first column."""
    for name, read in {
        "row_groups()": lambda cache: block.row_groups(cache),
        "row_groups(), bounds of the traces": lambda cache: block.row_groups(cache)[0].start_min,
        "row_groups(), one name column": lambda cache: block.row_groups(cache)[0].fixed(Fixed.NAME),
        "row_groups(), events of a row group": lambda cache: block.row_groups(cache)[0].count(Level.EVENT),
    }.items():
        taken = [seconds(read, ColumnCache(CACHE_BYTES)) for _ in range(20)]
        print(f"{name:50} {1e3 * median(taken):8.3f} ms")
    (group, *_), absent = block.row_groups(ColumnCache(CACHE_BYTES)), [f"not.there.{i}" for i in range(1000)]
    for scope in LEVEL_OF_SCOPE:
        taken = [seconds(lambda k, scope=scope: group.attribute(scope, k), key) for key in absent]
        print(f"a key that is not there, {scope.value:26} {1e6 * median(taken):8.2f} us")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workload", type=Path)
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()), help="where the block is put")
    arguments = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="bench-row-group-", dir=arguments.directory))
    try:
        batch = decode(arguments.workload)
        block = write(directory, batch)
        show_overhead(block)
        # as many spans as a row group has
        show_columns(block, MemoryFrame(arrange(batch.slice(0, ROW_GROUP_SPANS))))
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
