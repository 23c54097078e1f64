"""One tenant's generator: its processors, its registry, and what spans pass through on their way to them.

Rule 1  a change of a processor's settings replaces the processor: its series begin anew. Other changes keep them.
Rule 2  a span that ended outside the slack counts for nothing; it is stored all the same.
Rule 3  what is read from a dictionary is dropped when no span came for a collection, so an idle tenant holds no old head.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Protocol

import numpy as np

from vivace.errors import ConfigError
from vivace.generator.cardinality import Cardinality, count_labels
from vivace.generator.columns import Columns, DictionaryView
from vivace.generator.host_info import HostInfo
from vivace.generator.observer import GeneratorObserver
from vivace.generator.registry import Registry, RegistryObserver
from vivace.generator.service_graphs import GraphObserver, ServiceGraphs
from vivace.generator.settings import LATENCY_BUCKETS, SPAN_METRICS_PARTS, SpanMetricsSettings, TenantSettings
from vivace.generator.span_metrics import SpanMetrics
from vivace.generator.table import Pairs, Table
from vivace.generator.texts import Texts
from vivace.model.batch import Events, Links, SpanBatch, concat
from vivace.model.rows import take

log = logging.getLogger(__name__)

FUTURE_NANO = 5 * 24 * 3600 * 1_000_000_000
"""Spans that end later than five days from now have a wrong clock; Tempo's figure."""

STALE_CHECK_SECONDS = 300.0

PIECE_SPANS = 1 << 16
"""Spans processed at once: enough that the array calls cost nothing, few enough that a piece takes some 20 MB."""

LOCAL_BLOCKS = "local-blocks"
"""Tempo's copy of recent spans for TraceQL metrics. Accepted; here the head and the blocks are that copy."""


class Processor(Protocol):
    """Makes series of one kind. Its methods are called by one thread at a time."""

    name: str
    tables: tuple[Table, ...]

    def process(self, columns: Columns, now: float) -> None:
        """Count the spans of a batch."""
        ...

    def tick(self, now: float) -> None:
        """Do what time alone brings about."""
        ...

    def rows_changed(self) -> None:
        """Rows of its tables were freed: row numbers that it remembers may mean other label sets."""
        ...

    def renew(self, texts: Texts) -> None:
        """Numbers are those of another Texts from now on."""
        ...


@dataclass(frozen=True, slots=True)
class Figures:
    """What a scrape asks of a tenant. `series_max` 0 is no limit."""

    processors: tuple[str, ...] = ()
    active_series: int = 0
    series_max: int = 0
    series_demand: int = 0
    entity_demand: int = 0
    label_sets: int = 0


