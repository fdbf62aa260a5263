# What the modules that produce share; see _produce_core.pyx.
from libc.stdint cimport uint32_t

from mqlog._capi_producer cimport Table

cdef const Table *table()
cdef object taken(void *error)
cdef object forked()
cdef int wait_at(
    const void *handle, const void *batch, uint32_t index, object timeout, object topic
) except -1
