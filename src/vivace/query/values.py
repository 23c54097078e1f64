"""What a field expression is worth, row by row: one column for each type that occurs.

Rule 1  a row has a value in at most one lane; a row in no lane has none (nil), and no comparison with it holds.
Rule 2  int, float and duration compare and calculate as numbers; no other two types do.
Rule 3  an array compares as any of its elements; maps, bytes and arrays of arrays are there (`!= nil`), and equal to nothing.
Rule 4  arithmetic without a result (integer division by zero, a float that is not finite) has no value.

Where the values come from: fields.py.  What is asked of them: filters.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vivace.model.frame import Compounds, Level, Mask, Numbers, Rows, Strings
from vivace.model.schema import KINDS, STATUSES
from vivace.query.arrays import Decoded, elements
from vivace.query.verdicts import hex_digits, verdict
from vivace.traceql.ast import INT_MIN, Operator, Static, StaticKind
from vivace.traceql.fold import arithmetic
from vivace.traceql.types import NUMERIC, Type, static_type


@dataclass(frozen=True, slots=True)
class Ids:
    """Ids as numbers: one word (64 bits) or two, high word first. Read as text they are lower hex digits."""

    words: tuple[NDArray[np.uint64], ...]

    def __len__(self) -> int:
        return len(self.words[0])

    def strings(self) -> Strings:
        """All ids spelled out; for what numbers cannot do: order, patterns, other columns."""
        text = [f"{word:016x}" for word in self.words[0].tolist()]
        if len(self.words) > 1:
            text = [a + f"{word:016x}" for a, word in zip(text, self.words[1].tolist(), strict=True)]
        encoded = pa.array(text, pa.string()).dictionary_encode()
        return Strings(encoded.indices.to_numpy(), encoded.dictionary)


Column: TypeAlias = Strings | Numbers | Ids


@dataclass(frozen=True, slots=True)
class Lane:
    """The values of one type. STRING: Strings or Ids, else Numbers; STATUS and KIND are OTLP's numbers, DURATION nanoseconds."""

    type: Type
    column: Column


@dataclass(frozen=True, slots=True)
class Values:
    """The values of an expression at one level of a frame: `count` rows."""

    level: Level
    count: int
    lanes: tuple[Lane, ...] = ()
    compounds: Compounds | None = None

    def exists(self) -> Mask:
        """Rows that have a value."""
        found = np.zeros(self.count, bool)
        for lane in self.lanes:
            valid = _valid(lane.column)
            if valid is None:
                return np.ones(self.count, bool)
            found |= valid
        if self.compounds is not None:
            found[self.compounds.rows] = True
        return found

    def take(self, rows: NDArray[np.integer[Any]], level: Level) -> Values:
        """The values of `rows`, in their order, as rows of another level."""
        lanes = tuple(Lane(lane.type, _take(lane.column, rows)) for lane in self.lanes)
        compounds = None if self.compounds is None else _take_compounds(self.compounds, rows, self.count)
        return Values(level, len(rows), lanes, compounds)

    def where(self, mask: Mask) -> Values:
        """The same rows, but only those of `mask` have a value."""
        lanes = tuple(Lane(lane.type, _where(lane.column, mask)) for lane in self.lanes)
        compounds = self.compounds
        if compounds is not None:
            compounds = pick_compounds(compounds, mask[compounds.rows])
        return replace(self, lanes=lanes, compounds=compounds)


def truth(level: Level, mask: Mask) -> Values:
    """A condition as a value."""
    return Values(level, len(mask), (Lane(Type.BOOL, Numbers(mask)),))


def constant(static: Static, level: Level, count: int) -> Values:
    """A literal in every row; nil is no value."""
    match static.kind, static.value:
        case StaticKind.NIL, _:
            return Values(level, count)
        case StaticKind.STRING, str(text):
            column: Column = Strings(np.broadcast_to(np.int32(0), count), pa.array([text], pa.string()))
        case StaticKind.STATUS, str(name):
            column = Numbers(np.broadcast_to(np.int64(STATUSES.index(name)), count))
        case StaticKind.KIND, str(name):
            column = Numbers(np.broadcast_to(np.int64(KINDS.index(name)), count))
        case _, value:
            column = Numbers(np.broadcast_to(np.asarray(value), count))
    return Values(level, count, (Lane(static_type(static.kind), column),))


# -- comparing ----------------------------------------------------------------------------------------------------------

