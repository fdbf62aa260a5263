"""The interpreter may be busy for seconds: produce and fetch do not notice."""

from __future__ import annotations

import pytest

from mqlog.testing import Broker

from .client import Connection
from .conftest import create_topic, split_address
from .held import while_held

pytestmark = pytest.mark.ours

HELD_S, LOOKED_AT_S = 3, 1.5

# Another process: says "ready", then counts what it gets done after the word "held" came.
CLIENT = """
import sys, time, uuid
from wire.client import Connection, Topic
host, port, name, topic_id = sys.argv[1:]
topic = Topic(name=name, id=uuid.UUID(topic_id), partitions=1)
with Connection((host, int(port))) as connection:
    connection.produce(topic)
    print("ready", flush=True)
    assert sys.stdin.readline() == "held\\n"
    end, done = time.monotonic() + float(sys.stdin.readline()), 0
    while time.monotonic() < end:
        offset = connection.produce(topic, b"while it is held")
        answer = connection.fetch(topic, offset)
        assert answer.high_watermark == offset + 1
        connection.metadata([topic.name])
        done += 1
    print(done, flush=True)
"""


def test_produce_and_fetch_go_on_while_the_gil_is_held() -> None:
    with Broker(in_process=True) as broker:
        host, port = split_address(broker.bootstrap_servers)
        with Connection((host, port)) as connection:
            topic = create_topic(connection)
        arguments = [host, str(port), topic.name, str(topic.id)]
        done = while_held(CLIENT, arguments, HELD_S, LOOKED_AT_S)
    # A count, not a time: any broker that needs the interpreter gets nothing done.
    assert done >= 10
