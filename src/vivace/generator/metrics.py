"""Metrics as columns: one entry for each row of a table of label sets (table.py), all series of a metric in a few arrays.

Rule 1  an entry exists from its first update until it is cleared; updating thousands of spans is a handful of array calls.
Rule 2  values are cumulative float64. Spans are added one after the other in their order, so sums are Tempo's to the bit.
Rule 3  `started` is set once a zero sample has gone out: a counter's first increment must be visible to rate().

Times are seconds of the registry's clock; durations are seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vivace.generator.values import double_text
from vivace.model.attributes import I32, U64

F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]
Rows = NDArray[np.integer[Any]]

NEVER = -np.inf


@dataclass(frozen=True, slots=True)
class Variant:
    """The series of one name (and bucket) for some rows; `zero_start` where a first sample 0 goes ahead of them."""

    name: str
    le: str
    values: F64
    zero_start: bool


@dataclass(frozen=True, slots=True)
class Found:
    """An exemplar: the last observation of a bucket since the last collection."""

    row: int
    variant: tuple[str, str]
    trace_id: int
    value: float


class Metric:
    """What all kinds have in common. `optional`: a label set can do without it, so it does not count for its admission."""

    def __init__(self, names: Sequence[str], *, series_each: int, optional: bool = False) -> None:
        self.names = tuple(names)
        self.series_each = series_each
        self.optional = optional
        self.updated: F64 = np.empty(0)
        self.started: Bools = np.empty(0, bool)

    def resize(self, capacity: int) -> None:
        """Room for `capacity` rows."""
        self.updated = widened(self.updated, capacity, NEVER)
        self.started = widened(self.started, capacity, False)

    def clear(self, rows: Rows) -> None:
        """Forget these entries; the next update of one begins at 0."""
        self.updated[rows] = NEVER
        self.started[rows] = False

    def existing(self) -> NDArray[np.int64]:
        """Rows with an entry."""
        return np.flatnonzero(self.updated > NEVER)

    def stale(self, before: float) -> NDArray[np.int64]:
        """Rows last updated before this time."""
        return np.flatnonzero((self.updated > NEVER) & (self.updated < before))

    @property
    def active_series(self) -> int:
        return len(self.existing()) * self.series_each

    def variants(self, rows: Rows) -> Iterator[Variant]:
        """The present values of these rows, as plain samples."""
        return iter(())

    def take_exemplars(self) -> list[Found]:
        """Exemplars since the last call."""
        return []


class Counter(Metric):
    """A sum that grows."""

    def __init__(self, name: str, *, optional: bool = False) -> None:
        super().__init__([name], series_each=1, optional=optional)
        self.value: F64 = np.empty(0)

    def resize(self, capacity: int) -> None:
        super().resize(capacity)
        self.value = widened(self.value, capacity, 0)

    def clear(self, rows: Rows) -> None:
        super().clear(rows)
        self.value[rows] = 0

    def add(self, rows: I32, amounts: NDArray[Any] | float, now: float) -> None:
        """Add to each row its amount; rows repeat."""
        np.add.at(self.value, rows, amounts)
        self.updated[rows] = now

    def variants(self, rows: Rows) -> Iterator[Variant]:
        yield Variant(self.names[0], "", self.value[rows], True)


class Gauge(Metric):
    """The constant 1: that something is there."""

    def __init__(self, name: str) -> None:
        super().__init__([name], series_each=1)

    def touch(self, rows: Rows, now: float) -> None:
        self.updated[rows] = now

    def variants(self, rows: Rows) -> Iterator[Variant]:
        yield Variant(self.names[0], "", np.ones(len(rows)), False)


class Histogram(Metric):
    """A classic histogram: counts by bucket, each with its latest observation as exemplar.

    Shape  `buckets` is (rows, bounds + 1), not cumulative: the last column counts what is above all bounds.
    """

    def __init__(self, names: Sequence[str], bounds: Sequence[float], *, optional: bool = False) -> None:
        super().__init__(names, series_each=(len(bounds) + 3) * len(names), optional=optional)
        self._bounds = np.array(bounds)
        self._le = [*map(double_text, bounds), "+Inf"]
        width = len(self._le)
        self.buckets: F64 = np.empty((0, width))
        self.sum: F64 = np.empty(0)
        self._seen: Bools = np.empty((0, width), bool)
        self._seen_high: U64 = np.empty((0, width), np.uint64)
        self._seen_low: U64 = np.empty((0, width), np.uint64)
        self._seen_value: F64 = np.empty((0, width))

    def resize(self, capacity: int) -> None:
        super().resize(capacity)
        self.buckets = widened(self.buckets, capacity, 0)
        self.sum = widened(self.sum, capacity, 0)
        self._seen = widened(self._seen, capacity, False)
        self._seen_high = widened(self._seen_high, capacity, 0)
        self._seen_low = widened(self._seen_low, capacity, 0)
        self._seen_value = widened(self._seen_value, capacity, 0)

    def clear(self, rows: Rows) -> None:
        super().clear(rows)
        self.buckets[rows] = 0
        self.sum[rows] = 0
        self._seen[rows] = False

    def observe(
        self, rows: I32, seconds: F64, weights: F64 | None, trace_high: U64, trace_low: U64, now: float
    ) -> None:
        """Count each observation in its row; one of weight w counts as w of them. Rows repeat."""
        place = rows.astype(np.int64) * len(self._le) + np.searchsorted(self._bounds, seconds)
        np.add.at(self.buckets.reshape(-1), place, 1.0 if weights is None else weights)
        np.add.at(self.sum, rows, seconds if weights is None else seconds * weights)
        # of places that repeat, numpy keeps what is assigned last: the latest observation
        self._seen.reshape(-1)[place] = True
        self._seen_high.reshape(-1)[place] = trace_high
        self._seen_low.reshape(-1)[place] = trace_low
        self._seen_value.reshape(-1)[place] = seconds
        self.updated[rows] = now

    def variants(self, rows: Rows) -> Iterator[Variant]:
        upto = np.cumsum(self.buckets[rows], axis=1)
        for name in self.names:
            for place, le in enumerate(self._le):
                yield Variant(f"{name}_bucket", le, upto[:, place], True)
            yield Variant(f"{name}_count", "", upto[:, -1], True)
            yield Variant(f"{name}_sum", "", self.sum[rows], False)

    def take_exemplars(self) -> list[Found]:
        rows, places = np.nonzero(self._seen)
        high, low = self._seen_high[rows, places].tolist(), self._seen_low[rows, places].tolist()
        values = self._seen_value[rows, places].tolist()
        self._seen[rows, places] = False
        return [
            Found(row, (f"{name}_bucket", self._le[place]), h << 64 | w, value)
            for row, place, h, w, value in zip(rows.tolist(), places.tolist(), high, low, values, strict=True)
            for name in self.names
        ]


def widened(array: NDArray[Any], capacity: int, fill: float) -> NDArray[Any]:
    """The array with room for `capacity` rows, new ones holding `fill`."""
    wider = np.full((capacity, *array.shape[1:]), fill, array.dtype)
    wider[: len(array)] = array
    return wider
