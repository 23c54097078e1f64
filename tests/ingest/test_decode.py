"""What the decoders make of requests written by hand. Each case runs on both: the native one and the one on protobuf."""

from __future__ import annotations

import itertools
import struct
from typing import Any

import pytest
from otlp_cases import (
    DECODERS,
    IDS,
    SPAN_ID,
    TRACE_ID,
    attribute,
    decode,
    f32,
    f64,
    flat,
    group,
    msg,
    num,
    request,
    span,
)
from otlp_cases import tag as wire_tag

from vivace.errors import DecodeError
from vivace.ingest.outcome import Outcome, Rejection
from vivace.model.dictionary import Dictionary

pytestmark = pytest.mark.parametrize("which", DECODERS)

INT_MIN, INT_MAX = -(2**63), 2**63 - 1
NAN = 0x7FF8_0000_DEAD_BEEF


def bits(value: float) -> int:
    return struct.unpack("<Q", struct.pack("<d", value))[0]


STRING_IN_ARRAY = msg(1, msg(1, b"a"))
VALUES: list[tuple[str, bytes, str, Any]] = [
    ("nothing set", b"", "EMPTY", 0),
    ("string", msg(1, b"text"), "STRING", b"text"),
    ("empty string", msg(1), "STRING", b""),
    ("true", num(2, 1), "BOOL", 1),
    ("false", num(2, 0), "BOOL", 0),
    ("any other number is true", num(2, 2**40), "BOOL", 1),
    ("int", num(3, 42), "INT", 42),
    ("zero", num(3, 0), "INT", 0),
    ("largest int", num(3, INT_MAX), "INT", INT_MAX),
    ("smallest int", num(3, INT_MIN), "INT", 2**63),
    ("minus one", num(3, -1), "INT", 2**64 - 1),
    ("double", f64(4, bits(2.5)), "DOUBLE", bits(2.5)),
    ("minus zero", f64(4, bits(-0.0)), "DOUBLE", 1 << 63),
    ("infinity", f64(4, bits(float("inf"))), "DOUBLE", bits(float("inf"))),
    ("minus infinity", f64(4, bits(float("-inf"))), "DOUBLE", bits(float("-inf"))),
    ("a NaN with a payload", f64(4, NAN), "DOUBLE", NAN),
    ("array", msg(5, STRING_IN_ARRAY), "ARRAY", STRING_IN_ARRAY),
    ("empty array", msg(5), "ARRAY", b""),
    ("key/value list", msg(6, attribute(num(3, 1), field=1)), "KVLIST", attribute(num(3, 1), field=1)),
    ("empty key/value list", msg(6), "KVLIST", b""),
    ("bytes", msg(7, b"\xff\x00"), "BYTES", b"\xff\x00"),
    ("empty bytes", msg(7), "BYTES", b""),
    ("the last of several", num(3, 1) + msg(1, b"x"), "STRING", b"x"),
    ("an array between", msg(5, STRING_IN_ARRAY) + num(2, 1), "BOOL", 1),
]


@pytest.mark.parametrize(("name", "value", "kind", "expected"), VALUES, ids=[v[0] for v in VALUES])
def test_value(which: str, name: str, value: bytes, kind: str, expected: Any) -> None:
    pair = [(b"k", kind, expected)]
    event, link = msg(11, attribute(value, field=3)), msg(13, attribute(value, field=4))
    resource, scope = msg(1, attribute(value, field=1)), msg(1, attribute(value, field=3))
    (row,) = flat(decode(which, request(span(attribute(value), event, link), resource=resource, scope=scope))[0])
    assert row["attributes"] == pair
    assert row["events"][0]["attributes"] == pair
    assert row["links"][0]["attributes"] == pair
    assert row["resource"][-1] == pair
    assert row["scope"][-1] == pair


