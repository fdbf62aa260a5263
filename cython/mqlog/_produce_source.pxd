# Records of one call as Rust reads them; see _produce_source.pyx.
from mqlog._capi_producer cimport Columns

cdef class Source:
    cdef Columns columns
    # What the columns point into.
    cdef list keep

cpdef list sources(object data, object key)
