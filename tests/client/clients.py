"""Clients with short times, and what tests do with them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from mqlog import KafkaConsumer, KafkaProducer, TopicPartition

#: Short enough for a test, long enough for a busy machine.
QUICK = {
    "retry_backoff_ms": 10,
    "retry_backoff_max_ms": 100,
    "reconnect_backoff_ms": 10,
    "reconnect_backoff_max_ms": 100,
}


def producer(servers: str, **settings: Any) -> Any:
    """A KafkaProducer that does not linger."""
    return KafkaProducer(bootstrap_servers=servers, **{**QUICK, "linger_ms": 0, **settings})


def consumer(servers: str, *topics: str, **settings: Any) -> Any:
    """A KafkaConsumer that begins at the beginning and waits little."""
    chosen = {**QUICK, "auto_offset_reset": "earliest", "fetch_max_wait_ms": 100, **settings}
    return KafkaConsumer(*topics, bootstrap_servers=servers, **chosen)


def reader(servers: str, topic: str, *partitions: int, **settings: Any) -> Any:
    """A consumer without a group that is given these partitions (0 if none are named)."""
    made = consumer(servers, **settings)
    made.assign([TopicPartition(topic, number) for number in partitions or (0,)])
    return made


def take(
    consumer: Any, count: int, timeout_s: float = 30.0, each: Callable[[Any], None] | None = None
) -> list[Any]:
    """At least `count` records by polling, or what came until the time was over."""
    out: list[Any] = []
    deadline = time.monotonic() + timeout_s
    while len(out) < count and time.monotonic() < deadline:
        for records in consumer.poll(timeout_ms=100).values():
            for record in records:
                out.append(record)
                if each is not None:
                    each(record)
    return out


def named(error: Exception, what: object = "") -> None:
    """An error says something."""
    assert str(error), what


def values(records: list[Any]) -> list[bytes]:
    """The records' values."""
    return [record.value for record in records]
