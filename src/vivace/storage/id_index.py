"""The id index of a block: trace id -> rows, sorted by id, looked up in place.

The file is mapped, not read: a look-up touches the few pages that a binary search over the first id words visits.
Bytes: docs/formats/block.md, "ids.index".
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vivace.errors import CorruptionError
from vivace.model.attributes import I64, U64

MAGIC = b"VIVIDX01"
HEADER = struct.Struct("<8sQ")  # magic, traces
ENTRY_BYTES = 8 + 8 + 4 + 4


def write_index(path: Path, parts: Sequence[tuple[U64, U64, I64, I64]]) -> None:
    """Write (id high, id low, first row, row count) of all traces, in any order."""
    high, low, first_row, row_count = (np.concatenate([p[i] for p in parts]) for i in range(4))
    order = np.lexsort((low, high))
    arrays = [
        high[order].astype("<u8"),
        low[order].astype("<u8"),
        first_row[order].astype("<u4"),
        row_count[order].astype("<u4"),
    ]
    body = b"".join(a.tobytes() for a in arrays)
    path.write_bytes(HEADER.pack(MAGIC, len(order)) + body)


class IdIndex:
    """A mapped index. Cheap to open: 24 bytes a trace are mapped, none are read before they are needed."""

    def __init__(self, path: Path) -> None:
        """Raises CorruptionError when header and file size do not agree."""
        self.path = path
        size = path.stat().st_size
        with path.open("rb") as file:
            header = file.read(HEADER.size)
        if len(header) < HEADER.size:
            raise CorruptionError(path, offset=0, expected="an id index", found=f"{size} bytes")
        magic, count = HEADER.unpack(header)
        if magic != MAGIC or size != HEADER.size + count * ENTRY_BYTES:
            found = f"{magic!r}, {count} traces in {size} bytes"
            raise CorruptionError(path, offset=0, expected=f"{MAGIC!r} and 24 bytes a trace", found=found)
        self.count = count
        data = np.memmap(path, np.uint8, "r", HEADER.size) if count else np.empty(0, np.uint8)
        self._data = data
        self._high = data[: 8 * count].view("<u8")
        self._low = data[8 * count : 16 * count].view("<u8")
        self._first_row = data[16 * count : 20 * count].view("<u4")
        self._row_count = data[20 * count :].view("<u4")

    def find(self, high: int, low: int) -> tuple[int, int] | None:
        """(first row, row count) of a trace, or None."""
        at = int(np.searchsorted(self._high, np.uint64(high)))
        while at < self.count and int(self._high[at]) == high:
            if int(self._low[at]) == low:
                return int(self._first_row[at]), int(self._row_count[at])
            at += 1
        return None

    def contains(self, high: U64, low: U64) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Which of many ids are here."""
        found = np.zeros(len(high), bool)
        at = np.searchsorted(self._high, high)
        open_ = np.flatnonzero(at < self.count)
        while len(open_):
            open_ = open_[self._high[at[open_]] == high[open_]]
            hit = self._low[at[open_]] == low[open_]
            found[open_[hit]] = True
            open_ = open_[~hit]
            at[open_] += 1
            open_ = open_[at[open_] < self.count]
        return found
