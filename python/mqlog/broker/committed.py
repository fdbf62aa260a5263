"""Committed offsets: OffsetCommit, OffsetFetch, OffsetDelete, and their end by age.

Values stay encoded, as the log has them, until somebody asks for one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from mqlog.broker import codes, membership
from mqlog.broker.codes import Refusal
from mqlog.broker.group import CONSUMER, Group, State
from mqlog.broker.group_log import Offset, decode_offset, encode_offset, topic_id_of
from mqlog.protocol.offset_commit import OffsetCommitResponse
from mqlog.protocol.offset_delete import OffsetDeleteResponse
from mqlog.protocol.offset_fetch import OffsetFetchResponse

if TYPE_CHECKING:
    from mqlog.broker.shard import Shard
    from mqlog.broker.world import Image, Shape

#: First versions of OffsetCommit with a code of its own for groups that are not there; of both
#: APIs with topic ids; of OffsetFetch with several groups.
_GROUP_NOT_FOUND, _TOPIC_IDS, _GROUPS = 9, 10, 8


class Offsets:
    """The offsets of one shard: group, then (topic, partition), to the encoded value."""

    def __init__(self) -> None:
        """Hold nothing."""
        self.of: dict[str, dict[tuple[str, int], bytes]] = {}

    def put(self, group: str, topic: str, partition: int, value: bytes) -> bytes | None:
        """Set a value; return the one before."""
        held = self.of.get(group)
        if held is None:
            held = self.of[group] = {}
        before = held.get((topic, partition))
        held[topic, partition] = value
        return before

    def drop(self, group: str, topic: str, partition: int) -> bytes | None:
        """Forget a value and return it."""
        held = self.of.get(group, {})
        before = held.pop((topic, partition), None)
        if not held:
            self.of.pop(group, None)
        return before


# -- OffsetCommit ----------------------------------------------------------------------------------


def commit(shard: Shard, request: Any, image: Image) -> None:
    """Answer OffsetCommit; the offsets are in the log before the client hears of it."""
    message, by_id = request.message, request.version >= _TOPIC_IDS
    topics = [_asked(image, topic, by_id) for topic in message.topics]
    group, refused = None, codes.NONE
    if _has_place(message.topics, topics):
        try:
            group = _check_commit(shard, request)
        except Refusal as refusal:
            refused = refusal.code
    answer = OffsetCommitResponse()
    for asked, topic in zip(message.topics, topics, strict=True):
        parts = []
        for part in asked.partitions:
            if topic is None:
                code = codes.UNKNOWN_TOPIC_ID if by_id else codes.UNKNOWN_TOPIC_OR_PARTITION
            elif not 0 <= part.partition_index < topic.partitions:
                code = codes.UNKNOWN_TOPIC_OR_PARTITION
            elif group is None:
                code = refused
            else:
                code = _commit_one(shard, group.name, topic, part, message.retention_time_ms)
            parts.append(
                OffsetCommitResponse.OffsetCommitResponsePartition(part.partition_index, code)
            )
        answer.topics.append(
            OffsetCommitResponse.OffsetCommitResponseTopic(asked.name, asked.topic_id, parts)
        )
    shard.answer(request, answer)


def commit_refused(request: Any, code: int) -> OffsetCommitResponse:
    """Say why nothing can be committed."""
    answer = OffsetCommitResponse()
    for topic in request.message.topics:
        parts = [
            OffsetCommitResponse.OffsetCommitResponsePartition(part.partition_index, code)
            for part in topic.partitions
        ]
        answer.topics.append(
            OffsetCommitResponse.OffsetCommitResponseTopic(topic.name, topic.topic_id, parts)
        )
    return answer


def _has_place(asked: Any, topics: list[Shape | None]) -> bool:
    """Say whether any partition is there; else nobody asks for the group, so none is made."""
    return any(
        topic is not None
        and any(0 <= part.partition_index < topic.partitions for part in one.partitions)
        for one, topic in zip(asked, topics, strict=True)
    )


def _asked(image: Image, topic: Any, by_id: bool) -> Shape | None:
    return image.shape_by_id(topic.topic_id) if by_id else image.shape(topic.name)


def _check_commit(shard: Shard, request: Any) -> Group:
    message = request.message
    generation = message.generation_id_or_member_epoch
    group = shard.groups.get(message.group_id)
    if group is None:
        if generation < 0:
            return shard.make_group(message.group_id)
        newer = request.version >= _GROUP_NOT_FOUND
        raise Refusal(codes.GROUP_ID_NOT_FOUND if newer else codes.ILLEGAL_GENERATION, None)
    if generation < 0 and group.state is State.EMPTY:
        return group
    if generation >= 0 or message.member_id or message.group_instance_id is not None:
        membership.check_member(group, message.member_id, message.group_instance_id)
        if generation != group.generation:
            raise Refusal(codes.ILLEGAL_GENERATION, None)
    elif group.state is not State.EMPTY:
        raise Refusal(codes.UNKNOWN_MEMBER_ID, None)
    if group.state is State.COMPLETING:
        raise Refusal(codes.REBALANCE_IN_PROGRESS, None)
    membership.keep_alive(shard, group, message.member_id)
    return group


def _commit_one(shard: Shard, group: str, topic: Shape, part: Any, retention_ms: int) -> int:
    metadata = part.committed_metadata or ""
    # Kafka counts Java characters, not bytes.
    if len(metadata.encode("utf-16-be", "surrogatepass")) // 2 > shard.settings.max_metadata:
        return codes.OFFSET_METADATA_TOO_LARGE
    now_ms = shard.wall_ms
    expire_ms = -1 if retention_ms < 0 else now_ms + retention_ms
    epoch = part.committed_leader_epoch
    value = Offset(part.committed_offset, epoch, metadata, now_ms, expire_ms, topic.topic_id)
    shard.put_offset(group, topic.name, part.partition_index, encode_offset(value))
    return codes.NONE


# -- OffsetFetch -----------------------------------------------------------------------------------


def fetch(shard: Shard, group_id: str, topics: Any, image: Image, by_id: bool) -> Any:
    """Return the `OffsetFetchResponseGroup` of one group; `topics` None: all it has.

    A group that is not there has committed nothing; that is no error.
    """
    held = shard.offsets.of.get(group_id, {})
    answer = OffsetFetchResponse.OffsetFetchResponseGroup(group_id)
    if topics is None:
        by_topic: dict[str, list[Any]] = defaultdict(list)
        for (name, index), value in held.items():
            by_topic[name].append(_found(index, value))
        for name, parts in by_topic.items():
            topic = image.shape(name) if by_id else None
            if by_id and topic is None:
                continue
            topic_id = topic.topic_id if topic else bytes(16)
            answer.topics.append(
                OffsetFetchResponse.OffsetFetchResponseTopics(name, topic_id, parts)
            )
        return answer
    for asked in topics:
        topic_id = asked.topic_id if by_id else bytes(16)
        topic = image.shape_by_id(topic_id) if by_id else None
        name = topic.name if topic else asked.name
        if by_id and topic is None:
            parts = [_refused(i, codes.UNKNOWN_TOPIC_ID) for i in asked.partition_indexes]
        else:
            parts = [_found(index, held.get((name, index))) for index in asked.partition_indexes]
        answer.topics.append(OffsetFetchResponse.OffsetFetchResponseTopics(name, topic_id, parts))
    return answer


def _found(index: int, value: bytes | None) -> Any:
    if value is None:
        return _refused(index, codes.NONE)
    offset = decode_offset(value)
    return OffsetFetchResponse.OffsetFetchResponsePartitions(
        index, offset.offset, offset.leader_epoch, offset.metadata, codes.NONE
    )


def _refused(index: int, code: int) -> Any:
    return OffsetFetchResponse.OffsetFetchResponsePartitions(index, -1, -1, "", code)


def single_group(answer: Any, version: int, asked: Any) -> OffsetFetchResponse:
    """Return the answer of one group as versions before 8 have it."""
    Response = OffsetFetchResponse  # noqa: N806 - a class
    if answer.error_code and version < 2:  # no room for it but in the partitions
        answer.topics = [
            Response.OffsetFetchResponseTopics(
                topic.name,
                bytes(16),
                [_refused(index, answer.error_code) for index in topic.partition_indexes],
            )
            for topic in asked or ()
        ]
    topics = [
        Response.OffsetFetchResponseTopic(
            topic.name,
            [
                Response.OffsetFetchResponsePartition(
                    part.partition_index,
                    part.committed_offset,
                    part.committed_leader_epoch,
                    part.metadata,
                    part.error_code,
                )
                for part in topic.partitions
            ],
        )
        for topic in answer.topics
    ]
    return Response(topics=topics, error_code=answer.error_code)


# -- OffsetDelete ----------------------------------------------------------------------------------


def delete(shard: Shard, request: Any, image: Image) -> None:
    """Answer OffsetDelete: not for topics that members read (KIP-496)."""
    message = request.message
    group = shard.groups.get(message.group_id)
    refused = codes.NONE
    if not message.group_id:
        refused = codes.INVALID_GROUP_ID
    elif group is None:
        refused = codes.GROUP_ID_NOT_FOUND
    elif group.state is not State.EMPTY and group.protocol_type != CONSUMER:
        refused = codes.NON_EMPTY_GROUP
    if refused or group is None:
        shard.answer(request, OffsetDeleteResponse(error_code=refused))
        return
    answer = OffsetDeleteResponse()
    for asked in message.topics:
        topic = image.shape(asked.name)
        parts = []
        for part in asked.partitions:
            index, code = part.partition_index, codes.NONE
            if topic is None or not 0 <= index < topic.partitions:
                code = codes.UNKNOWN_TOPIC_OR_PARTITION
            elif group.members and group.subscribes(asked.name):
                code = codes.GROUP_SUBSCRIBED_TO_TOPIC
            else:
                shard.drop_offset(group.name, asked.name, index)
            parts.append(OffsetDeleteResponse.OffsetDeleteResponsePartition(index, code))
        answer.topics.append(OffsetDeleteResponse.OffsetDeleteResponseTopic(asked.name, parts))
    shard.answer(request, answer)


# -- the end of offsets ----------------------------------------------------------------------------


def forget_topics(shard: Shard, names: Iterable[str]) -> None:
    """Drop the offsets of topics that were deleted."""
    gone = frozenset(names)
    doomed = [
        (group, topic, index)
        for group, held in shard.offsets.of.items()
        for topic, index in held
        if topic in gone
    ]
    for group, topic, index in doomed:
        shard.drop_offset(group, topic, index)


def forget_strangers(shard: Shard, image: Image) -> None:
    """Drop the offsets of topics that are gone, or are others of the same name now.

    A deletion is forgotten if the process dies before the offsets are dropped.
    """
    ids: dict[str, bytes | None] = {}
    doomed = []
    for group, held in shard.offsets.of.items():
        for (name, index), value in held.items():
            if name not in ids:
                topic = image.shape(name)
                ids[name] = topic.topic_id if topic else None
            known, written = ids[name], topic_id_of(value)
            if known is None or (written is not None and written != known):
                doomed.append((group, name, index))
    for group, name, index in doomed:
        shard.drop_offset(group, name, index)


def expire(shard: Shard, name: str) -> None:
    """Drop the offsets of one group that are too old, and the group if nothing is left of it."""
    group = shard.groups.get(name)
    for topic, index in list(_expired(shard, group, shard.offsets.of.get(name, {}))):
        shard.drop_offset(name, topic, index)
    empty = group is not None and group.state is State.EMPTY and not group.pending
    if empty and name not in shard.offsets.of:
        shard.remove_group(name)


def _expired(
    shard: Shard, group: Group | None, held: dict[tuple[str, int], bytes]
) -> Iterator[tuple[str, int]]:
    now_ms, keep_ms = shard.wall_ms, shard.settings.offsets_retention_ms
    if group is not None and group.protocol_type is None:
        group = None  # it has only ever committed
    readers = group is not None and group.state is not State.EMPTY
    if group is not None and readers:
        settled = group.protocol_type == CONSUMER and group.state is State.STABLE
        if not settled:
            return
        held = {at: value for at, value in held.items() if not group.subscribes(at[0])}
    for (topic, index), value in held.items():
        offset = decode_offset(value)
        base_ms = offset.commit_ms
        if group is not None and not readers:
            base_ms = max(base_ms, group.since_ms)
        due_ms = offset.expire_ms if offset.expire_ms >= 0 else base_ms + keep_ms
        if now_ms >= due_ms:
            yield topic, index
