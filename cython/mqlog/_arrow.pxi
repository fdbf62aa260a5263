# Arrow's C data interface, for _columns.pyx: structs that a reader moves, and releases when it
# likes, from any thread and without an interpreter. Every array holds a count of the columns by
# itself, since a reader may take a child out and release it after its parent.

cdef extern from *:
    """
    #include <stdint.h>
    #ifndef ARROW_C_DATA_INTERFACE
    #define ARROW_C_DATA_INTERFACE
    struct ArrowSchema {
        const char *format; const char *name; const char *metadata; int64_t flags;
        int64_t n_children; struct ArrowSchema **children; struct ArrowSchema *dictionary;
        void (*release)(struct ArrowSchema *); void *private_data;
    };
    struct ArrowArray {
        int64_t length; int64_t null_count; int64_t offset; int64_t n_buffers; int64_t n_children;
        const void **buffers; struct ArrowArray **children; struct ArrowArray *dictionary;
        void (*release)(struct ArrowArray *); void *private_data;
    };
    #endif
    #ifndef ARROW_C_STREAM_INTERFACE
    #define ARROW_C_STREAM_INTERFACE
    struct ArrowArrayStream {
        int (*get_schema)(struct ArrowArrayStream *, struct ArrowSchema *);
        int (*get_next)(struct ArrowArrayStream *, struct ArrowArray *);
        const char *(*get_last_error)(struct ArrowArrayStream *);
        void (*release)(struct ArrowArrayStream *); void *private_data;
    };
    #endif
    """
    struct ArrowSchema:
        const char *format
        const char *name
        const char *metadata
        int64_t flags
        int64_t n_children
        ArrowSchema **children
        ArrowSchema *dictionary
        void (*release)(ArrowSchema *) noexcept nogil
        void *private_data

    struct ArrowArray:
        int64_t length
        int64_t null_count
        int64_t offset
        int64_t n_buffers
        int64_t n_children
        const void **buffers
        ArrowArray **children
        ArrowArray *dictionary
        void (*release)(ArrowArray *) noexcept nogil
        void *private_data

    struct ArrowArrayStream:
        int (*get_schema)(ArrowArrayStream *, ArrowSchema *) noexcept nogil
        int (*get_next)(ArrowArrayStream *, ArrowArray *) noexcept nogil
        const char *(*get_last_error)(ArrowArrayStream *) noexcept nogil
        void (*release)(ArrowArrayStream *) noexcept nogil
        void *private_data

cdef extern from "errno.h" nogil:
    enum: ENOMEM

cdef enum:
    NULLABLE = 2  # ARROW_FLAG_NULLABLE

# --- Schemas. Formats and names are literals, which live for ever. ---

cdef void release_schema(ArrowSchema *schema) noexcept nogil:
    cdef int64_t index
    for index in range(schema.n_children):
        if schema.children[index] != NULL:
            if schema.children[index].release != NULL:
                schema.children[index].release(schema.children[index])
            free(schema.children[index])
    free(schema.children)
    if schema.dictionary != NULL:
        if schema.dictionary.release != NULL:
            schema.dictionary.release(schema.dictionary)
        free(schema.dictionary)
    schema.release = NULL


cdef bint start_schema(
    ArrowSchema *schema, const char *format, const char *name, int64_t flags, int64_t children
) noexcept nogil:
    """Fills in what has no children yet, with room for them. False without memory; then, too, it
    is whole and must be released."""
    cdef int64_t index
    schema.format = format
    schema.name = name
    schema.metadata = NULL
    schema.flags = flags
    schema.n_children = 0
    schema.children = NULL
    schema.dictionary = NULL
    schema.private_data = NULL
    schema.release = release_schema
    if children == 0:
        return True
    schema.children = <ArrowSchema **> calloc(children, sizeof(ArrowSchema *))
    if schema.children == NULL:
        return False
    schema.n_children = children
    for index in range(children):
        schema.children[index] = <ArrowSchema *> calloc(1, sizeof(ArrowSchema))
        if schema.children[index] == NULL:
            return False
    return True


