"""Upkeep: old and superfluous blocks go, small ones become one, damaged ones are set aside; one failure stops nothing."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import builders as b
import pytest
from builders import House, house

from vivace.storage import block_writer, layout
from vivace.storage.catalog import QUARANTINE
from vivace.storage.compaction import CompactionSettings
from vivace.storage.layout import BlockMeta
from vivace.storage.maintenance import Stopping, Upkeep, UpkeepObservers, UpkeepSettings
from vivace.storage.retention import Retention


class Kept:
    """A house and its upkeep, whose steps a test calls one by one."""

    def __init__(self, made: House, *, compacts: bool = True, retention: Retention | None = None) -> None:
        self.house = made
        self.deleted = self.failed = 0
        self.compacted: list[tuple[int, int]] = []
        self.retention = retention or Retention(timedelta(0))
        second = timedelta(milliseconds=10)
        self.upkeep = Upkeep(
            made.store,
            UpkeepSettings(
                cut_check=second, cycle=second, compacts=compacts,
                compaction=CompactionSettings(timedelta(hours=1), 1 << 26, 1 << 30, 10**9),
                retention=lambda: self.retention,
            ),
            UpkeepObservers(self._compacted, self._failed, self._deleted, made._count_duplicates),
            clock=made.clock,
            now_unix_nano=made.clock.now_unix_nano,
            new_id=made.new_id,
        )  # fmt: skip

    def _compacted(self, blocks: int, meta: BlockMeta, seconds: float) -> None:
        self.compacted.append((blocks, meta.level))

    def _failed(self) -> None:
        self.failed += 1

    def _deleted(self, blocks: int) -> None:
        self.deleted += blocks

    def block(
        self, trace: int, *, start: int = b.NOON, spans: int = 2, tenant: str = b.TENANT, padding: int = 0
    ) -> list[bytes]:
        """Send a trace and cut it; returns what it holds."""
        random = Random(trace)
        sent = b.request(
            *(b.span(trace, i + 1, start=start + i, attributes={"p": random.randbytes(padding).hex()}, events=[b.event()])
              for i in range(spans))
        )  # fmt: skip
        self.house.send(sent, tenant=tenant)
        assert self.house.store.cut(tenant, everything=True) is not None
        return b.contents(sent)

    def ids(self) -> list[str]:
        return [block.meta.id for block in self.house.catalog.blocks()]

    def bytes_on_disk(self) -> int:
        return sum(p.stat().st_size for p in (self.house.directory / "blocks").rglob("*") if p.is_file())


@pytest.fixture
def made(tmp_path: Path) -> Iterator[House]:
    with house(tmp_path) as opened:
        yield opened


def test_blocks_past_their_time_go(made: House) -> None:
    kept = Kept(made, retention=Retention(timedelta(hours=1), {"long": timedelta(days=1)}))
    kept.block(1)
    kept.block(1, tenant="long")
    made.clock.seconds += 1800
    young = kept.block(2, start=made.clock.now_unix_nano())
    assert kept.upkeep.retain() == 0
    made.clock.seconds += 1801
    assert kept.upkeep.retain() == 1
    assert made.contents() == young
    assert len(made.contents("long")) == 2
    assert kept.deleted == 1
    assert len(list((made.directory / "blocks").glob("*/*"))) == 2


def test_the_oldest_go_until_the_cap_holds(tmp_path: Path) -> None:
    with house(tmp_path) as made:
        kept = Kept(made)
        sent = []
        for i in range(6):
            made.clock.seconds += 60
            sent.append(kept.block(i + 1, start=made.clock.now_unix_nano(), spans=40, padding=2000))
        made.disk.rescan()
        before = kept.bytes_on_disk()
        made.disk._cap = made.disk.used_bytes() - made.disk.figures(0).used_by_kind["blocks"] // 3
        ids = kept.ids()
        kept.upkeep.keep_figures()
        gone = kept.upkeep.retain()
        assert 1 <= gone <= 4
        assert kept.ids() == ids[:-gone], "newest first"
        assert made.contents() == sorted(span for some in sent[gone:] for span in some)
        assert kept.bytes_on_disk() < before * 0.8
        kept.upkeep.keep_figures()
        assert made.disk.over_cap_bytes() == 0
        assert kept.upkeep.retain() == 0, "and no more"


def test_a_block_that_is_still_read_is_not_paid_for_twice(tmp_path: Path) -> None:
    with house(tmp_path) as made:
        kept = Kept(made)
        for i in range(6):
            made.clock.seconds += 60
            kept.block(i + 1, start=made.clock.now_unix_nano(), spans=40, padding=2000)
        made.disk.rescan()
        made.disk._cap = made.disk.used_bytes() - made.disk.figures(0).used_by_kind["blocks"] // 3
        with made.store.snapshot(b.TENANT) as seen:
            gone = kept.upkeep.retain()
            assert gone
            kept.upkeep.keep_figures()
            assert kept.upkeep.retain() == 0
            assert len(b.contents(*(b.all_rows(x) for x in seen.blocks))) == 240


def test_small_blocks_become_one(made: House) -> None:
    kept = Kept(made)
    sent = [span for i in range(5) for span in kept.block(i + 1)]
    other = kept.block(1, tenant="other")
    assert kept.upkeep.compact_all() == 1
    assert kept.compacted == [(5, 1)]
    assert made.contents() == sorted(sent)
    assert made.contents("other") == other
    assert len(list((made.directory / "blocks" / b.TENANT).iterdir())) == 1
    assert kept.upkeep.compact_all() == 0
    made.restart()
    assert made.contents() == sorted(sent)
    assert Kept(made, compacts=False).upkeep.compact_all() == 0


def test_figures_agree_with_the_disk(made: House) -> None:
    """What is reported as it happens is what a walk finds, but for file system blocks and meta.json."""
    kept = Kept(made, retention=Retention(timedelta(hours=1)))
    for i in range(5):
        kept.block(i + 1, spans=200, padding=500)
    kept.upkeep.compact_all()
    reported = made.disk.figures(0).used_by_kind["blocks"]
    assert reported == made.catalog.blocks()[0].meta.data_bytes
    made.disk.rescan()
    assert made.disk.figures(0).used_by_kind["blocks"] == pytest.approx(reported, rel=0.3, abs=40_000)
    made.clock.seconds += 7200
    kept.upkeep.retain()
    made.disk.rescan()
    assert made.disk.figures(0).used_by_kind["blocks"] < 10_000


def test_damage_found_while_merging(made: House) -> None:
    kept = Kept(made)
    sent = [kept.block(i + 1) for i in range(3)]
    bad = made.catalog.blocks()[1]
    b.flip_byte(bad.directory / layout.SPANS, 60)
    assert kept.upkeep.compact_all() == 2, "once for the damage, once for the others"
    assert (kept.failed, made.quarantined, kept.compacted) == (1, 1, [(2, 1)])
    assert made.contents() == sorted([*sent[0], *sent[2]])


def test_a_flipped_byte_anywhere_is_found(made: House) -> None:
    kept = Kept(made)
    sent = b.request(
        b.span(attributes={"rare": [1]}, events=[b.event(attributes={"k": 1})], links=[b.link(b"1", b"2", {"k": 2})]),
        resource={"service.name": "s"},
        scope="lib",
    )
    made.send(sent)
    made.store.cut(b.TENANT, everything=True)
    [block] = made.catalog.blocks()
    files = [block.directory / name for name in block.meta.files]
    assert {p.name for p in files} == set(layout.DATA_FILES)
    for path in files:
        size = path.stat().st_size
        for offset in (0, size // 4, size // 2, size * 3 // 4, size - 1):
            kept = Kept(made)
            assert kept.upkeep.verify_some() == 0
            b.flip_byte(path, offset)
            assert kept.upkeep.verify_some() == 0, "each block once, not in every cycle"
            assert Kept(made).upkeep.verify_some() == 1, (path.name, offset)
            assert made.contents() == []
            aside = made.directory / "blocks" / QUARANTINE / f"{b.TENANT}-{block.meta.id}"
            b.flip_byte(aside / path.name, offset)
            aside.rename(block.directory)  # as somebody may who has mended it
            made.restart()
            assert made.contents() == b.contents(sent)
    assert made.quarantined == 5 * len(files)


def test_checking_is_bounded_a_cycle_and_newest_first(made: House, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Kept(made)
    for i in range(3):
        kept.block(i + 1, start=b.NOON + i)
    checked: list[str] = []
    monkeypatch.setattr("vivace.storage.maintenance.VERIFY_BYTES_A_CYCLE", 1)
    monkeypatch.setattr("vivace.storage.maintenance.verify", lambda path, *_: checked.append(path.name))
    for _ in range(5):
        kept.upkeep.verify_some()
    assert checked == kept.ids()


def test_a_full_disk_leaves_blocks_as_they_are(made: House, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Kept(made)
    sent = [span for i in range(3) for span in kept.block(i + 1)]

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(block_writer, "write_index", full)
        assert kept.upkeep.compact_all() == 0
    made.disk._cap = 1
    assert kept.upkeep.compact_all() == 0, "no room for the copy"
    assert kept.failed == 2
    assert (made.contents(), len(kept.ids())) == (sorted(sent), 3)
    assert len(list((made.directory / "blocks" / b.TENANT).iterdir())) == 3


def test_a_merged_block_that_cannot_be_listed_goes_again(made: House, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Kept(made)
    sent = [span for i in range(3) for span in kept.block(i + 1)]

    def fail(*arguments: object, **named: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    with monkeypatch.context() as patch:
        patch.setattr(made.catalog, "add", fail)
        with pytest.raises(OSError, match="Cannot allocate"):
            kept.upkeep.compact_all()
    assert len(list((made.directory / "blocks" / b.TENANT).iterdir())) == 3
    made.restart()
    assert made.contents() == sorted(sent)


def test_cutting_what_is_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    with house(tmp_path, head_bytes_max=100_000) as made:
        kept = Kept(made)
        assert kept.upkeep.cut_due(), "nothing is due"
        while not made.store.is_full():
            made.send(b.request(*(b.span(i + 1) for i in range(100))))
        for error in (OSError(errno.ENOSPC, "full"), RuntimeError("a bug")):

            def fail(*arguments: object, error: Exception = error) -> None:
                raise error

            with monkeypatch.context() as patch:
                patch.setattr(block_writer, "write_index", fail)
                assert not kept.upkeep.cut_due()
            assert "stay in memory and in the WAL" in caplog.text
            caplog.clear()
            assert made.store.is_full()
        assert kept.upkeep.cut_due()
        assert not made.store.is_full()


def test_threads_run_stop_and_survive_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with house(tmp_path, head_bytes_max=100_000) as made:
        kept = Kept(made)
        calls: dict[str, int] = {}

        def failing(name: str) -> Any:
            def step() -> int:
                calls[name] = calls.get(name, 0) + 1
                raise RuntimeError("a bug")

            step.__name__ = name
            return step

        for name in ("keep_figures", "retain", "verify_some"):
            monkeypatch.setattr(kept.upkeep, name, failing(name))
        kept.upkeep.start()
        try:
            sent = []
            while len(sent) < 400:
                request = b.request(*(b.span(len(sent) + i + 1) for i in range(100)))
                made.send(request)
                sent += b.contents(request)
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline and not (kept.compacted and min(calls.values(), default=0) > 1):
                made.clock.seconds += 60
                made.send(late := b.request(b.span(10**6 + int(made.clock.seconds), start=b.NOON)))
                sent += b.contents(late)
                made.store.cut(b.TENANT, everything=True)
        finally:
            kept.upkeep.stop()
        assert kept.compacted
        assert set(calls) == {"keep_figures", "retain", "verify_some"}
        assert made.contents() == sorted(sent)
        assert not [t for t in threading.enumerate() if t.name in ("vivace-cutter", "vivace-keeper")]


def test_a_stop_ends_a_merge(made: House) -> None:
    kept = Kept(made)
    for i in range(3):
        kept.block(i + 1)
    kept.upkeep.stop()
    with pytest.raises(Stopping):
        kept.upkeep.compact_all()
    assert len(list((made.directory / "blocks" / b.TENANT).iterdir())) == 3
