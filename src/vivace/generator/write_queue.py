"""Remote-write requests that wait on disk: one log for all endpoints, and for each endpoint how far it has got.

Rule 1  a request stands on disk once, whatever the number of endpoints; each endpoint reads all of them in the order of append().
Rule 2  memory holds no request: a few numbers for each segment and each endpoint, however much waits.
Rule 3  over `bytes_max`, or when the disk has no room, the oldest segment goes, sent or not. Its series are reported as lost;
        the totals that they carried are in the newer samples of the same counters.
Rule 4  a segment goes as soon as every endpoint is past it, the one being written too once it has RECYCLE_BYTES. So while
        the endpoints keep up, most of what is written is deleted before the kernel has carried it to the device.
Rule 5  nothing is synced. A killed process loses nothing, for the page cache outlives it; a power cut may lose the last
        seconds, and the first sample after it says the same totals. Syncs would compete with those of the WAL and buy only that.
Rule 6  every start opens a new segment; those of earlier processes are read and deleted, never written again.
Rule 7  a damaged record is passed over and counted; a torn end is where a segment ends. Neither is an error.

Bytes: write_segment.py and docs/formats/remote-write-queue.md.  Who reads: remote_write.py.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from ..errors import DiskFullError, StorageError
from .write_segment import WriteRecord, encode_record, find_record, number_of, read_record, segment_path

SEGMENT_BYTES_MAX: Final = 16 << 20
"""What is lost at a time when the queue is full, and what the slowest endpoint keeps on disk beyond what it still needs."""

RECYCLE_BYTES: Final = 1 << 20
"""A segment that was sent whole is not worth its bytes beyond this, and not worth a new file below it."""

_CURSOR_SUFFIX: Final = ".cursor"


@dataclass(frozen=True, slots=True)
class Lost:
    """What one endpoint will never be sent: so many series, and whether damage is the cause or the want of room."""

    reader: str
    count: int
    damaged: bool


@dataclass(frozen=True, slots=True)
class Waiting:
    """The oldest request that waits for an endpoint, and where the next one begins."""

    record: WriteRecord
    segment: int
    end: int


@dataclass(slots=True)
class _Segment:
    length: int = 0  # up to here records count
    count: int = 0  # series in its records


@dataclass(slots=True)
class _Cursor:
    """How far one endpoint has got: what lies before is done. The segment may be gone, or still to be written."""

    fd: int
    segment: int = 0
    offset: int = 0
    count: int = 0  # series before `offset` in that segment


class WriteQueue:
    """The queue in one directory, which belongs to one process. Thread-safe; each endpoint is read by one thread."""

    def __init__(
        self,
        directory: Path,
        readers: Sequence[str],
        *,
        bytes_max: int,
        segment_bytes_max: int = SEGMENT_BYTES_MAX,
        account: Callable[[int], None] = lambda delta: None,
        check_room: Callable[[int], None] = lambda wanted: None,
        on_lost: Callable[[Lost], None] = lambda lost: None,
        log: logging.Logger | None = None,
    ) -> None:
        """Find what waits from earlier; an endpoint that was not there before begins with the oldest of it.

        bytes_max   of all segments; more bridges longer outages.
        account     is told of bytes added, or deleted as a negative count; not of those that are there at the start.
        check_room  raises DiskFullError when so many bytes more would not fit.
        on_lost     is told of series that an endpoint will not get; it must not call the queue.
        Raises      StorageError when the directory cannot be used.
        Cost        one read of 32 bytes for each record that waits.
        """
        self.directory = directory
        self._bytes_max = bytes_max
        self._segment_bytes_max = min(segment_bytes_max, max(1, bytes_max // 4))
        self._account = account
        self._check_room = check_room
        self._on_lost = on_lost
        self._log = logging.getLogger(__name__) if log is None else log
        self._changed = threading.Condition()  # guards all below
        self._fd: int | None = None  # of the last segment, once it is one of ours
        self._closed = False
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._segments = self._find_segments()
            self._cursors = {reader: self._load_cursor(reader) for reader in readers}
            self._forget_other_readers()
            # above every cursor too, or an endpoint would take the new segment for one that it is past
            self._last = max([0, *self._segments, *(cursor.segment for cursor in self._cursors.values())])
            self._delete_sent()
        except OSError as error:
            raise _storage_error("open the remote-write queue in", directory, error) from error

    def close(self) -> None:
        """Let waiting readers go and close the files; what waits stays for the next start."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._close_segment()
            for cursor in self._cursors.values():
                os.close(cursor.fd)
            self._changed.notify_all()

    # -- figures ------------------------------------------------------------------------------------------------------

    @property
    def bytes_on_disk(self) -> int:
        with self._changed:
            return self._bytes()

    def pending(self, reader: str) -> int:
        """Series that the endpoint has yet to be sent: samples, exemplars and histograms together."""
        with self._changed:
            cursor = self._cursors[reader]
            here = cursor.count if cursor.segment in self._segments else 0
            return sum(s.count for number, s in self._segments.items() if number >= cursor.segment) - here

    def oldest_ms(self, reader: str) -> int | None:
        """When the oldest request that waits for this endpoint was queued; None when none waits."""
        place = self._next_place(reader)
        if place is None:
            return None
        number, offset, end = place
        try:
            with _opened(segment_path(self.directory, number)) as fd:
                found = find_record(fd, offset, end)
        except FileNotFoundError:  # sent or dropped since
            return None
        return None if found is None else found.queued_ms

    def _bytes(self) -> int:
        return sum(segment.length for segment in self._segments.values())

    # -- writing ------------------------------------------------------------------------------------------------------

    def append(self, record: WriteRecord) -> None:
        """Write one request for all endpoints; on return a killed process no longer loses it.

        Raises  DiskFullError when there is no room though the oldest segment went, StorageError when the device fails;
                then nothing was queued.
        """
        data = encode_record(record)
        with self._changed:
            if self._closed:
                raise StorageError(f"the remote-write queue in {self.directory} is closed")
            try:
                self._make_room(len(data))
                segment = self._segment_for(len(data))
                self._write(data, segment.length)
            except OSError as error:
                raise _storage_error("write the remote-write queue in", self.directory, error) from error
            segment.length += len(data)
            segment.count += record.count
            self._account(len(data))
            self._changed.notify_all()

    def _make_room(self, wanted: int) -> None:
        while self._segments and self._bytes() + wanted > self._bytes_max:
            self._drop_oldest()
        try:
            self._check_room(wanted)
        except DiskFullError:
            if not self._segments:
                raise
            self._drop_oldest()  # one for each append: emptying the queue would not help a disk that others fill
            self._check_room(wanted)

    def _segment_for(self, wanted: int) -> _Segment:
        """The segment to write to: the last one, or a new one when that is full, gone or not ours."""
        last = self._segments.get(self._last)
        if self._fd is not None and last is not None and last.length + wanted <= self._segment_bytes_max:
            return last
        self._close_segment()
        path = segment_path(self.directory, self._last + 1)
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640)
        self._last += 1
        self._segments[self._last] = _Segment()
        return self._segments[self._last]

    def _write(self, data: bytes, offset: int) -> None:
        assert self._fd is not None
        written = 0
        try:
            while written < len(data):
                written += os.pwrite(self._fd, memoryview(data)[written:], offset + written)
        except OSError:
            os.ftruncate(self._fd, offset)
            raise

    def _close_segment(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    # -- reading ------------------------------------------------------------------------------------------------------

    def wait(self, reader: str, stopping: Callable[[], bool]) -> None:
        """Return when something waits for this endpoint, when `stopping` says so after a wake(), or when the queue is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or stopping() or self._next_place(reader) is not None)

    def wake(self) -> None:
        """Let every wait() look again."""
        with self._changed:
            self._changed.notify_all()

    def read(self, reader: str) -> Waiting | None:
        """The oldest request that waits for this endpoint, None when none does; the same again until done().

        Raises  StorageError when the device cannot be read.
        """
        while (place := self._next_place(reader)) is not None:
            number, offset, end = place
            try:
                with _opened(segment_path(self.directory, number)) as fd:
                    found = find_record(fd, offset, end)
                    record = read_record(fd, found) if found is not None else None
            except FileNotFoundError:
                self._forget_segment(number)
                continue
            except OSError as error:
                raise _storage_error("read the remote-write queue in", self.directory, error) from error
            if found is None:
                self._pass_over(reader, number, end, 0, "no record in the rest")
                continue
            if found.offset > offset:
                self._pass_over(reader, number, found.offset, 0, "damaged header")
            if record is not None:
                return Waiting(record, number, found.end)
            self._pass_over(reader, number, found.end, found.count, "damaged record")
        return None

    def done(self, reader: str, waiting: Waiting) -> None:
        """The endpoint needs this request no more: it was taken, or refused for good.

        Raises  StorageError when the place cannot be noted; then it holds until the next start, which sends again.
        """
        with self._changed:
            if not self._closed:  # or it is an answer that came after the end: the next start sends the request again
                self._advance(reader, waiting.segment, waiting.end, waiting.record.count)

    def _next_place(self, reader: str) -> tuple[int, int, int] | None:
        """Segment, offset and end of what the endpoint has yet to read; None when there is nothing."""
        with self._changed:
            cursor = self._cursors[reader]
            if self._closed:
                return None
            for number, segment in self._segments.items():
                offset = cursor.offset if number == cursor.segment else 0
                if number >= cursor.segment and offset < segment.length:
                    return number, offset, segment.length
            return None

    def _pass_over(self, reader: str, number: int, end: int, count: int, reason: str) -> None:
        with self._changed:
            self._log.warning(
                "%s in %s before byte %d, going on behind it", reason, segment_path(self.directory, number), end
            )
            self._on_lost(Lost(reader, count, damaged=True))
            if not self._closed:
                self._advance(reader, number, end, count)

    def _advance(self, reader: str, number: int, offset: int, count: int) -> None:
        cursor = self._cursors[reader]
        cursor.count = count + (cursor.count if cursor.segment == number else 0)
        cursor.segment, cursor.offset = number, offset
        try:
            _write_cursor(cursor)
            self._delete_sent()
        except OSError as error:
            raise _storage_error("note what was sent in", self.directory, error) from error

    # -- segments and cursors -----------------------------------------------------------------------------------------

    def _drop_oldest(self) -> None:
        number, segment = next(iter(self._segments.items()))
        for reader, cursor in self._cursors.items():
            if cursor.segment <= number:
                unsent = segment.count - (cursor.count if cursor.segment == number else 0)
                if unsent:
                    self._on_lost(Lost(reader, unsent, damaged=False))
        self._delete(number)

    def _delete_sent(self) -> None:
        for number, segment in list(self._segments.items()):
            for cursor in self._cursors.values():
                at_end = cursor.segment == number and cursor.offset >= segment.length
                if cursor.segment <= number and not at_end:
                    return
            if number == self._last and self._fd is not None and segment.length < RECYCLE_BYTES:
                return
            self._delete(number)

    def _delete(self, number: int) -> None:
        if number == self._last:
            self._close_segment()
        length = self._segments.pop(number).length
        segment_path(self.directory, number).unlink(missing_ok=True)
        self._account(-length)

    def _forget_segment(self, number: int) -> None:
        with self._changed:
            if self._segments.pop(number, None) is not None:
                self._log.warning("%s is gone; what it held is lost", segment_path(self.directory, number))

    def _find_segments(self) -> dict[int, _Segment]:
        """What earlier processes left, oldest first, with the series that can be read of it."""
        numbers = sorted(n for n in map(number_of, os.listdir(self.directory)) if n is not None)
        segments = {}
        for number in numbers:
            segment = segments[number] = _Segment()
            with _opened(segment_path(self.directory, number)) as fd:
                segment.length = os.fstat(fd).st_size
                offset = 0
                while (place := find_record(fd, offset, segment.length)) is not None:
                    segment.count += place.count
                    offset = place.end
        return segments

    def _cursor_path(self, reader: str) -> Path:
        return self.directory / f"{quote(reader, safe='')}{_CURSOR_SUFFIX}"

    def _load_cursor(self, reader: str) -> _Cursor:
        path = self._cursor_path(reader)
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o640)
        text = os.pread(fd, 100, 0)
        cursor = _read_cursor(fd, text)
        if cursor is None:
            if text:
                self._log.warning("%s is damaged; sending again all that waits", path)
            cursor = _Cursor(fd)
        segment = self._segments.get(cursor.segment)
        if segment is not None and cursor.offset > segment.length:  # a power cut took the end
            cursor.offset, cursor.count = segment.length, segment.count
        return cursor

    def _forget_other_readers(self) -> None:
        """Endpoints that are configured no more; what only they waited for would stay for ever."""
        known = {self._cursor_path(reader) for reader in self._cursors}
        for path in self.directory.glob(f"*{_CURSOR_SUFFIX}"):
            if path not in known:
                path.unlink()


def _read_cursor(fd: int, text: bytes) -> _Cursor | None:
    """The cursor that `text` says, None when it is not whole."""
    numbers, _, checksum = text.rpartition(b" ")
    if checksum != b"%08x\n" % zlib.crc32(numbers):
        return None
    segment, offset, count = map(int, numbers.split())
    return _Cursor(fd, segment, offset, count)


def _write_cursor(cursor: _Cursor) -> None:
    """In place: always the same length and far less than a sector, so it is written whole, and needs no room on a full disk."""
    numbers = b"%012d %012d %012d" % (cursor.segment, cursor.offset, cursor.count)
    os.pwrite(cursor.fd, b"%s %08x\n" % (numbers, zlib.crc32(numbers)), 0)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A file descriptor for reading, closed at the end of the block."""
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


def _storage_error(action: str, path: Path, error: OSError) -> StorageError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(f"cannot {action} {path}: {error.strerror}; free space on the device")
    return StorageError(f"cannot {action} {path}: {error.strerror}; check the device and the permissions")
