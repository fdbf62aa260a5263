"""Membership, state by state, against a scripted coordinator."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from mqlog.client import assignors
from mqlog.client.assignors import ASSIGNORS
from mqlog.client.config import ConsumerConfig
from mqlog.client.control import Control
from mqlog.client.structs import MemberState, OffsetAndMetadata, TopicPartition
from mqlog.errors import (
    CommitFailedError,
    FencedInstanceIdError,
    GroupAuthorizationFailedError,
    InconsistentGroupProtocolError,
    KafkaError,
    MaxPollIntervalExceededError,
    RebalanceInProgressError,
)
from mqlog.protocol.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from mqlog.protocol.join_group import JoinGroupRequest, JoinGroupResponse
from mqlog.protocol.leave_group import LeaveGroupRequest, LeaveGroupResponse
from mqlog.protocol.list_offsets import ListOffsetsRequest, ListOffsetsResponse
from mqlog.protocol.offset_commit import OffsetCommitRequest, OffsetCommitResponse
from mqlog.protocol.offset_fetch import OffsetFetchRequest, OffsetFetchResponse
from mqlog.protocol.sync_group import SyncGroupRequest, SyncGroupResponse

from .fake import At, FakeCluster, FakeHeart, FakeNative, FakeReading, Later, driver


class Coordinator:
    """Answers as a coordinator would; `next` holds codes that come first, by request."""

    def __init__(self) -> None:
        self.codes: dict[type, list[int]] = {}
        self.generation = 0
        self.members = ["me"]
        self.leader = "me"
        self.protocol: str | None = None
        self.assignment: list[TopicPartition] | None = None
        self.parked: Later | None = None
        self.shared: dict[str, list[TopicPartition]] = {}
        self.committed: dict[TopicPartition, int] = {}
        self.end = 7
        self.metadata: dict[str, bytes] = {}

    def __call__(self, request: Any, target: Any) -> Any:
        codes = self.codes.get(type(request))
        code = codes.pop(0) if codes else 0
        name = type(request).__name__.removesuffix("Request")
        answer: Callable[[Any, int], Any] = getattr(self, name)
        return answer(request, code)

    def FindCoordinator(self, request: FindCoordinatorRequest, code: int) -> Any:
        one = FindCoordinatorResponse.Coordinator(
            request.coordinator_keys[0], 1, "h", 1, code, None
        )
        return FindCoordinatorResponse(coordinators=[one])

    def JoinGroup(self, request: JoinGroupRequest, code: int) -> Any:
        if code:
            return JoinGroupResponse(error_code=code, member_id="me" if code == 79 else "")
        self.generation += 1
        offered = {one.name: one.metadata for one in request.protocols}
        chosen = self.protocol or request.protocols[0].name
        members = [
            JoinGroupResponse.JoinGroupResponseMember(
                member, None, self.metadata.get(member, offered.get(chosen, b""))
            )
            for member in self.members
        ]
        response = JoinGroupResponse(
            generation_id=self.generation, protocol_type="consumer", protocol_name=chosen,
            leader=self.leader, member_id="me",
            members=members if self.leader == "me" else [],
        )  # fmt: skip
        if self.parked is not None:
            self.parked.answer = response
            return self.parked
        return response

    def SyncGroup(self, request: SyncGroupRequest, code: int) -> Any:
        self.shared = {
            one.member_id: assignors.read_assignment(one.assignment) for one in request.assignments
        }
        mine = self.shared.get("me", []) if self.assignment is None else self.assignment
        return SyncGroupResponse(error_code=code, assignment=assignors.assignment(mine))

    def LeaveGroup(self, request: LeaveGroupRequest, code: int) -> Any:
        return LeaveGroupResponse(error_code=code)

    def OffsetFetch(self, request: OffsetFetchRequest, code: int) -> Any:
        topics = [
            OffsetFetchResponse.OffsetFetchResponseTopics(
                topic.name,
                partitions=[
                    OffsetFetchResponse.OffsetFetchResponsePartitions(
                        index, self.committed.get(TopicPartition(topic.name, index), -1)
                    )
                    for index in topic.partition_indexes
                ],
            )
            for topic in request.groups[0].topics or []
        ]
        group = OffsetFetchResponse.OffsetFetchResponseGroup("g", topics, code)
        return OffsetFetchResponse(groups=[group])

    def ListOffsets(self, request: ListOffsetsRequest, code: int) -> Any:
        topics = [
            ListOffsetsResponse.ListOffsetsTopicResponse(
                topic.name,
                [
                    ListOffsetsResponse.ListOffsetsPartitionResponse(
                        part.partition_index, code, -1, self.end if part.timestamp == -1 else 0, 3
                    )
                    for part in topic.partitions
                ],
            )
            for topic in request.topics
        ]
        return ListOffsetsResponse(topics=topics)

    def OffsetCommit(self, request: OffsetCommitRequest, code: int) -> Any:
        topics = []
        for topic in request.topics:
            parts = []
            for part in topic.partitions:
                if not code:
                    place = TopicPartition(topic.name, part.partition_index)
                    self.committed[place] = part.committed_offset
                parts.append(
                    OffsetCommitResponse.OffsetCommitResponsePartition(part.partition_index, code)
                )
            topics.append(
                OffsetCommitResponse.OffsetCommitResponseTopic(topic.name, partitions=parts)
            )
        return OffsetCommitResponse(topics=topics)


class Listener:
    def __init__(self) -> None:
        self.heard: list[tuple[str, list[int]]] = []
        self.during: dict[str, Callable[[], Any]] = {}

    def _hear(self, what: str, places: set[TopicPartition]) -> None:
        self.heard.append((what, sorted(place.partition for place in places)))
        self.during.get(what, lambda: None)()

    def on_partitions_revoked(self, places: set[TopicPartition]) -> None:
        self._hear("revoked", places)

    def on_partitions_assigned(self, places: set[TopicPartition]) -> None:
        self._hear("assigned", places)

    def on_partitions_lost(self, places: set[TopicPartition]) -> None:
        self._hear("lost", places)


class Consumer:
    """A consumer's decisions over the scripted coordinator."""

    def __init__(self, **given: Any) -> None:
        given = {"group_id": "g", "auto_offset_reset": "earliest", **given}
        self.coordinator = Coordinator()
        self.native = FakeNative(self.coordinator)
        self.cluster = FakeCluster(t=4)
        self.native.metadata = self.cluster
        self.heart = FakeHeart()
        self.reading = FakeReading()
        self.driver = driver(self.native)
        self.control = Control(
            ConsumerConfig(None, given), self.driver, self.cluster, self.reading, self.heart
        )
        self.listener = Listener()

    def subscribe(self, *topics: str) -> Consumer:
        self.control.subscribe(list(topics) or ["t"], None, self.listener)
        return self

    def poll(self, times: int = 30) -> None:
        """Polls until nothing is under way any more, or so often."""
        self.control.polled()
        for _ in range(times):
            self.control.turn()
            time.sleep(0.0005)

    def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(2000):
            if condition():
                return
            self.control.turn()
            time.sleep(0.0005)
        raise AssertionError("it never came to that")

    @property
    def owned(self) -> list[int]:
        return sorted(place.partition for place in self.control.owned())

    def sent(self, kind: type) -> list[Any]:
        return [one for one in self.native.asked if type(one) is kind]

    def rebalance(self, *indexes: int) -> None:
        """The group rebalances; this member gets these partitions."""
        self.coordinator.leader = "other"
        self.coordinator.assignment = [TopicPartition("t", index) for index in indexes]
        self.heart.find("rebalance")
        joins = len(self.sent(JoinGroupRequest))
        self.until(lambda: len(self.sent(JoinGroupRequest)) > joins)
        self.until(lambda: self.control.metadata().state == MemberState.STABLE)


