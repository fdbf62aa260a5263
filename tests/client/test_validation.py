"""A new leader: was what was fetched in its log? Nothing goes on until that is known."""

from __future__ import annotations

from typing import Any

import pytest

from .reading import Reading
from .scripted import Api, Cluster


@pytest.fixture
def cluster() -> Any:
    with Cluster(nodes=2) as running:
        running.create("t", leader=0)
        running.fill("t", [b"0", b"1", b"2", b"3"])
        yield running


def reading(cluster: Cluster, **settings: Any) -> Reading:
    return Reading(cluster.bootstrap_servers, retry_backoff_ms=10, **settings)


def test_a_confirmed_position_goes_on(cluster: Cluster) -> None:
    with reading(cluster) as consumer:
        consumer.start(("t", 0, 0))
        epoch = consumer.take(4)[0].leader_epoch
        cluster.move("t")
        assert consumer.event("validate") == ("validate", "t", 0, 4, epoch)
        asked = len(cluster.requests(Api.FETCH, node=1))
        cluster.fill("t", [b"4"])
        consumer.core.wait(100)
        assert len(cluster.requests(Api.FETCH, node=1)) == asked, "nothing is fetched meanwhile"
        assert consumer.core.validated("t", 0)
        assert not consumer.core.validated("t", 0)
        [record] = consumer.take(1)
        assert (record.value, record.leader_epoch) == (b"4", epoch + 1)
        assert consumer.core.events() == []


def test_what_was_read_ahead_is_dropped_quietly(cluster: Cluster) -> None:
    with reading(cluster) as consumer:
        consumer.start(("t", 0, 0))
        consumer.until(consumer.core.is_ready)
        cluster.move("t")
        _, _, _, offset, _ = consumer.event("validate")
        assert offset == 4, "as far as it was fetched, though nobody has read it"
        taken = consumer._take_records(1)["t", 0]
        assert [record.value for record in taken] == [b"0"]
        assert not consumer.core.truncated("t", 0, 2)
        assert [record.value for record in consumer.take(3)] == [b"1", b"2", b"3"]


def test_a_truncation_below_the_user_is_told(cluster: Cluster) -> None:
    with reading(cluster) as consumer:
        consumer.start(("t", 0, 0))
        consumer.take(3)
        consumer._settle()
        cluster.move("t")
        consumer.event("validate")
        assert consumer.core.truncated("t", 0, 2)
        assert consumer.event("validate")[:3] == ("validate", "t", 0), "until somebody seeks"
        consumer.core.seek("t", 0, 2)
        assert [record.value for record in consumer.take(2)] == [b"2", b"3"]


def test_a_committed_epoch_is_checked_first(cluster: Cluster) -> None:
    for _ in range(3):
        cluster.move("t")
    with reading(cluster) as consumer:
        consumer.core.assign([("t", 0, 2, 0)])
        assert consumer.event("validate") == ("validate", "t", 0, 2, 0)
        assert cluster.requests(Api.FETCH) == []
        consumer.core.validated("t", 0)
        assert [record.value for record in consumer.take(2)] == [b"2", b"3"]
