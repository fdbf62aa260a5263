"""A shard: one partition of `__consumer_offsets`, its groups and offsets, and what a step made.

It is the state machine's memory. `membership`, `committed` and `group_admin` change it and leave
records and answers in it; `coordinator` takes them out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from mqlog import _native
from mqlog.broker import committed, rebalance
from mqlog.broker.committed import Offsets
from mqlog.broker.group import Group
from mqlog.broker.group_log import (
    RECORD_OVERHEAD,
    decode_group,
    encode_group,
    group_key,
    offset_key,
)
from mqlog.broker.settings import Settings
from mqlog.broker.timers import Timers

#: Records of one batch, in bytes; a larger record is a batch of its own.
BATCH_BYTES = 512 * 1024
#: A group that does not fit is refused.
MAX_GROUP_BYTES = 32 * 1024 * 1024
#: The log is written anew when it is larger than this and more than half of it is dead.
REWRITE_BYTES = 4 * 1024 * 1024
#: Live keys written in one step of a rewrite.
REWRITE_SLICE = 2000

Record = tuple[bytes, bytes | None]


class GroupSettings(NamedTuple):
    """What the broker's settings say of groups. Times in ms, sizes in characters or members."""

    min_session_ms: int
    max_session_ms: int
    initial_delay_ms: int
    max_size: int
    max_metadata: int
    offsets_retention_ms: int
    expiry_interval_ms: int

    @classmethod
    def of(cls, settings: Settings) -> GroupSettings:
        """Read them."""
        return cls(
            settings.integer("group.min.session.timeout.ms"),
            settings.integer("group.max.session.timeout.ms"),
            settings.integer("group.initial.rebalance.delay.ms"),
            settings.integer("group.max.size"),
            settings.integer("offset.metadata.max.bytes"),
            settings.integer("offsets.retention.minutes") * 60_000,
            settings.integer("offsets.retention.check.interval.ms"),
        )


class Shared:
    """What the shards of one coordinator have in common: time, timers, who has something new."""

    def __init__(self, new_id: Callable[[], str]) -> None:
        """Begin at no time."""
        self.new_id = new_id
        self.timers = Timers()
        self.now_ms = 0
        self.wall_ms = 0
        self.changed: list[Shard] = []


