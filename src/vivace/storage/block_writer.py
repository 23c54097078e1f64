"""Writing a block: row group by row group into a temporary directory, then one rename.

Rule 1  a block appears whole or not at all: files are written and fsynced under `<id>.tmp`, then renamed.
Rule 2  memory is that of one row group and the id index (24 bytes a trace), however large the block.
Rule 3  what is written is in block order already (model/arrange.py): append() gets whole traces, ascending.

Bytes: docs/formats/block.md.  Reading: block_reader.py.  Column choice: layout.py.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from vivace.errors import InvariantError
from vivace.model.adopt import adopt_resources, adopt_scopes
from vivace.model.arrange import Arranged
from vivace.model.attributes import I64, U64, Attributes
from vivace.model.batch import Events, Links, SpanBatch
from vivace.model.dictionary import Dictionary
from vivace.model.schema import AttributeScope, ValueType
from vivace.storage import layout
from vivace.storage.id_index import write_index
from vivace.storage.lanes import ids_array, pool_array, split, strings_array
from vivace.storage.layout import Key, KeyStats
from vivace.storage.table_file import OverflowFile, TableFile, lane_names
from vivace.storage.trace_table import trace_columns
from vivace.storage.verify import checksum


def count_keys(batch: SpanBatch) -> dict[Key, int]:
    """Rows by key, for the three tables whose columns are chosen before writing: spans, events, links."""
    counts: dict[Key, int] = {}
    for scope, attributes in _varying(batch):
        if not len(attributes):
            continue
        number = np.bincount(attributes.key.astype(np.int64) * 8 + attributes.type)
        used = np.flatnonzero(number)
        offsets, data = batch.dictionary.strings.select((used // 8).astype(np.uint32))
        names, ends = data.tobytes(), offsets.tolist()
        for place, n in enumerate(used.tolist()):
            name = names[ends[place] : ends[place + 1]].decode()
            counts[Key(scope, name, ValueType(n % 8))] = int(number[n])
    return counts


def _varying(batch: SpanBatch) -> Iterator[tuple[AttributeScope, Attributes]]:
    yield AttributeScope.SPAN, batch.attributes
    yield AttributeScope.EVENT, batch.events.attributes
    yield AttributeScope.LINK, batch.links.attributes


class BlockWriter:
    """Writes one block. Use: append() any number of times, then finish(), or abort()."""

    def __init__(self, directory: Path, block_id: str, plan: list[KeyStats], *, span_bytes: int = 0) -> None:
        """span_bytes: memory that a span takes, about; row groups of large spans are shorter."""
        self._span_bytes = span_bytes
        self.block_id = block_id
        self._final = directory / block_id
        self._path = directory / f"{block_id}.tmp"
        self._path.mkdir(parents=True)
        self._plan = plan
        self._overflow = OverflowFile(self._path / layout.ATTRIBUTES)
        self._spans = TableFile(self._path / layout.SPANS, AttributeScope.SPAN, plan, self._overflow)
        self._events = TableFile(self._path / layout.EVENTS, AttributeScope.EVENT, plan, self._overflow)
        self._links = TableFile(self._path / layout.LINKS, AttributeScope.LINK, plan, self._overflow)
        self._traces = TableFile(self._path / layout.TRACES, None, plan, None)
        self._tables = Dictionary()
        self._row_groups: list[int] = []
        self._ids: list[tuple[U64, U64, I64, I64]] = []
        self._start: int | None = None
        self._end = 0

    def append(self, arranged: Arranged) -> None:
        """Write whole traces, in row groups as layout.row_group_spans says; a trace is never split between two."""
        for first, last in _row_group_bounds(arranged, layout.row_group_spans(self._span_bytes)):
            self._append_row_group(arranged, first, last)

    def _append_row_group(self, arranged: Arranged, first_trace: int, last_trace: int) -> None:
        starts = arranged.first_row
        first = int(starts[first_trace])
        last = int(starts[last_trace]) if last_trace < len(starts) else len(arranged.batch)
        batch, base = arranged.batch.slice(first, last), self._spans.rows
        rows = slice(first, last)
        resource = adopt_resources(batch.resource, batch.dictionary, self._tables)
        scope = adopt_scopes(batch.scope, batch.dictionary, self._tables)
        fixed = _span_columns(batch) | {
            "nested_set_left": pa.array(arranged.left[rows]),
            "nested_set_right": pa.array(arranged.right[rows]),
            "nested_set_parent": pa.array(arranged.parent[rows]),
            "resource": pa.array(resource),
            "scope": pa.array(scope),
        }
        self._spans.append(fixed, len(batch), batch.attributes, batch.dictionary)
        self._append_events(batch.events, base, batch.dictionary)
        self._append_links(batch.links, base, batch.dictionary)
        traces = slice(first_trace, last_trace)
        counts = arranged.row_count[traces]
        first_rows = starts[traces] - first + base
        table = trace_columns(batch, starts[traces] - first, arranged.root[traces] - first, first_rows)
        self._traces.append(table, len(counts), Attributes.empty(), batch.dictionary)
        picked = starts[traces] - first
        self._ids.append((batch.trace_id_high[picked], batch.trace_id_low[picked], first_rows, counts))
        self._row_groups.append(len(batch))
        low = int(batch.start_time_unix_nano.min())
        self._start = low if self._start is None else min(low, self._start)
        self._end = max(self._end, int(batch.end_time_unix_nano.max()), low)

    def _append_events(self, events: Events, base: int, dictionary: Dictionary) -> None:
        if len(events):
            fixed = {
                "span": pa.array(events.span.astype(np.int64) + base),
                "time_unix_nano": pa.array(events.time_unix_nano.view(np.int64)),
                "name": strings_array(dictionary.strings, events.name),
                "dropped_attributes_count": pa.array(events.dropped_attributes_count),
            }
            self._events.append(fixed, len(events), events.attributes, dictionary)

    def _append_links(self, links: Links, base: int, dictionary: Dictionary) -> None:
        if len(links):
            fixed = {
                "span": pa.array(links.span.astype(np.int64) + base),
                "trace_id": pool_array(dictionary.blobs, links.trace_id, pa.binary()),
                "span_id": pool_array(dictionary.blobs, links.span_id, pa.binary()),
                "trace_state": strings_array(dictionary.strings, links.trace_state),
                "flags": pa.array(links.flags),
                "dropped_attributes_count": pa.array(links.dropped_attributes_count),
            }
            self._links.append(fixed, len(links), links.attributes, dictionary)

    def finish(
        self, *, tenant: str, wal_until: int, level: int, created_unix_nano: int, replaces: tuple[str, ...] = ()
    ) -> tuple[Path, layout.BlockMeta]:
        """Write what is left, fsync all, rename into place: (directory, meta)."""
        if not self._row_groups:
            raise InvariantError(f"block {self.block_id} has no spans")
        resources = self._write_resources()
        scopes = self._write_scopes()
        write_index(self._path / layout.INDEX, self._ids)
        files = (self._spans, self._events, self._links, self._traces)
        for file in (*files, self._overflow):
            file.close()
        names = [n for n in layout.DATA_FILES if (self._path / n).exists()]
        keys = [k for k in (*_final_keys(files, self._plan), *resources, *scopes) if k.rows]
        meta = layout.BlockMeta(
            id=self.block_id,
            tenant=tenant,
            start_time_unix_nano=self._start or 0,
            end_time_unix_nano=self._end,
            created_unix_nano=created_unix_nano,
            span_count=self._spans.rows,
            trace_count=self._traces.rows,
            event_count=self._events.rows,
            link_count=self._links.rows,
            overflow={scope.value: rows for scope, rows in self._overflow.rows.items()},
            row_groups=tuple(self._row_groups),
            wal_until=wal_until,
            level=level,
            keys=tuple(keys),
            replaces=replaces,
            span_bytes=self._span_bytes,
            files={n: (self._path / n).stat().st_size for n in names},
            checksums={n: checksum(self._path / n) for n in names},
        )
        (self._path / layout.META).write_bytes(meta.to_json())
        for path in (*self._path.iterdir(), self._path):
            fsync_path(path)
        os.rename(self._path, self._final)
        self._path = self._final  # what abort() takes away, should the next line fail
        fsync_path(self._final.parent)
        return self._final, meta

    def abort(self) -> None:
        """Leave nothing behind."""
        for file in (self._spans, self._events, self._links, self._traces, self._overflow):
            try:
                file.close()
            except OSError:  # a full disk is why we are here; the files go anyway
                pass
        shutil.rmtree(self._path, ignore_errors=True)

    def _write_resources(self) -> list[KeyStats]:
        table, strings = self._tables.resources, self._tables.strings
        fixed = {
            "schema_url": strings_array(strings, table.schema_url),
            "dropped_attributes_count": pa.array(table.dropped_attributes_count),
        }
        path = self._path / layout.RESOURCES
        return self._write_small(path, AttributeScope.RESOURCE, fixed, len(table), table.attributes)

    def _write_scopes(self) -> list[KeyStats]:
        table, strings = self._tables.scopes, self._tables.strings
        fixed = {
            "name": strings_array(strings, table.name),
            "version": strings_array(strings, table.version),
            "schema_url": strings_array(strings, table.schema_url),
            "dropped_attributes_count": pa.array(table.dropped_attributes_count),
        }
        path = self._path / layout.SCOPES
        return self._write_small(path, AttributeScope.INSTRUMENTATION, fixed, len(table), table.attributes)

    def _write_small(
        self, path: Path, scope: AttributeScope, fixed: dict[str, pa.Array], rows: int, attributes: Attributes
    ) -> list[KeyStats]:
        """A whole table in one row group: its columns are chosen from itself."""
        lanes = split(attributes, rows)
        names = lane_names(lanes, self._tables)
        counts = {Key(scope, names[lane], lane[1]): len(values.row) for lane, values in lanes.lanes.items()}
        plan = layout.choose_columns(counts, {scope: rows})
        file = TableFile(path, scope, plan, self._overflow)
        file.append(fixed, rows, attributes, self._tables)
        file.close()
        return plan


def _final_keys(files: tuple[TableFile, ...], plan: list[KeyStats]) -> Iterator[KeyStats]:
    """Keys with the rows that were written, in their columns."""
    columns: Mapping[Key, str] = {k.key: k.column for k in plan}
    for file in files:
        for key, rows in file.counts.items():
            yield KeyStats(key, rows, columns.get(key, ""))


def _span_columns(batch: SpanBatch) -> dict[str, pa.Array]:
    strings = batch.dictionary.strings
    return {
        "trace_id": ids_array(batch.trace_id_high, batch.trace_id_low),
        "span_id": ids_array(batch.span_id),
        "parent_span_id": ids_array(batch.parent_span_id),
        "start_time_unix_nano": pa.array(batch.start_time_unix_nano.view(np.int64)),
        "duration_nano": pa.array((batch.end_time_unix_nano - batch.start_time_unix_nano).view(np.int64)),
        "name": strings_array(strings, batch.name),
        "kind": pa.array(batch.kind),
        "status_code": pa.array(batch.status_code),
        "status_message": strings_array(strings, batch.status_message),
        "trace_state": strings_array(strings, batch.trace_state),
        "flags": pa.array(batch.flags),
        "dropped_attributes_count": pa.array(batch.dropped_attributes_count),
        "dropped_events_count": pa.array(batch.dropped_events_count),
        "dropped_links_count": pa.array(batch.dropped_links_count),
    }


def _row_group_bounds(arranged: Arranged, spans_max: int) -> Iterator[tuple[int, int]]:
    """Trace ranges [first, last) of about `spans_max` spans each; one trace alone may be larger."""
    ends = np.append(arranged.first_row[1:], len(arranged.batch))
    first = 0
    while first < len(ends):
        target = int(arranged.first_row[first]) + spans_max
        last = max(first + 1, int(np.searchsorted(ends, target, side="right")))
        yield first, last
        first = last


def fsync_path(path: Path) -> None:
    """Make a file or a directory entry durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
