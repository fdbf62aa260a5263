"""A look at a cluster: its brokers, topics and leaders."""

from __future__ import annotations

import time
from typing import Any

from mqlog.client.admin import KafkaAdminClient
from mqlog.client.config import AdminConfig
from mqlog.client.structs import BrokerMetadata, TopicPartition
from mqlog.client.subscription import partition as as_partition


class ClusterMetadata:
    """What a cluster says of itself.

        cluster = ClusterMetadata(bootstrap_servers="localhost:9092")
        print(cluster.brokers(), cluster.topics())

    Takes the settings of a KafkaAdminClient. The cluster is asked at the first question, and again
    when the answer is older than `metadata_max_age_ms` or after `request_update`. No connection is
    kept, so there is nothing to close. Errors are those of a KafkaAdminClient.
    """

    def __init__(self, **settings: Any) -> None:
        self._settings = settings
        self._config = AdminConfig(None, settings)
        self._told: dict[str, Any] = {}
        self._old_at = 0.0

    def request_update(self) -> None:
        """Asks the cluster again at the next question."""
        self._told = {}

    def brokers(self) -> set[BrokerMetadata]:
        """The brokers that are up."""
        return {_broker(broker) for broker in self._ask()["brokers"]}

    def broker_metadata(self, broker_id: int | str) -> BrokerMetadata | None:
        """A broker by its id, or by "bootstrap-0", the first of `bootstrap_servers`; or None."""
        for number, (host, port) in enumerate(self._config["bootstrap_servers"]):
            if broker_id == (name := f"bootstrap-{number}"):
                return BrokerMetadata(name, host, port)
        return next((one for one in self.brokers() if one.nodeId == broker_id), None)

    @property
    def controller(self) -> BrokerMetadata | None:
        """The controller, if there is one."""
        return self.broker_metadata(self._ask()["controller_id"])

    @property
    def cluster_id(self) -> str | None:
        """The cluster's id, where brokers tell."""
        found: str | None = self._ask()["cluster_id"]
        return found

    def topics(self, exclude_internal_topics: bool = True) -> set[str]:
        """The names of the topics."""
        return {
            topic["name"]
            for topic in self._ask()["topics"]
            if not (exclude_internal_topics and topic["is_internal"])
        }

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        """All partitions of a topic; None if there is no such topic."""
        leaders = self._leaders(topic)
        return None if leaders is None else set(leaders)

    def available_partitions_for_topic(self, topic: str) -> set[int] | None:
        """Those that have a leader."""
        leaders = self._leaders(topic)
        return None if leaders is None else {index for index, node in leaders.items() if node >= 0}

    def leader_for_partition(self, partition: TopicPartition) -> int | None:
        """The node that leads a partition: -1 if none does, None if there is no such partition."""
        place = as_partition(partition)
        return (self._leaders(place.topic) or {}).get(place.partition)

    def partitions_for_broker(self, broker_id: int) -> set[TopicPartition]:
        """The partitions that a broker leads."""
        return {
            TopicPartition(topic["name"], part["partition_index"])
            for topic in self._ask()["topics"]
            for part in topic["partitions"]
            if part["leader_id"] == broker_id
        }

    def _leaders(self, name: str) -> dict[int, int] | None:
        for topic in self._ask()["topics"]:
            if topic["name"] == name:
                return {part["partition_index"]: part["leader_id"] for part in topic["partitions"]}
        return None

    def _ask(self) -> dict[str, Any]:
        if not self._told or time.monotonic() >= self._old_at:
            with KafkaAdminClient(**self._settings) as admin:
                self._told = admin._run(admin._metadata(None), "asking about the cluster")
            self._old_at = time.monotonic() + self._config["metadata_max_age_ms"] / 1000
        return self._told


def _broker(told: dict[str, Any]) -> BrokerMetadata:
    return BrokerMetadata(told["node_id"], told["host"], told["port"], told["rack"])
