"""Combinations: from what a span is counted by, several numbers, to the one row that it is counted in.

Rule 1  a combination is known by 64 bits mixed of its numbers with random seeds. Two that met in all 64 would be counted as
        one: among a million combinations once in 30 million runs of the process.
Rule 2  in a steady state nothing here is Python per span or per combination: a table of TABLE_SIZE places remembers the
        row of what was seen last in each place.
Rule 3  what is not in the table is asked of `resolve`, once per distinct combination and call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle

import numpy as np

from vivace.model.attributes import I32, U64

TABLE_SIZE = 1 << 16
"""Places: 800 kB, about what a core's cache holds. Of 6,000 combinations in use some 500 share a place and are asked for again."""

Resolve = Callable[[list[I32]], Sequence[int]]
"""Rows of combinations, given as columns of numbers: each combination once, in the order of arrival."""

_SHIFT = np.uint64(32)
_MASK = np.uint64(TABLE_SIZE - 1)


class Combinations:
    """Rows by combination, for one processor; every call brings the same columns."""

    def __init__(self, resolve: Resolve, random: np.random.Generator) -> None:
        self._resolve = resolve
        self._seeds = random.integers(1 << 63, size=64, dtype=np.uint64) | np.uint64(1)
        self._known: U64 = np.zeros(TABLE_SIZE, np.uint64)
        self._row: I32 = np.full(TABLE_SIZE, -1, np.int32)

    def rows(self, columns: Sequence[I32]) -> I32:
        """The row of each span."""
        mixed = self._mix(columns)
        place = (mixed & _MASK).astype(np.int64)
        rows = self._row[place]
        known = (self._known[place] == mixed) & (rows >= 0)
        if known.all():
            return rows
        missing = np.flatnonzero(~known)
        _, first, back = np.unique(mixed[missing], return_index=True, return_inverse=True)
        arrival = np.argsort(first)  # where there is a limit, who comes first is admitted
        examples = missing[first]
        found = np.empty(len(examples), np.int32)
        found[arrival] = self._resolve([c[examples[arrival]] for c in columns])
        rows[missing] = found[back]
        self._known[place[examples]] = mixed[examples]
        self._row[place[examples]] = found
        return rows

    def forget(self) -> None:
        """Rows have gone, or numbers mean something else now: ask anew."""
        self._row.fill(-1)

    def _mix(self, columns: Sequence[I32]) -> U64:
        mixed: U64 = np.full(len(columns[0]), self._seeds[0])
        for column, seed in zip(columns, cycle(self._seeds[1:]), strict=False):
            mixed ^= column.astype(np.uint64)
            mixed *= seed
            mixed ^= mixed >> _SHIFT
        return mixed
