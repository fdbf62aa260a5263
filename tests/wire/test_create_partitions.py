"""CreatePartitions: more of them, never fewer."""

from __future__ import annotations

from typing import Any

import pytest

from .client import Connection, Topic, eventually
from .conftest import MakeTopic

UNKNOWN_TOPIC_OR_PARTITION = 3
REQUEST_TIMED_OUT = 7
INVALID_PARTITIONS = 37
INVALID_REPLICA_ASSIGNMENT = 39
INVALID_REQUEST = 42
VERSIONS = range(4)

Asked = tuple[str, int, list[list[int]] | None]


def grow(
    conn: Connection,
    *asked: Asked,
    version: int = 3,
    validate_only: bool = False,
    timeout_ms: int = 10_000,
) -> dict[str, Any]:
    """The answers by name to (name, count, assignments)."""
    topics = [
        {
            "name": name,
            "count": count,
            "assignments": None if given is None else [{"broker_ids": ids} for ids in given],
        }
        for name, count, given in asked
    ]
    body = {"topics": topics, "timeout_ms": timeout_ms, "validate_only": validate_only}
    answer = conn.call("CreatePartitions", version, **body)
    found = {one.name: one for one in answer.results}
    assert len(found) == len(answer.results)
    return found


def count(conn: Connection, topic: Topic) -> int:
    """How many partitions Metadata tells."""
    return len(conn.metadata([topic.name]).topics[0].partitions)


@pytest.mark.parametrize("version", VERSIONS)
def test_behaviour_46_every_topic_is_answered(
    conn: Connection, make_topic: MakeTopic, version: int
) -> None:
    topics = [make_topic(), make_topic(2)]
    conn.produce(topics[0], b"old")
    asked: list[Asked] = [(topics[0].name, 3, None), ("wire-nobody", 3, None)]
    asked.append((topics[1].name, 4, None))
    found = grow(conn, *asked, version=version)
    assert {name: one.error_code for name, one in found.items()} == {
        topics[0].name: 0,
        "wire-nobody": UNKNOWN_TOPIC_OR_PARTITION,
        topics[1].name: 0,
    }
    eventually(lambda: [count(conn, topic) for topic in topics] == [3, 4])
    eventually(lambda: conn.list_offset(topics[0], -1, partition=2).error_code == 0)
    assert conn.produce(topics[0], b"new", partition=2) == 0
    assert conn.list_offset(topics[0], -1, partition=0).offset == 1


@pytest.mark.parametrize("wanted", [3, 2, 1, 0, -1, -(2**31)])
def test_behaviour_46_not_fewer_nor_as_many(
    conn: Connection, make_topic: MakeTopic, wanted: int
) -> None:
    topic = make_topic(3)
    found = grow(conn, (topic.name, wanted, None))
    assert found[topic.name].error_code == INVALID_PARTITIONS
    assert found[topic.name].error_message
    assert count(conn, topic) == 3


@pytest.mark.parametrize("version", VERSIONS)
def test_behaviour_46_validate_only(conn: Connection, topic: Topic, version: int) -> None:
    good = grow(conn, (topic.name, 2, None), version=version, validate_only=True)
    bad = grow(conn, (topic.name, 1, None), version=version, validate_only=True)
    assert good[topic.name].error_code == 0
    assert bad[topic.name].error_code == INVALID_PARTITIONS
    assert count(conn, topic) == 1


def test_behaviour_46_assignments(conn: Connection, topic: Topic) -> None:
    me = conn.metadata([]).brokers[0].node_id
    refused: list[list[list[int]]] = [
        [],
        [[me]],
        [[me], [me], [me]],
        [[me], [me + 100]],
        [[me], [me, me]],
        [[me], []],
    ]
    for given in refused:
        found = grow(conn, (topic.name, 3, given))
        assert found[topic.name].error_code == INVALID_REPLICA_ASSIGNMENT, given
    assert count(conn, topic) == 1
    assert grow(conn, (topic.name, 3, [[me], [me]]))[topic.name].error_code == 0
    eventually(lambda: count(conn, topic) == 3)


def test_what_is_late_is_not_done(conn: Connection, topic: Topic) -> None:
    answer = grow(conn, (topic.name, 5, None), timeout_ms=-1)[topic.name]
    assert answer.error_code == REQUEST_TIMED_OUT
    assert count(conn, topic) == topic.partitions


def test_behaviour_46_a_topic_named_twice_is_refused(conn: Connection, topic: Topic) -> None:
    found = grow(conn, (topic.name, 2, None), (topic.name, 3, None))
    assert found[topic.name].error_code == INVALID_REQUEST
    assert count(conn, topic) == 1
