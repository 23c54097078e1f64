"""The id index of a block: trace id -> rows, sorted by id, looked up in place.

The file is mapped, not read: a look-up touches the few pages that a binary search over the first id words visits.
Bytes: docs/formats/block.md, "ids.index".
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vivace.errors import CorruptionError
from vivace.model.attributes import I64, U64

Mask = NDArray[np.bool_]  # as in model/frame.py, which would bring pyarrow to commands/blocks.py

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


def locate(ids: tuple[U64, U64], high: U64, low: U64) -> tuple[I64, Mask]:
    """(places among `ids`, words that ascend together, which of them are truly there) of many ids.

    Ids of 64 bits share the high word 0, all of them: so each one's range of equal high words is bisected too.
    """
    highs, lows = ids
    at, end = (np.searchsorted(highs, high, side) for side in ("left", "right"))
    last = end.copy()
    while len(wide := np.flatnonzero(at < last)):
        middle = (at[wide] + last[wide]) // 2
        less = lows[middle] < low[wide]
        at[wide[less]] = middle[less] + 1
        last[wide[~less]] = middle[~less]
    found = np.zeros(len(high), bool)
    inside = np.flatnonzero(at < end)
    found[inside] = lows[at[inside]] == low[inside]
    return at, found


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
        """Traces; `high` and `low` are the words of their ids, ascending, mapped."""
        data = np.memmap(path, np.uint8, "r", HEADER.size) if count else np.empty(0, np.uint8)
        self._data = data
        self.high = data[: 8 * count].view("<u8")
        self.low = data[8 * count : 16 * count].view("<u8")
        self._first_row = data[16 * count : 20 * count].view("<u4")
        self._row_count = data[20 * count :].view("<u4")

    def find(self, high: int, low: int) -> tuple[int, int] | None:
        """(first row, row count) of a trace, or None."""
        first, end = (int(np.searchsorted(self.high, np.uint64(high), side)) for side in ("left", "right"))
        at = first + int(np.searchsorted(self.low[first:end], np.uint64(low)))
        if at < end and int(self.low[at]) == low:
            return int(self._first_row[at]), int(self._row_count[at])
        return None

    def contains(self, high: U64, low: U64) -> Mask:
        """Which of many ids are here."""
        return locate((self.high, self.low), high, low)[1]

    def first_rows(self, high: U64, low: U64) -> tuple[Mask, I64]:
        """(which of many ids are here, the first row of each of those)."""
        places, found = locate((self.high, self.low), high, low)
        return found, self._first_row[places[found]].astype(np.int64)

    def contained_in(self, other: IdIndex) -> tuple[U64, U64]:
        """The ids (high, low) that are in both."""
        found = other.contains(self.high, self.low)
        return self.high[found], self.low[found]
