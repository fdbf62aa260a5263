"""Commits and positions, against a scripted coordinator."""

from __future__ import annotations

import time
from typing import Any

import pytest

from mqlog.client.structs import MemberState, OffsetAndMetadata
from mqlog.errors import (
    CommitFailedError,
    LogTruncationError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    RebalanceInProgressError,
)
from mqlog.protocol.list_offsets import ListOffsetsRequest
from mqlog.protocol.offset_commit import OffsetCommitRequest
from mqlog.protocol.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
)

from .decisions import Consumer, Coordinator, T
from .fake import At, Later


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


def test_a_commit_of_an_older_generation_comes_after_the_next_poll() -> None:
    strategy = ["cooperative-sticky"]
    consumer = Consumer(
        partition_assignment_strategy=strategy, enable_auto_commit=False
    ).subscribe()
    consumer.poll()
    late = Later(None)
    answer = consumer.coordinator.OffsetCommit

    def slow(request: Any, code: int) -> Any:
        late.answer = answer(request, 22)
        return late

    consumer.coordinator.OffsetCommit = slow  # type: ignore[method-assign]
    future = consumer.control.send_commit({T[0]: OffsetAndMetadata(3)}, None)
    consumer.rebalance(0, 1, 2, 3)
    late.release()
    consumer.poll()
    assert isinstance(future.exception, RebalanceInProgressError)
    assert consumer.control.metadata().state == MemberState.STABLE


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


# -- leaders that lost records -------------------------------------------------------------------


def epochs(consumer: Consumer, end: tuple[int, int], code: int = 0) -> None:
    """The leader's log ends, for any epoch, in this epoch and at this offset."""

    def answer(request: Any, _: int) -> OffsetForLeaderEpochResponse:
        kind = OffsetForLeaderEpochResponse
        return kind(
            topics=[
                kind.OffsetForLeaderTopicResult(
                    topic.topic,
                    [kind.EpochEndOffset(code, part.partition, *end) for part in topic.partitions],
                )
                for topic in request.topics
            ]
        )

    consumer.coordinator.OffsetForLeaderEpoch = answer  # type: ignore[attr-defined]


def reading(at: int, **given: Any) -> Consumer:
    """A consumer that is at an offset of one partition, read in leader epoch 2."""
    consumer = Consumer(**given)
    consumer.control.assign(T[:1])
    consumer.control.positions.seek(T[0], at, 2)
    return consumer


def test_a_leader_that_has_what_was_read() -> None:
    consumer = reading(10)
    epochs(consumer, (2, 10))
    consumer.control.positions.doubted(T[0], 10, 2)
    consumer.poll()
    assert consumer.reading.valid == [("t", 0)]
    asked = consumer.sent(OffsetForLeaderEpochRequest)[0]
    assert (asked.replica_id, asked.topics[0].partitions[0].leader_epoch) == (-1, 2)
    assert asked.topics[0].partitions[0].current_leader_epoch == 3


def test_records_above_the_users_position_are_dropped_quietly() -> None:
    consumer = reading(10, auto_offset_reset="none")
    epochs(consumer, (2, 12))
    consumer.control.positions.doubted(T[0], 20, 2)  # fetched up to 20, given out up to 10
    consumer.poll()
    assert consumer.reading.at["t", 0].position == 10


def test_a_leader_that_lost_what_was_read(caplog: pytest.LogCaptureFixture) -> None:
    consumer = reading(10)
    epochs(consumer, (1, 7))
    consumer.control.positions.doubted(T[0], 10, 2)
    consumer.poll()
    assert consumer.reading.at["t", 0] == At(7, 1)
    assert "going on at offset 7, where it still agrees" in caplog.text


def test_a_leader_that_knows_nothing(caplog: pytest.LogCaptureFixture) -> None:
    consumer = reading(10)
    epochs(consumer, (-1, -1))
    consumer.control.positions.doubted(T[0], 10, 2)
    consumer.poll()
    assert consumer.reading.at["t", 0].position == 0
    assert "going on at the earliest" in caplog.text


@pytest.mark.parametrize(("end", "safe"), [((1, 7), OffsetAndMetadata(7, "", 1)), ((-1, -1), None)])
def test_without_a_policy_truncation_is_raised(
    end: tuple[int, int], safe: OffsetAndMetadata | None
) -> None:
    consumer = reading(10, auto_offset_reset="none")
    epochs(consumer, end)
    consumer.control.positions.doubted(T[0], 10, 2)
    with pytest.raises(LogTruncationError, match="t-0: the leader's log does not hold") as caught:
        consumer.poll()
    assert caught.value.divergent_offsets == {T[0]: safe}
    assert caught.value.hint == ("seek(7) to go on" if safe else "seek() to go on")


def test_a_seek_meanwhile_makes_the_doubt_void() -> None:
    consumer = reading(10, auto_offset_reset="none")
    epochs(consumer, (1, 7))
    consumer.control.positions.doubted(T[0], 10, 2)
    consumer.control.positions.seek(T[0], 3)
    consumer.poll()
    assert consumer.reading.at["t", 0].position == 3


def test_an_offset_that_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    consumer = reading(10, auto_offset_reset="latest")
    consumer.control.positions.out_of_range(T[0], 10)
    consumer.control.positions.out_of_range(T[0], 10)
    consumer.poll()
    assert consumer.reading.at["t", 0].position == 7
    assert caplog.text.count("t-0: offset 10 is outside") == 1
    strict = reading(10, auto_offset_reset="none")
    with pytest.raises(OffsetOutOfRangeError, match=r"seek\(\) to go on") as caught:
        strict.control.positions.out_of_range(T[0], 10)
    assert (caught.value.offset, caught.value.partition) == (10, 0)


def test_without_a_policy_a_first_offset_is_the_users() -> None:
    consumer = Consumer(auto_offset_reset="none")
    consumer.control.assign(T[:2])
    consumer.coordinator.committed[T[0]] = 3
    with pytest.raises(NoOffsetForPartitionError, match="no offset for t-1"):
        consumer.poll()
    consumer.control.positions.seek(T[1], 5)
    consumer.poll()
    assert [at.position for at in consumer.reading.at.values()] == [3, 5]


def test_by_duration_goes_back_in_time() -> None:
    consumer = Consumer(auto_offset_reset="by_duration:PT1H")
    consumer.control.assign(T[:1])
    before = int(time.time() * 1000) - 3_600_000
    consumer.poll()
    asked = [
        part.timestamp
        for one in consumer.sent(ListOffsetsRequest)
        for topic in one.topics
        for part in topic.partitions
    ]
    assert before <= asked[0] <= before + 60_000
    assert consumer.reading.at["t", 0].position == 0
