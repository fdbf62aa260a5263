"""What `naive_groups` remembers: groups, members, commits, and the log of each shard."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

OK, UNKNOWN_TOPIC, METADATA_TOO_LARGE, LOADING, NOT_COORDINATOR = 0, 3, 12, 14, 16
ILLEGAL_GENERATION, INCONSISTENT, INVALID_GROUP, UNKNOWN_MEMBER, INVALID_SESSION = (
    22,
    23,
    24,
    25,
    26,
)
REBALANCING, NON_EMPTY, NOT_FOUND, NEEDS_ID, FULL, FENCED = 27, 68, 69, 79, 81, 82
SUBSCRIBED, UNKNOWN_TOPIC_ID = 86, 100

EMPTY, PREPARING, COMPLETING, STABLE = (
    "Empty", "PreparingRebalance", "CompletingRebalance", "Stable"
)  # fmt: skip
MIN_SESSION_MS, MAX_SESSION_MS, NEW_MEMBER_MS, RELOAD_MS = 6_000, 1_800_000, 300_000, 1_000
#: Partitions of each topic.
TOPICS = {"t": 3, "u": 2}
Answer = dict[str, Any] | str


class Code(Exception):
    """An error code in place of an answer."""


@dataclass
class Member:
    id: str
    instance: str | None
    client: str
    session_ms: int
    rebalance_ms: int
    protocols: list[tuple[str, bytes]]
    assignment: bytes = b""
    joining: int | None = None
    syncing: int | None = None
    is_new: bool = False
    dies_at: int | None = None


@dataclass
class Group:
    name: str
    since: int
    state: str = EMPTY
    was: str = EMPTY
    generation: int = 0
    type: str | None = None
    protocol: str | None = None
    #: Not set while members are there: one of them leads, it will show which.
    leader: str | None = None
    members: dict[str, Member] = field(default_factory=dict)
    pending: dict[str, int] = field(default_factory=dict)
    unsynced: set[str] = field(default_factory=set)
    newcomers: bool = False
    #: What the members of this generation read; None: nobody can tell.
    topics: set[str] | None = None
    join_at: int | None = None
    #: While the first members are waited for: how long this wait is, and what may follow.
    first: tuple[int, int] | None = None
    sync_at: int | None = None

    def named(self, member_id: str, instance: str | None) -> Member:
        if instance is not None:
            holder = [one.id for one in self.members.values() if one.instance == instance]
            if not holder:
                raise Code(UNKNOWN_MEMBER)
            if holder != [member_id]:
                raise Code(FENCED)
        if member_id not in self.members:
            raise Code(UNKNOWN_MEMBER)
        return self.members[member_id]

    def waiting(self) -> list[Member]:
        return [one for one in self.members.values() if one.joining is not None]

    def common(self) -> set[str]:
        """Protocols that all members speak."""
        spoken = [{name for name, _ in one.protocols} for one in self.members.values()]
        return set.intersection(*spoken) if spoken else set()

    def favourites(self) -> list[str]:
        """Protocols with most votes: each member votes for the first it has in common with all."""
        common = self.common()
        votes = [
            next(name for name, _ in one.protocols if name in common)
            for one in self.members.values()
        ]
        return sorted(
            name for name in set(votes) if votes.count(name) == max(map(votes.count, votes))
        )

    def says(self, member: Member) -> bytes:
        return dict(member.protocols).get(self.protocol or "", b"")

    def reads(self, topic: str) -> bool:
        return self.type == "consumer" if self.topics is None else topic in self.topics


@dataclass
class Commit:
    offset: int
    epoch: int
    metadata: str
    at: int
    expires: int | None
    topic_age: int


Offsets = dict[tuple[str, str, int], Commit]


@dataclass
class Shard:
    groups: dict[str, Group] = field(default_factory=dict)
    offsets: Offsets = field(default_factory=dict)
    #: What its log says; None in `groups`: while it is being read again.
    saved: dict[str, Group] = field(default_factory=dict)
    logged: Offsets = field(default_factory=dict)
    down_until: int | None = None
    wrote: bool = False
