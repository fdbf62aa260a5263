# Bytes nobody has checked: varints and what they count, every read against the end.
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint64_t


cdef struct Cursor:
    const uint8_t *at
    const uint8_t *end


cdef inline uint64_t big_endian(const uint8_t *at, int size) noexcept nogil:
    cdef uint64_t value = 0
    cdef int i
    for i in range(size):
        value = (value << 8) | at[i]
    return value


cdef inline bint read_varint(Cursor *cursor, int longest, int64_t *value) noexcept nogil:
    """A zigzag integer of at most ``longest`` bytes: 5 for 32 bits, 10 for 64."""
    cdef uint64_t raw = 0
    cdef uint8_t byte
    cdef int i
    for i in range(longest):
        if cursor.at == cursor.end:
            return False
        byte = cursor.at[0]
        cursor.at += 1
        if i == 9 and byte > 1:
            return False
        raw |= (<uint64_t> (byte & 0x7f)) << (7 * i)
        if byte < 0x80:
            if longest == 5 and raw >> 32 != 0:
                return False
            value[0] = <int64_t> (raw >> 1) ^ -<int64_t> (raw & 1)
            return True
    return False


cdef inline bint read_span(Cursor *cursor, const uint8_t **data, int64_t *size) noexcept nogil:
    """A length and that many bytes; the length -1 stands for null."""
    if not read_varint(cursor, 5, size):
        return False
    data[0] = cursor.at
    if size[0] < -1 or size[0] > cursor.end - cursor.at:
        return False
    if size[0] > 0:
        cursor.at += size[0]
    return True


cdef inline object bytes_or_none(const uint8_t *data, int64_t size):
    return None if size < 0 else PyBytes_FromStringAndSize(<const char *> data, size)


cdef inline list read_headers(bytes raw, int64_t count):
    """Headers as (str, bytes or None) pairs, in order. ``raw`` may be None for none; what does not
    parse ends them."""
    cdef Cursor cursor
    cdef const uint8_t *data
    cdef int64_t size, _
    cdef list pairs = []
    if raw is None:
        return pairs
    cursor.at = <const uint8_t *> PyBytes_AS_STRING(raw)
    cursor.end = cursor.at + PyBytes_GET_SIZE(raw)
    for _ in range(count):
        if not read_span(&cursor, &data, &size) or size < 0:
            break
        name = data[:size].decode("utf-8", "surrogateescape")
        if not read_span(&cursor, &data, &size):
            break
        pairs.append((name, bytes_or_none(data, size)))
    return pairs


cdef inline int write_span(bytearray out, object value) except -1:
    """A zigzag length and bytes; None is null."""
    cdef uint64_t raw = 1 if value is None else <uint64_t> len(value) << 1
    while raw >= 0x80:
        out.append((raw & 0x7f) | 0x80)
        raw >>= 7
    out.append(raw)
    if value is not None:
        out.extend(value)
    return 0


cdef inline bytes write_headers(object pairs):
    """The reverse of ``read_headers``; None for none."""
    cdef bytearray out = bytearray()
    for name, value in pairs:
        write_span(out, name.encode("utf-8", "surrogateescape"))
        write_span(out, value)
    return bytes(out) if out else None
