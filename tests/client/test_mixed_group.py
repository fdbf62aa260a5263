"""One group with members of this client and of confluent-kafka: eager and cooperative."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Consumer

from mqlog import KafkaConsumer, KafkaProducer

PARTITIONS = 6


class Mixed:
    """Members of both kinds, all polled from this thread."""

    def __init__(
        self, access: dict[str, Any], theirs: dict[str, Any], topic: str, strategy: str
    ) -> None:
        self.access, self._theirs = access, theirs
        self.topic, self._strategy = topic, strategy
        self.members: list[Any] = []
        self.sent: set[bytes] = set()
        self.seen: set[bytes] = set()

    def add_ours(self) -> None:
        made = KafkaConsumer(
            self.topic,
            **self.access,
            group_id=f"mixed-{self.topic}",
            auto_offset_reset="earliest",
            partition_assignment_strategy=(self._strategy,),
            heartbeat_interval_ms=200,
            fetch_max_wait_ms=100,
        )
        self.members.append(made)

    def add_theirs(self) -> None:
        made = Consumer(
            {
                **self._theirs,
                "group.id": f"mixed-{self.topic}",
                "auto.offset.reset": "earliest",
                "partition.assignment.strategy": self._strategy,
                "heartbeat.interval.ms": 200,
                "session.timeout.ms": 10_000,
            }
        )
        made.subscribe([self.topic])
        self.members.append(made)

    def poll(self) -> None:
        """Each member once."""
        for member in self.members:
            if isinstance(member, Consumer):
                found = [one for one in member.consume(100, 0.05) if not one.error()]
                self.seen.update(one.value() for one in found)
            else:
                for records in member.poll(timeout_ms=50).values():
                    self.seen.update(one.value for one in records)

    def settle(self) -> None:
        """Poll until everybody has something and nobody shares."""
        deadline = time.monotonic() + 60
        while True:
            self.poll()
            shares = [{one.partition for one in member.assignment()} for member in self.members]
            given = sorted(number for share in shares for number in share)
            if all(shares) and given == list(range(PARTITIONS)):
                return
            assert time.monotonic() < deadline, shares

    def send(self, producer: Any) -> None:
        for number in range(60):
            value = b"%d" % len(self.sent)
            self.sent.add(value)
            producer.send(self.topic, value, partition=number % PARTITIONS)
        producer.flush(30)

    def leave(self) -> None:
        """The oldest member goes."""
        self.members.pop(0).close()


@pytest.mark.parametrize("strategy", ["range", "roundrobin", "cooperative-sticky"])
def test_mixed_members(
    access: dict[str, Any],
    servers: str,
    confluent_security: dict[str, Any],
    make_topic: Callable[..., str],
    strategy: str,
) -> None:
    """Members come and go; every record is seen, and nobody shares a partition at rest."""
    theirs = {"bootstrap.servers": servers, **confluent_security}
    mixed = Mixed(access, theirs, make_topic(PARTITIONS), strategy)
    with KafkaProducer(**access, linger_ms=0) as producer:
        mixed.add_ours()
        mixed.settle()
        for add in (mixed.add_theirs, mixed.add_ours, mixed.add_theirs):
            mixed.send(producer)
            add()
            mixed.settle()
        for _ in range(2):
            mixed.send(producer)
            mixed.leave()
            mixed.settle()
        mixed.send(producer)
        deadline = time.monotonic() + 60
        while mixed.seen != mixed.sent and time.monotonic() < deadline:
            mixed.poll()
    assert mixed.seen == mixed.sent
    while mixed.members:
        mixed.leave()
