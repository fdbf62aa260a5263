"""Bounds on what clients can make grow, by Kafka's names."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mqlog.testing import Broker

from .batches import batch
from .client import Closed, Connection, eventually, produce_body
from .conftest import create_topic, split_address

pytestmark = pytest.mark.ours


def open_and_ask(broker: Broker) -> Connection:
    """A connection that has been answered."""
    connection = Connection(split_address(broker.bootstrap_servers))
    connection.call("ApiVersions", 0)
    return connection


@pytest.mark.parametrize("setting", ["max.connections", "max.connections.per.ip"])
def test_connections_beyond_the_limit_are_closed(setting: str) -> None:
    with Broker(in_process=True, config={setting: 3}) as broker, ExitStack() as open_ones:
        kept = [open_ones.enter_context(open_and_ask(broker)) for _ in range(3)]
        with Connection(split_address(broker.bootstrap_servers)) as fourth:
            assert fourth.closed_by_broker()
        stats = broker.native.stats()
        assert stats["refused_per_ip"] + stats["refused_max_connections"] == 1
        assert stats["connections_open"] == 3
        for one in kept:
            one.call("ApiVersions", 0)
        kept[0].close()

        def room() -> bool:
            try:
                open_and_ask(broker).close()
            except (Closed, ConnectionError):
                return False
            return True

        eventually(room)


def test_socket_request_max_bytes() -> None:
    with Broker(config={"socket.request.max.bytes": 2_000_000}) as broker:
        with open_and_ask(broker) as large:
            large.send_bytes(struct.pack(">i", 2_000_001))
            assert large.closed_by_broker()
        with open_and_ask(broker) as fits:
            fits.send_bytes(struct.pack(">i", 2_000_000))
            assert fits.silent_for(0.2)


def rss_kb(pid: int) -> int:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


@pytest.fixture
def small() -> Iterator[Broker]:
    """A broker that holds at most 4 MiB of requests."""
    with Broker(durability="os", config={"queued.max.request.bytes": 4 << 20}) as broker:
        yield broker


def test_queued_max_request_bytes_bounds_half_frames(small: Broker) -> None:
    before = rss_kb(small.pid)
    with open_and_ask(small) as good, ExitStack() as open_ones:
        topic = create_topic(good)
        for _ in range(40):
            one = open_ones.enter_context(open_and_ask(small))
            one.socket.setblocking(False)
            # 900 kB of a frame of 1 MB: 36 MB in all, if they were all taken.
            try:
                one.socket.send(struct.pack(">i", 1_000_000) + bytes(900_000))
            except BlockingIOError:
                continue
        # Small frames of others are whole at once; they need no room.
        for _ in range(50):
            good.produce(topic)
        assert rss_kb(small.pid) - before < 24 << 10
    with open_and_ask(small) as after:
        data = batch([bytes(900_000)])
        answer = after.call("Produce", 9, **produce_body(topic, [(0, data)]))
        assert answer.responses[0].partition_responses[0].error_code == 0


def test_an_answer_not_taken_stops_only_its_connection(small: Broker) -> None:
    with open_and_ask(small) as good, open_and_ask(small) as lazy:
        topic = create_topic(good)
        for _ in range(20):
            good.produce(topic, bytes(900_000))
        before = rss_kb(small.pid)
        for _ in range(200):
            lazy.send(
                "Fetch",
                4,
                replica_id=-1,
                max_wait_ms=0,
                min_bytes=0,
                max_bytes=50 << 20,
                isolation_level=0,
                topics=[
                    {
                        "topic": topic.name,
                        "partitions": [
                            {"partition": 0, "fetch_offset": 0, "partition_max_bytes": 50 << 20}
                        ],
                    }
                ],
            )
        for _ in range(50):
            good.produce(topic)
        assert rss_kb(small.pid) - before < 16 << 10


def test_a_thousand_topics_starve_nobody(small: Broker) -> None:
    with open_and_ask(small) as admin, open_and_ask(small) as other:
        topic = create_topic(other)
        asked = [
            {
                "name": f"many-{number}",
                "num_partitions": 1,
                "replication_factor": 1,
                "assignments": [],
                "configs": [],
            }
            for number in range(1000)
        ]
        admin.send("CreateTopics", 7, topics=asked, timeout_ms=60_000, validate_only=False)
        admin.socket.setblocking(False)
        done = 0
        while True:
            other.produce(topic)
            other.fetch(topic, done)
            other.call("DescribeCluster", 0)
            done += 1
            try:
                if admin.socket.recv(1, 2):  # MSG_PEEK
                    break
            except BlockingIOError:
                continue
        admin.socket.settimeout(30)
        answer, _ = admin.receive("CreateTopics", 7)
        assert {one.error_code for one in answer.topics} == {0}
        assert len(answer.topics) == 1000
        assert done >= 2
