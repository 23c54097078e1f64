"""The queue on disk: order, restarts, limits, damage; nothing here sends."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from vivace.errors import DiskFullError, StorageError
from vivace.generator import write_queue
from vivace.generator.write_queue import Lost, WriteQueue
from vivace.generator.write_segment import RECORD_HEADER, WriteRecord, encode_record

READERS = ("one", "two")


def record(number: int, body_bytes: int = 20) -> WriteRecord:
    """Each has its own number as its count and in its body."""
    return WriteRecord(
        f"tenant-{number % 2}", "samples", number, 1000 + number, b"%04d" % number + bytes(body_bytes - 4)
    )


ONE = len(encode_record(record(1)))


class Disk:
    """What the queue says of its bytes, and what there is room for."""

    def __init__(self) -> None:
        self.used = 0
        self.room = 1 << 60

    def account(self, delta: int) -> None:
        self.used += delta

    def check_room(self, wanted: int) -> None:
        if self.used + wanted > self.room:
            raise DiskFullError("no room")


class Opened:
    """Queues in one directory, one after another; the last is closed at the end of the test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.disk = Disk()
        self.lost: list[Lost] = []
        self.queue: WriteQueue | None = None

    def __call__(
        self, readers: tuple[str, ...] = READERS, *, bytes_max: int = 1 << 20, segment_bytes_max: int = 4 * ONE
    ) -> WriteQueue:
        self.close()
        self.queue = WriteQueue(
            self.directory,
            readers,
            bytes_max=bytes_max,
            segment_bytes_max=segment_bytes_max,
            account=self.disk.account,
            check_room=self.disk.check_room,
            on_lost=self.lost.append,
        )
        return self.queue

    def close(self) -> None:
        if self.queue is not None:
            self.queue.close()

    def segments(self) -> list[Path]:
        return sorted(self.directory.glob("*.rwq"))


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    made = Opened(tmp_path / "queue")
    yield made  # type: ignore[misc]
    made.close()


def read_all(queue: WriteQueue, reader: str, limit: int = 1 << 30) -> list[int]:
    """The numbers of the requests that wait, each of them done with."""
    numbers = []
    while len(numbers) < limit and (waiting := queue.read(reader)) is not None:
        assert waiting.record == record(waiting.record.count, len(waiting.record.body))
        numbers.append(waiting.record.count)
        queue.done(reader, waiting)
    return numbers


def fill(queue: WriteQueue, numbers: range) -> None:
    for number in numbers:
        queue.append(record(number))


def test_every_reader_gets_everything_in_order(opened: Opened) -> None:
    queue = opened()
    fill(queue, range(1, 11))
    assert len(opened.segments()) == 3
    assert read_all(queue, "one") == list(range(1, 11))
    assert read_all(queue, "one") == []
    assert read_all(queue, "two") == list(range(1, 11))
    fill(queue, range(11, 13))
    assert [read_all(queue, reader) for reader in READERS] == [[11, 12]] * 2
    assert opened.lost == []


def test_a_request_is_read_again_until_it_is_done(opened: Opened) -> None:
    queue = opened()
    fill(queue, range(1, 3))
    first = queue.read("one")
    assert first is not None
    assert queue.read("one") == first
    queue.done("one", first)
    assert read_all(queue, "one") == [2]


@pytest.mark.parametrize("done", range(11))
def test_a_restart_goes_on_where_each_reader_was(opened: Opened, done: int) -> None:
    queue = opened()
    fill(queue, range(1, 11))
    read_all(queue, "one", done)
    queue = opened()
    assert [queue.pending(reader) for reader in READERS] == [sum(range(done + 1, 11)), 55]
    fill(queue, range(11, 13))
    assert read_all(queue, "one") == list(range(done + 1, 13))
    queue = opened()
    assert [read_all(queue, reader) for reader in READERS] == [[], list(range(1, 13))]


def test_new_requests_are_found_though_all_segments_had_gone(opened: Opened) -> None:
    """Numbers of segments go on above the readers' places, or the new ones would lie behind them."""
    queue = opened()
    fill(queue, range(1, 11))
    for reader in READERS:
        read_all(queue, reader)
    opened()
    assert opened.segments() == []
    queue = opened()
    fill(queue, range(11, 12))
    assert read_all(queue, "one") == [11]


