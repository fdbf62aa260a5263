"""Joining, syncing, heartbeats, leaving: what a member hears, and when."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .client import Connection, Topic
from .groups import (
    FENCED,
    ILLEGAL_GENERATION,
    INCONSISTENT_PROTOCOL,
    INVALID_GROUP_ID,
    INVALID_SESSION,
    NEEDS_ID,
    OK,
    REBALANCING,
    UNKNOWN_MEMBER,
    Member,
    described,
    new_group,
    settle,
)

Connect = Callable[[], Connection]


@pytest.mark.parametrize("version", range(10))
def test_a_member_alone_in_every_version(conn: Connection, version: int) -> None:
    member = Member(conn, new_group(conn), version=version)
    answer = member.join()
    assert (answer.leader, answer.generation_id) == (member.id, 1)
    assert [(one.member_id, one.metadata) for one in answer.members] == [(member.id, b"r")]
    sync = min(version, 5)
    assert member.sync({member.id: b"mine", "stranger": b"x"}, sync).assignment == b"mine"
    assert member.sync(version=sync).assignment == b"mine", "asked again"
    assert member.heartbeat(min(version, 4)) == OK
    found = described(conn, member.group)
    assert (found.group_state, found.protocol_data) == ("Stable", "range")
    assert (found.members[0].member_assignment, found.members[0].client_id) == (b"mine", "wire")
    assert found.members[0].client_host == "/127.0.0.1"


@pytest.mark.parametrize(
    "said", [{"protocol_type": None}, {"protocol_name": None}, {"protocol_type": "connect"}]
)
def test_a_sync_that_does_not_name_its_protocol(conn: Connection, said: dict[str, object]) -> None:
    member = Member(conn, new_group(conn))
    member.join()
    asked = {
        "group_id": member.group,
        "generation_id": member.generation,
        "member_id": member.id,
        "group_instance_id": None,
        "protocol_type": "consumer",
        "protocol_name": "range",
        "assignments": [],
    }
    # What is missing is looked for before anything else is, what is wrong only then.
    late = {"generation_id": member.generation + 1} if None in said.values() else {}
    answer = conn.call("SyncGroup", 5, **(asked | said | late))
    assert answer.error_code == INCONSISTENT_PROTOCOL
    assert member.sync({member.id: b"mine"}, 5).assignment == b"mine"


@pytest.mark.parametrize("version", range(6))
def test_leaving_in_every_version(conn: Connection, version: int) -> None:
    member = Member(conn, new_group(conn))
    settle(member)
    who = {"member_id": member.id, "group_instance_id": None, "reason": None}
    values = {"members": [who]} if version >= 3 else {"member_id": member.id}
    codes = []
    for _ in range(2):
        answer = conn.call("LeaveGroup", version, group_id=member.group, **values)
        codes.append(answer.error_code if version < 3 else answer.members[0].error_code)
    assert codes == [OK, UNKNOWN_MEMBER]
    assert described(conn, member.group).group_state == "Empty"


def test_only_the_leader_hears_of_the_members(connect: Connect) -> None:
    group = new_group(connect())
    first, second = Member(connect(), group), Member(connect(), group)
    settle(first)
    second.send_join()
    assert second.conn.silent_for(0.2)
    assert first.heartbeat() == REBALANCING
    assert described(connect(), group).group_state == "PreparingRebalance"
    first.send_join()
    leader, follower = first.joined(), second.joined()
    assert leader.leader == follower.leader == first.id
    assert {one.member_id for one in leader.members} == {first.id, second.id}
    assert follower.members == []
    assert leader.generation_id == follower.generation_id == 2
    assert described(connect(), group).group_state == "CompletingRebalance"
    second.send_sync()
    assert second.conn.silent_for(0.2), "a follower waits for the leader"
    assert first.sync({first.id: b"1", second.id: b"2"}).assignment == b"1"
    assert second.synced().assignment == b"2"
    assert (first.heartbeat(), second.heartbeat()) == (OK, OK)


def test_the_protocol_that_all_speak_is_chosen(connect: Connect) -> None:
    group = new_group(connect())
    first = Member(connect(), group, protocols=(("a", b"1"), ("b", b"2")))
    second = Member(connect(), group, protocols=(("c", b"3"), ("b", b"4")))
    first.join()
    second.send_join()
    first.send_join()
    answers = [first.joined(), second.joined()]
    assert [one.protocol_name for one in answers] == ["b", "b"]
    assert sorted(one.metadata for one in answers[0].members) == [b"2", b"4"]
    stranger = Member(connect(), group, protocols=(("z", b""),))
    answer = stranger.conn.call("JoinGroup", 5, **stranger.join_body())
    assert answer.error_code == INCONSISTENT_PROTOCOL
    other = Member(connect(), group, protocols=(("b", b""),))
    answer = other.conn.call("JoinGroup", 5, **other.join_body(protocol_type="connect"))
    assert answer.error_code == INCONSISTENT_PROTOCOL


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"group_id": ""}, INVALID_GROUP_ID),
        ({"session_timeout_ms": 5_999}, INVALID_SESSION),
        ({"session_timeout_ms": 1_800_001}, INVALID_SESSION),
        ({"member_id": "nobody"}, UNKNOWN_MEMBER),
        ({"protocol_type": ""}, INCONSISTENT_PROTOCOL),
        ({"protocols": []}, INCONSISTENT_PROTOCOL),
        ({}, NEEDS_ID),
    ],
)
def test_joins_that_are_refused(conn: Connection, values: dict[str, object], code: int) -> None:
    member = Member(conn, new_group(conn))
    answer = conn.call("JoinGroup", 5, **member.join_body(**values))
    assert (answer.error_code, answer.generation_id, answer.members) == (code, -1, [])


def test_who_is_no_member_is_told_so(conn: Connection) -> None:
    member = Member(conn, new_group(conn))
    assert member.heartbeat(member_id="m") == UNKNOWN_MEMBER, "no such group"
    settle(member)
    assert member.heartbeat(member_id="m") == UNKNOWN_MEMBER
    assert member.heartbeat(member_id="") == UNKNOWN_MEMBER
    assert member.heartbeat(group_id="") == INVALID_GROUP_ID
    assert member.heartbeat(generation_id=member.generation - 1) == ILLEGAL_GENERATION
    assert member.heartbeat(generation_id=member.generation + 1) == ILLEGAL_GENERATION
    member.generation += 1
    assert member.sync().error_code == ILLEGAL_GENERATION
    member.generation -= 1
    member.protocols = (("sticky", b""),)
    assert member.sync(version=5).error_code == INCONSISTENT_PROTOCOL
    member.id = "m"
    assert member.sync().error_code == UNKNOWN_MEMBER
    assert member.leave() == UNKNOWN_MEMBER


def test_a_leader_that_joins_again_starts_a_rebalance(connect: Connect) -> None:
    group = new_group(connect())
    first, second = Member(connect(), group), Member(connect(), group)
    first.join()
    second.send_join()
    first.send_join()
    for one in (first, second):
        one.joined()
    first.send_sync({})
    second.send_sync()
    for one in (first, second):
        one.synced()
    again = second.join()
    assert again.generation_id == 2, "a follower that says the same changes nothing"
    first.send_join()
    assert first.conn.silent_for(0.2)
    assert second.heartbeat() == REBALANCING
    second.send_join()
    assert (first.joined().generation_id, second.joined().generation_id) == (3, 3)


def test_a_follower_that_says_something_new_starts_one(connect: Connect) -> None:
    group = new_group(connect())
    first, second = Member(connect(), group), Member(connect(), group)
    first.join()
    second.send_join()
    first.send_join()
    for one in (first, second):
        one.joined()
    same = second.join()
    assert (same.generation_id, same.members) == (2, []), "it may have missed the answer"
    first.send_sync({})
    first.synced()
    second.protocols = (("range", b"new"),)
    second.send_join()
    assert second.conn.silent_for(0.2)
    first.send_join()
    members = {one.member_id: one.metadata for one in first.joined().members}
    assert members[second.id] == b"new"


def test_a_member_that_leaves_starts_one(connect: Connect) -> None:
    group = new_group(connect())
    first, second = Member(connect(), group), Member(connect(), group)
    first.join()
    second.send_join()
    first.send_join()
    for one in (first, second):
        one.joined()
    assert first.leave() == OK
    assert second.heartbeat() == REBALANCING
    answer = second.join()
    assert (answer.leader, answer.generation_id) == (second.id, 3)


def test_a_silent_member_is_dropped(connect: Connect) -> None:
    group = new_group(connect())
    first = Member(connect(), group)
    first.join(session_timeout_ms=6_000)
    first.sync({})
    second = Member(connect(), group)
    second.send_join(rebalance_timeout_ms=60_000)
    # The first has 20 s to come back to the rebalance, but its session ends before.
    assert second.joined().generation_id == 2
    assert first.heartbeat() == UNKNOWN_MEMBER


def test_a_static_member_keeps_its_place(connect: Connect, topic: Topic) -> None:
    group = new_group(connect())
    leader = Member(connect(), group, instance="a")
    follower = Member(connect(), group, instance="b")
    leader.join()
    follower.send_join()
    leader.send_join()
    for one in (leader, follower):
        one.joined()
    follower.send_sync()
    leader.sync({leader.id: b"1", follower.id: b"2"})
    assert follower.synced().assignment == b"2"
    again = Member(connect(), group, instance="b")
    answer = again.join()
    assert (answer.generation_id, answer.leader) == (2, leader.id)
    assert again.id != follower.id
    assert again.sync().assignment == b"2"
    assert follower.heartbeat() == FENCED
    assert follower.commit(topic, {0: 1}) == [FENCED]
    assert follower.sync().error_code == FENCED
    assert leader.heartbeat() == OK, "nobody was disturbed"
    assert leader.heartbeat(group_instance_id="nobody") == UNKNOWN_MEMBER


@pytest.mark.parametrize(("version", "skips"), [(5, False), (8, False), (9, True)])
def test_a_static_leader_that_comes_back_assigns_nothing(
    connect: Connect, version: int, skips: bool
) -> None:
    group = new_group(connect())
    leader = Member(connect(), group, instance="a", version=version)
    leader.join()
    leader.sync({leader.id: b"1"})
    again = Member(connect(), group, instance="a", version=version)
    answer = again.join()
    if skips:
        assert answer.leader == again.id
        assert answer.skip_assignment is True
        assert [one.member_id for one in answer.members] == [again.id]
    else:
        assert (answer.leader, answer.members) == (leader.id, [])
    assert again.sync().assignment == b"1"


def test_static_members_are_removed_by_their_instance(conn: Connection) -> None:
    group = new_group(conn)
    member = Member(conn, group, instance="a")
    member.join()
    who = [
        {"member_id": "", "group_instance_id": "other", "reason": None},
        {"member_id": "wrong", "group_instance_id": "a", "reason": None},
        {"member_id": "", "group_instance_id": "a", "reason": None},
    ]
    answer = conn.call("LeaveGroup", 3, group_id=group, members=who)
    assert [one.error_code for one in answer.members] == [UNKNOWN_MEMBER, FENCED, OK]
    assert described(conn, group).members == []