T = [TopicPartition("t", index) for index in range(4)]


def test_the_first_member_gets_everything() -> None:
    consumer = Consumer().subscribe()
    assert consumer.control.metadata().state == MemberState.UNJOINED
    consumer.coordinator.codes[JoinGroupRequest] = [79]
    consumer.poll()
    assert consumer.owned == [0, 1, 2, 3]
    assert [join.member_id for join in consumer.sent(JoinGroupRequest)] == ["", "me"]
    assert consumer.control.metadata()[:3] == ("g", 1, "me")
    assert consumer.control.metadata().state == MemberState.STABLE
    assert consumer.heart.beating
    assert consumer.heart.who == ("g", 1, "me", None)
    assert consumer.listener.heard == [("revoked", []), ("assigned", [0, 1, 2, 3])]


def test_the_leader_shares_out_for_all() -> None:
    consumer = Consumer().subscribe()
    consumer.coordinator.members = ["me", "you"]
    consumer.poll()
    assert consumer.coordinator.shared == {"me": T[:2], "you": T[2:]}
    assert consumer.owned == [0, 1]


def test_a_leader_fetches_the_topics_of_others() -> None:
    consumer = Consumer().subscribe()
    consumer.cluster.set(u=2)
    consumer.coordinator.members = ["me", "you"]
    consumer.coordinator.metadata["you"] = assignors.subscription(
        ASSIGNORS["range"](), ["u"], (), (), -1
    )
    consumer.poll()
    assert ("refresh", ["t", "u"]) in consumer.native.asked
    assert consumer.coordinator.shared["you"] == [TopicPartition("u", i) for i in range(2)]


