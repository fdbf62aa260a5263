"""Choosing partitions yourself: what `partitioner` may be.

Without one, a record with a key goes where the hash of its key (murmur2, as in Java and
kafka-python) says, and a record without to one partition until its batch is full, then to another.
That is native; a partitioner of your own is called for every record that names no partition.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

PartitionerFunction = Callable[[bytes | None, list[int], list[int]], int]


class Cluster(Protocol):
    """What a partitioner may ask about the cluster."""

    def topics(self) -> set[str]:
        """The topics that are known."""

    def partitions_for_topic(self, topic: str) -> set[int]:
        """All partitions of a topic."""

    def available_partitions_for_topic(self, topic: str) -> set[int]:
        """Those that have a leader."""


class Partitioner(ABC):
    """Chooses a partition for each record that names none."""

    @abstractmethod
    def partition(
        self,
        topic: str,
        key: Any,
        serialized_key: bytes | None,
        value: Any,
        serialized_value: bytes | None,
        cluster: Cluster,
    ) -> int:
        """The partition's number."""


class DefaultPartitioner(Partitioner):
    """The native one. Its `partition` is never called: it only names the default."""

    def partition(
        self,
        topic: str,
        key: Any,
        serialized_key: bytes | None,
        value: Any,
        serialized_value: bytes | None,
        cluster: Cluster,
    ) -> int:
        """See DefaultPartitioner."""
        raise NotImplementedError("the default partitioner is native: set partitioner=None")


class StickyPartitioner(DefaultPartitioner):
    """The same: records without a key stick to one partition until its batch is full."""
