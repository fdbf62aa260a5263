"""kafka-python: produce and read back with every codec."""

from __future__ import annotations

import kafka
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from .records import CODECS, COUNT, header, pairs, same, stored

CLIENT = f"kafka-python {kafka.__version__}"
TIMEOUT_S = 30.0


@pytest.mark.parametrize("codec", CODECS)
def test_produce_and_read_back(bootstrap: str, topic: str, codec: str) -> None:
    producer = KafkaProducer(
        bootstrap_servers=bootstrap,
        compression_type=None if codec == "none" else codec,
        acks="all",
        linger_ms=50,
    )
    try:
        sent = [
            producer.send(topic, value=value, key=key, headers=[header(number)], partition=0)
            for number, (key, value) in enumerate(pairs())
        ]
        producer.flush(timeout=TIMEOUT_S)
        assert [future.get(timeout=TIMEOUT_S).offset for future in sent] == list(range(COUNT))
    finally:
        producer.close()

    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=None,
        enable_auto_commit=False,
        consumer_timeout_ms=int(TIMEOUT_S * 1000),
    )
    try:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        consumer.seek(partition, 0)
        records = [next(consumer) for _ in range(COUNT)]
    finally:
        consumer.close()
    same((record.key, record.value) for record in records)
    assert [list(record.headers) for record in records] == [[header(n)] for n in range(COUNT)]
    codecs, kept = stored(bootstrap, topic)
    assert codecs == {codec}
    same(kept)