def test_every_field_of_a_span(which: str) -> None:
    fields = [
        msg(3, b"state"),
        msg(4, b"87654321"),
        msg(5, b"name"),
        num(6, 2),
        f64(7, 1),
        f64(8, 2**64 - 1),
        num(10, 2**32 - 1),
        msg(11, f64(1, 9), msg(2, b"event"), num(4, 2**32 - 1)),
        num(12, 2**32 - 1),
        msg(13, IDS, msg(3, b"link state"), num(5, 2**32 - 1), f32(6, 2**32 - 1)),
        num(14, 2**32 - 1),
        msg(15, msg(2, b"message"), num(3, 2)),
        f32(16, 2**32 - 1),
    ]
    resource = msg(1, num(2, 2**32 - 1)) + msg(3, b"resource url")
    scope = msg(1, msg(1, b"scope"), msg(2, b"1.0"), num(4, 2**32 - 1)) + msg(3, b"scope url")
    body = request(span(*fields), resource=resource, scope=scope)
    batch, (outcome,) = decode(which, body)
    assert outcome == Outcome(0, 1, 0, (), 0, None)
    assert flat(batch, sizes=True) == [
        {
            "trace_id_high": int.from_bytes(TRACE_ID[:8]),
            "trace_id_low": int.from_bytes(TRACE_ID[8:]),
            "span_id": int.from_bytes(SPAN_ID),
            "parent_span_id": int.from_bytes(b"87654321"),
            "start_time_unix_nano": 1,
            "end_time_unix_nano": 2**64 - 1,
            "name": b"name",
            "kind": 2,
            "status_code": 2,
            "status_message": b"message",
            "trace_state": b"state",
            "flags": 2**32 - 1,
            "dropped_attributes_count": 2**32 - 1,
            "dropped_events_count": 2**32 - 1,
            "dropped_links_count": 2**32 - 1,
            "resource": (b"resource url", 2**32 - 1, []),
            "scope": (b"scope", b"1.0", b"scope url", 2**32 - 1, []),
            "size": len(IDS + b"".join(fields)),
            "attributes": [],
            "events": [
                {"time_unix_nano": 9, "name": b"event", "dropped_attributes_count": 2**32 - 1, "attributes": []}
            ],
            "links": [
                {
                    "trace_id": TRACE_ID,
                    "span_id": SPAN_ID,
                    "trace_state": b"link state",
                    "flags": 2**32 - 1,
                    "dropped_attributes_count": 2**32 - 1,
                    "attributes": [],
                }
            ],
        }
    ]


EMPTY_MESSAGES = [b"", msg(1), msg(1, msg(1)), msg(1, msg(2)), msg(1, msg(2, msg(1))), msg(1, msg(3))]


@pytest.mark.parametrize("body", EMPTY_MESSAGES, ids=bytes.hex)
def test_messages_without_spans(which: str, body: bytes) -> None:
    batch, outcomes = decode(which, body)
    assert len(batch) == 0
    assert outcomes == [Outcome(0, 0, 0, (), 0, None)]


def test_empty_resource_scope_and_their_absence_are_row_zero(which: str) -> None:
    batch, _ = decode(which, request(span()), request(span(), resource=msg(1), scope=msg(1)))
    assert batch.resource.tolist() == batch.scope.tolist() == [0, 0]


def test_empty_children(which: str) -> None:
    (row,) = flat(decode(which, request(span(msg(9), msg(11), msg(13), msg(15))))[0])
    assert row["attributes"] == [(b"", "EMPTY", 0)]
    assert len(row["events"]) == len(row["links"]) == 1
    assert row["links"][0]["trace_id"] == b""


def test_order_of_fields_does_not_matter(which: str) -> None:
    resource, scope = msg(1, attribute(num(3, 1), field=1)), msg(1, msg(1, b"scope"))
    urls = msg(3, b"r"), msg(3, b"s")
    there, spans = msg(5, b"a") + IDS, IDS + msg(5, b"a")
    first = msg(1, resource, urls[0], msg(2, scope, urls[1], msg(2, there)))
    last = msg(1, msg(2, msg(2, spans), urls[1], scope), urls[0], resource)
    a, b = flat(decode(which, first, last)[0])
    assert a == b


def test_keys_may_come_twice_and_stay_in_order(which: str) -> None:
    pairs = [attribute(num(3, i), key) for i, key in enumerate((b"b", b"a", b"b"))]
    (row,) = flat(decode(which, request(span(*pairs)))[0])
    assert row["attributes"] == [(b"b", "INT", 0), (b"a", "INT", 1), (b"b", "INT", 2)]


