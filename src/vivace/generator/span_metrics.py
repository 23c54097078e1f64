"""The span-metrics processor: calls, latency and size of spans by label set, and the resources they come from.

Rule 1  a batch costs a fixed number of array calls; Python runs once for each new combination of values.
Rule 2  durations are seconds, negative ones 0; sizes are bytes of the encoded span and are not multiplied.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Container
from functools import partial

import numpy as np

from vivace.errors import ConfigError
from vivace.generator.columns import Columns, DictionaryView
from vivace.generator.combinations import Combinations
from vivace.generator.labels import Label, LabelPlan
from vivace.generator.metrics import Counter, Gauge
from vivace.generator.policies import SpanFilter, Weigher
from vivace.generator.registry import Registry, histograms
from vivace.generator.settings import SpanMetricsSettings
from vivace.generator.table import LabelSet, Table
from vivace.generator.texts import ABSENT, Texts
from vivace.generator.values import cut_bytes, free_label_name, value_text
from vivace.model.attributes import I32

CALLS = "traces_spanmetrics_calls_total"
LATENCY = "traces_spanmetrics_latency"
SIZE = "traces_spanmetrics_size_total"
TARGET_INFO = "traces_target_info"

Read = Callable[[Columns], I32]

INTRINSICS: dict[str, Read] = {
    "service": lambda c: c.service,
    "span_name": lambda c: c.name,
    "span_kind": lambda c: c.kind,
    "status_code": lambda c: c.status,
    "status_message": lambda c: c.status_message,
}
"""Labels that are no attributes; a dimension of the same name gets `__` in front."""


class SpanMetrics:
    """One tenant's span metrics. Implements instance.Processor."""

    name = "span-metrics"

    def __init__(
        self,
        settings: SpanMetricsSettings,
        registry: Registry,
        texts: Texts,
        random: np.random.Generator,
        filtered: Callable[[int], None],
    ) -> None:
        """`filtered` hears how many spans the policies left out. Raises ConfigError when they cannot be used."""
        self._registry = registry
        self._texts = texts
        self._filtered = filtered
        self._filter = SpanFilter(settings.policies)
        self._weigher = Weigher(settings.multiplier)
        taken = {name for name, _ in registry.external_labels}
        self._plan = label_plan(settings, taken)
        parts = settings.parts
        self._calls = Counter(CALLS) if "span-metrics-count" in parts else None
        names = (LATENCY, *settings.latency_aliases)
        self._latency = histograms(names, settings.histogram) if "span-metrics-latency" in parts else ()
        self._size = Counter(SIZE) if "span-metrics-size" in parts else None
        metrics = [m for m in (self._calls, *self._latency, self._size) if m is not None]
        self._table = registry.add(self._plan.names, metrics)
        self._rows = Combinations(self._resolve, random)
        self._target = TargetInfo(settings, registry) if settings.target_info else None
        self.tables: tuple[Table, ...] = (self._table, self._target.table) if self._target else (self._table,)

    def _resolve(self, columns: list[I32]) -> list[int]:
        return self._table.rows_of(self._plan.label_sets(columns, self._texts))

    def process(self, columns: Columns, now: float) -> None:
        """Count the spans of one batch."""
        batch = columns.batch
        counted = self._plan.columns(columns)
        seconds = columns.duration_nano / 1e9
        weights = self._weigher.weights(columns)
        high, low, size, resource = batch.trace_id_high, batch.trace_id_low, batch.size, batch.resource
        mask = self._filter.passing(columns)
        if mask is not None and not mask.all():
            self._filtered(len(mask) - int(np.count_nonzero(mask)))
            counted = [c[mask] for c in counted]
            seconds, high, low, size, resource = seconds[mask], high[mask], low[mask], size[mask], resource[mask]
            weights = None if weights is None else weights[mask]
        if not len(seconds):
            return
        rows = self._rows.rows(counted)
        if self._calls:
            self._calls.add(rows, 1.0 if weights is None else weights, now)
        for latency in self._latency:
            latency.observe(rows, seconds, weights, high, low, now)
        if self._size:
            self._size.add(rows, size.astype(np.float64), now)
        if self._target:
            self._target.process(np.unique(resource).tolist(), columns.view, now)

    def tick(self, now: float) -> None:
        """Nothing waits here."""

    def rows_changed(self) -> None:
        """Rows of the table were freed."""
        self._rows.forget()
        if self._target:
            self._target.forget()

    def renew(self, texts: Texts) -> None:
        """Numbers of another Texts from now on."""
        self._texts = texts
        self._rows.forget()


