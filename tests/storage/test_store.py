"""The store: a span that was acknowledged is seen exactly once, before, during and after a cut, a failure, a crash."""

from __future__ import annotations

import errno
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import builders as b
import pytest
from builders import House, house

from vivace.errors import DiskFullError, StorageError
from vivace.storage import block_writer
from vivace.storage.block_writer import BlockWriter
from vivace.storage.compaction import compact
from vivace.storage.wal import Wal


@pytest.fixture
def store(tmp_path: Path) -> Iterator[House]:
    with house(tmp_path / "house") as made:
        yield made


def spans(trace: int, count: int = 2, first: int = 1) -> Any:
    return b.request(*(b.span(trace, first + i, start=b.NOON + trace, attributes={"i": i}) for i in range(count)))


def idle_and_active(made: House) -> list[bytes]:
    """Trace 1 is complete, trace 2 has begun and still grows; returns all that was sent."""
    sent = [spans(1), spans(2), spans(2, first=5)]
    made.send(*sent[:2])
    made.clock.seconds += 10
    made.send(sent[2])
    return b.contents(*sent)


def wal_files(made: House) -> list[Path]:
    return sorted((made.directory / "wal").glob("*.wal"))


def test_nothing_to_cut(store: House) -> None:
    assert store.store.cut(b.TENANT) is None
    assert store.store.due() == []
    assert store.store.tenants() == []
    with store.store.snapshot("nobody") as seen:
        assert (seen.parts, seen.blocks, seen.recent(0, 1)) == ([], [], None)


def test_complete_traces_become_a_block_and_the_wal_shrinks(store: House) -> None:
    sent = idle_and_active(store)
    meta = store.store.cut(b.TENANT)
    assert meta is not None
    assert (meta.span_count, meta.trace_count, meta.wal_until, meta.level) == (2, 1, 3, 0)
    assert store.contents() == sent
    assert store.store.head_spans == 4
    assert store.wal.first_sequence == 0, "trace 2 needs its first record"
    assert store.store.cut(b.TENANT, everything=True) is not None
    assert store.contents() == sent
    assert (store.store.head_spans, store.store.head_bytes) == (0, 0)
    assert store.wal.first_sequence == 3
    assert [p.stem.lstrip("0") for p in wal_files(store)] == ["3"]
    assert [p.name for p in (store.directory / "blocks" / b.TENANT).iterdir() if p.suffix] == []


def test_cut_of_active_traces_only_writes_no_block(store: House) -> None:
    store.send(spans(1))
    assert store.store.cut(b.TENANT) is None
    assert store.store.head_spans == 2
    assert store.catalog.blocks() == []


def test_when_a_cut_is_due(tmp_path: Path) -> None:
    with house(tmp_path, head_bytes_max=200_000) as made:
        made.send(spans(1), tenant="small")
        assert made.store.due() == []
        made.clock.seconds += 1801
        assert made.store.due() == ["small"], "too old"
        made.store.cut("small", everything=True)
        while not made.store.is_full():
            made.send(spans(2, 100), tenant="large")
        made.send(spans(1), tenant="small")
        assert made.store.cut_wanted.is_set()
        assert made.store.due() == ["large"], "too large"
        assert made.store.tenants() == ["large", "small"]
        made.store.cut("large")
        assert not made.store.is_full(), "an endless trace does not keep the head full"


def test_a_reader_sees_each_span_once_whatever_happens(tmp_path: Path) -> None:
    """A reader looks all the time while blocks are cut, cuts fail, and blocks are merged."""
    with house(tmp_path) as made:
        sent = b.contents(*[r for t in range(1, 30) for r in (spans(t), spans(t, first=9))])
        for t in range(1, 30):
            made.send(spans(t), tenant=b.TENANT)
        made.clock.seconds += 10
        for t in range(1, 30):
            made.send(spans(t, first=9))
        wrong: list[int] = []
        looks = 0
        done = threading.Event()

        def look() -> None:
            nonlocal looks
            while not done.is_set():
                found = made.contents()
                looks += 1
                if found != sent:
                    wrong.append(len(found))

        reader = threading.Thread(target=look)
        reader.start()
        try:
            made.store.cut(b.TENANT)
            made.clock.seconds += 31
            made.store.cut(b.TENANT)
            for _ in range(9):
                made.store.append([(b.TENANT, b"")])  # sequences go on
            made.store.cut(b.TENANT, everything=True)
            for _ in range(3):
                with made.catalog.pinned(b.TENANT) as blocks:
                    merged = compact(
                        blocks, directory=blocks[0].directory.parent, block_id=made.new_id(),
                        memory_bytes=1 << 24, now_unix_nano=0,
                    )  # fmt: skip
                    with made.store.switching():
                        made.catalog.add(merged.directory, merged.meta, replaces=blocks)
        finally:
            done.set()
            reader.join()
        assert wrong == []
        assert looks > 1
        assert made.contents() == sent


Patch = Callable[[pytest.MonkeyPatch], None]
FULL = OSError(errno.ENOSPC, "No space left on device")


def raising(error: Exception) -> Callable[..., None]:
    def raise_it(*arguments: object, **named: object) -> None:
        raise error

    return raise_it


# what: where the cut fails
FAILURES: dict[str, Patch] = {
    "making the directory": lambda m: m.setattr(BlockWriter, "__init__", raising(FULL)),
    "writing rows": lambda m: m.setattr(block_writer.TableFile, "append", raising(FULL)),
    "writing the index": lambda m: m.setattr(block_writer, "write_index", raising(FULL)),
    "syncing": lambda m: m.setattr(block_writer, "fsync_path", raising(FULL)),
    "renaming": lambda m: m.setattr(block_writer.os, "rename", raising(FULL)),
    "opening the new block": lambda m: m.setattr("vivace.storage.catalog.Block.__init__", raising(FULL)),
    "moving what stays": lambda m: m.setattr("vivace.storage.head._recoded", raising(MemoryError())),
}


