"""What a block costs: CPU to write and to read, bytes on disk by column, and how fast a trace is found.

Usage: python bench/block.py WORKLOAD [--directory DIR] [--lookups N]
WORKLOAD is as for bench/decode.py. One block of all spans is written, as a cut writes it; then it is read whole, as
compaction does, and trace by trace, as look-ups do. "cold" asks the kernel to forget the files before each look-up.
The last part prices the alternative to resources.parquet: the resource's attributes as columns of spans.parquet.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import struct
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles

import pyarrow as pa
import pyarrow.parquet as pq

from vivace.ingest.decode import decoder
from vivace.model.arrange import arrange
from vivace.model.batch import SpanBatch, concat
from vivace.model.dictionary import Dictionary
from vivace.model.schema import AttributeScope
from vivace.storage import layout
from vivace.storage.block_reader import Block
from vivace.storage.block_writer import BlockWriter, count_keys
from vivace.storage.layout import choose_columns
from vivace.storage.table_file import open_writer

GROUP = 16
COLUMNS_SHOWN = 25


def requests(path: Path) -> Iterator[bytes]:
    """The messages of a workload file."""
    data, at = path.read_bytes(), 0
    while at < len(data):
        size, _spans = struct.unpack_from("<II", data, at)
        yield data[at + 8 : at + 8 + size]
        at += 8 + size


def decode(path: Path) -> SpanBatch:
    into = decoder(Dictionary(), 2048)
    bodies = list(requests(path))
    return concat([into.decode(bodies[i : i + GROUP])[0] for i in range(0, len(bodies), GROUP)])


def write(directory: Path, batch: SpanBatch) -> Block:
    """As Store does, with the time of each step."""
    spans = len(batch)
    rows = {
        AttributeScope.SPAN: spans,
        AttributeScope.EVENT: len(batch.events),
        AttributeScope.LINK: len(batch.links),
    }
    start = time.process_time()
    plan = choose_columns(count_keys(batch), rows)
    counted = time.process_time()
    arranged = arrange(batch)
    sorted_ = time.process_time()
    writer = BlockWriter(directory, "block", plan)
    writer.append(arranged)
    path, meta = writer.finish(tenant="t", wal_until=0, level=0, created_unix_nano=0)
    done = time.process_time()
    steps = {"count keys": counted - start, "sort": sorted_ - counted, "write": done - sorted_, "all": done - start}
    print("write, us CPU a span: " + ", ".join(f"{name} {1e6 * s / spans:.2f}" for name, s in steps.items()))
    return Block(path, meta)


def show_sizes(block: Block) -> None:
    spans = block.meta.span_count
    print(f"\n{block.meta.data_bytes / spans:.2f} bytes a span in {spans} spans, {block.meta.trace_count} traces:")
    for name, size in sorted(block.meta.files.items(), key=lambda item: -item[1]):
        print(f"  {size / spans:8.3f}  {name}")
    sizes: dict[str, int] = {}
    for name in (n for n in block.meta.files if n.endswith(".parquet")):
        with pq.ParquetFile(block.directory / name) as file:
            for group in range(file.num_row_groups):
                part = file.metadata.row_group(group)
                for i in range(part.num_columns):
                    column = part.column(i)
                    key = f"{name.removesuffix('.parquet')}: {column.path_in_schema}"
                    sizes[key] = sizes.get(key, 0) + column.total_compressed_size
    print(f"by column, the {COLUMNS_SHOWN} largest of {len(sizes)}, compressed:")
    for name, size in sorted(sizes.items(), key=lambda item: -item[1])[:COLUMNS_SHOWN]:
        print(f"  {size / spans:8.3f}  {name}")


def read_whole(block: Block) -> None:
    start, first = time.process_time(), 0
    for count in block.meta.row_groups:
        block.rows(first, count)
        first += count
    print(f"\nread whole, us CPU a span: {1e6 * (time.process_time() - start) / block.meta.span_count:.2f}")


def look_up(block: Block, lookups: int) -> None:
    traces = pq.read_table(block.directory / layout.TRACES, columns=["trace_id"])["trace_id"]
    chosen = [traces[i].as_py() for i in random.Random(1).choices(range(len(traces)), k=lookups)]
    for name in ("cold", "warm"):
        seconds, cpu = [], time.process_time()
        for trace_id in chosen:
            if name == "cold":
                forget(block.directory)
            start = time.perf_counter()
            fresh = Block(block.directory, block.meta) if name == "cold" else block
            assert fresh.trace(int.from_bytes(trace_id[:8]), int.from_bytes(trace_id[8:])) is not None
            seconds.append(time.perf_counter() - start)
        cpu = time.process_time() - cpu
        p99 = quantiles(seconds, n=100)[-1]
        print(
            f"trace by id, {name}: p50 {1e3 * median(seconds):.2f} ms, p99 {1e3 * p99:.2f} ms, CPU {1e3 * cpu / lookups:.2f} ms"
        )
    start = time.perf_counter()
    for i in range(lookups):
        block.ids.find(i, i)
    print(f"an id that is not here: {1e6 * (time.perf_counter() - start) / lookups:.1f} us")


def forget(directory: Path) -> None:
    for path in directory.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def price_resource_columns(block: Block, directory: Path) -> None:
    """Bytes a span of resource attributes on each span, against the number that stands there."""
    resources = pq.read_table(block.directory / layout.RESOURCES)
    number = pq.read_table(block.directory / layout.SPANS, columns=["resource"])["resource"].to_numpy()
    path = directory / "resources-on-spans.parquet"
    names = [n for n in resources.column_names if n.startswith("resource.")]
    columns = {n: resources[n].combine_chunks().dictionary_encode() for n in names}
    start = time.process_time()
    chunks = [
        pa.table({n: c.take(pa.array(number[first : first + layout.ROW_GROUP_SPANS])) for n, c in columns.items()})
        for first in range(0, len(number), layout.ROW_GROUP_SPANS)
    ]
    with open_writer(path, chunks[0]) as writer:
        for chunk in chunks:
            writer.write_table(chunk)
    cpu = time.process_time() - start
    with pq.ParquetFile(block.directory / layout.SPANS) as file:
        place = file.schema_arrow.get_field_index("resource")
        parts = [file.metadata.row_group(g) for g in range(file.num_row_groups)]
        kept = sum(p.column(place).total_compressed_size for p in parts)
    spans, rows = len(number), len(resources)
    print(
        f"\n{len(names)} resource attributes as columns of spans.parquet: {path.stat().st_size / spans:.2f} bytes a span, "
        f"{1e6 * cpu / spans:.2f} us CPU to write; as a number: {kept / spans:.2f}, and "
        f"{block.meta.files[layout.RESOURCES] / spans:.3f} for {rows} rows of resources.parquet"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workload", type=Path)
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()), help="where the block is put")
    parser.add_argument("--lookups", type=int, default=200)
    arguments = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="bench-block-", dir=arguments.directory))
    try:
        block = write(directory, decode(arguments.workload))
        show_sizes(block)
        read_whole(block)
        look_up(block, arguments.lookups)
        price_resource_columns(block, directory)
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