cdef bint fill_schema(ArrowSchema *schema, bint headers) noexcept nogil:
    """The schema of records. False without memory."""
    cdef ArrowSchema **fields
    cdef ArrowSchema *entry
    if not start_schema(schema, b"+s", b"", 0, 7 if headers else 6):
        return False
    fields = schema.children
    start_schema(fields[0], b"i", b"topic", 0, 0)
    start_schema(fields[1], b"i", b"partition", 0, 0)
    start_schema(fields[2], b"l", b"offset", 0, 0)
    start_schema(fields[3], b"tsm:UTC", b"timestamp", 0, 0)
    start_schema(fields[4], b"z", b"key", NULLABLE, 0)
    start_schema(fields[5], b"z", b"value", NULLABLE, 0)
    fields[0].dictionary = <ArrowSchema *> calloc(1, sizeof(ArrowSchema))
    if fields[0].dictionary == NULL:
        return False
    start_schema(fields[0].dictionary, b"u", b"", 0, 0)
    if not headers:
        return True
    if not start_schema(fields[6], b"+l", b"headers", 0, 1):
        return False
    entry = fields[6].children[0]
    if not start_schema(entry, b"+s", b"item", 0, 2):
        return False
    start_schema(entry.children[0], b"u", b"key", 0, 0)
    start_schema(entry.children[1], b"z", b"value", NULLABLE, 0)
    return True

# --- Arrays. ---

cdef struct Held:
    # A count of the columns, and memory of the array's own.
    const void *columns
    void *own
    const void *buffers[3]


cdef void release_array(ArrowArray *array) noexcept nogil:
    cdef int64_t index
    cdef Held *held = <Held *> array.private_data
    for index in range(array.n_children):
        if array.children[index] != NULL:
            if array.children[index].release != NULL:
                array.children[index].release(array.children[index])
            free(array.children[index])
    free(array.children)
    if array.dictionary != NULL:
        if array.dictionary.release != NULL:
            array.dictionary.release(array.dictionary)
        free(array.dictionary)
    if held != NULL:
        api.columns_release(held.columns)
        free(held.own)
        free(held)
    array.release = NULL


cdef bint start_array(
    ArrowArray *array, const void *columns, int64_t length, int64_t buffers, int64_t children
) noexcept nogil:
    """Fills in what has neither data nor children yet, with room for them. False without memory;
    then, too, it is whole and must be released."""
    cdef int64_t index
    cdef Held *held
    array.length = length
    array.null_count = 0
    array.offset = 0
    array.n_buffers = buffers
    array.n_children = 0
    array.buffers = NULL
    array.children = NULL
    array.dictionary = NULL
    array.private_data = NULL
    array.release = release_array
    held = <Held *> calloc(1, sizeof(Held))
    if held == NULL:
        return False
    api.columns_retain(columns)
    held.columns = columns
    array.private_data = held
    array.buffers = held.buffers
    if children == 0:
        return True
    array.children = <ArrowArray **> calloc(children, sizeof(ArrowArray *))
    if array.children == NULL:
        return False
    array.n_children = children
    for index in range(children):
        array.children[index] = <ArrowArray *> calloc(1, sizeof(ArrowArray))
        if array.children[index] == NULL:
            return False
    return True


cdef bint fixed_array(
    ArrowArray *array, const void *columns, int64_t length, const void *data
) noexcept nogil:
    if not start_array(array, columns, length, 2, 0):
        return False
    array.buffers[1] = data if length > 0 else &nothing
    return True


cdef bint binary_array(
    ArrowArray *array, const void *columns, const BinaryInfo *info
) noexcept nogil:
    if not start_array(array, columns, info.length, 3, 0):
        return False
    array.null_count = info.nulls
    array.buffers[0] = info.validity
    array.buffers[1] = info.offsets
    array.buffers[2] = info.data if info.data_size > 0 else <const void *> &nothing
    return True


cdef bint names_array(
    ArrowArray *array, const void *columns, const ColumnsInfo *info
) noexcept nogil:
    """The topics' names, in memory of the array's own."""
    cdef int64_t index
    cdef size_t size
    cdef size_t total = 0
    cdef const char *name
    cdef int32_t *offsets
    cdef char *data
    if not start_array(array, columns, info.topics, 3, 0):
        return False
    for index in range(info.topics):
        api.columns_topic(columns, index, &size)
        total += size
    offsets = <int32_t *> malloc((<size_t> info.topics + 1) * sizeof(int32_t) + total)
    if offsets == NULL:
        return False
    (<Held *> array.private_data).own = offsets
    data = <char *> (offsets + info.topics + 1)
    array.buffers[1] = offsets
    array.buffers[2] = data if total > 0 else <const void *> &nothing
    total = 0
    for index in range(info.topics):
        offsets[index] = <int32_t> total
        name = api.columns_topic(columns, index, &size)
        memcpy(data + total, name, size)
        total += size
    offsets[info.topics] = <int32_t> total
    return True


cdef bint headers_array(
    ArrowArray *array, const void *columns, const ColumnsInfo *info
) noexcept nogil:
    cdef ArrowArray *entry
    if not start_array(array, columns, info.length, 2, 1):
        return False
    # Without a record there may be no first offset yet.
    array.buffers[1] = info.header_offsets if info.length > 0 else <const void *> &nothing
    entry = array.children[0]
    return (
        start_array(entry, columns, info.header_names.length, 1, 2)
        and binary_array(entry.children[0], columns, &info.header_names)
        and binary_array(entry.children[1], columns, &info.header_values)
    )


