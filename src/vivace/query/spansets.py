"""Pipelines: spansets in, spansets out, all traces of a frame at once.

Rule 1  a spanset is spans of one trace. A trace has at most one until by() splits it; coalesce() joins them again.
Rule 2  a spanset that has lost all its spans is gone.
Rule 3  aggregates leave out spans whose field has no value or is no number; of a spanset without any, nothing holds. Of whole
        numbers they are whole; with a float among them they are floats.
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
from vivace.query.filters import at_rows, code_rows, evaluate, matching
from vivace.query.groups import combine
from vivace.query.spans import Spans
from vivace.query.structure import combine as combine_structure
from vivace.query.values import Lane, Values, calculate, compare, constant, negate, present
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
    def nbytes(self) -> int:
        labels = 64 * len(self) * len(self.labels)  # about: a number, or a code and its share of the table
        return int(self.rows.nbytes + self.sets.nbytes) + labels

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
        case SpansetPipeline():
            found = run(spans, start.stages, among=among)
        case SpansetFilter() | SpansetOperation():
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
        case SpansetOperation():
            among = _single(spans, found)
            return replace(found.keep(_mask(spans, stage, among)[found.rows]), labels={})
        case SpansetPipeline():
            for inner in stage.stages:
                found = _stage(spans, inner, found)
            return found
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
    keys = [evaluate(spans, e) for e in stage.expressions]
    groups, firsts = combine([found.sets, *(code_rows(spans, key, found.rows).codes for key in keys)])
    order = np.argsort(groups, kind="stable")
    before = found.sets[firsts]
    labels = {name: (values.take(before, Level.SPAN), missing) for name, (values, missing) in found.labels.items()}
    for expression, key in zip(stage.expressions, keys, strict=True):
        labels[f"by({canonical(expression)})"] = (at_rows(spans, key, found.rows[firsts]), NO_VALUE)
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
    values = at_rows(spans, evaluate(spans, argument), found.rows)
    parts = [one_type(values)] if kind is AggregateKind.AVG else _one_type_a_set(values, found)
    lanes = (_reduce(kind, type_, numbers, found) for type_, numbers in parts)
    return Values(Level.SPAN, len(found), tuple(lane for lane in lanes if lane is not None))


def _one_type_a_set(values: Values, found: Spansets) -> list[tuple[Type, Numbers]]:
    """The numbers among values: whole ones where a set has no others, else all of the set as floats or durations."""
    type_, numbers = one_type(values)
    whole = [lane.column for lane in values.lanes if lane.type is Type.INT and isinstance(lane.column, Numbers)]
    if type_ is Type.INT or not whole:
        return [(type_, numbers)]
    is_whole = present(whole[0])
    mixed = np.zeros(len(found), bool)
    mixed[found.sets[present(numbers) & ~is_whole]] = True
    of_mixed = mixed[found.sets]
    return [
        (type_, Numbers(numbers.values, present(numbers) & of_mixed)),
        (Type.INT, Numbers(whole[0].values, is_whole & ~of_mixed)),
    ]


def _reduce(kind: AggregateKind, type_: Type, numbers: Numbers, found: Spansets) -> Lane | None:
    """The aggregate of each set that has a number; None where none has."""
    places = np.flatnonzero(present(numbers))
    if not len(places):
        return None
    sets = found.sets[places]  # ascending
    firsts = np.flatnonzero(np.append(True, sets[1:] != sets[:-1]))
    has, counts = sets[firsts], np.diff(firsts, append=len(sets))
    picked = numbers.values[places]
    defined = np.zeros(len(found), bool)
    defined[has] = True
    if kind is AggregateKind.AVG:
        sums = np.add.reduceat(picked.astype(np.float64), firsts) / counts
        type_ = Type.DURATION if type_ is Type.DURATION else Type.FLOAT
        reduced: NDArray[Any] = sums.astype(np.int64) if type_ is Type.DURATION else sums
    else:
        reduced = _REDUCE[kind](picked, firsts)
        if kind is AggregateKind.SUM and reduced.dtype.kind == "i":
            about = np.add.reduceat(picked.astype(np.float64), firsts)
            defined[has[np.abs(about - reduced) > 2.0**62]] = False  # beyond 64 bits: it has gone round
    result = np.zeros(len(found), reduced.dtype)
    result[has] = reduced
    return Lane(type_, Numbers(result, None if defined.all() else defined))


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
        valid = present(column)
        result[valid] = column.values[valid]
        defined |= valid
    return type_, Numbers(result, defined)
