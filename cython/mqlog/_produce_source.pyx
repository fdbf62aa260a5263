"""Columns to produce: Arrow's C data interface and the buffer protocol, without a copy.

What it is: the reader of what ``send_columns`` is given. It checks layouts and lengths, not the
offsets inside an Arrow array, which are the word of whoever made it. Neither pyarrow nor numpy is
imported: ``__arrow_c_array__``, ``__arrow_c_stream__`` and buffers are all it looks for.
"""

cimport cython
from cpython.buffer cimport (
    PyBUF_FORMAT, PyBUF_STRIDES, PyBuffer_Release, PyObject_CheckBuffer, PyObject_GetBuffer,
)
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.string cimport memset, strcmp, strncmp

from mqlog._capi_producer cimport (
    ABSENT, FIXED, OFFSETS_32, OFFSETS_64, PADDED, VIEWS, Column, Columns,
)

__all__ = ["Source", "sources"]


# Arrow's C data and stream interfaces.
cdef struct ArrowSchema:
    const char *format
    const char *name
    const char *metadata
    int64_t flags
    int64_t n_children
    ArrowSchema **children
    ArrowSchema *dictionary
    void (*release)(ArrowSchema *) noexcept
    void *private_data

cdef struct ArrowArray:
    int64_t length
    int64_t null_count
    int64_t offset
    int64_t n_buffers
    int64_t n_children
    const void **buffers
    ArrowArray **children
    ArrowArray *dictionary
    void (*release)(ArrowArray *) noexcept
    void *private_data

cdef struct ArrowArrayStream:
    int (*get_schema)(ArrowArrayStream *, ArrowSchema *) noexcept nogil
    int (*get_next)(ArrowArrayStream *, ArrowArray *) noexcept nogil
    const char *(*get_last_error)(ArrowArrayStream *) noexcept nogil
    void (*release)(ArrowArrayStream *) noexcept nogil
    void *private_data


@cython.final
cdef class Held:
    """A buffer, a schema or an array that is given back when nobody needs it any more."""

    cdef Py_buffer buffer
    cdef bint has_buffer
    cdef ArrowSchema schema
    cdef ArrowArray array

    def __cinit__(self):
        memset(&self.schema, 0, sizeof(self.schema))
        memset(&self.array, 0, sizeof(self.array))

    def __dealloc__(self):
        if self.has_buffer:
            PyBuffer_Release(&self.buffer)
        if self.array.release != NULL:
            self.array.release(&self.array)
        if self.schema.release != NULL:
            self.schema.release(&self.schema)


cdef class Source:
    """Some records. Made by :func:`sources`."""

    def __cinit__(self):
        memset(&self.columns, 0, sizeof(self.columns))
        self.columns.multiply = 1
        self.columns.divide = 1
        self.keep = []

    def __len__(self):
        return self.columns.length


cpdef list sources(object data, object key):
    """The batches of ``data``, each a :class:`Source`. ``key`` is None, the name of a column of
    ``data`` or an array of its length. TypeError or ValueError says what cannot be read."""
    cdef list found = []
    cdef Source source
    name = key if isinstance(key, str) else None
    if key is not None and name is None:
        keys = arrays(key)
        values = arrays(data)
        if len(keys) != 1 or len(values) != 1:
            raise ValueError("a key array needs values that lie in one piece, and so must it")
        source = values[0]
        take_key(source, keys[0])
        return values
    for source in arrays(data, name):
        found.append(source)
    return found


cdef int take_key(Source source, Source keys) except -1:
    """The values of ``keys`` become the keys of ``source``."""
    if keys.columns.length != source.columns.length:
        raise ValueError(
            f"{source.columns.length} values have {keys.columns.length} keys: one for each"
        )
    source.columns.key = keys.columns.value
    source.keep.append(keys)
    return 0


cdef list arrays(object data, str key=None):
    if hasattr(data, "__arrow_c_stream__"):
        return of_stream(data.__arrow_c_stream__(), key)
    if hasattr(data, "__arrow_c_array__"):
        schema, array = data.__arrow_c_array__()
        return [of_array(schema, array, key)]
    if key is not None:
        raise TypeError(f"key={key!r} names a column, and {type(data).__name__} has none")
    if PyObject_CheckBuffer(data):
        return [of_buffer(data)]
    raise TypeError(
        f"columns must be an Arrow array, batch or stream, a numpy array of dtype S or uint8, "
        f"or RecordColumns, not {type(data).__name__}"
    )