UNKNOWN = [
    num(100, 2**64 - 1),
    f64(100, 1),
    f32(100, 1),
    msg(100, b"\xff\xff"),
    group(100),
    group(100, num(1, 1), msg(2, b"x"), f32(3, 1), f64(4, 1), group(5, group(5))),
    num(2**29 - 1, 0),
]


@pytest.mark.parametrize("extra", UNKNOWN, ids=bytes.hex)
def test_unknown_fields_are_passed_over(which: str, extra: bytes) -> None:
    def body(x: bytes) -> bytes:
        pair = x + msg(1, b"k") + x + msg(2, x, num(3, 7), x) + x
        fields = [msg(9, pair), msg(11, x, msg(2, b"e"), msg(3, pair), x), msg(13, x, IDS, msg(4, pair), x)]
        one = span(x, *fields, msg(15, x, num(3, 2), x), x)
        resource, scope = msg(1, x, msg(1, pair), x), msg(1, x, msg(1, b"s"), msg(3, pair), x)
        return x + msg(1, x, resource, x, msg(2, x, scope, x, one, x), x) + x

    got, (outcome,) = decode(which, body(extra))
    expected, _ = decode(which, body(b""))
    assert outcome == Outcome(0, 1, 0, (), 0, None)
    assert flat(got) == flat(expected)


@pytest.mark.parametrize("extra", UNKNOWN, ids=bytes.hex)
def test_unknown_fields_inside_arrays_and_lists_are_kept_with_them(which: str, extra: bytes) -> None:
    array = msg(1, num(3, 7), extra) + extra
    pairs = msg(1, msg(1, b"k"), msg(2, num(3, 7), extra), extra) + extra
    batch, _ = decode(which, request(span(attribute(msg(5, array)), attribute(msg(6, pairs)))))
    assert [v for _, _, v in flat(batch)[0]["attributes"]] == [array, pairs]


NUMBERS = {6, 10, 12, 14}
FIXED = {7, 8}


@pytest.mark.parametrize("field", range(1, 17))
def test_a_field_of_the_wrong_wire_type_is_unknown(which: str, field: int) -> None:
    right = 0 if field in NUMBERS else 1 if field in FIXED else 5 if field == 16 else 2
    wrong = {0: num(field, 1), 1: f64(field, 1), 2: msg(field, b"\x01"), 3: group(field), 5: f32(field, 1)}
    del wrong[right]
    plain = flat(decode(which, request(span()))[0])
    for data in wrong.values():
        batch, (outcome,) = decode(which, request(span(data)))
        assert outcome.error is None
        assert flat(batch) == plain


WRONG_ELSEWHERE = [
    ("request", num(1, 1) + request(span())),
    ("resource", request(span(), resource=num(1, 1) + f32(3, 1))),
    ("scope", request(span(), scope=f64(1, 1) + num(3, 1))),
    ("status", request(span(msg(15, num(2, 1), msg(3, b"x"))))),
]


@pytest.mark.parametrize(("name", "body"), WRONG_ELSEWHERE, ids=[c[0] for c in WRONG_ELSEWHERE])
def test_wrong_wire_types_around_a_span(which: str, name: str, body: bytes) -> None:
    assert flat(decode(which, body)[0]) == flat(decode(which, request(span()))[0])


FULL = request(
    span(msg(5, b"n"), attribute(msg(5, msg(1, num(3, 300)))), msg(11, msg(2, b"e")), msg(15, msg(2, b"m"))),
    resource=msg(1, attribute(msg(1, b"v"), field=1)),
    scope=msg(1, msg(1, b"s")),
)


def test_every_prefix_is_an_error_but_the_empty_one(which: str) -> None:
    for size in range(len(FULL)):
        batch, (outcome,) = decode(which, FULL[:size])
        assert len(batch) == outcome.rows == 0
        assert (outcome.error is None) == (size == 0), size
        if outcome.error:
            assert type(outcome.error) is DecodeError
            assert 0 <= outcome.error.offset <= size


@pytest.mark.parametrize("cut", range(5))
def test_every_prefix_between_two_spans(which: str, cut: int) -> None:
    """Spans lie in one request at top level, so a cut between two ResourceSpans is a valid, shorter request."""
    parts = [request(span(msg(5, bytes([97 + i])))) for i in range(4)]
    batch, _ = decode(which, b"".join(parts[:cut]))
    assert [r["name"] for r in flat(batch)] == [bytes([97 + i]) for i in range(cut)]


