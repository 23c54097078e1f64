"""The disk budget: what counts, what is refused, when it will be full."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from vivace.errors import DiskFullError, StorageError
from vivace.storage import disk
from vivace.storage.disk import KINDS, DiskBudget, Kind

MB = 1_000_000
GB = 1000 * MB


@dataclass
class FakeDevice:
    """A device whose sizes the test sets; block size 1, so that figures are round."""

    total_bytes: int = 100 * GB
    free_bytes: int = 50 * GB

    def statvfs(self, path: Path) -> os.statvfs_result:
        reserved_for_root = 7 * GB
        return os.statvfs_result(
            (1, 1, self.total_bytes, self.free_bytes + reserved_for_root, self.free_bytes, 0, 0, 0, 0, 255)
        )


def budget_of(
    root: Path, device: FakeDevice | None = None, *, cap: int | float = 0.5, floor: int | float = 0.1
) -> DiskBudget:
    directories: dict[Kind, Path] = {
        "wal": root / "wal",
        "blocks": root / "blocks",
        "quarantine": root / "blocks" / "quarantine",
        "generator": root / "generator",
    }
    return DiskBudget(root, directories, cap=cap, floor=floor, statvfs=(device or FakeDevice()).statvfs)


def put(path: Path, byte_count: int) -> int:
    """Write a file; returns what the device gave for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(byte_count))
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    return path.stat().st_blocks * 512


def used_by_kind(budget: DiskBudget) -> dict[Kind, int]:
    return dict(budget.figures(0.0).used_by_kind)


# -- what counts ------------------------------------------------------------------------------------------------------


def test_every_file_counts_as_the_kind_of_its_deepest_directory(tmp_path: Path) -> None:
    expected = dict.fromkeys(KINDS, 0)
    for kind, name in [
        ("wal", "wal/0.wal"),
        ("wal", "wal/damaged/0-32.bin"),
        ("blocks", "blocks/acme/1/spans.parquet"),
        ("quarantine", "blocks/quarantine/2/spans.parquet"),
        ("generator", "generator/3"),
        ("other", "stranger/4"),
        ("other", "5"),
    ]:
        expected[kind] += put(tmp_path / name, 10_000)
    directory_bytes = {
        kind: sum((tmp_path / name).stat().st_blocks * 512 for name in names)
        for kind, names in {
            "wal": ["wal/damaged"],
            "blocks": ["blocks/acme", "blocks/acme/1"],
            "other": ["stranger"],
        }.items()
    }
    directory_bytes["quarantine"] = (tmp_path / "blocks/quarantine/2").stat().st_blocks * 512
    budget = budget_of(tmp_path)
    assert budget.used_bytes() == 0
    assert budget.rescan()
    assert used_by_kind(budget) == {kind: expected[kind] + directory_bytes.get(kind, 0) for kind in KINDS}
    assert budget.used_bytes() == sum(used_by_kind(budget).values())


def test_reserved_room_counts_and_holes_do_not(tmp_path: Path) -> None:
    reserved, sparse = tmp_path / "wal" / "reserved", tmp_path / "blocks" / "sparse"
    for path in (reserved, sparse):
        path.parent.mkdir()
        path.touch()
    with reserved.open("rb+") as file:
        os.posix_fallocate(file.fileno(), 0, MB)
    os.truncate(sparse, MB)
    budget = budget_of(tmp_path)
    budget.rescan()
    assert used_by_kind(budget)["wal"] >= MB
    assert used_by_kind(budget)["blocks"] < MB


def test_directories_may_be_missing_or_elsewhere_and_links_are_not_followed(tmp_path: Path) -> None:
    far = tmp_path / "far"
    near = tmp_path / "near"
    size = put(far / "0.wal", 10_000)
    near.mkdir()
    (near / "link").symlink_to(far)
    budget = DiskBudget(
        near, {"wal": far, "blocks": near / "missing"}, cap=0.5, floor=0.1, statvfs=FakeDevice().statvfs
    )
    budget.rescan()
    link = (near / "link").lstat().st_blocks * 512
    assert used_by_kind(budget) == {**dict.fromkeys(KINDS, 0), "wal": size, "other": link}


def test_the_root_may_be_a_kind_itself(tmp_path: Path) -> None:
    size = put(tmp_path / "spans.parquet", 10_000)
    budget = DiskBudget(tmp_path, {"blocks": tmp_path}, cap=0.5, floor=0.1, statvfs=FakeDevice().statvfs)
    budget.rescan()
    assert used_by_kind(budget) == {**dict.fromkeys(KINDS, 0), "blocks": size}


