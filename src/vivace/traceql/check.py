"""AST → checked AST: types, regular expressions, and what is written but not supported. The tree itself is not changed.

Rule 1  Attributes have any type, so nothing that depends on their values is refused here.
Rule 2  Int, float and duration go together; no other two types do. `nil` goes with everything that can be missing.
Rule 3  All problems are collected; the first is raised, in Tempo's words, the others are noted on it for the log.
"""

from __future__ import annotations

from typing import NewType, assert_never

from vivace.errors import TraceQLError
from vivace.traceql import fold, regex
from vivace.traceql.ast import (
    ARITHMETIC,
    EQUALITIES,
    LOGIC,
    MATCHES,
    ORDERINGS,
    Aggregate,
    AggregateKind,
    Attribute,
    Binary,
    BottomK,
    Compare,
    Field,
    FieldExpression,
    GroupBy,
    Intrinsic,
    IntrinsicId,
    MetricsFilter,
    MetricsFunction,
    MetricsKind,
    Node,
    Operator,
    Query,
    ScalarNegation,
    ScalarOperation,
    Scope,
    SpansetFilter,
    Static,
    StaticKind,
    TopK,
    Unary,
    UnaryOperator,
    walk,
)
from vivace.traceql.lexer import line_and_column
from vivace.traceql.printer import canonical
from vivace.traceql.types import NUMERIC, Type, type_of

CheckedQuery = NewType("CheckedQuery", Query)
"""A query that means something: only check() makes one, so a function that takes one need not ask again."""

GROUPS_MAX = 5
"""Labels of a series; of quantiles, histograms and averages one less, as in Tempo."""

_OWN_LABEL = (MetricsKind.AVG, MetricsKind.QUANTILE, MetricsKind.HISTOGRAM)


def check(query: Query) -> CheckedQuery:
    """`query`, if it means something. Raises TraceQLError."""
    problems: list[TraceQLError] = []

    def refuse(node: Node, reason: str, hint: str = "") -> None:
        line, column = line_and_column(query.text, node.offset)
        problems.append(TraceQLError(reason, text=query.text, line=line, column=column, hint=hint))

    _Checker(refuse).check(query)
    if not problems:
        return CheckedQuery(query)
    first, *others = problems
    for other in others:
        first.add_note(other.rendering())
    raise first
