"""Committing offsets and looking them up: in groups, by time, by leader epoch. All as flows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from mqlog.client.assignors import by_topic
from mqlog.client.flow import Backoff, Call, Flow, Purpose, Refresh, gather, retrying
from mqlog.client.metadata import Snapshot
from mqlog.client.structs import OffsetAndMetadata, OffsetAndTimestamp, TopicPartition
from mqlog.errors import (
    CommitFailedError,
    CoordinatorNotAvailableError,
    IllegalGenerationError,
    KafkaConnectionError,
    KafkaError,
    LeaderNotAvailableError,
    NotCoordinatorError,
    RebalanceInProgressError,
    UnknownMemberIdError,
    UnknownTopicOrPartitionError,
    UnsupportedForMessageFormatError,
)

# Messages are imported where they are made: their classes take a while, and most are never needed.
if TYPE_CHECKING:
    from mqlog.protocol.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
    from mqlog.protocol.list_offsets import ListOffsetsResponse
    from mqlog.protocol.offset_commit import OffsetCommitResponse
    from mqlog.protocol.offset_fetch import OffsetFetchRequest, OffsetFetchResponse
    from mqlog.protocol.offset_for_leader_epoch import (
        OffsetForLeaderEpochResponse,
    )

T = TypeVar("T")
Parts = Mapping[TopicPartition, T]

#: Timestamps that stand for places.
LATEST, EARLIEST, MAX_TIMESTAMP, EARLIEST_LOCAL, LATEST_TIERED = -1, -2, -3, -4, -5
#: The first versions in which they may be asked for.
_SINCE = {MAX_TIMESTAMP: 7, EARLIEST_LOCAL: 8, LATEST_TIERED: 9}
GROUP_KEY = 0
#: The newest versions that speak of topics by name; the first of FindCoordinator for many keys and
#: of OffsetFetch for many groups.
_COMMIT_BY_NAME, _FETCH_BY_NAME, _MANY_KEYS, _MANY_GROUPS = 9, 9, 4, 8


class Coordinators:
    """Which node coordinates a group; found once, forgotten when it says it does not."""

    def __init__(self) -> None:
        self._nodes: dict[tuple[str, int], int] = {}

    def known(self, group: str) -> int | None:
        """The node, if it was found."""
        return self._nodes.get((group, GROUP_KEY))

    def forget(self, group: str, error: KafkaError | None = None) -> None:
        """Look it up again, if the error is a reason to."""
        wrong = (NotCoordinatorError, CoordinatorNotAvailableError, KafkaConnectionError)
        if error is None or isinstance(error, wrong):
            self._nodes.pop((group, GROUP_KEY), None)

    def find(self, group: str, key_type: int = GROUP_KEY) -> Flow[int]:
        """The node. One attempt: an error that may pass is the caller's to repeat."""
        found = self._nodes.get((group, key_type))
        if found is not None:
            return found

        from mqlog.protocol.find_coordinator import FindCoordinatorRequest

        def request(version: int) -> FindCoordinatorRequest:
            if version >= _MANY_KEYS:
                return FindCoordinatorRequest(key_type=key_type, coordinator_keys=[group])
            return FindCoordinatorRequest(key=group, key_type=key_type)

        answer: FindCoordinatorResponse = yield Call(request, kind=FindCoordinatorRequest)
        told: Any = answer.coordinators[0] if answer.coordinators else answer
        if told.error_code:
            text = f"no coordinator for group {group!r}: {_said(told)}"
            raise KafkaError.of(told.error_code, text)
        node: int = told.node_id
        self._nodes[group, key_type] = node
        return node

    def calling(
        self,
        group: str,
        attempt: Callable[[int], Flow[T]],
        failed: Callable[[KafkaError], None] | None = None,
    ) -> Flow[T]:
        """An attempt at the group's coordinator, repeated with the next one while that may help.

        `failed` hears of each error that may pass; what it raises ends the flow.
        """

        def once() -> Flow[T]:
            node = yield from self.find(group)
            return (yield from attempt(node))

        def again(error: KafkaError) -> None:
            self.forget(group, error)
            if failed is not None:
                failed(error)

        return retrying(once, again)


