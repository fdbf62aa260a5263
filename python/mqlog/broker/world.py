"""What decisions may look at. `serve` gives them the running broker, the tests a fake."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from mqlog.broker.settings import Settings


class Partition(NamedTuple):
    """A partition as the metadata knows it."""

    leader: int
    leader_epoch: int
    replicas: list[int]
    isr: list[int]


class Topic(NamedTuple):
    """A topic as the metadata knows it; the index of a partition is its number."""

    topic_id: bytes
    name: str
    partitions: Sequence[Partition]


class Shape(NamedTuple):
    """What is needed of a topic to name its partitions: `partitions` is their number."""

    topic_id: bytes
    name: str
    partitions: int


class Image(Protocol):
    """The metadata at one moment; it does not change while it is held."""

    def topic(self, name: str) -> Topic | None:
        """Return the topic of that name."""

    def topic_by_id(self, topic_id: bytes) -> Topic | None:
        """Return the topic of that id."""

    def shape(self, name: str) -> Shape | None:
        """Return the shape of the topic of that name, at a cost that does not grow with it."""

    def shape_by_id(self, topic_id: bytes) -> Shape | None:
        """Return the shape of the topic of that id."""

    def topic_names(self) -> list[str]:
        """Return all names, sorted."""

    def configs(self, resource_type: int, name: str) -> dict[str, str]:
        """Return the dynamic configs of a resource."""

    def config_resources(self) -> list[tuple[int, str]]:
        """Return type and name of every resource with dynamic configs."""

    def next_producer_id(self) -> int:
        """Return the first producer id that no block has covered."""


class Segment(NamedTuple):
    """One segment of a log, oldest first. Sizes in bytes, times in ms; timestamp -1: none."""

    base_offset: int
    size: int
    max_timestamp: int
    created_ms: int
    active: bool


class Producer(NamedTuple):
    """What a partition remembers of an idempotent producer."""

    producer_id: int
    producer_epoch: int
    last_sequence: int
    last_timestamp: int
    coordinator_epoch: int
    current_txn_start_offset: int


class World(Protocol):
    """The broker around a decision."""

    node_id: int
    cluster_id: str
    data_dir: str
    settings: Settings

    def now_ms(self) -> int:
        """Return the wall clock in ms."""

    def image(self) -> Image:
        """Return the newest metadata."""

    def metadata_end(self) -> int:
        """Return the offset after the last record of the metadata log."""

    def new_topic_id(self) -> bytes:
        """Return 16 random bytes."""

    def partition_size(self, topic_id: bytes, index: int) -> int | None:
        """Return the bytes of a partition's log, or None if it is not here."""

    def segments(self, topic_id: bytes, index: int) -> list[Segment]:
        """Return a partition's segments; none if it is offline."""

    def producers(self, topic_id: bytes, index: int) -> list[Producer] | None:
        """Return a partition's producers, or None if it is not here."""

    def disk_space(self) -> tuple[int, int]:
        """Return total and usable bytes of the data directory's file system."""

    def reachable_at(self, listener: str, local: tuple[str, int]) -> tuple[str, int]:
        """Return host and port to tell a client that reached `local`."""
