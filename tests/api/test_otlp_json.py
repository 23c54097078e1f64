"""The JSON of traces: exact forms as a table, native = plain, and both = the protobuf library's JSON in meaning."""

from __future__ import annotations

import json
import math
import random
import struct
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status, TracesData

from vivace.api import otlp_json, otlp_schema
from vivace.api.otlp_json import double_text, trace_json_plain
from vivace.errors import InvariantError

native = pytest.importorskip("vivace.api._otlp_json").trace_json_native
BODIES = pytest.mark.parametrize("to_json", [trace_json_plain, native], ids=["plain", "native"])
ToJson = Callable[[bytes, str], bytes]


def test_replies_use_the_native_body_where_it_is_built() -> None:
    assert otlp_json.trace_json is native


def with_value(value: AnyValue) -> bytes:
    resource = Resource(attributes=[KeyValue(key="k", value=value)])
    return TracesData(resource_spans=[ResourceSpans(resource=resource)]).SerializeToString()


def any_of(*values: AnyValue) -> AnyValue:
    return AnyValue(array_value=ArrayValue(values=values))


VALUES = [
    (AnyValue(), "{}"),
    (AnyValue(string_value=""), '{"stringValue":""}'),
    (AnyValue(string_value='<a&b> "q" \\ \b\f\n\r\t\x01\x7f é☕🚀\u2028\u2029\u202a'),
     '{"stringValue":"\\u003ca\\u0026b\\u003e \\"q\\" \\\\ \\b\\f\\n\\r\\t\\u0001\x7f é☕🚀\\u2028\\u2029\u202a"}'),
    (AnyValue(bool_value=False), '{"boolValue":false}'),
    (AnyValue(bool_value=True), '{"boolValue":true}'),
    (AnyValue(int_value=0), '{"intValue":"0"}'),
    (AnyValue(int_value=-(2**63)), '{"intValue":"-9223372036854775808"}'),
    (AnyValue(int_value=2**63 - 1), '{"intValue":"9223372036854775807"}'),
    (AnyValue(double_value=0), '{"doubleValue":0}'),
    (AnyValue(double_value=7), '{"doubleValue":7}'),
    (AnyValue(double_value=math.nan), '{"doubleValue":"NaN"}'),
    (AnyValue(double_value=-math.inf), '{"doubleValue":"-Infinity"}'),
    (AnyValue(bytes_value=b""), '{"bytesValue":""}'),
    (AnyValue(bytes_value=b"\x00"), '{"bytesValue":"AA=="}'),
    (AnyValue(bytes_value=b"\x00\xff"), '{"bytesValue":"AP8="}'),
    (AnyValue(bytes_value=b"\xfb\xef\xff"), '{"bytesValue":"++//"}'),
    (AnyValue(array_value=ArrayValue()), '{"arrayValue":{}}'),
    (AnyValue(kvlist_value=KeyValueList()), '{"kvlistValue":{}}'),
    (any_of(AnyValue(int_value=1), AnyValue()), '{"arrayValue":{"values":[{"intValue":"1"},{}]}}'),
    (AnyValue(kvlist_value=KeyValueList(values=[KeyValue(key="x")])), '{"kvlistValue":{"values":[{"key":"x"}]}}'),
]  # fmt: skip


@BODIES
@pytest.mark.parametrize(("value", "text"), VALUES, ids=[text[:30] for _, text in VALUES])
def test_value(to_json: ToJson, value: AnyValue, text: str) -> None:
    want = f'{{"batches":[{{"resource":{{"attributes":[{{"key":"k","value":{text}}}]}}}}]}}'
    assert to_json(with_value(value), "batches").decode() == want


