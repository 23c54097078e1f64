"""Spanset pipelines: spanset expressions, scalar filters, and the other stages between `|`.

Structural operators (level 3) bind tighter than `&&` and `||` (level 2, both); all group to the left.

In parentheses stand spanset expressions, scalars and whole pipelines, and only what follows tells which. A pipeline in parentheses
combines only with other operands in parentheses, as in Tempo: `({ … } | count() > 1) && ({ … })`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from vivace.errors import TraceQLError
from vivace.traceql import fold
from vivace.traceql.ast import (
    ARITHMETIC,
    EQUALITIES,
    ORDERINGS,
    Aggregate,
    AggregateKind,
    Coalesce,
    FieldExpression,
    GroupBy,
    Operator,
    Scalar,
    ScalarFilter,
    ScalarNegation,
    ScalarOperation,
    Select,
    SpansetExpression,
    SpansetFilter,
    SpansetOperation,
    SpansetOperator,
    SpansetPipeline,
    Stage,
    Static,
)
from vivace.traceql.cursor import Cursor, Grammar
from vivace.traceql.field_grammar import OPERATORS, RIGHTWARD, SUM_LEVEL, field_expression, field_list
from vivace.traceql.lexer import Token, error_at, line_and_column

STRUCTURE_LEVEL, LOGIC_LEVEL = 3, 2

_SPANSET_LOGIC = frozenset({SpansetOperator.AND, SpansetOperator.OR})
_SPANSET_OPERATORS = {
    op.value: (LOGIC_LEVEL if op in _SPANSET_LOGIC else STRUCTURE_LEVEL, op) for op in SpansetOperator
}
_SCALAR_OPERATORS = {text: found for text, found in OPERATORS.items() if found[1] in ARITHMETIC}
_SCALAR_COMPARISONS = {op.value: op for op in EQUALITIES | ORDERINGS}
_AGGREGATES = {kind.value: kind for kind in AggregateKind}


@dataclass(frozen=True, slots=True)
class _Operand:
    """A spanset expression, where the first filter outside parentheses stands, and where the first `|` inside them does."""

    node: SpansetExpression
    bare_at: int | None
    pipe_at: int | None


@dataclass(frozen=True, slots=True)
class _Scalar:
    node: Scalar


_Element: TypeAlias = _Operand | _Scalar | GroupBy | Coalesce | Select


def pipeline(cursor: Cursor, ends_before: Callable[[], bool]) -> tuple[Stage, ...]:
    """Stages up to the end, or up to a `|` that is followed by something for which `ends_before` holds (the `|` is consumed)."""
    stages = [_stage(cursor, _first(cursor))]
    while cursor.accept("|") and not ends_before():
        stages.append(_stage(cursor, _element(cursor)))
    return tuple(stages)


def spanset_filter(cursor: Cursor) -> SpansetFilter:
    """`{ [expression] }`"""
    start = cursor.expect("{").start
    expression = None if cursor.at("}") else field_expression(cursor)
    cursor.expect("}", said=False)
    return SpansetFilter(expression, offset=start)


def _first(cursor: Cursor) -> _Element:
    """The first element of a pipeline: there is nothing yet to merge or to select from."""
    if cursor.at("coalesce", "select"):
        raise cursor.unexpected(hint="a pipeline begins with a filter: { } | …")
    return _element(cursor)


def _element(cursor: Cursor) -> _Element:
    """A stage, or the scalar that begins a scalar filter."""
    token = cursor.token
    if cursor.accept("by"):
        return GroupBy(_expression_list(cursor), offset=token.start)
    if cursor.accept("coalesce"):
        cursor.expect("(")
        cursor.expect(")")
        return Coalesce(offset=token.start)
    if cursor.accept("select"):
        return Select(field_list(cursor), offset=token.start)
    if cursor.at("("):
        inside = _parenthesised(cursor)
        return _scalar(cursor, inside) if isinstance(inside, _Scalar) else _spanset(cursor, inside)
    if cursor.at("{"):
        return _spanset(cursor, _filter_operand(cursor))
    if cursor.at("-", *_AGGREGATES) or _number(token) is not None:
        return _scalar(cursor)
    raise cursor.unexpected()


def _stage(cursor: Cursor, element: _Element) -> Stage:
    """The stage that `element` is or begins."""
    match element:
        case _Operand():
            return element.node
        case _Scalar():
            return _scalar_filter(cursor, element.node)
        case GroupBy() | Coalesce() | Select():
            return element


def _parenthesised(cursor: Cursor) -> _Operand | _Scalar:
    """`( … )` around a scalar, a spanset expression or a pipeline."""
    side = "rhs" if cursor.previous in _SCALAR_COMPARISONS else "lhs"
    with cursor.nested():
        start = cursor.expect("(").start
        element = _first(cursor)
        if isinstance(element, _Scalar) and cursor.accept(")"):
            return element
        stages, pipe_at = [_stage(cursor, element)], cursor.token.start
        while cursor.accept("|"):
            element = _element(cursor)
            if isinstance(element, _Scalar) and cursor.at(")"):
                raise _scalar_pipeline(cursor, start, side)
            stages.append(_stage(cursor, element))
        cursor.expect(")", said=False)
    if isinstance(element, _Operand) and len(stages) == 1:
        return _Operand(element.node, None, element.pipe_at)
    return _Operand(SpansetPipeline(tuple(stages), offset=start), None, pipe_at)


def _scalar_pipeline(cursor: Cursor, start: int, side: str) -> TraceQLError:
    """The error of `({ } | count()) > 2`: a pipeline that ends in a scalar, to be compared outside."""
    message = f"scalar filter {side} of type (%v) not yet supported"
    hint = "compare inside the pipeline: ({ } | count() > 2)"
    line, column = line_and_column(cursor.text, start)
    return TraceQLError(message, text=cursor.text, line=line, column=column, hint=hint)


# Spanset expressions


def _spanset(cursor: Cursor, first: _Operand) -> _Operand:
    grammar = Grammar(_SPANSET_OPERATORS, lambda: _spanset_operand(cursor), _Join(cursor), _SPANSET_LOGIC)
    return grammar.parse(cursor, LOGIC_LEVEL, first)


def _spanset_operand(cursor: Cursor) -> _Operand:
    if cursor.at("{"):
        return _filter_operand(cursor)
    if cursor.at("("):
        start = cursor.token.start
        inside = _parenthesised(cursor)
        if isinstance(inside, _Operand):
            return inside
        message = "syntax error: a number cannot be an operand of a spanset operator"
        raise error_at(cursor.text, start, message, expected="{ or (")
    raise cursor.unexpected("{", "(")


def _filter_operand(cursor: Cursor) -> _Operand:
    found = spanset_filter(cursor)
    return _Operand(found, found.offset, None)


@dataclass(frozen=True, slots=True)
class _Join:
    """Builds a spanset operation; refuses a pipeline in parentheses beside an operand without them."""

    cursor: Cursor

    def __call__(self, op: SpansetOperator, lhs: _Operand, rhs: _Operand, offset: int) -> _Operand:
        hint = "beside a pipeline in parentheses put the other operand in parentheses too: ({ … })"
        if lhs.pipe_at is not None and rhs.bare_at is not None:
            message = "syntax error: unexpected {, expecting ("
            raise error_at(self.cursor.text, rhs.bare_at, message, found="{", expected="(", hint=hint)
        if lhs.bare_at is not None and rhs.pipe_at is not None:
            message = "syntax error: unexpected |"
            raise error_at(self.cursor.text, rhs.pipe_at, message, found="|", hint=hint)
        return _Operand(
            SpansetOperation(op, lhs.node, rhs.node, offset=offset),
            rhs.bare_at if lhs.bare_at is None else lhs.bare_at,
            rhs.pipe_at if lhs.pipe_at is None else lhs.pipe_at,
        )


# Scalars


def _scalar_filter(cursor: Cursor, lhs: Scalar) -> ScalarFilter:
    """The rest of `lhs op rhs`."""
    if not cursor.at(*_SCALAR_COMPARISONS):
        raise cursor.unexpected(hint="a number is compared: count() > 2")
    operator = cursor.advance()
    return ScalarFilter(_SCALAR_COMPARISONS[operator.text], lhs, _scalar(cursor).node, offset=operator.start)


def _scalar(cursor: Cursor, first: _Scalar | None = None, level: int = SUM_LEVEL) -> _Scalar:
    grammar = Grammar(_SCALAR_OPERATORS, lambda: _scalar_operand(cursor), _join_scalars, rightward=RIGHTWARD)
    with cursor.nested():
        return grammar.parse(cursor, level, first)


def _scalar_operand(cursor: Cursor) -> _Scalar:
    token = cursor.token
    if cursor.accept("-"):
        operand = _scalar(cursor, level=SUM_LEVEL + 1).node
        negated = fold.negate(operand, offset=token.start) if isinstance(operand, Static) else None
        return _Scalar(negated or ScalarNegation(operand, offset=token.start))
    if (number := _number(token)) is not None:
        cursor.advance()
        return _Scalar(number)
    if cursor.at(*_AGGREGATES):
        return _Scalar(_aggregate(cursor))
    if cursor.at("("):
        inside = _parenthesised(cursor)
        if isinstance(inside, _Scalar):
            return inside
        raise error_at(cursor.text, token.start, "syntax error: a spanset cannot be compared with a number")
    raise cursor.unexpected()


def _number(token: Token) -> Static | None:
    return token.leaf if isinstance(token.leaf, Static) and token.leaf.kind in fold.NUMBERS else None


def _aggregate(cursor: Cursor) -> Aggregate:
    """`count()`, or another aggregate of one expression."""
    name = cursor.advance()
    kind = _AGGREGATES[name.text]
    cursor.expect("(")
    argument = None if kind is AggregateKind.COUNT else field_expression(cursor)
    cursor.expect(")", said=argument is None)
    return Aggregate(kind, argument, offset=name.start)


def _join_scalars(op: Operator, lhs: _Scalar, rhs: _Scalar, offset: int) -> _Scalar:
    if isinstance(lhs.node, Static) and isinstance(rhs.node, Static):
        value = fold.arithmetic(op, lhs.node, rhs.node, offset=offset)
        if value is not None:
            return _Scalar(value)
    return _Scalar(ScalarOperation(op, lhs.node, rhs.node, offset=offset))


def _expression_list(cursor: Cursor) -> tuple[FieldExpression, ...]:
    """`( expression { , expression } )`"""
    cursor.expect("(")
    found = [field_expression(cursor)]
    while cursor.accept(","):
        found.append(field_expression(cursor))
    cursor.expect(")", said=False)
    return tuple(found)
