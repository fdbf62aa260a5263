"""JoinGroup, SyncGroup, Heartbeat, LeaveGroup: how members come, agree, and go.

The rules are those of Kafka 4.3's classic groups: KIP-62 (rebalance timeout), KIP-134 (initial
delay), KIP-345 (static members), KIP-394 (member id required), KIP-559 (protocol in SyncGroup),
KIP-814 (a static leader that skips the assignment).
"""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any

from mqlog.broker import codes, rebalance
from mqlog.broker.codes import Refusal
from mqlog.broker.group import Group, Member, State
from mqlog.broker.timers import Alarm
from mqlog.protocol.heartbeat import HeartbeatResponse
from mqlog.protocol.leave_group import LeaveGroupResponse
from mqlog.protocol.sync_group import SyncGroupResponse

if TYPE_CHECKING:
    from mqlog.broker.shard import Shard

#: A new member's client may be gone while its JoinGroup waits; it is expected to ask again.
NEW_MEMBER_TIMEOUT_MS = 5 * 60_000
#: First version of JoinGroup that an id has to be fetched for, and that may skip the assignment.
_KNOWN_MEMBER, _SKIP_ASSIGNMENT = 4, 9
#: First version of SyncGroup in which the kind and the name of the protocol must be there.
_KIND_AND_NAME = 5
#: First version of LeaveGroup that names several members.
_MANY_LEAVE = 3


# -- JoinGroup -------------------------------------------------------------------------------------


def join(shard: Shard, request: Any) -> None:
    """Answer JoinGroup, now or when the others have come."""
    message = request.message
    try:
        _join(shard, request, message)
    except Refusal as refusal:
        rebalance.refuse_join(shard, request, message.member_id, refusal.code)


def _join(shard: Shard, request: Any, message: Any) -> None:
    settings = shard.settings
    if not message.group_id:
        raise Refusal(codes.INVALID_GROUP_ID, None)
    if not settings.min_session_ms <= message.session_timeout_ms <= settings.max_session_ms:
        raise Refusal(codes.INVALID_SESSION_TIMEOUT, None)
    group = shard.groups.get(message.group_id)
    if group is None:
        if message.member_id:
            raise Refusal(codes.UNKNOWN_MEMBER_ID, None)
        group = shard.make_group(message.group_id)
    if not _has_room(group, message.member_id, settings.max_size):
        group.remove(message.member_id)
        rebalance.refuse_join(shard, request, "", codes.GROUP_MAX_SIZE_REACHED)
        rebalance.maybe_complete(shard, group)  # the others may have waited for it alone
        return
    protocols = [(sys.intern(one.name), one.metadata) for one in message.protocols]
    if not group.accepts(message.protocol_type, protocols):
        raise Refusal(codes.INCONSISTENT_GROUP_PROTOCOL, None)
    if not message.member_id:
        _join_new(shard, group, request, protocols)
    elif message.member_id in group.pending:
        _add(shard, group, request, message.member_id, protocols)
    else:
        _join_again(shard, group, request, protocols)


def _has_room(group: Group, member_id: str, limit: int) -> bool:
    member = group.members.get(member_id)
    if group.state is State.EMPTY:
        return True
    if group.state is State.PREPARING:
        return (member is not None and member.joining is not None) or group.joining < limit
    return member is not None or len(group.members) < limit


def _join_new(shard: Shard, group: Group, request: Any, protocols: list[tuple[str, bytes]]) -> None:
    instance_id = request.message.group_instance_id
    if instance_id is not None:
        member_id = shard.new_member_id(instance_id)
        if instance_id in group.instances:
            _replace_static(shard, group, request, member_id, protocols)
        else:
            _add(shard, group, request, member_id, protocols)
        return
    member_id = shard.new_member_id(request.client_id or "")
    if request.version < _KNOWN_MEMBER:
        _add(shard, group, request, member_id, protocols)
        return
    timer = Alarm(shard.timers, lambda: _pending_expired(shard, group, member_id))
    timer.set(shard.now_ms + request.message.session_timeout_ms)
    group.pending[member_id] = timer
    rebalance.refuse_join(shard, request, member_id, codes.MEMBER_ID_REQUIRED)


def _timeouts(message: Any) -> tuple[int, int]:
    session = message.session_timeout_ms
    rebalance = message.rebalance_timeout_ms
    return _same_timeouts(session, rebalance if rebalance >= 0 else session)


@functools.lru_cache(64)
def _same_timeouts(session_ms: int, rebalance_ms: int) -> tuple[int, int]:
    """Return the numbers that were given first: thousands of members have them in common."""
    return session_ms, rebalance_ms


