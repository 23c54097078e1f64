"""Random checked queries over the names and values of random_traces.py, so that they often find something.

Everything is drawn from one `random.Random`. Every tree is printed and parsed, so what comes out is what a user could have typed,
constants folded; one that check() refuses (rare: arithmetic on constants without a value) is drawn again.

Kept out, since results would hang on what no rule settles, or are errors by the rules:
- numbers near the ends of 64 bits: `^` has a small constant as exponent and is not nested, durations are not multiplied with each other;
- a spanset operation behind by() without coalesce() between;
- by() of arrays, bytes and kvlists;
- regular expressions beyond what RE2, Rust and Python read alike;
- trace:id and span ids in by(), nestedSetLeft and nestedSetRight anywhere (spans of equal start are numbered in no settled order).
"""

from __future__ import annotations

from random import Random

import random_traces as pools

from vivace.errors import TraceQLError
from vivace.traceql import CheckedQuery, canonical, check, parse
from vivace.traceql.ast import (
    Aggregate,
    AggregateKind,
    Attribute,
    Binary,
    BottomK,
    Coalesce,
    Compare,
    Field,
    FieldExpression,
    GroupBy,
    Intrinsic,
    IntrinsicId,
    MetricsFilter,
    MetricsFunction,
    MetricsKind,
    Operator,
    Query,
    Scalar,
    ScalarFilter,
    ScalarNegation,
    ScalarOperation,
    Scope,
    SecondStage,
    Select,
    SpansetExpression,
    SpansetFilter,
    SpansetOperation,
    SpansetOperator,
    SpansetPipeline,
    Stage,
    Static,
    StaticKind,
    TopK,
    Unary,
    UnaryOperator,
)

COMPARING = (
    Operator.EQUAL,
    Operator.NOT_EQUAL,
    Operator.LESS,
    Operator.LESS_EQUAL,
    Operator.GREATER,
    Operator.GREATER_EQUAL,
)
EQUAL_OR_NOT = COMPARING[:2]
MATCHING = (Operator.REGEX, Operator.NOT_REGEX)
CALCULATING = (Operator.ADD, Operator.SUBTRACT, Operator.MULTIPLY, Operator.DIVIDE, Operator.MODULO)

PATTERNS = ("a", "a.*", ".*b.*", "a|b", "[ab]+", "", ".*", "(?i)A.*", "[^a]*", "GET.*", ".+/.*", "7|abc", "naïve.*")
SCOPES = (
    *(Scope.SPAN,) * 5,
    *(Scope.UNSCOPED,) * 3,
    *(Scope.RESOURCE,) * 2,
    *(Scope.EVENT,) * 2,
    Scope.LINK,
    Scope.INSTRUMENTATION,
)
DURATIONS = (0, 1, 5, 100, 2000)

STRING_INTRINSICS: dict[IntrinsicId, tuple[str, ...]] = {
    IntrinsicId.NAME: pools.NAMES,
    IntrinsicId.STATUS_MESSAGE: pools.MESSAGES,
    IntrinsicId.ROOT_NAME: pools.NAMES,
    IntrinsicId.ROOT_SERVICE_NAME: (*pools.SERVICES, ""),
    IntrinsicId.EVENT_NAME: pools.EVENT_NAMES,
    IntrinsicId.INSTRUMENTATION_NAME: ("lib.web", "lib.db", ""),
    IntrinsicId.INSTRUMENTATION_VERSION: ("1.0", "2.0", ""),
}
DURATION_INTRINSICS = (IntrinsicId.DURATION, IntrinsicId.TRACE_DURATION, IntrinsicId.EVENT_TIME_SINCE_START)
SPAN_IDS = (
    "0000000000000001",
    "1",
    "8000000000000001",
    "101",
    "8000000000000065",
    "",
    "0000000000000000",
    "eeeeeeeeeeeeeeee",
    "zz",
)
TRACE_IDS = (
    "1",
    "80000000000000000000000000000001",
    "2",
    "AB000000000000001",
    "",
    "0000000000000000000000000000000000003",
)

STATUSES = ("ok", "error", "unset")
KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")

NIL = Static(StaticKind.NIL, None)


def search_query(random: Random) -> CheckedQuery:
    """A query without a metrics function: 1 to 4 stages."""
    return drawn(random, lambda r: Query(stages(r)))


def metrics_query(random: Random) -> CheckedQuery:
    """A query with a metrics function, mostly without compare()."""
    return drawn(random, lambda r: Query(stages(r, limit=2), metrics(r), second_stages(r)))


def drawn(random: Random, make: object) -> CheckedQuery:
    while True:
        query = make(random)  # type: ignore[operator]
        if isinstance(query.metrics, Compare):
            query = Query(query.pipeline, query.metrics)
        try:
            return check(parse(canonical(query)))
        except TraceQLError as error:
            if "arithmetic on constants" not in error.reason and "integer divide by zero" not in error.reason:
                raise


