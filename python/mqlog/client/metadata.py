"""What a client knows of its cluster: the snapshot of the native client, as Python sees it."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from mqlog.client.structs import BrokerMetadata, PartitionInfo


class TopicMetadata(NamedTuple):
    """A topic. It is here also if it does not exist: then `error_code` says so."""

    name: str
    topic_id: bytes
    internal: bool
    error_code: int
    #: By number, without holes.
    partitions: tuple[PartitionInfo, ...]


class Snapshot(Protocol):
    """A cluster at one moment."""

    @property
    def revision(self) -> int:
        """Counts the changes: a larger one is newer."""

    @property
    def cluster_id(self) -> str | None:
        """The cluster's id."""

    @property
    def controller(self) -> int:
        """The controller's node, or -1."""

    def brokers(self) -> dict[int, BrokerMetadata]:
        """The brokers that are up, by node."""

    def topics(self) -> list[str]:
        """The names of the topics that are known to exist, in order."""

    def topic(self, name: str) -> TopicMetadata | None:
        """A topic, if it was ever asked about."""


def counts(snapshot: Snapshot, topics: frozenset[str]) -> dict[str, int]:
    """How many partitions these topics have; those that do not exist are left out."""
    found = {name: snapshot.topic(name) for name in sorted(topics)}
    return {
        name: len(topic.partitions)
        for name, topic in found.items()
        if topic is not None and not topic.error_code
    }
