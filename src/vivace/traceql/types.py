"""Static types of field expressions: what is known of a value before any span is read."""

from __future__ import annotations

from enum import Enum
from typing import assert_never

from vivace.traceql.ast import (
    ARITHMETIC,
    Attribute,
    Binary,
    FieldExpression,
    Intrinsic,
    IntrinsicId,
    Static,
    StaticKind,
    Unary,
    UnaryOperator,
)


class Type(Enum):
    ANY = "any"
    """An attribute: its type, or that it is missing, is known span by span."""
    NUMBER = "number"
    """Arithmetic on attributes: int or float, as the attributes are."""
    INT = "int"
    FLOAT = "float"
    DURATION = "duration"
    STRING = "string"
    BOOL = "bool"
    NIL = "nil"
    STATUS = "status"
    KIND = "kind"


NUMERIC = frozenset({Type.NUMBER, Type.INT, Type.FLOAT, Type.DURATION})


def type_of(expression: FieldExpression) -> Type:
    """The type that an expression has, provided that check.py finds nothing wrong with it."""
    match expression:
        case Attribute():
            return Type.ANY
        case Intrinsic():
            return intrinsic_type(expression.id)
        case Static():
            return static_type(expression.kind)
        case Unary(op=UnaryOperator.NOT):
            return Type.BOOL
        case Unary():
            operand = type_of(expression.operand)
            return Type.NUMBER if operand is Type.ANY else operand
        case Binary():
            if expression.op not in ARITHMETIC:
                return Type.BOOL
            return _number_type(type_of(expression.lhs), type_of(expression.rhs))
        case _:
            assert_never(expression)


def _number_type(lhs: Type, rhs: Type) -> Type:
    """Of arithmetic: a duration stays one, and what holds an attribute is known no better than that."""
    for kind in (Type.DURATION, Type.ANY, Type.NUMBER, Type.FLOAT):
        if kind in (lhs, rhs):
            return Type.NUMBER if kind is Type.ANY else kind
    return Type.INT


def static_type(kind: StaticKind) -> Type:
    match kind:
        case StaticKind.INT:
            return Type.INT
        case StaticKind.FLOAT:
            return Type.FLOAT
        case StaticKind.STRING:
            return Type.STRING
        case StaticKind.BOOL:
            return Type.BOOL
        case StaticKind.NIL:
            return Type.NIL
        case StaticKind.DURATION:
            return Type.DURATION
        case StaticKind.STATUS:
            return Type.STATUS
        case StaticKind.KIND:
            return Type.KIND
        case _:
            assert_never(kind)


def intrinsic_type(intrinsic: IntrinsicId) -> Type:
    """Ids are strings of hex digits. Of `parent`, which no checked query holds, nothing is known."""
    match intrinsic:
        case (
            IntrinsicId.NAME
            | IntrinsicId.STATUS_MESSAGE
            | IntrinsicId.SPAN_ID
            | IntrinsicId.SPAN_PARENT_ID
            | IntrinsicId.ROOT_NAME
            | IntrinsicId.ROOT_SERVICE_NAME
            | IntrinsicId.TRACE_ID
            | IntrinsicId.EVENT_NAME
            | IntrinsicId.LINK_TRACE_ID
            | IntrinsicId.LINK_SPAN_ID
            | IntrinsicId.INSTRUMENTATION_NAME
            | IntrinsicId.INSTRUMENTATION_VERSION
        ):
            return Type.STRING
        case IntrinsicId.DURATION | IntrinsicId.TRACE_DURATION | IntrinsicId.EVENT_TIME_SINCE_START:
            return Type.DURATION
        case (
            IntrinsicId.SPAN_CHILD_COUNT
            | IntrinsicId.NESTED_SET_LEFT
            | IntrinsicId.NESTED_SET_RIGHT
            | IntrinsicId.NESTED_SET_PARENT
        ):
            return Type.INT
        case IntrinsicId.STATUS:
            return Type.STATUS
        case IntrinsicId.KIND:
            return Type.KIND
        case IntrinsicId.PARENT:
            return Type.ANY
        case _:
            assert_never(intrinsic)
