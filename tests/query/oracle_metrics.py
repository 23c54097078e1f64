"""What a TraceQL metrics query means: spans counted one by one. The engine is held against it. The spans: oracle.py, which has the
rules 1 to 41 and the sources' names.

Time
51  Range query: start is cut down and end raised to a multiple of the step; samples at start, start + step, … end. The sample at t is of
    the spans that start in (t - step, t]; so the first reaches one step before start. (L 10.5)
52  Instant query: one sample, of the spans that start in (start, end]; its step is end - start. (L 10.5; D for the bounds)
53  The pipeline sees whole traces; the time of a span only says which sample it counts for. Each span counts once. (L 10.1)

Series
54  Without by: one label `__name__`, the function's name; for quantile `p` alone, for histogram `__bucket` alone. (L 10.2)
55  With by: a label for each field, named by canonical(), of the value's type (duration, status, kind, ids as strings); missing ones are
    dropped, but of none left the first remains, as the string `nil`. p and __bucket (floats) come last. (L 10.2, R metrics-007)
56  rate() and count_over_time() without by have their series also where nothing is found; every other series comes of a span with a
    value, in the range or in the one step before its first sample (of an instant query: in the range). (R metrics-049, metrics-065,
    metrics-066)
57  rate, count, quantile and histogram have a sample at every step, 0 where empty; min max avg sum only where there are values. (L 10.5)

Values
58  rate: spans / step in seconds. count_over_time: spans.
59  min max sum avg take the values that are numbers and skip spans with others; arrays too. `duration` and `traceDuration` are in
    seconds, event:timeSinceStart is in nanoseconds. (L 10.3; D for traceDuration)
60  event:timeSinceStart is 0 where a span has no event. Of several events the first counts. (R metrics-026)
61  Buckets: the smallest power of two >= v, v an int or a duration in nanoseconds, at least 2; what is less than 2, or a float, is
    skipped. __bucket is a float, of durations divided by 1e9. (L 10.4)
62  quantile_over_time: see `quantile`; of durations in seconds. (L 10.4)

Second stages, one after another on the samples that are left
63  topk(n), bottomk(n): at every timestamp the n highest (lowest) samples stay; of equal ones those whose labels come first, compared
    label by label as (key, text of the value). (L 10.1; D for bottomk)
64  `> v` and so on: the samples for which it holds stay; v of a duration in seconds. (L 15)
65  A series without samples is not there. (L 15)

compare()
66  selection: the spans of the pipeline for which the filter holds and that start in [start, end) if these are given; baseline: the
    others. (L 10.1)
67  selection_total and baseline_total, by attribute: the spans that have it, or of WELL_KNOWN ones all spans. Labels `__meta_type` and
    the attribute's name, never in quotes, with the string `nil`. Attributes: of span, resource and instrumentation scope, and INTRINSICS.
    The series by value are not told here: which values are among the top is left to the engine at ties. (R metrics-053)
68  A field that a filter of the pipeline names counts twice in its totals. A defect of Tempo, kept as it is in three recorded
    answers and asked for by the conformance test. (R metrics-053, metrics-054)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, assert_never

from oracle import OSpanset, passes, run, shown
from oracle_conditions import Place, compare, field_value
from oracle_traces import Duration, OSpan, OTrace, Value, is_number

from vivace.traceql import CheckedQuery, canonical
from vivace.traceql.ast import (
    Attribute,
    BottomK,
    Compare,
    Field,
    Intrinsic,
    IntrinsicId,
    MetricsFilter,
    MetricsFunction,
    MetricsKind,
    Scope,
    SecondStage,
    StaticKind,
    TopK,
    walk,
)

SECOND = 1_000_000_000
MILLISECOND = 1_000_000

Label: TypeAlias = tuple[str, str, Value]
"""(name, type of the value, value): the type, since 1, 1.0 and True are equal keys in Python. Types: str, int, float, bool, tuple."""
Labels: TypeAlias = tuple[Label, ...]
Samples: TypeAlias = dict[int, float]
"""By timestamp in milliseconds, in order; an instant query's sample stands at its end."""
Answer: TypeAlias = dict[Labels, Samples]


def label(name: str, value: Value) -> Label:
    value = shown(value)
    return (name, type(value).__name__, value)


