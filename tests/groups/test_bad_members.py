"""Members that say what they should not: each hears Kafka's error, and nobody else is disturbed."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from wire.client import Closed, Connection, Topic
from wire.groups import (
    ILLEGAL_GENERATION,
    INCONSISTENT_PROTOCOL,
    INVALID_GROUP_ID,
    NOT_FOUND,
    OK,
    REBALANCING,
    UNKNOWN_MEMBER,
    Member,
    described,
    new_group,
    settle,
)

from .styles import subscription

Connect = Callable[[], Connection]


@pytest.fixture(autouse=True)
def bystander(connect: Connect) -> Iterator[Member]:
    """A member of another group, which must not notice."""
    member = Member(connect(), new_group(connect()))
    settle(member)
    yield member
    assert member.heartbeat() == OK


@pytest.fixture
def pair(connect: Connect) -> tuple[Member, Member]:
    """A stable group's leader and its follower, in generation 2."""
    group = new_group(connect())
    leader, follower = Member(connect(), group), Member(connect(), group)
    settle(leader)
    settle(follower, leader)
    return leader, follower


def assignments(conn: Connection, group: str) -> dict[str, bytes]:
    """What DescribeGroups says of everybody."""
    found = described(conn, group)
    return {one.member_id: one.member_assignment for one in found.members}


def test_old_generations(pair: tuple[Member, Member], topic: Topic, connect: Connect) -> None:
    leader, follower = pair
    leader.send_join()
    assert leader.conn.silent_for(0.2), "it starts generation 3"
    follower.send_join()
    for member in pair:
        member.joined()
    follower.send_sync()
    leader.sync({leader.id: b"1", follower.id: b"2"})
    follower.synced()
    before = assignments(connect(), leader.group)
    for member in pair:
        for old in (1, 2, 4, 2**31 - 1):
            member.generation = old
            assert member.heartbeat() == ILLEGAL_GENERATION
            assert member.sync({leader.id: b"stolen"}).error_code == ILLEGAL_GENERATION
            assert member.commit(topic, {0: 1}) == [ILLEGAL_GENERATION]
        member.generation = 3
        assert member.heartbeat() == OK
    assert assignments(connect(), leader.group) == before


def test_strangers_among_the_assignments(connect: Connect, pair: tuple[Member, Member]) -> None:
    leader, follower = pair
    follower.send_join()
    assert follower.joined().generation_id == 2
    leader.send_join()
    assert leader.conn.silent_for(0.1)
    follower.send_join()
    for member in pair:
        member.joined()
    follower.send_sync()
    strangers = {f"stranger-{number}": b"theirs" for number in range(1_000)}
    answer = leader.sync({**strangers, leader.id: b"mine"})
    assert (answer.error_code, answer.assignment) == (OK, b"mine")
    answer = follower.synced()
    assert (answer.error_code, answer.assignment) == (OK, b""), "it was forgotten"
    assert assignments(connect(), leader.group) == {leader.id: b"mine", follower.id: b""}


def test_a_member_that_is_given_two_assignments(conn: Connection) -> None:
    member = Member(conn, new_group(conn))
    member.join()
    given = [{"member_id": member.id, "assignment": what} for what in (b"first", b"last")]
    answer = conn.call(
        "SyncGroup",
        3,
        group_id=member.group,
        generation_id=1,
        member_id=member.id,
        group_instance_id=None,
        assignments=given,
    )
    assert (answer.error_code, answer.assignment) == (OK, b"last")


def test_assignments_by_one_who_does_not_lead(connect: Connect) -> None:
    group = new_group(connect())
    leader, follower = Member(connect(), group), Member(connect(), group)
    settle(leader)
    follower.send_join()
    leader.send_join()
    for member in (follower, leader):
        member.joined()
    follower.send_sync({leader.id: b"nothing", follower.id: b"everything"})
    assert follower.conn.silent_for(0.1), "it waits for the leader's"
    assert leader.sync({leader.id: b"1", follower.id: b"2"}).assignment == b"1"
    assert follower.synced().assignment == b"2"
    again = follower.sync({leader.id: b"nothing", follower.id: b"everything"})
    assert again.assignment == b"2", "nor later"
    assert assignments(connect(), group) == {leader.id: b"1", follower.id: b"2"}


