"""Fetch without sessions: which bytes, from where, how many, when, and with which error."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from . import batches
from .batches import Rec, batch
from .client import NO_ID, Connection, Topic, eventually, fetch_body, is_flexible
from .conftest import MakeTopic

OFFSET_OUT_OF_RANGE = 1
UNKNOWN_TOPIC_OR_PARTITION = 3
NOT_LEADER_OR_FOLLOWER = 6
FENCED_LEADER_EPOCH = 74
UNKNOWN_LEADER_EPOCH = 75
UNKNOWN_TOPIC_ID = 100
VERSIONS = range(4, 19)

Connect = Callable[[], Connection]


def noise(size: int) -> bytes:
    """A value of this many bytes."""
    return os.urandom(size)


def trim(conn: Connection, topic: Topic, offset: int) -> None:
    """Deletes what lies before `offset`."""
    part = {"partition_index": 0, "offset": offset}
    named = {"name": topic.name, "partitions": [part]}
    answer = conn.call("DeleteRecords", 2, topics=[named], timeout_ms=10_000)
    assert answer.topics[0].partitions[0].error_code == 0


def offsets(part: Any) -> list[int]:
    """Base offsets of the batches of a partition's answer."""
    return [one.base_offset for one in batches.parse(part.records)]


@pytest.mark.parametrize("version", VERSIONS)
def test_fetch_every_version(conn: Connection, topic: Topic, version: int) -> None:
    conn.produce(topic, b"a", b"b")
    answer = conn.fetch_raw(topic, version=version)
    assert answer.throttle_time_ms == 0
    (named,) = answer.responses
    assert named.topic_id == topic.id if version >= 13 else named.topic == topic.name
    (part,) = named.partitions
    assert (part.partition_index, part.error_code, part.high_watermark) == (0, 0, 2)
    assert [rec.value for _, rec in batches.records(batches.parse(part.records))] == [b"a", b"b"]
    if version >= 11:
        assert part.preferred_read_replica == -1


@pytest.mark.parametrize("version", [4, 11, 12, 17])
def test_behaviour_21_marks_are_filled_on_every_partition(
    conn: Connection, make_topic: MakeTopic, version: int
) -> None:
    topic = make_topic(2)
    for _ in range(3):
        conn.produce(topic, b"v")
    trim(conn, topic, 2)
    answer = conn.fetch_raw([(topic, 1, 0), (topic, 0, 2)], version=version)
    marks = [
        (one.partition_index, one.high_watermark, one.last_stable_offset)
        for one in answer.responses[0].partitions
    ]
    assert marks == [(1, 0, 0), (0, 3, 3)]
    if version >= 5:
        assert [one.log_start_offset for one in answer.responses[0].partitions] == [0, 2]


@pytest.mark.parametrize("version", [4, 18])
def test_behaviour_22_read_committed_fields(conn: Connection, topic: Topic, version: int) -> None:
    conn.produce(topic, b"v")
    for isolation, aborted in ((0, None), (1, [])):
        part = conn.fetch_raw(topic, version=version, isolation_level=isolation)
        part = part.responses[0].partitions[0]
        assert part.aborted_transactions == aborted
        assert (part.last_stable_offset, offsets(part)) == (1, [0])


@pytest.mark.parametrize("start", range(6))
def test_behaviour_08_inside_a_batch_gives_the_whole_batch(
    conn: Connection, topic: Topic, start: int
) -> None:
    conn.produce(topic, b"0", b"1", b"2")
    conn.produce(topic, b"3", b"4", b"5")
    got = conn.read(topic, start)
    assert got[0].base_offset == (0 if start < 3 else 3)
    assert got[-1].next_offset == 6
    assert all(one.crc_ok for one in got)


@pytest.mark.parametrize("limits", [(1, 1 << 20), (1 << 20, 1), (0, 0), (1, 0)])
@pytest.mark.parametrize("version", [4, 13])
def test_behaviour_07_at_least_one_batch(
    conn: Connection, topic: Topic, limits: tuple[int, int], version: int
) -> None:
    conn.produce(topic, noise(5000))
    conn.produce(topic, noise(10))
    sizes = {"max_bytes": limits[0], "partition_max_bytes": limits[1]}
    answer = conn.fetch_raw(topic, version=version, **sizes)
    assert offsets(answer.responses[0].partitions[0]) == [0]


