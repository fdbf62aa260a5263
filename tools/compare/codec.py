"""Messages as dictionaries, by the table of facts alone: nothing of the project's codec is used.

Fields that a version does not have are left out when encoding, and absent after decoding.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "protocol"))
from model import Field, Message, Span, messages, rows

NUMBERS = {
    "bool": ">?",
    "int8": ">b",
    "int16": ">h",
    "uint16": ">H",
    "int32": ">i",
    "uint32": ">I",
    "int64": ">q",
    "float64": ">d",
}
_BY_NAME = {message.name: message for message in messages()}
#: API: the versions that Kafka 4.3.1 states.
VERSIONS = {
    name: range(int(span.partition("-")[0]), int(span.partition("-")[2]) + 1)
    for _, name, span in rows("apis.txt")
    if span != "-"
}
KEYS = {name: int(key) for key, name, _ in rows("apis.txt")}


def has(span: Span, version: int) -> bool:
    """Whether a version is in a range."""
    return span.min <= version <= span.max


def request(api: str, version: int, correlation: int, values: dict[str, Any]) -> bytes:
    """A whole frame without its length."""
    message = _BY_NAME[api + "Request"]
    head = struct.pack(">hhih", KEYS[api], version, correlation, 7) + b"compare"
    if version >= message.flexible:
        head += b"\0"
    return head + _Writer(message, version).struct(message.name, values)


def response(api: str, version: int, frame: bytes) -> dict[str, Any]:
    """The body of an answer, its header skipped; ValueError if bytes remain."""
    message = _BY_NAME[api + "Response"]
    at = 4
    if version >= message.flexible and api != "ApiVersions":
        at = 5
    reader = _Reader(message, version, frame, at)
    found = reader.struct(message.name)
    if reader.at != len(frame):
        raise ValueError(f"{len(frame) - reader.at} bytes after the end of {message.name}")
    return found


def _default(field: Field, version: int) -> Any:
    if field.default == "null":
        return None
    if field.array:
        return []
    if field.type in NUMBERS:
        if field.type == "bool":
            return field.default == "true"
        return (
            float(field.default or 0) if field.type == "float64" else int(field.default or "0", 0)
        )
    if field.type in ("string", "bytes", "records", "uuid"):
        return {"string": field.default, "uuid": bytes(16)}.get(field.type, b"")
    return {}


def uvarint(number: int) -> bytes:
    """An unsigned varint."""
    out = bytearray()
    while number > 0x7F:
        out.append(0x80 | (number & 0x7F))
        number >>= 7
    out.append(number)
    return bytes(out)


class _Writer:
    def __init__(self, message: Message, version: int) -> None:
        self.message, self.version = message, version
        self.flexible = version >= message.flexible

    def struct(self, name: str, values: dict[str, Any]) -> bytes:
        out, tags = b"", {}
        fields = self.message.structs[name]
        unknown = set(values) - {field.name for field in fields}
        if unknown:
            raise KeyError(f"{name} has no {unknown}")
        for field in fields:
            if not has(field.versions, self.version):
                continue
            value = values.get(field.name, _default(field, self.version))
            if has(field.tagged, self.version):
                if value != _default(field, self.version):
                    tags[field.tag] = self.field(field, value)
            else:
                out += self.field(field, value)
        if self.flexible:
            out += uvarint(len(tags))
            for tag, data in sorted(tags.items()):
                out += uvarint(tag) + uvarint(len(data)) + data
        return out

    def field(self, field: Field, value: Any) -> bytes:
        if field.array:
            if value is None:
                return self.count(-1)
            return self.count(len(value)) + b"".join(self.one(field, item) for item in value)
        return self.one(field, value)

    def count(self, number: int) -> bytes:
        return uvarint(number + 1) if self.flexible else struct.pack(">i", number)

    def one(self, field: Field, value: Any) -> bytes:
        kind = field.element
        if kind in NUMBERS:
            return struct.pack(NUMBERS[kind], value)
        if kind == "uuid":
            return bytes(value)
        if kind in ("string", "bytes", "records"):
            if value is None and not has(field.nullable, self.version):
                value = ""
            data = value.encode() if isinstance(value, str) else value
            size = -1 if data is None else len(data)
            if self.flexible and not field.inflexible:
                head = uvarint(size + 1)
            else:
                head = struct.pack(">h" if kind == "string" else ">i", size)
            return head + (data or b"")
        if not field.array and has(field.nullable, self.version):
            return b"\xff" if value is None else b"\x01" + self.struct(kind, value)
        return self.struct(kind, value)


class _Reader:
    def __init__(self, message: Message, version: int, data: bytes, at: int) -> None:
        self.message, self.version, self.data, self.at = message, version, data, at
        self.flexible = version >= message.flexible

    def take(self, size: int) -> bytes:
        if size < 0 or self.at + size > len(self.data):
            raise ValueError(f"{self.message.name} ends in the middle of a field")
        self.at += size
        return self.data[self.at - size : self.at]

    def uvarint(self) -> int:
        number = shift = 0
        while True:
            (byte,) = self.take(1)
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
            shift += 7

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def struct(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        tagged = {}
        for field in self.message.structs[name]:
            if not has(field.versions, self.version):
                continue
            if has(field.tagged, self.version):
                tagged[field.tag] = field
                found[field.name] = _default(field, self.version)
            else:
                found[field.name] = self.field(field)
        if self.flexible:
            for _ in range(self.uvarint()):
                tag, size = self.uvarint(), self.uvarint()
                end = self.at + size
                if tag in tagged:
                    found[tagged[tag].name] = self.field(tagged[tag])
                    if self.at != end:
                        raise ValueError(f"tag {tag} of {name} has another length")
                else:
                    found[f"unknown tag {tag}"] = self.take(size)
        return found

    def field(self, field: Field) -> Any:
        if field.array:
            count = self.uvarint() - 1 if self.flexible else self.number(">i")
            return None if count < 0 else [self.one(field) for _ in range(count)]
        return self.one(field)

    def one(self, field: Field) -> Any:
        kind = field.element
        if kind in NUMBERS:
            return self.number(NUMBERS[kind])
        if kind == "uuid":
            return self.take(16)
        if kind in ("string", "bytes", "records"):
            if self.flexible and not field.inflexible:
                size = self.uvarint() - 1
            else:
                size = self.number(">h" if kind == "string" else ">i")
            data = None if size < 0 else self.take(size)
            return data.decode() if kind == "string" and data is not None else data
        if not field.array and has(field.nullable, self.version) and self.number(">b") < 0:
            return None
        return self.struct(kind)
