"""A row group of a block as a frame: its traces, their spans, the events and links of those. The other body of Frame is
model/memory_frame.py.

Rule 1  nothing is read before it is asked for, and all that is read goes through the cache.
Rule 2  meta.json knows the keys of a block: a key that is not there costs no file access.
Rule 3  row groups of traces.parquet are in step with those of spans.parquet; those of events.parquet and links.parquet are
        not, their rows are found by the span that they belong to.
Rule 4  resources and scopes are those of the whole block, numbered as its spans number them.

Bytes: docs/formats/block.md.  Reading: column_files.py; attributes without a column: overflow_columns.py.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vivace.errors import CorruptionError
from vivace.model.attributes import U64
from vivace.model.columns import attribute_column, attribute_or_none, pool_strings
from vivace.model.dictionary import Dictionary
from vivace.model.frame import LEVEL_OF_SCOPE, Attribute, Fixed, Level, Numbers, Rows, Strings
from vivace.model.schema import AttributeScope, ValueType
from vivace.storage import layout
from vivace.storage.column_cache import BLOCK, ColumnCache, ColumnKey
from vivace.storage.column_files import ColumnFiles, damage, numbers_of, strings_of, words_of
from vivace.storage.layout import KeyStats
from vivace.storage.overflow_columns import LooseAttribute, read_loose

if TYPE_CHECKING:
    from vivace.storage.block_reader import Block

FILES = {Level.SPAN: layout.SPANS, Level.TRACE: layout.TRACES, Level.EVENT: layout.EVENTS, Level.LINK: layout.LINKS}
"""The files that have rows of a row group; those of the other levels belong to the block."""

OWNER_COLUMNS = {Level.RESOURCE: "resource", Level.SCOPE: "scope", Level.EVENT: "span", Level.LINK: "span"}

OTHER_NAMES = {
    Fixed.TRACE_ID_HIGH: "trace_id",
    Fixed.TRACE_ID_LOW: "trace_id",
    Fixed.TRACE_START: "start_time_unix_nano",
    Fixed.TRACE_DURATION: "duration_nano",
    Fixed.EVENT_NAME: "name",
    Fixed.EVENT_TIME: "time_unix_nano",
    Fixed.LINK_TRACE_ID: "trace_id",
    Fixed.LINK_SPAN_ID: "span_id",
}
"""Parquet's names of columns where they are not those of Fixed."""

TEXT = frozenset({Fixed.NAME, Fixed.STATUS_MESSAGE, Fixed.ROOT_NAME, Fixed.ROOT_SERVICE_NAME, Fixed.EVENT_NAME})
BINARY = frozenset({Fixed.LINK_TRACE_ID, Fixed.LINK_SPAN_ID})
IDS = frozenset({Fixed.SPAN_ID, Fixed.PARENT_SPAN_ID})

T = TypeVar("T")
C = TypeVar("C", bound="NDArray[Any] | Strings | Numbers | Attribute | None")


@dataclass(frozen=True, slots=True)
class TraceBounds:
    """What traces.parquet says of each row group. Times are unsigned nanoseconds, as in meta.json.

    start_min, start_max  of the starts of its traces;  end_max: the latest end, no trace ending before it starts
    """

    counts: Rows
    start_min: U64
    start_max: U64
    end_max: U64

    @property
    def nbytes(self) -> int:
        return 4 * int(self.counts.nbytes)


@dataclass(frozen=True, slots=True)
class ChildRows:
    """Where the rows of events.parquet or links.parquet lie.

    starts  of each row group of spans, its first row here; one more at the end
    ends    of each row group of the file itself, the row after its last
    """

    starts: Rows
    ends: Rows

    @property
    def nbytes(self) -> int:
        return int(self.starts.nbytes + self.ends.nbytes)


def row_groups(block: Block, cache: ColumnCache) -> list[RowGroup]:
    """The row groups of a block in order. Reads nothing but what check() must.

    Raises  CorruptionError when the block is damaged.
    """
    block.check()
    files = ColumnFiles(block.directory, block.meta.id, cache)
    ends = np.cumsum(block.meta.row_groups).tolist()
    return [
        RowGroup(block, files, i, end - n, n)
        for i, (end, n) in enumerate(zip(ends, block.meta.row_groups, strict=True))
    ]


