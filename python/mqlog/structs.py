"""Places, offsets and what a cluster says about itself; see `mqlog.client.structs`."""

from mqlog._futures import RecordMetadata
from mqlog.client.structs import (
    BrokerMetadata,
    ConsumerGroupMetadata,
    GroupInformation,
    MemberInformation,
    MemberState,
    OffsetAndMetadata,
    OffsetAndTimestamp,
    PartitionInfo,
    TopicPartition,
    TopicPartitionReplica,
)

__all__ = [
    "BrokerMetadata",
    "ConsumerGroupMetadata",
    "GroupInformation",
    "MemberInformation",
    "MemberState",
    "OffsetAndMetadata",
    "OffsetAndTimestamp",
    "PartitionInfo",
    "RecordMetadata",
    "TopicPartition",
    "TopicPartitionReplica",
]