@BODIES
def test_every_field_of_a_span_in_field_number_order(to_json: ToJson) -> None:
    span = Span(
        trace_id=bytes(range(16)), span_id=b"12345678", trace_state="a=b", parent_span_id=b"87654321", name="n",
        kind=Span.SPAN_KIND_SERVER, start_time_unix_nano=1, end_time_unix_nano=2**64 - 1,
        attributes=[KeyValue(key="k")], dropped_attributes_count=2**32 - 1,
        events=[Span.Event(time_unix_nano=3, name="e", attributes=[KeyValue()], dropped_attributes_count=1)],
        dropped_events_count=4,
        links=[Span.Link(trace_id=b"t", span_id=b"s", trace_state="x", attributes=[KeyValue()], dropped_attributes_count=5, flags=6)],
        dropped_links_count=7, status=Status(message="m", code=Status.STATUS_CODE_ERROR), flags=257,
    )  # fmt: skip
    scope = InstrumentationScope(name="lib", version="1", attributes=[KeyValue()], dropped_attributes_count=8)
    scope_spans = ScopeSpans(scope=scope, spans=[span, Span(status=Status())], schema_url="s")
    data = TracesData(resource_spans=[ResourceSpans(resource=Resource(), scope_spans=[scope_spans], schema_url="r")])
    assert to_json(data.SerializeToString(), "resourceSpans").decode() == (
        '{"resourceSpans":[{"resource":{},"scopeSpans":[{"scope":{"name":"lib","version":"1","attributes":[{}],'
        '"droppedAttributesCount":8},"spans":[{"traceId":"AAECAwQFBgcICQoLDA0ODw==","spanId":"MTIzNDU2Nzg=","traceState":"a=b",'
        '"parentSpanId":"ODc2NTQzMjE=","name":"n","kind":"SPAN_KIND_SERVER","startTimeUnixNano":"1",'
        '"endTimeUnixNano":"18446744073709551615","attributes":[{"key":"k"}],"droppedAttributesCount":4294967295,'
        '"events":[{"timeUnixNano":"3","name":"e","attributes":[{}],"droppedAttributesCount":1}],"droppedEventsCount":4,'
        '"links":[{"traceId":"dA==","spanId":"cw==","traceState":"x","attributes":[{}],"droppedAttributesCount":5,"flags":6}],'
        '"droppedLinksCount":7,"status":{"message":"m","code":"STATUS_CODE_ERROR"},"flags":257},{"status":{}}],'
        '"schemaUrl":"s"}],"schemaUrl":"r"}]}'
    )


def message(number: int, body: bytes) -> bytes:
    assert len(body) < 128
    return bytes([number << 3 | 2, len(body)]) + body


def span_bytes(body: bytes) -> bytes:
    return message(1, message(2, message(2, body)))


def span_text(text: str) -> str:
    return f'{{"batches":[{{"scopeSpans":[{{"spans":[{text}]}}]}}]}}'


ODD_WIRE = {
    "no spans": (b"", "{}"),
    "unknown enum numbers": (span_bytes(b"\x30\x09"), span_text('{"kind":9}')),
    "negative enum number": (span_bytes(b"\x30" + b"\xff" * 9 + b"\x01"), span_text('{"kind":-1}')),
    "enum of more than 32 bits": (span_bytes(b"\x30\x82\x80\x80\x80\x10"), span_text('{"kind":"SPAN_KIND_SERVER"}')),
    "uint32 whose low 32 bits are 0": (span_bytes(b"\x50\x80\x80\x80\x80\x10"), span_text("{}")),
    "unknown field": (span_bytes(b"\xfa\x06\x01x" + b"\x30\x02"), span_text('{"kind":"SPAN_KIND_SERVER"}')),
    "known number, other wire type": (span_bytes(b"\x28\x01" + b"\x30\x02"), span_text('{"kind":"SPAN_KIND_SERVER"}')),
    "fields in any order": (span_bytes(b"\x30\x02" + message(5, b"n")), span_text('{"name":"n","kind":"SPAN_KIND_SERVER"}')),
    "last scalar wins": (span_bytes(message(5, b"a") + message(5, b"b")), span_text('{"name":"b"}')),
    "repeated field in pieces": (
        span_bytes(message(11, b"\x12\x01a") + b"\x30\x02" + message(11, b"\x12\x01b")),
        span_text('{"kind":"SPAN_KIND_SERVER","events":[{"name":"a"},{"name":"b"}]}'),
    ),
    "last of a oneof wins": (
        message(1, message(1, message(1, message(2, message(1, b"s") + b"\x10\x01")))),
        '{"batches":[{"resource":{"attributes":[{"value":{"boolValue":true}}]}}]}',
    ),
    "bytes that are not UTF-8": (
        span_bytes(message(5, b"a\xff\xe2\x82b\xed\xa0\x80\xc0\x80\xf4\x90\x80\x80\xf0\x9f\x9a")),
        span_text('{"name":"a\\ufffd\\ufffd\\ufffdb' + "\\ufffd" * 12 + '"}'),
    ),
}  # fmt: skip