TRAILING = [
    (b"\x00", "field number 0"),
    (b"\x0f", "wire type 7"),
    (b"\x0e", "wire type 6"),
    (b"\x0c", "the end of a group that never began"),
    (b"\x0b", "a group that never ends"),
    (b"\x0b\x14", "a group that ends as another"),
    (b"\x80", "half a tag"),
    (b"\x0a\x05", "a length past the end"),
    (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "a length of 2^64 - 1"),
    (b"\x0a\x80\x80\x80\x80\x80\x00", "a length of six bytes"),
    (b"\x8a\x80\x80\x80\x80\x00\x00", "a tag of six bytes"),
    (b"\x10" + b"\x80" * 10 + b"\x01", "a number of eleven bytes"),
    (b"\xff\xff\xff\xff\x1f", "a field number of more than 29 bits"),
    (b"\x09\0\0\0", "half a fixed64"),
    (b"\x0d\0\0", "half a fixed32"),
]


@pytest.mark.parametrize(("extra", "why"), TRAILING, ids=[t[1] for t in TRAILING])
def test_bytes_that_are_no_message(which: str, extra: bytes, why: str) -> None:
    """At the end of every message that a request is made of: the whole request fails, whatever came before."""
    bodies = [
        FULL + extra,
        request(span(extra)),
        request(span(msg(9, extra))),
        request(span(msg(9, msg(2, extra)))),
        request(span(msg(9, msg(2, msg(5, extra))))),
        request(span(msg(9, msg(2, msg(5, msg(1, extra)))))),
        request(span(msg(9, msg(2, msg(6, extra))))),
        request(span(msg(9, msg(2, msg(6, msg(1, extra)))))),
        request(span(msg(11, extra))),
        request(span(msg(13, extra))),
        request(span(msg(15, extra))),
        request(span(), resource=msg(1, extra)),
        request(span(), resource=extra),
        request(span(), scope=msg(1, extra)),
        request(span(), scope=extra),
    ]
    for body in bodies:
        batch, (outcome,) = decode(which, body)
        assert isinstance(outcome.error, DecodeError), body.hex()
        assert len(batch) == 0
        assert outcome.rows == outcome.rejected == 0


def test_errors_say_where(which: str) -> None:
    _, (outcome,) = decode(which, request(span(msg(5, b"name"), b"\x07")))
    assert isinstance(outcome.error, DecodeError)
    if which == "native":
        assert (outcome.error.field, outcome.error.offset) == ("Span", len(request(span(msg(5, b"name"), b"\x07"))))
        assert outcome.error.reason == "not a field tag"
    else:
        assert outcome.error.field == "ExportTraceServiceRequest"


# -- limits -----------------------------------------------------------------------------------------------------------

CUTS = [
    ("one below the limit", b"x" * 2047, b"x" * 2047, 0),
    ("at the limit", b"x" * 2048, b"x" * 2048, 0),
    ("one over", b"x" * 2049, b"x" * 2048, 1),
    ("two bytes, across", b"x" * 2047 + "é".encode(), b"x" * 2047, 1),
    ("two bytes, at the limit", b"x" * 2046 + "éé".encode(), b"x" * 2046 + "é".encode(), 1),
    ("three bytes, two of them inside", b"x" * 2046 + "€".encode(), b"x" * 2046, 1),
    ("four bytes, three of them inside", b"x" * 2045 + "😀".encode(), b"x" * 2045, 1),
    ("four bytes, one of them inside", b"x" * 2047 + "😀".encode(), b"x" * 2047, 1),
    ("not UTF-8: only three bytes back", b"x" * 2040 + b"\x80" * 20, b"x" * 2040 + "�".encode() * 5, 1),
]


@pytest.mark.parametrize(("name", "text", "kept", "count"), CUTS, ids=[c[0] for c in CUTS])
def test_long_keys_and_strings_are_cut_between_characters(
    which: str, name: str, text: bytes, kept: bytes, count: int
) -> None:
    batch, (outcome,) = decode(which, request(span(attribute(msg(1, text), text))))
    assert flat(batch)[0]["attributes"] == [(kept, "STRING", kept)]
    assert outcome.truncated == 2 * count


