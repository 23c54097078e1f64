"""kill -9 at random moments: every acknowledged span is there, and none is there twice.

One data directory goes through many rounds of load, kill and restart. While four connections send, a reader asks for
acknowledged traces, which must be whole at every moment; after each restart a sample is read, at the end everything.
Requests without an answer are sent again in half of the cases, as senders do.

ROUNDS and SEED in the environment ask for another run; `make faults` does.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from pathlib import Path

from server import Server, merged

from faults.load import Ledger, Load, Reader, Request, Senders

ROUNDS = int(os.environ.get("ROUNDS", "30"))
SEED = int(os.environ.get("SEED", "0")) or time.time_ns() % 1_000_000

TRACES_A_ROUND = 48
"""Half a second of load: most kills hit it, and the final reading of everything stays short."""

LOAD_SECONDS_MAX = 0.6
SAMPLE = 8


def test_kill(tmp_path: Path) -> None:
    print(f"ROUNDS={ROUNDS} SEED={SEED}")
    chance = random.Random(SEED)
    ledger = Ledger(Load(SEED))
    again: list[Request] = []
    server = Server(tmp_path)
    try:
        for number in range(ROUNDS):
            if chance.random() < 0.15:  # in the middle of its start, too
                server.start(wait=False)
                time.sleep(chance.uniform(0.4, 1.2))
                server.kill()
            server.start()
            known = ledger.traces()
            ledger.check(server, chance.sample(known, min(SAMPLE, len(known))))
            traces = range(number * TRACES_A_ROUND, (number + 1) * TRACES_A_ROUND)
            senders = Senders(server, ledger, traces, again=again).start()
            reader = Reader(server, ledger, chance).start()
            time.sleep(chance.uniform(0.05, LOAD_SECONDS_MAX))
            server.kill()
            senders.join()
            reader.stop()
            assert not senders.refused
            assert not reader.problems, f"SEED={SEED}\n" + "\n".join(reader.problems[:20])
            again = [r for r in senders.unacknowledged if chance.random() < 0.5]
        server.start()
        ledger.check(server)
    except AssertionError as error:
        error.add_note(f"ROUNDS={ROUNDS} SEED={SEED} round {number}")
        raise
    finally:
        server.__exit__()
    print(f"{ROUNDS} kills, {ledger.acknowledged_spans} acknowledged spans, all there once")


def test_cuts_while_replaying(tmp_path: Path) -> None:
    """A log of more than a head's worth: the replay cuts, and what it cut and what it did not is there once."""
    ledger = Ledger(Load(SEED))
    calm = {
        "ingester": {"head_max_bytes": 64 << 20, "max_block_duration": "1h", "flush_check_period": "1h"},
        "compactor": {"compaction": {"compaction_cycle": "1h"}},
    }
    with Server(tmp_path, calm) as server:
        senders = Senders(server, ledger, range(480), at_once=120).start()  # every trace from start to end of the log
        senders.join()
        assert not senders.unacknowledged
        assert not server.blocks()
        server.kill()
        server.configure(merged(calm, {"ingester": {"head_max_bytes": 1 << 20}}))
        shutil.copytree(tmp_path / "data" / "wal", tmp_path / "wal")
        server.start()
        assert len(server.blocks()) > 1, "nothing was cut"
        ledger.check(server, range(0, 480, 20))
        server.kill()
        shutil.rmtree(tmp_path / "data" / "wal")  # as if the kill had come when blocks were there and the log still was
        shutil.copytree(tmp_path / "wal", tmp_path / "data" / "wal")
        server.start()
        ledger.check(server, range(0, 480, 5))
        # an answer hides exact copies, so count them where they would lie
        assert server.get("/flush")[0] == 204
        spans = sum(json.loads((b / "meta.json").read_bytes())["span_count"] for b in server.blocks())
        assert spans == ledger.acknowledged_spans
