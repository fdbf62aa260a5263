"""Both ways against independent code: kafka-python's record classes, zstandard, lz4, cramjam, gzip.

What they write we read, what we write they read.
"""

from __future__ import annotations

import gzip
import struct
from typing import Any

import cramjam
import crc32c as crc32c_oracle
import lz4.frame
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from mqlog import _native, _records

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]

blobs = st.binary(max_size=60) | st.builds(
    lambda part, times: part * times, st.binary(max_size=20), st.integers(0, 2000)
)
# Deltas of timestamps must fit kafka-python's 64-bit varint.
timestamps = st.integers(-(2**40), 2**60)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
headers = st.lists(st.tuples(names, st.none() | blobs), max_size=4)
record_lists = st.lists(
    st.tuples(timestamps, st.none() | blobs, st.none() | blobs, headers), min_size=1, max_size=12
)


def contents(records: Any) -> list[Any]:
    return [(r.offset, r.timestamp, r.key, r.value, list(r.headers)) for r in records]


def expected(base_offset: int, records: list[Any]) -> list[Any]:
    return [(base_offset + i, *record) for i, record in enumerate(records)]


@given(record_lists, st.sampled_from(CODECS), st.booleans())
def test_kafka_python_writes_we_read(records: list[Any], codec: str, idempotent: bool) -> None:
    producer = (2**40, 7, 2**31 - 1) if idempotent else (-1, -1, -1)
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=CODECS.index(codec),
        is_transactional=idempotent,
        producer_id=producer[0],
        producer_epoch=producer[1],
        base_sequence=producer[2],
        batch_size=1 << 30,
    )
    for i, (timestamp, key, value, pairs) in enumerate(records):
        builder.append(i, timestamp, key, value, pairs)
    (batch,) = _records.decode_batches(builder.build())
    assert contents(batch.records()) == expected(0, records)
    assert (batch.producer_id, batch.producer_epoch, batch.base_sequence) == producer
    assert batch.is_transactional == idempotent
    assert batch.max_timestamp == max(record[0] for record in records)


@given(record_lists, st.sampled_from(CODECS), st.integers(0, 2**61))
def test_we_write_kafka_python_reads(records: list[Any], codec: str, base_offset: int) -> None:
    data = _native.build_batch(
        records, codec, base_offset=base_offset, leader_epoch=3, producer_id=5, producer_epoch=1,
        base_sequence=8,
    )  # fmt: skip
    batch = DefaultRecordBatch(data)
    assert batch.validate_crc()
    assert (batch.size_in_bytes, batch.leader_epoch) == (len(data), 3)
    assert (batch.producer_id, batch.producer_epoch, batch.base_sequence) == (5, 1, 8)
    assert batch.max_timestamp == max(record[0] for record in records)
    assert contents(batch) == expected(base_offset, records)


@pytest.mark.parametrize("commit", [True, False])
def test_kafka_python_reads_our_markers(commit: bool) -> None:
    data = _native.build_control_batch(
        commit=commit, producer_id=77, producer_epoch=3, coordinator_epoch=9, timestamp=1_000
    )
    batch = DefaultRecordBatch(data)
    assert batch.validate_crc()
    assert (batch.is_control_batch, batch.is_transactional) == (True, True)
    assert (batch.producer_id, batch.producer_epoch, batch.base_sequence) == (77, 3, -1)
    (record,) = batch
    assert (record.commit, record.abort, record.timestamp) == (commit, not commit, 1_000)
    assert record.value == struct.pack(">hi", 0, 9)


def test_kafka_python_reads_our_append_time() -> None:
    records = [(5, None, b"a", []), (9, None, b"b", [])]
    data = _native.build_batch(records, "lz4", transactional=True, log_append_time=1_234)
    batch = DefaultRecordBatch(data)
    assert batch.validate_crc()
    assert (batch.timestamp_type, batch.is_transactional) == (1, True)
    assert [(r.timestamp, r.timestamp_type) for r in batch] == [(1_234, 1)] * 2


def recompressed(codec: str, body: bytes, batch: bytes) -> bytes:
    """``batch``, its records section replaced by ``body``, which is in the format of ``codec``."""
    tail = struct.pack(">h", CODECS.index(codec)) + batch[23:61] + body
    length = struct.pack(">i", 49 + len(body))
    crc = struct.pack(">I", crc32c_oracle.crc32c(tail))
    return batch[:8] + length + batch[12:17] + crc + tail


