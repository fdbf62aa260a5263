"""Sending records, one by one and many at once, and what the futures say."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from kafka.partitioner.default import murmur2

from mqlog import KafkaProducer, Partitioner, Serializer, errors
from mqlog.client.producer import OffsetRange, RecordMetadata

from .conftest import eventually

Reader = Callable[..., list[Any]]


@pytest.fixture
def producer(access: dict[str, Any]) -> Iterator[KafkaProducer]:
    with KafkaProducer(**access) as made:
        yield made


@pytest.fixture
def read(servers: str, confluent_security: dict[str, Any]) -> Reader:
    """`read(topic, count, partition=0)`: the records, by another client."""

    def read(topic: str, count: int, partition: int = 0) -> list[Any]:
        config = {"bootstrap.servers": servers, "group.id": "none", **confluent_security}
        consumer = Consumer(config)
        consumer.assign([TopicPartition(topic, partition, 0)])
        found: list[Any] = []
        deadline = time.monotonic() + 30
        while len(found) < count and time.monotonic() < deadline:
            found.extend(consumer.consume(count - len(found), 1))
        consumer.close()
        return found

    return read


# --- One record. ---


def test_a_record_arrives_as_it_was_sent(producer: KafkaProducer, topic: str, read: Reader) -> None:
    before = int(time.time() * 1000)
    headers = [("a", b"1"), ("a", b""), ("ü", None)]
    sent = producer.send(topic, b"value", b"key", headers).get(10)
    producer.send(topic, None, b"key", timestamp_ms=17).get(10)
    producer.send(topic, bytearray(b"array"), memoryview(b"view")).get(10)
    first, second, third = read(topic, 3)
    assert (first.key(), first.value(), first.headers()) == (b"key", b"value", headers)
    assert before <= first.timestamp()[1] <= int(time.time() * 1000)
    assert (second.value(), second.timestamp()[1]) == (None, 17)
    assert (third.key(), third.value()) == (b"view", b"array")
    assert sent.timestamp == first.timestamp()[1]


def test_metadata_says_where_it_is_as_kafka_python_does(
    producer: KafkaProducer, topic: str
) -> None:
    future = producer.send(topic, b"value", key=b"k", headers=[("a", b"1")], partition=0)
    found = future.get(10)
    assert isinstance(found, RecordMetadata)
    assert found == (topic, 0, (topic, 0), 0, found.timestamp, None, 1, 5, 2)
    assert found.topic_partition.topic == topic
    assert found._asdict()["offset"] == found.offset == 0
    assert found == future.value
    assert (future.is_done, future.succeeded(), future.failed()) == (True, True, False)
    assert (future.exception, future.retriable()) == (None, False)


def test_offsets_follow_each_other(producer: KafkaProducer, topic: str, read: Reader) -> None:
    futures = [producer.send(topic, b"%d" % n) for n in range(5000)]
    producer.flush()
    assert [future.get(0).offset for future in futures] == list(range(5000))
    assert [one.value() for one in read(topic, 5000)] == [b"%d" % n for n in range(5000)]


def test_keys_go_where_other_clients_send_them(
    producer: KafkaProducer, make_topic: Callable[..., str]
) -> None:
    topic = make_topic(7)
    for n in range(200):
        key = b"key-%d" % n * (n % 9 + 1)
        found = producer.send(topic, b"v", key=key).get(10)
        assert found.partition == (murmur2(key) & 0x7FFFFFFF) % 7


def test_records_without_a_key_share_batches_and_reach_every_partition(
    producer: KafkaProducer, make_topic: Callable[..., str]
) -> None:
    topic = make_topic(4)
    seen: set[int] = set()

    def another() -> bool:
        futures = [producer.send(topic, b"v") for _ in range(50)]
        producer.flush()
        found = {future.get(0).partition for future in futures}
        assert len(found) <= 2
        seen.update(found)
        return len(seen) == 4

    eventually(another)


def test_acks_may_differ_for_each_record(producer: KafkaProducer, topic: str, read: Reader) -> None:
    assert producer.send(topic, b"0", acks=0).get(10).offset == -1
    assert producer.send(topic, b"1", acks=1).get(10).offset == 1
    assert producer.send(topic, b"all", acks="all").get(10).offset == 2
    assert [one.value() for one in read(topic, 3)] == [b"0", b"1", b"all"]
    with pytest.raises(ValueError, match="acks=2"):
        producer.send(topic, b"", acks=2)  # type: ignore[arg-type]


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_every_codec(access: dict[str, Any], topic: str, read: Reader, codec: str) -> None:
    with KafkaProducer(**access, compression_type=codec) as producer:
        values = [b"%d" % n * 100 for n in range(2000)]
        for value in values:
            producer.send(topic, value)
        producer.flush()
        assert producer.metrics()["producer-metrics"]["compression-rate-avg"] < 1
    assert [one.value() for one in read(topic, 2000)] == values


def test_the_log_append_time_of_the_broker_is_reported(
    producer: KafkaProducer, make_topic: Callable[..., str]
) -> None:
    topic = make_topic(message_timestamp_type="LogAppendTime")
    found = producer.send(topic, b"v", timestamp_ms=17).get(10)
    assert abs(found.timestamp - time.time() * 1000) < 60_000


# --- What cannot be sent. ---


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"value": "text"}, TypeError, "value_serializer"),
        ({"value": b"", "key": 7}, TypeError, "key must be bytes"),
        ({}, ValueError, "value or a key"),
        ({"value": b"", "partition": 1}, ValueError, "partitions 0 to 0"),
        ({"value": b"", "partition": -1}, ValueError, "at least 0"),
        ({"value": b"", "timestamp_ms": -5}, ValueError, "at least 0"),
        ({"value": b"", "headers": [("a", 1)]}, TypeError, "header"),
        ({"value": b"", "headers": [("a",)]}, TypeError, "header"),
        ({"value": b"", "headers": "ab"}, TypeError, "headers must be a list"),
    ],
)
def test_arguments_are_checked(
    producer: KafkaProducer,
    topic: str,
    arguments: dict[str, Any],
    error: type[Exception],
    text: str,
) -> None:
    with pytest.raises(error, match=text):
        producer.send(topic, **arguments)


@pytest.mark.parametrize("name", ["", "a b", "ä", "..", "x" * 250])
def test_topic_names_are_checked(producer: KafkaProducer, name: str) -> None:
    with pytest.raises(ValueError, match="topic"):
        producer.send(name, b"")


def test_a_record_too_large_says_both_sizes_and_what_to_raise(
    producer: KafkaProducer, make_topic: Callable[..., str], access: dict[str, Any]
) -> None:
    with pytest.raises(errors.RecordTooLargeError, match="max_request_size=1048576") as caught:
        producer.send(make_topic(), bytes(2_000_000))
    assert caught.value.size > 2_000_000
    small = make_topic(max_message_bytes="1000")
    with pytest.raises(errors.MqlogError, match=r"max\.message\.bytes"):
        producer.send(small, bytes(5000)).get(10)
    assert producer.send(small, b"fits").get(10).offset == 0


def test_batches_too_large_for_the_topic_are_split(
    producer: KafkaProducer, make_topic: Callable[..., str], read: Reader
) -> None:
    topic = make_topic(max_message_bytes="2000")
    futures = [producer.send(topic, b"%4d" % n * 25) for n in range(100)]
    producer.flush()
    assert [future.get(0).offset for future in futures] == list(range(100))
    assert [one.value() for one in read(topic, 100)] == [b"%4d" % n * 25 for n in range(100)]
    assert producer.metrics()["producer-metrics"]["batch-split-total"] > 0


def test_an_unknown_topic_is_waited_for(access: dict[str, Any]) -> None:
    with (
        KafkaProducer(**access, max_block_ms=300, allow_auto_create_topics=False) as producer,
        pytest.raises(errors.KafkaTimeoutError, match="max_block_ms"),
    ):
        producer.send("there-is-no-such-topic", b"")


def test_nobody_answers() -> None:
    with pytest.raises(errors.NoBrokersAvailable, match=r"127\.0\.0\.1:1"):
        KafkaProducer(bootstrap_servers="127.0.0.1:1", bootstrap_timeout_ms=300)


# --- Callbacks. ---


def test_callbacks_get_the_metadata_in_a_thread_of_their_own(
    producer: KafkaProducer, topic: str
) -> None:
    got: list[Any] = []
    future = producer.send(topic, b"v")
    assert future.add_callback(lambda *args, **kw: got.append((args, kw)), 1, x=2) is future
    future.add_errback(got.append).add_both(lambda found: got.append(threading.current_thread()))
    producer.flush()
    eventually(lambda: len(got) == 2)
    assert got[0] == ((1, future.value), {"x": 2})
    future.add_callback(lambda found: got.append(found))
    assert got[2] == future.value


def test_errbacks_get_the_exception(producer: KafkaProducer, make_topic: Any) -> None:
    got: list[Any] = []
    future = producer.send(make_topic(max_message_bytes="1000"), bytes(5000))
    future.add_errback(got.append).add_callback(got.append)
    with pytest.raises(errors.RecordTooLargeError):
        future.get(10)
    eventually(lambda: got)
    assert isinstance(got[0], errors.RecordTooLargeError)
    assert len(got) == 1
    assert future.failed()
    assert not future.succeeded()
    future.add_errback(got.append)
    assert len(got) == 2


def test_many_callbacks_all_come(producer: KafkaProducer, topic: str) -> None:
    offsets: list[int] = []
    for _ in range(20_000):
        producer.send(topic, b"v").add_callback(lambda found: offsets.append(found.offset))
    producer.flush()
    eventually(lambda: len(offsets) == 20_000)
    assert sorted(offsets) == list(range(20_000))


def test_a_callback_that_raises_is_logged_and_stops_nobody(
    producer: KafkaProducer, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    got: list[Any] = []

    def wrong(_: object) -> None:
        raise RuntimeError("on purpose")

    producer.send(topic, b"v").add_callback(wrong).add_callback(got.append)
    producer.flush()
    eventually(lambda: got)
    assert "on purpose" in caplog.text


# --- Serializers and partitioners. ---


class Tagged(Serializer):
    """Puts the topic before the value."""

    closed = False

    def serialize(self, topic: str, headers: Any, data: Any) -> bytes:
        return f"{topic}:{headers}:{data}".encode()

    def close(self) -> None:
        self.closed = True


def test_serializers_may_be_functions_or_objects(
    access: dict[str, Any], topic: str, read: Reader
) -> None:
    tagged = Tagged()
    with KafkaProducer(
        **access, value_serializer=lambda value: json.dumps(value).encode(), key_serializer=tagged
    ) as producer:
        producer.send(topic, {"a": 1}, key=7).get(10)
        producer.send_many(topic, [(1, [2]), (3, [4])]).get(10)
    assert tagged.closed
    found = [(one.key(), one.value()) for one in read(topic, 3)]
    key = f"{topic}:[]:".encode()
    assert found == [(key + b"7", b'{"a": 1}'), (key + b"1", b"[2]"), (key + b"3", b"[4]")]


def test_partitioners_may_be_functions_or_objects(
    access: dict[str, Any], make_topic: Callable[..., str]
) -> None:
    topic = make_topic(4)
    asked = []

    def last(key: bytes | None, every: list[int], led: list[int]) -> int:
        asked.append((key, every, led))
        return every[-1]

    with KafkaProducer(**access, partitioner=last) as producer:
        assert producer.send(topic, b"v", key=b"k").get(10).partition == 3
        assert producer.send(topic, b"v", partition=1).get(10).partition == 1
        ranges = producer.send_many(topic, [b"a", b"b"]).get(10).ranges
        assert [one.partition for one in ranges] == [3]
    assert asked[0] == (b"k", [0, 1, 2, 3], [0, 1, 2, 3])

    class ByLength(Partitioner):
        def partition(
            self, topic: str, key: Any, key_bytes: Any, value: Any, value_bytes: Any, cluster: Any
        ) -> int:
            return len(value_bytes) % len(cluster.partitions_for_topic(topic))

    with KafkaProducer(**access, partitioner=ByLength()) as producer:
        assert producer.send(topic, b"xy").get(10).partition == 2
        found = producer.send_many(topic, [b"x", b"xy", b"z"]).get(10).ranges
        assert [(one.partition, one.count) for one in found] == [(1, 2), (2, 1)]


# --- Many records. ---


def test_many_values_and_pairs(producer: KafkaProducer, topic: str, read: Reader) -> None:
    future = producer.send_many(topic, [b"%d" % n for n in range(3000)], headers=[("h", b"1")])
    found = future.get(10)
    assert found.ranges == (OffsetRange(topic, 0, 0, 3000),)
    assert (len(found), len(future), future.is_done) == (3000, 3000, True)
    pairs = [(b"k%d" % n, None if n % 2 else b"v%d" % n) for n in range(1000)]
    assert producer.send_many(topic, iter(pairs), timestamp_ms=99).get(10).ranges[0].offset == 3000
    producer.send_many(topic, [b"v", bytearray(b"w")], keys=[b"k", None]).get(10)
    records = read(topic, 4002)
    assert [one.value() for one in records[:3000]] == [b"%d" % n for n in range(3000)]
    assert records[0].headers() == records[2999].headers() == [("h", b"1")]
    assert [(one.key(), one.value()) for one in records[3000:4000]] == pairs
    assert records[3000].timestamp()[1] == 99
    last = [(one.key(), one.value()) for one in records[4000:]]
    assert last == [(b"k", b"v"), (None, b"w")]


def test_many_records_go_to_the_partitions_of_their_keys(
    producer: KafkaProducer, make_topic: Callable[..., str]
) -> None:
    topic = make_topic(5)
    keys = [b"key-%d" % n for n in range(2000)]
    found = producer.send_many(topic, keys, keys=keys).get(10)
    counts = [0] * 5
    for key in keys:
        counts[(murmur2(key) & 0x7FFFFFFF) % 5] += 1
    assert [(one.partition, one.offset, one.count) for one in found] == [
        (partition, 0, count) for partition, count in enumerate(counts)
    ]
    assert [one.next_offset for one in found] == counts


def test_a_wrong_record_among_many_is_named(producer: KafkaProducer, topic: str) -> None:
    with pytest.raises(TypeError, match="record 2 must be bytes"):
        producer.send_many(topic, [b"a", b"b", 3])
    with pytest.raises(ValueError, match="record 1 needs"):
        producer.send_many(topic, [b"a", None])
    with pytest.raises(ValueError, match="2 values have 1 keys"):
        producer.send_many(topic, [b"a", b"b"], keys=[b"k"])
    with pytest.raises(errors.RecordTooLargeError) as caught:
        producer.send_many(topic, [b"a", b"b", bytes(2_000_000)])
    assert "2 records before it" in caught.value.__notes__[0]
    assert producer.send_many(topic, []).get(10).ranges == ()


def test_some_of_many_fail(
    producer: KafkaProducer, make_topic: Callable[..., str], access: dict[str, Any]
) -> None:
    topic = make_topic(max_message_bytes="1000")
    future = producer.send_many(topic, [b"a", bytes(5000), b"b"])
    with pytest.raises(errors.RecordTooLargeError) as caught:
        future.get(10)
    assert "1 of 3 records failed" in caught.value.__notes__[0]
    assert sum(one.count for one in future.ranges) == 2
    assert future.failed()
    assert future.is_done


# --- Ending. ---


def test_flush_waits_for_all_before_it(producer: KafkaProducer, topic: str) -> None:
    futures = [producer.send(topic, b"v") for _ in range(100)]
    assert producer.flush() is None
    assert all(future.is_done for future in futures)


def test_close_sends_what_is_there(access: dict[str, Any], topic: str, read: Reader) -> None:
    producer = KafkaProducer(**access, linger_ms=60_000, delivery_timeout_ms=200_000)
    future = producer.send(topic, b"v")
    producer.close()
    producer.close()
    assert future.get(0).offset == 0
    with pytest.raises(errors.ClosedError):
        producer.send(topic, b"v")
    with pytest.raises(errors.ClosedError):
        producer.send("another", b"v")
    with pytest.raises(ValueError, match="timeout=-1"):
        producer.close(-1)


def test_an_unclosed_producer_is_warned_of_and_sends_all_the_same(
    access: dict[str, Any], topic: str, read: Reader
) -> None:
    producer = KafkaProducer(**access)
    producer.send(topic, b"v")
    with pytest.warns(ResourceWarning, match="unclosed"):
        del producer
    assert read(topic, 1)[0].value() == b"v"


def test_records_sent_last_arrive_when_the_interpreter_ends(
    servers: str, security: dict[str, Any], topic: str, read: Reader
) -> None:
    script = f"""
        from mqlog import KafkaProducer
        producer = KafkaProducer(bootstrap_servers={servers!r}, linger_ms=1000, **{security!r})
        future = producer.send({topic!r}, b"last")
        future.add_callback(lambda found: print("callback", found.offset))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "callback 0\n"
    assert read(topic, 1)[0].value() == b"last"


def test_threads_share_a_producer(producer: KafkaProducer, topic: str, read: Reader) -> None:
    def work(name: int) -> None:
        for n in range(500):
            assert producer.send(topic, b"%d %d" % (name, n)) is not None
        producer.send(topic, b"%d 500" % name).get(10)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen = [one.value().split() for one in read(topic, 8 * 501)]
    for name in range(8):
        assert [int(n) for who, n in seen if int(who) == name] == list(range(501))


def test_partitions_and_metrics(
    producer: KafkaProducer, make_topic: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "mqlog.client")
    topic = make_topic(3)
    assert producer.partitions_for(topic) == {0, 1, 2}
    assert producer.bootstrap_connected()
    producer.send_many(topic, [b"v"] * 10).get(10)
    found = producer.metrics()["producer-metrics"]
    assert (found["record-send-total"], found["record-error-total"]) == (10, 0)
    assert found["buffer-available-bytes"] == found["buffer-total-bytes"]
    assert producer.config["acks"] == -1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "KafkaProducer" in repr(producer)
