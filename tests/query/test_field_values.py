"""Values: arithmetic is that of constants (traceql/fold.py), comparisons are those of single values; at the ends of 64 bits too."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import oracle_conditions
import pyarrow as pa
import pytest
from oracle_traces import Duration, Value

from vivace.model.frame import Compounds, Level, Numbers, Strings
from vivace.model.proto import otlp_pb2
from vivace.model.schema import ValueType
from vivace.query.groups import plain
from vivace.query.values import Ids, Lane, Values, calculate, compare, compare_static, constant, elements_that, negate
from vivace.traceql import fold
from vivace.traceql.ast import ARITHMETIC, COMPARISONS, INT_MAX, INT_MIN, Operator, Static, StaticKind
from vivace.traceql.types import Type

MATCHING = (Operator.REGEX, Operator.NOT_REGEX)

INTS = (0, 1, -1, 2, 3, -7, 63, 64, 2**31, -(2**31), 3**39, 2**53 + 1, INT_MAX, INT_MAX - 1, INT_MIN, INT_MIN + 1)
FLOATS = (0.0, -0.5, 1.0, 2.0, 2.5, -3.0, 1e18, 1e300, 2.0**63, -(2.0**63))
DURATIONS = (0, 1, -5, 1_000_000_007, INT_MAX)

KINDS: dict[type, tuple[Type, StaticKind]] = {
    int: (Type.INT, StaticKind.INT),
    float: (Type.FLOAT, StaticKind.FLOAT),
    Duration: (Type.DURATION, StaticKind.DURATION),
    bool: (Type.BOOL, StaticKind.BOOL),
    str: (Type.STRING, StaticKind.STRING),
}


def column(values: list[Any]) -> Values:
    """One row a value: of int, float, Duration, bool, str, tuple (an array), bytes or None."""
    lanes = []
    for python, (kind, _) in KINDS.items():
        valid = np.array([type(v) is python for v in values])
        if not valid.any():
            continue
        if python is str:
            table = sorted({v for v in values if type(v) is str})
            codes = [table.index(v) if type(v) is str else len(table) for v in values]
            lanes.append(Lane(kind, Strings(np.array(codes, np.int32), pa.array(table, pa.string()))))
        else:
            dtype = {float: np.float64, bool: np.bool_}.get(python, np.int64)
            numbers = np.array([v if ok else 0 for v, ok in zip(values, valid, strict=True)], dtype)
            lanes.append(Lane(kind, Numbers(numbers, None if valid.all() else valid)))
    odd = [i for i, v in enumerate(values) if isinstance(v, tuple | bytes)]
    kinds = tuple(ValueType.ARRAY if isinstance(values[i], tuple) else ValueType.BYTES for i in odd)
    compounds = Compounds(np.array(odd, np.int64), kinds, tuple(encoded(values[i]) for i in odd)) if odd else None
    return Values(Level.SPAN, len(values), tuple(lanes), compounds)


def encoded(value: tuple[Any, ...] | bytes) -> bytes:
    if isinstance(value, bytes):
        return value
    array = otlp_pb2.ArrayValue()
    for each in value:
        name = {str: "string_value", int: "int_value", float: "double_value", bool: "bool_value"}[type(each)]
        setattr(array.values.add(), name, each)
    return array.SerializeToString()


def static(value: Any) -> Static:
    return Static(KINDS[type(value)][1], int(value) if isinstance(value, Duration) else value)


def rows(values: Values) -> list[tuple[str, object]]:
    """(type, value) of each row; a duration as a number."""
    found: list[tuple[str, object]] = [("none", None)] * values.count
    for lane in values.lanes:
        assert isinstance(lane.column, Numbers)
        valid = np.ones(values.count, bool) if lane.column.valid is None else lane.column.valid
        for row in np.flatnonzero(valid).tolist():
            assert found[row] == ("none", None), "one value a row"
            found[row] = (lane.type.name, lane.column.values[row].item())
    return found


def row(value: Static | None) -> tuple[str, object]:
    return ("none", None) if value is None else (value.kind.name, value.value)


NUMBERS: list[Any] = [*INTS, *FLOATS, *(Duration(d) for d in DURATIONS)]


@pytest.mark.parametrize("op", sorted(ARITHMETIC, key=lambda op: op.value), ids=lambda op: op.value)
def test_arithmetic_is_that_of_constants(op: Operator) -> None:
    pairs = list(product(NUMBERS, NUMBERS))
    got = rows(calculate(column([a for a, _ in pairs]), op, column([b for _, b in pairs])))
    want = [row(fold.arithmetic(op, static(a), static(b), offset=0)) for a, b in pairs]
    wrong = [(pair, g, w) for pair, g, w in zip(pairs, got, want, strict=True) if not same(g, w)]
    assert wrong == []


def same(a: tuple[str, object], b: tuple[str, object]) -> bool:
    """Powers of floats may differ in the last digit between C libraries."""
    return a == b or (a[0] == b[0] == "FLOAT" and a[1] == pytest.approx(b[1], rel=1e-14))


def test_negation_is_that_of_constants() -> None:
    assert rows(negate(column(NUMBERS))) == [row(fold.negate(static(v), offset=0)) for v in NUMBERS]
    assert rows(negate(column(["a", True, None, (1,), b"1"]))) == [("none", None)] * 5


COMPARED: list[Any] = [
    None, 0, 1, -1, INT_MAX, 2.5, 1.0, Duration(1), "", "a", "b", "é", "1", True, False, b"a",
    (), (1, 2), ("a", "c"), (1, "a", 2.5, True), (False,), ("",),
]  # fmt: skip


@pytest.mark.parametrize("op", sorted(COMPARISONS - set(MATCHING), key=lambda op: op.value), ids=lambda op: op.value)
def test_comparisons_are_those_of_single_values(op: Operator) -> None:
    def holds(a: Value, b: Value) -> bool:
        return oracle_conditions.compare(op, a, b)

    def ordered(value: Any) -> bool:  # no checked query asks for the order of booleans
        return op in (Operator.EQUAL, Operator.NOT_EQUAL) or not isinstance(value, bool | tuple)

    pairs = [(a, b) for a, b in product(COMPARED, COMPARED) if ordered(a) and ordered(b)]
    left, right = column([a for a, _ in pairs]), column([b for _, b in pairs])
    assert compare(left, op, right).tolist() == [holds(a, b) for a, b in pairs]
    for literal in (v for v in COMPARED if type(v) in KINDS and ordered(v)):
        values = [v for v in COMPARED if ordered(v)]
        expected = [holds(v, literal) for v in values]
        assert compare_static(column(values), op, static(literal)).tolist() == expected, literal
        constants = constant(static(literal), Level.SPAN, len(values))
        assert compare(column(values), op, constants).tolist() == expected, literal


# pattern, the strings of a, ab, A, x\ny, "" that match
PATTERNS = [
    ("a", ["a"]),
    ("a.*", ["a", "ab"]),
    (".*b.*", ["ab"]),
    (".*b", ["ab"]),
    ("(?i)a", ["a", "A"]),
    ("x.y", ["x\ny"]),
    ("", [""]),
    (".*", ["a", "ab", "A", "x\ny", ""]),
    (".*.*", ["a", "ab", "A", "x\ny", ""]),
    ("a|b", ["a"]),
    ("^a$", ["a"]),
    ("[a-z]+", ["a", "ab"]),
    ("a|ab", ["a", "ab"]),
]


@pytest.mark.parametrize(("pattern", "matching"), PATTERNS)
def test_patterns_match_the_whole_string(pattern: str, matching: list[str]) -> None:
    texts = ["a", "ab", "A", "x\ny", ""]
    values, literal = column([*texts, None, 1, ("zz", "a")]), Static(StaticKind.STRING, pattern)
    in_array = "a" in matching
    found = compare_static(values, Operator.REGEX, literal).tolist()
    assert found[:5] == [t in matching for t in texts]
    assert found[5:7] == [False, False]
    assert found[7] == (in_array or pattern in (".*", ".*.*", "[a-z]+"))
    others = compare_static(values, Operator.NOT_REGEX, literal).tolist()
    assert others[:7] == [t not in matching for t in texts] + [False, False]


def test_ids() -> None:
    spans = Values(Level.SPAN, 3, (Lane(Type.STRING, Ids((np.array([0xAB, 0, 2**64 - 1], np.uint64),))),))
    cases = [
        (Operator.EQUAL, "AB", [True, False, False]),
        (Operator.EQUAL, "0000000000000000000000ab", [True, False, False]),
        (Operator.EQUAL, "", [False, True, False]),
        (Operator.EQUAL, "0", [False, True, False]),
        (Operator.EQUAL, "f" * 16, [False, False, True]),
        (Operator.EQUAL, "f" * 17, [False, False, False]),
        (Operator.EQUAL, "-1", [False, False, False]),
        (Operator.EQUAL, "a_b", [False, False, False]),
        (Operator.NOT_EQUAL, "xyz", [True, True, True]),
        (Operator.LESS, "00000000000000ac", [True, True, False]),
        (Operator.REGEX, "0+ab", [True, False, False]),
    ]
    for op, text, expected in cases:
        assert compare_static(spans, op, Static(StaticKind.STRING, text)).tolist() == expected, (op, text)


def test_elements_that_satisfy_a_comparison() -> None:
    array = ("a", 1, 2.5, True, None, (1,))
    assert elements_that(array, [(Operator.GREATER, static(0))]) == (1, 2.5)
    assert elements_that(array, [(Operator.EQUAL, static(True)), (Operator.EQUAL, static("a"))]) == ("a", True)
    assert elements_that((), [(Operator.EQUAL, static(1))]) == ()


def test_rows_taken_and_left_out() -> None:
    values = column([1, None, "a", (1, 2), True, b"x"])
    assert plain(values.take(np.array([3, 0, 3, 1, 2]), Level.EVENT)) == [(1, 2), 1, (1, 2), None, "a"]
    kept = values.where(np.array([False, True, True, False, False, True]))
    assert plain(kept) == [None, None, "a", None, None, b"x"]
    assert kept.exists().tolist() == [False, False, True, False, False, True]
