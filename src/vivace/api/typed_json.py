"""Values of answers in protobuf's JSON, on orjson: attributes with their types, doubles, costs, text that is safe in HTML.

Rule 1  a zero value is left out, but not the chosen one of a value with a type: {"intValue":"0"}.
Rule 2  64-bit integers are strings, 32-bit ones numbers, bytes standard base64.
Rule 3  doubles are as otlp_json.double_text writes them; < > & and U+2028/2029 are escaped: finished() sees to that.

Functions that return plain structures give them to orjson once, at the end: an answer has up to 100,000 of them.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping
from typing import Any, assert_never

import numpy as np
import orjson
from numpy.typing import NDArray

from vivace.api.otlp_json import double_text
from vivace.query.answers import Pairs, QueryCost, Value

_ESCAPES = ((b"<", b"\\u003c"), (b">", b"\\u003e"), (b"&", b"\\u0026"))
_LINE_ESCAPES = (("\u2028".encode(), b"\\u2028"), ("\u2029".encode(), b"\\u2029"))


def finished(body: bytes) -> bytes:
    """`body`, JSON, with the characters escaped that are dangerous in HTML. They stand in strings only, so replacing is safe."""
    # looking for one byte is 20 times faster than for three, and few bodies have the first of them
    escapes = _ESCAPES + _LINE_ESCAPES if b"\xe2" in body else _ESCAPES
    for character, escape in escapes:
        body = body.replace(character, escape)
    return body


def attributes_json(pairs: Pairs) -> list[dict[str, Any]]:
    """KeyValue messages."""
    return [{"key": key, "value": value_json(value)} for key, value in pairs]


def value_json(value: Value) -> dict[str, Any]:
    """An AnyValue message; {} for a value that is not set."""
    match value:
        case str():
            return {"stringValue": value}
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": double_json(value)}
        case bytes():
            return {"bytesValue": b64encode(value).decode()}
        case tuple():
            return {"arrayValue": {"values": [value_json(item) for item in value]} if value else {}}
        case Mapping():
            return {"kvlistValue": {"values": attributes_json(tuple(value.items()))} if value else {}}
        case None:
            return {}
        case _:
            assert_never(value)


def double_json(value: float) -> orjson.Fragment:
    return orjson.Fragment(double_text(value))


def double_texts(values: NDArray[np.float64]) -> list[bytes]:
    """`values` as double_text writes them. Fast, because orjson writes all but the very large and the very small alike."""
    if not len(values):
        return []
    text = orjson.dumps(np.ascontiguousarray(values), option=orjson.OPT_SERIALIZE_NUMPY)[1:-1] + b","
    texts = text.replace(b".0,", b",")[:-1].split(b",")
    if b"e" not in text and b"n" not in text:
        return texts
    # an exponent, whose form and beginning differ, or null, for what is no number
    return [
        double_text(value).encode() if b"e" in fast or b"n" in fast else fast
        for value, fast in zip(values.tolist(), texts, strict=True)
    ]


def search_metrics(cost: QueryCost) -> dict[str, int | str]:
    """The `metrics` of searches and metrics queries: SearchMetrics."""
    return without_zeros(
        {
            "inspectedTraces": cost.inspected_traces,
            "inspectedBytes": str(cost.inspected_bytes),
            "totalBlocks": cost.total_blocks,
            "completedJobs": cost.completed_jobs,
            "totalJobs": cost.total_jobs,
            "totalBlockBytes": str(cost.total_block_bytes),
            "inspectedSpans": str(cost.inspected_spans),
        }
    )


def metadata_metrics(cost: QueryCost) -> dict[str, int | str]:
    """The `metrics` of tag names and values: MetadataMetrics."""
    return without_zeros(
        {
            "inspectedBytes": str(cost.inspected_bytes),
            "totalJobs": cost.total_jobs,
            "completedJobs": cost.completed_jobs,
            "totalBlocks": cost.total_blocks,
            "totalBlockBytes": str(cost.total_block_bytes),
        }
    )


def without_zeros(fields: Mapping[str, int | str]) -> dict[str, int | str]:
    return {name: value for name, value in fields.items() if value not in (0, "", "0")}


def partial_status(message: str) -> dict[str, str]:
    """What is said beside `metrics` of an answer that is not complete; nothing of a complete one."""
    return {"status": "PARTIAL", "message": message} if message else {}


def joined(items: Iterable[bytes]) -> bytes:
    """JSON values as a JSON array."""
    return b"[" + b",".join(items) + b"]"
