"""Records as lines of text and as JSON: what `mqlog produce` reads and `mqlog consume` writes."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from mqlog._records import Record
from mqlog.errors import UsageError

#: A header's key and value.
Header = tuple[str, bytes | None]
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "\\": "\\"}


class NewRecord(NamedTuple):
    """A record to be sent. `partition` None: the key decides; `timestamp` in ms, None: now."""

    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]
    partition: int | None
    timestamp: int | None


def unescape(text: str) -> str:
    r"""Replace `\n`, `\t`, `\r`, `\0` and `\\`."""
    return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[0]), text)


# -- JSON ------------------------------------------------------------------------------------------


def to_json(topic: str, partition: int, record: Record) -> bytes:
    """One line that `from_json` understands."""
    row = {
        "topic": topic,
        "partition": partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "key": _said(record.key),
        "value": _said(record.value),
        "headers": [[name, _said(value)] for name, value in record.headers],
    }
    return json.dumps(row, ensure_ascii=False).encode() + b"\n"


def _said(data: bytes | None) -> Any:
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def from_json(line: bytes) -> NewRecord:
    """A record from a JSON object. UsageError if it is none."""
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UsageError(f"no JSON: {error}") from None
    if not isinstance(row, dict):
        raise UsageError("no JSON object")
    headers = row.get("headers") or []
    pairs = headers.items() if isinstance(headers, dict) else headers
    try:
        named = tuple((str(name), _meant(value, "headers")) for name, value in pairs)
    except (TypeError, ValueError):
        raise UsageError("headers are neither an object nor [name, value] pairs") from None
    partition, timestamp = row.get("partition"), row.get("timestamp")
    for name, number in (("partition", partition), ("timestamp", timestamp)):
        if number is not None and (not isinstance(number, int) or isinstance(number, bool)):
            raise UsageError(f"{name} {number!r} is no whole number")
    key, value = _meant(row.get("key"), "key"), _meant(row.get("value"), "value")
    return NewRecord(key, value, named, partition, timestamp)


def _meant(said: Any, name: str) -> bytes | None:
    if said is None:
        return None
    if isinstance(said, str):
        return said.encode()
    if isinstance(said, dict) and set(said) == {"base64"}:
        try:
            return base64.b64decode(said["base64"], validate=True)
        except (TypeError, ValueError, binascii.Error):
            raise UsageError(f"{name}: no base64") from None
    raise UsageError(f'{name} is neither a string, null nor {{"base64": ...}}')


# -- formats ---------------------------------------------------------------------------------------

_FIELDS: dict[str, Callable[[bytes, int, Record], bytes]] = {
    "t": lambda topic, partition, record: topic,
    "p": lambda topic, partition, record: b"%d" % partition,
    "o": lambda topic, partition, record: b"%d" % record.offset,
    "k": lambda topic, partition, record: record.key or b"",
    "s": lambda topic, partition, record: record.value or b"",
    "K": lambda topic, partition, record: b"%d" % _length(record.key),
    "S": lambda topic, partition, record: b"%d" % _length(record.value),
    "T": lambda topic, partition, record: b"%d" % record.timestamp,
    "h": lambda topic, partition, record: b",".join(
        name.encode() + b"=" + (value or b"") for name, value in record.headers
    ),
    "%": lambda topic, partition, record: b"%",
}


def _length(data: bytes | None) -> int:
    return -1 if data is None else len(data)


def formatter(topic: str, text: str) -> Callable[[int, Record], bytes]:
    """What makes a record into bytes as kcat's -f does. UsageError names a `%` it does not know."""
    name = topic.encode()
    parts: list[bytes | Callable[[bytes, int, Record], bytes]] = []
    for plain, letter in re.findall(r"([^%]*)(?:%(.?))?", unescape(text), re.DOTALL):
        if plain:
            parts.append(plain.encode())
        if letter:
            if letter not in _FIELDS:
                raise UsageError(f"--format: %{letter} is none of %{' %'.join(_FIELDS)}")
            parts.append(_FIELDS[letter])

    def made(partition: int, record: Record) -> bytes:
        return b"".join(
            part if isinstance(part, bytes) else part(name, partition, record) for part in parts
        )

    return made


# -- partitions ------------------------------------------------------------------------------------


def murmur2(data: bytes) -> int:
    """Kafka's hash of a key, as an unsigned number of 32 bits."""
    multiplier, mask = 0x5BD1E995, 0xFFFF_FFFF
    value = (0x9747B28C ^ len(data)) & mask
    whole = len(data) & ~3
    for at in range(0, whole, 4):
        word = int.from_bytes(data[at : at + 4], "little") * multiplier & mask
        word = (word ^ word >> 24) * multiplier & mask
        value = (value * multiplier & mask) ^ word
    if whole < len(data):
        value ^= int.from_bytes(data[whole:], "little")
        value = value * multiplier & mask
    value = (value ^ value >> 13) * multiplier & mask
    return value ^ value >> 15


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key, the same as with Kafka's own producer."""
    return (murmur2(key) & 0x7FFF_FFFF) % partitions
