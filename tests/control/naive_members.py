"""The members of `naive_groups`: how they join, agree, and go."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .naive_state import (
    COMPLETING,
    EMPTY,
    FENCED,
    FULL,
    ILLEGAL_GENERATION,
    INCONSISTENT,
    INVALID_GROUP,
    INVALID_SESSION,
    MAX_SESSION_MS,
    MIN_SESSION_MS,
    NEEDS_ID,
    NEW_MEMBER_MS,
    NOT_COORDINATOR,
    OK,
    PREPARING,
    REBALANCING,
    STABLE,
    TOPICS,
    UNKNOWN_MEMBER,
    Answer,
    Code,
    Group,
    Member,
    Shard,
)


class Members:
    """What members ask. `choose(what, group, candidates)` tells what the rules leave open."""

    def __init__(
        self,
        shard_of: Mapping[str, int],
        subscriptions: Mapping[bytes, set[str] | None],
        choose: Callable[[str, Group, Sequence[Any]], Any],
        *,
        delay_ms: int,
        max_size: int,
        max_metadata: int,
        keep_ms: int,
        check_ms: int,
    ) -> None:
        self.shard_of, self.subscriptions, self.choose = shard_of, subscriptions, choose
        self.delay_ms, self.max_size, self.max_metadata = delay_ms, max_size, max_metadata
        self.keep_ms, self.check_ms = keep_ms, check_ms
        self.shards = [Shard() for _ in range(max(shard_of.values()) + 1)]
        self.topic_age = dict.fromkeys(TOPICS, 0)
        self.now = 0
        self.check_at = check_ms
        self.ids = 0
        #: Answers of this turn, and the shards each depends on.
        self.answers: dict[int, Answer] = {}
        self.depends: dict[int, set[int]] = {}

    def _say(self, token: int, shard: int | None = None, **answer: Any) -> None:
        self.answers[token] = answer
        self.depends[token] = set() if shard is None else {shard}

    # -- the log -----------------------------------------------------------------------------------

    def _save(self, group: Group) -> None:
        """Write what a restart finds: members as of now, with the chosen protocol only."""
        shard = self.shards[self.shard_of[group.name]]
        members = {
            one.id: Member(
                one.id, one.instance, one.client, one.session_ms, one.rebalance_ms,
                [(group.protocol or "", group.says(one))], one.assignment,
            )
            for one in group.members.values()
        }  # fmt: skip
        state = STABLE if members else EMPTY
        shard.saved[group.name] = Group(
            group.name, group.since, state, state, group.generation, group.type, group.protocol,
            group.leader, members, topics=self._subscribed(group),
        )  # fmt: skip
        shard.wrote = True

    def _drop(self, shard: Shard, key: tuple[str, str, int]) -> None:
        if shard.offsets.pop(key, None) is not None:
            shard.logged.pop(key, None)
            shard.wrote = True

    def _subscribed(self, group: Group) -> set[str] | None:
        if group.type != "consumer":
            return None
        told = [self.subscriptions.get(group.says(one)) for one in group.members.values()]
        return None if None in told else set().union(*filter(None, told))

    # -- JoinGroup ---------------------------------------------------------------------------------

    def _group(self, token: int, name: str) -> tuple[int, Shard] | None:
        index = self.shard_of.get(name, 0)
        shard = self.shards[index]
        if shard.down_until is not None:
            self._say(token, code=NOT_COORDINATOR)
            return None
        return index, shard

    def join(
        self, token: int, name: str, member_id: str, instance: str | None, client: str,
        session_ms: int, rebalance_ms: int, kind: str, protocols: list[tuple[str, bytes]],
        version: int,
    ) -> None:  # fmt: skip
        found = self._group(token, name)
        if found is None:
            return
        index, shard = found
        try:
            group = self._joinable(shard, name, member_id, session_ms)
            if not self._room(group, member_id):
                self._out(group, member_id)
                group.pending.pop(member_id, None)
                self._say(token, index, code=FULL, member="")
                # Here Kafka has the others wait for the rebalance timeout.
                self._maybe_complete(group)
                return
            if not self._fits(group, kind, protocols):
                raise Code(INCONSISTENT)
            times = (session_ms, rebalance_ms)
            here = any(one.instance == instance for one in group.members.values())
            if not member_id and instance is not None and here:
                self._replace(token, group, instance, times, protocols, version)
            elif not member_id and instance is None and version >= 4:
                new = self._new_id()
                group.pending[new] = self.now + session_ms
                self._say(token, index, code=NEEDS_ID, member=new)
            elif not member_id or member_id in group.pending:
                group.pending.pop(member_id, None)
                new_id = member_id or self._new_id()
                member = Member(new_id, instance, client, *times, protocols)
                self._add(token, group, member, kind)
            else:
                member = group.named(member_id, instance)
                self._join_again(token, group, member, times, protocols)
        except Code as code:
            self._say(token, index, code=code.args[0], member=member_id)

    def _joinable(self, shard: Shard, name: str, member_id: str, session_ms: int) -> Group:
        if not name:
            raise Code(INVALID_GROUP)
        if not MIN_SESSION_MS <= session_ms <= MAX_SESSION_MS:
            raise Code(INVALID_SESSION)
        if name not in shard.groups:
            if member_id:
                raise Code(UNKNOWN_MEMBER)
            shard.groups[name] = Group(name, self.now)
        return shard.groups[name]

    def _add(self, token: int, group: Group, member: Member, kind: str) -> None:
        if group.state == PREPARING and group.was == EMPTY:
            group.newcomers = True
        if not group.members:
            group.type, group.leader = kind, member.id
        member.joining, member.is_new = token, True
        member.dies_at = self.now + NEW_MEMBER_MS
        group.members[member.id] = member
        self._rebalance_or_complete(group)

    def _new_id(self) -> str:
        self.ids += 1
        return f"#{self.ids}"

    def _room(self, group: Group, member_id: str) -> bool:
        member = group.members.get(member_id)
        if group.state == EMPTY:
            return True
        if group.state == PREPARING:
            known = member is not None and member.joining is not None
            return known or len(group.waiting()) < self.max_size
        return member is not None or len(group.members) < self.max_size

    def _fits(self, group: Group, kind: str, protocols: list[tuple[str, bytes]]) -> bool:
        if group.state == EMPTY:
            return bool(kind) and bool(protocols)
        names = {name for name, _ in protocols}
        return kind == group.type and bool(names & group.common() if group.members else names)

    def _join_again(
        self, token: int, group: Group, member: Member, times: tuple[int, int],
        protocols: list[tuple[str, bytes]],
    ) -> None:  # fmt: skip
        same = member.protocols == protocols
        if same and (
            group.state == COMPLETING or (group.state == STABLE and group.leader != member.id)
        ):
            self._joined(token, group, member)
            return
        if member.joining is not None:
            self._say(member.joining, self.shard_of[group.name], code=REBALANCING, member=member.id)
        member.session_ms, member.rebalance_ms = times
        member.protocols, member.joining = protocols, token
        self._rebalance_or_complete(group)

    def _replace(
        self, token: int, group: Group, instance: str, times: tuple[int, int],
        protocols: list[tuple[str, bytes]], version: int,
    ) -> None:  # fmt: skip
        """A static member comes back: it gets a new id, and the old one is fenced."""
        index = self.shard_of[group.name]
        member = next(one for one in group.members.values() if one.instance == instance)
        old, new, leader = member.id, self._new_id(), group.leader
        if member.joining is not None:
            self._say(member.joining, index, code=FENCED, member=old)
        if member.syncing is not None:
            self._say(member.syncing, index, code=FENCED)
        member.id, member.joining, member.syncing = new, None, None
        del group.members[old]
        group.members[new] = member
        if leader == old:
            group.leader = new
        if old in group.unsynced:
            group.unsynced = group.unsynced - {old} | {new}
        member.session_ms, member.rebalance_ms = times
        member.protocols, member.dies_at = protocols, self.now + times[0]
        if group.state == STABLE:
            liked = group.favourites()
            kept = liked == [group.protocol] or (
                group.protocol in liked and self.choose("kept", group, [token])
            )
            if kept:
                group.topics = self._subscribed(group)
                self._save(group)
                leads = leader == old
                if version >= 9:
                    self._joined(token, group, member, skip=leads)
                else:
                    self._joined(token, group, member, leader=leader, members=set())
                return
        member.joining = token
        self._rebalance_or_complete(group)

    def _joined(self, token: int, group: Group, member: Member, **changes: Any) -> None:
        others = {(one.id, one.instance, group.says(one)) for one in group.members.values()}
        answer = {
            "code": OK,
            "generation": group.generation,
            "type": group.type,
            "protocol": group.protocol,
            "leader": group.leader,
            "member": member.id,
            "members": others if group.leader == member.id else set(),
            "skip": False,
        }
        self._say(token, self.shard_of[group.name], **{**answer, **changes})

    # -- rebalances --------------------------------------------------------------------------------

    def _rebalance_or_complete(self, group: Group) -> None:
        if group.state != PREPARING:
            self._prepare(group)
        else:
            self._maybe_complete(group)

    def _everybody(self, group: Group) -> bool:
        return len(group.waiting()) == len(group.members) and not group.pending

    def _maybe_complete(self, group: Group) -> None:
        if group.state == PREPARING and group.was != EMPTY and self._everybody(group):
            self._complete(group)

    def _move(self, group: Group, state: str) -> None:
        group.was, group.state, group.since = group.state, state, self.now

    def _prepare(self, group: Group) -> None:
        if group.state == COMPLETING:
            self._hand_out(group, {}, REBALANCING)
        group.sync_at = None
        longest = max((one.rebalance_ms for one in group.members.values()), default=0)
        self._move(group, PREPARING)
        if group.was == EMPTY:
            group.newcomers = False
            group.join_at = self.now + self.delay_ms
            group.first = (self.delay_ms, max(longest - self.delay_ms, 0))
        elif self._everybody(group):
            self._complete(group)
        else:
            group.join_at, group.first = self.now + longest, None

    def _join_over(self, group: Group, _who: str) -> None:
        group.join_at = None
        if group.first is not None and group.newcomers and group.first[1] > 0:
            waited, left = group.first
            group.newcomers = False
            again = min(self.delay_ms, left)
            group.join_at, group.first = self.now + again, (again, max(left - waited, 0))
        else:
            self._complete(group)

    def _complete(self, group: Group) -> None:
        group.join_at, group.first = None, None
        for member in list(group.members.values()):
            if member.joining is None and member.instance is None:
                self._out(group, member.id)
        here = group.waiting()
        if group.members and not here:
            longest = max(one.rebalance_ms for one in group.members.values())
            group.join_at = self.now + longest
            return
        group.generation += 1
        group.unsynced = set()
        if not group.members:
            group.protocol, group.leader = None, None
            self._move(group, EMPTY)
            group.topics = self._subscribed(group)
            self._save(group)
            return
        liked = group.favourites()
        group.protocol = liked[0] if len(liked) == 1 else self.choose("protocol", group, liked)
        if group.leader not in [one.id for one in here]:
            group.leader = here[0].id if len(here) == 1 else self.choose("leader", group, here)
        self._move(group, COMPLETING)
        group.topics = self._subscribed(group)
        for member in group.members.values():
            if member.joining is not None:
                self._joined(member.joining, group, member)
            member.joining, member.is_new = None, False
            member.dies_at = self.now + member.session_ms
            group.unsynced.add(member.id)
        group.sync_at = self.now + max(one.rebalance_ms for one in group.members.values())

    def _out(self, group: Group, member_id: str) -> None:
        """A member is no more; if it led, another will, whoever that is."""
        group.members.pop(member_id, None)
        group.unsynced.discard(member_id)
        if group.leader == member_id:
            group.leader = None

    def _hand_out(self, group: Group, given: dict[str, bytes], code: int) -> None:
        for member in group.members.values():
            member.assignment = given.get(member.id, b"")
            if member.syncing is not None:
                self._synced(member.syncing, group, member, code)
                member.syncing, member.dies_at = None, self.now + member.session_ms

    def _synced(self, token: int, group: Group, member: Member, code: int) -> None:
        index = self.shard_of[group.name]
        if code:
            self._say(token, index, code=code)
            return
        answer = {"type": group.type, "protocol": group.protocol, "assignment": member.assignment}
        self._say(token, index, code=OK, **answer)

    # -- SyncGroup, Heartbeat, LeaveGroup ----------------------------------------------------------

    def sync(
        self, token: int, name: str, member_id: str, instance: str | None, generation: int,
        kinds: tuple[str | None, str | None], given: dict[str, bytes], version: int,
    ) -> None:  # fmt: skip
        """`kinds`: protocol type and protocol; from version 5 they must be there."""
        found = self._group(token, name)
        if found is None:
            return
        index, shard = found
        try:
            if version >= 5 and None in kinds:
                raise Code(INCONSISTENT)
            group = self._existing(shard, name)
            member = group.named(member_id, instance)
            if generation != group.generation:
                raise Code(ILLEGAL_GENERATION)
            if kinds[0] not in (None, group.type) or kinds[1] not in (None, group.protocol):
                raise Code(INCONSISTENT)
            if group.state == PREPARING:
                raise Code(REBALANCING)
            self._synced_now(token, group, member, given)
        except Code as code:
            self._say(token, index, code=code.args[0])

    def _synced_now(
        self, token: int, group: Group, member: Member, given: dict[str, bytes]
    ) -> None:
        group.unsynced.discard(member.id)
        if not group.unsynced:
            group.sync_at = None
        if group.state == STABLE:
            self._synced(token, group, member, OK)
            return
        if member.syncing is not None:
            self._say(member.syncing, self.shard_of[group.name], code=REBALANCING)
        member.syncing = token
        if group.leader == member.id:
            self._move(group, STABLE)
            self._hand_out(group, given, OK)
            self._save(group)

    def _existing(self, shard: Shard, name: str) -> Group:
        if not name:
            raise Code(INVALID_GROUP)
        if name not in shard.groups:
            raise Code(UNKNOWN_MEMBER)
        return shard.groups[name]

    def heartbeat(
        self, token: int, name: str, member_id: str, instance: str | None, generation: int
    ) -> None:
        found = self._group(token, name)
        if found is None:
            return
        index, shard = found
        try:
            group = self._existing(shard, name)
            member = group.named(member_id, instance)
            if generation != group.generation:
                raise Code(ILLEGAL_GENERATION)
            member.dies_at = self.now + member.session_ms
            self._say(token, index, code=REBALANCING if group.state == PREPARING else OK)
        except Code as code:
            self._say(token, index, code=code.args[0])

    def leave(self, token: int, name: str, who: list[tuple[str, str | None]], version: int) -> None:
        found = self._group(token, name)
        if found is None:
            return
        index, shard = found
        many = version >= 3
        try:
            group = self._existing(shard, name)
        except Code as code:
            alone = not many or code.args[0] == INVALID_GROUP
            members = [] if alone else [(*one, code.args[0]) for one in who]
            self._say(token, index, code=code.args[0] if alone else OK, members=members)
            return
        codes = [self._leave(group, *one) for one in who]
        members = [(*one, code) for one, code in zip(who, codes, strict=True)] if many else []
        self._say(token, index, code=OK if many else codes[0], members=members)
        if OK in codes:
            self._after_removal(group)

    def _leave(self, group: Group, member_id: str, instance: str | None) -> int:
        if not member_id:
            held = [one.id for one in group.members.values() if one.instance == instance]
            if instance is None or not held:
                return UNKNOWN_MEMBER
            member_id = held[0]
        elif member_id in group.pending:
            del group.pending[member_id]
            return OK
        try:
            self._remove(group, group.named(member_id, instance))
        except Code as code:
            return int(code.args[0])
        return OK

    def _remove(self, group: Group, member: Member) -> None:
        index = self.shard_of[group.name]
        if member.joining is not None:
            self._say(member.joining, index, code=UNKNOWN_MEMBER, member="")
        if member.syncing is not None:
            self._say(member.syncing, index, code=UNKNOWN_MEMBER)
        self._out(group, member.id)

    def _after_removal(self, group: Group) -> None:
        if group.state in (STABLE, COMPLETING):
            self._prepare(group)
        else:
            self._maybe_complete(group)
