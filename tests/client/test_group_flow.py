"""Membership, state by state, against a scripted coordinator."""

from __future__ import annotations

import pytest

from mqlog.client import assignors
from mqlog.client.assignors import ASSIGNORS
from mqlog.client.structs import MemberState, OffsetAndMetadata, TopicPartition
from mqlog.errors import (
    FencedInstanceIdError,
    GroupAuthorizationFailedError,
    InconsistentGroupProtocolError,
    KafkaError,
    MaxPollIntervalExceededError,
    TopicAuthorizationFailedError,
)
from mqlog.protocol.find_coordinator import FindCoordinatorRequest
from mqlog.protocol.join_group import JoinGroupRequest
from mqlog.protocol.leave_group import LeaveGroupRequest
from mqlog.protocol.list_offsets import ListOffsetsRequest
from mqlog.protocol.offset_commit import OffsetCommitRequest
from mqlog.protocol.offset_fetch import OffsetFetchRequest
from mqlog.protocol.sync_group import SyncGroupRequest

from .decisions import Consumer, T
from .fake import Later


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


def test_a_topic_that_is_missing_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    consumer = Consumer()
    consumer.cluster.broken["soon"] = 3
    consumer.subscribe("t", "soon")
    consumer.poll()
    consumer.cluster.set(t=4)
    consumer.poll()
    assert caplog.text.count("topic soon does not exist yet") == 1
    del consumer.cluster.broken["soon"]
    consumer.cluster.set(soon=1)
    consumer.poll()
    assert TopicPartition("soon", 0) in consumer.control.owned()


def test_a_topic_that_may_not_be_read_is_raised() -> None:
    consumer = Consumer()
    consumer.cluster.broken["secret"] = 29
    consumer.subscribe("secret")
    with pytest.raises(TopicAuthorizationFailedError, match="secret: No permission"):
        consumer.poll()
