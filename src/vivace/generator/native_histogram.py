"""Native histograms: exponential buckets, as client_golang keeps them, one series a label set.

Bucket i of schema s holds values in (2^((i-1)/2^s), 2^(i/2^s)]; values up to ZERO_THRESHOLD are counted apart. With more
buckets than allowed a histogram begins anew, if the last time is long enough ago, or else halves its resolution.

Source  Prometheus remote write specification and the native histograms page of prometheus.io.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vivace.generator.metrics import F64, Metric, Rows
from vivace.generator.settings import HistogramSettings
from vivace.generator.write_request import NativeHistogram
from vivace.model.attributes import I32, I64, U64

ZERO_THRESHOLD = 2.0**-128
SCHEMA_MIN, SCHEMA_MAX = -4, 8
_KEY_BIAS = 1 << 31  # makes keys positive: the largest is 1024 << SCHEMA_MAX


def schema_of(factor: float) -> int:
    """The coarsest schema whose buckets grow by `factor` at most: 3 for 1.1."""
    if factor <= 1:
        return SCHEMA_MAX
    return min(SCHEMA_MAX, max(SCHEMA_MIN, -math.floor(math.log2(math.log2(factor)))))


def bucket_keys(values: F64, schema: int) -> I64:
    """The bucket of each value, all above 0 and finite."""
    fraction, exponent = np.frexp(values)
    if schema > 0:
        bounds = 2.0 ** (np.arange(1 << schema) / (1 << schema) - 1)
        keys: I64 = np.searchsorted(bounds, fraction) + ((exponent.astype(np.int64) - 1) << schema)
        return keys
    keys = exponent.astype(np.int64) - (fraction == 0.5)
    return coarser(keys, -schema)


def coarser(keys: I64, steps: int) -> I64:
    """The same buckets with the resolution halved `steps` times: an index rounds up."""
    return -((-keys) >> steps)


@dataclass(slots=True)
class _State:
    """One histogram; `buckets` by index at its own `schema`."""

    schema: int
    reset_at: float
    zero_count: int = 0
    buckets: dict[int, int] = field(default_factory=dict)


class NativeHistograms(Metric):
    """Histograms by row; the same calls as metrics.Histogram."""

    def __init__(self, names: Sequence[str], settings: HistogramSettings, *, optional: bool = False) -> None:
        super().__init__(names, series_each=len(names), optional=optional)
        self._settings = settings
        self._schema = schema_of(settings.native_factor)
        self._states: dict[int, _State] = {}
        self.sum: F64 = np.empty(0)

    def resize(self, capacity: int) -> None:
        super().resize(capacity)
        wider = np.zeros(capacity)
        wider[: len(self.sum)] = self.sum
        self.sum = wider

    def clear(self, rows: Rows) -> None:
        super().clear(rows)
        self.sum[rows] = 0
        for row in rows.tolist():
            self._states.pop(row, None)

    def observe(
        self, rows: I32, seconds: F64, weights: F64 | None, trace_high: U64, trace_low: U64, now: float
    ) -> None:
        """Count each observation in its row; one of weight w is repeated ⌈w⌉ times. Rows repeat."""
        repeats = np.ones(len(rows)) if weights is None else np.ceil(weights)
        is_zero = seconds <= ZERO_THRESHOLD
        keys = bucket_keys(np.where(is_zero, 1.0, seconds), self._schema)
        keys[is_zero] = -_KEY_BIAS
        place = (rows.astype(np.int64) << 32) + (keys + _KEY_BIAS)
        distinct, back = np.unique(place, return_inverse=True)
        counts = np.bincount(back, weights=repeats).astype(np.int64)
        news: dict[int, dict[int, int]] = {}
        for each, count in zip(distinct.tolist(), counts.tolist(), strict=True):
            news.setdefault(each >> 32, {})[(each & 0xFFFFFFFF) - _KEY_BIAS] = count
        self._make_room(news, now)
        np.add.at(self.sum, rows, seconds * repeats)
        for row, new in news.items():
            self._add(self._states[row], new)
        self.updated[rows] = now

    def _make_room(self, news: dict[int, dict[int, int]], now: float) -> None:
        """Begin histograms that are new, and anew those that would get too many buckets and may."""
        for row, new in news.items():
            state = self._states.get(row)
            if state is None or (
                self._too_many(state, new) and now - state.reset_at >= self._settings.native_reset_seconds
            ):
                self._states[row] = _State(self._schema, now)
                self.sum[row] = 0

    def _too_many(self, state: _State, new: dict[int, int]) -> bool:
        steps = self._schema - state.schema
        keys = state.buckets.keys() | {-(-key >> steps) for key in new if key != -_KEY_BIAS}
        return 0 < self._settings.native_buckets_max < len(keys)

    def _add(self, state: _State, new: dict[int, int]) -> None:
        steps = self._schema - state.schema
        for key, count in new.items():
            if key == -_KEY_BIAS:
                state.zero_count += count
            else:
                at = -(-key >> steps)
                state.buckets[at] = state.buckets.get(at, 0) + count
        while 0 < self._settings.native_buckets_max < len(state.buckets) and state.schema > SCHEMA_MIN:
            halved: dict[int, int] = {}
            for key, count in state.buckets.items():
                at = -(-key >> 1)
                halved[at] = halved.get(at, 0) + count
            state.buckets = halved
            state.schema -= 1

    def encoded(self, rows: NDArray[np.int64], timestamp_ms: int) -> list[NativeHistogram]:
        """The present state of these rows."""
        made = []
        for row in rows.tolist():
            state = self._states[row]
            made.append(
                NativeHistogram(
                    schema=state.schema,
                    zero_threshold=ZERO_THRESHOLD,
                    zero_count=state.zero_count,
                    buckets=sorted(state.buckets.items()),
                    count=state.zero_count + sum(state.buckets.values()),
                    sum=float(self.sum[row]),
                    timestamp_ms=timestamp_ms,
                )
            )
        return made
