"""Attributes that have no column in a block: the pairs of one key, out of attributes.parquet.

A key is read once for the whole block, since its pairs are few and lie anywhere; row groups take their slice of it.
Bytes: docs/formats/block.md, "Attributes".
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from vivace.model.columns import (
    compound_pairs,
    compounds,
    first_of_each,
    spread_numbers,
    spread_strings,
    unset_rows,
)
from vivace.model.frame import Attribute, Compounds, Numbers, Rows, Strings
from vivace.model.schema import AttributeScope, ValueType
from vivace.storage.column_files import damage, numbers_of, strings_of
from vivace.storage.lazy_polars import polars

if TYPE_CHECKING:
    from polars import DataFrame

VALUE_COLUMNS = {
    ValueType.STRING: "string",
    ValueType.BOOL: "bool",
    ValueType.INT: "int",
    ValueType.DOUBLE: "double",
    ValueType.ARRAY: "bytes",
    ValueType.KVLIST: "bytes",
    ValueType.BYTES: "bytes",
}


@dataclass(frozen=True, slots=True)
class Lane:
    """Values of one type: the rows of the block that have one, ascending, each once, and the values."""

    rows: Rows
    values: Strings | Numbers

    @property
    def nbytes(self) -> int:
        return int(self.rows.nbytes) + self.values.nbytes


@dataclass(frozen=True, slots=True)
class LooseAttribute:
    """The pairs of one key of one scope in a whole block, by type."""

    lanes: dict[ValueType, Lane]
    compounds: Compounds | None
    unset: Rows | None

    @property
    def nbytes(self) -> int:
        parts = (*self.lanes.values(), self.compounds, self.unset)
        return sum(part.nbytes for part in parts if part is not None)

    def spread(self, first_row: int, row_count: int) -> Attribute:
        """Rows [first_row, first_row + row_count) of the scope's table as columns."""
        return Attribute(
            strings=self._strings(first_row, row_count),
            ints=self._numbers(ValueType.INT, first_row, row_count),
            doubles=self._numbers(ValueType.DOUBLE, first_row, row_count),
            bools=self._numbers(ValueType.BOOL, first_row, row_count),
            compounds=self._compounds(first_row, row_count),
            unset=self._unset(first_row, row_count),
        )

    def _strings(self, first_row: int, row_count: int) -> Strings | None:
        lane = self.lanes.get(ValueType.STRING)
        if lane is None:
            return None
        part = _range(lane.rows, first_row, row_count)
        assert isinstance(lane.values, Strings)
        if part.start == part.stop:
            return None
        strings = Strings(lane.values.codes[part], lane.values.table)
        return spread_strings(lane.rows[part] - first_row, strings, row_count)

    def _numbers(self, kind: ValueType, first_row: int, row_count: int) -> Numbers | None:
        lane = self.lanes.get(kind)
        if lane is None:
            return None
        part = _range(lane.rows, first_row, row_count)
        assert isinstance(lane.values, Numbers)
        if part.start == part.stop:
            return None
        return spread_numbers(lane.rows[part] - first_row, lane.values.values[part], row_count)

    def _compounds(self, first_row: int, row_count: int) -> Compounds | None:
        found = self.compounds
        if found is None:
            return None
        part = _range(found.rows, first_row, row_count)
        if part.start == part.stop:
            return None
        return Compounds(found.rows[part] - first_row, found.types[part], found.values[part])

    def _unset(self, first_row: int, row_count: int) -> Rows | None:
        if self.unset is None:
            return None
        part = self.unset[_range(self.unset, first_row, row_count)]
        return part - first_row if len(part) else None


def _range(rows: Rows, first_row: int, row_count: int) -> slice:
    a, b = np.searchsorted(rows, (first_row, first_row + row_count))
    return slice(int(a), int(b))


def read_loose(path: Path, scope: AttributeScope, key: str, types: Collection[ValueType]) -> LooseAttribute:
    """The pairs of a key that have one of `types`, those which have no column. `path` is attributes.parquet.

    Raises  CorruptionError when the file cannot be read.
    """
    columns = sorted({VALUE_COLUMNS[kind] for kind in types if kind is not ValueType.EMPTY})
    pl = polars()
    wanted = (pl.col("scope") == scope.value) & (pl.col("key") == key) & pl.col("type").is_in([int(t) for t in types])
    with damage(path, f"attribute {scope.value}.{key}"):
        pairs = pl.scan_parquet(path, glob=False, cache=False).filter(wanted).select("row", "type", *columns).collect()
        return _by_type(pairs)


def _by_type(pairs: DataFrame) -> LooseAttribute:
    rows, types = pairs["row"].to_numpy(), pairs["type"].to_numpy()
    lanes = {}
    for kind, name in VALUE_COLUMNS.items():
        if name == "bytes":
            continue
        chosen = np.flatnonzero(types == kind)
        chosen = chosen[first_of_each(rows[chosen])]
        if len(chosen):
            values = pa.chunked_array([pairs[name].gather(chosen).to_arrow(compat_level=polars().CompatLevel.oldest())])
            lanes[kind] = Lane(rows[chosen], strings_of(values) if kind is ValueType.STRING else numbers_of(values))
    blobs = compound_pairs(rows, types)
    values = pairs["bytes"].gather(blobs).to_list() if len(blobs) else []
    return LooseAttribute(lanes, compounds(rows[blobs], types[blobs], values), unset_rows(rows, types))