def test_behaviour_07_later_partitions_obey_the_limits(
    conn: Connection, make_topic: MakeTopic
) -> None:
    topic = make_topic(4)
    for partition in (1, 2, 3):
        for _ in range(3):
            conn.produce(topic, noise(1000), partition=partition)
    size = len(batch([noise(1000)]))
    for order in ([0, 1, 2, 3], [3, 2, 0, 1]):
        wanted = [(topic, partition, 0) for partition in order]
        full = order[:]
        full.remove(0)

        def got(wanted: list[tuple[Topic, int, int]] = wanted, **limits: int) -> list[int]:
            answer = conn.fetch_raw(wanted, **limits)
            parts = answer.responses[0].partitions
            assert [one.partition_index for one in parts] == [w[1] for w in wanted]
            return [len(offsets(one)) for one in parts if one.partition_index]

        # Only the first that has something may be larger than its limit.
        assert got(partition_max_bytes=10) == [1, 0, 0]
        assert got(max_bytes=10) == [1, 0, 0]
        assert got(partition_max_bytes=2 * size) == [2, 2, 2]
        assert got(max_bytes=4 * size) == [3, 1, 0]


@pytest.mark.parametrize("more", [1, 50])
def test_behaviour_09_whole_batches_only(conn: Connection, topic: Topic, more: int) -> None:
    """Kafka may cut the last batch; a client drops what is cut, so at least one must be whole."""
    for _ in range(4):
        conn.produce(topic, noise(100))
    size = len(batch([noise(100)]))
    part = conn.fetch(topic, partition_max_bytes=2 * size + more)
    whole = bytes(part.records)[: 2 * size]
    assert [one.base_offset for one in batches.parse(whole)] == [0, 1]
    assert len(part.records) <= 2 * size + more


