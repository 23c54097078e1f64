"""Field expressions: which spans of a frame satisfy `{ … }`.

Rule 1  a condition is decided at the level where its fields vary: one on a resource attribute looks at a dozen resources.
Rule 2  conditions on events that are joined by && must hold for the same event, likewise for links; then one event is enough.
        `!` is applied to the span: no event holds. So is what is done with a condition as a value.
Rule 3  what is cheap is asked first, and when nothing is left, nothing more is read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import assert_never

import numpy as np

from vivace.model.frame import Level, Mask, Rows
from vivace.query.fields import level_of, read
from vivace.query.groups import Coded, code
from vivace.query.spans import Spans
from vivace.query.values import Values, calculate, compare, compare_static, constant, negate, truth
from vivace.traceql.ast import (
    ARITHMETIC,
    COMPARISONS,
    Attribute,
    Binary,
    FieldExpression,
    Intrinsic,
    Operator,
    Static,
    StaticKind,
    Unary,
    UnaryOperator,
    walk,
)

_COST = {Level.RESOURCE: 0, Level.SCOPE: 1, Level.TRACE: 2, Level.SPAN: 3, Level.LINK: 5, Level.EVENT: 6}
_ATTRIBUTE_COST = 1
"""An attribute of spans may have to be looked for in the overflow; fixed columns are always at hand."""

FLIPPED = {
    Operator.LESS: Operator.GREATER,
    Operator.LESS_EQUAL: Operator.GREATER_EQUAL,
    Operator.GREATER: Operator.LESS,
    Operator.GREATER_EQUAL: Operator.LESS_EQUAL,
}


@dataclass(frozen=True, slots=True)
class _Held:
    """A condition at a level."""

    level: Level
    mask: Mask


def matching(spans: Spans, expression: FieldExpression | None) -> Mask:
    """The spans that satisfy the expression of a spanset filter."""
    if expression is None:
        return np.ones(spans.count, bool)
    held = _condition(spans, expression)
    return spans.lift_mask(held.mask, held.level)


def conjuncts(expression: FieldExpression) -> list[FieldExpression]:
    """What must hold at the same time, cheapest first."""
    found, pending = [], [expression]
    while pending:
        node = pending.pop()
        if isinstance(node, Binary) and node.op is Operator.AND:
            pending += (node.rhs, node.lhs)
        else:
            found.append(node)
    return sorted(found, key=cost)


def cost(expression: FieldExpression) -> int:
    """How dear a condition is, for ordering: the dearest of its fields counts."""
    costs = [0]
    for node in walk(expression):
        if isinstance(node, Attribute | Intrinsic):
            level = level_of(node)
            of_spans = isinstance(node, Attribute) and level is Level.SPAN
            costs.append(_COST[level] + (_ATTRIBUTE_COST if of_spans else 0))
    return max(costs)


def _condition(spans: Spans, expression: FieldExpression) -> _Held:
    match expression:
        case Static():
            return _Held(Level.SPAN, np.full(spans.count, expression.value is True))
        case Attribute() | Intrinsic():
            values = read(spans, expression)
            return _Held(values.level, compare_static(values, Operator.EQUAL, Static(StaticKind.BOOL, True)))
        case Unary(op=UnaryOperator.NOT):
            held = _of_spans(spans, _condition(spans, expression.operand))
            return _Held(held.level, ~held.mask)
        case Binary(op=Operator.AND):
            return _all(spans, conjuncts(expression))
        case Binary(op=Operator.OR):
            return _either(spans, _condition(spans, expression.lhs), _condition(spans, expression.rhs))
        case Binary(op=op) if op in COMPARISONS:
            return _comparison(spans, expression)
        case Binary() | Unary():
            return _Held(Level.SPAN, np.zeros(spans.count, bool))  # a number is not true
        case _:
            assert_never(expression)


def _of_spans(spans: Spans, held: _Held) -> _Held:
    """A condition on events or links as one on spans: one that holds is enough."""
    if held.level not in (Level.EVENT, Level.LINK):
        return held
    return _Held(Level.SPAN, spans.lift_mask(held.mask, held.level))


def _all(spans: Spans, parts: list[FieldExpression]) -> _Held:
    by_level: dict[Level, Mask] = {}
    for part in parts:
        held = _condition(spans, part)
        before = by_level.get(held.level)
        mask = held.mask if before is None else before & held.mask
        if not mask.any():
            return _Held(held.level, mask)
        by_level[held.level] = mask
    if len(by_level) == 1:
        return _Held(*next(iter(by_level.items())))
    lifted = [spans.lift_mask(mask, level) for level, mask in by_level.items()]
    return _Held(Level.SPAN, np.logical_and.reduce(lifted))


def _either(spans: Spans, a: _Held, b: _Held) -> _Held:
    if a.level is b.level:
        return _Held(a.level, a.mask | b.mask)
    return _Held(Level.SPAN, spans.lift_mask(a.mask, a.level) | spans.lift_mask(b.mask, b.level))


def _comparison(spans: Spans, node: Binary) -> _Held:
    lhs, op, rhs = node.lhs, node.op, node.rhs
    if isinstance(lhs, Static) and not isinstance(rhs, Static):
        lhs, op, rhs = rhs, FLIPPED.get(op, op), lhs
    a = evaluate(spans, lhs)
    if isinstance(rhs, Static):
        if rhs.kind is not StaticKind.NIL:
            return _Held(a.level, compare_static(a, op, rhs))
        exists = a.exists()
        return _Held(a.level, exists if op is Operator.NOT_EQUAL else ~exists)
    a, b = _together(spans, a, evaluate(spans, rhs))
    return _Held(a.level, compare(a, op, b))


def _together(spans: Spans, a: Values, b: Values) -> tuple[Values, Values]:
    """Both at one level: where they differ that of the events, else of the links, else of the spans."""
    if a.level is b.level:
        return a, b
    level = next((v for v in (Level.EVENT, Level.LINK) if v in (a.level, b.level)), Level.SPAN)
    if level is Level.EVENT:  # what is of links is of the span's first then
        a, b = (of_spans(spans, v) if v.level is Level.LINK else v for v in (a, b))
    return spans.lift(a, level), spans.lift(b, level)


def at_rows(spans: Spans, values: Values, rows: Rows) -> Values:
    """Values of some spans, as of_spans() gives them, without lifting those of all others."""
    match values.level:
        case Level.RESOURCE | Level.SCOPE | Level.TRACE:
            return values.take(spans.frame.owners(values.level)[rows], Level.SPAN)
        case Level.SPAN:
            return values.take(rows, Level.SPAN)
        case _:
            return of_spans(spans, values).take(rows, Level.SPAN)


def code_rows(spans: Spans, values: Values, rows: Rows) -> Coded:
    """Values of some spans by code, coded where they vary: a dozen resources rather than all spans."""
    if values.level in (Level.RESOURCE, Level.SCOPE, Level.TRACE):
        coded = code(values)
        return replace(coded, codes=coded.codes[spans.frame.owners(values.level)[rows]])
    return code(at_rows(spans, values, rows))


def of_spans(spans: Spans, values: Values, *, last: bool = False) -> Values:
    """Values of spans; of events and links the first (or last) of each span that has one."""
    if values.level not in (Level.EVENT, Level.LINK):
        return spans.lift(values, Level.SPAN)
    owners = spans.frame.owners(values.level)
    rows = np.flatnonzero(values.exists())
    if not len(rows):
        return Values(Level.SPAN, spans.count)
    row = np.full(spans.count, -1, np.int64)
    rows = rows if last else rows[::-1]
    row[owners[rows]] = rows  # of several the last assignment stands
    return values.take(np.maximum(row, 0), Level.SPAN).where(row >= 0)


def evaluate(spans: Spans, expression: FieldExpression) -> Values:
    """The values of an expression, at the level where it varies."""
    match expression:
        case Static():
            return constant(expression, Level.SPAN, spans.count)
        case Attribute() | Intrinsic():
            return read(spans, expression)
        case Unary(op=UnaryOperator.NEGATE):
            return negate(evaluate(spans, expression.operand))
        case Binary(op=op) if op in ARITHMETIC:
            return calculate(*_operands(spans, expression))
        case Unary() | Binary():
            held = _of_spans(spans, _condition(spans, expression))
            return truth(held.level, held.mask)
        case _:
            assert_never(expression)


def _operands(spans: Spans, node: Binary) -> tuple[Values, Operator, Values]:
    """Both sides at one level; a literal takes that of the other side."""
    if isinstance(node.lhs, Static):
        b = evaluate(spans, node.rhs)
        return constant(node.lhs, b.level, b.count), node.op, b
    a = evaluate(spans, node.lhs)
    if isinstance(node.rhs, Static):
        return a, node.op, constant(node.rhs, a.level, a.count)
    a, b = _together(spans, a, evaluate(spans, node.rhs))
    return a, node.op, b
