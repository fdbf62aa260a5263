"""A member of a group: `confluent.py BOOTSTRAP TOPIC GROUP eager|cooperative|static`."""

import select
import sys

from confluent_kafka import Consumer

bootstrap, topic, group, mode = sys.argv[1:]
settings = {
    "bootstrap.servers": bootstrap,
    "group.id": group,
    "auto.offset.reset": "earliest",
    "enable.auto.commit": False,
    "session.timeout.ms": 10_000,
    "heartbeat.interval.ms": 500,
}
if mode == "cooperative":
    settings["partition.assignment.strategy"] = "cooperative-sticky"
if mode == "static":
    settings["group.instance.id"] = "member"
consumer = Consumer(settings)
consumer.subscribe([topic])
while not select.select([sys.stdin], [], [], 0)[0]:
    messages = consumer.consume(100, timeout=0.1)
    for message in messages:
        if message.error() is not None:
            sys.exit(str(message.error()))
        print(message.partition(), message.offset(), flush=True)
    if messages:
        consumer.commit(asynchronous=False)
consumer.close()