def test_eager_gives_everything_back_first() -> None:
    consumer = Consumer(partition_assignment_strategy=["range"]).subscribe()
    consumer.poll()
    consumer.rebalance(1, 2)
    assert consumer.listener.heard[2:] == [("revoked", [0, 1, 2, 3]), ("assigned", [1, 2])]
    assert consumer.owned == [1, 2]


def test_cooperative_keeps_what_stays_and_joins_twice() -> None:
    consumer = Consumer(partition_assignment_strategy=["cooperative-sticky"]).subscribe()
    consumer.poll()
    assert consumer.listener.heard == [("assigned", [0, 1, 2, 3])]
    joins = len(consumer.sent(JoinGroupRequest))
    consumer.rebalance(0, 1)
    consumer.until(lambda: len(consumer.sent(JoinGroupRequest)) == joins + 2)
    consumer.poll()
    assert consumer.listener.heard[1:] == [("revoked", [2, 3])]
    assert consumer.owned == [0, 1]
    said = [
        assignors.read_member(
            ASSIGNORS["cooperative-sticky"](), "", None, join.protocols[0].metadata
        )
        for join in consumer.sent(JoinGroupRequest)
    ]
    assert [len(member.owned) for member in said] == [0, 4, 2]
    assert [member.generation for member in said] == [-1, 1, 2]


def test_records_of_kept_partitions_go_on_while_a_join_is_parked() -> None:
    consumer = Consumer(partition_assignment_strategy=["cooperative-sticky"]).subscribe()
    consumer.poll()
    consumer.coordinator.parked = Later(None)
    consumer.heart.find("rebalance")
    consumer.poll()
    assert consumer.control.metadata().state == MemberState.REBALANCING
    assert not consumer.heart.beating
    assert consumer.owned == [0, 1, 2, 3]
    consumer.control.positions.seek(T[0], 5)
    consumer.control.commits().run(consumer.control.positions.all(), 60_000)
    assert consumer.coordinator.committed[T[0]] == 5
    consumer.coordinator.parked.release()
    consumer.poll()
    assert consumer.control.metadata().state == MemberState.STABLE


def test_a_topic_that_is_dropped_is_revoked_before_joining() -> None:
    consumer = Consumer(partition_assignment_strategy=["cooperative-sticky"])
    consumer.cluster.set(u=1)
    consumer.subscribe("t", "u")
    consumer.poll()
    consumer.subscribe("u")
    consumer.poll()
    assert ("revoked", [0, 1, 2, 3]) in consumer.listener.heard
    assert consumer.control.owned() == {TopicPartition("u", 0)}


