"""compare(): how the attributes of selected spans differ from those of the others.

Rule 1  every attribute of spans, resources and scopes counts, and some intrinsics. One whose value is not set counts as `nil`,
        and so do well-known ones where they are missing.
Rule 2  of each attribute and side the most frequent values are shown, and how many spans have the attribute at all.
Rule 3  a field that the pipeline filters by counts twice: so does Tempo, and what is drawn from it stays comparable.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vivace.model.frame import Fixed, Mask, Rows
from vivace.query.answers import Value
from vivace.query.fields import SCOPES, level_of, read
from vivace.query.filters import code_rows, matching
from vivace.query.groups import distinct
from vivace.query.measures import Window
from vivace.query.partials import Labels, Partial, Totals, label
from vivace.query.series import Table
from vivace.query.spans import Spans
from vivace.traceql.ast import Attribute, Compare, Field, Intrinsic, IntrinsicId, Query, Scope, walk

META, ERROR = "__meta_type", "__meta_error"
SELECTION, BASELINE = "selection", "baseline"
TOO_MANY = "__too_many_values__"

VALUES_MAX = 10_000
"""Distinct values of an attribute on one side; of one with more, only its totals and an error are given."""

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

WELL_KNOWN = frozenset(
    {
        *(Attribute(Scope.SPAN, f"http.{key}") for key in ("method", "url", "status_code")),
        *(Attribute(Scope.RESOURCE, key) for key in ("service.name", "cluster", "namespace", "pod", "container")),
        *(Attribute(Scope.RESOURCE, f"k8s.{key}.name") for key in ("cluster", "namespace", "pod", "container")),
    }
)
"""Tempo keeps these in columns of their own, where a missing one is a value."""


def contrast(spans: Spans, query: Query, function: Compare, rows: Rows, window: Window) -> Partial:
    """What `rows` contribute."""
    start = spans.numbers(Fixed.START)[rows]
    selected = matching(spans, function.selection.expression)[rows]
    if function.start is not None and function.end is not None:
        selected &= (start >= function.start) & (start < function.end)
    step = window.numbers(start)
    firsts, dense = distinct(step)
    width = len(firsts)
    place = (~selected).astype(np.int64) * width + dense  # selection first, then baseline
    named = {n for stage in query.pipeline for n in walk(stage) if isinstance(n, Attribute | Intrinsic)}
    labels: list[Labels] = []
    series, steps, counts = [], [], []
    for field in _fields(spans):
        weight = 2 if field in named else 1
        for entry, count in _field_counts(spans, field, rows, place, width):
            found = np.flatnonzero(count)
            labels.append(entry)
            series.append(np.full(len(found), len(labels) - 1, np.int32))
            steps.append(step[firsts[found]])
            counts.append(count[found] * weight)
    if not labels:
        empty = np.empty(0, np.int64)
        return Partial((), empty.astype(np.int32), empty, empty)
    return Partial(tuple(labels), np.concatenate(series), np.concatenate(steps), np.concatenate(counts))


def _fields(spans: Spans) -> Iterator[Field]:
    yield from (Intrinsic(i) for i in INTRINSICS)
    yield from sorted(WELL_KNOWN, key=lambda a: (a.scope.value, a.name))
    for scope in (Scope.SPAN, Scope.RESOURCE, Scope.INSTRUMENTATION):
        for key in spans.frame.keys(SCOPES[scope]):
            attribute = Attribute(scope, key)
            if attribute not in WELL_KNOWN:
                yield attribute


def _unset(spans: Spans, field: Field) -> Mask | None:
    """Spans that carry an attribute with a value that is not set; None for none."""
    if not isinstance(field, Attribute):
        return None
    attribute = spans.frame.attribute(SCOPES[field.scope], field.name)
    if attribute is None or attribute.unset is None:
        return None
    level = level_of(field)
    mask = np.zeros(spans.frame.count(level), bool)
    mask[attribute.unset] = True
    return spans.lift_mask(mask, level)


def _field_counts(
    spans: Spans, field: Field, rows: Rows, place: NDArray[np.int64], width: int
) -> Iterator[tuple[Labels, NDArray[np.int64]]]:
    """(labels, spans at each step) of each side and value of a field, and of its totals."""
    values = read(spans, field)
    coded = code_rows(spans, values, rows)
    codes = coded.codes
    shown = coded.values()
    shown[-1] = "nil"
    if field not in WELL_KNOWN:
        there = codes != len(shown) - 1
        unset = _unset(spans, field)
        if unset is not None:
            there |= unset[rows]
        codes, place = codes[there], place[there]
    if not len(codes):
        return
    name = field.id.value if isinstance(field, Intrinsic) else f"{field.scope.value}.{field.name}"
    totals = np.bincount(place, minlength=2 * width).reshape(2, width)
    for side, counts in zip((SELECTION, BASELINE), totals, strict=True):
        if counts.any():
            yield (label(META, f"{side}_total"), label(name, "nil")), counts
    used, dense = np.unique(codes, return_inverse=True)
    if len(used) > VALUES_MAX:
        for side, counts in zip((SELECTION, BASELINE), totals, strict=True):
            yield (label(META, side), label(ERROR, TOO_MANY), label(name, "nil")), counts
        return
    both = np.bincount(dense * 2 * width + place, minlength=len(used) * 2 * width).reshape(len(used), 2, width)
    for number, sides in zip(used.tolist(), both, strict=True):
        for side, counts in zip((SELECTION, BASELINE), sides, strict=True):
            if counts.any():
                yield (label(META, side), label(name, shown[number])), counts


def finish(totals: Totals, function: Compare, window: Window) -> Table:
    """The series of the answer: of each side and attribute its total and its most frequent values."""
    series, step, count, _ = totals.entries()
    names = list(totals.numbers)
    inside = (step >= window.first) & (step <= window.last)
    series, step, count = series[inside], step[inside], count[inside]
    weight = np.bincount(series, weights=count, minlength=len(names))
    by_attribute: dict[tuple[Value, str], list[int]] = {}
    chosen: list[int] = []
    for number, labels in enumerate(names):
        side, attribute = labels[0][2], labels[-1][0]
        if side in (SELECTION, BASELINE) and len(labels) == 2:
            by_attribute.setdefault((side, attribute), []).append(number)
        elif len(labels) == 2:
            chosen.append(number)
    failed = {(labels[0][2], labels[-1][0]) for labels in names if len(labels) == 3}
    table: Table = {}
    for (side, attribute), numbers in by_attribute.items():
        if len(numbers) > VALUES_MAX or (side, attribute) in failed:
            failed.add((side, attribute))
            continue
        numbers.sort(key=lambda n: (-weight[n], str(names[n][1][2])))
        chosen += numbers[: function.top]
    rows = {number: np.zeros(window.count) for number in chosen}
    firsts = np.searchsorted(series, np.arange(len(names) + 1))
    for number, samples in rows.items():
        entries = slice(int(firsts[number]), int(firsts[number + 1]))
        samples[step[entries] - window.first] = count[entries]
        table[names[number]] = samples
    for side, attribute in failed:
        table[(label(META, str(side)), label(ERROR, TOO_MANY), label(attribute, "nil"))] = np.zeros(window.count)
    return table
