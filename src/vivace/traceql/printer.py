"""AST → text, in the one form that labels, spanset attributes and error texts use: `by(resource.service.name)`, ``name = `a` ``.

Rule 1  parse(canonical(node)) gives the node back: an operation inside an operation always stands in parentheses.
Rule 2  Intrinsics have their short names, strings stand in backquotes where they can, durations are printed as Go prints them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from vivace.traceql import literals
from vivace.traceql.ast import (
    INT_MIN,
    Aggregate,
    Attribute,
    Binary,
    BottomK,
    Coalesce,
    Compare,
    Field,
    FieldExpression,
    GroupBy,
    Hint,
    Intrinsic,
    MetricsFilter,
    MetricsFunction,
    Node,
    Operator,
    Query,
    Scalar,
    ScalarFilter,
    ScalarNegation,
    ScalarOperation,
    Scope,
    Select,
    SpansetExpression,
    SpansetFilter,
    SpansetOperation,
    SpansetPipeline,
    Static,
    StaticKind,
    TopK,
    Unary,
)

_TIGHTER_THAN_MINUS = frozenset({Operator.MULTIPLY, Operator.DIVIDE, Operator.MODULO, Operator.POWER})


def canonical(node: Node) -> str:
    """The text of `node`."""
    match node:
        case Attribute():
            return _attribute(node)
        case Intrinsic():
            return str(node.id.value)
        case Static():
            return _static(node)
        case Unary():
            return f"{node.op.value}{_operand(node.operand)}"
        case Binary():
            return _operation(node.op, node.lhs, node.rhs)
        case Aggregate():
            return f"{node.kind.value}({'' if node.argument is None else canonical(node.argument)})"
        case ScalarNegation():
            return f"-{_operand(node.operand)}"
        case ScalarOperation():
            return _operation(node.op, node.lhs, node.rhs)
        case ScalarFilter():
            return f"{canonical(node.lhs)} {node.op.value} {canonical(node.rhs)}"
        case SpansetFilter():
            return "{ }" if node.expression is None else f"{{ {canonical(node.expression)} }}"
        case SpansetOperation():
            return _spanset_operation(node)
        case SpansetPipeline():
            return f"({' | '.join(map(canonical, node.stages))})"
        case GroupBy():
            return f"by({_comma_separated(node.expressions)})"
        case Coalesce():
            return "coalesce()"
        case Select():
            return f"select({_comma_separated(node.fields)})"
        case MetricsFunction():
            return _metrics_function(node)
        case Compare():
            bounds = "" if node.start is None else f", {node.start}, {node.end}"
            return f"compare({canonical(node.selection)}, {node.top}{bounds})"
        case TopK():
            return f"| topk({node.limit})"
        case BottomK():
            return f"| bottomk({node.limit})"
        case MetricsFilter():
            return f"{node.op.value} {canonical(node.value)}"
        case Hint():
            return f"{node.name}={canonical(node.value)}"
        case Query():
            return _query(node)
        case _:
            assert_never(node)


def _query(query: Query) -> str:
    text = " | ".join(map(canonical, query.pipeline))
    if query.metrics is not None:
        text = f"{text} | {canonical(query.metrics)}"
    parts = [text, *map(canonical, query.second_stages)]
    if query.hints:
        parts.append(f"with({', '.join(map(canonical, query.hints))})")
    return " ".join(parts)


def _attribute(node: Attribute) -> str:
    name = literals.quote_name(node.name, unscoped=node.scope is Scope.UNSCOPED)
    return f"{node.scope.value}.{name}"


def _static(node: Static) -> str:
    match node.kind, node.value:
        case StaticKind.STRING, str(text):
            return literals.quote(text)
        case StaticKind.DURATION, int(nanoseconds):
            return literals.format_duration(nanoseconds)
        case StaticKind.INT, int(number):
            return "minInt" if number == INT_MIN else str(number)  # it has no literal: -2**63 is a minus and 2**63
        case StaticKind.BOOL, bool(truth):
            return "true" if truth else "false"
        case StaticKind.NIL, _:
            return "nil"
        case _, value:
            return str(value)


def _operation(op: Operator, lhs: FieldExpression | Scalar, rhs: FieldExpression | Scalar) -> str:
    left = _operand(lhs)
    if left.startswith("-") and op in _TIGHTER_THAN_MINUS:  # a negative number: -2 ^ 2 is -(2 ^ 2)
        left = f"({left})"
    return f"{left} {op.value} {_operand(rhs)}"


def _operand(node: FieldExpression | Scalar) -> str:
    match node:
        case Unary() | Binary() | ScalarNegation() | ScalarOperation():
            return f"({canonical(node)})"
        case _:
            return canonical(node)


def _spanset_operation(node: SpansetOperation) -> str:
    # Beside a pipeline in parentheses the other operand needs them too.
    bare = not (_holds_pipeline(node.lhs) or _holds_pipeline(node.rhs))
    return f"{_spanset_operand(node.lhs, bare)} {node.op.value} {_spanset_operand(node.rhs, bare)}"


def _spanset_operand(node: SpansetExpression, bare: bool) -> str:
    text = canonical(node)
    match node:
        case SpansetPipeline():
            return text
        case SpansetFilter():
            return text if bare else f"({text})"
        case SpansetOperation():
            return f"({text})"
        case _:
            assert_never(node)


def _holds_pipeline(node: SpansetExpression) -> bool:
    match node:
        case SpansetPipeline():
            return True
        case SpansetOperation():
            return _holds_pipeline(node.lhs) or _holds_pipeline(node.rhs)
        case _:
            return False


def _metrics_function(node: MetricsFunction) -> str:
    arguments = [] if node.field is None else [canonical(node.field)]
    arguments += [repr(quantile) for quantile in node.quantiles]
    by = f" by({_comma_separated(node.by)})" if node.by else ""
    return f"{node.kind.value}({', '.join(arguments)}){by}"


def _comma_separated(nodes: Sequence[Field | FieldExpression]) -> str:
    return ", ".join(map(canonical, nodes))