def xerial(data: bytes, block: int) -> bytes:
    out = b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1)
    for at in range(0, len(data), block):
        packed = bytes(cramjam.snappy.compress_raw(data[at : at + block]))
        out += struct.pack(">i", len(packed)) + packed
    return out


def lz4_frame(linked: bool, checksum: bool, size: bool) -> Any:
    return lambda data: lz4.frame.compress(
        data,
        block_linked=linked,
        content_checksum=checksum,
        block_checksum=checksum,
        store_size=size,
        block_size=lz4.frame.BLOCKSIZE_MAX64KB,
    )


def zstd_stream(data: bytes) -> bytes:
    stream = zstandard.ZstdCompressor(level=7, write_checksum=True).compressobj()
    return stream.compress(data) + stream.flush()


WRITERS: list[tuple[str, str, Any]] = [
    ("gzip", "stdlib", gzip.compress),
    ("gzip", "members", lambda d: gzip.compress(d[:9]) + gzip.compress(b"") + gzip.compress(d[9:])),
    ("gzip", "cramjam", lambda d: bytes(cramjam.gzip.compress(d))),
    ("snappy", "raw", lambda d: bytes(cramjam.snappy.compress_raw(d))),
    ("snappy", "xerial", lambda d: xerial(d, 32 * 1024)),
    ("snappy", "small-blocks", lambda d: xerial(d, 100)),
    ("lz4", "independent", lz4_frame(False, False, False)),
    ("lz4", "checksums", lz4_frame(False, True, True)),
    ("lz4", "linked", lz4_frame(True, True, False)),
    ("lz4", "cramjam", lambda d: bytes(cramjam.lz4.compress(d))),
    ("zstd", "sized", zstandard.ZstdCompressor(level=3).compress),
    ("zstd", "stream", zstd_stream),
    ("zstd", "frames", lambda d: zstd_stream(d[:9]) + zstandard.compress(d[9:])),
    ("zstd", "cramjam", lambda d: bytes(cramjam.zstd.compress(d))),
]


@pytest.mark.parametrize(("codec", "writer", "pack"), WRITERS, ids=lambda v: str(v)[:20])
@given(records=record_lists, padding=st.integers(0, 300_000))
@settings(max_examples=20)
def test_foreign_compression_is_read(
    codec: str, writer: str, pack: Any, records: list[Any], padding: int
) -> None:
    records = [*records, (0, None, b"0123456789abcdef" * (padding // 16), [])]
    plain = _native.build_batch(records)
    (batch,) = _records.decode_batches(recompressed(codec, pack(plain[61:]), plain))
    assert batch.codec == codec, writer
    assert contents(batch.records()) == expected(0, records)


def unxerial(data: bytes) -> bytes:
    assert data[:16] == b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1)
    out, at = b"", 16
    while at < len(data):
        (length,) = struct.unpack_from(">i", data, at)
        out += bytes(cramjam.snappy.decompress_raw(data[at + 4 : at + 4 + length]))
        at += 4 + length
    return out


READERS: dict[str, list[Any]] = {
    "gzip": [gzip.decompress, lambda d: bytes(cramjam.gzip.decompress(d))],
    "snappy": [unxerial],
    "lz4": [lz4.frame.decompress, lambda d: bytes(cramjam.lz4.decompress(d))],
    "zstd": [
        lambda d: zstandard.ZstdDecompressor().decompressobj().decompress(d),
        lambda d: bytes(cramjam.zstd.decompress(d)),
    ],
}


@pytest.mark.parametrize("codec", READERS)
@given(records=record_lists, padding=st.integers(0, 300_000))
@settings(max_examples=20)
def test_our_compression_is_read(codec: str, records: list[Any], padding: int) -> None:
    records = [*records, (0, None, b"0123456789abcdef" * (padding // 16), [])]
    body = _native.build_batch(records)[61:]
    packed = _native.build_batch(records, codec)[61:]
    for unpack in READERS[codec]:
        assert unpack(packed) == body


def test_lz4_blocks_are_independent() -> None:
    data = _native.build_batch([(0, None, b"0123456789" * 20_000, [])], "lz4")
    info = lz4.frame.get_frame_info(data[61:])
    assert not info["block_linked"]
    assert not info["content_checksum"]


@given(st.binary(max_size=3000))
def test_crc(data: bytes) -> None:
    assert _records.crc32c(data) == crc32c_oracle.crc32c(data)
