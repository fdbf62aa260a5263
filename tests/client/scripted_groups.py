"""The group coordinator of the scripted broker: the classic protocol and committed offsets."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

ILLEGAL_GENERATION = 22
INCONSISTENT_GROUP_PROTOCOL = 23
UNKNOWN_MEMBER_ID = 25
REBALANCE_IN_PROGRESS = 27
MEMBER_ID_REQUIRED = 79
FENCED_INSTANCE_ID = 82

TICK_S = 0.05


@dataclass
class _Member:
    protocols: list[tuple[str, bytes]]
    instance: str | None
    session_s: float
    rebalance_s: float
    seen: float = field(default_factory=time.monotonic)
    waiting: bool = False
    """A JoinGroup of it is parked."""
    assignment: bytes | None = None


@dataclass
class Group:
    """One group; `offsets` maps (topic, partition) to (offset, leader epoch, metadata)."""

    members: dict[str, _Member] = field(default_factory=dict)
    given: set[str] = field(default_factory=set)
    """Member ids that were handed out and not used yet."""
    generation: int = 0
    preparing: bool = False
    leader: str = ""
    protocol: str = ""
    protocol_type: str = ""
    round: int = 0
    offsets: dict[tuple[str, int], tuple[int, int, str | None]] = field(default_factory=dict)


class Groups:
    """All groups of a cluster, behind its condition."""

    def __init__(self, changed: threading.Condition) -> None:
        self._changed = changed
        self.by_id: dict[str, Group] = {}
        self.closed = False
        self._numbers = 0

    def group(self, name: str) -> Group:
        """The group, made when it is first named."""
        return self.by_id.setdefault(name, Group())

    def _expire(self, group: Group) -> None:
        now = time.monotonic()
        for name, member in list(group.members.items()):
            if not member.waiting and now - member.seen > member.session_s:
                self._remove(group, name)

    def _remove(self, group: Group, member_id: str) -> None:
        del group.members[member_id]
        group.preparing = bool(group.members)
        self._changed.notify_all()

    def join(self, request: Any, version: int, answer: Any) -> Any:
        """Park until all members have joined, or until the slowest one's time has passed."""
        group = self.group(request.group_id)
        member_id, instance = request.member_id, request.group_instance_id
        if instance is not None:
            known = [name for name, one in group.members.items() if one.instance == instance]
            if known and member_id not in ("", known[0]):
                answer.error_code = FENCED_INSTANCE_ID
                return answer
            if known and not member_id:
                self._remove(group, known[0])
        if not member_id:
            self._numbers += 1
            member_id = f"{instance or 'member'}-{self._numbers}"
            if version >= 4 and instance is None:
                group.given.add(member_id)
                answer.error_code, answer.member_id = MEMBER_ID_REQUIRED, member_id
                return answer
        elif member_id not in group.members and member_id not in group.given:
            answer.error_code, answer.member_id = UNKNOWN_MEMBER_ID, member_id
            return answer
        group.given.discard(member_id)
        wait_s = request.rebalance_timeout_ms / 1000 if version >= 1 else 0.0
        member = group.members[member_id] = _Member(
            [(one.name, one.metadata) for one in request.protocols],
            instance,
            request.session_timeout_ms / 1000,
            wait_s if wait_s > 0 else request.session_timeout_ms / 1000,
        )
        if not self._common(group):
            del group.members[member_id]
            answer.error_code = INCONSISTENT_GROUP_PROTOCOL
            return answer
        return self._park(group, request, member_id, member, answer)

    def _park(
        self, group: Group, request: Any, member_id: str, member: _Member, answer: Any
    ) -> Any:
        group.preparing = member.waiting = True
        group.protocol_type = request.protocol_type
        round_ = group.round
        deadline = time.monotonic() + max(one.rebalance_s for one in group.members.values())
        self._changed.notify_all()
        while group.round == round_ and not self.closed:
            self._expire(group)
            everybody = all(one.waiting for one in group.members.values())
            if everybody or time.monotonic() > deadline:
                self._complete(group)
                break
            self._changed.wait(TICK_S)
        if group.members.get(member_id) is not member:
            answer.error_code, answer.member_id = UNKNOWN_MEMBER_ID, member_id
            return answer
        answer.generation_id, answer.member_id = group.generation, member_id
        answer.leader, answer.protocol_name = group.leader, group.protocol
        answer.protocol_type = group.protocol_type
        if member_id == group.leader:
            part = type(answer).JoinGroupResponseMember
            answer.members = [
                part(name, one.instance, dict(one.protocols)[group.protocol])
                for name, one in group.members.items()
            ]
        return answer

    @staticmethod
    def _common(group: Group) -> list[str]:
        members = list(group.members.values())
        names = [name for name, _ in members[0].protocols]
        return [name for name in names if all(name in dict(one.protocols) for one in members)]

    def _complete(self, group: Group) -> None:
        group.members = {name: one for name, one in group.members.items() if one.waiting}
        group.round += 1
        group.generation += 1
        group.preparing = False
        if group.leader not in group.members:
            group.leader = next(iter(group.members))
        group.protocol = self._common(group)[0]
        for member in group.members.values():
            member.waiting, member.assignment, member.seen = False, None, time.monotonic()
        self._changed.notify_all()

    def _fault(self, group: Group, request: Any) -> int:
        """The error code of a request of a member, as all but JoinGroup check it."""
        self._expire(group)
        member = group.members.get(request.member_id)
        instance = request.group_instance_id
        if instance is not None and any(
            one.instance == instance and name != request.member_id
            for name, one in group.members.items()
        ):
            return FENCED_INSTANCE_ID
        if member is None:
            return UNKNOWN_MEMBER_ID
        generation = getattr(request, "generation_id", None)
        if generation is None:
            generation = request.generation_id_or_member_epoch
        if generation != group.generation:
            return ILLEGAL_GENERATION
        member.seen = time.monotonic()
        return 0

    def sync(self, request: Any, answer: Any) -> Any:
        """Park until the leader has said who gets what."""
        group = self.group(request.group_id)
        answer.error_code = self._fault(group, request)
        if answer.error_code:
            return answer
        generation = group.generation
        member = group.members[request.member_id]
        for part in request.assignments:
            if part.member_id in group.members:
                group.members[part.member_id].assignment = part.assignment
        if request.member_id == group.leader:
            for one in group.members.values():
                one.assignment = one.assignment or b""
            self._changed.notify_all()
        deadline = time.monotonic() + member.rebalance_s
        while member.assignment is None and not self.closed:
            if group.preparing or group.generation != generation or time.monotonic() > deadline:
                answer.error_code = REBALANCE_IN_PROGRESS
                return answer
            self._changed.wait(TICK_S)
        answer.assignment = member.assignment or b""
        answer.protocol_type, answer.protocol_name = group.protocol_type, group.protocol
        return answer

    def heartbeat(self, request: Any, answer: Any) -> Any:
        """Alive, or what to do."""
        group = self.group(request.group_id)
        answer.error_code = self._fault(group, request)
        if not answer.error_code and group.preparing:
            answer.error_code = REBALANCE_IN_PROGRESS
        return answer

    def leave(self, request: Any, version: int, answer: Any) -> Any:
        """Members leave; the others hear of it with their next heartbeat."""
        group = self.group(request.group_id)
        if version < 3:
            if request.member_id in group.members:
                self._remove(group, request.member_id)
            else:
                answer.error_code = UNKNOWN_MEMBER_ID
            return answer
        for one in request.members:
            named = [
                name
                for name, member in group.members.items()
                if one.member_id == name
                or (not one.member_id and one.group_instance_id == member.instance)
            ]
            for name in named:
                self._remove(group, name)
            code = 0 if named else UNKNOWN_MEMBER_ID
            part = type(answer).MemberResponse(one.member_id, one.group_instance_id, code)
            answer.members.append(part)
        return answer

    def may_commit(self, request: Any) -> int:
        """The error code of an OffsetCommit as a whole."""
        group = self.group(request.group_id)
        if request.generation_id_or_member_epoch < 0 and not request.member_id:
            return UNKNOWN_MEMBER_ID if group.members else 0
        return self._fault(group, request)

    def expel(self, name: str) -> None:
        """Forget all members, as a coordinator that lost them would."""
        group = self.group(name)
        group.members.clear()
        group.generation += 1
        self._changed.notify_all()
