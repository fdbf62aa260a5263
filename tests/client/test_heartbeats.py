"""Heartbeats that go on while Python is busy, and what they find out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from . import scripted_faults as faults
from .reading import Reading
from .scripted import Api, Cluster, newest_versions

LOADING, NOT_COORDINATOR, ILLEGAL_GENERATION, UNKNOWN_MEMBER, REBALANCE, DENIED = (
    14,
    16,
    22,
    25,
    27,
    30,
)
FENCED = 82


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster(nodes=2) as running:
        yield running


@pytest.fixture
def consumer(cluster: Cluster) -> Iterator[Reading]:
    quick = {"retry_backoff_ms": 10, "reconnect_backoff_ms": 10}
    with Reading(cluster.bootstrap_servers, **quick) as reading:
        yield reading


def start(consumer: Reading, **changes: Any) -> None:
    """Heartbeats every 20 ms for a member that the coordinator need not know."""
    consumer.core.heartbeat_start(
        {
            "group": "g",
            "member_id": "m",
            "instance_id": None,
            "generation": 3,
            "coordinator": 0,
            "heartbeat_interval_ms": 20,
            "session_timeout_ms": 10_000,
            "max_poll_interval_ms": 300_000,
            **changes,
        }
    )


def beats(cluster: Cluster, node: int | None = None) -> list[Any]:
    return cluster.requests(Api.HEARTBEAT, node)


def test_they_go_on_while_python_is_busy(cluster: Cluster, consumer: Reading) -> None:
    assert consumer.core.standing() is None
    cluster.always(Api.HEARTBEAT, faults.error(0))
    start(consumer, instance_id="i")
    assert consumer.core.standing() == (3, "fine", 0)
    cluster.wait(lambda: len(beats(cluster)) >= 3)
    request = beats(cluster)[0]
    assert (request.group_id, request.member_id, request.generation_id) == ("g", "m", 3)
    assert request.group_instance_id == "i"
    assert consumer.core.standing() == (3, "fine", 0)
    consumer.core.heartbeat_stop()
    assert consumer.core.standing() is None
    time.sleep(0.1)
    sent = len(beats(cluster))
    time.sleep(0.1)
    assert len(beats(cluster)) == sent


def test_a_rebalance_is_told_and_heartbeats_go_on(cluster: Cluster, consumer: Reading) -> None:
    cluster.always(Api.HEARTBEAT, faults.error(REBALANCE))
    start(consumer)
    assert consumer.core.wait(10_000), "it ends a wait"
    assert consumer.core.standing() == (3, "rebalance", 0)
    assert not consumer.core.wait(50), "what was told ends no wait again"
    sent = len(beats(cluster))
    cluster.wait(lambda: len(beats(cluster)) > sent + 2)
    start(consumer, generation=4)
    assert consumer.core.standing() in [(4, "fine", 0), (4, "rebalance", 0)]


@pytest.mark.parametrize("code", [ILLEGAL_GENERATION, UNKNOWN_MEMBER, FENCED, DENIED])
def test_a_member_that_is_none_is_told_why(cluster: Cluster, consumer: Reading, code: int) -> None:
    cluster.on(Api.HEARTBEAT, faults.error(code), nth=1)
    cluster.always(Api.HEARTBEAT, faults.error(0))
    start(consumer)
    assert consumer.core.wait(10_000)
    assert consumer.core.standing() == (3, "lost", code)
    sent = len(beats(cluster))
    time.sleep(0.1)
    assert len(beats(cluster)) == sent, "there is nothing to keep"


@pytest.mark.parametrize(
    "action", [faults.error(NOT_COORDINATOR), faults.close(), faults.garbage()]
)
def test_a_coordinator_that_moved_is_found(
    cluster: Cluster, consumer: Reading, action: Any
) -> None:
    cluster.coordinator = 1
    cluster.always(Api.HEARTBEAT, action, node=0)
    cluster.always(Api.HEARTBEAT, faults.error(0), node=1)
    start(consumer)
    cluster.wait(lambda: len(beats(cluster, node=1)) >= 2)
    assert consumer.core.standing() == (3, "fine", 0)


def test_a_coordinator_that_loads_is_asked_again(cluster: Cluster, consumer: Reading) -> None:
    cluster.on(Api.HEARTBEAT, faults.error(LOADING), times=3)
    cluster.always(Api.HEARTBEAT, faults.error(0))
    start(consumer)
    cluster.wait(lambda: len(beats(cluster, node=0)) >= 5)
    assert consumer.core.standing() == (3, "fine", 0)


def test_a_member_nobody_polls_leaves(cluster: Cluster, consumer: Reading) -> None:
    cluster.always(Api.HEARTBEAT, faults.error(0))
    start(consumer, max_poll_interval_ms=150)
    for _ in range(6):
        consumer.core.poll_mark()
        time.sleep(0.05)
    assert consumer.core.standing() == (3, "fine", 0)
    assert consumer.core.wait(10_000)
    assert consumer.core.standing() == (3, "late", 0)
    [left] = cluster.wait(lambda: cluster.requests(Api.LEAVE_GROUP))
    assert (left.group_id, left.members[0].member_id) == ("g", "m")
    assert "max_poll_interval_ms" in left.members[0].reason
    sent = len(beats(cluster))
    time.sleep(0.1)
    assert len(beats(cluster)) == sent


def test_a_static_member_nobody_polls_is_only_silent(cluster: Cluster, consumer: Reading) -> None:
    cluster.always(Api.HEARTBEAT, faults.error(0))
    start(consumer, max_poll_interval_ms=50, instance_id="i")
    assert consumer.core.wait(10_000)
    assert consumer.core.standing() == (3, "late", 0)
    time.sleep(0.1)
    assert cluster.requests(Api.LEAVE_GROUP) == []


@pytest.mark.parametrize("version", range(5))
def test_every_version_is_spoken(version: int) -> None:
    offered = {**newest_versions(), Api.FIND_COORDINATOR: (0, 3), Api.HEARTBEAT: (0, version)}
    with Cluster(versions=offered) as cluster, Reading(cluster.bootstrap_servers) as consumer:
        cluster.on(Api.HEARTBEAT, faults.error(NOT_COORDINATOR))
        cluster.always(Api.HEARTBEAT, faults.error(0))
        start(consumer, instance_id="i")
        cluster.wait(lambda: len(beats(cluster)) >= 3)
        assert len(cluster.requests(Api.FIND_COORDINATOR)) >= 1
        assert beats(cluster)[-1].group_instance_id == ("i" if version >= 3 else None)


def test_closing_ends_them(cluster: Cluster, consumer: Reading) -> None:
    cluster.always(Api.HEARTBEAT, faults.error(0))
    start(consumer)
    cluster.wait(lambda: beats(cluster))
    consumer.core.close()
    time.sleep(0.05)
    sent = len(beats(cluster))
    time.sleep(0.1)
    assert len(beats(cluster)) == sent