def test_a_leader_that_assigns_again(connect: Connect, pair: tuple[Member, Member]) -> None:
    leader, follower = pair
    before = assignments(connect(), leader.group)
    assert leader.sync({leader.id: b"all of it"}).assignment == leader.id.encode()
    assert follower.sync().assignment == follower.id.encode()
    assert assignments(connect(), leader.group) == before


def test_the_old_leader_speaks_too_late(connect: Connect) -> None:
    """It joined, went silent, and sends its assignment when another generation is there."""
    group = new_group(connect())
    zombie, member = Member(connect(), group), Member(connect(), group)
    settle(zombie)
    member.send_join()
    zombie.send_join()
    for one in (member, zombie):
        one.joined()
    old = zombie.generation
    assert Member.leave(zombie) == OK
    settle(member)
    zombie.generation = old
    for generation in (old, member.generation):
        zombie.generation = generation
        assert zombie.sync({member.id: b"stolen"}).error_code == UNKNOWN_MEMBER
    assert assignments(connect(), group) == {member.id: member.id.encode()}


def test_asking_twice_before_the_answer(
    connect: Connect, pair: tuple[Member, Member], oracle: bool
) -> None:
    """A client that lost its connection asks again: the first request is let go.

    We say so, in case somebody still waits there. Kafka does not.
    """
    leader, follower = pair
    leader.send_join()
    assert leader.conn.silent_for(0.1)
    first, leader.conn = leader.conn, connect()
    leader.send_join()
    if oracle:
        assert first.silent_for(0.1)
    else:
        answer, _ = first.receive("JoinGroup", leader.version)
        assert answer.error_code == REBALANCING
    follower.send_join()
    for member in pair:
        member.joined()
    follower.send_sync()
    assert follower.conn.silent_for(0.1)
    first, follower.conn = follower.conn, connect()
    follower.send_sync()
    if oracle:
        assert first.silent_for(0.1)
    else:
        answer, _ = first.receive("SyncGroup", 3)
        assert answer.error_code == REBALANCING
    leader.sync({follower.id: b"once"})
    assert follower.synced().assignment == b"once"


GARBAGE = {
    "nothing": b"",
    "one byte": b"\0",
    "no version": b"\xff\xff",
    "a version of the future": b"\x7f\xff",
    "no end of the list": b"\0\1\0\0",
    "zeros": bytes(10_000),
}
#: Kafka's own error when it reads these ends the rebalance: nobody is ever answered.
FATAL = {
    "a name that ends early": b"\0\1\0\0\0\1\0\5ab",
    "two thousand million topics": b"\0\1\x7f\xff\xff\xff",
    "minus one topic": b"\0\1\xff\xff\xff\xff",
    "text": b"subscription of nobody",
    "a name of minus one": b"\0\1\0\0\0\1\xff\xff",
}


@pytest.mark.parametrize("what", [*GARBAGE, *FATAL])
def test_garbage_in_subscription_and_assignment(
    connect: Connect, topic: Topic, oracle: bool, what: str
) -> None:
    if oracle and what in FATAL:
        pytest.skip("Kafka never answers")
    data, conn = (GARBAGE | FATAL)[what], connect()
    group = new_group(conn)
    member = Member(connect(), group, protocols=(("range", data),))
    other = Member(connect(), group, protocols=(("range", subscription(topic.name, ())),))
    settle(member)
    other.send_join()
    member.send_join()
    said = {one.member_id: one.metadata for one in (member.joined(), other.joined())[0].members}
    assert said == {member.id: data, other.id: other.protocols[0][1]}
    other.send_sync()
    assert member.sync({member.id: data, other.id: data}).assignment == data
    assert other.synced().assignment == data
    found = {one.member_id: one for one in described(conn, group).members}
    assert found[member.id].member_metadata == data
    assert {one.member_assignment for one in found.values()} == {data}
    assert member.commit(topic, {0: 7}) == [OK]
    # What cannot be read may be a reader of anything.
    parts = [{"partition_index": 0}]
    answer = conn.call(
        "OffsetDelete", 0, group_id=group, topics=[{"name": topic.name, "partitions": parts}]
    )
    assert answer.topics[0].partitions[0].error_code == 86


