"""The block catalog: which blocks there are, who reads them, and what happened to the bad ones.

Rule 1  a block is listed when its rename is durable, and from then on complete.
Rule 2  a reader pins the blocks of its snapshot; a deleted block leaves the list at once, its files when the last pin
        goes. A crash in between is finished at the next start (`.deleted`, `.tmp`).
Rule 3  a damaged block is moved to `.quarantine/` with a report in the log, never deleted, never fatal. Damaged is one
        whose bytes differ from its checksums; where only the reading failed (no memory, no rights), it stays.
Rule 4  directories that are not ours (another server's blocks) are left alone and said once.

A merged block names the blocks it replaces: a start after a crash between the rename and their deletion drops them.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from vivace.errors import CorruptionError, StorageError
from vivace.storage import layout
from vivace.storage.block_reader import Block
from vivace.storage.block_writer import fsync_path
from vivace.storage.layout import BlockMeta, read_meta
from vivace.storage.verify import verify, verify_file

QUARANTINE = ".quarantine"
DELETED, TEMPORARY = ".deleted", ".tmp"


class Catalog:
    """Blocks of all tenants below one directory. Thread-safe."""

    def __init__(
        self,
        directory: Path,
        *,
        on_quarantine: Callable[[], None],
        on_gone: Callable[[str], None] = lambda block_id: None,
        log: logging.Logger | None = None,
    ) -> None:
        """on_gone: called with the id of a block that nobody will read again."""
        self.directory = directory
        self._on_quarantine = on_quarantine
        self._on_gone = on_gone
        self._log = log or logging.getLogger(__name__)
        self._lock = threading.Lock()
        self._blocks: dict[str, dict[str, Block]] = {}
        self._pins: dict[str, int] = {}
        self._doomed: dict[str, Block] = {}

    def open(self) -> None:
        """Read what is there. Raises OSError only when the directory itself cannot be made or listed."""
        self.directory.mkdir(parents=True, exist_ok=True)
        foreign = 0
        for tenant_directory in sorted(p for p in self.directory.iterdir() if p.is_dir() and p.name != QUARANTINE):
            foreign += self._open_tenant(tenant_directory)
        if foreign:
            self._log.warning(
                "%d directories below %s are not Vivace blocks (Tempo's, perhaps): left alone, not searched, "
                "counted as disk use; delete them when they are no longer wanted",
                foreign,
                self.directory,
            )
        self._drop_replaced()

    def _open_tenant(self, tenant_directory: Path) -> int:
        """Open the blocks of one tenant; returns how many directories there are not ours."""
        try:
            paths = sorted(p for p in tenant_directory.iterdir() if p.is_dir())
        except OSError as e:  # lost+found of a mounted volume, for example
            self._log.warning("%s is left alone: %s", tenant_directory, e)
            return 0
        foreign = 0
        for path in paths:
            try:
                if path.suffix in (DELETED, TEMPORARY) and _is_remnant(path):
                    shutil.rmtree(path, ignore_errors=True)
                elif _is_ours(path):
                    self._open_block(path)
                else:
                    foreign += 1
            except (OSError, StorageError) as e:
                self._log.error("%s cannot be read: %s; it is not searched until a start at which it can", path, e)
        return foreign

    def _open_block(self, path: Path) -> None:
        try:
            block = Block(path, read_meta(path), checked=False)
            # of the index alone, for its damage would only look like a trace that is not here; 24 bytes a trace
            verify_file(path, block.meta, layout.INDEX)
        except CorruptionError as e:
            self._set_aside(path, e)
            return
        meta = block.meta
        if (meta.tenant, meta.id) != (path.parent.name, path.name):
            self._log.error(
                "%s holds block %s of tenant %s: left alone, not searched; move it back to its name, or delete the copy",
                path, meta.id, meta.tenant,
            )  # fmt: skip
            return
        self._blocks.setdefault(meta.tenant, {})[meta.id] = block

    def _drop_replaced(self) -> None:
        """Finish merges that a crash interrupted: what a merged block replaces goes, if the merged one is whole."""
        for block in sorted(self.blocks(), key=lambda b: b.meta.level):
            listed = self._blocks[block.meta.tenant]
            replaced = [listed[i] for i in block.meta.replaces if i in listed]
            if replaced:
                try:
                    block.check()
                except CorruptionError as e:
                    self.quarantine(block, e)
                else:
                    self.remove(replaced)

    def add(self, directory: Path, meta: BlockMeta, replaces: Sequence[Block] = ()) -> Block:
        """List a new block, and in the same step drop those that it replaces.

        Raises  CorruptionError, OSError when it cannot be opened: nothing has changed then, and the caller has to
                discard() it, or the next start would find its spans twice.
        """
        block = Block(directory, meta)
        with self._lock:
            self._blocks.setdefault(meta.tenant, {})[meta.id] = block
            for old in replaces:
                self._unlist(old)
        self._sweep()
        return block

    def discard(self, directory: Path) -> None:
        """Delete a block that was written; does nothing when it is listed."""
        with self._lock:
            listed = any(b.directory == directory for blocks in self._blocks.values() for b in blocks.values())
        if not listed:
            self._delete(directory)

    def remove(self, blocks: Sequence[Block]) -> None:
        """Delete blocks; their files go when nobody reads them any more."""
        with self._lock:
            for block in blocks:
                self._unlist(block)
        self._sweep()

    def quarantine(self, block: Block, error: CorruptionError) -> None:
        """Take a block that turned out to be damaged out of service and keep its files aside."""
        with self._lock:
            listed = self._blocks.get(block.meta.tenant, {}).pop(block.meta.id, None)
        if listed is not None:
            self._set_aside(block.directory, error)

    def suspect(self, block: Block, error: CorruptionError) -> None:
        """Reading a block failed: quarantine it when its bytes are not what was written.

        Raises  StorageError when they are: then this machine or this program failed, and no answer is better than one
                without the block.
        """
        try:
            verify(block.directory, block.meta)
        except CorruptionError as damage:
            self.quarantine(block, damage)
            return
        raise StorageError(f"block {block.directory} is undamaged, but reading it failed: {error.found}") from error

    @property
    def doomed_bytes(self) -> int:
        """Bytes of blocks that are deleted as soon as their last reader is done."""
        with self._lock:
            return sum(b.meta.data_bytes for b in self._doomed.values())

    def tenants(self) -> list[str]:
        with self._lock:
            return sorted(t for t, blocks in self._blocks.items() if blocks)

    def blocks(self, tenant: str | None = None) -> list[Block]:
        """Blocks of one tenant or of all, newest first, unpinned: for figures and policy, not for reading rows."""
        with self._lock:
            chosen = self._blocks.values() if tenant is None else [self._blocks.get(tenant, {})]
            found = [b for blocks in chosen for b in blocks.values()]
        return sorted(found, key=lambda b: (b.meta.end_time_unix_nano, b.meta.id), reverse=True)

    @contextmanager
    def pinned(self, *tenants: str) -> Iterator[list[Block]]:
        """Blocks of some tenants, newest first, whose files stay while the context is open."""
        with self._lock:
            found = [block for tenant in tenants for block in self._blocks.get(tenant, {}).values()]
            for block in found:
                self._pins[block.meta.id] = self._pins.get(block.meta.id, 0) + 1
        try:
            yield sorted(found, key=lambda b: (b.meta.end_time_unix_nano, b.meta.id), reverse=True)
        finally:
            with self._lock:
                for block in found:
                    self._pins[block.meta.id] -= 1
                    if not self._pins[block.meta.id]:
                        del self._pins[block.meta.id]
            self._sweep()

    def _unlist(self, block: Block) -> None:
        if self._blocks.get(block.meta.tenant, {}).pop(block.meta.id, None) is not None:
            self._doomed[block.meta.id] = block

    def _sweep(self) -> None:
        with self._lock:
            free = [i for i in self._doomed if i not in self._pins]
            paths = [self._doomed.pop(i).directory for i in free]
        for block_id, path in zip(free, paths, strict=True):
            self._on_gone(block_id)
            self._delete(path)

    def _delete(self, path: Path) -> None:
        grave = path.with_name(path.name + DELETED)
        try:
            os.rename(path, grave)
            fsync_path(path.parent)
            shutil.rmtree(grave)
        except OSError as e:
            self._log.error("cannot delete block %s: %s; the next start tries again", path, e)

    def _set_aside(self, path: Path, error: Exception) -> None:
        target = self.directory / QUARANTINE / f"{path.parent.name}-{path.name}"
        self._on_quarantine()
        try:
            target.parent.mkdir(exist_ok=True)
            os.rename(path, target)
            self._log.error("damaged block moved to %s: %s", target, error)
        except OSError as e:
            self._log.error("damaged block %s cannot be moved aside (%s): %s", path, e, error)


def _is_remnant(path: Path) -> bool:
    """Nothing in it but files of a block: what a crash left, not what a stranger happened to name so."""
    return all(child.name in (*layout.DATA_FILES, layout.META) for child in path.iterdir())


def _is_ours(path: Path) -> bool:
    """Any file of our names will do: a block without a readable meta is damaged, not foreign."""
    return any((path / name).exists() for name in (layout.SPANS, layout.INDEX))
