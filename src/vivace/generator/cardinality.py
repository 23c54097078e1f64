"""What the series of a tenant are made of: which metric has how many, and which values of which label make them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vivace.generator.table import Table


@dataclass(frozen=True, slots=True)
class MetricCardinality:
    """Series under one name; a histogram has one each for its buckets, its sum and its count."""

    name: str
    series: int


@dataclass(frozen=True, slots=True)
class LabelCardinality:
    """Distinct values of a label; `top` are the ones with most series, as (value, series)."""

    name: str
    values: int
    top: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Cardinality:
    """One tenant's series, most numerous first. `label_sets` counts what span metrics, edges and the like share."""

    tenant: str
    series: int
    label_sets: int
    metrics: tuple[MetricCardinality, ...]
    labels: tuple[LabelCardinality, ...]


def count_labels(tenant: str, tables: Sequence[Table], top: int) -> Cardinality:
    """Count what is there. External labels have one value each and are left out. Cost: some 1 µs a label of a label set."""
    metrics: Counter[str] = Counter()
    labels: dict[str, Counter[str]] = {}
    for table in tables:
        series_of_row = _count_rows(table, metrics)
        for row, pairs in table.label_sets():
            for name, value in pairs:
                labels.setdefault(name, Counter())[value] += int(series_of_row[row])
    return Cardinality(
        tenant,
        series=sum(metrics.values()),
        label_sets=sum(map(len, tables)),
        metrics=tuple(MetricCardinality(name, n) for name, n in sorted(metrics.items(), key=_most_first)),
        labels=tuple(
            LabelCardinality(name, len(values), tuple(sorted(values.items(), key=_most_first)[:top]))
            for name, values in sorted(labels.items(), key=lambda item: (-len(item[1]), item[0]))
        ),
    )


def _most_first(counted: tuple[str, int]) -> tuple[int, str]:
    return -counted[1], counted[0]


def _count_rows(table: Table, metrics: Counter[str]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Series of each row; adds those of each metric to `metrics`."""
    series = np.zeros(table.capacity, np.int64)
    for metric in table.metrics:
        existing = metric.existing()
        series[existing] += metric.series_each
        for name in metric.names:
            metrics[name] += len(existing) * metric.series_each // len(metric.names)
    return series