COMPARE: dict[Operator, Callable[[Any, Any], Any]] = {
    Operator.EQUAL: np.equal,
    Operator.NOT_EQUAL: np.not_equal,
    Operator.LESS: np.less,
    Operator.LESS_EQUAL: np.less_equal,
    Operator.GREATER: np.greater,
    Operator.GREATER_EQUAL: np.greater_equal,
}


def compare_static(values: Values, op: Operator, static: Static) -> Mask:
    """Rows for which `value op static` holds; static is not nil."""
    found = np.zeros(values.count, bool)
    for lane in values.lanes:
        mask = _lane_static(lane, op, static)
        if mask is not None:
            found |= mask
    if values.compounds is not None:
        rows, exploded = _explode(values.compounds)
        found[rows[compare_static(exploded, op, static)]] = True
    return found


def _lane_static(lane: Lane, op: Operator, static: Static) -> Mask | None:
    kind = static_type(static.kind)
    match lane.column:
        case Strings() as strings:
            return verdict(strings, op, str(static.value)) if kind is Type.STRING else None
        case Ids() as ids:
            return _ids_static(ids, op, str(static.value)) if kind is Type.STRING else None
        case Numbers() as numbers:
            if kind is not lane.type and not {kind, lane.type} <= NUMERIC:
                return None
            value: Any = static.value
            if kind is Type.STATUS:
                value = STATUSES.index(value)
            elif kind is Type.KIND:
                value = KINDS.index(value)
            mask: Mask = COMPARE[op](numbers.values, value)
            return mask if numbers.valid is None else mask & numbers.valid


def _ids_static(ids: Ids, op: Operator, text: str) -> Mask:
    if op not in (Operator.EQUAL, Operator.NOT_EQUAL):
        return verdict(ids.strings(), op, text)
    try:
        number = int(text or "0", 16) if text.isalnum() or not text else -1  # int() takes signs and underscores too
    except ValueError:
        number = -1  # no hex number, so no id
    equal = np.full(len(ids), 0 <= number < 1 << 64 * len(ids.words))
    for place, word in enumerate(reversed(ids.words)):
        equal &= word == np.uint64(number >> 64 * place & 0xFFFF_FFFF_FFFF_FFFF)
    return equal if op is Operator.EQUAL else ~equal


def compare(a: Values, op: Operator, b: Values) -> Mask:
    """Rows for which `a op b` holds; both of one level."""
    found = np.zeros(a.count, bool)
    for x in a.lanes:
        for y in b.lanes:
            if x.type is y.type or {x.type, y.type} <= NUMERIC:
                found |= _compare_lanes(x, op, y)
    if a.compounds is not None:
        rows, exploded = _explode(a.compounds)
        found[rows[compare(exploded, op, b.take(rows, b.level))]] = True
    if b.compounds is not None:
        rows, exploded = _explode(b.compounds)
        others = replace(a, compounds=None)  # where both are arrays, every pair was compared above
        found[rows[compare(others.take(rows, a.level), op, exploded)]] = True
    return found


def _compare_lanes(x: Lane, op: Operator, y: Lane) -> Mask:
    a, b = x.column, y.column
    if isinstance(a, Numbers) and isinstance(b, Numbers):
        mask: Mask = COMPARE[op](a.values, b.values)
        for column in (a, b):
            if column.valid is not None:
                mask = mask & column.valid
        return mask
    assert not isinstance(a, Numbers)
    assert not isinstance(b, Numbers)  # by the types
    left, right = (c.strings() if isinstance(c, Ids) else c for c in (a, b))
    ranks = pa.concat_arrays([as_text(left.table), as_text(right.table)])
    order = pa.compute.rank(ranks, tiebreaker="dense").to_numpy().astype(np.int64)
    left_rank = np.append(order[: len(left.table)], -1)[left.codes]
    right_rank = np.append(order[len(left.table) :], -1)[right.codes]
    return COMPARE[op](left_rank, right_rank) & (left_rank >= 0) & (right_rank >= 0)  # type: ignore[no-any-return]


def elements_that(array: Sequence[Decoded], conditions: Sequence[tuple[Operator, Static]]) -> tuple[Decoded, ...]:
    """The elements of an array that satisfy one of some comparisons."""
    rows, values = _flat([0] * len(array), list(array))
    holds = np.zeros(len(rows), bool)
    for op, static in conditions:
        holds |= compare_static(values, op, static)
    return tuple(v for v, held in zip(array, holds.tolist(), strict=True) if held)


