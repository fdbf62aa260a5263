"""Connections of asyncio, one request in flight each: cheap enough for thousands of members."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

from mqlog import _native

PRODUCE, FETCH, COMMIT, OFFSETS, FIND = (0, 9), (1, 12), (8, 9), (9, 9), (10, 4)
JOIN, HEARTBEAT, LEAVE, SYNC, CREATE = (11, 9), (12, 4), (13, 5), (14, 5), (19, 7)

Lost = (OSError, asyncio.IncompleteReadError)
"""What a call raises when the broker is gone."""


class Link:
    """A connection; `era` counts the broker's lives, as who opened it saw them."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, era: int = 0
    ) -> None:
        self._reader, self._writer, self.era = reader, writer, era
        self._lock = asyncio.Lock()
        self._correlation = 0

    @classmethod
    async def open(cls, address: tuple[str, int], era: int = 0) -> Link:
        """Connect."""
        return cls(*await asyncio.open_connection(*address, limit=1 << 20), era)

    async def call(self, api: tuple[int, int], message: object) -> Any:
        """A request and its answer. A call that is cancelled leaves the connection unusable."""
        async with self._lock:
            self.send(api, message)
            return await self.answer(api)

    def send(self, api: tuple[int, int], message: object) -> None:
        """The request alone."""
        self._correlation += 1
        frame = _native.encode_request(*api, self._correlation, "reader", message)
        self._writer.write(struct.pack(">i", len(frame)) + frame)

    async def answer(self, api: tuple[int, int]) -> Any:
        """The answer to what was sent last."""
        (size,) = struct.unpack(">i", await self._reader.readexactly(4))
        frame = await self._reader.readexactly(size)
        correlation, body = _native.response_header(*api, frame)
        assert correlation == self._correlation, "an answer to another request"
        return _native.decode("response", *api, frame[body:])

    def close(self) -> None:
        """Close at once: what was not read yet is thrown away, as when a process dies."""
        self._writer.transport.abort()
