"""Grouping: values as small whole numbers, and the distinct values as Python's, for answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vivace.model.frame import Numbers, Rows, Strings
from vivace.model.schema import KINDS, STATUSES, ValueType
from vivace.query.answers import Value
from vivace.query.arrays import decode
from vivace.query.values import Ids, Lane, Values
from vivace.traceql.literals import format_duration
from vivace.traceql.types import Type


@dataclass(frozen=True, slots=True)
class Coded:
    """Rows by the code of their value; equal codes mean equal values. The last code, `count`, is "no value"."""

    codes: NDArray[np.int64]
    count: int
    _parts: tuple[Callable[[], list[Value]], ...]

    def values(self) -> list[Value]:
        """The values by code, None at the end. Not kept: of many rows they are dearer than their codes."""
        return [*(value for part in self._parts for value in part()), None]


def code(values: Values) -> Coded:
    """The distinct values of some rows."""
    codes = np.full(values.count, -1, np.int64)
    count = 0
    parts: list[Callable[[], list[Value]]] = []
    for lane in values.lanes:
        rows, lane_codes, lane_count, spell = _code_lane(lane)
        codes[rows] = lane_codes + count
        count += lane_count
        parts.append(spell)
    if values.compounds is not None:
        seen: dict[tuple[ValueType, bytes], int] = {}
        keys = zip(values.compounds.types, values.compounds.values, strict=True)
        places = [seen.setdefault(key, len(seen)) for key in keys]
        codes[values.compounds.rows] = np.array(places) + count
        count += len(seen)
        parts.append(lambda: [decode(kind, value) for kind, value in seen])
    codes[codes < 0] = count
    return Coded(codes, count, tuple(parts))


def plain(values: Values) -> list[Value]:
    """One Python value a row, None where there is none. For a few rows: those of an answer."""
    coded = code(values)
    by_code = coded.values()
    return [by_code[c] for c in coded.codes.tolist()]


def _code_lane(lane: Lane) -> tuple[Rows, NDArray[np.int64], int, Callable[[], list[Value]]]:
    """(rows with a value, their codes from 0, how many codes, what gives their values)"""
    match lane.column:
        case Ids() as ids:
            return _code_strings(ids.strings())
        case Strings() as strings:
            return _code_strings(strings)
        case Numbers() as numbers:
            rows = np.arange(len(numbers)) if numbers.valid is None else np.flatnonzero(numbers.valid)
            values = numbers.values[rows]
            if values.dtype.kind == "i":
                firsts, codes = distinct(values)
                found = values[firsts]
            else:
                found, codes = np.unique(values, return_inverse=True)
            return rows, codes.astype(np.int64), len(found), lambda: [_show(lane.type, v) for v in found.tolist()]


def _code_strings(strings: Strings) -> tuple[Rows, NDArray[np.int64], int, Callable[[], list[Value]]]:
    used = np.zeros(len(strings.table) + 1, bool)
    used[strings.codes] = True
    used[-1] = False
    narrow = np.cumsum(used) - 1
    rows = np.flatnonzero(strings.valid)
    codes = narrow[strings.codes[rows]].astype(np.int64)

    def spell() -> list[Value]:
        table = strings.table.filter(pa.array(used[:-1])).to_pylist()
        return [v.hex() if isinstance(v, bytes) else v for v in table]

    return rows, codes, int(used.sum()), spell


def _show(kind: Type, value: int | float | bool) -> Value:
    """A number as answers have it: durations, statuses and kinds are text. OTLP leaves room for statuses that nobody knows."""
    match kind:
        case Type.DURATION:
            return format_duration(int(value))
        case Type.STATUS:
            return STATUSES[int(value)] if 0 <= value < len(STATUSES) else str(value)
        case Type.KIND:
            return KINDS[int(value)] if 0 <= value < len(KINDS) else str(value)
        case _:
            return value


def combine(columns: Sequence[NDArray[np.int64]]) -> tuple[NDArray[np.int64], Rows]:
    """Rows that agree in all columns of codes as one group: (group of each row, a row of each group), groups in ascending order."""
    combined = columns[0]
    for column in columns[1:]:
        size = int(column.max(initial=0)) + 1
        if int(combined.max(initial=0)) * size > 1 << 60:  # too wide for one number: make it dense first
            combined = distinct(combined)[1]
        combined = combined * size + column
    firsts, groups = distinct(combined)
    return groups, firsts


def distinct(numbers: NDArray[Any]) -> tuple[Rows, NDArray[np.int64]]:
    """(a row of each distinct whole number, ascending by the number; the place of each row's number among them).

    Cost  a pass where the numbers lie close together, else a sort, five times as much.
    """
    count = len(numbers)
    if count:
        low = numbers.min()
        width = int(numbers.max()) - int(low) + 1
        if width <= 4 * count + 1024:
            place = (numbers - low).astype(np.int64)
            row = np.full(width, -1, np.int64)
            row[place] = np.arange(count)  # of equal ones some row
            there = row >= 0
            return row[there], (np.cumsum(there) - 1)[place]
    _, firsts, groups = np.unique(numbers, return_index=True, return_inverse=True)
    return firsts, groups.astype(np.int64)
