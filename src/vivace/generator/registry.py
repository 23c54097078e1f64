"""The registry of one tenant: its tables of label sets, what may come into them, and what is sent of them.

Rule 1  all samples of a collection carry one time stamp; the zero samples of new series go ahead of everything else, at the
        second before the minute, or right after whatever may have been sent before.
Rule 2  a label set over a limit is counted in the overflow row of its table; no sender makes more than SERIES_MAX series.
Rule 3  a series without an update for `stale_seconds` is forgotten, without a word to the receiver.

Rows and label encoding: table.py.  Values: metrics.py.  Bytes: write_request.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vivace.generator.metrics import Histogram, Metric
from vivace.generator.native_histogram import NativeHistograms
from vivace.generator.settings import HistogramSettings, RegistrySettings
from vivace.generator.table import LabelSet, Pairs, Table
from vivace.generator.write_request import (
    Exemplar,
    encode_labels,
    exemplar_requests,
    histogram_requests,
    write_requests,
)

SERIES_MAX = 500_000
"""Series of a tenant when no limit is set: 75 MB here (bench/generator.py), and a Prometheus beside us needs several times that."""

REFUSED_MAX = 100_000
"""Refused label sets that are told apart between two checks for stale series, for the estimate of demand: 10 MB."""

CHUNK_SAMPLES = 20_000
"""Samples encoded at once: some 6 MB, given on as requests before the next ones are made."""


@dataclass(frozen=True, slots=True)
class RegistryObserver:
    """What a registry reports: numbers of series."""

    added: Callable[[int], None] = lambda n: None
    removed: Callable[[int], None] = lambda n: None
    limited: Callable[[int], None] = lambda n: None


class Registry:
    """All series of one tenant. One thread at a time."""

    def __init__(
        self, settings: RegistrySettings, own_labels: Pairs, observer: RegistryObserver, *, started_ms: int = 0
    ) -> None:
        """`own_labels` are ours on every series (`__metrics_gen_instance`, the tenant); they win over configured ones.

        started_ms  unix time of the process: series of the one before it may have samples up to then, and no zero sample
                    may be older than those, for a receiver refuses it together with the request that it is in
        """
        self.tables: list[Table] = []
        self._free_ms = started_ms
        self._own_labels = own_labels
        self._observer = observer
        self._used = 0
        self._entities = 0
        self._refused: set[int] = set()
        self._refused_series = 0
        self._refused_before = (0, 0)
        self._added = self._limited = 0
        self.external_labels: Pairs = ()
        self.configure(settings)

    def configure(self, settings: RegistrySettings) -> None:
        """Limits and labels from now on; series stay."""
        self.settings = settings
        unlimited = settings.limit_entities or not settings.series_max
        self._series_max = SERIES_MAX if unlimited else settings.series_max
        self._entities_max = settings.entities_max if settings.limit_entities else 0
        self.external_labels = [*settings.external_labels, *self._own_labels]
        for table in self.tables:
            table.forget_encoding()

    def add(self, names: Sequence[str] | None, metrics: Sequence[Metric]) -> Table:
        """A table for metrics that share label sets; see Table."""
        table = Table(names, metrics, self)
        self.tables.append(table)
        return table

    def drop(self, table: Table) -> None:
        """Forget a table and its series."""
        self.tables.remove(table)
        self._observer.removed(sum(m.active_series for m in table.metrics))
        self.recount()

    # -- limits -----------------------------------------------------------------------------------------------------

    @property
    def active_series(self) -> int:
        return sum(m.active_series for t in self.tables for m in t.metrics)

    @property
    def series_demand(self) -> int:
        """Series there would be without limits, about."""
        return self.active_series + max(self._refused_series, self._refused_before[0])

    @property
    def entity_demand(self) -> int:
        """Label sets there would be without limits, about."""
        return sum(map(len, self.tables)) + max(len(self._refused), self._refused_before[1])

    def recount(self) -> None:
        """Count what is there, and report what came and what was refused; call it between batches of spans."""
        self._used = self.active_series
        self._entities = sum(map(len, self.tables))
        if self._added:
            self._observer.added(self._added)
        if self._limited:
            self._observer.limited(self._limited)
        self._added = self._limited = 0

    def admit(self, label_set: LabelSet, series: int) -> bool:
        """See table.Admission."""
        if self._used + series > self._series_max or 0 < self._entities_max <= self._entities:
            self._refuse(hash(label_set), series)
            return False
        self._used += series
        self._entities += 1
        self._added += series
        return True

    def _refuse(self, label_set: int, series: int) -> None:
        """Count a refused label set, given by its hash."""
        self._limited += series
        if label_set not in self._refused and len(self._refused) < REFUSED_MAX:
            self._refused.add(label_set)
            self._refused_series += series

    def drop_stale(self, now: float) -> list[Table]:
        """Forget series that had no update for long; returns the tables whose rows mean something else now."""
        changed = []
        for table in self.tables:
            removed, freed = table.drop_stale(now - self.settings.stale_seconds)
            if removed:
                self._observer.removed(removed)
            if freed:
                changed.append(table)
        self._refused_before = self._refused_series, len(self._refused)
        self._refused.clear()
        self._refused_series = 0
        self.recount()
        return changed

    # -- collection -------------------------------------------------------------------------------------------------

    def collect(self, now_ms: int) -> Iterator[bytes]:
        """Write requests of all series, uncompressed, about 1 MB each at most. Exhaust it: it notes what has been sent."""
        zero_ms = min(max(now_ms // 60_000 * 60_000 - 1000, self._free_ms), now_ms - 1)
        self._free_ms = now_ms + 1  # a processor that is replaced begins its series anew
        yield from self._samples(self._new_series(), zero_ms)
        yield from self._samples(self._all_series(), now_ms)
        for table in self.tables:
            for metric in table.metrics:
                metric.started[metric.existing()] = True
                if isinstance(metric, NativeHistograms):
                    yield from _native(table, metric, now_ms)
                else:
                    yield from self._exemplars(table, metric, now_ms)

    def discard(self) -> None:
        """What a collection does when nothing is to be sent: exemplars do not wait for the next one."""
        for table in self.tables:
            for metric in table.metrics:
                metric.take_exemplars()

    def _new_series(self) -> Iterator[tuple[list[bytes], NDArray[np.float64]]]:
        for table in self.tables:
            for metric in table.metrics:
                rows = metric.existing()
                rows = rows[~metric.started[rows]]
                for variant in metric.variants(rows) if len(rows) else ():
                    if variant.zero_start:
                        yield table.heads(variant.name, variant.le, rows), np.zeros(len(rows))

    def _all_series(self) -> Iterator[tuple[list[bytes], NDArray[np.float64]]]:
        for table in self.tables:
            for metric in table.metrics:
                rows = metric.existing()
                for variant in metric.variants(rows) if len(rows) else ():
                    yield table.heads(variant.name, variant.le, rows), variant.values

    def _samples(self, parts: Iterable[tuple[list[bytes], NDArray[np.float64]]], timestamp_ms: int) -> Iterator[bytes]:
        heads: list[bytes] = []
        values: list[NDArray[np.float64]] = []
        for more_heads, more_values in parts:
            heads += more_heads
            values.append(more_values)
            if len(heads) >= CHUNK_SAMPLES:
                yield from write_requests(heads, np.concatenate(values), timestamp_ms)
                heads, values = [], []
        if heads:
            yield from write_requests(heads, np.concatenate(values), timestamp_ms)

    def _exemplars(self, table: Table, metric: Metric, now_ms: int) -> Iterator[bytes]:
        found = metric.take_exemplars()
        name = self.settings.trace_id_label
        yield from exemplar_requests(
            [table.labels(*f.variant, f.row) for f in found],
            [Exemplar(encode_labels([(name, f"{f.trace_id:x}")]), f.value, now_ms) for f in found],
        )


def _native(table: Table, metric: NativeHistograms, now_ms: int) -> Iterator[bytes]:
    rows = metric.existing()
    histograms = metric.encoded(rows, now_ms)
    for name in metric.names:
        yield from histogram_requests([table.labels(name, "", row) for row in rows.tolist()], histograms)


LatencyMetric = Histogram | NativeHistograms


def histograms(
    names: Sequence[str], settings: HistogramSettings, *, optional: bool = False
) -> tuple[LatencyMetric, ...]:
    """The metrics that a histogram of these settings is made of: classic, native, or both."""
    made: list[LatencyMetric] = []
    if settings.mode != "native":
        made.append(Histogram(names, settings.buckets, optional=optional))
    if settings.mode != "classic":
        made.append(NativeHistograms(names, settings, optional=optional))
    return tuple(made)
