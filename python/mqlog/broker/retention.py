"""Which segments are too old or too many. The active segment always stays."""

from __future__ import annotations

from collections.abc import Sequence

from mqlog.broker.configs import topic_entry
from mqlog.broker.flow import PAUSE, RESOURCE_TOPIC, Decision, Files, advance_log_start
from mqlog.broker.topic_configs import TOPIC_CONFIGS
from mqlog.broker.world import Segment, World

#: Partitions looked at before others get their turn.
SLICE = 64


def new_log_start(
    segments: Sequence[Segment], now_ms: int, retention_ms: int, retention_bytes: int
) -> int | None:
    """Return the offset that the log should start at, or None to leave it; -1 means no limit.

    Segments go oldest first and only whole ones: by age if their newest record is older than
    `retention_ms`, by size while what would be left still has `retention_bytes`.
    """
    closed = [segment for segment in segments if not segment.active]
    start = None
    left = sum(segment.size for segment in segments)
    for number, segment in enumerate(closed):
        # Records without a timestamp: the file's age has to do, as in Kafka.
        newest = segment.max_timestamp if segment.max_timestamp >= 0 else segment.created_ms
        too_old = 0 <= retention_ms < now_ms - newest
        too_much = 0 <= retention_bytes <= left - segment.size
        if not (too_old or too_much):
            break
        left -= segment.size
        start = segments[number + 1].base_offset
    return start


def enforce(world: World) -> Decision:
    """Drop what retention does not keep, on all partitions."""
    image = world.image()
    operations = []
    seen = 0
    for name in image.topic_names():
        topic = image.topic(name)
        if topic is None:
            continue
        own = image.configs(RESOURCE_TOPIC, name)
        values = {
            key: topic_entry(world, image, TOPIC_CONFIGS[key], own).value or ""
            for key in ("cleanup.policy", "retention.ms", "retention.bytes")
        }
        if "delete" not in values["cleanup.policy"]:
            continue
        age, size = int(values["retention.ms"]), int(values["retention.bytes"])
        for index in range(len(topic.partitions)):
            seen += 1
            if seen % SLICE == 0:
                yield PAUSE
            segments = world.segments(topic.topic_id, index)
            start = new_log_start(segments, world.now_ms(), age, size)
            if start is not None:
                operations.append(advance_log_start(topic.topic_id, index, start))
    if operations:
        yield Files(operations)
    return len(operations)
