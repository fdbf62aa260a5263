"""What a producer was promised, against what the log holds and what a consumer saw."""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict
from typing import Any

from mqlog import TopicPartition
from mqlog.errors import CorruptMessageError, KafkaError

PARTITIONS = 3


class Ledger:
    """A producer and a consumer at work, while others break things.

    Each record is `PARTITION:NUMBER`; numbers rise by one within a partition, in the order of
    `send`. `check` compares the promises with what is there in the end.
    """

    def __init__(self, producer: Any, consumer: Any, topic: str, *, seed: int) -> None:
        self._producer, self._consumer, self._topic = producer, consumer, topic
        self._random = random.Random(seed)
        self._stop = threading.Event()
        self._drained = threading.Event()
        self.sent = [0] * PARTITIONS
        self.futures: list[tuple[int, int, Any]] = []
        self.seen: dict[tuple[int, int], bytes] = {}
        self.order: dict[int, list[int]] = defaultdict(list)
        self.errors: list[str] = []
        self.last_error: KafkaError | None = None
        self._threads = [
            threading.Thread(target=self._guard, args=(work,))
            for work in (self._produce, self._consume)
        ]
        for thread in self._threads:
            thread.start()

    def _guard(self, work: Any) -> None:
        try:
            work()
        except BaseException as error:
            self.errors.append(f"{work.__name__}: {error!r}")

    def _produce(self) -> None:
        while not self._stop.is_set():
            for _ in range(self._random.randrange(1, 40)):
                partition = self._random.randrange(PARTITIONS)
                number = self.sent[partition]
                value = b"%d:%d" % (partition, number)
                try:
                    future = self._producer.send(self._topic, value, partition=partition)
                except KafkaError:  # a full buffer, no metadata: it was not sent
                    continue
                self.sent[partition] += 1
                self.futures.append((partition, number, future))
            time.sleep(self._random.random() * 0.01)

    def _consume(self) -> None:
        while not self._drained.is_set():
            try:
                found = self._consumer.poll(timeout_ms=50)
            except KafkaError as error:
                self.last_error = error
                self._ask_again(error)
                continue
            for records in found.values():
                for record in records:
                    place = (record.partition, record.offset)
                    if place in self.seen:
                        self.errors.append(f"{place} was handed out twice")
                    self.seen[place] = record.value
                    self.order[record.partition].append(record.offset)

    def _ask_again(self, error: KafkaError) -> None:
        """A batch that arrived damaged twice is told until somebody seeks: to the same place."""
        if isinstance(error, CorruptMessageError) and error.topic is not None:
            place = TopicPartition(error.topic, error.partition)
            self._consumer.seek(place, self._consumer.position(place))

    def settle(self, timeout_s: float = 60.0) -> None:
        """Stop sending and wait until every record is known to be there, or not."""
        self._stop.set()
        self._threads[0].join()
        self._producer.flush(timeout_s)

    def finish(self, ends: list[int], timeout_s: float = 60.0) -> None:
        """Wait until the consumer has seen all up to `ends`, then stop it."""
        deadline = time.monotonic() + timeout_s
        while any(
            (self.order[partition][-1:] or [-1])[0] < end - 1 for partition, end in enumerate(ends)
        ):
            if time.monotonic() > deadline or self.errors:
                break
            time.sleep(0.02)
        self._drained.set()
        self._threads[1].join()

    def check(self, log: dict[int, list[tuple[int, bytes]]]) -> str:
        """Compare with the log, (offset, value) by partition; a line of figures."""
        assert not self.errors, self.errors[:5]
        acknowledged, failed = 0, 0
        places = {
            partition: {value: offset for offset, value in records}
            for partition, records in log.items()
        }
        for partition, records in log.items():
            numbers = [int(value.split(b":")[1]) for _, value in records]
            assert len(numbers) == len(set(numbers)), f"partition {partition} has records twice"
            assert numbers == sorted(numbers), f"partition {partition} is out of order"
            seen = [
                (offset, self.seen.get((partition, offset))) for offset in self.order[partition]
            ]
            assert seen == records, (
                f"the consumer saw something else of partition {partition}: "
                f"{len(seen)} records instead of {len(records)}, the first differences "
                f"{[pair for pair in zip(seen, records, strict=False) if pair[0] != pair[1]][:3]}; "
                f"the last error was {self.last_error!r}"
            )
        for partition, number, future in self.futures:
            try:
                told = future.get(0)
            except KafkaError:
                failed += 1
                continue
            acknowledged += 1
            value = b"%d:%d" % (partition, number)
            found = places[partition].get(value)
            assert found is not None, f"{value!r} was acknowledged and is lost"
            assert told.offset in (found, -1), f"{value!r} is at {found}, not at {told.offset}"
        there = sum(map(len, log.values()))
        return f"{acknowledged} acknowledged, {failed} failed, {there} in the log"
