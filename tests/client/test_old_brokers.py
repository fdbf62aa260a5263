"""Brokers of every age: their ApiVersions lists, as kafka-python knows them, replayed."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from mqlog.errors import KafkaError, UnsupportedVersionError

from . import scripted_faults as faults
from .clients import consumer, producer, reader, take, values
from .scripted import Api, Cluster

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from kafka.protocol.broker_version_data import BROKER_API_VERSIONS

VERSIONS: dict[tuple[int, ...], dict[int, tuple[int, int]]] = {
    version: {int(key): (int(low), int(high)) for key, (low, high) in table.items()}
    for version, table in BROKER_API_VERSIONS.items()
}
#: Before these a broker has no record batches of today's format, or cannot say what it speaks.
RECORD_BATCHES = (0, 11)
API_VERSIONS = (0, 10)
LIMITS = {"request_timeout_ms": 5_000, "delivery_timeout_ms": 10_000, "max_block_ms": 10_000}

able = pytest.mark.parametrize(
    "version", [one for one in VERSIONS if one >= RECORD_BATCHES], ids=str
)
#: They say what they speak, and it is not enough.
known_too_old = pytest.mark.parametrize(
    "version", [one for one in VERSIONS if API_VERSIONS <= one < RECORD_BATCHES], ids=str
)
silent_too_old = pytest.mark.parametrize(
    "version", [one for one in VERSIONS if one < API_VERSIONS], ids=str
)


def cluster_of(version: tuple[int, ...], **options: Any) -> Cluster:
    return Cluster(versions=dict(VERSIONS[version]), **options)


@able
def test_produce_and_consume(version: tuple[int, ...]) -> None:
    sent = [b"%d" % number for number in range(20)]
    with cluster_of(version) as cluster:
        cluster.create("t")
        with producer(cluster.bootstrap_servers, **LIMITS) as client:
            futures = [client.send("t", value) for value in sent]
            assert [future.get(10).offset for future in futures] == list(range(20))
        assert cluster.values("t") == sent
        with reader(cluster.bootstrap_servers, "t") as client:
            assert values(take(client, 20)) == sent
        spoken = {(api, spoke) for _, api, spoke, _ in cluster.log if api != Api.API_VERSIONS}
        beyond = [
            (api, spoke)
            for api, spoke in spoken
            if not VERSIONS[version][api][0] <= spoke <= VERSIONS[version][api][1]
        ]
        assert not beyond


@able
def test_a_group(version: tuple[int, ...]) -> None:
    with cluster_of(version) as cluster:
        cluster.create("t", partitions=2)
        cluster.fill("t", [b"a", b"b"])
        cluster.fill("t", [b"c"], partition=1)
        settings = {"group_id": "g", "enable_auto_commit": False, "heartbeat_interval_ms": 100}
        with consumer(cluster.bootstrap_servers, "t", **settings) as client:
            assert sorted(values(take(client, 3))) == [b"a", b"b", b"c"]
            client.commit()
        committed = cluster.groups.group("g").offsets
        assert {key: value[0] for key, value in committed.items()} == {("t", 0): 2, ("t", 1): 1}
        cluster.fill("t", [b"d"])
        with consumer(cluster.bootstrap_servers, "t", **settings) as client:
            assert values(take(client, 1)) == [b"d"], "the second member goes on where it was"
        assert not cluster.groups.group("g").members, "both have left"


@known_too_old
def test_a_producer_says_what_is_missing(version: tuple[int, ...]) -> None:
    high = VERSIONS[version][Api.PRODUCE][1]
    with cluster_of(version) as cluster:
        cluster.create("t")
        with (
            pytest.raises(UnsupportedVersionError, match=rf"0 to {high} of Produce"),
            producer(cluster.bootstrap_servers, enable_idempotence=False, **LIMITS) as client,
        ):
            client.send("t", b"v").get(10)


@known_too_old
def test_a_consumer_says_what_is_missing(version: tuple[int, ...]) -> None:
    with cluster_of(version) as cluster:
        cluster.create("t")
        with (
            pytest.raises(UnsupportedVersionError, match=r"0( to \d)? of (Fetch|ListOffsets)"),
            reader(cluster.bootstrap_servers, "t", default_api_timeout_ms=5_000) as client,
        ):
            take(client, 1, timeout_s=8)


@silent_too_old
def test_one_that_cannot_say_what_it_speaks(version: tuple[int, ...]) -> None:
    with cluster_of(version) as cluster:
        cluster.create("t")
        with (
            pytest.raises(KafkaError, match=r"closed it.*Kafka before 0\.10"),
            producer(cluster.bootstrap_servers, bootstrap_timeout_ms=1_000, **LIMITS) as client,
        ):
            client.send("t", b"v").get(10)


def test_without_batches_of_this_codec() -> None:
    """zstd came with Produce 7."""
    with cluster_of((2, 0)) as cluster:
        cluster.create("t")
        with (
            producer(cluster.bootstrap_servers, compression_type="zstd", **LIMITS) as client,
            pytest.raises(UnsupportedVersionError, match="0 to 6 of Produce"),
        ):
            client.send("t", b"v" * 100).get(10)
        assert cluster.values("t") == []


def test_a_newer_broker_than_this_client() -> None:
    newer = {key: (low, high + 3) for key, (low, high) in VERSIONS[4, 3].items()}
    with Cluster(versions=newer) as cluster:
        cluster.create("t")
        cluster.on(Api.API_VERSIONS, faults.error(0), times=5)
        with producer(cluster.bootstrap_servers, **LIMITS) as client:
            assert client.send("t", b"v").get(10).offset == 0
