"""The host-info processor: which hosts send spans, one gauge series each."""

from __future__ import annotations

import numpy as np

from vivace.generator.columns import Columns, DictionaryView
from vivace.generator.metrics import Gauge
from vivace.generator.registry import Registry
from vivace.generator.settings import HostInfoSettings
from vivace.generator.table import Table
from vivace.generator.texts import Texts
from vivace.model.attributes import I32
from vivace.model.schema import ValueType


class HostInfo:
    """One tenant's hosts. Implements instance.Processor."""

    name = "host-info"

    def __init__(self, settings: HostInfoSettings, registry: Registry) -> None:
        self._identifiers = settings.identifiers
        self._gauge = Gauge(settings.metric_name)
        self._table = registry.add(("grafana_host_id", "host_source"), [self._gauge])
        self.tables: tuple[Table, ...] = (self._table,)

    def process(self, columns: Columns, now: float) -> None:
        """Note the hosts of one batch."""
        used = np.unique(columns.batch.resource)
        hosts = set()
        candidates = [(key, _strings(columns.view, key)[used].tolist()) for key in self._identifiers]
        for place in range(len(used)):
            found = ((columns.texts.text(numbers[place]), key) for key, numbers in candidates)
            host = next((h for h in found if h[0]), None)
            if host is not None:
                hosts.add(host)
        self._gauge.touch(np.array(self._table.rows_of(sorted(hosts)), np.int64), now)

    def tick(self, now: float) -> None:
        """Nothing waits here."""

    def rows_changed(self) -> None:
        """Rows are asked for anew with each batch."""

    def renew(self, texts: Texts) -> None:
        """Numbers are not kept here."""


def _strings(view: DictionaryView, key: str) -> I32:
    """The attribute of every resource where it is a string."""
    lane = view.resource_lane(key)
    numbers = np.where(lane.type == ValueType.STRING, view.plain.values(lane.type, lane.value), 0)
    return lane.spread(view.resource_count, numbers.astype(np.int32))
