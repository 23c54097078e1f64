"""A full disk, on a small file system of its own: spans are refused as retryable, nothing acknowledged is lost, and
the server goes on by itself when there is room again.

Needs the right to mount a tmpfs; without it the tests are skipped.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from server import Server, eventually, merged

from faults.load import GrpcSender, HttpSender, Ledger, Load, Refused, Senders

SEED = int(os.environ.get("SEED", "0")) or 21

SIZE = 64 << 20
NOISE_BYTES = 2000
"""Large spans: the disk fills with few of them, and all of them can be read back."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """An empty file system of SIZE bytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "vivace-test", place], capture_output=True, text=True
    )
    if mount.returncode:
        pytest.skip(f"cannot mount a small file system here: {mount.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def settings(**local: str | int) -> dict[str, object]:
    return {"storage": {"trace": {"local": local}}}


NO_LIMIT = settings(max_bytes="100%", min_free_bytes=0)
"""What the file system refuses is what we see."""

NO_CUT = {"ingester": {"head_max_bytes": 128 << 20, "max_block_duration": "1h", "flush_check_period": "1h"}}
"""Everything stays in memory and in the log, so retention finds nothing that it could delete."""


def used(disk: Path) -> int:
    state = os.statvfs(disk)
    return (state.f_blocks - state.f_bfree) * state.f_frsize


def refusals(server: Server, ledger: Ledger) -> list[Refused]:
    """What a sender of each kind is told now, empty when both are served."""
    found = []
    for make, trace in ((GrpcSender, 1_000_000), (HttpSender, 1_000_001)):
        with closing(make(server)) as sender:
            request = ledger.load.request((trace,), 0, 16)
            ledger.sending(request)
            try:
                sender.send(request.body)
            except Refused as refused:
                found.append(refused)
            else:
                ledger.acknowledge(request)
    return found


def assert_retryable(found: list[Refused]) -> None:
    assert found
    assert {(r.status, bool(r.retry_seconds)) for r in found} <= {("UNAVAILABLE", True), ("503", True)}


def fill(server: Server, ledger: Ledger, first: int = 0) -> None:
    """Send until refused."""
    senders = Senders(server, ledger, range(first, first + 100_000), at_once=1).start()
    eventually(lambda: senders.refused, "spans are refused", 60)
    senders.stop()
    assert_retryable(senders.refused)


@pytest.mark.parametrize("limits", [settings(max_bytes="12MiB"), NO_LIMIT], ids=["at the cap", "no space left"])
def test_full(disk: Path, tmp_path: Path, limits: dict[str, object]) -> None:
    """Full at our own cap, or at the end of the file system, with nothing left to delete: nothing is lost."""
    if limits is NO_LIMIT:
        (disk / "other").write_bytes(bytes(SIZE - (14 << 20)))  # so that it takes less to fill
    ledger = Ledger(Load(SEED, noise_bytes=NOISE_BYTES))
    with Server(tmp_path / "server", merged(limits, NO_CUT), data=disk / "data") as server:
        fill(server, ledger)
        eventually(lambda: len(refusals(server, ledger)) == 2, "both kinds of sender are refused")
        assert server.get("/ready") == (200, b"ready\n")
        ledger.check(server)
        assert server.stop() == 0
        server.start()
        ledger.check(server)


def test_cap_under_steady_load(disk: Path, tmp_path: Path) -> None:
    """Retention keeps us below the cap without refusing anybody; the oldest blocks go, what is new stays."""
    cap = 40 << 20  # the margin of a twentieth is more than what comes in between two cuts
    # blocks that are small beside the cap, as they are on a real disk
    small = {"compactor": {"compaction": {"max_block_bytes": cap // 16}}, "ingester": {"head_max_bytes": 4 << 20}}
    limits = merged(settings(max_bytes=cap, min_free_bytes=0), small)
    ledger = Ledger(Load(SEED, noise_bytes=NOISE_BYTES))
    with Server(tmp_path / "server", limits, data=disk / "data") as server:
        senders = Senders(server, ledger, range(100_000), at_once=1, pause_seconds=0.01).start()
        highest = 0
        deadline = time.monotonic() + 60
        while server.metric("tempodb_retention_deleted_total") < 3:
            reported = server.metric("vivace_disk_bytes")
            highest = max(highest, used(disk))
            assert reported < used(disk) + (6 << 20), "more than merges and cuts of a moment explain"
            assert time.monotonic() < deadline, "retention by bytes deletes nothing"
            assert senders.running
            time.sleep(0.1)
        senders.stop()
        assert not senders.refused
        assert 0.5 * cap < highest <= cap
        check_without_deleted(server, ledger)
        server.kill()
        server.start()
        check_without_deleted(server, ledger)


def check_without_deleted(server: Server, ledger: Ledger) -> None:
    """Spans that are missing were deleted with their blocks, and those held the oldest: what came last is whole."""
    ledger.check(server, ledger.traces()[-10:])
    problems = [p for t in ledger.traces()[:-10:4] for p in ledger.problems(server, t)]
    assert problems
    assert all("are missing" in p for p in problems), problems[:5]


def test_space_comes_back(disk: Path, tmp_path: Path) -> None:
    """A stranger takes all space there is, in the middle of appends, cuts and merges, and then gives it back."""
    ledger = Ledger(Load(SEED, noise_bytes=NOISE_BYTES))
    with Server(tmp_path / "server", NO_LIMIT, data=disk / "data") as server:
        for number in range(2):
            first = number * 1000
            senders = Senders(server, ledger, range(first, first + 900), at_once=1).start()
            eventually(lambda n=number: ledger.acknowledged_spans > (n + 1) * 2_000, "some spans are stored")
            with Stranger(disk / "stranger"):
                eventually(lambda s=senders: s.refused, "spans are refused")
                eventually(lambda: len(refusals(server, ledger)) == 2, "both kinds of sender are refused")
                assert server.get("/ready") == (200, b"ready\n")
                senders.stop()
                assert_retryable(senders.refused)
            eventually(lambda: not refusals(server, ledger), "spans are taken again")
            eventually(lambda: server.metric("vivace_head_spans") == 0, "blocks are written again")
            late = Senders(server, ledger, range(first + 900, first + 920)).start()
            late.join()
            assert not late.unacknowledged
            assert not wrong_but_deleted(server, ledger)
            ledger.check(server, range(first + 900, first + 920))
        assert server.stop() == 0
        server.start()
        assert not wrong_but_deleted(server, ledger)
        ledger.check(server, range(1900, 1920))


def test_no_block_can_be_written(disk: Path, tmp_path: Path) -> None:
    """A cut that fails takes nothing with it, neither while the server runs nor at a start on the full disk."""
    ledger = Ledger(Load(SEED, noise_bytes=NOISE_BYTES))
    with Server(tmp_path / "server", merged(NO_LIMIT, NO_CUT), data=disk / "data") as server:
        Senders(server, ledger, range(40), at_once=1).start().join()
        with Stranger(disk / "stranger"):
            for _ in range(3):
                assert server.get("/flush")[0] >= 500
                ledger.check(server)
            server.kill()
            server.configure(merged(NO_LIMIT, {"ingester": {"head_max_bytes": 1 << 20}}))  # so that the replay cuts
            server.start()
            assert "cannot write a block" in server.log()
            ledger.check(server)
        eventually(lambda: not refusals(server, ledger), "spans are taken again")
        eventually(lambda: server.metric("vivace_head_spans") == 0, "blocks are written again")
        ledger.check(server)
        server.kill()
        server.start()
        ledger.check(server)


def wrong_but_deleted(server: Server, ledger: Ledger) -> list[str]:
    """What is wrong with all traces, but for spans that went with their blocks."""
    return [p for trace in ledger.traces() for p in ledger.problems(server, trace) if "are missing" not in p]


class Stranger:
    """Takes all space of a file system, and what becomes free, until it leaves."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._take, name="stranger")

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()
        self._path.unlink()

    def _take(self) -> None:
        with self._path.open("wb", buffering=0) as file:
            while not self._stop.is_set():
                for size in (1 << 18, 1 << 12):
                    with suppress(OSError):
                        while not self._stop.is_set():
                            file.write(bytes(size))
                self._stop.wait(0.002)
