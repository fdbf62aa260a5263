"""The log of one partition of the scripted broker: appends as Kafka does, keeps all of it."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from mqlog import _records

#: Everything of a batch before its records; offsets and epoch lie outside the CRC.
HEADER = struct.Struct(">qiibIhiqqqhii")
WINDOW = 5

CORRUPT_MESSAGE = 2
OFFSET_OUT_OF_RANGE = 1
OUT_OF_ORDER_SEQUENCE_NUMBER = 45
INVALID_PRODUCER_EPOCH = 47
INVALID_RECORD = 87


@dataclass(frozen=True)
class Stored:
    """One batch as it lies in the log."""

    base: int
    last: int
    max_timestamp: int
    producer: tuple[int, int, int]
    """Producer id, epoch, first sequence; -1 each without idempotence."""
    data: bytes = field(repr=False)


@dataclass
class _Producer:
    epoch: int
    batches: list[tuple[int, int, int]] = field(default_factory=list)
    """(first sequence, last sequence, base offset) of the last WINDOW batches."""


def _after(sequence: int, steps: int) -> int:
    """Sequences wrap from 2^31 - 1 to 0."""
    return (sequence + steps) & 0x7FFF_FFFF


class PartitionLog:
    """Not locked: the cluster's lock is held by who calls."""

    def __init__(self) -> None:
        self.batches: list[Stored] = []
        self.start = 0
        self.end = 0
        self.epochs: list[tuple[int, int]] = []
        """(leader epoch, its first offset), rising."""
        self.refused: list[tuple[int, tuple[int, int, int]]] = []
        """(error code, producer) of each batch that was not appended: for the tests to look at."""
        self._producers: dict[int, _Producer] = {}

    def append(self, records: bytes | None, leader_epoch: int) -> tuple[int, int]:
        """The error code and the base offset; one batch or more, all or none."""
        if not records:
            return INVALID_RECORD, -1
        position, first = 0, -1
        while position < len(records):
            if len(records) - position < HEADER.size:
                return CORRUPT_MESSAGE, -1
            size = struct.unpack_from(">i", records, position + 8)[0] + 12
            batch = records[position : position + size]
            if size < HEADER.size or len(batch) < size:
                return CORRUPT_MESSAGE, -1
            error, base = self._append_one(batch, leader_epoch)
            if error:
                return error, -1
            first = base if first < 0 else first
            position += size
        return 0, first

    def _append_one(self, batch: bytes, leader_epoch: int) -> tuple[int, int]:
        fields = HEADER.unpack_from(batch)
        magic, crc, last_delta = fields[3], fields[4], fields[6]
        max_timestamp, count = fields[8], fields[12]
        producer = fields[9:12]
        if magic != 2 or _records.crc32c(batch[21:]) != crc or count != last_delta + 1:
            return CORRUPT_MESSAGE, -1
        if producer[0] >= 0:
            error, duplicate_of = self._check(producer, count)
            if error:
                self.refused.append((error, producer))
            if error or duplicate_of is not None:
                return error, -1 if duplicate_of is None else duplicate_of
        base = self.end
        data = struct.pack(">q", base) + batch[8:12] + struct.pack(">i", leader_epoch) + batch[16:]
        self.batches.append(Stored(base, base + last_delta, max_timestamp, producer, data))
        self.end = base + count
        if not self.epochs or self.epochs[-1][0] < leader_epoch:
            self.epochs.append((leader_epoch, base))
        if producer[0] >= 0:
            window = self._producers[producer[0]].batches
            window.append((producer[2], _after(producer[2], count - 1), base))
            del window[:-WINDOW]
        return 0, base

    def _check(self, producer: tuple[int, int, int], count: int) -> tuple[int, int | None]:
        """The error code; the base offset of the batch that this one repeats, if it does."""
        producer_id, epoch, sequence = producer
        known = self._producers.get(producer_id)
        if known is None:
            # Nothing is known of it, as after retention: any number may come first.
            self._producers[producer_id] = _Producer(epoch)
            return 0, None
        if epoch < known.epoch:
            return INVALID_PRODUCER_EPOCH, None
        if epoch > known.epoch:
            if sequence != 0:
                return OUT_OF_ORDER_SEQUENCE_NUMBER, None
            self._producers[producer_id] = _Producer(epoch)
            return 0, None
        for first, last, base in known.batches:
            if (first, last) == (sequence, _after(sequence, count - 1)):
                return 0, base
        if known.batches and sequence != _after(known.batches[-1][1], 1):
            return OUT_OF_ORDER_SEQUENCE_NUMBER, None
        return 0, None

    def read(self, offset: int, max_bytes: int) -> tuple[int, bytes]:
        """Whole batches from the one that holds `offset` on; the first whatever its size."""
        if not self.start <= offset <= self.end:
            return OFFSET_OUT_OF_RANGE, b""
        out, size = [], 0
        for batch in self.batches:
            if batch.last < offset:
                continue
            if out and size + len(batch.data) > max_bytes:
                break
            out.append(batch.data)
            size += len(batch.data)
        return 0, b"".join(out)

    def records(self) -> list[tuple[int, bytes | None, bytes | None]]:
        """(offset, key, value) of every record."""
        return [
            (record.offset, record.key, record.value)
            for stored in self.batches
            for batch in _records.decode_batches(stored.data)
            for record in batch.records()
        ]

    def values(self) -> list[bytes | None]:
        """The values, in order."""
        return [value for _, _, value in self.records()]

    def offset_for(self, timestamp: int) -> tuple[int, int]:
        """(timestamp, offset) as ListOffsets answers; -1 for the end, -2 for the beginning."""
        if timestamp == -1:
            return -1, self.end
        if timestamp == -2:
            return -1, self.start
        for stored in self.batches:
            if stored.max_timestamp >= timestamp:
                for batch in _records.decode_batches(stored.data):
                    for record in batch.records():
                        if record.timestamp >= timestamp and record.offset >= self.start:
                            return record.timestamp, record.offset
        return -1, -1

    def epoch_end(self, epoch: int) -> tuple[int, int]:
        """(epoch, end offset): the greatest epoch not above this one, and where it ends."""
        found = [one for one in self.epochs if one[0] <= epoch]
        if not found:
            return -1, -1
        later = [one[1] for one in self.epochs if one[0] > epoch]
        return found[-1][0], later[0] if later else self.end

    def truncate(self, offset: int) -> None:
        """Lose everything from `offset` on, as a leader elected uncleanly would."""
        self.batches = [one for one in self.batches if one.last < offset]
        self.end = self.batches[-1].last + 1 if self.batches else self.start
        self.epochs = [one for one in self.epochs if one[1] < self.end]
        self._producers.clear()
