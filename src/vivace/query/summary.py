"""The metrics summary: spans by group, with counts, errors and quantiles of their duration."""

from __future__ import annotations

import numpy as np

from vivace.errors import CorruptionError
from vivace.model.frame import Fixed
from vivace.model.tenant import split
from vivace.query.answers import SummaryRow
from vivace.query.control import QueryControl
from vivace.query.measures import Window, counted, measure
from vivace.query.partials import Labels, Totals
from vivace.query.plan import plan
from vivace.query.series import quantile
from vivace.query.sources import SourceRoom
from vivace.query.spans import Spans
from vivace.storage.store import Store
from vivace.traceql import CheckedQuery
from vivace.traceql.ast import Field, Intrinsic, IntrinsicId, MetricsFunction, MetricsKind

SECOND = 1_000_000_000
FOREVER = 1 << 62
QUANTILES = (50, 90, 95, 99)
ERROR = 2


class Summary:
    """Runs summaries of one tenant, synchronously."""

    def __init__(self, store: Store, room: SourceRoom) -> None:
        self._store = store
        self._room = room

    def run(
        self,
        tenant: str,
        query: CheckedQuery,
        group_by: tuple[Field, ...],
        start_seconds: int | None,
        end_seconds: int | None,
        limit: int,
        control: QueryControl,
    ) -> tuple[SummaryRow, ...]:
        """At most `limit` groups, those with most spans first. Spans that take less than 2 ns count, and have no quantile."""
        start = (start_seconds or 0) * SECOND
        window = Window.instant(start, FOREVER if end_seconds is None else end_seconds * SECOND)
        planned = plan(query)
        durations, spans, errors = (Totals(np.add) for _ in range(3))
        histogram = MetricsFunction(MetricsKind.HISTOGRAM, Intrinsic(IntrinsicId.DURATION), (), group_by)
        count = MetricsFunction(MetricsKind.COUNT, None, (), group_by)
        with self._store.snapshot(*split(tenant)) as snapshot:
            for source in self._room.sources(snapshot):
                if control.is_over():
                    break
                if source.start_min > window.end or source.end_max <= window.begin:
                    continue
                if source.block is not None and not planned.may_match(source.block):
                    continue
                try:
                    frame = Spans(source.open())
                    rows = counted(frame, query.pipeline, window, source.wanted(frame))
                    failed = rows[frame.numbers(Fixed.STATUS)[rows] == ERROR]
                    durations.add(measure(frame, histogram, rows, window, exemplars=False))
                    spans.add(measure(frame, count, rows, window, exemplars=False))
                    errors.add(measure(frame, count, failed, window, exemplars=False))
                except CorruptionError as e:
                    self._room.suspect(source, e)
        return _rows(durations, spans, errors)[:limit]


def _rows(durations: Totals, spans: Totals, errors: Totals) -> tuple[SummaryRow, ...]:
    buckets: dict[Labels, list[tuple[float, int]]] = {}
    for labels, number in _counts(durations).items():
        upper = labels[-1][2]
        assert isinstance(upper, float)  # the bucket is always the last label
        buckets.setdefault(labels[:-1], []).append((upper, number))
    failed = _counts(errors)
    found = []
    for labels, number in _counts(spans).items():
        pairs = sorted(buckets.get(labels, []))
        uppers, counts = np.array([u for u, _ in pairs]), np.array([[c] for _, c in pairs], np.int64).reshape(-1, 1)
        group = tuple((name, value) for name, _, value in labels)
        quantiles = {p: int(quantile(p / 100, uppers, counts)[0] * SECOND) for p in QUANTILES}
        found.append(SummaryRow(group, number, failed.get(labels, 0), quantiles))
    return tuple(sorted(found, key=lambda row: (-row.span_count, str(row.group))))


def _counts(totals: Totals) -> dict[Labels, int]:
    series, _, count, _ = totals.entries()
    names = list(totals.numbers)
    return {names[s]: c for s, c in zip(series.tolist(), count.tolist(), strict=True)}