# -- Fields and literals ----------------------------------------------------------------------------------------------


def literal(of: object) -> Static:
    match of:
        case bool():
            return Static(StaticKind.BOOL, of)
        case int():
            return Static(StaticKind.INT, of)
        case float():
            return Static(StaticKind.FLOAT, of)
        case _:
            return Static(StaticKind.STRING, str(of))


def duration(random: Random) -> Static:
    return Static(StaticKind.DURATION, random.choice(DURATIONS) * pools.MILLISECOND)


def attribute(random: Random, keys: tuple[str, ...] = tuple(pools.POOLS)) -> Attribute:
    scope = random.choice(SCOPES)
    if scope in (Scope.RESOURCE, Scope.UNSCOPED) and random.random() < 0.3:
        return Attribute(scope, random.choice(("service.name", "region")))
    return Attribute(scope, "nowhere" if random.random() < 0.05 else random.choice(keys))


def value_for(random: Random, key: str) -> Static:
    """A literal that the values of a key are likely to be compared with: mostly of its pool."""
    if key == "service.name":
        return literal(random.choice((*pools.SERVICES, "")))
    pool = list(pools.POOLS.get(key, pools.REGIONS))
    if random.random() < 0.1:
        pool = [*pools.STRINGS, *pools.INTS, *pools.FLOATS, True, False]
    value: object = random.choice(pool)
    while isinstance(value, list):
        value = random.choice(value) if value else "a"
    return literal(value) if not isinstance(value, bytes | dict | None) else literal(random.choice(pools.INTS))


GROUPABLE = ("s", "i", "f", "b", "many", "http.status_code")


def any_field(random: Random, keys: tuple[str, ...] = tuple(pools.POOLS)) -> Field:
    """A field to group by or to select."""
    if random.random() < 0.6:
        return attribute(random, keys)
    return Intrinsic(
        random.choice(
            (
                *STRING_INTRINSICS,
                *DURATION_INTRINSICS,
                IntrinsicId.STATUS,
                IntrinsicId.KIND,
                IntrinsicId.SPAN_CHILD_COUNT,
                IntrinsicId.NESTED_SET_PARENT,
            )
        )
    )


# -- Conditions -------------------------------------------------------------------------------------------------------


def condition(random: Random, depth: int = 2) -> FieldExpression:
    roll = random.random()
    if depth and roll < 0.35:
        op = Operator.OR if random.random() < 0.6 else Operator.AND
        return Binary(op, condition(random, depth - 1), condition(random, depth - 1))
    if depth and roll < 0.43:
        return Unary(UnaryOperator.NOT, condition(random, depth - 1))
    if depth and roll < 0.45:
        return Binary(random.choice(EQUAL_OR_NOT), comparison(random), comparison(random))
    if depth and roll < 0.50:
        return same_place(random)
    if roll < 0.53:
        return Attribute(random.choice(SCOPES), random.choice(("b", "mixed", "tags")))
    if roll < 0.55:
        return Static(StaticKind.BOOL, random.random() < 0.8)
    return comparison(random)


def same_place(random: Random) -> FieldExpression:
    """Conditions on one event, or one link, in a chain; perhaps something else among them."""
    scope, intrinsic = random.choice(((Scope.EVENT, IntrinsicId.EVENT_NAME), (Scope.LINK, IntrinsicId.LINK_SPAN_ID)))
    texts = pools.EVENT_NAMES if scope is Scope.EVENT else SPAN_IDS
    first: FieldExpression = Binary(random.choice(EQUAL_OR_NOT), Intrinsic(intrinsic), literal(random.choice(texts)))
    second = attribute_comparison(random, Attribute(scope, random.choice(tuple(pools.POOLS))))
    if random.random() < 0.3:
        second = Binary(Operator.OR, second, attribute_comparison(random, Attribute(scope, "mixed")))
    if random.random() < 0.3:
        first = Binary(Operator.AND, first, comparison(random))
    return Binary(Operator.AND, first, second)


def comparison(random: Random) -> FieldExpression:
    roll = random.random()
    if roll < 0.40:
        return attribute_comparison(random, attribute(random))
    if roll < 0.65:
        return intrinsic_comparison(random)
    if roll < 0.75:
        asked = attribute(random, ("s", "i", "mixed", "tags"))
        op = Operator.NOT_EQUAL if asked == Attribute(Scope.RESOURCE, "service.name") else random.choice(EQUAL_OR_NOT)
        return Binary(op, *turned(random, asked, NIL))
    if roll < 0.87:
        return Binary(random.choice(COMPARING), number(random), number(random))
    return Binary(random.choice(COMPARING), attribute(random), attribute(random))