def test_what_the_limit_does_not_touch(which: str) -> None:
    long = b"x" * 5000
    value = msg(5, msg(1, msg(1, long)))
    fields = [msg(5, long), msg(3, long), msg(15, msg(2, long)), msg(11, msg(2, long)), attribute(msg(7, long))]
    batch, (outcome,) = decode(which, request(span(*fields, attribute(value))))
    (row,) = flat(batch)
    assert outcome.truncated == 0
    assert row["name"] == row["trace_state"] == row["status_message"] == row["events"][0]["name"] == long
    assert [v for _, _, v in row["attributes"]] == [long, msg(1, msg(1, long))]


def test_no_limit(which: str) -> None:
    batch, (outcome,) = decode(which, request(span(attribute(msg(1, b"x" * 9999)))), limit=0)
    assert outcome.truncated == 0
    assert len(flat(batch)[0]["attributes"][0][2]) == 9999


def test_cuts_of_refused_spans_do_not_count(which: str) -> None:
    cut = attribute(msg(1, b"x" * 3000))
    _, (outcome,) = decode(which, request(span(cut, ids=b""), span(cut), span(cut, ids=msg(1, TRACE_ID))))
    assert (outcome.rows, outcome.rejected, outcome.truncated) == (1, 2, 1)


def nested(levels: int, field: int) -> bytes:
    """An AnyValue of so many arrays (field 5) or key/value lists (6) inside each other."""
    value = b""
    for _ in range(levels):
        value = msg(field, msg(1, value) if field == 5 else msg(1, msg(2, value)))
    return value


DEPTHS = [
    (45, 5, True),
    (46, 5, False),
    (70, 5, False),
    (5000, 5, False),
    (30, 6, True),
    (31, 6, False),
    (70, 6, False),
]


@pytest.mark.parametrize(("levels", "field", "good"), DEPTHS)
def test_nested_values(which: str, levels: int, field: int, good: bool) -> None:
    value = nested(levels, field)
    bodies = [
        request(span(attribute(value))),
        request(span(msg(11, attribute(value, field=3)))),
        request(span(msg(13, attribute(value, field=4)))),
        request(span(), resource=msg(1, attribute(value, field=1))),
        request(span(), scope=msg(1, attribute(value, field=3))),
    ]
    for body in bodies:
        batch, (outcome,) = decode(which, body)
        assert (outcome.error is None) == good
        assert len(batch) == good


@pytest.mark.parametrize("depth", [80, 150, 100_000])
def test_nested_groups(which: str, depth: int) -> None:
    data = wire_tag(9, 3) * depth + wire_tag(9, 4) * depth
    for body in (data, request(span(data)), request(span(attribute(msg(5, data))))):
        _, (outcome,) = decode(which, body)
        assert (outcome.error is None) == (depth == 80)


# -- ids ----------------------------------------------------------------------------------------------------------------

T, S = msg(1, TRACE_ID), msg(2, SPAN_ID)
BAD_IDS = [
    *((msg(1, TRACE_ID[:n]) + S, Rejection(0, 1, n)) for n in range(16)),
    (msg(1, TRACE_ID + b"x") + S, Rejection(0, 1, 17)),
    (msg(1, bytes(16)) + S, Rejection(0, 1, 16)),
    (S, Rejection(0, 1, 0)),
    *((T + msg(2, SPAN_ID[:n]), Rejection(0, 2, n)) for n in range(8)),
    (T + msg(2, SPAN_ID + b"x"), Rejection(0, 2, 9)),
    (T + msg(2, bytes(8)), Rejection(0, 2, 8)),
    (T, Rejection(0, 2, 0)),
    *((T + S + msg(4, SPAN_ID[:n]), Rejection(0, 3, n)) for n in range(1, 8)),
    (T + S + msg(4, TRACE_ID), Rejection(0, 3, 16)),
    (b"", Rejection(0, 1, 0)),
]


