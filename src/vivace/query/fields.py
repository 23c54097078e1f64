"""Attributes and intrinsics of a frame as Values.

An unscoped attribute is the span's, or else the resource's. Root intrinsics are empty strings where the root is not stored.
Of a key that a row has with several types, the type with the lowest of OTLP's numbers counts.
"""

from __future__ import annotations

from typing import Any, assert_never

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vivace.errors import InvariantError
from vivace.model.frame import LEVEL_OF_SCOPE, Attribute, Fixed, Level, Numbers, Strings
from vivace.model.schema import AttributeScope
from vivace.query.spans import Spans
from vivace.query.values import Column, Ids, Lane, Values, as_text, pick_compounds, present
from vivace.traceql import ast
from vivace.traceql.ast import IntrinsicId, Scope
from vivace.traceql.types import Type

SCOPES = {
    Scope.SPAN: AttributeScope.SPAN,
    Scope.RESOURCE: AttributeScope.RESOURCE,
    Scope.EVENT: AttributeScope.EVENT,
    Scope.LINK: AttributeScope.LINK,
    Scope.INSTRUMENTATION: AttributeScope.INSTRUMENTATION,
}


_SERVICE = ast.Attribute(Scope.RESOURCE, "service.name")
"""Never missing: Tempo keeps it in a column of its own."""

NEVER_MISSING = frozenset({_SERVICE, ast.Attribute(Scope.UNSCOPED, _SERVICE.name)})


def level_of(field: ast.Field) -> Level:
    """Where a field varies. An unscoped attribute may be the resource's; it counts as the span's."""
    match field:
        case ast.Attribute(scope=Scope.UNSCOPED | Scope.PARENT):
            return Level.SPAN
        case ast.Attribute():
            return LEVEL_OF_SCOPE[SCOPES[field.scope]]
        case ast.Intrinsic():
            return _FIXED[field.id][0].level if field.id in _FIXED else _LEVELS[field.id]
        case _:
            assert_never(field)


_FIXED: dict[IntrinsicId, tuple[Fixed, Type]] = {
    IntrinsicId.NAME: (Fixed.NAME, Type.STRING),
    IntrinsicId.DURATION: (Fixed.DURATION, Type.DURATION),
    IntrinsicId.STATUS: (Fixed.STATUS, Type.STATUS),
    IntrinsicId.STATUS_MESSAGE: (Fixed.STATUS_MESSAGE, Type.STRING),
    IntrinsicId.KIND: (Fixed.KIND, Type.KIND),
    IntrinsicId.ROOT_NAME: (Fixed.ROOT_NAME, Type.STRING),
    IntrinsicId.ROOT_SERVICE_NAME: (Fixed.ROOT_SERVICE_NAME, Type.STRING),
    IntrinsicId.TRACE_DURATION: (Fixed.TRACE_DURATION, Type.DURATION),
    IntrinsicId.EVENT_NAME: (Fixed.EVENT_NAME, Type.STRING),
    IntrinsicId.LINK_TRACE_ID: (Fixed.LINK_TRACE_ID, Type.STRING),
    IntrinsicId.LINK_SPAN_ID: (Fixed.LINK_SPAN_ID, Type.STRING),
    IntrinsicId.INSTRUMENTATION_NAME: (Fixed.SCOPE_NAME, Type.STRING),
    IntrinsicId.INSTRUMENTATION_VERSION: (Fixed.SCOPE_VERSION, Type.STRING),
    IntrinsicId.NESTED_SET_LEFT: (Fixed.NESTED_LEFT, Type.INT),
    IntrinsicId.NESTED_SET_RIGHT: (Fixed.NESTED_RIGHT, Type.INT),
    IntrinsicId.NESTED_SET_PARENT: (Fixed.NESTED_PARENT, Type.INT),
}

_LEVELS = {
    IntrinsicId.SPAN_ID: Level.SPAN,
    IntrinsicId.SPAN_PARENT_ID: Level.SPAN,
    IntrinsicId.SPAN_CHILD_COUNT: Level.SPAN,
    IntrinsicId.TRACE_ID: Level.TRACE,
    IntrinsicId.EVENT_TIME_SINCE_START: Level.EVENT,
}


def read(spans: Spans, field: ast.Field) -> Values:
    """The values of a field, at the level where it varies."""
    match field:
        case ast.Attribute(scope=Scope.UNSCOPED):
            return _unscoped(spans, field.name)
        case ast.Attribute(scope=Scope.PARENT):
            raise InvariantError("an attribute of the parent got past the checker")
        case ast.Attribute():
            scope = SCOPES[field.scope]
            values = _values(spans, LEVEL_OF_SCOPE[scope], spans.frame.attribute(scope, field.name))
            return _named(values) if field == _SERVICE else values
        case ast.Intrinsic():
            return _intrinsic(spans, field.id)
        case _:
            assert_never(field)


def _values(spans: Spans, level: Level, attribute: Attribute | None) -> Values:
    count = spans.frame.count(level)
    if attribute is None:
        return Values(level, count)
    columns: tuple[tuple[Type, Column | None], ...] = (
        (Type.STRING, attribute.strings),
        (Type.BOOL, attribute.bools),
        (Type.INT, attribute.ints),
        (Type.FLOAT, attribute.doubles),
    )
    lanes = tuple(Lane(kind, column) for kind, column in columns if column is not None)
    return _one_each(Values(level, count, lanes, attribute.compounds))


