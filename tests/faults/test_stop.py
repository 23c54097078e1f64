"""SIGTERM and SIGINT: the process ends soon, with code 0, and loses nothing, whatever it was doing."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from server import Server, eventually

from faults.load import Ledger, Load, Senders

SEED = int(os.environ.get("SEED", "0")) or 41

START_SECONDS_MAX = 5.0
LARGE_SPANS = int(os.environ.get("LARGE_SPANS", "100_000"))
"""In the log at the restart below; `make faults` asks for 400,000."""

DEFAULTS = {
    "ingester": {
        "head_max_bytes": 128 << 20,
        "flush_check_period": "10s",
        "max_block_duration": "30m",
        "trace_idle_period": "5s",
        "trace_live_period": "30s",
    },
    "storage": {"trace": {"wal": {"segment_max_bytes": 64 << 20}}},
}
"""As the configuration has them."""


@pytest.mark.parametrize(
    ("number", "changes"), [(signal.SIGTERM, DEFAULTS), (signal.SIGINT, {})], ids=["SIGTERM", "SIGINT while cutting"]
)
def test_stop_under_load(tmp_path: Path, number: signal.Signals, changes: dict[str, object]) -> None:
    ledger = Ledger(Load(SEED))
    with Server(tmp_path, changes) as server:
        senders = Senders(server, ledger, range(10_000)).start()
        eventually(lambda: ledger.acknowledged_spans > 2_000, "some spans are stored")
        assert server.stop(number) == 0
        senders.join()
        assert all(r.retry_seconds for r in senders.refused), senders.refused
        assert "Traceback" not in server.log()
        server.start()
        ledger.check(server, ledger.traces()[-60:])


def test_stop_while_starting(tmp_path: Path) -> None:
    """In the middle of the replay too; what was not replayed is replayed the next time."""
    ledger = Ledger(Load(SEED))
    with Server(tmp_path, DEFAULTS) as server:
        Senders(server, ledger, range(640), at_once=16).start().join()
        server.kill()
        for number in (signal.SIGTERM, signal.SIGINT):
            server.start(wait=False)
            eventually(lambda: "Started server process" in server.log(), "the start has begun")
            assert server.stop(number) == 0
            assert "Traceback" not in server.log()
        server.start()
        ledger.check(server, ledger.traces()[::10])


def test_start_with_a_full_head(tmp_path: Path) -> None:
    """A log of LARGE_SPANS is replayed within START_SECONDS_MAX."""
    ledger = Ledger(Load(SEED))
    with Server(tmp_path, DEFAULTS) as server:
        senders = Senders(server, ledger, range(LARGE_SPANS // 64), at_once=16).start()
        senders.join()
        assert not senders.unacknowledged
        assert server.stop() == 0
        started = time.monotonic()
        server.start()
        seconds = time.monotonic() - started
        print(f"ready {seconds:.2f} s after the start, with {LARGE_SPANS} spans in the log")
        assert seconds < START_SECONDS_MAX
        ledger.check(server, ledger.traces()[::100])
