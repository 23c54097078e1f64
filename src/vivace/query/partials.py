"""Partial results of metrics: what one source contributes, and their sum. They merge in any order.

A partial is sparse: one entry for each series and step that has a span. Steps are numbered from the epoch, so a partial does not
depend on the range of the query and can be kept for the next one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vivace.query.answers import Value

Label: TypeAlias = tuple[str, str, Value]
"""(name, type of the value, value). The type, because 1, 1.0 and True are equal keys in Python."""

Labels: TypeAlias = tuple[Label, ...]

ENTRIES_MAX = 2_000_000
"""Entries that are gathered before they are summed up: 64 MB."""


def label(name: str, value: Value) -> Label:
    return (name, type(value).__name__, _fixed(value))


def _fixed(value: Value) -> Value:
    """A value that can be a key: maps, also in arrays, as text."""
    match value:
        case tuple():
            return tuple(map(_fixed, value))
        case Mapping():
            return ", ".join(f"{key}: {_fixed(held)!r}" for key, held in value.items())
        case _:
            return value


@dataclass(frozen=True, slots=True)
class Exemplars:
    """Examples: the series of each, its span's start and trace, and its value, nan where that is the sample's."""

    series: NDArray[np.int64]
    start: NDArray[np.int64]
    trace_high: NDArray[np.uint64]
    trace_low: NDArray[np.uint64]
    value: NDArray[np.float64]

    @property
    def nbytes(self) -> int:
        return 40 * len(self.series)


@dataclass(frozen=True, slots=True)
class Partial:
    """Entries by (series, step): how many spans, and for functions with a field their sum, least or greatest value."""

    labels: tuple[Labels, ...]
    series: NDArray[np.int32]
    step: NDArray[np.int64]
    count: NDArray[np.int64]
    value: NDArray[np.float64] | None = None
    exemplars: Exemplars | None = None

    @property
    def nbytes(self) -> int:
        entries = 28 * len(self.series) + (0 if self.exemplars is None else self.exemplars.nbytes)
        return entries + 200 * len(self.labels)


@dataclass(slots=True)
class Totals:
    """The sum of partials. `reduce` joins the values of equal entries; at most `series_max` series (0 = any number)."""

    reduce: np.ufunc
    series_max: int = 0
    overflow: bool = False
    numbers: dict[Labels, int] = field(default_factory=dict)
    _parts: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64] | None]] = field(
        default_factory=list
    )
    _entries: int = 0
    _exemplars: list[Exemplars] = field(default_factory=list)

    def add(self, partial: Partial) -> None:
        """Take in what a source contributes. Series beyond the limit are left out, and `overflow` says so."""
        numbers = np.array([self._number(labels) for labels in partial.labels], np.int64)
        series = numbers[partial.series] if len(numbers) else np.empty(0, np.int64)
        keep: Any = slice(None)
        if self.overflow and len(series) and series.min() < 0:
            keep = series >= 0
        value = None if partial.value is None else partial.value[keep]
        self._parts.append((series[keep], partial.step[keep], partial.count[keep], value))
        self._entries += len(series)
        if partial.exemplars is not None and len(partial.exemplars.series):
            own = numbers[partial.exemplars.series]
            here = own >= 0
            e = partial.exemplars
            self._exemplars.append(
                Exemplars(own[here], e.start[here], e.trace_high[here], e.trace_low[here], e.value[here])
            )
        if self._entries > ENTRIES_MAX:
            self._parts = [self.entries()]
            self._entries = len(self._parts[0][0])

    def _number(self, labels: Labels) -> int:
        number = self.numbers.get(labels)
        if number is None:
            if self.series_max and len(self.numbers) >= self.series_max:
                self.overflow = True
                return -1
            number = self.numbers[labels] = len(self.numbers)
        return number

    def entries(
        self,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64] | None]:
        """(series, step, count, value), one entry for each series and step, sorted."""
        if not self._parts:
            empty = np.empty(0, np.int64)
            return empty, empty, empty, None
        series, step, count = (np.concatenate([p[i] for p in self._parts]) for i in range(3))
        values = [p[3] for p in self._parts if p[3] is not None]
        value = np.concatenate(values) if values else None
        order = np.lexsort((step, series))
        series, step, count = series[order], step[order], count[order]
        new = np.ones(len(series), bool)
        new[1:] = (series[1:] != series[:-1]) | (step[1:] != step[:-1])
        firsts = np.flatnonzero(new)
        if not len(firsts):
            return series, step, count, value
        if value is not None:
            value = self.reduce.reduceat(value[order], firsts)
        return series[firsts], step[firsts], np.add.reduceat(count, firsts), value

    def exemplars(self) -> Exemplars | None:
        if not self._exemplars:
            return None
        names = ("series", "start", "trace_high", "trace_low", "value")
        return Exemplars(*(np.concatenate([getattr(e, name) for e in self._exemplars]) for name in names))


def label_groups(columns: Sequence[tuple[str, Sequence[Value], NDArray[np.int64]]]) -> tuple[Labels, ...]:
    """The labels of groups: of each column its name, its values by code, and the code of each group. None has no label."""
    texts = [[None if value is None else label(name, value) for value in values] for name, values, _ in columns]
    rows = zip(*(codes.tolist() for _, _, codes in columns), strict=True)
    found = []
    for codes in rows:
        labels = tuple(t for column, code in zip(texts, codes, strict=True) if (t := column[code]) is not None)
        found.append(labels or (label(columns[0][0], "nil"),))
    return tuple(found)
