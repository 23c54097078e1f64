"""What the spans of one source contribute to a metrics function: a Partial.

Rule 1  a span counts once, for the step that its start lies in: (t - step, t].
Rule 2  durations of spans and traces are seconds, other durations nanoseconds; buckets of any duration are seconds.
Rule 3  a value's bucket is the smallest power of two that is not less; what is less than 2, or a float, has none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vivace.model.frame import Fixed, Mask, Rows
from vivace.query.fields import read
from vivace.query.filters import at_rows, code_rows
from vivace.query.groups import combine
from vivace.query.partials import Exemplars, Label, Partial, label, label_groups
from vivace.query.spans import Spans
from vivace.query.spansets import one_type, run
from vivace.traceql import canonical
from vivace.traceql.ast import Field, Intrinsic, IntrinsicId, MetricsFunction, MetricsKind, Stage
from vivace.traceql.types import Type

SECOND = 1_000_000_000

BUCKETED = frozenset({MetricsKind.QUANTILE, MetricsKind.HISTOGRAM})

IN_SECONDS = frozenset({IntrinsicId.DURATION, IntrinsicId.TRACE_DURATION})

BUCKET = "__bucket"

EXEMPLAR_BUCKETS = 50
EXEMPLARS_PER_BUCKET = 2


@dataclass(frozen=True, slots=True)
class Window:
    """Steps first .. last of `step` nanoseconds, numbered from the epoch: step n ends at n * step + offset.

    offset  0, unless the query is an instant one, whose single step is the range itself
    margin  steps before the first whose spans make series, and no samples: so does Tempo
    """

    step: int
    first: int
    last: int
    offset: int = 0
    margin: int = 1

    @classmethod
    def of_range(cls, start: int, end: int, step: int) -> Window:
        return cls(step, start // step, -(-end // step))

    @classmethod
    def instant(cls, start: int, end: int) -> Window:
        return cls(end - start, 1, 1, offset=start, margin=0)

    @property
    def begin(self) -> int:
        """Spans start after this, up to and with `end`."""
        return (self.first - 1 - self.margin) * self.step + self.offset

    @property
    def end(self) -> int:
        return self.last * self.step + self.offset

    @property
    def spread(self) -> int:
        """Nanoseconds from one example to the next: a power of two, so that ranges of one length pick the same spans."""
        return 1 << max(0, ((self.end - self.begin) // EXEMPLAR_BUCKETS).bit_length() - 1)

    @property
    def count(self) -> int:
        return self.last - self.first + 1

    def numbers(self, start: NDArray[np.int64]) -> NDArray[np.int64]:
        """The step that each time lies in."""
        return -((self.offset - start) // self.step)


def counted(spans: Spans, pipeline: tuple[Stage, ...], window: Window | None, wanted: Mask | None) -> Rows:
    """The spans that count, ascending: found by the pipeline, in the window (None: at any time), of the wanted traces."""
    sets = run(spans, pipeline)
    mask = np.zeros(spans.count, bool)
    mask[sets.rows] = True
    if wanted is not None:
        mask &= wanted[spans.trace]
    if window is not None:
        start = spans.numbers(Fixed.START)
        mask &= (start > window.begin) & (start <= window.end)
    return np.flatnonzero(mask)


def measure(spans: Spans, function: MetricsFunction, rows: Rows, window: Window, *, exemplars: bool) -> Partial:
    """What `rows` contribute."""
    values: NDArray[np.float64] | None = None
    buckets: NDArray[np.int64] | None = None
    scale = 1.0
    if function.field is not None:
        rows, numbers, type_ = _measured(spans, function.field, rows, whole=function.kind in BUCKETED)
        if function.kind in BUCKETED:
            keep, buckets = _buckets(numbers)
            rows, scale = rows[keep], (1 / SECOND if type_ is Type.DURATION else 1.0)
        else:
            values = numbers.astype(np.float64)
    start = spans.numbers(Fixed.START)[rows]
    step = window.numbers(start)
    columns = [(canonical(field), *_coded(spans, field, rows)) for field in function.by]
    if buckets is not None:
        powers = np.unique(buckets).tolist()
        columns.append((BUCKET, [2.0**p * scale for p in powers], np.searchsorted(powers, buckets)))
    groups, firsts = _grouped(columns, len(rows))
    names = _labels(function, columns, firsts, len(rows))
    examples = None
    if exemplars and len(rows):
        value = values / unit(function) if values is not None else _example_values(columns, buckets, scale)
        examples = _examples(spans, rows, groups, start, value, window)
    return _sparse(names, groups, step, values, function.kind, examples)


def unit(function: MetricsFunction) -> int:
    """What the values of a function are divided by in an answer. Before, they are whole, so that sums are exact."""
    return SECOND if isinstance(function.field, Intrinsic) and function.field.id in IN_SECONDS else 1


def _measured(spans: Spans, field: Field, rows: Rows, *, whole: bool) -> tuple[Rows, NDArray[Any], Type]:
    """(the rows that have a number, their numbers, its type). whole: no floats."""
    of_events = field == Intrinsic(IntrinsicId.EVENT_TIME_SINCE_START)
    values = at_rows(spans, read(spans, field), rows)
    if whole:
        values = replace(values, lanes=tuple(lane for lane in values.lanes if lane.type is not Type.FLOAT))
    type_, numbers = one_type(values)
    if of_events:  # 0 where a span has none: so does Tempo
        valid = np.zeros(len(rows), bool) if not values.lanes else values.exists()
        return rows, np.where(valid, numbers.values, 0), Type.DURATION
    if numbers.valid is None:
        return rows, numbers.values, type_
    return rows[numbers.valid], numbers.values[numbers.valid], type_


def _buckets(values: NDArray[Any]) -> tuple[Mask, NDArray[np.int64]]:
    """(which values have a bucket, the exponents of those)."""
    keep = values >= 2
    _, exponents = np.frexp((values[keep] - 1).astype(np.float64))
    return keep, exponents.astype(np.int64)


def _coded(spans: Spans, field: Field, rows: Rows) -> tuple[Any, NDArray[np.int64]]:
    """(distinct values by code, codes of the rows); coded where the values vary least."""
    coded = code_rows(spans, read(spans, field), rows)
    return coded.values(), coded.codes


def _grouped(columns: list[tuple[str, Any, NDArray[np.int64]]], count: int) -> tuple[NDArray[np.int64], Rows]:
    if not columns:
        return np.zeros(count, np.int64), np.zeros(min(count, 1), np.int64)
    return combine([codes for _, _, codes in columns])


def _labels(
    function: MetricsFunction, columns: list[tuple[str, Any, NDArray[np.int64]]], firsts: Rows, count: int
) -> tuple[tuple[Label, ...], ...]:
    if not columns:
        if function.kind in BUCKETED or not count:
            return ()
        return ((label("__name__", function.kind.value),),)
    by = [(name, values, codes[firsts]) for name, values, codes in columns if name != BUCKET]
    names = label_groups(by) if by else ((),) * len(firsts)
    last = columns[-1]
    if last[0] == BUCKET:
        powers = [last[1][c] for c in last[2][firsts].tolist()]
        names = tuple((*labels, label(BUCKET, power)) for labels, power in zip(names, powers, strict=True))
    return names


def _sparse(
    labels: tuple[tuple[Label, ...], ...],
    groups: NDArray[np.int64],
    step: NDArray[np.int64],
    values: NDArray[np.float64] | None,
    kind: MetricsKind,
    exemplars: Exemplars | None,
) -> Partial:
    """One entry for each group and step."""
    if not len(groups):
        empty = np.empty(0, np.int64)
        return Partial((), empty.astype(np.int32), empty, empty, None if values is None else values)
    low = int(step.min())
    width = int(step.max()) - low + 1
    place = groups * width + (step - low)
    if len(labels) * width <= 4 * len(groups) + 1024:  # dense enough to count without sorting
        counts = np.bincount(place, minlength=len(labels) * width)
        found = np.flatnonzero(counts)
        reduced = None if values is None else _reduce_dense(place, values, kind, len(counts))[found]
        count = counts[found]
    else:
        found, inverse, count = np.unique(place, return_inverse=True, return_counts=True)
        reduced = None if values is None else _reduce_dense(inverse, values, kind, len(found))
    return Partial(
        labels, (found // width).astype(np.int32), found % width + low, count.astype(np.int64), reduced, exemplars
    )


def _reduce_dense(
    place: NDArray[np.int64], values: NDArray[np.float64], kind: MetricsKind, size: int
) -> NDArray[np.float64]:
    if kind is MetricsKind.MIN:
        least = np.full(size, np.inf)
        np.minimum.at(least, place, values)
        return least
    if kind is MetricsKind.MAX:
        greatest = np.full(size, -np.inf)
        np.maximum.at(greatest, place, values)
        return greatest
    return np.bincount(place, weights=values, minlength=size).astype(np.float64, copy=False)


def _example_values(
    columns: list[tuple[str, Any, NDArray[np.int64]]], buckets: NDArray[np.int64] | None, scale: float
) -> NDArray[np.float64] | None:
    if buckets is None:
        return None
    return np.exp2(buckets.astype(np.float64)) * scale


def _examples(
    spans: Spans,
    rows: Rows,
    groups: NDArray[np.int64],
    start: NDArray[np.int64],
    value: NDArray[np.float64] | None,
    window: Window,
) -> Exemplars:
    """A few spans from all over the window."""
    bucket = start // window.spread
    _, firsts = np.unique(bucket, return_index=True)
    rest = np.ones(len(rows), bool)
    rest[firsts] = False
    others = np.flatnonzero(rest)
    _, seconds = np.unique(bucket[others], return_index=True)
    picked = np.sort(np.concatenate([firsts, others[seconds]]))
    trace = spans.trace[rows[picked]]
    return Exemplars(
        groups[picked],
        start[picked],
        spans.numbers(Fixed.TRACE_ID_HIGH)[trace],
        spans.numbers(Fixed.TRACE_ID_LOW)[trace],
        np.full(len(picked), np.nan) if value is None else value[picked],
    )
