"""Pipelines: spansets in, spansets out, all traces of a frame at once.

Rule 1  a spanset is spans of one trace. A trace has at most one until by() splits it; coalesce() joins them again.
Rule 2  a spanset that has lost all its spans is gone.
Rule 3  aggregates leave out spans whose field has no value or is no number; of a spanset without any, nothing holds.
Rule 4  an operator between spansets needs one spanset a trace on both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, assert_never

import numpy as np
from numpy.typing import NDArray

from vivace.errors import RequestError
from vivace.model.frame import Level, Mask, Numbers, Rows
from vivace.query.filters import evaluate, matching, of_spans
from vivace.query.groups import code, combine
from vivace.query.spans import Spans
from vivace.query.structure import combine as combine_structure
from vivace.query.values import Lane, Values, calculate, compare, constant, negate
from vivace.traceql import canonical
from vivace.traceql.ast import (
    Aggregate,
    AggregateKind,
    Coalesce,
    FieldExpression,
    GroupBy,
    Scalar,
    ScalarFilter,
    ScalarNegation,
    ScalarOperation,
    Select,
    SpansetExpression,
    SpansetFilter,
    SpansetOperation,
    SpansetPipeline,
    Stage,
    Static,
    walk,
)
from vivace.traceql.types import NUMERIC, Type

SEVERAL = "spanset operators are not supported for multiple spansets per trace. consider using coalesce()"

NO_VALUE = "nil"
"""The label of a group of spans that have no value."""

Label: TypeAlias = tuple[Values, str | None]
"""An attribute of spansets: the value of each (its rows are spansets), and what stands for no value."""


@dataclass(frozen=True, slots=True)
class Spansets:
    """Spansets of a frame. `rows` are spans, those of one set together and ascending; `sets` the set of each, ascending from 0."""

    rows: Rows
    sets: NDArray[np.int64]
    labels: Mapping[str, Label] = field(default_factory=dict)

    @property
    def firsts(self) -> Rows:
        """Where each set begins in `rows`."""
        if not len(self.sets):
            return np.empty(0, np.int64)
        return np.flatnonzero(np.append(True, self.sets[1:] != self.sets[:-1]))

    def __len__(self) -> int:
        return int(self.sets[-1]) + 1 if len(self.sets) else 0

    def keep(self, wanted: Mask) -> Spansets:
        """Only the wanted entries; sets without any are gone."""
        sets = self.sets[wanted]
        left, dense = np.unique(sets, return_inverse=True)
        labels = {name: (values.take(left, Level.SPAN), missing) for name, (values, missing) in self.labels.items()}
        return Spansets(self.rows[wanted], dense.astype(np.int64), labels)


def run(spans: Spans, stages: tuple[Stage, ...], *, among: Mask | None = None) -> Spansets:
    """The spansets that come out of a pipeline; `among`: only these spans take part."""
    start, *rest = stages
    match start:
        case SpansetFilter() | SpansetOperation() | SpansetPipeline():
            found = by_trace(spans, _mask(spans, start, among))
        case _:
            rest = list(stages)
            found = by_trace(spans, np.ones(spans.count, bool) if among is None else among)
    for stage in rest:
        if not len(found.rows):
            break
        found = _stage(spans, stage, found)
    return found


def by_trace(spans: Spans, mask: Mask) -> Spansets:
    """One spanset a trace."""
    rows = np.flatnonzero(mask)
    trace = spans.trace[rows]  # ascending, as rows are
    return Spansets(rows, np.cumsum(np.append(False, trace[1:] != trace[:-1])[: len(rows)], dtype=np.int64))


def _stage(spans: Spans, stage: Stage, found: Spansets) -> Spansets:
    match stage:
        case SpansetFilter():
            return found.keep(matching(spans, stage.expression)[found.rows])
        case SpansetOperation() | SpansetPipeline():
            among = _single(spans, found)
            return replace(found.keep(_mask(spans, stage, among)[found.rows]), labels={})
        case ScalarFilter():
            return _scalar_filter(spans, stage, found)
        case GroupBy():
            return _group(spans, stage, found)
        case Coalesce():
            return by_trace(spans, _as_mask(spans, found))
        case Select():
            return found
        case _:
            assert_never(stage)


def _mask(spans: Spans, expression: SpansetExpression, among: Mask | None) -> Mask:
    match expression:
        case SpansetFilter():
            mask = matching(spans, expression.expression)
            return mask if among is None else mask & among
        case SpansetOperation():
            a = _mask(spans, expression.lhs, among)
            b = _mask(spans, expression.rhs, among)
            return combine_structure(spans, expression.op, a, b)
        case SpansetPipeline():
            return _single(spans, run(spans, expression.stages, among=among))
        case _:
            assert_never(expression)


def _as_mask(spans: Spans, found: Spansets) -> Mask:
    mask = np.zeros(spans.count, bool)
    mask[found.rows] = True
    return mask


def _single(spans: Spans, found: Spansets) -> Mask:
    """The spans of spansets of which no trace has two."""
    traces = spans.trace[found.rows[found.firsts]]
    if len(np.unique(traces)) != len(traces):
        raise RequestError(SEVERAL)
    return _as_mask(spans, found)


# -- by() ---------------------------------------------------------------------------------------------------------------


def _group(spans: Spans, stage: GroupBy, found: Spansets) -> Spansets:
    keys = [of_spans(spans, evaluate(spans, e)).take(found.rows, Level.SPAN) for e in stage.expressions]
    groups, firsts = combine([found.sets, *(code(key).codes for key in keys)])
    order = np.argsort(groups, kind="stable")
    before = found.sets[firsts]
    labels = {name: (values.take(before, Level.SPAN), missing) for name, (values, missing) in found.labels.items()}
    for expression, key in zip(stage.expressions, keys, strict=True):
        labels[f"by({canonical(expression)})"] = (key.take(firsts, Level.SPAN), NO_VALUE)
    return Spansets(found.rows[order], groups[order], labels)


# -- scalars ------------------------------------------------------------------------------------------------------------


def _scalar_filter(spans: Spans, stage: ScalarFilter, found: Spansets) -> Spansets:
    holds = compare(_scalar(spans, stage.lhs, found), stage.op, _scalar(spans, stage.rhs, found))
    labels = dict(found.labels)
    for node in walk(stage):
        if isinstance(node, Aggregate):
            labels[canonical(node)] = (_scalar(spans, node, found), None)
    return replace(found, labels=labels).keep(holds[found.sets])


def _scalar(spans: Spans, scalar: Scalar, found: Spansets) -> Values:
    """The value of a scalar for each spanset. Its rows are spansets, whatever its level says."""
    match scalar:
        case Static():
            return constant(scalar, Level.SPAN, len(found))
        case ScalarNegation():
            return negate(_scalar(spans, scalar.operand, found))
        case ScalarOperation():
            return calculate(_scalar(spans, scalar.lhs, found), scalar.op, _scalar(spans, scalar.rhs, found))
        case Aggregate(kind=AggregateKind.COUNT):
            counts = np.bincount(found.sets, minlength=len(found)).astype(np.int64)
            return Values(Level.SPAN, len(found), (Lane(Type.INT, Numbers(counts)),))
        case Aggregate():
            assert scalar.argument is not None  # by the grammar
            return _aggregate(spans, scalar.kind, scalar.argument, found)
        case _:
            assert_never(scalar)


def _aggregate(spans: Spans, kind: AggregateKind, argument: FieldExpression, found: Spansets) -> Values:
    values = of_spans(spans, evaluate(spans, argument)).take(found.rows, Level.SPAN)
    type_, numbers = one_type(values)
    valid = np.ones(len(numbers), bool) if numbers.valid is None else numbers.valid
    places = np.flatnonzero(valid)
    has, firsts, counts = np.unique(found.sets[places], return_index=True, return_counts=True)
    if not len(places):
        return Values(Level.SPAN, len(found))
    picked = numbers.values[places]
    if kind is AggregateKind.AVG:
        sums = np.add.reduceat(picked.astype(np.float64), firsts) / counts
        type_ = Type.DURATION if type_ is Type.DURATION else Type.FLOAT
        reduced: NDArray[Any] = sums.astype(np.int64) if type_ is Type.DURATION else sums
    else:
        reduced = _REDUCE[kind](picked, firsts)
    result = np.zeros(len(found), reduced.dtype)
    result[has] = reduced
    defined = np.zeros(len(found), bool)
    defined[has] = True
    return Values(Level.SPAN, len(found), (Lane(type_, Numbers(result, None if defined.all() else defined)),))


_REDUCE: dict[AggregateKind, Callable[[NDArray[Any], Rows], NDArray[Any]]] = {
    AggregateKind.MIN: np.minimum.reduceat,
    AggregateKind.MAX: np.maximum.reduceat,
    AggregateKind.SUM: np.add.reduceat,
}


def one_type(values: Values) -> tuple[Type, Numbers]:
    """The numbers among values as one column: durations where there are any, else floats, else ints."""
    lanes = [lane for lane in values.lanes if lane.type in NUMERIC and isinstance(lane.column, Numbers)]
    types = [lane.type for lane in lanes]
    type_ = next((t for t in (Type.DURATION, Type.FLOAT) if t in types), Type.INT)
    if len(lanes) == 1:
        column = lanes[0].column
        assert isinstance(column, Numbers)  # chosen above
        return type_, column
    result = np.zeros(values.count, np.float64 if type_ is Type.FLOAT else np.int64)
    defined = np.zeros(values.count, bool)
    for lane in lanes:
        column = lane.column
        assert isinstance(column, Numbers)  # chosen above
        valid = np.ones(values.count, bool) if column.valid is None else column.valid
        result[valid] = column.values[valid]
        defined |= valid
    return type_, Numbers(result, defined)
