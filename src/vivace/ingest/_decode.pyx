# cython: boundscheck=False, wraparound=False, initializedcheck=False
"""OTLP request bytes to columns, natively. The plain-Python twin is plain_decode.py; decode.py picks one.

Rule 1  one call decodes a whole group without the GIL; a request that fails leaves nothing behind.
Rule 2  every read goes through model/_wire.pxd, which checks the end of the message: the raw pointers here never
        pass it. (Cython's own bounds checks see no arrays here, so they are off.)
Rule 3  no policy: what a bad id or an over-long value means is said by the caller's arguments.

Where a singular message field stands twice, the protobuf library would merge; no encoder writes that, we refuse it.
"""

import numpy as np

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy

from vivace.model._pool cimport Pool
from vivace.model._wire cimport (
    BAD_GROUP, BAD_LENGTH, BAD_TAG, BAD_VARINT, BYTES, DEPTH_MAX, FIXED32, FIXED64, NO_MEMORY, OK, TOO_DEEP, TRUNCATED,
    TWICE, VARINT, Buffer, Cursor, big_endian, is_utf8, put, put8, put32, put64, put_varint, read_bytes,
    read_fixed32, read_fixed64, read_tag, read_varint, skip,
)

from vivace.errors import DecodeError
from vivace.ingest.outcome import REJECTIONS_NAMED_MAX, Outcome, Rejection
from vivace.ingest.repair import repair_any_value
from vivace.model.attributes import Attributes
from vivace.model.batch import Events, Links, SpanBatch
from vivace.model.dictionary import Resources, Scopes

cdef enum:
    NAMED_MAX = 3  # rejected spans named in the reply; checked against outcome.py below

assert NAMED_MAX == REJECTIONS_NAMED_MAX

cdef enum:
    BAD_TRACE_ID = 1
    BAD_SPAN_ID = 2
    BAD_PARENT_ID = 3

MESSAGES = {
    TRUNCATED: "the message ends inside a field",
    BAD_VARINT: "a varint is longer than ten bytes",
    BAD_TAG: "not a field tag",
    TOO_DEEP: f"a value holds more than {DEPTH_MAX} messages or groups inside each other",
    BAD_GROUP: "a group does not end where it should",
    BAD_LENGTH: "a length is longer than five bytes",
    TWICE: "a field that may stand once stands twice",
}

# Column buffers of the spans, in the order of SpanBatch's columns; `dtype` tells numpy how to read them.
cdef enum:
    TRACE_HIGH = 0
    TRACE_LOW = 1
    SPAN_ID = 2
    PARENT_ID = 3
    START = 4
    END = 5
    NAME = 6
    KIND = 7
    STATUS_CODE = 8
    STATUS_MESSAGE = 9
    TRACE_STATE = 10
    FLAGS = 11
    DROPPED_ATTRIBUTES = 12
    DROPPED_EVENTS = 13
    DROPPED_LINKS = 14
    RESOURCE = 15
    SCOPE = 16
    SIZE = 17
    SPAN_COLUMNS = 18

# Columns of events, links and the two shared tables.
cdef enum:
    EVENT_SPAN = 0
    EVENT_TIME = 1
    EVENT_NAME = 2
    EVENT_DROPPED = 3
    LINK_SPAN = 4
    LINK_TRACE_ID = 5
    LINK_SPAN_ID = 6
    LINK_TRACE_STATE = 7
    LINK_FLAGS = 8
    LINK_DROPPED = 9
    RESOURCE_SCHEMA = 10
    RESOURCE_DROPPED = 11
    SCOPE_NAME = 12
    SCOPE_VERSION = 13
    SCOPE_SCHEMA = 14
    SCOPE_DROPPED = 15
    SIDE_COLUMNS = 16

# Attribute tables.
cdef enum:
    SPAN_TABLE = 0
    EVENT_TABLE = 1
    LINK_TABLE = 2
    RESOURCE_TABLE = 3
    SCOPE_TABLE = 4
    TABLES = 5

ZERO = bytes(8)
NO_EVENTS, NO_LINKS = Events.empty(), Links.empty()

U8, U32, I32, U64 = np.dtype("u1"), np.dtype("u4"), np.dtype("i4"), np.dtype("u8")

SPAN_DTYPES = (U64,) * 6 + (U32, I32, I32) + (U32,) * 9

ctypedef struct AttributeBuffers:
    Buffer row
    Buffer key
    Buffer type
    Buffer value

ctypedef struct Bad:
    uint32_t ordinal
    uint32_t reason
    uint32_t length

ctypedef struct Result:
    uint32_t first_row
    uint32_t rows
    uint32_t rejected
    uint64_t truncated
    int status
    size_t offset
    const char* field
    Bad bad[NAMED_MAX]

ctypedef struct Mark:
    size_t spans
    size_t span_attributes
    size_t events
    size_t event_attributes
    size_t links
    size_t link_attributes

