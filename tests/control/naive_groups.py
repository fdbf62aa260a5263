"""A second group coordinator, as plain as it can be: what `test_group_model` compares ours with.

It follows Kafka's rules for classic groups (KIP-62, 134, 345, 394, 496, 559, 814) and keeps no
counter, index or timer: every question is answered by looking at everything. It knows no bytes
either. Members have ids of its own ("#1"); where the rules leave a choice it asks `choose`.

One `turn` is what happens in one moment: requests, then what is due. If the log of a shard refuses
what was written in it, the shard is as its log says, a second later.
"""

from __future__ import annotations

import copy
from typing import Any

from .naive_members import Members
from .naive_state import (
    COMPLETING,
    EMPTY,
    ILLEGAL_GENERATION,
    INVALID_GROUP,
    LOADING,
    METADATA_TOO_LARGE,
    NON_EMPTY,
    NOT_COORDINATOR,
    NOT_FOUND,
    OK,
    REBALANCING,
    RELOAD_MS,
    STABLE,
    SUBSCRIBED,
    TOPICS,
    UNKNOWN_MEMBER,
    UNKNOWN_TOPIC,
    UNKNOWN_TOPIC_ID,
    Code,
    Commit,
    Group,
    Shard,
)  # fmt: skip

#: One offset of a request: partition, offset, leader epoch, metadata.
Part = tuple[int, int, int, str]


