"""AST → checked AST: types, regular expressions, and what is written but not supported. The tree itself is not changed.

Rule 1  Attributes have any type, so nothing that depends on their values is refused here.
Rule 2  Int, float and duration go together; no other two types do. `nil` goes with everything that can be missing.
Rule 3  Problems are collected; the first is raised, in Tempo's words, the others are noted on it for the log.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import NewType

from vivace.errors import TraceQLError
from vivace.traceql import regex
from vivace.traceql.ast import (
    ARITHMETIC,
    EQUALITIES,
    LOGIC,
    MATCHES,
    Aggregate,
    Attribute,
    Binary,
    BottomK,
    Compare,
    Field,
    FieldExpression,
    GroupBy,
    Intrinsic,
    IntrinsicId,
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
    walk_up,
)
from vivace.traceql.lexer import line_and_column
from vivace.traceql.printer import canonical
from vivace.traceql.types import NUMERIC, Type, type_of

CheckedQuery = NewType("CheckedQuery", Query)
"""A query that means something: only check() makes one, so a function that takes one need not ask again."""

PROBLEMS_MAX = 10
"""Reported of one query: more are no use to a reader, and each costs a look at the whole text."""

GROUPS_MAX = 5
"""Labels of a series, as in Tempo; of averages, quantiles and histograms one less."""

_OWN_LABEL = frozenset({MetricsKind.AVG, MetricsKind.QUANTILE, MetricsKind.HISTOGRAM})

_NEVER_NIL = Attribute(Scope.RESOURCE, "service.name")


def check(query: Query) -> CheckedQuery:
    """`query`, if it means something. Raises TraceQLError."""
    problems = []
    found = ((node, reason, hint) for node in walk_up(query) for reason, hint in _problems(node))
    for node, reason, hint in islice(found, PROBLEMS_MAX):
        line, column = line_and_column(query.text, node.offset)
        problems.append(TraceQLError(reason, text=query.text, line=line, column=column, hint=hint))
    if not problems:
        return CheckedQuery(query)
    first, *others = problems
    for other in others:
        first.add_note(other.rendering())
    raise first


def check_field(field: Field, text: str) -> Field:
    """`field`, which was read from `text`, if a query may ask for it. Raises TraceQLError."""
    for reason, hint in _problems(field):
        raise TraceQLError(reason, text=text, line=1, column=1, hint=hint)
    return field


def _problems(node: Node) -> Iterator[tuple[str, str]]:
    """(reason, hint) of what is wrong with `node` itself, its children taken as right."""
    match node:
        case Attribute(scope=Scope.PARENT):
            yield "parent not yet supported", "use { … } > { … } to ask something of the parent span"
        case Intrinsic(id=IntrinsicId.PARENT):
            yield "intrinsic (parent) not yet supported", "use { … } > { … } to ask something of the parent span"
        case Unary():
            yield from _unary(node)
        case Binary():
            yield from _binary(node)
        case SpansetFilter():
            if node.expression is not None and type_of(node.expression) not in (Type.BOOL, Type.ANY):
                reason = f"span filter field expressions must resolve to a boolean: {canonical(node)}"
                yield reason, "compare it with something"
        case ScalarOperation(lhs=Static(), rhs=Static()):
            yield _without_value(node)
        case ScalarNegation(operand=Static()):
            yield _without_value(node)
        case Aggregate():
            yield from _aggregate(node)
        case GroupBy():
            for expression in node.expressions:
                if not _references_span(expression):
                    yield f"grouping field expressions must reference the span: by({canonical(expression)})", ""
        case MetricsFunction():
            yield from _metrics_function(node)
        case Compare():
            yield from _compare(node)
        case TopK() | BottomK():
            if node.limit < 1:
                yield "limit must be greater than 0", ""
        case Query(metrics=Compare(), second_stages=stages) if stages:
            yield "`compare()` cannot be used with second stage functions", ""
        case _:
            pass  # the grammar leaves nothing to ask of the others


def _unary(node: Unary) -> Iterator[tuple[str, str]]:
    operand = type_of(node.operand)
    allowed = {Type.BOOL} if node.op is UnaryOperator.NOT else NUMERIC
    if operand not in {*allowed, Type.ANY}:
        hint = "! binds tighter than a comparison: write !(a = b)" if node.op is UnaryOperator.NOT else ""
        yield f"illegal operation for the given type: {canonical(node)}", hint
    elif isinstance(node.operand, Static):
        yield _without_value(node)


def _binary(node: Binary) -> Iterator[tuple[str, str]]:
    lhs, rhs = type_of(node.lhs), type_of(node.rhs)
    if Type.NIL in (lhs, rhs):
        yield from _nil(node)
    elif not _go_together(lhs, rhs):
        yield f"binary operations must operate on the same type: {canonical(node)}", _type_hint(lhs, rhs)
    elif not {lhs, rhs} <= _operands(node.op):
        yield f"illegal operation for the given types: {canonical(node)}", ""
    elif node.op in MATCHES:
        yield from _match(node)
    elif node.op in ARITHMETIC and isinstance(node.lhs, Static) and isinstance(node.rhs, Static):
        yield _without_value(node)


def _go_together(lhs: Type, rhs: Type) -> bool:
    return lhs is rhs or Type.ANY in (lhs, rhs) or {lhs, rhs} <= NUMERIC


def _operands(op: Operator) -> frozenset[Type]:
    """The types that an operator takes."""
    if op in EQUALITIES:
        return frozenset(Type)
    if op in LOGIC:
        return frozenset({Type.BOOL, Type.ANY})
    if op in MATCHES:
        return frozenset({Type.STRING, Type.ANY})
    if op in ARITHMETIC:
        return NUMERIC | {Type.ANY}
    return NUMERIC | {Type.STRING, Type.ANY}


def _type_hint(lhs: Type, rhs: Type) -> str:
    for keyword in (Type.STATUS, Type.KIND):
        if {lhs, rhs} == {keyword, Type.STRING}:
            return f"a {keyword.value} is written without quotes"
    return f"the left side is of type {lhs.value}, the right side of type {rhs.value}"


def _nil(node: Binary) -> Iterator[tuple[str, str]]:
    other = node.rhs if type_of(node.lhs) is Type.NIL else node.lhs
    always_there = isinstance(other, Intrinsic) or other == _NEVER_NIL
    if node.op is Operator.EQUAL and always_there:
        what = "intrinsics" if isinstance(other, Intrinsic) else canonical(other)
        reason = f"{canonical(node.lhs)}={canonical(node.rhs)} is not valid because {what} cannot be nil"
        yield reason, 'an empty one is = ""'
    elif node.op not in EQUALITIES:
        yield f"illegal operation for the given types: {canonical(node)}", "nil goes with = and != only"


def _match(node: Binary) -> Iterator[tuple[str, str]]:
    match node.rhs:
        case Static(kind=StaticKind.STRING, value=str(pattern)):
            try:
                regex.anchored(pattern)
            except ValueError as error:
                yield f"invalid regex: {canonical(node.rhs)}", str(error)
        case _:
            reason = f"illegal operation for the given types: {canonical(node)}"
            yield reason, "the right side of a match is a string, not an attribute"


def _without_value(node: Unary | Binary | ScalarOperation | ScalarNegation) -> tuple[str, str]:
    """The problem of an operation on numbers that fold.py found to have no value."""
    reason = f"arithmetic on constants gives no number of 64 bits: {canonical(node)}"
    hint = "write 1.0 for 1 to calculate with floats, whose range is larger"
    if isinstance(node, Unary | ScalarNegation):
        return reason, hint
    if any(isinstance(operand, Static) and operand.kind is StaticKind.FLOAT for operand in (node.lhs, node.rhs)):
        return reason, ""
    if isinstance(node.rhs, Static) and node.rhs.value == 0:
        return "parse error : runtime error: integer divide by zero", ""
    return reason, hint


def _aggregate(node: Aggregate) -> Iterator[tuple[str, str]]:
    if node.argument is None:
        return
    if type_of(node.argument) not in {*NUMERIC, Type.ANY}:
        yield f"aggregate field expressions must resolve to a number type: {canonical(node)}", ""
    elif not _references_span(node.argument):
        yield f"aggregate field expressions must reference the span: {canonical(node)}", ""


def _references_span(expression: FieldExpression) -> bool:
    return any(isinstance(node, Attribute | Intrinsic) for node in walk(expression))


def _metrics_function(node: MetricsFunction) -> Iterator[tuple[str, str]]:
    if node.field is not None and type_of(node.field) not in {*NUMERIC, Type.ANY}:
        yield (
            f"aggregate field expressions must resolve to a number type: {node.kind.value}({canonical(node.field)})",
            "",
        )
    if len(node.by) > GROUPS_MAX - (node.kind in _OWN_LABEL):
        yield f"metrics group by {len(node.by)} values not yet supported", ""
    for quantile in node.quantiles:
        if not 0 <= quantile <= 1:
            yield f"quantile must be between 0 and 1: {quantile:g}", "the 99th percentile is .99"


def _compare(node: Compare) -> Iterator[tuple[str, str]]:
    if node.top < 1:
        yield "compare() top number of values must be greater than 0", ""
    if node.start is not None and node.end is not None and node.start >= node.end:
        yield "compare() start must be before end, both in unix nanoseconds", ""
