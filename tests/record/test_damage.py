"""Damaged bytes: refused with CorruptBatch and its position, never anything worse."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqlog import _native, _records

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
RECORDS = [
    (1_000 + i, b"key", b"value %d " % i * i, [("h", None), ("h", b"x"), ("", b"")])
    for i in range(30)
]


def resealed(batch: bytes) -> bytes:
    """Length and checksum made right again, so that what is inside gets looked at."""
    length = struct.pack(">i", len(batch) - 12)
    crc = struct.pack(">I", _records.crc32c(batch[21:]))
    return batch[:8] + length + batch[12:17] + crc + batch[21:]


def refusal(data: bytes) -> _records.CorruptBatch | None:
    """Reads all there is to read; the error it ended with. Any other exception passes."""
    try:
        for batch in _records.decode_batches(data, check_crc=False):
            for record in batch.records(max_uncompressed=1 << 20):
                assert len(record.headers) <= len(data) + (1 << 20)
                repr(record)
    except _records.CorruptBatch as error:
        return error
    return None


@pytest.mark.parametrize("codec", CODECS)
def test_any_flipped_byte_breaks_the_checksum(codec: str) -> None:
    good = _native.build_batch(RECORDS, codec)
    for at in range(17, len(good)):
        bad = good + good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
        batches = _records.iter_batches(bad)
        assert next(batches).records_count == len(RECORDS)
        with pytest.raises(_records.CorruptBatch, match="CRC32C") as caught:
            next(batches)
        assert caught.value.position == len(good)
        (_, unchecked) = _records.decode_batches(bad, check_crc=False)
        assert not unchecked.crc_is_valid


@pytest.mark.parametrize("codec", CODECS)
def test_mutations_raise_nothing_else(codec: str) -> None:
    chance = random.Random(f"seed {codec}")
    good = _native.build_batch(RECORDS, codec)
    refused = 0
    for _ in range(4_000):
        bad = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(21, len(bad))
            match chance.randrange(4):
                case 0:
                    bad[at] ^= 1 << chance.randrange(8)
                case 1:
                    bad[at : at + chance.randrange(10)] = b"\xff" * chance.randrange(10)
                case 2:
                    bad[at:] = bad[at : max(at, len(bad) - chance.randrange(20))]
                case _:
                    bad[at:at] = chance.randbytes(chance.randrange(5))
            bad.extend(bytes(max(0, 61 - len(bad))))
        error = refusal(resealed(bytes(bad)))
        if error is not None:
            refused += 1
            assert error.position == 0
            assert str(error).startswith("batch at byte 0: ")
    assert refused > 1_000


@given(st.binary(max_size=300))
def test_garbage(data: bytes) -> None:
    error = refusal(data)
    assert error is None or 0 <= error.position <= len(data)


def test_cut_tail_ends_the_walk() -> None:
    batch = _native.build_batch(RECORDS)
    for cut in range(len(batch)):
        (whole,) = _records.decode_batches(batch + batch[:cut])
        assert whole.position + whole.size == len(batch)


@pytest.mark.parametrize("codec", CODECS[1:])
def test_bombs_stop_at_the_limit(codec: str) -> None:
    data = _native.build_batch([(0, None, bytes(20 << 20), [])], codec)
    assert len(data) < 2 << 20
    (batch,) = _records.decode_batches(data)
    with pytest.raises(_records.CorruptBatch, match=f"{codec} .* more than 1048576 bytes"):
        batch.records(max_uncompressed=1 << 20)
    assert len(batch.records()) == 1


def test_old_formats_and_impossible_lengths() -> None:
    good = _native.build_batch(RECORDS)
    for magic in (0, 1, 3):
        with pytest.raises(_records.CorruptBatch, match=f"magic is {magic}"):
            _records.decode_batches(good[:16] + bytes([magic]) + good[17:])
    for length in (-1, 0, 48, -(2**31)):
        with pytest.raises(_records.CorruptBatch, match=f"length field is {length},"):
            _records.decode_batches(good[:8] + struct.pack(">i", length) + good[12:])


@pytest.mark.parametrize("number", [5, 6, 7])
def test_unknown_codecs(number: int) -> None:
    good = _native.build_batch(RECORDS)
    (batch,) = _records.decode_batches(resealed(good[:22] + bytes([number]) + good[23:]))
    with pytest.raises(_records.CorruptBatch, match=f"codec {number} does not exist"):
        batch.records()


def test_sources_of_bytes() -> None:
    good = _native.build_batch(RECORDS, "lz4")
    mutable = bytearray(good)
    for data in (good, mutable, memoryview(good), memoryview(good + b"tail")[: len(good)]):
        (batch,) = _records.decode_batches(data)
        assert batch.size == len(good)
    (batch,) = _records.decode_batches(mutable)
    mutable[:] = bytes(len(mutable))
    assert len(batch.records()) == len(RECORDS)
    with pytest.raises(TypeError):
        _records.decode_batches("text")  # type: ignore[arg-type]


def test_objects_come_from_the_decoder_only() -> None:
    for make in (_records.Record, _records.Batch):
        with pytest.raises(TypeError, match="come from"):
            make()


def test_names_that_are_not_utf8_survive() -> None:
    good = _native.build_batch([(0, None, None, [("ab", b"")])])
    bad = resealed(good.replace(b"ab", b"\xff\xfe"))
    (record,) = _records.decode_batches(bad)[0].records()
    ((name, _),) = record.headers
    assert name.encode("utf-8", "surrogateescape") == b"\xff\xfe"
