"""DescribeCluster, DescribeTopicPartitions, DescribeLogDirs and DescribeProducers."""

from __future__ import annotations

import time
from typing import Any

import pytest

from .batches import batch
from .client import Connection, Topic
from .conftest import MakeTopic

UNKNOWN_TOPIC_OR_PARTITION = 3
INVALID_TOPIC_EXCEPTION = 17
MISMATCHED_ENDPOINT_TYPE, UNSUPPORTED_ENDPOINT_TYPE = 114, 115


@pytest.mark.parametrize("version", range(3))
def test_behaviour_42_cluster(conn: Connection, address: tuple[str, int], version: int) -> None:
    answer = conn.call("DescribeCluster", version)
    known = conn.metadata([])
    assert (answer.error_code, answer.cluster_id) == (0, known.cluster_id)
    (broker,) = answer.brokers
    assert (broker.host, broker.port, broker.rack) == (*address, None)
    assert answer.controller_id == broker.broker_id == known.brokers[0].node_id


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("kind", "code"), [(2, MISMATCHED_ENDPOINT_TYPE), (9, UNSUPPORTED_ENDPOINT_TYPE)]
)
def test_no_other_endpoints(conn: Connection, version: int, kind: int, code: int) -> None:
    assert conn.call("DescribeCluster", version, endpoint_type=kind).error_code == code


def pages(conn: Connection, names: list[str], limit: int) -> list[list[tuple[str, int]]]:
    """(topic, partition) of every page, following the cursor."""
    cursor: dict[str, Any] | None = None
    out = []
    while True:
        answer = conn.call(
            "DescribeTopicPartitions",
            0,
            topics=[{"name": name} for name in names],
            response_partition_limit=limit,
            cursor=cursor,
        )
        out.append(
            [(one.name, part.partition_index) for one in answer.topics for part in one.partitions]
        )
        after = answer.next_cursor
        if after is None:
            return out
        cursor = {"topic_name": after.topic_name, "partition_index": after.partition_index}


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 7, 2000])
def test_behaviour_46_topic_partitions_page_by_page(
    conn: Connection, make_topic: MakeTopic, limit: int
) -> None:
    topics = [make_topic(3), make_topic(1), make_topic(2)]
    # Named in any order, told by name.
    told = pages(conn, [topic.name for topic in reversed(topics)], limit)
    everything = sorted((topic.name, n) for topic in topics for n in range(topic.partitions))
    assert [one for page in told for one in page] == everything
    assert max(len(page) for page in told) <= limit


def test_behaviour_46_topic_partitions_fields(conn: Connection, topic: Topic) -> None:
    me = conn.metadata([]).brokers[0].node_id
    asked = [{"name": name} for name in (topic.name, "wire-nobody")]
    answer = conn.call(
        "DescribeTopicPartitions", 0, topics=asked, response_partition_limit=10, cursor=None
    )
    found = {one.name: one for one in answer.topics}
    assert found["wire-nobody"].error_code == UNKNOWN_TOPIC_OR_PARTITION
    told = found[topic.name]
    assert (told.error_code, told.topic_id, told.is_internal) == (0, topic.id, False)
    (part,) = told.partitions
    assert (part.error_code, part.leader_id, part.leader_epoch >= 0) == (0, me, True)
    assert (list(part.replica_nodes), list(part.isr_nodes)) == ([me], [me])
    assert list(part.offline_replicas) == []


@pytest.mark.parametrize("version", range(1, 6))
def test_behaviour_46_log_dirs(conn: Connection, make_topic: MakeTopic, version: int) -> None:
    topic = make_topic(2)
    size = len(batch([b"x" * 5000]))
    conn.produce(topic, b"x" * 5000, partition=1)
    asked = [{"topic": topic.name, "partitions": [0, 1]}]
    answer = conn.call("DescribeLogDirs", version, topics=asked)
    (place,) = answer.results
    assert place.error_code == 0
    assert place.log_dir.startswith("/")
    (told,) = place.topics
    found = {
        part.partition_index: (part.partition_size, part.offset_lag, part.is_future_key)
        for part in told.partitions
    }
    assert (told.name, found) == (topic.name, {0: (0, 0, False), 1: (size, 0, False)})
    if version >= 4:
        assert place.total_bytes >= place.usable_bytes > 0


def test_behaviour_46_log_dirs_of_all_and_of_none(conn: Connection, topic: Topic) -> None:
    everything = conn.call("DescribeLogDirs", 4, topics=None).results[0]
    assert topic.name in {one.name for one in everything.topics}
    nobody = [{"topic": "wire-nobody", "partitions": [0]}]
    answer = conn.call("DescribeLogDirs", 4, topics=nobody)
    assert [one for place in answer.results for one in place.topics] == []


def test_behaviour_24_producers(conn: Connection, topic: Topic) -> None:
    values = {"transactional_id": None, "transaction_timeout_ms": 60_000}
    values |= {"producer_id": -1, "producer_epoch": -1}
    pid = conn.call("InitProducerId", 4, **values).producer_id
    named = [{"name": topic.name, "partition_indexes": [0, 5]}]

    def told() -> dict[int, Any]:
        answer = conn.call("DescribeProducers", 0, topics=named)
        return {part.partition_index: part for part in answer.topics[0].partitions}

    assert told()[5].error_code == UNKNOWN_TOPIC_OR_PARTITION
    assert list(told()[0].active_producers) == []
    now = int(time.time() * 1000)
    data = batch([b"a", b"b", b"c"], producer=(pid, 4, 0), base_timestamp=now)
    assert conn.produce_raw(topic, data).error_code == 0
    (one,) = told()[0].active_producers
    assert (one.producer_id, one.producer_epoch, one.last_sequence) == (pid, 4, 2)
    assert (one.last_timestamp, one.current_txn_start_offset) == (now, -1)
    assert one.coordinator_epoch == -1
