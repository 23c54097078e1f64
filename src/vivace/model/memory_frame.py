"""Spans in memory as a frame: the head, and what is being cut. The other body is storage/row_group.py.

Rule 1  columns are computed when they are first asked for, and kept as long as the frame: no more than the spans hold.
Rule 2  the tables of resources and scopes are those of the moment when the frame was made, whatever is added later.
Rule 3  the numbers of a trace are those that a block of the same spans would have (storage/trace_table.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vivace.model.arrange import Arranged
from vivace.model.attributes import U32, Attributes
from vivace.model.batch import SpanBatch
from vivace.model.columns import attribute_column, pool_strings, service_codes, spread_strings
from vivace.model.frame import LEVEL_OF_SCOPE, Attribute, Fixed, Level, Numbers, Rows, Strings
from vivace.model.schema import AttributeScope

C = TypeVar("C", bound="NDArray[Any] | Strings | Numbers")


class MemoryFrame:
    """A Frame of spans in block order. Cheap to make; see the rules of the module."""

    def __init__(self, arranged: Arranged) -> None:
        self._arranged = arranged
        self._batch = arranged.batch
        self._dictionary = arranged.batch.dictionary
        self._resources = self._dictionary.resources
        self._scopes = self._dictionary.scopes
        self._fixed: dict[Fixed, Strings | Numbers] = {}
        self._attributes: dict[tuple[AttributeScope, str], Attribute] = {}
        self._owners: dict[Level, NDArray[np.integer[Any]]] = {}
        self._inspected = 0
        self._kept = 0

    @property
    def batch(self) -> SpanBatch:
        """The spans, in block order."""
        return self._batch

    @property
    def kept_bytes(self) -> int:
        """Bytes of the columns that were made and are kept."""
        return self._kept

    def forget_columns(self) -> None:
        """Make them anew when they are asked for again. Whoever has one keeps it."""
        self._fixed, self._attributes, self._owners, self._kept = {}, {}, {}, 0

    def count(self, level: Level) -> int:
        batch = self._batch
        counts = {
            Level.SPAN: len(batch),
            Level.RESOURCE: len(self._resources),
            Level.SCOPE: len(self._scopes),
            Level.TRACE: self._arranged.trace_count,
            Level.EVENT: len(batch.events),
            Level.LINK: len(batch.links),
        }
        return counts[level]

    def owners(self, level: Level) -> NDArray[np.integer[Any]]:
        found = self._owners.get(level)
        if found is None:
            found = self._owners[level] = self._counted(self._read_owners(level))
        return found

    def _read_owners(self, level: Level) -> NDArray[np.integer[Any]]:
        batch = self._batch
        match level:
            case Level.RESOURCE:
                return batch.resource
            case Level.SCOPE:
                return batch.scope
            case Level.TRACE:
                return np.repeat(np.arange(self._arranged.trace_count), self._arranged.row_count)
            case Level.EVENT:
                return batch.events.span
            case Level.LINK:
                return batch.links.span
            case Level.SPAN:
                raise KeyError("spans have no owner")

    def first_rows(self) -> Rows:
        return self._arranged.first_row

    def fixed(self, column: Fixed) -> Strings | Numbers:
        found = self._fixed.get(column)
        if found is None:
            found = self._fixed[column] = self._counted(self._read_fixed(column))
        return found

    def _read_fixed(self, column: Fixed) -> Strings | Numbers:
        match column.level:
            case Level.SPAN:
                return self._of_spans(column)
            case Level.TRACE:
                return self._of_traces(column)
            case Level.EVENT:
                return self._of_events(column)
            case Level.LINK:
                codes = self._batch.links.trace_id if column is Fixed.LINK_TRACE_ID else self._batch.links.span_id
                return pool_strings(self._dictionary.blobs, codes, pa.binary())
            case _:
                codes = self._scopes.name if column is Fixed.SCOPE_NAME else self._scopes.version
                return pool_strings(self._dictionary.strings, codes)

    def _of_spans(self, column: Fixed) -> Strings | Numbers:
        batch, arranged = self._batch, self._arranged
        match column:
            case Fixed.NAME:
                return pool_strings(self._dictionary.strings, batch.name)
            case Fixed.STATUS_MESSAGE:
                return pool_strings(self._dictionary.strings, batch.status_message)
            case Fixed.START:
                return Numbers(batch.start_time_unix_nano.view(np.int64))
            case Fixed.DURATION:
                return Numbers((batch.end_time_unix_nano - batch.start_time_unix_nano).view(np.int64))
            case Fixed.SPAN_ID:
                return Numbers(batch.span_id)
            case Fixed.PARENT_SPAN_ID:
                return Numbers(batch.parent_span_id)
        small = {
            Fixed.KIND: batch.kind,
            Fixed.STATUS: batch.status_code,
            Fixed.NESTED_LEFT: arranged.left,
            Fixed.NESTED_RIGHT: arranged.right,
            Fixed.NESTED_PARENT: arranged.parent,
        }
        return Numbers(small[column].astype(np.int64))

    def _of_traces(self, column: Fixed) -> Strings | Numbers:
        arranged = self._arranged
        match column:
            case Fixed.TRACE_ID_HIGH:
                return Numbers(arranged.trace_id_high)
            case Fixed.TRACE_ID_LOW:
                return Numbers(arranged.trace_id_low)
            case Fixed.ROOT_NAME:
                return self._of_roots(self._batch.name)
            case Fixed.ROOT_SERVICE_NAME:
                return self._of_roots(service_codes(self._resources, self._dictionary.strings)[self._batch.resource])
        # as unsigned numbers: an end that lies before the start of its trace makes a negative duration, as in a block
        start = np.minimum.reduceat(self._batch.start_time_unix_nano, arranged.first_row)
        if column is Fixed.TRACE_START:
            return Numbers(start.view(np.int64))
        end = np.maximum.reduceat(self._batch.end_time_unix_nano, arranged.first_row)
        return Numbers((end - start).view(np.int64))

    def _of_roots(self, codes: U32) -> Strings:
        """String codes of spans, those of the root spans, one a trace; no value where there is no root."""
        rooted = np.flatnonzero(self._arranged.root >= 0)
        strings = pool_strings(self._dictionary.strings, codes[self._arranged.root[rooted]])
        return spread_strings(rooted, strings, self._arranged.trace_count)

    def _of_events(self, column: Fixed) -> Strings | Numbers:
        if column is Fixed.EVENT_NAME:
            return pool_strings(self._dictionary.strings, self._batch.events.name)
        return Numbers(self._batch.events.time_unix_nano.view(np.int64))

    def attribute(self, scope: AttributeScope, key: str) -> Attribute | None:
        found = self._attributes.get((scope, key))
        if found is None:  # what is not there is looked for again: to keep that would have no bound
            found = attribute_column(self._pairs(scope), self.count(LEVEL_OF_SCOPE[scope]), self._dictionary, key)
            if found is not None:
                self._attributes[scope, key] = found
                self._inspected += found.nbytes
                self._kept += found.nbytes
        return found

    def keys(self, scope: AttributeScope) -> Iterable[str]:
        codes = np.flatnonzero(np.bincount(self._pairs(scope).key))
        return [self._dictionary.strings.get(code).decode() for code in codes.tolist()]

    def _pairs(self, scope: AttributeScope) -> Attributes:
        tables = {
            AttributeScope.SPAN: self._batch.attributes,
            AttributeScope.RESOURCE: self._resources.attributes,
            AttributeScope.INSTRUMENTATION: self._scopes.attributes,
            AttributeScope.EVENT: self._batch.events.attributes,
            AttributeScope.LINK: self._batch.links.attributes,
        }
        return tables[scope]

    @property
    def inspected_bytes(self) -> int:
        return self._inspected

    def _counted(self, column: C) -> C:
        self._inspected += int(column.nbytes)
        self._kept += int(column.nbytes)
        return column
