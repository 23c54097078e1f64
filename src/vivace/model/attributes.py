"""Attributes of many rows as one long table: (row, key, type, value), sorted by row.

Used alike for spans, events, links, resources and scopes. Keys and strings are codes of a Dictionary (dictionary.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]
I32 = NDArray[np.int32]
U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]

PAIR_BYTES = 17
"""Of one attribute in memory: row, key, type, value."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """Key/value pairs of many rows. `value` holds a code, 0/1, or the 64 bits of an int or a double, as `type` says."""

    row: U32
    key: U32
    type: U8
    value: U64

    @classmethod
    def empty(cls) -> Attributes:
        return cls(np.empty(0, np.uint32), np.empty(0, np.uint32), np.empty(0, np.uint8), np.empty(0, np.uint64))

    def __len__(self) -> int:
        return len(self.row)

    def pick(self, pairs: NDArray[np.integer]) -> Attributes:
        """The given pairs, in the given order, rows as they are numbered."""
        return Attributes(self.row[pairs], self.key[pairs], self.type[pairs], self.value[pairs])

    def slice(self, first_row: int, last_row: int) -> Attributes:
        """Pairs of rows [first_row, last_row), renumbered from 0."""
        a, b = np.searchsorted(self.row, (first_row, last_row))
        row = self.row[a:b] if first_row == 0 else self.row[a:b] - np.uint32(first_row)
        return Attributes(row, self.key[a:b], self.type[a:b], self.value[a:b])


def concat_attributes(parts: Sequence[Attributes], counts: Sequence[int]) -> Attributes:
    """Pairs of several tables with `counts` rows each, rows numbered on."""
    return Attributes(
        join_rows([p.row for p in parts], counts),
        np.concatenate([p.key for p in parts]),
        np.concatenate([p.type for p in parts]),
        np.concatenate([p.value for p in parts]),
    )


def merge_attributes(parts: Sequence[Attributes]) -> Attributes:
    """Pairs of tables that number the same rows, as one table sorted by row; within a row in the order of the parts."""
    if not parts:
        return Attributes.empty()
    row = np.concatenate([p.row for p in parts])
    order = np.argsort(row, kind="stable")
    return Attributes(
        row[order],
        np.concatenate([p.key for p in parts])[order],
        np.concatenate([p.type for p in parts])[order],
        np.concatenate([p.value for p in parts])[order],
    )


def bases(counts: Iterable[int]) -> list[int]:
    """Where each part starts when parts of these sizes are laid end to end."""
    starts, total = [], 0
    for count in counts:
        starts.append(total)
        total += count
    return starts


def join_rows(rows: Sequence[U32], counts: Sequence[int]) -> U32:
    return np.concatenate([r + np.uint32(base) for r, base in zip(rows, bases(counts), strict=True)])
