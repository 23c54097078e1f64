"""Hypothesis strategies for queries: every AST that parsing can give, and no other."""

from __future__ import annotations

from hypothesis import strategies as st

from vivace.traceql import fold
from vivace.traceql.ast import (
    ARITHMETIC,
    EQUALITIES,
    INT_MAX,
    INT_MIN,
    ORDERINGS,
    Aggregate,
    AggregateKind,
    Attribute,
    BottomK,
    Coalesce,
    Compare,
    GroupBy,
    Hint,
    Intrinsic,
    IntrinsicId,
    MetricsFilter,
    MetricsFunction,
    MetricsKind,
    Operator,
    Query,
    ScalarFilter,
    ScalarNegation,
    ScalarOperation,
    Scope,
    Select,
    SpansetFilter,
    SpansetOperation,
    SpansetOperator,
    SpansetPipeline,
    Static,
    StaticKind,
    TopK,
    UnaryOperator,
)

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.sampled_from(
    ["`", '"', "\\", "\r\n", "a`\\n", "'", "//", "/*", "", "é🚀", "{ } | x"]
)
attribute_name = (
    (text | st.sampled_from(["http.status_code", "5x", "a-b/c", "x*2", "span.a", "."]))
    .filter(bool)
    .map(lambda n: n.replace("\r", ""))
    .filter(bool)
)

attribute = st.builds(Attribute, st.sampled_from(Scope), attribute_name)
intrinsic = st.builds(Intrinsic, st.sampled_from(IntrinsicId))
field = attribute | intrinsic

whole = st.integers(INT_MIN, INT_MAX)
integer = st.builds(Static, st.just(StaticKind.INT), whole | st.sampled_from([INT_MIN, INT_MAX, 0, -1]))
real = st.builds(Static, st.just(StaticKind.FLOAT), st.floats(allow_nan=False, allow_infinity=False))
duration = st.builds(Static, st.just(StaticKind.DURATION), st.integers(-INT_MAX, INT_MAX) | st.integers(-5000, 5000))
number = integer | real | duration
static = (
    number
    | st.builds(Static, st.just(StaticKind.STRING), text)
    | st.builds(Static, st.just(StaticKind.BOOL), st.booleans())
    | st.builds(Static, st.just(StaticKind.STATUS), st.sampled_from(["ok", "error", "unset"]))
    | st.builds(Static, st.just(StaticKind.KIND), st.sampled_from(["server", "client", "unspecified"]))
)
nil = st.just(Static(StaticKind.NIL, None))


def _operations(inner: st.SearchStrategy) -> st.SearchStrategy:
    def folded(op: Operator, lhs: object, rhs: object) -> object:
        return fold.binary(op, lhs, rhs, offset=0)  # type: ignore[arg-type]

    return (
        st.builds(folded, st.sampled_from(Operator), inner, inner)
        | st.builds(folded, st.sampled_from(sorted(EQUALITIES, key=str)), inner, nil)
        | st.builds(folded, st.sampled_from(sorted(EQUALITIES, key=str)), nil, inner)
        | st.builds(lambda op, x: fold.unary(op, x, offset=0), st.sampled_from(UnaryOperator), inner)
    )


expression = st.recursive(field | static, _operations, max_leaves=8)

aggregate = st.just(Aggregate(AggregateKind.COUNT, None)) | st.builds(
    Aggregate, st.sampled_from([k for k in AggregateKind if k is not AggregateKind.COUNT]), expression
)


def _scalar_operation(op: Operator, lhs: object, rhs: object) -> object:
    if isinstance(lhs, Static) and isinstance(rhs, Static):
        value = fold.arithmetic(op, lhs, rhs, offset=0)
        if value is not None:
            return value
    return ScalarOperation(op, lhs, rhs)  # type: ignore[arg-type]


def _scalar_negation(operand: object) -> object:
    negated = fold.negate(operand, offset=0) if isinstance(operand, Static) else None
    return negated or ScalarNegation(operand)  # type: ignore[arg-type]


scalar = st.recursive(
    aggregate | number,
    lambda inner: (
        st.builds(_scalar_operation, st.sampled_from(sorted(ARITHMETIC, key=str)), inner, inner)
        | st.builds(_scalar_negation, inner)
    ),
    max_leaves=5,
)

comparison = st.sampled_from(sorted(EQUALITIES | ORDERINGS, key=str))
spanset_filter = st.builds(SpansetFilter, st.none() | expression)
scalar_filter = st.builds(ScalarFilter, comparison, scalar, scalar)
group_by = st.builds(GroupBy, st.lists(expression, min_size=1, max_size=3).map(tuple))
fields = st.lists(field, min_size=1, max_size=3).map(tuple)
later_only = st.just(Coalesce()) | st.builds(Select, fields)


def _stages(spanset: st.SearchStrategy, *, min_size: int) -> st.SearchStrategy:
    first = spanset | scalar_filter | group_by
    rest = st.lists(first | later_only, min_size=min_size - 1, max_size=3)
    return st.builds(lambda head, tail: (head, *tail), first, rest)


def _spansets(inner: st.SearchStrategy) -> st.SearchStrategy:
    return (
        st.builds(SpansetOperation, st.sampled_from(SpansetOperator), inner, inner)
        | st.builds(SpansetPipeline, _stages(inner, min_size=2))
        | st.builds(SpansetPipeline, (scalar_filter | group_by).map(lambda stage: (stage,)))
    )


spanset = st.recursive(spanset_filter, _spansets, max_leaves=4)

_without_field = [MetricsKind.RATE, MetricsKind.COUNT]
_with_field = [k for k in MetricsKind if k not in (*_without_field, MetricsKind.QUANTILE)]
by = st.just(()) | fields
quantiles = st.lists(st.floats(0, 2), min_size=1, max_size=3).map(tuple)
moments = st.none() | st.tuples(st.integers(0, INT_MAX), st.integers(0, INT_MAX))
metrics = (
    st.builds(MetricsFunction, st.sampled_from(_without_field), st.none(), st.just(()), by)
    | st.builds(MetricsFunction, st.sampled_from(_with_field), field, st.just(()), by)
    | st.builds(MetricsFunction, st.just(MetricsKind.QUANTILE), field, quantiles, by)
    | st.builds(
        lambda selection, top, when: Compare(selection, top, *(when or (None, None))),
        spanset_filter,
        st.integers(0, 100),
        moments,
    )
)
literal_number = number.filter(lambda n: n.value != INT_MIN)
second_stage = (
    st.builds(TopK, st.integers(0, 100))
    | st.builds(BottomK, st.integers(0, 100))
    | st.builds(MetricsFilter, comparison, literal_number)
)
hint = st.builds(Hint, st.sampled_from(["sample", "most_recent", "by", "x_1"]), static)

query = st.builds(
    lambda stages, function, second, hints: Query(stages, function, second if function else (), hints),
    _stages(spanset, min_size=1),
    st.none() | metrics,
    st.lists(second_stage, max_size=3).map(tuple),
    st.lists(hint, max_size=2).map(tuple),
)
