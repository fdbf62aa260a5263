"""Metadata: who serves what, and topics that come into being by being asked for."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from .client import NO_ID, Connection, Topic, eventually
from .conftest import MakeTopic

UNKNOWN_TOPIC_OR_PARTITION = 3
LEADER_NOT_AVAILABLE = 5
INVALID_TOPIC_EXCEPTION = 17
INVALID_REQUEST = 42
UNKNOWN_TOPIC_ID = 100
VERSIONS = range(14)

Connect = Callable[[], Connection]


def fresh(hint: str = "auto") -> str:
    """A name no topic has."""
    return f"wire-{hint}-{uuid.uuid4().hex}"


def ask(conn: Connection, topics: Any, version: int = 13, *, create: bool = False) -> Any:
    """Metadata of `topics`: names, ids, or None."""
    asked = None
    if topics is not None:
        asked = [
            {"name": None, "topic_id": one} if isinstance(one, uuid.UUID) else {"name": one}
            for one in topics
        ]
    if version >= 10 and asked is not None:
        asked = [{"topic_id": NO_ID} | one for one in asked]
    flag = {"allow_auto_topic_creation": create} if version >= 4 else {}
    return conn.call("Metadata", version, topics=asked, **flag)


def names(answer: Any) -> list[str]:
    """Names of the topics told, in order."""
    return [topic.name for topic in answer.topics]


@pytest.mark.parametrize("version", VERSIONS)
def test_behaviour_42_the_broker_is_reachable_where_it_says(
    conn: Connection, address: tuple[str, int], make_topic: MakeTopic, version: int
) -> None:
    topic = make_topic(2)
    answer = ask(conn, [topic.name], version)
    (broker,) = answer.brokers
    assert (broker.host, broker.port) == address
    (told,) = answer.topics
    assert (told.error_code, told.name) == (0, topic.name)
    parts = sorted(told.partitions, key=lambda part: part.partition_index)
    assert [part.partition_index for part in parts] == [0, 1]
    for part in parts:
        assert (part.error_code, part.leader_id) == (0, broker.node_id)
        assert (list(part.replica_nodes), list(part.isr_nodes)) == ([broker.node_id],) * 2
        if version >= 5:
            assert list(part.offline_replicas) == []
        if version >= 7:
            assert part.leader_epoch >= 0
    if version >= 1:
        assert (answer.controller_id, broker.rack) == (broker.node_id, None)
        assert not told.is_internal
    if version >= 2:
        assert len(answer.cluster_id) == 22
    if version >= 10:
        assert told.topic_id == topic.id != NO_ID
    if version >= 13:
        assert answer.error_code == 0


def test_behaviour_42_the_cluster_id_stays(connect: Connect) -> None:
    assert len({ask(connect(), []).cluster_id for _ in range(3)}) == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_behaviour_41_all_and_none(conn: Connection, topic: Topic, version: int) -> None:
    everything = ask(conn, None if version else [], version)
    assert topic.name in names(everything)
    assert len(everything.brokers) == 1
    if version:
        nothing = ask(conn, [], version)
        assert (names(nothing), len(nothing.brokers)) == ([], 1)


def test_behaviour_41_some(conn: Connection, make_topic: MakeTopic) -> None:
    topics = [make_topic() for _ in range(3)]
    asked = [topics[2].name, topics[0].name]
    assert sorted(names(ask(conn, asked))) == sorted(asked)
    assert names(ask(conn, asked * 2)).count(asked[0]) == 1


@pytest.mark.parametrize("version", [4, 9, 12, 13])
def test_behaviour_41_unknown_is_not_made_without_the_flag(conn: Connection, version: int) -> None:
    name = fresh()
    for _ in range(2):
        (told,) = ask(conn, [name], version).topics
        assert (told.error_code, told.name) == (UNKNOWN_TOPIC_OR_PARTITION, name)
        assert list(told.partitions) == []
        if version >= 10:
            assert told.topic_id in (None, NO_ID)
    assert name not in names(ask(conn, None, version))


@pytest.mark.parametrize("version", [0, 1, 3, 4, 9, 13])
def test_behaviour_41_auto_create(conn: Connection, version: int) -> None:
    name = fresh()
    first = ask(conn, [name], version, create=True).topics[0]
    assert first.error_code in (0, UNKNOWN_TOPIC_OR_PARTITION, LEADER_NOT_AVAILABLE)

    def there() -> Any:
        (told,) = ask(conn, [name], version, create=True).topics
        return told if told.error_code == 0 and told.partitions else None

    told = eventually(there)
    assert len(told.partitions) == 1
    assert name in names(ask(conn, None, 1))
    identity = ask(conn, [name]).topics[0].topic_id
    made = Topic(name=name, id=identity, partitions=1)
    eventually(lambda: conn.list_offset(made, -1).error_code == 0)
    assert conn.produce(made, b"v") == 0


def test_behaviour_41_asking_for_all_makes_nothing(conn: Connection, topic: Topic) -> None:
    before = set(names(ask(conn, None, create=True)))
    assert set(names(ask(conn, None, create=True))) == before


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a b", "a\0b", "\u00e9", "x" * 250, "a,b", "../etc", "a:b"]
)
@pytest.mark.parametrize("create", [False, True])
def test_behaviour_41_bad_names(conn: Connection, name: str, create: bool) -> None:
    (told,) = ask(conn, [name], 9, create=create).topics
    assert (told.name, list(told.partitions)) == (name, [])
    assert told.error_code == INVALID_TOPIC_EXCEPTION


def test_behaviour_41_the_longest_name(conn: Connection) -> None:
    name = fresh().ljust(249, "x")
    eventually(lambda: ask(conn, [name], create=True).topics[0].error_code == 0)


def test_behaviour_41_names_that_collide_are_not_made(conn: Connection) -> None:
    stem = fresh()
    eventually(lambda: ask(conn, [stem + ".x"], create=True).topics[0].error_code == 0)
    for _ in range(3):
        (told,) = ask(conn, [stem + "_x"], create=True).topics
        assert told.error_code in (UNKNOWN_TOPIC_OR_PARTITION, INVALID_TOPIC_EXCEPTION)
    assert stem + "_x" not in names(ask(conn, None))


@pytest.mark.parametrize("version", [12, 13])
def test_behaviour_40_topics_by_id(conn: Connection, make_topic: MakeTopic, version: int) -> None:
    topics = [make_topic(), make_topic(2)]
    nobody = uuid.uuid4()
    answer = ask(conn, [topics[1].id, nobody, topics[0].id], version)
    told = {one.topic_id: one for one in answer.topics}
    assert set(told) == {topics[0].id, topics[1].id, nobody}
    for topic in topics:
        one = told[topic.id]
        assert (one.error_code, one.name) == (0, topic.name)
        assert len(one.partitions) == topic.partitions
    assert told[nobody].error_code == UNKNOWN_TOPIC_ID
    assert list(told[nobody].partitions) == []


@pytest.mark.parametrize("version", [10, 11])
def test_behaviour_40_no_lookup_by_id_before_version_12(
    conn: Connection, topic: Topic, version: int
) -> None:
    answer = conn.call(
        "Metadata",
        version,
        topics=[{"topic_id": topic.id, "name": ""}],
        allow_auto_topic_creation=False,
    )
    assert [one.error_code for one in answer.topics] == [INVALID_REQUEST]


@pytest.mark.parametrize("version", [12, 13])
def test_behaviour_40_a_null_name_needs_an_id(conn: Connection, version: int) -> None:
    answer = conn.call(
        "Metadata",
        version,
        topics=[{"topic_id": NO_ID, "name": None}],
        allow_auto_topic_creation=False,
    )
    assert [one.error_code for one in answer.topics] != [0]


def test_behaviour_40_a_topic_made_again_has_another_id(conn: Connection, topic: Topic) -> None:
    conn.call("DeleteTopics", 6, topics=[{"name": topic.name}], timeout_ms=10_000)
    eventually(lambda: ask(conn, [topic.name]).topics[0].error_code == UNKNOWN_TOPIC_OR_PARTITION)
    eventually(lambda: ask(conn, [topic.name], create=True).topics[0].error_code == 0)
    again = ask(conn, [topic.name]).topics[0].topic_id
    assert again not in (topic.id, NO_ID)
    (old,) = ask(conn, [topic.id]).topics
    assert old.error_code == UNKNOWN_TOPIC_ID


@pytest.mark.parametrize("version", [8, 10, 13])
def test_authorized_operations_only_when_asked_for(
    conn: Connection, topic: Topic, version: int
) -> None:
    for asked in (False, True):
        flags = {"include_topic_authorized_operations": asked, "allow_auto_topic_creation": False}
        if version <= 10:
            flags["include_cluster_authorized_operations"] = asked
        answer = conn.call("Metadata", version, topics=[{"name": topic.name}], **flags)
        (told,) = answer.topics
        assert (operations(told) is None) == (not asked)
        if version <= 10:
            assert (operations(answer) is None) == (not asked)


def operations(told: Any) -> int | None:
    """What the client may do; None if the broker does not say."""
    value = told.authorized_operations
    if isinstance(value, int):
        return None if value == -(2**31) else value
    return value


def test_behaviour_05_no_api_versions_needed_first(connect: Connect) -> None:
    for version in (0, 1):
        assert len(ask(connect(), [], version).brokers) == 1
