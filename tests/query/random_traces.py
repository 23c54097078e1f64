"""Random OTLP requests, made to be asked random queries (random_queries.py): few names, few values, many odd shapes.

Everything is drawn from one `random.Random`, so a seed is a case; `st.randoms(use_true_random=False)` makes hypothesis shrink it.

Odd shapes: missing parents, several roots, no root, rings of parents, a client and a server with one id, two other spans with one
id, exact copies, equal times, spans that end before they start, empty events, arrays of all kinds, one key with several types,
one key at span and resource, resources without service.name.

Left out, since no rule says what they mean: NaN and infinite floats, arrays inside arrays, three spans with one id.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from builders import set_value

from vivace.model.proto import otlp_pb2

SECOND = 1_000_000_000
MILLISECOND = 1_000_000
START = 1_763_812_800 * SECOND
"""Earliest start of a span, a whole minute: 2025-11-22 12:00 UTC."""

SPAN_MINUTES = 5
"""All spans start within so many minutes of START."""

NAMES = ("GET /", "POST /cart", "query", "", "naïve 漢")
SERVICES = ("web", "cart", "db")
MESSAGES = ("", "boom", "timeout")
SCOPES = (("lib.web", "1.0"), ("lib.db", "2.0"), ("", ""))
EVENT_NAMES = ("exception", "tick", "")

Simple = str | int | float | bool | bytes | list[object] | dict[str, object] | None
"""None: a value that is not set."""

STRINGS = ("a", "b", "abc", "", "7", "true")
INTS = (0, 1, 2, 3, 7, -3, 500)
FLOATS = (0.0, 0.5, 1.0, 2.5, 7.0, -3.0)
"""Sums of these are exact, in any order."""
ARRAYS: tuple[list[object], ...] = (["a", "b"], ["abc"], [1, 2, 3], [7], [0.5, 2.5], [True, False], [])
ODD: tuple[Simple, ...] = (b"\x00\xff", {"x": 1}, {})

POOLS: dict[str, tuple[Simple, ...]] = {
    "s": STRINGS,
    "i": INTS,
    "f": FLOATS,
    "b": (True, False),
    "tags": (*ARRAYS, "a"),
    "mixed": (*STRINGS, *INTS, *FLOATS, True, False, *ARRAYS, *ODD, None),
    "many": (*STRINGS, *INTS, *FLOATS, True, False),
    "http.status_code": (200, 404, 500),
    "with space": ("x y", 1, None),
}
"""Values by key, alike in all scopes, so that fields can equal each other."""

RESOURCE_KEYS = ("s", "i", "mixed", "region")
REGIONS = ("eu", "us")


def requests(random: Random, *, settled: bool = False) -> list[otlp_pb2.ExportTraceServiceRequest]:
    """1 to 5 traces of 1 to 12 spans, in the order in which they arrive: traces come in parts, in any order.

    settled     nothing hangs on the order of arrival, which blocks do not keep: spans with one id do not start together
    """
    made = []
    for number in range(random.randint(1, 5)):
        spans = trace(random, number)
        if settled:
            settle(spans)
        made += [(resource(random), scope(random), message) for message in spans]
    made += [made[random.randrange(len(made))] for _ in range(random.choice((0, 0, 0, 1, 2)))]  # exact copies
    random.shuffle(made)
    arrived, at = [], 0
    while at < len(made):
        size = random.randint(1, 8)
        arrived.append(request(made[at : at + size]))
        at += size
    return arrived


def request(
    spans: Iterable[tuple[otlp_pb2.Resource, otlp_pb2.InstrumentationScope, otlp_pb2.Span]],
) -> otlp_pb2.ExportTraceServiceRequest:
    message = otlp_pb2.ExportTraceServiceRequest()
    for its_resource, its_scope, span in spans:
        resource_spans = message.resource_spans.add(resource=its_resource)
        resource_spans.scope_spans.add(scope=its_scope, spans=[span])
    return message


def resource(random: Random) -> otlp_pb2.Resource:
    message = otlp_pb2.Resource()
    if random.random() < 0.9:
        set_value(message.attributes.add(key="service.name").value, random.choice(SERVICES))
    for key in pick(random, RESOURCE_KEYS):
        set_value(message.attributes.add(key=key).value, random.choice(POOLS.get(key, REGIONS)))
    return message


def scope(random: Random) -> otlp_pb2.InstrumentationScope:
    name, version = random.choice(SCOPES)
    message = otlp_pb2.InstrumentationScope(name=name, version=version)
    add_attributes(random, message.attributes, 0.2)
    return message


def trace(random: Random, number: int) -> list[otlp_pb2.Span]:
    """The spans of a trace; parents mostly come from the spans before."""
    trace_id = (random.choice((0, 1 << 127, 0xAB << 60)) + number + 1).to_bytes(16)
    ids = [(random.choice((0, 1 << 63)) + number * 100 + place + 1).to_bytes(8) for place in range(12)]
    spans: list[otlp_pb2.Span] = []
    start = START + random.randrange(SPAN_MINUTES * 60) * SECOND
    for place in range(random.randint(1, 12)):
        span = otlp_pb2.Span(trace_id=trace_id, span_id=ids[place], parent_span_id=parent(random, ids, place))
        span.name = random.choice(NAMES)
        span.kind = otlp_pb2.Span.SpanKind.Name(random.randrange(6))  # type: ignore[assignment]
        span.status.code = otlp_pb2.Status.StatusCode.Name(random.randrange(3))  # type: ignore[assignment]
        span.status.message = random.choice(MESSAGES)
        span.start_time_unix_nano = start + random.choice((0, 0, 1, 5, 20)) * MILLISECOND
        span.end_time_unix_nano = span.start_time_unix_nano + random.choice((0, 1, 5, 100, 2000, -1)) * MILLISECOND
        add_attributes(random, span.attributes, 0.5)
        add_events(random, span)
        add_links(random, span, trace_id, ids)
        spans.append(span)
    if random.random() < 0.2 and len(spans) > 1:
        share_id(random, *random.sample(spans, 2))
    return spans


def settle(spans: list[otlp_pb2.Span]) -> None:
    for place, span in enumerate(spans):
        if any(span.span_id == before.span_id for before in spans[:place]):
            span.start_time_unix_nano += 1


def parent(random: Random, ids: list[bytes], place: int) -> bytes:
    roll = random.random()
    if place == 0:
        return b"" if roll < 0.8 else missing_id(random)
    if roll < 0.75:
        return random.choice(ids[:place])
    if roll < 0.85:
        return b""
    if roll < 0.93:
        return missing_id(random)
    return random.choice(ids)  # itself, or one to come: rings


def missing_id(random: Random) -> bytes:
    return random.choice((b"\xee" * 8, b"\xdd" * 8))


def share_id(random: Random, a: otlp_pb2.Span, b: otlp_pb2.Span) -> None:
    """Two spans with one id: mostly as Zipkin makes them, a client and a server, also with one parent."""
    b.span_id = a.span_id
    if random.random() < 0.8:
        a.kind, b.kind = otlp_pb2.Span.SPAN_KIND_CLIENT, otlp_pb2.Span.SPAN_KIND_SERVER
    if random.random() < 0.7:
        b.parent_span_id = a.parent_span_id


def add_attributes(random: Random, to: object, probability: float) -> None:
    for key in pick(random, tuple(POOLS), probability):
        set_value(to.add(key=key).value, random.choice(POOLS[key]))  # type: ignore[attr-defined]
        if random.random() < 0.03:  # a key twice
            set_value(to.add(key=key).value, random.choice(POOLS[key]))  # type: ignore[attr-defined]


def add_events(random: Random, span: otlp_pb2.Span) -> None:
    for _ in range(random.choice((0, 0, 0, 1, 2, 3))):
        time = span.start_time_unix_nano + random.choice((0, 1, 5, 100)) * MILLISECOND
        event = span.events.add(name=random.choice(EVENT_NAMES), time_unix_nano=time)
        add_attributes(random, event.attributes, 0.4)


def add_links(random: Random, span: otlp_pb2.Span, trace_id: bytes, ids: list[bytes]) -> None:
    for _ in range(random.choice((0, 0, 0, 0, 1, 2))):
        link = span.links.add(trace_id=trace_id, span_id=random.choice(ids))
        add_attributes(random, link.attributes, 0.4)


def pick(random: Random, keys: tuple[str, ...], probability: float = 0.4) -> list[str]:
    return [key for key in keys if random.random() < probability]