@pytest.mark.parametrize(("ids", "expected"), BAD_IDS, ids=[f"{r.reason}-{r.length}-{i[:2].hex()}" for i, r in BAD_IDS])
def test_a_span_with_a_bad_id_is_refused_alone(which: str, ids: bytes, expected: Rejection) -> None:
    rest = attribute(num(3, 1)), msg(11, attribute(num(3, 1), field=3)), msg(13, attribute(num(3, 1), field=4))
    batch, (outcome,) = decode(which, request(span(*rest, ids=ids), span(msg(5, b"good"), *rest)))
    assert outcome == Outcome(0, 1, 1, (expected,), 0, None)
    (row,) = flat(batch)
    assert row["name"] == b"good"
    assert len(row["attributes"]) == len(row["events"]) == len(row["links"]) == 1


@pytest.mark.parametrize("ids", [IDS, IDS + msg(4), IDS + msg(4, bytes(8)), IDS + msg(4, SPAN_ID)])
def test_good_ids(which: str, ids: bytes) -> None:
    batch, (outcome,) = decode(which, request(span(ids=ids)))
    assert outcome == Outcome(0, 1, 0, (), 0, None)
    assert batch.parent_span_id[0] in (0, int.from_bytes(SPAN_ID))


def test_refused_spans_are_named_by_their_place_in_the_request(which: str) -> None:
    bad, good = span(ids=T), span()
    bodies = [request(good), request(good, bad, good) + request(bad, bad) + request(bad, good), request(bad)]
    batch, outcomes = decode(which, *bodies)
    named = tuple(Rejection(i, 2, 0) for i in (1, 3, 4))
    assert outcomes == [
        Outcome(0, 1, 0, (), 0, None),
        Outcome(1, 3, 4, named, 0, None),
        Outcome(4, 0, 1, (Rejection(0, 2, 0),), 0, None),
    ]
    assert len(batch) == 4
    want = "0 bytes where a span id of 8 bytes that are not all zero should be"
    assert [o.message() for o in outcomes] == [
        "",
        f"4 spans rejected: span 1: {want}; span 3: {want}; span 4: {want}; and 1 more",
        f"1 spans rejected: span 0: {want}",
    ]


# -- groups -------------------------------------------------------------------------------------------------------------

EVERYTHING = (
    msg(5, b"gone"),
    attribute(num(3, 1)),
    msg(11, attribute(num(3, 1), field=3)),
    msg(13, IDS, attribute(num(3, 1), field=4)),
)
FAILING = [
    request(span(*EVERYTHING), span(b"\x07")),
    request(span(*EVERYTHING)) + b"\x07",
    request(span(*EVERYTHING, msg(9, b"\x07"))),
    request(span(*EVERYTHING, msg(11, b"\x07"))),
    request(span(*EVERYTHING, msg(13, attribute(num(3, 1), field=4), b"\x07"))),
    request(span(*EVERYTHING), resource=msg(1, attribute(num(3, 1), field=1), b"\x07")),
    request(span(*EVERYTHING)) + request(scope=msg(1, attribute(num(3, 1), field=3), b"\x07")),
    request(span(*EVERYTHING), span(attribute(nested(46, 5)))),
    request(span(*EVERYTHING, ids=b""), span(attribute(nested(46, 5)))),
]


@pytest.mark.parametrize("failing", FAILING, ids=range(len(FAILING)))
def test_a_failing_request_leaves_nothing_behind(which: str, failing: bytes) -> None:
    good = [
        request(span(msg(5, name), *EVERYTHING[1:]), resource=msg(1, attribute(num(3, i), field=1)))
        for i, name in enumerate((b"a", b"b", b"c"))
    ]
    batch, outcomes = decode(which, good[0], failing, good[1], failing, good[2])
    expected, _ = decode(which, *good)
    assert [o.rows for o in outcomes] == [1, 0, 1, 0, 1]
    assert [o.first_row for o in outcomes] == [0, 1, 1, 2, 2]
    assert [type(o.error) for o in outcomes] == [type(None), DecodeError] * 2 + [type(None)]
    assert flat(batch) == flat(expected)
    for name in ("attributes", "events", "links"):
        assert len(getattr(batch, name)) == len(getattr(expected, name)) == 3


