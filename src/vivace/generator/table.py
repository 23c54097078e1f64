"""A table of label sets: one row for each, shared by the metrics of a processor.

Rule 1  a label set is known by the texts of its labels, in the order of `names`; "" is a label that is not there.
Rule 2  a row is freed when none of its metrics has an entry any more, and then used again.
Rule 3  what may not have a row of its own is counted in the overflow row, whose one label is metric_overflow="true".
Rule 4  labels are encoded once a row, at its first collection, in three parts: what sorts before `__name__`, before
        `le`, and after; so the name and the bucket of a series are put between them without sorting.

Values are not here: metrics.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from vivace.generator.metrics import Metric
from vivace.generator.settings import RegistrySettings
from vivace.generator.values import cut_bytes
from vivace.generator.write_request import encode_labels, series_head

LabelSet = tuple[str, ...]
Pairs = Sequence[tuple[str, str]]

OVERFLOW: Pairs = (("metric_overflow", "true"),)
VALUE_OVERFLOW = "__cardinality_overflow__"
"""Stands for the values of a label beyond `max_cardinality_per_label`; the name is Tempo 3.0's."""

NAME, LE = "__name__", "le"


class _Parts(NamedTuple):
    """Encoded labels of a row. `shape` is the number of what sorts before `__name__` together with the length of all: the
    beginning of a head is the same for all rows of one shape, and a table has few of them."""

    shape: int
    middle: bytes
    after: bytes


class Admission(Protocol):
    """Who says whether a new label set may have a row. The registry implements it."""

    settings: RegistrySettings
    external_labels: Pairs

    def admit(self, label_set: LabelSet, series: int) -> bool:
        """Whether so many more series may come; counts them, or the refusal."""
        ...


