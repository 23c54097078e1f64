"""Torn and flipped bytes on disk: the server starts, tells, and never returns a span that was not sent.

What is damaged is lost, except where the write-ahead log still has it; all else is there. WAL segments are cut off or
flipped in the last or in any; of a block every kind of file is flipped.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from server import Server, eventually

from faults.load import HttpSender, Ledger, Load, Request, Senders

SEED = int(os.environ.get("SEED", "0")) or 11

CALM = {"ingester": {"max_block_duration": "1h", "flush_check_period": "1h"}}
"""Everything stays in the log."""

QUIET = {"compactor": {"compaction": {"compaction_cycle": "1h"}}, "ingester": CALM["ingester"]}
"""Blocks only when asked for, and nobody looks at them in the background."""

TRACES = range(24)


def stored(server: Server) -> Ledger:
    ledger = Ledger(Load(SEED))
    with server:
        senders = Senders(server, ledger, TRACES).start()
        senders.join()
        assert not senders.unacknowledged
        server.kill()
    return ledger


def flip(path: Path, chance: random.Random, count: int = 1) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(count):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def alter(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))


def altered(server: Server, ledger: Ledger) -> tuple[list[str], set[int]]:
    """(what is wrong other than missing spans, traces with missing spans)."""
    wrong: list[str] = []
    missing: set[int] = set()
    for trace in ledger.traces():
        for problem in ledger.problems(server, trace):
            if "are missing" in problem:
                missing.add(trace)
            else:
                wrong.append(problem)
    return wrong, missing


def test_torn_log(tmp_path: Path) -> None:
    """The last segment cut at random: what was before the cut is there."""
    chance = random.Random(SEED)
    ledger = stored(Server(tmp_path / "whole", CALM))
    for number in range(2):
        copy = tmp_path / str(number)
        shutil.copytree(tmp_path / "whole" / "data", copy / "data")
        last = max((copy / "data" / "wal").glob("*.wal"))
        content = last.read_bytes().rstrip(b"\0")
        last.write_bytes(content[: chance.randrange(len(content) // 2, len(content))])
        with Server(copy, CALM) as server:
            wrong, missing = altered(server, ledger)
            assert not wrong
            assert len(missing) < len(TRACES)
            assert server.metric("vivace_wal_torn_tails_total") == 1
            assert "torn tail" in server.log()
            late = Ledger(Load(SEED + 1))  # and the log can be written to again
            Senders(server, late, range(4)).start().join()
            server.kill()
            server.start()
            late.check(server)


def test_flipped_log(tmp_path: Path) -> None:
    """Bytes flipped in any segment: those records are lost, the others are not."""
    chance = random.Random(SEED)
    ledger = stored(Server(tmp_path / "whole", CALM))
    for number in range(2):
        copy = tmp_path / str(number)
        shutil.copytree(tmp_path / "whole" / "data", copy / "data")
        segments = sorted((copy / "data" / "wal").glob("*.wal"))
        assert len(segments) > 1
        flip(chance.choice(segments[:-1]), chance, count=3)
        with Server(copy, CALM) as server:
            wrong, missing = altered(server, ledger)
            assert not wrong
            assert 0 < len(missing) <= 3 * 4  # a record has spans of four traces
            assert server.metric("vivace_wal_broken_records_total") >= 1
            assert "is damaged at byte" in server.log()
            assert list((copy / "data" / "wal" / "damaged").iterdir())


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ledger]:
    """A data directory with two blocks of different traces, and no log of them."""
    directory = tmp_path_factory.mktemp("blocks")
    ledger = Ledger(Load(SEED))
    with Server(directory, QUIET) as server:
        for traces in (TRACES[:12], TRACES[12:]):
            senders = Senders(server, ledger, traces).start()
            senders.join()
            assert server.get("/flush")[0] == 204
        assert len(server.blocks()) == 2
        assert server.stop() == 0
    return directory / "data", ledger


FILES = ("meta.json", "ids.index", "spans.parquet", "traces.parquet", "resources.parquet", "scopes.parquet",
         "events.parquet", "links.parquet", "attributes.parquet")  # fmt: skip


def test_flipped_blocks(blocks: tuple[Path, Ledger], tmp_path: Path) -> None:
    """A flipped bit in any file of a block: no altered span at any time, the other block whole, the damaged one aside."""
    data, ledger = blocks
    chance = random.Random(SEED)
    present = [n for n in FILES if any((b / n).exists() for b in data.glob("blocks/*/*"))]
    assert len(present) == len({p.name for p in data.glob("blocks/*/*/*")}), "a new kind of file is not covered here"
    for name in present:
        copy = tmp_path / name
        shutil.copytree(data, copy / "data")
        server = Server(copy, QUIET)
        damaged, _ = server.blocks()
        if name == "meta.json":  # one letter of a key: still a good document, still the same columns
            alter(damaged / name, b'"sent.as"', b'"sent.at"')
        else:
            flip(damaged / name, chance)
        with server.start():
            wrong, missing = altered(server, ledger)
            assert not wrong, name
            assert missing == set(TRACES[:12]), name
            assert server.metric("vivace_blocks_quarantined_total") == 1, name
            assert [p.name for p in (copy / "data" / "blocks" / ".quarantine").iterdir()], name
            assert "damaged block moved to" in server.log(), name


def test_background_check(blocks: tuple[Path, Ledger], tmp_path: Path) -> None:
    """Damage that nobody reads is found all the same, even where nothing is merged."""
    data, _ = blocks
    shutil.copytree(data, tmp_path / "data")
    server = Server(tmp_path, {"compactor": {"compaction": {"max_block_bytes": 1}}})
    flip(server.blocks()[0] / "spans.parquet", random.Random(SEED))
    with server.start():
        eventually(lambda: server.metric("vivace_blocks_quarantined_total") == 1, "the damaged block is set aside")
        assert list((tmp_path / "data" / "blocks" / ".quarantine").iterdir())


def test_block_that_the_log_still_has(tmp_path: Path) -> None:
    """A damaged block is no reason to leave its spans out of the replay."""
    server = Server(tmp_path, QUIET)
    ledger = stored(server)
    log = tmp_path / "log"
    shutil.copytree(tmp_path / "data" / "wal", log)
    with server.start():
        assert server.get("/flush")[0] == 204
        server.kill()
    shutil.rmtree(tmp_path / "data" / "wal")
    shutil.copytree(log, tmp_path / "data" / "wal")  # as if the kill had come right after the block's rename
    flip(server.blocks()[0] / "spans.parquet", random.Random(SEED))
    with server.start():
        assert server.metric("vivace_blocks_quarantined_total") == 1
        ledger.check(server)


def test_lost_log(tmp_path: Path) -> None:
    """Deleting the log loses what was only there, and nothing that comes later."""
    server = Server(tmp_path, QUIET)
    load = Load(SEED)
    ledger = Ledger(load)
    before, later = [load.request((n,), 0, 16) for n in range(8)], [load.request((n,), 16, 64) for n in range(4)]
    with server.start():
        send_all(server, ledger, before)
        assert server.get("/flush")[0] == 204
        server.kill()
        shutil.rmtree(tmp_path / "data" / "wal")
        server.start()
        send_all(server, ledger, later)
        server.kill()
        server.start()
        ledger.check(server)


def send_all(server: Server, ledger: Ledger, requests: Sequence[Request]) -> None:
    with closing(HttpSender(server)) as sender:
        for request in requests:
            ledger.sending(request)
            sender.send(request.body)
            ledger.acknowledge(request)