# --- Buffers. ---

cdef Source of_buffer(object data):
    """A one-dimensional array of fixed bytes (numpy's S), or rows of single bytes."""
    cdef Source source = Source()
    cdef Held held = Held()
    PyObject_GetBuffer(data, &held.buffer, PyBUF_STRIDES | PyBUF_FORMAT)
    held.has_buffer = True
    cdef Py_buffer *buffer = &held.buffer
    cdef bytes layout = buffer.format if buffer.format != NULL else b"B"
    cdef Column *value = &source.columns.value
    if buffer.ndim == 1 and layout.endswith(b"s"):
        value.kind = PADDED
        value.width = buffer.itemsize
    elif buffer.ndim == 2 and buffer.itemsize == 1 and layout.endswith((b"B", b"b", b"c")):
        if buffer.shape[1] > 1 and buffer.strides[1] != 1:
            raise ValueError("rows of bytes must be contiguous: use numpy.ascontiguousarray")
        value.kind = FIXED
        value.width = buffer.shape[1]
    else:
        raise TypeError(
            f"an array of {layout.decode()!r} in {buffer.ndim} dimensions is no column of bytes: "
            "use dtype S, or uint8 with a row for each record"
        )
    value.data = <const uint8_t *> buffer.buf
    value.stride = buffer.strides[0]
    source.columns.length = buffer.shape[0]
    source.keep.append(held)
    return source


# --- Arrow. ---

cdef Source of_array(object schema, object array, str key):
    cdef ArrowSchema *described = <ArrowSchema *> PyCapsule_GetPointer(schema, "arrow_schema")
    cdef ArrowArray *found = <ArrowArray *> PyCapsule_GetPointer(array, "arrow_array")
    if described.release == NULL or found.release == NULL:
        raise ValueError("the Arrow array was released before it was read")
    cdef Source source = read(described, found, key)
    # Both capsules release what they hold when they go.
    source.keep.extend((schema, array))
    return source


cdef list of_stream(object capsule, str key):
    cdef ArrowArrayStream *stream = <ArrowArrayStream *> PyCapsule_GetPointer(
        capsule, "arrow_array_stream"
    )
    if stream.release == NULL:
        raise ValueError("the Arrow stream was read before")
    cdef Held schema = Held()
    cdef Held array
    cdef Source source
    cdef list found = []
    cdef int code
    with nogil:
        code = stream.get_schema(stream, &schema.schema)
    check_stream(stream, code)
    while True:
        array = Held()
        with nogil:
            code = stream.get_next(stream, &array.array)
        check_stream(stream, code)
        if array.array.release == NULL:
            return found
        source = read(&schema.schema, &array.array, key)
        source.keep.extend((schema, array))
        found.append(source)


cdef int check_stream(ArrowArrayStream *stream, int code) except -1:
    cdef const char *said
    if code != 0:
        said = stream.get_last_error(stream)
        text = said.decode("utf-8", "replace") if said != NULL else f"error {code}"
        raise ValueError(f"the Arrow stream cannot be read: {text}")
    return 0


cdef Source read(const ArrowSchema *schema, const ArrowArray *array, str key):
    """A column of values, or a struct with columns ``value``, ``key``, ``timestamp``,
    ``partition``; others are not looked at."""
    cdef Source source = Source()
    cdef int64_t at
    cdef int64_t first = array.offset
    cdef bytes name
    cdef bytes key_name = (key or "key").encode()
    source.columns.length = array.length
    if strcmp(schema.format, b"+s") != 0:
        if key is not None:
            raise TypeError(f"key={key!r} names a column of a batch, and this is one column")
        bytes_column(&source.columns.value, schema, array, 0, array.length, source)
        return source
    if has_nulls(array):
        raise ValueError("a batch of records cannot have null rows")
    names = {}
    for at in range(schema.n_children):
        name = schema.children[at].name if schema.children[at].name != NULL else b""
        names[name] = at
    if b"value" not in names:
        raise ValueError(f"no column is called value, only {listed(names)}")
    if key is not None and key_name not in names:
        raise ValueError(f"no column is called {key}, only {listed(names)}")
    at = names[b"value"]
    bytes_column(&source.columns.value, schema.children[at], array.children[at], first,
                 array.length, source)
    if key_name in names:
        at = names[key_name]
        bytes_column(&source.columns.key, schema.children[at], array.children[at], first,
                     array.length, source)
    if b"timestamp" in names:
        at = names[b"timestamp"]
        time_column(&source.columns, schema.children[at], array.children[at], first)
    if b"partition" in names:
        at = names[b"partition"]
        partition_column(&source.columns, schema.children[at], array.children[at], first)
    return source


