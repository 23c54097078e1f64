"""Reading a block back: rows as a SpanBatch, exactly what was written.

Small ranges (a trace) are read row by row, row_ranges.py; whole row groups (compaction) through pyarrow, which keeps the
dictionaries of string columns.
Bytes: docs/formats/block.md.  Queries over columns: row_group.py.
"""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vivace.errors import CorruptionError
from vivace.model.adopt import adopt_resources, adopt_scopes
from vivace.model.attributes import U32, U64, Attributes, merge_attributes
from vivace.model.batch import Events, Links, SpanBatch
from vivace.model.dictionary import Dictionary, Resources, Scopes
from vivace.model.pool import Pool
from vivace.model.schema import AttributeScope, ValueType
from vivace.storage import layout
from vivace.storage.column_cache import ColumnCache
from vivace.storage.id_index import IdIndex
from vivace.storage.layout import BlockMeta, KeyStats
from vivace.storage.lazy_polars import polars_errors
from vivace.storage.row_group import RowGroup, row_groups
from vivace.storage.row_ranges import OwnedRows, span_rows
from vivace.storage.verify import verify

ENCODE_ROWS_MIN = 1_000
"""Fewer values than this are interned one by one: finding the distinct ones first would cost more (60 us a column)."""

SMALL_ROWS_MAX = 256
"""Up to here a column is read as a list: 15 us instead of 180, and a trace has a dozen columns."""

TRACE_ROWS_MAX = 20_000
"""Up to here a range is read row by row; beyond, whole row groups are cheaper."""


SPAN_COLUMNS = (
    "trace_id",
    "span_id",
    "parent_span_id",
    "start_time_unix_nano",
    "duration_nano",
    "name",
    "kind",
    "status_code",
    "status_message",
    "trace_state",
    "flags",
    "dropped_attributes_count",
    "dropped_events_count",
    "dropped_links_count",
    "resource",
    "scope",
)
"""What a span is made of, beside its attributes; the nested-set numbers of spans.parquet are its trace's."""


