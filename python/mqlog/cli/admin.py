"""What `mqlog topic` asks of a broker: one function a question, rows or errors as the answer.

Nothing here prints. Every function takes a `Cluster`, works against any Kafka broker, and raises
the KafkaError of the code that came back, its text saying which topic, why, and what to try.
"""

from __future__ import annotations

import difflib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from mqlog.cli.output import Row
from mqlog.connection import Api, Cluster
from mqlog.errors import KafkaError, MqlogError, UsageError
from mqlog.protocol import ZERO_UUID
from mqlog.protocol.create_partitions import CreatePartitionsRequest, CreatePartitionsResponse
from mqlog.protocol.create_topics import CreateTopicsRequest, CreateTopicsResponse
from mqlog.protocol.delete_records import DeleteRecordsRequest, DeleteRecordsResponse
from mqlog.protocol.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse
from mqlog.protocol.describe_configs import DescribeConfigsRequest, DescribeConfigsResponse
from mqlog.protocol.describe_log_dirs import DescribeLogDirsRequest, DescribeLogDirsResponse
from mqlog.protocol.incremental_alter_configs import (
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)
from mqlog.protocol.list_offsets import ListOffsetsRequest, ListOffsetsResponse
from mqlog.protocol.metadata import MetadataResponse

TOPIC = 2  # the resource type of a topic
SET, DELETE = 0, 1  # operations on a setting
EARLIEST, LATEST = -2, -1
OUT_OF_RANGE = 1
UNKNOWN_TOPIC = 3
ALREADY_EXISTS = 36
LEADER_NOT_AVAILABLE = 5
INVALID_CONFIG = 40
CHANGE_TIMEOUT_MS = 30_000
HINTS = {
    OUT_OF_RANGE: "; `mqlog topic describe` shows what each partition holds",
    UNKNOWN_TOPIC: "; `mqlog topic list` shows those that exist",
    ALREADY_EXISTS: "; --if-not-exists accepts that, `mqlog topic alter` changes it",
}
DEFAULT = "default"
SOURCES = {
    1: "topic",
    2: "broker, dynamic",
    3: "cluster, dynamic",
    4: "broker, static",
    5: DEFAULT,
    6: "broker, logger",
    7: "client metrics",
    8: "group",
}

TopicMetadata = MetadataResponse.MetadataResponseTopic


class LogDir(NamedTuple):
    """Where a broker keeps one partition, and how much."""

    path: str
    size_bytes: int


def check(
    code: int,
    message: str | None,
    subject: str,
    *,
    unknown: Callable[[], str] = str,
    settings: Iterable[str] = (),
) -> None:
    """Raise the error of `code` unless it is 0.

    `unknown` is asked for a hint if there is no such topic; `settings` are those that were sent.
    """
    if code == 0:
        return
    error = KafkaError.of(code)
    hint = HINTS.get(code, "")
    if code == UNKNOWN_TOPIC:
        hint = unknown() or hint
    elif code == INVALID_CONFIG:
        hint = setting_hint(settings)
    raise KafkaError.of(code, f"{subject}: {message or error} ({error.name}){hint}")


def similar(cluster: Cluster, name: str) -> Callable[[], str]:
    """What asks the cluster for a topic whose name is close to `name`, as a hint."""

    def ask() -> str:
        names = [topic.name or "" for topic in cluster.metadata(None).topics]
        near = difflib.get_close_matches(name, names, 1)
        return f"; did you mean {near[0]!r}?" if near else ""

    return ask


def setting_hint(names: Iterable[str]) -> str:
    """Where to look after a setting that does not exist; empty if all of them do."""
    from mqlog.broker.topic_configs import TOPIC_CONFIGS  # only where there was an error

    for name in names:
        if name not in TOPIC_CONFIGS:
            near = difflib.get_close_matches(name, TOPIC_CONFIGS, 1)
            if near:
                return f"; did you mean {near[0]}?"
            return "; `mqlog topic describe --all TOPIC` shows those that exist"
    return ""