def test_a_new_reader_begins_with_what_waits_and_an_old_one_is_forgotten(opened: Opened) -> None:
    fill(opened(), range(1, 4))
    queue = opened(("one", "a/new:one"))
    assert read_all(queue, "a/new:one") == [1, 2, 3]
    assert sorted(p.name for p in opened.directory.glob("*.cursor")) == ["a%2Fnew%3Aone.cursor", "one.cursor"]
    read_all(queue, "one")
    assert opened(("one", "a/new:one")).bytes_on_disk == 0


def test_what_was_sent_frees_its_disk(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_queue, "RECYCLE_BYTES", 2 * ONE)
    queue = opened()
    fill(queue, range(1, 8))
    assert opened.disk.used == queue.bytes_on_disk == 7 * ONE
    read_all(queue, "one")
    assert opened.disk.used == 7 * ONE
    read_all(queue, "two", 4)
    assert opened.disk.used == queue.bytes_on_disk == 3 * ONE
    read_all(queue, "two")  # the segment that is written goes as well
    assert opened.disk.used == queue.bytes_on_disk == 0
    assert opened.segments() == []
    fill(queue, range(8, 9))
    assert [read_all(queue, reader) for reader in READERS] == [[8], [8]]
    assert opened.disk.used == ONE  # not worth a new file yet


def test_figures(opened: Opened) -> None:
    queue = opened()
    assert (queue.pending("one"), queue.oldest_ms("one")) == (0, None)
    fill(queue, range(1, 7))
    read_all(queue, "one", 4)
    assert [queue.pending(reader) for reader in READERS] == [11, 21]
    assert [queue.oldest_ms(reader) for reader in READERS] == [1005, 1001]


# ---- limits ----


def test_over_the_limit_the_oldest_segments_go(opened: Opened) -> None:
    queue = opened(bytes_max=12 * ONE, segment_bytes_max=3 * ONE)
    fill(queue, range(1, 13))
    read_all(queue, "one", 2)
    assert opened.lost == []
    fill(queue, range(13, 14))
    assert opened.lost == [Lost("one", 3, damaged=False), Lost("two", 1 + 2 + 3, damaged=False)]
    assert opened.disk.used == queue.bytes_on_disk == 10 * ONE
    assert [queue.pending(reader) for reader in READERS] == [sum(range(4, 14))] * 2
    read_all(queue, "one", 4)
    opened.lost.clear()
    fill(queue, range(14, 17))  # what the first reader is past is no loss to it
    assert opened.lost == [Lost("two", 4 + 5 + 6, damaged=False)]
    assert [read_all(queue, reader) for reader in READERS] == [list(range(8, 17)), list(range(7, 17))]


def test_a_segment_dropped_while_its_request_is_under_way(opened: Opened) -> None:
    queue = opened(("one",), bytes_max=4 * ONE)  # so a segment for each record
    fill(queue, range(1, 5))
    under_way = queue.read("one")
    fill(queue, range(5, 6))
    assert under_way is not None
    queue.done("one", under_way)
    assert opened.lost == [Lost("one", 1, damaged=False)]
    assert read_all(queue, "one") == [2, 3, 4, 5]


def test_the_limit_holds_for_what_waits_from_earlier(opened: Opened) -> None:
    fill(opened(), range(1, 13))
    queue = opened(bytes_max=8 * ONE)
    fill(queue, range(13, 14))
    assert queue.bytes_on_disk <= 8 * ONE
    assert read_all(queue, "one")[-1] == 13


def test_where_the_disk_has_no_room_the_oldest_segment_makes_some(opened: Opened) -> None:
    queue = opened()
    fill(queue, range(1, 9))
    opened.disk.room = opened.disk.used
    fill(queue, range(9, 10))
    assert [lost.count for lost in opened.lost] == [10, 10]
    assert read_all(queue, "one") == [5, 6, 7, 8, 9]


def test_a_disk_that_others_filled_costs_one_segment_for_each_request(opened: Opened) -> None:
    queue = opened()
    fill(queue, range(1, 13))
    opened.disk.room = 0
    with pytest.raises(DiskFullError, match="no room"):
        fill(queue, range(13, 14))
    assert read_all(queue, "one") == list(range(5, 13))


