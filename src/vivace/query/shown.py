"""What an answer shows of a matching span: the values that the query speaks of.

Rule 1  a field that is only compared with literals is shown where its value satisfies one of these comparisons: of events the
        last such event's, of an array the elements that do.
Rule 2  a field that stands anywhere else too (arithmetic, beside another field, under `!`, with nil, in by, select and
        aggregates) is shown wherever it has a value.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vivace.model.frame import Level, Rows
from vivace.query.answers import Value
from vivace.query.fields import read
from vivace.query.filters import FLIPPED, at_rows, of_spans
from vivace.query.groups import plain
from vivace.query.spans import Spans
from vivace.query.values import compare_static, elements_that
from vivace.traceql.ast import (
    COMPARISONS,
    Attribute,
    Binary,
    Field,
    Intrinsic,
    Node,
    Operator,
    Query,
    Static,
    StaticKind,
    Unary,
    UnaryOperator,
    children,
)


@dataclass(frozen=True, slots=True)
class Shown:
    """A field of an answer. `conditions`: only values that satisfy one of them; none of them means every value."""

    field: Field
    conditions: tuple[tuple[Operator, Static], ...]

    @property
    def key(self) -> str:
        """Its key in the answer: without scope."""
        return self.field.name if isinstance(self.field, Attribute) else self.field.id.value

    def values(self, spans: Spans, rows: Rows) -> list[Value]:
        """What is shown of some spans, None for nothing."""
        values = read(spans, self.field)
        of_children = values.level in (Level.EVENT, Level.LINK)
        if not self.conditions or not of_children:
            values = at_rows(spans, values, rows)
        if not self.conditions:
            return plain(values)
        holds = np.zeros(values.count, bool)
        for op, static in self.conditions:
            holds |= compare_static(values, op, static)
        values = values.where(holds)
        shown = plain(of_spans(spans, values, last=True).take(rows, Level.SPAN) if of_children else values)
        return [self._elements(v) if isinstance(v, tuple) else v for v in shown]

    def _elements(self, array: tuple[Value, ...]) -> Value:
        fitting = elements_that(array, self.conditions)
        return fitting[0] if len(fitting) == 1 else fitting


def shown_fields(query: Query) -> tuple[Shown, ...]:
    """Every field of the pipeline, in the order of the text."""
    found: dict[Field, list[tuple[Operator, Static]] | None] = {}
    for stage in query.pipeline:
        for field, condition in _mentions(stage, negated=False):
            before = found.setdefault(field, [])
            if condition is None:
                found[field] = None
            elif before is not None:
                before.append(condition)
    return tuple(Shown(field, tuple(conditions or ())) for field, conditions in found.items())


def _mentions(node: Node, *, negated: bool) -> Iterator[tuple[Field, tuple[Operator, Static] | None]]:
    if isinstance(node, Attribute | Intrinsic):
        yield node, None
    elif not negated and isinstance(node, Binary) and (asked := _asked_of(node)) is not None:
        yield asked
    else:
        negated = negated or (isinstance(node, Unary) and node.op is UnaryOperator.NOT)
        for child in children(node):
            yield from _mentions(child, negated=negated)


def _asked_of(node: Binary) -> tuple[Field, tuple[Operator, Static]] | None:
    """A field that is compared with a literal other than nil, and how."""
    lhs, op, rhs = node.lhs, node.op, node.rhs
    if isinstance(lhs, Static):
        lhs, op, rhs = rhs, FLIPPED.get(op, op), lhs
    if op in COMPARISONS and isinstance(lhs, Attribute | Intrinsic) and isinstance(rhs, Static):
        return None if rhs.kind is StaticKind.NIL else (lhs, (op, rhs))
    return None
