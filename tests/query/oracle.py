"""What a TraceQL search means, evaluated span by span: slow, small, and right by inspection. The engine is held against it.

Sources: L n = language reference, section n; A n = HTTP API reference, section n; R id = a recorded answer; D = our own decision
where Tempo is wrong or silent. `missing` is a value's absence; nil in the language.

Data (oracle_traces.py)
 1  Exact copies of a span (all fields, resource and scope included) count once; other spans with one id stay several. (A 4)
 2  Of attributes with one key those of the type with the lowest of OTLP's numbers count (string, bool, int, double, array, kvlist,
    bytes), of these the first. An attribute whose value is not set is missing. (D)
 3  The root is the span without parent id, of several the first to start. None: rootName and rootServiceName are "". (L 3.2)
 4  traceDuration is last end - first start, duration is end - start; 0 if the end is earlier. (L 3.2, D)
 5  The parent of a span is the span with its parent id: of several the first server that follows a client, else the first, in order
    of (start, id, arrival). A server span that shares id AND parent id with a client hangs under that client. (D; R search-285)
 6  A ring of parents is cut above its first span: until every span is reached, the first unreached one becomes a top. (D)
 7  span:childCount counts the spans whose parent it is. (D) Nested-set numbers as in model/trees.py: roots first, then tops with
    a missing parent, then rings; nestedSetParent is -1 for a root, 0 for another top. (L 3.2, D)

Values of fields (oracle_conditions.py)
 8  `.x` is the span's x if the span has that key, else the resource's. (L 3.1)
 9  resource.service.name, never missing, is "" where it is not there; so is the resource's part of .service.name. (L 6, R search-066)
10  Ids are hex of full width (trace 32, span 16), of zeros for the parent of a root. With `=` and `!=` ids compare without leading
    zeros and without case, so "" equals "0000000000000000". Otherwise they are strings. (L 3.2, L 13, R search-196, search-197)
11  event.x, event:name, event:timeSinceStart, link.…: a value for each event (link); which one, see rule 20 and 24.

Comparisons
12  Numbers (int, float, duration in ns) compare as numbers, wherever they come from. Other types compare with their own only:
    any comparison between two types is false, `!=` and `!~` too. bool, status, kind: = and != only. Strings by code point. (L 5, D)
13  A missing operand makes every comparison false, `!=` too; only `= nil` is true of it. (L 6)
14  `x != nil` is true of every value that is there, also of empty arrays, bytes and kvlists; nil against nil is false. (L 6, D)
15  Bytes and kvlists, and such elements of arrays, hold in no comparison but those with nil. (L 7, D)
16  An array stands for each of its elements: a comparison holds if it holds for any (of both sides: for any pair), also != and !~. (L 7)
17  A regular expression matches the whole string; dot matches newline. (L 4.2)

Logic
18  A condition is true or false, never missing: a field alone holds where its value (any element of it) is `true`; all else is
    false. `!c` is true where c is false, so also where c's attribute is missing or no boolean. (D; L 6)
19  A condition as operand of a comparison, `(a = 1) = (b = 2)`, is a boolean. (L 4.1)
20  A comparison (or bare field) that mentions event fields holds if it does at any event, span fields being constant there; the
    same for links. With both it is one of events, and link fields are as in rule 24. (L 7, D)
21  In a chain of `&&`, all operands that are built of && || and comparisons on events alone must hold at the SAME event; all those on
    links at the same link. `!` is not part of such an operand: it negates what holds at the span. `event.x = nil` asks for an event
    without x, so a span without events does not match. (L 7, D)

Arithmetic (fold.py calculates; constants and values alike)
22  Of two numbers; anything else, arrays too, gives missing. int/int and int%int cut towards zero; int^int is exact; with a float
    the result is a float; with a duration a duration, whole nanoseconds cut towards zero. (L 4.3)
23  What has no value is missing: division of ints by zero, results beyond 64 bits, floats not finite. (D)
24  In arithmetic outside of comparisons, in by(), aggregates and metrics an event (link) field is that of the FIRST event (link) that
    has it. (R metrics-026)

Spansets (A the left side, B the right)
25  A filter keeps the spans for which its condition holds; a spanset without spans is dropped. A trace is found if a spanset is left.
26  A && B: the union, if both are not empty. A || B: the union. (L 8)
27  A > B: spans of B whose parent is in A; >> an ancestor; < that are the parent of one in A; << an ancestor of one in A; ~ that
    share their parent with another span in A. Tops (roots, orphans, cut rings) have no parent, so no siblings. (L 8)
28  A !> B and so on: the spans of B that A > B leaves out. A may be empty; then all of B stays. (R search-242)
29  A &> B and so on: the spans of A > B, and those of A because of which they are there. (L 8)
30  Structure holds in a trace without root too; a negation keeps what has no known parent. Spans are never related to themselves. (D)
31  An operation behind other stages takes both sides from the spans of the spanset it is given, structure being the whole trace's.
    Over several spansets of a trace it is an error, also where an operand gives several. (L 8)
32  A pipeline in parentheses runs on the input of the operation it stands in. Result of an operation: one spanset, no
    attributes. (R search-319)

Stages
33  A filter keeps the attributes of the spanset. by, count and so on add theirs behind; of a label that is there the value is
    replaced. (L 9, D)
34  by(x, y): a spanset for each combination of values, with an attribute `by(x)`, `by(y)` each. Values of another type are others:
    1, 1.0 and true are three. Missing is a group too, and its label is the string `nil`. (L 9, R search-308)
35  coalesce(): all spans of the trace's spansets as one, without attributes. (L 14)
36  select(): nothing is filtered. (L 9)
37  count() is the spans of the spanset. avg min max sum take the values that are numbers, and skip all others, arrays too; of none
    they are missing. avg is a float, min max sum of ints an int, with a float among them a float; of durations all are
    durations, whole ns. (L 9)
38  A scalar filter keeps a spanset where the comparison holds; missing: never. It adds an attribute for each aggregate it mentions, in
    the order of the text, label as canonical() prints it. Scalar arithmetic is rules 22 and 23. (L 9, D)

Shown
39  Durations in attributes are strings as Go prints them; status and kind are strings. (A 5.3)
40  Of a span are shown, as 41 says: its name; attributes, the key without scope (`service.name`); intrinsics by their canonical
    names, without name, duration, traceDuration, rootName, rootServiceName, trace:id, span:id. (A 5.3)
41  A field, name too, that the query only compares with literals is shown where its value satisfies one of these comparisons: of events the last
    such event's, of an array the elements that do, alone if it is one. A field that also stands anywhere else (arithmetic, beside
    another field, under `!`, with nil, in by, select, aggregates) is shown wherever it is there.
    (R search-293, search-301, search-107, search-108, search-172, search-206)

The metrics functions: oracle_metrics.py. Order of spansets and spans is not part of the answer here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, assert_never

from oracle_conditions import (
    Place,
    calculate,
    compare,
    elements,
    field_value,
    from_static,
    holds,
    places,
    static_value,
    to_static,
    value,
)
from oracle_traces import Duration, Id, Kind, OSpan, OTrace, Status, Value, is_number, traces_of

from vivace.traceql import CheckedQuery, canonical, fold
from vivace.traceql.ast import (
    COMPARISONS,
    Aggregate,
    AggregateKind,
    Attribute,
    Binary,
    Coalesce,
    Field,
    GroupBy,
    Intrinsic,
    IntrinsicId,
    Node,
    Scalar,
    ScalarFilter,
    ScalarNegation,
    ScalarOperation,
    Select,
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
    children,
    walk,
)
from vivace.traceql.literals import format_duration

__all__ = [
    "ManySpansetsError",
    "OSpan",
    "OSpanset",
    "OTrace",
    "Shown",
    "search",
    "traces_of",
]

# -- Spansets ---------------------------------------------------------------------------------------------------------


@dataclass
class OSpanset:
    """Spans of one trace, and the attributes of the spanset: (label, value) in order, values as rule 39 shows them."""

    spans: list[OSpan]
    attributes: list[tuple[str, Value]] = field(default_factory=list)

    @property
    def matched(self) -> int:
        return len(self.spans)

    def with_spans(self, spans: list[OSpan]) -> OSpanset:
        return OSpanset(spans, list(self.attributes))

    def with_attribute(self, label: str, value: Value) -> OSpanset:
        """Rule 33."""
        attributes = dict(self.attributes)
        attributes[label] = value
        return OSpanset(self.spans, list(attributes.items()))


class ManySpansetsError(Exception):
    """Rule 31."""


def search(query: CheckedQuery, traces: Iterable[OTrace]) -> dict[int, list[OSpanset]]:
    """The spansets of every trace that has one, by trace id. A metrics function of the query is ignored."""
    found = {}
    for trace in traces:
        spansets = run(query.pipeline, [OSpanset(trace.spans)])
        if spansets:
            found[trace.spans[0].trace_id] = spansets
    return found


def run(stages: Iterable[Stage], spansets: list[OSpanset]) -> list[OSpanset]:
    """Spansets of one trace through a pipeline."""
    for stage in stages:
        spansets = [s for s in run_stage(stage, spansets) if s.spans]
    return spansets


def run_stage(stage: Stage, spansets: list[OSpanset]) -> list[OSpanset]:
    match stage:
        case SpansetFilter():
            return [s.with_spans([x for x in s.spans if passes(stage, x)]) for s in spansets]
        case SpansetOperation():
            if len(spansets) > 1:
                raise ManySpansetsError
            return [OSpanset(evaluate(stage, s)) for s in spansets]
        case SpansetPipeline():
            return run(stage.stages, spansets)
        case ScalarFilter():
            return [kept for s in spansets for kept in scalar_filter(stage, s)]
        case GroupBy():
            return [group for s in spansets for group in group_by(stage, s)]
        case Coalesce():
            together = [x for s in spansets for x in s.spans]
            return [OSpanset(list(dict.fromkeys(together)))]
        case Select():
            return spansets
        case _:
            assert_never(stage)


def passes(spanset_filter: SpansetFilter, span: OSpan) -> bool:
    return spanset_filter.expression is None or holds(spanset_filter.expression, span)


def evaluate(e: SpansetExpression, given: OSpanset) -> list[OSpan]:
    """The spans of an operand or an operation."""
    match e:
        case SpansetFilter():
            return [x for x in given.spans if passes(e, x)]
        case SpansetPipeline():
            spansets = run(e.stages, [given])
            if len(spansets) > 1:
                raise ManySpansetsError
            return spansets[0].spans if spansets else []
        case SpansetOperation():
            return combine(e.op, evaluate(e.lhs, given), evaluate(e.rhs, given))
        case _:
            assert_never(e)


def is_child(b: OSpan, a: OSpan) -> bool:
    return b.trace.parent(b) is a


def is_descendant(b: OSpan, a: OSpan) -> bool:
    return a in b.trace.ancestors(b)


def is_parent(b: OSpan, a: OSpan) -> bool:
    return is_child(a, b)


def is_ancestor(b: OSpan, a: OSpan) -> bool:
    return is_descendant(a, b)


def is_sibling(b: OSpan, a: OSpan) -> bool:
    above = b.trace.parent(b)
    return b is not a and above is not None and a.trace.parent(a) is above


RELATIONS: dict[SpansetOperator, Callable[[OSpan, OSpan], bool]] = {
    SpansetOperator.CHILD: is_child,
    SpansetOperator.DESCENDANT: is_descendant,
    SpansetOperator.PARENT: is_parent,
    SpansetOperator.ANCESTOR: is_ancestor,
    SpansetOperator.SIBLING: is_sibling,
}


def combine(op: SpansetOperator, a: list[OSpan], b: list[OSpan]) -> list[OSpan]:
    """Rules 26 to 30."""
    if op is SpansetOperator.AND:
        return union(a, b) if a and b else []
    if op is SpansetOperator.OR:
        return union(a, b)
    plain = SpansetOperator[op.name.removeprefix("NOT_").removeprefix("UNION_")]
    relation = RELATIONS[plain]
    related = [y for y in b if any(relation(y, x) for x in a)]
    if op.name.startswith("NOT_"):
        return [y for y in b if y not in related]
    if op.name.startswith("UNION_"):
        return union([x for x in a if any(relation(y, x) for y in b)], related)
    return related


def union(a: list[OSpan], b: list[OSpan]) -> list[OSpan]:
    return list(dict.fromkeys([*a, *b]))


# -- Groups and scalars -----------------------------------------------------------------------------------------------


def group_by(stage: GroupBy, given: OSpanset) -> list[OSpanset]:
    """Rule 34."""
    groups: dict[tuple[tuple[str, Value], ...], list[OSpan]] = {}
    for span in given.spans:
        values = [value(e, Place(span)) for e in stage.expressions]
        groups.setdefault(tuple((type(v).__name__, v) for v in values), []).append(span)
    split = []
    for key, spans in groups.items():
        group = given.with_spans(spans)
        for e, (_, v) in zip(stage.expressions, key, strict=True):
            group = group.with_attribute(f"by({canonical(e)})", "nil" if v is None else shown(v))
        split.append(group)
    return split


def shown(v: Value) -> Value:
    """Rule 39."""
    if isinstance(v, Duration):
        return format_duration(v)
    if isinstance(v, Status | Kind | Id):
        return str(v)
    return v


def scalar_filter(stage: ScalarFilter, given: OSpanset) -> list[OSpanset]:
    """Rule 38: the spanset, if it stays."""
    a, b = scalar(stage.lhs, given), scalar(stage.rhs, given)
    if a is None or b is None or not compare(stage.op, a, b):
        return []
    for node in walk(stage):
        if isinstance(node, Aggregate):
            given = given.with_attribute(canonical(node), shown(aggregate(node, given.spans)))
    return [given]


def scalar(node: Scalar, given: OSpanset) -> Value:
    match node:
        case Static():
            return static_value(node)
        case Aggregate():
            return aggregate(node, given.spans)
        case ScalarNegation():
            operand = scalar(node.operand, given)
            return None if operand is None else from_static(fold.negate(to_static(operand), offset=0))
        case ScalarOperation():
            return calculate(node.op, scalar(node.lhs, given), scalar(node.rhs, given))
        case _:
            assert_never(node)


def aggregate(node: Aggregate, spans: list[OSpan]) -> Value:
    """Rule 37."""
    if node.argument is None:
        return len(spans)
    values: list[Any] = [v for v in (value(node.argument, Place(s)) for s in spans) if is_number(v)]
    if not values:
        return None
    kind: type = int
    if any(isinstance(v, Duration) for v in values):
        kind = Duration
    elif any(isinstance(v, float) for v in values):
        kind = float
    match node.kind:
        case AggregateKind.MIN:
            return kind(min(values))  # type: ignore[no-any-return]
        case AggregateKind.MAX:
            return kind(max(values))  # type: ignore[no-any-return]
        case AggregateKind.SUM:
            return kind(sum(values))  # type: ignore[no-any-return]
        case _:
            mean = sum(values) / len(values)
            return Duration(mean) if kind is Duration else mean


# -- What is shown of a span ------------------------------------------------------------------------------------------

NOT_SHOWN = frozenset(
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


class Shown:
    """What a query shows of the spans that it finds."""

    def __init__(self, query: CheckedQuery) -> None:
        self._mentioned = mentioned(query)

    def fields(self, span: OSpan) -> dict[Field, Value]:
        """Rule 41."""
        found: dict[Field, Value] = {}
        for f, conditions in self._mentioned.items():
            v = field_value(f, Place(span)) if None in conditions else satisfying(f, conditions, span)
            if v is not None:
                found[f] = shown(v)
        return found

    def name(self, span: OSpan) -> str | None:
        name = self.fields(span).get(Intrinsic(IntrinsicId.NAME))
        return name if isinstance(name, str) else None

    def attributes(self, span: OSpan) -> list[tuple[str, Value]]:
        """Key and value (rule 40), in no order; fields of two scopes may share a key."""
        return [
            (f.name if isinstance(f, Attribute) else f.id.value, v)
            for f, v in self.fields(span).items()
            if isinstance(f, Attribute) or f.id not in NOT_SHOWN
        ]


def mentioned(query: CheckedQuery) -> dict[Field, list[Binary | None]]:
    """Every field of the pipeline with the comparisons to literals that it stands in; None for every other place."""
    found: dict[Field, list[Binary | None]] = {}

    def look(node: Node, negated: bool) -> None:
        if isinstance(node, Attribute | Intrinsic):
            found.setdefault(node, []).append(None)
        elif not negated and isinstance(node, Binary) and (f := asked_of(node)) is not None:
            found.setdefault(f, []).append(node)
        else:
            for child in children(node):
                look(child, negated or (isinstance(node, Unary) and node.op is UnaryOperator.NOT))

    for stage in query.pipeline:
        look(stage, False)
    return found


def asked_of(node: Binary) -> Field | None:
    """The field of a comparison with a literal that is not nil."""
    if node.op not in COMPARISONS or Static(StaticKind.NIL, None) in (node.lhs, node.rhs):
        return None
    if isinstance(node.rhs, Static) and isinstance(node.lhs, Attribute | Intrinsic):
        return node.lhs
    if isinstance(node.lhs, Static) and isinstance(node.rhs, Attribute | Intrinsic):
        return node.rhs
    return None


def satisfying(f: Field, conditions: Sequence[Binary | None], span: OSpan) -> Value:
    """What there is of `f` that satisfies any of `conditions`: the last event's (link's); of an array the elements that do."""
    last: Value = None
    for at in places(f, span):
        its_value = field_value(f, at)
        fitting = [v for v in elements(its_value) if any(c is not None and fits(v, f, c) for c in conditions)]
        if fitting:
            last = tuple(fitting) if len(fitting) > 1 else fitting[0]
    return last


def fits(v: Value, f: Field, condition: Binary) -> bool:
    lhs, rhs = (v if side == f else static_value(side) for side in (condition.lhs, condition.rhs))  # type: ignore[arg-type]
    return compare(condition.op, lhs, rhs)
