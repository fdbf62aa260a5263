"""Who of a group reads which partition: Kafka's four assignors, computed by the group's leader.

An assignor sees the number of partitions of each topic and the members, and returns the partitions
of each member. `range` and `roundrobin` give what Kafka's give. `sticky` and `cooperative-sticky`
keep what members have as far as balance allows: nobody has two partitions more than another who
could take one of them.

Bytes: `subscription` is what a member says of itself on joining, `assignment` what the leader tells
it. Both are read in any version, also a longer one of the future.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from mqlog import _native
from mqlog.client.structs import TopicPartition
from mqlog.errors import KafkaConfigurationError, ProtocolError

# Messages are imported where they are made: their classes take a while, and most are never needed.
if TYPE_CHECKING:
    from mqlog.protocol.data import ConsumerProtocolAssignment, ConsumerProtocolSubscription

NO_GENERATION = -1
#: The newest version of the two messages, and what every member writes.
VERSION = 3


class Member(NamedTuple):
    """A member as the leader sees it: what it wants, what it has, since which generation."""

    id: str
    topics: frozenset[str]
    instance_id: str | None = None
    owned: tuple[TopicPartition, ...] = ()
    generation: int = NO_GENERATION

    @property
    def order(self) -> tuple[bool, str]:
        """Static members first, by their instance; then the others by id."""
        return self.instance_id is None, self.instance_id or self.id


Plan = dict[str, list[TopicPartition]]


class Assignor(ABC):
    """A way to share partitions. `name` is what members agree on."""

    name: ClassVar[str]
    #: Whether members keep what they have while the group rebalances.
    cooperative: ClassVar[bool] = False

    def user_data(self, owned: Iterable[TopicPartition], generation: int) -> bytes | None:
        """What a member adds to its subscription for the leader."""
        return None

    def claims(self, member: Member, user_data: bytes | None) -> Member:
        """The member with what its user data says it has."""
        return member

    @abstractmethod
    def assign(self, partitions: Mapping[str, int], members: Sequence[Member]) -> Plan:
        """The partitions of each member. A topic that is not in `partitions` does not exist."""


class RangeAssignor(Assignor):
    """Per topic: neighbouring partitions to each member, the first members get one more."""

    name = "range"

    def assign(self, partitions: Mapping[str, int], members: Sequence[Member]) -> Plan:
        """See Assignor."""
        plan: Plan = {member.id: [] for member in members}
        for topic, readers in sorted(_readers(partitions, members).items()):
            share, more = divmod(partitions[topic], len(readers))
            start = 0
            for place, member in enumerate(readers):
                end = start + share + (place < more)
                plan[member.id] += [TopicPartition(topic, i) for i in range(start, end)]
                start = end
        return plan


class RoundRobinAssignor(Assignor):
    """All partitions in order, dealt in turn; a member that does not read a topic is passed."""

    name = "roundrobin"

    def assign(self, partitions: Mapping[str, int], members: Sequence[Member]) -> Plan:
        """See Assignor."""
        plan: Plan = {member.id: [] for member in members}
        ring = sorted(members, key=lambda member: member.order)
        place = 0
        for topic in sorted(_readers(partitions, members)):
            for index in range(partitions[topic]):
                while topic not in ring[place % len(ring)].topics:
                    place += 1
                plan[ring[place % len(ring)].id].append(TopicPartition(topic, index))
                place += 1
        return plan


class StickyAssignor(Assignor):
    """Balanced, and as few partitions move as that allows."""

    name = "sticky"

    def user_data(self, owned: Iterable[TopicPartition], generation: int) -> bytes | None:
        """What it has, and the generation it got that in."""
        topics = by_topic(owned)
        parts = [struct.pack(">i", len(topics))]
        for topic, indexes in topics.items():
            name = topic.encode()
            parts.append(struct.pack(f">h{len(name)}si", len(name), name, len(indexes)))
            parts.append(struct.pack(f">{len(indexes)}i", *indexes))
        return b"".join(parts) + struct.pack(">i", generation)

    def claims(self, member: Member, user_data: bytes | None) -> Member:
        """From the user data of version 1 or 0; what cannot be read claims nothing."""
        found = None
        if user_data:  # kafka-python writes a version before it
            found = _read_sticky(user_data) or _read_sticky(user_data[2:])
        if found is None:
            return member
        return member._replace(owned=found[0], generation=found[1])

    def assign(self, partitions: Mapping[str, int], members: Sequence[Member]) -> Plan:
        """See Assignor."""
        return _Balance(partitions, members).plan()


class CooperativeStickyAssignor(StickyAssignor):
    """As sticky, in two steps: a partition that moves is given away before it is given out."""

    name = "cooperative-sticky"
    cooperative = True

    def user_data(self, owned: Iterable[TopicPartition], generation: int) -> bytes | None:
        """The generation, for leaders that do not read it from the subscription."""
        return struct.pack(">i", generation)

    def claims(self, member: Member, user_data: bytes | None) -> Member:
        """Owned partitions stand in the subscription; the generation may be in the user data."""
        if member.generation != NO_GENERATION or not user_data:
            return member
        if len(user_data) == 4:
            return member._replace(generation=struct.unpack(">i", user_data)[0])
        found = _read_sticky(user_data)
        return member if found is None else member._replace(generation=found[1])

    def assign(self, partitions: Mapping[str, int], members: Sequence[Member]) -> Plan:
        """See Assignor."""
        plan = super().assign(partitions, members)
        given = {place: owner for owner, places in plan.items() for place in places}
        moving = {
            place
            for member in members
            for place in member.owned
            if given.get(place, member.id) != member.id
        }
        owned = {member.id: set(member.owned) for member in members}
        return {
            owner: [place for place in places if place not in moving or place in owned[owner]]
            for owner, places in plan.items()
        }


class _Balance:
    """The sticky assignment while it is worked out."""

    def __init__(self, partitions: Mapping[str, int], members: Sequence[Member]) -> None:
        self._partitions = partitions
        self._members = sorted(members, key=lambda member: member.order)
        self._readers = {
            topic: tuple(member.id for member in readers)
            for topic, readers in _readers(partitions, self._members).items()
        }
        self._rank = {member.id: place for place, member in enumerate(self._members)}
        self._before = self._claimed()
        # Of each member, by who else could read them: ids of readers to partitions.
        self._held: dict[str, dict[tuple[str, ...], list[TopicPartition]]] = {
            member.id: defaultdict(list) for member in self._members
        }
        self._load: Counter[str] = Counter({member.id: 0 for member in self._members})

    def plan(self) -> Plan:
        """The partitions of each member, in order."""
        for place, owner in self._before.items():
            self._give(place, owner)
        for place in self._homeless():
            self._give(place, self._least(self._readers[place.topic]))
        while self._move_one():
            pass
        return {
            member.id: sorted(place for held in self._held[member.id].values() for place in held)
            for member in self._members
        }

    def _claimed(self) -> dict[TopicPartition, str]:
        """Who has what: the newest claim counts; of two that are as new, none."""
        best: dict[TopicPartition, tuple[int, str | None]] = {}
        for member in self._members:
            for place in dict.fromkeys(member.owned):
                exists = place.partition < self._partitions.get(place.topic, 0)
                if not exists or place.topic not in member.topics:
                    continue
                generation, _ = best.get(place, (NO_GENERATION - 1, None))
                if member.generation > generation:
                    best[place] = member.generation, member.id
                elif member.generation == generation:
                    best[place] = generation, None
        return {place: owner for place, (_, owner) in best.items() if owner is not None}

    def _homeless(self) -> list[TopicPartition]:
        """Partitions that nobody has; those that few can read come first."""
        topics = sorted(self._readers, key=lambda topic: (len(self._readers[topic]), topic))
        places = (TopicPartition(t, i) for t in topics for i in range(self._partitions[t]))
        return [place for place in places if place not in self._before]

    def _least(self, readers: tuple[str, ...]) -> str:
        return min(readers, key=lambda reader: (self._load[reader], self._rank[reader]))

    def _give(self, place: TopicPartition, owner: str) -> None:
        self._held[owner][self._readers[place.topic]].append(place)
        self._load[owner] += 1

    def _move_one(self) -> bool:
        """Moves a partition from a member to one that has two less; whether there was any."""
        lowest = min(self._load.values(), default=0)
        least: dict[tuple[str, ...], str] = {}
        for owner, load in self._load.most_common():
            if load <= lowest + 1:
                return False
            for readers, held in self._held[owner].items():
                if not held:
                    continue
                if readers not in least:
                    least[readers] = self._least(readers)
                taker = least[readers]
                if load > self._load[taker] + 1:
                    self._move(held, owner, taker)
                    return True
        return False

    def _move(self, held: list[TopicPartition], owner: str, taker: str) -> None:
        """The best to move: one that the taker had, else one that the owner had not."""
        ranks = {taker: 0, owner: 2}
        place = min(held, key=lambda place: ranks.get(self._before.get(place, ""), 1))
        held.remove(place)
        self._load[owner] -= 1
        self._give(place, taker)


def _readers(partitions: Mapping[str, int], members: Sequence[Member]) -> dict[str, list[Member]]:
    """Who reads each topic that exists, in order."""
    readers: dict[str, list[Member]] = defaultdict(list)
    for member in sorted(members, key=lambda member: member.order):
        for topic in member.topics:
            if partitions.get(topic, 0) > 0:
                readers[topic].append(member)
    return readers


def by_topic(places: Iterable[TopicPartition]) -> dict[str, list[int]]:
    """Partition numbers by topic, both in order."""
    topics: dict[str, list[int]] = defaultdict(list)
    for topic, index in sorted(places):
        topics[topic].append(index)
    return topics


def _read_sticky(data: bytes) -> tuple[tuple[TopicPartition, ...], int] | None:
    """Previous assignment and generation, in version 1 or 0; None if the bytes are neither."""
    places: list[TopicPartition] = []
    try:
        (topics,), at = struct.unpack_from(">i", data), 4
        for _ in range(topics):
            (size,) = struct.unpack_from(">h", data, at)
            topic = data[at + 2 : at + 2 + size].decode()
            (count,) = struct.unpack_from(">i", data, at + 2 + size)
            indexes = struct.unpack_from(f">{count}i", data, at + 6 + size)
            places += [TopicPartition(topic, index) for index in indexes]
            at += 6 + size + 4 * count
        generation = struct.unpack_from(">i", data, at)[0] if len(data) > at else NO_GENERATION
    except (struct.error, UnicodeDecodeError):
        return None
    return tuple(places), generation


def subscription(
    assignor: Assignor,
    topics: Iterable[str],
    owned: Iterable[TopicPartition],
    last: Iterable[TopicPartition],
    generation: int,
) -> bytes:
    """What a member says when it joins: what it has, and what it had in `generation`."""
    from mqlog.protocol.data import ConsumerProtocolSubscription

    message = ConsumerProtocolSubscription(
        topics=sorted(topics),
        user_data=assignor.user_data(last, generation),
        owned_partitions=[
            ConsumerProtocolSubscription.TopicPartition(topic, indexes)
            for topic, indexes in by_topic(owned).items()
        ],
        generation_id=generation,
    )
    return _written("ConsumerProtocolSubscription", message)


def read_member(assignor: Assignor, member_id: str, instance_id: str | None, data: bytes) -> Member:
    """A member from its subscription. ProtocolError if the bytes are none."""
    message: ConsumerProtocolSubscription = _read("ConsumerProtocolSubscription", data)
    owned = tuple(
        TopicPartition(topic.topic, index)
        for topic in message.owned_partitions
        for index in topic.partitions
    )
    topics = frozenset(message.topics)
    member = Member(member_id, topics, instance_id, owned, message.generation_id)
    return assignor.claims(member, message.user_data)


def assignment(places: Iterable[TopicPartition]) -> bytes:
    """What the leader tells a member."""
    from mqlog.protocol.data import ConsumerProtocolAssignment

    topics = [
        ConsumerProtocolAssignment.TopicPartition(topic, indexes)
        for topic, indexes in by_topic(places).items()
    ]
    return _written("ConsumerProtocolAssignment", ConsumerProtocolAssignment(topics, b""))


def read_assignment(data: bytes) -> list[TopicPartition]:
    """What a member is told; nothing if the leader says nothing. ProtocolError if it is garbage."""
    if not data:
        return []
    message: ConsumerProtocolAssignment = _read("ConsumerProtocolAssignment", data)
    return [
        TopicPartition(topic.topic, index)
        for topic in message.assigned_partitions
        for index in topic.partitions
    ]


def _written(name: str, message: object) -> bytes:
    return struct.pack(">h", VERSION) + _native.encode_named(name, VERSION, message)


def _read(name: str, data: bytes) -> Any:
    version = int.from_bytes(data[:2], "big", signed=True) if len(data) >= 2 else -1
    if version < 0:
        raise ProtocolError(f"{name}: the version is missing or below 0")
    return _native.decode_named(name, min(version, VERSION), data[2:])


ASSIGNORS: dict[str, type[Assignor]] = {
    cls.name: cls
    for cls in (RangeAssignor, RoundRobinAssignor, StickyAssignor, CooperativeStickyAssignor)
}
# kafka-python's names.
RangePartitionAssignor = RangeAssignor
RoundRobinPartitionAssignor = RoundRobinAssignor
StickyPartitionAssignor = StickyAssignor


def assignors(strategy: Any) -> list[Assignor]:
    """The assignors of `partition_assignment_strategy`, in the order of preference.

    An entry is a name, an Assignor or a class of one, or a class of kafka-python or Java by name.
    """
    entries = strategy.split(",") if isinstance(strategy, str) else strategy
    try:
        found = [_assignor(entry) for entry in entries]
    except (KeyError, TypeError, AttributeError):
        found = []
    if not found or len({one.name for one in found}) != len(found):
        allowed = ", ".join(ASSIGNORS)
        raise KafkaConfigurationError(
            "partition_assignment_strategy", strategy, f"must be some of {allowed}, each once"
        )
    return found


def _assignor(entry: Any) -> Assignor:
    if isinstance(entry, Assignor):
        return entry
    if isinstance(entry, type) and issubclass(entry, Assignor):
        return entry()
    if not isinstance(entry, str):
        return ASSIGNORS[entry.name]()
    name = entry.strip().rpartition(".")[2]
    known = {cls.__name__: cls for cls in ASSIGNORS.values()} | ASSIGNORS
    return known[name]()