def _add(
    shard: Shard, group: Group, request: Any, member_id: str, protocols: list[tuple[str, bytes]]
) -> None:
    message = request.message
    # Members say the same a thousand times.
    client = (sys.intern(request.client_id or ""), sys.intern(f"/{request.peer[0]}"))
    if group.state is State.PREPARING and group.previous is State.EMPTY:
        group.newcomers = True
    group.remove(member_id)  # it was pending
    first = next(iter(group.members.values()), None)
    if first is not None and first.protocols == protocols:
        protocols = first.protocols
    member = Member(member_id, message.group_instance_id, client, _timeouts(message), protocols)
    member.is_new = True
    group.add(member, message.protocol_type)
    group.await_join(member, request.parked())
    rebalance.watch(shard, group, member, NEW_MEMBER_TIMEOUT_MS)
    rebalance.rebalance_or_complete(shard, group)


def _join_again(
    shard: Shard, group: Group, request: Any, protocols: list[tuple[str, bytes]]
) -> None:
    message = request.message
    member = check_member(group, message.member_id, message.group_instance_id)
    if group.state is State.EMPTY:
        raise Refusal(codes.UNKNOWN_MEMBER_ID, None)
    same = member.protocols == protocols
    if group.state is State.COMPLETING and same:
        # It may have missed the answer to its JoinGroup.
        shard.answer(request, rebalance.joined(group, member))
    elif group.state is State.STABLE and same and group.leader != member.member_id:
        shard.answer(request, rebalance.joined(group, member))
    else:
        # A leader joins again when only it knows why the assignment has to change.
        group.update(member, _timeouts(message), protocols)
        _await_join(shard, group, member, request)
        rebalance.rebalance_or_complete(shard, group)


def _await_join(shard: Shard, group: Group, member: Member, request: Any) -> None:
    before = group.await_join(member, request.parked())
    if before is not None:
        shard.answer(
            before, rebalance.join_refused(before, member.member_id, codes.REBALANCE_IN_PROGRESS)
        )


def _replace_static(
    shard: Shard, group: Group, request: Any, member_id: str, protocols: list[tuple[str, bytes]]
) -> None:
    """Give the place of a static member to its new incarnation, without a rebalance if possible."""
    message = request.message
    old_id, leader = group.instances[message.group_instance_id], group.leader
    member = group.members[old_id]
    _fence(shard, group, member)
    group.rename(old_id, member_id)
    group.update(member, _timeouts(message), protocols)
    rebalance.watch(shard, group, member, member.session_timeout_ms)
    if group.state is State.STABLE and group.choose_protocol() == group.protocol:
        group.read_topics()  # it may read others now, and its record says so
        if not shard.save(group):
            raise Refusal(codes.UNKNOWN_SERVER_ERROR, None)
        answer = rebalance.joined(group, member)
        if request.version >= _SKIP_ASSIGNMENT:
            answer.skip_assignment = leader == old_id
        else:
            # Told of its old id as the leader, it does not compute an assignment.
            answer.members, answer.leader = [], leader or ""
        shard.answer(request, answer)
        return
    group.await_join(member, request.parked())
    rebalance.rebalance_or_complete(shard, group)


def _fence(shard: Shard, group: Group, member: Member) -> None:
    waiting = group.take_join(member)
    if waiting is not None:
        shard.answer(
            waiting, rebalance.join_refused(waiting, member.member_id, codes.FENCED_INSTANCE_ID)
        )
    if member.syncing is not None:
        shard.answer(member.syncing, SyncGroupResponse(error_code=codes.FENCED_INSTANCE_ID))
        member.syncing = None


# -- SyncGroup -------------------------------------------------------------------------------------


def sync(shard: Shard, request: Any) -> None:
    """Answer SyncGroup, now or when the leader has sent the assignment."""
    try:
        _sync(shard, request, request.message)
    except Refusal as refusal:
        shard.answer(request, SyncGroupResponse(error_code=refusal.code))


def _sync(shard: Shard, request: Any, message: Any) -> None:
    kind_and_name = (message.protocol_type, message.protocol_name)
    if request.version >= _KIND_AND_NAME and None in kind_and_name:
        raise Refusal(codes.INCONSISTENT_GROUP_PROTOCOL, None)
    group = _find(shard, message.group_id)
    member = check_member(group, message.member_id, message.group_instance_id)
    if message.generation_id != group.generation:
        raise Refusal(codes.ILLEGAL_GENERATION, None)
    kinds = (message.protocol_type, group.protocol_type), (message.protocol_name, group.protocol)
    if any(said is not None and said != known for said, known in kinds):
        raise Refusal(codes.INCONSISTENT_GROUP_PROTOCOL, None)
    if group.state is State.EMPTY:
        raise Refusal(codes.UNKNOWN_MEMBER_ID, None)
    if group.state is State.PREPARING:
        raise Refusal(codes.REBALANCE_IN_PROGRESS, None)
    group.asks_for_assignment(member)
    if group.state is State.STABLE:
        shard.answer(request, rebalance.synced(group, member))
        return
    before, member.syncing = member.syncing, request.parked()
    if before is not None:
        shard.answer(before, SyncGroupResponse(error_code=codes.REBALANCE_IN_PROGRESS))
    if group.leader == member.member_id:
        _lead(shard, group, message.assignments)


