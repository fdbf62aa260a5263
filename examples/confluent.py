"""Produce and read with confluent-kafka. Usage: confluent.py [HOST:PORT]."""

from __future__ import annotations

import sys

from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

TOPIC = "confluent-example"
COUNT = 10


def produce(bootstrap: str) -> None:
    """Ten records; each is on disk when its callback is called."""

    def delivered(error: object, message: Message) -> None:
        if error is not None:
            raise SystemExit(f"not delivered: {error}")
        print(f"acknowledged at offset {message.offset()}")

    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    for number in range(COUNT):
        producer.produce(TOPIC, key=f"key {number}", value=f"value {number}", callback=delivered)
    producer.flush()


def consume(bootstrap: str) -> None:
    """All records of partition 0, from the first on."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "not used"})
    consumer.assign([TopicPartition(TOPIC, 0, 0)])
    _, end = consumer.get_watermark_offsets(TopicPartition(TOPIC, 0))
    offset = -1
    while offset + 1 < end:
        for message in consumer.consume(100, timeout=1.0):
            if message.error():
                raise SystemExit(str(message.error()))
            offset = message.offset()
            print(offset, message.key().decode(), message.value().decode())
    consumer.close()


def main() -> None:
    """Make the topic if it is new, then write and read."""
    bootstrap = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9092"
    admin = AdminClient({"bootstrap.servers": bootstrap})
    if TOPIC not in admin.list_topics(timeout=10).topics:
        admin.create_topics([NewTopic(TOPIC, num_partitions=1)])[TOPIC].result()
    produce(bootstrap)
    consume(bootstrap)


if __name__ == "__main__":
    main()