def _said(told: Any) -> str:
    return told.error_message or str(KafkaError.of(told.error_code))


class Identity(NamedTuple):
    """Who commits: a member of a generation, or nobody (-1, "")."""

    group: str
    generation: int = -1
    member: str = ""
    instance: str | None = None


def commit(node: int, who: Identity, offsets: Parts[OffsetAndMetadata]) -> Flow[Any]:
    """Commits, once. Returns the response; raises the first error that a partition got."""
    answer = yield from _commit(node, who, offsets, "group")
    for place, code in _codes(answer).items():
        if code:
            raise _commit_error(code, place)
    return answer


def commit_codes(
    node: int, who: Identity, offsets: Parts[OffsetAndMetadata], *, purpose: Purpose
) -> Flow[dict[TopicPartition, int]]:
    """Commits, once; the code that each partition got."""
    answer = yield from _commit(node, who, offsets, purpose)
    return _codes(answer)


def _codes(answer: OffsetCommitResponse) -> dict[TopicPartition, int]:
    return {
        TopicPartition(topic.name, told.partition_index): told.error_code
        for topic in answer.topics
        for told in topic.partitions
    }


def _commit(
    node: int, who: Identity, offsets: Parts[OffsetAndMetadata], purpose: Purpose
) -> Flow[OffsetCommitResponse]:
    from mqlog.protocol.offset_commit import OffsetCommitRequest

    topics: dict[str, list[Any]] = defaultdict(list)
    for place, what in sorted(offsets.items()):
        part = OffsetCommitRequest.OffsetCommitRequestPartition(
            place.partition,
            what.offset,
            -1 if what.leader_epoch is None else what.leader_epoch,
            what.metadata or "",
        )
        topics[place.topic].append(part)
    request = OffsetCommitRequest(
        who.group,
        who.generation,
        who.member,
        who.instance,
        topics=[
            OffsetCommitRequest.OffsetCommitRequestTopic(name, partitions=parts)
            for name, parts in topics.items()
        ],
    )
    answer: OffsetCommitResponse = yield Call(request, node, purpose, newest=_COMMIT_BY_NAME)
    return answer


def _commit_error(code: int, place: TopicPartition) -> KafkaError:
    if code in (IllegalGenerationError.code, UnknownMemberIdError.code):
        error = CommitFailedError(
            f"{place.topic}-{place.partition}: the offset was not committed: the group has gone on "
            "without this consumer and gave the partition to another; poll() joins it again. If "
            "processing takes long, raise max_poll_interval_ms or lower max_poll_records",
            topic=place.topic,
            partition=place.partition,
        )
        error.__cause__ = KafkaError.of(code)
        return error
    hint = "call poll(), which finishes the rebalance, and commit again"
    return KafkaError.of(
        code,
        topic=place.topic,
        partition=place.partition,
        hint=hint if code == RebalanceInProgressError.code else None,
    )


def committed(
    node: int,
    group: str,
    places: Iterable[TopicPartition] | None,
    *,
    stable: bool = False,
    purpose: Purpose = "group",
) -> Flow[dict[TopicPartition, OffsetAndMetadata]]:
    """What a group has committed, once: of these partitions, or of all. Others are left out."""
    from mqlog.protocol.offset_fetch import OffsetFetchRequest

    topics = None if places is None else by_topic(places)

    def request(version: int) -> OffsetFetchRequest:
        stable_only = stable and version >= 7
        if version < _MANY_GROUPS:
            kind = OffsetFetchRequest.OffsetFetchRequestTopic
            asked = None if topics is None else [kind(*item) for item in topics.items()]
            return OffsetFetchRequest(group, asked, require_stable=stable_only)
        many = OffsetFetchRequest.OffsetFetchRequestTopics
        wanted = None
        if topics is not None:
            wanted = [many(name, partition_indexes=indexes) for name, indexes in topics.items()]
        one = OffsetFetchRequest.OffsetFetchRequestGroup(group, topics=wanted)
        return OffsetFetchRequest(groups=[one], require_stable=stable_only)

    answer: OffsetFetchResponse = yield Call(
        request, node, purpose, OffsetFetchRequest, newest=_FETCH_BY_NAME
    )
    told: Any = answer.groups[0] if answer.groups else answer
    return _committed(group, told)


