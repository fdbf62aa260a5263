"""Reading segment files offline, a batch at a time, whatever is in them.

    for item in walk(path):        # Batch where the bytes are a batch, Damage where they are not

A damaged range reaches from the first bytes that are no valid batch to the next that begin one.
Memory is bounded by the largest batch, not by the file. Nothing is ever written.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mqlog._records import Batch, CorruptBatch, iter_batches
from mqlog.errors import UsageError

HEADER_BYTES = 61
MAGIC_AT = 16
#: Read at once; a larger batch is read alone.
WINDOW_BYTES = 4 << 20
SEGMENT = re.compile(r"^\d{20}\.log$")


@dataclass(frozen=True, slots=True)
class Damage:
    """A range of a segment file that holds no valid batch, in bytes from the file's start."""

    start: int
    end: int
    problem: str
    #: Offset that the first lost record would have had, if the range begins where a batch ended.
    expected_offset: int | None
    #: Nothing valid follows: a torn tail if the broker was killed, cut off at its next start.
    at_end: bool


@dataclass(frozen=True, slots=True)
class Placed:
    """A valid batch and where in the file it begins."""

    position: int
    batch: Batch


def segment_files(path: str) -> list[Path]:
    """The segments that PATH means: itself, or all below a directory, in order of their names.

    UsageError if there is none.
    """
    given = Path(path)
    if not given.is_dir():
        return [given]
    found = sorted(file for file in given.rglob("*.log") if SEGMENT.match(file.name))
    if not found:
        raise UsageError(f"{path}: no segment files (20 digits and .log) in this directory")
    return found


def walk(path: Path) -> Iterator[Placed | Damage]:
    """All of a segment file, in order. OSError if it cannot be read."""
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        position = 0
        expected = int(path.stem) if SEGMENT.match(path.name) else None
        while position < size:
            problem = None
            try:
                for placed in _valid_from(file, position, size):
                    yield placed
                    position = placed.position + placed.batch.size
                    expected = placed.batch.next_offset
            except CorruptBatch as error:
                problem = error.args[0]
            if position >= size:
                return
            found = _next_valid(file, position + 1, size)
            yield Damage(
                position,
                size if found is None else found,
                problem or "the batch that begins here reaches past the end of the file",
                expected,
                found is None,
            )
            if found is None:
                return
            position, expected = found, None


def _valid_from(file: BinaryIO, position: int, size: int) -> Iterator[Placed]:
    """Batches from `position` on, until one reaches past the end of the file.

    CorruptBatch at one that is not valid.
    """
    want = WINDOW_BYTES
    while position < size:
        data = os.pread(file.fileno(), min(want, size - position), position)
        used = 0
        for batch in iter_batches(data):
            _check(batch)
            yield Placed(position + used, batch)
            used += batch.size
        position += used
        want = WINDOW_BYTES
        if not used:
            want = _length(data)
            if len(data) < HEADER_BYTES or want > size - position:
                return


def _length(data: bytes) -> int:
    """The size of the batch that begins here, as its header tells it."""
    return 12 + int.from_bytes(data[8:12], "big", signed=True)


def _check(batch: Batch) -> None:
    """What a batch must be beside its checksum."""
    offsets = batch.last_offset_delta + 1
    if batch.records_count > offsets:  # fewer are what compaction leaves
        problem = f"it counts {batch.records_count} records in {offsets} offsets"
        raise CorruptBatch(problem, batch.position)
    if batch.base_offset < 0 or batch.last_offset_delta < 0:
        raise CorruptBatch(f"its base offset is {batch.base_offset}", batch.position)


def _next_valid(file: BinaryIO, position: int, size: int) -> int | None:
    """Where the next valid batch begins, at `position` or after; None if there is none."""
    while position + HEADER_BYTES <= size:
        data = os.pread(file.fileno(), min(WINDOW_BYTES, size - position), position)
        last = len(data) - HEADER_BYTES
        # Magic 2 at its place is the cheap test; length and checksum decide.
        at = data.find(b"\x02", MAGIC_AT)
        while at >= 0 and at - MAGIC_AT <= last:
            start = at - MAGIC_AT
            if _is_valid(file, position + start, size, data[start : start + HEADER_BYTES]):
                return position + start
            at = data.find(b"\x02", at + 1)
        position += last + 1
    return None


def _is_valid(file: BinaryIO, position: int, size: int, header: bytes) -> bool:
    length = _length(header)
    if not HEADER_BYTES <= length <= size - position:
        return False
    if header[0] & 0x80 or header[21] != 0:
        return False  # a negative offset; attributes have no high byte
    try:
        (batch,) = iter_batches(os.pread(file.fileno(), length, position))
        _check(batch)
    except ValueError:
        return False
    return True
