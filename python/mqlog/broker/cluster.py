"""DescribeCluster, DescribeTopicPartitions, DescribeLogDirs, DescribeProducers: only looking."""

from __future__ import annotations

from typing import Any

from mqlog.broker import codes
from mqlog.broker.flow import PAUSE, Decision
from mqlog.broker.names import INTERNAL, name_problem
from mqlog.broker.world import Topic, World

ENDPOINT_BROKER, ENDPOINT_CONTROLLER = 1, 2
#: `max.request.partition.size.limit`: partitions in one answer.
MAX_DESCRIBED = 2000
#: Everything that can be done to a cluster and to a topic, as bits: nobody is refused anything.
_CLUSTER_OPERATIONS = sum(1 << bit for bit in (5, 7, 8, 9, 10, 11, 12))
_TOPIC_OPERATIONS = 3576


def describe_cluster(world: World, request: Any, listener: str, local: tuple[str, int]) -> Decision:
    """Answer DescribeCluster: one broker, which is its own controller."""
    from mqlog.protocol.describe_cluster import DescribeClusterResponse as Response

    yield from ()
    if request.endpoint_type == ENDPOINT_CONTROLLER:
        return Response(
            error_code=codes.MISMATCHED_ENDPOINT_TYPE,
            error_message="The request was sent to an endpoint of type BROKER, but we wanted an "
            "endpoint of type CONTROLLER",
        )
    if request.endpoint_type != ENDPOINT_BROKER:
        text = f"Unsupported endpoint type {request.endpoint_type}"
        return Response(error_code=codes.UNSUPPORTED_ENDPOINT_TYPE, error_message=text)
    host, port = world.reachable_at(listener, local)
    rack = world.settings.get("broker.rack")
    response = Response(cluster_id=world.cluster_id, controller_id=world.node_id)
    response.brokers = [Response.DescribeClusterBroker(world.node_id, host, port, rack)]
    if request.include_cluster_authorized_operations:
        response.cluster_authorized_operations = _CLUSTER_OPERATIONS
    return response


def describe_topic_partitions(world: World, request: Any) -> Decision:
    """Answer DescribeTopicPartitions, by name, from the cursor on."""
    from mqlog.protocol.describe_topic_partitions import DescribeTopicPartitionsResponse as Response

    image = world.image()
    names = sorted({topic.name for topic in request.topics}) or image.topic_names()
    cursor = request.cursor
    if cursor is not None and cursor.partition_index < 0:
        refused = [
            Response.DescribeTopicPartitionsResponseTopic(codes.INVALID_REQUEST, name)
            for name in names
        ]
        return Response(topics=refused)
    left = max(1, min(request.response_partition_limit, MAX_DESCRIBED))
    response = Response()
    for name in names:
        if cursor is not None and name < cursor.topic_name:
            continue
        first = cursor.partition_index if cursor is not None and name == cursor.topic_name else 0
        topic = image.topic(name)
        described = _described(Response, name, topic)
        response.topics.append(described)
        count = len(topic.partitions) if topic else 0
        last = min(count, first + left)
        if topic is not None:
            described.partitions = [_partition(Response, topic, i) for i in range(first, last)]
            left -= len(described.partitions)
        if last < count:
            response.next_cursor = Response.Cursor(name, last)
            return response
        if left == 0:
            following = [other for other in names if other > name]
            if following:
                response.next_cursor = Response.Cursor(following[0], 0)
            return response
        if len(response.topics) % 64 == 0:
            yield PAUSE
    return response


def _described(response: Any, name: str, topic: Topic | None) -> Any:
    described = response.DescribeTopicPartitionsResponseTopic(
        name=name, topic_authorized_operations=_TOPIC_OPERATIONS
    )
    if topic is not None:
        described.topic_id = topic.topic_id
        described.is_internal = name in INTERNAL
    elif name_problem(name):
        described.error_code = codes.INVALID_TOPIC_EXCEPTION
    else:
        described.error_code = codes.UNKNOWN_TOPIC_OR_PARTITION
    return described


def _partition(response: Any, topic: Topic, index: int) -> Any:
    partition = topic.partitions[index]
    return response.DescribeTopicPartitionsResponsePartition(
        partition_index=index,
        leader_id=partition.leader,
        leader_epoch=partition.leader_epoch,
        replica_nodes=partition.replicas,
        isr_nodes=partition.isr,
        eligible_leader_replicas=[],
        last_known_elr=[],
    )


def shown_directory(world: World) -> str:
    """Return the data directory as clients are told it: a path is bytes and need not be text."""
    return world.data_dir.encode(errors="replace").decode()


def describe_log_dirs(world: World, request: Any) -> Decision:
    """Answer DescribeLogDirs: one directory."""
    from mqlog.protocol.describe_log_dirs import DescribeLogDirsResponse as Response

    image = world.image()
    asked: list[tuple[str, list[int] | None]]
    if request.topics is None:
        asked = [(name, None) for name in image.topic_names()]
    else:
        asked = [(topic.topic, topic.partitions) for topic in request.topics]
    topics = []
    for number, (name, indexes) in enumerate(asked, 1):
        if number % 64 == 0:
            yield PAUSE
        topic = image.topic(name)
        if topic is None:
            continue
        wanted = range(len(topic.partitions)) if indexes is None else indexes
        sizes = [(index, world.partition_size(topic.topic_id, index)) for index in wanted]
        found = [
            Response.DescribeLogDirsPartition(index, size)
            for index, size in sizes
            if size is not None
        ]
        if found:
            topics.append(Response.DescribeLogDirsTopic(name, found))
    total, usable = world.disk_space()
    one = Response.DescribeLogDirsResult(
        log_dir=shown_directory(world), topics=topics, total_bytes=total, usable_bytes=usable
    )
    return Response(results=[one])


def describe_producers(world: World, request: Any) -> Decision:
    """Answer DescribeProducers."""
    from mqlog.protocol.describe_producers import DescribeProducersResponse as Response

    yield from ()
    image = world.image()
    topics = []
    for asked in request.topics:
        topic, problem = image.topic(asked.name), name_problem(asked.name)
        parts = []
        for index in asked.partition_indexes:
            part = Response.PartitionResponse(index)
            parts.append(part)
            if problem:
                part.error_code, part.error_message = codes.INVALID_TOPIC_EXCEPTION, problem
                continue
            found = world.producers(topic.topic_id, index) if topic else None
            if found is None:
                part.error_code = codes.UNKNOWN_TOPIC_OR_PARTITION
                part.error_message = codes.NO_SUCH_TOPIC
                continue
            part.active_producers = [Response.ProducerState(*producer) for producer in found]
        topics.append(Response.TopicResponse(asked.name, parts))
    return Response(topics=topics)
