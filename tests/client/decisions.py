"""A consumer's decisions over a coordinator that a test scripts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from mqlog.client import assignors
from mqlog.client.config import ConsumerConfig
from mqlog.client.control import Control
from mqlog.client.structs import MemberState, TopicPartition
from mqlog.protocol.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from mqlog.protocol.join_group import JoinGroupRequest, JoinGroupResponse
from mqlog.protocol.leave_group import LeaveGroupRequest, LeaveGroupResponse
from mqlog.protocol.list_offsets import ListOffsetsRequest, ListOffsetsResponse
from mqlog.protocol.offset_commit import OffsetCommitRequest, OffsetCommitResponse
from mqlog.protocol.offset_fetch import OffsetFetchRequest, OffsetFetchResponse
from mqlog.protocol.sync_group import SyncGroupRequest, SyncGroupResponse

from .fake import FakeCluster, FakeHeart, FakeNative, FakeReading, Later, driver


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