@pytest.mark.ours
def test_behaviour_09_ours_never_cuts(conn: Connection, topic: Topic) -> None:
    for _ in range(4):
        conn.produce(topic, noise(100))
    size = len(batch([noise(100)]))
    for limit in range(1, 3 * size, 7):
        part = conn.fetch(topic, partition_max_bytes=limit)
        assert len(part.records) == max(1, limit // size) * size


def test_behaviour_10_no_down_conversion(conn: Connection) -> None:
    (fetch,) = (one for one in conn.call("ApiVersions", 0).api_keys if one.api_key == 1)
    assert (fetch.min_version, fetch.max_version) == (4, 18)


@pytest.mark.parametrize("version", range(4))
def test_behaviour_10_old_fetches_are_closed(conn: Connection, version: int) -> None:
    conn.send_frame(b"\x00\x01\x00" + bytes([version]) + b"\x00\x00\x00\x01\xff\xff" + bytes(64))
    assert conn.closed_by_broker()


def test_behaviour_20_an_empty_partition_waits(conn: Connection, topic: Topic) -> None:
    answer = conn.fetch_raw(topic, max_wait_ms=50)
    (part,) = answer.responses[0].partitions
    assert (part.error_code, bytes(part.records or b"")) == (0, b"")
    assert (part.high_watermark, part.last_stable_offset, part.log_start_offset) == (0, 0, 0)


@pytest.mark.parametrize("version", [4, 12, 18])
def test_behaviour_20_out_of_range_at_both_ends(
    conn: Connection, topic: Topic, version: int
) -> None:
    for _ in range(4):
        conn.produce(topic, b"v")
    trim(conn, topic, 2)
    for offset in (-1, 0, 1, 5, 2**63 - 1):
        # An error is answered at once, however long the client would wait.
        answer = conn.fetch_raw(topic, offset, version=version, max_wait_ms=60_000, min_bytes=100)
        (part,) = answer.responses[0].partitions
        assert part.error_code == OFFSET_OUT_OF_RANGE
        assert bytes(part.records or b"") == b""
        assert (part.high_watermark, part.last_stable_offset) == (-1, -1)
        if version >= 5:
            assert part.log_start_offset == -1
    for offset in (2, 3, 4):
        part = conn.fetch_raw(topic, offset, version=version, max_wait_ms=0)
        assert part.responses[0].partitions[0].error_code == 0


def test_behaviour_23_a_waiting_fetch_wakes_on_data(connect: Connect, topic: Topic) -> None:
    waiter, writer = connect(), connect()
    waiter.send("Fetch", 12, **fetch_body([(topic, 0, 0)], max_wait_ms=600_000))
    assert waiter.silent_for(0.05)
    writer.produce(topic, b"now")
    (part,) = waiter.receive("Fetch", 12)[0].responses[0].partitions
    assert (offsets(part), part.high_watermark) == ([0], 1)


def test_behaviour_23_min_bytes_are_waited_for(connect: Connect, make_topic: MakeTopic) -> None:
    waiter, writer, topic = connect(), connect(), make_topic(2)
    size = len(batch([noise(100)]))
    writer.produce(topic, noise(100))
    body = fetch_body([(topic, 0, 0), (topic, 1, 0)], max_wait_ms=600_000, min_bytes=3 * size)
    waiter.send("Fetch", 12, **body)
    writer.produce(topic, noise(100), partition=1)
    assert waiter.silent_for(0.1)
    writer.produce(topic, noise(100))
    parts = waiter.receive("Fetch", 12)[0].responses[0].partitions
    assert [offsets(one) for one in parts] == [[0, 1], [0]]


def test_behaviour_23_what_there_is_comes_after_max_wait(conn: Connection, topic: Topic) -> None:
    conn.produce(topic, b"little")
    part = conn.fetch(topic, max_wait_ms=30, min_bytes=1 << 20)
    assert offsets(part) == [0]
    assert offsets(conn.fetch(topic, max_wait_ms=0, min_bytes=1 << 20)) == [0]
    assert offsets(conn.fetch(topic, max_wait_ms=600_000, min_bytes=0)) == [0]


def test_behaviour_02_a_waiting_fetch_holds_back_what_follows(
    connect: Connect, topic: Topic
) -> None:
    waiter, writer = connect(), connect()
    waiter.send("Fetch", 12, **fetch_body([(topic, 0, 0)], max_wait_ms=600_000))
    second = waiter.send("Metadata", 12, topics=[], allow_auto_topic_creation=False)
    assert waiter.silent_for(0.1)
    writer.produce(topic, b"v")
    assert waiter.receive("Fetch", 12)[1] == second - 1
    assert waiter.receive("Metadata", 12)[1] == second


@pytest.mark.parametrize(
    ("epoch", "error"), [(-1, 0), (0, 0), (1, UNKNOWN_LEADER_EPOCH), (9, UNKNOWN_LEADER_EPOCH)]
)
@pytest.mark.parametrize("version", [9, 12, 18])
def test_behaviour_38_leader_epoch_of_a_fetch(
    conn: Connection, topic: Topic, epoch: int, error: int, version: int
) -> None:
    conn.produce(topic, b"v")
    current = conn.metadata([topic.name]).topics[0].partitions[0].leader_epoch
    asked = epoch if epoch < 1 else current + epoch
    answer = conn.fetch_raw(topic, version=version, current_leader_epoch=asked)
    (part,) = answer.responses[0].partitions
    expected = FENCED_LEADER_EPOCH if 0 <= asked < current else error
    assert part.error_code == expected
    if expected:
        assert part.high_watermark == -1


def test_behaviour_38_last_fetched_epoch(conn: Connection, topic: Topic) -> None:
    conn.produce(topic, b"a", b"b")
    current = conn.metadata([topic.name]).topics[0].partitions[0].leader_epoch
    (stored,) = conn.read(topic)
    assert stored.leader_epoch == current
    same = conn.fetch(topic, 2, last_fetched_epoch=current, max_wait_ms=0)
    assert (same.error_code, same.diverging_epoch) == (0, None)
    # An epoch that is still to come has no place in the log where the client could go on.
    other = conn.fetch(topic, 0, last_fetched_epoch=current + 5, max_wait_ms=600_000)
    assert (other.error_code, other.diverging_epoch) == (OFFSET_OUT_OF_RANGE, None)
    assert not other.records


@pytest.mark.parametrize("version", [4, 12, 13, 18])
def test_behaviour_40_unknown_topics_and_partitions(
    conn: Connection, topic: Topic, version: int
) -> None:
    nobody = Topic(name="wire-nobody", id=uuid.uuid4(), partitions=1)
    wanted = [(nobody, 0, 0), (topic, 7, 0), (topic, -1, 0)]
    answer = conn.fetch_raw(wanted, version=version, max_wait_ms=60_000)
    errors = [[part.error_code for part in one.partitions] for one in answer.responses]
    unknown = UNKNOWN_TOPIC_ID if version >= 13 else UNKNOWN_TOPIC_OR_PARTITION
    assert sorted(errors) == sorted([[unknown], [UNKNOWN_TOPIC_OR_PARTITION] * 2])
    for one in answer.responses:
        assert {part.high_watermark for part in one.partitions} == {-1}


@pytest.mark.parametrize("version", [13, 18])
def test_behaviour_40_the_zero_id_names_no_topic(conn: Connection, version: int) -> None:
    nobody = Topic(name="", id=NO_ID, partitions=1)
    answer = conn.fetch_raw(nobody, version=version)
    assert answer.responses[0].partitions[0].error_code == UNKNOWN_TOPIC_ID


def test_behaviour_40_a_known_partition_is_not_held_back_by_an_unknown_one(
    conn: Connection, topic: Topic
) -> None:
    conn.produce(topic, b"v")
    nobody = Topic(name="wire-nobody", id=uuid.uuid4(), partitions=1)
    answer = conn.fetch_raw([(nobody, 0, 0), (topic, 0, 0)], version=13)
    found = {one.topic_id: one.partitions[0] for one in answer.responses}
    assert found[nobody.id].error_code == UNKNOWN_TOPIC_ID
    assert offsets(found[topic.id]) == [0]


def test_behaviour_40_deleted_while_a_fetch_waits(connect: Connect, topic: Topic) -> None:
    waiter, admin = connect(), connect()
    waiter.send("Fetch", 13, **fetch_body([(topic, 0, 0)], version=13, max_wait_ms=10_000))
    assert waiter.silent_for(0.05)
    admin.call("DeleteTopics", 6, topics=[{"name": topic.name}], timeout_ms=10_000)
    (part,) = waiter.receive("Fetch", 13)[0].responses[0].partitions
    assert part.error_code in (UNKNOWN_TOPIC_ID, UNKNOWN_TOPIC_OR_PARTITION, NOT_LEADER_OR_FOLLOWER)


@pytest.mark.parametrize("version", [12, 14, 15, 18])
def test_a_replica_that_is_none_of_ours_is_refused(
    conn: Connection, topic: Topic, version: int
) -> None:
    conn.produce(topic, b"v")
    body = fetch_body([(topic, 0, 0)], version=version)
    if version >= 15:
        body |= {"replica_state": {"replica_id": 77, "replica_epoch": 1}}
        del body["replica_id"]
    else:
        body["replica_id"] = 77
    answer = conn.call("Fetch", version, **body)
    assert not answer.responses[0].partitions[0].records
    assert answer.responses[0].partitions[0].error_code != 0


def test_nothing_asked_nothing_answered(conn: Connection) -> None:
    for version in (4, 12, 18):
        assert is_flexible("Fetch", version) == (version >= 12)
        assert list(conn.fetch_raw([], version=version, max_wait_ms=0).responses) == []


@pytest.mark.parametrize("codec", batches.CODECS)
def test_every_codec_of_one_log_is_fetched_together(
    conn: Connection, topic: Topic, codec: str
) -> None:
    rows = [Rec(b"%d" % n, b"k", (), 1_700_000_000_000) for n in range(10)]
    for one in ("none", codec):
        conn.produce(topic, *rows, codec=batches.CODECS[one])
    found = eventually(lambda: conn.read(topic))
    assert batches.records(found) == list(enumerate(rows * 2))
