"""What group commit costs on the writer thread: CPU microseconds a group and a span, from request bytes to the head.

Usage: python bench/commit.py WORKLOAD [--group N] [--sync] [--profile]
WORKLOAD is as for bench/decode.py; N requests make a group. A full head is sealed and dropped: what a block costs is
in bench/block.py.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

from generator import requests

from vivace.config.overrides import IngestionLimits
from vivace.ingest.admission import Admission
from vivace.ingest.commit import GroupCommit
from vivace.observers import CommitObserver
from vivace.storage.catalog import Catalog
from vivace.storage.disk import DiskBudget
from vivace.storage.store import CutSettings, Observers, Store
from vivace.storage.wal import Wal
from vivace.telemetry import Telemetry

TENANT = "single-tenant"
ATTRIBUTE_BYTES_MAX = 2048


def store_in(directory: Path, *, sync: bool) -> Store:
    """A store as the service builds it, of which no cut is made."""
    blocks = directory / "blocks"
    blocks.mkdir()
    wal = Wal(directory / "wal", sync=sync)
    minutes = timedelta(minutes=1)
    return Store(
        wal=wal,
        catalog=Catalog(blocks, on_quarantine=lambda: None),
        disk=DiskBudget(blocks, {"blocks": blocks, "wal": directory / "wal"}, cap=1 << 40, floor=0),
        cut=CutSettings(128 << 20, minutes, minutes, minutes),
        observers=Observers(lambda seconds: None, lambda: None, lambda tenant, spans: None),
        clock=time.monotonic,
        now_unix_nano=time.time_ns,
        new_id=lambda: "block",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workload", type=Path)
    parser.add_argument("--group", type=int, default=4, help="requests committed at once")
    parser.add_argument("--sync", action="store_true", help="with fsync, whose CPU time then counts")
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    bodies = [(TENANT, body) for body in requests(arguments.workload)]
    groups = [bodies[i : i + arguments.group] for i in range(0, len(bodies), arguments.group)]
    with tempfile.TemporaryDirectory() as directory, ThreadPoolExecutor(1) as writer:
        store = store_in(Path(directory), sync=arguments.sync)
        for _ in store.wal.replay():
            pass
        store.replay_done()
        commit = GroupCommit(
            store,
            writer,
            Admission(lambda tenant: IngestionLimits(), time.monotonic),
            attribute_bytes_max=lambda tenant: ATTRIBUTE_BYTES_MAX,
            observer=CommitObserver(Telemetry(version="")),
        )
        profile = cProfile.Profile()
        cpu, spans = 0.0, 0
        for group in groups:
            began = time.thread_time()
            if arguments.profile:
                profile.enable()
            fates = commit.commit(group)
            profile.disable()
            cpu += time.thread_time() - began
            spans += sum(fate.spans for fate in fates if not isinstance(fate, Exception))
            if store.cut_wanted.is_set():
                store.cut_wanted.clear()
                head = store.head(TENANT)
                head.seal(store.wal.next_sequence)
                head.release([])
                store.truncate_wal()
        store.wal.close()
        store.writer.shutdown()
    print(f"{len(groups)} groups of {arguments.group}, {spans} spans")
    print(f"{cpu / len(groups) * 1e6:.0f} us of CPU a group, {cpu / spans * 1e6:.2f} us a span")
    if arguments.profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
