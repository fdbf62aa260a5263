"""What a client knows of its cluster: the snapshot of the native client, as Python sees it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from mqlog.client.flow import Flow, Refresh
from mqlog.client.structs import BrokerMetadata, PartitionInfo


class TopicMetadata(NamedTuple):
    """A topic. It is here also if it does not exist: then `error_code` says so."""

    name: str
    topic_id: bytes
    internal: bool
    error_code: int
    #: By number, without holes.
    partitions: tuple[PartitionInfo, ...]


class Snapshot:
    """A cluster at one moment."""

    def __init__(self, known: Any) -> None:
        """`known` is a `_native.Metadata`."""
        self._known = known
        #: Counts the changes: a larger one is newer.
        self.revision: int = known.revision
        self._topics: dict[str, TopicMetadata | None] = {}

    @property
    def cluster_id(self) -> str | None:
        """The cluster's id, where brokers tell."""
        found: str | None = self._known.cluster_id
        return found

    @property
    def controller(self) -> int | None:
        """The controller's node, if there is one."""
        found: int | None = self._known.controller
        return found

    def brokers(self) -> dict[int, BrokerMetadata]:
        """The brokers that are up, by node."""
        return {broker[0]: BrokerMetadata(*broker) for broker in self._known.brokers()}

    def topics(self) -> list[str]:
        """The names of the topics that are known to exist, in order."""
        found: list[str] = self._known.topics()
        return found

    def topic(self, name: str) -> TopicMetadata | None:
        """A topic, if it was ever asked about."""
        if name not in self._topics:
            told = self._known.topic(name)
            parts = self._known.partitions(name) or ()
            self._topics[name] = None
            if told is not None:
                _, topic_id, internal, code = told
                found = TopicMetadata(name, topic_id, internal, code, _partitions(name, parts))
                self._topics[name] = found
        return self._topics[name]


def _partitions(topic: str, told: Iterable[Any]) -> tuple[PartitionInfo, ...]:
    """By number; one that is missing has no leader."""
    known = {
        index: PartitionInfo(topic, index, leader, epoch, tuple(replicas), tuple(isr), tuple(away))
        for index, leader, epoch, _, replicas, isr, away in told
    }
    size = max(known, default=-1) + 1
    return tuple(known.get(i) or PartitionInfo(topic, i, -1, -1, (), ()) for i in range(size))


def refreshed(topics: list[str] | None) -> Flow[Snapshot]:
    """The cluster as it is now, with these topics or, if None, with all of them."""
    snapshot: Snapshot = yield Refresh(topics)
    return snapshot


def counts(snapshot: Snapshot, topics: frozenset[str]) -> dict[str, int]:
    """How many partitions these topics have; those that do not exist are left out."""
    found = {name: snapshot.topic(name) for name in sorted(topics)}
    return {
        name: len(topic.partitions)
        for name, topic in found.items()
        if topic is not None and not topic.error_code
    }
