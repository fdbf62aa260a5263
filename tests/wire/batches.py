"""Record batches made by hand: every field can be set to what a broken or hostile client sends.

Written from the format alone; none of the project's own record code is used here.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import cramjam
import lz4.frame
import zstandard
from kafka.record.util import calc_crc32c

NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)
CODECS = {"none": NONE, "gzip": GZIP, "snappy": SNAPPY, "lz4": LZ4, "zstd": ZSTD}

LOG_APPEND_TIME = 0x08
TRANSACTIONAL = 0x10
CONTROL = 0x20


@dataclass(frozen=True)
class Rec:
    """One record; `None` is null, `b""` is empty."""

    value: bytes | None = b"v"
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    timestamp: int | None = None
    """Milliseconds since the epoch; the batch's base timestamp if absent."""


@dataclass(frozen=True)
class Batch:
    """What stands in a batch's header, and its records as bytes after decompression."""

    base_offset: int
    length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    count: int
    payload: bytes
    raw: bytes = field(repr=False)

    @property
    def next_offset(self) -> int:
        """The offset after this batch."""
        return self.base_offset + self.last_offset_delta + 1

    @property
    def crc_ok(self) -> bool:
        """Whether the CRC matches the bytes."""
        return calc_crc32c(self.raw[21:]) == self.crc


def varint(number: int) -> bytes:
    """A zigzag varint."""
    return uvarint((number << 1) ^ (number >> 63))


def uvarint(number: int) -> bytes:
    """An unsigned varint."""
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(0x80 | (number & 0x7F))
        number >>= 7
    out.append(number)
    return bytes(out)


def nullable(data: bytes | None) -> bytes:
    """Bytes with a varint length, -1 for null."""
    return varint(-1) if data is None else varint(len(data)) + data


def record(rec: Rec, delta: int, base_timestamp: int) -> bytes:
    """One record of a batch."""
    timestamp = base_timestamp if rec.timestamp is None else rec.timestamp
    body = b"\0" + varint(timestamp - base_timestamp) + varint(delta)
    body += nullable(rec.key) + nullable(rec.value) + varint(len(rec.headers))
    for name, value in rec.headers:
        body += varint(len(name.encode())) + name.encode() + nullable(value)
    return varint(len(body)) + body


def xerial(data: bytes, block: int = 32 * 1024) -> bytes:
    """Snappy as Java frames it."""
    out = b"\x82SNAPPY\0" + struct.pack(">ii", 1, 1)
    for at in range(0, len(data), block):
        part = bytes(cramjam.snappy.compress_raw(data[at : at + block]))
        out += struct.pack(">i", len(part)) + part
    return out


def compress(codec: int, data: bytes) -> bytes:
    """The records as `codec` stores them."""
    match codec:
        case 1:
            return gzip.compress(data)
        case 2:
            return xerial(data)
        case 3:
            return lz4.frame.compress(data, block_linked=False)
        case 4:
            return zstandard.compress(data)
    return data


def decompress(codec: int, data: bytes) -> bytes:
    """The opposite of [`compress`]; snappy with and without frames, gzip concatenated or not."""
    match codec:
        case 1:
            return gzip.decompress(data)
        case 2:
            if not data.startswith(b"\x82SNAPPY\0"):
                return bytes(cramjam.snappy.decompress_raw(data))
            out, at = b"", 16
            while at < len(data):
                (size,) = struct.unpack_from(">i", data, at)
                out += bytes(cramjam.snappy.decompress_raw(data[at + 4 : at + 4 + size]))
                at += 4 + size
            return out
        case 3:
            return bytes(lz4.frame.decompress(data))
        case 4:
            return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return data


def batch(
    records: Sequence[Rec | bytes] = (b"v",),
    *,
    codec: int = NONE,
    attributes: int = 0,
    base_timestamp: int = 1_700_000_000_000,
    max_timestamp: int | None = None,
    producer: tuple[int, int, int] = (-1, -1, -1),
    count: int | None = None,
    last_offset_delta: int | None = None,
    magic: int = 2,
    base_offset: int = 0,
    leader_epoch: int = -1,
    length: int | None = None,
    crc: int | None = None,
    payload: bytes | None = None,
) -> bytes:
    """A batch of `records` (bytes stand for a value). `producer` is id, epoch and base sequence;
    `payload` replaces the (compressed) records, the rest overrides header fields."""
    recs = [Rec(value=r) if isinstance(r, bytes) else r for r in records]
    if payload is None:
        parts = (record(rec, delta, base_timestamp) for delta, rec in enumerate(recs))
        payload = compress(codec, b"".join(parts))
    if max_timestamp is None:
        times = (base_timestamp if r.timestamp is None else r.timestamp for r in recs)
        max_timestamp = max(times, default=base_timestamp)
    body = struct.pack(
        ">hiqqqhii",
        attributes | codec,
        len(recs) - 1 if last_offset_delta is None else last_offset_delta,
        base_timestamp,
        max_timestamp,
        *producer,
        len(recs) if count is None else count,
    )
    body += payload
    crc = calc_crc32c(body) if crc is None else crc
    length = 9 + len(body) if length is None else length
    return struct.pack(">qiibI", base_offset, length, leader_epoch, magic, crc) + body


def legacy(magic: int, value: bytes = b"v") -> bytes:
    """A message set of one message in the format of magic 0 or 1."""
    import zlib

    body = struct.pack(">bb", magic, 0) + (struct.pack(">q", 0) if magic else b"")
    body += struct.pack(">ii", -1, len(value)) + value
    message = struct.pack(">I", zlib.crc32(body)) + body
    return struct.pack(">qi", 0, len(message)) + message


def parse(data: bytes | memoryview | None) -> list[Batch]:
    """The whole batches in `data`; a partial one at the end is an error of the broker's."""
    data = bytes(data or b"")
    out, at = [], 0
    while at < len(data):
        head = struct.unpack_from(">qiibIhiqqqhii", data, at)
        size = 12 + head[1]
        assert at + size <= len(data), f"a partial batch at byte {at} of {len(data)}"
        raw = data[at : at + size]
        payload = decompress(head[5] & 7, raw[61:]) if head[12] > 0 else b""
        out.append(Batch(*head, payload=payload, raw=raw))
        at += size
    return out


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    shift = result = 0
    while True:
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (result >> 1) ^ -(result & 1), at
        shift += 7


def _read_bytes(data: bytes, at: int) -> tuple[bytes | None, int]:
    size, at = _read_varint(data, at)
    return (None, at) if size < 0 else (data[at : at + size], at + size)


def records(batches: Iterable[Batch]) -> list[tuple[int, Rec]]:
    """(offset, record) of all records of `batches`."""
    out = []
    for one in batches:
        at = 0
        for _ in range(one.count):
            _, at = _read_varint(one.payload, at)
            time_delta, at = _read_varint(one.payload, at + 1)
            delta, at = _read_varint(one.payload, at)
            key, at = _read_bytes(one.payload, at)
            value, at = _read_bytes(one.payload, at)
            n, at = _read_varint(one.payload, at)
            headers = []
            for _ in range(n):
                name, at = _read_bytes(one.payload, at)
                header, at = _read_bytes(one.payload, at)
                headers.append(((name or b"").decode(), header))
            rec = Rec(value, key, tuple(headers), one.base_timestamp + time_delta)
            out.append((one.base_offset + delta, rec))
    return out