cdef bint fill_array(
    ArrowArray *array, const void *columns, const ColumnsInfo *info
) noexcept nogil:
    """The array of records. False without memory."""
    cdef bint headers = info.header_offsets != NULL
    cdef ArrowArray **fields
    if not start_array(array, columns, info.length, 1, 7 if headers else 6):
        return False
    fields = array.children
    if not fixed_array(fields[0], columns, info.length, info.topic):
        return False
    fields[0].dictionary = <ArrowArray *> calloc(1, sizeof(ArrowArray))
    return (
        fields[0].dictionary != NULL
        and names_array(fields[0].dictionary, columns, info)
        and fixed_array(fields[1], columns, info.length, info.partitions)
        and fixed_array(fields[2], columns, info.length, info.offsets)
        and fixed_array(fields[3], columns, info.length, info.timestamps)
        and binary_array(fields[4], columns, &info.keys)
        and binary_array(fields[5], columns, &info.values)
        and (not headers or headers_array(fields[6], columns, info))
    )

# --- A stream of one array. ---

cdef struct Stream:
    const void *columns
    ColumnsInfo info
    bint ended


cdef int stream_schema(ArrowArrayStream *stream, ArrowSchema *out) noexcept nogil:
    cdef Stream *held = <Stream *> stream.private_data
    if fill_schema(out, held.info.header_offsets != NULL):
        return 0
    out.release(out)
    return ENOMEM


cdef int stream_next(ArrowArrayStream *stream, ArrowArray *out) noexcept nogil:
    cdef Stream *held = <Stream *> stream.private_data
    if held.ended:
        out.release = NULL
        return 0
    held.ended = True
    if fill_array(out, held.columns, &held.info):
        return 0
    out.release(out)
    return ENOMEM


cdef const char *stream_error(ArrowArrayStream *stream) noexcept nogil:
    return "no memory"


cdef void release_stream(ArrowArrayStream *stream) noexcept nogil:
    cdef Stream *held = <Stream *> stream.private_data
    api.columns_release(held.columns)
    free(held)
    stream.release = NULL

# --- Capsules: whoever takes what is in one sets its release to NULL. ---

cdef void drop_schema(object capsule) noexcept:
    cdef ArrowSchema *schema = <ArrowSchema *> PyCapsule_GetPointer(capsule, "arrow_schema")
    if schema.release != NULL:
        schema.release(schema)
    free(schema)


cdef void drop_array(object capsule) noexcept:
    cdef ArrowArray *array = <ArrowArray *> PyCapsule_GetPointer(capsule, "arrow_array")
    if array.release != NULL:
        array.release(array)
    free(array)


cdef void drop_stream(object capsule) noexcept:
    cdef ArrowArrayStream *stream
    stream = <ArrowArrayStream *> PyCapsule_GetPointer(capsule, "arrow_array_stream")
    if stream.release != NULL:
        stream.release(stream)
    free(stream)


cdef object schema_capsule(RecordColumns columns):
    cdef ArrowSchema *schema = <ArrowSchema *> calloc(1, sizeof(ArrowSchema))
    if schema == NULL:
        raise MemoryError
    made = PyCapsule_New(schema, "arrow_schema", drop_schema)
    if not fill_schema(schema, columns.info.header_offsets != NULL):
        raise MemoryError
    return made


cdef object array_capsule(RecordColumns columns):
    cdef ArrowArray *array = <ArrowArray *> calloc(1, sizeof(ArrowArray))
    if array == NULL:
        raise MemoryError
    made = PyCapsule_New(array, "arrow_array", drop_array)
    if not fill_array(array, columns.columns, &columns.info):
        raise MemoryError
    return made


cdef object stream_capsule(RecordColumns columns):
    cdef ArrowArrayStream *stream
    cdef Stream *held
    stream = <ArrowArrayStream *> calloc(1, sizeof(ArrowArrayStream))
    if stream == NULL:
        raise MemoryError
    made = PyCapsule_New(stream, "arrow_array_stream", drop_stream)
    held = <Stream *> malloc(sizeof(Stream))
    if held == NULL:
        raise MemoryError
    api.columns_retain(columns.columns)
    held.columns = columns.columns
    held.info = columns.info
    held.ended = False
    stream.get_schema = stream_schema
    stream.get_next = stream_next
    stream.get_last_error = stream_error
    stream.release = release_stream
    stream.private_data = held
    return made
