"""Operations on constants, done while parsing: `{ "a" != "b" && kind = server }` is `true && kind = server`.

An operation is left as it is where it has no value: types that do not go together, division of integers by zero, results beyond
64 bits or beyond the floats. check.py refuses what is left. Regular expressions are left to the engine.

Numbers: of int, float and duration the later in this row decides the result's type; a duration is a number of nanoseconds. Division
and modulo of integers cut towards zero, as Go's do; integer power is exact, and cut towards zero where the exponent is negative.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any, assert_never

from vivace.traceql.ast import (
    ARITHMETIC,
    INT_MAX,
    INT_MIN,
    Binary,
    FieldExpression,
    Operator,
    Static,
    StaticKind,
    Unary,
    UnaryOperator,
)

NUMBERS = frozenset({StaticKind.INT, StaticKind.FLOAT, StaticKind.DURATION})

_COMPARE: Mapping[Operator, Callable[[Any, Any], bool]] = {
    Operator.EQUAL: operator.eq,
    Operator.NOT_EQUAL: operator.ne,
    Operator.LESS: operator.lt,
    Operator.LESS_EQUAL: operator.le,
    Operator.GREATER: operator.gt,
    Operator.GREATER_EQUAL: operator.ge,
}

_ORDERED = NUMBERS | {StaticKind.STRING}


def unary(op: UnaryOperator, operand: FieldExpression, *, offset: int) -> FieldExpression:
    """`op operand`, as a Static if it has a value."""
    if isinstance(operand, Static):
        match op:
            case UnaryOperator.NOT:
                if operand.kind is StaticKind.BOOL:
                    return Static(StaticKind.BOOL, not operand.value, offset=offset)
            case UnaryOperator.NEGATE:
                if (negated := negate(operand, offset=offset)) is not None:
                    return negated
            case _:
                assert_never(op)
    return Unary(op, operand, offset=offset)


def binary(op: Operator, lhs: FieldExpression, rhs: FieldExpression, *, offset: int) -> FieldExpression:
    """`lhs op rhs`, as a Static if it has a value."""
    if isinstance(lhs, Static) and isinstance(rhs, Static):
        value = arithmetic(op, lhs, rhs, offset=offset) if op in ARITHMETIC else _truth(op, lhs, rhs, offset)
        if value is not None:
            return value
    return Binary(op, lhs, rhs, offset=offset)


def negate(static: Static, *, offset: int) -> Static | None:
    match static.kind, static.value:
        case ((StaticKind.INT | StaticKind.DURATION), int(value)):
            return _integer(static.kind, -value, offset)
        case StaticKind.FLOAT, float(value):
            return Static(StaticKind.FLOAT, -value, offset=offset)
        case _:
            return None


def arithmetic(op: Operator, lhs: Static, rhs: Static, *, offset: int) -> Static | None:
    """The value of an operation of ARITHMETIC on two numbers, None if there is none."""
    if not {lhs.kind, rhs.kind} <= NUMBERS:
        return None
    a, b = lhs.value, rhs.value
    assert isinstance(a, int | float)  # by the kinds
    assert isinstance(b, int | float)
    kind = next(k for k in (StaticKind.DURATION, StaticKind.FLOAT, StaticKind.INT) if k in (lhs.kind, rhs.kind))
    if isinstance(a, int) and isinstance(b, int):
        whole = _whole(op, a, b)
        return None if whole is None else _integer(kind, whole, offset)
    real = _real(op, float(a), float(b))
    if real is None or not math.isfinite(real):
        return None
    if kind is StaticKind.DURATION:
        return _integer(kind, math.trunc(real), offset)
    return Static(kind, real, offset=offset)


def _integer(kind: StaticKind, value: int, offset: int) -> Static | None:
    # A duration has no literal for -2**63, so it has no value there either.
    lowest = INT_MIN if kind is StaticKind.INT else -INT_MAX
    return Static(kind, value, offset=offset) if lowest <= value <= INT_MAX else None


def _whole(op: Operator, a: int, b: int) -> int | None:
    match op:
        case Operator.ADD:
            return a + b
        case Operator.SUBTRACT:
            return a - b
        case Operator.MULTIPLY:
            return a * b
        case Operator.DIVIDE | Operator.MODULO:
            if b == 0:
                return None
            quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
            return quotient if op is Operator.DIVIDE else a - b * quotient
        case _:
            return _whole_power(a, b)


def _whole_power(base: int, exponent: int) -> int | None:
    if exponent < 0:
        if base == 0:
            return None
        return int(base ** (exponent % 2)) if abs(base) == 1 else 0
    if abs(base) > 1 and exponent > 63:  # beyond 64 bits; asked first, for 9 ^ 999999999 would take all memory
        return None
    return int(
        base ** min(exponent, 64 + exponent % 2)
    )  # past 63 the base is -1, 0 or 1: only the exponent's parity counts


def _real(op: Operator, a: float, b: float) -> float | None:
    try:
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
                return math.fmod(a, b)
            case _:
                return math.pow(a, b)
    except (ArithmeticError, ValueError):  # by zero, overflow, a root of a negative number
        return None


def _truth(op: Operator, lhs: Static, rhs: Static, offset: int) -> Static | None:
    result: bool
    if StaticKind.NIL in (lhs.kind, rhs.kind):
        # Nothing is equal to nil but what is missing, and a constant is never missing: of two nils, both comparisons are false.
        both = lhs.kind is rhs.kind
        result = op is Operator.NOT_EQUAL and not both
    elif lhs.kind is not rhs.kind and not {lhs.kind, rhs.kind} <= NUMBERS:
        return None
    elif op in (Operator.AND, Operator.OR):
        if lhs.kind is not StaticKind.BOOL:
            return None
        result = bool(lhs.value and rhs.value) if op is Operator.AND else bool(lhs.value or rhs.value)
    elif op in _COMPARE:
        if op not in (Operator.EQUAL, Operator.NOT_EQUAL) and lhs.kind not in _ORDERED:
            return None
        result = _COMPARE[op](lhs.value, rhs.value)
    else:
        return None
    return Static(StaticKind.BOOL, result, offset=offset)