class Block:
    """One block on disk. Immutable; safe to read from many threads.

    Nothing of a block that was found on disk is believed before all its bytes were checked, once: a flipped bit inside
    a Parquet page reads as another value, not as an error. The first read pays for it, about a second a gigabyte.
    """

    def __init__(self, directory: Path, meta: BlockMeta, *, checked: bool = True) -> None:
        """checked: whether this process wrote the files, or has compared them with their checksums.

        Raises  CorruptionError when the id index does not fit.
        """
        self._checked = checked
        self._checking = threading.Lock()
        self.directory = directory
        self.meta = meta
        self.ids = IdIndex(directory / layout.INDEX)
        self._tables: Dictionary | None = None
        self._keys: dict[tuple[AttributeScope, str], tuple[KeyStats, ...]] | None = None
        self._events = OwnedRows(directory / layout.EVENTS, "span")
        self._links = OwnedRows(directory / layout.LINKS, "span")
        self._loose = OwnedRows(directory / layout.ATTRIBUTES, "row", by_scope=True)
        self._columns = {scope: [k for k in meta.keys if k.key.scope is scope and k.column] for scope in AttributeScope}

    def check(self) -> None:
        """Compare the bytes on disk with their checksums, unless that was done. Call it before reading any file.

        Raises  CorruptionError naming the file that is damaged.
        """
        if self._checked:
            return
        with self._checking:  # whoever comes meanwhile waits for the same answer
            if not self._checked:
                verify(self.directory, self.meta)
                self._checked = True

    def row_groups(self, cache: ColumnCache) -> list[RowGroup]:
        """The row groups as frames, in order; what they read is kept in `cache`.

        Raises  CorruptionError when the block is damaged.
        """
        return row_groups(self, cache)

    def keys(self, scope: AttributeScope, name: str) -> tuple[KeyStats, ...]:
        """What meta.json says of a key, one entry a type; () when the block does not have it."""
        if self._keys is None:
            keys: dict[tuple[AttributeScope, str], tuple[KeyStats, ...]] = {}
            for stats in self.meta.keys:
                place = (stats.key.scope, stats.key.name)
                keys[place] = (*keys.get(place, ()), stats)
            self._keys = keys
        return self._keys.get((scope, name), ())

    def names(self, scope: AttributeScope) -> list[str]:
        """All keys of a scope, each once."""
        return list({k.key.name: None for k in self.meta.keys if k.key.scope is scope})

    def trace(self, high: int, low: int) -> SpanBatch | None:
        """All spans of a trace in block order, or None."""
        rows = self.ids.find(high, low)
        return None if rows is None else self.rows(*rows)

    def rows(self, first: int, count: int) -> SpanBatch:
        """Spans [first, first + count) on a dictionary of their own.

        Raises  CorruptionError when the files cannot be read as this block.
        """
        self.check()
        try:
            return self._rows(first, count)
        except (OSError, pa.ArrowException, KeyError, ValueError, *polars_errors()) as e:
            path = self.directory / layout.SPANS
            raise CorruptionError(path, offset=0, expected=f"rows {first}..{first + count}", found=str(e)) from e

    def _rows(self, first: int, count: int) -> SpanBatch:
        spans = self._spans(first, count)
        dictionary = Dictionary()
        tables = self.tables()
        start = spans["start_time_unix_nano"].to_numpy().view(np.uint64)
        ids = _words(spans["trace_id"], 2)
        return SpanBatch(
            dictionary,
            trace_id_high=ids[:, 0],
            trace_id_low=ids[:, 1],
            span_id=_words(spans["span_id"], 1)[:, 0],
            parent_span_id=_words(spans["parent_span_id"], 1)[:, 0],
            start_time_unix_nano=start,
            end_time_unix_nano=start + spans["duration_nano"].to_numpy().view(np.uint64),
            name=_codes(spans["name"], dictionary.strings),
            kind=spans["kind"].to_numpy(),
            status_code=spans["status_code"].to_numpy(),
            status_message=_codes(spans["status_message"], dictionary.strings),
            trace_state=_codes(spans["trace_state"], dictionary.strings),
            flags=spans["flags"].to_numpy(),
            dropped_attributes_count=spans["dropped_attributes_count"].to_numpy(),
            dropped_events_count=spans["dropped_events_count"].to_numpy(),
            dropped_links_count=spans["dropped_links_count"].to_numpy(),
            resource=adopt_resources(spans["resource"].to_numpy(), tables, dictionary),
            scope=adopt_scopes(spans["scope"].to_numpy(), tables, dictionary),
            size=np.broadcast_to(np.uint32(0), count),
            attributes=self._attributes(spans, AttributeScope.SPAN, first, dictionary),
            events=self._events_of(first, count, dictionary),
            links=self._links_of(first, count, dictionary),
        )

    def _spans(self, first: int, count: int) -> pa.Table:
        if count <= TRACE_ROWS_MAX:
            spans = span_rows(self.directory / layout.SPANS, self._span_columns(), first, count)
        else:
            spans = self._row_groups(first, count)
        if len(spans) != count:
            raise ValueError(f"{len(spans)} rows where {count} should be")
        return spans

    def _span_columns(self) -> list[str]:
        return [*SPAN_COLUMNS, *(k.column for k in self._columns[AttributeScope.SPAN])]

    def _row_groups(self, first: int, count: int) -> pa.Table:
        strings = [k.column for k in self._columns[AttributeScope.SPAN] if k.key.type is ValueType.STRING]
        fixed = ["name", "status_message", "trace_state"]
        with pq.ParquetFile(self.directory / layout.SPANS, read_dictionary=[*strings, *fixed]) as file:
            sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
            ends = np.cumsum(sizes)
            a = int(np.searchsorted(ends, first, side="right"))
            b = int(np.searchsorted(ends, first + count, side="left"))
            table = file.read_row_groups(list(range(a, b + 1)), columns=self._span_columns(), use_threads=False)
        base = int(ends[a]) - sizes[a]
        return table.slice(first - base, count).unify_dictionaries().combine_chunks()

    def _events_of(self, first: int, count: int, dictionary: Dictionary) -> Events:
        found = self._events.of(first, count) if self.meta.event_count else None
        if found is None:
            return Events.empty()
        row, table = found
        return Events(
            span=(table["span"].to_numpy() - first).astype(np.uint32),
            time_unix_nano=table["time_unix_nano"].to_numpy().view(np.uint64),
            name=_codes(table["name"], dictionary.strings),
            dropped_attributes_count=table["dropped_attributes_count"].to_numpy(),
            attributes=self._attributes(table, AttributeScope.EVENT, row, dictionary),
        )

    def _links_of(self, first: int, count: int, dictionary: Dictionary) -> Links:
        found = self._links.of(first, count) if self.meta.link_count else None
        if found is None:
            return Links.empty()
        row, table = found
        return Links(
            span=(table["span"].to_numpy() - first).astype(np.uint32),
            trace_id=_codes(table["trace_id"], dictionary.blobs),
            span_id=_codes(table["span_id"], dictionary.blobs),
            trace_state=_codes(table["trace_state"], dictionary.strings),
            flags=table["flags"].to_numpy(),
            dropped_attributes_count=table["dropped_attributes_count"].to_numpy(),
            attributes=self._attributes(table, AttributeScope.LINK, row, dictionary),
        )

    def _attributes(self, table: pa.Table, scope: AttributeScope, first: int, dictionary: Dictionary) -> Attributes:
        """Pairs of the rows [first, first + len(table)) of a scope's table, from its columns and those without one."""
        parts = [_lane_pairs(table[k.column], k, dictionary) for k in self._columns[scope]]
        found = self._loose.of(first, len(table), scope.value) if self.meta.overflow.get(scope.value) else None
        if found is not None:
            parts.append(_overflow_pairs(found[1], first, dictionary))
        return merge_attributes(parts)

    def tables(self) -> Dictionary:
        """Resources and scopes of the block, numbered as its rows number them. Read once, kept while the block is."""
        if self._tables is None:
            self._tables = self._read_tables()
        return self._tables

    def _read_tables(self) -> Dictionary:
        tables = Dictionary()
        resources = pq.read_table(self.directory / layout.RESOURCES, use_threads=False).combine_chunks()
        scopes = pq.read_table(self.directory / layout.SCOPES, use_threads=False).combine_chunks()
        url = _codes(resources["schema_url"], tables.strings)
        pairs = self._attributes(resources, AttributeScope.RESOURCE, 0, tables)
        dropped = resources["dropped_attributes_count"].to_numpy()
        # row 0 is the empty one of every dictionary, and of every block
        tables.add_resources(Resources(url[1:], dropped[1:], pairs.slice(1, len(url))))
        name, version, schema = (_codes(scopes[c], tables.strings) for c in ("name", "version", "schema_url"))
        pairs = self._attributes(scopes, AttributeScope.INSTRUMENTATION, 0, tables)
        dropped = scopes["dropped_attributes_count"].to_numpy()
        tables.add_scopes(Scopes(name[1:], version[1:], schema[1:], dropped[1:], pairs.slice(1, len(name))))
        return tables


