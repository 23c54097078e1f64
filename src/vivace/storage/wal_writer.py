"""Adding groups of records to one WAL segment, so that a failed group leaves nothing behind.

Rule 1  append() is one vectored write and one sync; the length grows only after both.
Rule 2  a failed group is cut off again, durably. Where that fails too, or where a sync failed, the segment is sealed:
        after a failed sync nobody knows which of its cached pages reached the device, and a second sync may lie.
Rule 3  room is reserved ahead in steps of RESERVE_BYTES; it reads as zeros, which mean the end.

Which segment is written and what follows a sealed one: wal.py.  Bytes: wal_segment.py.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from vivace.errors import DiskFullError, StorageError
from vivace.storage.wal_segment import SEGMENT_HEADER, TEMPORARY_SUFFIX, encode_segment_header

# Medians of 7 pairs on ext4 (bench/wal.py with and without --no-reserve): groups of 1, 4 and 16 x 5 KB take 53, 95 and
# 192 us of CPU with reserved room against 61, 106 and 218 us; for larger groups it makes no difference, and neither
# does a larger step, which only wastes more of a small disk.
RESERVE_BYTES = 1 << 20
_IOV_MAX = os.sysconf("SC_IOV_MAX")


class FileOps(Protocol):
    """The system calls that can fail half-way, as a seam for fault tests. All raise OSError."""

    def write(self, fd: int, buffers: Sequence[bytes | memoryview], offset: int) -> int:
        """Write at `offset`; may write less than all and then says how much."""
        ...

    def reserve(self, fd: int, offset: int, length: int) -> None:
        """Allocate room that reads as zeros; the file grows to at least offset + length."""
        ...

    def sync(self, fd: int) -> None:
        """Return when data and length are durable."""
        ...

    def truncate(self, fd: int, length: int) -> None: ...


class SystemFileOps:
    """The real ones. fdatasync: times are not needed to read the file back, its length is and is included."""

    def write(self, fd: int, buffers: Sequence[bytes | memoryview], offset: int) -> int:
        return os.pwritev(fd, buffers, offset)

    def reserve(self, fd: int, offset: int, length: int) -> None:
        os.posix_fallocate(fd, offset, length)

    def sync(self, fd: int) -> None:
        os.fdatasync(fd)

    def truncate(self, fd: int, length: int) -> None:
        os.ftruncate(fd, length)


class SegmentWriter:
    """Adds groups to one segment. A group that failed is taken back; if that fails too, `sealed` becomes True.

    A sealed segment takes no more: after a failed sync nobody knows which of its cached pages reached the device.
    Single-threaded; wal.py holds the lock.
    """

    def __init__(
        self,
        path: Path,
        first_sequence: int,
        *,
        files: FileOps,
        sync: bool,
        clock: Callable[[], float],
        log: logging.Logger,
    ) -> None:
        """Create the segment, durably, by rename: a segment without a whole header never bears its name.

        Replaces a file of the same name, which by rule 1 has no record that counts.
        Raises  OSError; then at most an empty segment is left, which the next attempt replaces.
        """
        self.path = path
        self.length = SEGMENT_HEADER.size  # up to here everything is durable and acknowledged
        self.sealed = False
        self._reserved = SEGMENT_HEADER.size
        self._files = files
        self._sync = sync
        self._clock = clock
        self._log = log
        temporary = path.with_suffix(TEMPORARY_SUFFIX)
        self._fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o640)
        try:
            _write_all(files, self._fd, [encode_segment_header(first_sequence)], 0)
            if sync:
                files.sync(self._fd)
            temporary.replace(path)
            if sync:
                sync_directory(path.parent)
        except BaseException:
            os.close(self._fd)
            temporary.unlink(missing_ok=True)
            raise

    @property
    def bytes_on_disk(self) -> int:
        """Length with the reserved room."""
        return max(self.length, self._reserved)

    def append(self, buffers: Sequence[bytes], byte_count: int) -> float:
        """Make the group durable; returns the seconds that the sync took, 0.0 without sync.

        Raises  OSError, and then nothing of the group counts.
        """
        try:
            self._reserve(byte_count)
            _write_all(self._files, self._fd, buffers, self.length)
        except BaseException:
            self._take_back()
            raise
        try:
            sync_seconds = self._sync_timed()
        except BaseException:
            self._take_back()
            self.sealed = True
            raise
        self.length += byte_count
        return sync_seconds

    def close(self) -> None:
        """Cut to the last good length and close: reserved room goes back, and so does a refused group still there.

        No sync: reserved room reads as the end anyway.
        """
        try:
            self._files.truncate(self._fd, self.length)
            self._reserved = self.length
        finally:
            os.close(self._fd)

    def _sync_timed(self) -> float:
        if not self._sync:
            return 0.0
        started = self._clock()
        self._files.sync(self._fd)
        return self._clock() - started

    def _reserve(self, byte_count: int) -> None:
        """Best effort: where room cannot be reserved, the write itself says whether there is any."""
        missing = self.length + byte_count - self._reserved
        if missing <= 0:
            return
        step = -(-missing // RESERVE_BYTES) * RESERVE_BYTES
        try:
            self._files.reserve(self._fd, self._reserved, step)
        except OSError as error:
            self._log.debug("cannot reserve %d bytes in %s: %s", step, self.path, error)
            return
        self._reserved += step

    def _take_back(self) -> None:
        """Cut to the last good length, durably, so that no replay finds a group whose append raised."""
        try:
            self._files.truncate(self._fd, self.length)
            self._reserved = self.length
            if self._sync:
                self._files.sync(self._fd)
        except OSError as error:
            self.sealed = True
            self._log.warning("cannot cut %s back to %d bytes, sealing it: %s", self.path, self.length, error)


def sync_directory(directory: Path) -> None:
    """Make created, renamed and deleted names in `directory` durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def storage_error(action: str, path: Path, error: OSError) -> StorageError:
    """Our error for a failed system call: DiskFullError for no space or quota, StorageError for the rest."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(
            f"cannot {action} {path}: {error.strerror}; free space on the device, "
            "or lower the retention or the disk cap so that old blocks go earlier"
        )
    return StorageError(f"cannot {action} {path}: {error.strerror}; check the device and the permissions")


def _write_all(files: FileOps, fd: int, buffers: Sequence[bytes], offset: int) -> None:
    for start in range(0, len(buffers), _IOV_MAX):
        batch = buffers[start : start + _IOV_MAX]
        wanted = sum(map(len, batch))
        written = files.write(fd, batch, offset)
        if written < wanted:  # rare: a nearly full disk or more than 2 GiB; worth no cleverness
            rest = memoryview(b"".join(batch))
            while written < wanted:
                count = files.write(fd, [rest[written:]], offset + written)
                if count == 0:
                    raise OSError(errno.EIO, "device took no bytes")
                written += count
        offset += wanted
