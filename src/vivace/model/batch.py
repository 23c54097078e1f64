"""SpanBatch: spans as columns, attributes as one long table beside them.

Rule 1  a batch is immutable once built; slices and rows taken from it are new batches, sharing memory where they can.
Rule 2  strings are codes into `dictionary.strings` (always valid UTF-8); odd-sized ids, bytes, arrays and key/value
        lists are codes into `dictionary.blobs`. Batches that share a dictionary can be laid end to end as they are.
Rule 3  attributes are sorted by row, within a row in the order of arrival; a key may come twice, nothing is dropped.
Rule 4  a column that is zero in every row takes no memory (a broadcast view).

Ids are big-endian numbers, so numeric order is byte order. Times are unsigned nanoseconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vivace.model.attributes import I32, PAIR_BYTES, U32, U64, Attributes, concat_attributes, join_rows
from vivace.model.dictionary import Dictionary


@dataclass(frozen=True, slots=True)
class Events:
    """Span events; `span` is the row of the span they belong to, ascending. `attributes` count events, not spans."""

    span: U32
    time_unix_nano: U64
    name: U32
    dropped_attributes_count: U32
    attributes: Attributes

    @classmethod
    def empty(cls) -> Events:
        u32 = np.empty(0, np.uint32)
        return cls(u32, np.empty(0, np.uint64), u32, u32, Attributes.empty())

    def __len__(self) -> int:
        return len(self.span)


@dataclass(frozen=True, slots=True)
class Links:
    """Span links; both ids are blob codes, since OTLP does not fix their length here."""

    span: U32
    trace_id: U32
    span_id: U32
    trace_state: U32
    flags: U32
    dropped_attributes_count: U32
    attributes: Attributes

    @classmethod
    def empty(cls) -> Links:
        u32 = np.empty(0, np.uint32)
        return cls(u32, u32, u32, u32, u32, u32, Attributes.empty())

    def __len__(self) -> int:
        return len(self.span)


@dataclass(frozen=True, slots=True)
class SpanBatch:
    """Spans of one dictionary; every column has one entry a span unless it says otherwise.

    `size` is the encoded size of the Span message in bytes (what span metrics report), 0 when read back from a block.
    """

    dictionary: Dictionary
    trace_id_high: U64
    trace_id_low: U64
    span_id: U64
    parent_span_id: U64
    start_time_unix_nano: U64
    end_time_unix_nano: U64
    name: U32
    kind: I32
    status_code: I32
    status_message: U32
    trace_state: U32
    flags: U32
    dropped_attributes_count: U32
    dropped_events_count: U32
    dropped_links_count: U32
    resource: U32
    scope: U32
    size: U32
    attributes: Attributes
    events: Events
    links: Links

    def __len__(self) -> int:
        return len(self.span_id)

    @property
    def nbytes(self) -> int:
        """Bytes of the columns, without the dictionary. Asked for at every commit, so counted by rows, not by arrays."""
        zero = sum(getattr(self, name).strides == (0,) for name in OFTEN_ZERO)
        pairs = len(self.attributes) + len(self.events.attributes) + len(self.links.attributes)
        row = ROW_BYTES - 4 * zero
        total: int = (
            row * len(self) + PAIR_BYTES * pairs + EVENT_BYTES * len(self.events) + LINK_BYTES * len(self.links)
        )
        return total

    @classmethod
    def empty(cls, dictionary: Dictionary) -> SpanBatch:
        columns: dict[str, Any] = {name: np.empty(0, dtype) for name, dtype in COLUMNS.items()}
        return cls(dictionary, **columns, attributes=Attributes.empty(), events=Events.empty(), links=Links.empty())

    def slice(self, start: int, stop: int) -> SpanBatch:
        """Rows [start, stop), sharing memory except for the renumbered row indexes of attributes, events, links."""
        columns: dict[str, Any] = {name: getattr(self, name)[start:stop] for name in COLUMNS}
        return replace(
            self,
            **columns,
            attributes=self.attributes.slice(start, stop),
            events=_slice_children(self.events, start, stop),
            links=_slice_children(self.links, start, stop),
        )


COLUMNS: dict[str, type[np.generic]] = {
    "trace_id_high": np.uint64,
    "trace_id_low": np.uint64,
    "span_id": np.uint64,
    "parent_span_id": np.uint64,
    "start_time_unix_nano": np.uint64,
    "end_time_unix_nano": np.uint64,
    "name": np.uint32,
    "kind": np.int32,
    "status_code": np.int32,
    "status_message": np.uint32,
    "trace_state": np.uint32,
    "flags": np.uint32,
    "dropped_attributes_count": np.uint32,
    "dropped_events_count": np.uint32,
    "dropped_links_count": np.uint32,
    "resource": np.uint32,
    "scope": np.uint32,
    "size": np.uint32,
}
"""The fixed columns of SpanBatch, in order, and their types."""

OFTEN_ZERO = ("trace_state", "flags", "dropped_attributes_count", "dropped_events_count", "dropped_links_count", "size")
ROW_BYTES = sum(np.dtype(dtype).itemsize for dtype in COLUMNS.values())
EVENT_BYTES, LINK_BYTES = 20, 24

CHILD_COLUMNS: dict[type[Events] | type[Links], tuple[str, ...]] = {
    Events: ("time_unix_nano", "name", "dropped_attributes_count"),
    Links: ("trace_id", "span_id", "trace_state", "flags", "dropped_attributes_count"),
}


T = TypeVar("T", Events, Links)


def concat(batches: Sequence[SpanBatch]) -> SpanBatch:
    """One batch of all rows in order. They must share one dictionary. One batch alone is returned as it is."""
    if not batches:
        raise ValueError("concat of no batches")
    if len(batches) == 1:
        return batches[0]
    dictionary = batches[0].dictionary
    if any(b.dictionary is not dictionary for b in batches):
        raise ValueError("batches of different dictionaries; rehome them first")
    columns: dict[str, Any] = {name: _join([getattr(b, name) for b in batches]) for name in COLUMNS}
    counts = [len(b) for b in batches]
    return SpanBatch(
        dictionary,
        **columns,
        attributes=concat_attributes([b.attributes for b in batches], counts),
        events=_concat_children([b.events for b in batches], counts),
        links=_concat_children([b.links for b in batches], counts),
    )


def _concat_children(parts: Sequence[T], counts: Sequence[int]) -> T:
    kind = type(parts[0])
    if not any(map(len, parts)):
        return parts[0]
    columns = {name: np.concatenate([getattr(p, name) for p in parts]) for name in CHILD_COLUMNS[kind]}
    attributes = concat_attributes([p.attributes for p in parts], [len(p) for p in parts])
    return kind(span=join_rows([p.span for p in parts], counts), attributes=attributes, **columns)


def _slice_children(children: T, start: int, stop: int) -> T:
    a, b = (int(i) for i in np.searchsorted(children.span, (start, stop)))
    columns = {name: getattr(children, name)[a:b] for name in CHILD_COLUMNS[type(children)]}
    span = children.span[a:b] - np.uint32(start)
    return type(children)(span=span, attributes=children.attributes.slice(a, b), **columns)


def _join(arrays: Sequence[NDArray[np.generic]]) -> NDArray[np.generic]:
    if all(a.strides == (0,) or not len(a) for a in arrays) and not any(len(a) and a[0] for a in arrays):
        return np.broadcast_to(arrays[0].dtype.type(0), sum(map(len, arrays)))
    return np.concatenate(arrays)
