"""One classic group: members, state, the protocol they agree on. It knows no time and no I/O.

What happens to it, and when, is `membership`'s.
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from mqlog import _native
from mqlog.protocol.group_records import GroupMetadataValue

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mqlog.broker.timers import Alarm, Timer

#: (name, metadata) of the protocols that a member can speak, its favourite first.
Protocols = list[tuple[str, bytes]]
CONSUMER = "consumer"
_NEWEST_SUBSCRIPTION = 3


class State(StrEnum):
    """What a group is doing; names are what DescribeGroups tells."""

    EMPTY = "Empty"
    PREPARING = "PreparingRebalance"
    COMPLETING = "CompletingRebalance"
    STABLE = "Stable"


class Member:
    """A member; `joining` and `syncing` are its requests that wait for an answer."""

    __slots__ = (
        "assignment",
        "client_host",
        "client_id",
        "instance_id",
        "is_new",
        "joining",
        "member_id",
        "protocols",
        "rebalance_timeout_ms",
        "session",
        "session_timeout_ms",
        "syncing",
    )

    def __init__(
        self,
        member_id: str,
        instance_id: str | None,
        client: tuple[str, str],
        timeouts_ms: tuple[int, int],
        protocols: Protocols,
    ) -> None:
        """`client`: id and host. `timeouts_ms`: of the session, of a rebalance."""
        self.member_id = member_id
        self.instance_id = instance_id
        self.client_id, self.client_host = client
        self.session_timeout_ms, self.rebalance_timeout_ms = timeouts_ms
        self.protocols = protocols
        self.assignment = b""
        self.joining: Any = None
        self.syncing: Any = None
        self.is_new = False
        self.session: Timer | None = None

    def metadata(self, protocol: str | None) -> bytes:
        """Return what the member says under this protocol."""
        return next((data for name, data in self.protocols if name == protocol), b"")


class Group:
    """A group and its members. Methods keep the counts right and decide nothing about time."""

    def __init__(self, name: str, since_ms: int) -> None:
        """Begin empty, at generation 0; `since_ms` is wall clock."""
        self.name = name
        self.state = State.EMPTY
        self.previous = State.EMPTY
        self.since_ms = since_ms
        self.generation = 0
        self.protocol_type: str | None = None
        self.protocol: str | None = None
        self.leader: str | None = None
        self.members: dict[str, Member] = {}
        self.instances: dict[str, str] = {}
        #: Members that got an id and have not come back with it.
        self.pending: dict[str, Timer] = {}
        #: Members that have joined this generation and not asked for their assignment.
        self.unsynced: set[str] = set()
        self.joining = 0
        self.newcomers = False
        self.topics: frozenset[str] | None = None
        self.join_timer: Alarm | None = None
        self.sync_timer: Alarm | None = None
        #: The value last written for it.
        self.saved: bytes | None = None
        self._speakers: Counter[str] = Counter()

    # -- members -----------------------------------------------------------------------------------

    def add(self, member: Member, protocol_type: str) -> None:
        """Take a member in; the first leads."""
        if not self.members:
            self.protocol_type = protocol_type
        self.members[member.member_id] = member
        self._speakers.update({name for name, _ in member.protocols})
        if member.instance_id is not None:
            self.instances[member.instance_id] = member.member_id
        if self.leader is None:
            self.leader = member.member_id

    def remove(self, member_id: str) -> None:
        """Forget a member, pending ones too; another leads if it did."""
        pending = self.pending.pop(member_id, None)
        if pending is not None:
            pending.stop()
            if not self.pending:
                self.pending.clear()  # a dict keeps the size that it had
        self.unsynced.discard(member_id)
        member = self.members.pop(member_id, None)
        if member is None:
            return
        if member.session is not None:
            member.session.stop()
        if member.joining is not None:
            self.joining -= 1
        self._silence(member)
        if member.instance_id is not None and self.instances.get(member.instance_id) == member_id:
            del self.instances[member.instance_id]
        if self.leader == member_id:
            self.leader = next(iter(self.members), None)

    def rename(self, old_id: str, new_id: str) -> Member:
        """Give a static member a new id; its place and its lead stay."""
        member = self.members[old_id]
        members = list(self.members.items())
        self.members = {new_id if key == old_id else key: one for key, one in members}
        member.member_id = new_id
        if member.instance_id is not None:
            self.instances[member.instance_id] = new_id
        if self.leader == old_id:
            self.leader = new_id
        if old_id in self.unsynced:
            self.unsynced.discard(old_id)
            self.unsynced.add(new_id)
        return member

    def update(self, member: Member, timeouts_ms: tuple[int, int], protocols: Protocols) -> None:
        """Take over what a member says in a new JoinGroup."""
        self._silence(member)
        member.session_timeout_ms, member.rebalance_timeout_ms = timeouts_ms
        member.protocols = protocols
        self._speakers.update({name for name, _ in protocols})

    def await_join(self, member: Member, request: Any) -> Any:
        """Let a member's JoinGroup wait; return the one that waited before, if any."""
        before, member.joining = member.joining, request
        if before is None:
            self.joining += 1
        return before

    def asks_for_assignment(self, member: Member) -> None:
        """Note a member's SyncGroup; when all have come, nobody waits for them any more."""
        self.unsynced.discard(member.member_id)
        if not self.unsynced:
            self.unsynced.clear()  # a set keeps the size that it had
            if self.sync_timer is not None:
                self.sync_timer.stop()

    def take_join(self, member: Member) -> Any:
        """Return the JoinGroup that waits, which waits no more."""
        request, member.joining = member.joining, None
        if request is not None:
            self.joining -= 1
        return request

    def _silence(self, member: Member) -> None:
        for name in {name for name, _ in member.protocols}:
            self._speakers[name] -= 1
            if self._speakers[name] <= 0:
                del self._speakers[name]

    def stop_timers(self) -> None:
        """Let nothing happen to it any more."""
        timers = [self.join_timer, self.sync_timer, *self.pending.values()]
        timers += [member.session for member in self.members.values()]
        for timer in timers:
            if timer is not None:
                timer.stop()

    # -- what can be said of it --------------------------------------------------------------------

    def accepts(self, protocol_type: str, protocols: Protocols) -> bool:
        """Say whether a member that speaks these fits in."""
        if self.state is State.EMPTY:
            return bool(protocol_type) and bool(protocols)
        # One that waits for its first members keeps its type, even if they have gone again.
        everybody = len(self.members)
        return protocol_type == self.protocol_type and any(
            self._speakers[name] == everybody for name, _ in protocols
        )

    @property
    def all_joined(self) -> bool:
        """Whether nobody is waited for."""
        return self.joining == len(self.members) and not self.pending

    @property
    def rebalance_timeout_ms(self) -> int:
        """The longest that a member asked for."""
        return max((one.rebalance_timeout_ms for one in self.members.values()), default=0)

    def choose_protocol(self) -> str:
        """Return what all speak and most like best. ValueError if they have nothing in common."""
        everybody = len(self.members)
        votes: Counter[str] = Counter()
        for member in self.members.values():
            common = (name for name, _ in member.protocols if self._speakers[name] == everybody)
            favourite = next(common, None)
            if favourite is not None:
                votes[favourite] += 1
        if not votes:
            raise ValueError(f"the members of {self.name!r} have no protocol in common")
        return votes.most_common(1)[0][0]

    def elect_joined_leader(self) -> bool:
        """Let one lead who has come back, if the leader has not. False: there is none."""
        if self.leader is None:
            return False
        if self.members[self.leader].joining is not None:
            return True
        joined = (one.member_id for one in self.members.values() if one.joining is not None)
        found = next(joined, None)
        if found is not None:
            self.leader = found
        return found is not None

    def move(self, state: State, now_ms: int) -> None:
        """Go to another state; `now_ms` is wall clock."""
        self.previous, self.state, self.since_ms = self.state, state, now_ms

    def next_generation(self, now_ms: int) -> None:
        """Begin a generation with those who are there."""
        self.generation += 1
        self.unsynced.clear()
        if self.members:
            self.protocol = self.choose_protocol()
            self.move(State.COMPLETING, now_ms)
        else:
            self.protocol = None
            self.move(State.EMPTY, now_ms)
        self.read_topics()

    def read_topics(self) -> None:
        """Find out what the members subscribe to."""
        self.topics = self._subscribed()

    def _subscribed(self) -> frozenset[str] | None:
        if self.protocol_type != CONSUMER:
            return None
        topics: set[str] = set()
        try:
            for member in self.members.values():
                topics.update(subscribed_topics(member.metadata(self.protocol)))
        except ValueError:
            return None
        return frozenset(topics)

    def subscribes(self, topic: str) -> bool:
        """Say whether members read this topic; of what cannot be told, yes."""
        if self.topics is None:
            return self.protocol_type == CONSUMER
        return topic in self.topics

    # -- the record --------------------------------------------------------------------------------

    def record(self) -> GroupMetadataValue:
        """Return it as it goes into the log."""
        members = [
            GroupMetadataValue.MemberMetadata(
                one.member_id,
                one.instance_id,
                one.client_id,
                one.client_host,
                one.rebalance_timeout_ms,
                one.session_timeout_ms,
                one.metadata(self.protocol),
                one.assignment,
            )
            for one in self.members.values()
        ]
        return GroupMetadataValue(
            self.protocol_type or "",
            self.generation,
            self.protocol,
            self.leader,
            self.since_ms,
            members,
        )

    @classmethod
    def restored(cls, name: str, value: GroupMetadataValue) -> Group:
        """Make it from its record."""
        group = cls(name, value.current_state_timestamp)
        group.generation, group.protocol = value.generation, value.protocol
        for one in value.members:
            protocols = [(value.protocol or "", one.subscription)]
            # Version 0 of the record has no rebalance timeout.
            rebalance = one.rebalance_timeout if one.rebalance_timeout >= 0 else one.session_timeout
            timeouts, client = (one.session_timeout, rebalance), (one.client_id, one.client_host)
            member = Member(one.member_id, one.group_instance_id, client, timeouts, protocols)
            member.assignment = one.assignment
            group.add(member, value.protocol_type)
        group.protocol_type = value.protocol_type or None
        group.leader = value.leader if value.leader in group.members else group.leader
        group.state = group.previous = State.STABLE if group.members else State.EMPTY
        group.read_topics()
        return group


def subscribed_topics(metadata: bytes) -> Iterable[str]:
    """Return the topics in a ConsumerProtocolSubscription. ValueError if it is none."""
    if len(metadata) < 2:
        raise ValueError("too short for a subscription")
    version = min(int.from_bytes(metadata[:2], "big", signed=True), _NEWEST_SUBSCRIPTION)
    if version < 0:
        raise ValueError(f"subscription version {version}")
    topics: list[str] = _native.decode_named(
        "ConsumerProtocolSubscription", version, metadata[2:]
    ).topics
    return topics