def failing_write(wanted_calls: int, written: int) -> Callable[..., int]:
    """os.pwrite of segments: its call number `wanted_calls` writes a part, the next one finds the device full."""
    real, calls = os.pwrite, [0]

    def pwrite(fd: int, data: bytes, offset: int) -> int:
        calls[0] += 1
        if calls[0] == wanted_calls:
            return real(fd, bytes(data)[:written], offset)
        if calls[0] == wanted_calls + 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data, offset)

    return pwrite


@pytest.mark.parametrize("written", [0, 1, RECORD_HEADER.size, ONE - 1])
def test_a_request_that_was_written_in_part_leaves_nothing(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    queue = opened()
    fill(queue, range(1, 2))
    monkeypatch.setattr(os, "pwrite", failing_write(1, written))
    with pytest.raises(DiskFullError, match="free space"):
        queue.append(record(2))
    assert opened.segments()[0].stat().st_size == opened.disk.used == ONE
    fill(queue, range(3, 4))
    assert read_all(queue, "one") == [1, 3]
    assert read_all(opened(), "two") == [1, 3]
    assert opened.lost == []


def test_memory_does_not_grow_with_what_waits(opened: Opened) -> None:
    queue = opened(bytes_max=1 << 30, segment_bytes_max=1 << 20)
    body = record(1, 100_000)
    queue.append(body)
    tracemalloc.start()
    try:
        for _ in range(200):
            queue.append(body)
        assert tracemalloc.get_traced_memory()[0] < 100_000
        assert queue.bytes_on_disk > 20_000_000
    finally:
        tracemalloc.stop()


# ---- damage ----


def test_torn_at_every_byte_of_the_last_record(opened: Opened) -> None:
    fill(opened(), range(1, 4))
    opened.close()
    whole = opened.segments()[0].read_bytes()
    for length in range(2 * ONE, 3 * ONE):
        opened.segments()[0].write_bytes(whole[:length])
        opened.lost.clear()
        queue = opened()
        assert queue.pending("one") == 3
        fill(queue, range(4, 5))
        assert read_all(queue, "one") == [1, 2, 4]
        assert [lost.damaged for lost in opened.lost] == ([True] if length > 2 * ONE else [])
        opened.close()
        for path in opened.directory.iterdir():
            path.unlink()
        (opened.directory / "000000000001.rwq").touch()


@pytest.mark.parametrize("damaged", [1, 2, 3])
def test_a_flipped_bit_anywhere_costs_its_record_only(opened: Opened, damaged: int) -> None:
    fill(opened(), range(1, 4))
    opened.close()
    (path,) = opened.segments()
    whole = path.read_bytes()
    for offset in range((damaged - 1) * ONE, damaged * ONE):
        for cursor in opened.directory.glob("*.cursor"):
            cursor.unlink()
        path.write_bytes(whole[:offset] + bytes([whole[offset] ^ 0x10]) + whole[offset + 1 :])
        opened.lost.clear()
        assert read_all(opened(), "one") == [n for n in (1, 2, 3) if n != damaged], offset
        assert [lost.damaged for lost in opened.lost] == [True], offset
        opened.close()


def test_a_body_cannot_pass_itself_off_as_records(opened: Opened) -> None:
    queue = opened(("one",))
    forged = encode_record(record(99))
    queue.append(WriteRecord("tenant-1", "samples", 1, 1, forged * 2))
    fill(queue, range(2, 3))
    opened.close()
    (path,) = opened.segments()
    data = bytearray(path.read_bytes())
    data[RECORD_HEADER.size] ^= 1  # the tenant: the header holds, the payload does not
    path.write_bytes(data)
    assert read_all(opened(("one",)), "one") == [2]
    assert [(lost.count, lost.damaged) for lost in opened.lost] == [(1, True)]


def test_a_deleted_segment_is_passed_over(opened: Opened) -> None:
    queue = opened()
    fill(queue, range(1, 10))
    opened.segments()[1].unlink()
    assert read_all(queue, "one") == [1, 2, 3, 4, 9]


@pytest.mark.parametrize("text", [b"", b"garbage", b"000000000001 000000000000 000000000000 00000000\n"])
def test_a_damaged_cursor_sends_again(opened: Opened, text: bytes) -> None:
    queue = opened()
    fill(queue, range(1, 4))
    read_all(queue, "one", 2)
    opened.close()
    (opened.directory / "one.cursor").write_bytes(text)
    assert read_all(opened(), "one") == [1, 2, 3]


def test_a_cursor_beyond_a_torn_segment(opened: Opened) -> None:
    queue = opened()
    fill(queue, range(1, 4))
    read_all(queue, "one")
    opened.close()
    os.truncate(opened.segments()[0], ONE)
    queue = opened()
    assert queue.pending("one") == 0
    fill(queue, range(4, 5))
    assert read_all(queue, "one") == [4]


@pytest.mark.parametrize("damaged", [False, True])
def test_a_place_that_cannot_be_noted_holds_until_the_next_start(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, damaged: bool
) -> None:
    def failing(cursor: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    queue = opened()
    fill(queue, range(1, 4))
    waiting = queue.read("one")
    assert waiting is not None
    with monkeypatch.context() as broken:
        broken.setattr(write_queue, "_write_cursor", failing)
        if damaged:
            broken.setattr(write_queue, "read_record", lambda fd, place: None)
        with pytest.raises(StorageError, match="cannot note what was sent"):
            queue.read("one") if damaged else queue.done("one", waiting)
    assert read_all(queue, "one", 1) == [2]


def test_strange_files_stay(opened: Opened) -> None:
    opened.directory.mkdir()
    (opened.directory / "notes.txt").write_text("mine")
    fill(opened(), range(1, 2))
    opened()
    assert (opened.directory / "notes.txt").read_text() == "mine"


# ---- life ----


def test_a_killed_process_loses_nothing(opened: Opened) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from vivace.generator.write_queue import WriteQueue\n"
        "from vivace.generator.write_segment import WriteRecord\n"
        "queue = WriteQueue(Path(sys.argv[1]), ['one', 'two'], bytes_max=1 << 20)\n"
        "for n in range(1, 6): queue.append(WriteRecord(f'tenant-{n % 2}', 'samples', n, 1000 + n, b'%04d' % n + bytes(16)))\n"
        "queue.done('one', queue.read('one'))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(opened.directory)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [read_all(opened(), reader) for reader in READERS] == [[2, 3, 4, 5], [1, 2, 3, 4, 5]]
    assert opened.lost == []


def test_readers_and_a_writer_at_the_same_time(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_queue, "RECYCLE_BYTES", 2 * ONE)
    queue = opened()
    got: dict[str, list[int]] = {reader: [] for reader in READERS}

    def follow(reader: str) -> None:
        while len(got[reader]) < 300:
            queue.wait(reader, lambda: False)
            got[reader] += read_all(queue, reader)

    threads = [threading.Thread(target=follow, args=(reader,)) for reader in READERS]
    for thread in threads:
        thread.start()
    fill(queue, range(1, 301))
    for thread in threads:
        thread.join(30)
    assert list(got.values()) == [list(range(1, 301))] * 2
    assert opened.lost == []
    assert queue.bytes_on_disk == opened.disk.used < 2 * ONE


def test_a_waiting_reader_is_woken(opened: Opened) -> None:
    queue = opened()
    stopping = threading.Event()
    cases = [lambda: fill(queue, range(1, 2)), stopping.set, queue.close]
    for wake in cases:
        thread = threading.Thread(target=queue.wait, args=("one", stopping.is_set))
        thread.start()
        wake()
        queue.wake()
        thread.join(10)
        assert not thread.is_alive()
        if wake is cases[0]:
            read_all(queue, "one")


def test_after_the_end(opened: Opened) -> None:
    queue = opened()
    fill(queue, range(1, 3))
    waiting = queue.read("one")
    assert waiting is not None
    queue.close()
    queue.close()
    queue.done("one", waiting)  # an answer that came too late
    assert queue.read("one") is None
    with pytest.raises(StorageError, match="closed"):
        queue.append(record(3))
    assert read_all(opened(), "one") == [1, 2]


def test_a_directory_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot open the remote-write queue"):
        WriteQueue(tmp_path / "file", READERS, bytes_max=1 << 20)