class RowGroup:
    """A Frame of one row group. Cheap to make: make a new one for each use, the cache knows what was read."""

    def __init__(self, block: Block, files: ColumnFiles, index: int, first_row: int, span_count: int) -> None:
        """index: among the row groups of the block;  first_row: of its spans in the block."""
        self.index = index
        self.first_row = first_row
        self.span_count = span_count
        self._block = block
        self._files = files
        self._handed: set[Hashable] = set()
        self._inspected = 0

    # -- for planning: read once a block, from traces.parquet alone ---------------------------------------------------

    @property
    def trace_count(self) -> int:
        return int(self._bounds().counts[self.index])

    @property
    def start_min(self) -> int:
        """The earliest start of a trace, in unsigned nanoseconds."""
        return int(self._bounds().start_min[self.index])

    @property
    def start_max(self) -> int:
        """The latest start of a trace, in unsigned nanoseconds."""
        return int(self._bounds().start_max[self.index])

    @property
    def end_max(self) -> int:
        """The latest end of a trace, in unsigned nanoseconds; a trace that ends before it starts counts by its start."""
        return int(self._bounds().end_max[self.index])

    def _bounds(self) -> TraceBounds:
        return self._kept(BLOCK, "bounds", self._read_bounds)

    def _read_bounds(self) -> TraceBounds:
        groups = len(self._block.meta.row_groups)
        footer = self._files.footer(layout.TRACES)
        if footer.num_row_groups != groups:
            path, found = self._files.directory / layout.TRACES, f"{footer.num_row_groups}"
            raise CorruptionError(path, offset=0, expected=f"{groups} row groups", found=found)
        table = self._files.read(layout.TRACES, range(groups), ["start_time_unix_nano", "duration_nano"])
        start, duration = (numbers_of(table[c]).values.view(np.uint64) for c in table.column_names)
        end = np.maximum(start + duration, start)
        counts = np.array([footer.row_group(i).num_rows for i in range(groups)], np.int64)
        firsts = np.cumsum(counts) - counts
        return TraceBounds(
            counts,
            np.minimum.reduceat(start, firsts),
            np.maximum.reduceat(start, firsts),
            np.maximum.reduceat(end, firsts),
        )

    # -- Frame --------------------------------------------------------------------------------------------------------

    def count(self, level: Level) -> int:
        match level:
            case Level.SPAN:
                return self.span_count
            case Level.TRACE:
                return self.trace_count
            case Level.RESOURCE:
                return len(self._tables().resources)
            case Level.SCOPE:
                return len(self._tables().scopes)
            case _:
                first, last = self._child_range(level)
                return last - first

    def owners(self, level: Level) -> NDArray[np.integer[Any]]:
        return self._counted(
            ("owners", level), self._kept(self.index, ("owners", level), lambda: self._read_owners(level))
        )

    def _read_owners(self, level: Level) -> NDArray[np.integer[Any]]:
        match level:
            case Level.RESOURCE | Level.SCOPE:
                name = OWNER_COLUMNS[level]
                return numbers_of(self._read(Level.SPAN, [name])[name]).values
            case Level.TRACE:
                first_rows = self._first_rows()
                return np.repeat(np.arange(len(first_rows)), np.diff(first_rows, append=self.span_count))
            case Level.EVENT | Level.LINK:
                if not self.count(level):
                    return np.empty(0, np.int64)
                name = OWNER_COLUMNS[level]
                return numbers_of(self._read(level, [name])[name]).values - self.first_row
            case Level.SPAN:
                raise KeyError("spans have no owner")

    def first_rows(self) -> Rows:
        return self._counted("first rows", self._first_rows())

    def _first_rows(self) -> Rows:
        return self._kept(self.index, "first rows", self._read_first_rows)

    def _read_first_rows(self) -> Rows:
        rows: Rows = numbers_of(self._read(Level.TRACE, ["first_row"])["first_row"]).values - self.first_row
        return rows

    def fixed(self, column: Fixed) -> Strings | Numbers:
        group = BLOCK if column.level is Level.SCOPE else self.index
        return self._counted(column, self._kept(group, column, lambda: self._read_fixed(column)))

    def _read_fixed(self, column: Fixed) -> Strings | Numbers:
        if column.level is Level.SCOPE:
            tables = self._tables()
            codes = tables.scopes.name if column is Fixed.SCOPE_NAME else tables.scopes.version
            return pool_strings(tables.strings, codes)
        if not self.count(column.level):
            return _without_rows(column)
        if column is Fixed.TRACE_ID_HIGH or column is Fixed.TRACE_ID_LOW:
            return Numbers(self._trace_ids()[0 if column is Fixed.TRACE_ID_HIGH else 1])
        name = OTHER_NAMES.get(column, column.column)
        strings = [name] if column in TEXT or column in BINARY else []
        values = self._read(column.level, [name], strings)[name]
        if strings:
            return strings_of(values)
        return Numbers(words_of(values, 1)[0]) if column in IDS else numbers_of(values)

    def _trace_ids(self) -> U64:
        return self._kept(
            self.index, "trace ids", lambda: words_of(self._read(Level.TRACE, ["trace_id"])["trace_id"], 2)
        )

    def attribute(self, scope: AttributeScope, key: str) -> Attribute | None:
        stats = self._block.keys(scope, key)
        if not stats:
            return None
        level = LEVEL_OF_SCOPE[scope]
        group = self.index if level in FILES else BLOCK
        return self._counted((scope, key), self._kept(group, (scope, key), lambda: self._read_attribute(level, stats)))

    def keys(self, scope: AttributeScope) -> Iterable[str]:
        return self._block.names(scope)

    def _read_attribute(self, level: Level, stats: Sequence[KeyStats]) -> Attribute | None:
        scope, key, rows = stats[0].key.scope, stats[0].key.name, self.count(level)
        if not rows:
            return None
        if level not in FILES:
            tables = self._tables()
            pairs = tables.resources.attributes if level is Level.RESOURCE else tables.scopes.attributes
            return attribute_column(pairs, rows, tables, key)
        found = Attribute()
        types = [s.key.type for s in stats if not s.column]
        if types:
            loose = self._kept(BLOCK, ("loose", scope, key), lambda: self._read_loose(scope, key, types))
            first = self.first_row if level is Level.SPAN else self._child_range(level)[0]
            found = loose.spread(first, rows)
        return attribute_or_none(self._with_columns(found, level, [s for s in stats if s.column]))

    def _read_loose(self, scope: AttributeScope, key: str, types: Sequence[ValueType]) -> LooseAttribute:
        return read_loose(self._files.directory / layout.ATTRIBUTES, scope, key, types)

    def _with_columns(self, loose: Attribute, level: Level, stats: Sequence[KeyStats]) -> Attribute:
        """`loose` with the types that are columns of the level's file."""
        if not stats:
            return loose
        text = [s.column for s in stats if s.key.type is ValueType.STRING]
        table = self._read(level, [s.column for s in stats], text)
        here = {s.key.type: table[s.column] for s in stats if table[s.column].null_count < len(table)}
        numbers = {kind: numbers_of(column) for kind, column in here.items() if kind is not ValueType.STRING}
        return Attribute(
            strings=strings_of(here[ValueType.STRING]) if ValueType.STRING in here else loose.strings,
            ints=numbers.get(ValueType.INT, loose.ints),
            doubles=numbers.get(ValueType.DOUBLE, loose.doubles),
            bools=numbers.get(ValueType.BOOL, loose.bools),
            compounds=loose.compounds,
            unset=loose.unset,
        )

    @property
    def inspected_bytes(self) -> int:
        return self._inspected

    # -- reading ------------------------------------------------------------------------------------------------------

    def _kept(self, group: int, what: Hashable, read: Callable[[], T]) -> T:
        return self._files.cache.get(ColumnKey(self._files.block_id, group, what), read)

    def _counted(self, what: Hashable, column: C) -> C:
        if column is not None and what not in self._handed:
            self._handed.add(what)
            self._inspected += int(column.nbytes)
        return column

    def _tables(self) -> Dictionary:
        with damage(self._files.directory / layout.RESOURCES, "resources and scopes"):
            return self._block.tables()

    def _read(self, level: Level, columns: Sequence[str], strings: Sequence[str] = ()) -> pa.Table:
        """Columns of the rows of this row group at a level that has a file, and rows here."""
        file = FILES[level]
        if level is Level.SPAN or level is Level.TRACE:
            return self._files.read(file, [self.index], columns, strings)
        first, last = self._child_range(level)
        ends = self._child_rows(level).ends
        a, b = np.searchsorted(ends, first, side="right"), np.searchsorted(ends, last, side="left")
        before = int(ends[a - 1]) if a else 0
        table = self._files.read(file, range(int(a), int(b) + 1), columns, strings)
        return table.slice(first - before, last - first)

    def _child_range(self, level: Level) -> tuple[int, int]:
        """Rows [first, last) of events.parquet or links.parquet that belong to spans of this row group."""
        meta = self._block.meta
        if not (meta.event_count if level is Level.EVENT else meta.link_count):
            return 0, 0
        starts = self._child_rows(level).starts
        return int(starts[self.index]), int(starts[self.index + 1])

    def _child_rows(self, level: Level) -> ChildRows:
        return self._kept(BLOCK, ("child rows", level), lambda: self._read_child_rows(FILES[level]))

    def _read_child_rows(self, file: str) -> ChildRows:
        """Read row group by row group: the whole column would be 8 bytes an event for a number a row group."""
        ends = np.cumsum(self._block.meta.row_groups)
        starts = np.zeros(len(ends) + 1, np.int64)
        footer = self._files.footer(file)
        sizes = [footer.row_group(i).num_rows for i in range(footer.num_row_groups)]
        for group in range(len(sizes)):
            span = numbers_of(self._files.read(file, [group], ["span"])["span"]).values
            starts[1:] += np.searchsorted(span, ends)
        return ChildRows(starts, np.cumsum(sizes))


def _without_rows(column: Fixed) -> Strings | Numbers:
    if column in TEXT or column in BINARY:
        return Strings(np.empty(0, np.int32), pa.array([], pa.binary() if column in BINARY else pa.string()))
    return Numbers(np.empty(0, np.int64))
