"""Produce and read with aiokafka, under asyncio. Usage: asyncio_client.py [HOST:PORT]."""

from __future__ import annotations

import asyncio
import sys

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

TOPIC = "asyncio-example"
COUNT = 10


async def produce(bootstrap: str) -> None:
    """Ten records, sent together; each is on disk when its future is done."""
    async with AIOKafkaProducer(
        bootstrap_servers=bootstrap, compression_type="gzip", enable_idempotence=True
    ) as producer:
        sent = [
            await producer.send(TOPIC, f"value {number}".encode(), partition=0)
            for number in range(COUNT)
        ]
        for answer in await asyncio.gather(*sent):
            print(f"acknowledged at offset {answer.offset}")


async def consume(bootstrap: str) -> None:
    """All records of partition 0, from the first on."""
    partition = TopicPartition(TOPIC, 0)
    async with AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    ) as consumer:
        consumer.assign([partition])
        end = (await consumer.end_offsets([partition]))[partition]
        while await consumer.position(partition) < end:
            record = await consumer.getone(partition)
            print(record.offset, record.value.decode())


async def main() -> None:
    """Write and read; the first send creates the topic."""
    bootstrap = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9092"
    await produce(bootstrap)
    await consume(bootstrap)


if __name__ == "__main__":
    asyncio.run(main())