def _explode(compounds: Compounds) -> tuple[Rows, Values]:
    """Elements of all arrays: the row of each, and its value."""
    return _flat(*elements(compounds))


def _flat(rows: list[int], flat: list[Decoded]) -> tuple[Rows, Values]:
    lanes: list[Lane] = []
    for type_, python, dtype in (
        (Type.INT, int, np.int64),
        (Type.FLOAT, float, np.float64),
        (Type.BOOL, bool, np.bool_),
    ):
        places = [i for i, v in enumerate(flat) if type(v) is python]
        if places:
            values: NDArray[Any] = np.zeros(len(flat), dtype)
            values[places] = np.array([flat[i] for i in places], dtype)
            valid = np.zeros(len(flat), bool)
            valid[places] = True
            lanes.append(Lane(type_, Numbers(values, valid)))
    texts = [i for i, v in enumerate(flat) if type(v) is str]
    if texts:
        encoded = pa.array([flat[i] for i in texts], pa.string()).dictionary_encode()
        codes = np.full(len(flat), len(encoded.dictionary), np.int32)
        codes[texts] = encoded.indices.to_numpy()
        lanes.append(Lane(Type.STRING, Strings(codes, encoded.dictionary)))
    return np.array(rows, np.int64), Values(Level.SPAN, len(flat), tuple(lanes))


# -- calculating --------------------------------------------------------------------------------------------------------


def negate(values: Values) -> Values:
    """`-value` of numbers; other values have none."""
    lanes = []
    for kind, numbers in _numbers(values):
        defined = None if kind is Type.FLOAT else numbers.values != INT_MIN
        with np.errstate(over="ignore"):
            lanes.append(Lane(kind, _defined(Numbers(-numbers.values, numbers.valid), defined)))
    return Values(values.level, values.count, tuple(lanes))


def calculate(a: Values, op: Operator, b: Values) -> Values:
    """`a op b` of numbers, both of one level; other values have none."""
    by_type: dict[Type, Numbers] = {}
    for x, p in _numbers(a):
        for y, q in _numbers(b):
            kind = next((t for t in (Type.DURATION, Type.FLOAT) if t in (x, y)), Type.INT)
            result = _operate(p, op, q, kind)
            before = by_type.get(kind)
            by_type[kind] = result if before is None else _either(before, result)
    return Values(a.level, a.count, tuple(Lane(kind, numbers) for kind, numbers in by_type.items()))


def _numbers(values: Values) -> Iterator[tuple[Type, Numbers]]:
    for lane in values.lanes:
        if lane.type in NUMERIC and isinstance(lane.column, Numbers):
            yield lane.type, lane.column


def _operate(a: Numbers, op: Operator, b: Numbers, kind: Type) -> Numbers:
    valid = present(a) & present(b)
    with np.errstate(all="ignore"):
        if a.values.dtype.kind == "i" and b.values.dtype.kind == "i":
            values, defined = _whole(a.values, op, b.values)
        else:
            values = _real(a.values.astype(np.float64), op, b.values.astype(np.float64))
            defined = np.isfinite(values)
            if kind is not Type.FLOAT:
                defined = np.abs(values) < 2.0**63
                values = np.where(defined, values, 0).astype(np.int64)
        if kind is Type.DURATION:
            defined = defined & (values != INT_MIN)  # there is no such duration: fold.py
    return _defined(Numbers(values, valid), defined)


def _defined(numbers: Numbers, defined: Mask | None) -> Numbers:
    """Numbers of which only those of `defined` are there."""
    if defined is None:
        return numbers
    valid = defined if numbers.valid is None else numbers.valid & defined
    return Numbers(numbers.values, None if valid.all() else valid)


