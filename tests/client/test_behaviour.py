"""What a user does with the three classes, against mqlog or any Apache Kafka, however secured."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from mqlog import (
    ConsumerRebalanceListener,
    KafkaAdminClient,
    KafkaConsumer,
    KafkaProducer,
    OffsetAndMetadata,
    TopicPartition,
)
from mqlog.errors import KafkaError, MessageTooLargeError, NoOffsetForPartitionError

from .clients import QUICK, take, values
from .conftest import eventually

Access = dict[str, Any]
MakeTopic = Callable[..., str]


@pytest.fixture
def group(topic: str) -> str:
    """A group's name that nobody else uses."""
    return f"group-{topic}"


def writer(access: Access, **settings: Any) -> Any:
    return KafkaProducer(**access, **{**QUICK, "linger_ms": 0, **settings})


def follower(access: Access, *topics: str, **settings: Any) -> Any:
    chosen = {**QUICK, "auto_offset_reset": "earliest", "fetch_max_wait_ms": 100, **settings}
    return KafkaConsumer(*topics, **access, **chosen)


def assigned(access: Access, topic: str, *partitions: int, **settings: Any) -> Any:
    made = follower(access, **settings)
    made.assign([TopicPartition(topic, number) for number in partitions or (0,)])
    return made


@pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
def test_a_record_comes_back_as_it_was(access: Access, topic: str, codec: str | None) -> None:
    headers = [("a", b"1"), ("a", b""), ("none", None), ("ünï", b"\xff")]
    with writer(access, compression_type=codec) as producer:
        told = producer.send(
            topic, b"v" * 2_000, key=b"k", headers=headers, timestamp_ms=1_234_567_890_123
        ).get(20)
        producer.send(topic, None, key=b"tombstone").get(20)
        producer.send(topic, b"", key=b"").get(20)
    assert (told.topic, told.partition, told.offset) == (topic, 0, 0)
    with assigned(access, topic) as consumer:
        first, second, third = take(consumer, 3)
    assert (first.topic, first.partition, first.offset) == (topic, 0, 0)
    assert (first.key, first.value) == (b"k", b"v" * 2_000)
    assert (first.timestamp, first.timestamp_type) == (1_234_567_890_123, 0)
    assert [(name, value) for name, value in first.headers] == headers
    assert (second.key, second.value) == (b"tombstone", None)
    assert (third.key, third.value) == (b"", b"")


