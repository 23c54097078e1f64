"""How much disk Vivace uses and may use: the cap on its own bytes, the floor of free bytes on the device.

Rule 1  everything under our directories counts, as the blocks that the device gave for it: reserved room, half-written
        files and strangers in the directory too. A file belongs to the kind of the deepest directory that holds it.
Rule 2  writers report what they add and delete, so the figures are right at once; rescan() walks the directories, a
        bounded number of entries a call, and corrects them for what nobody reported.
Rule 3  check_room() refuses at the cap and at the floor. Retention aims a margin below both (over_cap_bytes), so that
        writers are refused only when retention cannot keep up or has nothing left to delete.

All directories are on the device of the root.  What is deleted: retention.py.  Full disk while writing: wal.py.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from vivace.errors import DiskFullError, StorageError

Kind = Literal["wal", "blocks", "quarantine", "generator", "other"]
KINDS: tuple[Kind, ...] = get_args(Kind)

RETENTION_MARGIN = 0.05  # at 100 MB/s a cap of 100 GB leaves retention 50 s to act
SAMPLE_SECONDS_MIN = 30.0
SAMPLES_MAX = 120  # one hour of samples
GROWTH_SECONDS_MIN = 300.0  # a shorter look at the growth would take one cut or compaction for a trend
_BLOCK_BYTES = 512  # the unit of st_blocks on Linux, whatever the file system's


@dataclass(frozen=True, slots=True)
class DiskFigures:
    """One consistent look, for telemetry; bytes."""

    used_by_kind: Mapping[Kind, int]
    used_bytes: int
    total_bytes: int
    free_bytes: int
    cap_bytes: int
    floor_bytes: int
    over_cap_bytes: int
    below_floor: bool
    time_to_full_seconds: float | None
    unreadable_directories: int  # in the last complete walk; what they hold is not counted


@dataclass(frozen=True, slots=True)
class _Sample:
    seconds: float
    used_bytes: int
    free_bytes: int


class DiskBudget:
    """Keeps the figures; thread-safe. Nothing is known of earlier runs until the first complete rescan()."""

    def __init__(
        self,
        root: Path,
        directories: Mapping[Kind, Path],
        *,
        cap: int | float,
        floor: int | float,
        statvfs: Callable[[Path], os.statvfs_result] = os.statvfs,
        log: logging.Logger | None = None,
    ) -> None:
        """Everything below `root` and `directories` counts; what lies in none of `directories` is "other".

        cap, floor  an int is bytes, a float the fraction of the device's size. More cap keeps traces longer; more floor
                    leaves more to the other users of the device.
        """
        self._root = Path(os.path.realpath(root))
        self._kind_of: dict[str, Kind] = {os.path.realpath(path): kind for kind, path in directories.items()}
        self._kind_of.setdefault(str(self._root), "other")
        self._cap = cap
        self._floor = floor
        self._statvfs = statvfs
        self._log = logging.getLogger(__name__) if log is None else log
        self._mutex = threading.Lock()
        self._used: dict[Kind, int] = dict.fromkeys(KINDS, 0)
        self._reserved = 0
        self._added_since_walk: dict[Kind, int] = dict.fromkeys(KINDS, 0)
        self._walk: Iterator[int] | None = None
        self._walk_mutex = threading.Lock()
        self._unreadable = 0
        self._samples: deque[_Sample] = deque(maxlen=SAMPLES_MAX)

    # -- usage --------------------------------------------------------------------------------------------------------

    def add(self, kind: Kind, byte_count: int) -> None:
        """Report bytes written, or deleted as a negative count."""
        with self._mutex:
            self._used[kind] += byte_count
            self._added_since_walk[kind] += byte_count

    def used_bytes(self) -> int:
        with self._mutex:
            return sum(self._used.values())

    @contextmanager
    def reserved(self, byte_count: int) -> Iterator[None]:
        """Count bytes that are about to be written as used by what check_room() and over_cap_bytes() go by.

        For files that grow unseen for a while: a merge holds its output beside its inputs until it is done.
        """
        with self._mutex:
            self._reserved += byte_count
        try:
            yield
        finally:
            with self._mutex:
                self._reserved -= byte_count

    def _committed_bytes(self) -> int:
        """What is used, and what is promised."""
        with self._mutex:
            return sum(self._used.values()) + self._reserved

    def rescan(self, entries_max: int | None = None) -> bool:
        """Walk on for `entries_max` directory entries; None: to the end. True when a walk over everything ended.

        Cost    one stat an entry, about 2 us; memory of one path per open directory level.
        Raises  StorageError when the device cannot be read. Files that vanish meanwhile are taken for deleted.
        """
        with self._walk_mutex:
            if self._walk is None:
                self._walk = self._walk_all()
            seen = 0
            try:
                for entries in self._walk:
                    seen += entries
                    if entries_max is not None and seen >= entries_max:
                        return False
            except BaseException:
                self._walk = None
                raise
            self._walk = None
            return True

    def _walk_all(self) -> Iterator[int]:
        """Walk kind by kind, yielding the entries done; a kind's figure changes when its walk ends."""
        unreadable = 0
        for kind in KINDS:
            with self._mutex:
                self._added_since_walk[kind] = 0
            found = 0
            pending = [path for path, its_kind in self._kind_of.items() if its_kind == kind]
            while pending:
                directory = pending.pop()
                try:
                    with os.scandir(directory) as entries:
                        for entry in entries:
                            is_directory = entry.is_dir(follow_symlinks=False)
                            if is_directory and entry.path in self._kind_of:
                                continue  # walked, and counted, as what it is
                            if is_directory:
                                pending.append(entry.path)
                            found += _bytes_of(entry)
                            yield 1
                except (FileNotFoundError, NotADirectoryError):
                    continue
                except PermissionError as error:
                    unreadable += 1  # lost+found of a mounted volume, for example
                    self._log.debug("not counted: %s", error)
                except OSError as error:
                    raise StorageError(f"cannot list {directory}: {error.strerror}; check the device") from error
            with self._mutex:
                # What was reported during this walk may be counted twice until the next one: too much, not too little.
                self._used[kind] = max(0, found + self._added_since_walk[kind])
        with self._mutex:
            self._unreadable = unreadable

    # -- room ---------------------------------------------------------------------------------------------------------

    def free_bytes(self) -> int:
        """What this process may still write to the device, the reserve for root excluded."""
        return self._device()[1]

    def cap_bytes(self) -> int:
        return _resolve(self._cap, self._device()[0])

    def floor_bytes(self) -> int:
        return _resolve(self._floor, self._device()[0])

    def over_cap_bytes(self) -> int:
        """What retention should delete, so that usage is the margin below what we may hold; 0 when it is.

        We may hold the cap, or less where the floor leaves less. So a stranger who fills the device costs us our
        oldest blocks before it costs us new spans.
        """
        total, free = self._device()
        return self._over_cap(self._committed_bytes(), total, free)

    def below_floor(self) -> bool:
        total, free = self._device()
        return free < _resolve(self._floor, total)

    def check_room(self, bytes_wanted: int) -> None:
        """Return when `bytes_wanted` more keep both limits. One system call; nothing is reserved by it.

        Raises  DiskFullError, retryable, with the limit and the cure.
        """
        total, free = self._device()
        cap, floor = _resolve(self._cap, total), _resolve(self._floor, total)
        used = self._committed_bytes()
        if used + bytes_wanted > cap:
            raise DiskFullError(
                f"no room for {_text(bytes_wanted)} in {self._root}: {_text(used)} of the cap of {_text(cap)} are used; "
                "raise the disk cap or lower the retention"
            )
        if free - bytes_wanted < floor:
            raise DiskFullError(
                f"no room for {_text(bytes_wanted)} in {self._root}: the device has {_text(free)} free and "
                f"{_text(floor)} are to stay free; free space on it, or lower the disk cap or the free-space floor"
            )

    # -- forecast -----------------------------------------------------------------------------------------------------

    def sample(self, now_seconds: float) -> None:
        """Remember the figures for the forecast; call as often as you like, on a monotonic clock."""
        sample = _Sample(now_seconds, self.used_bytes(), self.free_bytes())
        with self._mutex:
            if not self._samples or now_seconds - self._samples[-1].seconds >= SAMPLE_SECONDS_MIN:
                self._samples.append(sample)

    def time_to_full_seconds(self, now_seconds: float) -> float | None:
        """When check_room() will begin to refuse if the last hour's growth goes on; None when it does not grow.

        Linear, between the oldest sample of the hour and now: our usage against the cap, and the device's free bytes,
        which others use up too, against the floor. None as well for the first GROWTH_SECONDS_MIN after the start.
        """
        hour_ago = now_seconds - SAMPLE_SECONDS_MIN * SAMPLES_MAX
        with self._mutex:
            oldest = next((sample for sample in self._samples if sample.seconds >= hour_ago), None)
        if oldest is None or now_seconds - oldest.seconds < GROWTH_SECONDS_MIN:
            return None
        total, free = self._device()
        used = self.used_bytes()
        elapsed = now_seconds - oldest.seconds
        limits = (
            (used - oldest.used_bytes, _resolve(self._cap, total) - used),
            (oldest.free_bytes - free, free - _resolve(self._floor, total)),
        )
        forecasts = [max(0, room) * elapsed / growth for growth, room in limits if growth > 0]
        return min(forecasts, default=None)

    def figures(self, now_seconds: float) -> DiskFigures:
        total, free = self._device()
        with self._mutex:
            used_by_kind = dict(self._used)
            unreadable = self._unreadable
        used = sum(used_by_kind.values())
        floor = _resolve(self._floor, total)
        return DiskFigures(
            used_by_kind=used_by_kind,
            used_bytes=used,
            total_bytes=total,
            free_bytes=free,
            cap_bytes=_resolve(self._cap, total),
            floor_bytes=floor,
            over_cap_bytes=self._over_cap(used, total, free),
            below_floor=free < floor,
            time_to_full_seconds=self.time_to_full_seconds(now_seconds),
            unreadable_directories=unreadable,
        )

    def _over_cap(self, used: int, total: int, free: int) -> int:
        holdable = min(_resolve(self._cap, total), used + free - _resolve(self._floor, total))
        return max(0, used - int(max(0, holdable) * (1 - RETENTION_MARGIN)))

    def _device(self) -> tuple[int, int]:
        """Size of the device and what is free of it."""
        try:
            answer = self._statvfs(self._root)
        except OSError as error:
            raise StorageError(f"cannot ask for the free space of {self._root}: {error.strerror}") from error
        return answer.f_blocks * answer.f_frsize, answer.f_bavail * answer.f_frsize


def _bytes_of(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_blocks * _BLOCK_BYTES
    except FileNotFoundError:
        return 0  # deleted since it was listed


def _resolve(limit: int | float, total_bytes: int) -> int:
    return limit if isinstance(limit, int) else int(limit * total_bytes)


def _text(byte_count: int) -> str:
    if byte_count < 10_000:
        return f"{byte_count} bytes"
    if byte_count < 10_000_000_000:
        return f"{byte_count / 1e6:.1f} MB"
    return f"{byte_count / 1e9:.1f} GB"
