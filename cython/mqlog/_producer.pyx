"""Sending records: objects in, futures out.

What it is: ``send`` and its relatives, all of them calls of the C functions of ``mqlog._native``.
What it is not: it serializes nothing, chooses no partition and decides nothing; that is
``mqlog.client.producer``. Futures are in ``mqlog._futures``.
"""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from cpython.tuple cimport PyTuple_GET_ITEM
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport INT64_MIN, int16_t, int32_t, int64_t, uint8_t, uint32_t
from libc.string cimport memset

from mqlog._capi_producer cimport (
    AGAIN, DONE, NO_PARTITION, POINTERS, Columns, Record, Table, View, Where,
)
from mqlog._futures cimport Core, PendingBatch, failed, future, pending
from mqlog._produce_core cimport forked, table, taken
from mqlog._produce_record cimport Buffers, Headers, acks_of, copied, plain
from mqlog._produce_source cimport Source, sources
from mqlog._send_result cimport FutureSendResult

from mqlog.errors import BrokerResponseError, RecordTooLargeError

__all__ = ["ProducerBase"]

cdef const Table *api = table()

# Records of a list that are handed over at once.
cdef enum:
    CHUNK = 512


@cython.final
cdef class Topic:
    """A topic that records were sent to."""

    cdef object name
    cdef uint32_t number
    # The batch that took the last record, and by partition the last batch that is known.
    cdef PendingBatch last
    cdef list batches


