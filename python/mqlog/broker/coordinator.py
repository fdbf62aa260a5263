"""The group coordinator: requests to shards and back, loading, failing, keeping the log small.

`docs/internals/groups.md` says what it promises. Its effects, next to those of `control`:

    ("append", topic_id, partition, batch)   ("reply_after", token, body, topic_id, [partition])
    ("load", id, topic_id, partition)   ("mark", topic_id, partition)
    ("trim", id, topic_id, partition)

and its events: ("loaded", id, error, offsets, groups, bytes), ("trimmed", id, error),
("append_failed", topic_id, partition, reason).
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from mqlog.broker import codes, committed, group_admin, membership, rebalance
from mqlog.broker.group_log import TOPIC, partition_of
from mqlog.broker.shard import GroupSettings, Shard, Shared
from mqlog.broker.timers import Alarm
from mqlog.protocol.delete_groups import DeleteGroupsResponse
from mqlog.protocol.describe_groups import DescribeGroupsResponse
from mqlog.protocol.heartbeat import HeartbeatResponse
from mqlog.protocol.leave_group import LeaveGroupResponse
from mqlog.protocol.list_groups import ListGroupsResponse
from mqlog.protocol.offset_delete import OffsetDeleteResponse
from mqlog.protocol.offset_fetch import OffsetFetchResponse
from mqlog.protocol.sync_group import SyncGroupResponse

if TYPE_CHECKING:
    from mqlog.broker.control import Codec, Effect, Request
    from mqlog.broker.world import World

#: Before a shard that could not be loaded, or whose log could not be trimmed, is tried again.
RETRY_MS = 1_000
TRIM_RETRY_MS = 60_000
_GROUPS, _TOPIC_IDS = 8, 10


class Place:
    """A partition of `__consumer_offsets` and, when it is loaded, its shard."""

    __slots__ = ("index", "loading", "marked_bytes", "may_trim_ms", "rewriting", "shard")

    def __init__(self, index: int) -> None:
        """Begin unloaded."""
        self.index = index
        self.shard: Shard | None = None
        self.loading = False
        self.rewriting = False
        self.marked_bytes = 0
        self.may_trim_ms = 0

    @property
    def code(self) -> int:
        """What to tell who asks while there is no shard."""
        return codes.COORDINATOR_LOAD_IN_PROGRESS if self.loading else codes.NOT_COORDINATOR


class _Job(NamedTuple):
    """Work in slices on one shard; it ends early if the shard is thrown away."""

    place: Place
    shard: Shard
    slices: Iterator[None]
    done: Callable[[Place, list[Effect]], None] | None


class Coordinator:
    """All groups of one broker."""

    def __init__(
        self, world: World, codec: Codec, on_error: Callable[[str, BaseException], None]
    ) -> None:
        """`on_error` is told of what should not happen; the connection is closed then."""
        self._world = world
        self._codec = codec
        self._on_error = on_error
        self._settings = GroupSettings.of(world.settings)
        self._topic_id = b""
        self._places: list[Place] = []
        self._shared = Shared(self._new_id)
        self._timers = self._shared.timers
        self._jobs: deque[_Job] = deque()
        self._asked: dict[int, Place] = {}
        self._last_id = 0
        self._joint: list[tuple[Request, Any, list[int]]] = []
        self._effects: list[Effect] = []
        self._begun = False
        self._expiry = Alarm(self._timers, self._expire)

    # -- a step ------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether there is work that waits for no event."""
        return bool(self._jobs or self._effects)

    def next_ms(self) -> int | None:
        """Return the next moment at which something may be due."""
        return self._timers.next_ms()

    def begin(self, now_ms: int) -> None:
        """Begin a step; the first one loads what is there."""
        self._shared.now_ms, self._shared.wall_ms = now_ms, self._world.now_ms()
        if not self._begun:
            self._begun = True
            self._expiry.set(now_ms + self._settings.expiry_interval_ms)
            self.attach(fresh=False)

    def finish(self, horizon_ms: int, effects: list[Effect]) -> None:
        """Fire timers up to the horizon, do a slice of what takes long, hand all effects over."""
        self._timers.run(horizon_ms)
        self._flush(effects)
        self._advance_job(effects)
        if self._joint:
            for request, response, indexes in self._joint:
                self._reply(request, response, indexes, effects)
            self._joint.clear()

    def _flush(self, effects: list[Effect]) -> None:
        """Hand over what shards have made, records before answers, and what is to be done."""
        changed, self._shared.changed = self._shared.changed, []
        for shard in changed:
            place = self._places[shard.index] if shard.index < len(self._places) else None
            if place is None or place.shard is not shard:
                continue  # thrown away since: its log does not have what it decided
            batches, answers = shard.take()
            at = (self._topic_id, shard.index)
            effects.extend(("append", *at, batch) for batch in batches)
            for request, response in answers:
                self._reply(request, response, [shard.index], effects)
            if batches:
                self._consider_rewrite(place)
        effects.extend(self._effects)
        self._effects.clear()

    def _reply(
        self, request: Request, response: Any, indexes: list[int], effects: list[Effect]
    ) -> None:
        try:
            body = self._codec.encode("response", request.api_key, request.version, response)
        except Exception as error:  # noqa: BLE001 - one request must not end the broker
            self._on_error(f"response {request.api_key} version {request.version}", error)
            effects.append(("close", request.token))
            return
        if indexes:
            effects.append(("reply_after", request.token, body, self._topic_id, indexes))
        else:
            effects.append(("reply", request.token, body))

    # -- the topic and its shards ------------------------------------------------------------------

    def attach(self, *, fresh: bool) -> bool:
        """Take the topic over if it is there and not yet known; `fresh`: it was just made."""
        topic = self._world.image().shape(TOPIC)
        if topic is None or topic.topic_id != self._topic_id:
            for place in self._places:
                self._throw_away(place)
        if topic is None:
            self._topic_id, self._places = b"", []
            return False
        if topic.topic_id == self._topic_id:
            return True
        self._topic_id = topic.topic_id
        self._places = [Place(index) for index in range(topic.partitions)]
        for place in self._places:
            if fresh:
                place.shard = self._new_shard(place.index)
            else:
                self._load(place)
        return True

    def _new_shard(self, index: int) -> Shard:
        return Shard(index, self._settings, self._shared)

    def _new_id(self) -> str:
        return str(uuid.UUID(bytes=self._world.new_topic_id()))

    def _load(self, place: Place) -> None:
        self._throw_away(place)
        place.loading, place.rewriting = True, False
        self._effects.append(("load", self._ask(place), self._topic_id, place.index))

    def _throw_away(self, place: Place) -> None:
        """Forget a shard; whoever waits in it, for others or for an answer, asks again."""
        shard, place.shard, place.loading = place.shard, None, False
        if shard is None:
            return
        waiting = [*shard.parked(), *(request for request, _ in shard.answers)]
        for request in waiting:
            self._joint.append((request, _refused(request, codes.NOT_COORDINATOR), []))
        for group in shard.groups.values():
            group.stop_timers()

    def _ask(self, place: Place) -> int:
        self._last_id += 1
        self._asked[self._last_id] = place
        return self._last_id

    def _is_current(self, place: Place) -> bool:
        return place.index < len(self._places) and self._places[place.index] is place

    def loaded(self, number: int, error: str | None, offsets: Any, groups: Any, size: int) -> None:
        """Serve a shard with what its log held, or try again later."""
        place = self._asked.pop(number, None)
        if place is None or not self._is_current(place):
            return
        shard = self._new_shard(place.index)
        try:
            if error is not None:
                raise ValueError(error)
            shard.restore(offsets, groups, size)
        except ValueError as problem:
            self._on_error(f"loading {TOPIC}-{place.index}", problem)
            place.loading = False
            self._retry(place)
            return
        place.shard, place.loading = shard, False
        committed.forget_strangers(shard, self._world.image())

    def _try_again(self, place: Place) -> None:
        if self._is_current(place) and place.shard is None:
            self._load(place)

    def append_failed(self, topic_id: bytes, index: int, reason: str) -> None:
        """Throw a shard away: what it decided last is not in its log."""
        if topic_id != self._topic_id:
            return
        self._on_error(f"appending to {TOPIC}-{index}", OSError(reason))
        topic = self._world.image().shape(TOPIC)
        if topic is None or topic.topic_id != topic_id:
            self.attach(fresh=False)
            return
        place = self._places[index]
        self._throw_away(place)
        self._retry(place)

    def _retry(self, place: Place) -> None:
        timer = Alarm(self._timers, lambda: self._try_again(place))
        timer.set(self._shared.now_ms + RETRY_MS)

    def topics_deleted(self, names: Iterable[str]) -> None:
        """Drop the offsets of topics that are gone."""
        gone = list(names)
        for place in self._places:
            if place.shard is not None and gone:
                committed.forget_topics(place.shard, gone)

    # -- work that takes long ----------------------------------------------------------------------

    def _expire(self) -> None:
        self._expiry.set(self._shared.now_ms + self._settings.expiry_interval_ms)
        for place in self._places:
            if place.shard is not None:
                self._jobs.append(_Job(place, place.shard, place.shard.expire(), None))

    def _consider_rewrite(self, place: Place) -> None:
        shard = place.shard
        if shard is None or place.rewriting or not shard.wants_rewrite:
            return
        if self._shared.now_ms < place.may_trim_ms:
            return
        place.rewriting = True
        self._jobs.append(_Job(place, shard, self._rewritten(place, shard), self._trim))

    def _rewritten(self, place: Place, shard: Shard) -> Iterator[None]:
        place.marked_bytes = shard.log_bytes
        self._effects.append(("mark", self._topic_id, place.index))
        yield
        yield from shard.rewrite()

    def _trim(self, place: Place, effects: list[Effect]) -> None:
        effects.append(("trim", self._ask(place), self._topic_id, place.index))

    def trimmed(self, number: int, error: str | None) -> None:
        """Go on with a log that begins at its rewrite."""
        place = self._asked.pop(number, None)
        if place is None or place.shard is None or not place.rewriting:
            return
        place.rewriting = False
        if error is None:
            place.shard.log_bytes -= place.marked_bytes
        else:
            self._on_error(f"trimming {TOPIC}-{place.index}", OSError(error))
            place.may_trim_ms = self._shared.now_ms + TRIM_RETRY_MS

    def _advance_job(self, effects: list[Effect]) -> None:
        if not self._jobs:
            return
        place, shard, slices, done = job = self._jobs.popleft()
        if place.shard is not shard or not self._is_current(place):
            return
        ended = next(slices, job) is job
        # The rewrite is marked before any of it is appended: the first slice makes the mark only.
        self._flush(effects)
        if not ended:
            self._jobs.append(job)
        elif done is not None:
            done(place, effects)

    # -- requests ----------------------------------------------------------------------------------

    def request(self, request: Request) -> None:
        """Take one request in; its answer is among the effects of this step or a later one."""
        joint = _JOINT.get(request.api_key)
        if joint is not None:
            joint(self, request)
            return
        place = self._place(request.message.group_id)
        if place is None or place.shard is None:
            code = codes.NOT_COORDINATOR if place is None else place.code
            self._joint.append((request, _refused(request, code), []))
            return
        _SINGLE[request.api_key](self, place.shard, request)

    def _place(self, group: str) -> Place | None:
        if not self._places:
            return None
        return self._places[partition_of(group, len(self._places))]

    def _list(self, request: Request) -> None:
        missing = next((place for place in self._places if place.shard is None), None)
        if missing is not None:
            answer = ListGroupsResponse(error_code=codes.COORDINATOR_LOAD_IN_PROGRESS)
            self._joint.append((request, answer, []))
            return
        shards = [place.shard for place in self._places if place.shard is not None]
        answer = group_admin.listed(shards, request.message)
        self._joint.append((request, answer, [shard.index for shard in shards]))

    def _each(
        self, request: Request, names: Iterable[str], one: Callable[[Place | None, str], Any]
    ) -> tuple[list[Any], list[int]]:
        results, indexes = [], set()
        for name in names:
            place = self._place(name)
            results.append(one(place, name))
            if place is not None and place.shard is not None:
                indexes.add(place.index)
        return results, sorted(indexes)

    def _describe(self, request: Request) -> None:
        asked, version = request.message, request.version

        def one(place: Place | None, name: str) -> Any:
            if place is None or place.shard is None:
                return group_admin.refused(name, place.code if place else codes.NOT_COORDINATOR)
            found = place.shard.groups.get(name)
            operations = asked.include_authorized_operations
            return group_admin.described(found, name, version, operations)

        groups, indexes = self._each(request, asked.groups, one)
        self._joint.append((request, DescribeGroupsResponse(groups=groups), indexes))

    def _delete(self, request: Request) -> None:
        def one(place: Place | None, name: str) -> Any:
            if place is None or place.shard is None:
                code = place.code if place else codes.NOT_COORDINATOR
                return DeleteGroupsResponse.DeletableGroupResult(name, code)
            return group_admin.delete(place.shard, name)

        names = dict.fromkeys(request.message.groups_names)
        results, indexes = self._each(request, names, one)
        self._joint.append((request, DeleteGroupsResponse(results=results), indexes))

    def _fetch(self, request: Request) -> None:
        message, version = request.message, request.version
        image = self._world.image()

        def one(place: Place | None, name: str, topics: Any) -> Any:
            if place is None or place.shard is None:
                code = place.code if place else codes.NOT_COORDINATOR
                return OffsetFetchResponse.OffsetFetchResponseGroup(name, error_code=code)
            return committed.fetch(place.shard, name, topics, image, version >= _TOPIC_IDS)

        if version < _GROUPS:
            name, topics = message.group_id, message.topics
            found, indexes = self._each(request, [name], lambda at, name: one(at, name, topics))
            answer = committed.single_group(found[0], version, topics)
        else:
            asked = iter(message.groups)
            found, indexes = self._each(
                request,
                [group.group_id for group in message.groups],
                lambda at, name: one(at, name, next(asked).topics),
            )
            answer = OffsetFetchResponse(groups=found)
        self._joint.append((request, answer, indexes))