def list_topics(cluster: Cluster, *, internal: bool) -> list[Row]:
    """One row a topic, by name."""
    topics = cluster.metadata(None).topics
    return [
        {
            "name": topic.name,
            "partitions": len(topic.partitions),
            "replicas": max((len(p.replica_nodes) for p in topic.partitions), default=0),
            "topic_id": hex_id(topic.topic_id),
        }
        for topic in sorted(topics, key=lambda topic: topic.name or "")
        if internal or not topic.is_internal
    ]


def hex_id(topic_id: bytes) -> str | None:
    """A topic's id as the 32 digits that name its directory; None from a broker without ids."""
    return None if topic_id == ZERO_UUID else topic_id.hex()


def find_topic(cluster: Cluster, name: str) -> tuple[MetadataResponse, TopicMetadata]:
    """The metadata with one topic in it."""
    metadata = cluster.metadata([name])
    for topic in metadata.topics:
        if topic.name == name:
            check(topic.error_code, None, f"topic {name!r}", unknown=similar(cluster, name))
            return metadata, topic
    raise MqlogError(f"{cluster.any.address} said nothing about topic {name!r}")


def create_topic(
    cluster: Cluster, name: str, partitions: int, replicas: int, configs: Mapping[str, str]
) -> Row:
    """Create one topic; -1 leaves a count to the broker."""
    request = CreateTopicsRequest(timeout_ms=CHANGE_TIMEOUT_MS)
    settings = [
        CreateTopicsRequest.CreatableTopicConfig(name=key, value=value)
        for key, value in configs.items()
    ]
    request.topics = [
        CreateTopicsRequest.CreatableTopic(
            name=name, num_partitions=partitions, replication_factor=replicas, configs=settings
        )
    ]
    answer = cluster.any.call(Api.CREATE_TOPICS, request, CreateTopicsResponse)
    for made in answer.topics:
        subject = f"cannot create topic {name!r}"
        check(made.error_code, made.error_message, subject, settings=configs)
        if made.num_partitions > 0:  # told from version 5 on
            partitions = made.num_partitions
        return {"name": name, "partitions": partitions, "topic_id": hex_id(made.topic_id)}
    raise MqlogError(f"{cluster.any.address} said nothing about topic {name!r}")


def delete_topics(cluster: Cluster, names: Iterable[str]) -> tuple[list[str], KafkaError | None]:
    """Delete topics; the names of those that are gone, and the first refusal."""
    wanted = list(names)
    request = DeleteTopicsRequest(
        topics=[DeleteTopicsRequest.DeleteTopicState(name=name) for name in wanted],
        topic_names=wanted,
        timeout_ms=CHANGE_TIMEOUT_MS,
    )
    # Up to version 5 topics are plain names, from 6 on structs: each version takes its own field.
    version = cluster.any.version(Api.DELETE_TOPICS)
    if version is not None and version >= 6:
        request.topic_names = []
    else:
        request.topics = []
    answer = cluster.any.call(Api.DELETE_TOPICS, request, DeleteTopicsResponse)
    deleted: list[str] = []
    refused: KafkaError | None = None
    # In the order asked: Kafka answers in one of its own.
    order = {name: number for number, name in enumerate(wanted)}
    for result in sorted(answer.responses, key=lambda one: order.get(one.name or "", 0)):
        name = result.name or ""
        subject, unknown = f"cannot delete topic {name!r}", similar(cluster, name)
        try:
            check(result.error_code, result.error_message, subject, unknown=unknown)
            deleted.append(name)
        except KafkaError as error:
            refused = refused or error
    return deleted, refused


def set_partitions(cluster: Cluster, name: str, count: int) -> None:
    """Raise the number of partitions."""
    topic = CreatePartitionsRequest.CreatePartitionsTopic(name=name, count=count, assignments=None)
    request = CreatePartitionsRequest(topics=[topic], timeout_ms=CHANGE_TIMEOUT_MS)
    answer = cluster.any.call(Api.CREATE_PARTITIONS, request, CreatePartitionsResponse)
    for result in answer.results:
        subject = f"cannot give topic {name!r} {count} partitions"
        check(result.error_code, result.error_message, subject, unknown=similar(cluster, name))