cdef class ProducerBase:
    """Sends records; what :class:`mqlog.KafkaProducer` is made of. Any thread may use it."""

    cdef Core core
    cdef dict topics
    cdef Topic last
    cdef int16_t acks
    # The user's serializers and partitioner; None if there are none.
    cdef object prepare

    def __init__(self, native, acks):
        self.core = Core(native)
        self.topics = {}
        self.acks = acks_of(acks)

    def _set_prepare(self, prepare):
        """``prepare.one`` and ``prepare.many`` are called with what is sent."""
        self.prepare = prepare

    @property
    def _callbacks(self):
        """What calls callbacks: ``join(timeout)``."""
        return self.core

    def send(
        self, topic, value=None, key=None, headers=None, partition=None, timestamp_ms=None,
        acks=None,
    ):
        """Sends one record, and returns its future. Waits only while the topic's partitions are not
        known or ``buffer_memory`` is full, up to ``max_block_ms``.

        ``value`` and ``key``: bytes, bytearray, memoryview or None, or what the serializers take.
        A record without a value deletes its key from a compacted topic. ``headers``: a list of
        (str, bytes or None) tuples. ``partition``: a number; without it the key's hash decides, or
        the producer for a record without a key. ``timestamp_ms``: since 1970, by default now.
        ``acks``: "all", 1 or 0 for this record, by default the producer's.

        Raises KafkaTimeoutError if the partitions cannot be learned in time, BufferFullError,
        RecordTooLargeError, TypeError, ValueError (no such partition, neither value nor key),
        ClosedError. What a broker says of the topic (authorization) makes a future that failed.
        """
        cdef Record record
        cdef Topic entry = self.entry(topic)
        record.headers = NULL
        record.headers_count = 0
        # Bytes and nothing to be done about them: the short way.
        if (
            self.prepare is None
            and headers is None
            and plain(value, &record.value)
            and plain(key, &record.key)
        ):
            return self.append(entry, &record, partition, timestamp_ms, acks, -1)
        return self.send_prepared(entry, value, key, headers, partition, timestamp_ms, acks)

    cdef send_prepared(
        self, Topic entry, object value, object key, object headers, object partition,
        object timestamp_ms, object acks,
    ):
        """As :meth:`send`, with all that may come before a record is appended."""
        cdef Record record
        cdef Buffers buffers = Buffers.__new__(Buffers)
        cdef Headers taken_headers = None
        cdef int32_t headers_size = -1
        if self.prepare is not None:
            value, key, partition = self.prepare.one(entry.name, value, key, headers, partition)
        if not plain(value, &record.value):
            buffers.view(value, &record.value, "value")
        if not plain(key, &record.key):
            buffers.view(key, &record.key, "key")
        record.headers = NULL
        record.headers_count = 0
        if headers:
            taken_headers = Headers(headers)
            record.headers = taken_headers.views
            record.headers_count = taken_headers.count
            headers_size = taken_headers.size
        return self.append(entry, &record, partition, timestamp_ms, acks, headers_size)

    cdef inline append(
        self, Topic entry, Record *record, object partition, object timestamp_ms, object acks,
        int32_t headers_size,
    ):
        """Appends a record that has key, value and headers, and gives its future."""
        cdef Where where
        cdef PendingBatch expected = self.expected(entry)
        if record.value.len < 0 and record.key.len < 0:
            raise ValueError("a record needs a value or a key")
        record.topic = entry.number
        record.acks = self.acks if acks is None else acks_of(acks)
        self.place(record, partition, timestamp_ms)
        if api.append(
            self.core.handle, record, expected.handle if expected is not None else NULL, &where
        ) != DONE:
            refused = self.append_patiently(entry, record, &where)
            if refused is not None:
                return failed(refused)
        if where.batch != NULL:
            expected = self.batch(entry, &where)
        return future(expected, &where, record, headers_size)

    cdef inline Topic entry(self, object name):
        cdef Topic entry
        with cython.critical_section(self):
            entry = self.last
        if entry is not None and entry.name is name:
            return entry
        return self.find(name)

    cdef Topic find(self, object name):
        """The topic of a name, which gets a number when it is first met."""
        cdef Py_ssize_t length
        cdef const char *text
        cdef int64_t number
        cdef Topic entry = self.topics.get(name)
        if entry is None:
            self._check_topic(name)
            text = PyUnicode_AsUTF8AndSize(name, &length)
            number = api.topic(self.core.handle, <const uint8_t *> text, length)
            if number < 0:
                raise forked()
            entry = Topic.__new__(Topic)
            entry.name = name
            entry.number = <uint32_t> number
            entry.batches = []
            entry = self.topics.setdefault(name, entry)
        with cython.critical_section(self):
            self.last = entry
        return entry

    def _check_topic(self, name):
        """Raises what is wrong with a topic's name."""
        if not isinstance(name, str):
            raise TypeError(f"topic must be str, not {type(name).__name__}")

    def _topic_number(self, name):
        """The number that the native producer knows a topic by."""
        return self.find(name).number

    cdef inline PendingBatch expected(self, Topic entry):
        cdef PendingBatch batch
        with cython.critical_section(entry):
            batch = entry.last
        return batch

    cdef inline int place(self, Record *record, object partition, object timestamp) except -1:
        record.partition = -1
        if partition is not None:
            record.partition = partition
            if record.partition < 0:
                raise ValueError(f"partition={partition}: must be at least 0")
        record.timestamp = INT64_MIN
        if timestamp is not None:
            record.timestamp = timestamp
            if record.timestamp < 0:
                raise ValueError(f"timestamp_ms={timestamp}: must be at least 0")
        return 0

    cdef PendingBatch batch(self, Topic entry, const Where *where):
        """The object of a batch that was handed over."""
        cdef PendingBatch batch
        cdef Py_ssize_t at = where.partition
        cdef list batches = entry.batches
        with cython.critical_section(entry):
            while len(batches) <= at:
                batches.append(None)
            batch = batches[at]
            if batch is not None and batch.handle == where.batch:
                api.batch_release(where.batch)
            else:
                batch = pending(self.core, where, entry.name)
                batches[at] = batch
            entry.last = batch
        return batch

    cdef object append_patiently(self, Topic entry, const Record *record, Where *where):
        """Appends a record that could not be at once. A broker's word on the topic is returned, and
        becomes a future that failed, as in kafka-python; everything else is raised."""
        cdef const void *handle = self.core.handle
        cdef void *waiting = api.waiting_new()
        cdef void *error = NULL
        cdef int32_t code
        try:
            while True:
                with nogil:
                    code = api.append_patiently(handle, record, waiting, where, &error)
                if code == DONE:
                    return None
                if code != AGAIN:
                    break
                PyErr_CheckSignals()
        finally:
            api.waiting_free(handle, waiting)
        if code == NO_PARTITION:
            raise ValueError(
                f"partition={record.partition}: {entry.name} has partitions 0 to "
                f"{<int64_t> where.index - 1}"
            )
        exception = taken(error)
        if isinstance(exception, RecordTooLargeError) or not isinstance(
            exception, BrokerResponseError
        ):
            raise exception
        return exception

    def send_many(
        self, topic, values, keys=None, partition=None, timestamp_ms=None, headers=None, acks=None
    ):
        """Sends many records at once, and returns one future for all: ``get()`` gives where they
        are. As several calls of :meth:`send`, and many times as fast.

        ``values``: any iterable of values, or of (key, value) tuples; ``keys``: as many keys. All
        else is as in :meth:`send` and the same for all records. If a record is refused, the error
        has a note on how many were before it: these are on their way.
        """
        cdef Record common
        cdef Headers taken_headers = None
        cdef Topic entry = self.entry(topic)
        cdef list places = None
        if self.prepare is not None:
            values, keys, places = self.prepare.many(topic, values, keys, headers, partition)
        cdef tuple items = tuple(values)
        cdef tuple names = None if keys is None else tuple(keys)
        if names is not None and len(names) != len(items):
            raise ValueError(f"{len(items)} values have {len(names)} keys: one for each")
        if headers:
            taken_headers = Headers(headers)
        self.common(&common, entry, partition, timestamp_ms, acks, taken_headers)
        cdef FutureSendResult found = self.result(entry)
        self.append_list(&common, items, names, places, found)
        return found

    cdef int append_list(
        self, const Record *common, tuple items, tuple names, list places, FutureSendResult found
    ) except -1:
        cdef const uint8_t *pointers[2][CHUNK]
        cdef int64_t lengths[2][CHUNK]
        cdef int32_t numbers[CHUNK]
        cdef Columns columns
        cdef View view
        cdef Py_ssize_t at = 0, n, total = len(items)
        cdef bint keyed = names is not None
        # Copies of values that are no bytes objects live until their chunk is written.
        cdef list copies = []
        memset(&columns, 0, sizeof(columns))
        memset(&view, 0, sizeof(view))
        columns.multiply = columns.divide = 1
        columns.value.kind = POINTERS
        columns.value.data = <const uint8_t *> pointers[0]
        columns.value.offsets = <const uint8_t *> lengths[0]
        columns.key.data = <const uint8_t *> pointers[1]
        columns.key.offsets = <const uint8_t *> lengths[1]
        if places is not None:
            columns.partitions = numbers
        while at < total:
            n = 0
            while n < CHUNK and at < total:
                item = <object> PyTuple_GET_ITEM(items, at)
                name = <object> PyTuple_GET_ITEM(names, at) if keyed else None
                if isinstance(item, tuple):
                    if keyed or len(<tuple> item) != 2:
                        raise TypeError(f"record {at} must be bytes, or (key, value) without keys")
                    name, item = <tuple> item
                if not plain(item, &view):
                    item = copied(item, "value", at)
                    copies.append(item)
                    plain(item, &view)
                pointers[0][n] = view.data
                lengths[0][n] = view.len
                if name is not None:
                    columns.key.kind = POINTERS
                    if not plain(name, &view):
                        name = copied(name, "key", at)
                        copies.append(name)
                        plain(name, &view)
                else:
                    view.len = -1
                    if item is None:
                        raise ValueError(f"record {at} needs a value or a key")
                pointers[1][n] = view.data
                lengths[1][n] = view.len
                if places is not None:
                    numbers[n] = places[at]
                n += 1
                at += 1
            columns.length = n
            self.append_columns(common, &columns, found)
            copies.clear()
        return 0

    def send_columns(
        self, topic, columns, key=None, partition=None, timestamp_ms=None, headers=None, acks=None
    ):
        """Sends columns of records without making an object of any, and returns one future for all:
        ``get()`` gives where they are.

        ``columns``: an Arrow array or stream of binary or text (anything with
        ``__arrow_c_array__`` or ``__arrow_c_stream__``: pyarrow, polars, duckdb); a record batch,
        table or RecordColumns with a column ``value`` and, if they are there, ``key``,
        ``timestamp`` and ``partition``; or a numpy array of dtype S (without the zeros that pad
        it) or uint8 with a row for each record. ``key``: another array of as many keys, or the
        name of the column that has them. ``partition`` and ``timestamp_ms`` stand for all records.
        Serializers and partitioners are not called. Errors are as in :meth:`send_many`.
        """
        cdef Record common
        cdef Source source
        cdef Headers taken_headers = None
        cdef Topic entry = self.entry(topic)
        if headers:
            taken_headers = Headers(headers)
        self.common(&common, entry, partition, timestamp_ms, acks, taken_headers)
        cdef FutureSendResult found = self.result(entry)
        cdef Columns batch
        for source in sources(columns, key):
            batch = source.columns
            if partition is not None:
                batch.partitions = NULL
            if timestamp_ms is not None:
                batch.times = NULL
            self.append_columns(&common, &batch, found)
        return found

    cdef FutureSendResult result(self, Topic entry):
        cdef FutureSendResult found = FutureSendResult.__new__(FutureSendResult)
        found.handle = self.core.handle
        found.keep = self.core
        found.topic = entry.name
        found.pieces = api.pieces_new()
        return found

    cdef int common(
        self, Record *record, Topic entry, object partition, object timestamp, object acks,
        Headers headers,
    ) except -1:
        memset(record, 0, sizeof(record[0]))
        record.topic = entry.number
        record.acks = self.acks if acks is None else acks_of(acks)
        self.place(record, partition, timestamp)
        if headers is not None:
            record.headers = headers.views
            record.headers_count = headers.count
        return 0

    cdef int append_columns(
        self, const Record *common, const Columns *columns, FutureSendResult found
    ) except -1:
        """Appends all records. If one cannot be, an error says how many were before it."""
        cdef const void *handle = self.core.handle
        cdef void *pieces = found.pieces
        cdef void *error = NULL
        cdef void *waiting = api.waiting_new()
        cdef size_t at = 0
        cdef int32_t code
        try:
            while True:
                with nogil:
                    code = api.append_many(
                        handle, common, columns, &at, pieces, waiting, &error
                    )
                if code != AGAIN:
                    break
                PyErr_CheckSignals()
        finally:
            api.waiting_free(handle, waiting)
            found.count += at
        if code == DONE:
            return 0
        exception = taken(error)
        if code == NO_PARTITION:
            exception = ValueError(f"record {found.count}: {exception}")
        exception.add_note(f"the {found.count} records before it are on their way")
        raise exception
