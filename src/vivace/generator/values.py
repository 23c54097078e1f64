"""Attribute values and names as the text of labels. Plain functions of distinct values, never called once a span.

What a label says of each type of value is Tempo's: docs/metrics-generator.md, "Labels".
"""

from __future__ import annotations

import re
import struct
from collections.abc import Container
from decimal import Decimal

from vivace.model.dictionary import Dictionary
from vivace.model.proto import otlp_pb2
from vivace.model.schema import ValueType

_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_]")

_ID = re.compile(
    r"/(?:\d+"
    r"|[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
    r"|(?=[^/]*\d)[0-9a-fA-F]{16,})(?=/|$)"
)
"""A path segment that names one thing of many: a number, a UUID, 16 or more hexadecimal digits with a number among them."""


def label_name(key: str) -> str:
    """A key as Prometheus takes it: `http.status_code` becomes `http_status_code`."""
    return _NOT_IN_NAMES.sub("_", key)


def free_label_name(key: str, taken: Container[str]) -> str:
    """The same, behind `__` where the name is taken."""
    name = label_name(key)
    return f"__{name}" if name in taken else name


def path_template(path: str) -> str:
    """A path without its query, ids in it replaced: `/users/123?tab=1` becomes `/users/{id}`."""
    return _ID.sub("/{id}", path.partition("?")[0])


def cut_bytes(text: str, bytes_max: int) -> str:
    """`text`, or as much of its beginning as fits `bytes_max` bytes of UTF-8; 0 sets no limit."""
    if not bytes_max or len(text) * 4 <= bytes_max:
        return text
    return text.encode()[:bytes_max].decode("utf-8", "ignore")


def value_text(kind: int, value: int, dictionary: Dictionary) -> str:
    """One attribute value, given as Attributes holds it (model/attributes.py)."""
    match kind:
        case ValueType.STRING:
            return dictionary.strings.get(value).decode()
        case ValueType.BOOL:
            return "true" if value else "false"
        case ValueType.INT:
            return str(value - (1 << 64) if value >> 63 else value)
        case ValueType.DOUBLE:
            number: float = struct.unpack("<d", value.to_bytes(8, "little"))[0]
            return double_text(number)
        case ValueType.ARRAY:
            return _array_text(otlp_pb2.ArrayValue.FromString(dictionary.blobs.get(value)))
        case ValueType.KVLIST:
            return _kvlist_text(otlp_pb2.KeyValueList.FromString(dictionary.blobs.get(value)))
        case _:  # bytes, and a value that is not set
            return ""


def double_text(number: float) -> str:
    """The shortest decimal that reads back as `number`, never with an exponent."""
    if number != number:
        return "NaN"
    if number in (float("inf"), float("-inf")):
        return "+Inf" if number > 0 else "-Inf"
    text = format(Decimal(repr(number)), "f")
    return text.removesuffix(".0")


def _array_text(array: otlp_pb2.ArrayValue) -> str:
    return "[" + "".join(map(_any_text, array.values)) + "]"


def _kvlist_text(pairs: otlp_pb2.KeyValueList) -> str:
    return "{" + "".join(f"{pair.key}:{_any_text(pair.value)}" for pair in pairs.values) + "}"


def _any_text(value: otlp_pb2.AnyValue) -> str:
    match value.WhichOneof("value"):
        case "string_value":
            return value.string_value
        case "bool_value":
            return "true" if value.bool_value else "false"
        case "int_value":
            return str(value.int_value)
        case "double_value":
            return double_text(value.double_value)
        case "array_value":
            return _array_text(value.array_value)
        case "kvlist_value":
            return _kvlist_text(value.kvlist_value)
        case _:
            return ""
