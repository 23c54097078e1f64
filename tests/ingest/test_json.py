"""OTLP/JSON: what is accepted, what is refused and in which words, and that it says the same as the protobuf."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from otlp_json_mapping import to_json

from vivace.errors import RequestError
from vivace.ingest.otlp_json import encode_request
from vivace.model.proto.otlp_pb2 import AnyValue, ExportTraceServiceRequest, KeyValue, Span

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "B7AD6B7169203331"


def request_with(span: Any) -> bytes:
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()


def span_of(span: dict[str, Any]) -> Span:
    request = ExportTraceServiceRequest.FromString(encode_request(request_with(span)))
    return request.resource_spans[0].scope_spans[0].spans[0]


def value_of(value: Any) -> AnyValue:
    return span_of({"attributes": [{"key": "k", "value": value}]}).attributes[0].value


def nested_arrays(depth: int) -> Any:
    value: Any = {"intValue": 1}
    for _ in range(depth):
        value = {"arrayValue": {"values": [value]}}
    return value


ACCEPTED: dict[str, tuple[dict[str, Any], Span]] = {
    "hex ids of any case": (
        {"traceId": TRACE_ID.upper(), "spanId": SPAN_ID, "parentSpanId": ""},
        Span(trace_id=bytes.fromhex(TRACE_ID), span_id=bytes.fromhex(SPAN_ID)),
    ),
    "empty ids": ({"traceId": "", "spanId": ""}, Span()),
    "64-bit numbers as strings": ({"startTimeUnixNano": "18446744073709551615"}, Span(start_time_unix_nano=2**64 - 1)),
    "64-bit numbers as numbers": (
        {"endTimeUnixNano": 1544712661000000001},
        Span(end_time_unix_nano=1544712661000000001),
    ),
    "whole floats": ({"flags": 257.0}, Span(flags=257)),
    "enums as numbers": ({"kind": 3, "status": {"code": 2}}, Span(kind=3, status={"code": 2})),
    "enums as names": (
        {"kind": "SPAN_KIND_CLIENT", "status": {"code": "STATUS_CODE_ERROR", "message": "m"}},
        Span(kind=3, status={"code": 2, "message": "m"}),
    ),
    "enums that nobody knows yet": ({"kind": 77}, Span(kind=77)),
    "snake case": (
        {"trace_state": "a=1", "dropped_links_count": 4, "start_time_unix_nano": 5},
        Span(trace_state="a=1", dropped_links_count=4, start_time_unix_nano=5),
    ),
    "unknown keys": ({"name": "n", "colour": {"deep": [1]}, "": 0}, Span(name="n")),
    "null is absent": ({"name": None, "attributes": None, "status": None}, Span()),
    "any text": ({"name": "žluťoučký \U0001f40e\u0000"}, Span(name="žluťoučký \U0001f40e\u0000")),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(name: str) -> None:
    given_json, expected = ACCEPTED[name]
    assert span_of(given_json) == expected


VALUES = [
    ({"stringValue": ""}, AnyValue(string_value="")),
    ({"boolValue": False}, AnyValue(bool_value=False)),
    ({"intValue": "-9223372036854775808"}, AnyValue(int_value=-(2**63))),
    ({"intValue": 0}, AnyValue(int_value=0)),
    ({"doubleValue": 1}, AnyValue(double_value=1.0)),
    ({"doubleValue": "-Infinity"}, AnyValue(double_value=-math.inf)),
    ({"doubleValue": "2.5e3"}, AnyValue(double_value=2500.0)),
    ({"bytesValue": "AP/+"}, AnyValue(bytes_value=b"\x00\xff\xfe")),
    ({"bytesValue": "AP_-_w"}, AnyValue(bytes_value=b"\x00\xff\xfe\xff")),
    ({"arrayValue": {"values": [{}, {"intValue": 1}]}}, AnyValue(array_value={"values": [{}, {"int_value": 1}]})),
    ({"arrayValue": {}}, AnyValue(array_value={})),
    (
        {"kvlistValue": {"values": [{"key": "k", "value": {"boolValue": True}}]}},
        AnyValue(kvlist_value={"values": [KeyValue(key="k", value=AnyValue(bool_value=True))]}),
    ),
    ({}, AnyValue()),
]


@pytest.mark.parametrize(("given_json", "expected"), VALUES, ids=str)
def test_attribute_values(given_json: Any, expected: AnyValue) -> None:
    assert value_of(given_json) == expected


def test_nan() -> None:
    assert math.isnan(value_of({"doubleValue": "NaN"}).double_value)


SPAN_PATH = "resourceSpans[0].scopeSpans[0].spans[0]"
REFUSED: list[tuple[Any, str]] = [
    (
        {"traceId": TRACE_ID[:-1]},
        f'{SPAN_PATH}.traceId is "{TRACE_ID[:-1]}", expected 32 hex digits or an empty string',
    ),
    ({"traceId": "CvdlGRbNQ92ESOshHIAxnA=="}, f"{SPAN_PATH}.traceId is"),
    ({"spanId": "g" * 16}, f'{SPAN_PATH}.spanId is "{"g" * 16}", expected 16 hex digits or an empty string'),
    ({"spanId": "00 00 00 00 0000"}, f"{SPAN_PATH}.spanId is"),
    ({"links": [{}, {"spanId": 5}]}, f"{SPAN_PATH}.links[1].spanId is 5, expected 16 hex digits"),
    ({"name": 5}, f"{SPAN_PATH}.name is 5, expected a string"),
    ({"kind": "CLIENT"}, f'{SPAN_PATH}.kind is "CLIENT", expected a number or one of SPAN_KIND_UNSPECIFIED, '),
    ({"kind": 2**31}, f"{SPAN_PATH}.kind is 2147483648, expected a whole number from -2147483648 to 2147483647"),
    ({"flags": -1}, f"{SPAN_PATH}.flags is -1, expected a whole number from 0 to 4294967295"),
    ({"flags": 1.5}, f"{SPAN_PATH}.flags is 1.5"),
    ({"flags": True}, f"{SPAN_PATH}.flags is true"),
    ({"startTimeUnixNano": "1_000"}, f'{SPAN_PATH}.startTimeUnixNano is "1_000"'),
    ({"startTimeUnixNano": "9" * 5000}, f'{SPAN_PATH}.startTimeUnixNano is "{"9" * 56}...'),
    ({"startTimeUnixNano": "٣"}, f'{SPAN_PATH}.startTimeUnixNano is "٣"'),
    ({"attributes": {}}, f"{SPAN_PATH}.attributes is an object, expected an array"),
    ({"attributes": [[]]}, f"{SPAN_PATH}.attributes[0] is an array, expected an object"),
    ({"attributes": [{"value": {"boolValue": "true"}}]}, '.attributes[0].value.boolValue is "true", expected true or'),
    ({"attributes": [{"value": {"doubleValue": "x"}}]}, '.value.doubleValue is "x", expected a number, NaN, Infinity'),
    ({"attributes": [{"value": {"bytesValue": "A"}}]}, '.value.bytesValue is "A", expected base64 text'),
    ({"attributes": [{"value": {"bytesValue": "é==="}}]}, '.value.bytesValue is "é===", expected base64 text'),
    ({"attributes": [{"value": nested_arrays(60)}]}, "expected at most 100 messages inside each other"),
]


@pytest.mark.parametrize(("span", "words"), REFUSED, ids=lambda case: str(case)[:60])
def test_refused_with_the_path(span: Any, words: str) -> None:
    with pytest.raises(RequestError) as refused:
        encode_request(request_with(span))
    assert words in str(refused.value)
    assert str(refused.value).startswith("resourceSpans[0]")
    assert refused.value.status == 400


NOT_JSON = [b"", b"{", b"\xff", b'{"a":NaN}', b'{"resourceSpans":"\\ud800"}', b"[" * 1100 + b"]" * 1100, b"{} {}"]


@pytest.mark.parametrize("body", NOT_JSON, ids=lambda body: str(body[:20]))
def test_not_json(body: bytes) -> None:
    with pytest.raises(RequestError, match="cannot read the body as JSON"):
        encode_request(body)


@pytest.mark.parametrize("body", [b"[]", b"5", b"null", b'"x"'])
def test_not_an_object(body: bytes) -> None:
    with pytest.raises(RequestError, match=r"^the body is .*, expected an object$"):
        encode_request(body)


@pytest.mark.parametrize(("in_event", "deepest"), [(False, 47), (True, 46)])
def test_the_deepest_that_passes_can_be_parsed(in_event: bool, deepest: int) -> None:
    def body(depth: int) -> bytes:
        attributes = [{"key": "k", "value": nested_arrays(depth)}]
        return request_with({"events": [{"attributes": attributes}]} if in_event else {"attributes": attributes})

    ExportTraceServiceRequest.FromString(encode_request(body(deepest)))
    with pytest.raises(RequestError, match="at most 100 messages inside each other"):
        encode_request(body(deepest + 1))


# Property: protobuf → JSON → our bytes → the same protobuf.

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
UINT32 = st.integers(0, 2**32 - 1)
UINT64 = st.integers(0, 2**64 - 1)
SCALARS = st.one_of(
    st.builds(AnyValue),
    st.builds(lambda v: AnyValue(string_value=v), TEXT),
    st.builds(lambda v: AnyValue(bool_value=v), st.booleans()),
    st.builds(lambda v: AnyValue(int_value=v), st.integers(-(2**63), 2**63 - 1)),
    st.builds(lambda v: AnyValue(double_value=v), st.floats(allow_nan=False)),
    st.builds(lambda v: AnyValue(bytes_value=v), st.binary(max_size=200)),
)
ANY_VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.builds(lambda vs: AnyValue(array_value={"values": vs}), st.lists(inner, max_size=3)),
        st.builds(
            lambda kvs: AnyValue(kvlist_value={"values": [KeyValue(key=k, value=v) for k, v in kvs]}),
            st.lists(st.tuples(TEXT, inner), max_size=3),
        ),
    ),
    max_leaves=6,
)
ATTRIBUTES = st.lists(st.builds(lambda k, v: KeyValue(key=k, value=v), TEXT, ANY_VALUES), max_size=3)
IDS = {size: st.one_of(st.just(b""), st.binary(min_size=size, max_size=size)) for size in (8, 16)}
EVENTS = st.builds(Span.Event, time_unix_nano=UINT64, name=TEXT, attributes=ATTRIBUTES, dropped_attributes_count=UINT32)
LINKS = st.builds(
    Span.Link,
    trace_id=IDS[16],
    span_id=IDS[8],
    trace_state=TEXT,
    attributes=ATTRIBUTES,
    dropped_attributes_count=UINT32,
    flags=UINT32,
)
SPANS = st.builds(
    Span,
    trace_id=IDS[16],
    span_id=IDS[8],
    trace_state=TEXT,
    parent_span_id=IDS[8],
    name=TEXT,
    kind=st.integers(0, 5),
    start_time_unix_nano=UINT64,
    end_time_unix_nano=UINT64,
    attributes=ATTRIBUTES,
    dropped_attributes_count=UINT32,
    events=st.lists(EVENTS, max_size=2),
    dropped_events_count=UINT32,
    links=st.lists(LINKS, max_size=2),
    dropped_links_count=UINT32,
    status=st.fixed_dictionaries({"message": TEXT, "code": st.integers(0, 2)}),
    flags=UINT32,
)
SCOPE_SPANS = st.fixed_dictionaries(
    {
        "scope": st.fixed_dictionaries(
            {"name": TEXT, "version": TEXT, "attributes": ATTRIBUTES, "dropped_attributes_count": UINT32}
        ),
        "spans": st.lists(SPANS, max_size=3),
        "schema_url": TEXT,
    }
)
REQUESTS = st.builds(
    ExportTraceServiceRequest,
    resource_spans=st.lists(
        st.fixed_dictionaries(
            {
                "resource": st.fixed_dictionaries({"attributes": ATTRIBUTES, "dropped_attributes_count": UINT32}),
                "scope_spans": st.lists(SCOPE_SPANS, max_size=2),
                "schema_url": TEXT,
            }
        ),
        max_size=2,
    ),
)


@settings(max_examples=60, deadline=None)
@given(request=REQUESTS, numbers=st.booleans(), snake_case=st.booleans())
def test_json_says_the_same_as_protobuf(request: ExportTraceServiceRequest, numbers: bool, snake_case: bool) -> None:
    body = to_json(request, use_integers_for_enums=numbers, preserving_proto_field_name=snake_case)
    assert ExportTraceServiceRequest.FromString(encode_request(body)) == request
