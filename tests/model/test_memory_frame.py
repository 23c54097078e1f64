"""Spans in memory as a frame, against what the attributes say when they are read pair by pair."""

from __future__ import annotations

from typing import Any

import builders as b
import pytest
from frames import KEYS, contents, of_attribute, of_column, some_spans

from vivace.model.arrange import arrange
from vivace.model.attributes import Attributes
from vivace.model.batch import SpanBatch
from vivace.model.dictionary import Dictionary
from vivace.model.frame import LEVEL_OF_SCOPE, Fixed, Frame, Level, Numbers
from vivace.model.memory_frame import MemoryFrame
from vivace.model.schema import AttributeScope, ValueType

COLUMN_OF = {
    ValueType.STRING: "strings",
    ValueType.INT: "ints",
    ValueType.DOUBLE: "doubles",
    ValueType.BOOL: "bools",
    ValueType.ARRAY: "compounds",
    ValueType.KVLIST: "compounds",
    ValueType.BYTES: "compounds",
    ValueType.EMPTY: "unset",
}


def by_hand(pairs: Attributes, row_count: int, dictionary: Dictionary, key: str) -> dict[str, list[Any]]:
    """As frames.of_attribute(), pair by pair."""
    first: dict[tuple[int, ValueType], Any] = {}
    for row, code, number, value in zip(
        *(c.tolist() for c in (pairs.row, pairs.key, pairs.type)), pairs.value, strict=True
    ):
        kind = ValueType(number)
        if dictionary.strings.get(code) == key.encode():
            plain: dict[ValueType, Any] = {
                ValueType.STRING: lambda v: dictionary.strings.get(int(v)).decode(),
                ValueType.INT: lambda v: int(v.view("i8")),
                ValueType.DOUBLE: lambda v: float(v.view("f8")).hex(),
                ValueType.BOOL: bool,
                ValueType.EMPTY: lambda v: True,
            }
            read = plain.get(kind, lambda v: dictionary.blobs.get(int(v)))
            first.setdefault((row, kind), read(value))
    found: dict[str, list[Any]] = {}
    for (row, kind), value in sorted(first.items()):
        column = found.setdefault(COLUMN_OF[kind], [None] * row_count)
        column[row] = [*(column[row] or []), (kind, value)] if COLUMN_OF[kind] == "compounds" else value
    return found


@pytest.mark.parametrize("seed", range(6))
def test_attributes_are_those_of_the_pairs(seed: int) -> None:
    arranged = arrange(some_spans(seed))
    frame: Frame = MemoryFrame(arranged)
    batch = arranged.batch
    tables = {
        AttributeScope.SPAN: batch.attributes,
        AttributeScope.RESOURCE: batch.dictionary.resources.attributes,
        AttributeScope.INSTRUMENTATION: batch.dictionary.scopes.attributes,
        AttributeScope.EVENT: batch.events.attributes,
        AttributeScope.LINK: batch.links.attributes,
    }
    seen = set()
    for scope, pairs in tables.items():
        rows = frame.count(LEVEL_OF_SCOPE[scope])
        for key in KEYS:
            found = of_attribute(frame.attribute(scope, key), rows)
            assert found == by_hand(pairs, rows, batch.dictionary, key)
            seen |= found.keys()
    assert seen == set(COLUMN_OF.values())


