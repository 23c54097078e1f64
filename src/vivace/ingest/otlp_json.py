"""OTLP/JSON to the protobuf bytes of the same ExportTraceServiceRequest.

Follows the proto3 JSON mapping with OTLP's changes: ids are hex, enums may be numbers. Keys are camelCase or snake_case,
unknown keys are skipped, null means absent, 64-bit numbers are numbers or strings, bytes are base64.

One table per message says how each key is written; encoding walks the parsed JSON along the tables and appends wire
bytes directly. Filling protobuf objects with json_format.ParseDict took 3.4 times as long (146 ms against 43 for 500
spans), and it reads base64 ids only.
A value that does not fit is a RequestError which names its path: resourceSpans[0].scopeSpans[0].spans[3].traceId.

Ids must be whole or empty. Empty ones are passed on as they are; the decoder rejects those spans alone.
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import orjson

from vivace.errors import RequestError

# The protobuf library's own limit on nested messages: what passes here can be parsed there. An attribute value may thus
# hold about 46 arrays or 31 maps inside each other. orjson itself stops at 1,024 levels of JSON.
MESSAGE_DEPTH_MAX = 100

VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5

SPAN_KINDS = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
STATUS_CODES = ("UNSET", "OK", "ERROR")
NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

# Turns one JSON value into the bytes that follow its tag. The number is the count of messages around the value.
Encode = Callable[[object, int], bytes]


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of values: its protobuf wire type and how one value is written."""

    wire_type: int
    encode: Encode
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Field:
    """How the value of one JSON key goes on the wire."""

    tag: bytes
    encode: Encode
    repeated: bool


# Keyed by both spellings of each key.
Table = dict[str, Field]


class _MisfitError(Exception):
    """A value that does not fit its field; the path to it grows while this travels up."""

    def __init__(self, expected: str, found: object) -> None:
        super().__init__()
        self.expected = expected
        self.found = found
        self.path = ""