def test_a_static_member_says_its_name_and_does_not_leave() -> None:
    consumer = Consumer(group_instance_id="i").subscribe()
    consumer.poll()
    assert consumer.sent(JoinGroupRequest)[0].group_instance_id == "i"
    assert consumer.heart.who.instance == "i"
    consumer.control.close(autocommit=True, timeout_ms=60_000)
    assert consumer.sent(LeaveGroupRequest) == []


def test_closing_gives_back_commits_and_leaves() -> None:
    consumer = Consumer().subscribe()
    consumer.poll()
    consumer.control.positions.seek(T[1], 9)
    consumer.control.close(autocommit=True, timeout_ms=60_000)
    assert consumer.coordinator.committed[T[1]] == 9
    assert consumer.listener.heard[-1] == ("revoked", [0, 1, 2, 3])
    assert consumer.sent(LeaveGroupRequest)[0].members[0].member_id == "me"
    assert not consumer.heart.beating


@pytest.mark.parametrize("code", [25, 22])
def test_a_member_that_was_lost_joins_again(code: int) -> None:
    consumer = Consumer().subscribe()
    consumer.poll()
    consumer.heart.find("lost", code)
    consumer.poll()
    heard = [("lost", [0, 1, 2, 3]), ("assigned", [0, 1, 2, 3])]
    assert consumer.listener.heard[2:] == heard
    assert consumer.sent(JoinGroupRequest)[-1].member_id == ("" if code == 25 else "me")


def test_whoever_does_not_poll_is_told(caplog: pytest.LogCaptureFixture) -> None:
    consumer = Consumer(max_poll_interval_ms=1234).subscribe()
    consumer.poll()
    consumer.heart.find("late")
    consumer.coordinator.parked = Later(None)
    consumer.poll()
    assert "max_poll_interval_ms=1234" in caplog.text
    assert "max_poll_records=500" in caplog.text
    assert consumer.listener.heard[-1] == ("lost", [0, 1, 2, 3])
    with pytest.raises(MaxPollIntervalExceededError, match="max_poll_interval_ms=1234"):
        consumer.control.commits().run({T[0]: OffsetAndMetadata(1)}, 60_000)
    consumer.coordinator.parked.release()
    consumer.poll()
    consumer.control.commits().run({T[0]: OffsetAndMetadata(1)}, 60_000)


def test_a_fenced_member_is_done_for() -> None:
    consumer = Consumer(group_instance_id="i").subscribe()
    consumer.poll()
    consumer.heart.find("lost", 82)
    for _ in range(2):
        with pytest.raises(FencedInstanceIdError, match="group_instance_id='i'"):
            consumer.poll()
    assert len(consumer.sent(JoinGroupRequest)) == 1


