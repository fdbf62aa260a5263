"""OffsetForLeaderEpoch: where an epoch ended, so that a client learns of a log that was cut."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from .client import Connection, Topic, walk
from .conftest import create_topic, split_address

UNKNOWN_TOPIC_OR_PARTITION = 3
FENCED_LEADER_EPOCH = 74
UNKNOWN_LEADER_EPOCH = 75
VERSIONS = range(2, 5)


def ask(
    conn: Connection, topic: Topic, epoch: int, *, version: int = 4, partition: int = 0, **more: int
) -> Any:
    """The partition's answer."""
    part = {"partition": partition, "leader_epoch": epoch, **more}
    replica = {"replica_id": -1} if version >= 3 else {}
    topics = [{"topic": topic.name, "partitions": [part]}]
    found = conn.call("OffsetForLeaderEpoch", version, topics=topics, **replica)
    assert found.topics[0].topic == topic.name
    return found.topics[0].partitions[0]


def told(part: Any) -> tuple[int, int, int]:
    """Error, epoch and end offset of an answer."""
    return part.error_code, part.leader_epoch, part.end_offset


def epoch_of(conn: Connection, topic: Topic) -> int:
    """The leader epoch that Metadata tells."""
    return int(conn.metadata([topic.name]).topics[0].partitions[0].leader_epoch)


@pytest.mark.parametrize("version", VERSIONS)
def test_behaviour_38_the_current_epoch_ends_at_the_end(
    conn: Connection, topic: Topic, version: int
) -> None:
    current = epoch_of(conn, topic)
    for end in range(3):
        assert told(ask(conn, topic, current, version=version)) == (0, current, end)
        conn.produce(topic, b"v")


@pytest.mark.parametrize("beside", [1, 7, 1_000_000])
def test_behaviour_38_unknown_epochs(conn: Connection, topic: Topic, beside: int) -> None:
    conn.produce(topic, b"v")
    current = epoch_of(conn, topic)
    assert told(ask(conn, topic, current + beside)) == (0, -1, -1)
    assert told(ask(conn, topic, -1)) == (0, -1, -1)


@pytest.mark.parametrize("version", VERSIONS)
def test_behaviour_38_the_epoch_the_client_knows(
    conn: Connection, topic: Topic, version: int
) -> None:
    current = epoch_of(conn, topic)
    for known, error in ((-1, 0), (current, 0), (current + 1, UNKNOWN_LEADER_EPOCH)):
        part = ask(conn, topic, current, version=version, current_leader_epoch=known)
        expected = (error, -1, -1) if error else (0, current, 0)
        assert told(part) == expected


@pytest.mark.parametrize("version", VERSIONS)
def test_behaviour_44_unknown_topics_and_partitions(
    conn: Connection, topic: Topic, version: int
) -> None:
    nobody = Topic(name="wire-nobody", id=uuid.uuid4(), partitions=1)
    for who, partition in ((nobody, 0), (topic, 1), (topic, -1)):
        part = ask(conn, who, 0, version=version, partition=partition)
        assert told(part) == (UNKNOWN_TOPIC_OR_PARTITION, -1, -1)


Crashed = tuple[Connection, Topic, int, int]


@pytest.fixture(scope="module")
def crashed() -> Iterator[Crashed]:
    """Two records, a crash, three more: connection, topic, the epochs before and after."""
    from mqlog.testing import Broker

    with Broker() as running:
        with Connection(split_address(running.bootstrap_servers)) as conn:
            topic = create_topic(conn)
            conn.produce(topic, b"a", b"b")
            before = epoch_of(conn, topic)
        running.kill()
        running.restart()
        with Connection(split_address(running.bootstrap_servers)) as conn:
            after = epoch_of(conn, topic)
            assert conn.produce(topic, b"c") == 2
            assert conn.produce(topic, b"d", b"e") == 3
            yield conn, topic, before, after


@pytest.mark.ours
def test_behaviour_38_a_crash_begins_an_epoch(crashed: Crashed) -> None:
    conn, topic, before, after = crashed
    assert after > before
    assert told(ask(conn, topic, before)) == (0, before, 2)
    assert told(ask(conn, topic, after)) == (0, after, 5)
    stored = walk(conn, topic, 5)
    assert [one.leader_epoch for one in stored] == [before, after, after]
    assert conn.list_offset(topic, -1).leader_epoch == after
    assert conn.list_offset(topic, -2).leader_epoch == before
    assert conn.list_offset(topic, 0).leader_epoch == before


@pytest.mark.ours
def test_behaviour_38_the_old_epoch_is_fenced(crashed: Crashed) -> None:
    conn, topic, before, after = crashed
    fenced = (FENCED_LEADER_EPOCH, -1, -1)
    assert told(ask(conn, topic, before, current_leader_epoch=before)) == fenced
    assert conn.fetch(topic, current_leader_epoch=before).error_code == FENCED_LEADER_EPOCH
    part = conn.list_offset(topic, -1, current_leader_epoch=before)
    assert part.error_code == FENCED_LEADER_EPOCH
    assert conn.fetch(topic, current_leader_epoch=after).error_code == 0


@pytest.mark.ours
@pytest.mark.parametrize("version", [12, 18])
def test_behaviour_38_diverging_epoch(crashed: Crashed, version: int) -> None:
    """A client that read further in the old epoch than that epoch goes must come back."""
    conn, topic, before, after = crashed

    def fetch(offset: int, last: int) -> Any:
        options = {"last_fetched_epoch": last, "current_leader_epoch": after}
        answer = conn.fetch_raw(topic, offset, version=version, max_wait_ms=600_000, **options)
        return answer.responses[0].partitions[0]

    cut = fetch(4, before)
    assert cut.error_code == 0
    assert (cut.diverging_epoch.epoch, cut.diverging_epoch.end_offset) == (before, 2)
    assert not cut.records
    for offset, last in ((2, before), (1, before), (3, after)):
        found = fetch(offset, last)
        assert (found.error_code, found.diverging_epoch) == (0, None)
        assert found.records
