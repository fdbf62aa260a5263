"""DeleteRecords: a log begins later, for every reader at once and for good."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .client import Connection, Topic
from .conftest import MakeTopic, create_topic, split_address

OFFSET_OUT_OF_RANGE = 1
UNKNOWN_TOPIC_OR_PARTITION = 3
POLICY_VIOLATION = 44
VERSIONS = range(3)


def trim(
    conn: Connection, topic: Topic, offset: int, *, partition: int = 0, version: int = 2
) -> tuple[int, int]:
    """Error and low watermark of the answer."""
    part = {"partition_index": partition, "offset": offset}
    named = {"name": topic.name, "partitions": [part]}
    answer = conn.call("DeleteRecords", version, topics=[named], timeout_ms=10_000)
    (told,) = answer.topics[0].partitions
    return told.error_code, told.low_watermark


def marks(conn: Connection, topic: Topic, partition: int = 0) -> tuple[int, int]:
    """The first offset and the end."""
    first, end = (conn.list_offset(topic, at, partition=partition).offset for at in (-2, -1))
    return first, end


@pytest.mark.parametrize("version", VERSIONS)
def test_behaviour_47_low_watermark_is_told(conn: Connection, topic: Topic, version: int) -> None:
    for _ in range(5):
        conn.produce(topic, b"v")
    assert trim(conn, topic, 2, version=version) == (0, 2)
    assert marks(conn, topic) == (2, 5)
    assert conn.fetch(topic, 1).error_code == OFFSET_OUT_OF_RANGE
    assert conn.read(topic, 2)[0].base_offset == 2
    assert conn.fetch(topic, 2).log_start_offset == 2


@pytest.mark.parametrize("version", VERSIONS)
def test_behaviour_47_minus_one_is_the_high_watermark(
    conn: Connection, topic: Topic, version: int
) -> None:
    assert trim(conn, topic, -1, version=version) == (0, 0)
    for _ in range(3):
        conn.produce(topic, b"v")
    assert trim(conn, topic, -1, version=version) == (0, 3)
    assert marks(conn, topic) == (3, 3)
    assert conn.produce(topic, b"v") == 3
    assert trim(conn, topic, -1, version=version) == (0, 4)


def test_behaviour_47_it_never_moves_back(conn: Connection, topic: Topic) -> None:
    for _ in range(5):
        conn.produce(topic, b"v")
    moves = [trim(conn, topic, offset) for offset in (3, 1, 0, 3, 4)]
    assert moves == [(0, 3), (0, 3), (0, 3), (0, 3), (0, 4)]


@pytest.mark.parametrize("offset", [4, 2**63 - 1, -2, -(2**63)])
def test_behaviour_47_out_of_range(conn: Connection, topic: Topic, offset: int) -> None:
    for _ in range(3):
        conn.produce(topic, b"v")
    assert trim(conn, topic, offset) == (OFFSET_OUT_OF_RANGE, -1)
    assert marks(conn, topic) == (0, 3)


def test_behaviour_47_in_the_middle_of_a_batch(conn: Connection, topic: Topic) -> None:
    conn.produce(topic, b"a", b"b", b"c")
    assert trim(conn, topic, 1) == (0, 1)
    assert marks(conn, topic) == (1, 3)
    assert conn.fetch(topic, 0).error_code == OFFSET_OUT_OF_RANGE
    (whole,) = conn.read(topic, 1)
    assert (whole.base_offset, whole.count) == (0, 3)


def test_behaviour_47_partition_by_partition(conn: Connection, make_topic: MakeTopic) -> None:
    topic = make_topic(3)
    for partition in range(3):
        for _ in range(3):
            conn.produce(topic, b"v", partition=partition)
    wanted = [(0, 1), (1, 99), (2, -1), (7, 0)]
    parts = [{"partition_index": index, "offset": offset} for index, offset in wanted]
    topics = [
        {"name": topic.name, "partitions": parts},
        {"name": "wire-nobody", "partitions": parts[:1]},
    ]
    answer = conn.call("DeleteRecords", 2, topics=topics, timeout_ms=10_000)
    found: dict[Any, tuple[int, int]] = {
        (one.name, part.partition_index): (part.error_code, part.low_watermark)
        for one in answer.topics
        for part in one.partitions
    }
    assert found == {
        (topic.name, 0): (0, 1),
        (topic.name, 1): (OFFSET_OUT_OF_RANGE, -1),
        (topic.name, 2): (0, 3),
        (topic.name, 7): (UNKNOWN_TOPIC_OR_PARTITION, -1),
        ("wire-nobody", 0): (UNKNOWN_TOPIC_OR_PARTITION, -1),
    }
    assert [marks(conn, topic, index)[0] for index in range(3)] == [1, 0, 3]


@pytest.mark.parametrize(
    ("policy", "expected"), [("compact", POLICY_VIOLATION), ("compact,delete", 0), ("delete", 0)]
)
def test_behaviour_47_compacted_topics_are_not_trimmed(
    conn: Connection, make_topic: MakeTopic, policy: str, expected: int
) -> None:
    topic = make_topic(cleanup_policy=policy)
    assert trim(conn, topic, 0)[0] == expected


@pytest.fixture
def own() -> Iterator[Any]:
    """A broker that may be killed."""
    from mqlog.testing import Broker

    with Broker() as running:
        yield running


@pytest.mark.ours
def test_behaviour_47_what_is_deleted_stays_deleted(own: Any) -> None:
    with Connection(split_address(own.bootstrap_servers)) as conn:
        topic = create_topic(conn)
        for _ in range(4):
            conn.produce(topic, b"v")
        assert trim(conn, topic, 3) == (0, 3)
    own.kill()
    own.restart()
    with Connection(split_address(own.bootstrap_servers)) as conn:
        assert marks(conn, topic) == (3, 4)
        assert conn.fetch(topic, 2).error_code == OFFSET_OUT_OF_RANGE