ctypedef struct AnyValue:
    uint8_t type
    uint64_t value


cdef class Decoder:
    """Decodes groups of requests into batches of one dictionary. Not thread-safe: one per commit loop.

    `attribute_bytes_max`: keys and string values longer than this are cut at a character boundary; 0 = never.
    """

    cdef Buffer spans[SPAN_COLUMNS]
    cdef Buffer side[SIDE_COLUMNS]
    cdef AttributeBuffers tables[TABLES]
    cdef Buffer key
    cdef uint32_t resource_base, scope_base
    cdef Pool strings, blobs, resource_keys, scope_keys
    cdef size_t limit
    cdef uint64_t truncated
    cdef const uint8_t* origin
    cdef size_t error_offset
    cdef const char* error_field
    cdef uint32_t ordinal
    cdef object dictionary
    cdef object failure  # what went wrong where nothing can be raised

    def __cinit__(self, dictionary, size_t attribute_bytes_max):
        self.dictionary = dictionary
        self.strings = dictionary.strings
        self.blobs = dictionary.blobs
        self.resource_keys = dictionary.resource_keys
        self.scope_keys = dictionary.scope_keys
        self.limit = attribute_bytes_max if attribute_bytes_max else <size_t>-1

    def __dealloc__(self):
        cdef int i
        for i in range(SPAN_COLUMNS):
            free(self.spans[i].data)
        for i in range(SIDE_COLUMNS):
            free(self.side[i].data)
        for i in range(TABLES):
            free(self.tables[i].row.data)
            free(self.tables[i].key.data)
            free(self.tables[i].type.data)
            free(self.tables[i].value.data)
        free(self.key.data)

    def decode(self, list bodies not None):
        """Decode a group: (batch of every accepted span in order, one Outcome a body). Releases the GIL once."""
        cdef Py_ssize_t i, n = len(bodies)
        cdef Cursor* inputs = <Cursor*>malloc((n + 1) * sizeof(Cursor))
        cdef Result* results = <Result*>calloc(n + 1, sizeof(Result))
        cdef bytes body
        try:
            if not inputs or not results:
                raise MemoryError("decoder")
            for i in range(n):
                body = bodies[i]
                inputs[i].p = <const uint8_t*><const char*>body
                inputs[i].end = inputs[i].p + len(body)
            self.clear()
            self.failure = None
            self.resource_base = self.dictionary.resource_count
            self.scope_base = self.dictionary.scope_count
            with self.strings.lock, self.blobs.lock, self.resource_keys.lock, self.scope_keys.lock:
                with nogil:
                    for i in range(n):
                        self.decode_body(inputs[i], &results[i])
            # even after a failure: the rows of these tables have their codes already
            self.publish_tables()
            for i in range(n):
                if results[i].status == NO_MEMORY:
                    raise self.failure or MemoryError("decoder")
            return self.take_batch(), [outcome_of(&results[i]) for i in range(n)]
        finally:
            free(inputs)
            free(results)

    cdef void clear(self):
        cdef int i
        for i in range(SPAN_COLUMNS):
            self.spans[i].size = 0
        for i in range(SIDE_COLUMNS):
            self.side[i].size = 0
        for i in range(TABLES):
            rewind_attributes(&self.tables[i], 0)

    cdef object take_batch(self):
        columns = [self.column(i) for i in range(SPAN_COLUMNS)]
        # most groups have neither; fifteen arrays of nothing cost as much as decoding ten spans
        events = NO_EVENTS if not self.side[EVENT_SPAN].size else Events(
            array(&self.side[EVENT_SPAN], U32), array(&self.side[EVENT_TIME], U64), array(&self.side[EVENT_NAME], U32),
            array(&self.side[EVENT_DROPPED], U32), attributes(&self.tables[EVENT_TABLE]),
        )
        links = NO_LINKS if not self.side[LINK_SPAN].size else Links(
            array(&self.side[LINK_SPAN], U32), array(&self.side[LINK_TRACE_ID], U32), array(&self.side[LINK_SPAN_ID], U32),
            array(&self.side[LINK_TRACE_STATE], U32), array(&self.side[LINK_FLAGS], U32), array(&self.side[LINK_DROPPED], U32),
            attributes(&self.tables[LINK_TABLE]),
        )
        return SpanBatch(self.dictionary, *columns, attributes(&self.tables[SPAN_TABLE]), events, links)

    cdef object column(self, int i):
        return array(&self.spans[i], SPAN_DTYPES[i])

    cdef void publish_tables(self):
        if self.side[RESOURCE_SCHEMA].size:
            self.dictionary.add_resources(Resources(
                array(&self.side[RESOURCE_SCHEMA], U32), array(&self.side[RESOURCE_DROPPED], U32),
                attributes(&self.tables[RESOURCE_TABLE]),
            ))
        if self.side[SCOPE_NAME].size:
            self.dictionary.add_scopes(Scopes(
                array(&self.side[SCOPE_NAME], U32), array(&self.side[SCOPE_VERSION], U32), array(&self.side[SCOPE_SCHEMA], U32),
                array(&self.side[SCOPE_DROPPED], U32), attributes(&self.tables[SCOPE_TABLE]),
            ))

    # -- one request --------------------------------------------------------------------------------------------

    cdef void decode_body(self, Cursor body, Result* result) noexcept nogil:
        cdef Mark mark = self.mark()
        cdef size_t rows
        self.origin = body.p
        self.ordinal = 0
        self.truncated = 0
        self.error_field = b"ExportTraceServiceRequest"
        result.first_row = <uint32_t>(mark.spans // 4)
        result.status = self.decode_request(body, result)
        if result.status != OK:
            result.offset = self.error_offset
            result.field = self.error_field
            result.rejected = 0
            self.rewind(mark)
            return
        rows = self.spans[NAME].size // 4 - mark.spans // 4
        result.rows = <uint32_t>rows
        result.truncated = self.truncated

    cdef Mark mark(self) noexcept nogil:
        cdef Mark m
        m.spans = self.spans[NAME].size
        m.span_attributes = self.tables[SPAN_TABLE].row.size
        m.events = self.side[EVENT_SPAN].size
        m.event_attributes = self.tables[EVENT_TABLE].row.size
        m.links = self.side[LINK_SPAN].size
        m.link_attributes = self.tables[LINK_TABLE].row.size
        return m

    cdef void rewind(self, Mark m) noexcept nogil:
        cdef int i
        for i in range(SPAN_COLUMNS):
            self.spans[i].size = m.spans * 2 if i <= END else m.spans
        rewind_attributes(&self.tables[SPAN_TABLE], m.span_attributes)
        rewind_attributes(&self.tables[EVENT_TABLE], m.event_attributes)
        rewind_attributes(&self.tables[LINK_TABLE], m.link_attributes)
        self.side[EVENT_SPAN].size = self.side[EVENT_NAME].size = self.side[EVENT_DROPPED].size = m.events
        self.side[EVENT_TIME].size = m.events * 2
        self.side[LINK_SPAN].size = self.side[LINK_TRACE_ID].size = self.side[LINK_SPAN_ID].size = m.links
        self.side[LINK_TRACE_STATE].size = self.side[LINK_FLAGS].size = self.side[LINK_DROPPED].size = m.links

    cdef int fail(self, int status, Cursor* c, const char* field) noexcept nogil:
        """Remember where and in which message; the innermost call wins."""
        self.error_offset = c.p - self.origin
        self.error_field = field
        return status

    cdef int decode_request(self, Cursor c, Result* result) noexcept nogil:
        cdef Cursor inner
        cdef uint32_t field, wire
        cdef int status
        while c.p < c.end:
            status = read_tag(&c, &field, &wire)
            if status == OK:
                if field == 1 and wire == BYTES:
                    status = read_bytes(&c, &inner)
                    if status == OK:
                        status = self.decode_resource_spans(inner, result)
                        if status != OK:
                            return status
                        continue
                else:
                    status = skip(&c, field, wire, 0)
            if status != OK:
                return self.fail(status, &c, b"ExportTraceServiceRequest")
        return OK

    cdef int decode_resource_spans(self, Cursor c, Result* result) noexcept nogil:
        # the resource may stand behind its spans on the wire, so it is looked for first; that costs one hop a field
        cdef Cursor scan = c, inner, resource, schema
        cdef uint32_t field, wire
        cdef int64_t code
        cdef bint seen = False
        cdef int status
        resource.p = resource.end = schema.p = schema.end = c.end
        while scan.p < scan.end:
            status = read_tag(&scan, &field, &wire)
            if status == OK:
                if wire == BYTES:
                    status = read_bytes(&scan, &inner)
                    if status == OK and field == 1:
                        if seen:
                            status = TWICE
                        seen = True
                        resource = inner
                    elif status == OK and field == 3:
                        schema = inner
                else:
                    status = skip(&scan, field, wire, 0)
            if status != OK:
                return self.fail(status, &scan, b"ResourceSpans")
        status = self.resource_code(resource, schema, &code)
        if status != OK:
            return status
        while c.p < c.end:
            read_tag(&c, &field, &wire)  # the first pass has read all of it without an error
            if field == 2 and wire == BYTES:
                read_bytes(&c, &inner)
                status = self.decode_scope_spans(inner, <uint32_t>code, result)
                if status != OK:
                    return status
            else:
                skip(&c, field, wire, 0)
        return OK

    cdef int decode_scope_spans(self, Cursor c, uint32_t resource, Result* result) noexcept nogil:
        cdef Cursor scan = c, inner, scope, schema
        cdef uint32_t field, wire
        cdef int64_t code
        cdef bint seen = False
        cdef int status
        scope.p = scope.end = schema.p = schema.end = c.end
        while scan.p < scan.end:
            status = read_tag(&scan, &field, &wire)
            if status == OK:
                if wire == BYTES:
                    status = read_bytes(&scan, &inner)
                    if status == OK and field == 1:
                        if seen:
                            status = TWICE
                        seen = True
                        scope = inner
                    elif status == OK and field == 3:
                        schema = inner
                else:
                    status = skip(&scan, field, wire, 0)
            if status != OK:
                return self.fail(status, &scan, b"ScopeSpans")
        status = self.scope_code(scope, schema, &code)
        if status != OK:
            return status
        while c.p < c.end:
            read_tag(&c, &field, &wire)
            if field == 2 and wire == BYTES:
                read_bytes(&c, &inner)
                status = self.decode_span(inner, resource, <uint32_t>code, result)
                if status != OK:
                    return status
            else:
                skip(&c, field, wire, 0)
        return OK

    # -- resource and scope: told apart by their bytes ------------------------------------------------------------

    cdef int table_key(self, Cursor message, Cursor schema) noexcept nogil:
        """Fill `key` with what tells this row apart: message, schema URL, length of the latter; empty when both are."""
        cdef size_t n = schema.end - schema.p
        self.key.size = 0
        if message.p == message.end and n == 0:
            return OK
        if put(&self.key, message.p, message.end - message.p) != OK or put(&self.key, schema.p, n) != OK:
            return NO_MEMORY
        return put32(&self.key, <uint32_t>n)

    cdef int resource_code(self, Cursor message, Cursor schema, int64_t* code) noexcept nogil:
        cdef uint32_t row
        cdef uint64_t dropped = 0
        cdef size_t before = self.tables[RESOURCE_TABLE].row.size
        cdef int status
        if self.table_key(message, schema) != OK:
            return NO_MEMORY
        code[0] = self.resource_keys.find(self.key.data, self.key.size)
        if code[0] >= 0:
            return OK
        row = <uint32_t>(self.side[RESOURCE_SCHEMA].size // 4)
        status = self.decode_resource(message, row, &dropped)
        if status == OK:
            status = self.add_resource(message, schema, row, <uint32_t>dropped, code)
        if status != OK:
            rewind_attributes(&self.tables[RESOURCE_TABLE], before)
            self.side[RESOURCE_SCHEMA].size = self.side[RESOURCE_DROPPED].size = <size_t>row * 4
        return status

    cdef int add_resource(
        self, Cursor message, Cursor schema, uint32_t row, uint32_t dropped, int64_t* code
    ) noexcept nogil:
        cdef int64_t schema_code = self.string(schema)
        if schema_code < 0 or put32(&self.side[RESOURCE_SCHEMA], <uint32_t>schema_code) != OK \
                or put32(&self.side[RESOURCE_DROPPED], dropped) != OK or self.table_key(message, schema) != OK:
            return NO_MEMORY
        code[0] = self.resource_keys.intern(self.key.data, self.key.size)
        return OK if code[0] == <int64_t>self.resource_base + row else NO_MEMORY

    cdef int decode_resource(self, Cursor c, uint32_t row, uint64_t* dropped) noexcept nogil:
        cdef Cursor inner
        cdef uint32_t field, wire
        cdef int status
        while c.p < c.end:
            status = read_tag(&c, &field, &wire)
            if status == OK:
                if field == 1 and wire == BYTES:
                    status = read_bytes(&c, &inner)
                    if status == OK:
                        status = self.decode_attribute(inner, &self.tables[RESOURCE_TABLE], row, b"Resource.attributes")
                        if status != OK:
                            return status
                        continue
                elif field == 2 and wire == VARINT:
                    status = read_varint(&c, dropped)
                else:
                    status = skip(&c, field, wire, 0)
            if status != OK:
                return self.fail(status, &c, b"Resource")
        return OK

    cdef int scope_code(self, Cursor message, Cursor schema, int64_t* code) noexcept nogil:
        cdef uint32_t row
        cdef uint64_t dropped = 0
        cdef int64_t name = 0, version = 0
        cdef size_t before = self.tables[SCOPE_TABLE].row.size
        cdef int status
        if self.table_key(message, schema) != OK:
            return NO_MEMORY
        code[0] = self.scope_keys.find(self.key.data, self.key.size)
        if code[0] >= 0:
            return OK
        row = <uint32_t>(self.side[SCOPE_NAME].size // 4)
        status = self.decode_scope(message, row, &name, &version, &dropped)
        if status == OK:
            status = self.add_scope(message, schema, row, <uint32_t>name, <uint32_t>version, <uint32_t>dropped, code)
        if status != OK:
            rewind_attributes(&self.tables[SCOPE_TABLE], before)
            self.side[SCOPE_NAME].size = self.side[SCOPE_VERSION].size = <size_t>row * 4
            self.side[SCOPE_SCHEMA].size = self.side[SCOPE_DROPPED].size = <size_t>row * 4
        return status

    cdef int add_scope(
        self, Cursor message, Cursor schema, uint32_t row, uint32_t name, uint32_t version, uint32_t dropped,
        int64_t* code,
    ) noexcept nogil:
        cdef int64_t schema_code = self.string(schema)
        if schema_code < 0 or put32(&self.side[SCOPE_NAME], name) != OK \
                or put32(&self.side[SCOPE_VERSION], version) != OK \
                or put32(&self.side[SCOPE_SCHEMA], <uint32_t>schema_code) != OK \
                or put32(&self.side[SCOPE_DROPPED], dropped) != OK or self.table_key(message, schema) != OK:
            return NO_MEMORY
        code[0] = self.scope_keys.intern(self.key.data, self.key.size)
        return OK if code[0] == <int64_t>self.scope_base + row else NO_MEMORY

    cdef int decode_scope(
        self, Cursor c, uint32_t row, int64_t* name, int64_t* version, uint64_t* dropped
    ) noexcept nogil:
        cdef Cursor inner
        cdef uint32_t field, wire
        cdef int status
        while c.p < c.end:
            status = read_tag(&c, &field, &wire)
            if status == OK:
                if wire == BYTES and field <= 3:
                    status = read_bytes(&c, &inner)
                    if status == OK:
                        if field == 1:
                            name[0] = self.string(inner)
                        elif field == 2:
                            version[0] = self.string(inner)
                        else:
                            status = self.decode_attribute(
                                inner, &self.tables[SCOPE_TABLE], row, b"InstrumentationScope.attributes"
                            )
                            if status != OK:
                                return status
                        if name[0] < 0 or version[0] < 0:
                            return NO_MEMORY
                        continue
                elif field == 4 and wire == VARINT:
                    status = read_varint(&c, dropped)
                else:
                    status = skip(&c, field, wire, 0)
            if status != OK:
                return self.fail(status, &c, b"InstrumentationScope")
        return OK

    # -- spans ----------------------------------------------------------------------------------------------------

    cdef int decode_span(self, Cursor c, uint32_t resource, uint32_t scope, Result* result) noexcept nogil:
        cdef Mark mark = self.mark()
        cdef uint64_t truncated = self.truncated
        cdef uint32_t row = <uint32_t>(mark.spans // 4)
        cdef uint32_t size = <uint32_t>(c.end - c.p)
        cdef Cursor inner, trace_id, span_id, parent_id
        cdef uint32_t field, wire, flags = 0, reason = 0, length = 0
        cdef uint64_t start = 0, end = 0, number = 0, kind = 0, status_code = 0
        cdef uint64_t dropped_attributes = 0, dropped_events = 0, dropped_links = 0
        cdef uint64_t high = 0, low = 0, sid = 0, pid = 0
        cdef int64_t name = 0, state = 0, message = 0
        cdef int status, bad
        trace_id.p = trace_id.end = span_id.p = span_id.end = parent_id.p = parent_id.end = c.p
        while c.p < c.end:
            status = read_tag(&c, &field, &wire)
            if status == OK:
                if wire == BYTES:
                    status = read_bytes(&c, &inner)
                    if status == OK:
                        if field == 9:
                            status = self.decode_attribute(inner, &self.tables[SPAN_TABLE], row, b"Span.attributes")
                        elif field == 1:
                            trace_id = inner
                        elif field == 2:
                            span_id = inner
                        elif field == 4:
                            parent_id = inner
                        elif field == 5:
                            name = self.string(inner)
                        elif field == 3:
                            state = self.string(inner)
                        elif field == 11:
                            status = self.decode_event(inner, row)
                        elif field == 13:
                            status = self.decode_link(inner, row)
                        elif field == 15:
                            status = self.decode_status(inner, &message, &status_code)
                        if status != OK:
                            return status
                        if name < 0 or state < 0 or message < 0:
                            return NO_MEMORY
                        continue
                elif wire == FIXED64 and field == 7:
                    status = read_fixed64(&c, &start)
                elif wire == FIXED64 and field == 8:
                    status = read_fixed64(&c, &end)
                elif wire == FIXED32 and field == 16:
                    status = read_fixed32(&c, &flags)
                elif wire == VARINT:
                    status = read_varint(&c, &number)
                    if field == 6:
                        kind = number
                    elif field == 10:
                        dropped_attributes = number
                    elif field == 12:
                        dropped_events = number
                    elif field == 14:
                        dropped_links = number
                else:
                    status = skip(&c, field, wire, 0)
            if status != OK:
                return self.fail(status, &c, b"Span")
        if trace_id.end - trace_id.p == 16:
            high = big_endian(trace_id.p)
            low = big_endian(trace_id.p + 8)
        if span_id.end - span_id.p == 8:
            sid = big_endian(span_id.p)
        if parent_id.end - parent_id.p == 8:
            pid = big_endian(parent_id.p)
        if high == 0 and low == 0:
            reason, length = BAD_TRACE_ID, <uint32_t>(trace_id.end - trace_id.p)
        elif sid == 0:
            reason, length = BAD_SPAN_ID, <uint32_t>(span_id.end - span_id.p)
        elif parent_id.end - parent_id.p not in (0, 8):
            reason, length = BAD_PARENT_ID, <uint32_t>(parent_id.end - parent_id.p)
        if reason:
            if result.rejected < NAMED_MAX:
                result.bad[result.rejected].ordinal = self.ordinal
                result.bad[result.rejected].reason = reason
                result.bad[result.rejected].length = length
            result.rejected += 1
            self.ordinal += 1
            self.truncated = truncated
            self.rewind(mark)
            return OK
        self.ordinal += 1
        bad = put64(&self.spans[TRACE_HIGH], high) | put64(&self.spans[TRACE_LOW], low)
        bad |= put64(&self.spans[SPAN_ID], sid) | put64(&self.spans[PARENT_ID], pid)
        bad |= put64(&self.spans[START], start) | put64(&self.spans[END], end)
        bad |= put32(&self.spans[KIND], <uint32_t>kind) | put32(&self.spans[STATUS_CODE], <uint32_t>status_code)
        bad |= put32(&self.spans[STATUS_MESSAGE], <uint32_t>message)
        bad |= put32(&self.spans[TRACE_STATE], <uint32_t>state) | put32(&self.spans[FLAGS], flags)
        bad |= put32(&self.spans[DROPPED_ATTRIBUTES], <uint32_t>dropped_attributes)
        bad |= put32(&self.spans[DROPPED_EVENTS], <uint32_t>dropped_events)
        bad |= put32(&self.spans[DROPPED_LINKS], <uint32_t>dropped_links)
        bad |= put32(&self.spans[RESOURCE], resource) | put32(&self.spans[SCOPE], scope)
        bad |= put32(&self.spans[SIZE], size) | put32(&self.spans[NAME], <uint32_t>name)
        return NO_MEMORY if bad else OK

    cdef int decode_status(self, Cursor c, int64_t* message, uint64_t* code) noexcept nogil:
        cdef Cursor inner
        cdef uint32_t field, wire
        cdef int status
        while c.p < c.end:
            status = read_tag(&c, &field, &wire)
            if status == OK:
                if field == 2 and wire == BYTES:
                    status = read_bytes(&c, &inner)
                    if status == OK:
                        message[0] = self.string(inner)
                elif field == 3 and wire == VARINT:
                    status = read_varint(&c, code)
                else:
                    status = skip(&c, field, wire, 0)
            if status != OK:
                return self.fail(status, &c, b"Span.status")
        return OK

    cdef int decode_event(self, Cursor c, uint32_t span) noexcept nogil:
        cdef uint32_t row = <uint32_t>(self.side[EVENT_SPAN].size // 4)
        cdef Cursor inner
        cdef uint32_t field, wire
        cdef uint64_t time = 0, dropped = 0
        cdef int64_t name = 0
        cdef int status
        while c.p < c.end:
            status = read_tag(&c, &field, &wire)
            if status == OK:
                if wire == BYTES and (field == 2 or field == 3):
                    status = read_bytes(&c, &inner)
                    if status == OK:
                        if field == 2:
                            name = self.string(inner)
                            if name < 0:
                                return NO_MEMORY
                        else:
                            status = self.decode_attribute(
                                inner, &self.tables[EVENT_TABLE], row, b"Span.events.attributes"
                            )
                            if status != OK:
                                return status
                        continue
                elif wire == FIXED64 and field == 1:
                    status = read_fixed64(&c, &time)
                elif wire == VARINT and field == 4:
                    status = read_varint(&c, &dropped)
                else:
                    status = skip(&c, field, wire, 0)
            if status != OK:
                return self.fail(status, &c, b"Span.events")
        if put32(&self.side[EVENT_SPAN], span) != OK or put64(&self.side[EVENT_TIME], time) != OK \
                or put32(&self.side[EVENT_NAME], <uint32_t>name) != OK or put32(&self.side[EVENT_DROPPED], <uint32_t>dropped) != OK:
            return NO_MEMORY
        return OK

    cdef int decode_link(self, Cursor c, uint32_t span) noexcept nogil:
        cdef uint32_t row = <uint32_t>(self.side[LINK_SPAN].size // 4)
        cdef Cursor inner
        cdef uint32_t field, wire, flags = 0
        cdef uint64_t dropped = 0
        cdef int64_t trace_id = 0, span_id = 0, state = 0
        cdef int status, bad
        while c.p < c.end:
            status = read_tag(&c, &field, &wire)
            if status == OK:
                if wire == BYTES:
                    status = read_bytes(&c, &inner)
                    if status == OK:
                        if field == 1:
                            trace_id = self.blobs.intern(inner.p, inner.end - inner.p)
                        elif field == 2:
                            span_id = self.blobs.intern(inner.p, inner.end - inner.p)
                        elif field == 3:
                            state = self.string(inner)
                        elif field == 4:
                            status = self.decode_attribute(
                                inner, &self.tables[LINK_TABLE], row, b"Span.links.attributes"
                            )
                            if status != OK:
                                return status
                        if trace_id < 0 or span_id < 0 or state < 0:
                            return NO_MEMORY
                        continue
                elif wire == VARINT and field == 5:
                    status = read_varint(&c, &dropped)
                elif wire == FIXED32 and field == 6:
                    status = read_fixed32(&c, &flags)
                else:
                    status = skip(&c, field, wire, 0)
            if status != OK:
                return self.fail(status, &c, b"Span.links")
        bad = put32(&self.side[LINK_SPAN], span) | put32(&self.side[LINK_TRACE_ID], <uint32_t>trace_id)
        bad |= put32(&self.side[LINK_SPAN_ID], <uint32_t>span_id) | put32(&self.side[LINK_TRACE_STATE], <uint32_t>state)
        bad |= put32(&self.side[LINK_FLAGS], flags) | put32(&self.side[LINK_DROPPED], <uint32_t>dropped)
        return NO_MEMORY if bad else OK

    # -- attributes -----------------------------------------------------------------------------------------------

    cdef int decode_attribute(self, Cursor c, AttributeBuffers* to, uint32_t row, const char* where) noexcept nogil:
        cdef Cursor inner
        cdef uint32_t field, wire
        cdef int64_t key = 0
        cdef AnyValue any
        cdef bint seen = False
        cdef int status
        any.type = 0
        any.value = 0
        while c.p < c.end:
            status = read_tag(&c, &field, &wire)
            if status == OK:
                if wire == BYTES and field <= 2:
                    status = read_bytes(&c, &inner)
                    if status == OK and field == 1:
                        key = self.cut_string(inner)
                        if key < 0:
                            return NO_MEMORY
                    elif status == OK:
                        if seen:
                            status = TWICE
                        else:
                            seen = True
                            status = self.decode_any(inner, &any, where)
                            if status != OK:
                                return status
                else:
                    status = skip(&c, field, wire, 0)
            if status != OK:
                return self.fail(status, &c, where)
        if put32(&to.row, row) != OK or put32(&to.key, <uint32_t>key) != OK or put8(&to.type, any.type) != OK \
                or put64(&to.value, any.value) != OK:
            return NO_MEMORY
        return OK

    cdef int decode_any(self, Cursor c, AnyValue* any, const char* where) noexcept nogil:
        cdef Cursor inner
        cdef uint32_t field, wire
        cdef int64_t code
        cdef bint clean
        cdef int status
        while c.p < c.end:
            status = read_tag(&c, &field, &wire)
            if status == OK:
                if wire == BYTES and field in (1, 5, 6, 7):
                    status = read_bytes(&c, &inner)
                    if status == OK:
                        if field == 1:
                            code = self.cut_string(inner)
                        elif field == 7:
                            code = self.blobs.intern(inner.p, inner.end - inner.p)
                        elif any.type == field:
                            return self.fail(TWICE, &c, where)
                        else:
                            clean = True
                            status = check_values(inner, field == 6, 1, &clean)
                            if status != OK:
                                return self.fail(status, &inner, where)
                            code = self.compound(inner, field, clean)
                        if code < 0:
                            return NO_MEMORY
                        any.type = <uint8_t>field
                        any.value = <uint64_t>code
                        continue
                elif wire == VARINT and (field == 2 or field == 3):
                    status = read_varint(&c, &any.value)
                    any.type = <uint8_t>field
                    if field == 2:
                        any.value = any.value != 0
                elif wire == FIXED64 and field == 4:
                    status = read_fixed64(&c, &any.value)
                    any.type = 4
                else:
                    status = skip(&c, field, wire, 0)
            if status != OK:
                return self.fail(status, &c, where)
        return OK

    cdef int64_t compound(self, Cursor c, uint32_t field, bint clean) noexcept nogil:
        return self.blobs.intern(c.p, c.end - c.p) if clean else self.repaired_compound(c, field)

    # the two repairs stand apart: a function that may take the GIL pays for it on every call

    cdef int64_t repaired_compound(self, Cursor c, uint32_t field) noexcept with gil:
        cdef bytes message
        try:
            message = repair_any_value((<const char*>c.p)[:c.end - c.p], field)
        except BaseException as e:
            self.failure = e  # decode() raises it
            return -1
        return self.blobs.intern(<const uint8_t*><const char*>message, len(message))

    cdef int64_t repaired_string(self, Cursor c) noexcept with gil:
        cdef bytes text
        try:
            text = (<const char*>c.p)[:c.end - c.p].decode("utf-8", "replace").encode()
        except BaseException as e:
            self.failure = e
            return -1
        return self.strings.intern(<const uint8_t*><const char*>text, len(text))

    cdef int64_t string(self, Cursor c) noexcept nogil:
        """Code of a string, repaired to UTF-8 where it is not; -1 when memory has run out."""
        cdef size_t n = c.end - c.p
        cdef int64_t code = self.strings.find(c.p, n)
        if code >= 0:
            return code
        return self.strings.intern(c.p, n) if is_utf8(c.p, n) else self.repaired_string(c)

    cdef int64_t cut_string(self, Cursor c) noexcept nogil:
        """As `string`, cut to the attribute limit first, at a character boundary."""
        cdef int back = 0
        if <size_t>(c.end - c.p) > self.limit:
            c.end = c.p + self.limit
            while back < 3 and c.end > c.p and (c.end[0] & 0xC0) == 0x80:
                c.end -= 1
                back += 1
            self.truncated += 1
        return self.string(c)


cdef int check_values(Cursor c, bint keyed, int depth, bint* clean) noexcept nogil:
    """Walk an ArrayValue or KeyValueList: well formed, not too deep; `clean` turns false at invalid UTF-8."""
    cdef Cursor inner
    cdef uint32_t field, wire
    cdef int status
    if depth > DEPTH_MAX:
        return TOO_DEEP
    while c.p < c.end:
        status = read_tag(&c, &field, &wire)
        if status != OK:
            return status
        if wire == BYTES and field == 1:
            status = read_bytes(&c, &inner)
            if status == OK:
                status = check_pair(inner, depth + 1, clean) if keyed else check_any(inner, depth + 1, clean)
        else:
            status = skip(&c, field, wire, depth)
        if status != OK:
            return status
    return OK


cdef int check_pair(Cursor c, int depth, bint* clean) noexcept nogil:
    cdef Cursor inner
    cdef uint32_t field, wire
    cdef int status
    if depth > DEPTH_MAX:
        return TOO_DEEP
    while c.p < c.end:
        status = read_tag(&c, &field, &wire)
        if status != OK:
            return status
        if wire == BYTES and field <= 2:
            status = read_bytes(&c, &inner)
            if status == OK and field == 2:
                status = check_any(inner, depth + 1, clean)
            elif status == OK and not is_utf8(inner.p, inner.end - inner.p):
                clean[0] = False
        else:
            status = skip(&c, field, wire, depth)
        if status != OK:
            return status
    return OK


cdef int check_any(Cursor c, int depth, bint* clean) noexcept nogil:
    cdef Cursor inner
    cdef uint32_t field, wire
    cdef int status
    if depth > DEPTH_MAX:
        return TOO_DEEP
    while c.p < c.end:
        status = read_tag(&c, &field, &wire)
        if status != OK:
            return status
        if wire == BYTES:
            status = read_bytes(&c, &inner)
            if status == OK and (field == 5 or field == 6):
                status = check_values(inner, field == 6, depth + 1, clean)
            elif status == OK and field == 1 and not is_utf8(inner.p, inner.end - inner.p):
                clean[0] = False
        else:
            status = skip(&c, field, wire, depth)
        if status != OK:
            return status
    return OK


cdef void rewind_attributes(AttributeBuffers* a, size_t row_bytes) noexcept nogil:
    a.row.size = a.key.size = row_bytes
    a.type.size = row_bytes // 4
    a.value.size = row_bytes * 2


cdef object array(Buffer* b, object dtype):
    """A read-only numpy array of its own from a buffer; a view of one zero where every byte is zero."""
    cdef size_t n = b.size
    if n and b.data[0] == 0 and memcmp(b.data, b.data + 1, n - 1) == 0:
        # np.broadcast_to does the same, ten times slower (5 us, a dozen columns a group)
        return np.ndarray((n // dtype.itemsize,), dtype, ZERO, 0, (0,))
    return np.frombuffer((<const char*>b.data)[:n] if n else b"", dtype)


cdef object attributes(AttributeBuffers* a):
    return Attributes(array(&a.row, U32), array(&a.key, U32), array(&a.type, U8), array(&a.value, U64))


cdef object outcome_of(Result* r):
    if r.status != OK:
        error = DecodeError(MESSAGES[r.status], offset=r.offset, field=r.field.decode())
        return Outcome(r.first_row, 0, 0, (), 0, error)
    named = min(r.rejected, <uint32_t>NAMED_MAX)
    rejections = tuple([Rejection(r.bad[i].ordinal, r.bad[i].reason, r.bad[i].length) for i in range(named)])
    return Outcome(r.first_row, r.rows, r.rejected, rejections, r.truncated, None)
