# Records as objects, for _consumer.pyx, which makes them without a call between modules.

# As kafka-python orders them.
FIELDS = (
    "topic", "partition", "leader_epoch", "offset", "timestamp", "timestamp_type", "key", "value",
    "headers", "checksum", "serialized_key_size", "serialized_value_size",
    "serialized_header_size",
)


cdef inline bint is_plain(object value) noexcept:
    """Whether a value cannot be part of a cycle."""
    return value is None or PyBytes_CheckExact(value) or PyUnicode_CheckExact(value)


@cython.no_gc
@cython.freelist(1024)
cdef class Record:
    """One record, with the fields of kafka-python's ConsumerRecord, in their order.

    ``timestamp`` is in ms, of the producer (``timestamp_type`` 0) or the broker (1).
    ``serialized_*_size`` are bytes, -1 for None. ``leader_epoch`` is -1 if unknown; ``checksum``
    is always None.
    """

    # no_gc is safe: every object here is immutable bytes or text, so no cycle can form.
    cdef readonly str topic
    cdef object plain_key
    cdef object plain_value
    cdef bytes raw_headers
    cdef readonly int64_t offset
    cdef readonly int64_t timestamp
    cdef readonly int32_t partition
    cdef readonly int32_t leader_epoch
    cdef readonly int32_t serialized_key_size
    cdef readonly int32_t serialized_value_size
    cdef uint32_t headers_count
    cdef readonly int8_t timestamp_type

    _fields = FIELDS
    __match_args__ = FIELDS

    def __init__(
        self, str topic not None, int32_t partition, int32_t leader_epoch, int64_t offset,
        int64_t timestamp, int8_t timestamp_type, key, value, headers=(), checksum=None,
        serialized_key_size=None, serialized_value_size=None, serialized_header_size=None,
    ):
        self.topic = topic
        self.partition = partition
        self.leader_epoch = leader_epoch
        self.offset = offset
        self.timestamp = timestamp
        self.timestamp_type = timestamp_type
        self.raw_headers = write_headers(headers)
        self.headers_count = len(headers)
        self.serialized_key_size = size_of(key, serialized_key_size)
        self.serialized_value_size = size_of(value, serialized_value_size)
        self.hold(key, value)

    cdef int hold(self, object key, object value) except -1:
        if not is_plain(key) or not is_plain(value):
            raise TypeError(
                f"a Record holds bytes, str or None, not {type(key).__name__} and "
                f"{type(value).__name__}: ObjectRecord holds anything"
            )
        self.plain_key = key
        self.plain_value = value
        return 0

    @property
    def key(self):
        """The key; None if there is none."""
        return self.plain_key

    @property
    def value(self):
        """The value; None for a tombstone."""
        return self.plain_value

    @property
    def headers(self):
        """The headers as (str, bytes or None) pairs, in order, duplicates included."""
        return read_headers(self.raw_headers, self.headers_count)

    @property
    def serialized_header_size(self):
        """Bytes of header names and values; -1 without headers."""
        if self.headers_count == 0:
            return -1
        return sum(
            len(name.encode("utf-8", "surrogateescape")) + (0 if value is None else len(value))
            for name, value in self.headers
        )

    @property
    def checksum(self):
        """None: batches have checksums, records do not."""
        return None

    def __iter__(self):
        return iter(as_tuple(self))

    def __len__(self):
        return len(FIELDS)

    def __getitem__(self, index):
        return as_tuple(self)[index]

    def __eq__(self, other):
        if not isinstance(other, Record):
            return NotImplemented
        return as_tuple(self) == as_tuple(other)

    def __hash__(self):
        return hash((self.topic, self.partition, self.offset))

    def __repr__(self):
        pairs = ", ".join(f"{name}={value!r}" for name, value in zip(FIELDS, as_tuple(self)))
        return f"ConsumerRecord({pairs})"

    def __reduce__(self):
        return type(self), as_tuple(self)

    def _asdict(self):
        """The fields by name."""
        return dict(zip(FIELDS, as_tuple(self)))


@cython.final
cdef class ObjectRecord(Record):
    """A record whose key and value may be anything that a deserializer made."""

    cdef object object_key
    cdef object object_value

    cdef int hold(self, object key, object value) except -1:
        self.object_key = key
        self.object_value = value
        return 0

    @property
    def key(self):
        """The key, deserialized."""
        return self.object_key

    @property
    def value(self):
        """The value, deserialized."""
        return self.object_value


cdef tuple as_tuple(Record record):
    return (
        record.topic, record.partition, record.leader_epoch, record.offset, record.timestamp,
        record.timestamp_type, record.key, record.value, record.headers, None,
        record.serialized_key_size, record.serialized_value_size, record.serialized_header_size,
    )


cdef int32_t size_of(object value, object given) except -2:
    if given is not None:
        return given
    if isinstance(value, str):
        return len(value.encode())
    return len(value) if isinstance(value, bytes) else -1