def _committed(group: str, told: Any) -> dict[TopicPartition, OffsetAndMetadata]:
    if told.error_code:
        meaning = KafkaError.of(told.error_code)
        raise KafkaError.of(told.error_code, f"offsets of group {group!r}: {meaning}")
    found: dict[TopicPartition, OffsetAndMetadata] = {}
    for topic in told.topics:
        for part in topic.partitions:
            if part.error_code:
                raise KafkaError.of(
                    part.error_code, topic=topic.name, partition=part.partition_index
                )
            if part.committed_offset >= 0:
                found[TopicPartition(topic.name, part.partition_index)] = OffsetAndMetadata(
                    part.committed_offset, part.metadata or "", part.committed_leader_epoch
                )
    return found


# -- at the leaders ------------------------------------------------------------------------------


def at_leaders(
    places: Iterable[TopicPartition],
    ask: Callable[[int, dict[TopicPartition, int]], Flow[Mapping[TopicPartition, T | KafkaError]]],
    *,
    patient: bool = True,
) -> Flow[dict[TopicPartition, T]]:
    """Asks the leader of each partition, again with fresh metadata where that may help.

    `ask` gets a node and its partitions with their leader epochs, and returns what it was told of
    each: a value or an error. Unless `patient`, a partition that does not exist is not waited for.
    """
    waiting = set(places)
    found: dict[TopicPartition, T] = {}
    fresh: list[str] = sorted({place.topic for place in waiting})
    attempt = 0
    while waiting:
        snapshot: Snapshot = yield Refresh(fresh)
        leaders, failed = _leaders(snapshot, waiting)
        if not patient and isinstance(failed, UnknownTopicOrPartitionError):
            raise failed

        def at(node: int, parts: dict[TopicPartition, int]) -> Flow[Mapping[TopicPartition, Any]]:
            try:
                return (yield from ask(node, parts))
            except KafkaError as error:
                if not error.retriable:
                    raise
                return dict.fromkeys(parts, error)

        for answer in (yield from gather(at(*item) for item in leaders.items())):
            failed = _sorted(answer, found) or failed
        waiting -= found.keys()
        if waiting:
            attempt += 1
            assert failed is not None
            yield Backoff(attempt, failed)
    return found


def _sorted(
    answer: Mapping[TopicPartition, Any], found: dict[TopicPartition, Any]
) -> KafkaError | None:
    """Keeps the values, raises errors that will not pass, and returns one that may."""
    failed: KafkaError | None = None
    for place, told in answer.items():
        if not isinstance(told, KafkaError):
            found[place] = told
        elif told.retriable:
            failed = told
        else:
            raise told
    return failed


