"""A member of a group: `aiokafka.py BOOTSTRAP TOPIC GROUP eager|static`."""

import asyncio
import select
import sys

sys.path.pop(0)  # this file has the library's name
from aiokafka import AIOKafkaConsumer

bootstrap, topic, group, mode = sys.argv[1:]


async def main() -> None:
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=group,
        group_instance_id="member" if mode == "static" else None,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=10_000,
        heartbeat_interval_ms=500,
    )
    await consumer.start()
    while not select.select([sys.stdin], [], [], 0)[0]:
        batches = await consumer.getmany(timeout_ms=100)
        for records in batches.values():
            for record in records:
                print(record.partition, record.offset, flush=True)
        if batches:
            await consumer.commit()
    await consumer.stop()


asyncio.run(main())
