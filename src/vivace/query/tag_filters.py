"""The spans whose attributes are asked for: what the filter of a tag request (`q`) selects of a source."""

from __future__ import annotations

import numpy as np

from vivace.model.frame import Level, Mask
from vivace.query.filters import matching
from vivace.query.plan import Plan, plan
from vivace.query.sources import Source
from vivace.query.spans import Spans
from vivace.traceql import check, extract_tag_filter
from vivace.traceql.ast import Binary, Field, FieldExpression, Operator, SpansetFilter, Static


def tag_filter(text: str) -> Plan | None:
    """The filter of a request, None where nothing is filtered. Raises TraceQLError when it compares what cannot be compared."""
    query = extract_tag_filter(text)
    return None if query is None else plan(check(query))


def expression_of(planned: Plan | None) -> FieldExpression | None:
    if planned is None:
        return None
    (stage,) = planned.query.pipeline
    assert isinstance(stage, SpansetFilter)  # by extract_tag_filter
    return stage.expression


def demanded(expression: FieldExpression | None, field: Field) -> Static | None:
    """The literal of a condition `field = literal` that must hold."""
    match expression:
        case Binary(op=Operator.AND):
            found = demanded(expression.lhs, field)
            return demanded(expression.rhs, field) if found is None else found
        case Binary(op=Operator.EQUAL, lhs=lhs, rhs=Static() as static) if lhs == field:
            return static
        case _:
            return None


def spans_of(source: Source, spans: Spans, expression: FieldExpression | None) -> Mask:
    """The spans of an opened source that count and satisfy the filter."""
    mask = matching(spans, expression)
    if not mask.any():
        return mask
    wanted = source.wanted(spans)
    return mask if wanted is None else mask & wanted[spans.trace]


def rows_of(spans: Spans, mask: Mask, level: Level) -> Mask:
    """The rows of a level that belong to some spans."""
    if level is Level.SPAN:
        return mask
    owners = spans.frame.owners(level)
    if level in (Level.EVENT, Level.LINK):
        rows: Mask = mask[owners]
        return rows
    used = np.zeros(spans.frame.count(level), bool)
    used[owners[mask]] = True
    return used
