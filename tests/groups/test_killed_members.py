"""Members that die in every state: the others go on without them, and nobody else notices.

A member dies with its connection, or keeps it and says nothing any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from wire.client import Connection, Topic, eventually
from wire.groups import (
    OK,
    REBALANCING,
    UNKNOWN_MEMBER,
    Member,
    described,
    new_group,
    settle,
)

Connect = Callable[[], Connection]
Die = Callable[[Member], None]


@pytest.fixture(params=["closes", "falls silent"])
def die(request: pytest.FixtureRequest) -> Die:
    """How a member dies."""
    return lambda member: member.conn.close() if request.param == "closes" else None


@pytest.fixture
def bystander(connect: Connect) -> Iterator[Member]:
    """A member of another group, which must not notice."""
    member = Member(connect(), new_group(connect()))
    settle(member)
    yield member
    assert member.heartbeat() == OK


class Group:
    """A group whose members have short sessions if they are to die."""

    def __init__(self, connect: Connect, short_ms: int) -> None:
        self.connect, self.short_ms = connect, short_ms
        self.name = new_group(connect())
        self.watcher = connect()

    def member(self) -> Member:
        """One who has not joined."""
        return Member(self.connect(), self.name)

    def doomed(self) -> Member:
        """One with a short session who has not joined."""
        member = self.member()
        body = member.join_body

        def short(**values: object) -> dict[str, object]:
            return body(session_timeout_ms=self.short_ms, **values)

        member.join_body = short  # type: ignore[method-assign]
        return member

    @property
    def state(self) -> str:
        """What DescribeGroups says."""
        return str(described(self.watcher, self.name).group_state)

    def ids(self) -> set[str]:
        """Its members, pending ones left out."""
        return {one.member_id for one in described(self.watcher, self.name).members}

    def told_to_join_again(self, *members: Member) -> None:
        """Wait until the group has noticed; the members live on meanwhile."""
        for member in members:
            assert eventually(lambda one=member: one.heartbeat() == REBALANCING)

    def goes_on_with(self, *members: Member, without: Member) -> None:
        """The rest share a new generation, and the dead one's words count for nothing."""
        settle(*members)
        assert self.ids() == {member.id for member in members}
        assert self.state == "Stable"
        ghost = Member(self.connect(), self.name)
        ghost.id, ghost.generation = without.id, without.generation
        assert ghost.heartbeat() == UNKNOWN_MEMBER
        assert ghost.sync({}).error_code == UNKNOWN_MEMBER
        for member in members:
            assert member.heartbeat() == OK


@pytest.fixture
def group(connect: Connect, short_ms: int) -> Group:
    """An empty group."""
    return Group(connect, short_ms)


def test_with_an_id_and_not_yet_joined(group: Group, die: Die, bystander: Member) -> None:
    leader, doomed = group.member(), group.doomed()
    settle(leader)
    answer = doomed.conn.call("JoinGroup", 5, **doomed.join_body())
    doomed.id = answer.member_id
    die(doomed)
    # It is expected to come back with its id: nobody else is kept waiting for longer than that.
    leader.send_join()
    assert leader.joined().generation_id == 2
    leader.sync({})
    group.goes_on_with(leader, without=doomed)


def test_before_its_join_is_answered(group: Group, die: Die, bystander: Member) -> None:
    leader, doomed = group.member(), group.doomed()
    settle(leader)
    doomed.send_join()
    group.told_to_join_again(leader)
    die(doomed)
    answer = leader.join()
    assert {one.member_id for one in answer.members} == {leader.id, doomed.id}
    leader.sync({leader.id: b"half"})
    group.told_to_join_again(leader)
    group.goes_on_with(leader, without=doomed)


def join_all(leader: Member, newcomer: Member) -> None:
    """The leader of a stable group and a newcomer begin a generation.

    The newcomer asks first: a leader that joins again alone would not wait for anybody.
    """
    newcomer.send_join()
    leader.send_join()
    for member in (newcomer, leader):
        member.joined()