class Naive(Members):
    """All groups."""

    # -- turns -------------------------------------------------------------------------------------

    def begin(self, now: int) -> None:
        self.now, self.answers, self.depends = now, {}, {}
        self._backup = copy.deepcopy([(one.saved, one.logged) for one in self.shards])
        for shard in self.shards:
            shard.wrote = False

    def end(self, refusing: int | None) -> bool:
        """Let happen what is due; `refusing`: a shard whose next write fails. Whether it did."""
        self._timers()
        expires = [shard for shard in self.shards if shard.down_until is None]
        failed = False
        if refusing is not None and self.shards[refusing].wrote:
            failed = True
            for token, shards in self.depends.items():
                if refusing in shards:
                    self.answers[token] = "close"
            self.lose(refusing, undo=True)
        if self.now >= self.check_at:
            self.check_at = self.now + self.check_ms
            for shard in expires:
                if shard.down_until is None:
                    self._expire(shard)
            if refusing is not None and not failed and self.shards[refusing].wrote:
                failed = True
                self.lose(refusing, undo=True)
        for shard in self.shards:
            if shard.down_until is not None and self.now >= shard.down_until:
                self._load(shard)
        return failed

    def lose(self, index: int, *, undo: bool) -> None:
        """A shard's log is broken: who waits in it is told to ask again."""
        shard = self.shards[index]
        for group in shard.groups.values():
            for member in group.members.values():
                for token in (member.joining, member.syncing):
                    if token is not None:
                        self._say(token, code=NOT_COORDINATOR)
        if undo:
            shard.saved, shard.logged = self._backup[index]
        shard.groups, shard.offsets = {}, {}
        shard.down_until = self.now + RELOAD_MS

    def crash(self) -> None:
        """The process ends and comes back; nobody who waited is answered."""
        self.check_at = self.now + self.check_ms
        for shard in self.shards:
            self._load(shard)

    def _load(self, shard: Shard) -> None:
        shard.down_until = None
        shard.groups = copy.deepcopy(shard.saved)
        shard.offsets = copy.deepcopy(shard.logged)
        for name, _, _ in shard.offsets:
            shard.groups.setdefault(name, Group(name, self.now))
        for group in shard.groups.values():
            for member in group.members.values():
                member.dies_at = self.now + member.session_ms
        self._forget(shard)

    def _forget(self, shard: Shard) -> None:
        """Drop offsets of topics that are not what they were."""
        for key, held in list(shard.offsets.items()):
            if self.topic_age.get(key[1]) != held.topic_age:
                self._drop(shard, key)

    def recreate(self, topic: str) -> None:
        self.topic_age[topic] += 1
        for shard in self.shards:
            self._forget(shard)

    # -- time --------------------------------------------------------------------------------------

    def _timers(self) -> None:
        while True:
            due = [
                one
                for shard in self.shards
                if shard.down_until is None
                for group in shard.groups.values()
                for one in self._deadlines(group)
                if one[0] <= self.now
            ]
            if not due:
                return
            _, what, group, who = min(due, key=lambda one: one[0])
            getattr(self, f"_{what}_over")(group, who)

    def _deadlines(self, group: Group) -> list[tuple[int, str, Group, str]]:
        found = [(at, "pending", group, who) for who, at in group.pending.items()]
        found += [
            (one.dies_at, "session", group, one.id)
            for one in group.members.values()
            if one.dies_at is not None
        ]
        for at, what in ((group.join_at, "join"), (group.sync_at, "sync")):
            if at is not None:
                found.append((at, what, group, ""))
        return found

    def _pending_over(self, group: Group, who: str) -> None:
        del group.pending[who]
        self._maybe_complete(group)

    def _session_over(self, group: Group, who: str) -> None:
        member = group.members[who]
        member.dies_at = None
        waits = member.joining is not None or member.syncing is not None
        if member.is_new or not waits:
            self._remove(group, member)
            self._after_removal(group)

    def _sync_over(self, group: Group, _who: str) -> None:
        group.sync_at = None
        if group.state in (COMPLETING, STABLE) and group.unsynced:
            for member_id in list(group.unsynced):
                self._out(group, member_id)
            self._prepare(group)

    def _expire(self, shard: Shard) -> None:
        for group in list(shard.groups.values()):
            for key in [key for key in shard.offsets if key[0] == group.name]:
                if self._is_old(group, key[1], shard.offsets[key]):
                    self._drop(shard, key)
            left = any(key[0] == group.name for key in shard.offsets)
            if group.state == EMPTY and not group.pending and not left:
                self._end(shard, group)

    def _is_old(self, group: Group, topic: str, held: Commit) -> bool:
        since = held.at
        if group.type is not None and group.state == EMPTY:
            since = max(since, group.since)
        elif group.type is not None and (
            group.type != "consumer" or group.state != STABLE or group.reads(topic)
        ):
            return False
        return self.now >= (since + self.keep_ms if held.expires is None else held.expires)

    def _end(self, shard: Shard, group: Group) -> None:
        del shard.groups[group.name]
        if shard.saved.pop(group.name, None) is not None:
            shard.wrote = True

    # -- offsets -----------------------------------------------------------------------------------

    def commit(
        self, token: int, name: str, member_id: str, instance: str | None, generation: int,
        topics: list[tuple[str, list[Part]]], keep_ms: int, version: int,
    ) -> None:  # fmt: skip
        found = self._group(token, name)
        if found is None:
            parts = [(topic, part[0], NOT_COORDINATOR) for topic, some in topics for part in some]
            self._say(token, parts=parts)
            return
        index, shard = found
        codes = self._no_places(topics, version)
        good = [
            (topic, part)
            for topic, some in topics
            for part in some
            if (topic, part[0]) not in codes
        ]
        refused = (
            self._may_commit(shard, name, member_id, instance, generation, version) if good else OK
        )
        for topic, (at, offset, epoch, metadata) in good:
            too_large = len(metadata) > self.max_metadata
            codes[topic, at] = refused or (METADATA_TOO_LARGE if too_large else OK)
            if codes[topic, at] == OK:
                expires = None if keep_ms < 0 else self.now + keep_ms
                age = self.topic_age[topic]
                held = Commit(offset, epoch, metadata, self.now, expires, age)
                shard.offsets[name, topic, at] = shard.logged[name, topic, at] = held
                shard.wrote = True
        parts = [(topic, part[0], codes[topic, part[0]]) for topic, some in topics for part in some]
        self._say(token, index, parts=parts)

    @staticmethod
    def _no_places(
        topics: list[tuple[str, list[Part]]], version: int
    ) -> dict[tuple[str, int], int]:
        codes = {}
        for topic, some in topics:
            for part in some:
                if topic not in TOPICS:
                    codes[topic, part[0]] = UNKNOWN_TOPIC_ID if version >= 10 else UNKNOWN_TOPIC
                elif not 0 <= part[0] < TOPICS[topic]:
                    codes[topic, part[0]] = UNKNOWN_TOPIC
        return codes

    def _may_commit(
        self, shard: Shard, name: str, member_id: str, instance: str | None, generation: int,
        version: int,
    ) -> int:  # fmt: skip
        if name not in shard.groups:
            if generation >= 0:
                return NOT_FOUND if version >= 9 else ILLEGAL_GENERATION
            shard.groups[name] = Group(name, self.now)
        group = shard.groups[name]
        if generation < 0 and group.state == EMPTY:
            return OK
        if generation < 0 and not member_id and instance is None:
            return UNKNOWN_MEMBER if group.state != EMPTY else OK
        try:
            member = group.named(member_id, instance)
        except Code as code:
            return int(code.args[0])
        if generation != group.generation:
            return ILLEGAL_GENERATION
        if group.state == COMPLETING:
            return REBALANCING
        member.dies_at = self.now + member.session_ms
        return OK

    def fetch(
        self, token: int, groups: list[tuple[str, list[tuple[str, list[int]]] | None]], version: int
    ) -> None:
        said: dict[str, Any] = {}
        depends = set()
        for name, topics in groups:
            index = self.shard_of.get(name, 0)
            shard = self.shards[index]
            if shard.down_until is not None:
                said[name] = (NOT_COORDINATOR, [])
                continue
            depends.add(index)
            if topics is None:
                asked = [(topic, part) for group, topic, part in shard.offsets if group == name]
            else:
                asked = [(topic, part) for topic, some in topics for part in some]
            parts = []
            for topic, part in asked:
                held = shard.offsets.get((name, topic, part))
                unknown = version >= 10 and topic not in TOPICS
                if held is None:
                    parts.append((topic, part, -1, -1, "", UNKNOWN_TOPIC_ID if unknown else OK))
                else:
                    parts.append((topic, part, held.offset, held.epoch, held.metadata, OK))
            said[name] = (OK, sorted(parts))
        self._say(token, groups=said)
        self.depends[token] = depends

    def delete_offsets(self, token: int, name: str, topics: list[tuple[str, list[int]]]) -> None:
        found = self._group(token, name)
        if found is None:
            return
        index, shard = found
        group = shard.groups.get(name)
        code = OK
        if not name:
            code = INVALID_GROUP
        elif group is None:
            code = NOT_FOUND
        elif group.state != EMPTY and group.type != "consumer":
            code = NON_EMPTY
        if code or group is None:
            self._say(token, index, code=code, parts=[])
            return
        parts = []
        for topic, some in topics:
            for part in some:
                if topic not in TOPICS or not 0 <= part < TOPICS[topic]:
                    parts.append((topic, part, UNKNOWN_TOPIC))
                elif group.members and group.reads(topic):
                    parts.append((topic, part, SUBSCRIBED))
                else:
                    self._drop(shard, (name, topic, part))
                    parts.append((topic, part, OK))
        self._say(token, index, code=OK, parts=parts)

    # -- what there is -----------------------------------------------------------------------------

    def list_groups(self, token: int) -> None:
        if any(shard.down_until is not None for shard in self.shards):
            self._say(token, code=LOADING, groups=set())
            return
        groups = {
            (group.name, group.type or "", group.state)
            for shard in self.shards
            for group in shard.groups.values()
        }
        self._say(token, code=OK, groups=groups)
        self.depends[token] = set(range(len(self.shards)))

    def describe(self, token: int, names: list[str], version: int) -> None:
        said: dict[str, Any] = {}
        depends = set()
        for name in names:
            index = self.shard_of.get(name, 0)
            shard = self.shards[index]
            if shard.down_until is not None:
                said[name] = (NOT_COORDINATOR, "", "", "", set())
                continue
            depends.add(index)
            group = shard.groups.get(name)
            if group is None:
                said[name] = (NOT_FOUND if version >= 6 else OK, "Dead", "", "", set())
                continue
            stable = group.state == STABLE
            members = {
                (
                    one.id,
                    one.instance,
                    one.client,
                    group.says(one) if stable else b"",
                    one.assignment,
                )
                for one in group.members.values()
            }
            protocol = (group.protocol or "") if stable else ""
            said[name] = (OK, group.state, group.type or "", protocol, members)
        self._say(token, groups=said)
        self.depends[token] = depends

    def delete_groups(self, token: int, names: list[str]) -> None:
        said: dict[str, Any] = {}
        depends = set()
        for name in names:
            index = self.shard_of.get(name, 0)
            shard = self.shards[index]
            if shard.down_until is not None:
                said[name] = NOT_COORDINATOR
                continue
            depends.add(index)
            group = shard.groups.get(name)
            if group is None:
                said[name] = NOT_FOUND
            elif group.state != EMPTY:
                said[name] = NON_EMPTY
            else:
                said[name] = OK
                for key in [key for key in shard.offsets if key[0] == name]:
                    self._drop(shard, key)
                self._end(shard, group)
        self._say(token, codes=said)
        self.depends[token] = depends
