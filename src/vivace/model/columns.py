"""Columns of a frame out of codes and pairs: what spans in memory and the small tables of a block have in common.

Rule 1  `Numbers.valid` is None exactly when every row has a value; the value of a row without one is 0.
Rule 2  of several values of one type that a row has for a key, the first counts.
Rule 3  a value that is not set (ValueType.EMPTY) is no value; the rows that have one are told apart.

What the columns promise: frame.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vivace.model.attributes import U8, U32, Attributes
from vivace.model.dictionary import Dictionary, Resources
from vivace.model.frame import Attribute, Compounds, Mask, Numbers, Rows, Strings
from vivace.model.pool import Pool
from vivace.model.schema import ValueType

SERVICE_NAME = b"service.name"
NUMBER_TYPES = {ValueType.INT: np.int64, ValueType.DOUBLE: np.float64}


def service_codes(resources: Resources, strings: Pool) -> U32:
    """Code of each resource's `service.name`; 0, the empty string, where it has none that is a string."""
    codes = np.zeros(len(resources), np.uint32)
    pairs, key = resources.attributes, strings.code_of(SERVICE_NAME)
    if key is not None:
        named = np.flatnonzero((pairs.key == key) & (pairs.type == ValueType.STRING))[::-1]
        codes[pairs.row[named]] = pairs.value[named]  # from the last to the first, so that the first stands
    return codes


def distinct(codes: U32, code_count: int) -> tuple[U32, NDArray[np.int32]]:
    """Distinct codes in order of last sight, and each entry's place among them. O(entries + codes), no sort."""
    seat = np.zeros(code_count, np.int32)
    position = np.arange(len(codes), dtype=np.int32)
    seat[codes] = position
    last = seat[codes] == position
    values = codes[last]
    seat[values] = np.arange(len(values), dtype=np.int32)
    return values, seat[codes]


def pool_array(pool: Pool, codes: U32, kind: pa.DataType) -> pa.Array:
    """Pool entries as an Arrow string or binary array."""
    offsets, data = pool.select(np.ascontiguousarray(codes, np.uint32))
    buffers = [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(data)]
    return pa.Array.from_buffers(kind, len(codes), buffers)


def pool_strings(pool: Pool, codes: U32, kind: pa.DataType | None = None) -> Strings:
    """A column of pool codes, each row having one; `kind` is pa.string() unless it is said."""
    values, places = distinct(codes, len(pool))
    return Strings(places, pool_array(pool, values, kind or pa.string()))


def spread_strings(rows: NDArray[np.integer[Any]], strings: Strings, row_count: int) -> Strings:
    """Strings of some rows as a column of `row_count` rows. `rows`: ascending, each once."""
    codes = np.full(row_count, len(strings.table), np.int32)
    codes[rows] = strings.codes
    return Strings(codes, strings.table)


def spread_numbers(rows: NDArray[np.integer[Any]], values: NDArray[Any], row_count: int) -> Numbers:
    """Numbers of some rows as a column of `row_count` rows. `rows`: ascending, each once."""
    column = np.zeros(row_count, values.dtype)
    column[rows] = values
    if len(rows) == row_count:
        return Numbers(column)
    valid = np.zeros(row_count, bool)
    valid[rows] = True
    return Numbers(column, valid)


def first_of_each(rows: NDArray[np.integer[Any]]) -> Mask:
    """Where a new row begins, `rows` being ascending."""
    new = np.ones(len(rows), bool)
    new[1:] = rows[1:] != rows[:-1]
    return new


def compound_pairs(rows: NDArray[np.integer[Any]], types: U8) -> NDArray[np.intp]:
    """Pairs that a Compounds column shows, in its order: by row, then type, the first of each. `rows`: ascending."""
    pairs = np.flatnonzero(types >= ValueType.ARRAY)
    pairs = pairs[np.lexsort((types[pairs], rows[pairs]))]
    again = np.zeros(len(pairs), bool)
    again[1:] = (rows[pairs][1:] == rows[pairs][:-1]) & (types[pairs][1:] == types[pairs][:-1])
    return pairs[~again]


def attribute_column(table: Attributes, row_count: int, dictionary: Dictionary, key: str) -> Attribute | None:
    """The values of a key in a table of `row_count` rows, or None.

    Cost  O(pairs of the table), less than a nanosecond each; nothing is added to the dictionary.
    """
    # no pool holds a lone surrogate, so a key with one is not found
    code = dictionary.strings.code_of(key.encode(errors="surrogatepass"))
    if code is None:
        return None
    pairs = np.flatnonzero(table.key == code)
    if not len(pairs):
        return None
    found = table.pick(pairs)
    return attribute_or_none(
        Attribute(
            strings=_strings(found, row_count, dictionary.strings),
            ints=_numbers(found, ValueType.INT, row_count),
            doubles=_numbers(found, ValueType.DOUBLE, row_count),
            bools=_numbers(found, ValueType.BOOL, row_count),
            compounds=_compounds(found, dictionary.blobs),
            unset=unset_rows(found.row, found.type),
        )
    )


def attribute_or_none(attribute: Attribute) -> Attribute | None:
    """None for one that no row carries."""
    a = attribute
    parts = (a.strings, a.ints, a.doubles, a.bools, a.compounds, a.unset)
    return None if all(part is None for part in parts) else attribute


def unset_rows(rows: NDArray[np.integer[Any]], types: U8) -> Rows | None:
    """Rows with a value that is not set, each once; None for none. `rows`: ascending, one a pair."""
    unset = np.unique(rows[types == ValueType.EMPTY]).astype(np.int64)
    return unset if len(unset) else None


def _lane(pairs: Attributes, kind: ValueType) -> Attributes:
    """Pairs of one type, one a row."""
    chosen = np.flatnonzero(pairs.type == kind)
    return pairs.pick(chosen[first_of_each(pairs.row[chosen])])


def _strings(pairs: Attributes, row_count: int, pool: Pool) -> Strings | None:
    lane = _lane(pairs, ValueType.STRING)
    if not len(lane):
        return None
    return spread_strings(lane.row, pool_strings(pool, lane.value.astype(np.uint32)), row_count)


def _numbers(pairs: Attributes, kind: ValueType, row_count: int) -> Numbers | None:
    lane = _lane(pairs, kind)
    if not len(lane):
        return None
    values = lane.value != 0 if kind is ValueType.BOOL else lane.value.view(NUMBER_TYPES[kind])
    return spread_numbers(lane.row, values, row_count)


def _compounds(pairs: Attributes, pool: Pool) -> Compounds | None:
    chosen = pairs.pick(compound_pairs(pairs.row, pairs.type))
    return compounds(chosen.row, chosen.type, [pool.get(code) for code in chosen.value.tolist()])


def compounds(rows: NDArray[np.integer[Any]], types: U8, values: Sequence[bytes]) -> Compounds | None:
    """A Compounds column of pairs in its order, None for none."""
    if not len(rows):
        return None
    kinds = tuple(ValueType(t) for t in types.tolist())
    found: Rows = rows.astype(np.int64)
    return Compounds(found, kinds, tuple(values))
