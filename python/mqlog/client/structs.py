"""Places, offsets and what a cluster says about itself, as tuples with kafka-python's names."""

from __future__ import annotations

from typing import Any, NamedTuple


class TopicPartition(NamedTuple):
    """One partition of a topic. Sorts by name, then number."""

    topic: str
    partition: int


class TopicPartitionReplica(NamedTuple):
    """One replica of a partition: `broker_id` is the node that holds it."""

    topic: str
    partition: int
    broker_id: int


class OffsetAndMetadata(NamedTuple):
    """What is committed: the next record's offset, a note, the leader epoch (-1: none)."""

    offset: int
    metadata: str | None = ""
    leader_epoch: int | None = -1


class OffsetAndTimestamp(NamedTuple):
    """The record that a time leads to; `timestamp` in milliseconds since 1970 (-1: unknown)."""

    offset: int
    timestamp: int
    leader_epoch: int = -1


class BrokerMetadata(NamedTuple):
    """A broker as it advertises itself."""

    nodeId: int | str  # noqa: N815
    host: str
    port: int
    rack: str | None = None


class PartitionInfo(NamedTuple):
    """A partition's leader (-1: none), replicas and in-sync replicas, by node id."""

    topic: str
    partition: int
    leader: int
    leader_epoch: int
    replicas: tuple[int, ...]
    isr: tuple[int, ...]
    offline_replicas: tuple[int, ...] = ()


class MemberInformation(NamedTuple):
    """A group's member, as `describe_consumer_groups` tells of it."""

    member_id: str
    client_id: str
    client_host: str
    member_metadata: Any
    member_assignment: Any


class GroupInformation(NamedTuple):
    """A group, as `describe_consumer_groups` tells of it."""

    error_code: int
    group: str
    state: str
    protocol_type: str
    protocol: str
    members: list[MemberInformation]
    authorized_operations: list[str] | None


class MemberState:
    """Where a consumer is in its group."""

    UNJOINED = "<unjoined>"
    REBALANCING = "<rebalancing>"
    STABLE = "<stable>"


class ConsumerGroupMetadata(NamedTuple):
    """A consumer's membership: group, generation (-1: none), ids, and its MemberState."""

    group_id: str | None = None
    generation_id: int = -1
    member_id: str = ""
    group_instance_id: str | None = None
    state: str = MemberState.UNJOINED