def test_reports_count_at_once_and_a_walk_corrects_them(tmp_path: Path) -> None:
    size = put(tmp_path / "blocks" / "1", 10_000)
    budget = budget_of(tmp_path)
    budget.add("blocks", 123)
    budget.add("wal", 1000)
    budget.add("wal", -400)
    assert used_by_kind(budget) == {**dict.fromkeys(KINDS, 0), "blocks": 123, "wal": 600}
    budget.rescan()
    assert used_by_kind(budget) == {**dict.fromkeys(KINDS, 0), "blocks": size}


def test_a_walk_in_steps_costs_no_more_than_asked(tmp_path: Path) -> None:
    size = sum(put(tmp_path / "blocks" / str(number), 100) for number in range(10))
    budget = budget_of(tmp_path)
    ended = [budget.rescan(entries_max=3) for _ in range(4)]
    assert ended == [False, False, False, True]
    assert used_by_kind(budget)["blocks"] == size


def test_what_is_reported_during_a_walk_is_kept(tmp_path: Path) -> None:
    size = sum(put(tmp_path / "blocks" / str(number), 100) for number in range(4))
    budget = budget_of(tmp_path)
    assert not budget.rescan(entries_max=2)
    budget.add("blocks", 5000)
    assert budget.rescan()
    assert used_by_kind(budget)["blocks"] == size + 5000
    budget.rescan()
    assert used_by_kind(budget)["blocks"] == size


def test_directories_that_vanish_during_a_walk_are_gone(tmp_path: Path) -> None:
    for number in range(6):
        put(tmp_path / "blocks" / str(number) / "spans.parquet", 100)
    budget = budget_of(tmp_path)
    assert not budget.rescan(entries_max=6)
    shutil.rmtree(tmp_path / "blocks")
    assert budget.rescan()
    assert budget.rescan()
    assert used_by_kind(budget)["blocks"] == 0


def test_unreadable_directories_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = put(tmp_path / "blocks" / "1", 100)
    (tmp_path / "lost+found").mkdir()
    scandir = os.scandir

    def refusing(path: str) -> object:
        if path.endswith("lost+found"):
            raise PermissionError(13, "Permission denied", path)
        if path.endswith("wal"):
            raise OSError(5, "Input/output error", path)
        return scandir(path)

    monkeypatch.setattr(disk.os, "scandir", refusing)
    budget = budget_of(tmp_path)
    with pytest.raises(StorageError, match=r"cannot list .*wal: Input/output error; check the device"):
        budget.rescan()
    with pytest.raises(StorageError):
        budget.rescan()
    budget = DiskBudget(tmp_path, {"blocks": tmp_path / "blocks"}, cap=0.5, floor=0.1, statvfs=FakeDevice().statvfs)
    assert budget.rescan()
    assert budget.figures(0.0).unreadable_directories == 1
    assert used_by_kind(budget)["blocks"] == size


# -- room -------------------------------------------------------------------------------------------------------------

# what: free GB of 100, used GB, wanted bytes, what the refusal says or None
ROOM = [
    ("plenty", 80, 10, GB, None),
    ("exactly the cap", 80, 49, GB, None),
    ("one byte over the cap", 80, 49, GB + 1, "50.0 GB are used"),
    ("exactly the floor", 11, 10, GB, None),
    ("one byte below the floor", 11, 10, GB + 1, "the device has 11.0 GB free and 10.0 GB are to stay free"),
    ("below the floor already", 9, 10, 0, "free space on it, or lower"),
    ("over the cap already", 80, 60, 0, "raise the disk cap or lower the retention"),
]


@pytest.mark.parametrize(
    ("free", "used", "wanted", "refusal"), [case[1:] for case in ROOM], ids=[case[0] for case in ROOM]
)
def test_check_room(tmp_path: Path, free: int, used: int, wanted: int, refusal: str | None) -> None:
    budget = budget_of(tmp_path, FakeDevice(free_bytes=free * GB))
    budget.add("blocks", used * GB)
    if refusal is None:
        budget.check_room(wanted)
    else:
        with pytest.raises(DiskFullError, match=refusal):
            budget.check_room(wanted)


def test_limits_are_bytes_or_fractions_of_the_device(tmp_path: Path) -> None:
    fractions = budget_of(tmp_path, cap=0.85, floor=0.02)
    assert (fractions.cap_bytes(), fractions.floor_bytes(), fractions.free_bytes()) == (85 * GB, 2 * GB, 50 * GB)
    sizes = budget_of(tmp_path, cap=30 * GB, floor=1)
    assert (sizes.cap_bytes(), sizes.floor_bytes()) == (30 * GB, 1)
    assert budget_of(tmp_path, cap=1.0).cap_bytes() == 100 * GB


