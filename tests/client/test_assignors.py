"""Assignors: Kafka's results, against kafka-python's and against what an assignment must be."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import aiokafka.coordinator.assignors.roundrobin as aiokafka_roundrobin
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from kafka.coordinator.assignors.sticky.sticky_assignor import (
    StickyAssignorUserData,
    StickyPartitionAssignor,
)
from kafka.protocol.consumer.metadata import (
    ConsumerProtocolAssignment,
    ConsumerProtocolSubscription,
)

from mqlog.client import assignors
from mqlog.client.assignors import ASSIGNORS, Member, Plan
from mqlog.client.structs import TopicPartition
from mqlog.errors import KafkaConfigurationError, ProtocolError

TOPICS = ["a", "b", "c", "d"]


@st.composite
def groups(draw: st.DrawFn, alike: bool = False) -> tuple[dict[str, int], list[Member]]:
    """Topics with partitions, and members; some static, some that want what does not exist."""
    partitions = {topic: draw(st.integers(0, 7)) for topic in TOPICS[:3]}
    wanted = st.sets(st.sampled_from(TOPICS), min_size=1)
    everything = draw(wanted)
    members = [
        Member(
            f"m{number}",
            frozenset(everything if alike else draw(wanted)),
            f"i{draw(st.integers(0, 9))}{number}" if draw(st.booleans()) else None,
        )
        for number in draw(st.permutations(range(draw(st.integers(1, 6)))))
    ]
    return partitions, members


def places(plan: Plan) -> list[TopicPartition]:
    return sorted(place for held in plan.values() for place in held)


def check(partitions: Mapping[str, int], members: Sequence[Member], plan: Plan) -> None:
    """Every partition that somebody wants has one reader, and that one wants it."""
    wanted = {topic for member in members for topic in member.topics}
    everything = [
        TopicPartition(topic, index)
        for topic in sorted(wanted & partitions.keys())
        for index in range(partitions[topic])
    ]
    assert places(plan) == everything
    assert plan.keys() == {member.id for member in members}
    for member in members:
        assert {place.topic for place in plan[member.id]} <= member.topics


def check_balanced(members: Sequence[Member], plan: Plan) -> None:
    """Nobody has two more than another who could take one of them."""
    for member in members:
        for other in members:
            if len(plan[member.id]) > len(plan[other.id]) + 1:
                assert not {place.topic for place in plan[member.id]} & other.topics


def cluster(partitions: Mapping[str, int]) -> Any:
    """What their assignors look at."""
    return SimpleNamespace(
        topics=lambda: {topic for topic, count in partitions.items() if count},
        partitions_for_topic=lambda topic: set(range(partitions.get(topic, 0))) or None,
    )


def theirs(assignor: Any, partitions: Mapping[str, int], members: Sequence[Member]) -> Plan:
    """The plan of an assignor of kafka-python."""
    given = [
        SimpleNamespace(
            member_id=member.id,
            group_instance_id=member.instance_id,
            metadata=ConsumerProtocolSubscription(0, sorted(member.topics), b""),
        )
        # It groups neighbours only, so static members must stand together.
        for member in sorted(members, key=lambda member: member.instance_id is None)
    ]
    return {
        member_id: sorted(
            TopicPartition(topic, index)
            for topic, indexes in map(tuple, found.assigned_partitions)
            for index in indexes
        )
        for member_id, found in assignor.assign(cluster(partitions), given).items()
    }


@pytest.mark.parametrize("name", ["range", "roundrobin", "sticky"])
@settings(deadline=None, max_examples=150)
@given(group=groups())
def test_any_assignment_is_whole(name: str, group: Any) -> None:
    plan = ASSIGNORS[name]().assign(*group)
    check(*group, plan)


def sorted_plan(plan: Plan) -> Plan:
    return {member_id: sorted(held) for member_id, held in plan.items()}


@settings(deadline=None, max_examples=150)
@given(group=groups())
def test_range_is_kafka_pythons(group: Any) -> None:
    ours = ASSIGNORS["range"]().assign(*group)
    assert sorted_plan(ours) == theirs(RangePartitionAssignor, *group)


@settings(deadline=None, max_examples=150)
@given(group=groups(alike=True))
def test_roundrobin_is_kafka_pythons(group: Any) -> None:
    ours = ASSIGNORS["roundrobin"]().assign(*group)
    assert sorted_plan(ours) == theirs(RoundRobinPartitionAssignor, *group)


@settings(deadline=None, max_examples=150)
@given(group=groups())
def test_roundrobin_is_aiokafkas(group: Any) -> None:
    """kafka-python's fails where members want different topics, aiokafka's knows no instances."""
    partitions, members = group
    members = [member._replace(instance_id=None) for member in members]
    ours = ASSIGNORS["roundrobin"]().assign(partitions, members)
    given = {m.id: SimpleNamespace(subscription=sorted(m.topics)) for m in members}
    found = aiokafka_roundrobin.RoundRobinPartitionAssignor.assign(cluster(partitions), given)
    assert sorted_plan(ours) == {
        member_id: sorted(TopicPartition(t, i) for t, indexes in told.assignment for i in indexes)
        for member_id, told in found.items()
    }


@settings(deadline=None, max_examples=150)
@given(group=groups())
def test_sticky_is_balanced(group: Any) -> None:
    check_balanced(group[1], ASSIGNORS["sticky"]().assign(*group))


@settings(deadline=None, max_examples=150)
@given(group=groups(alike=True))
def test_members_that_want_the_same_get_as_many_as_with_kafka_python(group: Any) -> None:
    ours = ASSIGNORS["sticky"]().assign(*group)
    other = theirs(StickyPartitionAssignor(), *group)
    assert sorted(map(len, ours.values())) == sorted(map(len, other.values()))


def after(plan: Plan, members: Sequence[Member], generation: int) -> list[Member]:
    """The members once they have what was planned."""
    return [m._replace(owned=tuple(plan[m.id]), generation=generation) for m in members]


@settings(deadline=None, max_examples=150)
@given(group=groups(), data=st.data())
def test_sticky_moves_no_more_than_balance_asks(group: Any, data: st.DataObject) -> None:
    partitions, members = group
    sticky = ASSIGNORS["sticky"]()
    first = sticky.assign(partitions, members)
    members = after(first, members, 1)
    assert sticky.assign(partitions, members) == first
    leaver = data.draw(st.sampled_from(members))
    left = [member for member in members if member.id != leaver.id]
    second = sticky.assign(partitions, left)
    check(partitions, left, second)
    check_balanced(left, second)


@settings(deadline=None, max_examples=150)
@given(group=groups(alike=True), joining=st.integers(0, 3), leaving=st.integers(0, 3))
def test_members_that_want_the_same_move_the_fewest(group: Any, joining: int, leaving: int) -> None:
    partitions, members = group
    sticky = ASSIGNORS["sticky"]()
    members = after(sticky.assign(partitions, members), members, 1)[leaving:]
    members += [Member(f"new{i}", frozenset(TOPICS)) for i in range(joining)]
    members = [member._replace(topics=frozenset(TOPICS)) for member in members]
    if not members:
        return
    plan = sticky.assign(partitions, members)
    total = sum(partitions.values())
    low, more = divmod(total, len(members))
    # The best there is: those with the most keep one more, all keep what fits.
    have = sorted((len(member.owned) for member in members), reverse=True)
    best = sum(min(owned, low + (place < more)) for place, owned in enumerate(have))
    kept = sum(len(set(plan[member.id]) & set(member.owned)) for member in members)
    assert kept == best


@settings(deadline=None, max_examples=150)
@given(group=groups(), data=st.data())
def test_cooperative_never_gives_out_what_another_has(group: Any, data: st.DataObject) -> None:
    partitions, members = group
    assignor = ASSIGNORS["cooperative-sticky"]()
    members = after(assignor.assign(partitions, members), members, 1)
    if len(members) > 1 and data.draw(st.booleans()):
        members = members[1:]
    members.append(Member("new", frozenset(TOPICS)))
    for generation in range(2, 5):
        plan = assignor.assign(partitions, members)
        owner = {place: member.id for member in members for place in member.owned}
        for member in members:
            for place in plan[member.id]:
                assert owner.get(place, member.id) == member.id
        previous, members = members, after(plan, members, generation)
        if all(a.owned == b.owned for a, b in zip(previous, members, strict=True)):
            break
    check(partitions, members, plan)
    check_balanced(members, plan)
    assert generation <= 4


def test_of_two_claims_the_newer_counts_and_equal_ones_none() -> None:
    t0, t1 = TopicPartition("a", 0), TopicPartition("a", 1)
    both = frozenset("a")
    old = Member("m1", both, None, (t0, t1), 1)
    new = Member("m2", both, None, (t0,), 2)
    assert ASSIGNORS["sticky"]().assign({"a": 2}, [old, new]) == {"m1": [t1], "m2": [t0]}
    same = new._replace(generation=1)
    plan = ASSIGNORS["sticky"]().assign({"a": 2}, [old, same])
    assert plan["m1"] == [t1]


def test_many_partitions_and_members() -> None:
    members = [Member(f"m{i:03}", frozenset(["a", "b"])) for i in range(200)]
    sticky = ASSIGNORS["sticky"]()
    partitions = {"a": 2000, "b": 1000}
    members = after(sticky.assign(partitions, members), members, 1)
    members = members[10:] + [Member(f"n{i}", frozenset(["a"])) for i in range(20)]
    plan = sticky.assign(partitions, members)
    check(partitions, members, plan)
    check_balanced(members, plan)


# -- bytes ---------------------------------------------------------------------------------------

OWNED = (TopicPartition("a", 0), TopicPartition("a", 2), TopicPartition("ü", 1))


@pytest.mark.parametrize("name", sorted(ASSIGNORS))
def test_a_subscription_is_read_by_us_and_by_kafka_python(name: str) -> None:
    assignor = ASSIGNORS[name]()
    data = assignors.subscription(assignor, ["b", "a"], OWNED, OWNED, 7)
    member = assignors.read_member(assignor, "m", "i", data)
    assert member == Member("m", frozenset("ab"), "i", OWNED, 7)
    other = ConsumerProtocolSubscription.decode(data)
    assert (other.topics, other.generation_id) == (["a", "b"], 7)
    if name == "sticky":
        # kafka-python wants a version before it, which Java does not write.
        user_data = StickyAssignorUserData.decode(b"\0\1" + other.user_data)
        assert [tuple(topic) for topic in user_data.previous_assignment] == [
            ("a", [0, 2]), ("ü", [1]),
        ]  # fmt: skip
        assert user_data.generation == 7
    if name == "cooperative-sticky":
        assert other.user_data == struct.pack(">i", 7)


def subscription(version: int, user_data: bytes | None, owned: Sequence[Any] = ()) -> bytes:
    size = struct.pack(">i", -1 if user_data is None else len(user_data))
    body = struct.pack(">hih", version, 1, 1) + b"a" + size + (user_data or b"")
    if version >= 1:
        body += struct.pack(">i", len(owned))
        for topic, index in owned:
            body += struct.pack(">h1sii", 1, topic.encode(), 1, index)
    return body


def test_older_and_newer_subscriptions_are_read() -> None:
    sticky, cooperative = ASSIGNORS["sticky"](), ASSIGNORS["cooperative-sticky"]()
    v0 = struct.pack(">ih1sii", 1, 1, b"a", 1, 3)
    place = (TopicPartition("a", 3),)
    assert assignors.read_member(sticky, "m", None, subscription(0, v0)).owned == place
    assert assignors.read_member(sticky, "m", None, subscription(0, v0)).generation == -1
    v1 = assignors.read_member(sticky, "m", None, subscription(1, v0 + struct.pack(">i", 9)))
    assert (v1.owned, v1.generation) == (place, 9)
    prefixed = subscription(0, b"\0\1" + v0 + struct.pack(">i", 9))
    assert assignors.read_member(sticky, "m", None, prefixed)[3:] == (place, 9)
    # Java before Subscription v2, and librdkafka.
    java = subscription(1, struct.pack(">i", 5), [("a", 3)])
    assert assignors.read_member(cooperative, "m", None, java)[3:] == (place, 5)
    rdkafka = subscription(1, v0 + struct.pack(">i", 6), [("a", 3)])
    assert assignors.read_member(cooperative, "m", None, rdkafka)[3:] == (place, 6)
    future = assignors.subscription(sticky, ["a"], (), place, 2)
    future = struct.pack(">h", 9) + future[2:] + b"more"
    assert assignors.read_member(sticky, "m", None, future).owned == place
    for garbage in (b"x", struct.pack(">i", 1 << 30), v0[:-2]):
        assert assignors.read_member(sticky, "m", None, subscription(0, garbage)).owned == ()


def test_garbage_is_refused() -> None:
    for data in (b"\0", b"\xff\xff", b"\0\0\0\0"):
        with pytest.raises(ProtocolError):
            assignors.read_member(ASSIGNORS["range"](), "m", None, data)
        with pytest.raises(ProtocolError):
            assignors.read_assignment(data)


def test_an_assignment_is_read_by_us_and_by_kafka_python() -> None:
    data = assignors.assignment(OWNED)
    assert tuple(assignors.read_assignment(data)) == OWNED
    other = ConsumerProtocolAssignment.decode(data)
    assert [(t.topic, t.partitions) for t in other.assigned_partitions] == [
        ("a", [0, 2]), ("ü", [1]),
    ]  # fmt: skip
    assert assignors.read_assignment(b"") == []


# -- the setting ---------------------------------------------------------------------------------


def test_assignors_go_by_many_names() -> None:
    strategy = [
        "range",
        RoundRobinPartitionAssignor,
        "org.apache.kafka.clients.consumer.CooperativeStickyAssignor",
        assignors.StickyAssignor,
    ]
    found = [one.name for one in assignors.assignors(strategy)]
    assert found == ["range", "roundrobin", "cooperative-sticky", "sticky"]
    assert [one.name for one in assignors.assignors("range,sticky")] == ["range", "sticky"]


@pytest.mark.parametrize("strategy", [[], "", "ranges", [3], None, ["range", "range"], [object]])
def test_what_is_no_assignor(strategy: Any) -> None:
    with pytest.raises(KafkaConfigurationError, match="must be some of range, roundrobin, sticky"):
        assignors.assignors(strategy)
