"""A batch as OTLP bytes on the protobuf library: the twin of _encode.pyx. The rules are in encode.py."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from itertools import pairwise

import numpy as np

from vivace.model.attributes import U32, Attributes
from vivace.model.batch import SpanBatch
from vivace.model.pool import Pool
from vivace.model.proto import otlp_pb2
from vivace.model.schema import ValueType


def encode_plain(grouped: SpanBatch) -> bytes:
    """Wire bytes of a TracesData. The rows of one (resource, scope) must stand together: see encode.group_rows."""
    return _Encoder(grouped).encode()


_Owner = otlp_pb2.Resource | otlp_pb2.InstrumentationScope | otlp_pb2.Span | otlp_pb2.Span.Event | otlp_pb2.Span.Link


class _Pairs:
    """Attributes of many rows, found by row."""

    def __init__(self, attributes: Attributes, row_count: int) -> None:
        self._bounds = _bounds(attributes.row, row_count)
        columns = (attributes.key, attributes.type, attributes.value)
        self._pairs = list(zip(*(c.tolist() for c in columns), strict=True))

    def of(self, row: int) -> Iterable[tuple[int, int, int]]:
        """(key code, type, value) of each pair, in order."""
        first, last = self._bounds[row]
        return self._pairs[first:last]


def _bounds(owner: U32, owner_count: int) -> list[tuple[int, int]]:
    """Which children each owner has, the children being sorted by owner."""
    return list(pairwise(np.searchsorted(owner, np.arange(owner_count + 1)).tolist()))


class _Encoder:
    def __init__(self, batch: SpanBatch) -> None:
        dictionary = batch.dictionary
        self._batch = batch
        self._resources, self._scopes = dictionary.resources, dictionary.scopes
        self._string = cache(lambda code: _text(dictionary.strings, code))
        self._blob = cache(dictionary.blobs.get)
        self._span_pairs = _Pairs(batch.attributes, len(batch))
        self._event_pairs = _Pairs(batch.events.attributes, len(batch.events))
        self._link_pairs = _Pairs(batch.links.attributes, len(batch.links))
        self._resource_pairs = _Pairs(self._resources.attributes, len(self._resources))
        self._scope_pairs = _Pairs(self._scopes.attributes, len(self._scopes))

    def encode(self) -> bytes:
        batch, request = self._batch, otlp_pb2.ExportTraceServiceRequest()
        events, links = _bounds(batch.events.span, len(batch)), _bounds(batch.links.span, len(batch))
        resource_spans, scope_spans = otlp_pb2.ResourceSpans(), otlp_pb2.ScopeSpans()
        last_resource = last_scope = -1
        for row, (resource, scope) in enumerate(zip(batch.resource.tolist(), batch.scope.tolist(), strict=True)):
            if resource != last_resource:
                resource_spans = request.resource_spans.add()
                self._fill_resource(resource_spans, resource)
            if resource != last_resource or scope != last_scope:
                scope_spans = resource_spans.scope_spans.add()
                self._fill_scope(scope_spans, scope)
            last_resource, last_scope = resource, scope
            span = scope_spans.spans.add()
            self._fill_span(span, row)
            for event in range(*events[row]):
                self._fill_event(span.events.add(), event)
            for link in range(*links[row]):
                self._fill_link(span.links.add(), link)
        return request.SerializeToString()

    def _fill_resource(self, to: otlp_pb2.ResourceSpans, row: int) -> None:
        to.resource.SetInParent()
        to.resource.dropped_attributes_count = int(self._resources.dropped_attributes_count[row])
        self._fill_pairs(to.resource, self._resource_pairs.of(row))
        to.schema_url = self._string(int(self._resources.schema_url[row]))

    def _fill_scope(self, to: otlp_pb2.ScopeSpans, row: int) -> None:
        scopes = self._scopes
        to.scope.SetInParent()
        to.scope.name = self._string(int(scopes.name[row]))
        to.scope.version = self._string(int(scopes.version[row]))
        to.scope.dropped_attributes_count = int(scopes.dropped_attributes_count[row])
        self._fill_pairs(to.scope, self._scope_pairs.of(row))
        to.schema_url = self._string(int(scopes.schema_url[row]))

    def _fill_span(self, to: otlp_pb2.Span, row: int) -> None:
        batch = self._batch
        to.trace_id = int(batch.trace_id_high[row]).to_bytes(8) + int(batch.trace_id_low[row]).to_bytes(8)
        to.span_id = int(batch.span_id[row]).to_bytes(8)
        if batch.parent_span_id[row]:
            to.parent_span_id = int(batch.parent_span_id[row]).to_bytes(8)
        to.trace_state = self._string(int(batch.trace_state[row]))
        to.name = self._string(int(batch.name[row]))
        to.kind = int(batch.kind[row])  # type: ignore[assignment]  # open enum: numbers without a name are kept
        to.start_time_unix_nano = int(batch.start_time_unix_nano[row])
        to.end_time_unix_nano = int(batch.end_time_unix_nano[row])
        to.dropped_attributes_count = int(batch.dropped_attributes_count[row])
        to.dropped_events_count = int(batch.dropped_events_count[row])
        to.dropped_links_count = int(batch.dropped_links_count[row])
        to.flags = int(batch.flags[row])
        to.status.SetInParent()
        to.status.message = self._string(int(batch.status_message[row]))
        to.status.code = int(batch.status_code[row])  # type: ignore[assignment]
        self._fill_pairs(to, self._span_pairs.of(row))

    def _fill_event(self, to: otlp_pb2.Span.Event, row: int) -> None:
        events = self._batch.events
        to.time_unix_nano = int(events.time_unix_nano[row])
        to.name = self._string(int(events.name[row]))
        to.dropped_attributes_count = int(events.dropped_attributes_count[row])
        self._fill_pairs(to, self._event_pairs.of(row))

    def _fill_link(self, to: otlp_pb2.Span.Link, row: int) -> None:
        links = self._batch.links
        to.trace_id = self._blob(int(links.trace_id[row]))
        to.span_id = self._blob(int(links.span_id[row]))
        to.trace_state = self._string(int(links.trace_state[row]))
        to.flags = int(links.flags[row])
        to.dropped_attributes_count = int(links.dropped_attributes_count[row])
        self._fill_pairs(to, self._link_pairs.of(row))

    def _fill_pairs(self, to: _Owner, pairs: Iterable[tuple[int, int, int]]) -> None:
        for key, kind, value in pairs:
            pair = to.attributes.add()
            pair.key = self._string(key)
            pair.value.SetInParent()
            match ValueType(kind):
                case ValueType.EMPTY:
                    pass
                case ValueType.STRING:
                    pair.value.string_value = self._string(value)
                case ValueType.BOOL:
                    pair.value.bool_value = value != 0
                case ValueType.INT:
                    pair.value.int_value = value - (1 << 64) if value >> 63 else value
                case ValueType.DOUBLE:
                    pair.value.double_value = float(np.uint64(value).view(np.float64))
                case ValueType.BYTES:
                    pair.value.bytes_value = self._blob(value)
                case ValueType.ARRAY:
                    pair.value.array_value.SetInParent()
                    pair.value.array_value.MergeFromString(self._blob(value))
                case ValueType.KVLIST:
                    pair.value.kvlist_value.SetInParent()
                    pair.value.kvlist_value.MergeFromString(self._blob(value))


def _text(strings: Pool, code: int) -> str:
    return strings.get(code).decode()