cdef str listed(dict names):
    return ", ".join(name.decode("utf-8", "replace") for name in names) or "none"


cdef bint has_nulls(const ArrowArray *array) noexcept:
    return array.null_count != 0 and array.n_buffers > 0 and array.buffers[0] != NULL


cdef int bytes_column(
    Column *column, const ArrowSchema *schema, const ArrowArray *array, int64_t first,
    int64_t length, Source source,
) except -1:
    cdef const char *kind = schema.format
    cdef const uint8_t **data
    cdef Py_ssize_t at, count
    if strcmp(kind, b"n") == 0:
        column.kind = ABSENT
        return 0
    if schema.dictionary != NULL:
        raise TypeError("a dictionary-encoded column must be cast to binary or string before")
    if array.length < first + length:
        raise ValueError(f"a column has {array.length} of {first + length} rows")
    column.first = array.offset + first
    column.validity = <const uint8_t *> array.buffers[0] if has_nulls(array) else NULL
    if strcmp(kind, b"z") == 0 or strcmp(kind, b"u") == 0:
        column.kind = OFFSETS_32
    elif strcmp(kind, b"Z") == 0 or strcmp(kind, b"U") == 0:
        column.kind = OFFSETS_64
    elif strncmp(kind, b"w:", 2) == 0:
        column.kind = FIXED
        column.width = int(kind[2:])
        column.stride = column.width
        column.data = <const uint8_t *> array.buffers[1]
        return 0
    elif strcmp(kind, b"vz") == 0 or strcmp(kind, b"vu") == 0:
        column.kind = VIEWS
        column.data = <const uint8_t *> array.buffers[1]
        # The data buffers come after validity and views, and last their sizes.
        count = array.n_buffers - 3
        column.buffers_count = max(count, 0)
        column.buffers = <const uint8_t **> (array.buffers + 2)
        column.buffer_sizes = <const int64_t *> array.buffers[array.n_buffers - 1]
        return 0
    else:
        raise TypeError(
            f"a column of Arrow format {kind.decode('utf-8', 'replace')!r} is no column of bytes: "
            "cast it to binary or string"
        )
    column.offsets = <const uint8_t *> array.buffers[1]
    column.data = <const uint8_t *> array.buffers[2]
    # An empty array need not have offsets.
    if column.offsets == NULL and length > 0:
        raise ValueError("an Arrow column has no offsets")
    return 0


cdef int time_column(
    Columns *columns, const ArrowSchema *schema, const ArrowArray *array, int64_t first
) except -1:
    cdef bytes kind = schema.format
    if kind == b"l" or kind.startswith(b"tsm:"):
        pass
    elif kind.startswith(b"tss:"):
        columns.multiply = 1000
    elif kind.startswith(b"tsu:"):
        columns.divide = 1000
    elif kind.startswith(b"tsn:"):
        columns.divide = 1_000_000
    else:
        raise TypeError(
            f"timestamp has Arrow format {kind.decode('utf-8', 'replace')!r}: "
            "it must be a timestamp, or int64 in ms"
        )
    if array.length < first + <int64_t> columns.length:
        raise ValueError("the column timestamp is too short")
    columns.times = <const int64_t *> array.buffers[1]
    columns.times_validity = <const uint8_t *> array.buffers[0] if has_nulls(array) else NULL
    columns.times_first = array.offset + first
    return 0


cdef int partition_column(
    Columns *columns, const ArrowSchema *schema, const ArrowArray *array, int64_t first
) except -1:
    cdef bytes kind = schema.format
    if kind != b"i":
        raise TypeError(
            f"partition has Arrow format {kind.decode('utf-8', 'replace')!r}: it must be int32"
        )
    if array.length < first + <int64_t> columns.length:
        raise ValueError("the column partition is too short")
    columns.partitions = <const int32_t *> array.buffers[1]
    columns.partitions_validity = (
        <const uint8_t *> array.buffers[0] if has_nulls(array) else NULL
    )
    columns.partitions_first = array.offset + first
    return 0
