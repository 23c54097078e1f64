"""The write-ahead log keeps what it acknowledged, and nothing else, through damage, full disks and kill -9."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vivace.errors import DiskFullError, InvariantError, StorageError
from vivace.storage import wal as wal_module
from vivace.storage.wal import ReplayReport, Wal, WalRecord
from vivace.storage.wal_segment import RECORD_HEADER, SEGMENT_HEADER, encode_group, encode_segment_header, segment_path
from vivace.storage.wal_writer import RESERVE_BYTES, SystemFileOps

RECORDS = [("acme", b"first"), ("", b""), ("tenant-\N{SNOWMAN}", bytes(range(256))), ("acme", b"last one")]


def open_wal(directory: Path, **options: object) -> tuple[Wal, list[WalRecord]]:
    wal = Wal(directory, **options)  # type: ignore[arg-type]
    return wal, list(wal.replay())


def replayed(directory: Path) -> tuple[list[WalRecord], ReplayReport]:
    wal, records = open_wal(directory)
    wal.close()
    return records, wal.report


def write_log(directory: Path, groups: Sequence[Sequence[tuple[str, bytes]]], **options: object) -> None:
    wal, _ = open_wal(directory, **options)
    for group in groups:
        wal.append(group)
    wal.close()


def as_records(pairs: Sequence[tuple[str, bytes]], first_sequence: int = 0) -> list[WalRecord]:
    return [WalRecord(sequence, tenant, body) for sequence, (tenant, body) in enumerate(pairs, first_sequence)]


def segments(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.wal"))


# -- the plain life ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sync", [True, False])
@pytest.mark.parametrize("segment_bytes_max", [1, 400, 1 << 20])
def test_round_trip_over_restarts(tmp_path: Path, sync: bool, segment_bytes_max: int) -> None:
    options = {"sync": sync, "segment_bytes_max": segment_bytes_max}
    write_log(tmp_path, [RECORDS[:1], [], RECORDS[1:]], **options)
    wal, records = open_wal(tmp_path, **options)
    assert records == as_records(RECORDS)
    assert wal.append(RECORDS[:2]) == range(4, 6)
    wal.close()
    records, report = replayed(tmp_path)
    assert records == as_records(RECORDS + RECORDS[:2])
    body_bytes = sum(len(record.body) for record in records)
    assert report == ReplayReport(records=6, bytes=body_bytes)


def test_group_of_more_buffers_than_one_system_call_takes(tmp_path: Path) -> None:
    group = [("t", str(number).encode()) for number in range(3000)]
    write_log(tmp_path, [group])
    assert replayed(tmp_path)[0] == as_records(group)


def test_each_group_is_one_sync_and_it_is_timed(tmp_path: Path) -> None:
    seen: list[float] = []
    ticks = iter(range(100))
    wal, _ = open_wal(tmp_path, on_fsync=seen.append, clock=lambda: float(next(ticks)))
    wal.append(RECORDS)
    wal.append(RECORDS)
    wal.append([])
    wal.close()
    assert seen == [1.0, 1.0]


def test_segments_are_cut_at_groups(tmp_path: Path) -> None:
    body = bytes(300)
    write_log(tmp_path, [[("t", body)] * 5, [("t", body)], [("t", body)]], segment_bytes_max=1000)
    assert [int(path.stem) for path in segments(tmp_path)] == [0, 5]


def test_bytes_on_disk_is_what_the_files_take(tmp_path: Path) -> None:
    wal, _ = open_wal(tmp_path, segment_bytes_max=3 << 20)
    for _ in range(4):
        wal.append([("t", bytes(1 << 20))])
        assert wal.bytes_on_disk == sum(path.stat().st_size for path in segments(tmp_path))
    wal.close()
    assert wal.bytes_on_disk == sum(path.stat().st_size for path in segments(tmp_path))


def test_use_out_of_order_is_our_bug(tmp_path: Path) -> None:
    wal = Wal(tmp_path)
    with pytest.raises(InvariantError, match="not replayed"):
        wal.append(RECORDS)
    with pytest.raises(InvariantError, match="not replayed"):
        wal.truncate_before(1)
    assert list(wal.replay()) == []
    with pytest.raises(InvariantError, match="replayed before"):
        list(wal.replay())
    wal.close()
    wal.close()
    with pytest.raises(InvariantError, match="closed"):
        wal.append(RECORDS)


def test_replay_holds_one_record_at_a_time(tmp_path: Path) -> None:
    body = bytes(1 << 20)
    write_log(tmp_path, [[("t", body)] * 24], sync=False)
    wal = Wal(tmp_path)
    tracemalloc.start()
    count = sum(1 for _ in wal.replay())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    wal.close()
    assert count == 24
    assert peak < 4 * len(body)


def test_two_processes_do_not_share_a_log(tmp_path: Path) -> None:
    wal, _ = open_wal(tmp_path)
    program = f"import pathlib, vivace.storage.wal as w; w.Wal(pathlib.Path({str(tmp_path)!r}))"
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert other.returncode == 1
    assert f"{tmp_path} is in use by process {os.getpid()}" in other.stderr
    with pytest.raises(StorageError, match="stop that process"):
        Wal(tmp_path)
    wal.close()
    replayed(tmp_path)


# -- truncation -------------------------------------------------------------------------------------------------------


def test_truncate_before_deletes_whole_segments_only(tmp_path: Path) -> None:
    wal, _ = open_wal(tmp_path, segment_bytes_max=1)
    for number in range(5):
        wal.append([("t", b"%d" % number), ("t", b"again")])
    assert wal.truncate_before(1) == 0
    sizes = [path.stat().st_size for path in segments(tmp_path)]
    assert wal.truncate_before(5) == sizes[0] + sizes[1]
    assert (wal.first_sequence, wal.next_sequence) == (4, 10)
    wal.close()
    assert [record.sequence for record in replayed(tmp_path)[0]] == list(range(4, 10))


def test_rotate_makes_the_records_so_far_deletable(tmp_path: Path) -> None:
    wal, _ = open_wal(tmp_path)
    wal.rotate()
    wal.append(RECORDS)
    wal.rotate()
    wal.rotate()
    wal.append([("t", b"newer")])
    assert [int(path.stem) for path in segments(tmp_path)] == [0, 4]
    wal.truncate_before(4)
    assert wal.first_sequence == 4
    wal.close()


def test_the_count_survives_an_emptied_log(tmp_path: Path) -> None:
    wal, _ = open_wal(tmp_path)
    wal.append(RECORDS)
    assert wal.truncate_before(100) == record_ends(RECORDS)[-1]
    assert (wal.first_sequence, wal.next_sequence, wal.bytes_on_disk) == (4, 4, SEGMENT_HEADER.size)
    assert wal.truncate_before(100) == 0
    wal.close()
    wal, records = open_wal(tmp_path)
    assert records == []
    assert wal.append(RECORDS) == range(4, 8)
    wal.close()


def test_no_sequence_below_the_given_minimum(tmp_path: Path) -> None:
    wal, _ = open_wal(tmp_path, sequence_min=1000)
    assert wal.append(RECORDS) == range(1000, 1004)
    wal.close()
    wal, records = open_wal(tmp_path, sequence_min=5)
    assert records == as_records(RECORDS, 1000)
    assert wal.next_sequence == 1004
    wal.close()
    wal, _ = open_wal(tmp_path, sequence_min=2000)
    assert wal.append(RECORDS) == range(2000, 2004)
    wal.close()


# -- damage -----------------------------------------------------------------------------------------------------------


def record_ends(pairs: Sequence[tuple[str, bytes]]) -> list[int]:
    ends = []
    offset = SEGMENT_HEADER.size
    for tenant, body in pairs:
        offset += RECORD_HEADER.size + len(tenant.encode()) + len(body)
        ends.append(offset)
    return ends


def small_log(directory: Path) -> tuple[Path, bytes]:
    """One segment of RECORDS; returns it with its bytes, to be damaged in many ways."""
    write_log(directory, [RECORDS], sync=False)
    (path,) = segments(directory)
    return path, path.read_bytes()


def test_torn_at_every_length_keeps_the_whole_records(tmp_path: Path) -> None:
    path, whole = small_log(tmp_path)
    ends = record_ends(RECORDS)
    assert ends[-1] == len(whole)
    for length in range(len(whole) + 1):
        for reserved in (0, 7):  # a crash may leave reserved room after the torn record
            path.write_bytes(whole[:length] + bytes(reserved))
            wal, records = open_wal(tmp_path, sync=False)
            kept = sum(end <= length for end in ends)
            assert records == as_records(RECORDS[:kept]), length
            assert wal.report.broken_records == (1 if length < SEGMENT_HEADER.size <= length + reserved else 0)
            assert wal.report.missing_sequences == 0
            assert wal.append([("t", b"next")]) == range(kept, kept + 1)
            wal.close()
            records, report = replayed(tmp_path)
            assert records == as_records([*RECORDS[:kept], ("t", b"next")]), length
            assert report.torn_tails == 0, "cut by the first replay"
            for segment in segments(tmp_path):
                segment.unlink()


def test_every_flipped_byte_costs_one_record_at_most(tmp_path: Path) -> None:
    path, whole = small_log(tmp_path)
    ends = record_ends(RECORDS)
    successor = segment_path(tmp_path, len(RECORDS))
    for is_last in (True, False):
        if not is_last:
            write_log(tmp_path, [[("t", b"next")]], sync=False)
        after = as_records([("t", b"next")], len(RECORDS)) if successor.exists() else []
        for position in range(len(whole)):
            path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x5A]) + whole[position + 1 :])
            hit = sum(end <= position for end in ends) if position >= SEGMENT_HEADER.size else None
            survivors = [record for number, record in enumerate(as_records(RECORDS)) if number != hit]
            records, report = replayed(tmp_path)
            assert records == survivors + after, position
            torn = is_last and hit == len(RECORDS) - 1
            assert (report.torn_tails, report.broken_records) == ((1, 0) if torn else (0, 1)), position
            assert report.missing_sequences == (0 if torn or hit is None else 1), position
            path.write_bytes(whole)


Damage = Callable[[bytes], bytes]
SECOND = slice(record_ends(RECORDS)[0], record_ends(RECORDS)[1])
THIRD = slice(record_ends(RECORDS)[1], record_ends(RECORDS)[2])

# what: damage to the first of two segments, surviving sequences of the first, broken regions, missing sequences
DAMAGES: list[tuple[str, Damage, list[int], int, int]] = [
    ("empty file", lambda whole: b"", [], 0, 4),
    ("file cut inside the header", lambda whole: whole[:20], [], 1, 4),
    ("file cut inside a record", lambda whole: whole[:-3], [0, 1, 2], 1, 1),
    (
        "segment header zeroed",
        lambda whole: bytes(SEGMENT_HEADER.size) + whole[SEGMENT_HEADER.size :],
        [0, 1, 2, 3],
        1,
        0,
    ),
    ("first sector zeroed", lambda whole: bytes(SECOND.stop) + whole[SECOND.stop :], [2, 3], 2, 2),
    (
        "two records zeroed",
        lambda w: w[: SECOND.start] + bytes(THIRD.stop - SECOND.start) + w[THIRD.stop :],
        [0, 3],
        1,
        2,
    ),
    ("a record removed", lambda whole: whole[: SECOND.start] + whole[SECOND.stop :], [0, 2, 3], 0, 1),
    ("bytes removed", lambda whole: whole[: SECOND.start + 3] + whole[SECOND.stop :], [0, 2, 3], 1, 1),
    ("bytes inserted", lambda whole: whole[: SECOND.start] + b"\xf7RECxyz" + whole[SECOND.start :], [0, 1, 2, 3], 1, 0),
    ("rubbish at the end", lambda whole: whole + b"rubbish", [0, 1, 2, 3], 0, 0),
    ("zeros at the end", lambda whole: whole + bytes(5000), [0, 1, 2, 3], 0, 0),
    ("all rubbish", lambda whole: b"x" * len(whole), [], 2, 4),
]


@pytest.mark.parametrize(("damage", "kept", "broken", "missing"), [d[1:] for d in DAMAGES], ids=[d[0] for d in DAMAGES])
def test_damage_in_an_earlier_segment(
    tmp_path: Path, damage: Damage, kept: list[int], broken: int, missing: int
) -> None:
    path, whole = small_log(tmp_path)
    write_log(tmp_path, [[("t", b"next")]])
    path.write_bytes(damage(whole))
    for _ in range(2):  # the damage stays until the segment is truncated, so a second replay says the same
        records, report = replayed(tmp_path)
        assert [record.sequence for record in records] == [*kept, 4]
        assert all(record in as_records([*RECORDS, ("t", b"next")]) for record in records)
        assert (report.broken_records, report.missing_sequences) == (broken, missing)
    assert len(report.set_aside) == broken
    assert report.broken_bytes == sum(copy.stat().st_size for copy in report.set_aside)


def test_a_lost_segment_is_missed(tmp_path: Path) -> None:
    write_log(tmp_path, [RECORDS, RECORDS, RECORDS], segment_bytes_max=1)
    segments(tmp_path)[1].unlink()
    records, report = replayed(tmp_path)
    assert [record.sequence for record in records] == [0, 1, 2, 3, 8, 9, 10, 11]
    assert report.missing_sequences == 4


def test_a_body_cannot_pass_itself_off_as_records(tmp_path: Path) -> None:
    forged = b"".join(encode_group([("victim", b"forged")] * 3, 1)[0])
    write_log(tmp_path, [[("mallory", b"-" * 50 + forged), ("acme", b"real")]])
    (path,) = segments(tmp_path)
    whole = bytearray(path.read_bytes())
    whole[SEGMENT_HEADER.size + RECORD_HEADER.size] ^= 1  # the payload is damaged, its header is not
    path.write_bytes(whole)
    records, report = replayed(tmp_path)
    assert records == [WalRecord(1, "acme", b"real")]
    assert (report.broken_records, report.missing_sequences) == (1, 1)


def test_what_is_set_aside_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wal_module, "DAMAGED_BYTES_MAX", 300)
    write_log(tmp_path, [[("t", bytes(200))] * 6])
    (path,) = segments(tmp_path)
    whole = bytearray(path.read_bytes())
    for number in (0, 2, 4):
        whole[SEGMENT_HEADER.size + number * (RECORD_HEADER.size + 201) + 100] ^= 1
    path.write_bytes(whole)
    records, report = replayed(tmp_path)
    assert [record.sequence for record in records] == [1, 3, 5]
    assert report.broken_records == 3
    assert [copy.stat().st_size for copy in report.set_aside] == [
        RECORD_HEADER.size + 201,
        300 - RECORD_HEADER.size - 201,
    ]


def test_foreign_and_unfinished_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_log(tmp_path, [RECORDS])
    foreign = [tmp_path / "notes.txt", tmp_path / "12.wal", tmp_path / "00000000000000000007.wal.bak"]
    for path in foreign:
        path.write_bytes(b"mine")
    (tmp_path / "00000000000000000009.wal").mkdir()
    unfinished = tmp_path / "00000000000000000004.tmp"
    unfinished.write_bytes(b"")
    records, _ = replayed(tmp_path)
    assert records == as_records(RECORDS)
    assert all(path.read_bytes() == b"mine" and str(path) in caplog.text for path in foreign)
    assert "00000000000000000009.wal is not a WAL segment" in caplog.text
    assert not unfinished.exists()


def test_a_later_format_is_refused_untouched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("vivace.storage.wal_segment.FORMAT_VERSION", 2)
        header = encode_segment_header(0)
    segment_path(tmp_path, 0).write_bytes(header + b"what only version 2 can read")
    with pytest.raises(StorageError, match="format version 2, expected 1: start the version"):
        Wal(tmp_path)
    assert segments(tmp_path)[0].read_bytes() == header + b"what only version 2 can read"


# -- failing devices --------------------------------------------------------------------------------------------------


class FaultyFileOps(SystemFileOps):
    """Raises the given errno in the calls named in `failing`; a failing write leaves half of its bytes behind."""

    def __init__(self, errno_code: int) -> None:
        self.failing: set[str] = set()
        self.failing_once: set[str] = set()
        self.calls: list[str] = []
        self._errno_code = errno_code

    def _fail(self, call: str) -> None:
        self.calls.append(call)
        if call in self.failing or call in self.failing_once:
            self.failing_once.discard(call)
            raise OSError(self._errno_code, os.strerror(self._errno_code))

    def write(self, fd: int, buffers: Sequence[bytes | memoryview], offset: int) -> int:
        if "write" in self.failing:
            joined = b"".join(buffers)
            os.pwrite(fd, joined[: len(joined) // 2], offset)
        self._fail("write")
        return super().write(fd, buffers, offset)

    def reserve(self, fd: int, offset: int, length: int) -> None:
        self._fail("reserve")
        super().reserve(fd, offset, length)

    def sync(self, fd: int) -> None:
        self._fail("sync")
        super().sync(fd)

    def truncate(self, fd: int, length: int) -> None:
        self._fail("truncate")
        super().truncate(fd, length)


def died(directory: Path) -> Path:
    """The files as a process leaves them that dies now."""
    return shutil.copytree(directory, directory.with_name("died"))


def test_reserved_room_left_by_a_crash_is_no_torn_tail(tmp_path: Path) -> None:
    wal, _ = open_wal(tmp_path / "log")
    wal.append(RECORDS)
    left = died(tmp_path / "log")
    wal.close()
    assert segments(left)[0].stat().st_size > RESERVE_BYTES
    records, report = replayed(left)
    assert records == as_records(RECORDS)
    assert report.torn_tails == 0
    assert segments(left)[0].stat().st_size == record_ends(RECORDS)[-1], "given back"


@pytest.mark.parametrize("earlier", [0, 1], ids=["first group", "later group"])
@pytest.mark.parametrize("healed", [True, False], ids=["device recovers", "process dies"])
@pytest.mark.parametrize(
    ("failing", "code", "error_type"),
    [
        ({"write"}, errno.ENOSPC, DiskFullError),
        ({"write", "reserve"}, errno.EDQUOT, DiskFullError),
        ({"write"}, errno.EIO, StorageError),
        ({"sync"}, errno.EIO, StorageError),
        ({"sync"}, errno.ENOSPC, DiskFullError),
        ({"write", "sync"}, errno.EIO, StorageError),
    ],
)
def test_a_group_whose_append_raised_is_gone(
    tmp_path: Path, failing: set[str], code: int, error_type: type[StorageError], healed: bool, earlier: int
) -> None:
    files = FaultyFileOps(code)
    wal, _ = open_wal(tmp_path / "log", files=files)
    if earlier:
        wal.append(RECORDS)
    else:
        wal.append([("t", b"other segment")])
        wal.truncate_before(1)
    start = wal.next_sequence
    files.failing = failing
    for _ in range(2):
        with pytest.raises(error_type, match=r"append to|create"):
            wal.append([("refused", b"small"), ("refused", b"group" * 100)])
    files.failing = set()
    kept = as_records(RECORDS) if earlier else []
    place = tmp_path / "log"
    if healed:
        assert wal.append([("t", b"next")]) == range(start, start + 1)
        kept += [WalRecord(start, "t", b"next")]
        assert wal.bytes_on_disk == sum(path.stat().st_size for path in segments(place))
    else:
        place = died(place)
    wal.close()
    records, report = replayed(place)
    assert records == kept
    assert (report.broken_records, report.missing_sequences) == (0, 0)


def test_a_refused_group_that_could_not_be_cut_is_void_once_its_successor_exists(tmp_path: Path) -> None:
    files = FaultyFileOps(errno.EIO)
    wal, _ = open_wal(tmp_path, files=files)
    wal.append(RECORDS)
    files.failing = {"sync", "truncate"}
    with pytest.raises(StorageError):
        wal.append([("refused", b"but whole in the file")])
    files.failing = {"truncate"}
    wal.append([("t", b"next")])
    wal.close()
    assert b"but whole in the file" in segments(tmp_path)[0].read_bytes()
    for _ in range(2):
        records, report = replayed(tmp_path)
        assert records == as_records([*RECORDS, ("t", b"next")])
        assert (report.broken_records, report.missing_sequences) == (0, 0)


def test_the_successor_of_a_sealed_segment_begins_at_once(tmp_path: Path) -> None:
    files = FaultyFileOps(errno.EIO)
    wal, _ = open_wal(tmp_path / "log", files=files)
    wal.append(RECORDS)
    files.failing_once = {"sync", "truncate"}
    with pytest.raises(StorageError):
        wal.append([("refused", b"but whole in the file")])
    assert replayed(died(tmp_path / "log"))[0] == as_records(RECORDS)
    wal.close()


@pytest.mark.parametrize(
    ("failing", "segments_after"), [({"write"}, 1), ({"sync"}, 2), ({"write", "truncate"}, 2), ({"write", "sync"}, 2)]
)
def test_only_a_segment_in_doubt_is_left(tmp_path: Path, failing: set[str], segments_after: int) -> None:
    files = FaultyFileOps(errno.EIO)
    wal, _ = open_wal(tmp_path, files=files)
    wal.append(RECORDS)
    files.failing = failing
    with pytest.raises(StorageError):
        wal.append(RECORDS)
    files.failing = set()
    wal.append(RECORDS)
    wal.close()
    assert len(segments(tmp_path)) == segments_after


def test_a_segment_is_not_trusted_after_one_failed_sync(tmp_path: Path) -> None:
    files = FaultyFileOps(errno.EIO)
    wal, _ = open_wal(tmp_path, files=files)
    wal.append(RECORDS)
    files.failing_once = {"sync"}
    with pytest.raises(StorageError):
        wal.append(RECORDS)
    wal.append(RECORDS)
    wal.close()
    assert len(segments(tmp_path)) == 2
    assert replayed(tmp_path)[0] == as_records(RECORDS * 2)


def test_a_cut_is_durable_before_the_error_is_told(tmp_path: Path) -> None:
    files = FaultyFileOps(errno.ENOSPC)
    wal, _ = open_wal(tmp_path, files=files)
    wal.append(RECORDS)
    files.calls.clear()
    files.failing = {"write"}
    with pytest.raises(DiskFullError):
        wal.append(RECORDS)
    assert files.calls == ["write", "truncate", "sync"]
    wal.close()


def test_truncation_keeps_the_last_segment_where_there_is_no_room_for_an_empty_one(tmp_path: Path) -> None:
    files = FaultyFileOps(errno.ENOSPC)
    wal, _ = open_wal(tmp_path, files=files, segment_bytes_max=1)
    wal.append(RECORDS)
    wal.append(RECORDS)
    files.failing = {"write"}
    assert wal.truncate_before(8) > 0
    assert wal.first_sequence == 4
    files.failing = set()
    wal.truncate_before(8)
    assert wal.first_sequence == 8
    wal.close()


def test_without_reservation_the_log_still_works(tmp_path: Path) -> None:
    files = FaultyFileOps(errno.EOPNOTSUPP)
    files.failing = {"reserve"}
    write_log(tmp_path, [RECORDS, RECORDS], files=files)
    assert replayed(tmp_path)[0] == as_records(RECORDS * 2)


def test_short_writes_are_continued(tmp_path: Path) -> None:
    class ShortWrites(SystemFileOps):
        def write(self, fd: int, buffers: Sequence[bytes | memoryview], offset: int) -> int:
            return os.pwrite(fd, b"".join(buffers)[:10], offset)

    write_log(tmp_path, [RECORDS, RECORDS], files=ShortWrites())
    assert replayed(tmp_path)[0] == as_records(RECORDS * 2)


@pytest.fixture
def small_file_system(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 2 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"mounting a small file system is refused here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_refuses_and_recovers(small_file_system: Path) -> None:
    ballast = small_file_system / "ballast"
    ballast.write_bytes(bytes(300_000))
    directory = small_file_system / "wal"
    wal, _ = open_wal(directory, segment_bytes_max=200_000)
    accepted = 0
    with pytest.raises(DiskFullError, match=r"append to .*free space"):  # noqa: PT012 - runs until full
        while accepted < 1000:
            wal.append([("t", bytes(90_000))])
            accepted += 1
    assert accepted > 10
    with pytest.raises(DiskFullError):
        wal.append([("t", bytes(90_000))] * 3)
    ballast.unlink()
    assert wal.append([("t", b"there is room again")]) == range(accepted, accepted + 1)
    wal.close()

    wal, records = open_wal(directory)
    assert [record.sequence for record in records] == list(range(accepted + 1))
    assert (wal.report.torn_tails, wal.report.broken_records) == (0, 0)
    ballast.write_bytes(bytes(os.statvfs(directory).f_bavail * os.statvfs(directory).f_frsize))
    with pytest.raises(DiskFullError, match="create"):
        wal.append([("t", b"full again")])
    assert wal.truncate_before(accepted) > 1_000_000, "deleting needs no room"
    assert wal.append([("t", b"room")]) == range(accepted + 1, accepted + 2)
    wal.close()


# -- properties and kill -9 -------------------------------------------------------------------------------------------

BODIES = st.binary(max_size=60)
STEPS = st.one_of(
    st.tuples(st.just("append"), st.lists(st.tuples(st.sampled_from(["a", "bb"]), BODIES), max_size=4)),
    st.tuples(st.just("truncate"), st.integers(0, 40)),
    st.tuples(st.just("refuse"), st.sampled_from([{"write"}, {"sync"}, {"write", "truncate"}])),
    st.tuples(st.just("reopen"), st.binary(max_size=40)),  # with a torn tail of these bytes
)


@settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(STEPS, max_size=25), segment_bytes_max=st.sampled_from([1, 150, 1000]))
def test_any_life_of_a_log(steps: list[tuple[str, object]], segment_bytes_max: int) -> None:
    files = FaultyFileOps(errno.EIO)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        wal, _ = open_wal(directory, segment_bytes_max=segment_bytes_max, files=files, sync=True)
        acknowledged: list[WalRecord] = []
        needed_from = 0
        for step in [*steps, ("reopen", b"")]:
            match step:
                case ("append", list(group)):
                    sequences = wal.append(group)
                    acknowledged += as_records(group, sequences.start)
                case ("truncate", int(sequence)):
                    wal.truncate_before(sequence)
                    needed_from = max(needed_from, sequence)
                case ("refuse", set(failing)):
                    files.failing = failing
                    with pytest.raises(StorageError):
                        wal.append([("refused", b"refused")])
                    files.failing = set()
                case ("reopen", bytes(tail)):
                    next_sequence = wal.next_sequence
                    wal.close()
                    if segments(directory):
                        with segments(directory)[-1].open("ab") as file:
                            file.write(tail)
                    wal, records = open_wal(directory, segment_bytes_max=segment_bytes_max, files=files)
                    assert wal.next_sequence == next_sequence
                    assert records == acknowledged[len(acknowledged) - len(records) :]
                    assert [r for r in records if r.sequence >= needed_from] == [
                        r for r in acknowledged if r.sequence >= needed_from
                    ]
                    assert (wal.report.broken_records, wal.report.missing_sequences) == (0, 0)
        wal.close()


APPENDER = """
import pathlib, random, sys
from vivace.storage.wal import Wal
wal = Wal(pathlib.Path(sys.argv[1]), segment_bytes_max=200_000)
for _ in wal.replay():
    pass
dice = random.Random(int(sys.argv[2]))
while True:
    group = [("t", dice.randbytes(dice.choice([0, 10, 5_000, 60_000]))) for _ in range(dice.randint(1, 6))]
    sequences = wal.append(group)
    sys.stdout.write("".join(f"{s} {len(b)} {sum(b)}\\n" for s, (_, b) in zip(sequences, group)))
    sys.stdout.flush()
"""


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    acknowledged: list[str] = []
    for seed in range(10):
        child = subprocess.Popen([sys.executable, "-c", APPENDER, str(tmp_path), str(seed)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(5 + 13 * seed)]
        child.send_signal(signal.SIGKILL)
        lines += child.stdout.readlines()
        child.stdout.close()
        child.wait()
        acknowledged += [line.decode().strip() for line in lines if line.endswith(b"\n")]

        records, report = replayed(tmp_path)
        found = {f"{record.sequence} {len(record.body)} {sum(record.body)}" for record in records}
        assert found.issuperset(acknowledged), f"seed {seed}"
        assert (report.broken_records, report.missing_sequences) == (0, 0), f"seed {seed}"
        assert [record.sequence for record in records] == list(range(len(records))), f"seed {seed}"