def _whole(a: NDArray[np.int64], op: Operator, b: NDArray[np.int64]) -> tuple[NDArray[np.int64], Mask]:
    """Whole numbers, and which of them there are: none beyond 64 bits. Division and modulo cut towards zero, as Go's do."""
    match op:
        case Operator.ADD:
            result = a + b
            return result, ((a ^ result) & (b ^ result)) >= 0
        case Operator.SUBTRACT:
            result = a - b
            return result, ((a ^ b) & (a ^ result)) >= 0
        case Operator.MULTIPLY:
            return _exactly(a, op, b, a * b, a.astype(np.float64) * b.astype(np.float64))
        case Operator.DIVIDE | Operator.MODULO:
            defined = b != 0
            if op is Operator.DIVIDE:
                defined &= (a != INT_MIN) | (b != -1)
            divisor = np.where(defined, b, 1)
            rest = np.fmod(a, divisor)
            return (rest if op is Operator.MODULO else (a - rest) // divisor), defined
        case _:
            about = np.power(a.astype(np.float64), b.astype(np.float64))
            about = np.where((np.abs(a) < EXACT) & (np.abs(b) < EXACT), about, np.inf)  # else -1 ^ b may lose its sign
            small = np.abs(about) < EXACT
            return _exactly(a, op, b, np.where(small, about, 0).astype(np.int64), about)


EXACT = 2.0**53
"""Whole numbers below it are what they are as floats too."""


def _exactly(
    a: NDArray[np.int64], op: Operator, b: NDArray[np.int64], result: NDArray[np.int64], about: NDArray[np.float64]
) -> tuple[NDArray[np.int64], Mask]:
    """`result`, but where it is `about` so large that it may be wrong, it is calculated number by number."""
    defined = np.ones(len(a), bool)
    for row in np.flatnonzero(~(np.abs(about) < EXACT)).tolist():
        lhs, rhs = (Static(StaticKind.INT, int(side[row])) for side in (a, b))
        exact = arithmetic(op, lhs, rhs, offset=0)
        defined[row] = exact is not None
        if exact is not None and isinstance(exact.value, int):
            result[row] = exact.value
    return result, defined


def _real(a: NDArray[np.float64], op: Operator, b: NDArray[np.float64]) -> NDArray[Any]:
    match op:
        case Operator.ADD:
            return a + b
        case Operator.SUBTRACT:
            return a - b
        case Operator.MULTIPLY:
            return a * b
        case Operator.DIVIDE:
            return a / b
        case Operator.MODULO:
            return np.fmod(a, b)
        case _:
            return np.power(a, b)


def _either(a: Numbers, b: Numbers) -> Numbers:
    """The values of both; no row has two."""
    return Numbers(np.where(present(a), a.values, b.values), present(a) | present(b))


def as_text(table: pa.Array) -> pa.Array:
    """The distinct values of a column as strings: ids of links in hex, as verdicts.py reads them."""
    return hex_digits(table) if pa.types.is_binary(table.type) else table.cast(pa.large_string())


# -- rows ---------------------------------------------------------------------------------------------------------------


def present(numbers: Numbers) -> Mask:
    """Rows that have a number."""
    return np.ones(len(numbers), bool) if numbers.valid is None else numbers.valid


def _valid(column: Column) -> Mask | None:
    match column:
        case Strings():
            return column.valid
        case Numbers():
            return column.valid
        case Ids():
            return None


def _take(column: Column, rows: NDArray[np.integer[Any]]) -> Column:
    match column:
        case Strings():
            return Strings(column.codes[rows], column.table)
        case Numbers():
            return Numbers(column.values[rows], None if column.valid is None else column.valid[rows])
        case Ids():
            return Ids(tuple(word[rows] for word in column.words))


def _where(column: Column, mask: Mask) -> Column:
    match column:
        case Strings():
            return Strings(np.where(mask, column.codes, np.int32(len(column.table))), column.table)
        case Numbers():
            return Numbers(column.values, mask if column.valid is None else column.valid & mask)
        case Ids():
            return _where(column.strings(), mask)


def pick_compounds(compounds: Compounds, wanted: Mask) -> Compounds | None:
    """Those of which `wanted` has one entry each says so; None for none."""
    if wanted.all():
        return compounds if len(compounds) else None
    picked = np.flatnonzero(wanted).tolist()
    if not picked:
        return None
    return Compounds(
        compounds.rows[picked],
        tuple(compounds.types[i] for i in picked),
        tuple(compounds.values[i] for i in picked),
    )


def _take_compounds(compounds: Compounds, rows: NDArray[np.integer[Any]], count: int) -> Compounds | None:
    place = np.full(count, -1, np.int64)
    place[compounds.rows] = np.arange(len(compounds))
    found = place[rows]
    kept = np.flatnonzero(found >= 0)
    if not len(kept):
        return None
    picked = found[kept].tolist()
    return Compounds(kept, tuple(compounds.types[i] for i in picked), tuple(compounds.values[i] for i in picked))