@pytest.mark.parametrize(
    ("kind", "codes"),
    [
        (FindCoordinatorRequest, [15, 14]),
        (JoinGroupRequest, [16, 14, 27, 25, 22]),
        (SyncGroupRequest, [27, 16, 25, 22, 14]),
        (OffsetFetchRequest, [14, 16, 88]),
        (ListOffsetsRequest, [6, 5]),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_may_pass_is_tried_again(kind: type, codes: list[int]) -> None:
    consumer = Consumer().subscribe()
    consumer.coordinator.codes[kind] = list(codes)
    consumer.until(lambda: len(consumer.reading.at) == 4)
    consumer.until(lambda: all(at.position == 0 for at in consumer.reading.at.values()))
    assert consumer.coordinator.codes[kind] == []


@pytest.mark.parametrize(
    ("kind", "code", "error"),
    [
        (FindCoordinatorRequest, 30, GroupAuthorizationFailedError),
        (JoinGroupRequest, 30, GroupAuthorizationFailedError),
        (JoinGroupRequest, 23, InconsistentGroupProtocolError),
        (JoinGroupRequest, 82, FencedInstanceIdError),
        (SyncGroupRequest, 30, GroupAuthorizationFailedError),
        (OffsetFetchRequest, 30, GroupAuthorizationFailedError),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_will_not_pass_is_raised(kind: type, code: int, error: type[KafkaError]) -> None:
    consumer = Consumer().subscribe()
    consumer.coordinator.codes[kind] = [code]
    with pytest.raises(error, match="'g'"):
        consumer.poll()


def test_what_a_listener_raises_is_told_after_the_rebalance() -> None:
    consumer = Consumer().subscribe()

    def fail() -> None:
        raise ValueError("mine")

    consumer.listener.during["assigned"] = fail
    with pytest.raises(KafkaError, match=r"Listener.on_partitions_assigned raised ValueError"):
        consumer.poll()
    assert consumer.owned == [0, 1, 2, 3]
    consumer.poll()
    assert len(consumer.sent(JoinGroupRequest)) == 1


def test_a_listener_may_commit() -> None:
    consumer = Consumer(enable_auto_commit=False).subscribe()
    consumer.poll()
    consumer.control.positions.seek(T[0], 3)
    consumer.listener.during["revoked"] = lambda: consumer.control.commits().run(
        {T[0]: OffsetAndMetadata(3, "note")}, 60_000
    )
    consumer.rebalance(1)
    assert consumer.coordinator.committed == {T[0]: 3}
    assert consumer.sent(OffsetCommitRequest)[0].generation_id_or_member_epoch == 1


def test_the_leader_shares_out_again_when_partitions_come() -> None:
    consumer = Consumer().subscribe()
    consumer.poll()
    consumer.cluster.set(t=6)
    consumer.poll()
    assert consumer.owned == [0, 1, 2, 3, 4, 5]


def test_a_pattern_follows_the_topics() -> None:
    consumer = Consumer(metadata_max_age_ms=1)
    consumer.control.subscribe([], "x.*", consumer.listener)
    consumer.poll()
    assert consumer.sent(JoinGroupRequest) == []
    consumer.cluster.set(xa=1, __x=1)
    consumer.until(lambda: bool(consumer.control.owned()))
    assert consumer.control.owned() == {TopicPartition("xa", 0)}
    consumer.cluster.set(xb=1)
    consumer.until(lambda: len(consumer.control.owned()) == 2)


def test_without_a_group_a_subscription_reads_everything() -> None:
    consumer = Consumer(group_id=None).subscribe()
    consumer.poll()
    assert consumer.owned == [0, 1, 2, 3]
    assert consumer.sent(JoinGroupRequest) == []
    consumer.cluster.set(t=5)
    consumer.poll()
    assert consumer.owned == [0, 1, 2, 3, 4]
    assert consumer.listener.heard == [("assigned", [0, 1, 2, 3]), ("assigned", [4])]


# -- commits and positions -----------------------------------------------------------------------


def test_positions_are_those_committed_or_reset() -> None:
    consumer = Consumer().subscribe()
    consumer.coordinator.committed[T[1]] = 42
    consumer.poll()
    at = {index: at.position for (_, index), at in consumer.reading.at.items()}
    assert at == {0: 0, 1: 42, 2: 0, 3: 0}


def test_latest_says_once_what_it_skips(caplog: pytest.LogCaptureFixture) -> None:
    consumer = Consumer(auto_offset_reset="latest").subscribe()
    consumer.poll()
    assert {at.position for at in consumer.reading.at.values()} == {7}
    assert caplog.text.count("skips 28 records of t") == 1
    consumer.rebalance(0, 1)
    consumer.poll()
    assert caplog.text.count("auto_offset_reset=latest skips") == 1


def test_a_seek_wins_over_a_lookup() -> None:
    consumer = Consumer()
    later = Later(None)
    consumer.control.assign(T[:1])

    def slow(request: Any, code: int) -> Any:
        later.answer = Coordinator.OffsetFetch(consumer.coordinator, request, code)
        return later

    consumer.coordinator.OffsetFetch = slow  # type: ignore[method-assign]
    consumer.poll()
    consumer.control.positions.seek(T[0], 99)
    later.release()
    consumer.poll()
    assert consumer.reading.at["t", 0].position == 99


def test_automatic_commits_come_with_polls() -> None:
    consumer = Consumer(auto_commit_interval_ms=0).subscribe()
    consumer.poll()
    consumer.control.positions.seek(T[0], 5)
    assert T[0] not in consumer.coordinator.committed
    consumer.poll()
    assert consumer.coordinator.committed[T[0]] == 5


def test_an_automatic_commit_comes_before_a_rebalance(caplog: pytest.LogCaptureFixture) -> None:
    consumer = Consumer().subscribe()
    consumer.poll()
    consumer.control.positions.seek(T[0], 5)
    consumer.rebalance(1)
    assert consumer.coordinator.committed[T[0]] == 5
    consumer.poll()
    consumer.coordinator.codes[OffsetCommitRequest] = [28]
    consumer.rebalance(2)
    assert "an automatic commit failed, so records may be read again" in caplog.text
    assert consumer.owned == [2]


@pytest.mark.parametrize("code", [22, 25])
def test_a_commit_that_is_too_late(code: int) -> None:
    consumer = Consumer().subscribe()
    consumer.poll()
    consumer.coordinator.codes[OffsetCommitRequest] = [code]
    with pytest.raises(CommitFailedError, match="gave the partition to another") as caught:
        consumer.control.commits().run({T[0]: OffsetAndMetadata(3)}, 60_000)
    assert (caught.value.topic, caught.value.partition) == ("t", 0)
    with pytest.raises(CommitFailedError, match="poll\\(\\) joins it"):
        consumer.control.commits().run({T[0]: OffsetAndMetadata(3)}, 60_000)
    consumer.poll()
    assert consumer.listener.heard[2:] == [("lost", [0, 1, 2, 3]), ("assigned", [0, 1, 2, 3])]


def test_a_commit_while_the_group_rebalances() -> None:
    consumer = Consumer().subscribe()
    consumer.poll()
    consumer.coordinator.codes[OffsetCommitRequest] = [27]
    with pytest.raises(RebalanceInProgressError, match=r"call poll\(\), .* and commit again"):
        consumer.control.commits().run({T[0]: OffsetAndMetadata(3)}, 60_000)
    assert consumer.control.metadata().state == MemberState.STABLE


def test_asynchronous_commits_keep_their_order_and_call_back() -> None:
    consumer = Consumer(enable_auto_commit=False).subscribe()
    consumer.poll()
    heard: list[Any] = []
    control = consumer.control
    consumer.coordinator.codes[OffsetCommitRequest] = [0, 14]
    first = control.send_commit({T[0]: OffsetAndMetadata(1)}, lambda *told: heard.append(told))
    second = control.send_commit({T[0]: OffsetAndMetadata(2)}, lambda *told: heard.append(told))
    assert not first.is_done
    control.commits().run({T[0]: OffsetAndMetadata(3)}, 60_000)
    assert first.succeeded()
    assert second.failed()
    assert heard == []
    consumer.poll()
    assert [type(told[1]).__name__ for told in heard] == [
        "OffsetCommitResponse", "CoordinatorLoadInProgressError",
    ]  # fmt: skip
    sent = consumer.sent(OffsetCommitRequest)
    assert [one.topics[0].partitions[0].committed_offset for one in sent] == [1, 2, 3]


def test_a_callback_that_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    consumer = Consumer().subscribe()
    consumer.poll()

    def fail(*_: Any) -> None:
        raise ValueError("mine")

    consumer.control.send_commit({T[0]: OffsetAndMetadata(1)}, fail)
    consumer.poll()
    consumer.poll()
    assert "ValueError: mine" in caplog.text


def test_a_user_who_assigns_commits_without_being_a_member() -> None:
    consumer = Consumer()
    consumer.control.assign(T[:2])
    consumer.poll()
    consumer.control.commits().run({T[0]: OffsetAndMetadata(4)}, 60_000)
    sent = consumer.sent(OffsetCommitRequest)[0]
    assert (sent.generation_id_or_member_epoch, sent.member_id) == (-1, "")
    consumer.control.assign(T[1:3])
    assert consumer.owned == [1, 2]
    assert consumer.reading.at["t", 1] == At(0, 3)
