"""Record batches damaged where it matters: lengths, varints, counts, codecs; with a valid CRC.

A batch whose CRC is wrong is refused by its checksum; these get past it, into the decoder.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

import cramjam

from mqlog import _native, _records

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
HEADER = 61
#: A varint's value that means trouble somewhere.
NUMBERS = (
    *(0, 1, -1, -2, 63, 64, -64, -65, 127, 128, 8191, 8192, 2**20, 2**31 - 1, 2**31, -(2**31)),
    *(-(2**31) - 1, 2**32, 2**62, 2**63 - 1, -(2**63)),
)
COUNTS = (0, 1, 2, -1, 3, 4, 5, 255, 65_536, 2**31 - 1, -(2**31))


def zigzag(number: int) -> bytes:
    """A varint."""
    left = ((number << 1) ^ (number >> 63)) & (2**64 - 1)
    out = bytearray()
    while left > 127:
        out.append(left & 127 | 128)
        left >>= 7
    out.append(left)
    return bytes(out)


def varint_at(data: bytes, at: int) -> tuple[int, int]:
    """The number at a place, and where it ends."""
    shift = value = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return (value >> 1) ^ -(value & 1), at


def varints(payload: bytes, count: int) -> Iterator[tuple[int, int]]:
    """Where every varint of a records section begins and ends."""
    at = 0
    for _ in range(count):
        spans = []
        length, end = varint_at(payload, at)
        spans.append((at, end))
        stop = end + length
        at = end + 1  # attributes
        for _ in range(2):  # timestamp and offset
            _, end = varint_at(payload, at)
            spans.append((at, end))
            at = end
        for _ in range(2):  # key and value
            size, end = varint_at(payload, at)
            spans.append((at, end))
            at = end + max(size, 0)
        headers, end = varint_at(payload, at)
        spans.append((at, end))
        at = end
        for _ in range(2 * headers):
            size, end = varint_at(payload, at)
            spans.append((at, end))
            at = end + max(size, 0)
        assert at == stop
        yield from spans


def resealed(batch: bytes) -> bytes:
    """With the length and the CRC that fit its bytes."""
    tail = batch[21:]
    length = struct.pack(">i", len(batch) - 12)
    return batch[:8] + length + batch[12:17] + struct.pack(">I", _records.crc32c(tail)) + tail


def packed(codec: str, payload: bytes) -> bytes:
    """A records section compressed as Kafka has it."""
    if codec == "gzip":
        return bytes(cramjam.gzip.compress(payload, 1))
    if codec == "snappy":
        body = bytes(cramjam.snappy.compress_raw(payload))
        head = b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1)
        return head + struct.pack(">i", len(body)) + body
    if codec == "lz4":
        return bytes(cramjam.lz4.compress(payload))
    return bytes(cramjam.zstd.compress(payload, 1)) if codec == "zstd" else payload


class Mutant:
    """A stream of damaged batches; the same seed makes the same ones."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._shapes = []
        for number in range(6):
            rng = random.Random(number)
            records = [
                (
                    1_000 + index * rng.randrange(-5, 70_000),
                    rng.choice((None, b"", b"key", bytes(70))),
                    rng.choice((None, b"", b"value", bytes(range(200)))),
                    [("h", b"1"), ("", None), ("name", b"")][: rng.randrange(4)],
                )
                for index in range(rng.choice((1, 2, 5, 70)))
            ]
            batch = _native.build_batch(records)
            spans = list(varints(batch[HEADER:], len(records)))
            self._shapes.append((batch[:HEADER], batch[HEADER:], spans))

    def batch(self) -> bytes:
        """The next one."""
        rng = self._random
        head, payload, spans = rng.choice(self._shapes)
        number = min(rng.randrange(12), 4)  # most are not compressed: those are decoded deepest
        codec = CODECS[(number + 1) % 5] if number < 4 else "none"
        for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
            payload = self._payload(payload, spans)
        section = packed(codec, payload)
        if codec != "none" and rng.randrange(3) == 0:
            section = self._bytes(section)
        attributes = CODECS.index(codec)
        if rng.randrange(30) == 0:
            attributes = rng.choice((5, 6, 7, 8, 16, 32, 48, 0xFF, -1))
        head = head[:21] + struct.pack(">h", attributes) + head[23:]
        if rng.randrange(5) == 0:
            head = self._header(head)
        return resealed(head + section)

    def _payload(self, payload: bytes, spans: list[tuple[int, int]]) -> bytes:
        rng = self._random
        if rng.randrange(4):
            begin, end = rng.choice(spans)
            if end > len(payload):
                return payload
            new = zigzag(rng.choice(NUMBERS))
            match rng.randrange(6):
                case 0:
                    new = b"\xff" * rng.randrange(1, 12)
                case 1:
                    new = payload[begin : end - 1] + bytes([payload[end - 1] | 128, 0])
                case 2:
                    number, _ = varint_at(payload + b"\0" * 10, begin)
                    new = zigzag(number + rng.choice((-2, -1, 1, 2)))
            return payload[:begin] + new + payload[end:]
        return self._bytes(payload)

    def _bytes(self, data: bytes) -> bytes:
        rng = self._random
        if not data:
            return b"\0"
        at = rng.randrange(len(data))
        match rng.randrange(6):
            case 0:
                return data[:at]
            case 1:
                return data[:at] + data[at + 1 :]
            case 2:
                return data[:at] + rng.randbytes(rng.randrange(1, 9)) + data[at:]
            case 3:
                return data + rng.randbytes(rng.randrange(1, 40))
            case 4:
                return data[:at] + data[:at]
        return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]

    def _header(self, head: bytes) -> bytes:
        """Counts, deltas and times; where the batch lies stays as it is."""
        rng = self._random
        at, form = rng.choice(((57, ">i"), (57, ">i"), (23, ">i"), (27, ">q"), (35, ">q")))
        number = rng.choice(COUNTS) if form == ">i" else rng.choice((0, -1, 2**63 - 1, -(2**63)))
        return head[:at] + struct.pack(form, number) + head[at + struct.calcsize(form) :]
