"""Commits of what is too large, not there, or nonsense: Kafka's errors, and the rest is kept."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from wire.client import Closed, Connection, Topic
from wire.conftest import create_topic
from wire.groups import (
    METADATA_TOO_LARGE,
    OK,
    UNKNOWN_TOPIC,
    UNKNOWN_TOPIC_ID,
    Member,
    codes,
    commit_body,
    new_group,
    offsets,
    settle,
)

Connect = Callable[[], Connection]
LIMIT = 4096
MANY = 240


def commit(conn: Connection, group: str, topic: Topic, parts: dict[int, Any], version: int) -> Any:
    """The error codes of a commit by nobody in particular."""
    body = commit_body(topic, parts)
    return codes(conn.call("OffsetCommit", version, group_id=group, **body), parts)


@pytest.mark.parametrize("version", [2, 7, 8, 10])
def test_metadata_at_the_limit_and_above(conn: Connection, version: int) -> None:
    group, topic = new_group(conn), create_topic(conn, 6)
    said = {
        0: "x" * LIMIT,
        1: "x" * (LIMIT + 1),
        2: "\u20ac" * LIMIT,  # characters count, not bytes
        3: "\u20ac" * (LIMIT + 1),
        4: "x" * 32_767,
        5: None,
    }
    parts = {index: (index, -1, text) for index, text in said.items()}
    large = METADATA_TOO_LARGE
    assert commit(conn, group, topic, parts, version) == [OK, large, OK, large, large, OK]
    kept = {index: text for (_, index), (_, _, text) in offsets(conn, group).items()}
    assert kept == {0: said[0], 2: said[2], 5: ""}


@pytest.mark.parametrize("size", [32_768, 1 << 20])
def test_metadata_that_no_string_holds(connect: Connect, topic: Topic, size: int) -> None:
    """A compact string can announce it; Kafka closes the connection, and so do we."""
    conn = connect()
    group = new_group(conn)
    body = commit_body(topic, {0: (1, -1, "x" * size)})
    conn.send("OffsetCommit", 8, group_id=group, **body)
    with pytest.raises(Closed):
        conn.read_frame()
    assert offsets(connect(), group) == {}


def test_nearly_a_mebibyte_of_metadata_in_one_request(connect: Connect) -> None:
    """In pieces that fit it is kept. Kafka has no room for more in a batch; we make two."""
    conn = connect()
    topic, member = create_topic(conn, MANY), Member(connect(), new_group(conn))
    settle(member)
    parts = {index: (index, 0, chr(97 + index % 26) * LIMIT) for index in range(MANY)}
    assert set(member.commit(topic, parts)) == {OK}
    assert {at[1]: what for at, what in offsets(conn, member.group).items()} == parts
    too_large = {index: (9, 0, text + "x") for index, (_, _, text) in parts.items()}
    assert set(member.commit(topic, too_large)) == {METADATA_TOO_LARGE}
    assert {at[1]: what for at, what in offsets(conn, member.group).items()} == parts


@pytest.mark.parametrize("version", [9, 10])
def test_unknown_topics_among_known_ones(conn: Connection, topic: Topic, version: int) -> None:
    group = new_group(conn)
    names = ["no-such-topic", topic.name, "", "bad name!", "x" * 300]
    ids = [uuid.UUID(int=5), topic.id, uuid.UUID(int=0), uuid.UUID(int=6), uuid.UUID(int=7)]
    part = commit_body(topic, {0: 3})["topics"][0]["partitions"]
    asked = [
        {"name": name, "topic_id": one, "partitions": part}
        for name, one in zip(names, ids, strict=True)
    ]
    body = commit_body(topic, {}) | {"topics": asked}
    answer = conn.call("OffsetCommit", version, group_id=group, **body)
    key = "topic_id" if version == 10 else "name"
    nil = uuid.UUID(int=0) if version == 10 else ""  # decoded as None
    found = {str(getattr(one, key) or nil): one.partitions[0].error_code for one in answer.topics}
    unknown = UNKNOWN_TOPIC_ID if version == 10 else UNKNOWN_TOPIC
    expected = {str(one): unknown for one in (ids if version == 10 else names)}
    assert found == expected | {str(topic.id) if version == 10 else topic.name: OK}
    assert list(offsets(conn, group)) == [(topic.name, 0)]


def test_partitions_and_offsets_that_cannot_be(conn: Connection) -> None:
    group, topic = new_group(conn), create_topic(conn, 4)
    parts = {0: 2**63 - 1, 1: -1, 2: -(2**63), 3: (5, 2**31 - 1, "")}
    assert commit(conn, group, topic, parts, 9) == [OK] * 4
    assert {at[1]: what[0] for at, what in offsets(conn, group).items()} == {
        0: 2**63 - 1,
        1: -1,
        2: -(2**63),
        3: 5,
    }
    strange = {4: 1, -1: 1, 2**31 - 1: 1, -(2**31): 1}
    assert commit(conn, group, topic, strange, 9) == [UNKNOWN_TOPIC] * 4


def test_a_partition_twice_in_one_request(conn: Connection, topic: Topic) -> None:
    group = new_group(conn)
    (one,) = commit_body(topic, {0: 1})["topics"][0]["partitions"]
    twice = [one | {"committed_offset": offset} for offset in (4, 2)]
    asked = [{"name": topic.name, "topic_id": topic.id, "partitions": twice}]
    answer = conn.call("OffsetCommit", 8, **commit_body(topic, {}, group_id=group, topics=asked))
    assert [part.error_code for part in answer.topics[0].partitions] == [OK, OK]
    assert offsets(conn, group)[topic.name, 0][0] == 2, "the last one counts"


def test_nothing_to_commit(conn: Connection, topic: Topic) -> None:
    group = new_group(conn)
    answer = conn.call("OffsetCommit", 8, **commit_body(topic, {}, group_id=group, topics=[]))
    assert list(answer.topics) == []
    answer = conn.call("OffsetCommit", 8, **commit_body(topic, {}, group_id=group))
    assert [list(one.partitions) for one in answer.topics] in ([], [[]])
    assert offsets(conn, group) == {}
