"""Plans: what a query reads, what lets it skip a block, what it shows. They print as a few lines (`?explain=1`).

Rule 1  a block is skipped when a condition that must hold asks for a key that no row of the block has.
Rule 2  what is skipped could not have matched: negations and `= nil` never skip, nor do names of services, which are empty
        where they are missing (fields.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vivace.model.frame import Level
from vivace.model.schema import AttributeScope
from vivace.query.fields import NEVER_MISSING, SCOPES, level_of
from vivace.query.filters import conjuncts
from vivace.query.shown import Shown, shown_fields
from vivace.storage.block_reader import Block
from vivace.traceql import canonical
from vivace.traceql.ast import (
    ARITHMETIC,
    Attribute,
    Binary,
    Field,
    FieldExpression,
    Intrinsic,
    IntrinsicId,
    Operator,
    Query,
    Scope,
    SpansetExpression,
    SpansetFilter,
    SpansetOperation,
    SpansetOperator,
    SpansetPipeline,
    Stage,
    Static,
    StaticKind,
    Unary,
    UnaryOperator,
    walk,
)

_IN_SUMMARY = frozenset(
    {
        IntrinsicId.NAME,
        IntrinsicId.DURATION,
        IntrinsicId.TRACE_DURATION,
        IntrinsicId.ROOT_NAME,
        IntrinsicId.ROOT_SERVICE_NAME,
        IntrinsicId.TRACE_ID,
        IntrinsicId.SPAN_ID,
    }
)
"""Shown of every span or trace anyway, so never among a span's attributes."""

_ONLY_RIGHT = frozenset(
    {
        SpansetOperator.NOT_CHILD,
        SpansetOperator.NOT_DESCENDANT,
        SpansetOperator.NOT_PARENT,
        SpansetOperator.NOT_ANCESTOR,
        SpansetOperator.NOT_SIBLING,
    }
)


@dataclass(frozen=True, slots=True)
class Plan:
    """A query and what follows from its text alone.

    pipeline its canonical text without metrics function and hints
    reads    every field that is looked at
    shown    fields whose values stand at the spans of an answer;  name: likewise, None when nobody asks for it
    """

    query: Query
    pipeline: str
    reads: tuple[Field, ...]
    shown: tuple[Shown, ...]
    name: Shown | None

    def may_match(self, block: Block) -> bool:
        """Whether a block can hold an answer, as far as its meta tells."""
        return _stage_may_match(self.query.pipeline[0], Keys(block))

    def lines(self) -> list[str]:
        """The plan for people."""
        text = [f"query   {canonical(self.query)}"]
        by_level: dict[Level, list[str]] = {}
        for field in self.reads:
            by_level.setdefault(level_of(field), []).append(canonical(field))
        reads = "; ".join(f"{level.value}: {', '.join(names)}" for level, names in by_level.items())
        text.append(f"reads   {reads or 'trace boundaries'}")
        for expression in _filters(self.query.pipeline):
            if expression is not None and len(parts := conjuncts(expression)) > 1:
                text.append(f"order   {', then '.join(canonical(part) for part in parts)}")
        needs = [canonical(field) for field in _needed(self.query.pipeline[0])]
        if needs:
            text.append(f"skips   blocks without {' or '.join(needs)}")
        names = [canonical(shown.field) for shown in (self.name, *self.shown) if shown is not None]
        if names:
            text.append(f"shows   {', '.join(names)}")
        return text


@dataclass(frozen=True, slots=True)
class Keys:
    """The attribute keys of a block."""

    block: Block

    def has(self, attribute: Attribute) -> bool:
        if attribute.scope is Scope.UNSCOPED:
            scopes: tuple[AttributeScope, ...] = (AttributeScope.SPAN, AttributeScope.RESOURCE)
        else:
            scopes = (SCOPES[attribute.scope],)
        return any(self.block.keys(scope, attribute.name) for scope in scopes)


def plan(query: Query) -> Plan:
    """The plan of a checked query."""
    reads: dict[Field, None] = {}
    for node in walk(query):
        if isinstance(node, Attribute | Intrinsic):
            reads[node] = None
    shown = shown_fields(query)
    name = next((s for s in shown if s.field == Intrinsic(IntrinsicId.NAME)), None)
    attributes = tuple(s for s in shown if not (isinstance(s.field, Intrinsic) and s.field.id in _IN_SUMMARY))
    return Plan(query, canonical(Query(query.pipeline)), tuple(reads), attributes, name)


def _filters(stages: Iterable[Stage]) -> Iterator[FieldExpression | None]:
    for stage in stages:
        for node in walk(stage):
            if isinstance(node, SpansetFilter):
                yield node.expression


def _stage_may_match(stage: Stage, keys: Keys) -> bool:
    match stage:
        case SpansetFilter():
            return stage.expression is None or _may_hold(stage.expression, keys)
        case SpansetOperation():
            return _operation_may_match(stage.op, stage.lhs, stage.rhs, keys)
        case SpansetPipeline():
            return _stage_may_match(stage.stages[0], keys)
        case _:
            return True


def _operation_may_match(op: SpansetOperator, lhs: SpansetExpression, rhs: SpansetExpression, keys: Keys) -> bool:
    right = _stage_may_match(rhs, keys)
    if op in _ONLY_RIGHT:
        return right
    left = _stage_may_match(lhs, keys)
    return left or right if op is SpansetOperator.OR else left and right


def _may_hold(expression: FieldExpression, keys: Keys) -> bool:
    match expression:
        case Binary(op=Operator.AND):
            return _may_hold(expression.lhs, keys) and _may_hold(expression.rhs, keys)
        case Binary(op=Operator.OR):
            return _may_hold(expression.lhs, keys) or _may_hold(expression.rhs, keys)
        case Binary(op=Operator.EQUAL) if _is_nil(expression.lhs) or _is_nil(expression.rhs):
            return True
        case Binary() | Attribute():
            return all(keys.has(attribute) for attribute in _operands(expression) if attribute not in NEVER_MISSING)
        case Static():
            return expression.value is True
        case _:
            return True


def _operands(expression: FieldExpression) -> Iterator[Attribute]:
    """Attributes without which the expression has no value. A condition inside has one anyway, so none of its."""
    match expression:
        case Attribute():
            yield expression
        case Unary(op=UnaryOperator.NEGATE):
            yield from _operands(expression.operand)
        case Binary():
            for side in (expression.lhs, expression.rhs):
                if not isinstance(side, Binary) or side.op in ARITHMETIC:
                    yield from _operands(side)
        case _:
            return


def _is_nil(expression: FieldExpression) -> bool:
    return isinstance(expression, Static) and expression.kind is StaticKind.NIL


def _needed(stage: Stage) -> list[Attribute]:
    """Attributes without any of which nothing matches, as far as a single filter says."""
    if not isinstance(stage, SpansetFilter) or stage.expression is None:
        return []
    found: dict[Attribute, None] = {}
    for part in conjuncts(stage.expression):
        for attribute in {f: None for f in walk(part) if isinstance(f, Attribute)}:
            without = _Without(attribute)
            if not _may_hold(part, without):  # type: ignore[arg-type]  # asks has() only
                found[attribute] = None
    return list(found)


@dataclass(frozen=True, slots=True)
class _Without:
    """Keys of a block that has all but one."""

    attribute: Attribute

    def has(self, attribute: Attribute) -> bool:
        return attribute != self.attribute
