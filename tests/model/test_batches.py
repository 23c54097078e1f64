"""Batches moved about: cut, taken, joined, adopted, written out, put in block order. The spans stay what they were."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from otlp_cases import IDS, attribute, check, decode, f32, f64, flat, msg, num, request, requests, span

from vivace.model.adopt import adopt, join
from vivace.model.arrange import arrange
from vivace.model.batch import COLUMNS, SpanBatch, concat
from vivace.model.dictionary import Dictionary
from vivace.model.encode import NativeEncoder, encode, group_rows
from vivace.model.plain_encode import encode_plain
from vivace.model.pool import PlainPool
from vivace.model.proto.otlp_pb2 import ExportTraceServiceRequest
from vivace.model.rows import signatures, take
from vivace.model.schema import ROOT
from vivace.storage.lanes import split

PROPERTY = settings(deadline=None, derandomize=True, database=None, max_examples=60)
groups = st.lists(requests, min_size=1, max_size=3)

VALUES = [
    b"",
    msg(1, b"text"),
    msg(1),
    num(2, 1),
    num(2, 0),
    num(3, -1),
    num(3, 2**63 - 1),
    num(3, -(2**63)),
    f64(4, 0x7FF8_0000_DEAD_BEEF),
    f64(4, 1 << 63),
    msg(5, msg(1, msg(1, b"a")), msg(1)),
    msg(5),
    msg(6, attribute(num(3, -2), field=1)),
    msg(7, b"\xff"),
    msg(7),
]
PAIRS = [b"".join(attribute(v, b"key %d" % i, field) for i, v in enumerate(VALUES)) for field in range(10)]
"""Attributes of every kind of value, as the given field."""

RICH = request(
    span(
        *(msg(3, b"state"), msg(4, b"87654321"), msg(5, b"name"), num(6, -1), f64(7, 3), f64(8, 2**64 - 1), PAIRS[9]),
        *(num(10, 1), num(12, 2), num(14, 3), msg(15, msg(2, b"message"), num(3, 2)), f32(16, 2**32 - 1)),
        msg(11, f64(1, 5), msg(2, b"event"), PAIRS[3], num(4, 4)),
        msg(13, IDS, msg(3, b"link state"), PAIRS[4], num(5, 5), f32(6, 6)),
    ),
    span(msg(11), msg(13), msg(9)),
    resource=msg(1, PAIRS[1], num(2, 7)) + msg(3, b"url"),
    scope=msg(1, msg(1, b"scope"), msg(2, b"1.0"), PAIRS[3], num(4, 8)) + msg(3, b"url"),
)
"""A request with everything in it."""


def plain_dictionary() -> Dictionary:
    """As it is where the package was installed without a C compiler."""
    dictionary = Dictionary()
    dictionary.strings, dictionary.blobs = PlainPool(), PlainPool()
    dictionary.resource_keys, dictionary.scope_keys = PlainPool(), PlainPool()
    return dictionary


def one_by_one(batch: SpanBatch) -> list[str]:
    """Each span with its resource and scope as a message; comparable across dictionaries and orders."""
    return [repr(row) for row in flat(batch)]


# -- as OTLP --------------------------------------------------------------------------------------------------------------


def parsed(data: bytes) -> bytes:
    return ExportTraceServiceRequest.FromString(data).SerializeToString(deterministic=True)


@PROPERTY
@example([RICH])
@given(groups)
def test_encoding_and_decoding_again_gives_the_same_spans(bodies: list[bytes]) -> None:
    batch, _ = decode("native", *bodies)
    again, (outcome,) = decode("native", encode(batch))
    assert (outcome.error, outcome.rejected) == (None, 0)
    assert one_by_one(again) == one_by_one(group_rows(batch))
    assert sorted(signatures(adopt(again, batch.dictionary)).tolist()) == sorted(signatures(batch).tolist())


@PROPERTY
@example([RICH])
@given(groups)
def test_both_encoders_write_the_same_message(bodies: list[bytes]) -> None:
    grouped = group_rows(decode("native", *bodies)[0])
    native, plain = NativeEncoder(grouped).encode(), encode_plain(grouped)
    assert parsed(native) == parsed(plain)
    # on the twins of everything
    batch, _ = decode("protobuf", *bodies, dictionary=plain_dictionary())
    assert parsed(encode_plain(group_rows(batch))) == parsed(plain)


def test_encoding_nothing() -> None:
    empty = SpanBatch.empty(Dictionary())
    assert encode(empty) == encode_plain(empty) == b""


def test_empty_messages_are_written() -> None:
    expected = request(span(msg(15)), resource=msg(1), scope=msg(1))
    batch, _ = decode("native", request(span()))
    assert encode(batch) == expected
    assert parsed(encode_plain(batch)) == parsed(expected)


def test_spans_are_grouped_in_order_of_first_sight() -> None:
    a, b = (msg(1, msg(1, msg(1, n))) for n in (b"a", b"b"))
    one, two = (msg(1, msg(1, n)) for n in (b"1", b"2"))
    parts = [(b, two), (a, one), (b, one), (a, two), (b, two)]
    spans = [request(span(num(6, i)), resource=r, scope=s) for i, (r, s) in enumerate(parts)]
    batch, _ = decode("native", *spans)
    assert group_rows(batch).kind.tolist() == [0, 4, 2, 1, 3]
    message = ExportTraceServiceRequest.FromString(encode(batch))
    assert [[len(s.spans) for s in r.scope_spans] for r in message.resource_spans] == [[2, 1], [1, 1]]


# -- rows -----------------------------------------------------------------------------------------------------------------


@PROPERTY
@given(groups, st.randoms(use_true_random=False))
def test_slices_and_rows_are_the_same_spans(bodies: list[bytes], rng: random.Random) -> None:
    batch, _ = decode("native", *bodies, RICH)
    spans, n = one_by_one(batch), len(batch)
    start, stop = sorted((rng.randint(0, n), rng.randint(0, n)))
    cut = batch.slice(start, stop)
    check(cut)
    assert one_by_one(cut) == spans[start:stop]
    rows = np.array([rng.randrange(n) for _ in range(rng.randrange(8))] if n else [], np.int64)
    taken = take(batch, rows)
    check(taken)
    assert one_by_one(taken) == [spans[i] for i in rows.tolist()]
    parts = [batch.slice(0, start), batch.slice(start, stop), batch.slice(stop, n), taken]
    joined = concat(parts)
    check(joined)
    assert one_by_one(joined) == spans + one_by_one(taken)


@PROPERTY
@example([RICH], RICH)
@given(groups, requests)
def test_adopted_spans_are_the_same_spans(bodies: list[bytes], other: bytes) -> None:
    batch, _ = decode("native", *bodies)
    for target in (Dictionary(), plain_dictionary(), decode("native", other)[0].dictionary, batch.dictionary):
        moved = adopt(batch, target)
        assert moved.dictionary is target
        check(moved)
        assert one_by_one(moved) == one_by_one(batch)
        sizes = len(target.resources), len(target.scopes), len(target.strings)
        assert one_by_one(adopt(batch, target)) == one_by_one(batch)
        assert (len(target.resources), len(target.scopes), len(target.strings)) == sizes


@PROPERTY
@example([RICH], [RICH])
@given(groups, groups)
def test_batches_of_two_dictionaries_join(bodies: list[bytes], others: list[bytes]) -> None:
    a, b = decode("native", *bodies)[0], decode("native", *others)[0]
    joined = join([a, b])
    check(joined)
    assert one_by_one(joined) == one_by_one(a) + one_by_one(b)


def test_concat_of_different_dictionaries_is_refused() -> None:
    with pytest.raises(ValueError, match="different dictionaries"):
        concat([SpanBatch.empty(Dictionary()), SpanBatch.empty(Dictionary())])


def test_a_schema_url_cannot_pass_for_an_adopted_resource() -> None:
    """Keys made from codes and keys made from wire bytes are told apart by their ends."""
    dictionary = Dictionary()
    length = 17  # of the coded fields but the last four bytes, which are the upper half of this number
    batch, _ = decode("native", request(span(), resource=msg(1, msg(1, msg(1, b"k"), msg(2, num(3, length << 32))))))
    adopt(batch, dictionary)
    key = dictionary.resource_keys.get(1)
    forged, _ = decode("native", request(span(), resource=msg(3, key[:length])), dictionary=dictionary)
    assert forged.resource.tolist() == [2]


# -- signatures and block order ----------------------------------------------------------------------------------------------


@PROPERTY
@given(groups)
def test_equal_spans_have_equal_signatures_and_others_do_not(bodies: list[bytes]) -> None:
    batch, _ = decode("native", *bodies, *bodies)
    marks = dict(zip(one_by_one(batch), signatures(batch).tolist(), strict=True))
    assert len(set(marks.values())) <= len(marks)
    by_mark: dict[int, set[str]] = {}
    for row, mark in zip(flat(batch), signatures(batch).tolist(), strict=True):
        by_mark.setdefault(mark, set()).add(repr(unordered(row)))
    assert all(len(held) == 1 for held in by_mark.values())


def unordered(value: object) -> object:
    """The order of attributes, events and links is no part of what a span is."""
    match value:
        case dict():
            return sorted((k, unordered(v)) for k, v in value.items())
        case list():
            return sorted(repr(unordered(v)) for v in value)
        case tuple():
            return tuple(unordered(v) for v in value)
        case _:
            return value


@PROPERTY
@given(groups, st.randoms(use_true_random=False))
def test_block_order(bodies: list[bytes], rng: random.Random) -> None:
    batch, _ = decode("native", *bodies, bodies[0], RICH)
    shuffled = take(batch, np.array(rng.sample(range(len(batch)), len(batch)), np.int64))
    arranged = arrange(shuffled)
    rows = arranged.batch
    check(rows)
    # copies removed, and nothing else
    spans = Counter(repr(unordered(row)) for row in flat(batch))
    assert Counter(repr(unordered(row)) for row in flat(rows)) == Counter(dict.fromkeys(spans, 1))
    assert arranged.duplicates == len(batch) - len(spans)
    # one slice a trace, traces by (start, id), spans by left number
    bounds = [*arranged.first_row.tolist(), len(rows)]
    ids = list(zip(rows.trace_id_high.tolist(), rows.trace_id_low.tolist(), strict=True))
    keys = []
    for first, last in pairwise(bounds):
        assert len(set(ids[first:last])) == 1
        keys.append((int(rows.start_time_unix_nano[first:last].min()), *ids[first]))
        left = arranged.left[first:last].tolist()
        assert left == sorted(set(left))
        held = set()
        for row in range(first, last):
            parent = int(arranged.parent[row])
            assert parent <= 0 or parent in held, "a parent stands before its children"
            assert (parent == ROOT) == (rows.parent_span_id[row] == 0) or parent > 0
            held.add(int(arranged.left[row]))
    assert keys == sorted(keys)
    assert len({k[1:] for k in keys}) == len(keys) == arranged.trace_count
    for trace, root in enumerate(arranged.root.tolist()):
        inside = range(bounds[trace], bounds[trace + 1])
        assert root in inside or root == -1
        assert (root == -1) == all(rows.parent_span_id[r] for r in inside)


def test_the_root_is_the_last_received_span_without_a_parent() -> None:
    def root(start: int, name: bytes) -> bytes:
        return span(msg(5, name), b"\x39" + start.to_bytes(8, "little"))

    batch, _ = decode("native", request(root(5, b"first"), root(9, b"second"), root(1, b"third")))
    arranged = arrange(batch)
    names = [row["name"] for row in flat(arranged.batch)]
    assert names == [b"third", b"first", b"second"]
    assert arranged.root.tolist() == [0]


def test_what_is_only_encoded_differently_is_a_copy() -> None:
    resources = [
        msg(1, msg(1, msg(1, b"k"), msg(2, num(3, 1))), num(2, 0)),
        msg(1, msg(1, msg(1, b"k"), msg(2, num(3, 1)))),
    ]
    batch, _ = decode("native", *(request(span(num(6, 2)), resource=r) for r in resources))
    assert batch.resource.tolist() == [1, 2]
    assert arrange(batch).duplicates == 1
    other = replace(batch, size=np.array([1, 2], np.uint32))
    assert signatures(other).tolist() == signatures(batch).tolist()


@pytest.mark.parametrize("name", [n for n in COLUMNS if n not in ("size", "resource", "scope")])
def test_every_column_is_part_of_the_signature(name: str) -> None:
    batch, _ = decode("native", request(span(), span()))
    changed = replace(batch, **{name: np.array([0, 1], COLUMNS[name])})
    assert len(set(signatures(changed).tolist())) == 2


EVENT, LINK = msg(2, b"event"), IDS
DIFFERENT = [
    request(span()),
    request(span(), resource=msg(1, num(2, 1))),
    request(span(), resource=msg(1, attribute(num(3, 1), field=1))),
    request(span(), resource=msg(3, b"url")),
    request(span(), scope=msg(1, num(4, 1))),
    request(span(), scope=msg(1, attribute(num(3, 1), field=3))),
    request(span(), scope=msg(3, b"url")),
    request(span(), scope=msg(1, msg(1, b"url"))),
    request(span(), scope=msg(1, msg(2, b"url"))),
    *(request(span(attribute(value))) for value in VALUES),
    request(span(attribute(num(3, 1)))),
    request(span(attribute(num(3, 1), b"other"))),
    request(span(attribute(num(3, 1)), attribute(num(3, 1)))),
    *(request(span(msg(11, part))) for part in (b"", f64(1, 1), EVENT, num(4, 1), attribute(num(3, 1), field=3))),
    request(span(msg(11), msg(11))),
    request(span(msg(11, EVENT), msg(11, attribute(num(3, 1), field=3)))),
    request(span(msg(11, EVENT, attribute(num(3, 1), field=3)), msg(11))),
    *(request(span(msg(13, part))) for part in (b"", msg(1, b"a"), msg(2, b"a"), msg(3, b"a"), num(5, 1), f32(6, 1))),
    request(span(msg(13, attribute(num(3, 1), field=4)))),
    request(span(msg(13), msg(13))),
]
"""Single spans that differ in one thing only."""


def test_every_part_of_a_span_is_in_its_signature() -> None:
    batch, _ = decode("native", *DIFFERENT)
    assert len(batch) == len(DIFFERENT)
    assert len(set(signatures(batch).tolist())) == len(DIFFERENT)
    assert arrange(batch).duplicates == 0


# -- lanes ------------------------------------------------------------------------------------------------------------------


@PROPERTY
@example([RICH])
@given(groups)
def test_lanes_hold_every_pair_once(bodies: list[bytes]) -> None:
    batch, _ = decode("native", *bodies)
    pairs = batch.attributes
    columns = (pairs.row, pairs.key, pairs.type, pairs.value)
    lanes = split(pairs, len(batch))
    found = [
        (row, key, int(kind), value)
        for (key, kind), lane in lanes.lanes.items()
        for row, value in zip(lane.row.tolist(), lane.value.tolist(), strict=True)
    ]
    firsts = {
        (row, key, kind): value for row, key, kind, value in reversed(list(zip(*map(list, columns), strict=True)))
    }
    assert {(r, k, t): v for r, k, t, v in found} == firsts
    assert len(found) == len(firsts)
    e = lanes.extra
    found += zip(e.row.tolist(), e.key.tolist(), e.type.tolist(), e.value.tolist(), strict=True)
    assert sorted(found) == sorted(zip(*(c.tolist() for c in columns), strict=True))
    for lane in lanes.lanes.values():
        assert (np.diff(lane.row.astype(np.int64)) > 0).all()