_Single = Callable[[Coordinator, Shard, Any], None]

#: APIs of one group each, by key.
_SINGLE: dict[int, _Single] = {
    8: lambda self, shard, request: committed.commit(shard, request, self._world.image()),
    11: lambda _, shard, request: membership.join(shard, request),
    12: lambda _, shard, request: membership.heartbeat(shard, request),
    13: lambda _, shard, request: membership.leave(shard, request),
    14: lambda _, shard, request: membership.sync(shard, request),
    47: lambda self, shard, request: committed.delete(shard, request, self._world.image()),
}
#: APIs that may concern several shards.
_JOINT: dict[int, Callable[[Coordinator, Any], None]] = {
    9: Coordinator._fetch,
    15: Coordinator._describe,
    16: Coordinator._list,
    42: Coordinator._delete,
}
#: API keys that are answered here.
APIS = frozenset({*_SINGLE, *_JOINT})


def _refused(request: Request, code: int) -> Any:
    """Return the answer of an API of one group that says only this."""
    match request.api_key:
        case 8:
            return committed.commit_refused(request, code)
        case 11:
            member_id = request.message.member_id if request.message else ""
            return rebalance.join_refused(request, member_id, code)
        case 12:
            # Until its group is there, a member is told that all is well, as by Kafka: there are
            # clients that end at any other answer.
            loading = code == codes.COORDINATOR_LOAD_IN_PROGRESS
            return HeartbeatResponse(error_code=codes.NONE if loading else code)
        case 13:
            return LeaveGroupResponse(error_code=code)
        case 14:
            return SyncGroupResponse(error_code=code)
        case _:
            return OffsetDeleteResponse(error_code=code)
