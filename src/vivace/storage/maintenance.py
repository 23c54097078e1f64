"""Upkeep of the store: cuts when they are due, retention by age and bytes, compaction, checking of stored bytes.

Two threads: the cutter, which must never wait for anything long (writers wait for it when the head is full), and the
keeper, which does all the rest one after the other. Both stop within one step.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from vivace.errors import CorruptionError, DiskFullError, StorageError, VivaceError
from vivace.storage.block_reader import Block
from vivace.storage.compaction import CompactionSettings, DamagedInput, choose, compact
from vivace.storage.layout import BlockMeta
from vivace.storage.retention import Retention, doomed_blocks
from vivace.storage.store import Store
from vivace.storage.verify import verify


@dataclass(frozen=True, slots=True)
class UpkeepSettings:
    """How often what is done. `compacts` false leaves blocks as they are; retention by bytes still holds.

    compaction_of  what holds for one tenant instead of `compaction`; None leaves its blocks as they are
    """

    cut_check: timedelta
    cycle: timedelta
    compacts: bool
    compaction: CompactionSettings
    retention: Callable[[], Retention]
    compaction_of: Callable[[str], CompactionSettings | None] | None = None

    def of(self, tenant: str) -> CompactionSettings | None:
        return self.compaction_of(tenant) if self.compaction_of is not None else self.compaction


@dataclass(frozen=True, slots=True)
class UpkeepObservers:
    """What upkeep reports."""

    compacted: Callable[[int, BlockMeta, float], None]
    compaction_failed: Callable[[], None]
    deleted: Callable[[int], None]
    duplicates: Callable[[str, int], None]


VERIFY_BYTES_A_CYCLE = 256 << 20
"""Stored bytes read back for their checksums in one cycle: 10 GiB take 20 minutes at the default of 30 s."""


class Stopping(VivaceError):
    """Raised inside a long step when the service stops."""


class Upkeep:
    """Runs the two threads. `clock` is monotonic seconds."""

    def __init__(
        self,
        store: Store,
        settings: UpkeepSettings,
        observers: UpkeepObservers,
        *,
        clock: Callable[[], float],
        now_unix_nano: Callable[[], int],
        new_id: Callable[[], str],
        log: logging.Logger | None = None,
    ) -> None:
        self._store = store
        self._settings = settings
        self._observers = observers
        self._clock = clock
        self._now_unix_nano = now_unix_nano
        self._new_id = new_id
        self._log = log or logging.getLogger(__name__)
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._cutter, name="vivace-cutter"),
            threading.Thread(target=self._keeper, name="vivace-keeper"),
        ]
        self._verified: dict[str, None] = {}
        self._deleting = threading.Lock()
        self._merging: frozenset[str] = frozenset()

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ask both threads to stop and wait for them."""
        self._stop.set()
        self._store.cut_wanted.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    # -- cutter -----------------------------------------------------------------------------------------------------

    def _cutter(self) -> None:
        pause = self._settings.cut_check.total_seconds()
        while not self._stop.is_set():
            self._store.cut_wanted.wait(pause)
            self._store.cut_wanted.clear()
            if self._stop.is_set():
                return
            all_cut = self.cut_due()
            self._attempt(self.retain)
            if not all_cut:
                self._stop.wait(1.0)  # a full disk: not at once again, but soon, for writers wait

    def cut_due(self) -> bool:
        """Cut every head that is due; False when one could not be written."""
        for tenant in self._store.due():
            try:
                self._store.cut(tenant)
            except (StorageError, OSError, MemoryError) as e:
                self._log.error(
                    "cannot write a block of tenant %s, its spans stay in memory and in the WAL: %s", tenant, e
                )
                return False
            except Exception:
                self._log.exception("a cut of tenant %s failed; its spans stay in memory and in the WAL", tenant)
                return False
        return True

    # -- keeper -----------------------------------------------------------------------------------------------------

    def _keeper(self) -> None:
        while not self._stop.wait(self._settings.cycle.total_seconds()):
            for step in (self.keep_figures, self.retain, self.compact_all, self.verify_some):
                self._attempt(step)

    def _attempt(self, step: Callable[[], object]) -> None:
        try:
            step()
        except Stopping:
            return  # which the loop sees for itself
        except (StorageError, OSError) as e:
            self._log.error("%s: %s", step.__name__, e)
        except Exception:
            self._log.exception("%s failed; the next cycle tries again", step.__name__)

    def keep_figures(self) -> None:
        """Bring the disk figures up to date."""
        self._store.disk.rescan()
        self._store.disk.sample(self._clock())

    def retain(self) -> int:
        """Delete what is too old, and the oldest of what is too much; returns the blocks deleted.

        Both threads call it: the cutter too, so that no merge, however long, lets the disk fill. Blocks that are being
        merged are spared until that is done.
        """
        with self._deleting:
            return self._retain()

    def _retain(self) -> int:
        blocks = {b.meta.id: b for b in self._store.catalog.blocks() if b.meta.id not in self._merging}
        doomed = doomed_blocks(
            [_Stored(b.meta) for b in blocks.values()],
            self._settings.retention(),
            now_unix_nano=self._now_unix_nano(),
            # what waits for its last reader is on the disk still, but need not be deleted once more
            bytes_over_cap=self._store.disk.over_cap_bytes() - self._store.catalog.doomed_bytes,
        )
        for item in doomed:
            block = blocks[item.block.id]
            self._store.catalog.remove([block])
            self._store.disk.add("blocks", -block.meta.data_bytes)
            self._log.info("block %s deleted: %s", block.meta.id, item.reason)
        if doomed:
            self._observers.deleted(len(doomed))
        return len(doomed)

    def compact_all(self) -> int:
        """Merge until nothing is worth merging; returns the merges made."""
        merges = 0
        while self._settings.compacts and any([self._compact_one(t) for t in self._store.catalog.tenants()]):
            merges += 1
        return merges

    def _compact_one(self, tenant: str) -> bool:
        store, settings = self._store, self._settings.of(tenant)
        if settings is None:
            return False
        with self._deleting:
            chosen = choose(
                store.catalog.blocks(tenant),
                settings,
                now_unix_nano=self._now_unix_nano(),
                wal_first=store.wal.first_sequence,
            )
            self._merging = frozenset(b.meta.id for b in chosen)
        try:
            return bool(chosen) and self._merge(tenant, chosen)
        finally:
            self._merging = frozenset()

    def _merge(self, tenant: str, chosen: list[Block]) -> bool:
        """Whether to look for more to merge. Nobody deletes `chosen` meanwhile, and only they are kept on the disk."""
        store, settings = self._store, self._settings.compaction
        size = sum(b.meta.data_bytes for b in chosen)
        started = self._clock()
        try:
            store.disk.check_room(size)
            with store.disk.reserved(size):
                with self._deleting:
                    self._retain()  # near the cap the oldest blocks make room for the output before it is there
                for block in chosen:
                    self._verify(block)
                merged = compact(
                    chosen,
                    directory=store.catalog.directory / tenant,
                    block_id=self._new_id(),
                    memory_bytes=settings.memory_bytes,
                    now_unix_nano=self._now_unix_nano(),
                    check=self._check_stop,
                )
        except DamagedInput as e:
            store.catalog.suspect(e.block, e.error)
            self._observers.compaction_failed()
            return True
        except (DiskFullError, OSError) as e:
            self._log.warning("blocks of tenant %s stay unmerged for now: %s", tenant, e)
            self._observers.compaction_failed()
            return False
        try:
            with store.switching():
                store.catalog.add(merged.directory, merged.meta, replaces=chosen)
        except BaseException:
            store.catalog.discard(merged.directory)
            raise
        store.disk.add("blocks", merged.meta.data_bytes - size)
        self._observers.compacted(len(chosen), merged.meta, self._clock() - started)
        if merged.duplicates:
            self._observers.duplicates(tenant, merged.duplicates)
        self._log.info(
            "block %s merged from %d: %d spans, %d bytes (%d before)",
            merged.meta.id, len(chosen), merged.meta.span_count, merged.meta.data_bytes, size,
        )  # fmt: skip
        return True

    def _verify(self, block: Block) -> None:
        try:
            verify(block.directory, block.meta, self._check_stop)
        except CorruptionError as e:
            raise DamagedInput(block, e) from e

    def verify_some(self) -> int:
        """Read back some blocks not checked since the start, newest first; returns how many were damaged."""
        budget = VERIFY_BYTES_A_CYCLE
        blocks = self._store.catalog.blocks()
        self._verified = {b.meta.id: None for b in blocks if b.meta.id in self._verified}
        damaged = 0
        for tenant in self._store.catalog.tenants():
            with self._store.catalog.pinned(tenant) as pinned:
                for block in pinned:
                    if budget <= 0 or block.meta.id in self._verified:
                        continue
                    budget -= block.meta.data_bytes
                    self._verified[block.meta.id] = None
                    try:
                        self._verify(block)
                    except DamagedInput as e:
                        self._store.catalog.quarantine(block, e.error)
                        damaged += 1
        return damaged

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise Stopping("the service stops")


@dataclass(frozen=True, slots=True)
class _Stored:
    """A block as the retention policy sees it."""

    meta: BlockMeta

    @property
    def id(self) -> str:
        return self.meta.id

    @property
    def tenant(self) -> str:
        return self.meta.tenant

    @property
    def end_time_unix_nano(self) -> int:
        return self.meta.end_time_unix_nano

    @property
    def created_unix_nano(self) -> int:
        return self.meta.created_unix_nano

    @property
    def bytes_on_disk(self) -> int:
        return self.meta.data_bytes
