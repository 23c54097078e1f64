"""Distinct values of a field: of one source, of several, as text.

Rule 1  values are distinct by type and value: "200" and 200 are two.
Rule 2  an array counts by its elements; maps, bytes and arrays of arrays count for nothing.
Rule 3  newest first: what a union meets first stands first, so a limit leaves out what is old.

Thousands of values of one column are never touched one by one: Arrow finds the distinct ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vivace.model.frame import Compounds, Mask, Numbers, Strings
from vivace.model.schema import KINDS, STATUSES
from vivace.query.answers import TagValueColumns
from vivace.query.arrays import elements
from vivace.query.values import Ids, Values
from vivace.traceql.ast import Static, StaticKind
from vivace.traceql.types import Type

_NO_TEXT = pa.array([], pa.large_string())

FOLD_MIN = 20_000
"""Values that wait until they are folded into those found; below, folding costs less than a millisecond anyway."""


@dataclass(frozen=True, slots=True)
class Distinct:
    """Distinct values by type, each once. Statuses, kinds and durations are ints."""

    strings: pa.Array  # of pa.large_string(), no nulls
    ints: NDArray[np.int64]
    doubles: NDArray[np.float64]
    bools: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.strings) + len(self.ints) + len(self.doubles) + len(self.bools)

    @property
    def nbytes(self) -> int:
        return int(self.strings.nbytes + self.ints.nbytes + self.doubles.nbytes + self.bools.nbytes)

    @classmethod
    def none(cls) -> Distinct:
        return cls(_NO_TEXT, np.empty(0, np.int64), np.empty(0, np.float64), np.empty(0, bool))

    def equal_to(self, static: Static) -> Distinct:
        """Only the value that equals a literal. Numbers are equal across types."""
        none = Distinct.none()
        match static.kind, static.value:
            case StaticKind.STRING, str(text):
                return replace(none, strings=self.strings.filter(pc.equal(self.strings, text)))
            case StaticKind.BOOL, bool(truth):
                return replace(none, bools=self.bools[self.bools == truth])
            case StaticKind.STATUS, str(name):
                return replace(none, ints=self.ints[self.ints == STATUSES.index(name)])
            case StaticKind.KIND, str(name):
                return replace(none, ints=self.ints[self.ints == KINDS.index(name)])
            case ((StaticKind.INT | StaticKind.FLOAT | StaticKind.DURATION), int() | float() as number):
                return replace(none, ints=self.ints[self.ints == number], doubles=self.doubles[self.doubles == number])
            case _:
                return none  # nothing equals nil


def distinct(values: Values, rows: Mask | None) -> Distinct:
    """The distinct values of some rows; None: of all rows, where every entry of a table of strings counts as used."""
    parts = [Distinct.none()]
    for lane in values.lanes:
        match lane.column:
            case Strings() as strings:
                parts.append(_of_texts(_used(strings, rows)))
            case Numbers() as numbers:
                parts.append(_of_numbers(lane.type, _present(numbers, rows)))
            case Ids():
                continue  # nobody picks an id from a list
    if values.compounds is not None:
        parts.append(_of_arrays(values.compounds, rows))
    return union(parts)


def _used(strings: Strings, rows: Mask | None) -> pa.Array:
    if rows is None:
        return strings.table
    used = np.zeros(len(strings.table) + 1, bool)
    used[strings.codes[rows]] = True
    return strings.table.filter(used[:-1])


def _present(numbers: Numbers, rows: Mask | None) -> NDArray[Any]:
    if rows is None:
        return numbers.values if numbers.valid is None else numbers.values[numbers.valid]
    return numbers.values[rows if numbers.valid is None else rows & numbers.valid]


def _of_texts(texts: pa.Array) -> Distinct:
    return replace(Distinct.none(), strings=texts.cast(pa.large_string()))


def _of_numbers(kind: Type, values: NDArray[Any]) -> Distinct:
    match kind:
        case Type.BOOL:
            return replace(Distinct.none(), bools=_unique(values))
        case Type.FLOAT:
            return replace(Distinct.none(), doubles=_unique(values))
        case _:
            return replace(Distinct.none(), ints=_unique(values))


def _of_arrays(compounds: Compounds, rows: Mask | None) -> Distinct:
    places, flat = elements(compounds)
    if rows is not None:
        held = rows[places].tolist() if places else []
        flat = [value for value, is_held in zip(flat, held, strict=True) if is_held]
    by_type: dict[type, dict[Any, None]] = {str: {}, int: {}, float: {}, bool: {}}
    for value in flat:
        by_type[type(value)][value] = None
    return Distinct(
        pa.array(by_type[str], pa.large_string()),
        np.array(list(by_type[int]), np.int64),
        np.array(list(by_type[float]), np.float64),
        np.array(list(by_type[bool]), bool),
    )


def _unique(values: NDArray[Any]) -> NDArray[Any]:
    """Each value once, in the order of first sight; Arrow's hashing takes a quarter of the time of NumPy's sorting."""
    if not len(values):
        return values
    found: NDArray[Any] = pc.unique(pa.array(values)).to_numpy(zero_copy_only=False)
    return found


def union(parts: Sequence[Distinct]) -> Distinct:
    """The values of all parts, each once, those of earlier parts first."""
    parts = [part for part in parts if len(part)]
    if not parts:
        return Distinct.none()
    if len(parts) == 1:
        return parts[0]
    texts = [part.strings for part in parts if len(part.strings)]
    return Distinct(
        pc.unique(pa.concat_arrays(texts)) if len(texts) > 1 else texts[0] if texts else _NO_TEXT,
        _unique(np.concatenate([part.ints for part in parts])),
        _unique(np.concatenate([part.doubles for part in parts])),
        _unique(np.concatenate([part.bools for part in parts])),
    )


class Union:
    """A union that grows, folded now and then: each value is hashed about twice, however many parts come.

    fold_min    values that wait until they are folded in
    """

    def __init__(self, fold_min: int = FOLD_MIN) -> None:
        self.known = Distinct.none()
        """What is folded in so far; `text_bytes`: bytes that its strings take in an answer."""
        self.text_bytes = 0
        self._fold_min = fold_min
        self._waiting: list[Distinct] = []
        self._waiting_count = 0

    def add(self, part: Distinct) -> None:
        self._waiting.append(part)
        self._waiting_count += len(part)
        if self._waiting_count > max(self._fold_min, len(self.known)):
            self.all()

    def all(self) -> Distinct:
        """Everything that was added."""
        if self._waiting:
            self.known = union([self.known, *self._waiting])
            self.text_bytes = _text_bytes("string", self.known.strings)
            self._waiting, self._waiting_count = [], 0
        return self.known


@dataclass(frozen=True, slots=True)
class Caps:
    """How much of an answer is given: values and their bytes of text; 0 is no limit."""

    values_max: int
    bytes_max: int

    @property
    def fold_min(self) -> int:
        """How many values may wait, so that a small limit is noticed early."""
        return min(FOLD_MIN, self.values_max or FOLD_MIN)

    def are_passed(self, found: Union) -> bool:
        """Whether something is left out already, so that looking for more is of no use."""
        if self.values_max and len(found.known) > self.values_max:
            return True
        return 0 < self.bytes_max < found.text_bytes


def _text_bytes(kind: str, texts: pa.Array) -> int:
    """Bytes of values in an answer, as Tempo counts them: of each its text and its type."""
    return int(pc.sum(pc.binary_length(texts)).as_py() or 0) + len(kind) * len(texts)


def as_values(found: Distinct, caps: Caps) -> tuple[TagValueColumns, str]:
    """The values as text within the caps, and what was left out, if anything."""
    by_type: list[tuple[str, list[str]]] = []
    count, bytes_left = 0, caps.bytes_max
    for kind, texts in _texts(found):
        kept = texts[: caps.values_max - count] if caps.values_max else texts
        if caps.bytes_max and _text_bytes(kind, kept) > bytes_left:
            ends = np.cumsum(pc.binary_length(kept).to_numpy().astype(np.int64) + len(kind))
            kept = kept[: int(np.searchsorted(ends, bytes_left, side="right"))]
        bytes_left -= _text_bytes(kind, kept)
        if len(kept):
            by_type.append((kind, kept.to_pylist()))
        count += len(kept)
    values = TagValueColumns(by_type)
    left_out = len(found) - count
    if not left_out:
        return values, ""
    if caps.values_max and count >= caps.values_max:
        return values, f"only {count} values are given, as many as were asked for"
    return values, (
        f"{count} values are given, {left_out} or more are left out: their text is larger than "
        f"read.max_bytes_per_tag_values_query, {caps.bytes_max} bytes"
    )


def _texts(found: Distinct) -> list[tuple[str, pa.Array]]:
    numbers = (
        ("int", [str(v) for v in found.ints.tolist()]),
        ("float", [_float_text(v) for v in found.doubles.tolist()]),
        ("bool", ["true" if v else "false" for v in found.bools.tolist()]),
    )
    of_numbers = ((kind, pa.array(texts, pa.large_string())) for kind, texts in numbers if texts)
    return [("string", found.strings), *of_numbers]


def _float_text(value: float) -> str:
    """Never to be taken for an int: 500.0."""
    if math.isnan(value):
        return "NaN"
    return f"{value}".replace("inf", "Inf") if value < 0 or not math.isinf(value) else "+Inf"
