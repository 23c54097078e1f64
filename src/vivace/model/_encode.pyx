# cython: boundscheck=True, wraparound=False, initializedcheck=False
"""A batch as OTLP bytes, natively. The plain twin and the rules are in encode.py.

Columns are typed memoryviews with bounds checks on: a wrong row number raises instead of reading past an array.
"""

import numpy as np

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memset

from vivace.model._pool cimport Pool
from vivace.model._wire cimport NO_MEMORY, OK, Buffer, put, put8, put32, put64, put_varint


cdef class Table:
    """Attributes of many rows, with the first pair of each row."""

    cdef const uint32_t[::1] key
    cdef const uint8_t[::1] type
    cdef const uint64_t[::1] value
    cdef const int64_t[::1] first

    def __init__(self, attributes, rows):
        self.key = flat(attributes.key)
        self.type = flat(attributes.type)
        self.value = flat(attributes.value)
        self.first = np.searchsorted(attributes.row, np.arange(rows + 1)).astype(np.int64)


def flat(array):
    return np.ascontiguousarray(array)


cdef class Encoder:
    """Holds the columns of one batch whose rows are grouped by (resource, scope)."""

    cdef Pool strings, blobs
    cdef const uint64_t[::1] trace_high, trace_low, span_id, parent_id, start, end, event_time
    cdef const uint32_t[::1] name, message, state, flags, dropped_attributes, dropped_events, dropped_links
    cdef const int32_t[::1] kind, code
    cdef const uint32_t[::1] event_name, event_dropped
    cdef const uint32_t[::1] link_trace, link_span, link_state, link_flags, link_dropped
    cdef const int64_t[::1] event_first, link_first
    cdef const uint32_t[::1] resource, scope, resource_url, resource_dropped
    cdef const uint32_t[::1] scope_name, scope_version, scope_url, scope_dropped
    cdef Table span_pairs, event_pairs, link_pairs, resource_pairs, scope_pairs
    cdef Buffer spans, scratch, child, pair, any, scopes, out

    def __init__(self, batch):
        dictionary, events, links, n = batch.dictionary, batch.events, batch.links, len(batch)
        resources, scopes = dictionary.resources, dictionary.scopes
        self.strings, self.blobs = dictionary.strings, dictionary.blobs
        self.trace_high, self.trace_low = flat(batch.trace_id_high), flat(batch.trace_id_low)
        self.span_id, self.parent_id = flat(batch.span_id), flat(batch.parent_span_id)
        self.start, self.end = flat(batch.start_time_unix_nano), flat(batch.end_time_unix_nano)
        self.name, self.message, self.state = flat(batch.name), flat(batch.status_message), flat(batch.trace_state)
        self.flags, self.kind, self.code = flat(batch.flags), flat(batch.kind), flat(batch.status_code)
        self.dropped_attributes = flat(batch.dropped_attributes_count)
        self.dropped_events = flat(batch.dropped_events_count)
        self.dropped_links = flat(batch.dropped_links_count)
        self.event_time, self.event_name = flat(events.time_unix_nano), flat(events.name)
        self.event_dropped = flat(events.dropped_attributes_count)
        self.link_trace, self.link_span = flat(links.trace_id), flat(links.span_id)
        self.link_state, self.link_flags = flat(links.trace_state), flat(links.flags)
        self.link_dropped = flat(links.dropped_attributes_count)
        self.event_first = np.searchsorted(events.span, np.arange(n + 1)).astype(np.int64)
        self.link_first = np.searchsorted(links.span, np.arange(n + 1)).astype(np.int64)
        self.resource, self.scope = flat(batch.resource), flat(batch.scope)
        self.resource_url, self.resource_dropped = flat(resources.schema_url), flat(resources.dropped_attributes_count)
        self.scope_name, self.scope_version = flat(scopes.name), flat(scopes.version)
        self.scope_url, self.scope_dropped = flat(scopes.schema_url), flat(scopes.dropped_attributes_count)
        self.span_pairs = Table(batch.attributes, n)
        self.event_pairs = Table(events.attributes, len(events))
        self.link_pairs = Table(links.attributes, len(links))
        self.resource_pairs = Table(resources.attributes, len(resources))
        self.scope_pairs = Table(scopes.attributes, len(scopes))

    def __dealloc__(self):
        free(self.spans.data)
        free(self.scratch.data)
        free(self.child.data)
        free(self.pair.data)
        free(self.any.data)
        free(self.scopes.data)
        free(self.out.data)

    def encode(self):
        """Wire bytes of a TracesData."""
        cdef int status
        with self.strings.lock, self.blobs.lock:
            with nogil:
                status = self.encode_all()
        if status != OK:
            raise MemoryError("encoding a trace")
        return (<const char*>self.out.data)[:self.out.size] if self.out.size else b""

    cdef int encode_all(self) except -100 nogil:
        cdef Py_ssize_t row = 0, n = self.span_id.shape[0]
        cdef uint32_t resource, scope
        cdef int bad = 0
        while row < n:
            resource = self.resource[row]
            self.scopes.size = 0
            while row < n and self.resource[row] == resource:
                scope = self.scope[row]
                self.spans.size = 0
                while row < n and self.resource[row] == resource and self.scope[row] == scope:
                    bad |= self.encode_span(row)
                    row += 1
                bad |= self.encode_scope(scope)
            bad |= self.encode_resource(resource)
        return bad

    cdef int encode_resource(self, uint32_t row) except -100 nogil:
        """ResourceSpans{resource, scope_spans (in `scopes`), schema_url} onto `out`."""
        cdef int bad = 0
        cdef size_t url = self.string_size(self.resource_url[row])
        self.scratch.size = 0
        bad |= self.encode_pairs(&self.scratch, self.resource_pairs, row, 0x0A)
        bad |= put_number(&self.scratch, 0x10, self.resource_dropped[row])
        bad |= put8(&self.out, 0x0A)
        bad |= put_varint(&self.out, framed_size(self.scratch.size) + self.scopes.size + (framed_size(url) if url else 0))
        bad |= put_message(&self.out, 0x0A, &self.scratch)
        bad |= put(&self.out, self.scopes.data, self.scopes.size)
        return bad | self.put_string(&self.out, 0x1A, self.resource_url[row])

    cdef int encode_scope(self, uint32_t row) except -100 nogil:
        """ScopeSpans{scope, spans (in `spans`), schema_url} onto `scopes`."""
        cdef int bad = 0
        cdef size_t url = self.string_size(self.scope_url[row])
        self.scratch.size = 0
        bad |= self.put_string(&self.scratch, 0x0A, self.scope_name[row])
        bad |= self.put_string(&self.scratch, 0x12, self.scope_version[row])
        bad |= self.encode_pairs(&self.scratch, self.scope_pairs, row, 0x1A)
        bad |= put_number(&self.scratch, 0x20, self.scope_dropped[row])
        bad |= put8(&self.scopes, 0x12)
        bad |= put_varint(
            &self.scopes, framed_size(self.scratch.size) + self.spans.size + (framed_size(url) if url else 0)
        )
        bad |= put_message(&self.scopes, 0x0A, &self.scratch)
        bad |= put(&self.scopes, self.spans.data, self.spans.size)
        return bad | self.put_string(&self.scopes, 0x1A, self.scope_url[row])

    cdef int encode_span(self, Py_ssize_t row) except -100 nogil:
        cdef Buffer* to = &self.scratch
        cdef int64_t i
        cdef int bad = 0
        to.size = 0
        bad |= put8(to, 0x0A) | put8(to, 16) | put_id(to, self.trace_high[row]) | put_id(to, self.trace_low[row])
        bad |= put8(to, 0x12) | put8(to, 8) | put_id(to, self.span_id[row])
        bad |= self.put_string(to, 0x1A, self.state[row])
        if self.parent_id[row]:
            bad |= put8(to, 0x22) | put8(to, 8) | put_id(to, self.parent_id[row])
        bad |= self.put_string(to, 0x2A, self.name[row])
        bad |= put_number(to, 0x30, <uint64_t><int64_t>self.kind[row])
        if self.start[row]:
            bad |= put8(to, 0x39) | put64(to, self.start[row])
        if self.end[row]:
            bad |= put8(to, 0x41) | put64(to, self.end[row])
        bad |= self.encode_pairs(to, self.span_pairs, row, 0x4A)
        bad |= put_number(to, 0x50, self.dropped_attributes[row])
        for i in range(self.event_first[row], self.event_first[row + 1]):
            bad |= self.encode_event(i)
            bad |= put_message(to, 0x5A, &self.child)
        bad |= put_number(to, 0x60, self.dropped_events[row])
        for i in range(self.link_first[row], self.link_first[row + 1]):
            bad |= self.encode_link(i)
            bad |= put_message(to, 0x6A, &self.child)
        bad |= put_number(to, 0x70, self.dropped_links[row])
        self.child.size = 0
        bad |= self.put_string(&self.child, 0x12, self.message[row])
        bad |= put_number(&self.child, 0x18, <uint64_t><int64_t>self.code[row])
        bad |= put_message(to, 0x7A, &self.child)
        if self.flags[row]:
            bad |= put8(to, 0x85) | put8(to, 0x01) | put32(to, self.flags[row])
        return bad | put_message(&self.spans, 0x12, to)

    cdef int encode_event(self, int64_t row) except -100 nogil:
        cdef Buffer* to = &self.child
        cdef int bad = 0
        to.size = 0
        if self.event_time[row]:
            bad |= put8(to, 0x09) | put64(to, self.event_time[row])
        bad |= self.put_string(to, 0x12, self.event_name[row])
        bad |= self.encode_pairs(to, self.event_pairs, row, 0x1A)
        return bad | put_number(to, 0x20, self.event_dropped[row])

    cdef int encode_link(self, int64_t row) except -100 nogil:
        cdef Buffer* to = &self.child
        cdef int bad = 0
        to.size = 0
        bad |= put_entry(to, 0x0A, self.blobs, self.link_trace[row])
        bad |= put_entry(to, 0x12, self.blobs, self.link_span[row])
        bad |= self.put_string(to, 0x1A, self.link_state[row])
        bad |= self.encode_pairs(to, self.link_pairs, row, 0x22)
        bad |= put_number(to, 0x28, self.link_dropped[row])
        if self.link_flags[row]:
            bad |= put8(to, 0x35) | put32(to, self.link_flags[row])
        return bad

    cdef int encode_pairs(self, Buffer* to, Table table, int64_t row, uint8_t tag) except -100 nogil:
        cdef int64_t i
        cdef uint8_t kind
        cdef int bad = 0
        for i in range(table.first[row], table.first[row + 1]):
            kind = table.type[i]
            self.any.size = 0
            if kind == 1:
                bad |= self.put_value(self.strings, 0x0A, table.value[i])
            elif kind == 2:
                bad |= put8(&self.any, 0x10) | put8(&self.any, table.value[i] != 0)
            elif kind == 3:
                bad |= put8(&self.any, 0x18) | put_varint(&self.any, table.value[i])
            elif kind == 4:
                bad |= put8(&self.any, 0x21) | put64(&self.any, table.value[i])
            elif kind:
                bad |= self.put_value(self.blobs, (kind << 3) | 2, table.value[i])
            self.pair.size = 0
            bad |= self.put_string(&self.pair, 0x0A, table.key[i])
            bad |= put_message(&self.pair, 0x12, &self.any)
            bad |= put_message(to, tag, &self.pair)
        return bad

    cdef int put_value(self, Pool pool, uint8_t tag, uint64_t code) except -100 nogil:
        """A member of AnyValue's oneof: written even when it is empty."""
        cdef size_t n
        if code >= pool.count:
            with gil:
                raise IndexError(f"code {code} of {pool.count}")
        n = pool.offsets[code + 1] - pool.offsets[code]
        return put8(&self.any, tag) | put_varint(&self.any, n) | put(&self.any, pool.data + pool.offsets[code], n)

    cdef size_t string_size(self, uint32_t code) except? 0 nogil:
        if code >= self.strings.count:
            with gil:
                raise IndexError(f"code {code} of {self.strings.count}")
        return self.strings.offsets[code + 1] - self.strings.offsets[code]

    cdef int put_string(self, Buffer* to, uint8_t tag, uint32_t code) except -100 nogil:
        return put_entry(to, tag, self.strings, code)


