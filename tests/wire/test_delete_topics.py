"""DeleteTopics: by name and by id, gone before the answer."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from .client import NO_ID, Connection, Topic, eventually
from .conftest import MakeTopic

UNKNOWN_TOPIC_OR_PARTITION = 3
REQUEST_TIMED_OUT = 7
INVALID_REQUEST = 42
UNKNOWN_TOPIC_ID = 100
VERSIONS = range(1, 7)


def delete(
    conn: Connection,
    *topics: dict[str, Any] | str,
    version: int = 6,
    timeout_ms: int = 10_000,
) -> list[Any]:
    """The answers to deleting these names, or dicts of name and id."""
    if version < 6:
        body: dict[str, Any] = {"topic_names": list(topics)}
    else:
        body = {"topics": [{"name": one} if isinstance(one, str) else one for one in topics]}
    return list(conn.call("DeleteTopics", version, timeout_ms=timeout_ms, **body).responses)


def by_id(identity: uuid.UUID) -> dict[str, Any]:
    """A topic named by its id."""
    return {"name": None, "topic_id": identity}


def gone(conn: Connection, topic: Topic) -> bool:
    """Whether Metadata does not know the topic."""
    told = conn.metadata([topic.name]).topics[0]
    return bool(told.error_code == UNKNOWN_TOPIC_OR_PARTITION)


@pytest.mark.parametrize("version", VERSIONS)
def test_behaviour_47_gone_before_the_answer(
    conn: Connection, make_topic: MakeTopic, version: int
) -> None:
    topics = [make_topic(3), make_topic()]
    kept = make_topic()
    conn.produce(topics[0], b"v")
    answers = delete(conn, *[topic.name for topic in topics], version=version)
    assert {(one.name, one.error_code) for one in answers} == {(t.name, 0) for t in topics}
    if version >= 5:
        assert {one.error_message for one in answers} == {None}
    if version >= 6:
        assert {one.topic_id for one in answers} == {topic.id for topic in topics}
    for topic in topics:
        assert eventually(lambda one=topic: gone(conn, one))
        eventually(lambda one=topic: conn.list_offset(one, -1).error_code != 0)
    assert not gone(conn, kept)


@pytest.mark.ours
def test_behaviour_47_nothing_of_it_is_served_after_the_answer(
    conn: Connection, make_topic: MakeTopic
) -> None:
    for _ in range(10):
        topic = make_topic()
        delete(conn, topic.name)
        assert gone(conn, topic)
        assert conn.list_offset(topic, -1).error_code == UNKNOWN_TOPIC_OR_PARTITION
        assert conn.produce_raw(topic, b"").error_code == UNKNOWN_TOPIC_OR_PARTITION


@pytest.mark.parametrize("version", VERSIONS)
def test_behaviour_46_unknown_names(conn: Connection, topic: Topic, version: int) -> None:
    asked = ["wire-nobody", topic.name, "bad/name"]
    found = {one.name: one for one in delete(conn, *asked, version=version)}
    codes = [found[name].error_code for name in asked]
    assert codes == [UNKNOWN_TOPIC_OR_PARTITION, 0, UNKNOWN_TOPIC_OR_PARTITION]


def test_behaviour_40_by_id(conn: Connection, topic: Topic) -> None:
    nobody = uuid.uuid4()
    found = {one.topic_id: one for one in delete(conn, by_id(topic.id), by_id(nobody))}
    assert (found[topic.id].error_code, found[topic.id].name) == (0, topic.name)
    assert (found[nobody].error_code, found[nobody].name) == (UNKNOWN_TOPIC_ID, None)
    eventually(lambda: gone(conn, topic))


def test_behaviour_40_an_old_id_does_not_delete_the_new_topic(
    conn: Connection, topic: Topic
) -> None:
    delete(conn, topic.name)
    eventually(lambda: gone(conn, topic))
    made = {"name": topic.name, "num_partitions": 1, "replication_factor": 1}
    made |= {"assignments": [], "configs": []}
    (again,) = conn.call(
        "CreateTopics", 7, topics=[made], timeout_ms=10_000, validate_only=False
    ).topics
    assert again.error_code == 0
    (answer,) = delete(conn, by_id(topic.id))
    assert answer.error_code == UNKNOWN_TOPIC_ID
    eventually(lambda: conn.metadata([topic.name]).topics[0].topic_id == again.topic_id)
    used = Topic(name=topic.name, id=again.topic_id, partitions=1)
    eventually(lambda: conn.list_offset(used, -1).error_code == 0)
    assert conn.produce(used, b"v") == 0, "the new topic begins empty"


def test_behaviour_46_name_and_id_together_are_refused(conn: Connection, topic: Topic) -> None:
    both = {"name": topic.name, "topic_id": topic.id}
    neither = {"name": None, "topic_id": NO_ID}
    for one in (both, neither):
        (answer,) = delete(conn, one)
        assert answer.error_code == INVALID_REQUEST
    assert not gone(conn, topic)


@pytest.mark.parametrize("version", [3, 6])
def test_behaviour_46_a_topic_named_twice_is_refused(
    conn: Connection, topic: Topic, version: int
) -> None:
    answers = delete(conn, topic.name, topic.name, version=version)
    assert {one.error_code for one in answers} == {INVALID_REQUEST}
    assert not gone(conn, topic)


def test_behaviour_46_twice_by_name_and_by_id(conn: Connection, topic: Topic) -> None:
    for asked in ((topic.name, by_id(topic.id)), (by_id(topic.id), topic.name)):
        (answer,) = delete(conn, *asked)
        assert (answer.name, answer.topic_id) == (topic.name, topic.id)
        assert answer.error_code == INVALID_REQUEST
    assert not gone(conn, topic)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_late_is_not_done(conn: Connection, topic: Topic, version: int) -> None:
    (answer,) = delete(conn, topic.name, version=version, timeout_ms=-1)
    assert answer.error_code == REQUEST_TIMED_OUT
    assert not gone(conn, topic)


def test_nothing_asked_nothing_deleted(conn: Connection) -> None:
    assert [delete(conn, version=version) for version in VERSIONS] == [[]] * len(VERSIONS)
