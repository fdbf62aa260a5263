"""Seeded requests: any values for any message and version, half of them damaged in one place."""

from __future__ import annotations

import dataclasses
import importlib
import random
import struct
import typing
from functools import cache
from typing import Any

from mqlog import _native
from mqlog.errors import ProtocolError
from mqlog.protocol import ZERO_UUID, request_class

INTEGERS = (0, 0, 0, 1, 2, -1, -2, 5, 1000, 127, 32767, 2**31 - 1, 2**62)
STRINGS = ("t", "u", "", "a/b", "x.y", "1", "retention.ms", "../x", "\0", "x" * 250)
#: Waiting for these would only take time.
TIMES = frozenset({"max_wait_ms", "timeout_ms"})


@cache
def hints(cls: type) -> dict[str, Any]:
    """Field types of a message class."""
    module = importlib.import_module(cls.__module__)
    return typing.get_type_hints(cls, vars(module) | vars(cls))


class Mutant:
    """One stream of requests."""

    def __init__(self, seed: int, topic_id: bytes) -> None:
        """The same seed makes the same requests."""
        self.random = random.Random(seed)
        self._ids = (topic_id, ZERO_UUID, bytes(15) + b"\x09")

    def value(self, kind: Any, name: str) -> Any:
        """Some value of a type."""
        rng = self.random
        arguments = typing.get_args(kind)
        if type(None) in arguments:
            if rng.randrange(4) == 0:
                return None
            kind = next(one for one in arguments if one is not type(None))
            arguments = typing.get_args(kind)
        if typing.get_origin(kind) is list:
            return [self.value(arguments[0], name) for _ in range(rng.randrange(4))]
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            return self.message(kind)
        if kind is bool:
            return rng.random() < 0.5
        if kind is int:
            return 1 if name in TIMES else rng.choice(INTEGERS)
        if kind is str:
            return rng.choice(STRINGS)
        if kind is float:
            return 1.5
        if name.endswith(("id", "topics")):
            return rng.choice(self._ids)
        return self.records() if name == "records" else rng.randbytes(rng.randrange(40))

    def message(self, cls: type) -> Any:
        """A message with random fields; some are left at their default."""
        rng = self.random
        types = hints(cls)
        chosen = (f for f in dataclasses.fields(cls) if rng.randrange(5))
        return cls(**{field.name: self.value(types[field.name], field.name) for field in chosen})

    def records(self) -> bytes:
        """A batch, every third time with one mutation."""
        data = _native.build_batch([(0, b"k", b"one", []), (0, None, b"two", [])])
        return self.damaged(data, 0) if self.random.randrange(3) == 0 else data

    def damaged(self, data: bytes, first: int) -> bytes:
        """One mutation at or after `first`."""
        rng = self.random
        if len(data) <= first:
            return data
        at = rng.randrange(first, len(data))
        match rng.randrange(6):
            case 0:
                return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
            case 1:
                return data[:at] + rng.randbytes(1) + data[at + 1 :]
            case 2:
                return data[:at]
            case 3:
                return data[:at] + rng.randbytes(1) + data[at:]
            case 4:
                return data[:at] + data[at + 1 :]
        huge = struct.pack(">i", rng.choice((2**31 - 1, -1, -2, -(2**31), 0xFFFFFF)))
        return data[:at] + huge[: len(data) - at] + data[at + 4 :]

    def frame(self, key: int, version: int, correlation: int) -> bytes:
        """A request of this API and version with its length before it."""
        cls = request_class(key)
        try:
            body = _native.encode_request(key, version, correlation, "fuzz", self.message(cls))
        except (ProtocolError, OverflowError):  # this version cannot carry one of the values
            body = _native.encode_request(key, version, correlation, "fuzz", cls())
        if self.random.random() < 0.5:
            body = self.damaged(body, 0)
        length = len(body)
        if self.random.randrange(200) == 0:
            length = self.random.choice((-1, 2**31 - 1, length - 1, length + 1))
        return struct.pack(">i", length) + body
