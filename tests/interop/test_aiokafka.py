"""aiokafka: produce and read back with every codec."""

from __future__ import annotations

import asyncio

import aiokafka
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from .records import CODECS, COUNT, header, pairs, same, stored

CLIENT = f"aiokafka {aiokafka.__version__}"
TIMEOUT_S = 30.0


@pytest.mark.parametrize("codec", CODECS)
async def test_produce_and_read_back(bootstrap: str, topic: str, codec: str) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        compression_type=None if codec == "none" else codec,
        enable_idempotence=True,
        linger_ms=50,
    )
    await producer.start()
    try:
        sent = [
            await producer.send(topic, value, key, partition=0, headers=[header(number)])
            for number, (key, value) in enumerate(pairs())
        ]
        answers = await asyncio.wait_for(asyncio.gather(*sent), TIMEOUT_S)
        assert [answer.offset for answer in answers] == list(range(COUNT))
    finally:
        await producer.stop()

    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False
    )
    await consumer.start()
    try:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        consumer.seek(partition, 0)
        records = [
            await asyncio.wait_for(consumer.getone(partition), TIMEOUT_S) for _ in range(COUNT)
        ]
    finally:
        await consumer.stop()
    same((record.key, record.value) for record in records)
    assert [list(record.headers) for record in records] == [[header(n)] for n in range(COUNT)]
    codecs, kept = stored(bootstrap, topic)
    assert codecs == {codec}
    same(kept)
