"""The part of `make demo` that puts mqlog's own client beside confluent-kafka: the same work."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

PARTITIONS = 6
STALL_S = 60.0


def compare(servers: str, rows: Sequence[tuple[bytes, bytes]], say: Callable[[str], None]) -> None:
    """Write all rows with each client and read them back; print both rates. Exit if any is lost.

    `rows` are keys and values. Each client has a topic of its own, so both read what they wrote.
    """
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": servers})
    topics = ("by-confluent", "by-mqlog")
    for made in admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in topics]).values():
        made.result(30)
    say("\nThe same with both clients: keyed, lz4, idempotent, acks=all; in millions a second")
    say(f"  {'':24}{'confluent-kafka':>18}{'mqlog':>10}")
    steps: list[tuple[str, Callable[..., int], Callable[..., int]]] = [
        ("write, one by one", theirs_write, ours_write),
        ("read, record by record", theirs_read, ours_read),
        ("read, as columns", no_read, ours_columns),
    ]
    for title, theirs, ours in steps:
        rates = []
        for work, topic in ((theirs, topics[0]), (ours, topics[1])):
            if work is no_read:
                rates.append("-")
                continue
            begin = time.perf_counter()
            count = work(servers, topic, rows)
            took = time.perf_counter() - begin
            if count != len(rows):
                raise SystemExit(f"demo: {title}: {count:,} of {len(rows):,} records")
            rates.append(f"{count / took / 1e6:.2f}")
        say(f"  {title:24}{rates[0]:>18}{rates[1]:>10}")


def theirs_write(servers: str, topic: str, rows: Sequence[tuple[bytes, bytes]]) -> int:
    """Records that were acknowledged."""
    producer = Producer(
        {
            "bootstrap.servers": servers,
            "enable.idempotence": True,
            "compression.type": "lz4",
            "linger.ms": 5,
            "batch.size": 1_000_000,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    for key, value in rows:
        while True:
            try:
                producer.produce(topic, value, key)
                break
            except BufferError:
                producer.poll(0.01)
    return len(rows) - producer.flush(STALL_S)


def theirs_read(servers: str, topic: str, rows: Sequence[tuple[bytes, bytes]]) -> int:
    """Records that were read."""
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "demo-client",
            "enable.auto.commit": False,
            "fetch.queue.backoff.ms": 1,
            "fetch.wait.max.ms": 50,
        }
    )
    places = [TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(PARTITIONS)]
    consumer.assign(places)
    count, deadline = 0, time.monotonic() + STALL_S
    while count < len(rows) and time.monotonic() < deadline:
        for message in consumer.consume(500, 0.1):
            message.value()
            count += 1
    consumer.close()
    return count


def no_read(*_: object) -> int:
    """confluent-kafka has no columns."""
    return 0


def ours_write(servers: str, topic: str, rows: Sequence[tuple[bytes, bytes]]) -> int:
    """Records that were acknowledged."""
    from mqlog import KafkaProducer

    with KafkaProducer(
        bootstrap_servers=servers, compression_type="lz4", batch_size=1_000_000
    ) as producer:
        for key, value in rows:
            last = producer.send(topic, value, key)
        producer.flush(STALL_S)
        last.get(0)
    return len(rows)


def _ours(servers: str, topic: str) -> Any:
    from mqlog import KafkaConsumer
    from mqlog import TopicPartition as Place

    consumer = KafkaConsumer(
        bootstrap_servers=servers,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=50,
        consumer_timeout_ms=STALL_S * 1000,
    )
    consumer.assign([Place(topic, number) for number in range(PARTITIONS)])
    return consumer


def ours_read(servers: str, topic: str, rows: Sequence[tuple[bytes, bytes]]) -> int:
    """Records that were read."""
    count = 0
    with _ours(servers, topic) as consumer:
        for record in consumer:
            record.value  # noqa: B018 - reading it is the work
            count += 1
            if count == len(rows):
                break
    return count


def ours_columns(servers: str, topic: str, rows: Sequence[tuple[bytes, bytes]]) -> int:
    """Records that were read."""
    count, deadline = 0, time.monotonic() + STALL_S
    with _ours(servers, topic) as consumer:
        while count < len(rows) and time.monotonic() < deadline:
            count += len(consumer.poll_columns(timeout_ms=100))
    return count