def _lane_pairs(column: pa.ChunkedArray, stats: KeyStats, dictionary: Dictionary) -> Attributes:
    array = _one(column)
    if len(array) <= SMALL_ROWS_MAX:
        return _small_lane_pairs(array, stats, dictionary)
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    row = np.flatnonzero(valid).astype(np.uint32)
    if not len(row):
        return Attributes.empty()
    present = array.drop_null() if array.null_count else array
    if stats.key.type is ValueType.STRING:
        value = _codes(present, dictionary.strings).astype(np.uint64)
    else:
        value = _bits(present, stats.key.type)
    key = dictionary.strings.add(stats.key.name.encode())
    n = len(row)
    return Attributes(row, np.full(n, key, np.uint32), np.full(n, stats.key.type, np.uint8), value)


def _small_lane_pairs(array: pa.Array, stats: KeyStats, dictionary: Dictionary) -> Attributes:
    """The same of a few rows, by way of a list: each Arrow kernel costs more than all of them."""
    present = [(row, value) for row, value in enumerate(array.to_pylist()) if value is not None]
    if not present:
        return Attributes.empty()
    values = [value for _, value in present]
    if stats.key.type is ValueType.STRING:
        bits = np.array([dictionary.strings.add(v.encode()) for v in values], np.uint64)
    elif stats.key.type is ValueType.DOUBLE:
        bits = np.array(values, np.float64).view(np.uint64)
    else:
        bits = np.array(values, np.int64).view(np.uint64)
    n = len(present)
    key = dictionary.strings.add(stats.key.name.encode())
    row = np.array([r for r, _ in present], np.uint32)
    return Attributes(row, np.full(n, key, np.uint32), np.full(n, stats.key.type, np.uint8), bits)


