"""Kafka record batches, decoded into Python objects.

What it is: the reader behind ``mqlog log dump`` and the tests. It takes bytes that nobody has
checked and gives :class:`Batch` and :class:`Record` objects or raises :class:`CorruptBatch`.
What it is not: it touches no file and no socket, and it writes nothing. Checksum and
decompression are Rust's, through the function table of ``mqlog._native``.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport INT64_MAX, int8_t, int16_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t

from mqlog._capi cimport ABI_VERSION, DONE, TOO_LARGE, OwnedBytes, Table
from mqlog._spans cimport Cursor, big_endian, bytes_or_none, read_headers, read_span, read_varint

from mqlog import _native

__all__ = ["Batch", "CorruptBatch", "Record", "crc32c", "decode_batches", "iter_batches"]

# The table lives as long as the capsule, which this module keeps.
cdef object capsule = _native._C_API
cdef const Table *api = <const Table *> PyCapsule_GetPointer(capsule, "mqlog._native._C_API")
if api.abi_version != ABI_VERSION:
    raise ImportError(
        f"mqlog._records was built for function table {ABI_VERSION}, "
        f"mqlog._native has {api.abi_version}: reinstall mqlog"
    )

cdef Py_ssize_t HEADER_LEN = 61
cdef Py_ssize_t LENGTH_OVERHEAD = 12
# The checksum covers the batch from its attributes on.
cdef Py_ssize_t ATTRIBUTES = 21
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


class CorruptBatch(ValueError):
    """Bytes that are no valid batch.

    ``position``: where the batch begins in the decoded data, in bytes.
    """

    def __init__(self, message, position):
        super().__init__(message, position)
        self.position = position

    def __str__(self):
        return f"batch at byte {self.position}: {self.args[0]}"


@cython.final
@cython.no_gc
@cython.freelist(1024)
cdef class Record:
    """One record. ``key`` and ``value`` are bytes, or None for null."""

    # no_gc is safe: every field is an int or immutable bytes, so no cycle can form.
    cdef readonly int64_t offset
    cdef readonly int64_t timestamp
    cdef readonly int timestamp_type
    cdef readonly bytes key
    cdef readonly bytes value
    cdef bytes raw_headers
    cdef int64_t headers_count

    def __init__(self):
        raise TypeError("records come from Batch.records()")

    @property
    def headers(self):
        """The headers as (str, bytes or None) pairs, in order, duplicates included."""
        return read_headers(self.raw_headers, self.headers_count)

    def __repr__(self):
        return (
            f"Record(offset={self.offset}, timestamp={self.timestamp}, key={self.key!r}, "
            f"value={self.value!r}, headers={self.headers!r})"
        )


cdef bint skip_headers(Cursor *cursor, int64_t count) noexcept nogil:
    cdef const uint8_t *data
    cdef int64_t size, i
    for i in range(count):
        if not read_span(cursor, &data, &size) or size < 0:
            return False
        if not read_span(cursor, &data, &size):
            return False
    return True


cdef Record read_record(Cursor *cursor, Batch batch):
    """The next record, or None if it does not keep to its length."""
    cdef Cursor fields
    cdef int64_t length, timestamp_delta, offset_delta, key_size, value_size, count
    cdef const uint8_t *key
    cdef const uint8_t *value
    cdef const uint8_t *headers
    # length, then a byte of attributes that means nothing yet
    if not read_varint(cursor, 5, &length) or length < 1 or length > cursor.end - cursor.at:
        return None
    fields.at = cursor.at + 1
    fields.end = cursor.at + length
    cursor.at = fields.end
    if (
        not read_varint(&fields, 10, &timestamp_delta)
        or not read_varint(&fields, 5, &offset_delta)
        or not read_span(&fields, &key, &key_size)
        or not read_span(&fields, &value, &value_size)
        or not read_varint(&fields, 5, &count)
        # A header takes two bytes at least.
        or count < 0
        or count > (fields.end - fields.at) // 2
    ):
        return None
    headers = fields.at
    if not skip_headers(&fields, count) or fields.at != fields.end:
        return None

    cdef Record record = Record.__new__(Record)
    # Unsigned, so that hostile deltas wrap as they do in Kafka instead of being undefined.
    record.offset = <int64_t> (<uint64_t> batch.base_offset + <uint64_t> offset_delta)
    record.timestamp_type = 1 if batch.is_log_append_time else 0
    if batch.is_log_append_time:
        record.timestamp = batch.max_timestamp
    else:
        record.timestamp = <int64_t> (<uint64_t> batch.base_timestamp + <uint64_t> timestamp_delta)
    record.key = bytes_or_none(key, key_size)
    record.value = bytes_or_none(value, value_size)
    record.headers_count = count
    if count:
        record.raw_headers = bytes_or_none(headers, fields.end - headers)
    return record


@cython.final
cdef class Batch:
    """A batch's header, under Kafka's names, and the way to its records. Times are in ms."""

    cdef readonly Py_ssize_t position
    cdef readonly Py_ssize_t size
    cdef readonly int64_t base_offset
    cdef readonly int32_t partition_leader_epoch
    cdef readonly int8_t magic
    cdef readonly uint32_t crc
    cdef readonly int16_t attributes
    cdef readonly int32_t last_offset_delta
    cdef readonly int64_t base_timestamp
    cdef readonly int64_t max_timestamp
    cdef readonly int64_t producer_id
    cdef readonly int16_t producer_epoch
    cdef readonly int32_t base_sequence
    cdef readonly int32_t records_count
    cdef bytes owner

    def __init__(self):
        raise TypeError("batches come from decode_batches()")

    cdef const uint8_t *start(self) noexcept:
        return <const uint8_t *> PyBytes_AS_STRING(self.owner) + self.position

    @property
    def last_offset(self):
        """Offset of the last record."""
        return <object> self.base_offset + <object> self.last_offset_delta

    @property
    def next_offset(self):
        """Offset after the batch, where a reader goes on."""
        return self.last_offset + 1

    @property
    def codec(self):
        """Name of the compression. CorruptBatch if there is none of that number."""
        cdef int number = self.attributes & 0x07
        if number >= len(CODECS):
            raise self.corrupt(f"compression codec {number} does not exist")
        return CODECS[number]

    @property
    def is_log_append_time(self):
        """Whether ``max_timestamp`` is the broker's time and stands for every record's."""
        return self.attributes & 0x08 != 0

    @property
    def is_transactional(self):
        """Whether the batch is part of a transaction."""
        return self.attributes & 0x10 != 0

    @property
    def is_control(self):
        """Whether the broker wrote the batch, to end a transaction for example."""
        return self.attributes & 0x20 != 0

    @property
    def crc_is_valid(self):
        """Whether the checksum matches the bytes."""
        return compute_crc(self.start(), self.size) == self.crc

    def records(self, *, Py_ssize_t max_uncompressed=256 * 1024 * 1024):
        """The records, in order. CorruptBatch if any is damaged, or if the batch decompresses to
        more than ``max_uncompressed`` bytes."""
        cdef Cursor cursor
        cdef OwnedBytes body
        cdef int32_t status
        cdef uint8_t codec = self.attributes & 0x07
        cdef const uint8_t *stored = self.start() + HEADER_LEN
        cdef size_t stored_size = <size_t> (self.size - HEADER_LEN)
        cdef size_t limit = <size_t> max(max_uncompressed, 0)
        name = self.codec
        if codec == 0:
            cursor.at = stored
            cursor.end = stored + stored_size
            return self.read_all(&cursor)
        with nogil:
            status = api.decompress(codec, stored, stored_size, limit, &body)
        if status == TOO_LARGE:
            raise self.corrupt(f"{name} data decompresses to more than {limit} bytes")
        if status != DONE:
            raise self.corrupt(f"{name} data is damaged")
        try:
            cursor.at = body.data
            cursor.end = body.data + body.len
            return self.read_all(&cursor)
        finally:
            api.release(&body)

    cdef list read_all(self, Cursor *cursor):
        cdef list records = []
        cdef Record record
        cdef int32_t index
        for index in range(self.records_count):
            record = read_record(cursor, self)
            if record is None:
                raise self.corrupt(f"record {index} of {self.records_count} is damaged")
            records.append(record)
        if cursor.at != cursor.end:
            raise self.corrupt(f"{cursor.end - cursor.at} bytes follow the last record")
        return records

    cdef object corrupt(self, str what):
        return CorruptBatch(what, self.position)

    def __repr__(self):
        return (
            f"Batch(position={self.position}, size={self.size}, base_offset={self.base_offset}, "
            f"last_offset={self.last_offset}, records_count={self.records_count})"
        )


cdef uint32_t compute_crc(const uint8_t *batch, Py_ssize_t size) noexcept:
    return api.crc32c(batch + ATTRIBUTES, <size_t> (size - ATTRIBUTES))


cdef Batch read_batch(bytes data, Py_ssize_t position):
    """The batch at ``position``, or None if it is cut off."""
    cdef const uint8_t *start = <const uint8_t *> PyBytes_AS_STRING(data) + position
    cdef Py_ssize_t remaining = PyBytes_GET_SIZE(data) - position
    if remaining < LENGTH_OVERHEAD:
        return None
    cdef int32_t length = <int32_t> big_endian(start + 8, 4)
    if length < HEADER_LEN - LENGTH_OVERHEAD:
        raise CorruptBatch(f"batch length field is {length}, the least is 49", position)
    cdef Py_ssize_t size = LENGTH_OVERHEAD + <Py_ssize_t> length
    if size > remaining:
        return None
    cdef Batch batch = Batch.__new__(Batch)
    batch.owner = data
    batch.position = position
    batch.size = size
    batch.base_offset = <int64_t> big_endian(start, 8)
    batch.partition_leader_epoch = <int32_t> big_endian(start + 12, 4)
    batch.magic = <int8_t> start[16]
    batch.crc = <uint32_t> big_endian(start + 17, 4)
    batch.attributes = <int16_t> big_endian(start + ATTRIBUTES, 2)
    batch.last_offset_delta = <int32_t> big_endian(start + 23, 4)
    batch.base_timestamp = <int64_t> big_endian(start + 27, 8)
    batch.max_timestamp = <int64_t> big_endian(start + 35, 8)
    batch.producer_id = <int64_t> big_endian(start + 43, 8)
    batch.producer_epoch = <int16_t> big_endian(start + 51, 2)
    batch.base_sequence = <int32_t> big_endian(start + 53, 4)
    batch.records_count = <int32_t> big_endian(start + 57, 4)
    if batch.magic != 2:
        raise CorruptBatch(f"batch magic is {batch.magic}, only 2 is supported", position)
    return batch


def iter_batches(data, *, bint check_crc=True):
    """Yield the whole batches of ``data``, any bytes-like object, in order.

    Ends before a batch that is cut off: if the last batch's ``position + size`` is less than
    ``len(data)``, a tail remains. Raises CorruptBatch at an impossible header or, unless
    ``check_crc`` is false, a wrong checksum.
    """
    # Bytes are shared with the batches; anything that could change under them is copied once.
    cdef bytes owner = data if type(data) is bytes else bytes(memoryview(data))
    cdef Py_ssize_t position = 0
    cdef Batch batch
    while (batch := read_batch(owner, position)) is not None:
        if check_crc and not batch.crc_is_valid:
            computed = compute_crc(batch.start(), batch.size)
            raise CorruptBatch(
                f"CRC32C is {computed:#010x}, the header says {batch.crc:#010x}", position
            )
        position += batch.size
        yield batch


def decode_batches(data, *, check_crc=True):
    """The whole batches of ``data`` as a list; see :func:`iter_batches`."""
    return list(iter_batches(data, check_crc=check_crc))


def crc32c(data):
    """The CRC-32C (Castagnoli) of a bytes-like object."""
    cdef bytes owner = data if type(data) is bytes else bytes(memoryview(data))
    return api.crc32c(<const uint8_t *> PyBytes_AS_STRING(owner), <size_t> PyBytes_GET_SIZE(owner))
