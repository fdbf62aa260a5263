"""What becomes of records that were sent.

A future is a batch and a place in it: what became of the record is looked up there when somebody
asks. Nothing else is kept for a record. The objects here are not tracked by the garbage collector:
callbacks are dropped once they were called, and every batch has an end.
"""

cimport cython
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from mqlog._capi_producer cimport AGAIN, DONE, FAILED, End, Record, Table, Where
from mqlog._produce_core cimport forked, table, taken, wait_at

import logging
import threading
from functools import partial

from mqlog.client.structs import TopicPartition
from mqlog.errors import RetriableError

__all__ = ["FutureRecordMetadata", "RecordMetadata"]

cdef const Table *api = table()
cdef object log = logging.getLogger("mqlog.client")

# What a callback wants to hear of.
cdef enum:
    SUCCESS = 1
    ERROR = 2


@cython.final
cdef class Core:
    """What a producer and its futures hold on to: the native producer, and who is to be told."""

    def __init__(self, native):
        self.native = native
        self.capsule = native._handle
        self.handle = PyCapsule_GetPointer(self.capsule, "mqlog._native.Producer")
        self.watched = {}
        self.lock = threading.Lock()

    cdef bint watch(self, PendingBatch batch) except -1:
        """Has ``batch.tell()`` called when it is done; False if it is done."""
        cdef int32_t code
        with self.lock:
            self.last_token += 1
            token = self.last_token
            self.watched[token] = batch
            if self.thread is None:
                self.thread = threading.Thread(
                    target=self.run, name="mqlog-callbacks", daemon=True
                )
                self.thread.start()
        code = api.batch_watch(self.handle, batch.handle, token)
        if code == AGAIN:
            return True
        self.watched.pop(token, None)
        if code == FAILED:
            raise forked()
        return False

    def run(self):
        """The thread that calls callbacks."""
        cdef uint64_t tokens[256]
        cdef Py_ssize_t count, at
        cdef PendingBatch batch
        while True:
            with nogil:
                count = api.completed(self.handle, tokens, 256, 3_600_000)
            if count < 0:
                break
            for at in range(count):
                batch = self.watched.pop(tokens[at], None)
                if batch is not None:
                    batch.tell()
        # All that is left was ended when the producer was closed.
        for batch in list(self.watched.values()):
            batch.tell()
        self.watched.clear()

    def join(self, timeout):
        """Waits until the thread has called all callbacks of a closed producer, in seconds."""
        thread = self.thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)
            return not thread.is_alive()
        return True


@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class PendingBatch:
    """A batch that futures point into."""

    def __dealloc__(self):
        if self.handle != NULL:
            api.batch_release(self.handle)

    cdef object place(self):
        if self.topic_partition is None:
            self.topic_partition = TopicPartition(self.topic, self.partition)
        return self.topic_partition

    cdef bint watch(self, FutureRecordMetadata future) except -1:
        """Has the future's callbacks called when the batch is done; False if it is done."""
        cdef bint first
        with cython.critical_section(self):
            if self.told:
                return False
            first = self.watchers is None
            if first:
                self.watchers = []
            self.watchers.append(future)
        if first and not self.core.watch(self):
            self.tell()
        return True

    cdef tell(self):
        cdef FutureRecordMetadata future
        cdef list watchers
        with cython.critical_section(self):
            watchers = self.watchers
            self.watchers = None
            self.told = True
        if watchers is not None:
            for future in watchers:
                future.tell()


