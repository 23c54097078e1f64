"""Write-ahead log: the raw bytes of a request are durable here before its OTLP response leaves.

Rule 1  append() returns only when the whole group is durable; when it raises, nothing of the group counts, now or
        after a restart, and the next append works again as soon as the device does.
Rule 2  sequences only grow. A file name carries one, so the count survives damage, truncation and an empty log.
Rule 3  replay() comes first, once, and never raises for damaged content: it cuts torn tails, sets broken bytes
        aside in `damaged/` and goes on with the next record. All of that is logged and counted in `report`.
Rule 4  every start opens a new segment: files of an earlier process are read and deleted, never written again.
Rule 5  truncation deletes files and needs no free space first, so it works on a full disk.

One segment: wal_segment.py reads, wal_writer.py writes, docs/formats/wal.md has the bytes.  What a record means: ingest/decode.py.
Who truncates: the service, once blocks hold the spans.  Linux only: flock, fdatasync, posix_fallocate.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, assert_never

from vivace.errors import DiskFullError, InvariantError, StorageError
from vivace.storage.wal_segment import (
    SEGMENT_HEADER,
    TEMPORARY_SUFFIX,
    Broken,
    Tail,
    WalRecord,
    check_format_version,
    encode_group,
    read_segment,
    segment_path,
    sequence_of,
)
from vivace.storage.wal_writer import FileOps, SegmentWriter, SystemFileOps, storage_error, sync_directory

__all__ = ["ReplayReport", "Wal", "WalRecord"]

SEGMENT_BYTES_MAX = 64 << 20  # a restart replays whole segments; smaller ones cost a directory sync more often
DAMAGED_BYTES_MAX = 64 << 20  # enough to study a failure; a dying device must not fill itself with evidence
DAMAGED_FILES_MAX = 1000  # keeps the directory listable
_COPY_BYTES = 1 << 20
_LOCK_NAME = "lock"
_DAMAGED_NAME = "damaged"


@dataclass(slots=True)
class ReplayReport:
    """What replay() met; grows while it runs."""

    records: int = 0
    bytes: int = 0  # of the bodies replayed
    torn_tails: int = 0  # appends that never returned success
    torn_bytes: int = 0
    broken_records: int = 0  # damaged regions: each hides one record or more, or a segment header
    broken_bytes: int = 0
    missing_sequences: int = 0  # acknowledged once, not replayed
    set_aside: list[Path] = field(default_factory=list)  # at most DAMAGED_FILES_MAX


@dataclass(slots=True)
class _Segment:
    first_sequence: int
    path: Path
    bytes_on_disk: int


def _no_observer(seconds: float) -> None:
    """For callers that do not watch sync times."""


class Wal:
    """The log in one directory. Thread-safe; append() and truncate_before() block on the device."""

    def __init__(
        self,
        directory: Path,
        *,
        segment_bytes_max: int = SEGMENT_BYTES_MAX,
        sync: bool = True,
        sequence_min: int = 0,
        on_fsync: Callable[[float], None] = _no_observer,
        files: FileOps | None = None,
        clock: Callable[[], float] = time.perf_counter,
        log: logging.Logger | None = None,
    ) -> None:
        """Lock the directory and list its segments; replay() reads them.

        segment_bytes_max  a segment is larger only when a single group is: groups are never split.
        sync               False trades the durability of rule 1 for speed: then only kill -9 is survived.
        sequence_min       no sequence below this is given out: pass the highest that blocks claim to hold, or a log
                           that was emptied by hand would repeat sequences that are taken for stored.
        on_fsync           called with the seconds of each group's sync.
        Raises  StorageError when the directory cannot be used, belongs to a running process, or is of a later format.
        """
        self.directory = directory
        self.report = ReplayReport()
        self._segment_bytes_max = segment_bytes_max
        self._sync = sync
        self._on_fsync = on_fsync
        self._files: FileOps = SystemFileOps() if files is None else files
        self._clock = clock
        self._log = logging.getLogger(__name__) if log is None else log
        self._mutex = threading.Lock()
        self._writer: SegmentWriter | None = None  # writes the last of self._segments
        self._replayed = False
        self._lock_fd: int | None = None  # None: closed
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._lock_fd = _lock(directory)
            self._segments = self._list_segments()
        except OSError as error:
            self.close()
            raise storage_error("open the write-ahead log in", directory, error) from error
        except StorageError:
            self.close()
            raise
        last_known = self._segments[-1].first_sequence if self._segments else 0
        self._next_sequence = max(last_known, sequence_min)

    @property
    def first_sequence(self) -> int:
        """The smallest sequence that is still stored; next_sequence when none is."""
        with self._mutex:
            return self._segments[0].first_sequence if self._segments else self._next_sequence

    @property
    def next_sequence(self) -> int:
        """What the next record gets; a lower bound until replay() has ended."""
        return self._next_sequence

    @property
    def bytes_on_disk(self) -> int:
        """Of all segments, reserved room included; `damaged/` is not."""
        with self._mutex:
            closed = sum(segment.bytes_on_disk for segment in self._segments)
            return closed + (self._writer.bytes_on_disk if self._writer else 0)

    # -- replay -------------------------------------------------------------------------------------------------------

    def replay(self) -> Iterator[WalRecord]:
        """Every stored record in sequence order. Exhaust it before the first append; abandoned, it may be restarted.

        Bound   one record in memory at a time.
        Raises  StorageError when the device cannot be read; InvariantError when called again.
        """
        if self._replayed:
            raise InvariantError("the write-ahead log was replayed before: replay() runs once, before append()")
        self.report = ReplayReport()
        expected = self._segments[0].first_sequence if self._segments else self._next_sequence
        for position, segment in enumerate(self._segments):
            is_last = position == len(self._segments) - 1
            sequence_end = None if is_last else self._segments[position + 1].first_sequence
            pieces = read_segment(segment.path, segment.first_sequence, sequence_end)
            try:
                for piece in pieces:
                    match piece:
                        case WalRecord():
                            self._count_missing(segment, expected, piece.sequence)
                            expected = piece.sequence + 1
                            self.report.records += 1
                            self.report.bytes += len(piece.body)
                            yield piece
                        case Broken():
                            self._set_aside(segment, piece)
                        case Tail():
                            self._cut(segment, piece)
                        case _:
                            assert_never(piece)
            except OSError as error:
                raise storage_error("read", segment.path, error) from error
            if sequence_end is not None:
                self._count_missing(segment, expected, sequence_end)
                expected = sequence_end
        self._next_sequence = max(expected, self._next_sequence)
        self._replayed = True

    def _count_missing(self, segment: _Segment, expected: int, found: int) -> None:
        if found > expected:
            self.report.missing_sequences += found - expected
            self._log.error("%s lacks the records %d to %d", segment.path, expected, found - 1)

    def _cut(self, segment: _Segment, tail: Tail) -> None:
        if tail.torn:
            self.report.torn_tails += 1
            self.report.torn_bytes += tail.length
            self._log.warning(
                "cutting a torn tail of %d bytes off %s at byte %d", tail.length, segment.path, tail.offset
            )
        try:
            os.truncate(segment.path, tail.offset)
        except OSError as error:
            # It stays void: the next segment begins with the sequence at which this one was found to end.
            self._log.warning("cannot cut %s to %d bytes: %s", segment.path, tail.offset, error)
            return
        segment.bytes_on_disk = tail.offset

    def _set_aside(self, segment: _Segment, broken: Broken) -> None:
        """Keep a copy of damaged bytes as far as there is room for it; count and log them in any case."""
        self.report.broken_records += 1
        self.report.broken_bytes += broken.length
        copy = self.directory / _DAMAGED_NAME / f"{segment.path.stem}-{broken.offset}.bin"
        place = f"{segment.path} is damaged at byte {broken.offset}, {broken.length} bytes: {broken.reason}"
        try:
            copy.parent.mkdir(exist_ok=True)
            if not copy.exists():  # it does when the segment was replayed before
                others = [path.stat().st_size for path in copy.parent.iterdir()]
                room = DAMAGED_BYTES_MAX - sum(others)
                if room <= 0 or len(others) >= DAMAGED_FILES_MAX:
                    self._log.error("%s; not set aside, %s is full", place, copy.parent)
                    return
                _copy_range(segment.path, broken.offset, min(broken.length, room), copy)
        except OSError as error:
            self._log.error("%s; cannot set it aside in %s: %s", place, copy, error)
            return
        self.report.set_aside.append(copy)
        self._log.error("%s; set aside in %s", place, copy)

    # -- append -------------------------------------------------------------------------------------------------------

    def append(self, records: Sequence[tuple[str, bytes]]) -> range:
        """Make a group of (tenant, body) durable with one write and one sync; returns their sequences.

        Raises  DiskFullError when the device or the quota is full, StorageError when the device fails: nothing of the
                group is kept. InvariantError before the end of replay() and after close().
        """
        with self._mutex:
            self._require_open_and_replayed()
            first_sequence = self._next_sequence
            if not records:
                return range(first_sequence, first_sequence)
            buffers, byte_count = encode_group(records, first_sequence)
            writer = self._writer_for(byte_count)
            try:
                sync_seconds = writer.append(buffers, byte_count)
            except BaseException as error:
                if writer.sealed:
                    self._leave_sealed()
                if isinstance(error, OSError):
                    raise storage_error("append to", writer.path, error) from error
                raise
            self._next_sequence += len(records)
        if self._sync:
            self._on_fsync(sync_seconds)
        return range(first_sequence, first_sequence + len(records))

    def rotate(self) -> None:
        """Begin a new segment, so that all records so far can be deleted as soon as blocks hold them.

        Does nothing while the open segment has no record. A full disk is no error: rotation is only thrift.
        """
        with self._mutex:
            self._require_open_and_replayed()
            if self._writer is not None and self._writer.length > SEGMENT_HEADER.size:
                try:
                    self._start_segment()
                except DiskFullError as error:
                    self._log.warning("going on in the last segment: %s", error)

    def _writer_for(self, byte_count: int) -> SegmentWriter:
        writer = self._writer
        if writer is None or writer.sealed:
            return self._start_segment()
        has_records = writer.length > SEGMENT_HEADER.size
        if has_records and writer.length + byte_count > self._segment_bytes_max:
            return self._start_segment()
        return writer

    def _start_segment(self) -> SegmentWriter:
        """Begin a segment at next_sequence; whatever an older one holds from there on is void."""
        path = segment_path(self.directory, self._next_sequence)
        try:
            writer = SegmentWriter(
                path, self._next_sequence, files=self._files, sync=self._sync, clock=self._clock, log=self._log
            )
        except OSError as error:
            raise storage_error("create", path, error) from error
        self._close_writer()
        if self._segments and self._segments[-1].path == path:
            self._segments.pop()  # it held no record that counts, and its file was replaced just now
        self._segments.append(_Segment(self._next_sequence, path, bytes_on_disk=0))
        self._writer = writer
        return writer

    def _leave_sealed(self) -> None:
        """Start the successor at once, because only its name tells a replay that the refused group is void."""
        try:
            self._start_segment()
        except StorageError as error:
            self._log.warning("no new segment yet, the next append tries again: %s", error)

    def _close_writer(self) -> None:
        if self._writer is None:
            return
        try:
            self._writer.close()
        except OSError as error:
            self._log.warning("cannot give back the reserved room of %s: %s", self._writer.path, error)
        self._segments[-1].bytes_on_disk = self._writer.bytes_on_disk
        self._writer = None

    # -- truncate and close -------------------------------------------------------------------------------------------

    def truncate_before(self, sequence: int) -> int:
        """Delete the segments all of whose records are older than `sequence`; returns the bytes freed.

        The last segment goes too when nothing newer is in it: an empty one then keeps the count. Where there is no
        room even for that, it stays until the next call.
        Raises  StorageError when a file cannot be deleted; InvariantError before the end of replay().
        """
        with self._mutex:
            self._require_open_and_replayed()
            freed = self._delete_covered(sequence)
            last_is_covered = bool(self._segments) and self._next_sequence <= sequence
            if last_is_covered and self._segments[-1].first_sequence < self._next_sequence:
                try:
                    self._start_segment()
                except DiskFullError as error:
                    self._log.warning("keeping the last segment for now: %s", error)
                    return freed
                freed += self._delete_covered(sequence)
            return freed

    def _delete_covered(self, sequence: int) -> int:
        freed = 0
        while len(self._segments) > 1 and self._segments[1].first_sequence <= sequence:
            oldest = self._segments[0]
            try:
                oldest.path.unlink(missing_ok=True)
            except OSError as error:
                raise storage_error("delete", oldest.path, error) from error
            freed += oldest.bytes_on_disk
            del self._segments[0]
        if freed and self._sync:
            try:
                sync_directory(self.directory)
            except OSError as error:
                raise storage_error("sync", self.directory, error) from error
        return freed

    def close(self) -> None:
        """Release the files and the directory; idempotent. What append() returned for is durable already."""
        with self._mutex:
            self._close_writer()
            if self._lock_fd is not None:
                os.close(self._lock_fd)
                self._lock_fd = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _require_open_and_replayed(self) -> None:
        if self._lock_fd is None:
            raise InvariantError(f"the write-ahead log in {self.directory} is closed")
        if not self._replayed:
            raise InvariantError(f"the write-ahead log in {self.directory} was not replayed to its end before its use")

    def _list_segments(self) -> list[_Segment]:
        """Our segments in order; unfinished ones are deleted, foreign files are left alone and named in the log."""
        segments = []
        with os.scandir(self.directory) as entries:
            for entry in entries:
                path = Path(entry.path)
                first_sequence = sequence_of(path.name)
                if first_sequence is not None and entry.is_file(follow_symlinks=False):
                    check_format_version(path)
                    segments.append(_Segment(first_sequence, path, entry.stat().st_size))
                elif path.suffix == TEMPORARY_SUFFIX and sequence_of(path.with_suffix(".wal").name) is not None:
                    path.unlink()
                elif path.name not in (_LOCK_NAME, _DAMAGED_NAME):
                    self._log.warning("%s is not a WAL segment; left alone, better moved elsewhere", path)
        return sorted(segments, key=lambda segment: segment.first_sequence)


def _lock(directory: Path) -> int:
    """Hold the directory for this process until the descriptor is closed.

    Raises  StorageError when another process holds it, OSError when locking fails.
    """
    path = directory / _LOCK_NAME
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o640)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = os.pread(fd, 20, 0).decode(errors="replace") or "unknown"
        os.close(fd)
        raise StorageError(
            f"the write-ahead log {directory} is in use by process {owner}, which holds {path}: "
            "stop that process or configure another WAL path"
        ) from error
    except OSError:
        os.close(fd)
        raise
    try:
        os.truncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
    except OSError:
        pass  # the pid only makes the message above kinder; a full disk must not keep us from starting
    return fd


def _copy_range(source: Path, offset: int, length: int, target: Path) -> None:
    """Copy `length` bytes; `target` appears only when they are all there."""
    partial = target.with_suffix(".partial")
    try:
        with source.open("rb") as reader, partial.open("wb") as writer:
            reader.seek(offset)
            left = length
            while left > 0 and (data := reader.read(min(left, _COPY_BYTES))):
                writer.write(data)
                left -= len(data)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
