"""Values that are no scalars, decoded: arrays to their elements, arrays and maps to Python values for answers.

What is decoded here are OTLP's ArrayValue and KeyValueList, as the WAL and the blocks keep them. Equal values are decoded once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from vivace.model.frame import Compounds
from vivace.model.proto import otlp_pb2
from vivace.model.schema import ValueType

Decoded: TypeAlias = "str | int | float | bool | bytes | tuple[Decoded, ...] | Mapping[str, Decoded] | None"


def decode(kind: ValueType, value: bytes) -> Decoded:
    """A compound as a Python value: bytes, tuple or dict."""
    if kind is ValueType.ARRAY:
        return tuple(map(_plain, otlp_pb2.ArrayValue.FromString(value).values))
    if kind is ValueType.KVLIST:
        return {pair.key: _plain(pair.value) for pair in otlp_pb2.KeyValueList.FromString(value).values}
    return value


def _plain(value: otlp_pb2.AnyValue) -> Decoded:
    match value.WhichOneof("value"):
        case None:
            return None
        case "array_value":
            return tuple(map(_plain, value.array_value.values))
        case "kvlist_value":
            return {pair.key: _plain(pair.value) for pair in value.kvlist_value.values}
        case name:
            scalar: str | int | float | bool | bytes = getattr(value, name)
            return scalar


def elements(compounds: Compounds) -> tuple[list[int], list[Decoded]]:
    """The scalar elements of all arrays: (the row of each, its value)."""
    decoded: dict[bytes, tuple[Decoded, ...]] = {}
    rows: list[int] = []
    flat: list[Decoded] = []
    for row, kind, value in zip(compounds.rows.tolist(), compounds.types, compounds.values, strict=True):
        if kind is not ValueType.ARRAY:
            continue
        items = decoded.get(value)
        if items is None:
            array = decode(kind, value)
            assert isinstance(array, tuple)  # by the kind
            items = decoded[value] = tuple(v for v in array if isinstance(v, str | int | float))
        rows += [row] * len(items)
        flat += items
    return rows, flat
