# cython: language_level=3, boundscheck=True, wraparound=False, cdivision=True
"""Native body of otlp_json.py: the same rules, the same table, the same bytes.

Rule 1  no byte is read without comparing the cursor with its end first: read_varint, read_value and the loops over strings
        are the only readers.
Rule 2  no byte is written without room(): it grows the output to at least what the next write can need at worst.
Rule 3  the GIL is not held, so no Python object is touched below trace_json_native.
Rule 4  the tables are filled once at import, from otlp_schema.py, and never changed.

A message is read twice at its own level: once to find its fields (whatever their order on the wire), once to walk its
repeated fields. Its parts are not copied.
"""

from libc.math cimport isinf, isnan
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport atoi, free, realloc, strtod
from libc.string cimport memcpy, memset

from vivace.api import otlp_schema
from vivace.errors import InvariantError

cdef enum:
    # sizes of the tables, checked against otlp_schema.py when they are filled
    FIELDS_MAX = 16
    NAME_MAX = 32
    MESSAGES_MAX = 16
    ENUM_MAX = 8
    # otlp_schema.Kind
    STRING = 0
    BYTES = 1
    BOOL = 2
    INT64 = 3
    UINT32 = 4
    FIXED64 = 5
    FIXED32 = 6
    DOUBLE = 7
    SPAN_KIND = 8
    STATUS_CODE = 9
    MESSAGE = 10
    # otlp_schema.WireType
    WIRE_VARINT = 0
    WIRE_FIXED64 = 1
    WIRE_BYTES = 2
    WIRE_FIXED32 = 5
    # what a writer reports
    OK = 0
    MALFORMED = 1
    TOO_DEEP = 2
    NO_MEMORY = 3

cdef struct FieldSpec:
    int number
    int kind
    int wire
    int message           # index into MESSAGES, when kind is MESSAGE
    bint repeated
    int name_size
    char name[NAME_MAX]   # with quotes and colon: "traceId":

cdef struct MessageSpec:
    int field_count
    bint oneof
    signed char index_of[FIELDS_MAX + 1]  # field number -> index, -1 where unknown
    FieldSpec fields[FIELDS_MAX]

cdef struct EnumSpec:
    int count
    int size[ENUM_MAX]
    char name[ENUM_MAX][NAME_MAX]         # with quotes

cdef struct Cursor:
    const uint8_t *at
    const uint8_t *end

cdef struct Value:
    uint64_t number       # of a varint or fixed field
    const uint8_t *start  # of a bytes field: its content; of a repeated field: the key of its first item
    size_t size           # of a bytes field: its length; of a repeated field: its count

cdef struct Output:
    char *start
    size_t used
    size_t capacity

cdef MessageSpec MESSAGES[MESSAGES_MAX]
cdef EnumSpec SPAN_KINDS
cdef EnumSpec STATUS_CODES
# what the string writer does with a byte: 0 copy, 1 escape, 2 begin of a longer UTF-8 sequence
cdef uint8_t BYTE_CLASS[256]
cdef const char *HEX = b"0123456789abcdef"
cdef const char *BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def trace_json_native(bytes otlp, str root_key):
    """See otlp_json.trace_json_plain."""
    cdef const uint8_t *body = otlp
    cdef size_t size = len(otlp)
    cdef bytes key = b'"%s":' % root_key.encode()
    cdef const char *key_start = key
    cdef size_t key_size = len(key)
    cdef Output out
    cdef int result
    out.start = NULL
    out.used = 0
    out.capacity = 0
    try:
        with nogil:
            # JSON is about 2.5 times its wire bytes: rarely more than one move
            result = room(&out, 2 * size + 64)
            if result == OK:
                result = write_message(&out, 0, body, body + size, 1, key_start, key_size)
        if result == OK:
            return out.start[:out.used]
        if result == NO_MEMORY:
            raise MemoryError(f"no memory for the JSON of a trace of {size} bytes")
        if result == TOO_DEEP:
            raise InvariantError(f"the stored trace is nested deeper than {otlp_schema.DEPTH_MAX} messages")
        raise InvariantError("the stored trace is not OTLP: a field is malformed")
    finally:
        free(out.start)


# ---- reading ----

cdef inline int read_varint(Cursor *cursor, uint64_t *value) noexcept nogil:
    """An unsigned 64-bit varint of at most 10 bytes; bits above the 64th fall away."""
    cdef uint64_t found = 0
    cdef int shift = 0
    cdef uint8_t byte
    while cursor.at < cursor.end and shift < 70:
        byte = cursor.at[0]
        cursor.at += 1
        found |= <uint64_t>(byte & 0x7F) << shift
        if byte < 0x80:
            value[0] = found
            return OK
        shift += 7
    return MALFORMED


