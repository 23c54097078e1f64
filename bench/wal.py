"""What an append to the write-ahead log costs: records/s, MB/s, CPU a record, sync latency.

Usage: python bench/wal.py [--directory DIR] [--seconds S] [--no-reserve] [--no-sync]
DIR must be on the device in question (default: a temporary directory). The log is truncated as it grows, so that at
most a few segments are on disk. `--no-reserve` writes without reserved room, for the comparison in wal_writer.py.
"""

from __future__ import annotations

import argparse
import errno
import random
import statistics
import tempfile
import time
from pathlib import Path

from vivace.storage.wal import Wal
from vivace.storage.wal_writer import SystemFileOps

# records in a group, bytes of a body: 5 KB is a request of some 20 spans, 130 KB one of 500
SHAPES = [(1, 5_000), (4, 5_000), (16, 5_000), (64, 5_000), (4, 130_000)]


class UnreservedFileOps(SystemFileOps):
    def reserve(self, fd: int, offset: int, length: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "not reserving")


def measure(directory: Path, group_size: int, body_bytes: int, seconds: float, *, reserve: bool, sync: bool) -> str:
    body = random.Random(1).randbytes(body_bytes)
    group = [("single-tenant", body)] * group_size
    sync_seconds: list[float] = []
    files = SystemFileOps() if reserve else UnreservedFileOps()
    groups = 0
    with Wal(directory, sync=sync, on_fsync=sync_seconds.append, files=files) as wal:
        for _ in wal.replay():
            pass
        wal.append(group)
        sync_seconds.clear()
        wall, cpu = time.perf_counter(), time.process_time()
        while time.perf_counter() - wall < seconds:
            sequences = wal.append(group)
            groups += 1
            if groups % 100 == 0:
                wal.truncate_before(sequences.start)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        wal.truncate_before(wal.next_sequence)
    records = groups * group_size
    p50, p99 = (
        (0.0, 0.0) if not sync else (statistics.median(sync_seconds), statistics.quantiles(sync_seconds, n=100)[98])
    )
    return (
        f"{group_size:3} x {body_bytes // 1000:3} KB  {records / wall:8.0f} records/s  {records * body_bytes / wall / 1e6:7.0f} MB/s"
        f"  {cpu / records * 1e6:6.1f} us CPU/record  {cpu / groups * 1e6:6.0f} us CPU/group"
        f"  sync p50 {p50 * 1e6:5.0f} us  p99 {p99 * 1e6:6.0f} us"
    )


def measure_replay(directory: Path, body_bytes: int, record_count: int) -> str:
    body = random.Random(1).randbytes(body_bytes)
    with Wal(directory, sync=False) as wal:
        for _ in wal.replay():
            pass
        for _ in range(record_count // 50):
            wal.append([("single-tenant", body)] * 50)
    with Wal(directory) as wal:
        cpu = time.process_time()
        records = sum(1 for _ in wal.replay())
        cpu = time.process_time() - cpu
        wal.truncate_before(wal.next_sequence)
    return f"replay of {body_bytes // 1000:3} KB  {cpu / records * 1e6:6.1f} us CPU/record  {records * body_bytes / cpu / 1e6:7.0f} MB a CPU second"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each shape")
    parser.add_argument("--no-reserve", action="store_true")
    parser.add_argument("--no-sync", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        for group_size, body_bytes in SHAPES:
            row = measure(
                Path(name),
                group_size,
                body_bytes,
                options.seconds,
                reserve=not options.no_reserve,
                sync=not options.no_sync,
            )
            print(row, flush=True)
        for body_bytes, record_count in ((5_000, 20_000), (130_000, 1_000)):
            print(measure_replay(Path(name), body_bytes, record_count), flush=True)


if __name__ == "__main__":
    main()