def test_between_join_and_sync(group: Group, die: Die, bystander: Member) -> None:
    leader, doomed = group.member(), group.doomed()
    settle(leader)
    join_all(leader, doomed)
    die(doomed)
    leader.sync({leader.id: b"half", doomed.id: b"half"})
    group.told_to_join_again(leader)
    group.goes_on_with(leader, without=doomed)


def test_while_it_waits_for_its_assignment(group: Group, die: Die, bystander: Member) -> None:
    leader, doomed = group.member(), group.doomed()
    settle(leader)
    join_all(leader, doomed)
    doomed.send_sync()
    assert eventually(lambda: group.state == "CompletingRebalance")
    die(doomed)
    leader.sync({leader.id: b"half", doomed.id: b"half"})
    group.told_to_join_again(leader)
    group.goes_on_with(leader, without=doomed)


def test_the_leader_before_it_syncs(group: Group, die: Die, bystander: Member) -> None:
    doomed, follower = group.doomed(), group.member()
    settle(doomed)
    join_all(doomed, follower)
    follower.send_sync()
    die(doomed)
    assert follower.synced().error_code == REBALANCING
    group.goes_on_with(follower, without=doomed)
    assert described(group.watcher, group.name).members[0].member_assignment == follower.id.encode()


@pytest.mark.parametrize("leads", [True, False])
def test_stable(group: Group, die: Die, bystander: Member, leads: bool) -> None:
    doomed, other = group.doomed(), group.member()
    first, second = (doomed, other) if leads else (other, doomed)
    settle(first)
    settle(second, first)
    die(doomed)
    group.told_to_join_again(other)
    group.goes_on_with(other, without=doomed)


def test_during_a_rebalance(group: Group, die: Die, bystander: Member) -> None:
    leader, doomed, newcomer = group.member(), group.doomed(), group.member()
    settle(leader)
    settle(doomed, leader)
    newcomer.send_join()
    group.told_to_join_again(leader, doomed)
    die(doomed)
    leader.send_join()
    assert {leader.joined().generation_id, newcomer.joined().generation_id} == {3}
    group.goes_on_with(leader, newcomer, without=doomed)


def test_all_at_once(group: Group, die: Die, bystander: Member) -> None:
    members = [group.doomed() for _ in range(5)]
    settle(members[0])
    settle(*reversed(members))
    for member in members:
        die(member)
    assert eventually(lambda: group.state == "Empty")
    newcomer = group.member()
    group.goes_on_with(newcomer, without=members[0])


def test_a_leader_that_lives_and_never_syncs(group: Group, bystander: Member) -> None:
    """A zombie: its heart beats, so that only the rebalance timeout ends it."""
    leader, follower = group.member(), group.member()
    hurry = {"rebalance_timeout_ms": 1_500}
    leader.join(**hurry)
    leader.sync({})
    for member in (follower, leader):
        member.send_join(**hurry)
    for member in (follower, leader):
        member.joined()
    follower.send_sync()
    beats = []
    follower.conn.socket.settimeout(0.1)
    while True:
        beats.append(leader.heartbeat())
        try:
            follower.conn.socket.recv(1, 2)  # MSG_PEEK
            break
        except TimeoutError:
            assert len(beats) < 300, "it is waited for without end"
    follower.conn.socket.settimeout(30)
    assert follower.synced().error_code == REBALANCING
    assert set(beats[:-1]) == {OK}
    # Too late: its assignment is refused, and it is no member.
    assert leader.sync({leader.id: b"all"}).error_code == UNKNOWN_MEMBER
    group.goes_on_with(follower, without=leader)


def test_again_and_again(group: Group, topic: Topic, bystander: Member) -> None:
    """What is left of members that died does not pile up, and commits go on between them."""
    survivor = group.member()
    settle(survivor)
    for number in range(20):
        doomed = group.member()
        join_all(survivor, doomed)
        survivor.sync({survivor.id: b"1"})
        assert survivor.commit(topic, {0: number}) == [OK]
        if number % 2:
            doomed.conn.close()
            doomed.conn = group.watcher
        assert doomed.leave() == OK
    group.told_to_join_again(survivor)
    group.goes_on_with(survivor, without=doomed)
