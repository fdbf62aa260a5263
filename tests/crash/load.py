"""Producers under way and a consumer that reads what they left, both confluent-kafka's."""

from __future__ import annotations

import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from .ledger import Ledger

PARTITIONS = 3
SEGMENT_BYTES = 1 << 20
_NUMBER = struct.Struct(">q")
_IN_FLIGHT = 2_000
"""Records of one producer without an answer, at most."""

QUIET = {"log_level": 0, "socket.timeout.ms": 10_000, "reconnect.backoff.ms": 20}
_TIMEOUT_S = 60.0
_VISIBLE_S = 5.0


def value(number: int) -> bytes:
    """A record's value: its number, then bytes that depend on it."""
    return _NUMBER.pack(number) + bytes([number & 0xFF]) * (100 + number % 200)


def number_of(data: bytes) -> int:
    """The number in a value; every byte is checked."""
    (number,) = _NUMBER.unpack_from(data)
    assert data == value(number), f"record {number} was changed"
    return int(number)


def create_topics(bootstrap: str, names: list[str], **config: object) -> None:
    """Topics of small segments."""
    settings = {"segment.bytes": str(SEGMENT_BYTES)} | {k: str(v) for k, v in config.items()}
    admin = AdminClient({"bootstrap.servers": bootstrap, **QUIET})
    topics = [NewTopic(name, PARTITIONS, 1, config=settings) for name in names]
    for made in admin.create_topics(topics, operation_timeout=_TIMEOUT_S).values():
        made.result(_TIMEOUT_S)


class Load:
    """One producer that sends until told to stop, over kills and restarts of the broker."""

    def __init__(self, bootstrap: str, topic: str, *, idempotent: bool, **config: object) -> None:
        self.topic = topic
        self.ledger = Ledger(PARTITIONS, idempotent=idempotent)
        self.answers = 0
        """Records acknowledged, ever."""
        self.refusals: Counter[str] = Counter()
        self.burst = 4_000
        """Records sent as fast as they go after each start; then ten a millisecond."""
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "linger.ms": 1,
                "batch.num.messages": 100,
                "message.timeout.ms": 120_000,
                "reconnect.backoff.max.ms": 100,
                "retry.backoff.ms": 20,
                "enable.idempotence": idempotent,
                **QUIET,
                **config,
            }
        )
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Send from a thread."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name=f"load-{self.topic}")
        self._thread.start()

    def _run(self) -> None:
        try:
            burst_ends = self.ledger.sent + self.burst
            while not self._stop.is_set():
                if len(self._producer) >= _IN_FLIGHT:
                    self._producer.poll(0.01)
                    continue
                self._send()
                if self.ledger.sent > burst_ends and self.ledger.sent % 10 == 0:
                    self._producer.poll(0.001)
        except BaseException as error:
            self._failure = error

    def _send(self) -> None:
        number = self.ledger.sent
        self.ledger.sent += 1
        self._producer.produce(
            self.topic,
            value(number),
            partition=number // 50 % PARTITIONS,
            on_delivery=self._delivered(number),
        )
        if number % 50 == 0:
            self._producer.poll(0)

    def _delivered(self, number: int) -> Callable[[KafkaError | None, Message], None]:
        def answer(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self.ledger.refused += 1
                self.refusals[str(error)] += 1
                return
            # Of one batch librdkafka knows the first offset; -1 is an answer without one.
            partition, offset = message.partition(), message.offset()
            if partition is not None and offset is not None and offset >= 0:
                self.ledger.ack(partition, offset, number)
            self.answers += 1

        return answer

    def pause(self, *, wait: bool = True) -> None:
        """Send nothing new; with `wait`, until everything has its answer."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._failure is not None:
            raise self._failure
        if wait:
            left = self._producer.flush(_TIMEOUT_S)
            assert left == 0, f"{left} records of {self.topic} have no answer after {_TIMEOUT_S} s"

    def close(self) -> None:
        """Forget what has no answer."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._producer.purge()
        self._producer.flush(_TIMEOUT_S)

    @property
    def in_flight(self) -> int:
        """Records without an answer."""
        return len(self._producer)


def consumer(bootstrap: str) -> Consumer:
    """A consumer of partitions that it is told."""
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "unused",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": 20,
            **QUIET,
        }
    )


def read(bootstrap: str, topic: str, ledger: Ledger) -> None:
    """Read what was not checked yet, and check it.

    What was acknowledged with acks=1 can be read once it is flushed: waits for that.
    """
    reader = consumer(bootstrap)
    try:
        ends = [_end(reader, topic, ledger, partition) for partition in range(PARTITIONS)]
        ledger.check(_records(reader, topic, ledger, ends), ends)
    finally:
        reader.close()


def _end(reader: Consumer, topic: str, ledger: Ledger, partition: int) -> int:
    """The high watermark, once it has reached what was acknowledged; or what it stays at."""
    deadline = time.monotonic() + _VISIBLE_S
    while True:
        place = TopicPartition(topic, partition)
        end = int(reader.get_watermark_offsets(place, timeout=_TIMEOUT_S)[1])
        if end >= ledger.least_end(partition) or time.monotonic() > deadline:
            return end
        time.sleep(0.01)


def _records(
    reader: Consumer, topic: str, ledger: Ledger, ends: list[int]
) -> Iterator[tuple[int, int, int]]:
    """(partition, offset, number) of all records up to `ends`."""
    starts = {p: ledger.next_unchecked(p) for p in range(PARTITIONS)}
    unread = {p for p, start in starts.items() if start < ends[p]}
    reader.assign([TopicPartition(topic, p, starts[p]) for p in unread])
    deadline = time.monotonic() + _TIMEOUT_S
    while unread:
        assert time.monotonic() < deadline, f"{topic}: partitions {unread} were not read"
        for message in reader.consume(10_000, 0.05):
            error = message.error()
            assert error is None, f"{topic}: {error}"
            partition, offset, data = message.partition(), message.offset(), message.value()
            assert partition is not None
            assert offset is not None
            assert isinstance(data, bytes)
            yield partition, offset, number_of(data)
        places = reader.position([TopicPartition(topic, p) for p in unread])
        unread -= {place.partition for place in places if place.offset >= ends[place.partition]}
