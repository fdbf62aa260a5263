"""Commits and positions, against a scripted coordinator."""

from __future__ import annotations

from typing import Any

import pytest

from mqlog.client.structs import MemberState, OffsetAndMetadata
from mqlog.errors import CommitFailedError, RebalanceInProgressError
from mqlog.protocol.offset_commit import OffsetCommitRequest

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
