"""Our coordinator and the naive one, asked the same; every answer is compared field by field.

Member ids are made up by the broker, so the naive one has its own: `real` and `symbols` translate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from mqlog.broker.group_log import TOPIC, partition_of
from mqlog.protocol.create_topics import CreateTopicsRequest
from mqlog.protocol.delete_groups import DeleteGroupsRequest
from mqlog.protocol.delete_topics import DeleteTopicsRequest
from mqlog.protocol.describe_groups import DescribeGroupsRequest
from mqlog.protocol.find_coordinator import FindCoordinatorRequest
from mqlog.protocol.heartbeat import HeartbeatRequest
from mqlog.protocol.join_group import JoinGroupRequest
from mqlog.protocol.leave_group import LeaveGroupRequest
from mqlog.protocol.list_groups import ListGroupsRequest
from mqlog.protocol.offset_commit import OffsetCommitRequest
from mqlog.protocol.offset_delete import OffsetDeleteRequest
from mqlog.protocol.offset_fetch import OffsetFetchRequest
from mqlog.protocol.sync_group import SyncGroupRequest

from .fake import Broker, World
from .group_answers import (
    COMMIT,
    DELETE,
    DESCRIBE,
    FETCH,
    HEARTBEAT,
    JOIN,
    LEAVE,
    LIST,
    OFFSET_DELETE,
    SYNC,
    Reader,
    shown,
)
from .naive_groups import Naive
from .naive_state import TOPICS, Group, Member

FIND, CREATE_TOPICS, DELETE_TOPICS = 10, 19, 20
PARTITIONS, MAX_SIZE, MAX_METADATA = 2, 4, 5
KEEP_MINUTES, CHECK_MS = 10, 60_000
TICK_MS = 100


def subscription(*topics: str) -> bytes:
    """What a consumer says that reads these topics: version, topics, no user data."""
    names = b"".join(len(name).to_bytes(2, "big") + name.encode() for name in topics)
    return b"\0\0" + len(topics).to_bytes(4, "big") + names + b"\xff\xff\xff\xff"


SUBSCRIPTIONS = {
    subscription("t"): {"t"}, subscription("t", "u"): {"t", "u"}, subscription(): set(),
    b"?": None, b"": None,
}  # fmt: skip


class Asked(NamedTuple):
    """A request: what goes to the broker, and the same for the naive one."""

    api: int
    version: int
    message: Any
    tell: Callable[[int], None]
    group: str = ""
    client: str = "admin"
    instance: str | None = None


class Pair(Reader):
    """Both coordinators at the same moment."""

    def __init__(self, groups: Sequence[str], delay_ms: int) -> None:
        world = World(
            group_initial_rebalance_delay_ms=str(delay_ms),
            group_max_size=str(MAX_SIZE),
            offset_metadata_max_bytes=str(MAX_METADATA),
            offsets_topic_num_partitions=str(PARTITIONS),
            offsets_retention_minutes=str(KEEP_MINUTES),
            offsets_retention_check_interval_ms=str(CHECK_MS),
        )
        self.groups = list(groups)
        self.shard_of = {name: partition_of(name, PARTITIONS) for name in [*groups, ""]}
        super().__init__(Broker(world))
        for name, partitions in TOPICS.items():
            world.add_topic(name, partitions)
        self.broker.call(FIND, 4, FindCoordinatorRequest(coordinator_keys=["g"]))
        self.naive = Naive(
            self.shard_of, SUBSCRIPTIONS, self.choose, delay_ms=delay_ms, max_size=MAX_SIZE,
            max_metadata=MAX_METADATA, keep_ms=KEEP_MINUTES * 60_000, check_ms=CHECK_MS,
        )  # fmt: skip
        self.real: dict[str, str] = {"": ""}
        self.requests: dict[int, Asked] = {}
        self.seen = set(self.broker.answers)
        self.clients = 0
        #: What takes long, as a rewrite, goes on while requests come.
        self.slow = False

    def at(self, shard: int) -> tuple[bytes, int]:
        """The partition of a shard."""
        topic = self.broker.world.held.topic(TOPIC)
        assert topic is not None
        return topic.topic_id, shard

    # -- turns -------------------------------------------------------------------------------------

    def turn(self, *asked: Asked, ms: int = TICK_MS, refusing: int | None = None) -> bool:
        """Time passes, then these requests arrive at once, then both do what is due.

        `refusing`: a shard whose next write fails; whether there was one.
        """
        if refusing is not None:
            self.broker.finish()
            self.broker.full.add(self.at(refusing))
        self.broker.now_ms += ms
        self.broker.world.wall_ms += ms
        tokens = []
        for one in asked:
            token = self.broker.send(one.api, one.version, one.message, one.client)
            self.requests[token] = one
            tokens.append(token)
        down = any(shard.down_until is not None for shard in self.naive.shards)
        if self.slow and not down and refusing is None and self.naive.check_at > self.broker.now_ms:
            self.broker.step()
        else:
            self.broker.finish()
        failed = refusing is not None and self.at(refusing) not in self.broker.full
        self.broker.full.clear()
        self.naive.begin(self.broker.now_ms)
        for token, one in zip(tokens, asked, strict=True):
            one.tell(token)
        assert self.naive.end(refusing) == failed, "only one of them wrote"
        errors = [what for what, _ in self.broker.errors]
        assert errors == ([f"appending to {TOPIC}-{refusing}"] if failed else [])
        self.broker.errors.clear()
        self._compare()
        return failed

    def crash(self) -> None:
        """The broker's process ends and comes back; clients must ask again."""
        self.broker.restart()
        self.naive.crash()
        self.seen = set(self.broker.asked)
        for token in self.broker.asked:
            self.broker.answers.setdefault(token, "nobody listens")

    def crash_after(self, asked: Asked, steps: int) -> None:
        """The process ends so many steps after a request; nobody cares for the answer."""
        self.broker.now_ms += TICK_MS
        self.broker.world.wall_ms += TICK_MS
        token = self.broker.send(asked.api, asked.version, asked.message, asked.client)
        for _ in range(steps):
            self.broker.step()
        self.naive.begin(self.broker.now_ms)
        asked.tell(token)
        self.naive.end(None)
        self.crash()

    def recreate(self, topic: str) -> None:
        """A topic is deleted and made again: its commits are gone."""
        deleted = self.broker.call(DELETE_TOPICS, 5, DeleteTopicsRequest(topic_names=[topic]))
        assert deleted.responses[0].error_code == 0
        made = CreateTopicsRequest.CreatableTopic(topic, TOPICS[topic], 1)
        assert self.broker.call(CREATE_TOPICS, 5, CreateTopicsRequest([made])).topics
        self.naive.recreate(topic)
        self.seen = set(self.broker.answers)

    def look(self) -> None:
        """Compare all that can be asked for."""
        everything = [(name, None) for name in self.groups]
        self.turn(self.describe(6, *self.groups), self.list(), self.fetch(8, *everything), ms=0)

    # -- comparing ---------------------------------------------------------------------------------

    def _compare(self) -> None:
        new = self.broker.answers.keys() - self.seen
        self.seen |= new
        naive = self.naive.answers
        assert new == naive.keys(), [self.requests[token] for token in new ^ naive.keys()]
        for token in new:
            self._learn(token, naive[token])
        for token in sorted(new):
            one, answer = self.requests[token], self.broker.answers[token]
            answer = self.read(one.api, one.version, answer)
            wanted = shown(one.api, one.version, naive[token])
            assert answer == wanted, (one, answer, wanted, self.naive.now)

    def _learn(self, token: int, wanted: Any) -> None:
        """Note the ids that the broker has made up."""
        one, answer = self.requests[token], self.broker.answers[token]
        if "close" in (answer, wanted):
            return
        if one.api == JOIN and wanted.get("member", "") not in self.real and answer.member_id:
            assert answer.member_id.startswith(f"{one.instance or one.client}-")
            self._bind(wanted["member"], answer.member_id)
        if one.api == DESCRIBE:
            known = {m[2]: m[0] for group in wanted["groups"].values() for m in group[4]}
            for group in answer.groups:
                for member in group.members:
                    symbol = known.get(member.client_id)
                    if symbol is not None and symbol not in self.real:
                        self._bind(symbol, member.member_id)

    def _bind(self, symbol: str, real: str) -> None:
        assert real not in self.symbols, f"{real} is given out twice"
        self.real[symbol], self.symbols[real] = real, symbol

    def choose(self, what: str, group: Group, candidates: Sequence[Any]) -> Any:
        """What the broker did where the rules leave it open; it must be one of the candidates."""
        answers = self.broker.answers
        if what == "kept":
            answer = answers.get(candidates[0])
            return answer is not None and (
                answer == "close"
                or (answer.error_code, answer.generation_id) == (0, group.generation)
            )
        waiting: list[Member] = group.waiting()
        told = [
            (m, answers[m.joining])
            for m in waiting
            if answers.get(m.joining) not in (None, "close")
        ]
        if not told:
            first = candidates[0]  # nobody hears of it: the shard is lost
            return first.id if what == "leader" else first
        if what == "protocol":
            assert told[0][1].protocol_name in candidates
            return told[0][1].protocol_name
        leaders = [m.id for m, answer in told if answer.leader == answer.member_id]
        assert len(leaders) == 1
        return leaders[0]

    # -- requests ----------------------------------------------------------------------------------

    def join(
        self, group: str, who: str, instance: str | None, times: tuple[int, int],
        protocols: list[tuple[str, bytes]], version: int, kind: str = "consumer",
    ) -> Asked:  # fmt: skip
        """`who`: a symbol; `times`: session and rebalance timeout."""
        self.clients += 1
        client = f"c{self.clients}"
        instance = instance if version >= 5 else None
        made = [JoinGroupRequest.JoinGroupRequestProtocol(*one) for one in protocols]
        message = JoinGroupRequest(group, *times, self._id(who), instance, kind, made)
        tell = self.naive.join
        return Asked(
            JOIN, version, message,
            lambda token: tell(
                token, group, who, instance, client, *times, kind, protocols, version
            ),
            group, client, instance,
        )  # fmt: skip

    def _id(self, symbol: str) -> str:
        return self.real.get(symbol, symbol)

    def sync(
        self, group: str, who: str, instance: str | None, generation: int,
        given: dict[str, bytes], version: int, kind: str | None, protocol: str | None,
    ) -> Asked:  # fmt: skip
        """`given`: assignments by symbol."""
        kind, protocol = (kind, protocol) if version >= 5 else (None, None)
        instance = instance if version >= 3 else None
        parts = [
            SyncGroupRequest.SyncGroupRequestAssignment(self._id(one), data)
            for one, data in given.items()
        ]
        message = SyncGroupRequest(
            group, generation, self._id(who), instance, kind, protocol, parts
        )
        tell = self.naive.sync
        return Asked(
            SYNC, version, message,
            lambda token: tell(
                token, group, who, instance, generation, (kind, protocol), given, version
            ),
            group,
        )  # fmt: skip

    def heartbeat(
        self, group: str, who: str, instance: str | None, generation: int, version: int
    ) -> Asked:
        instance = instance if version >= 3 else None
        message = HeartbeatRequest(group, generation, self._id(who), instance)
        tell = self.naive.heartbeat
        return Asked(
            HEARTBEAT, version, message,
            lambda token: tell(token, group, who, instance, generation), group,
        )  # fmt: skip

    def leave(self, group: str, who: list[tuple[str, str | None]], version: int) -> Asked:
        if version < 3:
            who = [(who[0][0], None)]
            message = LeaveGroupRequest(group, self._id(who[0][0]))
        else:
            members = [LeaveGroupRequest.MemberIdentity(self._id(w), i) for w, i in who]
            message = LeaveGroupRequest(group, members=members)
        tell = self.naive.leave
        return Asked(LEAVE, version, message, lambda token: tell(token, group, who, version), group)

    def _topic_id(self, topic: str) -> bytes:
        found = self.broker.world.held.topic(topic)
        return found.topic_id if found else b"\7" * 16

    def commit(
        self, group: str, who: tuple[str, str | None, int],
        topics: list[tuple[str, list[tuple[int, int, int, str]]]], keep_ms: int, version: int,
    ) -> Asked:  # fmt: skip
        """`who`: member, instance, generation. `topics`: partition, offset, epoch, metadata."""
        member, instance, generation = who
        instance = instance if version >= 7 else None
        keep_ms = keep_ms if version <= 4 else -1
        if version < 6:
            topics = [(name, [(p, o, -1, m) for p, o, _, m in some]) for name, some in topics]
        message = OffsetCommitRequest(
            group, generation, self._id(member), instance, keep_ms,
            [
                OffsetCommitRequest.OffsetCommitRequestTopic(
                    name, self._topic_id(name),
                    [OffsetCommitRequest.OffsetCommitRequestPartition(*one) for one in some],
                )
                for name, some in topics
            ],
        )  # fmt: skip
        tell = self.naive.commit
        return Asked(
            COMMIT, version, message,
            lambda token: tell(
                token, group, member, instance, generation, topics, keep_ms, version
            ),
            group,
        )  # fmt: skip

    def fetch(self, version: int, *groups: tuple[str, list[tuple[str, list[int]]] | None]) -> Asked:
        Request = OffsetFetchRequest  # noqa: N806 - a class
        if version < 8:
            groups = groups[:1]
            group, topics = groups[0]
            some = topics and [Request.OffsetFetchRequestTopic(*one) for one in topics]
            message = Request(group, some)
        else:
            message = Request(groups=[
                Request.OffsetFetchRequestGroup(group, topics=topics and [
                    Request.OffsetFetchRequestTopics(name, self._topic_id(name), parts)
                    for name, parts in topics
                ])
                for group, topics in groups
            ])  # fmt: skip
        tell = self.naive.fetch
        return Asked(FETCH, version, message, lambda token: tell(token, list(groups), version))

    def delete_offsets(self, group: str, topics: list[tuple[str, list[int]]]) -> Asked:
        Request = OffsetDeleteRequest  # noqa: N806 - a class
        made = [
            Request.OffsetDeleteRequestTopic(
                name, [Request.OffsetDeleteRequestPartition(part) for part in parts]
            )
            for name, parts in topics
        ]
        tell = self.naive.delete_offsets
        message = Request(group, made)
        return Asked(OFFSET_DELETE, 0, message, lambda token: tell(token, group, topics), group)

    def describe(self, version: int, *groups: str) -> Asked:
        message, tell = DescribeGroupsRequest(list(groups)), self.naive.describe
        return Asked(DESCRIBE, version, message, lambda token: tell(token, list(groups), version))

    def list(self) -> Asked:
        return Asked(LIST, 4, ListGroupsRequest(), self.naive.list_groups)

    def delete(self, *groups: str) -> Asked:
        tell = self.naive.delete_groups
        message = DeleteGroupsRequest(list(groups))
        return Asked(DELETE, 2, message, lambda token: tell(token, list(groups)), groups[0])
