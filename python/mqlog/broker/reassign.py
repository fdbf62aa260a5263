"""ElectLeaders, AlterPartitionReassignments, ListPartitionReassignments, AlterReplicaLogDirs.

One broker with one directory leads and holds everything, so nothing ever moves: what asks for the
way it is succeeds, anything else is refused.
"""

from __future__ import annotations

from typing import Any

from mqlog.broker import codes
from mqlog.broker.cluster import shown_directory
from mqlog.broker.codes import Refusal
from mqlog.broker.flow import PAUSE, Decision
from mqlog.broker.topics import check_replicas
from mqlog.broker.world import Image, World

ELECTION_TYPES = (0, 1)
#: Partitions looked at before others get their turn.
_SLICE = 2048


def _has_partition(image: Image, topic: str, index: int, no_topic: str, no_partition: str) -> None:
    found = image.topic(topic)
    if found is None:
        raise Refusal(codes.UNKNOWN_TOPIC_OR_PARTITION, no_topic)
    if not 0 <= index < len(found.partitions):
        raise Refusal(codes.UNKNOWN_TOPIC_OR_PARTITION, no_partition)


def elect_leaders(world: World, request: Any, version: int) -> Decision:
    """Answer ElectLeaders: the only replica leads already."""
    from mqlog.protocol.elect_leaders import ElectLeadersResponse as Response

    image = world.image()
    asked = request.topic_partitions
    # Of nothing there is nothing to refuse.
    whole = None if asked == [] else _election_fault(request)
    # Version 0 has no room for it.
    response = Response(error_code=whole.code if whole and version >= 1 else codes.NONE)
    if asked is None:
        # Of all partitions, those that need no election are left out.
        names = image.topic_names() if whole is None else []
        response.replica_election_results = [Response.ReplicaElectionResult(n) for n in names]
        return response
    done = 0
    for topic in asked:
        result = Response.ReplicaElectionResult(topic.topic)
        response.replica_election_results.append(result)
        for index in topic.partitions:
            answer = whole or _no_election(image, topic.topic, index)
            part = Response.PartitionResult(index, answer.code, answer.message)
            result.partition_result.append(part)
            done += 1
            if done % _SLICE == 0:
                yield PAUSE
    return response


def _election_fault(request: Any) -> Refusal | None:
    if request.election_type not in ELECTION_TYPES:
        text = f"Unknown election type {request.election_type}"
        return Refusal(codes.INVALID_REQUEST, text)
    return Refusal(codes.REQUEST_TIMED_OUT, None) if request.timeout_ms <= 0 else None


def _no_election(image: Image, topic: str, index: int) -> Refusal:
    try:
        missing = f"No such partition as {topic}-{index}"
        _has_partition(image, topic, index, f"No such topic as {topic}", missing)
    except Refusal as refusal:
        return refusal
    text = "Leader election not needed for topic partition."
    return Refusal(codes.ELECTION_NOT_NEEDED, text)


def alter_partition_reassignments(world: World, request: Any) -> Decision:
    """Answer AlterPartitionReassignments: every partition stays on this broker."""
    from mqlog.protocol.alter_partition_reassignments import (
        AlterPartitionReassignmentsResponse as Response,
    )

    image = world.image()
    late = Refusal(codes.REQUEST_TIMED_OUT, None) if request.timeout_ms < 0 else None
    response = Response(
        allow_replication_factor_change=request.allow_replication_factor_change,
        error_code=late.code if late else codes.NONE,
        error_message=None if request.topics else "",
    )
    done = 0
    for topic in request.topics:
        result = Response.ReassignableTopicResponse(topic.name)
        response.responses.append(result)
        for asked in topic.partitions:
            part = Response.ReassignablePartitionResponse(asked.partition_index, error_message=None)
            result.partitions.append(part)
            try:
                if late:
                    raise late
                _check_reassignment(world, image, topic.name, asked)
            except Refusal as refusal:
                part.error_code, part.error_message = refusal.code, refusal.message
            done += 1
            if done % _SLICE == 0:
                yield PAUSE
    return response


def _check_reassignment(world: World, image: Image, topic: str, asked: Any) -> None:
    index = asked.partition_index
    missing = f"Unable to find partition {topic}:{index}."
    _has_partition(image, topic, index, f"Unable to find a topic named {topic}.", missing)
    if asked.replicas is None:
        raise Refusal(codes.NO_REASSIGNMENT_IN_PROGRESS, None)
    check_replicas(world, asked.replicas)


def list_partition_reassignments(_world: World, _request: Any) -> Decision:
    """Answer ListPartitionReassignments: none is ever under way."""
    from mqlog.protocol.list_partition_reassignments import (
        ListPartitionReassignmentsResponse as Response,
    )

    yield from ()
    return Response(error_message=None)


def alter_replica_log_dirs(world: World, request: Any) -> Decision:
    """Answer AlterReplicaLogDirs: into the one directory everything is already."""
    from mqlog.protocol.alter_replica_log_dirs import AlterReplicaLogDirsResponse as Response

    image = world.image()
    found: dict[str, dict[int, int]] = {}
    done = 0
    for directory in request.dirs:
        known = directory.path == shown_directory(world)
        for topic in directory.topics:
            parts = found.setdefault(topic.name, {})
            here = image.topic(topic.name)
            count = len(here.partitions) if here else 0
            for index in topic.partitions:
                code = codes.NONE if 0 <= index < count else codes.UNKNOWN_TOPIC_OR_PARTITION
                parts[index] = code if known else codes.LOG_DIR_NOT_FOUND
                done += 1
                if done % _SLICE == 0:
                    yield PAUSE
    return Response(
        results=[
            Response.AlterReplicaLogDirTopicResult(
                name,
                [Response.AlterReplicaLogDirPartitionResult(*pair) for pair in parts.items()],
            )
            for name, parts in found.items()
        ]
    )
