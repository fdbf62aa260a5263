"""Fetching: what is written is read, wherever it lies and whatever the broker does meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Producer

from mqlog import _native
from mqlog.errors import (
    CorruptMessageError,
    KafkaProtocolError,
    RecordTooLargeError,
    TopicAuthorizationFailedError,
)

from . import scripted_faults as faults
from .reading import Reading
from .scripted import Api, Cluster

NOT_LEADER, OUT_OF_RANGE, DENIED, STORAGE = 6, 1, 29, 56


def produce(
    servers: str,
    security: dict[str, Any],
    topic: str,
    values: list[bytes | None],
    partition: int = 0,
    **options: Any,
) -> None:
    """Values, by another client."""
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 5, **security, **options})
    for number, value in enumerate(values):
        headers = [("n", b"%d" % number)] if number % 10 == 0 else None
        producer.produce(topic, value, b"key", partition=partition, headers=headers)
        producer.poll(0)
    assert producer.flush(60) == 0


def numbers(count: int, start: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(start, start + count)]


# -- a real broker ---------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_what_another_client_wrote_is_read_in_order(
    access: dict[str, Any],
    confluent_security: dict[str, Any],
    make_topic: Callable[..., str],
    codec: str,
) -> None:
    topic = make_topic(3)
    for partition in range(3):
        produce(
            access["bootstrap_servers"], confluent_security, topic, [*numbers(2000)], partition,
            **{"compression.type": codec, "batch.num.messages": 300},
        )  # fmt: skip
    with Reading(access) as consumer:
        consumer.start(*((topic, partition, 0) for partition in range(3)))
        found: dict[int, list[Any]] = {0: [], 1: [], 2: []}
        for record in consumer.take(6000):
            found[record.partition].append(record)
        for records in found.values():
            assert [one.value for one in records] == numbers(2000)
            assert [one.offset for one in records] == list(range(2000))
            assert records[10].headers == [("n", b"10")]
            assert (records[10].key, records[11].headers) == (b"key", [])
            assert records[0].timestamp > 1_600_000_000_000
        assert [consumer.position(topic, partition) for partition in range(3)] == [2000] * 3
        facts = consumer.core.facts(topic, 1)
        assert facts is not None
        assert (facts.high_watermark, facts.last_stable, facts.log_start) == (2000, 2000, 0)


def test_new_records_come_as_they_are_written(
    access: dict[str, Any], confluent_security: dict[str, Any], topic: str
) -> None:
    with Reading(access) as consumer:
        consumer.start((topic, 0, 0))
        for start in range(0, 50, 10):
            values: list[bytes | None] = [*numbers(10, start)]
            produce(access["bootstrap_servers"], confluent_security, topic, values)
            assert [record.value for record in consumer.take(10)] == values


def test_seek_goes_anywhere(
    access: dict[str, Any], confluent_security: dict[str, Any], topic: str
) -> None:
    produce(access["bootstrap_servers"], confluent_security, topic, [*numbers(500)])
    with Reading(access) as consumer:
        consumer.start((topic, 0, None))
        assert consumer.event("unset") == ("unset", topic, 0, None)
        for offset in (0, 499, 250, 7):
            assert consumer.core.seek(topic, 0, offset)
            assert consumer.take(1)[0].offset == offset
            assert consumer.position(topic) == offset + 1
        assert not consumer.core.seek(topic, 1, 0)


def test_an_offset_out_of_range_asks_for_a_decision(
    access: dict[str, Any], confluent_security: dict[str, Any], topic: str
) -> None:
    produce(access["bootstrap_servers"], confluent_security, topic, [*numbers(5)])
    with Reading(access) as consumer:
        consumer.start((topic, 0, 99))
        for _ in range(2):
            assert consumer.event("unset") == ("unset", topic, 0, 99), "until it is answered"
        assert consumer.core.facts(topic, 0).position is None  # type: ignore[union-attr]
        consumer.core.seek(topic, 0, 3)
        assert consumer.core.events() == []
        assert [record.value for record in consumer.take(2)] == [b"3", b"4"]


def test_a_record_larger_than_every_limit_is_read(
    access: dict[str, Any], confluent_security: dict[str, Any], topic: str
) -> None:
    large = bytes(range(256)) * 3600
    produce(access["bootstrap_servers"], confluent_security, topic, [b"a", large, b"b"])
    limits = {"max_partition_fetch_bytes": 1000, "fetch_max_bytes": 1000}
    with Reading(access, **limits, prefetch_max_bytes=1000) as consumer:
        consumer.start((topic, 0, 0))
        assert [record.value for record in consumer.take(3)] == [b"a", large, b"b"]


def test_a_paused_partition_waits_and_others_go_on(
    access: dict[str, Any], confluent_security: dict[str, Any], make_topic: Callable[..., str]
) -> None:
    topic = make_topic(2)
    for partition in range(2):
        produce(access["bootstrap_servers"], confluent_security, topic, [*numbers(3000)], partition)
    # Little may be read ahead: what is paused must not keep the other one from being fetched.
    with Reading(access, prefetch_max_bytes=20_000, max_partition_fetch_bytes=10_000) as consumer:
        consumer.start((topic, 0, 0), (topic, 1, 0))
        consumer.take(100)
        at = consumer.position(topic, 0)
        consumer.core.pause(topic, 0, on=True)
        left = 3000 - (consumer.position(topic, 1) or 0)
        assert {record.partition for record in consumer.take(left)} == {1}
        assert consumer.position(topic, 0) == at
        consumer.core.pause(topic, 0, on=False)
        rest = consumer.take(3000 - (at or 0))
        assert [record.value for record in rest] == numbers(3000)[at:]


def test_columns_come_off_the_wire(
    access: dict[str, Any], confluent_security: dict[str, Any], topic: str
) -> None:
    values: list[bytes | None] = [*numbers(3000), None]
    produce(
        access["bootstrap_servers"],
        confluent_security,
        topic,
        values,
        **{"compression.type": "lz4"},
    )
    with Reading(access) as consumer:
        consumer.start((topic, 0, 0))
        found: list[bytes | None] = []
        while len(found) < len(values):
            consumer.until(consumer.core.is_ready)
            columns = consumer._take_columns(1000)
            assert columns.offsets.tolist() == list(range(len(found), len(found) + len(columns)))
            found += columns.values()
        assert found == values
        assert consumer.position(topic) == 3001


def test_taking_partitions_away_and_giving_them_back(
    access: dict[str, Any], confluent_security: dict[str, Any], make_topic: Callable[..., str]
) -> None:
    topic = make_topic(2)
    for partition in range(2):
        produce(access["bootstrap_servers"], confluent_security, topic, [*numbers(100)], partition)
    with Reading(access) as consumer:
        consumer.start((topic, 0, 0))
        consumer.take(40)
        consumer.core.add([(topic, 0, 0, -1), (topic, 1, 90, -1)])
        assert consumer.position(topic, 0) == 40, "who is there goes on"
        consumer.core.remove([(topic, 0)])
        assert [record.offset for record in consumer.take(10)] == list(range(90, 100))
        assert consumer.core.facts(topic, 0) is None
        consumer.core.add([(topic, 0, 95, -1)])
        assert [record.offset for record in consumer.take(5)] == list(range(95, 100))
        places = sorted((topic, partition) for topic, partition, _ in consumer.core.all_facts())
        assert places == [(topic, 0), (topic, 1)]


# -- a scripted one --------------------------------------------------------------------------------


@pytest.fixture
def cluster() -> Any:
    with Cluster(nodes=2) as running:
        running.create("t", leader=0)
        yield running


def reading(cluster: Cluster, **settings: Any) -> Reading:
    quick = {"retry_backoff_ms": 10, "reconnect_backoff_ms": 10, "metadata_max_age_ms": 60_000}
    return Reading(cluster.bootstrap_servers, **quick, **settings)


@pytest.mark.parametrize("hints", [True, False])
def test_a_leader_that_moves_is_followed(hints: bool) -> None:
    with Cluster(nodes=3, hints=hints) as cluster, reading(cluster) as consumer:
        cluster.create("t", leader=0)
        consumer.start(("t", 0, 0))
        for node in (1, 2, 0):
            cluster.fill("t", [b"before %d" % node])
            assert consumer.take(1)[0].value == b"before %d" % node
            cluster.move("t", to=node)
            consumer.until(lambda: answer_doubts(consumer))
        cluster.fill("t", [b"last"])
        assert consumer.take(1)[0].value == b"last"
        assert all(cluster.requests(Api.FETCH, node) for node in range(3))


def answer_doubts(consumer: Reading) -> bool:
    """Says that the new leader has what was read, if that is asked."""
    asked = [event for event in consumer.core.events() if event[0] == "validate"]
    return all(consumer.core.validated(*event[1:3]) for event in asked) and bool(asked)


@pytest.mark.parametrize(
    "action",
    [
        faults.close(),
        faults.close(applied=True),
        faults.error(NOT_LEADER),
        faults.error(STORAGE, where="inner"),
        faults.error(-1, where="top"),
        faults.garbage(),
        faults.truncated(),
        faults.wrong_correlation(),
        faults.mid_frame(),
        faults.records(lambda data: data[:-1]),
        faults.records(faults.flip()),
    ],
)
def test_a_fault_costs_no_record(cluster: Cluster, action: Any) -> None:
    for start in range(0, 100, 10):
        cluster.fill("t", numbers(10, start))
    cluster.on(Api.FETCH, action, nth=0)
    cluster.on(Api.FETCH, action, nth=2)
    with reading(cluster, max_partition_fetch_bytes=300) as consumer:
        consumer.start(("t", 0, 0))
        found = []
        deadline = time.monotonic() + 20
        while len(found) < 100 and time.monotonic() < deadline:
            try:
                found += [record.value for record in consumer.take(1)]
            except KafkaProtocolError:
                continue  # told, and gone on from
        assert found == numbers(100)


def test_a_batch_that_stays_damaged_is_told_with_its_place(cluster: Cluster) -> None:
    for start in range(0, 30, 10):
        cluster.fill("t", numbers(10, start))

    def damage(data: bytes) -> bytes:
        """The batch of offset 10, wherever it lies."""
        out, at = bytearray(data), 0
        while at < len(data):
            size = int.from_bytes(data[at + 8 : at + 12], "big") + 12
            if int.from_bytes(data[at : at + 8], "big") == 10:
                out[at + size - 1] ^= 1
            at += size
        return bytes(out)

    cluster.always(Api.FETCH, faults.records(damage))
    with reading(cluster) as consumer:
        consumer.start(("t", 0, 0))
        assert [record.value for record in consumer.take(10)] == numbers(10)
        with pytest.raises(CorruptMessageError, match="CRC32C does not match") as raised:
            consumer.take(1)
        assert (raised.value.topic, raised.value.partition) == ("t", 0)
        assert raised.value.offset == 10
        assert consumer.position("t") == 10
        consumer.core.seek("t", 0, 20)
        assert [record.value for record in consumer.take(10)] == numbers(10, 20)


def replaced(data: bytes, high: int = 1 << 40, **fields: Any) -> Any:
    """Answers fetches with these records, whatever was asked for."""

    def change(response: Any) -> None:
        for topic in response.responses:
            for part in topic.partitions:
                part.records = data
                part.high_watermark = part.last_stable_offset = high
                for name, value in fields.items():
                    setattr(part, name, value)

    return faults.edit(change)


@pytest.mark.parametrize(
    ("starts", "high", "message"),
    [
        ([5], 100, "offsets 5 to 5 where 7 is expected"),
        ([7, 7], 100, "offsets 7 to 7 where 8 is expected"),
        ([9, 8], 100, "offsets 9 to 9 where 10 is expected"),
        ([7], 7, "beyond the high watermark 7"),
    ],
)
def test_batches_where_none_may_be_are_the_brokers_fault(
    cluster: Cluster, starts: list[int], high: int, message: str
) -> None:
    data = b"".join(
        _native.build_batch([(0, None, b"v", [])], base_offset=start) for start in starts
    )
    cluster.fill("t", numbers(20))
    cluster.always(Api.FETCH, replaced(data, high))
    with reading(cluster) as consumer:
        consumer.start(("t", 0, 7))
        with pytest.raises(KafkaProtocolError, match=message):
            consumer.take(len(starts))


def test_gaps_and_empty_batches_of_compaction_are_passed(cluster: Cluster) -> None:
    record = (0, None, b"v", [])
    log = [
        _native.build_batch([record], base_offset=10),
        _native.build_batch([], base_offset=20),
        _native.build_batch([record], base_offset=30),
        _native.build_batch([], base_offset=40),
    ]
    cluster.fill("t", [b"x"])
    cluster.on(Api.FETCH, replaced(b"".join(log)))
    cluster.always(Api.FETCH, replaced(b"", error_code=0))
    with reading(cluster) as consumer:
        consumer.start(("t", 0, 0))
        assert [record.offset for record in consumer.take(2)] == [10, 30]
        consumer.until(lambda: consumer._take_records(1) == {} and consumer.position("t") == 41)


def test_a_batch_that_never_fits_is_told_with_both_sizes(cluster: Cluster) -> None:
    batch = _native.build_batch([(0, None, bytes(500), [])])
    cluster.fill("t", [b"x"])
    cluster.always(Api.FETCH, replaced(batch[:200]))
    with reading(cluster, max_partition_fetch_bytes=200) as consumer:
        consumer.start(("t", 0, 0))
        with pytest.raises(RecordTooLargeError) as raised:
            consumer.take(1)
        assert f"{len(batch)} bytes" in str(raised.value)
        assert "max_partition_fetch_bytes=200" in str(raised.value)


def test_a_bomb_is_refused(cluster: Cluster) -> None:
    cluster.fill("t", [b"x"])
    cluster.always(Api.FETCH, replaced(faults.bomb(64)))
    with reading(cluster, max_decompressed_bytes=1 << 20) as consumer:
        consumer.start(("t", 0, 0))
        with pytest.raises(CorruptMessageError, match="more than 1048576 bytes"):
            consumer.take(1)


def test_a_refusal_waits_behind_the_data_and_is_asked_again(cluster: Cluster) -> None:
    cluster.sessions = False
    cluster.fill("t", numbers(5))
    cluster.on(Api.FETCH, faults.error(DENIED, where="inner"), nth=1, times=2)
    with reading(cluster, retry_backoff_max_ms=20) as consumer:
        consumer.start(("t", 0, 0))
        cluster.wait(lambda: len(cluster.requests(Api.FETCH)) >= 2)
        assert [record.value for record in consumer.take(5)] == numbers(5)
        for _ in range(2):
            with pytest.raises(TopicAuthorizationFailedError) as raised:
                consumer.take(1)
            assert (raised.value.topic, raised.value.partition) == ("t", 0)
        cluster.fill("t", numbers(1, 5))
        assert consumer.take(1)[0].value == b"5"


def test_out_of_range_waits_behind_the_data(cluster: Cluster) -> None:
    cluster.sessions = False
    cluster.fill("t", numbers(5))
    cluster.on(Api.FETCH, faults.error(OUT_OF_RANGE, where="inner"), nth=1, times=100)
    with reading(cluster) as consumer:
        consumer.start(("t", 0, 0))
        cluster.wait(lambda: len(cluster.requests(Api.FETCH)) >= 2)
        assert [record.value for record in consumer.take(5)] == numbers(5)
        assert consumer.event("unset") == ("unset", "t", 0, 5)


def test_no_more_is_read_ahead_than_allowed(cluster: Cluster) -> None:
    for start in range(0, 2000, 10):
        cluster.fill("t", [b"x" * 1000 for _ in range(10)])
        assert start < 2000
    limit = 50_000
    with reading(cluster, prefetch_max_bytes=limit, max_partition_fetch_bytes=20_000) as consumer:
        consumer.start(("t", 0, 0))
        consumer.until(lambda: consumer.core.metrics()["buffered_bytes"] > limit / 2)
        cluster.wait(lambda: len(cluster.requests(Api.FETCH)) >= 2)
        most = 0
        for _ in range(200):
            most = max(most, int(consumer.core.metrics()["buffered_bytes"]))
            consumer.take(10)
        assert limit / 2 < most <= limit + 20_000
        assert len(cluster.requests(Api.FETCH)) > 40
        asked = [request.max_bytes for request in cluster.requests(Api.FETCH)]
        assert max(asked) <= limit


def test_the_closer_replica_is_read_from_until_it_fails() -> None:
    with Cluster(nodes=2) as cluster, reading(cluster, client_rack="here") as consumer:
        cluster.create("t", leader=0)
        cluster.fill("t", numbers(5))

        def refer(response: Any) -> None:
            for topic in response.responses:
                for part in topic.partitions:
                    part.records, part.preferred_read_replica = b"", 1

        cluster.on(Api.FETCH, faults.edit(refer), node=0)
        cluster.on(Api.FETCH, faults.error(OUT_OF_RANGE, where="inner"), node=1)
        consumer.start(("t", 0, 0))
        assert [record.value for record in consumer.take(5)] == numbers(5)
        assert len(cluster.requests(Api.FETCH, node=1)) >= 1, "it was asked, and had nothing"
        assert consumer.core.events() == [], "the leader has it: no decision is needed"
        assert cluster.requests(Api.FETCH)[0].rack_id == "here"


def test_a_broker_that_throttles_is_left_alone(cluster: Cluster) -> None:
    cluster.fill("t", numbers(5))
    cluster.on(
        Api.FETCH, faults.edit(lambda response: setattr(response, "throttle_time_ms", 60_000))
    )
    with reading(cluster) as consumer:
        consumer.start(("t", 0, 0))
        assert [record.value for record in consumer.take(5)] == numbers(5)
        consumer.core.wait(300)
        assert len(cluster.requests(Api.FETCH)) == 1


def test_a_connection_refused_is_tried_again(cluster: Cluster) -> None:
    cluster.fill("t", numbers(5))
    with reading(cluster) as consumer:
        consumer.start(("t", 0, 0))
        consumer.take(5)
        cluster.nodes[0].stop()
        consumer.core.wait(100)
        cluster.nodes[0].start()
        cluster.fill("t", numbers(5, 5))
        assert [record.value for record in consumer.take(5)] == numbers(5, 5)
