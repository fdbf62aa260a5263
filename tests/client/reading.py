"""The least consumer: assigned partitions, no group. For tests of the core below KafkaConsumer.

`Reading` reads from a broker. `Offline` has none: `_native.Consumer._feed` takes batches in as if
one had sent them, which is also how a fuzzer gets at the decoder (`Offline.decode`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from mqlog import _native
from mqlog._consumer import ConsumerBase, Record
from mqlog.client.config import ConsumerConfig

Place = tuple[str, int]


class Reading(ConsumerBase):
    """Reads what `start` says; iteration ends when nothing has come for `idle_ms`."""

    def __init__(
        self,
        servers: str | dict[str, Any],
        *,
        idle_ms: float = 10_000,
        key_deserializer: Any = None,
        value_deserializer: Any = None,
        max_poll_records: int = 500,
        **settings: Any,
    ) -> None:
        access = {"bootstrap_servers": servers} if isinstance(servers, str) else servers
        config = ConsumerConfig(None, {**access, "fetch_max_wait_ms": 50, **settings})
        self.client = _native.Client(config.net())
        self.core = _native.Consumer(self.client, config.native())
        self.idle_ms = idle_ms
        self.refills = 0
        self.errors: list[Exception] = []
        self._attach(
            self.core,
            max_poll_records=max_poll_records,
            key_deserializer=key_deserializer,
            value_deserializer=value_deserializer,
        )

    def __enter__(self) -> Reading:
        return self

    def __exit__(self, *_: object) -> None:
        self.core.close()
        self.client.close()

    def start(self, *places: tuple[str, int, int | None]) -> Reading:
        """Reads exactly these: topic, partition, offset."""
        self.core.assign([(*place, -1) for place in places])
        return self

    def _refill(self) -> bool:
        self.refills += 1
        deadline = time.monotonic() + self.idle_ms / 1000
        while True:
            self.raise_errors()
            if self.core.is_ready():
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self.core.wait(left * 1000)

    def raise_errors(self) -> None:
        """Raises the first error among what needs a decision; answers nothing else."""
        for event in self.core.events():
            if event[0] == "error":
                raise event[1]

    def take(self, count: int) -> list[Record]:
        """That many records, by iterating."""
        found = []
        for record in self:
            found.append(record)
            if len(found) == count:
                break
        assert len(found) == count, f"{len(found)} of {count} records came"
        return found

    def until(self, condition: Callable[[], Any], timeout_s: float = 10.0) -> Any:
        """What a condition gives when it holds; polls meanwhile without reading."""
        deadline = time.monotonic() + timeout_s
        while not (found := condition()):
            assert time.monotonic() < deadline, "it did not happen in time"
            self.core.wait(20)
        return found

    def event(self, word: str) -> tuple[Any, ...]:
        """The first event of a kind, when it comes."""
        kinds = lambda: [event for event in self.core.events() if event[0] == word]  # noqa: E731
        return self.until(kinds)[0]

    def position(self, topic: str, partition: int = 0) -> int | None:
        """What the user has not got yet begins there."""
        self._settle()
        facts = self.core.facts(topic, partition)
        assert facts is not None
        return facts.position


class Offline(Reading):
    """A consumer of one partition, `t-0`, without a broker."""

    def __init__(self, **settings: Any) -> None:
        super().__init__("127.0.0.1:1", idle_ms=0, **settings)
        self.start(("t", 0, 0))

    def feed(self, *batches: bytes, aborted: Iterable[tuple[int, int]] = ()) -> Offline:
        """Takes batches in as if a broker had sent them."""
        assert self.core._feed("t", 0, b"".join(batches), list(aborted))
        return self

    def decode(self, data: bytes) -> tuple[list[Record], Exception | None]:
        """Everything in arbitrary bytes, from offset 0 on, and the error they end in. For fuzzers:
        whatever the bytes are, it returns."""
        self.core.seek("t", 0, 0)
        self.core._feed("t", 0, data)
        found: list[Record] = []
        while taken := self._take_records(1000):
            for records in taken.values():
                found += records
        errors = [event[1] for event in self.core.events() if event[0] == "error"]
        return found, errors[0] if errors else None
