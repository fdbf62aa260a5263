"""confluent-kafka (librdkafka): produce and read back with every codec."""

from __future__ import annotations

import confluent_kafka
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from .records import CODECS, COUNT, header, pairs, same, stored

CLIENT = f"confluent-kafka {confluent_kafka.__version__}"
TIMEOUT_S = 30.0


def consume(bootstrap: str, topic: str, count: int = COUNT) -> list[confluent_kafka.Message]:
    """Records from the first on, by assignment."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "none", "enable.auto.commit": False}
    )
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        messages: list[confluent_kafka.Message] = []
        while len(messages) < count:
            some = consumer.consume(count, timeout=TIMEOUT_S)
            assert some, f"{len(messages)} of {count} records came"
            for message in some:
                assert message.error() is None
            messages += some
        return messages
    finally:
        consumer.close()


@pytest.mark.parametrize("idempotent", [False, True], ids=["plain", "idempotent"])
@pytest.mark.parametrize("codec", CODECS)
def test_produce_and_read_back(bootstrap: str, topic: str, codec: str, idempotent: bool) -> None:
    failures: list[object] = []

    def delivered(error: object, _: object) -> None:
        if error is not None:
            failures.append(error)

    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "compression.type": codec,
            "enable.idempotence": idempotent,
            "linger.ms": 50,
        }
    )
    for number, (key, value) in enumerate(pairs()):
        producer.produce(topic, value, key, headers=[header(number)], on_delivery=delivered)
    assert producer.flush(TIMEOUT_S) == 0
    assert failures == []

    messages = consume(bootstrap, topic)
    same((message.key(), message.value()) for message in messages)
    assert [message.headers() for message in messages] == [[header(n)] for n in range(COUNT)]
    assert [message.offset() for message in messages] == list(range(COUNT))
    codecs, kept = stored(bootstrap, topic)
    # librdkafka leaves a batch alone that compression would not shrink: one small record, say.
    assert codecs - {"none"} == {codec} - {"none"}
    same(kept)
