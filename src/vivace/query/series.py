"""From the sum of partials to the series of an answer: samples, quantiles, second stages, exemplars.

Rule 1  rate, count, quantile and histogram have a sample at every step, 0 where no span was; the others only where one was.
Rule 2  rate() and count_over_time() without by() have their series also when nothing was found.
Rule 3  topk and bottomk are taken at each step; of equal samples those stay whose labels come first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias, assert_never

import numpy as np
from numpy.typing import NDArray

from vivace.query.answers import Exemplar, Series
from vivace.query.measures import BUCKET, Window, unit
from vivace.query.partials import Labels, Totals, label
from vivace.query.values import COMPARE
from vivace.traceql.ast import (
    BottomK,
    MetricsFilter,
    MetricsFunction,
    MetricsKind,
    SecondStage,
    StaticKind,
    TopK,
)

SECOND = 1_000_000_000
MILLISECOND = 1_000_000

Table: TypeAlias = dict[Labels, NDArray[np.float64]]
"""Samples at every step of the window, nan where there is none."""

CELLS_MAX = 8_000_000
"""Samples of an answer before second stages: 64 MB. Series beyond it are left out, and the answer says so."""


def finish(totals: Totals, function: MetricsFunction, window: Window) -> tuple[Table, bool]:
    """(samples by series, whether some were left out)."""
    series, step, count, value = totals.entries()
    names = list(totals.numbers)
    kept = max(1, CELLS_MAX // window.count)
    cut = len(names) > kept
    names = names[:kept]
    inside = (series < kept) & (step >= window.first) & (step <= window.last)
    series, step, count = series[inside], step[inside], count[inside]
    value = None if value is None else value[inside]
    place = (series, step - window.first)
    shape = (len(names), window.count)
    if function.kind is MetricsKind.QUANTILE:
        return _quantiles(names, place, count, function, window), cut
    match function.kind:
        case MetricsKind.COUNT | MetricsKind.HISTOGRAM:
            samples = np.zeros(shape)
            samples[place] = count
        case MetricsKind.RATE:
            samples = np.zeros(shape)
            samples[place] = count / (window.step / SECOND)
        case MetricsKind.AVG:
            samples = np.full(shape, np.nan)
            if value is not None:
                samples[place] = value / count / unit(function)
        case _:
            samples = np.full(shape, np.nan)
            if value is not None:
                samples[place] = value / unit(function)
    table = dict(zip(names, samples, strict=True))
    if not table and function.kind in (MetricsKind.RATE, MetricsKind.COUNT) and not function.by:
        table[(label("__name__", function.kind.value),)] = np.zeros(window.count)
    return table, cut


def _quantiles(
    names: Sequence[Labels],
    place: tuple[NDArray[np.int64], NDArray[np.int64]],
    count: NDArray[np.int64],
    function: MetricsFunction,
    window: Window,
) -> Table:
    """Quantiles by group: its series by bucket come together again."""
    groups: dict[Labels, list[tuple[float, int]]] = {}
    for number, labels in enumerate(names):
        upper = labels[-1][2]
        assert isinstance(upper, float)  # the bucket is always the last label
        groups.setdefault(labels[:-1], []).append((upper, number))
    dense = np.zeros((len(names), window.count), np.int64)
    dense[place] = count
    table: Table = {}
    for labels, buckets in groups.items():
        buckets.sort()
        uppers = np.array([upper for upper, _ in buckets])
        counts = dense[[number for _, number in buckets]]
        for p in function.quantiles:
            table[(*labels, label("p", p))] = quantile(p, uppers, counts)
    return table


def quantile(p: float, uppers: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """The p-quantile at each step, of counts by bucket (rows, ascending `uppers`) and step (columns); 0 where all are 0.

    Within a bucket by the exponent: Source: the TraceQL reference, 10.4. The bucket below is the one below that is not empty.
    """
    result = np.zeros(counts.shape[1])
    total = counts.sum(axis=0)
    target = np.maximum(1, np.ceil(p * total))
    exponent = np.log2(uppers)
    consumed = np.zeros(counts.shape[1])
    below = np.full(counts.shape[1], np.nan)
    open_ = total > 0
    for row, upper in enumerate(uppers.tolist()):
        here = counts[row]
        used = open_ & (here > 0)
        exact = used & (consumed + here == target)
        result[exact] = upper
        inside = used & (consumed + here > target)
        low = np.where(np.isnan(below), exponent[row] - 1, below)
        share = (target - consumed)[inside] / here[inside]
        result[inside] = np.exp2(low[inside] + (exponent[row] - low[inside]) * share)
        open_ = open_ & ~exact & ~inside
        below = np.where(here > 0, exponent[row], below)
        consumed += here
    return result


def second_stages(stages: Sequence[SecondStage], table: Table) -> Table:
    for stage in stages:
        table = _second_stage(stage, table)
    return {labels: samples for labels, samples in table.items() if not np.isnan(samples).all()}


def _second_stage(stage: SecondStage, table: Table) -> Table:
    match stage:
        case TopK():
            return _best(table, stage.limit, -1)
        case BottomK():
            return _best(table, stage.limit, 1)
        case MetricsFilter():
            bound = stage.value.value
            assert isinstance(bound, int | float)  # by the grammar
            if stage.value.kind is StaticKind.DURATION:
                bound = bound / SECOND
            return {
                labels: np.where(COMPARE[stage.op](samples, bound), samples, np.nan)
                for labels, samples in table.items()
            }
        case _:
            assert_never(stage)


def _best(table: Table, limit: int, sign: int) -> Table:
    if len(table) <= limit:
        return table
    names = sorted(table, key=sort_key)
    samples = np.array([table[labels] for labels in names])
    ranks = np.argsort(np.where(np.isnan(samples), np.inf, sign * samples), axis=0, kind="stable")
    kept = np.full(samples.shape, np.nan)
    best = ranks[:limit]
    np.put_along_axis(kept, best, np.take_along_axis(samples, best, axis=0), axis=0)
    return dict(zip(names, kept, strict=True))


def sort_key(labels: Labels) -> list[tuple[str, str]]:
    """Series by keys and values of their labels, one label after the other."""
    return [(name, _text(value)) for name, _, value in labels]


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def series_of(table: Table, window: Window, examples: dict[Labels, list[Exemplar]]) -> tuple[Series, ...]:
    """The series of an answer, in order."""
    times = (np.arange(window.first, window.last + 1) * window.step + window.offset) // MILLISECOND
    found = []
    for labels in sorted(table, key=sort_key):
        there = ~np.isnan(table[labels])
        found.append(
            Series(
                tuple((name, value) for name, _, value in labels),
                times[there],
                table[labels][there],
                tuple(examples.get(labels, ())),
            )
        )
    return tuple(found)


def exemplars(
    totals: Totals, table: Table, function: MetricsFunction, window: Window, limit: int
) -> dict[Labels, list[Exemplar]]:
    """Examples of the series that are left, at most `limit`, spread over the window."""
    found = totals.exemplars()
    if found is None or not limit:
        return {}
    names = list(totals.numbers)
    result: dict[Labels, list[Exemplar]] = {}
    order = np.argsort(found.start, kind="stable")
    every = max(1, math.ceil(len(order) / limit))
    for place in order[::every][:limit].tolist():
        labels = names[int(found.series[place])]
        target = _series_of_example(labels, function, table)
        if target is None:
            continue
        start, value = int(found.start[place]), float(found.value[place])
        if not window.begin < start <= window.end:
            continue
        if math.isnan(value):
            step = -((window.offset - start) // window.step) - window.first
            value = float(table[target][step])
        trace = int(found.trace_high[place]) << 64 | int(found.trace_low[place])
        shown = tuple((name, v) for name, _, v in labels if name not in ("__name__", BUCKET))
        result.setdefault(target, []).append(
            Exemplar((*shown, ("trace:id", f"{trace:x}")), 0.0 if math.isnan(value) else value, start // MILLISECOND)
        )
    return result


def _series_of_example(labels: Labels, function: MetricsFunction, table: Table) -> Labels | None:
    """The series of the answer that an example stands at; of quantiles the first."""
    if function.kind is MetricsKind.QUANTILE:
        labels = (*labels[:-1], label("p", function.quantiles[0]))
    return labels if labels in table else None
