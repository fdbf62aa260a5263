"""A member of a group: `kafka_python.py BOOTSTRAP TOPIC GROUP eager|static`."""

import select
import sys
import time

from kafka import KafkaConsumer
from kafka.errors import KafkaConnectionError

bootstrap, topic, group, mode = sys.argv[1:]
consumer = KafkaConsumer(
    topic,
    bootstrap_servers=bootstrap,
    group_id=group,
    group_instance_id="member" if mode == "static" else None,
    auto_offset_reset="earliest",
    enable_auto_commit=False,
    session_timeout_ms=10_000,
    heartbeat_interval_ms=500,
)
while not select.select([sys.stdin], [], [], 0)[0]:
    try:
        batches = consumer.poll(timeout_ms=100)
    except KafkaConnectionError:  # the broker is away
        time.sleep(0.1)
        continue
    for records in batches.values():
        for record in records:
            print(record.partition, record.offset, flush=True)
    while batches:
        try:
            consumer.commit()
            break
        except KafkaConnectionError:  # what was read stays to be committed
            time.sleep(0.1)
consumer.close()
