"""What a cluster says of itself, through `mqlog.cluster`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mqlog import KafkaAdminClient, TopicPartition
from mqlog.cluster import ClusterMetadata
from mqlog.errors import KafkaConfigurationError, NoBrokersAvailable

from .conftest import eventually


def test_brokers_topics_and_leaders(access: dict[str, Any], make_topic: Callable[..., str]) -> None:
    topic = make_topic(partitions=2)
    cluster = ClusterMetadata(**access)
    (broker,) = cluster.brokers()
    assert cluster.broker_metadata(broker.nodeId) == broker
    assert cluster.broker_metadata(broker.nodeId + 1) is None
    assert cluster.controller in (broker, None)
    assert cluster.cluster_id
    assert topic in cluster.topics()
    assert cluster.partitions_for_topic(topic) == {0, 1}
    assert cluster.available_partitions_for_topic(topic) == {0, 1}
    assert cluster.leader_for_partition(TopicPartition(topic, 1)) == broker.nodeId
    assert cluster.leader_for_partition(TopicPartition(topic, 2)) is None
    assert TopicPartition(topic, 0) in cluster.partitions_for_broker(broker.nodeId)
    assert cluster.partitions_for_topic("nowhere") is None
    assert cluster.available_partitions_for_topic("nowhere") is None


def test_it_is_asked_again_when_that_is_wanted(
    access: dict[str, Any], make_topic: Callable[..., str]
) -> None:
    kept, fresh = ClusterMetadata(**access), ClusterMetadata(**access, metadata_max_age_ms=1)
    kept.topics()
    topic = make_topic()
    assert topic not in kept.topics()
    eventually(lambda: topic in fresh.topics())
    kept.request_update()
    assert topic in kept.topics()
    with KafkaAdminClient(**access) as admin:
        admin.delete_topics([topic])
    eventually(lambda: topic not in fresh.topics())


def test_bootstrap_servers_are_known_without_asking() -> None:
    cluster = ClusterMetadata(bootstrap_servers=["a.invalid:1", "b.invalid:2"])
    assert cluster.broker_metadata("bootstrap-1") == ("bootstrap-1", "b.invalid", 2, None)


def test_nobody_there() -> None:
    with pytest.raises(NoBrokersAvailable):
        ClusterMetadata(bootstrap_servers="127.0.0.1:1", bootstrap_timeout_ms=200).brokers()
    with pytest.raises(KafkaConfigurationError, match="bootstrap_server"):
        ClusterMetadata(bootstrap_server="a")
