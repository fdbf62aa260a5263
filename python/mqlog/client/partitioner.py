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


_MASK, _SEED, _FACTOR = 0xFFFFFFFF, 0x9747B28C, 0x5BD1E995


def murmur2(data: bytes) -> int:
    """The hash of a key, 32 bits without a sign: its low 31 bits modulo the partitions choose."""
    length = len(data)
    state = _SEED ^ length
    whole = length - length % 4
    for at in range(0, whole, 4):
        word = int.from_bytes(data[at : at + 4], "little") * _FACTOR & _MASK
        word = (word ^ word >> 24) * _FACTOR & _MASK
        state = state * _FACTOR & _MASK ^ word
    if whole < length:
        state = (state ^ int.from_bytes(data[whole:], "little")) * _FACTOR & _MASK
    state = (state ^ state >> 13) * _FACTOR & _MASK
    return state ^ state >> 15