cdef inline int read_value(Cursor *cursor, int wire, Value *value) noexcept nogil:
    """The value after a key; the cursor stands behind it on OK."""
    cdef uint64_t size
    cdef int width, i
    value.number = 0
    value.start = NULL
    value.size = 0
    if wire == WIRE_VARINT:
        return read_varint(cursor, &value.number)
    if wire == WIRE_BYTES:
        if read_varint(cursor, &size) != OK or size > <uint64_t>(cursor.end - cursor.at):
            return MALFORMED
        value.start = cursor.at
        value.size = size
        cursor.at += size
        return OK
    if wire == WIRE_FIXED64:
        width = 8
    elif wire == WIRE_FIXED32:
        width = 4
    else:
        return MALFORMED
    if width > cursor.end - cursor.at:
        return MALFORMED
    for i in range(width):
        value.number |= <uint64_t>cursor.at[i] << (8 * i)
    cursor.at += width
    return OK


cdef inline int read_key(Cursor *cursor, uint32_t *number, int *wire) noexcept nogil:
    cdef uint64_t key
    if read_varint(cursor, &key) != OK or key >> 32 or key >> 3 == 0:
        return MALFORMED
    number[0] = <uint32_t>(key >> 3)
    wire[0] = <int>(key & 7)
    return OK


# ---- writing messages ----

cdef int write_message(
    Output *out, int message, const uint8_t *start, const uint8_t *end, int depth,
    const char *root_key, size_t root_key_size,
) noexcept nogil:
    """One message as an object. `root_key` replaces the names of its fields when given (the root has one field)."""
    cdef const MessageSpec *spec = &MESSAGES[message]
    cdef const FieldSpec *field
    cdef Value values[FIELDS_MAX]
    cdef Value value
    cdef Cursor cursor
    cdef const uint8_t *key_at
    cdef uint32_t number
    cdef uint32_t present = 0   # bit i: field i has a value
    cdef int wire, index, result
    cdef bint first = True
    if depth > DEPTH_MAX:
        return TOO_DEEP
    cursor.at = start
    cursor.end = end
    while cursor.at < cursor.end:
        key_at = cursor.at
        if read_key(&cursor, &number, &wire) != OK or read_value(&cursor, wire, &value) != OK:
            return MALFORMED
        index = spec.index_of[number] if number <= FIELDS_MAX else -1
        if index < 0 or spec.fields[index].wire != wire:
            continue
        field = &spec.fields[index]
        if field.repeated:
            if not (present >> index) & 1:
                values[index].start = key_at
                values[index].size = 0
            values[index].size += 1
        else:
            if field.kind == MESSAGE and (present >> index) & 1:
                return MALFORMED
            values[index] = value
        if spec.oneof:
            present = 0
        present |= <uint32_t>1 << index

    if room(out, 2) != OK:
        return NO_MEMORY
    put(out, b'{')
    for index in range(spec.field_count):
        field = &spec.fields[index]
        if not (present >> index) & 1 or not (spec.oneof or is_printed(field, &values[index])):
            continue
        if room(out, root_key_size + NAME_MAX + 2) != OK:
            return NO_MEMORY
        if not first:
            put(out, b',')
        first = False
        if root_key_size:
            put_many(out, root_key, root_key_size)
        else:
            # the whole array at a size the compiler knows: two moves; what stands after the name is written over
            memcpy(out.start + out.used, field.name, NAME_MAX)
            out.used += field.name_size
        if field.repeated:
            cursor.at = values[index].start
            result = write_items(out, field, &cursor, values[index].size, depth)
        elif field.kind == MESSAGE:
            result = write_message(
                out, field.message, values[index].start, values[index].start + values[index].size, depth + 1, NULL, 0
            )
        else:
            result = write_scalar(out, field.kind, &values[index])
        if result != OK:
            return result
    if room(out, 1) != OK:
        return NO_MEMORY
    put(out, b'}')
    return OK


