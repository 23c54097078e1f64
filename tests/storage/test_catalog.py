"""The catalog: what is listed, what is deleted when, what is set aside, and what is none of our business."""

from __future__ import annotations

import errno
import logging
import shutil
from pathlib import Path

import builders as b
import pytest

from vivace.errors import CorruptionError, StorageError
from vivace.storage import layout
from vivace.storage.block_reader import Block
from vivace.storage.catalog import QUARANTINE, Catalog


class Opened:
    """A catalog on a directory, and what it reported."""

    def __init__(self, directory: Path) -> None:
        self.quarantined = 0
        self.catalog = Catalog(directory, on_quarantine=self._count)
        self.catalog.open()

    def _count(self) -> None:
        self.quarantined += 1

    def ids(self, tenant: str | None = None) -> list[str]:
        return sorted(block.meta.id for block in self.catalog.blocks(tenant))


def block(
    directory: Path, id: str = "x", *, tenant: str = "t", start: int = b.NOON, replaces: tuple[str, ...] = ()
) -> Block:
    spans = b.batch(b.request(b.span(start=start, name=id, events=[b.event()])))
    return b.write_block(directory / tenant, spans, id, tenant=tenant, replaces=replaces)


def names(directory: Path) -> list[str]:
    return sorted(p.name for p in directory.iterdir())


def test_blocks_are_listed_by_tenant_newest_first(tmp_path: Path) -> None:
    assert Opened(tmp_path / "new").ids() == []
    for id, tenant, start in (("a", "t", 5), ("b", "t", 9), ("c", "u", 7)):
        block(tmp_path, id, tenant=tenant, start=start)
    opened = Opened(tmp_path)
    assert opened.catalog.tenants() == ["t", "u"]
    assert [x.meta.id for x in opened.catalog.blocks()] == ["b", "c", "a"]
    assert [x.meta.id for x in opened.catalog.blocks("t")] == ["b", "a"]
    assert opened.catalog.blocks("nobody") == []
    with opened.catalog.pinned("t") as pinned:
        assert [x.meta.id for x in pinned] == ["b", "a"]


def test_files_stay_until_the_last_reader_is_done(tmp_path: Path) -> None:
    one = block(tmp_path)
    opened = Opened(tmp_path)
    with opened.catalog.pinned("t") as first:
        with opened.catalog.pinned("t"):
            opened.catalog.remove(first)
            assert opened.ids() == []
            assert opened.catalog.doomed_bytes == one.meta.data_bytes
            with opened.catalog.pinned("t") as late:
                assert late == []
        assert len(b.all_rows(first[0])) == 1, "still readable"
    assert names(tmp_path / "t") == []
    assert opened.catalog.doomed_bytes == 0
    opened.catalog.remove(first)  # once more: nothing to do


def test_a_new_block_takes_the_place_of_others_in_one_step(tmp_path: Path) -> None:
    block(tmp_path, "a"), block(tmp_path, "b")
    opened = Opened(tmp_path)
    with opened.catalog.pinned("t") as old:
        merged = block(tmp_path, "m", replaces=("a", "b"))
        opened.catalog.add(merged.directory, merged.meta, replaces=old)
        assert opened.ids() == ["m"]
        assert names(tmp_path / "t") == ["a", "b", "m"]
    assert names(tmp_path / "t") == ["m"]


def test_a_block_that_was_not_listed_is_discarded_a_listed_one_is_not(tmp_path: Path) -> None:
    opened = Opened(tmp_path)
    unlisted, listed = block(tmp_path, "a"), block(tmp_path, "b")
    opened.catalog.add(listed.directory, listed.meta)
    for each in (unlisted, listed):
        opened.catalog.discard(each.directory)
    assert names(tmp_path / "t") == ["b"]


def test_remnants_of_a_crash_go(tmp_path: Path) -> None:
    for id in ("a", "b", "c"):
        block(tmp_path, id)
    (tmp_path / "t/a").rename(tmp_path / "t/a.deleted")
    (tmp_path / "t/b").rename(tmp_path / "t/b.tmp")
    (tmp_path / "t/b.tmp" / layout.META).unlink()
    (tmp_path / "t/empty.tmp").mkdir()
    (tmp_path / "t/theirs.tmp").mkdir()
    (tmp_path / "t/theirs.tmp/notes").write_text("not ours")
    opened = Opened(tmp_path)
    assert opened.ids() == ["c"]
    assert names(tmp_path / "t") == ["c", "theirs.tmp"]


# what: the blocks that a crash left (id, replaces), those that count
INTERRUPTED = {
    "merged, old ones not yet deleted": ([("a", ()), ("b", ()), ("m", ("a", "b"))], ["m"]),
    "one deleted": ([("b", ()), ("m", ("a", "b"))], ["m"]),
    "all deleted": ([("m", ("a", "b"))], ["m"]),
    "not yet merged": ([("a", ()), ("b", ())], ["a", "b"]),
    "others stay": ([("a", ()), ("c", ()), ("m", ("a",))], ["c", "m"]),
}


@pytest.mark.parametrize(("left", "expected"), INTERRUPTED.values(), ids=INTERRUPTED.keys())
def test_a_merge_that_a_crash_interrupted(
    tmp_path: Path, left: list[tuple[str, tuple[str, ...]]], expected: list[str]
) -> None:
    for id, replaces in left:
        block(tmp_path, id, replaces=replaces)
        block(tmp_path, id, tenant="other")  # the same ids there mean nothing here
    opened = Opened(tmp_path)
    assert opened.ids("t") == names(tmp_path / "t") == expected
    assert opened.ids("other") == sorted(id for id, _ in left)