def test_resources_and_scopes_are_told_apart_by_their_bytes(which: str) -> None:
    dictionary = Dictionary()
    decoder = DECODERS[which](dictionary, 0)
    resource, other = (msg(1, attribute(num(3, i), field=1)) for i in (1, 2))
    url, scope = msg(3, b"url"), msg(1, msg(1, b"scope"))
    first, _ = decoder.decode(
        [request(span(), span(), resource=resource, scope=scope), request(span(), resource=other)]
    )
    assert first.resource.tolist() == [1, 1, 2]
    assert first.scope.tolist() == [1, 1, 0]
    second, _ = decoder.decode([request(span(), resource=other), request(span(), resource=resource + url, scope=url)])
    assert second.resource.tolist() == [2, 3]
    assert second.scope.tolist() == [0, 2]
    assert len(dictionary.resources) == 4
    assert flat(first)[0]["resource"] == (b"", 0, [(b"k", "INT", 1)])
    assert flat(second)[1]["resource"] == (b"url", 0, [(b"k", "INT", 1)])


def test_nothing_to_decode(which: str) -> None:
    batch, outcomes = decode(which)
    assert (len(batch), outcomes) == (0, [])


# -- repair -------------------------------------------------------------------------------------------------------------

BAD_UTF8 = [
    b"\xff",
    b"\x80",
    b"a\xc3",
    b"\xc0\xaf",
    b"\xe0\x80\x80",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xf0\x9f\x98",
    b"plain text and then \xfe",
    b"\xe2\x82(",
]


@pytest.mark.parametrize("text", BAD_UTF8, ids=bytes.hex)
def test_strings_that_are_not_utf8_are_repaired_everywhere(which: str, text: bytes) -> None:
    good = text.decode("utf-8", "replace").encode()

    def body(s: bytes) -> bytes:
        array = msg(5, msg(1, msg(1, s)), msg(1, msg(6, attribute(msg(1, s), s, field=1))), msg(1, msg(7, text)))
        pairs = [attribute(v, s) for v in (msg(1, s), array, msg(6, attribute(array, s, field=1)), msg(7, text))]
        event = msg(11, msg(2, s), attribute(msg(1, s), s, field=3))
        link = msg(13, IDS, msg(3, s), attribute(msg(1, s), s, field=4))
        one = span(msg(5, s), msg(3, s), msg(15, msg(2, s)), *pairs, event, link)
        resource, scope = msg(1, attribute(array, s, field=1)), msg(1, msg(1, s), msg(2, s), attribute(array, s, 3))
        return request(one, resource=resource + msg(3, s), scope=scope + msg(3, s))

    repaired, (outcome,) = decode(which, body(text))
    expected, _ = decode(which, body(good))
    assert outcome.error is None
    assert flat(repaired) == flat(expected)


@pytest.mark.parametrize(("number", "kept"), [(99, 99), (-1, -1), (2**31 - 1, 2**31 - 1), (2**32 + 3, 3)])
def test_enum_numbers_without_a_name_are_kept(which: str, number: int, kept: int) -> None:
    batch, _ = decode(which, request(span(num(6, number), msg(15, num(3, number)))))
    assert batch.kind.tolist() == batch.status_code.tolist() == [kept]


def test_zero_columns_take_no_memory(which: str) -> None:
    batch, _ = decode(which, request(*itertools.repeat(span(msg(5, b"n")), 1000)))
    held = [name for name in ("flags", "kind", "parent_span_id", "resource") if getattr(batch, name).strides != (0,)]
    assert held == []
    assert batch.attributes.row.strides != (0,) or len(batch.attributes) == 0


# -- where the native decoder refuses what the library merges --------------------------------------------------------------

V = msg(2, num(3, 1))
MERGED = [
    ("resource", request(span(), resource=msg(1) + msg(1))),
    ("scope", request(span(), scope=msg(1) + msg(1))),
    ("value of an attribute", request(span(msg(9, V, V)))),
    ("array", request(span(attribute(msg(5) + msg(5))))),
]


@pytest.mark.parametrize(("name", "body"), MERGED, ids=[m[0] for m in MERGED])
def test_a_message_field_that_stands_twice(which: str, name: str, body: bytes) -> None:
    _, (outcome,) = decode(which, body)
    assert (outcome.error is not None) == (which == "native")
    assert outcome.error is None or outcome.error.reason == "a field that may stand once stands twice"


def test_status_twice_is_merged(which: str) -> None:
    (row,) = flat(decode(which, request(span(msg(15, msg(2, b"m")), msg(15, num(3, 2)))))[0])
    assert (row["status_message"], row["status_code"]) == (b"m", 2)
