"""ListGroups, DescribeGroups, DeleteGroups."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .client import Connection, Topic
from .groups import NON_EMPTY, NOT_FOUND, OK, Member, commit_body, described, new_group, settle

Connect = Callable[[], Connection]
#: READ, DELETE, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS, as bits; none if that was not asked.
OPERATIONS, NOT_ASKED = {3, 6, 8, 10, 11}, None


def simple(conn: Connection, topic: Topic) -> str:
    """A group that has only ever committed."""
    group = new_group(conn)
    conn.call("OffsetCommit", 9, group_id=group, **commit_body(topic, {0: 1}))
    return group


@pytest.mark.parametrize("version", range(6))
def test_groups_are_listed(connect: Connect, topic: Topic, version: int) -> None:
    conn = connect()
    member, empty = Member(connect(), new_group(conn)), simple(conn, topic)
    settle(member)

    def listed(states: tuple[str, ...] = (), kinds: tuple[str, ...] = ()) -> dict[str, object]:
        values = {"states_filter": list(states)} if version >= 4 else {}
        values |= {"types_filter": list(kinds)} if version >= 5 else {}
        answer = conn.call("ListGroups", version, **values)
        assert answer.error_code == OK
        return {one.group_id: one for one in answer.groups}

    found = listed()
    assert (found[member.group].protocol_type, found[empty].protocol_type) == ("consumer", "")
    if version >= 4:
        assert (found[member.group].group_state, found[empty].group_state) == ("Stable", "Empty")
        assert member.group in listed(states=("sTABLE", "Dead"))
        assert empty not in listed(states=("Stable",))
        assert listed(states=("nonsense",)) == {}
    if version >= 5:
        assert found[empty].group_type == "classic"
        assert empty in listed(kinds=("Classic",))
        assert empty not in listed(kinds=("consumer",))


@pytest.mark.parametrize("version", range(7))
def test_groups_are_described(connect: Connect, topic: Topic, version: int) -> None:
    conn = connect()
    member = Member(connect(), new_group(conn), instance="i")
    settle(member)
    asked = [member.group, simple(conn, topic), "nobody"]
    values = {"include_authorized_operations": True} if version >= 3 else {}
    answer = conn.call("DescribeGroups", version, groups=asked, **values)
    by_id = {one.group_id: one for one in answer.groups}
    stable, empty, missing = (by_id[group] for group in asked)
    assert (stable.group_state, stable.protocol_type) == ("Stable", "consumer")
    (one,) = stable.members
    assert (one.member_id, one.member_metadata) == (member.id, b"r")
    assert one.member_assignment == member.id.encode()
    assert version < 4 or one.group_instance_id == "i"
    assert (empty.group_state, empty.protocol_type, empty.members) == ("Empty", "", [])
    assert (missing.group_state, missing.members) == ("Dead", [])
    assert missing.error_code == (NOT_FOUND if version >= 6 else OK)
    if version >= 6:
        assert missing.error_message == "Group nobody not found."
    if version >= 3:
        assert stable.authorized_operations == empty.authorized_operations == OPERATIONS
        assert missing.authorized_operations == (NOT_ASKED if version >= 6 else OPERATIONS)


@pytest.mark.parametrize("version", range(3))
def test_groups_without_members_are_deleted(connect: Connect, topic: Topic, version: int) -> None:
    conn = connect()
    member, empty = Member(connect(), new_group(conn)), simple(conn, topic)
    settle(member)
    asked = [member.group, empty, "nobody"]
    answer = conn.call("DeleteGroups", version, groups_names=asked)
    found = {one.group_id: one.error_code for one in answer.results}
    assert found == {member.group: NON_EMPTY, empty: OK, "nobody": NOT_FOUND}
    assert described(conn, empty).group_state == "Dead"
    assert described(conn, member.group).group_state == "Stable"
