"""Records as objects, and the part of a consumer that makes them.

What it is: :class:`Record`, and :class:`ConsumerBase`, whose ``__next__`` is C. It takes chunks of
decoded views from the core and turns them into objects; when they run out it calls ``_refill`` of
its Python subclass, which polls. What it is not: it touches no socket and decides nothing.

Who calls: one thread at a time, see ``_acquire``. What may be called by any thread at any time
(iterating without the lock, on a free-threaded interpreter too) can do no harm.
"""

cimport cython
from cpython.bytes cimport PyBytes_CheckExact, PyBytes_FromStringAndSize
from cpython.pycapsule cimport PyCapsule_GetPointer
from cpython.pythread cimport PyThread_get_thread_ident
from cpython.unicode cimport PyUnicode_CheckExact, PyUnicode_DecodeUTF8
from libc.stdint cimport INT32_MAX, int8_t, int32_t, int64_t, uint32_t, uint64_t

from mqlog._capi_consumer cimport (
    ABI_VERSION, NOTHING, SOMETHING, ChunkInfo, Mark, RecordView, Table,
)
from mqlog._columns cimport wrap_columns
from mqlog._spans cimport read_headers, write_headers

from sys import intern

from mqlog import _native
from mqlog.errors import IllegalStateError

__all__ = ["ConsumerBase", "ObjectRecord", "Record"]

# The table lives as long as the capsule, which this module keeps.
cdef object capsule = _native._CONSUMER_API
cdef const Table *api = <const Table *> PyCapsule_GetPointer(
    capsule, "mqlog._native._CONSUMER_API"
)
if api.abi_version != ABI_VERSION:
    raise ImportError(
        f"mqlog._consumer was built for function table {ABI_VERSION}, "
        f"mqlog._native has {api.abi_version}: reinstall mqlog"
    )

cdef const uint32_t *forks = api.forks()

# Records made at once stay in the cache, and their memory is used again, up to about this size.
cdef size_t CHUNK_BYTES = 512 * 1024

include "_record.pxi"


