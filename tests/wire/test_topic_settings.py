"""Settings of a topic that shape its files: felt by the log as soon as they are set."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mqlog.testing import Broker

from .client import Connection, Topic, eventually
from .conftest import create_topic, split_address

pytestmark = pytest.mark.ours

SEGMENT_BYTES = 1 << 20


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Broker]:
    """A broker that looks for old segments often, in a directory that can be looked into."""
    with Broker(tmp_path, config={"log.retention.check.interval.ms": 200}) as broker:
        yield broker


@pytest.fixture
def wire(own: Broker) -> Iterator[Connection]:
    """A connection to it."""
    with Connection(split_address(own.bootstrap_servers)) as connection:
        yield connection


def files(own: Broker, topic: Topic, pattern: str) -> list[Path]:
    """Files of partition 0, by name."""
    return sorted(Path(own.data_dir, "topics", topic.id.hex, "0").glob(pattern))


def test_segment_ms(own: Broker, wire: Connection) -> None:
    """The age of a segment is the broker's time since its first batch."""
    brief = create_topic(wire, segment_ms="100", retention_ms="-1")
    weekly = create_topic(wire, retention_ms="-1")
    for _ in range(4):
        for topic in (brief, weekly):
            wire.produce(topic)
        time.sleep(0.15)
    assert [path.name for path in files(own, brief, "*.log")] == [f"{n:020}.log" for n in range(4)]
    assert len(files(own, weekly, "*.log")) == 1


def test_index_interval_bytes(own: Broker, wire: Connection) -> None:
    sizes = []
    for interval in ("1000", "100000"):
        topic = create_topic(wire, index_interval_bytes=interval, segment_bytes=str(SEGMENT_BYTES))
        for _ in range(110):
            wire.produce(topic, b"x" * 10_000)
        index = eventually(lambda topic=topic: files(own, topic, "*.idx"))[0]
        sizes.append(eventually(lambda index=index: index.stat().st_size))
    every_batch, every_ten = sizes
    assert every_batch > 5 * every_ten


@pytest.mark.parametrize("delay_ms", [0, 600_000])
def test_file_delete_delay_ms(own: Broker, wire: Connection, delay_ms: int) -> None:
    settings = {"segment_bytes": str(SEGMENT_BYTES), "retention_bytes": "1"}
    topic = create_topic(wire, file_delete_delay_ms=str(delay_ms), **settings)
    for n in range(3):
        assert wire.produce(topic, b"x" * 600_000) == n
    eventually(lambda: wire.list_offset(topic, -2).offset == 2)
    if delay_ms:
        assert len(files(own, topic, "*.log*")) == 3
    else:
        eventually(lambda: len(files(own, topic, "*.log*")) == 1)
