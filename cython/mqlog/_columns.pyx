"""Records as columns, which numpy, Arrow and whatever reads them see without a copy.

What it is: :class:`RecordColumns`, a view of memory that the core owns, exported by the buffer
protocol and by Arrow's C data interface (``_arrow.pxi``). What it is not: it depends on neither
numpy nor pyarrow. Whatever was exported keeps the memory, also when the consumer is gone.
"""

cimport cython
from cpython.buffer cimport PyBUF_FORMAT, PyBUF_WRITABLE
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from mqlog._capi_consumer cimport (
    ABI_VERSION, SOMETHING, BinaryInfo, ColumnsInfo, NextInfo, Table,
)

from mqlog import _native

__all__ = ["BinaryColumn", "RecordColumns"]

# The table lives as long as the capsule, which this module keeps.
cdef object capsule = _native._CONSUMER_API
cdef const Table *api = <const Table *> PyCapsule_GetPointer(
    capsule, "mqlog._native._CONSUMER_API"
)
if api.abi_version != ABI_VERSION:
    raise ImportError(
        f"mqlog._columns was built for function table {ABI_VERSION}, "
        f"mqlog._native has {api.abi_version}: reinstall mqlog"
    )

# What an empty buffer points to: some readers want an address in any case.
cdef int64_t nothing = 0

include "_arrow.pxi"


# no_gc is safe for all three: they hold text and each other, downwards, so no cycle can form; and
# nothing may take the owner away from a view.

@cython.final
@cython.no_gc
cdef class Window:
    """A stretch of the columns' memory, by the buffer protocol, read-only."""

    cdef RecordColumns owner
    cdef const void *start
    cdef Py_ssize_t length
    cdef Py_ssize_t itemsize
    cdef bytes format

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        if flags & PyBUF_WRITABLE:
            raise BufferError("columns are read-only")
        buffer.buf = <void *> self.start
        buffer.obj = self
        buffer.len = self.length * self.itemsize
        buffer.readonly = 1
        buffer.itemsize = self.itemsize
        buffer.format = <char *> self.format if flags & PyBUF_FORMAT else NULL
        buffer.ndim = 1
        buffer.shape = &self.length
        buffer.strides = &self.itemsize
        buffer.suboffsets = NULL
        buffer.internal = NULL


cdef object window(
    RecordColumns owner, const void *start, int64_t length, Py_ssize_t itemsize, bytes format
):
    cdef Window made = Window.__new__(Window)
    made.owner = owner
    made.start = start if length > 0 else &nothing
    made.length = <Py_ssize_t> length
    made.itemsize = itemsize
    made.format = format
    return memoryview(made)


