"""DeleteRecords: move the start of a log, durably."""

from __future__ import annotations

from typing import Any

from mqlog.broker import codes
from mqlog.broker.config_types import split_list
from mqlog.broker.configs import topic_entry
from mqlog.broker.flow import RESOURCE_TOPIC, Decision, Files, delete_records
from mqlog.broker.names import INTERNAL
from mqlog.broker.topic_configs import TOPIC_CONFIGS
from mqlog.broker.world import Image, World

#: The offset that stands for the high watermark.
HIGH_WATERMARK = -1


def delete_records_request(world: World, request: Any) -> Decision:
    """Answer DeleteRecords."""
    from mqlog.protocol.delete_records import DeleteRecordsResponse as Response

    image = world.image()
    operations, waiting, topics = [], [], []
    for asked in request.topics:
        topic = image.topic(asked.name)
        refused = topic is not None and _only_compacted(world, image, asked.name)
        results = []
        for part in asked.partitions:
            result = Response.DeleteRecordsPartitionResult(part.partition_index, -1, 0)
            results.append(result)
            if topic is None or not 0 <= part.partition_index < len(topic.partitions):
                result.error_code = codes.UNKNOWN_TOPIC_OR_PARTITION
            elif asked.name in INTERNAL:
                result.error_code = codes.INVALID_TOPIC_EXCEPTION
            elif refused:
                result.error_code = codes.POLICY_VIOLATION
            elif part.offset < HIGH_WATERMARK:
                result.error_code = codes.OFFSET_OUT_OF_RANGE
            else:
                index = part.partition_index
                operations.append(delete_records(topic.topic_id, index, part.offset))
                waiting.append(result)
        topics.append(Response.DeleteRecordsTopicResult(asked.name, results))
    if operations:
        done = yield Files(operations)
        for result, outcome in zip(waiting, done, strict=True):
            result.error_code = outcome.code
            result.low_watermark = -1 if outcome.code else outcome.value
    return Response(topics=topics)


def _only_compacted(world: World, image: Image, name: str) -> bool:
    """Whether the topic keeps the newest record of each key: its start is not the client's."""
    own = image.configs(RESOURCE_TOPIC, name)
    policy = topic_entry(world, image, TOPIC_CONFIGS["cleanup.policy"], own).value or ""
    words = split_list(policy)
    return "compact" in words and "delete" not in words