def _overflow_pairs(table: pa.Table, first: int, dictionary: Dictionary) -> Attributes:
    kind = table["type"].to_numpy()
    value = np.zeros(len(table), np.uint64)
    for types, name in (
        ((ValueType.STRING,), "string"),
        ((ValueType.INT,), "int"),
        ((ValueType.DOUBLE,), "double"),
        ((ValueType.BOOL,), "bool"),
        ((ValueType.ARRAY, ValueType.KVLIST, ValueType.BYTES), "bytes"),
    ):
        chosen = np.isin(kind, types)
        if chosen.any():
            present = _one(table[name]).filter(pa.array(chosen))
            pool = {"string": dictionary.strings, "bytes": dictionary.blobs}.get(name)
            value[chosen] = _codes(present, pool) if pool is not None else _bits(present, types[0])
    row = (table["row"].to_numpy() - first).astype(np.uint32)
    return Attributes(row, _codes(table["key"], dictionary.strings), kind, value)


def _bits(present: pa.Array, kind: ValueType) -> U64:
    values: NDArray[np.generic] = present.to_numpy(zero_copy_only=False)
    return values.astype(np.uint64) if kind is ValueType.BOOL else values.view(np.uint64)


def _codes(column: pa.ChunkedArray | pa.Array, pool: Pool) -> U32:
    """Pool codes of a string or binary column without nulls; each distinct value is interned once."""
    array = _one(column)
    if not len(array):
        return np.empty(0, np.uint32)
    if not pa.types.is_dictionary(array.type):
        if len(array) <= ENCODE_ROWS_MIN:
            return _intern(array, pool)
        array = array.dictionary_encode()
    picked: U32 = _intern(array.dictionary, pool)[array.indices.to_numpy(zero_copy_only=False)]
    return picked


def _intern(values: pa.Array, pool: Pool) -> U32:
    is_text = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
    wide = values.cast(pa.large_string() if is_text else pa.large_binary())
    offsets = np.frombuffer(wide.buffers()[1], np.int64)[wide.offset : wide.offset + len(wide) + 1]
    codes: U32 = pool.add_many(offsets, np.frombuffer(wide.buffers()[2] or b"", np.uint8))
    return codes


def _words(column: pa.ChunkedArray, words: int) -> NDArray[np.uint64]:
    """Ids as big-endian 64-bit numbers, `words` a row."""
    array = _one(column)
    size = 8 * words
    if pa.types.is_fixed_size_binary(array.type):
        data = np.frombuffer(array.buffers()[1], np.uint8)[array.offset * size : (array.offset + len(array)) * size]
    else:
        array = array.cast(pa.large_binary())
        ends = np.frombuffer(array.buffers()[1], np.int64)[array.offset : array.offset + len(array) + 1]
        if len(array) and int(ends[-1] - ends[0]) != size * len(array):
            raise ValueError(f"ids that are not {size} bytes")
        data = np.frombuffer(array.buffers()[2] or b"", np.uint8)[ends[0] : ends[-1]]
    ids: NDArray[np.uint64] = np.frombuffer(data, ">u8").astype(np.uint64).reshape(-1, words)
    return ids


def _one(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    if isinstance(column, pa.ChunkedArray):
        return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return column