def turned(random: Random, a: FieldExpression, b: FieldExpression) -> tuple[FieldExpression, FieldExpression]:
    return (b, a) if random.random() < 0.1 else (a, b)


def attribute_comparison(random: Random, a: Attribute) -> FieldExpression:
    if a.name in ("s", "mixed", "tags", "service.name") and random.random() < 0.3:
        return Binary(random.choice(MATCHING), a, literal(random.choice(PATTERNS)))
    if random.random() < 0.03:
        keyword = random.choice((Static(StaticKind.STATUS, "error"), Static(StaticKind.KIND, "server")))
        return Binary(random.choice(EQUAL_OR_NOT), a, keyword)
    value = value_for(random, a.name)
    ops = EQUAL_OR_NOT if value.kind is StaticKind.BOOL else COMPARING
    return Binary(random.choice(ops), *turned(random, a, value))


def intrinsic_comparison(random: Random) -> FieldExpression:
    match random.randrange(7):
        case 0 | 1:
            text = random.choice(tuple(STRING_INTRINSICS))
            if random.random() < 0.3:
                return Binary(random.choice(MATCHING), Intrinsic(text), literal(random.choice(PATTERNS)))
            return Binary(random.choice(COMPARING), Intrinsic(text), literal(random.choice(STRING_INTRINSICS[text])))
        case 2:
            some = duration(random) if random.random() < 0.8 else literal(random.choice(DURATIONS) * pools.MILLISECOND)
            return Binary(random.choice(COMPARING), Intrinsic(random.choice(DURATION_INTRINSICS)), some)
        case 3:
            status = Static(StaticKind.STATUS, random.choice(STATUSES))
            return Binary(random.choice(EQUAL_OR_NOT), Intrinsic(IntrinsicId.STATUS), status)
        case 4:
            kind = Static(StaticKind.KIND, random.choice(KINDS))
            return Binary(random.choice(EQUAL_OR_NOT), Intrinsic(IntrinsicId.KIND), kind)
        case 5:
            return id_comparison(random)
        case _:
            if random.random() < 0.5:
                place = Intrinsic(IntrinsicId.NESTED_SET_PARENT)
                return Binary(random.choice(COMPARING), place, literal(random.choice((-1, 0))))
            children = Intrinsic(IntrinsicId.SPAN_CHILD_COUNT)
            return Binary(random.choice(COMPARING), children, literal(random.choice((0, 1, 2, 1.5))))


def id_comparison(random: Random) -> FieldExpression:
    which = random.choice(
        (
            IntrinsicId.SPAN_ID,
            IntrinsicId.SPAN_PARENT_ID,
            IntrinsicId.LINK_SPAN_ID,
            IntrinsicId.TRACE_ID,
            IntrinsicId.LINK_TRACE_ID,
        )
    )
    texts = TRACE_IDS if which in (IntrinsicId.TRACE_ID, IntrinsicId.LINK_TRACE_ID) else SPAN_IDS
    return Binary(random.choice(EQUAL_OR_NOT), Intrinsic(which), literal(random.choice(texts)))


# -- Numbers ----------------------------------------------------------------------------------------------------------


def number(random: Random, depth: int = 2) -> FieldExpression:
    """Something with a number: at most two operations deep, and small."""
    roll = random.random()
    if depth and roll < 0.4:
        return Binary(random.choice(CALCULATING), number(random, depth - 1), small(random))
    if depth and roll < 0.45:
        return Unary(UnaryOperator.NEGATE, number(random, depth - 1))
    if roll < 0.52:
        return Binary(Operator.POWER, attribute(random, ("i", "f")), literal(random.choice((0, 1, 2, 3, 2.0))))
    if roll < 0.65:
        return Intrinsic(random.choice((*DURATION_INTRINSICS, IntrinsicId.SPAN_CHILD_COUNT)))
    if roll < 0.70:
        return duration(random)
    return small(random)


def small(random: Random) -> FieldExpression:
    if random.random() < 0.5:
        return attribute(random, ("i", "f", "mixed", "http.status_code"))
    return literal(random.choice((*pools.INTS, *pools.FLOATS)))


# -- Spansets ---------------------------------------------------------------------------------------------------------


def spanset_filter(random: Random) -> SpansetFilter:
    return SpansetFilter(None if random.random() < 0.25 else condition(random, random.choice((0, 1, 1, 2))))


def spanset(random: Random, depth: int = 2) -> SpansetExpression:
    roll = random.random()
    if depth and roll < 0.4:
        op = random.choice(tuple(SpansetOperator))
        return SpansetOperation(op, spanset(random, depth - 1), spanset(random, depth - 1))
    if depth and roll < 0.5:
        return pipeline_operand(random, depth - 1)
    return spanset_filter(random)