cdef int write_items(Output *out, const FieldSpec *field, Cursor *cursor, size_t count, int depth) noexcept nogil:
    """The `count` items of a repeated field, from the key of the first one; other fields between them are skipped."""
    cdef Value value
    cdef uint32_t number
    cdef int wire, result
    cdef size_t written = 0
    if room(out, 1) != OK:
        return NO_MEMORY
    put(out, b'[')
    while written < count:
        if read_key(cursor, &number, &wire) != OK or read_value(cursor, wire, &value) != OK:
            return MALFORMED
        if <int>number != field.number or wire != field.wire:
            continue
        if written:
            if room(out, 1) != OK:
                return NO_MEMORY
            put(out, b',')
        result = write_message(out, field.message, value.start, value.start + value.size, depth + 1, NULL, 0)
        if result != OK:
            return result
        written += 1
    if room(out, 1) != OK:
        return NO_MEMORY
    put(out, b']')
    return OK


cdef inline bint is_printed(const FieldSpec *field, const Value *value) noexcept nogil:
    """Whether a field outside a oneof has something to print: zero values are left out, messages and lists are not."""
    if field.kind == MESSAGE:
        return True
    if field.wire == WIRE_BYTES:
        return value.size != 0
    if field.kind == UINT32 or field.kind == SPAN_KIND or field.kind == STATUS_CODE:
        return <uint32_t>value.number != 0
    return value.number != 0


cdef int write_scalar(Output *out, int kind, const Value *value) noexcept nogil:
    if kind == STRING:
        return write_string(out, value.start, value.size)
    if kind == BYTES:
        return write_base64(out, value.start, value.size)
    if room(out, NAME_MAX) != OK:  # a quoted 64-bit number takes 22, a double 25, an enum name fits NAME_MAX
        return NO_MEMORY
    if kind == BOOL:
        if value.number:
            put_many(out, b"true", 4)
        else:
            put_many(out, b"false", 5)
    elif kind == INT64:
        put(out, b'"')
        put_signed(out, <int64_t>value.number)
        put(out, b'"')
    elif kind == FIXED64:
        put(out, b'"')
        put_unsigned(out, value.number)
        put(out, b'"')
    elif kind == DOUBLE:
        put_double(out, value.number)
    elif kind == SPAN_KIND:
        put_enum(out, &SPAN_KINDS, <int32_t><uint32_t>value.number)
    elif kind == STATUS_CODE:
        put_enum(out, &STATUS_CODES, <int32_t><uint32_t>value.number)
    else:
        put_unsigned(out, <uint32_t>value.number)
    return OK


# ---- writing strings and bytes ----

cdef int write_string(Output *out, const uint8_t *text, size_t size) noexcept nogil:
    cdef const uint8_t *end = text + size
    cdef const uint8_t *run
    cdef int width
    if room(out, 6 * size + 2) != OK:  # at worst every byte becomes \u00XX
        return NO_MEMORY
    put(out, b'"')
    while text < end:
        run = text
        while text < end and BYTE_CLASS[text[0]] == 0:
            text += 1
        put_many(out, <const char *>run, text - run)
        if text == end:
            break
        if BYTE_CLASS[text[0]] == 1:
            put_escape(out, text[0])
            text += 1
            continue
        width = utf8_width(text, end)
        if width == 0:
            put_many(out, b"\\ufffd", 6)
            text += 1
        elif width == 3 and text[0] == 0xE2 and text[1] == 0x80 and text[2] & 0xFE == 0xA8:
            put_many(out, b"\\u2028" if text[2] == 0xA8 else b"\\u2029", 6)
            text += 3
        else:
            put_many(out, <const char *>text, width)
            text += width
    put(out, b'"')
    return OK


cdef inline int utf8_width(const uint8_t *text, const uint8_t *end) noexcept nogil:
    """The length of the UTF-8 sequence of 2 to 4 bytes at `text`, 0 when there is none (Unicode 15, table 3-7)."""
    cdef uint8_t lead = text[0]
    cdef uint8_t low = 0x80    # of the second byte: narrower where a shorter form, a surrogate or a code
    cdef uint8_t high = 0xBF   # above U+10FFFF would begin
    cdef int width, i
    if 0xC2 <= lead <= 0xDF:
        width = 2
    elif 0xE0 <= lead <= 0xEF:
        width = 3
        if lead == 0xE0:
            low = 0xA0
        elif lead == 0xED:
            high = 0x9F
    elif 0xF0 <= lead <= 0xF4:
        width = 4
        if lead == 0xF0:
            low = 0x90
        elif lead == 0xF4:
            high = 0x8F
    else:
        return 0
    if end - text < width or text[1] < low or text[1] > high:
        return 0
    for i in range(2, width):
        if text[i] & 0xC0 != 0x80:
            return 0
    return width


