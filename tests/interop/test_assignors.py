"""Plans of Kafka's own assignors, in Java, against ours; they read the subscriptions we write."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from mqlog.client import assignors
from mqlog.client.assignors import ASSIGNORS, Member, Plan
from mqlog.client.structs import TopicPartition

from .programs import HERE, classpath

pytestmark = pytest.mark.interop
PROGRAM = HERE / "java" / "Assign.java"
SCENARIOS = 300


@pytest.fixture(scope="module")
def java() -> Iterator[Any]:
    """A function of a scenario's line."""
    command = ["java", "-Xmx128M", "-cp", classpath(HERE / "java" / "pom.xml"), str(PROGRAM)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None

        def ask(line: str) -> Plan:
            program.stdin.write(line + "\n")
            program.stdin.flush()
            return dict(map(_member, program.stdout.readline().split()))

        yield ask


def _member(word: str) -> tuple[str, list[TopicPartition]]:
    member, _, places = word.partition(":")
    pairs = (place.rpartition("-") for place in filter(None, places.split(",")))
    return member, sorted(TopicPartition(topic, int(index)) for topic, _, index in pairs)


def scenario(seed: int, *, alike: bool, owned: bool) -> tuple[dict[str, int], list[Member]]:
    rng = random.Random(seed)
    partitions = {topic: rng.randint(1, 8) for topic in "abc"[: rng.randint(1, 3)]}
    everything = [TopicPartition(t, i) for t, count in partitions.items() for i in range(count)]
    rng.shuffle(everything)
    members = []
    for number in range(rng.randint(1, 6)):
        topics = (
            partitions if alike else rng.sample(sorted(partitions), rng.randint(1, len(partitions)))
        )
        mine = (
            [everything.pop() for _ in range(rng.randint(0, len(everything)) // 2)] if owned else []
        )
        instance = f"i{rng.randint(0, 9)}{number}" if rng.random() < 0.3 else None
        members.append(Member(f"m{number}", frozenset(topics), instance, tuple(sorted(mine)), 5))
    rng.shuffle(members)
    return partitions, members


def line(name: str, partitions: dict[str, int], members: list[Member]) -> str:
    assignor = ASSIGNORS[name]()
    words = [name, ",".join(f"{topic}={count}" for topic, count in partitions.items())]
    for member in members:
        owned = member.owned if assignor.cooperative else ()
        data = assignors.subscription(
            assignor, member.topics, owned, member.owned, member.generation
        )
        words.append(f"{member.id}/{member.instance_id or '-'}/{data.hex()}")
    return " ".join(words)


@pytest.mark.parametrize("name", ["range", "roundrobin"])
def test_range_and_roundrobin_are_kafkas(java: Any, name: str) -> None:
    for seed in range(SCENARIOS):
        partitions, members = scenario(seed, alike=False, owned=False)
        ours = ASSIGNORS[name]().assign(partitions, members)
        theirs = java(line(name, partitions, members))
        assert {member: sorted(held) for member, held in ours.items()} == theirs, seed


@pytest.mark.parametrize("name", ["sticky", "cooperative-sticky"])
def test_sticky_plans_are_as_good_as_kafkas(java: Any, name: str) -> None:
    for seed in range(SCENARIOS):
        partitions, members = scenario(seed, alike=True, owned=True)
        ours = ASSIGNORS[name]().assign(partitions, members)
        theirs = java(line(name, partitions, members))
        assert kept(ours, members) >= kept(theirs, members), seed
        if name == "sticky":
            assert sorted(map(len, ours.values())) == sorted(map(len, theirs.values())), seed


def kept(plan: Plan, members: list[Member]) -> int:
    return sum(len(set(plan[member.id]) & set(member.owned)) for member in members)