def calls(conn: Connection, group: str, member: str) -> dict[str, Any]:
    """The error code of every API of groups for this name and member."""
    body = {"group_id": group, "generation_id": 1, "member_id": member, "group_instance_id": None}
    stranger = Member(conn, group)
    stranger.id, stranger.generation = member, 1
    left = {"member_id": member, "group_instance_id": None, "reason": None}
    return {
        "join": conn.call("JoinGroup", 5, **stranger.join_body()).error_code,
        "sync": stranger.sync({}).error_code,
        "heartbeat": conn.call("Heartbeat", 3, **body).error_code,
        "leave 0": conn.call("LeaveGroup", 0, group_id=group, member_id=member).error_code,
        "leave": conn.call("LeaveGroup", 3, group_id=group, members=[left]).error_code,
        "describe": described(conn, group).error_code,
        "delete": conn.call("DeleteGroups", 1, groups_names=[group]).results[0].error_code,
    }


def test_the_group_without_a_name(conn: Connection) -> None:
    new_group(conn)
    found = calls(conn, "", "somebody")
    assert found == {
        "join": INVALID_GROUP_ID,
        "sync": INVALID_GROUP_ID,
        "heartbeat": INVALID_GROUP_ID,
        "leave 0": INVALID_GROUP_ID,
        "leave": INVALID_GROUP_ID,
        "describe": OK,
        "delete": NOT_FOUND,
    }


def test_a_group_that_nobody_knows(conn: Connection) -> None:
    found = calls(conn, new_group(conn), "somebody")
    assert found == {
        "join": UNKNOWN_MEMBER,
        "sync": UNKNOWN_MEMBER,
        "heartbeat": UNKNOWN_MEMBER,
        "leave 0": UNKNOWN_MEMBER,
        "leave": OK,  # the member's own code says it
        "describe": OK,
        "delete": NOT_FOUND,
    }


@pytest.mark.parametrize("letter", ["g", "\u00e9", "\u20ac"])
def test_the_longest_name(connect: Connect, topic: Topic, letter: str) -> None:
    """32,767 bytes are as many as the length of a string can say."""
    new_group(connect())
    group = letter * (32_767 // len(letter.encode()))
    member = Member(connect(), group)
    settle(member)
    assert member.heartbeat() == OK
    assert member.commit(topic, {0: 5}) == [OK]
    assert described(connect(), group).group_state == "Stable"
    assert member.leave() == OK
    assert connect().call("DeleteGroups", 1, groups_names=[group]).results[0].error_code == OK


@pytest.mark.parametrize("size", [32 << 10, 64 << 10, 1 << 20])
@pytest.mark.parametrize(
    ("api", "version", "values"),
    [
        ("JoinGroup", 9, {"session_timeout_ms": 30_000, "protocol_type": "consumer"}),
        ("Heartbeat", 4, {"generation_id": 1, "member_id": "m"}),
        ("OffsetCommit", 8, {"generation_id_or_member_epoch": -1, "member_id": "", "topics": []}),
    ],
)
def test_a_name_beyond_that(
    connect: Connect, api: str, version: int, values: dict[str, Any], size: int
) -> None:
    """A compact string can announce more; Kafka closes the connection, and so do we."""
    conn = connect()
    conn.call("ApiVersions", 0)
    conn.send(api, version, group_id="g" * size, **values)
    with pytest.raises(Closed):
        conn.read_frame()


def test_a_protocol_that_only_some_speak(connect: Connect, pair: tuple[Member, Member]) -> None:
    conn, group = connect(), pair[0].group
    for values in (
        {"protocols": [{"name": "nobody's", "metadata": b""}]},
        {"protocols": []},
        {"protocol_type": "connect"},
        {"protocol_type": ""},
    ):
        body = Member(conn, group).join_body(**values)
        assert conn.call("JoinGroup", 5, **body).error_code == INCONSISTENT_PROTOCOL
    many = [{"name": f"p{number}", "metadata": struct.pack(">i", number)} for number in range(5000)]
    body = Member(conn, group).join_body(protocols=many)
    assert conn.call("JoinGroup", 5, **body).error_code == INCONSISTENT_PROTOCOL
    assert {one.heartbeat() for one in pair} == {OK}