cdef inline void put_escape(Output *out, uint8_t byte) noexcept nogil:
    put(out, b'\\')
    if byte == b'"' or byte == b'\\':
        put(out, <char>byte)
    elif byte == 8:
        put(out, b'b')
    elif byte == 9:
        put(out, b't')
    elif byte == 10:
        put(out, b'n')
    elif byte == 12:
        put(out, b'f')
    elif byte == 13:
        put(out, b'r')
    else:
        put_many(out, b"u00", 3)
        put(out, HEX[byte >> 4])
        put(out, HEX[byte & 15])


cdef int write_base64(Output *out, const uint8_t *body, size_t size) noexcept nogil:
    cdef uint32_t group
    cdef size_t i = 0
    if room(out, 4 * ((size + 2) // 3) + 2) != OK:
        return NO_MEMORY
    put(out, b'"')
    while size - i >= 3:
        group = <uint32_t>body[i] << 16 | <uint32_t>body[i + 1] << 8 | body[i + 2]
        put(out, BASE64[group >> 18])
        put(out, BASE64[group >> 12 & 63])
        put(out, BASE64[group >> 6 & 63])
        put(out, BASE64[group & 63])
        i += 3
    if size - i == 1:
        group = <uint32_t>body[i] << 16
        put(out, BASE64[group >> 18])
        put(out, BASE64[group >> 12 & 63])
        put_many(out, b"==", 2)
    elif size - i == 2:
        group = <uint32_t>body[i] << 16 | <uint32_t>body[i + 1] << 8
        put(out, BASE64[group >> 18])
        put(out, BASE64[group >> 12 & 63])
        put(out, BASE64[group >> 6 & 63])
        put(out, b'=')
    put(out, b'"')
    return OK


# ---- writing numbers: room is the caller's ----

cdef inline void put_unsigned(Output *out, uint64_t number) noexcept nogil:
    cdef char digits[20]
    cdef int at = 20
    while True:
        at -= 1
        digits[at] = <char>(48 + number % 10)
        number //= 10
        if number == 0:
            break
    put_many(out, &digits[at], 20 - at)


cdef inline void put_signed(Output *out, int64_t number) noexcept nogil:
    if number < 0:
        put(out, b'-')
        put_unsigned(out, 0 - <uint64_t>number)
    else:
        put_unsigned(out, <uint64_t>number)


cdef inline void put_enum(Output *out, const EnumSpec *names, int32_t number) noexcept nogil:
    if 0 <= number < names.count:
        put_many(out, names.name[number], names.size[number])
    else:
        put_signed(out, number)


cdef void put_double(Output *out, uint64_t bits) noexcept nogil:
    """Rule 4 of otlp_json.py, at most 25 bytes."""
    cdef double value
    cdef char text[40]
    cdef int digit_count, exponent, i
    memcpy(&value, &bits, 8)
    if isnan(value):
        put_many(out, b'"NaN"', 5)
        return
    if isinf(value):
        put_many(out, b'"Infinity"' if value > 0 else b'"-Infinity"', 10 if value > 0 else 11)
        return
    if bits >> 63:
        put(out, b'-')
        value = -value
    if value < 1e15 and value == <double><uint64_t>value:
        put_unsigned(out, <uint64_t>value)
        return
    digit_count = shortest_digits(value, text, &exponent)
    if value < 1e-6 or value >= 1e21:
        put(out, text[0])
        if digit_count > 1:
            put(out, b'.')
            put_many(out, text + 1, digit_count - 1)
        put(out, b'e')
        put(out, b'-' if exponent < 0 else b'+')
        put_unsigned(out, <uint64_t>(-exponent if exponent < 0 else exponent))
    elif exponent < 0:
        put_many(out, b"0.", 2)
        for i in range(-exponent - 1):
            put(out, b'0')
        put_many(out, text, digit_count)
    else:
        for i in range(max(digit_count, exponent + 1)):
            if i == exponent + 1:
                put(out, b'.')
            put(out, text[i] if i < digit_count else <char>b'0')


cdef int shortest_digits(double value, char *text, int *exponent) noexcept nogil:
    """The fewest digits that read back as `value` (finite, > 0), and the power of ten of the first one.

    15 digits survive decimal -> double -> decimal, so the shortest form is among %.14e to %.16e, trailing zeros cut;
    subnormal numbers have fewer good digits, so for them the search begins at one.
    """
    cdef uint64_t bits
    cdef int digits, i
    memcpy(&bits, &value, 8)
    digits = 1 if bits >> 52 == 0 else 15
    while True:
        snprintf(text, 40, "%.*e", digits - 1, value)
        if digits >= 17 or strtod(text, NULL) == value:
            break
        # Below a power of two the doubles lie closer: the nearest decimal may read back as the neighbour below, and the
        # next decimal up as the value itself. Example: 2 ** -44.
        if digits == 16 and bits << 12 == 0 and text[16] != 57:  # "9": a carry never helps
            text[16] += 1
            if strtod(text, NULL) == value:
                break
        digits += 1
    # text is d, radix character and digits (both only when digits > 1), e, sign, exponent; the radix character may be a
    # locale's own, so it is stepped over unread
    exponent[0] = atoi(text + digits + 2 if digits > 1 else text + 2)
    for i in range(1, digits):
        text[i] = text[i + 1]
    while digits > 1 and text[digits - 1] == b'0':
        digits -= 1
    return digits


# ---- the output ----

cdef inline int room(Output *out, size_t more) noexcept nogil:
    """Make room for `more` bytes; at least half as much again, so that n bytes cost O(n) in moves."""
    cdef size_t capacity
    cdef char *start
    if out.capacity - out.used >= more:
        return OK
    capacity = out.used + more
    if capacity < out.capacity + out.capacity // 2:
        capacity = out.capacity + out.capacity // 2
    start = <char *>realloc(out.start, capacity)
    if start == NULL:
        return NO_MEMORY
    out.start = start
    out.capacity = capacity
    return OK


cdef inline void put(Output *out, char byte) noexcept nogil:
    out.start[out.used] = byte
    out.used += 1


cdef inline void put_many(Output *out, const char *text, size_t size) noexcept nogil:
    memcpy(out.start + out.used, text, size)
    out.used += size


# ---- the tables, filled once ----

cdef int DEPTH_MAX = otlp_schema.DEPTH_MAX


cdef void store(char *name, int *size, str text) except *:
    cdef bytes encoded = text.encode()
    if len(encoded) > NAME_MAX - 1:
        raise ImportError(f"{text} is longer than NAME_MAX")
    memcpy(name, <const char *>encoded, len(encoded))
    size[0] = <int>len(encoded)


cdef void store_enum(EnumSpec *spec, names) except *:
    if len(names) > ENUM_MAX:
        raise ImportError(f"more than {ENUM_MAX} names in an enum")
    spec.count = <int>len(names)
    for i, name in enumerate(names):
        store(spec.name[<int>i], &spec.size[<int>i], f'"{name}"')


cdef void fill_tables() except *:
    index_by_name = {message.name: i for i, message in enumerate(otlp_schema.MESSAGES)}
    cdef MessageSpec *spec
    cdef FieldSpec *field_spec
    cdef int i
    if len(otlp_schema.MESSAGES) > MESSAGES_MAX or otlp_schema.FIELD_NUMBER_MAX > FIELDS_MAX:
        raise ImportError("otlp_schema.py has outgrown MESSAGES_MAX or FIELDS_MAX")
    for name, number in otlp_schema.Kind.__members__.items():
        if number > MESSAGE:
            raise ImportError(f"kind {name} is unknown to the native transcoder")
    for message_index, message in enumerate(otlp_schema.MESSAGES):
        spec = &MESSAGES[<int>message_index]
        spec.field_count = <int>len(message.fields)
        spec.oneof = message.oneof
        memset(spec.index_of, -1, FIELDS_MAX + 1)
        for field_index, field in enumerate(message.fields):
            if not 0 < field.number <= FIELDS_MAX:
                raise ImportError(f"field number {field.number} is outside 1 to {FIELDS_MAX}")
            spec.index_of[<int>field.number] = <signed char>field_index
            field_spec = &spec.fields[<int>field_index]
            field_spec.number = field.number
            field_spec.kind = field.kind
            field_spec.wire = otlp_schema.WIRE_TYPES[field.kind]
            field_spec.message = index_by_name[field.message] if field.message else 0
            field_spec.repeated = field.repeated
            store(field_spec.name, &field_spec.name_size, f'"{field.name}":')
    store_enum(&SPAN_KINDS, otlp_schema.ENUM_NAMES[otlp_schema.Kind.SPAN_KIND])
    store_enum(&STATUS_CODES, otlp_schema.ENUM_NAMES[otlp_schema.Kind.STATUS_CODE])
    for i in range(256):
        BYTE_CLASS[i] = 2 if i >= 0x80 else 1 if i < 0x20 or chr(i) in '"\\<>&' else 0


fill_tables()
