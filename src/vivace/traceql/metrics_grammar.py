"""Metrics functions, and the stages behind them: `| rate() by (name) > 1 | topk(5)`.

Comparisons and more than one second stage are of Tempo 3.0; 2.10 refuses them.
"""

from __future__ import annotations

from vivace.traceql import fold
from vivace.traceql.ast import (
    EQUALITIES,
    ORDERINGS,
    BottomK,
    Compare,
    Field,
    Metrics,
    MetricsFilter,
    MetricsFunction,
    MetricsKind,
    SecondStage,
    Static,
    TopK,
)
from vivace.traceql.cursor import Cursor
from vivace.traceql.field_grammar import field, field_list
from vivace.traceql.lexer import Token, TokenKind
from vivace.traceql.pipeline_grammar import spanset_filter

COMPARE_TOP = 10
"""How many values of an attribute compare() shows unless it is told."""

_FUNCTIONS = {kind.value: kind for kind in MetricsKind}
_COMPARISONS = {op.value: op for op in EQUALITIES | ORDERINGS}


def at_metrics(cursor: Cursor) -> bool:
    """Whether the next token begins a metrics function."""
    return cursor.at("compare", *_FUNCTIONS)


def metrics(cursor: Cursor) -> Metrics:
    """The function with its grouping."""
    name = cursor.advance()
    if name.text == "compare":
        return _compare(cursor, name)
    kind = _FUNCTIONS[name.text]
    cursor.expect("(")
    argument: Field | None = None
    quantiles: list[float] = []
    if kind not in (MetricsKind.RATE, MetricsKind.COUNT):
        argument = field(cursor)
    if kind is MetricsKind.QUANTILE:
        cursor.expect(",")
        quantiles.append(_quantile(cursor))
        while cursor.accept(","):
            quantiles.append(_quantile(cursor))
    cursor.expect(")", said=argument is None)
    by = field_list(cursor) if cursor.accept("by") else ()
    return MetricsFunction(kind, argument, tuple(quantiles), by, offset=name.start)


def second_stages(cursor: Cursor) -> tuple[SecondStage, ...]:
    """Whatever follows the metrics function, up to the end or the hints."""
    found: list[SecondStage] = []
    while True:
        if cursor.at(*_COMPARISONS):
            operator = cursor.advance()
            found.append(MetricsFilter(_COMPARISONS[operator.text], _number(cursor), offset=operator.start))
        elif cursor.accept("|"):
            found.append(_limit(cursor))
        else:
            return tuple(found)


def _limit(cursor: Cursor) -> TopK | BottomK:
    if not cursor.at("topk", "bottomk"):
        raise cursor.unexpected("topk", "bottomk")
    name = cursor.advance()
    cursor.expect("(")
    limit = _integer(cursor)
    cursor.expect(")")
    return TopK(limit, offset=name.start) if name.text == "topk" else BottomK(limit, offset=name.start)


def _compare(cursor: Cursor, name: Token) -> Compare:
    """`compare({ selection } [, top [, start, end]])`"""
    cursor.expect("(")
    selection = spanset_filter(cursor)
    top, start, end = COMPARE_TOP, None, None
    if cursor.accept(","):
        top = _integer(cursor)
        if cursor.accept(","):
            start = _integer(cursor)
            cursor.expect(",")
            end = _integer(cursor)
    cursor.expect(")", said=False)
    return Compare(selection, top, start, end, offset=name.start)


def _integer(cursor: Cursor) -> int:
    """Whole numbers without a sign."""
    match cursor.token.leaf:
        case Static(value=int(value)) if cursor.token.kind is TokenKind.INTEGER:
            cursor.advance()
            return value
        case _:
            raise cursor.unexpected(TokenKind.INTEGER.value)


def _quantile(cursor: Cursor) -> float:
    match cursor.token.leaf:
        case Static(value=int() | float() as value) if cursor.token.kind in (TokenKind.INTEGER, TokenKind.FLOAT):
            cursor.advance()
            return float(value)
        case _:
            raise cursor.unexpected(TokenKind.INTEGER.value, TokenKind.FLOAT.value)


def _number(cursor: Cursor) -> Static:
    """An int, float or duration, with or without a minus sign."""
    start = cursor.token.start
    is_negative = cursor.accept("-")
    kinds = (TokenKind.INTEGER, TokenKind.FLOAT, TokenKind.DURATION)
    leaf = cursor.token.leaf
    if cursor.token.kind not in kinds or not isinstance(leaf, Static):
        raise cursor.unexpected(*(kind.value for kind in kinds))
    cursor.advance()
    negated = fold.negate(leaf, offset=start) if is_negative else leaf
    assert negated is not None  # a literal is at most 2**63 - 1, so its negative fits 64 bits
    return negated
