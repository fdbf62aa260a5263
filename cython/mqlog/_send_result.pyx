"""What becomes of the records of one ``send_many`` or ``send_columns``."""

cimport cython
from libc.stdint cimport int32_t, int64_t, uint32_t

from mqlog._capi_producer cimport AGAIN, DONE, FAILED, End, PieceView, Table
from mqlog._produce_core cimport table, taken, wait_at

import time

__all__ = ["FutureSendResult", "OffsetRange", "SendResult"]

cdef const Table *api = table()


@cython.final
cdef class OffsetRange:
    """Records that lie next to each other in one partition. ``offset`` is that of the first, or -1
    if the broker did not say (acks=0)."""

    cdef readonly str topic
    cdef readonly int32_t partition
    cdef readonly int64_t offset
    cdef readonly int64_t count

    def __init__(self, topic, partition, offset, count):
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.count = count

    @property
    def next_offset(self):
        """The offset after the last record; -1 if it is not known."""
        return -1 if self.offset < 0 else self.offset + self.count

    def __eq__(self, other):
        if not isinstance(other, OffsetRange):
            return NotImplemented
        return parts(self) == parts(other)

    def __hash__(self):
        return hash(parts(self))

    def __repr__(self):
        return (
            f"OffsetRange(topic={self.topic!r}, partition={self.partition}, "
            f"offset={self.offset}, count={self.count})"
        )


cdef tuple parts(OffsetRange found):
    return (found.topic, found.partition, found.offset, found.count)


@cython.final
cdef class SendResult:
    """Where the records of one call were written. ``len()`` is how many they are."""

    cdef readonly str topic
    #: :class:`OffsetRange` of each run of records, by partition and offset.
    cdef readonly tuple ranges

    def __init__(self, topic, ranges):
        self.topic = topic
        self.ranges = tuple(ranges)

    def __len__(self):
        return sum([found.count for found in self.ranges])

    def __iter__(self):
        return iter(self.ranges)

    def __repr__(self):
        return f"SendResult({len(self)} records, ranges={list(self.ranges)!r})"


@cython.final
cdef class FutureSendResult:
    """What becomes of the records of one ``send_many`` or ``send_columns``; :meth:`get` waits."""

    def __init__(self):
        raise TypeError("futures come from KafkaProducer.send_many() and send_columns()")

    def __dealloc__(self):
        if self.pieces != NULL:
            api.pieces_free(self.pieces)

    def __len__(self):
        return self.count

    @property
    def is_done(self):
        """Whether all records have an end."""
        cdef size_t at
        cdef End end
        cdef PieceView piece
        cdef uint32_t index
        for at in range(api.pieces_count(self.pieces)):
            piece = api.piece(self.pieces, at)
            # A batch that was split ends part by part, so both ends are looked at.
            for index in (piece.first, piece.first + piece.count - 1):
                code = api.batch_end(piece.batch, index, &end)
                if code == FAILED:
                    taken(end.error)
                elif code == AGAIN:
                    return False
        return True

    def succeeded(self):
        """Whether all were written."""
        return self.is_done and self.exception is None

    def failed(self):
        """Whether any failed."""
        return self.exception is not None

    @property
    def exception(self):
        """Why some of them failed, the first error; None if none did, or not yet."""
        return self.collect()[1]

    @property
    def ranges(self):
        """An :class:`OffsetRange` for each run of records that are written by now."""
        return self.collect()[0]

    cdef tuple collect(self):
        """The ranges written, the first error, and how many records failed."""
        cdef list found = []
        cdef size_t at
        cdef int64_t failed = 0
        cdef uint32_t first, count
        cdef End end
        cdef PieceView piece
        error = None
        for at in range(api.pieces_count(self.pieces)):
            piece = api.piece(self.pieces, at)
            first = piece.first
            while first < piece.first + piece.count:
                count = self.run(&piece, first, &end)
                if count == 0:
                    break
                if end.error != NULL:
                    failed += count
                    exception = taken(end.error)
                    error = error or exception
                else:
                    found.append((piece.partition, end.offset, count))
                first += count
        found.sort()
        return merged(self.topic, found), error, failed

    cdef uint32_t run(self, const PieceView *piece, uint32_t first, End *end):
        """How many records from ``first`` on ended alike, next to each other; 0 if it has no end.
        More than one run is in a piece only if its batch was split, or a record was refused."""
        cdef End last
        cdef uint32_t high = piece.first + piece.count
        cdef int32_t code = api.batch_end(piece.batch, first, end)
        if code == AGAIN:
            return 0
        if code == DONE:
            end.error = NULL
        while high > first + 1:
            last.error = NULL
            if api.batch_end(piece.batch, high - 1, &last) == code:
                if code == FAILED:
                    taken(last.error)
                    return high - first
                if end.offset == -1 or last.offset == end.offset + high - 1 - first:
                    return high - first
            elif last.error != NULL:
                taken(last.error)
            high = first + (high - first) // 2
        return 1

    def get(self, timeout=None):
        """Their :class:`SendResult`, waited for up to ``timeout`` seconds (None: as long as it
        takes, which ``delivery_timeout_ms`` bounds). The batches are sent at once.

        Raises the first error if any record failed: a note says how many did, and ``ranges`` has
        the others. KafkaTimeoutError if not all are done in time.
        """
        cdef size_t at
        cdef PieceView piece
        until = None if timeout is None else time.monotonic() + timeout
        for at in range(api.pieces_count(self.pieces)):
            piece = api.piece(self.pieces, at)
            left = None if until is None else max(until - time.monotonic(), 0)
            for index in {piece.first, piece.first + piece.count - 1}:
                wait_at(self.handle, piece.batch, index, left, self.topic)
        ranges, error, failed = self.collect()
        if error is not None:
            error.add_note(f"{failed} of {self.count} records failed; ranges has the others")
            raise error
        return SendResult(self.topic, ranges)

    def __repr__(self):
        state = "done" if self.is_done else "pending"
        return f"<FutureSendResult {state}, {self.count} records to {self.topic}>"


cdef tuple merged(str topic, list found):
    """Ranges, those next to each other as one."""
    cdef list ranges = []
    cdef OffsetRange last = None
    for partition, offset, count in found:
        if last is not None and last.partition == partition and (
            offset == last.next_offset or offset == last.offset == -1
        ):
            last.count += count
        else:
            last = OffsetRange(topic, partition, offset, count)
            ranges.append(last)
    return tuple(ranges)