def test_fixed_columns() -> None:
    frame = MemoryFrame(
        arrange(
            b.batch(
                b.request(
                    b.span(1 << 64 | 2, 1, start=b.NOON, duration=-5, name="root", kind=3, status=(2, "broken"),
                           links=[b.link(b"odd", b"\0" * 8)]),
                    b.span(1 << 64 | 2, 2, 1, start=b.NOON + 10, duration=-7, events=[b.event("e", 7), b.event("", 2**63)]),
                    resource=[("service.name", 1), ("service.name", "shop"), ("service.name", "second")],
                    scope="lib",
                    version="1",
                ),
                b.request(b.span(5, 9, 8, start=b.NOON + 20, name="alone")),
                b.request(b.span(6, 2**64 - 1, start=2**64 - 1, duration=-1, name=""), resource={"service.name": 5}),
            )
        )
    )  # fmt: skip
    found = {c: of_column(frame.fixed(c)) for c in Fixed}
    assert found == {
        Fixed.NAME: ["root", "", "alone", ""],
        Fixed.START: [b.NOON, b.NOON + 10, b.NOON + 20, -1],
        Fixed.DURATION: [-5, -7, 1000, -1],
        Fixed.KIND: [3, 0, 0, 0],
        Fixed.STATUS: [2, 0, 0, 0],
        Fixed.STATUS_MESSAGE: ["broken", "", "", ""],
        Fixed.SPAN_ID: [1, 2, 9, 2**64 - 1],
        Fixed.PARENT_SPAN_ID: [0, 1, 8, 0],
        Fixed.NESTED_LEFT: [1, 2, 1, 1],
        Fixed.NESTED_RIGHT: [4, 3, 2, 2],
        Fixed.NESTED_PARENT: [-1, 1, 0, -1],
        Fixed.TRACE_ID_HIGH: [1, 0, 0],
        Fixed.TRACE_ID_LOW: [2, 5, 6],
        Fixed.TRACE_START: [b.NOON, b.NOON + 20, -1],
        Fixed.TRACE_DURATION: [3, 1000, -1],
        Fixed.ROOT_NAME: ["root", None, ""],
        Fixed.ROOT_SERVICE_NAME: ["shop", None, ""],
        Fixed.SCOPE_NAME: ["", "lib"],
        Fixed.SCOPE_VERSION: ["", "1"],
        Fixed.EVENT_NAME: ["e", ""],
        Fixed.EVENT_TIME: [7, -(2**63)],
        Fixed.LINK_TRACE_ID: [b"odd"],
        Fixed.LINK_SPAN_ID: [b"\0" * 8],
    }
    assert frame.first_rows().tolist() == [0, 2, 3]
    owners = {level: frame.owners(level).tolist() for level in Level if level is not Level.SPAN}
    assert owners == {
        Level.RESOURCE: [1, 1, 0, 2],
        Level.SCOPE: [1, 1, 0, 0],
        Level.TRACE: [0, 0, 1, 2],
        Level.EVENT: [1, 1],
        Level.LINK: [0],
    }
    with pytest.raises(KeyError):
        frame.owners(Level.SPAN)


def test_numbers_are_as_wide_as_promised() -> None:
    frame = MemoryFrame(arrange(some_spans(1)))
    ids = {Fixed.SPAN_ID, Fixed.PARENT_SPAN_ID, Fixed.TRACE_ID_HIGH, Fixed.TRACE_ID_LOW}
    for column in Fixed:
        found = frame.fixed(column)
        if isinstance(found, Numbers):
            assert found.values.dtype == ("u8" if column in ids else "i8"), column


def test_a_frame_without_spans() -> None:
    frame = MemoryFrame(arrange(SpanBatch.empty(Dictionary())))
    assert {level: frame.count(level) for level in Level if frame.count(level)} == {Level.RESOURCE: 1, Level.SCOPE: 1}
    assert not any(contents([frame]).values())


def test_the_tables_stay_what_they_were() -> None:
    dictionary = Dictionary()
    frame = MemoryFrame(arrange(b.batch(b.request(b.span(), resource={"k": 1}), dictionary=dictionary)))
    b.batch(b.request(b.span(2), resource={"k": "later"}, scope="later"), dictionary=dictionary)
    assert (frame.count(Level.RESOURCE), frame.count(Level.SCOPE)) == (2, 1)
    assert of_attribute(frame.attribute(AttributeScope.RESOURCE, "k"), 2) == {"ints": [None, 1]}


def test_asking_adds_nothing_to_the_dictionary() -> None:
    dictionary = Dictionary()
    frame = MemoryFrame(arrange(b.batch(b.request(b.span()), dictionary=dictionary)))
    size = len(dictionary.strings)
    for key in ("not there", "service.name", "\ud800"):
        assert frame.attribute(AttributeScope.SPAN, key) is None
    frame.fixed(Fixed.ROOT_SERVICE_NAME)
    assert len(dictionary.strings) == size


def test_each_column_is_counted_once() -> None:
    frame = MemoryFrame(arrange(some_spans(2)))
    assert frame.inspected_bytes == 0
    names, key = frame.fixed(Fixed.NAME), frame.attribute(AttributeScope.SPAN, "k")
    assert key is not None
    assert frame.inspected_bytes == names.nbytes + key.nbytes
    assert frame.fixed(Fixed.NAME) is names
    assert frame.attribute(AttributeScope.SPAN, "k") is key
    assert frame.attribute(AttributeScope.SPAN, "not there") is None
    assert frame.inspected_bytes == names.nbytes + key.nbytes
    trace = frame.owners(Level.TRACE)
    frame.owners(Level.TRACE)
    assert frame.inspected_bytes == names.nbytes + key.nbytes + trace.nbytes
