"""Requests for decoder tests: written by hand on the wire, drawn by hypothesis, mutated at random; batches made readable."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from vivace.ingest._decode import Decoder as NativeDecoder

from vivace.ingest.outcome import Outcome
from vivace.ingest.plain_decode import PlainDecoder, RawRequest
from vivace.ingest.repair import encode_varint
from vivace.model.attributes import Attributes
from vivace.model.batch import CHILD_COLUMNS, COLUMNS, SpanBatch
from vivace.model.dictionary import Dictionary
from vivace.model.proto import otlp_pb2
from vivace.model.schema import ValueType

LIMIT = 2048
DECODERS = {"native": NativeDecoder, "protobuf": PlainDecoder}

TRACE_ID, SPAN_ID = bytes(range(1, 17)), bytes(range(1, 9))


# -- the wire, by hand ------------------------------------------------------------------------------------------------


def tag(field: int, wire: int) -> bytes:
    return encode_varint(field << 3 | wire)


def num(field: int, value: int) -> bytes:
    return tag(field, 0) + encode_varint(value & 0xFFFFFFFFFFFFFFFF)


def f64(field: int, value: int) -> bytes:
    return tag(field, 1) + struct.pack("<Q", value)


def f32(field: int, value: int) -> bytes:
    return tag(field, 5) + struct.pack("<I", value)


def msg(field: int, *parts: bytes) -> bytes:
    """A length-delimited field: a message of these parts, or a string."""
    data = b"".join(parts)
    return tag(field, 2) + encode_varint(len(data)) + data


def group(field: int, *parts: bytes) -> bytes:
    return tag(field, 3) + b"".join(parts) + tag(field, 4)


IDS = msg(1, TRACE_ID) + msg(2, SPAN_ID)


def span(*parts: bytes, ids: bytes = IDS) -> bytes:
    """A Span as field 2 of ScopeSpans."""
    return msg(2, ids, *parts)


def request(*spans: bytes, resource: bytes = b"", scope: bytes = b"") -> bytes:
    """One ResourceSpans of one ScopeSpans; `resource` and `scope` are whole fields and stand in front."""
    return msg(1, resource, msg(2, scope, *spans))


def attribute(value: bytes, key: bytes = b"k", field: int = 9) -> bytes:
    """A KeyValue of an encoded AnyValue; field 9 is Span.attributes."""
    return msg(field, msg(1, key), msg(2, value))


# -- what was decoded, readable and free of codes -----------------------------------------------------------------------


def decode(
    which: str, *bodies: bytes, limit: int = LIMIT, dictionary: Dictionary | None = None
) -> tuple[SpanBatch, list[Outcome]]:
    batch, outcomes = DECODERS[which](dictionary or Dictionary(), limit).decode(list(bodies))
    check(batch)
    for name in COLUMNS:
        column = getattr(batch, name)
        assert column.any() or len(batch) == 0 or column.strides == (0,), f"{name} is zero and takes room"
    return batch, outcomes


def flat(batch: SpanBatch, *, sizes: bool = False) -> list[dict[str, Any]]:
    """One dict a span; resource, scope, attributes, events and links inside it; no codes."""
    strings, blobs = batch.dictionary.strings, batch.dictionary.blobs
    resources, scopes = batch.dictionary.resources, batch.dictionary.scopes
    resource_pairs, scope_pairs = (_pairs(batch, t.attributes, len(t)) for t in (resources, scopes))
    pairs = _pairs(batch, batch.attributes, len(batch))
    events, links = _children(batch, batch.events), _children(batch, batch.links)
    rows = []
    for i in range(len(batch)):
        row: dict[str, Any] = {name: int(getattr(batch, name)[i]) for name in COLUMNS}
        for name in ("name", "status_message", "trace_state"):
            row[name] = strings.get(row[name])
        r, s = row["resource"], row["scope"]
        row["resource"] = (
            strings.get(int(resources.schema_url[r])),
            int(resources.dropped_attributes_count[r]),
            resource_pairs[r],
        )
        row["scope"] = (
            *(strings.get(int(c[s])) for c in (scopes.name, scopes.version, scopes.schema_url)),
            int(scopes.dropped_attributes_count[s]),
            scope_pairs[s],
        )
        row["attributes"], row["events"], row["links"] = pairs[i], events[i], links[i]
        for event in row["events"]:
            event["name"] = strings.get(event["name"])
        for link in row["links"]:
            link["trace_state"] = strings.get(link["trace_state"])
            link["trace_id"], link["span_id"] = blobs.get(link["trace_id"]), blobs.get(link["span_id"])
        if not sizes:
            del row["size"]
        rows.append(row)
    return rows


def _children(batch: SpanBatch, children: Any) -> list[list[dict[str, Any]]]:
    out: list[list[dict[str, Any]]] = [[] for _ in range(len(batch))]
    pairs = _pairs(batch, children.attributes, len(children))
    for i, owner in enumerate(children.span.tolist()):
        child = {name: int(getattr(children, name)[i]) for name in CHILD_COLUMNS[type(children)]}
        out[owner].append(child | {"attributes": pairs[i]})
    return out


def _pairs(batch: SpanBatch, attributes: Attributes, row_count: int) -> list[list[tuple[bytes, str, Any]]]:
    out: list[list[tuple[bytes, str, Any]]] = [[] for _ in range(row_count)]
    columns = (attributes.row, attributes.key, attributes.type, attributes.value)
    for row, key, kind, value in zip(*(c.tolist() for c in columns), strict=True):
        out[row].append((batch.dictionary.strings.get(key), *_value(batch.dictionary, ValueType(kind), value)))
    return out


def _value(dictionary: Dictionary, kind: ValueType, value: int) -> tuple[str, Any]:
    """Numbers stay bits, so that NaN and -0.0 compare; arrays and lists are as the library writes them."""
    match kind:
        case ValueType.STRING:
            return kind.name, dictionary.strings.get(value)
        case ValueType.BYTES:
            return kind.name, dictionary.blobs.get(value)
        case ValueType.ARRAY:
            return kind.name, rewritten(otlp_pb2.ArrayValue, dictionary.blobs.get(value))
        case ValueType.KVLIST:
            return kind.name, rewritten(otlp_pb2.KeyValueList, dictionary.blobs.get(value))
        case _:
            return kind.name, value


def rewritten(kind: Any, data: bytes) -> bytes:
    """The same message as the library writes it; fails when a string in it is not UTF-8."""
    return kind.FromString(data).SerializeToString(deterministic=True)


def check(batch: SpanBatch) -> None:
    """What always holds of a batch: lengths, types, order of children, strings that are UTF-8."""
    dictionary, n = batch.dictionary, len(batch)
    for name, dtype in COLUMNS.items():
        column = getattr(batch, name)
        assert column.dtype == dtype, name
        assert len(column) == n, name
    tables = [(batch.attributes, n), (batch.events.attributes, len(batch.events))]
    tables += [(batch.links.attributes, len(batch.links))]
    tables += [(t.attributes, len(t)) for t in (dictionary.resources, dictionary.scopes)]
    for pairs, rows in tables:
        assert len(pairs.row) == len(pairs.key) == len(pairs.type) == len(pairs.value)
        assert (np.diff(pairs.row.astype(np.int64)) >= 0).all()
        assert not len(pairs) or pairs.row[-1] < rows
    for children in (batch.events, batch.links):
        assert (np.diff(children.span.astype(np.int64)) >= 0).all()
        assert not len(children) or children.span[-1] < n
        assert {len(getattr(children, name)) for name in CHILD_COLUMNS[type(children)]} == {len(children)}
    assert n == 0 or batch.resource.max() < len(dictionary.resources)
    assert n == 0 or batch.scope.max() < len(dictionary.scopes)
    # a resource that came without spans has a key, too
    assert len(dictionary.resources) == len(dictionary.resource_keys)
    assert len(dictionary.scopes) == len(dictionary.scope_keys)
    _, strings = dictionary.strings.export(0, len(dictionary.strings))
    strings.tobytes().decode()


# -- drawn by hypothesis --------------------------------------------------------------------------------------------------

texts = st.one_of(
    st.sampled_from([b"", b"GET /", b"http.status_code", b"\xff", b"caf\xc3\xa9", b"\xed\xa0\x80x", b"\xf0\x9f\x98"]),
    st.binary(max_size=12),
    st.text(max_size=6).map(str.encode),
)
counts = st.sampled_from([0, 0, 0, 1, 2**32 - 1])
times = st.sampled_from([0, 1, 1_700_000_000_000_000_000, 2**64 - 1])
enums = st.sampled_from([0, 1, 2, 3, 5, 99, -1, -(2**31), 2**31 - 1])
trace_ids = st.sampled_from([TRACE_ID, TRACE_ID, bytes(15) + b"\1", b"\1" + bytes(15), bytes(16), b"short", b""])
span_ids = st.sampled_from([SPAN_ID, SPAN_ID, bytes(7) + b"\1", bytes(7) + b"\2", bytes(8), b"123456789"])
parent_ids = st.sampled_from([b"", b"", SPAN_ID, bytes(8), bytes(7) + b"\1", b"1234567", bytes(16)])

any_values = st.recursive(
    st.one_of(
        st.just({}),
        st.builds(lambda v: {"string_value": v}, texts),
        st.builds(lambda v: {"bool_value": v}, st.booleans()),
        st.builds(lambda v: {"int_value": v}, st.sampled_from([0, 1, -1, 200, 2**63 - 1, -(2**63)])),
        st.builds(lambda v: {"double_value": v}, st.floats()),
        st.builds(lambda v: {"bytes_value": v}, st.binary(max_size=8)),
    ),
    lambda inner: st.one_of(
        st.builds(lambda v: {"array_value": {"values": v}}, st.lists(inner, max_size=3)),
        st.builds(
            lambda v: {"kvlist_value": {"values": v}},
            st.lists(st.fixed_dictionaries({"key": texts}, optional={"value": inner}), max_size=3),
        ),
    ),
    max_leaves=4,
)
attributes = st.lists(st.fixed_dictionaries({"key": texts}, optional={"value": any_values}), max_size=3)
events = st.fixed_dictionaries(
    {}, optional={"time_unix_nano": times, "name": texts, "attributes": attributes, "dropped_attributes_count": counts}
)
links = st.fixed_dictionaries(
    {"trace_id": trace_ids, "span_id": span_ids},
    optional={"trace_state": texts, "attributes": attributes, "dropped_attributes_count": counts, "flags": counts},
)
spans = st.fixed_dictionaries(
    {"trace_id": trace_ids, "span_id": span_ids, "parent_span_id": parent_ids, "start_time_unix_nano": times},
    optional={
        "name": texts,
        "trace_state": texts,
        "kind": enums,
        "end_time_unix_nano": times,
        "attributes": attributes,
        "dropped_attributes_count": counts,
        "events": st.lists(events, max_size=2),
        "dropped_events_count": counts,
        "links": st.lists(links, max_size=2),
        "dropped_links_count": counts,
        "status": st.fixed_dictionaries({}, optional={"message": texts, "code": enums}),
        "flags": counts,
    },
)
resources = st.fixed_dictionaries({}, optional={"attributes": attributes, "dropped_attributes_count": counts})
scopes = st.fixed_dictionaries(
    {}, optional={"name": texts, "version": texts, "attributes": attributes, "dropped_attributes_count": counts}
)
scope_spans = st.fixed_dictionaries(
    {"spans": st.lists(spans, max_size=3)}, optional={"scope": scopes, "schema_url": texts}
)
resource_spans = st.fixed_dictionaries(
    {"scope_spans": st.lists(scope_spans, max_size=2)}, optional={"resource": resources, "schema_url": texts}
)
requests = st.lists(resource_spans, max_size=2).map(
    lambda parts: RawRequest(resource_spans=parts).SerializeToString(deterministic=True)
)
"""Bytes of a request: every field, strings that are not UTF-8, ids of wrong lengths."""


# -- mutated at random ------------------------------------------------------------------------------------------------------

INTERESTING = (b"\x00", b"\x7f", b"\x80", b"\xff", b"\x0a\x00", b"\x12\x01", b"\x0b", b"\x0c", b"\xff" * 9 + b"\x01")


def mutated(body: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """One to four small damages: bits, bytes, lengths, splices with another request, longer varints."""
    data = bytearray(body)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(8):
            case 0 if data:
                data[at % len(data)] ^= 1 << rng.randrange(8)
            case 1:
                data[at:at] = rng.choice(INTERESTING)
            case 2:
                del data[at : at + rng.choice((1, 1, 2, 8))]
            case 3 if data:  # a length field, as often as not
                data[at % len(data)] = (data[at % len(data)] + rng.choice((-1, 1, 2, 127))) & 0xFF
            case 4:
                other = rng.choice(others)
                first = rng.randrange(len(other) + 1)
                data[at : at + rng.choice((0, 4, 16))] = other[first : first + rng.randrange(24)]
            case 5 if data:  # the same number in more bytes, or a continuation bit where none was
                place = at % len(data)
                data[place : place + 1] = bytes([data[place] | 0x80]) + b"\x80" * rng.randrange(10) + b"\x00"
            case 6:
                del data[at:]
            case _:
                data[at:at] = data[at : at + rng.randrange(16)]
    return bytes(data)
