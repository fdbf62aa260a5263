"""64 file descriptors and many more segments than that: slower, never wrong."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from mqlog.testing import Broker

from .load import QUIET, consumer

PARTITIONS = 100
LIMIT = 64


@contextmanager
def descriptor_limit(limit: int) -> Iterator[None]:
    """What is started inside may have so many descriptors open; we keep those we have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_hundred_partitions_fit_into_64_descriptors() -> None:
    with descriptor_limit(LIMIT):
        broker = Broker()
    with broker:
        admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers, **QUIET})
        topic = NewTopic("many", PARTITIONS, 1)
        admin.create_topics([topic])["many"].result(30)
        produce(broker, 0)
        assert read(broker) == [1] * PARTITIONS
        broker.kill()
        with descriptor_limit(LIMIT):
            broker.start()
        produce(broker, 1)
        assert read(broker) == [2] * PARTITIONS
        assert "Too many open files" not in broker.log


def produce(broker: Broker, round_: int) -> None:
    """One record to each partition."""
    refused: list[str] = []
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "acks": "all", **QUIET})
    for partition in range(PARTITIONS):
        producer.produce(
            "many",
            f"{partition}/{round_}",
            partition=partition,
            on_delivery=lambda error, _: refused.append(str(error)) if error else None,
        )
    assert producer.flush(60) == 0
    assert not refused


def read(broker: Broker) -> list[int]:
    """How many records each partition has; each is what was sent."""
    counts = [0] * PARTITIONS
    reader = consumer(broker.bootstrap_servers)
    reader.assign([TopicPartition("many", partition, 0) for partition in range(PARTITIONS)])
    for _ in range(1_000):
        messages = reader.consume(1_000, 0.5)
        for message in messages:
            assert message.error() is None, message.error()
            partition = message.partition()
            assert partition is not None
            assert message.value() == f"{partition}/{message.offset()}".encode()
            counts[partition] += 1
        if not messages and min(counts) == max(counts):
            break
    reader.close()
    return counts
