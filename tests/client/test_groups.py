"""Groups of consumers, against a broker: ours or a real Kafka."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from mqlog import ConsumerRebalanceListener, KafkaConsumer, OffsetAndMetadata, TopicPartition
from mqlog.errors import CommitFailedError, FencedInstanceIdError, MaxPollIntervalExceededError
from mqlog.structs import MemberState

from .conftest import eventually

_groups = (f"group-{time.time_ns()}-{number}" for number in itertools.count())


class Listener(ConsumerRebalanceListener):
    def __init__(self) -> None:
        self.heard: list[tuple[str, list[int]]] = []
        self.revoking: Callable[[], Any] = lambda: None

    def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        self.heard.append(("revoked", sorted(place.partition for place in revoked)))
        self.revoking()

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self.heard.append(("assigned", sorted(place.partition for place in assigned)))

    def on_partitions_lost(self, lost: set[TopicPartition]) -> None:
        self.heard.append(("lost", sorted(place.partition for place in lost)))


class Members:
    """Consumers of one group, polled in turn by this thread."""

    def __init__(self, access: dict[str, Any], topic: str, settings: dict[str, Any]) -> None:
        self._access, self.topic, self._settings = access, topic, settings
        self.all: list[KafkaConsumer] = []
        self.seen: list[bytes] = []

    def add(self, listener: Any = None, **settings: Any) -> KafkaConsumer:
        made = KafkaConsumer(**self._access, **{**self._settings, **settings})
        made.subscribe([self.topic], listener=listener)
        self.all.append(made)
        return made

    def poll(self) -> None:
        for member in self.all:
            for records in member.poll(timeout_ms=10).values():
                self.seen += [record.value for record in records]

    def until(self, condition: Callable[[], Any]) -> None:
        eventually(lambda: (self.poll(), condition())[1], 60)

    def settle(self, partitions: int = 4) -> None:
        """Until all partitions are shared out, and everybody is stable."""

        def settled() -> bool:
            held = sorted(place.partition for one in self.all for place in one.assignment())
            states = {one.group_metadata().state for one in self.all}
            return held == list(range(partitions)) and states == {MemberState.STABLE}

        self.until(settled)


@pytest.fixture
def group(
    access: dict[str, Any], make_topic: Callable[..., str]
) -> Iterator[Callable[..., Members]]:
    """`group(**settings)`: members of a new group that reads a topic of four partitions."""
    with ExitStack() as stack:

        def make(**settings: Any) -> Members:
            given = {
                "group_id": next(_groups),
                "auto_offset_reset": "earliest",
                "heartbeat_interval_ms": 100,
                "fetch_max_wait_ms": 50,
                **settings,
            }
            made = Members(access, make_topic(4), given)
            stack.callback(lambda: [one.close() for one in made.all])
            return made

        yield make


@pytest.fixture
def write(servers: str, confluent_security: dict[str, Any]) -> Callable[[str, range], None]:
    from confluent_kafka import Producer

    def write(topic: str, numbers: range) -> None:
        producer = Producer({"bootstrap.servers": servers, **confluent_security})
        for number in numbers:
            producer.produce(topic, b"%d" % number, partition=number % 4)
        assert producer.flush(30) == 0

    return write


@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky"])
def test_members_come_and_go_and_every_record_is_read_once(
    group: Any, write: Any, strategy: str
) -> None:
    members = group(partition_assignment_strategy=[strategy])
    numbers = iter(range(0, 10_000, 40))

    def more() -> None:
        start = next(numbers)
        write(members.topic, range(start, start + 40))

    members.add()
    members.settle()
    for _ in range(2):
        more()
        members.add()
        members.settle()
    while members.all:
        more()
        members.until(lambda: len(members.seen) >= 40)
        members.all.pop(0).close()
        if members.all:
            members.settle()
    members.add()
    written = next(numbers)
    members.until(lambda: len(set(members.seen)) == written)
    # Automatic commits before every rebalance and at close: nothing comes twice.
    assert len(members.seen) == written


def test_eager_and_cooperative_listeners(group: Any) -> None:
    heard = {}
    for strategy in ("range", "cooperative-sticky"):
        members, listener = group(partition_assignment_strategy=[strategy]), Listener()
        members.add(listener)
        members.settle()
        members.add()
        members.settle()
        heard[strategy] = listener.heard
    assert heard["range"][1] == ("assigned", [0, 1, 2, 3])
    assert heard["range"][2] == ("revoked", [0, 1, 2, 3])
    assert len(heard["range"][-1][1]) == 2
    first, (revoked, gone) = heard["cooperative-sticky"]
    assert first == ("assigned", [0, 1, 2, 3])
    assert (revoked, len(gone)) == ("revoked", 2)


def test_what_is_committed_while_revoking_is_where_the_next_begins(group: Any, write: Any) -> None:
    members, listener = group(enable_auto_commit=False), Listener()
    write(members.topic, range(40))
    first = members.add(listener)
    members.until(lambda: len(members.seen) == 40)
    listener.revoking = first.commit
    second = members.add()
    members.settle()
    assert len(members.seen) == 40
    place = min(second.assignment())
    assert second.position(place) == 10
    assert second.committed(place) == 10


def test_a_static_member_comes_back_without_a_rebalance(group: Any) -> None:
    members, listener = group(), Listener()
    first = members.add(listener, group_instance_id="one")
    members.settle()
    members.add(group_instance_id="two")
    members.settle()
    generation, before = first.group_metadata().generation_id, len(listener.heard)
    two = members.all.pop()
    held = two.assignment()
    two.close()
    again = members.add(group_instance_id="two")
    members.settle()
    assert again.assignment() == held
    assert first.group_metadata().generation_id == generation
    assert len(listener.heard) == before


def test_a_name_that_is_used_twice_fences_the_first(group: Any) -> None:
    members = group(group_instance_id="one")
    first = members.add()
    members.settle()
    members.all.clear()
    members.add()
    members.settle()
    with pytest.raises(FencedInstanceIdError, match="group_instance_id='one'"):
        eventually(lambda: first.poll(timeout_ms=50) and None)
    first.close()


def test_whoever_stops_polling_loses_its_place(
    group: Any, write: Any, caplog: pytest.LogCaptureFixture
) -> None:
    members, listener = group(max_poll_interval_ms=500, enable_auto_commit=False), Listener()
    write(members.topic, range(4))
    slow = members.add(listener)
    members.settle()
    slow_only = members.all.pop()
    members.add()
    members.settle()  # although `slow` never said that it leaves
    with pytest.raises(MaxPollIntervalExceededError, match="max_poll_interval_ms=500"):
        slow.commit({TopicPartition(members.topic, 0): OffsetAndMetadata(1)})
    members.all.append(slow_only)
    members.settle()
    assert ("lost", [0, 1, 2, 3]) in listener.heard
    assert "max_poll_interval_ms=500" in caplog.text


def test_a_subscription_may_change(group: Any, make_topic: Callable[..., str], write: Any) -> None:
    members = group()
    one = members.add()
    members.settle()
    other = make_topic(1)
    one.subscribe([members.topic, other])
    members.until(lambda: len(one.assignment()) == 5)
    assert one.subscription() == {members.topic, other}
    one.unsubscribe()
    assert one.assignment() == set()
    assert one.subscription() is None
    one.subscribe([other])
    with pytest.raises(CommitFailedError):
        one.commit({TopicPartition(other, 0): OffsetAndMetadata(0)})
    members.until(lambda: one.assignment() == {TopicPartition(other, 0)})


def test_partitions_that_are_added_are_shared_out(group: Any, access: dict[str, Any]) -> None:
    from mqlog import KafkaAdminClient

    members = group(metadata_max_age_ms=200)
    members.add()
    members.add()
    members.settle()
    with KafkaAdminClient(**access) as admin:
        admin.create_partitions({members.topic: 6})
    members.settle(6)


def test_commits_carry_notes_and_epochs(group: Any, write: Any) -> None:
    members = group(enable_auto_commit=False)
    write(members.topic, range(8))
    one = members.add()
    members.until(lambda: len(members.seen) == 8)
    place = TopicPartition(members.topic, 2)
    one.commit({place: OffsetAndMetadata(1, "note")})
    assert one.committed(place, metadata=True)[:2] == (1, "note")
    one.commit({place: 2})
    assert one.committed(place) == 2
    assert one.committed(TopicPartition(members.topic, 3)) is None
    heard: list[Any] = []
    future = one.commit_async(callback=lambda *told: heard.append(told))
    members.until(lambda: heard)
    assert future.succeeded()
    assert set(heard[0][0]) == one.assignment()
    for batch in one.batches(timeout_ms=1):
        assert len(batch) == 0
        break
    one.seek_to_beginning()
    seen = 0
    for batch in one.batches(max_records=3, timeout_ms=5000):
        assert 0 < len(batch) <= 3
        one.commit(batch.next_offsets)
        seen += len(batch)
        if seen == 8:
            break
    assert one.committed(place) == 2
