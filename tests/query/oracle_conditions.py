"""Fields, arithmetic and conditions of one span: rules 8 to 24 of oracle.py."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, assert_never

from oracle_traces import (
    Duration,
    Id,
    Kind,
    OEvent,
    OLink,
    OSpan,
    Status,
    Value,
    is_number,
)

from vivace.traceql import fold
from vivace.traceql.ast import (
    ARITHMETIC,
    COMPARISONS,
    Attribute,
    Binary,
    Field,
    FieldExpression,
    Intrinsic,
    IntrinsicId,
    Operator,
    Scope,
    Static,
    StaticKind,
    Unary,
    UnaryOperator,
)

# -- Fields of a span -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """Where an expression is evaluated: at a span, and there perhaps at one event, at one link."""

    span: OSpan
    event: OEvent | None = None
    link: OLink | None = None


EVENT_INTRINSICS = frozenset({IntrinsicId.EVENT_NAME, IntrinsicId.EVENT_TIME_SINCE_START})
LINK_INTRINSICS = frozenset({IntrinsicId.LINK_TRACE_ID, IntrinsicId.LINK_SPAN_ID})


def of_event(node: object) -> bool:
    return (isinstance(node, Attribute) and node.scope is Scope.EVENT) or (
        isinstance(node, Intrinsic) and node.id in EVENT_INTRINSICS
    )


def of_link(node: object) -> bool:
    return (isinstance(node, Attribute) and node.scope is Scope.LINK) or (
        isinstance(node, Intrinsic) and node.id in LINK_INTRINSICS
    )


def field_value(f: Field, at: Place) -> Value:
    """Rules 8 to 11. Without an event (link) in `at`, rule 24: that of the first that has the field."""
    if of_event(f) and at.event is None:
        values = [field_value(f, Place(at.span, event=e)) for e in at.span.events]
        return next((v for v in values if v is not None), None)
    if of_link(f) and at.link is None:
        values = [field_value(f, Place(at.span, link=k)) for k in at.span.links]
        return next((v for v in values if v is not None), None)
    if isinstance(f, Attribute):
        return attribute_value(f, at)
    return intrinsic_value(f.id, at)


def attribute_value(a: Attribute, at: Place) -> Value:
    match a.scope:
        case Scope.SPAN:
            return at.span.attributes.get(a.name)
        case Scope.RESOURCE:
            return at.span.resource.get(a.name, "" if a.name == "service.name" else None)
        case Scope.UNSCOPED:
            own = at.span.attributes.get(a.name)
            return attribute_value(Attribute(Scope.RESOURCE, a.name), at) if own is None else own
        case Scope.INSTRUMENTATION:
            return at.span.scope_attributes.get(a.name)
        case Scope.EVENT:
            assert at.event is not None
            return at.event.attributes.get(a.name)
        case Scope.LINK:
            assert at.link is not None
            return at.link.attributes.get(a.name)
        case Scope.PARENT:
            raise AssertionError("no checked query has it")
        case _:
            assert_never(a.scope)


def intrinsic_value(intrinsic: IntrinsicId, at: Place) -> Value:
    span, trace, event, link = at.span, at.span.trace, at.event, at.link
    match intrinsic:
        case IntrinsicId.NAME:
            return span.name
        case IntrinsicId.DURATION:
            return Duration(span.duration)
        case IntrinsicId.STATUS:
            return span.status
        case IntrinsicId.STATUS_MESSAGE:
            return span.status_message
        case IntrinsicId.KIND:
            return span.kind
        case IntrinsicId.SPAN_ID:
            return Id(f"{span.id:016x}")
        case IntrinsicId.SPAN_PARENT_ID:
            return Id(f"{span.parent_id:016x}")
        case IntrinsicId.SPAN_CHILD_COUNT:
            return len(trace.children(span))
        case IntrinsicId.ROOT_NAME:
            return trace.root.name if trace.root else ""
        case IntrinsicId.ROOT_SERVICE_NAME:
            service = trace.root.resource.get("service.name") if trace.root else ""
            return service if isinstance(service, str) else ""
        case IntrinsicId.TRACE_DURATION:
            return Duration(trace.duration)
        case IntrinsicId.TRACE_ID:
            return Id(f"{span.trace_id:032x}")
        case IntrinsicId.EVENT_NAME:
            return event.name if event else None
        case IntrinsicId.EVENT_TIME_SINCE_START:
            return Duration(event.time - span.start) if event else None
        case IntrinsicId.LINK_TRACE_ID:
            return Id(f"{link.trace_id:032x}") if link else None
        case IntrinsicId.LINK_SPAN_ID:
            return Id(f"{link.span_id:016x}") if link else None
        case IntrinsicId.INSTRUMENTATION_NAME:
            return span.scope_name
        case IntrinsicId.INSTRUMENTATION_VERSION:
            return span.scope_version
        case IntrinsicId.NESTED_SET_LEFT:
            return trace.left[span]
        case IntrinsicId.NESTED_SET_RIGHT:
            return trace.right[span]
        case IntrinsicId.NESTED_SET_PARENT:
            return trace.nested_set_parent(span)
        case IntrinsicId.PARENT:
            raise AssertionError("no checked query has it")
        case _:
            assert_never(intrinsic)


# -- Expressions that give a value ------------------------------------------------------------------------------------


def is_condition(e: FieldExpression) -> bool:
    """Whether it is true or false by its form: `!x`, `a && b`, `a = b`."""
    return (isinstance(e, Unary) and e.op is UnaryOperator.NOT) or (isinstance(e, Binary) and e.op not in ARITHMETIC)


def value(e: FieldExpression, at: Place) -> Value:
    """What `e` is; a condition is one of the span, whatever event we are at (rule 19)."""
    if is_condition(e):
        return holds(e, at.span)
    match e:
        case Attribute() | Intrinsic():
            return field_value(e, at)
        case Static():
            return static_value(e)
        case Unary():
            operand = value(e.operand, at)
            if not is_number(operand):
                return None
            return from_static(fold.negate(to_static(operand), offset=0))
        case Binary():
            return calculate(e.op, value(e.lhs, at), value(e.rhs, at))
        case _:
            assert_never(e)


def static_value(static: Static) -> Value:
    match static.kind, static.value:
        case StaticKind.DURATION, int(nanoseconds):
            return Duration(nanoseconds)
        case StaticKind.STATUS, str(text):
            return Status(text)
        case StaticKind.KIND, str(text):
            return Kind(text)
        case _, plain:
            return plain


def calculate(op: Operator, a: Value, b: Value) -> Value:
    """Rules 22 and 23."""
    if not is_number(a) or not is_number(b):
        return None
    return from_static(fold.arithmetic(op, to_static(a), to_static(b), offset=0))


def to_static(number: Any) -> Static:
    kinds = {int: StaticKind.INT, float: StaticKind.FLOAT, Duration: StaticKind.DURATION}
    kind = kinds[type(number)]
    return Static(kind, number if kind is StaticKind.FLOAT else int(number))


def from_static(static: Static | None) -> Value:
    return None if static is None else static_value(static)


# -- Conditions -------------------------------------------------------------------------------------------------------


def holds(e: FieldExpression, span: OSpan) -> bool:
    """Whether a condition is true of a span. Rules 18 to 21."""
    if isinstance(e, Unary) and e.op is UnaryOperator.NOT:
        return not holds(e.operand, span)
    if isinstance(e, Binary) and e.op is Operator.OR:
        return holds(e.lhs, span) or holds(e.rhs, span)
    if isinstance(e, Binary) and e.op is Operator.AND:
        operands = chain(e)
        on_events = [o for o in operands if is_all(o, on_event)]
        on_links = [o for o in operands if is_all(o, on_link)]
        others = [o for o in operands if o not in on_events and o not in on_links]
        return (
            all(holds(o, span) for o in others)
            and (not on_events or any(all(holds_at(o, Place(span, event=ev)) for o in on_events) for ev in span.events))
            and (not on_links or any(all(holds_at(o, Place(span, link=k)) for o in on_links) for k in span.links))
        )
    return any(holds_at(e, place) for place in places(e, span))


def chain(e: FieldExpression) -> list[FieldExpression]:
    """The operands of a run of `&&`."""
    if isinstance(e, Binary) and e.op is Operator.AND:
        return [*chain(e.lhs), *chain(e.rhs)]
    return [e]


def fields_of(e: FieldExpression) -> Iterator[Field]:
    """The fields of an expression, those within its conditions left out."""
    if isinstance(e, Attribute | Intrinsic):
        yield e
    elif isinstance(e, Unary) and not is_condition(e):
        yield from fields_of(e.operand)
    elif isinstance(e, Binary) and e.op in ARITHMETIC:
        yield from fields_of(e.lhs)
        yield from fields_of(e.rhs)


def mentions(e: FieldExpression, which: Callable[[object], bool]) -> bool:
    """Whether a comparison, or a field alone, has a field of `which` among its values."""
    sides = (e.lhs, e.rhs) if isinstance(e, Binary) and e.op in COMPARISONS else (e,)
    return any(which(f) for side in sides for f in fields_of(side))


def on_event(e: FieldExpression) -> bool:
    return mentions(e, of_event)


def on_link(e: FieldExpression) -> bool:
    return mentions(e, of_link) and not on_event(e)


def is_all(e: FieldExpression, which: Callable[[FieldExpression], bool]) -> bool:
    """Whether `e` is built of && || and comparisons, all of which are of `which`."""
    if isinstance(e, Binary) and e.op in (Operator.AND, Operator.OR):
        return is_all(e.lhs, which) and is_all(e.rhs, which)
    return which(e)


def places(e: FieldExpression, span: OSpan) -> list[Place]:
    """Where a comparison, or a field alone, is to be evaluated."""
    if on_event(e):
        return [Place(span, event=event) for event in span.events]
    if on_link(e):
        return [Place(span, link=link) for link in span.links]
    return [Place(span)]


def holds_at(e: FieldExpression, at: Place) -> bool:
    """Whether a condition without `!` holds at one event or link, or at the span."""
    if isinstance(e, Binary) and e.op is Operator.AND:
        return holds_at(e.lhs, at) and holds_at(e.rhs, at)
    if isinstance(e, Binary) and e.op is Operator.OR:
        return holds_at(e.lhs, at) or holds_at(e.rhs, at)
    if isinstance(e, Binary) and e.op in COMPARISONS:
        return comparison_holds(e, at)
    return any(x is True for x in elements(value(e, at)))


def comparison_holds(e: Binary, at: Place) -> bool:
    if is_nil(e.lhs) and is_nil(e.rhs):
        return False
    if is_nil(e.lhs) or is_nil(e.rhs):
        other = value(e.rhs if is_nil(e.lhs) else e.lhs, at)
        return (other is None) if e.op is Operator.EQUAL else (other is not None)
    return compare(e.op, value(e.lhs, at), value(e.rhs, at))


def is_nil(e: FieldExpression) -> bool:
    return isinstance(e, Static) and e.kind is StaticKind.NIL


def elements(v: Value) -> tuple[Value, ...]:
    """Rule 16."""
    return v if isinstance(v, tuple) else (v,)


def compare(op: Operator, a: Value, b: Value) -> bool:
    return any(compare_one(op, x, y) for x in elements(a) for y in elements(b))


def compare_one(op: Operator, a: Any, b: Any) -> bool:
    """Rules 10, 12, 13, 15, 17 of two values that are no arrays."""
    if is_number(a) and is_number(b):
        pass
    elif isinstance(a, Id) or isinstance(b, Id):
        if not (isinstance(a, str) and isinstance(b, str)) or {type(a), type(b)} & {Status, Kind}:
            return False
        if op in (Operator.EQUAL, Operator.NOT_EQUAL):
            a, b = a.lower().lstrip("0"), b.lower().lstrip("0")
    elif type(a) is not type(b) or type(a) not in (str, bool, Status, Kind):
        return False
    match op:
        case Operator.EQUAL:
            return bool(a == b)
        case Operator.NOT_EQUAL:
            return bool(a != b)
        case Operator.REGEX | Operator.NOT_REGEX:
            if not isinstance(a, str) or isinstance(a, Status | Kind):
                return False
            return (re.fullmatch(b, a, re.DOTALL) is not None) is (op is Operator.REGEX)
    if isinstance(a, bool | Status | Kind):
        return False
    match op:
        case Operator.LESS:
            return bool(a < b)
        case Operator.LESS_EQUAL:
            return bool(a <= b)
        case Operator.GREATER:
            return bool(a > b)
        case Operator.GREATER_EQUAL:
            return bool(a >= b)
        case _:
            raise AssertionError(op)