@cython.final
@cython.no_gc
@cython.freelist(1024)
cdef class FutureRecordMetadata:
    """What becomes of one record; :meth:`get` waits for it."""

    def __init__(self):
        raise TypeError("futures come from KafkaProducer.send()")

    cdef int32_t end(self, End *end):
        if self.error is not None:
            return FAILED
        return api.batch_end(self.batch.handle, self.index, end)

    cdef RecordMetadata metadata(self, const End *end):
        cdef RecordMetadata found = RecordMetadata.__new__(RecordMetadata)
        found.batch = self.batch
        found.offset = end.offset
        found.timestamp = self.timestamp if end.log_append_time == -1 else end.log_append_time
        found.serialized_key_size = self.key_size
        found.serialized_value_size = self.value_size
        found.serialized_header_size = self.headers_size
        return found

    cdef object failure(self, const End *end):
        """A new exception each time: raising one leaves its traceback in it."""
        if self.error is not None:
            return self.error
        return taken(end.error)

    @property
    def is_done(self):
        """Whether the record has an end."""
        cdef End end
        cdef int32_t code = self.end(&end)
        if code == FAILED:
            self.failure(&end)
        return code != AGAIN

    def succeeded(self):
        """Whether it was written."""
        cdef End end
        cdef int32_t code = self.end(&end)
        if code == FAILED:
            self.failure(&end)
        return code == DONE

    def failed(self):
        """Whether it failed."""
        return self.exception is not None

    def retriable(self):
        """Whether it failed in a way that another attempt may not."""
        return isinstance(self.exception, RetriableError)

    @property
    def exception(self):
        """Why it failed; None if it did not, or not yet."""
        cdef End end
        if self.end(&end) == FAILED:
            return self.failure(&end)
        return None

    @property
    def value(self):
        """Its :class:`RecordMetadata`; None if it failed, or is not done."""
        cdef End end
        if self.end(&end) == DONE:
            return self.metadata(&end)
        return None

    def get(self, timeout=None):
        """Its :class:`RecordMetadata`, waited for up to ``timeout`` seconds (None: as long as it
        takes, which ``delivery_timeout_ms`` bounds). Its batch is sent at once.

        Raises what the record failed with; KafkaTimeoutError if it is not done in time.
        """
        cdef End end
        cdef int32_t code = self.end(&end)
        if code == AGAIN:
            wait_at(
                self.batch.core.handle, self.batch.handle, self.index, timeout, self.batch.topic
            )
            code = self.end(&end)
        if code == DONE:
            return self.metadata(&end)
        raise self.failure(&end)

    def add_callback(self, f, *args, **kwargs):
        """Calls ``f(*args, metadata, **kwargs)`` once the record is written: at once if it is
        already, else in the producer's callback thread. What ``f`` raises is logged."""
        return self.add(SUCCESS, partial(f, *args, **kwargs) if args or kwargs else f)

    def add_errback(self, f, *args, **kwargs):
        """Calls ``f(*args, exception, **kwargs)`` once the record failed; see
        :meth:`add_callback`."""
        return self.add(ERROR, partial(f, *args, **kwargs) if args or kwargs else f)

    def add_both(self, f, *args, **kwargs):
        """Calls ``f`` with the metadata or the exception; see :meth:`add_callback`."""
        return self.add(SUCCESS | ERROR, partial(f, *args, **kwargs) if args or kwargs else f)

    cdef FutureRecordMetadata add(self, int wanted, object f):
        cdef bint first
        with cython.critical_section(self):
            first = self.wanted == 0
            if first:
                self.wanted = wanted
                self.callback = f
            else:
                if self.more is None:
                    self.more = []
                self.more.append((wanted, f))
        if self.error is not None or (not first and self.batch.told):
            self.tell()
        elif first and not self.batch.watch(self):
            self.tell()
        return self

    cdef tell(self):
        """Calls the callbacks, each once."""
        cdef End end
        cdef list more
        cdef int wanted, kind
        cdef int32_t code = self.end(&end)
        if code == AGAIN:
            return
        with cython.critical_section(self):
            wanted, f, more = self.wanted, self.callback, self.more
            # What is added from now on is called at once.
            self.wanted, self.callback, self.more = 0, None, None
        result = self.metadata(&end) if code == DONE else self.failure(&end)
        kind = SUCCESS if code == DONE else ERROR
        if wanted & kind:
            self.call(f, result)
        if more is not None:
            for wanted, f in more:
                if wanted & kind:
                    self.call(f, result)

    cdef call(self, f, result):
        try:
            f(result)
        except Exception:
            log.exception(
                "a callback of a record of %s raised; that changes nothing for the record",
                self.batch.topic if self.batch is not None else "a topic",
            )

    def __repr__(self):
        cdef End end
        cdef int32_t code = self.end(&end)
        if code == FAILED:
            return f"<FutureRecordMetadata failed: {self.failure(&end)!r}>"
        state = f"at offset {end.offset}" if code == DONE else "pending"
        return f"<FutureRecordMetadata {state} in {self.batch.topic}-{self.batch.partition}>"


cdef FutureRecordMetadata future(
    PendingBatch batch, const Where *where, const Record *record, int32_t headers_size
):
    """The future of a record that was appended."""
    cdef FutureRecordMetadata made = FutureRecordMetadata.__new__(FutureRecordMetadata)
    made.batch = batch
    made.index = where.index
    made.timestamp = where.timestamp
    made.key_size = <int32_t> record.key.len
    made.value_size = <int32_t> record.value.len
    made.headers_size = headers_size
    return made


cdef FutureRecordMetadata failed(object error):
    """The future of a record that has no batch."""
    cdef FutureRecordMetadata made = FutureRecordMetadata.__new__(FutureRecordMetadata)
    made.error = error
    return made


cdef PendingBatch pending(Core core, const Where *where, object topic):
    """A batch that was handed over."""
    cdef PendingBatch made = PendingBatch.__new__(PendingBatch)
    made.core = core
    made.handle = where.batch
    made.topic = topic
    made.partition = where.partition
    return made


@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class RecordMetadata:
    """Where a record is. Iterates and compares as kafka-python's tuple of the same fields.

    ``offset`` is -1 if the broker did not say (acks=0). ``timestamp`` is in milliseconds since
    1970: the record's, or the broker's where the topic says LogAppendTime. The sizes are bytes of
    the serialized key, value and headers, -1 without.
    """

    _fields = (
        "topic", "partition", "topic_partition", "offset", "timestamp", "checksum",
        "serialized_key_size", "serialized_value_size", "serialized_header_size",
    )

    def __init__(self):
        raise TypeError("metadata comes from FutureRecordMetadata.get()")

    @property
    def topic(self):
        """The topic."""
        return self.batch.topic

    @property
    def partition(self):
        """The partition."""
        return self.batch.partition

    @property
    def topic_partition(self):
        """Both."""
        return self.batch.place()

    @property
    def checksum(self):
        """None: records have none since Kafka 0.11."""
        return None

    def _asdict(self):
        """The fields by name."""
        return dict(zip(self._fields, self))

    def __iter__(self):
        return iter(fields(self))

    def __len__(self):
        return len(self._fields)

    def __getitem__(self, at):
        return fields(self)[at]

    def __eq__(self, other):
        if isinstance(other, RecordMetadata):
            return fields(self) == fields(other)
        return fields(self) == other if isinstance(other, tuple) else NotImplemented

    def __hash__(self):
        return hash(fields(self))

    def __repr__(self):
        shown = ", ".join([f"{name}={value!r}" for name, value in self._asdict().items()])
        return f"RecordMetadata({shown})"


cdef tuple fields(RecordMetadata found):
    return (
        found.batch.topic, found.batch.partition, found.batch.place(), found.offset,
        found.timestamp, None, found.serialized_key_size, found.serialized_value_size,
        found.serialized_header_size,
    )
