"""The wire bytes of a trace (OTLP TracesData) as the JSON that trace-by-id replies carry.

Rule 1  keys are the lowerCamelCase field names, in field-number order; a field without a value is left out, and so is a zero
        value, except the chosen one of an AnyValue: {"intValue":"0"}.
Rule 2  a message that is present but empty is {}; a list that is empty is left out.
Rule 3  64-bit integers are strings, 32-bit ones numbers, enums names, bytes standard base64 with padding.
Rule 4  doubles are the shortest digits that read back the same, with an exponent below 1e-6 and from 1e21 on; NaN and the
        infinities are strings.
Rule 5  strings escape < > & and U+2028/2029 (the reply may be pasted into HTML); a byte that is not UTF-8 becomes \\ufffd.
Rule 6  bytes that are not a TracesData raise InvariantError: the trace comes from our own store, so it is our bug. A single
        message field given twice counts as such too (protobuf would merge the two; nothing of ours writes it).

Two bodies, one table (otlp_schema.py): the native `_otlp_json` and, where it was not built, the plain one below, which is
also its specification; tests hold the two together byte by byte.
"""

from __future__ import annotations

import math
import re
import struct
from base64 import b64encode
from collections.abc import Callable

from vivace.api.otlp_schema import DEPTH_MAX, ENUM_NAMES, MESSAGES, WIRE_TYPES, Field, Kind, Message, WireType
from vivace.errors import InvariantError

WireValue = int | bytes
"""A field as it stands on the wire: the integer of a varint or fixed field, or the content of a bytes field."""

_BY_NAME = {message.name: message for message in MESSAGES}
_BY_NUMBER = {message.name: {field.number: field for field in message.fields} for message in MESSAGES}
_ROOT = MESSAGES[0]

_ESCAPED = re.compile('[\\x00-\\x1f"\\\\<>&\u2028\u2029\udc80-\udcff]')
_SHORT_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def trace_json_plain(otlp: bytes, root_key: str) -> bytes:
    """`otlp` as JSON whose only key is `root_key` ("batches" in v1 replies, "resourceSpans" in v2); {} when it has no spans.

    Cost    about 1 MB of `otlp` a second and core: a stand-in, not a plan.
    Raises  InvariantError for malformed bytes.
    """
    text: list[str] = []
    _write_message(text, _ROOT, otlp, 1, root_key)
    return "".join(text).encode()


trace_json: Callable[[bytes, str], bytes] = trace_json_plain
"""What replies use: the native body, about 150 MB of `otlp` a second, or without a C compiler at install the plain one."""

try:
    from vivace.api._otlp_json import trace_json_native

    trace_json = trace_json_native
except ImportError:
    pass


def _write_message(text: list[str], message: Message, body: bytes, depth: int, root_key: str = "") -> None:
    if depth > DEPTH_MAX:
        raise InvariantError(f"the stored trace is nested deeper than {DEPTH_MAX} messages")
    values = _read_fields(message, body)
    text.append("{")
    comma = ""
    for field in message.fields:
        if field.number not in values or not (message.oneof or _is_printed(field, values[field.number])):
            continue
        text.append(f'{comma}"{root_key or field.name}":')
        comma = ","
        if field.repeated:
            text.append("[")
            for index, item in enumerate(values[field.number]):
                text.append("," if index else "")
                _write_message(text, _BY_NAME[field.message], _content(item), depth + 1)
            text.append("]")
        elif field.kind is Kind.MESSAGE:
            _write_message(text, _BY_NAME[field.message], _content(values[field.number][0]), depth + 1)
        else:
            text.append(_scalar(field.kind, values[field.number][-1]))
    text.append("}")


def _read_fields(message: Message, body: bytes) -> dict[int, list[WireValue]]:
    """The known fields of `body`, each with all its values in wire order; of a oneof only the last one."""
    fields = _BY_NUMBER[message.name]
    values: dict[int, list[WireValue]] = {}
    at = 0
    while at < len(body):
        key, at = _varint(body, at)
        if key >> 32 or key >> 3 == 0:
            raise _malformed(at)
        value, at = _value(body, at, key & 7)
        field = fields.get(key >> 3)
        if field is None or WIRE_TYPES[field.kind] != key & 7:
            continue
        if field.kind is Kind.MESSAGE and not field.repeated and field.number in values:
            raise _malformed(at)
        if message.oneof:
            values.clear()
        values.setdefault(field.number, []).append(value)
    return values


