"""Traces as the oracle has them: rules 1 to 7 of oracle.py."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from vivace.model.proto import otlp_pb2

# -- Values -----------------------------------------------------------------------------------------------------------


class Duration(int):
    """Nanoseconds."""


class Status(str):
    """`ok`, `error`, `unset`."""


class Kind(str):
    """`server` and so on."""


class Id(str):
    """Hex digits of an id."""


class KeyValues(dict[str, "Value"]):
    """A kvlist."""

    __hash__ = object.__hash__  # type: ignore[assignment]


Value: TypeAlias = "str | int | float | bool | bytes | tuple[Value, ...] | KeyValues | None"
"""None is missing."""

NUMBERS = (int, float, Duration)


def is_number(value: Value) -> bool:
    return type(value) in NUMBERS


# -- Traces -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OEvent:
    name: str
    time: int
    attributes: dict[str, Value]


@dataclass(frozen=True)
class OLink:
    trace_id: int
    span_id: int
    attributes: dict[str, Value]


@dataclass(eq=False)
class OSpan:
    """A span, equal to itself alone. Times in unix nanoseconds; parent_id 0: it has none; `arrival` counts spans received."""

    arrival: int
    trace_id: int
    id: int
    parent_id: int
    name: str
    kind: Kind
    status: Status
    status_message: str
    start: int
    end: int
    attributes: dict[str, Value]
    resource: dict[str, Value]
    scope_name: str
    scope_version: str
    scope_attributes: dict[str, Value]
    events: list[OEvent]
    links: list[OLink]
    trace: OTrace = field(default=None, repr=False)  # type: ignore[assignment]  # set when its trace is made

    @property
    def duration(self) -> int:
        return max(0, self.end - self.start)


class OTrace:
    """The spans of one trace in order of (start, id, arrival), and their structure."""

    def __init__(self, spans: Iterable[OSpan]) -> None:
        self.spans = sorted(spans, key=lambda s: (s.start, s.id, s.arrival))
        for span in self.spans:
            span.trace = self
        without_parent = [s for s in self.spans if s.parent_id == 0]
        self.root = min(without_parent, key=lambda s: (s.start, s.id), default=None)
        self.duration = max(0, max(s.end for s in self.spans) - self.spans[0].start)
        self.parents = self._parents()
        self.left: dict[OSpan, int] = {}
        self.right: dict[OSpan, int] = {}
        self._number_all()

    def parent(self, span: OSpan) -> OSpan | None:
        return self.parents.get(span)

    def children(self, span: OSpan) -> list[OSpan]:
        return [s for s in self.spans if self.parent(s) is span]

    def ancestors(self, span: OSpan) -> Iterator[OSpan]:
        above = self.parent(span)
        while above is not None:
            yield above
            above = self.parent(above)

    def nested_set_parent(self, span: OSpan) -> int:
        above = self.parent(span)
        if above is not None:
            return self.left[above]
        return -1 if span.parent_id == 0 else 0

    def _parents(self) -> dict[OSpan, OSpan]:
        """Rules 5 and 6."""
        owner: dict[int, OSpan] = {}
        for span in self.spans:
            held = owner.setdefault(span.id, span)
            if span.kind == "server" and held.kind == "client":
                owner[span.id] = span
        parents = {}
        for span in self.spans:
            above = owner.get(span.parent_id) if span.parent_id else None
            if above is not None and above is not span:
                parents[span] = above
        for span in self.spans:
            server = owner[span.id]
            if span.kind == "client" and server.kind == "server" and span.parent_id == server.parent_id:
                parents[server] = span
        reached = [s for s in self.spans if s not in parents]
        for span in self.spans:
            self._reach(reached, parents)
            if span not in reached:
                del parents[span]
                reached.append(span)
        return parents

    def _reach(self, reached: list[OSpan], parents: dict[OSpan, OSpan]) -> None:
        """Add to `reached` every span below one of it."""
        for above in reached:  # it grows while we walk it
            reached += [s for s in self.spans if parents.get(s) is above and s not in reached]

    def _number_all(self) -> None:
        tops = [s for s in self.spans if self.parent(s) is None]
        # A cut ring's top has a parent id whose span is here.
        in_ring = {s for s in tops if s.parent_id and any(o.id == s.parent_id and o is not s for o in self.spans)}
        roots = [s for s in tops if s.parent_id == 0]
        orphans = [s for s in tops if s.parent_id != 0 and s not in in_ring]
        counter = 0
        for top in [*roots, *orphans, *(s for s in tops if s in in_ring)]:
            counter = self._number(top, counter)

    def _number(self, span: OSpan, counter: int) -> int:
        """Number `span` and all below it after `counter`; the last number given."""
        self.left[span] = counter = counter + 1
        for child in self.children(span):
            counter = self._number(child, counter)
        self.right[span] = counter + 1
        return counter + 1


KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")
STATUSES = ("unset", "ok", "error")


def traces_of(requests: Iterable[otlp_pb2.ExportTraceServiceRequest]) -> list[OTrace]:
    """The traces of some requests, which arrived in this order."""
    by_trace: dict[int, dict[tuple[bytes, ...], OSpan]] = {}
    arrival = 0
    for request in requests:
        for resource_spans in request.resource_spans:
            for scope_spans in resource_spans.scope_spans:
                for message in scope_spans.spans:
                    parts = (message, resource_spans.resource, scope_spans.scope)
                    copy_key = tuple(part.SerializeToString(deterministic=True) for part in parts)
                    spans = by_trace.setdefault(int.from_bytes(message.trace_id), {})
                    if copy_key not in spans:
                        arrival += 1
                        spans[copy_key] = span_of(arrival, message, resource_spans.resource, scope_spans.scope)
    return [OTrace(spans.values()) for spans in by_trace.values()]


def span_of(
    arrival: int, message: otlp_pb2.Span, resource: otlp_pb2.Resource, scope: otlp_pb2.InstrumentationScope
) -> OSpan:
    return OSpan(
        arrival=arrival,
        trace_id=int.from_bytes(message.trace_id),
        id=int.from_bytes(message.span_id),
        parent_id=int.from_bytes(message.parent_span_id),
        name=message.name,
        kind=Kind(KINDS[message.kind]),
        status=Status(STATUSES[message.status.code]),
        status_message=message.status.message,
        start=message.start_time_unix_nano,
        end=message.end_time_unix_nano,
        attributes=attributes_of(message.attributes),
        resource=attributes_of(resource.attributes),
        scope_name=scope.name,
        scope_version=scope.version,
        scope_attributes=attributes_of(scope.attributes),
        events=[OEvent(e.name, e.time_unix_nano, attributes_of(e.attributes)) for e in message.events],
        links=[
            OLink(int.from_bytes(k.trace_id), int.from_bytes(k.span_id), attributes_of(k.attributes))
            for k in message.links
        ],
    )


def attributes_of(pairs: Iterable[otlp_pb2.KeyValue]) -> dict[str, Value]:
    """Rule 2."""
    attributes: dict[str, Value] = {}
    for pair in sorted(pairs, key=type_number):
        attributes.setdefault(pair.key, value_of(pair.value))
    return attributes


def type_number(pair: otlp_pb2.KeyValue) -> int:
    """OTLP's number of the type of its value; what is not set stands behind all others."""
    kind = pair.value.WhichOneof("value")
    return 99 if kind is None else pair.value.DESCRIPTOR.fields_by_name[kind].number


def value_of(message: otlp_pb2.AnyValue) -> Value:
    kind = message.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return tuple(value_of(v) for v in message.array_value.values)
    if kind == "kvlist_value":
        return KeyValues((p.key, value_of(p.value)) for p in message.kvlist_value.values)
    value: Value = getattr(message, kind)
    return value