@cython.final
@cython.no_gc
cdef class BinaryColumn:
    """Byte strings in a row, some of them perhaps null: ``offsets`` (int32, one more than there
    are strings) into ``data``, and ``validity``, a bit each from the lowest on."""

    cdef RecordColumns owner
    cdef const BinaryInfo *info

    def __init__(self):
        raise TypeError("columns come from a consumer")

    def __len__(self):
        return self.info.length

    @property
    def offsets(self):
        """Where each string begins in ``data``, and where the last ends: a memoryview of int32."""
        return window(self.owner, self.info.offsets, self.info.length + 1, 4, b"i")

    @property
    def data(self):
        """All bytes: a memoryview."""
        return window(self.owner, self.info.data, self.info.data_size, 1, b"B")

    @property
    def validity(self):
        """A bit for each string, 0 for null: a memoryview of bytes; None while none is null."""
        if self.info.validity == NULL:
            return None
        return window(self.owner, self.info.validity, (self.info.length + 7) // 8, 1, b"B")

    @property
    def null_count(self):
        """How many are null."""
        return self.info.nulls

    def __getitem__(self, Py_ssize_t index):
        if index < 0:
            index += self.info.length
        if not 0 <= index < self.info.length:
            raise IndexError(f"index {index} of {self.info.length} records")
        return item(self.info, index)

    def __iter__(self):
        return iter(self.to_list())

    def to_list(self):
        """The strings as a list of bytes, None for null."""
        cdef int64_t index
        return [item(self.info, index) for index in range(self.info.length)]

    def __repr__(self):
        return f"<BinaryColumn: {self.info.length} strings, {self.info.nulls} of them null>"


cdef object item(const BinaryInfo *info, int64_t index):
    cdef int32_t start
    if info.validity != NULL and not info.validity[index >> 3] >> (index & 7) & 1:
        return None
    start = info.offsets[index]
    return PyBytes_FromStringAndSize(
        <const char *> info.data + start, info.offsets[index + 1] - start
    )


@cython.final
@cython.no_gc
cdef class RecordColumns:
    """Records, a column a field; ``len()`` is their number.

    numpy: ``np.asarray(columns.offsets)``. Arrow: ``pyarrow.table(columns)``,
    ``polars.DataFrame(columns)``, ``duckdb.sql("from columns")``; pandas through pyarrow. Nothing
    is copied, and what was made keeps the memory.
    """

    def __init__(self):
        raise TypeError("columns come from a consumer")

    def __dealloc__(self):
        if self.columns != NULL:
            api.columns_release(self.columns)

    def __len__(self):
        return self.info.length

    @property
    def topics(self):
        """The names of the topics that occur, which ``topic_indexes`` refer to."""
        cdef int64_t index
        cdef size_t size
        cdef const char *data
        if self.names is None:
            names = []
            for index in range(self.info.topics):
                data = api.columns_topic(self.columns, index, &size)
                names.append(PyUnicode_DecodeUTF8(data, <Py_ssize_t> size, NULL))
            self.names = tuple(names)
        return self.names

    @property
    def topic_indexes(self):
        """Each record's topic by its place in ``topics``: a memoryview of int32."""
        return window(self, self.info.topic, self.info.length, 4, b"i")

    @property
    def partitions(self):
        """Each record's partition: a memoryview of int32."""
        return window(self, self.info.partitions, self.info.length, 4, b"i")

    @property
    def offsets(self):
        """Each record's offset: a memoryview of int64."""
        return window(self, self.info.offsets, self.info.length, 8, b"q")

    @property
    def timestamps(self):
        """Each record's timestamp in ms: a memoryview of int64."""
        return window(self, self.info.timestamps, self.info.length, 8, b"q")

    @property
    def key(self):
        """The keys, as a BinaryColumn."""
        return binary_column(self, &self.info.keys)

    @property
    def value(self):
        """The values, as a BinaryColumn."""
        return binary_column(self, &self.info.values)

    def keys(self):
        """The keys as a list of bytes, None for null."""
        return self.key.to_list()

    def values(self):
        """The values as a list of bytes, None for null."""
        return self.value.to_list()

    @property
    def has_headers(self):
        """Whether headers were asked for."""
        return self.info.header_offsets != NULL

    def headers(self):
        """Each record's headers as a list of (str, bytes or None) pairs. ValueError if they were
        not asked for."""
        cdef int64_t record, place
        if self.info.header_offsets == NULL:
            raise ValueError("these columns have no headers: ask for them with headers=True")
        found = []
        for record in range(self.info.length):
            pairs = []
            for place in range(
                self.info.header_offsets[record], self.info.header_offsets[record + 1]
            ):
                name = item(&self.info.header_names, place).decode()
                pairs.append((name, item(&self.info.header_values, place)))
            found.append(pairs)
        return found

    @property
    def next_offsets(self):
        """Where to go on, as ``commit()`` takes it: OffsetAndMetadata by TopicPartition."""
        from mqlog.client.structs import OffsetAndMetadata, TopicPartition

        cdef NextInfo next
        cdef int64_t index
        topics = self.topics
        found = {}
        for index in range(self.info.partitions_read):
            if api.columns_next(self.columns, index, &next) == SOMETHING:
                place = TopicPartition(topics[next.topic], next.partition)
                found[place] = OffsetAndMetadata(next.offset, "", next.epoch)
        return found

    # --- Arrow. ---

    def __arrow_c_schema__(self):
        """The fields, as a capsule of Arrow's C data interface."""
        return schema_capsule(self)

    def __arrow_c_array__(self, requested_schema=None):
        """The records as one struct array: capsules of its schema and of itself. Another schema
        cannot be asked for."""
        return schema_capsule(self), array_capsule(self)

    def __arrow_c_stream__(self, requested_schema=None):
        """The records as a stream of one struct array. Another schema cannot be asked for."""
        return stream_capsule(self)

    def __repr__(self):
        topics = ", ".join(self.topics)
        return f"<RecordColumns: {self.info.length} records of {topics or 'no topic'}>"


cdef BinaryColumn binary_column(RecordColumns owner, const BinaryInfo *info):
    cdef BinaryColumn column = BinaryColumn.__new__(BinaryColumn)
    column.owner = owner
    column.info = info
    return column


cdef RecordColumns wrap_columns(const void *columns):
    """Takes over the caller's count."""
    cdef RecordColumns made = RecordColumns.__new__(RecordColumns)
    made.columns = columns
    api.columns_info(columns, &made.info)
    return made