def test_a_damaged_merge_does_not_replace_anything(tmp_path: Path) -> None:
    block(tmp_path, "a")
    merged = block(tmp_path, "m", replaces=("a",))
    b.flip_byte(merged.directory / layout.SPANS, 100)
    opened = Opened(tmp_path)
    assert (opened.ids(), opened.quarantined) == (["a"], 1)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


# what: what is done to a block's directory
DAMAGE = {
    "no meta": lambda d: (d / layout.META).unlink(),
    "empty meta": lambda d: (d / layout.META).write_bytes(b""),
    "meta is no object": lambda d: (d / layout.META).write_bytes(b"[]"),
    "meta cut short": lambda d: cut_short(d / layout.META),
    "meta of a later version": lambda d: (d / layout.META).write_bytes(
        (d / layout.META).read_bytes().replace(b'"format_version": 1', b'"format_version": 2')
    ),
    "a figure in the meta altered": lambda d: (d / layout.META).write_bytes(
        (d / layout.META).read_bytes().replace(b'"wal_until": 0', b'"wal_until": 9')
    ),
    "spans cut short": lambda d: cut_short(d / layout.SPANS),
    "spans missing": lambda d: (d / layout.SPANS).unlink(),
    "events missing": lambda d: (d / layout.EVENTS).unlink(),
    "index cut short": lambda d: cut_short(d / layout.INDEX),
    "index missing": lambda d: (d / layout.INDEX).unlink(),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_block_is_set_aside(tmp_path: Path, damage: object, caplog: pytest.LogCaptureFixture) -> None:
    block(tmp_path, "good")
    bad = block(tmp_path, "bad")
    damage(bad.directory)  # type: ignore[operator]
    opened = Opened(tmp_path)
    assert (opened.ids(), opened.quarantined) == (["good"], 1)
    assert names(tmp_path / QUARANTINE) == ["t-bad"], "kept for study"
    assert "bad" in caplog.text
    assert Opened(tmp_path).quarantined == 0, "reported once"


def test_quarantine_of_a_listed_block(tmp_path: Path) -> None:
    block(tmp_path)
    opened = Opened(tmp_path)
    [listed] = opened.catalog.blocks()
    error = CorruptionError(listed.directory, offset=0, expected="a", found="b")
    for _ in range(2):  # two queries may meet the same damage
        opened.catalog.quarantine(listed, error)
    assert (opened.ids(), opened.quarantined, names(tmp_path / QUARANTINE)) == ([], 1, ["t-x"])


def test_only_damage_is_a_reason_for_quarantine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without free descriptors, say, must not set all its blocks aside."""
    block(tmp_path)
    opened = Opened(tmp_path)
    [listed] = opened.catalog.blocks()
    error = CorruptionError(listed.directory, offset=0, expected="rows", found="Too many open files")
    with pytest.raises(StorageError, match=r"undamaged.*Too many open files"):
        opened.catalog.suspect(listed, error)

    def no_descriptors(self: Path, *arguments: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", no_descriptors)
        with pytest.raises(StorageError, match="Too many open files"):
            opened.catalog.suspect(listed, error)
    assert opened.ids() == ["x"]
    b.flip_byte(listed.directory / layout.EVENTS, 50)
    opened.catalog.suspect(listed, error)
    assert (opened.ids(), opened.quarantined) == ([], 1)


def test_strangers_are_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A block of Tempo's, a volume's lost+found, a copied block, plain files."""
    tempo = tmp_path / "single-tenant" / "0b1c"
    tempo.mkdir(parents=True)
    for name in ("meta.json", "data.parquet", "index", "bloom-0"):
        (tempo / name).write_bytes(b"{}")
    (tmp_path / "a file").write_text("")
    (tmp_path / "single-tenant" / "another file").write_text("")
    shutil.copytree(block(tmp_path, "a").directory, tmp_path / "t" / "a.backup")
    shutil.copytree(tmp_path / "t" / "a", tmp_path / "u" / "a")
    before = sorted(str(p) for p in tmp_path.rglob("*"))
    with caplog.at_level(logging.WARNING):
        opened = Opened(tmp_path)
    assert [x.directory for x in opened.catalog.blocks()] == [tmp_path / "t" / "a"]
    assert sorted(str(p) for p in tmp_path.rglob("*")) == before
    assert opened.quarantined == 0
    assert "1 directories" in caplog.text
    assert caplog.text.count("left alone, not searched; move it back") == 2


def test_what_cannot_be_read_now_stays_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    block(tmp_path, "a"), block(tmp_path, "b")
    read_bytes, iterdir = Path.read_bytes, Path.iterdir
    (tmp_path / "lost+found").mkdir()

    def refuse(self: Path) -> bytes:
        if self.parent.name == "b":
            raise PermissionError(errno.EACCES, "Permission denied")
        return read_bytes(self)

    def refuse_list(self: Path) -> object:
        if self.name == "lost+found":
            raise PermissionError(errno.EACCES, "Permission denied")
        return iterdir(self)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    monkeypatch.setattr(Path, "iterdir", refuse_list)
    opened = Opened(tmp_path)
    assert (opened.ids(), opened.quarantined) == (["a"], 0)
    assert "lost+found is left alone" in caplog.text
    monkeypatch.undo()
    assert Opened(tmp_path).ids() == ["a", "b"]


def test_a_failing_delete_is_logged_and_done_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    block(tmp_path, "a")
    opened = Opened(tmp_path)

    def fail(path: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", fail)
        opened.catalog.remove(opened.catalog.blocks())
    assert "cannot delete block" in caplog.text
    assert names(tmp_path / "t") == ["a.deleted"]
    assert Opened(tmp_path).ids() == []
    assert names(tmp_path / "t") == []