@BODIES
@pytest.mark.parametrize("case", ODD_WIRE)
def test_odd_wire(to_json: ToJson, case: str) -> None:
    body, text = ODD_WIRE[case]
    assert to_json(body, "batches").decode() == text


MALFORMED = {
    "field number 0": b"\x02\x00",
    "group": span_bytes(b"\x0b\x0c"),
    "wire type 7": span_bytes(b"\x0f"),
    "varint of 11 bytes": span_bytes(b"\x30" + b"\x80" * 10 + b"\x01"),
    "key of more than 32 bits": span_bytes(b"\x80\x80\x80\x80\x80\x01\x00"),
    "length past the end": b"\x0a\x05abc",
    "length of 2**64 - 1": b"\x0a" + b"\xff" * 9 + b"\x01",
    "short fixed64": span_bytes(b"\x39" + b"\x00" * 7),
    "short fixed32": span_bytes(b"\x85\x01" + b"\x00" * 3),
    "two resources": message(1, message(1, b"") + message(1, b"")),
    "the same message twice in a oneof": message(1, message(1, message(1, message(2, message(5, b"") * 2)))),
}


@BODIES
@pytest.mark.parametrize("case", MALFORMED)
def test_malformed(to_json: ToJson, case: str) -> None:
    with pytest.raises(InvariantError, match="not OTLP"):
        to_json(MALFORMED[case], "batches")


def nested(arrays: int) -> bytes:
    value = AnyValue()
    for _ in range(arrays):
        value = any_of(value)
    return with_value(value)


@BODIES
def test_depth_is_bounded(to_json: ToJson) -> None:
    # TracesData, ResourceSpans, Resource, KeyValue, AnyValue: five; each array adds an ArrayValue and an AnyValue
    fits = (otlp_schema.DEPTH_MAX - 5) // 2
    assert to_json(nested(fits), "batches").count(b"arrayValue") == fits
    with pytest.raises(InvariantError, match="deeper than 100"):
        to_json(nested(fits + 1), "batches")


# ---- doubles ----

DOUBLES = [
    (0.0, "0"), (-0.0, "-0"), (7.0, "7"), (-7.0, "-7"), (0.1, "0.1"), (1.5, "1.5"), (100.0, "100"), (1e-6, "0.000001"),
    (9.999999e-7, "9.999999e-7"), (1e-7, "1e-7"), (1e20, "100000000000000000000"), (1e21, "1e+21"), (1.5e300, "1.5e+300"),
    (123456789012345680.0, "123456789012345680"), (5e-324, "5e-324"), (2.2250738585072014e-308, "2.2250738585072014e-308"),
    (1.7976931348623157e308, "1.7976931348623157e+308"), (2.0**-44, "5.684341886080802e-14"), (1e15, "1000000000000000"),
    (1e15 + 0.5, "1000000000000000.5"), (math.inf, '"Infinity"'), (-math.inf, '"-Infinity"'), (math.nan, '"NaN"'),
]  # fmt: skip


@pytest.mark.parametrize(("value", "text"), DOUBLES)
def test_double(value: float, text: str) -> None:
    assert double_text(value) == text


def test_native_doubles_are_the_plain_ones() -> None:
    seed = random.Random(7)
    doubles = [value for value, _ in DOUBLES]
    doubles += [math.ldexp(1, e) for e in range(-1074, 1024)]
    doubles += [-math.ldexp(1, e) * 1.1 for e in range(-1074, 1023)]
    doubles += [struct.unpack("<d", seed.randbytes(8))[0] for _ in range(3000)]
    doubles += [seed.uniform(0, 1000) for _ in range(3000)] + [round(seed.uniform(0, 1000), 3) for _ in range(3000)]
    body = with_value(any_of(*(AnyValue(double_value=value) for value in doubles)))
    assert native(body, "batches") == trace_json_plain(body, "batches")


# ---- properties ----

