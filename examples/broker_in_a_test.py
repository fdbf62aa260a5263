"""A broker for a test: a process of its own, killed in the middle, with nothing lost.

pytest collects the function below; `python broker_in_a_test.py` calls it.
"""

from __future__ import annotations

from confluent_kafka import Consumer, Producer, TopicPartition

from mqlog.testing import Broker

COUNT = 1000


def test_what_was_acknowledged_survives_a_crash() -> None:
    """Free port, new directory, both gone afterwards; kill() is SIGKILL."""
    with Broker() as broker:
        acknowledged = produce(broker.bootstrap_servers)
        broker.kill()
        broker.restart()
        assert acknowledged <= read(broker.bootstrap_servers)
        print(f"{len(acknowledged)} records were acknowledged; all of them survived the crash")


def produce(bootstrap: str) -> set[bytes]:
    """Produce; what the broker has acknowledged."""
    acknowledged: set[bytes] = set()
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    for number in range(COUNT):
        producer.produce(
            "orders",
            f"order {number}",
            partition=0,
            callback=lambda error, message: error or acknowledged.add(message.value()),
        )
    producer.flush()
    return acknowledged


def read(bootstrap: str) -> set[bytes]:
    """All values of the partition."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "not used"})
    consumer.assign([TopicPartition("orders", 0, 0)])
    _, end = consumer.get_watermark_offsets(TopicPartition("orders", 0))
    values: set[bytes] = set()
    offset = -1
    while offset + 1 < end:
        for message in consumer.consume(1000, timeout=1.0):
            offset = message.offset()
            values.add(message.value())
    consumer.close()
    return values


if __name__ == "__main__":
    test_what_was_acknowledged_survives_a_crash()
