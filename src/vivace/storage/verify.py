"""Checking that a block still holds the bytes that were written: every file against its CRC-32 in meta.json."""

from __future__ import annotations

import errno
import zlib
from collections.abc import Callable
from pathlib import Path

from vivace.errors import CorruptionError, StorageError
from vivace.storage.layout import BlockMeta

CHUNK_BYTES = 1 << 20

NOT_DAMAGE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM})
"""Errors that say nothing of the bytes: no descriptors or memory left, or rights taken away."""


def checksum(path: Path, check: Callable[[], None] = lambda: None) -> int:
    """CRC-32 of a file, read in chunks; `check` may raise between them."""
    value = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            value = zlib.crc32(chunk, value)
            check()
    return value


def verify(directory: Path, meta: BlockMeta, check: Callable[[], None] = lambda: None) -> None:
    """Read all of a block.

    Raises  CorruptionError naming the first file that is not what was written; StorageError when it cannot be told.
    """
    for name in meta.checksums:
        verify_file(directory, meta, name, check)


def verify_file(directory: Path, meta: BlockMeta, name: str, check: Callable[[], None] = lambda: None) -> None:
    """The same for one file. A name that meta.json lacks is damage, too."""
    path, expected = directory / name, meta.checksums.get(name)
    try:
        found = checksum(path, check)
    except OSError as e:
        if e.errno in NOT_DAMAGE:
            raise StorageError(f"cannot check {path}: {e.strerror}") from e
        raise CorruptionError(path, offset=0, expected="a readable file", found=str(e)) from e
    if found != expected:
        raise CorruptionError(path, offset=0, expected=f"crc32 {expected}", found=f"{found}")
