"""Protobuf wire format, read and written in C. Every read is checked against the end of its message.

Readers move a cursor and return 0, or a negative code; nothing is read at or past `end`.
Source: protobuf.dev, "Encoding".
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport realloc
from libc.string cimport memcpy

cdef enum:
    OK = 0
    TRUNCATED = -1
    BAD_VARINT = -2
    BAD_TAG = -3
    TOO_DEEP = -4
    BAD_GROUP = -5
    NO_MEMORY = -6
    TWICE = -7
    BAD_LENGTH = -8

cdef enum:
    VARINT = 0
    FIXED64 = 1
    BYTES = 2
    GROUP = 3
    END_GROUP = 4
    FIXED32 = 5

cdef enum:
    # messages and groups inside one attribute value; an array is two of them, a key/value list three. A value lies up to
    # six deep itself, and readers of our answers (the protobuf library, too) stop at 100: what we take must come out again
    DEPTH_MAX = 90

ctypedef struct Cursor:
    const uint8_t* p
    const uint8_t* end

ctypedef struct Buffer:
    uint8_t* data
    size_t size
    size_t capacity


cdef inline int read_varint(Cursor* c, uint64_t* out) noexcept nogil:
    cdef uint64_t value = 0, byte
    cdef int shift = 0
    while shift < 70:
        if c.p >= c.end:
            return TRUNCATED
        byte = c.p[0]
        c.p += 1
        if shift < 64:
            value |= (byte & 0x7F) << shift
        if byte < 0x80:
            out[0] = value
            return OK
        shift += 7
    return BAD_VARINT


cdef inline int read_tag(Cursor* c, uint32_t* field, uint32_t* wire) noexcept nogil:
    cdef const uint8_t* start = c.p
    cdef uint64_t tag
    cdef int status
    if c.p < c.end and c.p[0] < 0x80:  # fields 1 to 15: one byte
        tag = c.p[0]
        c.p += 1
    else:
        status = read_varint(c, &tag)
        if status != OK:
            return status
    # as the protobuf library: five bytes at most, even where the rest would add nothing
    if c.p - start > 5 or tag > <uint64_t>0xFFFFFFFF or (tag >> 3) == 0 or (tag & 7) > 5:
        return BAD_TAG
    field[0] = <uint32_t>(tag >> 3)
    wire[0] = <uint32_t>(tag & 7)
    return OK


cdef inline int read_bytes(Cursor* c, Cursor* out) noexcept nogil:
    cdef const uint8_t* start = c.p
    cdef uint64_t n
    cdef int status = read_varint(c, &n)
    if status != OK:
        return status
    if c.p - start > 5:
        return BAD_LENGTH
    if n > <uint64_t>(c.end - c.p):
        return TRUNCATED
    out.p = c.p
    out.end = c.p + n
    c.p += n
    return OK


cdef inline int read_fixed64(Cursor* c, uint64_t* out) noexcept nogil:
    if c.end - c.p < 8:
        return TRUNCATED
    memcpy(out, c.p, 8)
    c.p += 8
    return OK


cdef inline int read_fixed32(Cursor* c, uint32_t* out) noexcept nogil:
    if c.end - c.p < 4:
        return TRUNCATED
    memcpy(out, c.p, 4)
    c.p += 4
    return OK


cdef inline int skip(Cursor* c, uint32_t field, uint32_t wire, int depth) noexcept nogil:
    """Step over one field whose tag was just read."""
    cdef uint64_t n
    cdef Cursor inner
    cdef uint32_t f, w
    cdef int status
    if wire == VARINT:
        return read_varint(c, &n)
    if wire == BYTES:
        return read_bytes(c, &inner)
    if wire == FIXED64:
        return read_fixed64(c, &n)
    if wire == FIXED32:
        return read_fixed32(c, &f)
    if wire != GROUP:
        return BAD_GROUP
    if depth >= DEPTH_MAX:
        return TOO_DEEP
    while True:
        status = read_tag(c, &f, &w)
        if status != OK:
            return status
        if w == END_GROUP:
            return OK if f == field else BAD_GROUP
        status = skip(c, f, w, depth + 1)
        if status != OK:
            return status


cdef inline int reserve(Buffer* b, size_t extra) noexcept nogil:
    cdef size_t capacity
    cdef void* moved
    if b.capacity - b.size >= extra:
        return OK
    capacity = b.capacity + b.capacity // 2 + extra + 64
    moved = realloc(b.data, capacity)
    if not moved:
        return NO_MEMORY
    b.data = <uint8_t*>moved
    b.capacity = capacity
    return OK


cdef inline int put(Buffer* b, const void* p, size_t n) noexcept nogil:
    if reserve(b, n) != OK:
        return NO_MEMORY
    if n:
        memcpy(b.data + b.size, p, n)
        b.size += n
    return OK


cdef inline int put32(Buffer* b, uint32_t value) noexcept nogil:
    return put(b, &value, 4)


cdef inline int put64(Buffer* b, uint64_t value) noexcept nogil:
    return put(b, &value, 8)


cdef inline int put8(Buffer* b, uint8_t value) noexcept nogil:
    return put(b, &value, 1)


cdef inline int put_varint(Buffer* b, uint64_t value) noexcept nogil:
    if reserve(b, 10) != OK:
        return NO_MEMORY
    while value >= 0x80:
        b.data[b.size] = <uint8_t>(value | 0x80)
        b.size += 1
        value >>= 7
    b.data[b.size] = <uint8_t>value
    b.size += 1
    return OK


cdef inline uint64_t big_endian(const uint8_t* p) noexcept nogil:
    cdef uint64_t value = 0
    cdef int i
    for i in range(8):
        value = (value << 8) | p[i]
    return value


cdef inline bint is_utf8(const uint8_t* p, size_t n) noexcept nogil:
    """Whether these bytes are well-formed UTF-8 (RFC 3629: no surrogates, no overlong forms, up to U+10FFFF)."""
    cdef const uint8_t* end = p + n
    cdef uint64_t word
    cdef uint8_t a
    while p < end:
        if end - p >= 8:
            memcpy(&word, p, 8)
            if not word & <uint64_t>0x8080808080808080:
                p += 8
                continue
        a = p[0]
        if a < 0x80:
            p += 1
        elif a < 0xC2:
            return False
        elif a < 0xE0:
            if end - p < 2 or (p[1] & 0xC0) != 0x80:
                return False
            p += 2
        elif a < 0xF0:
            if end - p < 3 or (p[1] & 0xC0) != 0x80 or (p[2] & 0xC0) != 0x80:
                return False
            if (a == 0xE0 and p[1] < 0xA0) or (a == 0xED and p[1] > 0x9F):
                return False
            p += 3
        elif a < 0xF5:
            if end - p < 4 or (p[1] & 0xC0) != 0x80 or (p[2] & 0xC0) != 0x80 or (p[3] & 0xC0) != 0x80:
                return False
            if (a == 0xF0 and p[1] < 0x90) or (a == 0xF4 and p[1] > 0x8F):
                return False
            p += 4
        else:
            return False
    return True
