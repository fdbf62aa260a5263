"""How a group's leader shares partitions: all anew (range), or a step at a time (cooperative)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Protocol

from mqlog import _native
from mqlog.protocol.data import ConsumerProtocolAssignment as Assignment
from mqlog.protocol.data import ConsumerProtocolSubscription as Subscription

VERSION = 1

Plan = dict[str, frozenset[int]]


def subscription(topic: str, owned: Iterable[int]) -> bytes:
    """What a member says when it joins."""
    mine = [Subscription.TopicPartition(topic, sorted(owned))]
    said = _native.encode_named(
        "ConsumerProtocolSubscription", VERSION, Subscription([topic], None, mine)
    )
    return struct.pack(">h", VERSION) + said


def owned_in(data: bytes) -> frozenset[int]:
    """The partitions that a member said it owns."""
    said = _native.decode_named("ConsumerProtocolSubscription", VERSION, data[2:])
    return frozenset(index for one in said.owned_partitions for index in one.partitions)


def assignment(topic: str, parts: Iterable[int]) -> bytes:
    """What a member is told to own."""
    given = [Assignment.TopicPartition(topic, sorted(parts))]
    said = _native.encode_named("ConsumerProtocolAssignment", VERSION, Assignment(given))
    return struct.pack(">h", VERSION) + said


def assigned_in(data: bytes) -> frozenset[int]:
    """The partitions of an assignment; none if the leader did not know the member."""
    if not data:
        return frozenset()
    said = _native.decode_named("ConsumerProtocolAssignment", VERSION, data[2:])
    return frozenset(index for one in said.assigned_partitions for index in one.partitions)


class Style(Protocol):
    """What members of one group do alike."""

    name: str
    keeps: bool
    """Whether members read on while they join again."""

    def share(self, members: Mapping[str, frozenset[int]], partitions: int) -> Plan:
        """Who shall own what; `members`: what each says that it owns."""


class Range:
    """Everybody lets go of everything and gets a stretch."""

    name, keeps = "range", False

    def share(self, members: Mapping[str, frozenset[int]], partitions: int) -> Plan:
        names, plan, at = sorted(members), {}, 0
        for number, name in enumerate(names):
            size = partitions // len(names) + (number < partitions % len(names))
            plan[name] = frozenset(range(at, at + size))
            at += size
        return plan


class Cooperative:
    """Everybody keeps its fair share. What is above it goes to nobody in this generation, and to
    others in the next, when its owner has said that it has let go.
    """

    name, keeps = "cooperative-sticky", True

    def share(self, members: Mapping[str, frozenset[int]], partitions: int) -> Plan:
        most = -(-partitions // len(members))
        claimed = frozenset[int]().union(*members.values())
        free = [index for index in range(partitions) if index not in claimed]
        kept = {name: sorted(owned)[:most] for name, owned in sorted(members.items())}
        for name in sorted(kept, key=lambda name: len(kept[name])):
            room = most - len(kept[name])
            kept[name] += free[:room]
            del free[:room]
        return {name: frozenset(parts) for name, parts in kept.items()}
