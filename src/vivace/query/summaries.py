"""What an answer says of the traces that were found: only of those, and once a frame for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vivace.model.frame import Fixed, Level, Rows, Strings
from vivace.model.schema import AttributeScope
from vivace.query.answers import FoundSpan, FoundSpanset, Pairs, ServiceStats, TraceSummary, Value
from vivace.query.groups import plain
from vivace.query.plan import Plan
from vivace.query.spans import Spans
from vivace.query.spansets import Spansets

ERROR = 2


@dataclass(frozen=True, slots=True)
class Match:
    """A trace of a frame that was found. `sets` is None where a search has no spansets."""

    start: int
    trace_id: int
    trace: int
    spans: Spans
    sets: Spansets | None

    def order(self) -> tuple[int, int]:
        """Newest first, then by id."""
        return -self.start, self.trace_id


def summarise(matches: Sequence[Match], planned: Plan | None, spans_max: int) -> tuple[TraceSummary, ...]:
    """The summaries of all matches, in their order."""
    by_frame: dict[int, list[Match]] = {}
    for match in matches:
        by_frame.setdefault(id(match.spans), []).append(match)
    found: dict[int, TraceSummary] = {}
    for group in by_frame.values():
        found |= _of_frame(group, planned, spans_max)
    return tuple(found[match.trace_id] for match in matches)


def _of_frame(matches: Sequence[Match], planned: Plan | None, spans_max: int) -> dict[int, TraceSummary]:
    spans, sets = matches[0].spans, matches[0].sets
    traces = np.array([m.trace for m in matches])
    roots = _texts(spans.frame.fixed(Fixed.ROOT_SERVICE_NAME), traces)
    names = _texts(spans.frame.fixed(Fixed.ROOT_NAME), traces)
    durations = spans.numbers(Fixed.TRACE_DURATION)[traces].tolist()
    spansets: dict[int, list[FoundSpanset]] = {}
    services: list[Mapping[str, ServiceStats] | None] = [None] * len(matches)
    if sets is not None and planned is not None:
        spansets = _spansets(spans, sets, traces, planned, spans_max)
        services = list(_services(spans, traces))
    return {
        m.trace_id: TraceSummary(
            trace_id=m.trace_id,
            root_service_name=roots[i] or None,  # a root without a service counts as unknown
            root_name=names[i],
            start_unix_nano=m.start,
            duration_nano=durations[i],
            spansets=tuple(spansets.get(m.trace, ())),
            services=services[i],
        )
        for i, m in enumerate(matches)
    }


def _texts(column: object, rows: Rows) -> list[str | None]:
    assert isinstance(column, Strings)  # by the contract of Frame.fixed
    table = column.table
    return [table[code].as_py() if code < len(table) else None for code in column.codes[rows].tolist()]


def _services(spans: Spans, traces: Rows) -> Sequence[Mapping[str, ServiceStats]]:
    """Spans and errors by service, of whole traces. A service is the resource's `service.name` where that is a string, else ""."""
    attribute = spans.frame.attribute(AttributeScope.RESOURCE, "service.name")
    if attribute is not None and attribute.strings is not None:
        codes, names = attribute.strings.codes, [*attribute.strings.table.to_pylist(), ""]
    else:
        codes, names = np.zeros(spans.frame.count(Level.RESOURCE), np.int32), [""]
    firsts, ends = spans.first_rows[traces], spans.first_rows[traces + 1]
    rows = _ranges(firsts, ends)
    place = np.repeat(np.arange(len(traces)), ends - firsts) * len(names)
    place += codes[spans.frame.owners(Level.RESOURCE)[rows]]
    counts = np.bincount(place, minlength=len(traces) * len(names))
    errors = np.bincount(place[spans.numbers(Fixed.STATUS)[rows] == ERROR], minlength=len(counts))
    found: list[dict[str, ServiceStats]] = [{} for _ in traces]
    for at in np.flatnonzero(counts).tolist():
        trace, name = divmod(at, len(names))
        before = found[trace].get(names[name], ServiceStats(0, 0))  # an empty name, and none, are one
        found[trace][names[name]] = ServiceStats(
            before.span_count + int(counts[at]), before.error_count + int(errors[at])
        )
    return found


def _spansets(
    spans: Spans, sets: Spansets, traces: Rows, planned: Plan, spans_max: int
) -> dict[int, list[FoundSpanset]]:
    """Spansets by trace."""
    wanted = np.zeros(len(spans.first_rows) - 1, bool)
    wanted[traces] = True
    firsts = sets.firsts
    ends = np.append(firsts[1:], len(sets.rows))
    chosen = np.flatnonzero(wanted[spans.trace[sets.rows[firsts]]])
    lasts = ends[chosen] if not spans_max else np.minimum(ends[chosen], firsts[chosen] + spans_max)
    shown = _ranges(firsts[chosen], lasts)
    found = _spans(spans, sets.rows[shown], planned)
    labels = [
        (name, missing, plain(values.take(chosen, Level.SPAN))) for name, (values, missing) in sets.labels.items()
    ]
    result: dict[int, list[FoundSpanset]] = {}
    at = 0
    bounds = zip(firsts[chosen].tolist(), ends[chosen].tolist(), lasts.tolist(), strict=True)
    for place, (begin, end, last) in enumerate(bounds):
        shown_labels = ((name, missing if v[place] is None else v[place]) for name, missing, v in labels)
        attributes: Pairs = tuple((name, value) for name, value in shown_labels if value is not None)
        spanset = FoundSpanset(tuple(found[at : at + last - begin]), end - begin, attributes)
        result.setdefault(int(spans.trace[sets.rows[begin]]), []).append(spanset)
        at += last - begin
    return result


def _ranges(firsts: Rows, ends: Rows) -> Rows:
    """All numbers of all ranges, one range behind the other."""
    lengths = ends - firsts
    starts = np.cumsum(lengths) - lengths
    numbers: Rows = np.arange(int(lengths.sum())) + np.repeat(firsts - starts, lengths)
    return numbers


def _spans(spans: Spans, rows: Rows, planned: Plan) -> list[FoundSpan]:
    columns: list[tuple[str, list[Value]]] = []
    for shown in planned.shown:
        columns.append((shown.key, shown.values(spans, rows)))
    ids, starts, durations = (
        spans.numbers(column)[rows].tolist() for column in (Fixed.SPAN_ID, Fixed.START, Fixed.DURATION)
    )
    names: Sequence[Value] = planned.name.values(spans, rows) if planned.name else [None] * len(rows)
    return [
        FoundSpan(
            span_id=ids[i],
            name=None if (name := names[i]) is None else str(name),
            start_unix_nano=starts[i],
            duration_nano=durations[i],
            attributes=tuple((key, values[i]) for key, values in columns if values[i] is not None),
        )
        for i in range(len(rows))
    ]
