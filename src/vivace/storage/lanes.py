"""Attributes as lanes: the pairs of one key and type, row by row; and lanes as Arrow columns.

A lane is found by one stable counting sort over all pairs, so making the lanes of a row group is O(pairs).
A row that carries a key twice keeps its first value in the lane; the others stay beside it as `extra` pairs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vivace.model.attributes import U32, U64, Attributes, merge_attributes
from vivace.model.columns import distinct
from vivace.model.columns import pool_array as pool_array  # the writers take it from here
from vivace.model.dictionary import Dictionary
from vivace.model.pool import Pool
from vivace.model.schema import ValueType

_TYPES = 8  # values of ValueType: a lane's number is key * 8 + type

STRING_TYPE = pa.dictionary(pa.int32(), pa.string())


@dataclass(frozen=True, slots=True)
class Lane:
    """Pairs of one key code and type, in row order: the rows that carry it (each once) and their values."""

    row: U32
    value: U64


@dataclass(frozen=True, slots=True)
class Lanes:
    """All pairs of some rows: by (key code, type), and the later values of rows that carry a key twice."""

    row_count: int
    lanes: dict[tuple[int, ValueType], Lane]
    extra: Attributes


def split(attributes: Attributes, row_count: int) -> Lanes:
    """The lanes of `row_count` rows."""
    if not len(attributes):
        return Lanes(row_count, {}, Attributes.empty())
    number = attributes.key.astype(np.int64) * _TYPES + attributes.type
    used = np.flatnonzero(np.bincount(number))
    compact = np.zeros(int(used[-1]) + 1, np.uint32)
    compact[used] = np.arange(len(used))
    lane_of_pair = compact[number]
    narrow = lane_of_pair.astype(np.uint16) if len(used) < 1 << 16 else lane_of_pair  # 16 bits: a radix sort
    order = np.argsort(narrow, kind="stable")
    lane, row = lane_of_pair[order], attributes.row[order]
    again = np.zeros(len(order), bool)
    again[1:] = (row[1:] == row[:-1]) & (lane[1:] == lane[:-1])
    extra = Attributes.empty()
    if again.any():
        pairs = np.sort(order[again])
        extra = attributes.pick(pairs)
        order, lane, row = order[~again], lane[~again], row[~again]
    value = attributes.value[order]
    bounds = np.searchsorted(lane, np.arange(len(used) + 1)).tolist()
    lanes = {
        (int(n) // _TYPES, ValueType(int(n) % _TYPES)): Lane(row[a:b], value[a:b])
        for n, a, b in zip(used, bounds, bounds[1:], strict=False)
    }
    return Lanes(row_count, lanes, extra)


def strings_array(pool: Pool, codes: U32, valid: NDArray[np.bool_] | None = None) -> pa.Array:
    """A dictionary array of pool strings, its dictionary only what is used; null where not `valid`."""
    values, indices = distinct(codes, len(pool)) if valid is None else distinct(codes[valid], len(pool))
    if valid is not None:
        spread = np.zeros(len(codes), np.int32)
        spread[valid] = indices
        indices = spread
    return pa.DictionaryArray.from_arrays(
        pa.array(indices, mask=None if valid is None else ~valid), pool_array(pool, values, pa.string())
    )


def lane_array(lane: Lane | None, kind: ValueType, row_count: int, dictionary: Dictionary) -> pa.Array:
    """A lane as a column of `row_count` rows, null where the row does not carry the key."""
    valid = np.zeros(row_count, bool)
    value = np.zeros(row_count, np.uint64)
    if lane is not None:
        valid[lane.row] = True
        value[lane.row] = lane.value
    if kind is ValueType.STRING:
        return strings_array(dictionary.strings, value.astype(np.uint32), valid)
    if kind is ValueType.INT:
        return pa.array(value.view(np.int64), mask=~valid)
    if kind is ValueType.DOUBLE:
        return pa.array(value.view(np.float64), mask=~valid)
    return pa.array(value != 0, mask=~valid)


def ids_array(*words: U64) -> pa.Array:
    """Ids of 8 bytes a word, big-endian, as fixed-size binary."""
    raw = np.empty((len(words[0]), len(words)), ">u8")
    for i, word in enumerate(words):
        raw[:, i] = word
    return pa.Array.from_buffers(pa.binary(8 * len(words)), len(raw), [None, pa.py_buffer(raw)])


def pair_columns(pairs: Attributes, dictionary: Dictionary) -> dict[str, pa.Array]:
    """Pairs as columns: key, type, and one value column for each kind of value, null in the others' rows.

    `bytes` holds raw bytes, or an encoded ArrayValue or KeyValueList.
    """
    is_type = {t: pairs.type == t for t in ValueType}
    of_string, blob = is_type[ValueType.STRING], pairs.type >= ValueType.ARRAY
    return {
        "key": strings_array(dictionary.strings, pairs.key),
        "type": pa.array(pairs.type),
        "string": strings_array(dictionary.strings, np.where(of_string, pairs.value, 0).astype(np.uint32), of_string),
        "int": pa.array(pairs.value.view(np.int64), mask=~is_type[ValueType.INT]),
        "double": pa.array(pairs.value.view(np.float64), mask=~is_type[ValueType.DOUBLE]),
        "bool": pa.array(pairs.value != 0, mask=~is_type[ValueType.BOOL]),
        "bytes": _blobs(dictionary.blobs, pairs.value, blob),
    }


def loose_pairs(lanes: Iterable[tuple[int, ValueType, Lane]], extra: Attributes) -> Attributes:
    """Lanes and loose pairs as one table again, sorted by row.

    Later values of a key come last, so that its first value stays the first however often a block is rewritten.
    """
    return merge_attributes([*(_pairs(key, kind, lane) for key, kind, lane in lanes), extra])


def _pairs(key: int, kind: ValueType, lane: Lane) -> Attributes:
    n = len(lane.row)
    return Attributes(lane.row, np.full(n, key, np.uint32), np.full(n, kind, np.uint8), lane.value)


def _blobs(pool: Pool, value: U64, valid: NDArray[np.bool_]) -> pa.Array:
    codes = value[valid].astype(np.uint32)
    offsets, data = pool.select(codes)
    ends = np.zeros(len(value) + 1, np.int32)
    lengths = np.zeros(len(value), np.int64)
    lengths[valid] = np.diff(offsets)
    np.cumsum(lengths, out=ends[1:])
    mask = pa.array(valid).buffers()[1]
    return pa.Array.from_buffers(pa.binary(), len(value), [mask, pa.py_buffer(ends), pa.py_buffer(data)])
