"""Fetch sessions (KIP-227): what the broker knows is not said again; a lost one is made anew."""

from __future__ import annotations

from typing import Any

import pytest

from . import scripted_faults as faults
from .reading import Reading
from .scripted import Api, Cluster, newest_versions

NOT_FOUND, BAD_EPOCH, TOPIC_IDS = 70, 71, 106


def reading(cluster: Cluster, **settings: Any) -> Reading:
    return Reading(cluster.bootstrap_servers, retry_backoff_ms=10, **settings)


def said(request: Any) -> list[int]:
    """The partitions that a request names."""
    return sorted(part.partition for topic in request.topics for part in topic.partitions)


def test_only_what_changed_is_said() -> None:
    with Cluster() as cluster, reading(cluster) as consumer:
        cluster.create("t", partitions=3)
        consumer.start(*(("t", partition, 0) for partition in range(3)))
        cluster.wait(lambda: len(cluster.requests(Api.FETCH)) >= 2)
        full, idle = cluster.requests(Api.FETCH)[:2]
        assert (full.session_id, full.session_epoch, said(full)) == (0, 0, [0, 1, 2])
        assert (idle.session_epoch, said(idle)) == (1, [])
        assert idle.session_id > 0
        cluster.fill("t", [b"v"], partition=1)
        consumer.take(1)
        moved = cluster.wait(lambda: [r for r in cluster.requests(Api.FETCH)[2:] if said(r)])[0]
        assert said(moved) == [1]
        assert moved.topics[0].partitions[0].fetch_offset == 1
        consumer.core.pause("t", 2, on=True)
        gone = cluster.wait(
            lambda: [r for r in cluster.requests(Api.FETCH) if r.forgotten_topics_data]
        )[0]
        assert gone.forgotten_topics_data[0].partitions == [2]
        consumer.core.pause("t", 2, on=False)
        cluster.wait(lambda: said(cluster.requests(Api.FETCH)[-1]) == [2])
        epochs = [request.session_epoch for request in cluster.requests(Api.FETCH)]
        assert epochs == list(range(len(epochs)))


@pytest.mark.parametrize("code", [NOT_FOUND, BAD_EPOCH, TOPIC_IDS])
def test_a_session_that_is_lost_is_made_anew(code: int) -> None:
    with Cluster() as cluster, reading(cluster) as consumer:
        cluster.create("t")
        cluster.fill("t", [b"0"])
        cluster.on(Api.FETCH, faults.error(code, where="top"), nth=1)
        consumer.start(("t", 0, 0))
        assert consumer.take(1)[0].value == b"0"
        cluster.fill("t", [b"1"])
        assert consumer.take(1)[0].value == b"1"
        epochs = [request.session_epoch for request in cluster.requests(Api.FETCH)]
        assert epochs[:3] == [0, 1, 0]
        assert said(cluster.requests(Api.FETCH)[2]) == [0]
        assert consumer.core.events() == []


def test_a_broker_without_sessions_is_told_everything_every_time() -> None:
    with Cluster(sessions=False) as cluster, reading(cluster) as consumer:
        cluster.create("t", partitions=2)
        consumer.start(("t", 0, 0), ("t", 1, 0))
        cluster.wait(lambda: len(cluster.requests(Api.FETCH)) >= 3)
        for request in cluster.requests(Api.FETCH):
            assert (request.session_id, request.session_epoch) == (0, 0)
            assert said(request) == [0, 1]


def test_sessions_can_be_switched_off() -> None:
    with (
        Cluster() as cluster,
        reading(cluster, enable_incremental_fetch_sessions=False) as consumer,
    ):
        cluster.create("t")
        consumer.start(("t", 0, 0))
        cluster.wait(lambda: len(cluster.requests(Api.FETCH)) >= 2)
        for request in cluster.requests(Api.FETCH):
            assert (request.session_id, request.session_epoch, said(request)) == (0, -1, [0])


@pytest.mark.parametrize("version", range(4, 18))
def test_every_version_is_spoken(version: int) -> None:
    versions = {**newest_versions(), Api.FETCH: (min(version, 4), version)}
    with Cluster(versions=versions) as cluster, reading(cluster) as consumer:
        cluster.create("t", partitions=2)
        for partition in range(2):
            cluster.fill("t", [b"a", b"b"], partition, codec="lz4")
        consumer.start(("t", 0, 0), ("t", 1, 1))
        found = sorted((one.partition, one.value) for one in consumer.take(3))
        assert found == [(0, b"a"), (0, b"b"), (1, b"b")]
        cluster.fill("t", [b"c"])
        assert consumer.take(1)[0].value == b"c"
        assert {entry[2] for entry in cluster.log if entry[1] == Api.FETCH} == {version}