def pipeline_operand(random: Random, depth: int) -> SpansetPipeline:
    """A pipeline that gives at most one spanset."""
    some: list[Stage] = [spanset(random, depth)]
    if random.random() < 0.4:
        some += [group_by(random), scalar_filter(random), Coalesce()]
    elif random.random() < 0.8:
        some.append(scalar_filter(random))
    else:
        some.append(spanset_filter(random))
    return SpansetPipeline(tuple(some))


def stages(random: Random, limit: int = 4) -> tuple[Stage, ...]:
    some: list[Stage] = [random.choice((*(spanset,) * 8, scalar_filter, group_by))(random)]
    grouped = isinstance(some[0], GroupBy)
    for _ in range(min(random.randrange(limit), random.randrange(limit))):
        match random.randrange(6):
            case 0:
                some.append(spanset_filter(random) if grouped else spanset(random, 1))
            case 1 | 2:
                some.append(scalar_filter(random))
            case 3:
                some.append(group_by(random))
                grouped = True
            case 4:
                some.append(Coalesce())
                grouped = False
            case _:
                some.append(Select(tuple(any_field(random) for _ in range(random.randint(1, 3)))))
    return tuple(some)


def group_by(random: Random) -> GroupBy:
    expressions: list[FieldExpression] = [any_field(random, GROUPABLE) for _ in range(random.choice((1, 1, 1, 2, 3)))]
    if random.random() < 0.15:
        expressions[0] = comparison_of_fields(random)
    return GroupBy(tuple(expressions))


def comparison_of_fields(random: Random) -> FieldExpression:
    return Binary(random.choice(COMPARING), attribute(random), value_or_number(random))


def value_or_number(random: Random) -> FieldExpression:
    return literal(random.choice((*pools.STRINGS, *pools.INTS, *pools.FLOATS)))


def aggregate(random: Random) -> Aggregate:
    kind = random.choice((AggregateKind.COUNT, *AggregateKind))
    if kind is AggregateKind.COUNT:
        return Aggregate(kind, None)
    argument: FieldExpression = random.choice(
        (
            Intrinsic(random.choice(DURATION_INTRINSICS)),
            attribute(random, ("i", "f", "mixed", "http.status_code")),
            Binary(Operator.ADD, attribute(random, ("i", "f")), literal(random.choice(pools.INTS))),
        )
    )
    return Aggregate(kind, argument)


def scalar(random: Random, depth: int = 1) -> Scalar:
    roll = random.random()
    if depth and roll < 0.2:
        return ScalarOperation(random.choice(CALCULATING), scalar(random, depth - 1), scalar(random, depth - 1))
    if depth and roll < 0.25:
        return ScalarNegation(aggregate(random))
    if roll < 0.7:
        return aggregate(random)
    return random.choice((literal(random.randint(0, 3)), literal(random.choice(pools.FLOATS)), duration(random)))


def scalar_filter(random: Random) -> ScalarFilter:
    if random.random() < 0.7:
        bound = random.choice((literal(random.randint(0, 3)), literal(random.choice(pools.FLOATS)), duration(random)))
        return ScalarFilter(random.choice(COMPARING), aggregate(random), bound)
    return ScalarFilter(random.choice(COMPARING), aggregate(random), scalar(random))


# -- Metrics ----------------------------------------------------------------------------------------------------------

QUANTILES = (0.0, 0.25, 0.5, 0.9, 0.99, 1.0)


def metrics(random: Random) -> MetricsFunction | Compare:
    if random.random() < 0.05:
        return Compare(spanset_filter(random), random.randint(1, 10), None, None)
    kind = random.choice(tuple(MetricsKind))
    by = tuple(any_field(random, GROUPABLE) for _ in range(random.choice((0, 0, 1, 1, 2))))
    if kind in (MetricsKind.RATE, MetricsKind.COUNT):
        return MetricsFunction(kind, None, (), by)
    measured: Field = random.choice(
        (
            Intrinsic(random.choice(DURATION_INTRINSICS)),
            Intrinsic(IntrinsicId.DURATION),
            attribute(random, ("i", "f", "mixed", "http.status_code")),
            Attribute(Scope.SPAN, random.choice(("i", "f"))),
        )
    )
    quantiles = tuple(random.sample(QUANTILES, random.randint(1, 3))) if kind is MetricsKind.QUANTILE else ()
    return MetricsFunction(kind, measured, quantiles, by)


def second_stages(random: Random) -> tuple[SecondStage, ...]:
    return tuple(second_stage(random) for _ in range(random.choice((0, 0, 0, 1, 2))))


def second_stage(random: Random) -> SecondStage:
    match random.randrange(3):
        case 0:
            return TopK(random.randint(1, 3))
        case 1:
            return BottomK(random.randint(1, 3))
        case _:
            return MetricsFilter(random.choice(COMPARING), random.choice((literal(1), literal(0.5), duration(random))))
