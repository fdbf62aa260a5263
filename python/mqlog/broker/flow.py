"""How a decision asks for effects: it is a generator that yields what it needs.

    error = yield Propose([topic_record(id, name), ...])    # str | None, when durable and published
    results = yield Files([delete_records(id, 0, 7)])       # list[FileResult]
    yield PAUSE                                             # others first, then go on

What it returns is the response. `control` drives it; the tests drive it with a fake world.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, NamedTuple

#: A metadata record or a file operation, as `mqlog._native` takes it: its name, then its fields.
Record = tuple[Any, ...]
FileOp = tuple[Any, ...]

RESOURCE_TOPIC = 2
RESOURCE_BROKER = 4
#: Ours: quotas of a client, by `quotas.entity_name`. Not a resource of config requests.
RESOURCE_QUOTA = 127


class Pause:
    """Let other requests be handled before this one goes on."""


PAUSE = Pause()


@dataclass(slots=True)
class Propose:
    """Change the metadata: all records or none. Answered with `None`, or why it was refused."""

    records: list[Record]


@dataclass(slots=True)
class Files:
    """Work on partitions, outside the control thread. Answered with a `FileResult` each."""

    operations: list[FileOp]


class FileResult(NamedTuple):
    """How one file operation ended: `value` counts only if `code` is 0."""

    value: int
    code: int
    message: str | None


Decision = Generator[Pause | Propose | Files, Any, Any]


def topic_record(topic_id: bytes, name: str) -> Record:
    """Make a topic without partitions."""
    return ("topic", topic_id, name)


def partition_record(topic_id: bytes, index: int, replicas: list[int]) -> Record:
    """Add a partition led by the first of its replicas."""
    return ("partition", topic_id, index, replicas[0], 0, replicas, replicas)


def remove_topic_record(topic_id: bytes) -> Record:
    """Remove a topic with its partitions and configs."""
    return ("remove_topic", topic_id)


def config_record(resource_type: int, name: str, key: str, value: str | None) -> Record:
    """Set a dynamic config, or remove it (`None`)."""
    return ("config", resource_type, name, key, value)


def producer_ids_record(next_id: int) -> Record:
    """Mark all producer ids below `next_id` as given out."""
    return ("producer_ids", next_id)


def delete_records(topic_id: bytes, partition: int, offset: int) -> FileOp:
    """Move the log start to `offset` (-1: the high watermark), durably."""
    return ("delete_records", topic_id, partition, offset)


def advance_log_start(topic_id: bytes, partition: int, offset: int) -> FileOp:
    """Drop the whole segments below `offset`."""
    return ("advance_log_start", topic_id, partition, offset)