texts = st.text(max_size=8)
uint32s = st.integers(0, 2**32 - 1)
uint64s = st.integers(0, 2**64 - 1)
leaves = st.one_of(
    st.builds(AnyValue),
    st.builds(AnyValue, string_value=texts),
    st.builds(AnyValue, bool_value=st.booleans()),
    st.builds(AnyValue, int_value=st.integers(-(2**63), 2**63 - 1)),
    st.builds(AnyValue, double_value=st.floats()),
    st.builds(AnyValue, bytes_value=st.binary(max_size=9)),
)


def containers(values: st.SearchStrategy[AnyValue]) -> st.SearchStrategy[AnyValue]:
    pairs = st.builds(KeyValue, key=texts, value=values)
    arrays = st.builds(ArrayValue, values=st.lists(values, max_size=3))
    return st.one_of(
        st.builds(AnyValue, array_value=arrays),
        st.builds(AnyValue, kvlist_value=st.builds(KeyValueList, values=st.lists(pairs, max_size=3))),
    )


attributes = st.lists(
    st.builds(KeyValue, key=texts, value=st.none() | st.recursive(leaves, containers, max_leaves=4)), max_size=3
)
ids = st.binary(max_size=16)
events = st.builds(
    Span.Event, time_unix_nano=uint64s, name=texts, attributes=attributes, dropped_attributes_count=uint32s
)
links = st.builds(
    Span.Link, trace_id=ids, span_id=ids, trace_state=texts, attributes=attributes, dropped_attributes_count=uint32s,
    flags=uint32s,
)  # fmt: skip
spans = st.builds(
    Span, trace_id=ids, span_id=ids, trace_state=texts, parent_span_id=ids, name=texts, kind=st.integers(0, 5),
    start_time_unix_nano=uint64s, end_time_unix_nano=uint64s, attributes=attributes, dropped_attributes_count=uint32s,
    events=st.lists(events, max_size=2), dropped_events_count=uint32s, links=st.lists(links, max_size=2),
    dropped_links_count=uint32s, status=st.none() | st.builds(Status, message=texts, code=st.integers(0, 2)), flags=uint32s,
)  # fmt: skip
scopes = st.builds(
    InstrumentationScope, name=texts, version=texts, attributes=attributes, dropped_attributes_count=uint32s
)
resources = st.builds(Resource, attributes=attributes, dropped_attributes_count=uint32s)
scope_spans_lists = st.lists(
    st.builds(ScopeSpans, scope=st.none() | scopes, spans=st.lists(spans, max_size=2), schema_url=texts), max_size=2
)
traces = st.builds(
    TracesData,
    resource_spans=st.lists(
        st.builds(ResourceSpans, resource=st.none() | resources, scope_spans=scope_spans_lists, schema_url=texts),
        max_size=2,
    ),
)
PROPERTY = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@PROPERTY
@given(traces)
def test_both_bodies_mean_what_the_protobuf_library_means(data: TracesData) -> None:
    body = data.SerializeToString()
    text = native(body, "resourceSpans")
    assert text == trace_json_plain(body, "resourceSpans")
    assert same(json.loads(text), json_format.MessageToDict(data))


def same(a: Any, b: Any) -> bool:
    """Equality in which the integer that a reader makes of 7 equals the double 7.0."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return float(a) == b if isinstance(b, float) else bool(a == b)


def outcome(to_json: ToJson, body: bytes) -> bytes | str:
    try:
        return to_json(body, "batches")
    except InvariantError as error:
        return str(error)[:30]


@PROPERTY
@given(traces, st.randoms(use_true_random=False))
def test_damaged_bytes_are_answered_alike(data: TracesData, chance: random.Random) -> None:
    body = data.SerializeToString()
    damaged = bytearray(body)
    for _ in range(min(3, len(body))):
        damaged[chance.randrange(len(body))] = chance.randrange(256)
    for piece in (body[: chance.randrange(len(body) + 1)], bytes(damaged), body + b"\x0a"):
        assert outcome(native, piece) == outcome(trace_json_plain, piece)


@BODIES
def test_every_cut_of_a_trace_is_refused_or_a_shorter_trace(to_json: ToJson) -> None:
    span = Span(name="n", start_time_unix_nano=1, attributes=[KeyValue(key="k", value=AnyValue(int_value=300))])
    body = TracesData(
        resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=[span] * 3)])] * 2
    ).SerializeToString()
    readable = [size for size in range(len(body) + 1) if isinstance(outcome(to_json, body[:size]), bytes)]
    assert readable == [0, len(body) // 2, len(body)]
