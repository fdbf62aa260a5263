"""The consumer's decoder, fed with damaged batches: errors, never a crash, never other records.

MQLOG_FUZZ_BATCHES sets how many the long run takes (10,000,000).
"""

from __future__ import annotations

import os
import socket
from collections import Counter
from typing import Any

import pytest

from mqlog import _native, _records
from mqlog._consumer import ConsumerBase
from mqlog.client.config import ConsumerConfig
from mqlog.errors import MqlogError

from .mutate import Mutant

SMOKE = 20_000
LONG = int(os.environ.get("MQLOG_FUZZ_BATCHES", "10_000_000"))
LIMIT = 1 << 20


def expected(batch: bytes) -> list[tuple[Any, ...]] | None:
    """What the other decoder, of the segment files, makes of it; None for an error."""
    try:
        return [
            (record.offset, record.key, record.value, record.headers)
            for one in _records.decode_batches(batch)
            if not one.is_control
            for record in one.records(max_uncompressed=LIMIT)
        ]
    except _records.CorruptBatch:
        return None


class Decoder:
    """A consumer of a partition that no broker serves: it reads what it is fed."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as nobody:
            address = f"127.0.0.1:{nobody.getsockname()[1]}"
        settings = {"bootstrap_servers": address, "max_decompressed_bytes": LIMIT}
        config = ConsumerConfig(None, {**settings, "reconnect_backoff_ms": 10_000})
        self.client = _native.Client(config.net())
        self.native = _native.Consumer(self.client, config.native())
        self.base = ConsumerBase()
        self.base._attach(self.native)
        self.native.assign([("t", 0, 0, -1)])

    def close(self) -> None:
        self.native.close()
        self.client.close()

    def records(self, batch: bytes) -> list[tuple[Any, ...]] | None:
        """The records of one batch as objects; None for an error."""
        self.native.seek("t", 0, 0)
        found: list[tuple[Any, ...]] = []
        try:
            self.native._feed("t", 0, batch)
            while taken := self.base._take_records(1_000):
                for some in taken.values():
                    found += [(one.offset, one.key, one.value, one.headers) for one in some]
        except MqlogError:
            return None
        return None if self.native.events() else found

    def columns(self, batch: bytes) -> list[int] | None:
        """The offsets of one batch as columns; None for an error."""
        self.native.seek("t", 0, 0)
        found: list[int] = []
        try:
            self.native._feed("t", 0, batch)
            while len(taken := self.base._take_columns(headers=True)):
                found += list(memoryview(taken.offsets))
        except MqlogError:
            return None
        return None if self.native.events() else found


def fuzz(decoder: Decoder, seed: int, count: int) -> Counter[str]:
    mutant, seen = Mutant(seed), Counter[str]()
    for number in range(count):
        batch = mutant.batch()
        rows = decoder.records(batch)
        seen["refused" if rows is None else "read"] += 1
        if number % 4 == 0:
            offsets = decoder.columns(batch)
            if rows is not None:
                assert offsets == [row[0] for row in rows], batch.hex()
            want = expected(batch)
            if rows is not None and want is not None:
                assert rows == want, batch.hex()
    return seen


@pytest.fixture
def decoder() -> Any:
    made = Decoder()
    yield made
    made.close()


def test_damaged_batches(decoder: Decoder) -> None:
    seen = fuzz(decoder, 1, SMOKE)
    assert seen["refused"] > SMOKE // 10
    assert seen["read"] > SMOKE // 10, "enough of them are still legal"


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_ten_million_damaged_batches(decoder: Decoder) -> None:
    print(fuzz(decoder, 2, LONG))
