# Columns of records: see _columns.pyx.
from mqlog._capi_consumer cimport ColumnsInfo

cdef class RecordColumns:
    cdef const void *columns
    cdef ColumnsInfo info
    cdef tuple names

cdef RecordColumns wrap_columns(const void *columns)
