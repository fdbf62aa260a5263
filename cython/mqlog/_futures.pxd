# The futures of records; see _futures.pyx.
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from mqlog._capi_producer cimport End, Record, Where

cdef class Core:
    cdef object native
    cdef object capsule
    cdef const void *handle
    cdef dict watched
    cdef uint64_t last_token
    cdef object thread
    cdef object lock
    cdef bint watch(self, PendingBatch batch) except -1

cdef class PendingBatch:
    cdef Core core
    cdef const void *handle
    cdef object topic
    cdef int32_t partition
    cdef object topic_partition
    cdef list watchers
    cdef bint told
    cdef object place(self)
    cdef bint watch(self, FutureRecordMetadata future) except -1
    cdef tell(self)

cdef class FutureRecordMetadata:
    cdef PendingBatch batch
    cdef uint32_t index
    cdef int32_t key_size
    cdef int32_t value_size
    cdef int32_t headers_size
    cdef int64_t timestamp
    # An error that came before there was a batch.
    cdef object error
    # The first callback and what it wants to hear of; (wanted, function) of all others.
    cdef int wanted
    cdef object callback
    cdef list more
    cdef int32_t end(self, End *end)
    cdef RecordMetadata metadata(self, const End *end)
    cdef object failure(self, const End *end)
    cdef FutureRecordMetadata add(self, int wanted, object f)
    cdef tell(self)
    cdef call(self, f, result)

cdef class RecordMetadata:
    cdef PendingBatch batch
    cdef readonly int64_t offset
    cdef readonly int64_t timestamp
    cdef readonly int32_t serialized_key_size
    cdef readonly int32_t serialized_value_size
    cdef readonly int32_t serialized_header_size

cdef FutureRecordMetadata future(
    PendingBatch batch, const Where *where, const Record *record, int32_t headers_size
)
cdef FutureRecordMetadata failed(object error)
cdef PendingBatch pending(Core core, const Where *where, object topic)
