# The future of many records; see _send_result.pyx.
from libc.stdint cimport int64_t, uint32_t

from mqlog._capi_producer cimport End, PieceView

cdef class FutureSendResult:
    # The producer's handle, and what keeps it.
    cdef const void *handle
    cdef object keep
    cdef void *pieces
    cdef object topic
    cdef int64_t count
    cdef tuple collect(self)
    cdef uint32_t run(self, const PieceView *piece, uint32_t first, End *end)
