"""Objects to bytes and back: what `key_serializer`, `value_deserializer` and the like may be.

A plain function of the value will do; an object also gets the topic and the headers.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

Headers = Sequence[tuple[str, bytes | None]]


class Serializer(ABC):
    """Makes bytes of keys or values."""

    @abstractmethod
    def serialize(self, topic: str, headers: Headers, data: Any) -> bytes | None:
        """The bytes; None makes a tombstone of a value."""

    def close(self) -> None:  # noqa: B027
        """Called when the client is closed."""


class Deserializer(ABC):
    """Makes objects of the bytes of keys or values."""

    @abstractmethod
    def deserialize(self, topic: str, headers: Headers, data: bytes | None) -> Any:
        """The object; `data` is None for a null."""

    def close(self) -> None:  # noqa: B027
        """Called when the client is closed."""


class DefaultSerializer(Serializer, Deserializer):
    """Text, in some encoding; bytes go as they are."""

    def __init__(self, encoding: str = "utf-8") -> None:
        self.encoding = encoding

    def serialize(self, topic: str, headers: Headers, data: Any) -> bytes | None:
        """See Serializer."""
        if data is None or isinstance(data, bytes | bytearray | memoryview):
            return data  # type: ignore[return-value]
        encoded: bytes = data.encode(self.encoding)
        return encoded

    def deserialize(self, topic: str, headers: Headers, data: bytes | None) -> Any:
        """See Deserializer."""
        return None if data is None else data.decode(self.encoding)


class JsonSerializer(DefaultSerializer):
    """JSON; None stays null."""

    def serialize(self, topic: str, headers: Headers, data: Any) -> bytes | None:
        """See Serializer."""
        return None if data is None else json.dumps(data).encode(self.encoding)

    def deserialize(self, topic: str, headers: Headers, data: bytes | None) -> Any:
        """See Deserializer."""
        return None if data is None else json.loads(data.decode(self.encoding))