class Shard:
    """Groups and offsets of one partition."""

    def __init__(self, index: int, settings: GroupSettings, shared: Shared) -> None:
        """Hold nothing yet."""
        self.index = index
        self.settings = settings
        self.groups: dict[str, Group] = {}
        self.offsets = Offsets()
        self.timers = shared.timers
        self._shared = shared
        self._noted = False
        self.records: list[Record] = []
        self.answers: list[tuple[Any, Any]] = []
        #: Bytes of the log, and what of it is needed.
        self.log_bytes = 0
        self.live_bytes = 0

    @property
    def now_ms(self) -> int:
        """The step's moment, monotonic."""
        return self._shared.now_ms

    @property
    def wall_ms(self) -> int:
        """The step's moment, wall clock."""
        return self._shared.wall_ms

    # -- what the state machine calls --------------------------------------------------------------

    def answer(self, request: Any, response: Any) -> None:
        """Answer a request once all records before this are durable."""
        self.answers.append((request, response))
        self._note()

    def _record(self, key: bytes, before: bytes | None, after: bytes | None) -> None:
        """Write a key's value, or its end."""
        self.records.append((key, after))
        if before is not None:
            self.live_bytes -= len(key) + len(before) + RECORD_OVERHEAD
        if after is not None:
            self.live_bytes += len(key) + len(after) + RECORD_OVERHEAD
        self._note()

    def _note(self) -> None:
        if not self._noted:
            self._noted = True
            self._shared.changed.append(self)

    def new_member_id(self, prefix: str) -> str:
        """Return an id that no member has had."""
        return f"{prefix}-{self._shared.new_id()}"

    def make_group(self, name: str) -> Group:
        """Begin a group; it is in the log once it has a generation or an offset."""
        group = self.groups[name] = Group(name, self.wall_ms)
        return group

    def save(self, group: Group) -> bool:
        """Write a group's metadata. False: it is too large to be kept."""
        value = encode_group(group.record())
        if len(value) > MAX_GROUP_BYTES:
            return False
        self._record(group_key(group.name), group.saved, value)
        group.saved = value
        return True

    def remove_group(self, name: str) -> None:
        """Forget a group that has no members and no offsets."""
        group = self.groups.pop(name)
        group.stop_timers()
        if group.saved is not None:
            self._record(group_key(name), group.saved, None)

    def put_offset(self, group: str, topic: str, partition: int, value: bytes) -> None:
        """Commit an offset."""
        before = self.offsets.put(group, topic, partition, value)
        self._record(offset_key(group, topic, partition), before, value)

    def drop_offset(self, group: str, topic: str, partition: int) -> None:
        """Forget a committed offset, if there is one."""
        before = self.offsets.drop(group, topic, partition)
        if before is not None:
            self._record(offset_key(group, topic, partition), before, None)

    # -- the log -----------------------------------------------------------------------------------

    def restore(
        self,
        offsets: Iterable[tuple[str, str, int, bytes]],
        groups: Iterable[tuple[str, bytes]],
        log_bytes: int,
    ) -> None:
        """Take over what the log holds. ValueError if a value cannot be read."""
        self.log_bytes = log_bytes
        for name, value in groups:
            group = self.groups[name] = Group.restored(name, decode_group(value))
            group.saved = value
            self.live_bytes += len(group_key(name)) + len(value) + RECORD_OVERHEAD
        for name, topic, partition, value in offsets:
            if name not in self.groups:
                self.make_group(name)
            self.offsets.put(name, topic, partition, value)
            key = offset_key(name, topic, partition)
            self.live_bytes += len(key) + len(value) + RECORD_OVERHEAD
        for group in list(self.groups.values()):
            rebalance.watch_all(self, group)

    def take(self) -> tuple[list[bytes], list[tuple[Any, Any]]]:
        """Take out what was made since: batches for the log, then answers."""
        records, self.records = self.records, []
        answers, self.answers = self.answers, []
        self._noted = False
        return list(self._encoded(records)), answers

    def parked(self) -> Iterator[Any]:
        """Return the requests that wait for other members."""
        for group in self.groups.values():
            for member in group.members.values():
                for request in (member.joining, member.syncing):
                    if request is not None:
                        yield request

    def _encoded(self, records: Iterable[Record]) -> Iterator[bytes]:
        part: list[tuple[int, bytes, bytes | None, tuple[()]]] = []
        size = 0
        for key, value in records:
            length = len(key) + len(value or b"")
            if part and size + length > BATCH_BYTES:
                yield self._batch(part)
                part, size = [], 0
            part.append((self.wall_ms, key, value, ()))
            size += length
        if part:
            yield self._batch(part)

    def _batch(self, part: list[tuple[int, bytes, bytes | None, tuple[()]]]) -> bytes:
        batch = _native.build_batch(part)
        self.log_bytes += len(batch)
        return batch

    @property
    def wants_rewrite(self) -> bool:
        """Whether the log is worth writing anew."""
        return self.log_bytes > REWRITE_BYTES and self.log_bytes > 2 * self.live_bytes

    def rewrite(self) -> Iterator[None]:
        """Put every live key into `records` again, a slice at a time, as it is then."""
        count = 0
        for name in list(self.groups):
            group = self.groups.get(name)
            if group is not None and group.saved is not None:
                self.records.append((group_key(name), group.saved))
                self._note()
            for topic, index in list(self.offsets.of.get(name, ())):
                value = self.offsets.of.get(name, {}).get((topic, index))
                if value is None:
                    continue
                self.records.append((offset_key(name, topic, index), value))
                self._note()
                count += 1
                if count % REWRITE_SLICE == 0:
                    yield
        yield

    # -- time --------------------------------------------------------------------------------------

    def expire(self) -> Iterator[None]:
        """Drop offsets and groups that are too old, some at a time."""
        names = list({**dict.fromkeys(self.groups), **dict.fromkeys(self.offsets.of)})
        for count, name in enumerate(names, 1):
            committed.expire(self, name)
            if count % REWRITE_SLICE == 0:
                yield
