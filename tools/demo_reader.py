"""One member of the demo's consumer group, in a process of its own.

    python tools/demo_reader.py BOOTSTRAP GROUP TOPIC FILE

confluent-kafka as it comes: subscribes, writes a line for each record it reads to FILE, and
commits after each batch. Ends when its standard input does.
"""

from __future__ import annotations

import json
import select
import sys
import zlib

from confluent_kafka import Consumer

BATCH = 2_000


def main(bootstrap: str, group: str, topic: str, path: str) -> None:
    """Read until nobody wants any more."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "client.id": f"reader-{path[-1]}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            # A member that is killed is missed after 6 s.
            "session.timeout.ms": 6_000,
            "heartbeat.interval.ms": 1_000,
            "log_level": 0,
        }
    )
    consumer.subscribe([topic])
    with open(path, "w", encoding="ascii") as out:
        while not select.select([sys.stdin], [], [], 0)[0]:
            messages = consumer.consume(BATCH, timeout=0.1)
            for message in messages:
                if message.error() is not None:
                    sys.exit(str(message.error()))
                number = dict(message.headers() or [])["n"].decode()
                key, value = message.key() or b"", message.value() or b""
                row = json.loads(value)
                fields = (message.partition(), message.offset(), number, zlib.crc32(key + value))
                print(*fields, row["carrier"], row["arr_delay"] or "NA", file=out)
            if messages:
                out.flush()
                consumer.commit(asynchronous=False)
    consumer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
