"""ListGroups, DescribeGroups, DeleteGroups: what there is, and its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mqlog.broker import codes
from mqlog.broker.group import Group, State
from mqlog.protocol.delete_groups import DeleteGroupsResponse
from mqlog.protocol.describe_groups import DescribeGroupsResponse
from mqlog.protocol.list_groups import ListGroupsResponse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mqlog.broker.shard import Shard

#: READ, DELETE, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS: nobody is refused anything.
OPERATIONS = 3400
_KIND = "classic"
#: First version of DescribeGroups that says so when a group is not there (KIP-1043).
_NOT_FOUND = 6


def listed(shards: Iterable[Shard], message: Any) -> ListGroupsResponse:
    """Return the groups that pass the filters of KIP-518 and KIP-848."""
    states = {state.lower() for state in message.states_filter}
    kinds = {kind.lower() for kind in message.types_filter}
    groups = [
        ListGroupsResponse.ListedGroup(
            group.name, group.protocol_type or "", str(group.state), _KIND
        )
        for shard in shards
        for group in shard.groups.values()
        if (not states or group.state.lower() in states) and (not kinds or _KIND in kinds)
    ]
    return ListGroupsResponse(groups=groups)


def described(group: Group | None, name: str, version: int, operations: bool) -> Any:
    """Return what DescribeGroups says of one group."""
    one = DescribeGroupsResponse.DescribedGroup(group_id=name)
    if operations and (group is not None or version < _NOT_FOUND):
        one.authorized_operations = OPERATIONS
    if group is None:
        one.group_state = "Dead"
        if version >= _NOT_FOUND:
            one.error_code = codes.GROUP_ID_NOT_FOUND
            one.error_message = f"Group {name} not found."
        return one
    stable = group.state is State.STABLE
    one.group_state, one.protocol_type = str(group.state), group.protocol_type or ""
    one.protocol_data = (group.protocol or "") if stable else ""
    one.members = [
        DescribeGroupsResponse.DescribedGroupMember(
            member.member_id,
            member.instance_id,
            member.client_id,
            member.client_host,
            member.metadata(group.protocol) if stable else b"",
            member.assignment,
        )
        for member in group.members.values()
    ]
    return one


def refused(name: str, code: int) -> Any:
    """Return what DescribeGroups says of a group whose shard is not there."""
    return DescribeGroupsResponse.DescribedGroup(error_code=code, group_id=name)


def delete(shard: Shard, name: str) -> Any:
    """Delete a group that has no members, with its offsets."""
    group, code = shard.groups.get(name), codes.NONE
    if group is None:
        code = codes.GROUP_ID_NOT_FOUND
    elif group.state is not State.EMPTY:
        code = codes.NON_EMPTY_GROUP
    else:
        for topic, index in list(shard.offsets.of.get(name, ())):
            shard.drop_offset(name, topic, index)
        shard.remove_group(name)
    return DeleteGroupsResponse.DeletableGroupResult(name, code)
