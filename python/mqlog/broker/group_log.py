"""Records of `__consumer_offsets`: keys, values, and the partition a group lives in.

The schemas are Kafka's (GroupMetadata and OffsetCommit keys and values); a key begins with its
version, a value too.
"""

from __future__ import annotations

from typing import NamedTuple

from mqlog import _native
from mqlog.protocol.group_records import (
    GroupMetadataKey,
    GroupMetadataValue,
    OffsetCommitKey,
    OffsetCommitValue,
)

TOPIC = "__consumer_offsets"
_OFFSET_KEY, _GROUP_KEY = b"\x00\x01", b"\x00\x02"
_GROUP_VALUE_VERSION = 3
#: The version with an expiry of its own, and the one with the topic's id.
_OFFSET_VALUE_EXPIRING, _OFFSET_VALUE = 1, 4
_ID_BYTES = 16
#: What a record takes in a batch besides key and value, about.
RECORD_OVERHEAD = 10


def partition_of(group: str, partitions: int) -> int:
    """Return the partition of a group: Java's hash of its name, as in Kafka."""
    value = 0
    units = group.encode("utf-16-be", "surrogatepass")
    for at in range(0, len(units), 2):
        value = (31 * value + (units[at] << 8 | units[at + 1])) & 0xFFFF_FFFF
    return (value & 0x7FFF_FFFF) % partitions


class Offset(NamedTuple):
    """A committed offset. Times are wall clock ms; `expire_ms` -1: the broker's retention."""

    offset: int
    leader_epoch: int
    metadata: str
    commit_ms: int
    expire_ms: int
    topic_id: bytes


def offset_key(group: str, topic: str, partition: int) -> bytes:
    """Encode the key of a committed offset."""
    key = OffsetCommitKey(group, topic, partition)
    return _OFFSET_KEY + _native.encode_named("OffsetCommitKey", 0, key)


def group_key(group: str) -> bytes:
    """Encode the key of a group's metadata."""
    return _GROUP_KEY + _native.encode_named("GroupMetadataKey", 0, GroupMetadataKey(group))


def encode_offset(offset: Offset) -> bytes:
    """Encode a committed offset."""
    value = OffsetCommitValue(
        offset.offset,
        offset.leader_epoch,
        offset.metadata,
        offset.commit_ms,
        offset.expire_ms,
        offset.topic_id,
    )
    version = _OFFSET_VALUE if offset.expire_ms < 0 else _OFFSET_VALUE_EXPIRING
    return version.to_bytes(2, "big") + _native.encode_named("OffsetCommitValue", version, value)


def decode_offset(value: bytes) -> Offset:
    """Decode a committed offset. ValueError if it is none."""
    version = int.from_bytes(value[:2], "big")
    one = _native.decode_named("OffsetCommitValue", version, value[2:])
    return Offset(
        one.offset,
        one.leader_epoch,
        one.metadata,
        one.commit_timestamp,
        one.expire_timestamp,
        one.topic_id,
    )


def topic_id_of(value: bytes) -> bytes | None:
    """Return the id in an encoded offset, without decoding it: it is what the value ends with."""
    return value[-_ID_BYTES:] if value[:2] == _OFFSET_VALUE.to_bytes(2, "big") else None


def encode_group(value: GroupMetadataValue) -> bytes:
    """Encode a group's metadata."""
    version = _GROUP_VALUE_VERSION
    return version.to_bytes(2, "big") + _native.encode_named("GroupMetadataValue", version, value)


def decode_group(value: bytes) -> GroupMetadataValue:
    """Decode a group's metadata. ValueError if it is none."""
    version = int.from_bytes(value[:2], "big")
    decoded: GroupMetadataValue = _native.decode_named("GroupMetadataValue", version, value[2:])
    return decoded