@pytest.mark.parametrize("fail", FAILURES.values(), ids=FAILURES.keys())
def test_a_cut_that_fails_is_taken_back(store: House, fail: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = idle_and_active(store)
    with monkeypatch.context() as patch:
        fail(patch)
        with pytest.raises((OSError, MemoryError)):
            store.store.cut(b.TENANT)
    assert store.contents() == sent
    assert store.catalog.blocks() == []
    assert list((store.directory / "blocks").glob("*/*")) == []
    late = spans(3)
    store.send(late)
    assert store.store.cut(b.TENANT) is not None, "the next try repeats it"
    assert store.contents() == sorted(sent + b.contents(late))
    store.restart()
    assert store.contents() == sorted(sent + b.contents(late))


def test_a_wal_that_cannot_be_shortened_is_no_failure_of_the_cut(
    store: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sent = idle_and_active(store)
    with monkeypatch.context() as patch:
        patch.setattr(Wal, "truncate_before", raising(StorageError("cannot delete x.wal")))
        assert store.store.cut(b.TENANT, everything=True) is not None
    assert "cannot delete x.wal" in caplog.text
    assert (store.store.head_spans, store.store.cut_error) == (0, None)
    store.restart()
    assert store.contents() == sent


def test_a_full_head_that_cannot_be_cut_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with house(tmp_path, head_bytes_max=100_000) as made:
        while not made.store.is_full():
            made.send(spans(1, 100))
        made.store.check_room(1)
        with monkeypatch.context() as patch:
            FAILURES["writing rows"](patch)
            with pytest.raises(OSError, match="No space"):
                made.store.cut(b.TENANT, everything=True)
        with pytest.raises(DiskFullError, match="head is full"):
            made.store.check_room(1)
        made.store.cut(b.TENANT, everything=True)
        made.store.check_room(1)


def at_parent(path: Path) -> bool:
    return path.name == b.TENANT


# what: a call in the course of a cut, and whether this one of its calls is meant
MOMENTS: dict[str, tuple[Any, str, Callable[..., bool]]] = {
    "while writing": (block_writer, "write_index", lambda *_: True),
    "before the rename": (block_writer, "fsync_path", lambda path: path.suffix == ".tmp"),
    "after the rename": (block_writer, "fsync_path", at_parent),
    "before the WAL is shortened": (Wal, "truncate_before", lambda *_: True),
}


@pytest.mark.parametrize("everything", [False, True], ids=["some traces stay", "all are cut"])
@pytest.mark.parametrize(("owner", "name", "is_moment"), MOMENTS.values(), ids=MOMENTS.keys())
def test_a_crash_in_a_cut(
    tmp_path: Path,
    store: House,
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    name: str,
    is_moment: Callable[..., bool],
    everything: bool,
) -> None:
    """The directory as it is at that moment is what a crash leaves; twice, for the restart may crash as well."""
    sent = idle_and_active(store)
    left = tmp_path / "left"
    original = getattr(owner, name)

    def copy_first(*arguments: Any) -> Any:
        if is_moment(*arguments) and not left.exists():
            shutil.copytree(store.directory, left)
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, copy_first)
        store.store.cut(b.TENANT, everything=everything)
    assert store.contents() == sent
    with house(left) as again:
        assert again.contents() == sent
        again.restart()
        assert again.contents() == sent
        again.store.cut(b.TENANT, everything=True)
        assert again.contents() == sent


def test_a_replay_that_is_cut_loses_nothing(tmp_path: Path) -> None:
    """The head fills while the WAL is read: blocks of that time hold traces whose later spans are still to come."""
    with house(tmp_path / "house", head_bytes_max=150_000) as made:
        made.segment_bytes_max = 10_000
        made.restart()
        sent = []
        for i in range(60):
            sent.append(spans(i % 7 + 1, 30, first=1 + 100 * i))
            made.send(sent[-1])
        assert len(wal_files(made)) > 10
        expected = b.contents(*sent)
        cuts = 0

        def cut_when_full() -> None:
            nonlocal cuts
            if made.store.head_bytes > 50_000:
                cuts += made.store.cut(b.TENANT) is not None

        import vivace.ingest.replay as replaying

        made.crash()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(replaying, "GROUP_BYTES_MAX", 5_000)
            made.open(after_group=cut_when_full)
        assert cuts > 1
        assert made.contents() == expected
        made.restart()
        assert made.contents() == expected


def test_tenants_are_kept_apart(store: House) -> None:
    mine, theirs = spans(1), spans(1, first=50)
    store.send(mine, tenant="mine")
    store.send(theirs, tenant="theirs")
    for _ in range(2):
        assert store.contents("mine") == b.contents(mine)
        assert store.contents("theirs") == b.contents(theirs)
        store.store.cut("mine", everything=True)
    store.restart()
    assert store.contents("mine") == b.contents(mine)
    assert store.contents("theirs") == b.contents(theirs)


def test_copies_are_dropped_when_they_meet(store: House) -> None:
    """A sender that got no answer sends again."""
    for _ in range(3):
        store.send(spans(1))
    store.store.cut(b.TENANT, everything=True)
    assert store.contents() == b.contents(spans(1))
    assert store.duplicates == 4
