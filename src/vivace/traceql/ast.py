"""What a TraceQL query says, as a tree: one of the two dictionaries of this house (the other is model/schema.py).

Rule 1  Every node is a frozen value. Equal nodes mean the same; `offset`, the place in the text (of a binary operation: of its
        operator), takes no part in equality.
Rule 2  Synonyms are gone: `span:name` and `name` are both IntrinsicId.NAME; `minInt` is an int; durations are nanoseconds.
Rule 3  Constant operations are folded (fold.py), parentheses are not kept, and a run of n equal `&&` or `||` is a balanced tree of
        depth log2(n): regrouping does not change its meaning, and a thousand alternatives do not make a thousand levels.
Rule 4  No tree is deeper than DEPTH_MAX, so everything that walks it may recurse.
Rule 5  The unions below are closed: match on them and end with assert_never.

Text to tree: parser.py.  Meaning and types: check.py, types.py.  Tree to text: printer.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import TypeAlias

DEPTH_MAX = 100
"""Levels of a tree. A walker takes two or three Python frames a level, of the 1000 that a thread has by default."""

INT_MIN = -(2**63)
INT_MAX = 2**63 - 1


class Scope(Enum):
    """Where an attribute is looked up; the value is how it is written, without the dot."""

    UNSCOPED = ""
    SPAN = "span"
    RESOURCE = "resource"
    EVENT = "event"
    LINK = "link"
    INSTRUMENTATION = "instrumentation"
    PARENT = "parent"


class IntrinsicId(Enum):
    """Intrinsics by their canonical text, which is also their label in answers."""

    NAME = "name"
    DURATION = "duration"
    STATUS = "status"
    STATUS_MESSAGE = "statusMessage"
    KIND = "kind"
    SPAN_ID = "span:id"
    SPAN_PARENT_ID = "span:parentID"
    SPAN_CHILD_COUNT = "span:childCount"
    ROOT_NAME = "rootName"
    ROOT_SERVICE_NAME = "rootServiceName"
    TRACE_DURATION = "traceDuration"
    TRACE_ID = "trace:id"
    EVENT_NAME = "event:name"
    EVENT_TIME_SINCE_START = "event:timeSinceStart"
    LINK_TRACE_ID = "link:traceID"
    LINK_SPAN_ID = "link:spanID"
    INSTRUMENTATION_NAME = "instrumentation:name"
    INSTRUMENTATION_VERSION = "instrumentation:version"
    NESTED_SET_LEFT = "nestedSetLeft"
    NESTED_SET_RIGHT = "nestedSetRight"
    NESTED_SET_PARENT = "nestedSetParent"
    PARENT = "parent"


class StaticKind(Enum):
    """Types of literals. Values: int, float, str, bool, None, int (nanoseconds), str (`error`), str (`server`)."""

    INT = "int"
    FLOAT = "float"
    STRING = "string"
    BOOL = "bool"
    NIL = "nil"
    DURATION = "duration"
    STATUS = "status"
    KIND = "kind"


class Operator(Enum):
    """Operators between two field expressions or two scalars."""

    AND = "&&"
    OR = "||"
    EQUAL = "="
    NOT_EQUAL = "!="
    LESS = "<"
    LESS_EQUAL = "<="
    GREATER = ">"
    GREATER_EQUAL = ">="
    REGEX = "=~"
    NOT_REGEX = "!~"
    ADD = "+"
    SUBTRACT = "-"
    MULTIPLY = "*"
    DIVIDE = "/"
    MODULO = "%"
    POWER = "^"


LOGIC = frozenset({Operator.AND, Operator.OR})
EQUALITIES = frozenset({Operator.EQUAL, Operator.NOT_EQUAL})
ORDERINGS = frozenset({Operator.LESS, Operator.LESS_EQUAL, Operator.GREATER, Operator.GREATER_EQUAL})
MATCHES = frozenset({Operator.REGEX, Operator.NOT_REGEX})
COMPARISONS = EQUALITIES | ORDERINGS | MATCHES
ARITHMETIC = frozenset(Operator) - LOGIC - COMPARISONS


class UnaryOperator(Enum):
    NOT = "!"
    NEGATE = "-"


class SpansetOperator(Enum):
    """Operators between two spansets. Of the structural ones the result is from the right side, and named after it: A > B, B is the CHILD.

    NOT_… keeps what has no such relation to any span of the left; UNION_… keeps the spans of both sides that have it.
    """

    AND = "&&"
    OR = "||"
    CHILD = ">"
    DESCENDANT = ">>"
    PARENT = "<"
    ANCESTOR = "<<"
    SIBLING = "~"
    NOT_CHILD = "!>"
    NOT_DESCENDANT = "!>>"
    NOT_PARENT = "!<"
    NOT_ANCESTOR = "!<<"
    NOT_SIBLING = "!~"
    UNION_CHILD = "&>"
    UNION_DESCENDANT = "&>>"
    UNION_PARENT = "&<"
    UNION_ANCESTOR = "&<<"
    UNION_SIBLING = "&~"


class AggregateKind(Enum):
    COUNT = "count"
    MIN = "min"
    MAX = "max"
    SUM = "sum"
    AVG = "avg"


class MetricsKind(Enum):
    RATE = "rate"
    COUNT = "count_over_time"
    MIN = "min_over_time"
    MAX = "max_over_time"
    SUM = "sum_over_time"
    AVG = "avg_over_time"
    QUANTILE = "quantile_over_time"
    HISTOGRAM = "histogram_over_time"


@dataclass(frozen=True, slots=True)
class _Node:
    offset: int = field(default=0, compare=False, repr=False, kw_only=True)
    """Characters before this node (before its operator) in the text of the query."""


# Field expressions: a value of one span.


@dataclass(frozen=True, slots=True)
class Attribute(_Node):
    scope: Scope
    name: str


@dataclass(frozen=True, slots=True)
class Intrinsic(_Node):
    id: IntrinsicId


@dataclass(frozen=True, slots=True)
class Static(_Node):
    kind: StaticKind
    value: int | float | str | bool | None


@dataclass(frozen=True, slots=True)
class Unary(_Node):
    op: UnaryOperator
    operand: FieldExpression


@dataclass(frozen=True, slots=True)
class Binary(_Node):
    """`nil` stands only beside EQUAL and NOT_EQUAL; of REGEX and NOT_REGEX a checked query has a string literal on the right."""

    op: Operator
    lhs: FieldExpression
    rhs: FieldExpression


Field: TypeAlias = Attribute | Intrinsic
FieldExpression: TypeAlias = Attribute | Intrinsic | Static | Unary | Binary


# Scalars: a number of one spanset.


@dataclass(frozen=True, slots=True)
class Aggregate(_Node):
    """`argument` is None for COUNT and for no other."""

    kind: AggregateKind
    argument: FieldExpression | None


@dataclass(frozen=True, slots=True)
class ScalarNegation(_Node):
    operand: Scalar


@dataclass(frozen=True, slots=True)
class ScalarOperation(_Node):
    """`op` is one of ARITHMETIC."""

    op: Operator
    lhs: Scalar
    rhs: Scalar


Scalar: TypeAlias = Static | Aggregate | ScalarNegation | ScalarOperation
"""Of Static: INT, FLOAT and DURATION."""


# Stages: spansets in, spansets out.


@dataclass(frozen=True, slots=True)
class SpansetFilter(_Node):
    """`{ expression }`; None is `{ }`, every span."""

    expression: FieldExpression | None


@dataclass(frozen=True, slots=True)
class SpansetOperation(_Node):
    op: SpansetOperator
    lhs: SpansetExpression
    rhs: SpansetExpression


@dataclass(frozen=True, slots=True)
class SpansetPipeline(_Node):
    """A pipeline in parentheses, as an operand or as a stage; never a spanset expression alone."""

    stages: tuple[Stage, ...]


SpansetExpression: TypeAlias = SpansetFilter | SpansetOperation | SpansetPipeline


@dataclass(frozen=True, slots=True)
class ScalarFilter(_Node):
    """`op` is one of EQUALITIES or ORDERINGS."""

    op: Operator
    lhs: Scalar
    rhs: Scalar


@dataclass(frozen=True, slots=True)
class GroupBy(_Node):
    expressions: tuple[FieldExpression, ...]


@dataclass(frozen=True, slots=True)
class Coalesce(_Node):
    pass


@dataclass(frozen=True, slots=True)
class Select(_Node):
    fields: tuple[Field, ...]


Stage: TypeAlias = SpansetFilter | SpansetOperation | SpansetPipeline | ScalarFilter | GroupBy | Coalesce | Select


# Metrics: spansets in, series out.


@dataclass(frozen=True, slots=True)
class MetricsFunction(_Node):
    """`field` is None for RATE and COUNT only; `quantiles` has values for QUANTILE only."""

    kind: MetricsKind
    field: Field | None
    quantiles: tuple[float, ...]
    by: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Compare(_Node):
    """`start` and `end` (unix nanoseconds) of the selection are both given or both None."""

    selection: SpansetFilter
    top: int
    start: int | None
    end: int | None


@dataclass(frozen=True, slots=True)
class TopK(_Node):
    limit: int


@dataclass(frozen=True, slots=True)
class BottomK(_Node):
    limit: int


@dataclass(frozen=True, slots=True)
class MetricsFilter(_Node):
    """Keeps the samples for which `sample op value` holds; `value` is INT, FLOAT or DURATION, and a duration is meant in seconds."""

    op: Operator
    value: Static


Metrics: TypeAlias = MetricsFunction | Compare
SecondStage: TypeAlias = TopK | BottomK | MetricsFilter


@dataclass(frozen=True, slots=True)
class Hint(_Node):
    name: str
    value: Static


@dataclass(frozen=True, slots=True)
class Query(_Node):
    """`pipeline` is never empty and never begins with Coalesce or Select; without `metrics` there are no `second_stages`."""

    pipeline: tuple[Stage, ...]
    metrics: Metrics | None = None
    second_stages: tuple[SecondStage, ...] = ()
    hints: tuple[Hint, ...] = ()
    text: str = field(default="", compare=False, repr=False, kw_only=True)
    """What it was parsed from; `offset` counts in it."""


Node: TypeAlias = FieldExpression | Scalar | Stage | Metrics | SecondStage | Hint | Query


def children(node: Node) -> Iterator[Node]:
    """The nodes directly below `node`, in the order of the text."""
    if isinstance(node, Attribute | Intrinsic | Static):
        return  # most nodes are leaves, and looking at their fields is the dear part
    for f in fields(node):
        match getattr(node, f.name):
            case _Node() as child:
                yield child  # type: ignore[misc]  # every subclass of _Node is one of Node
            case tuple() as several:
                yield from (child for child in several if isinstance(child, _Node))  # type: ignore[misc]


def walk(node: Node) -> Iterator[Node]:
    """`node` and everything below it, parents first, in the order of the text. Does not recurse."""
    pending = [node]
    while pending:
        here = pending.pop()
        yield here
        pending += reversed(list(children(here)))


def walk_up(node: Node) -> Iterator[Node]:
    """Everything below `node` and `node` itself, children first, in the order of the text. Does not recurse."""
    pending, found = [node], []
    while pending:
        here = pending.pop()
        found.append(here)
        pending += children(here)
    return reversed(found)


def depth(node: Node) -> int:
    """Levels of the tree below and with `node`. Does not recurse, so that it can be asked of a tree of any depth."""
    levels, level = 0, [node]
    while level:
        levels += 1
        level = [child for here in level for child in children(here)]
    return levels
