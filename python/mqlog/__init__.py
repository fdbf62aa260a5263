"""The event log for Python: a Kafka-compatible broker and client in one pip install.

`mqlog serve` starts a broker; `mqlog.testing.Broker` starts one inside a test. `KafkaProducer`,
`KafkaConsumer` and `KafkaAdminClient` talk to it and to any Apache Kafka. What is named here is
imported when it is first used, so that the command starts quickly.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mqlog.client.admin import IsolationLevel, KafkaAdminClient, NewTopic, OffsetSpec
    from mqlog.client.consumer import ConsumerRecord, KafkaConsumer
    from mqlog.client.native import IoThread
    from mqlog.client.partitioner import DefaultPartitioner, Partitioner, StickyPartitioner
    from mqlog.client.producer import KafkaProducer
    from mqlog.client.serializers import (
        DefaultSerializer,
        Deserializer,
        JsonSerializer,
        Serializer,
    )
    from mqlog.client.structs import (
        ConsumerGroupMetadata,
        OffsetAndMetadata,
        TopicPartition,
        TopicPartitionReplica,
    )
    from mqlog.client.subscription import ConsumerRebalanceListener

__all__ = [
    "ConsumerGroupMetadata",
    "ConsumerRebalanceListener",
    "ConsumerRecord",
    "DefaultPartitioner",
    "DefaultSerializer",
    "Deserializer",
    "IoThread",
    "IsolationLevel",
    "JsonSerializer",
    "KafkaAdminClient",
    "KafkaConsumer",
    "KafkaProducer",
    "NewTopic",
    "OffsetAndMetadata",
    "OffsetSpec",
    "Partitioner",
    "Serializer",
    "StickyPartitioner",
    "TopicPartition",
    "TopicPartitionReplica",
]

#: Where each name comes from, below `mqlog.client`.
_HOMES = {
    "admin": ("IsolationLevel", "KafkaAdminClient", "NewTopic", "OffsetSpec"),
    "consumer": ("ConsumerRecord", "KafkaConsumer"),
    "native": ("IoThread",),
    "partitioner": ("DefaultPartitioner", "Partitioner", "StickyPartitioner"),
    "producer": ("KafkaProducer",),
    "serializers": ("DefaultSerializer", "Deserializer", "JsonSerializer", "Serializer"),
    "structs": (
        "ConsumerGroupMetadata",
        "OffsetAndMetadata",
        "TopicPartition",
        "TopicPartitionReplica",
    ),
    "subscription": ("ConsumerRebalanceListener",),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            found = getattr(import_module(f"mqlog.client.{home}"), name)
            globals()[name] = found
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
