"""Field expressions: what is asked of one span.

| level | operators | grouping |
| --- | --- | --- |
| 2 | `&&` `||`, the same level (as in Tempo) | left |
| 3 | `= != < <= > >= =~ !~` | left |
| 4 | `+ -`, and `-` before an operand | left |
| 5 | `!` before an operand | |
| 6 | `* / %` | left |
| 7 | `^` | right |
"""

from __future__ import annotations

from vivace.traceql import fold
from vivace.traceql.ast import (
    LOGIC,
    Attribute,
    Field,
    FieldExpression,
    Intrinsic,
    Operator,
    Static,
    StaticKind,
    UnaryOperator,
)
from vivace.traceql.cursor import Cursor, Grammar
from vivace.traceql.lexer import TokenKind

LOGIC_LEVEL, COMPARISON_LEVEL, SUM_LEVEL, NOT_LEVEL, PRODUCT_LEVEL, POWER_LEVEL = 2, 3, 4, 5, 6, 7


def _level(op: Operator) -> int:
    match op:
        case Operator.AND | Operator.OR:
            return LOGIC_LEVEL
        case Operator.ADD | Operator.SUBTRACT:
            return SUM_LEVEL
        case Operator.MULTIPLY | Operator.DIVIDE | Operator.MODULO:
            return PRODUCT_LEVEL
        case Operator.POWER:
            return POWER_LEVEL
        case _:
            return COMPARISON_LEVEL


OPERATORS = {op.value: (_level(op), op) for op in Operator}
RIGHTWARD = frozenset({Operator.POWER})


def field_expression(cursor: Cursor, level: int = LOGIC_LEVEL) -> FieldExpression:
    """An expression whose infix operators are of at least `level`."""
    with cursor.nested():
        grammar = Grammar(OPERATORS, lambda: _operand(cursor), _build, LOGIC, RIGHTWARD)
        return grammar.parse(cursor, level)


def field(cursor: Cursor) -> Field:
    """An attribute or an intrinsic, where no other expression is allowed."""
    match cursor.token.leaf:
        case Attribute() | Intrinsic() as leaf:
            cursor.advance()
            return leaf
        case _:
            raise cursor.unexpected()


def field_list(cursor: Cursor) -> tuple[Field, ...]:
    """`( field { , field } )`"""
    cursor.expect("(")
    found = [field(cursor)]
    while cursor.accept(","):
        found.append(field(cursor))
    cursor.expect(")", said=False)
    return tuple(found)


def _build(op: Operator, lhs: FieldExpression, rhs: FieldExpression, offset: int) -> FieldExpression:
    return fold.binary(op, lhs, rhs, offset=offset)


def _operand(cursor: Cursor) -> FieldExpression:
    token = cursor.token
    if cursor.accept("-"):
        return fold.unary(UnaryOperator.NEGATE, field_expression(cursor, SUM_LEVEL + 1), offset=token.start)
    if cursor.accept("!"):
        return fold.unary(UnaryOperator.NOT, field_expression(cursor, NOT_LEVEL + 1), offset=token.start)
    if cursor.accept("("):
        inside = field_expression(cursor)
        cursor.expect(")", said=False)
        return inside
    if token.leaf is not None:
        return _leaf(cursor, token.leaf)
    if token.kind is TokenKind.IDENTIFIER:
        raise cursor.unknown_identifier()
    raise cursor.unexpected()


def _leaf(cursor: Cursor, leaf: Attribute | Intrinsic | Static) -> FieldExpression:
    """A value, an attribute or an intrinsic. `nil` is allowed on either side of `=` and `!=` only."""
    equalities = (Operator.EQUAL.value, Operator.NOT_EQUAL.value)
    is_compared = cursor.previous in equalities
    cursor.advance()
    if isinstance(leaf, Static) and leaf.kind is StaticKind.NIL and not is_compared and not cursor.at(*equalities):
        raise cursor.unexpected(*equalities, hint="nil goes with = and != only")
    return leaf