def encode_request(body: bytes) -> bytes:
    """The protobuf bytes of the request in `body`.

    Raises  RequestError (400) when the body is not JSON or not an ExportTraceServiceRequest.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"cannot read the body as JSON: {error}") from error
    try:
        return _message(EXPORT_REQUEST, document, 1)
    except _MisfitError as misfit:
        place = misfit.path.removeprefix(".") or "the body"
        raise RequestError(f"{place} is {_shown(misfit.found)}, expected {misfit.expected}") from None


def _message(table: Mapping[str, Field], value: object, depth: int) -> bytes:
    if not isinstance(value, dict):
        raise _MisfitError("an object", value)
    if depth > MESSAGE_DEPTH_MAX:
        raise _MisfitError(f"at most {MESSAGE_DEPTH_MAX} messages inside each other", value)
    parts: list[bytes] = []
    for key, item in value.items():
        field = table.get(key)
        if field is None or item is None:
            continue
        try:
            if not field.repeated:
                parts += (field.tag, field.encode(item, depth))
            elif isinstance(item, list):
                _repeated(field, item, depth, parts)
            else:
                raise _MisfitError("an array", item)
        except _MisfitError as misfit:
            misfit.path = f".{key}{misfit.path}"
            raise
    return b"".join(parts)


def _repeated(field: Field, items: list[object], depth: int, parts: list[bytes]) -> None:
    for index, item in enumerate(items):
        try:
            parts += (field.tag, field.encode(item, depth))
        except _MisfitError as misfit:
            misfit.path = f"[{index}]{misfit.path}"
            raise


def _shown(found: object) -> str:
    """A value for an error message, short whatever was sent."""
    if isinstance(found, dict | list):
        return "an object" if isinstance(found, dict) else "an array"
    text = orjson.dumps(found).decode()
    return text if len(text) <= 60 else f"{text[:57]}..."


# Values


def _varint(number: int) -> bytes:
    """Base-128, least significant group first; `number` is not negative."""
    if number < 0x80:
        return number.to_bytes(1, "little")
    groups = bytearray()
    while number >= 0x80:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def _delimited(content: bytes) -> bytes:
    return _varint(len(content)) + content


def _string(value: object, _depth: int) -> bytes:
    if not isinstance(value, str):
        raise _MisfitError("a string", value)
    return _delimited(value.encode())


def _bool(value: object, _depth: int) -> bytes:
    if not isinstance(value, bool):
        raise _MisfitError("true or false", value)
    return b"\x01" if value else b"\x00"


def _whole_number(value: object, low: int, high: int) -> int:
    """A JSON number or string that is a whole number from low to high."""
    number: int | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif (isinstance(value, float) and value.is_integer()) or (isinstance(value, str) and _is_decimal(value)):
        number = int(value)
    if number is None or not low <= number <= high:
        raise _MisfitError(f"a whole number from {low} to {high}", value)
    return number


def _is_decimal(text: str) -> bool:
    """Plain digits, of no more than 64 bits hold: int() alone would take spaces, underscores and other scripts."""
    return len(text) <= 20 and text.isascii() and text.removeprefix("-").isdigit()


def _int64(value: object, _depth: int) -> bytes:
    return _varint(_whole_number(value, -(1 << 63), (1 << 63) - 1) & 0xFFFF_FFFF_FFFF_FFFF)


def _uint32(value: object, _depth: int) -> bytes:
    return _varint(_whole_number(value, 0, (1 << 32) - 1))


def _fixed32(value: object, _depth: int) -> bytes:
    return _whole_number(value, 0, (1 << 32) - 1).to_bytes(4, "little")


def _fixed64(value: object, _depth: int) -> bytes:
    return _whole_number(value, 0, (1 << 64) - 1).to_bytes(8, "little")


def _double(value: object, _depth: int) -> bytes:
    if isinstance(value, str):
        try:
            number = NON_FINITE[value] if value in NON_FINITE else float(value)
        except ValueError:
            raise _MisfitError("a number, NaN, Infinity or -Infinity", value) from None
    elif isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
    else:
        raise _MisfitError("a number, NaN, Infinity or -Infinity", value)
    return struct.pack("<d", number)


def _base64(value: object, _depth: int) -> bytes:
    """Standard or URL-safe alphabet, padded or not, as the proto3 mapping allows."""
    if not isinstance(value, str):
        raise _MisfitError("base64 text", value)
    text = value.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return _delimited(base64.b64decode(text + "=" * (-len(text) % 4), validate=True))
    except (binascii.Error, ValueError):
        raise _MisfitError("base64 text", value) from None


def _hex_id(size_bytes: int) -> Kind:
    digits = 2 * size_bytes
    expected = f"{digits} hex digits or an empty string"

    def encode(value: object, _depth: int) -> bytes:
        if not isinstance(value, str) or len(value) not in (0, digits):
            raise _MisfitError(expected, value)
        try:
            content = bytes.fromhex(value)
        except ValueError:
            raise _MisfitError(expected, value) from None
        if 2 * len(content) != len(value):  # fromhex skips spaces
            raise _MisfitError(expected, value)
        return _delimited(content)

    return Kind(LENGTH_DELIMITED, encode)


def _enum(prefix: str, names: tuple[str, ...]) -> Kind:
    """A number, known or not as proto3 allows, or one of the names."""
    number_of = {prefix + name: number for number, name in enumerate(names)}

    def encode(value: object, _depth: int) -> bytes:
        if isinstance(value, str) and not _is_decimal(value):
            if value not in number_of:
                raise _MisfitError(f"a number or one of {', '.join(number_of)}", value)
            return _varint(number_of[value])
        return _varint(_whole_number(value, -(1 << 31), (1 << 31) - 1) & 0xFFFF_FFFF_FFFF_FFFF)

    return Kind(VARINT, encode)


def _nested(table: Mapping[str, Field]) -> Kind:
    return Kind(LENGTH_DELIMITED, lambda value, depth: _delimited(_message(table, value, depth + 1)))


def _list_of(kind: Kind) -> Kind:
    return replace(kind, repeated=True)


# Tables


def _tag(number: int, wire_type: int) -> bytes:
    return _varint(number << 3 | wire_type)


def _table(*rows: tuple[int, str, Kind]) -> Table:
    """Rows of (field number, snake_case name, kind)."""
    table: Table = {}
    for number, name, kind in rows:
        first, *rest = name.split("_")
        camel = first + "".join(word.capitalize() for word in rest)
        table[name] = table[camel] = Field(_tag(number, kind.wire_type), kind.encode, kind.repeated)
    return table


STRING = Kind(LENGTH_DELIMITED, _string)
BYTES = Kind(LENGTH_DELIMITED, _base64)
BOOL = Kind(VARINT, _bool)
INT64 = Kind(VARINT, _int64)
UINT32 = Kind(VARINT, _uint32)
FIXED32_NUMBER = Kind(FIXED32, _fixed32)
FIXED64_NUMBER = Kind(FIXED64, _fixed64)
DOUBLE = Kind(FIXED64, _double)
TRACE_ID, SPAN_ID = _hex_id(16), _hex_id(8)
SPAN_KIND = _enum("SPAN_KIND_", SPAN_KINDS)
STATUS_CODE = _enum("STATUS_CODE_", STATUS_CODES)

# AnyValue holds itself, so its table is filled after those that it names.
ANY_VALUE: Table = {}
KEY_VALUE = _table((1, "key", STRING), (2, "value", _nested(ANY_VALUE)))
ATTRIBUTES = _list_of(_nested(KEY_VALUE))
ARRAY_VALUE = _table((1, "values", _list_of(_nested(ANY_VALUE))))
KEY_VALUE_LIST = _table((1, "values", ATTRIBUTES))
ANY_VALUE.update(
    _table(
        (1, "string_value", STRING),
        (2, "bool_value", BOOL),
        (3, "int_value", INT64),
        (4, "double_value", DOUBLE),
        (5, "array_value", _nested(ARRAY_VALUE)),
        (6, "kvlist_value", _nested(KEY_VALUE_LIST)),
        (7, "bytes_value", BYTES),
    )
)
EVENT = _table(
    (1, "time_unix_nano", FIXED64_NUMBER),
    (2, "name", STRING),
    (3, "attributes", ATTRIBUTES),
    (4, "dropped_attributes_count", UINT32),
)
LINK = _table(
    (1, "trace_id", TRACE_ID),
    (2, "span_id", SPAN_ID),
    (3, "trace_state", STRING),
    (4, "attributes", ATTRIBUTES),
    (5, "dropped_attributes_count", UINT32),
    (6, "flags", FIXED32_NUMBER),
)
STATUS = _table((2, "message", STRING), (3, "code", STATUS_CODE))
SPAN = _table(
    (1, "trace_id", TRACE_ID),
    (2, "span_id", SPAN_ID),
    (3, "trace_state", STRING),
    (4, "parent_span_id", SPAN_ID),
    (5, "name", STRING),
    (6, "kind", SPAN_KIND),
    (7, "start_time_unix_nano", FIXED64_NUMBER),
    (8, "end_time_unix_nano", FIXED64_NUMBER),
    (9, "attributes", ATTRIBUTES),
    (10, "dropped_attributes_count", UINT32),
    (11, "events", _list_of(_nested(EVENT))),
    (12, "dropped_events_count", UINT32),
    (13, "links", _list_of(_nested(LINK))),
    (14, "dropped_links_count", UINT32),
    (15, "status", _nested(STATUS)),
    (16, "flags", FIXED32_NUMBER),
)
SCOPE = _table(
    (1, "name", STRING),
    (2, "version", STRING),
    (3, "attributes", ATTRIBUTES),
    (4, "dropped_attributes_count", UINT32),
)
SCOPE_SPANS = _table(
    (1, "scope", _nested(SCOPE)),
    (2, "spans", _list_of(_nested(SPAN))),
    (3, "schema_url", STRING),
)
RESOURCE = _table((1, "attributes", ATTRIBUTES), (2, "dropped_attributes_count", UINT32))
RESOURCE_SPANS = _table(
    (1, "resource", _nested(RESOURCE)),
    (2, "scope_spans", _list_of(_nested(SCOPE_SPANS))),
    (3, "schema_url", STRING),
)
EXPORT_REQUEST = _table((1, "resource_spans", _list_of(_nested(RESOURCE_SPANS))))