def label_plan(settings: SpanMetricsSettings, taken: Container[str]) -> LabelPlan[Columns]:
    """Intrinsic labels, dimensions and mappings, in this order. Raises ConfigError for an intrinsic that does not exist."""
    unknown = settings.intrinsics - INTRINSICS.keys()
    if unknown:
        raise ConfigError(
            f"found intrinsic_dimensions {', '.join(sorted(unknown))}, expected only {', '.join(INTRINSICS)}",
            key="intrinsic_dimensions",
        )
    labels = [Label(name, (read,)) for name, read in INTRINSICS.items() if name in settings.intrinsics]
    for key in settings.dimensions:
        labels.append(Label(free_label_name(key, INTRINSICS), (_attribute(key, key in settings.templates),)))
    for mapping in settings.mappings:
        reads = tuple(_attribute(key, key in settings.templates) for key in mapping.sources)
        if reads:
            labels.append(Label(free_label_name(mapping.name, INTRINSICS), reads, mapping.join))
    if settings.target_info:
        labels.append(Label("job", (job,)))
        if settings.instance_label:
            labels.append(Label("instance", (partial(_of_resource, key="service.instance.id"),)))
    return LabelPlan(labels, taken)


def _attribute(key: str, template: bool) -> Read:
    return lambda columns: columns.attribute(key, template)


def _of_resource(columns: Columns, key: str) -> I32:
    return columns.of_resource(columns.view.resource_column(key))


def job(columns: Columns) -> I32:
    """`[service.namespace/]service.name` of every span's resource."""
    return columns.of_resource(job_column(columns.view))


def job_column(view: DictionaryView) -> I32:
    """The same of every resource."""
    service, namespace = view.resource_column("service.name"), view.resource_column("service.namespace")
    texts = view.texts
    names = zip(texts.texts(service), texts.texts(namespace), strict=True)
    jobs = [texts.number(job_text(name, space)) if name else ABSENT for name, space in names]
    return np.array(jobs, np.int32)


def job_text(service: str, namespace: str) -> str:
    if not service:
        return ""
    return f"{namespace}/{service}" if namespace else service


class TargetInfo:
    """`traces_target_info`: one series for each resource, its attributes as labels."""

    _NAMED = ("service.name", "service.namespace", "service.instance.id")

    def __init__(self, settings: SpanMetricsSettings, registry: Registry) -> None:
        self._excluded = settings.target_info_excluded | set(self._NAMED)
        self._instance_label = settings.instance_label
        self._registry = registry
        self._gauge = Gauge(TARGET_INFO)
        self.table = registry.add(None, [self._gauge])
        self._view: weakref.ref[DictionaryView] | None = None  # weak: a dictionary is large, and outlived by this
        self._known: dict[int, int] = {}

    def process(self, resources: list[int], view: DictionaryView, now: float) -> None:
        """Note that spans came from these resources, given by their rows."""
        if self._view is None or view is not self._view():
            self._view = weakref.ref(view)
            self._known.clear()
        new = [r for r in resources if r not in self._known]
        sets = {r: label_set for r in new if (label_set := self._label_set(r, view)) is not None}
        self._known.update(zip(sets, self.table.rows_of(sets.values()), strict=True))
        self._known.update((r, -1) for r in new if r not in sets)
        rows = [row for r in resources if (row := self._known[r]) >= 0]
        self._gauge.touch(np.array(rows, np.int64), now)

    def forget(self) -> None:
        """Rows of the table were freed."""
        self._known.clear()

    def _label_set(self, resource: int, view: DictionaryView) -> LabelSet | None:
        """Labels of one resource; None when it says nothing of a job or an instance, or nothing else of itself."""
        pairs = view.resources.slice(resource, resource + 1)
        values: dict[str, str] = {}
        for key, kind, value in zip(pairs.key.tolist(), pairs.type.tolist(), pairs.value.tolist(), strict=True):
            name = view.dictionary.strings.get(key).decode()
            values.setdefault(name, value_text(kind, value, view.dictionary))
        found = job_text(values.get("service.name", ""), values.get("service.namespace", ""))
        instance = values.get("service.instance.id", "")
        others = {
            free_label_name(key, ("job", "instance")): value
            for key, value in sorted(values.items())
            if key and key not in self._excluded and not key[0].isdigit() and value
        }
        if not others or not (found or instance):
            return None
        own = {"job": found, "instance": instance if self._instance_label else ""}
        taken = {name for name, _ in self._registry.external_labels}
        bytes_max = self._registry.settings.label_value_bytes_max
        labels = sorted((n, cut_bytes(v, bytes_max)) for n, v in (others | own).items() if v and n not in taken)
        return tuple(text for pair in labels for text in pair)
