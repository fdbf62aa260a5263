"""What the modules that produce share: the function table, errors, waiting.
"""

from cpython.exc cimport PyErr_CheckSignals
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_GetPointer
from cpython.ref cimport Py_XDECREF
from libc.stdint cimport int32_t, int64_t, uint32_t

from mqlog._capi_producer cimport ABI_VERSION, DONE, FAILED, Table

import time

from mqlog import _native
from mqlog.errors import KafkaTimeoutError, UsedAfterForkError

__all__ = []

# The table lives as long as the capsule, which this module keeps.
cdef object capsule = _native._PRODUCER_API
cdef const Table *api = <const Table *> PyCapsule_GetPointer(
    capsule, "mqlog._native._PRODUCER_API"
)
if api.abi_version != ABI_VERSION:
    raise ImportError(
        f"mqlog's Cython modules were built for function table {ABI_VERSION}, "
        f"mqlog._native has {api.abi_version}: reinstall mqlog"
    )

# How long one wait may take before signals are looked at; Rust takes no longer either.
cdef int64_t TURN_MS = 100


cdef const Table *table():
    return api


cdef object taken(void *error):
    """The exception of a native error, which is gone afterwards."""
    cdef PyObject *made = api.error_take(error)
    if made == NULL:
        raise MemoryError
    exception = <object> made
    Py_XDECREF(made)
    return exception


cdef object forked():
    """What is raised in a child of the process that made a producer."""
    return UsedAfterForkError(
        "this producer was made before a fork, and its threads stayed with the parent: "
        "make another in the child"
    )


cdef int wait_at(
    const void *handle, const void *batch, uint32_t index, object timeout, object topic
) except -1:
    """Waits until a record has an end, ``timeout`` seconds at most."""
    cdef int64_t limit = TURN_MS
    cdef int32_t code
    cdef double until = 0, left
    if timeout is not None:
        until = time.monotonic() + timeout
    while True:
        if timeout is not None:
            left = (until - <double> time.monotonic()) * 1000
            limit = <int64_t> min(max(left, 0), <double> TURN_MS)
            if 0 < left < 1:
                limit = 1
        with nogil:
            code = api.batch_wait(handle, batch, index, limit)
        if code == DONE:
            return 0
        PyErr_CheckSignals()
        if code == FAILED:
            raise forked()
        if timeout is not None and time.monotonic() >= until:
            raise KafkaTimeoutError(
                f"a record of {topic} was not acknowledged within timeout={timeout} s; "
                "it still may be, until delivery_timeout_ms"
            )
