"""The OTLP trace messages as data: the one table that both JSON transcoders walk.

Field numbers, types and JSON names are those of opentelemetry-proto 1.x, trace/v1, common/v1 and resource/v1. A field that
is not here is skipped, as an unknown field is. Fields of a message stand in field-number order: that is the JSON key order.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

FIELD_NUMBER_MAX = 16
"""The highest field number below; the native transcoder sizes its tables by it."""

DEPTH_MAX = 100
"""Messages within messages, TracesData being the first: the protobuf libraries' own limit, so ingest refuses what is deeper."""


class WireType(IntEnum):
    """How a field's value stands on the wire; groups (3, 4) are in no OTLP message and count as malformed."""

    VARINT = 0
    FIXED64 = 1
    BYTES = 2
    FIXED32 = 5


class Kind(IntEnum):
    """A field's type and so its JSON form. The native transcoder knows these numbers: change both."""

    STRING = 0
    BYTES = 1
    BOOL = 2
    INT64 = 3
    UINT32 = 4
    FIXED64 = 5
    FIXED32 = 6
    DOUBLE = 7
    SPAN_KIND = 8
    STATUS_CODE = 9
    MESSAGE = 10


WIRE_TYPES = {
    Kind.STRING: WireType.BYTES,
    Kind.BYTES: WireType.BYTES,
    Kind.BOOL: WireType.VARINT,
    Kind.INT64: WireType.VARINT,
    Kind.UINT32: WireType.VARINT,
    Kind.FIXED64: WireType.FIXED64,
    Kind.FIXED32: WireType.FIXED32,
    Kind.DOUBLE: WireType.FIXED64,
    Kind.SPAN_KIND: WireType.VARINT,
    Kind.STATUS_CODE: WireType.VARINT,
    Kind.MESSAGE: WireType.BYTES,
}

ENUM_NAMES = {
    Kind.SPAN_KIND: (
        "SPAN_KIND_UNSPECIFIED",
        "SPAN_KIND_INTERNAL",
        "SPAN_KIND_SERVER",
        "SPAN_KIND_CLIENT",
        "SPAN_KIND_PRODUCER",
        "SPAN_KIND_CONSUMER",
    ),
    Kind.STATUS_CODE: ("STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"),
}
"""Names by number; a number without a name is printed as the number."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field. `message` names its message type when kind is MESSAGE; only messages repeat in OTLP traces."""

    number: int
    name: str
    kind: Kind
    message: str = ""
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """One message type. In a `oneof` message the last field given is its value, and a zero value is printed too."""

    name: str
    fields: tuple[Field, ...]
    oneof: bool = False


def _one(number: int, name: str, message: str) -> Field:
    return Field(number, name, Kind.MESSAGE, message)


def _many(number: int, name: str, message: str) -> Field:
    return Field(number, name, Kind.MESSAGE, message, repeated=True)


MESSAGES: tuple[Message, ...] = (
    Message("TracesData", (_many(1, "resourceSpans", "ResourceSpans"),)),
    Message(
        "ResourceSpans",
        (
            _one(1, "resource", "Resource"),
            _many(2, "scopeSpans", "ScopeSpans"),
            Field(3, "schemaUrl", Kind.STRING),
        ),
    ),
    Message(
        "Resource",
        (
            _many(1, "attributes", "KeyValue"),
            Field(2, "droppedAttributesCount", Kind.UINT32),
        ),
    ),
    Message(
        "ScopeSpans",
        (
            _one(1, "scope", "InstrumentationScope"),
            _many(2, "spans", "Span"),
            Field(3, "schemaUrl", Kind.STRING),
        ),
    ),
    Message(
        "InstrumentationScope",
        (
            Field(1, "name", Kind.STRING),
            Field(2, "version", Kind.STRING),
            _many(3, "attributes", "KeyValue"),
            Field(4, "droppedAttributesCount", Kind.UINT32),
        ),
    ),
    Message(
        "Span",
        (
            Field(1, "traceId", Kind.BYTES),
            Field(2, "spanId", Kind.BYTES),
            Field(3, "traceState", Kind.STRING),
            Field(4, "parentSpanId", Kind.BYTES),
            Field(5, "name", Kind.STRING),
            Field(6, "kind", Kind.SPAN_KIND),
            Field(7, "startTimeUnixNano", Kind.FIXED64),
            Field(8, "endTimeUnixNano", Kind.FIXED64),
            _many(9, "attributes", "KeyValue"),
            Field(10, "droppedAttributesCount", Kind.UINT32),
            _many(11, "events", "Event"),
            Field(12, "droppedEventsCount", Kind.UINT32),
            _many(13, "links", "Link"),
            Field(14, "droppedLinksCount", Kind.UINT32),
            _one(15, "status", "Status"),
            Field(16, "flags", Kind.FIXED32),
        ),
    ),
    Message(
        "Event",
        (
            Field(1, "timeUnixNano", Kind.FIXED64),
            Field(2, "name", Kind.STRING),
            _many(3, "attributes", "KeyValue"),
            Field(4, "droppedAttributesCount", Kind.UINT32),
        ),
    ),
    Message(
        "Link",
        (
            Field(1, "traceId", Kind.BYTES),
            Field(2, "spanId", Kind.BYTES),
            Field(3, "traceState", Kind.STRING),
            _many(4, "attributes", "KeyValue"),
            Field(5, "droppedAttributesCount", Kind.UINT32),
            Field(6, "flags", Kind.FIXED32),
        ),
    ),
    Message(
        "Status",
        (
            Field(2, "message", Kind.STRING),
            Field(3, "code", Kind.STATUS_CODE),
        ),
    ),
    Message(
        "KeyValue",
        (
            Field(1, "key", Kind.STRING),
            _one(2, "value", "AnyValue"),
        ),
    ),
    Message(
        "AnyValue",
        (
            Field(1, "stringValue", Kind.STRING),
            Field(2, "boolValue", Kind.BOOL),
            Field(3, "intValue", Kind.INT64),
            Field(4, "doubleValue", Kind.DOUBLE),
            _one(5, "arrayValue", "ArrayValue"),
            _one(6, "kvlistValue", "KeyValueList"),
            Field(7, "bytesValue", Kind.BYTES),
        ),
        oneof=True,
    ),
    Message("ArrayValue", (_many(1, "values", "AnyValue"),)),
    Message("KeyValueList", (_many(1, "values", "KeyValue"),)),
)
"""The first message is the root."""
