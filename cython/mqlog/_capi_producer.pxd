# The C functions that produce; the same structs as in rust/python/src/capi_producer.rs and
# producer_source.rs.
from cpython.object cimport PyObject
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t

cdef enum:
    ABI_VERSION = 1

cdef enum:
    DONE = 0
    AGAIN = 1
    NO_PARTITION = 2
    FAILED = 3

# Bytes; a length of -1 is null.
cdef struct View:
    const uint8_t *data
    Py_ssize_t len

cdef struct Record:
    uint32_t topic
    int32_t partition
    int16_t acks
    # INT64_MIN is now.
    int64_t timestamp
    View key
    View value
    const View *headers
    size_t headers_count

cdef struct Where:
    const void *batch
    int64_t timestamp
    int32_t partition
    uint32_t index

cdef struct PieceView:
    const void *batch
    int32_t partition
    uint32_t first
    uint32_t count

cdef struct End:
    int64_t offset
    int64_t log_append_time
    void *error

# How the bytes of a column lie.
cdef enum Kind:
    ABSENT = 0
    POINTERS = 1
    OFFSETS_32 = 2
    OFFSETS_64 = 3
    FIXED = 4
    PADDED = 5
    VIEWS = 6

cdef struct Column:
    uint32_t kind
    uint32_t buffers_count
    const uint8_t *data
    const uint8_t *offsets
    const uint8_t *validity
    size_t first
    size_t width
    Py_ssize_t stride
    const uint8_t **buffers
    const int64_t *buffer_sizes

cdef struct Columns:
    Column value
    Column key
    const int64_t *times
    const uint8_t *times_validity
    size_t times_first
    int64_t multiply
    int64_t divide
    const int32_t *partitions
    const uint8_t *partitions_validity
    size_t partitions_first
    size_t length

cdef struct Table:
    uint32_t abi_version
    int64_t (*topic)(const void *handle, const uint8_t *name, size_t len) noexcept nogil
    int32_t (*append)(
        const void *handle, const Record *record, const void *expected, Where *out
    ) noexcept nogil
    int32_t (*append_patiently)(
        const void *handle, const Record *record, void *waiting, Where *out, void **error
    ) noexcept nogil
    int32_t (*append_many)(
        const void *handle, const Record *common, const Columns *columns, size_t *at,
        void *pieces, void *waiting, void **error
    ) noexcept nogil
    void *(*waiting_new)() noexcept nogil
    void (*waiting_free)(const void *handle, void *waiting) noexcept nogil
    void *(*pieces_new)() noexcept nogil
    void (*pieces_free)(void *pieces) noexcept nogil
    size_t (*pieces_count)(const void *pieces) noexcept nogil
    PieceView (*piece)(const void *pieces, size_t at) noexcept nogil
    void (*batch_release)(const void *batch) noexcept nogil
    int32_t (*batch_end)(const void *batch, uint32_t index, End *out) noexcept nogil
    int32_t (*batch_wait)(
        const void *handle, const void *batch, uint32_t index, int64_t limit_ms
    ) noexcept nogil
    int32_t (*batch_watch)(const void *handle, const void *batch, uint64_t token) noexcept nogil
    Py_ssize_t (*completed)(
        const void *handle, uint64_t *out, size_t room, int64_t limit_ms
    ) noexcept nogil
    PyObject *(*error_take)(void *error) noexcept