def metrics(
    query: CheckedQuery, traces: Iterable[OTrace], start_ns: int, end_ns: int, step_ns: int, instant: bool = False
) -> Answer:
    """The series of a query with a metrics function. Of an instant query step_ns is ignored."""
    assert query.metrics is not None
    found = [
        span for trace in traces for spanset in run(query.pipeline, [OSpanset(trace.spans)]) for span in spanset.spans
    ]
    found = list(dict.fromkeys(found))
    if instant:
        step_ns = end_ns - start_ns
        edges, early = [end_ns], []
    else:
        first, last = start_ns // step_ns * step_ns, -(-end_ns // step_ns) * step_ns
        edges, early = list(range(first, last + 1, step_ns)), [first - step_ns]
    by_edge = {edge: [s for s in found if edge - step_ns < s.start <= edge] for edge in (*early, *edges)}
    if isinstance(query.metrics, Compare):
        answer = totals(query, query.metrics, by_edge)
    else:
        answer = series(query.metrics, by_edge, step_ns)
    times = {edge // MILLISECOND for edge in edges}
    answer = {labels: {t: x for t, x in samples.items() if t in times} for labels, samples in answer.items()}
    for stage in query.second_stages:
        answer = second_stage(stage, answer)
    return {labels: samples for labels, samples in answer.items() if samples}


# -- One function -----------------------------------------------------------------------------------------------------


def series(function: MetricsFunction, by_edge: dict[int, list[OSpan]], step_ns: int) -> Answer:
    # (group, edge) -> what its spans measure
    groups: dict[Labels, dict[int, list[Any]]] = {}
    if function.kind in (MetricsKind.RATE, MetricsKind.COUNT) and not function.by:
        groups[group_labels(function, None)] = {}
    for edge, spans in by_edge.items():
        for span in spans:
            value = measured(function, span)
            if value is not None:
                groups.setdefault(group_labels(function, span), {}).setdefault(edge, []).append(value)
    answer: Answer = {}
    for labels, values in groups.items():
        for more, fold in folds(function, [v for several in values.values() for v in several], step_ns):
            samples = {edge // MILLISECOND: fold(values.get(edge, [])) for edge in by_edge}
            answer[labels + more] = {t: x for t, x in samples.items() if x is not None}
    return answer


def group_labels(function: MetricsFunction, span: OSpan | None) -> Labels:
    """Rules 54 and 55, without p and __bucket."""
    if not function.by or span is None:
        if function.kind in (MetricsKind.QUANTILE, MetricsKind.HISTOGRAM):
            return ()
        return (label("__name__", function.kind.value),)
    values = [(canonical(f), field_value(f, Place(span))) for f in function.by]
    labels = tuple(label(name, v) for name, v in values if v is not None)
    return labels or (label(values[0][0], "nil"),)


def measured(function: MetricsFunction, span: OSpan) -> int | float | None:
    """What the function takes of a span: a number, or 1 where it only counts. None: it takes nothing of this span."""
    f = function.field
    if f is None:
        return 1
    value: Any = field_value(f, Place(span))
    if value is None and f == Intrinsic(IntrinsicId.EVENT_TIME_SINCE_START):
        value = Duration(0)  # rule 60
    if not is_number(value):
        return None
    if function.kind in (MetricsKind.QUANTILE, MetricsKind.HISTOGRAM):
        return bucket(value)
    return value  # type: ignore[no-any-return]


def bucket(value: int | float) -> float | None:
    """Rule 61."""
    if isinstance(value, float) or value < 2:
        return None
    power = 2
    while power < value:
        power *= 2
    return power / SECOND if isinstance(value, Duration) else float(power)


Fold: TypeAlias = Callable[[list[Any]], float | None]


def folds(function: MetricsFunction, all_values: list[Any], step_ns: int) -> list[tuple[Labels, Fold]]:
    """What becomes of the values of one group at one step: a fold, or several, each with a label."""
    in_seconds = function.field in (Intrinsic(IntrinsicId.DURATION), Intrinsic(IntrinsicId.TRACE_DURATION))
    unit = SECOND if in_seconds else 1
    match function.kind:
        case MetricsKind.RATE:
            return [((), lambda values: len(values) / (step_ns / SECOND))]
        case MetricsKind.COUNT:
            return [((), len)]
        case MetricsKind.MIN:
            return [((), lambda values: min(values) / unit if values else None)]
        case MetricsKind.MAX:
            return [((), lambda values: max(values) / unit if values else None)]
        case MetricsKind.SUM:
            return [((), lambda values: math.fsum(values) / unit if values else None)]
        case MetricsKind.AVG:
            return [((), lambda values: math.fsum(values) / len(values) / unit if values else None)]
        case MetricsKind.QUANTILE:
            return [((label("p", p),), lambda values, p=p: quantile(p, values)) for p in function.quantiles]  # type: ignore[misc]
        case MetricsKind.HISTOGRAM:
            buckets = sorted(set(all_values))
            return [((label("__bucket", b),), lambda values, b=b: values.count(b)) for b in buckets]  # type: ignore[misc]
        case _:
            assert_never(function.kind)


def quantile(p: float, buckets: list[float]) -> float:
    """The p-quantile of values of which only the buckets are known."""
    if not buckets:
        return 0.0
    target = max(1, math.ceil(p * len(buckets)))
    consumed, previous = 0, None
    for maximum in sorted(set(buckets)):
        count = buckets.count(maximum)
        if consumed + count == target:
            return maximum
        if consumed + count > target:
            high = math.log2(maximum)
            low = high - 1 if previous is None else math.log2(previous)
            return float(2 ** (low + (high - low) * (target - consumed) / count))
        consumed, previous = consumed + count, maximum
    raise AssertionError("the target is at most the number of values")


# -- Second stages ----------------------------------------------------------------------------------------------------


def second_stage(stage: SecondStage, answer: Answer) -> Answer:
    match stage:
        case TopK():
            return best(answer, stage.limit, lambda x: -x)
        case BottomK():
            return best(answer, stage.limit, lambda x: x)
        case MetricsFilter():
            bound: Any = stage.value.value
            bound = bound / SECOND if stage.value.kind is StaticKind.DURATION else float(bound)
            return {
                labels: {t: x for t, x in samples.items() if compare(stage.op, float(x), bound)}
                for labels, samples in answer.items()
            }
        case _:
            assert_never(stage)


def best(answer: Answer, limit: int, rank: Callable[[float], float]) -> Answer:
    """Rule 63."""
    kept: Answer = {labels: {} for labels in answer}
    for t in sorted({t for samples in answer.values() for t in samples}):
        there = [labels for labels, samples in answer.items() if t in samples]
        there.sort(key=lambda labels: (rank(answer[labels][t]), [(name, text(v)) for name, _, v in labels]))
        for labels in there[:limit]:
            kept[labels][t] = answer[labels][t]
    return kept


def text(value: Value) -> str:
    """The text of a label's value, as it sorts."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


# -- compare() --------------------------------------------------------------------------------------------------------


INTRINSICS = (
    IntrinsicId.NAME,
    IntrinsicId.KIND,
    IntrinsicId.STATUS,
    IntrinsicId.STATUS_MESSAGE,
    IntrinsicId.ROOT_NAME,
    IntrinsicId.ROOT_SERVICE_NAME,
    IntrinsicId.INSTRUMENTATION_NAME,
    IntrinsicId.INSTRUMENTATION_VERSION,
)

WELL_KNOWN = (
    *(Attribute(Scope.SPAN, f"http.{key}") for key in ("method", "url", "status_code")),
    *(Attribute(Scope.RESOURCE, key) for key in ("service.name", "cluster", "namespace", "pod", "container")),
    *(Attribute(Scope.RESOURCE, f"k8s.{key}.name") for key in ("cluster", "namespace", "pod", "container")),
)


def totals(query: CheckedQuery, function: Compare, by_edge: dict[int, list[OSpan]]) -> Answer:
    """Rules 66 to 68."""
    named = {n for stage in query.pipeline for n in walk(stage) if isinstance(n, Attribute | Intrinsic)}
    answer: Answer = {}
    for edge, spans in by_edge.items():
        for span in spans:
            in_time = function.start is None or function.end is None or function.start <= span.start < function.end
            side = "selection_total" if in_time and passes(function.selection, span) else "baseline_total"
            for f in compared(span):
                labels = (label("__meta_type", side), label(bare_name(f), "nil"))
                samples = answer.setdefault(labels, dict.fromkeys((e // MILLISECOND for e in by_edge), 0.0))
                samples[edge // MILLISECOND] += 2 if f in named else 1
    return answer


def bare_name(f: Field) -> str:
    return f"{f.scope.value}.{f.name}" if isinstance(f, Attribute) else f.id.value


def compared(span: OSpan) -> set[Field]:
    """What compare() looks at of a span."""
    return {
        *(Intrinsic(i) for i in INTRINSICS),
        *WELL_KNOWN,
        *(Attribute(Scope.SPAN, key) for key in span.attributes),
        *(Attribute(Scope.RESOURCE, key) for key in span.resource),
        *(Attribute(Scope.INSTRUMENTATION, key) for key in span.scope_attributes),
    }