cdef int put_entry(Buffer* to, uint8_t tag, Pool pool, uint32_t code) except -100 nogil:
    """A string or bytes field; left out when empty, as proto3 asks."""
    cdef size_t n
    if code >= pool.count:
        with gil:
            raise IndexError(f"code {code} of {pool.count}")
    n = pool.offsets[code + 1] - pool.offsets[code]
    if not n:
        return OK
    return put8(to, tag) | put_varint(to, n) | put(to, pool.data + pool.offsets[code], n)


cdef int put_number(Buffer* to, uint8_t tag, uint64_t value) noexcept nogil:
    return put8(to, tag) | put_varint(to, value) if value else OK


cdef int put_message(Buffer* to, uint8_t tag, Buffer* message) noexcept nogil:
    return put8(to, tag) | put_varint(to, message.size) | put(to, message.data, message.size)


cdef int put_id(Buffer* to, uint64_t value) noexcept nogil:
    cdef uint8_t raw[8]
    cdef int i
    for i in range(8):
        raw[i] = <uint8_t>(value >> (56 - 8 * i))
    return put(to, raw, 8)


cdef size_t framed_size(size_t n) noexcept nogil:
    """Bytes of a field of `n` bytes with its one-byte tag and its length."""
    cdef size_t size = 2 + n, rest = n >> 7
    while rest:
        size += 1
        rest >>= 7
    return size
