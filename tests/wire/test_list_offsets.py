"""ListOffsets: the marks of a log, and offsets by time."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from .batches import CODECS, Rec
from .client import Connection, Topic
from .conftest import MakeTopic

UNKNOWN_TOPIC_OR_PARTITION = 3
UNSUPPORTED_VERSION = 35
INVALID_REQUEST = 42
FENCED_LEADER_EPOCH = 74
UNKNOWN_LEADER_EPOCH = 75
LATEST, EARLIEST, MAX_TIMESTAMP, EARLIEST_LOCAL, LATEST_TIERED, PENDING_UPLOAD = range(-1, -7, -1)
VERSIONS = range(1, 12)
T = 1_700_000_000_000


def epoch_of(conn: Connection, topic: Topic) -> int:
    """The leader epoch that Metadata tells."""
    return int(conn.metadata([topic.name]).topics[0].partitions[0].leader_epoch)


def trim(conn: Connection, topic: Topic, offset: int) -> None:
    """Deletes what lies before `offset`."""
    part = {"partition_index": 0, "offset": offset}
    named = {"name": topic.name, "partitions": [part]}
    answer = conn.call("DeleteRecords", 2, topics=[named], timeout_ms=10_000)
    assert answer.topics[0].partitions[0].error_code == 0


def answer(part: Any) -> tuple[int, int, int]:
    """Error, offset and timestamp of an answer."""
    return part.error_code, part.offset, part.timestamp


@pytest.mark.parametrize("version", VERSIONS)
def test_behaviour_19_marks_of_every_version(conn: Connection, topic: Topic, version: int) -> None:
    for n in range(4):
        conn.produce(topic, Rec(timestamp=T + n))
    trim(conn, topic, 1)
    latest = conn.list_offset(topic, LATEST, version=version)
    earliest = conn.list_offset(topic, EARLIEST, version=version)
    assert (answer(latest), answer(earliest)) == ((0, 4, -1), (0, 1, -1))
    if version >= 4:
        assert (latest.leader_epoch, earliest.leader_epoch) == (epoch_of(conn, topic),) * 2


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("timestamp", "since", "expected"),
    [
        (MAX_TIMESTAMP, 7, (0, 2, T + 9)),
        (EARLIEST_LOCAL, 8, (0, 0, -1)),
        (LATEST_TIERED, 9, (0, -1, -1)),
        (PENDING_UPLOAD, 11, (0, -1, -1)),
    ],
)
def test_behaviour_19_special_times_and_their_versions(
    conn: Connection,
    topic: Topic,
    version: int,
    timestamp: int,
    since: int,
    expected: tuple[int, int, int],
) -> None:
    for later in (0, 3, 9, 5):
        conn.produce(topic, Rec(timestamp=T + later))
    part = conn.list_offset(topic, timestamp, version=version)
    if version >= since:
        assert answer(part) == expected
    else:
        assert answer(part) == (UNSUPPORTED_VERSION, -1, -1)


@pytest.mark.parametrize("timestamp", [-7, -100, -(2**63)])
def test_behaviour_19_other_negative_times_are_refused(
    conn: Connection, topic: Topic, timestamp: int
) -> None:
    assert answer(conn.list_offset(topic, timestamp)) == (UNSUPPORTED_VERSION, -1, -1)


@pytest.mark.parametrize("codec", CODECS)
def test_behaviour_19_first_record_at_or_after_a_time(
    conn: Connection, topic: Topic, codec: str
) -> None:
    # Within batches and between them, times need not grow.
    batches_of = [[10, 30, 20], [5, 25], [40], [40, 35]]
    for times in batches_of:
        conn.produce(topic, *[Rec(timestamp=T + t) for t in times], codec=CODECS[codec])
    flat = [t for times in batches_of for t in times]
    for wanted in range(45):
        found = conn.list_offset(topic, T + wanted)
        first = next((n for n, t in enumerate(flat) if t >= wanted), None)
        if first is None:
            assert answer(found) == (0, -1, -1)
        else:
            assert answer(found) == (0, first, T + flat[first])
            assert found.leader_epoch == epoch_of(conn, topic)


def test_behaviour_19_times_across_segments(conn: Connection, make_topic: MakeTopic) -> None:
    topic = make_topic(segment_bytes=str(1 << 20))
    for n in range(40):
        conn.produce(topic, Rec(b"x" * 100_000, timestamp=T + 10 * n))
    for n in range(40):
        assert answer(conn.list_offset(topic, T + 10 * n - 5)) == (0, n, T + 10 * n)
    assert answer(conn.list_offset(topic, T + 391)) == (0, -1, -1)


@pytest.mark.ours
def test_behaviour_19_times_across_trimmed_segments(
    conn: Connection, make_topic: MakeTopic
) -> None:
    """Kafka finds nothing as long as the files of a trimmed segment are still there."""
    topic = make_topic(segment_bytes=str(1 << 20))
    for n in range(40):
        conn.produce(topic, Rec(b"x" * 100_000, timestamp=T + 10 * n))
    trim(conn, topic, 25)
    assert answer(conn.list_offset(topic, T)) == (0, 25, T + 250)
    assert answer(conn.list_offset(topic, T + 255)) == (0, 26, T + 260)


@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [
        (LATEST, (0, 0, -1)),
        (EARLIEST, (0, 0, -1)),
        (MAX_TIMESTAMP, (0, -1, -1)),
        (EARLIEST_LOCAL, (0, 0, -1)),
        (LATEST_TIERED, (0, -1, -1)),
        (0, (0, -1, -1)),
        (T, (0, -1, -1)),
        (2**63 - 1, (0, -1, -1)),
    ],
)
def test_behaviour_19_empty_partition(
    conn: Connection, topic: Topic, timestamp: int, expected: tuple[int, int, int]
) -> None:
    assert answer(conn.list_offset(topic, timestamp)) == expected


def test_behaviour_19_the_largest_time_is_found_first(conn: Connection, topic: Topic) -> None:
    conn.produce(topic, *[Rec(timestamp=T + t) for t in (1, 9, 9, 4)])
    conn.produce(topic, Rec(timestamp=T + 9))
    assert answer(conn.list_offset(topic, MAX_TIMESTAMP)) == (0, 1, T + 9)


@pytest.mark.parametrize("timestamp", [LATEST, EARLIEST, MAX_TIMESTAMP, T])
def test_behaviour_19_read_committed(conn: Connection, topic: Topic, timestamp: int) -> None:
    for n in range(3):
        conn.produce(topic, Rec(timestamp=T + n))
    found = [answer(conn.list_offset(topic, timestamp, isolation_level=level)) for level in (0, 1)]
    assert found[0] == found[1]
    assert found[0][0] == 0


def test_behaviour_19_a_log_emptied_by_trimming(conn: Connection, topic: Topic) -> None:
    for n in range(3):
        conn.produce(topic, Rec(timestamp=T + n))
    trim(conn, topic, 3)
    marks = [answer(conn.list_offset(topic, special)) for special in (LATEST, EARLIEST)]
    assert marks == [(0, 3, -1), (0, 3, -1)]
    assert answer(conn.list_offset(topic, T)) == (0, -1, -1)


@pytest.mark.parametrize("version", [4, 10, 11])
def test_behaviour_38_leader_epoch(conn: Connection, topic: Topic, version: int) -> None:
    current = epoch_of(conn, topic)
    for epoch, expected in ((-1, 0), (current, 0), (current + 1, UNKNOWN_LEADER_EPOCH)):
        part = conn.list_offset(topic, LATEST, version=version, current_leader_epoch=epoch)
        assert part.error_code == expected
        assert part.offset == (-1 if expected else 0)
    if current:
        part = conn.list_offset(topic, LATEST, version=version, current_leader_epoch=current - 1)
        assert part.error_code == FENCED_LEADER_EPOCH


@pytest.mark.parametrize("version", [1, 5, 11])
def test_behaviour_44_unknown_topics_and_partitions(
    conn: Connection, topic: Topic, version: int
) -> None:
    nobody = Topic(name="wire-nobody", id=uuid.uuid4(), partitions=1)
    for who, partition in ((nobody, 0), (topic, 1), (topic, -1)):
        for timestamp in (LATEST, T):
            part = conn.list_offset(who, timestamp, partition=partition, version=version)
            assert answer(part) == (UNKNOWN_TOPIC_OR_PARTITION, -1, -1)


def test_many_partitions_in_one_request(conn: Connection, make_topic: MakeTopic) -> None:
    topics = [make_topic(3), make_topic(2)]
    for count, partition in ((2, 0), (5, 2)):
        for _ in range(count):
            conn.produce(topics[0], Rec(timestamp=T), partition=partition)
    body = [
        {
            "name": topic.name,
            "partitions": [
                {"partition_index": index, "timestamp": timestamp}
                for index, timestamp in enumerate((LATEST, T, LATEST)[: topic.partitions])
            ],
        }
        for topic in topics
    ]
    found = conn.call("ListOffsets", 8, replica_id=-1, isolation_level=0, topics=body)
    got = {
        (topic.name, part.partition_index): (part.error_code, part.offset)
        for topic in found.topics
        for part in topic.partitions
    }
    first, second = (topic.name for topic in topics)
    assert got == {
        (first, 0): (0, 2),
        (first, 1): (0, -1),
        (first, 2): (0, 5),
        (second, 0): (0, 0),
        (second, 1): (0, -1),
    }


def test_a_partition_asked_twice_is_an_error(conn: Connection, topic: Topic) -> None:
    part = {"partition_index": 0, "timestamp": LATEST}
    named = {"name": topic.name, "partitions": [part, part]}
    found = conn.call("ListOffsets", 8, replica_id=-1, isolation_level=0, topics=[named])
    errors = {one.error_code for one in found.topics[0].partitions}
    assert errors == {INVALID_REQUEST}