def _one_each(values: Values) -> Values:
    """At most one value a row: the first."""
    if len(values.lanes) < 2 and values.compounds is None:
        return values
    taken = np.zeros(values.count, bool)
    lanes: list[Lane] = []
    for lane in values.lanes:
        own = Values(values.level, values.count, (lane,))
        there = own.exists()
        lanes += own.where(~taken).lanes if (taken & there).any() else own.lanes
        taken |= there
    compounds = values.compounds
    if compounds is not None:
        free = ~taken[compounds.rows]
        free[1:] &= compounds.rows[1:] != compounds.rows[:-1]
        compounds = pick_compounds(compounds, free)
    return Values(values.level, values.count, tuple(lanes), compounds)


def _unscoped(spans: Spans, name: str) -> Values:
    of_span = _values(spans, Level.SPAN, spans.frame.attribute(AttributeScope.SPAN, name))
    of_resource = read(spans, ast.Attribute(Scope.RESOURCE, name))
    if not of_span.lanes and of_span.compounds is None:
        return of_resource
    if not of_resource.lanes and of_resource.compounds is None:
        return of_span
    below = spans.lift(of_resource, Level.SPAN).where(~of_span.exists())
    return merge(of_span, below)


def _named(values: Values) -> Values:
    """Names of services, empty where a resource has none."""
    if len(values.lanes) == 1 and isinstance(strings := values.lanes[0].column, Strings) and not values.compounds:
        return Values(values.level, values.count, (Lane(Type.STRING, _filled(strings)),))
    missing = ~values.exists()
    codes = np.where(missing, np.int32(0), np.int32(1))
    unnamed = Strings(codes, pa.array([""], pa.large_string()))
    return merge(values, Values(values.level, values.count, (Lane(Type.STRING, unnamed),)))


def merge(a: Values, b: Values) -> Values:
    """The values of both; no row has one in both."""
    lanes: dict[Type, Lane] = {lane.type: lane for lane in a.lanes}
    for lane in b.lanes:
        before = lanes.get(lane.type)
        lanes[lane.type] = lane if before is None else Lane(lane.type, _join(before.column, lane.column))
    compounds = a.compounds or b.compounds
    if a.compounds is not None and b.compounds is not None:
        rows = np.concatenate([a.compounds.rows, b.compounds.rows])
        order = np.argsort(rows, kind="stable").tolist()
        types, values = a.compounds.types + b.compounds.types, a.compounds.values + b.compounds.values
        compounds = type(a.compounds)(np.sort(rows), tuple(types[i] for i in order), tuple(values[i] for i in order))
    return Values(a.level, a.count, tuple(lanes.values()), compounds)


def _join(a: Column, b: Column) -> Column:
    if isinstance(a, Strings) and isinstance(b, Strings):
        both = pa.concat_arrays([as_text(a.table), as_text(b.table)]).dictionary_encode()
        code = np.append(both.indices.to_numpy(), np.int32(len(both.dictionary)))
        from_a = code[np.append(np.arange(len(a.table)), -1)][a.codes]
        from_b = code[np.append(np.arange(len(a.table), len(code) - 1), -1)][b.codes]
        return Strings(np.where(a.valid, from_a, from_b).astype(np.int32), both.dictionary)
    assert isinstance(a, Numbers)
    assert isinstance(b, Numbers)  # lanes of one type are alike, and only intrinsics are Ids
    return Numbers(np.where(present(a), a.values, b.values), present(a) | present(b))


def _intrinsic(spans: Spans, id: IntrinsicId) -> Values:
    frame = spans.frame
    if id in _FIXED:
        fixed, kind = _FIXED[id]
        column: Column = frame.fixed(fixed)
        if fixed.level is Level.TRACE and isinstance(column, Strings):
            column = _filled(column)
        if kind is Type.DURATION and isinstance(column, Numbers):
            column = Numbers(np.maximum(column.values, 0))  # of what ended before it began
        return Values(fixed.level, frame.count(fixed.level), (Lane(kind, column),))
    level, kind = _LEVELS[id], Type.STRING
    match id:
        case IntrinsicId.SPAN_ID:
            column = Ids((_array(frame.fixed(Fixed.SPAN_ID)),))
        case IntrinsicId.SPAN_PARENT_ID:
            column = Ids((_array(frame.fixed(Fixed.PARENT_SPAN_ID)),))
        case IntrinsicId.TRACE_ID:
            column = Ids((_array(frame.fixed(Fixed.TRACE_ID_HIGH)), _array(frame.fixed(Fixed.TRACE_ID_LOW))))
        case IntrinsicId.SPAN_CHILD_COUNT:
            column, kind = Numbers(spans.child_counts()), Type.INT
        case IntrinsicId.EVENT_TIME_SINCE_START:
            starts = _array(frame.fixed(Fixed.START))[frame.owners(Level.EVENT)]
            column, kind = Numbers(_array(frame.fixed(Fixed.EVENT_TIME)) - starts), Type.DURATION
        case _:
            raise InvariantError(f"the intrinsic {id.value} got past the checker")
    return Values(level, frame.count(level), (Lane(kind, column),))


def _array(column: Strings | Numbers) -> NDArray[Any]:
    assert isinstance(column, Numbers)  # by the contract of Frame.fixed
    return column.values


def _filled(strings: Strings) -> Strings:
    """Missing ones are empty strings."""
    missing = len(strings.table)
    if not (strings.codes == missing).any():
        return strings
    empty = pc.index(strings.table, pa.scalar("", strings.table.type)).as_py()
    if empty < 0:  # the code of "no value" becomes that of the new entry
        return Strings(strings.codes, pa.concat_arrays([strings.table, pa.array([""], strings.table.type)]))
    return Strings(np.where(strings.codes == missing, np.int32(empty), strings.codes), strings.table)
