"""Committing, fetching and deleting offsets."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from .client import Connection, Topic, eventually
from .conftest import create_topic
from .groups import (
    ILLEGAL_GENERATION,
    INVALID_GROUP_ID,
    METADATA_TOO_LARGE,
    NON_EMPTY,
    NOT_FOUND,
    OK,
    REBALANCING,
    SUBSCRIBED,
    UNKNOWN_MEMBER,
    UNKNOWN_TOPIC,
    UNKNOWN_TOPIC_ID,
    Member,
    codes,
    commit_body,
    fetch_all,
    new_group,
    offsets,
    settle,
)

Connect = Callable[[], Connection]


def commit(conn: Connection, group: str, topic: Topic, parts: dict[int, Any], **more: Any) -> Any:
    """The error codes of a commit by nobody in particular."""
    version = more.pop("version", 9)
    body = commit_body(topic, parts, **more)
    return codes(conn.call("OffsetCommit", version, group_id=group, **body), parts)


def delete(conn: Connection, group: str, topic: str, *partitions: int) -> Any:
    """OffsetDelete of some partitions of one topic."""
    parts = [{"partition_index": index} for index in partitions]
    return conn.call(
        "OffsetDelete", 0, group_id=group, topics=[{"name": topic, "partitions": parts}]
    )


@pytest.mark.parametrize("version", range(2, 11))
def test_offset_epoch_and_metadata_come_back(conn: Connection, version: int) -> None:
    group, topic = new_group(conn), create_topic(conn, 3)
    said = {0: (7, 0, "söme"), 1: (0, -1, "")}
    assert commit(conn, group, topic, said, version=version) == [OK, OK]
    epoch = 0 if version >= 6 else -1
    expected = {(topic.name, 0): (7, epoch, "söme"), (topic.name, 1): (0, -1, "")}
    assert offsets(conn, group) == expected
    assert commit(conn, group, topic, {0: 3}, version=version) == [OK], "back is allowed"
    assert offsets(conn, group)[topic.name, 0] == (3, -1, "")


@pytest.mark.parametrize("version", range(1, 8))
def test_fetching_one_group_in_every_version(conn: Connection, version: int) -> None:
    group, topic = new_group(conn), create_topic(conn, 2)
    commit(conn, group, topic, {1: (5, 0, "m")})
    asked = [
        {"name": topic.name, "partition_indexes": [0, 1, 9]},
        {"name": "no-such-topic", "partition_indexes": [0]},
    ]
    for who, expected in (
        (group, [(0, -1, ""), (1, 5, "m"), (9, -1, ""), (0, -1, "")]),
        (group + "-none", [(0, -1, ""), (1, -1, ""), (9, -1, ""), (0, -1, "")]),
    ):
        answer = conn.call("OffsetFetch", version, group_id=who, topics=asked, require_stable=False)
        parts = [part for one in answer.topics for part in one.partitions]
        got = [(part.partition_index, part.committed_offset, part.metadata) for part in parts]
        assert got == expected
        assert {part.error_code for part in parts} == {OK}
        assert version < 2 or answer.error_code == OK
    if version >= 2:
        answer = conn.call("OffsetFetch", version, group_id=group, topics=None)
        assert [one.name for one in answer.topics] == [topic.name]


@pytest.mark.parametrize("version", [8, 9, 10])
def test_fetching_several_groups(conn: Connection, version: int) -> None:
    topic, groups = create_topic(conn, 1), [new_group(conn) for _ in range(5)]
    for number, group in enumerate(groups):
        commit(conn, group, topic, {0: number})
    named = {"name": topic.name, "topic_id": topic.id, "partition_indexes": [0]}
    other = {"name": "gone", "topic_id": uuid.UUID(int=5), "partition_indexes": [0]}
    asked = [
        {"group_id": group, "member_id": None, "member_epoch": -1, "topics": [named, other]}
        for group in [*groups, "nobody"]
    ]
    answer = conn.call("OffsetFetch", version, groups=asked, require_stable=True)
    assert [one.group_id for one in answer.groups] == [*groups, "nobody"]
    for one, expected in zip(answer.groups, [0, 1, 2, 3, 4, -1], strict=True):
        found = {
            (str(t.topic_id) if version >= 10 else t.name): t.partitions[0] for t in one.topics
        }
        mine = found[str(topic.id) if version >= 10 else topic.name]
        assert (one.error_code, mine.error_code, mine.committed_offset) == (OK, OK, expected)
        missing = found[str(uuid.UUID(int=5)) if version >= 10 else "gone"]
        assert missing.error_code == (UNKNOWN_TOPIC_ID if version >= 10 else OK)


def test_topics_that_are_not_there(conn: Connection) -> None:
    group, topic = new_group(conn), create_topic(conn, 1)
    stranger = Topic(name="no-such-topic", id=uuid.UUID(int=9), partitions=1)
    assert commit(conn, group, stranger, {0: 1}) == [UNKNOWN_TOPIC]
    assert commit(conn, group, stranger, {0: 1}, version=10) == [UNKNOWN_TOPIC_ID]
    assert commit(conn, group, topic, {0: 1, 1: 1, -1: 1}) == [OK, UNKNOWN_TOPIC, UNKNOWN_TOPIC]


def test_metadata_that_is_too_large(conn: Connection) -> None:
    group, topic = new_group(conn), create_topic(conn, 3)
    parts = {0: (1, -1, "x" * 4096), 1: (1, -1, "x" * 4097), 2: (1, -1, "x" * 30_000)}
    assert commit(conn, group, topic, parts) == [OK, METADATA_TOO_LARGE, METADATA_TOO_LARGE]
    assert list(offsets(conn, group)) == [(topic.name, 0)]


@pytest.mark.parametrize(
    ("version", "code"), [(2, ILLEGAL_GENERATION), (8, ILLEGAL_GENERATION), (9, NOT_FOUND)]
)
def test_a_generation_of_no_group(conn: Connection, topic: Topic, version: int, code: int) -> None:
    values = {"generation_id_or_member_epoch": 3, "member_id": "m"}
    group = new_group(conn)
    assert commit(conn, group, topic, {0: 1}, version=version, **values) == [code]


def test_who_may_commit(connect: Connect, topic: Topic) -> None:
    group = new_group(connect())
    first, second = Member(connect(), group), Member(connect(), group)
    first.join()
    assert first.commit(topic, {0: 1}) == [REBALANCING], "it has no assignment yet"
    first.sync({})
    assert first.commit(topic, {0: 1}) == [OK]
    assert first.commit(topic, {0: 2}, member_id="m") == [UNKNOWN_MEMBER]
    assert first.commit(topic, {0: 2}, generation_id_or_member_epoch=9) == [ILLEGAL_GENERATION]
    assert first.commit(topic, {0: 2}, generation_id_or_member_epoch=-1) == [ILLEGAL_GENERATION]
    assert first.commit(topic, {0: 2}, group_instance_id="i") == [UNKNOWN_MEMBER]
    assert commit(connect(), group, topic, {0: 2}) == [UNKNOWN_MEMBER], "the group has members"
    second.send_join()
    assert second.conn.silent_for(0.2)
    assert first.commit(topic, {0: 3}) == [OK], "before it joins again"
    assert first.leave() == OK
    second.joined()
    assert second.leave() == OK
    assert commit(connect(), group, topic, {0: 4}) == [OK]
    assert offsets(connect(), group)[topic.name, 0][0] == 4


def test_the_group_without_a_name(conn: Connection, topic: Topic) -> None:
    new_group(conn)
    assert commit(conn, "", topic, {0: 1}) == [OK]
    assert offsets(conn, "")[topic.name, 0][0] == 1
    assert delete(conn, "", topic.name, 0).error_code == INVALID_GROUP_ID


def test_deleting_offsets(connect: Connect) -> None:
    conn = connect()
    group, topic = new_group(conn), create_topic(conn, 3)
    assert delete(conn, group, topic.name, 0).error_code == NOT_FOUND
    commit(conn, group, topic, {0: 1, 1: 1})
    parts = delete(conn, group, topic.name, 0, 2, 7).topics[0].partitions
    found = {one.partition_index: one.error_code for one in parts}
    assert found == {0: OK, 2: OK, 7: UNKNOWN_TOPIC}
    assert list(offsets(conn, group)) == [(topic.name, 1)]
    name = topic.name.encode()
    metadata = b"\0\0\0\0\0\1" + len(name).to_bytes(2, "big") + name + b"\xff\xff\xff\xff"
    reader = Member(connect(), group, protocols=(("range", metadata),))
    settle(reader)
    assert delete(conn, group, topic.name, 1).topics[0].partitions[0].error_code == SUBSCRIBED
    other = create_topic(conn, 1)
    assert delete(conn, group, other.name, 0).topics[0].partitions[0].error_code == OK
    worker = Member(connect(), new_group(conn))
    worker.join(protocol_type="connect")
    assert delete(conn, worker.group, topic.name, 1).error_code == NON_EMPTY


def test_offsets_of_a_deleted_topic_go_with_it(conn: Connection) -> None:
    group, doomed, stays = new_group(conn), create_topic(conn, 2), create_topic(conn, 1)
    commit(conn, group, doomed, {0: 1, 1: 1})
    commit(conn, group, stays, {0: 1})
    conn.call("DeleteTopics", 5, topic_names=[doomed.name], timeout_ms=10_000)
    assert eventually(lambda: list(offsets(conn, group)) == [(stays.name, 0)])


@pytest.mark.ours
def test_what_was_committed_survives_a_kill(broker: Any, connect: Connect) -> None:
    conn = connect()
    topic, groups = create_topic(conn, 4), [new_group(conn) for _ in range(20)]
    for number, group in enumerate(groups):
        commit(conn, group, topic, {0: number, 3: (number, 0, "m")})
    member = Member(connect(), new_group(conn))
    settle(member)
    broker.kill()
    broker.restart()
    conn = connect()
    assert eventually(lambda: fetch_all(conn, "nobody").error_code == OK), "loaded"
    for number, group in enumerate(groups):
        found = {at[1]: what for at, what in offsets(conn, group).items()}
        assert found == {0: (number, -1, ""), 3: (number, 0, "m")}
    member.conn = connect()
    assert eventually(lambda: member.heartbeat() == OK), "members do not notice"
