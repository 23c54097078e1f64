"""Decoded columns of blocks, kept while there is room: what was asked for last stays longest.

Rule 1  the columns kept never take more than `bytes_max`; one that alone is larger is handed through and not kept.
Rule 2  nothing is read under the lock: two threads that miss a column at once may both read it, the last one's stays.
Rule 3  blocks never change, so an entry is never wrong. forget() is for the memory of deleted blocks; what a query that
        still reads one puts in afterwards goes the way of all that is not asked for.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, TypeVar

ENTRY_BYTES = 750
"""An entry's key, its places in the tables here and the objects around its arrays: 370 for None, 720 to 770 for an
attribute (measured on CPython 3.11)."""

BLOCK = -1
"""The row group of what belongs to a whole block."""

T = TypeVar("T")


class ColumnKey(NamedTuple):
    """block: its id;  row_group: its number, or BLOCK;  what: a column, a (scope, key), or whatever else is kept."""

    block: str
    row_group: int
    what: Hashable


class ColumnCache:
    """Least recently used columns by key, bounded by bytes. Safe to use from many threads.

    Values have `nbytes`, or are None: that there is nothing is worth keeping, too. hits, misses, evictions: counts since
    the start, never reset.
    """

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.hits = 0
        self.misses = 0
        self.evictions = 0
        self._lock = threading.Lock()
        self._values: OrderedDict[ColumnKey, Any] = OrderedDict()
        self._keys: dict[str, set[ColumnKey]] = {}
        self._bytes = 0

    @property
    def entry_count(self) -> int:
        return len(self._values)

    @property
    def nbytes(self) -> int:
        """Bytes of what is kept now."""
        return self._bytes

    def get(self, key: ColumnKey, read: Callable[[], T]) -> T:
        """The value of `key`: the one kept, else what `read` gives, which is then kept. Errors of `read` pass through."""
        with self._lock:
            if key in self._values:
                self.hits += 1
                self._values.move_to_end(key)
                kept: T = self._values[key]
                return kept
            self.misses += 1
        value = read()
        self._keep(key, value)
        return value

    def _keep(self, key: ColumnKey, value: Any) -> None:
        cost = _cost(value)
        with self._lock:
            self._drop(key)
            if cost > self.bytes_max:
                return
            while self._bytes + cost > self.bytes_max:
                self._drop(next(iter(self._values)))
                self.evictions += 1
            self._values[key] = value
            self._keys.setdefault(key.block, set()).add(key)
            self._bytes += cost

    def _drop(self, key: ColumnKey) -> None:
        if key not in self._values:
            return
        self._bytes -= _cost(self._values.pop(key))
        of_block = self._keys[key.block]
        of_block.remove(key)
        if not of_block:
            del self._keys[key.block]

    def forget(self, block_id: str) -> None:
        """Drop all that is kept of a block. Does not count as evictions."""
        with self._lock:
            for key in list(self._keys.get(block_id, ())):
                self._drop(key)


def _cost(value: Any) -> int:
    return ENTRY_BYTES + (0 if value is None else int(value.nbytes))
