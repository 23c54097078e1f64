"""The Parquet files of a block, row group by row group: tables with attribute columns, and the pairs that have none.

Encodings and null rules: docs/formats/block.md.  Which attributes are columns: layout.py.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vivace.model.attributes import Attributes
from vivace.model.dictionary import Dictionary
from vivace.model.schema import AttributeScope, ValueType
from vivace.storage.lanes import Lanes, lane_array, loose_pairs, pair_columns, pool_array, split
from vivace.storage.layout import Key, KeyStats

COMPRESSION, COMPRESSION_LEVEL = "zstd", 1
"""Level 3 takes a fifth more CPU for 0.1 % fewer bytes (measured on 1M spans)."""

NULLABLE = frozenset({"root_service_name", "root_name"})
DELTA_COLUMNS = frozenset({"start_time_unix_nano", "time_unix_nano", "nested_set_left", "first_row", "span", "row"})
PLAIN_COLUMNS = frozenset({"span_id", "parent_span_id", "duration_nano", "nested_set_right"})


PAGE_BYTES = 64 << 10
"""A trace is some 25 of 62,500 rows: small pages let a reader skip the others (3.6 ms a trace instead of 5.5)."""

DISTINCT_SHARE_MAX = 0.5
"""A column with more distinct values than this is written plain: its dictionary would be longer than what it saves, and
every reader would have to decode all of it (35.9 to 34.8 bytes a span, measured)."""


def open_writer(path: Path, first: pa.Table) -> pq.ParquetWriter:
    """A Parquet file with our encodings; its row groups are written one by one, `first` being the first of them."""
    schema = first.schema
    plain = PLAIN_COLUMNS | DELTA_COLUMNS | {n for n in schema.names if _is_mostly_distinct(first[n])}
    return pq.ParquetWriter(
        path,
        schema,
        compression=COMPRESSION,
        compression_level=COMPRESSION_LEVEL,
        use_dictionary=[n for n in schema.names if n not in plain],
        column_encoding={n: "DELTA_BINARY_PACKED" for n in schema.names if n in DELTA_COLUMNS},
        data_page_size=PAGE_BYTES,
        write_page_index=True,
        data_page_version="2.0",
        store_schema=False,
    )


def _is_mostly_distinct(column: pa.ChunkedArray) -> bool:
    if not pa.types.is_dictionary(column.type) or not len(column):
        return False
    return bool(len(column.chunk(0).dictionary) > DISTINCT_SHARE_MAX * (len(column) - column.null_count))


class OverflowFile:
    """attributes.parquet: one row a pair that has no column. A row group holds one scope, sorted by row."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[AttributeScope, int] = {}
        self._writer: pq.ParquetWriter | None = None

    def append(self, scope: AttributeScope, first_row: int, pairs: Attributes, dictionary: Dictionary) -> None:
        """Write pairs whose row 0 is row `first_row` of the scope's table."""
        if not len(pairs):
            return
        columns = {
            "scope": pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(pairs), np.int32)), pa.array([scope.value])),
            "row": pa.array(pairs.row.astype(np.int64) + first_row),
            **pair_columns(pairs, dictionary),
        }
        schema = pa.schema([pa.field(n, a.type, nullable=n not in PAIR_REQUIRED) for n, a in columns.items()])
        table = pa.table(columns, schema=schema)
        if self._writer is None:
            self._writer = open_writer(self.path, table)
        self._writer.write_table(table, row_group_size=len(pairs))
        self.rows[scope] = self.rows.get(scope, 0) + len(pairs)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


PAIR_REQUIRED = frozenset({"scope", "row", "key", "type"})


class TableFile:
    """One Parquet file whose rows have fixed columns and chosen attribute columns; the other pairs go to `overflow`."""

    def __init__(
        self, path: Path, scope: AttributeScope | None, plan: list[KeyStats], overflow: OverflowFile | None
    ) -> None:
        self.path = path
        self._scope = scope
        self._overflow = overflow
        self._columns = [k for k in plan if k.key.scope is scope and k.column]
        self._writer: pq.ParquetWriter | None = None
        self.counts: dict[Key, int] = {}
        self.rows = 0

    def append(
        self, fixed: dict[str, pa.Array], row_count: int, attributes: Attributes, dictionary: Dictionary
    ) -> None:
        """Write one row group."""
        columns = dict(fixed)
        if self._scope is not None:
            lanes = split(attributes, row_count)
            columns |= self._attribute_columns(lanes, dictionary)
        # columns without nulls are declared so: no definition levels to write or to read
        schema = pa.schema([pa.field(n, a.type, nullable=n not in fixed or n in NULLABLE) for n, a in columns.items()])
        table = pa.table(columns, schema=schema)
        if self._writer is None:
            self._writer = open_writer(self.path, table)
        if row_count or not self.rows:
            self._writer.write_table(table, row_group_size=max(row_count, 1))
        self.rows += row_count

    def _attribute_columns(self, lanes: Lanes, dictionary: Dictionary) -> dict[str, pa.Array]:
        names = lane_names(lanes, dictionary)
        by_name = {(name, kind): (code, kind) for (code, kind), name in names.items()}
        columns, used = {}, set()
        for stats in self._columns:
            place = by_name.get((stats.key.name, stats.key.type))
            if place:
                used.add(place)
            found = lanes.lanes[place] if place else None
            columns[stats.column] = lane_array(found, stats.key.type, lanes.row_count, dictionary)
        for (code, kind), lane in lanes.lanes.items():
            assert self._scope is not None
            key = Key(self._scope, names[code, kind], kind)
            self.counts[key] = self.counts.get(key, 0) + len(lane.row)
        rest = [(code, kind, lane) for (code, kind), lane in lanes.lanes.items() if (code, kind) not in used]
        if self._overflow is not None and self._scope is not None:
            self._overflow.append(self._scope, self.rows, loose_pairs(rest, lanes.extra), dictionary)
        return columns

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def lane_names(lanes: Lanes, dictionary: Dictionary) -> dict[tuple[int, ValueType], str]:
    keys = list(lanes.lanes)
    names = pool_array(dictionary.strings, np.array([k for k, _ in keys], np.uint32), pa.string()).to_pylist()
    return dict(zip(keys, names, strict=True))