def test_many_records_keep_their_order(access: Access, make_topic: MakeTopic) -> None:
    topic = make_topic(3)
    with writer(access, linger_ms=5) as producer:
        futures = [
            producer.send(topic, b"%d" % number, partition=number % 3) for number in range(3_000)
        ]
        producer.flush(30)
        offsets = [future.get(0).offset for future in futures]
    assert offsets == [number // 3 for number in range(3_000)]
    with assigned(access, topic, 0, 1, 2) as consumer:
        found = take(consumer, 3_000)
    for partition in range(3):
        mine = [int(one.value) for one in found if one.partition == partition]
        assert mine == list(range(partition, 3_000, 3))


@pytest.mark.parametrize("acks", [0, 1, "all"])
def test_acks(access: Access, topic: str, acks: Any) -> None:
    with writer(access, acks=acks, enable_idempotence=acks == "all") as producer:
        told = producer.send(topic, b"v").get(20)
        assert told.offset == (-1 if acks == 0 else 0)
        producer.flush(20)
    with assigned(access, topic) as consumer:
        assert values(take(consumer, 1)) == [b"v"]


def test_keys_choose_the_partition_as_java_does(access: Access, make_topic: MakeTopic) -> None:
    topic = make_topic(10)
    from kafka.partitioner.default import murmur2

    with writer(access) as producer:
        for key in (b"", b"a", b"foobar", b"21", bytes(range(256))):
            told = producer.send(topic, b"v", key=key).get(20)
            assert told.partition == (murmur2(key) & 0x7FFF_FFFF) % 10


def test_serializers(access: Access, topic: str) -> None:
    import json

    with writer(
        access,
        key_serializer=str.encode,
        value_serializer=lambda value: json.dumps(value).encode(),
    ) as producer:
        producer.send(topic, {"n": 1}, key="k").get(20)
    with assigned(
        access, topic, key_deserializer=bytes.decode, value_deserializer=json.loads
    ) as consumer:
        (record,) = take(consumer, 1)
    assert (record.key, record.value) == ("k", {"n": 1})


def test_callbacks(access: Access, topic: str) -> None:
    seen: list[Any] = []
    with writer(access) as producer:
        producer.send(topic, b"v").add_callback(seen.append).add_errback(seen.append)
        producer.flush(20)
        eventually(lambda: seen)
    assert seen[0].offset == 0


def test_too_large(access: Access, make_topic: MakeTopic) -> None:
    topic = make_topic(1, max_message_bytes="10000")
    with writer(access) as producer:
        with pytest.raises(MessageTooLargeError):
            producer.send(topic, bytes(20_000)).get(20)
        assert producer.send(topic, bytes(5_000)).get(20).offset == 0


def test_the_iterator(access: Access, topic: str) -> None:
    with writer(access) as producer:
        for number in range(50):
            producer.send(topic, b"%d" % number)
    with assigned(access, topic, consumer_timeout_ms=1_000) as consumer:
        assert [int(record.value) for record in consumer] == list(range(50))
        assert consumer.position(TopicPartition(topic, 0)) == 50


def test_seeking(access: Access, topic: str) -> None:
    place = TopicPartition(topic, 0)
    with writer(access) as producer:
        for number in range(20):
            producer.send(topic, b"%d" % number, timestamp_ms=1_000 + number).get(20)
    with assigned(access, topic) as consumer:
        assert consumer.beginning_offsets([place]) == {place: 0}
        assert consumer.end_offsets([place]) == {place: 20}
        found = consumer.offsets_for_times({place: 1_010})[place]
        assert (found.offset, found.timestamp) == (10, 1_010)
        consumer.seek(place, 15)
        assert values(take(consumer, 5)) == [b"%d" % number for number in range(15, 20)]
        consumer.seek_to_beginning(place)
        assert consumer.position(place) == 0
        assert len(take(consumer, 20)) == 20
        consumer.seek_to_end(place)
        assert consumer.position(place) == 20
        consumer.seek(place, found.offset)
        assert take(consumer, 1)[0].value == b"10"


def test_pausing(access: Access, make_topic: MakeTopic) -> None:
    topic = make_topic(2)
    first, second = TopicPartition(topic, 0), TopicPartition(topic, 1)
    with writer(access) as producer:
        for place in (first, second):
            producer.send(topic, b"v", partition=place.partition).get(20)
    with assigned(access, topic, 0, 1) as consumer:
        consumer.pause(first)
        assert consumer.paused() == {first}
        assert {one.partition for one in take(consumer, 2, timeout_s=2)} == {1}
        consumer.resume(first)
        assert {one.partition for one in take(consumer, 1)} == {0}


def test_an_offset_that_is_gone(access: Access, topic: str) -> None:
    with writer(access) as producer:
        producer.send(topic, b"v").get(20)
    with assigned(access, topic, auto_offset_reset="none") as consumer:
        consumer.seek(TopicPartition(topic, 0), 99)
        with pytest.raises(KafkaError):
            take(consumer, 1, timeout_s=10)
    with assigned(access, topic) as consumer:
        consumer.seek(TopicPartition(topic, 0), 99)
        assert values(take(consumer, 1)) == [b"v"]


def test_a_group_commits_and_goes_on(access: Access, topic: str, group: str) -> None:
    place = TopicPartition(topic, 0)
    with writer(access) as producer:
        for number in range(10):
            producer.send(topic, b"%d" % number).get(20)
    with follower(access, topic, group_id=group, enable_auto_commit=False) as consumer:
        take(consumer, 10)
        consumer.commit({place: OffsetAndMetadata(7, "note", -1)})
        assert consumer.committed(place) == 7
        done: list[Any] = []
        consumer.commit_async(callback=lambda *result: done.append(result))
        eventually(lambda: consumer.poll(timeout_ms=50) is not None and done)
        assert consumer.committed(place) == 10
        consumer.commit({place: OffsetAndMetadata(4, "", -1)})
    with follower(access, topic, group_id=group) as consumer:
        assert values(take(consumer, 6)) == [b"%d" % number for number in range(4, 10)]
    with follower(access, topic, group_id=group) as consumer:
        assert consumer.committed(place) == 10, "closing commits what was read"


def test_no_offset_and_no_reset(access: Access, topic: str, group: str) -> None:
    with (
        follower(access, topic, group_id=group, auto_offset_reset="none") as consumer,
        pytest.raises(NoOffsetForPartitionError),
    ):
        take(consumer, 1, timeout_s=15)


STRATEGIES = ["range", "roundrobin", "sticky", "cooperative-sticky"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_members_share_a_topic(
    access: Access, make_topic: MakeTopic, group: str, strategy: str
) -> None:
    topic = make_topic(4)
    heard: list[tuple[str, int]] = []

    class Listener(ConsumerRebalanceListener):  # type: ignore[misc]
        def on_partitions_assigned(self, partitions: Any) -> None:
            heard.append(("assigned", len(list(partitions))))

        def on_partitions_revoked(self, partitions: Any) -> None:
            heard.append(("revoked", len(list(partitions))))

    settings = {
        "group_id": group,
        "partition_assignment_strategy": (strategy,),
        "heartbeat_interval_ms": 200,
    }
    first = follower(access, **settings)
    first.subscribe([topic], listener=Listener())
    eventually(lambda: (first.poll(timeout_ms=50), len(first.assignment()) == 4)[1])
    second = follower(access, topic, **settings)
    eventually(
        lambda: (
            first.poll(timeout_ms=50),
            second.poll(timeout_ms=50),
            len(first.assignment()) == 2 and len(second.assignment()) == 2,
        )[-1]
    )
    assert not first.assignment() & second.assignment()
    with writer(access) as producer:
        for number in range(40):
            producer.send(topic, b"%d" % number, partition=number % 4)
    got: list[int] = []
    deadline = time.monotonic() + 30
    while len(got) < 40 and time.monotonic() < deadline:
        for one in (first, second):
            got += [int(r.value) for found in one.poll(timeout_ms=50).values() for r in found]
    assert sorted(got) == list(range(40))
    second.close()
    eventually(lambda: (first.poll(timeout_ms=50), len(first.assignment()) == 4)[1])
    first.close()
    heard = [one for one in heard if one[1]]
    assert heard[0] == ("assigned", 4)
    revoked = sum(count for what, count in heard if what == "revoked")
    # Cooperatively only what moves is given up; else everything, at each of the two rebalances.
    assert revoked == (2 if strategy == "cooperative-sticky" else 4 + 2) + 4, heard


def test_a_static_member_comes_back_to_its_partitions(
    access: Access, make_topic: MakeTopic, group: str
) -> None:
    topic = make_topic(2)
    settings = {"group_id": group, "group_instance_id": "one", "heartbeat_interval_ms": 200}
    with follower(access, topic, **settings) as consumer:
        eventually(lambda: (consumer.poll(timeout_ms=50), consumer.assignment())[1])
        before = consumer.group_metadata().generation_id
    with follower(access, topic, **settings) as consumer:
        eventually(lambda: (consumer.poll(timeout_ms=50), consumer.assignment())[1])
        assert consumer.group_metadata().generation_id == before, "nobody had to rebalance"


def test_a_pattern_finds_topics_that_are_made_later(
    access: Access, make_topic: MakeTopic, group: str
) -> None:
    first = make_topic()
    prefix = first.rsplit("-", 1)[0]
    with follower(access, group_id=group, metadata_max_age_ms=500) as consumer:
        consumer.subscribe(pattern=f"^{prefix}-.*")
        eventually(lambda: (consumer.poll(timeout_ms=50), consumer.assignment())[1])
        second = make_topic()
        wanted = TopicPartition(second, 0)
        eventually(lambda: (consumer.poll(timeout_ms=50), wanted in consumer.assignment())[1])


def test_batches_and_columns(access: Access, topic: str) -> None:
    with writer(access) as producer:
        producer.send_many(topic, [b"%d" % number for number in range(1_000)])
        producer.flush(20)
    with assigned(access, topic) as consumer:
        got: list[bytes] = []
        for batch in consumer.batches(max_records=300, timeout_ms=2_000):
            got += values(list(batch))
            if len(got) >= 1_000:
                break
        assert got == [b"%d" % number for number in range(1_000)]
        consumer.seek_to_beginning(TopicPartition(topic, 0))
        count, deadline = 0, time.monotonic() + 20
        while count < 1_000 and time.monotonic() < deadline:
            count += len(consumer.poll_columns(timeout_ms=200))
        assert count == 1_000
        assert consumer.lag() == {TopicPartition(topic, 0): 0}


def test_administration(access: Access, topic: str) -> None:
    admin = KafkaAdminClient(**access)
    try:
        assert topic in admin.list_topics()
        assert len(admin.describe_cluster()["brokers"]) >= 1
        name = f"{topic}-made"
        admin.create_topics({name: {"num_partitions": 2, "replication_factor": 1}})
        eventually(lambda: name in admin.list_topics())
        admin.delete_topics([name])
        eventually(lambda: name not in admin.list_topics())
    finally:
        admin.close()


def test_metrics(access: Access, topic: str) -> None:
    with writer(access) as producer:
        producer.send(topic, b"v").get(20)
        assert producer.metrics()
    with assigned(access, topic) as consumer:
        take(consumer, 1)
        assert consumer.metrics()
