"""Elections, reassignments and moves between directories, on a broker that has nowhere to move."""

from __future__ import annotations

from typing import Any

import pytest

from .client import Connection, Topic
from .conftest import MakeTopic

UNKNOWN_TOPIC_OR_PARTITION = 3
REQUEST_TIMED_OUT = 7
INVALID_REPLICA_ASSIGNMENT = 39
INVALID_REQUEST = 42
LOG_DIR_NOT_FOUND = 57
ELECTION_NOT_NEEDED = 84
NO_REASSIGNMENT_IN_PROGRESS = 85
PREFERRED, UNCLEAN = 0, 1
NOT_NEEDED = (ELECTION_NOT_NEEDED, "Leader election not needed for topic partition.")


def elect(
    conn: Connection,
    version: int,
    asked: list[tuple[str, list[int]]] | None,
    election_type: int = PREFERRED,
    timeout_ms: int = 10_000,
) -> tuple[int, list[tuple[str, list[tuple[int, int, str | None]]]]]:
    """ElectLeaders: the error of all, and index, error and text of each partition by topic."""
    named = None if asked is None else [{"topic": t, "partitions": p} for t, p in asked]
    values: dict[str, Any] = {"topic_partitions": named, "timeout_ms": timeout_ms}
    if version >= 1:
        values["election_type"] = election_type
    answer = conn.call("ElectLeaders", version, **values)
    told = [
        (
            one.topic,
            [(p.partition_id, p.error_code, p.error_message) for p in one.partition_result],
        )
        for one in answer.replica_election_results
    ]
    return answer.error_code if version >= 1 else 0, told


@pytest.mark.parametrize("version", range(3))
def test_elections_are_not_needed(conn: Connection, make_topic: MakeTopic, version: int) -> None:
    topic = make_topic(2)
    asked = [(topic.name, [0, 1, 7, -1]), ("wire-nobody", [0]), ("", [0])]
    missing = [
        (index, UNKNOWN_TOPIC_OR_PARTITION, f"No such partition as {topic.name}-{index}")
        for index in (7, -1)
    ]
    expected = [
        (topic.name, [(0, *NOT_NEEDED), (1, *NOT_NEEDED), *missing]),
        ("wire-nobody", [(0, UNKNOWN_TOPIC_OR_PARTITION, "No such topic as wire-nobody")]),
        ("", [(0, UNKNOWN_TOPIC_OR_PARTITION, "No such topic as ")]),
    ]
    for election_type in (PREFERRED, UNCLEAN) if version else (PREFERRED,):
        assert elect(conn, version, asked, election_type) == (0, expected)
    # Of everything, only what had an election would be told.
    code, told = elect(conn, version, None)
    assert (code, dict(told)[topic.name]) == (0, [])
    assert elect(conn, version, []) == (0, [])


def test_elections_without_time_in_a_version_without_an_error(
    conn: Connection, topic: Topic
) -> None:
    told = elect(conn, 0, [(topic.name, [0])], timeout_ms=-1)
    assert told == (0, [(topic.name, [(0, REQUEST_TIMED_OUT, None)])])


@pytest.mark.parametrize("version", [1, 2])
def test_elections_of_an_unknown_type_and_without_time(
    conn: Connection, topic: Topic, version: int
) -> None:
    asked = [(topic.name, [0])]
    part = (0, INVALID_REQUEST, "Unknown election type 2")
    assert elect(conn, version, asked, 2) == (INVALID_REQUEST, [(topic.name, [part])])
    assert elect(conn, version, [], 2) == (0, []), "of nothing"
    late = (0, REQUEST_TIMED_OUT, None)
    told = elect(conn, version, asked, timeout_ms=-1)
    assert told == (REQUEST_TIMED_OUT, [(topic.name, [late])])


def reassign(conn: Connection, version: int, topic: str, *parts: Any, **more: Any) -> Any:
    """AlterPartitionReassignments of (index, replicas): index, error and text of each."""
    listed = [{"partition_index": index, "replicas": replicas} for index, replicas in parts]
    values: dict[str, Any] = {"timeout_ms": 10_000, **more}
    if version >= 1:
        values.setdefault("allow_replication_factor_change", True)
    asked = [{"name": topic, "partitions": listed}]
    answer = conn.call("AlterPartitionReassignments", version, topics=asked, **values)
    assert answer.error_message is None
    (told,) = answer.responses
    assert told.name == topic
    return [(p.partition_index, p.error_code, p.error_message) for p in told.partitions]