class Instance:
    """The generator of one tenant. One thread at a time; `figures` may be read by any."""

    def __init__(
        self,
        tenant: str,
        settings: TenantSettings,
        own_labels: Pairs,
        observer: GeneratorObserver,
        random: np.random.Generator,
        now: float,
        *,
        started_ms: int,
    ) -> None:
        """started_ms: unix time at which this process began to make series; an earlier one may have sent up to then."""
        self.tenant = tenant
        self.figures = Figures()
        self.collect_at = now + settings.collection_seconds
        self._observer = observer
        self._random = random
        self._settings = TenantSettings()
        self._processors: dict[str, Processor] = {}
        self._made_with: dict[str, object] = {}
        self._views: list[DictionaryView] = []
        self._saw_spans = False
        self._stale_check_at = now + STALE_CHECK_SECONDS
        self._registry = Registry(
            settings.registry,
            own_labels,
            RegistryObserver(
                added=lambda n: observer.series_added(tenant, n),
                removed=lambda n: observer.series_removed(tenant, n),
                limited=lambda n: observer.series_limited(tenant, n),
            ),
            started_ms=started_ms,
        )
        self._texts = Texts(settings.registry.label_value_bytes_max)
        self.configure(settings)

    # -- configuration ----------------------------------------------------------------------------------------------

    def configure(self, settings: TenantSettings) -> None:
        """Bring processors and limits in line with settings. What cannot be used is reported and left out."""
        if settings == self._settings:
            return
        labels_changed = settings.registry.external_labels != self._settings.registry.external_labels
        self._settings = settings
        self._registry.configure(settings.registry)
        wanted = self._wanted(settings)
        for name in list(self._processors):
            if labels_changed or self._made_with[name] != wanted.get(name):
                for table in self._processors.pop(name).tables:
                    self._registry.drop(table)
        for name, own in wanted.items():
            if name not in self._processors:
                self._make(name, own)
        self._note_figures()

    def _wanted(self, settings: TenantSettings) -> dict[str, object]:
        """Processors by name with their own settings."""
        wanted: dict[str, object] = {}
        parts = settings.processors & set(SPAN_METRICS_PARTS)
        for name in sorted(settings.processors - parts):
            match name:
                case "span-metrics":
                    wanted[name] = settings.span_metrics
                case "service-graphs":
                    wanted[name] = settings.service_graphs
                case "host-info":
                    wanted[name] = settings.host_info
                case "local-blocks":
                    pass
                case _:
                    self._report(f"unknown processor {name}, expected span-metrics, service-graphs or host-info")
        if parts and "span-metrics" not in wanted:
            wanted["span-metrics"] = _with_parts(settings.span_metrics, parts)
        return wanted

    def _make(self, name: str, own: Any) -> None:
        tenant, observer = self.tenant, self._observer
        tables = len(self._registry.tables)
        try:
            match name:
                case "span-metrics":
                    made: Processor = SpanMetrics(own, self._registry, self._texts, self._random, self._filtered(name))
                case "service-graphs":
                    graph = GraphObserver(
                        edges=lambda n: observer.edges(tenant, n),
                        expired=lambda n: observer.edges_expired(tenant, n),
                        dropped=lambda n: observer.edges_dropped(tenant, n),
                        filtered=self._filtered(name),
                    )
                    made = ServiceGraphs(own, self._registry, self._texts, self._random, graph)
                case _:
                    made = HostInfo(own, self._registry)
        except ConfigError as e:
            for table in self._registry.tables[tables:]:
                self._registry.drop(table)
            self._report(f"processor {name} cannot be used: {e}")
            return
        self._processors[name] = made
        self._made_with[name] = own

    def _filtered(self, processor: str) -> Callable[[int], None]:
        reason = "span_metrics_filtered" if processor == "span-metrics" else "service_graphs_filtered"
        return lambda n: self._observer.discarded(self.tenant, reason, processor, n)

    def _report(self, problem: str) -> None:
        log.error("metrics generator of tenant %s: %s", self.tenant, problem)
        self._observer.update_failed(self.tenant)

    @property
    def is_active(self) -> bool:
        """Whether any processor wants spans."""
        return bool(self._processors)

    # -- spans ------------------------------------------------------------------------------------------------------

    def process(self, batches: Sequence[SpanBatch], now: float, now_unix_nano: int) -> None:
        """Count spans, in their order. Batches of one dictionary that follow each other are taken together."""
        self._registry.recount()
        self._saw_spans = True
        for piece in _pieces(batches):
            self._observer.received(self.tenant, len(piece), int(piece.size.sum()))
            kept = self._within_slack(piece, now_unix_nano)
            if not len(kept):
                continue
            columns = Columns(kept, self._view(kept))
            for processor in self._processors.values():
                processor.process(columns, now)
        self._registry.recount()

    def _within_slack(self, batch: SpanBatch, now_unix_nano: int) -> SpanBatch:
        end = batch.end_time_unix_nano
        earliest = max(0, now_unix_nano - int(self._settings.slack_seconds * 1e9))
        outside = (end < np.uint64(earliest)) | (end > np.uint64(now_unix_nano + FUTURE_NANO))
        if not outside.any():
            return batch
        self._observer.discarded(self.tenant, "outside_metrics_ingestion_slack", "", int(np.count_nonzero(outside)))
        return take(batch, np.flatnonzero(~outside))

    def _view(self, batch: SpanBatch) -> DictionaryView:
        """The view of the batch's dictionary; two are kept, since a cut of the head lets two generations overlap."""
        if self._texts.is_full():
            self._renew_texts()
        for view in self._views:
            if view.dictionary is batch.dictionary:
                view.refresh()
                return view
        self._views = [*self._views[-1:], DictionaryView(batch.dictionary, self._texts)]
        return self._views[-1]

    def _renew_texts(self) -> None:
        self._texts = Texts(self._settings.registry.label_value_bytes_max)
        self._views.clear()
        for processor in self._processors.values():
            processor.renew(self._texts)

    def tick(self, now: float) -> None:
        """Expiry and staleness."""
        self._registry.recount()
        for processor in self._processors.values():
            processor.tick(now)
        if now >= self._stale_check_at:
            self._stale_check_at = now + STALE_CHECK_SECONDS
            changed = self._registry.drop_stale(now)
            for processor in self._processors.values():
                if any(table in changed for table in processor.tables):
                    processor.rows_changed()
        self._note_figures()

    # -- series -----------------------------------------------------------------------------------------------------

    def collect(self, now: float, now_unix_nano: int) -> Iterator[bytes]:
        """Write requests of all series; see Registry.collect."""
        interval = self._settings.collection_seconds
        # keeps the rhythm, but a pass that came late does not make the next ones hurry
        self.collect_at = max(self.collect_at + interval, now + interval / 2)
        if not self._saw_spans:
            self._views.clear()
        self._saw_spans = False
        if self._settings.collects:
            return self._registry.collect(now_unix_nano // 1_000_000)
        self._registry.discard()
        return iter(())

    def cardinality(self, top: int) -> Cardinality:
        """What its series are made of, with so many values of each label."""
        return count_labels(self.tenant, self._registry.tables, top)

    def _note_figures(self) -> None:
        registry = self._registry
        names = sorted(self._processors)
        if LOCAL_BLOCKS in self._settings.processors:
            names.append(LOCAL_BLOCKS)
        self.figures = Figures(
            processors=tuple(names),
            active_series=registry.active_series,
            series_max=registry.settings.series_max,
            series_demand=registry.series_demand,
            entity_demand=registry.entity_demand,
            label_sets=sum(map(len, registry.tables)),
        )


def _with_parts(settings: SpanMetricsSettings, parts: frozenset[str]) -> SpanMetricsSettings:
    """Settings for when only parts of span-metrics are named: then the buckets are the default ones, as in Tempo."""
    return replace(settings, parts=parts, histogram=replace(settings.histogram, buckets=LATENCY_BUCKETS))


def _pieces(batches: Iterable[SpanBatch]) -> Iterator[SpanBatch]:
    """The batches, neighbours of one dictionary joined to about PIECE_SPANS. Events and links are left out: nobody asks."""
    no_events, no_links = Events.empty(), Links.empty()
    for _, same in groupby(batches, key=lambda b: id(b.dictionary)):
        held: list[SpanBatch] = []
        count = 0
        for batch in same:
            if held and count + len(batch) > PIECE_SPANS:
                yield concat(held)
                held, count = [], 0
            held.append(replace(batch, events=no_events, links=no_links))
            count += len(batch)
        yield concat(held)
