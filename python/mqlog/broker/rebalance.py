"""Rebalances: how a group comes to its next generation, and how sessions end.

The rules are those of Kafka 4.3's classic groups: KIP-62 (rebalance timeout), KIP-134 (initial
delay), KIP-345 (static members stay).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mqlog.broker import codes
from mqlog.broker.group import Group, Member, State
from mqlog.broker.timers import Alarm, Timer
from mqlog.protocol.join_group import JoinGroupResponse
from mqlog.protocol.sync_group import SyncGroupResponse

if TYPE_CHECKING:
    from mqlog.broker.shard import Shard

#: First version of JoinGroup with a null for no protocol.
_NULL_PROTOCOL = 7


def join_refused(request: Any, member_id: str, code: int) -> JoinGroupResponse:
    """Say why a member cannot join."""
    answer = JoinGroupResponse(error_code=code, member_id=member_id)
    if request.version >= _NULL_PROTOCOL:
        answer.protocol_name = None
    return answer


def refuse_join(shard: Shard, request: Any, member_id: str, code: int) -> None:
    """Tell a member that it cannot join."""
    shard.answer(request, join_refused(request, member_id, code))


def joined(group: Group, member: Member) -> JoinGroupResponse:
    """Say how a member is in the generation; its leader hears of all members."""
    answer = JoinGroupResponse(
        generation_id=group.generation,
        protocol_type=group.protocol_type,
        protocol_name=group.protocol,
        leader=group.leader or "",
        member_id=member.member_id,
    )
    if group.leader == member.member_id:
        answer.members = [
            JoinGroupResponse.JoinGroupResponseMember(
                one.member_id, one.instance_id, one.metadata(group.protocol)
            )
            for one in group.members.values()
        ]
    return answer


# -- generations -----------------------------------------------------------------------------------


def prepare_rebalance(shard: Shard, group: Group) -> None:
    """Have all members join again."""
    if group.state is State.COMPLETING:
        assign(shard, group, {}, codes.REBALANCE_IN_PROGRESS)
    if group.sync_timer is not None:
        group.sync_timer.stop()
    first = group.state is State.EMPTY
    group.move(State.PREPARING, shard.wall_ms)
    if first:
        # Others of the same start are about to come.
        group.newcomers = False
        delay = shard.settings.initial_delay_ms
        _wait_for_first(shard, group, delay, max(group.rebalance_timeout_ms - delay, 0))
    elif group.all_joined:
        _complete_join(shard, group)
    else:
        _wait_for_joins(shard, group)


def rebalance_or_complete(shard: Shard, group: Group) -> None:
    """Have all join again, or see whether all have."""
    if group.state is State.PREPARING:
        maybe_complete(shard, group)
    else:
        prepare_rebalance(shard, group)


def maybe_complete(shard: Shard, group: Group) -> None:
    """Begin the generation if nobody is waited for."""
    preparing = group.state is State.PREPARING
    if preparing and group.all_joined and group.previous is not State.EMPTY:
        _complete_join(shard, group)


def _wait_for_first(shard: Shard, group: Group, delay_ms: int, remaining_ms: int) -> None:
    def over() -> None:
        if group.newcomers and remaining_ms > 0:
            group.newcomers = False
            again = min(shard.settings.initial_delay_ms, remaining_ms)
            _wait_for_first(shard, group, again, max(remaining_ms - delay_ms, 0))
        else:
            _complete_join(shard, group)

    _set_join_timer(shard, group, over, delay_ms)


def _wait_for_joins(shard: Shard, group: Group) -> None:
    _set_join_timer(shard, group, lambda: _complete_join(shard, group), group.rebalance_timeout_ms)


def _set_join_timer(shard: Shard, group: Group, call: Callable[[], None], delay_ms: int) -> None:
    if group.join_timer is None:
        group.join_timer = Alarm(shard.timers, call)
    group.join_timer.call = call
    group.join_timer.set(shard.now_ms + delay_ms)


def _complete_join(shard: Shard, group: Group) -> None:
    """Begin the next generation with those who joined; static members stay in any case."""
    if group.join_timer is not None:
        group.join_timer.stop()
    late = [one for one in group.members.values() if one.joining is None]
    for one in late:
        if one.instance_id is None:
            group.remove(one.member_id)
    if group.members and not group.elect_joined_leader():
        _wait_for_joins(shard, group)  # only static members are left, and none has come
        return
    group.next_generation(shard.wall_ms)
    if not group.members:
        shard.save(group)
        return
    for member in group.members.values():
        waiting = group.take_join(member)
        if waiting is not None:
            shard.answer(waiting, joined(group, member))
        watch(shard, group, member, member.session_timeout_ms)
        member.is_new = False
        group.unsynced.add(member.member_id)
    _wait_for_syncs(shard, group)


def _wait_for_syncs(shard: Shard, group: Group) -> None:
    generation = group.generation

    def over() -> None:
        settled = group.state in (State.COMPLETING, State.STABLE)
        if generation != group.generation or not settled or not group.unsynced:
            return
        for member_id in list(group.unsynced):
            group.remove(member_id)
        prepare_rebalance(shard, group)

    if group.sync_timer is None:
        group.sync_timer = Alarm(shard.timers, over)
    group.sync_timer.call = over
    group.sync_timer.set(shard.now_ms + group.rebalance_timeout_ms)


# -- assignments -----------------------------------------------------------------------------------


def assign(shard: Shard, group: Group, given: dict[str, bytes], code: int) -> None:
    """Give each member its part, and answer those who wait for it."""
    for member in group.members.values():
        member.assignment = given.get(member.member_id, b"")
        waiting, member.syncing = member.syncing, None
        if waiting is not None:
            answer = synced(group, member) if code == codes.NONE else SyncGroupResponse()
            answer.error_code = code
            shard.answer(waiting, answer)
            watch(shard, group, member, member.session_timeout_ms)


def synced(group: Group, member: Member) -> SyncGroupResponse:
    """Tell a member its part."""
    return SyncGroupResponse(
        protocol_type=group.protocol_type,
        protocol_name=group.protocol,
        assignment=member.assignment,
    )


# -- sessions --------------------------------------------------------------------------------------


class _Session(Timer):
    """How long a member may be silent."""

    __slots__ = ("_group", "_member", "_shard")

    def __init__(self, shard: Shard, group: Group, member: Member) -> None:
        super().__init__(shard.timers)
        self._shard, self._group, self._member = shard, group, member

    def fire(self) -> None:
        _session_over(self._shard, self._group, self._member.member_id)


def watch_all(shard: Shard, group: Group) -> None:
    """Begin the sessions of a group that was loaded."""
    for member in group.members.values():
        watch(shard, group, member, member.session_timeout_ms)
    if len(group.members) > shard.settings.max_size:
        prepare_rebalance(shard, group)


def watch(shard: Shard, group: Group, member: Member, timeout_ms: int) -> None:
    """Begin the session of a member anew."""
    if member.session is None:
        member.session = _Session(shard, group, member)
    member.session.set(shard.now_ms + timeout_ms)


def _session_over(shard: Shard, group: Group, member_id: str) -> None:
    member = group.members.get(member_id)
    if member is None:
        return
    waits = member.joining is not None or member.syncing is not None
    if member.is_new or not waits:
        remove(shard, group, member)
        after_removal(shard, group)


def remove(shard: Shard, group: Group, member: Member) -> None:
    """Let a member go; it joins again if it is still there."""
    waiting, syncing = group.take_join(member), member.syncing
    # It joins again if it is still there.
    if waiting is not None:
        refuse_join(shard, waiting, "", codes.UNKNOWN_MEMBER_ID)
    if syncing is not None:
        member.syncing = None
        shard.answer(syncing, SyncGroupResponse(error_code=codes.UNKNOWN_MEMBER_ID))
    group.remove(member.member_id)


def after_removal(shard: Shard, group: Group) -> None:
    """Go on without those who went."""
    if group.state in (State.STABLE, State.COMPLETING):
        prepare_rebalance(shard, group)
    else:
        maybe_complete(shard, group)