class Table:
    """Label sets by row, and the metrics that count for them."""

    def __init__(self, names: Sequence[str] | None, metrics: Sequence[Metric], admission: Admission) -> None:
        """`names` of the labels; None where each label set brings its own: name, value, name, value …"""
        self.metrics = tuple(metrics)
        self.names = None if names is None else tuple(names)
        self._admission = admission
        self._series_each = sum(m.series_each for m in metrics if not m.optional)
        self._rows: dict[LabelSet, int] = {}
        self._free: list[int] = []
        self.capacity = 0
        self._used = 0
        self._overflow = -1
        self._sets: list[LabelSet | None] = []
        self._parts: list[_Parts | None] = []
        self._shapes: list[tuple[bytes, int]] = []
        self._shape_numbers: dict[tuple[bytes, int], int] = {}
        self._values: list[set[str]] = [set() for _ in self.names or ()]

    def __len__(self) -> int:
        """Label sets, the overflow counted in."""
        return len(self._rows) + (self._overflow >= 0)

    # -- rows -------------------------------------------------------------------------------------------------------

    def rows_of(self, label_sets: Iterable[LabelSet]) -> list[int]:
        """The row of each label set, made where it is new and admitted, else the overflow row."""
        known = self._rows
        rows = []
        for label_set in label_sets:
            row = known.get(label_set)
            rows.append(self._new_row(label_set) if row is None else row)
        return rows

    def _new_row(self, label_set: LabelSet) -> int:
        if self._admission.settings.values_per_label_max:
            label_set = self._limit_values(label_set)
            if label_set in self._rows:
                return self._rows[label_set]
        if not self._admission.admit(label_set, self._series_each):
            if self._overflow < 0:
                self._overflow = self._take_row(None)
            return self._overflow
        row = self._rows[label_set] = self._take_row(label_set)
        return row

    def _limit_values(self, label_set: LabelSet) -> LabelSet:
        """The label set with values beyond the limit of their label replaced; remembers those within."""
        if self.names is None:
            return label_set
        limit = self._admission.settings.values_per_label_max
        limited = []
        for value, seen in zip(label_set, self._values, strict=True):
            if value and value not in seen and len(seen) >= limit:
                value = VALUE_OVERFLOW
            elif value:
                seen.add(value)
            limited.append(value)
        return tuple(limited)

    def _take_row(self, label_set: LabelSet | None) -> int:
        if self._free:
            row = self._free.pop()
        else:
            row = self._used
            self._used += 1
            if row >= self.capacity:
                self.capacity = max(64, self.capacity * 2)
                for metric in self.metrics:
                    metric.resize(self.capacity)
            self._sets.append(None)
            self._parts.append(None)
        self._sets[row] = label_set
        self._parts[row] = None
        return row

    def drop_stale(self, before: float) -> tuple[int, bool]:
        """Forget entries not updated since; returns (series removed, whether rows were freed)."""
        removed = 0
        used = np.zeros(self.capacity, bool)
        for metric in self.metrics:
            stale = metric.stale(before)
            metric.clear(stale)
            removed += len(stale) * metric.series_each
            used[metric.existing()] = True
        occupied = list(self._rows.values()) + ([self._overflow] if self._overflow >= 0 else [])
        freed = [row for row in occupied if not used[row]]
        for row in freed:
            label_set = self._sets[row]
            if label_set is None:
                self._overflow = -1
            else:
                del self._rows[label_set]
            self._sets[row] = self._parts[row] = None
            self._free.append(row)
        if freed:
            self._values = [{s[i] for s in self._rows if s[i]} for i in range(len(self._values))]
        return removed, bool(freed)

    def label_sets(self) -> Iterator[tuple[int, Pairs]]:
        """Every row in use with its own labels, without external ones and without a name."""
        for row, label_set in enumerate(self._sets):
            if label_set is not None:
                yield row, self._pairs(label_set)
        if self._overflow >= 0:
            yield self._overflow, OVERFLOW

    def _pairs(self, label_set: LabelSet | None) -> Pairs:
        if label_set is None:
            return OVERFLOW
        if self.names is None:
            return list(zip(label_set[::2], label_set[1::2], strict=True))
        return [(name, value) for name, value in zip(self.names, label_set, strict=True) if value]

    # -- encoding ---------------------------------------------------------------------------------------------------

    def heads(self, name: str, le: str, rows: NDArray[np.int64]) -> list[bytes]:
        """What remote write puts before a sample, of the series of each row. Cost: a quarter of a microsecond a series."""
        parts = self._encoded(rows)
        name_label, le_label = _label(NAME, name), _label(LE, le)
        extra = len(name_label) + len(le_label)
        leads = [_frame(length + extra)[0] + before + name_label for before, length in self._shapes]
        end = _frame(extra)[1]
        return [leads[part.shape] + part.middle + le_label + part.after + end for part in parts]

    def labels(self, name: str, le: str, row: int) -> bytes:
        """The encoded labels of one series."""
        part = self._parts[row]
        if part is None:
            part = self._parts[row] = self._encode(self._pairs(self._sets[row]))
        before, _ = self._shapes[part.shape]
        return before + _label(NAME, name) + part.middle + _label(LE, le) + part.after

    def _encoded(self, rows: NDArray[np.int64]) -> list[_Parts]:
        parts = self._parts
        found = [parts[row] for row in rows.tolist()]
        if None in found:
            for row in rows.tolist():
                if parts[row] is None:
                    parts[row] = self._encode(self._pairs(self._sets[row]))
            found = [parts[row] for row in rows.tolist()]
        return cast(list[_Parts], found)

    def _encode(self, pairs: Pairs) -> _Parts:
        length_max = self._admission.settings.label_name_bytes_max
        own = {cut_bytes(name, length_max): value for name, value in pairs}
        labels = own | dict(self._admission.external_labels)
        before = encode_labels((n, v) for n, v in labels.items() if n < NAME)
        middle = encode_labels((n, v) for n, v in labels.items() if NAME < n < LE)
        after = encode_labels((n, v) for n, v in labels.items() if n > LE)
        shape = before, len(before) + len(middle) + len(after)
        number = self._shape_numbers.setdefault(shape, len(self._shapes))
        if number == len(self._shapes):
            self._shapes.append(shape)
        return _Parts(number, middle, after)

    def forget_encoding(self) -> None:
        """External labels have changed."""
        self._parts = [None] * len(self._parts)
        self._shapes.clear()
        self._shape_numbers.clear()


def _label(name: str, value: str) -> bytes:
    return encode_labels([(name, value)])


def _frame(length: int) -> tuple[bytes, bytes]:
    """What stands before and after labels of this many bytes in a head; never fewer than the 14 of a `__name__`."""
    labels = bytes(length)  # zeros, which a length prefix of a few bytes holds no run of
    before, _, after = series_head(labels).partition(labels)
    return before, after
