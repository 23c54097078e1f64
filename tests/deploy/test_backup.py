"""A backup of a running server, restored: every span that was acknowledged before it is there, once."""

from __future__ import annotations

import shutil
import subprocess
import urllib.request
from pathlib import Path

from builders import request, span
from server import Server, eventually

BACKUP = Path(__file__).parents[2] / "deploy" / "backup.sh"
CALM = {"compactor": {"compaction": {"compaction_cycle": "1h"}}}
"""Cuts are frequent here, so the script may have to try again; merges need not be, too."""


def backup(data: Path, target: Path) -> subprocess.CompletedProcess[str]:
    command = [BACKUP, data / "blocks", data / "wal", target]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def send(server: Server, number: int) -> None:
    body = request(span(number, number, name="restored"), resource={"service.name": "shop"}).SerializeToString()
    headers = {"Content-Type": "application/x-protobuf"}
    with urllib.request.urlopen(urllib.request.Request(f"{server.otlp_http}/v1/traces", body, headers)) as reply:
        assert reply.status == 200


def test_backup_and_restore(tmp_path: Path) -> None:
    target = tmp_path / "backup"
    with Server(tmp_path / "first", CALM) as server:
        send(server, 1)
        eventually(server.blocks, "a block")
        (server.data / "blocks/single-tenant/0.tmp").mkdir()
        server.kill()
        # spans stay in the head, so that the WAL has something to give
        server.configure(
            {**CALM, "ingester": {"trace_idle_period": "1h", "trace_live_period": "1h", "max_block_duration": "1h"}}
        )
        server.start()
        send(server, 2)
        done = backup(server.data, target)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("1 blocks, ")
        (original,) = server.blocks()
        copy = target / "blocks" / original.relative_to(server.data / "blocks")
        assert (copy / "spans.parquet").stat().st_ino == (original / "spans.parquet").stat().st_ino
        assert {path.name for path in target.iterdir()} == {"blocks", "wal"}
        send(server, 3)

    shutil.copytree(target, tmp_path / "second" / "data")
    with Server(tmp_path / "second") as server:
        found = [server.get(f"/api/v2/traces/{number}")[1].count(b'"restored"') for number in (1, 2, 3)]
        assert found == [1, 1, 0]
        assert server.metric("vivace_wal_broken_records_total") == 0


def test_a_target_that_is_there_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "blocks").mkdir()
    assert "no directory" in backup(tmp_path, tmp_path / "target").stderr
    (tmp_path / "wal").mkdir()
    assert backup(tmp_path, tmp_path / "target").returncode == 1
    assert list((tmp_path / "target").iterdir()) == []


def test_it_gives_up_on_blocks_that_come_and_go(tmp_path: Path) -> None:
    """`cmp` finds another list of blocks in every try; `sleep` takes no time."""
    (tmp_path / "blocks/t/1").mkdir(parents=True)
    (tmp_path / "wal").mkdir()
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "cmp").write_text("#!/bin/sh\nexit 1\n")
    (tools / "sleep").write_text("#!/bin/sh\n")
    for tool in tools.iterdir():
        tool.chmod(0o755)
    command = [BACKUP, tmp_path / "blocks", tmp_path / "wal", tmp_path / "target"]
    done = subprocess.run(command, env={"PATH": f"{tools}:/usr/bin:/bin"}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "come and go faster" in done.stderr
    assert not (tmp_path / "target").exists()
