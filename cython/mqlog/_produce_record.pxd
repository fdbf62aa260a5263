# Parts of records; see _produce_record.pyx.
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from libc.stdint cimport int16_t, int32_t, uint8_t

from mqlog._capi_producer cimport View

cdef class Buffers:
    cdef Py_buffer held[2]
    cdef int count
    cdef int view(self, object data, View *out, str what) except -1

cdef class Headers:
    cdef View *views
    cdef size_t count
    cdef tuple keep
    cdef int32_t size

cdef int16_t acks_of(object acks) except -2
cdef bytes copied(object data, str what, Py_ssize_t at)


cdef inline bint plain(object data, View *out) noexcept:
    """Whether it is None or a bytes object, which needs no holding."""
    if data is None:
        out.data = NULL
        out.len = -1
        return True
    if PyBytes_CheckExact(data):
        out.data = <const uint8_t *> PyBytes_AS_STRING(data)
        out.len = PyBytes_GET_SIZE(data)
        return True
    return False