def alter_configs(
    cluster: Cluster, name: str, changes: Mapping[str, str], removals: Iterable[str]
) -> None:
    """Set some of a topic's settings and put others back to their default."""
    removals = list(removals)
    refuse_unknown(cluster, name, removals)
    alterable = IncrementalAlterConfigsRequest.AlterableConfig
    configs = [alterable(key, SET, value) for key, value in changes.items()]
    configs += [alterable(key, DELETE, None) for key in removals]
    resource = IncrementalAlterConfigsRequest.AlterConfigsResource(TOPIC, name, configs)
    request = IncrementalAlterConfigsRequest(resources=[resource])
    answer = cluster.any.call(
        Api.INCREMENTAL_ALTER_CONFIGS, request, IncrementalAlterConfigsResponse
    )
    for result in answer.responses:
        subject, unknown = f"cannot alter topic {name!r}", similar(cluster, name)
        check(result.error_code, result.error_message, subject, unknown=unknown, settings=changes)


def refuse_unknown(cluster: Cluster, name: str, settings: list[str]) -> None:
    """Raise for a setting that the topic cannot have: brokers remove what is not there."""
    if not settings:
        return
    known = {row["setting"] for row in configs_of(cluster, name)}
    for setting in settings:
        if setting not in known:
            near = difflib.get_close_matches(setting, known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(f"cannot alter topic {name!r}: it has no setting {setting!r}{hint}")


def configs_of(cluster: Cluster, name: str) -> list[Row]:
    """All settings of a topic."""
    resource = DescribeConfigsRequest.DescribeConfigsResource(TOPIC, name, None)
    request = DescribeConfigsRequest(resources=[resource])
    answer = cluster.any.call(Api.DESCRIBE_CONFIGS, request, DescribeConfigsResponse)
    rows: list[Row] = []
    for result in answer.results:
        subject, unknown = f"topic {name!r}", similar(cluster, name)
        check(result.error_code, result.error_message, subject, unknown=unknown)
        rows += [
            {
                "setting": config.name,
                "value": config.value,
                "set_by": SOURCES.get(config.config_source, str(config.config_source)),
            }
            for config in sorted(result.configs, key=lambda config: config.name)
        ]
    return rows


def partitions_of(cluster: Cluster, name: str) -> tuple[TopicMetadata, list[Row]]:
    """A topic and one row for each of its partitions: leader, offsets, size, directory."""
    metadata, topic = find_topic(cluster, name)
    earliest = offsets(cluster, metadata, topic, EARLIEST)
    latest = offsets(cluster, metadata, topic, LATEST)
    dirs = log_dirs(cluster, metadata, topic)
    rows: list[Row] = []
    for partition in sorted(topic.partitions, key=lambda p: p.partition_index):
        index = partition.partition_index
        where = dirs.get(index)
        row: Row = {
            "partition": index,
            "leader": None if partition.leader_id < 0 else partition.leader_id,
            "epoch": partition.leader_epoch,
            "replicas": partition.replica_nodes,
            "in_sync": partition.isr_nodes,
            "start_offset": earliest.get(index),
            "end_offset": latest.get(index),
            "bytes": where.size_bytes if where else None,
            "directory": local_directory(where.path, topic, index) if where else None,
        }
        if partition.error_code:
            row["error"] = KafkaError.of(partition.error_code).name
        rows.append(row)
    return topic, rows


def offsets(
    cluster: Cluster, metadata: MetadataResponse, topic: TopicMetadata, timestamp: int
) -> dict[int, int]:
    """The offset of a time, or the first or next one, of each partition that has a leader."""
    found: dict[int, int] = {}
    for leader, indexes in by_leader(topic).items():
        partition = ListOffsetsRequest.ListOffsetsPartition
        wanted = ListOffsetsRequest.ListOffsetsTopic(
            name=topic.name or "",
            partitions=[partition(partition_index=i, timestamp=timestamp) for i in indexes],
        )
        request = ListOffsetsRequest(replica_id=-1, topics=[wanted], timeout_ms=CHANGE_TIMEOUT_MS)
        connection = cluster.node(leader, metadata)
        answer = connection.call(Api.LIST_OFFSETS, request, ListOffsetsResponse)
        for result in (p for t in answer.topics for p in t.partitions):
            if not result.error_code:
                found[result.partition_index] = result.offset
    return found


def by_leader(topic: TopicMetadata) -> dict[int, list[int]]:
    """Partition indexes by the broker that leads them; those without a leader are left out."""
    leaders: dict[int, list[int]] = defaultdict(list)
    for partition in topic.partitions:
        if partition.leader_id >= 0:
            leaders[partition.leader_id].append(partition.partition_index)
    return leaders


def log_dirs(
    cluster: Cluster, metadata: MetadataResponse, topic: TopicMetadata
) -> dict[int, LogDir]:
    """Where each leader keeps its partitions of a topic."""
    found: dict[int, LogDir] = {}
    for leader, indexes in by_leader(topic).items():
        connection = cluster.node(leader, metadata)
        if connection.version(Api.DESCRIBE_LOG_DIRS) is None:
            continue
        wanted = DescribeLogDirsRequest.DescribableLogDirTopic(topic.name or "", indexes)
        request = DescribeLogDirsRequest(topics=[wanted])
        answer = connection.call(Api.DESCRIBE_LOG_DIRS, request, DescribeLogDirsResponse)
        for directory in answer.results:
            for partition in (p for t in directory.topics for p in t.partitions):
                where = LogDir(directory.log_dir, partition.partition_size)
                found[partition.partition_index] = where
    return found


def local_directory(log_dir: str, topic: TopicMetadata, index: int) -> str | None:
    """The partition's directory if it is on this machine: mqlog's layout or Apache Kafka's."""
    ours = os.path.join(log_dir, "topics", hex_id(topic.topic_id) or "", str(index))
    kafkas = os.path.join(log_dir, f"{topic.name}-{index}")
    return next((path for path in (ours, kafkas) if os.path.isdir(path)), None)


def trim(cluster: Cluster, name: str, partitions: Iterable[int], before: int) -> list[Row]:
    """Delete the records below an offset (-1: all there are now); the new start offsets."""
    metadata, topic = find_topic(cluster, name)
    wanted = set(partitions) or {p.partition_index for p in topic.partitions}
    unknown = wanted - {p.partition_index for p in topic.partitions}
    if unknown:
        raise MqlogError(
            f"topic {name!r} has no partition {min(unknown)}; it has {len(topic.partitions)}"
        )
    rows: list[Row] = []
    for leader, indexes in by_leader(topic).items():
        chosen = [index for index in indexes if index in wanted]
        if not chosen:
            continue
        partition = DeleteRecordsRequest.DeleteRecordsPartition
        asked = DeleteRecordsRequest.DeleteRecordsTopic(
            name, [partition(i, before) for i in chosen]
        )
        request = DeleteRecordsRequest(topics=[asked], timeout_ms=CHANGE_TIMEOUT_MS)
        connection = cluster.node(leader, metadata)
        answer = connection.call(Api.DELETE_RECORDS, request, DeleteRecordsResponse)
        for result in (p for t in answer.topics for p in t.partitions):
            subject = (
                f"cannot trim partition {result.partition_index} of topic {name!r} to {before}"
            )
            check(result.error_code, None, subject)
            rows.append({"partition": result.partition_index, "start_offset": result.low_watermark})
    missing = wanted - {row["partition"] for row in rows}
    if missing:
        check(LEADER_NOT_AVAILABLE, None, f"cannot trim partition {min(missing)} of {name!r}")
    return sorted(rows, key=lambda row: row["partition"])