def _lead(shard: Shard, group: Group, assignments: Any) -> None:
    """Take the leader's assignment: write it, then tell everybody."""
    given = {one.member_id: one.assignment for one in assignments}
    for member in group.members.values():
        member.assignment = given.get(member.member_id, b"")
    group.move(State.STABLE, shard.wall_ms)
    if shard.save(group):
        rebalance.assign(shard, group, given, codes.NONE)
    else:
        group.move(State.COMPLETING, shard.wall_ms)
        rebalance.assign(shard, group, {}, codes.UNKNOWN_SERVER_ERROR)
        rebalance.prepare_rebalance(shard, group)


# -- Heartbeat -------------------------------------------------------------------------------------


def heartbeat(shard: Shard, request: Any) -> None:
    """Answer Heartbeat."""
    message = request.message
    code = codes.NONE
    try:
        group = _find(shard, message.group_id)
        member = check_member(group, message.member_id, message.group_instance_id)
        if message.generation_id != group.generation:
            raise Refusal(codes.ILLEGAL_GENERATION, None)
        if group.state is State.EMPTY:
            raise Refusal(codes.UNKNOWN_MEMBER_ID, None)
        rebalance.watch(shard, group, member, member.session_timeout_ms)
        if group.state is State.PREPARING:
            code = codes.REBALANCE_IN_PROGRESS
    except Refusal as refusal:
        code = refusal.code
    shard.answer(request, HeartbeatResponse(error_code=code))


def keep_alive(shard: Shard, group: Group, member_id: str) -> None:
    """Count a commit as a sign of life."""
    member = group.members.get(member_id)
    if member is not None and group.state in (State.STABLE, State.PREPARING):
        rebalance.watch(shard, group, member, member.session_timeout_ms)


def _pending_expired(shard: Shard, group: Group, member_id: str) -> None:
    group.remove(member_id)
    rebalance.maybe_complete(shard, group)


# -- LeaveGroup ------------------------------------------------------------------------------------


def leave(shard: Shard, request: Any) -> None:
    """Answer LeaveGroup: one member before version 3, any number since (KIP-345)."""
    message, answer = request.message, LeaveGroupResponse()
    try:
        group = _find(shard, message.group_id)
    except Refusal as refusal:
        if refusal.code != codes.UNKNOWN_MEMBER_ID or request.version < _MANY_LEAVE:
            answer.error_code = refusal.code
        else:
            answer.members = [_left(one, refusal.code) for one in message.members]
        shard.answer(request, answer)
        return
    if request.version < _MANY_LEAVE:
        answer.error_code = _leave_one(shard, group, message.member_id, None)
        gone = answer.error_code == codes.NONE
    else:
        answer.members = [
            _left(one, _leave_one(shard, group, one.member_id, one.group_instance_id))
            for one in message.members
        ]
        gone = any(one.error_code == codes.NONE for one in answer.members)
    if gone:
        rebalance.after_removal(shard, group)
    shard.answer(request, answer)


def _left(one: Any, code: int) -> LeaveGroupResponse.MemberResponse:
    return LeaveGroupResponse.MemberResponse(one.member_id, one.group_instance_id, code)


def _leave_one(shard: Shard, group: Group, member_id: str, instance_id: str | None) -> int:
    if not member_id:
        found = None if instance_id is None else group.instances.get(instance_id)
        if found is None:
            return codes.UNKNOWN_MEMBER_ID
        member_id = found
    elif member_id in group.pending:
        group.remove(member_id)
        return codes.NONE
    try:
        member = check_member(group, member_id, instance_id)
    except Refusal as refusal:
        return refusal.code
    rebalance.remove(shard, group, member)
    return codes.NONE


# -- who asks --------------------------------------------------------------------------------------


def _find(shard: Shard, name: str) -> Group:
    if not name:
        raise Refusal(codes.INVALID_GROUP_ID, None)
    group = shard.groups.get(name)
    if group is None:
        raise Refusal(codes.UNKNOWN_MEMBER_ID, None)
    return group


def check_member(group: Group, member_id: str, instance_id: str | None) -> Member:
    """Return the member of this id. Refusal if it is none, or another has its instance id."""
    if instance_id is not None:
        current = group.instances.get(instance_id)
        if current is None:
            raise Refusal(codes.UNKNOWN_MEMBER_ID, None)
        if current != member_id:
            raise Refusal(codes.FENCED_INSTANCE_ID, None)
    member = group.members.get(member_id)
    if member is None:
        raise Refusal(codes.UNKNOWN_MEMBER_ID, None)
    return member
