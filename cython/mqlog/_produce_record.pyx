"""Keys, values and headers of records as Rust reads them, without a copy."""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport int16_t, int32_t, uint8_t

from mqlog._capi_producer cimport View

__all__ = []


@cython.final
@cython.no_gc
@cython.freelist(16)
cdef class Buffers:
    """Buffers of a record that is not made of bytes objects, held while it is written."""

    def __dealloc__(self):
        while self.count > 0:
            self.count -= 1
            PyBuffer_Release(&self.held[self.count])

    cdef int view(self, object data, View *out, str what) except -1:
        if isinstance(data, str):
            raise TypeError(
                f"{what} must be bytes, not str: encode it, or set {what}_serializer=str.encode"
            )
        try:
            PyObject_GetBuffer(data, &self.held[self.count], PyBUF_SIMPLE)
        except TypeError:
            raise TypeError(
                f"{what} must be bytes, bytearray, memoryview or None, not "
                f"{type(data).__name__}: set {what}_serializer"
            ) from None
        out.data = <const uint8_t *> self.held[self.count].buf
        out.len = self.held[self.count].len
        self.count += 1
        return 0


cdef class Headers:
    """The headers of records: (str, bytes or None) pairs."""

    def __cinit__(self, headers):
        cdef Py_ssize_t length
        cdef const char *text
        if not isinstance(headers, (list, tuple)):
            raise TypeError(f"headers must be a list, not {type(headers).__name__}")
        self.keep = tuple(headers)
        self.views = <View *> PyMem_Malloc(max(2 * len(self.keep), 1) * sizeof(View))
        if self.views == NULL:
            raise MemoryError
        for item in self.keep:
            if not isinstance(item, tuple) or len(<tuple> item) != 2:
                raise TypeError(f"a header must be a (str, bytes) tuple, not {item!r}")
            name, value = <tuple> item
            if not isinstance(name, str) or not plain(value, &self.views[2 * self.count + 1]):
                raise TypeError(f"a header must be a (str, bytes or None) tuple, not {item!r}")
            text = PyUnicode_AsUTF8AndSize(name, &length)
            self.views[2 * self.count].data = <const uint8_t *> text
            self.views[2 * self.count].len = length
            self.size += <int32_t> (length + max(self.views[2 * self.count + 1].len, 0))
            self.count += 1

    def __dealloc__(self):
        PyMem_Free(self.views)


cdef int16_t acks_of(object acks) except -2:
    if acks == "all" or acks == -1:
        return -1
    if acks == 0 or acks == 1:
        return acks
    raise ValueError(f'acks={acks!r}: must be "all" (or -1), 0 or 1')


cdef bytes copied(object data, str what, Py_ssize_t at):
    """A copy as bytes of anything that has a buffer."""
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(
            f"the {what} of record {at} must be bytes or None, not {type(data).__name__}: "
            f"set {what}_serializer"
        )
    return bytes(data)