cdef class ConsumerBase:
    """What takes records. A subclass calls ``_attach`` before anything else and has ``_refill``."""

    cdef object native
    # A handle of its own: the collector may take `native` away before this object goes.
    cdef const void *consumer
    cdef const uint64_t *revision
    cdef uint32_t born
    cdef size_t poll_records
    cdef object key_from
    cdef object value_from
    cdef bint plain
    cdef object make_place
    cdef dict places

    # The chunk at hand: views[index:count] were not given out yet.
    cdef void *chunk
    cdef ChunkInfo info
    cdef const RecordView *views
    cdef size_t index
    cdef size_t count
    cdef uint64_t seen
    cdef str topic
    # Records that may still be given out before the next _refill.
    cdef size_t allowance

    # Which thread uses the consumer, and how often it has entered.
    cdef unsigned long owner
    cdef int depth
    # A deserializer runs.
    cdef bint making

    def _attach(
        self, native not None, *, max_poll_records=500, key_deserializer=None,
        value_deserializer=None, place=None,
    ):
        """Takes from a ``_native.Consumer``, at most ``max_poll_records`` records between two
        calls of ``_refill``. A deserializer is a function of the bytes (or None), or has
        ``deserialize(topic, headers, data)``. ``place(topic, partition)`` makes the keys of what
        ``_take_records`` gives; tuples without it."""
        if self.consumer != NULL:
            raise IllegalStateError("the consumer is attached already")
        self.native = native
        self.key_from = key_deserializer
        self.value_from = value_deserializer
        self.plain = key_deserializer is None and value_deserializer is None
        self.make_place = place
        self.places = {}
        self.poll_records = max(1, min(max_poll_records, INT32_MAX))
        handle = native._handle
        self.consumer = api.attach(PyCapsule_GetPointer(handle, "mqlog._native.Consumer"))
        self.born = forks[0]
        self.revision = api.revision(self.consumer)
        if self.revision == NULL:
            native.check()

    def __dealloc__(self):
        self.let_go()
        if self.consumer != NULL:
            api.close(self.consumer)

    cdef void let_go(self) noexcept:
        """Gives the chunk at hand back; in a child of a fork, leaves it."""
        self.index = self.count = 0
        if self.chunk != NULL:
            api.release(self.consumer, self.chunk)
            self.chunk = NULL

    # --- One thread at a time. ---

    def _acquire(self):
        """Enters. The same thread may nest; IllegalStateError in another one."""
        cdef unsigned long me = PyThread_get_thread_ident()
        cdef bint mine
        with cython.critical_section(self):
            mine = self.depth == 0 or self.owner == me
            if mine:
                self.owner = me
                self.depth += 1
        if not mine:
            raise IllegalStateError(
                "the consumer is used by another thread: one thread at a time may use a consumer"
            )

    cdef int enter(self) except -1:
        if self.consumer == NULL:
            raise IllegalStateError("the consumer is not attached")
        if self.making:
            raise IllegalStateError("a deserializer may not take records of its own consumer")
        if self.born != forks[0]:
            self.native.check()
        self._acquire()
        return 0

    def _release(self):
        """Leaves."""
        with cython.critical_section(self):
            if self.depth > 0:
                self.depth -= 1

    # --- Iterating. ---

    def __iter__(self):
        # Not itself: CPython finds `__next__` of a Python subclass by its name, each time.
        cdef RecordIterator iterator = RecordIterator.__new__(RecordIterator)
        iterator.consumer = self
        return iterator

    def __next__(self):
        return self.next_record()

    cdef inline Record next_record(self):
        cdef Record record = None
        with cython.critical_section(self):
            if self.index < self.count and self.plain and self.is_current():
                # First moved on, then made: nothing in between runs Python, whatever the build.
                self.index += 1
                record = self.make_plain(self.index - 1)
        if record is not None:
            return record
        return self.next_slowly()

    def _refill(self):
        """Polls, and waits for records as long as it may. False ends the iteration."""
        raise NotImplementedError("a subclass polls here")

    cdef Record next_slowly(self):
        cdef Record record
        self.enter()
        try:
            while True:
                if self.is_at_hand():
                    # The position moves when the record is made: an exception leaves it there.
                    record = self.make(self.index)
                    self.index += 1
                    return record
                self.settle()
                if self.allowance > 0 and self.fill(self.allowance):
                    self.allowance -= min(self.allowance, self.count)
                    continue
                if not self._refill():
                    raise StopIteration
                self.allowance = self.poll_records
        finally:
            self._release()

    cdef inline bint is_current(self) noexcept:
        """Whether nothing has happened since the chunk at hand was taken, and here."""
        return self.revision[0] == self.seen and forks[0] == self.born

    cdef bint is_at_hand(self) except -1:
        """Whether records of the chunk at hand may be given out."""
        if self.index == self.count:
            return False
        cdef uint64_t now = self.revision[0]
        if now == self.seen:
            return True
        if api.is_wanted(self.consumer, &self.info.mark) == SOMETHING:
            self.seen = now
            return True
        # Moved, taken away or paused. What is only paused comes again.
        self.give_back()
        return False

    cdef void give_back(self) noexcept:
        if self.index < self.count:
            api.give_back(self.consumer, &self.info.mark, self.views[self.index].offset)
        self.let_go()

    def _settle(self):
        """Makes known how far the iteration has come. To be called before positions are asked
        for."""
        self.settle()

    cdef void settle(self) noexcept:
        """Makes known how far the chunk at hand was given out."""
        if self.chunk == NULL:
            return
        if self.index > 0:
            api.advance(self.consumer, &self.info.mark, self.reached())
        if self.index == self.count:
            # It pins what it was fetched with: not while nothing is read.
            self.let_go()

    cdef bint fill(self, size_t max_records) except -1:
        """Takes the next chunk, after the one at hand was settled; False if nothing is there."""
        cdef int32_t status
        cdef uint64_t now
        self.let_go()
        # Before, so that what changes meanwhile is seen after.
        now = self.revision[0]
        with nogil:
            status = api.take(self.consumer, max_records, CHUNK_BYTES, &self.chunk, &self.info)
        if status == NOTHING:
            return False
        if status != SOMETHING:
            self.fail(status)
        self.topic = topic_name(self.info.topic, self.info.topic_size)
        self.views = self.info.views
        self.seen = now
        self.count = self.info.count
        return True

    cdef int fail(self, int32_t status) except -1:
        self.native.check()
        raise RuntimeError(f"taking records failed ({status}), which is a fault of mqlog")

    # --- Making records. ---

    cdef Record make_plain(self, size_t index):
        cdef const RecordView *view = &self.views[index]
        cdef const char *data = <const char *> self.info.data
        cdef Record record = Record.__new__(Record)
        self.describe(record, view)
        if view.key_size >= 0:
            record.plain_key = PyBytes_FromStringAndSize(data + view.key, view.key_size)
        if view.value_size >= 0:
            record.plain_value = PyBytes_FromStringAndSize(data + view.value, view.value_size)
        return record

    cdef inline int describe(self, Record record, const RecordView *view) except -1:
        record.topic = self.topic
        record.partition = self.info.partition
        record.leader_epoch = self.info.mark.epoch
        record.timestamp_type = <int8_t> self.info.timestamp_type
        record.offset = view.offset
        record.timestamp = view.timestamp
        record.serialized_key_size = view.key_size
        record.serialized_value_size = view.value_size
        record.headers_count = view.headers_count
        if view.headers_count:
            record.raw_headers = PyBytes_FromStringAndSize(
                <const char *> self.info.data + view.headers, view.headers_size
            )
        return 0

    cdef Record make(self, size_t index):
        """A record whose key and value are what the deserializers make."""
        if self.plain:
            return self.make_plain(index)
        cdef RecordView view = self.views[index]
        cdef const char *data = <const char *> self.info.data
        cdef object key = None
        cdef object value = None
        if view.key_size >= 0:
            key = PyBytes_FromStringAndSize(data + view.key, view.key_size)
        if view.value_size >= 0:
            value = PyBytes_FromStringAndSize(data + view.value, view.value_size)
        cdef Record plain = Record.__new__(Record)
        self.describe(plain, &view)
        self.making = True
        try:
            key = self.deserialize(self.key_from, plain, key, "key")
            value = self.deserialize(self.value_from, plain, value, "value")
        finally:
            self.making = False
        if is_plain(key) and is_plain(value):
            plain.plain_key = key
            plain.plain_value = value
            return plain
        cdef ObjectRecord record = ObjectRecord.__new__(ObjectRecord)
        record.topic = plain.topic
        record.raw_headers = plain.raw_headers
        record.offset = plain.offset
        record.timestamp = plain.timestamp
        record.partition = plain.partition
        record.leader_epoch = plain.leader_epoch
        record.serialized_key_size = plain.serialized_key_size
        record.serialized_value_size = plain.serialized_value_size
        record.headers_count = plain.headers_count
        record.timestamp_type = plain.timestamp_type
        record.object_key = key
        record.object_value = value
        return record

    cdef object deserialize(self, object by, Record record, object data, str what):
        if by is None:
            return data
        try:
            method = getattr(by, "deserialize", None)
            if method is None:
                return by(data)
            return method(record.topic, record.headers, data)
        except Exception as error:
            error.add_note(
                f"while deserializing the {what} of {record.topic}-{record.partition} at offset "
                f"{record.offset}; seek to {record.offset + 1} to skip it"
            )
            raise

    # --- Many at once. ---

    def _take_records(self, Py_ssize_t max_records):
        """At most so many records, as lists by place; empty if nothing is there. A record that a
        deserializer refuses ends them: its error is raised when it is the first."""
        cdef dict found = {}
        cdef list taken = []
        cdef list records
        cdef size_t left = <size_t> max(max_records, 0)
        cdef Progress progress
        self.enter()
        try:
            self.settle()
            while left > 0:
                if not self.is_at_hand():
                    if not self.fill(left):
                        break
                progress = Progress.__new__(Progress)
                progress.mark = self.info.mark
                progress.first = self.views[self.index].offset
                taken.append(progress)
                place = self.place()
                records = found.get(place)
                if records is None:
                    records = found[place] = []
                left -= self.append(records, left)
                progress.next = self.reached()
                if left > 0 and self.index < self.count:
                    break
            for progress in taken:
                api.advance(self.consumer, &progress.mark, progress.next)
            self.settle()
            return {place: records for place, records in found.items() if records}
        except BaseException:
            # Nothing was handed over: all of it comes again.
            self.let_go()
            for progress in taken:
                api.give_back(self.consumer, &progress.mark, progress.first)
            raise
        finally:
            self._release()

    cdef size_t append(self, list records, size_t most) except? 0:
        """Makes records out of the chunk at hand; ends before one that cannot be made, unless it
        is the first of all."""
        cdef size_t before = self.index
        while self.index - before < most and self.index < self.count:
            try:
                records.append(self.make(self.index))
            except Exception:
                if not records:
                    raise
                break
            self.index += 1
        return self.index - before

    cdef int64_t reached(self) noexcept:
        if self.index < self.count:
            return self.views[self.index].offset
        return self.info.next_offset

    cdef object place(self):
        key = (self.topic, self.info.partition)
        if self.make_place is None:
            return key
        place = self.places.get(key)
        if place is None:
            place = self.places[key] = self.make_place(self.topic, self.info.partition)
        return place

    def _take_columns(self, max_records=None, max_bytes=4 << 20, *, bint headers=False):
        """At most so many records and bytes (but one record at least) as RecordColumns, handed
        over; without records if nothing is there. What fits the cache costs least."""
        cdef size_t records = INT32_MAX if max_records is None else <size_t> max(max_records, 0)
        cdef size_t size = <size_t> max(max_bytes, 1)
        cdef const void *columns = NULL
        cdef int32_t status
        self.enter()
        try:
            # What the iteration did not come to comes again.
            self.settle()
            self.give_back()
            with nogil:
                status = api.take_columns(self.consumer, records, size, headers, &columns)
            if status != SOMETHING:
                self.fail(status)
            return wrap_columns(columns)
        finally:
            self._release()


@cython.final
cdef class RecordIterator:
    """Iterates a consumer."""

    cdef ConsumerBase consumer

    def __iter__(self):
        return self

    def __next__(self):
        return self.consumer.next_record()


@cython.final
cdef class Progress:
    """How far a chunk was taken."""

    cdef Mark mark
    cdef int64_t first
    cdef int64_t next


cdef str topic_name(const char *data, size_t size):
    """The same object for every record of a topic."""
    return intern(PyUnicode_DecodeUTF8(data, <Py_ssize_t> size, NULL))