@pytest.mark.parametrize("version", range(2))
def test_reassignments(conn: Connection, make_topic: MakeTopic, version: int) -> None:
    topic = make_topic(2)
    me = conn.metadata([]).brokers[0].node_id
    other = me + 1
    rule = "The manual partition assignment includes"
    told = reassign(
        conn, version, topic.name, (0, [me]), (1, None), (9, [me]), (9, None), (-1, [me])
    )
    assert told == [
        (0, 0, None),
        (1, NO_REASSIGNMENT_IN_PROGRESS, None),
        *(
            (index, UNKNOWN_TOPIC_OR_PARTITION, f"Unable to find partition {topic.name}:{index}.")
            for index in (9, 9, -1)
        ),
    ]
    bad = [(0, [other]), (1, []), (0, [me, me]), (1, [me, other]), (0, [-1])]
    assert reassign(conn, version, topic.name, *bad) == [
        (index, INVALID_REPLICA_ASSIGNMENT, f"{rule} {why}")
        for index, why in [
            (0, f"broker {other}, but no such broker is registered."),
            (1, "an empty replica list."),
            (0, f"the broker {me} more than once."),
            (1, f"broker {other}, but no such broker is registered."),
            (0, "broker -1, but no such broker is registered."),
        ]
    ]
    nobody = "Unable to find a topic named wire-nobody."
    told = reassign(conn, version, "wire-nobody", (0, [me]), (1, None))
    assert told == [(index, UNKNOWN_TOPIC_OR_PARTITION, nobody) for index in (0, 1)]
    late = reassign(conn, version, topic.name, (0, [me]), timeout_ms=-1)
    assert late == [(0, REQUEST_TIMED_OUT, None)]
    # All of that moved nothing.
    asked = [{"name": topic.name, "partition_indexes": [0, 1, 9]}]
    for topics in (None, [], asked, [{"name": "wire-nobody", "partition_indexes": [0]}]):
        listed = conn.call("ListPartitionReassignments", 0, timeout_ms=10_000, topics=topics)
        assert (listed.error_code, list(listed.topics)) == (0, [])
    parts = conn.metadata([topic.name]).topics[0].partitions
    assert [list(part.replica_nodes) for part in parts] == [[me], [me]]


def move(conn: Connection, version: int, *dirs: tuple[str, str, list[int]]) -> dict[Any, int]:
    """AlterReplicaLogDirs of (path, topic, partitions): error by topic and partition."""
    asked = [
        {"path": path, "topics": [{"name": topic, "partitions": partitions}]}
        for path, topic, partitions in dirs
    ]
    answer = conn.call("AlterReplicaLogDirs", version, dirs=asked)
    return {
        (one.topic_name, part.partition_index): part.error_code
        for one in answer.results
        for part in one.partitions
    }


@pytest.mark.parametrize("version", [1, 2])
def test_moves_between_directories(conn: Connection, make_topic: MakeTopic, version: int) -> None:
    topic = make_topic(2)
    path = conn.call("DescribeLogDirs", 4, topics=[]).results[0].log_dir
    here = move(conn, version, (path, topic.name, [0, 1, 9]), (path, "wire-nobody", [0]))
    assert here == {
        (topic.name, 0): 0,
        (topic.name, 1): 0,
        (topic.name, 9): UNKNOWN_TOPIC_OR_PARTITION,
        ("wire-nobody", 0): UNKNOWN_TOPIC_OR_PARTITION,
    }
    for other in ("/wire-nowhere", "relative", "", path + "/"):
        told = move(conn, version, (other, topic.name, [1, 9]), (other, "wire-nobody", [0]))
        assert set(told.values()) == {LOG_DIR_NOT_FOUND}
    # Named for two directories, the last one counts.
    twice = move(conn, version, (path, topic.name, [0]), ("/wire-nowhere", topic.name, [0]))
    assert twice == {(topic.name, 0): LOG_DIR_NOT_FOUND}
    assert move(conn, version) == {}