def _leaders(
    snapshot: Snapshot, places: Iterable[TopicPartition]
) -> tuple[dict[int, dict[TopicPartition, int]], KafkaError | None]:
    """Partitions by the node that leads them, with their epochs; and why some have none."""
    leaders: dict[int, dict[TopicPartition, int]] = defaultdict(dict)
    failed: KafkaError | None = None
    for place in places:
        topic = snapshot.topic(place.topic)
        about: dict[str, Any] = {"topic": place.topic, "partition": place.partition}
        if topic is not None and topic.error_code:
            error = KafkaError.of(topic.error_code, topic=place.topic)
            if not error.retriable:
                raise error
            failed = error
        elif topic is None or place.partition >= len(topic.partitions):
            have = len(topic.partitions) if topic else 0
            failed = KafkaError.of(
                UnknownTopicOrPartitionError.code, f"the topic has {have} partitions", **about
            )
        elif topic.partitions[place.partition].leader < 0:
            failed = KafkaError.of(LeaderNotAvailableError.code, **about)
        else:
            info = topic.partitions[place.partition]
            leaders[info.leader][place] = info.leader_epoch
    return leaders, failed


def list_offsets(
    wanted: Parts[int], *, committed_only: bool = False, patient: bool = True
) -> Flow[dict[TopicPartition, OffsetAndTimestamp | None]]:
    """The first offset at or after a time (milliseconds), or of a place such as LATEST.

    None where no record is that young. `committed_only` leaves open transactions out.
    """
    from mqlog.protocol.list_offsets import ListOffsetsRequest

    def ask(node: int, parts: dict[TopicPartition, int]) -> Flow[dict[TopicPartition, Any]]:
        topics: dict[str, list[Any]] = defaultdict(list)
        for place, epoch in parts.items():
            topics[place.topic].append(
                ListOffsetsRequest.ListOffsetsPartition(place.partition, epoch, wanted[place])
            )
        request = ListOffsetsRequest(
            replica_id=-1,
            isolation_level=int(committed_only),
            topics=[ListOffsetsRequest.ListOffsetsTopic(*item) for item in topics.items()],
        )
        oldest = max((_SINCE.get(wanted[place], 1) for place in parts), default=1)
        answer: ListOffsetsResponse = yield Call(request, node, oldest=oldest)
        return {
            TopicPartition(topic.name, told.partition_index): _offset(topic.name, told)
            for topic in answer.topics
            for told in topic.partitions
        }

    return at_leaders(wanted, ask, patient=patient)


def _offset(topic: str, told: Any) -> OffsetAndTimestamp | KafkaError | None:
    too_old = told.error_code == UnsupportedForMessageFormatError.code
    if too_old or (not told.error_code and told.offset < 0):
        return None
    if told.error_code:
        return KafkaError.of(told.error_code, topic=topic, partition=told.partition_index)
    return OffsetAndTimestamp(told.offset, told.timestamp, told.leader_epoch)


class EpochEnd(NamedTuple):
    """Where a leader epoch ends in a leader's log; -1, -1 if it knows nothing of it."""

    leader_epoch: int
    offset: int


def ends_of_epochs(epochs: Parts[int]) -> Flow[dict[TopicPartition, EpochEnd]]:
    """Where the leaders' logs end for the epoch given, or the one before it that they know."""
    from mqlog.protocol.offset_for_leader_epoch import OffsetForLeaderEpochRequest

    def ask(node: int, parts: dict[TopicPartition, int]) -> Flow[dict[TopicPartition, Any]]:
        topics: dict[str, list[Any]] = defaultdict(list)
        for place, current in parts.items():
            topics[place.topic].append(
                OffsetForLeaderEpochRequest.OffsetForLeaderPartition(
                    place.partition, current, epochs[place]
                )
            )
        request = OffsetForLeaderEpochRequest(
            replica_id=-1,
            topics=[
                OffsetForLeaderEpochRequest.OffsetForLeaderTopic(*item) for item in topics.items()
            ],
        )

        answer: OffsetForLeaderEpochResponse = yield Call(request, node)
        return {
            TopicPartition(topic.topic, told.partition): (
                KafkaError.of(told.error_code, topic=topic.topic, partition=told.partition)
                if told.error_code
                else EpochEnd(told.leader_epoch, told.end_offset)
            )
            for topic in answer.topics
            for told in topic.partitions
        }

    return at_leaders(epochs, ask)