def _value(body: bytes, at: int, wire: int) -> tuple[WireValue, int]:
    if wire == WireType.VARINT:
        return _varint(body, at)
    size = {WireType.FIXED64: 8, WireType.FIXED32: 4}.get(wire)  # type: ignore[call-overload]
    if size is None and wire == WireType.BYTES:
        size, at = _varint(body, at)
        if size <= len(body) - at:
            return body[at : at + size], at + size
    elif size is not None and size <= len(body) - at:
        return int.from_bytes(body[at : at + size], "little"), at + size
    raise _malformed(at)


def _varint(body: bytes, at: int) -> tuple[int, int]:
    """An unsigned 64-bit varint of at most 10 bytes and the place after it; bits above the 64th fall away."""
    value = 0
    for count, byte in enumerate(body[at : at + 10]):
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at + count + 1
    raise _malformed(at)


def _content(value: WireValue) -> bytes:
    assert isinstance(value, bytes)  # WIRE_TYPES: strings, bytes and messages only
    return value


def _is_printed(field: Field, values: list[WireValue]) -> bool:
    if field.kind is Kind.MESSAGE:
        return True
    value = values[-1]
    if isinstance(value, int) and field.kind in (Kind.UINT32, Kind.SPAN_KIND, Kind.STATUS_CODE):
        return value & 0xFFFF_FFFF != 0
    return value not in (0, b"")


def _scalar(kind: Kind, value: WireValue) -> str:
    if isinstance(value, bytes):
        return f'"{b64encode(value).decode()}"' if kind is Kind.BYTES else _string(value)
    match kind:
        case Kind.BOOL:
            return "true" if value else "false"
        case Kind.INT64:
            return f'"{_signed(value, 64)}"'
        case Kind.FIXED64:
            return f'"{value}"'
        case Kind.DOUBLE:
            return double_text(struct.unpack("<d", value.to_bytes(8, "little"))[0])
        case Kind.SPAN_KIND | Kind.STATUS_CODE:
            number = _signed(value & 0xFFFF_FFFF, 32)
            names = ENUM_NAMES[kind]
            return f'"{names[number]}"' if 0 <= number < len(names) else str(number)
        case _:
            return str(value & 0xFFFF_FFFF)


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


def _string(value: bytes) -> str:
    # surrogateescape marks every undecodable byte by itself, so one bad byte is one \ufffd, as in the native body
    return f'"{_ESCAPED.sub(_escape, value.decode("utf-8", "surrogateescape"))}"'


def _escape(found: re.Match[str]) -> str:
    character = found.group()
    if "\udc80" <= character <= "\udcff":
        return "\\ufffd"
    return _SHORT_ESCAPES.get(character) or f"\\u{ord(character):04x}"


def double_text(value: float) -> str:
    """`value` by rule 4: 7, 0.1, 1e+21, 1e-7, -0, "NaN", "Infinity"."""
    if math.isnan(value):
        return '"NaN"'
    if math.isinf(value):
        return '"Infinity"' if value > 0 else '"-Infinity"'
    sign = "-" if math.copysign(1, value) < 0 else ""
    digits, exponent = _shortest_digits(abs(value))
    if value and not 1e-6 <= abs(value) < 1e21:
        fraction = f".{digits[1:]}" if len(digits) > 1 else ""
        return f"{sign}{digits[0]}{fraction}e{exponent:+d}"
    if exponent < 0:
        return f"{sign}0.{'0' * (-exponent - 1)}{digits}"
    whole, fraction = digits[: exponent + 1].ljust(exponent + 1, "0"), digits[exponent + 1 :]
    return f"{sign}{whole}.{fraction}" if fraction else f"{sign}{whole}"


def _shortest_digits(value: float) -> tuple[str, int]:
    """The significant digits of a finite value >= 0 without trailing zeros, and the power of ten of the first: ("15", 3) = 1500."""
    mantissa, _, exponent = repr(value).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    leading_zeros = len(whole + fraction) - len(digits)
    return digits.rstrip("0") or "0", (int(exponent or 0) + len(whole) - leading_zeros - 1) if digits else 0


def _malformed(at: int) -> InvariantError:
    return InvariantError(f"the stored trace is not OTLP: a field is malformed near byte {at} of its message")
