"""Invalid UTF-8 inside arrays and key/value lists, replaced by U+FFFD.

Rare, so plain Python, and recursive: the decoder has checked form and depth before.
"""

from __future__ import annotations

MEMBERS = {
    "AnyValue": {1: "string", 5: "ArrayValue", 6: "KeyValueList"},
    "ArrayValue": {1: "AnyValue"},
    "KeyValueList": {1: "KeyValue"},
    "KeyValue": {1: "string", 2: "AnyValue"},
}
"""What to descend into: message -> field number -> its type."""


def repair_any_value(data: bytes, field: int) -> bytes:
    """The same ArrayValue (`field` 5) or KeyValueList (6), every string in it valid UTF-8."""
    return _repaired(data, MEMBERS["AnyValue"][field])


def _repaired(data: bytes, kind: str) -> bytes:
    if kind == "string":
        return data.decode("utf-8", "replace").encode()
    out, at = bytearray(), 0
    while at < len(data):
        tag, body = _varint(data, at)
        field, wire = tag >> 3, tag & 7
        if wire != 2:
            end = _skip(data, body, field, wire)
            out += data[at:end]
        else:
            size, first = _varint(data, body)
            end = first + size
            child = MEMBERS[kind].get(field)
            inner = _repaired(data[first:end], child) if child else data[first:end]
            out += data[at:body] + encode_varint(len(inner)) + inner
        at = end
    return bytes(out)


def encode_varint(value: int) -> bytes:
    """Protobuf's base-128 encoding of a non-negative number."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _skip(data: bytes, at: int, field: int, wire: int) -> int:
    """The end of a field that is not length-delimited and starts at `at`."""
    if wire == 0:
        return _varint(data, at)[1]
    if wire in (1, 5):
        return at + (8 if wire == 1 else 4)
    while True:  # a group
        tag, at = _varint(data, at)
        if tag & 7 == 4:
            return at
        if tag & 7 == 2:
            size, first = _varint(data, at)
            at = first + size
        else:
            at = _skip(data, at, tag >> 3, tag & 7)
