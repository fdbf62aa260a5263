# The C functions that read; the same structs as in rust/python/src/capi_consumer.rs.
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

cdef enum:
    ABI_VERSION = 1

cdef enum:
    SOMETHING = 1
    NOTHING = 0
    CLOSED = -1
    FORKED = -2
    FAILED = -3

# Where a record's parts lie in the data of its chunk. A size of -1 is null.
cdef struct RecordView:
    int64_t offset
    int64_t timestamp
    uint32_t key
    int32_t key_size
    uint32_t value
    int32_t value_size
    uint32_t headers
    uint32_t headers_size
    uint32_t headers_count
    uint32_t size

# Names an assignment of a partition; what is in it is the consumer's.
cdef struct Mark:
    size_t slot
    uint64_t generation
    int32_t epoch

cdef struct ChunkInfo:
    const uint8_t *data
    const RecordView *views
    size_t count
    const char *topic
    size_t topic_size
    int64_t next_offset
    int32_t partition
    int32_t timestamp_type
    Mark mark

cdef struct BinaryInfo:
    const int32_t *offsets
    const uint8_t *data
    int64_t data_size
    const uint8_t *validity
    int64_t nulls
    int64_t length

cdef struct ColumnsInfo:
    int64_t length
    int64_t topics
    int64_t partitions_read
    const int32_t *topic
    const int32_t *partitions
    const int64_t *offsets
    const int64_t *timestamps
    BinaryInfo keys
    BinaryInfo values
    const int32_t *header_offsets
    BinaryInfo header_names
    BinaryInfo header_values

cdef struct NextInfo:
    int32_t topic
    int32_t partition
    int64_t offset
    int32_t epoch

cdef struct Table:
    uint32_t abi_version
    const void *(*attach)(const void *capsule) noexcept nogil
    void (*close)(const void *consumer) noexcept nogil
    int32_t (*take)(
        const void *consumer, size_t max_records, size_t max_bytes, void **chunk, ChunkInfo *info
    ) noexcept nogil
    void (*release)(const void *consumer, void *chunk) noexcept nogil
    const uint64_t *(*revision)(const void *consumer) noexcept nogil
    const uint32_t *(*forks)() noexcept nogil
    int32_t (*is_wanted)(const void *consumer, const Mark *mark) noexcept nogil
    void (*advance)(const void *consumer, const Mark *mark, int64_t offset) noexcept nogil
    void (*give_back)(const void *consumer, const Mark *mark, int64_t offset) noexcept nogil
    int32_t (*take_columns)(
        const void *consumer, size_t max_records, size_t max_bytes, int32_t headers,
        const void **columns
    ) noexcept nogil
    void (*columns_retain)(const void *columns) noexcept nogil
    void (*columns_release)(const void *columns) noexcept nogil
    void (*columns_info)(const void *columns, ColumnsInfo *info) noexcept nogil
    const char *(*columns_topic)(const void *columns, int64_t index, size_t *size) noexcept nogil
    int32_t (*columns_next)(const void *columns, int64_t index, NextInfo *next) noexcept nogil