# what: free GB of 100, used GB, GB to delete for a cap of 50 and a floor of 10 with a margin of 5 %, below the floor
OVER = [
    ("far below", 80, 10, 0, False),
    ("at the margin", 52, 47.5, 0, False),
    ("within the margin", 50, 49, 1.5, False),
    ("at the cap", 50, 50, 2.5, False),
    ("over the cap", 30, 70, 22.5, False),
    ("the floor is nearer than the cap", 10, 40, 2, False),
    ("below the floor", 6, 40, 40 - 36 * 0.95, True),
    ("a stranger took it all", 0, 5, 5, True),
]


@pytest.mark.parametrize(("free", "used", "over", "below"), [case[1:] for case in OVER], ids=[case[0] for case in OVER])
def test_what_retention_should_delete(tmp_path: Path, free: int, used: float, over: float, below: bool) -> None:
    budget = budget_of(tmp_path, FakeDevice(free_bytes=free * GB))
    budget.add("blocks", round(used * GB))
    assert budget.over_cap_bytes() == pytest.approx(over * GB, abs=2)
    assert budget.below_floor() is below
    figures = budget.figures(0.0)
    assert (figures.over_cap_bytes, figures.below_floor) == (budget.over_cap_bytes(), below)


def test_a_device_that_does_not_answer(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot ask for the free space"):
        DiskBudget(tmp_path / "missing", {}, cap=1.0, floor=0).check_room(1)


# -- forecast ---------------------------------------------------------------------------------------------------------


def test_time_to_full_follows_the_nearer_limit(tmp_path: Path) -> None:
    device = FakeDevice(free_bytes=70 * GB)
    budget = budget_of(tmp_path, device)
    budget.add("blocks", 20 * GB)
    assert budget.time_to_full_seconds(0.0) is None, "nothing known"
    budget.sample(0.0)
    assert budget.time_to_full_seconds(600.0) is None, "no growth"
    budget.add("blocks", 1 * GB)
    assert budget.time_to_full_seconds(299.0) is None, "too short a look"
    assert budget.time_to_full_seconds(600.0) == pytest.approx(29 * 600), "29 GB to the cap at 1 GB in 600 s"
    device.free_bytes = 66 * GB  # others write as well: 4 GB in 600 s, 56 GB to the floor
    assert budget.time_to_full_seconds(600.0) == pytest.approx(56 / 4 * 600)
    budget.add("blocks", 40 * GB)
    assert budget.time_to_full_seconds(600.0) == 0.0, "full"
    budget.add("blocks", -45 * GB)
    device.free_bytes = 90 * GB
    assert budget.time_to_full_seconds(600.0) is None, "shrinks"


def test_the_forecast_looks_back_one_hour_and_holds_a_bounded_number_of_samples(tmp_path: Path) -> None:
    device = FakeDevice(free_bytes=100 * GB)
    budget = budget_of(tmp_path, device, cap=0.8)
    for second in range(0, 7201, 5):  # 10 MB/s for an hour and a half, then 1 MB/s
        budget.sample(float(second))
        budget.add("blocks", 5 * (10 if second < 5400 else 1) * MB)
    assert len(budget._samples) == disk.SAMPLES_MAX
    room = 80 * GB - budget.used_bytes()
    assert budget.time_to_full_seconds(7200.0) == pytest.approx(room / (5.5 * MB), rel=0.02)
    assert budget.time_to_full_seconds(20_000.0) is None, "all samples are too old"


def test_figures_are_what_the_methods_say(tmp_path: Path) -> None:
    budget = budget_of(tmp_path)
    budget.add("wal", 5 * GB)
    figures = budget.figures(0.0)
    assert (figures.total_bytes, figures.free_bytes) == (100 * GB, 50 * GB)
    assert (figures.cap_bytes, figures.floor_bytes) == (50 * GB, 10 * GB)
    assert (figures.used_bytes, figures.time_to_full_seconds) == (5 * GB, None)


def test_reserved_bytes_count_until_they_are_written(tmp_path: Path) -> None:
    budget = DiskBudget(tmp_path, {}, cap=1000, floor=0)
    with budget.reserved(900):
        assert budget.used_bytes() == 0
        budget.check_room(100)
        with pytest.raises(DiskFullError):
            budget.check_room(101)
    budget.check_room(1000)
