"""The dictionary of the house: what a span is made of, under which name, in which type.

Everything that names a column, an attribute scope or a value type takes it from here: the decoder, the head, the blocks
(docs/formats/block.md), TraceQL. Source: the OTLP trace protobuf, v1.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum


class ValueType(IntEnum):
    """Types of an attribute value; the numbers are the field numbers of OTLP's AnyValue, 0 = nothing is set."""

    EMPTY = 0
    STRING = 1
    BOOL = 2
    INT = 3
    DOUBLE = 4
    ARRAY = 5
    KVLIST = 6
    BYTES = 7


SCALARS = (ValueType.STRING, ValueType.BOOL, ValueType.INT, ValueType.DOUBLE)
"""Types that can be a column of their own; the others are kept as bytes: an ArrayValue, a KeyValueList, raw bytes."""


class AttributeScope(StrEnum):
    """Where an attribute hangs. Span, event and link attributes vary by row; the other two are shared by many spans."""

    SPAN = "span"
    RESOURCE = "resource"
    INSTRUMENTATION = "instrumentation"
    EVENT = "event"
    LINK = "link"


KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")
STATUSES = ("unset", "ok", "error")

NO_PARENT = 0
"""`parent_span_id` of a root span: OTLP's empty id and eight zero bytes mean the same."""

ROOT = -1
"""`nested_set_parent` of a span without a parent id."""

UNKNOWN_PARENT = 0
"""`nested_set_parent` of a span whose parent was never received, or whose ancestors form a ring."""
