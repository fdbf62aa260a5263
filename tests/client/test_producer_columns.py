"""Columns of records: Arrow's C interface and buffers, without pyarrow or numpy."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kafka.partitioner.default import murmur2

from mqlog import KafkaConsumer, KafkaProducer, TopicPartition, errors

from .arrow import Array, Batch, Stream


@pytest.fixture
def producer(access: dict[str, Any]) -> Iterator[KafkaProducer]:
    with KafkaProducer(**access) as made:
        yield made


@pytest.fixture
def read(access: dict[str, Any]) -> Callable[..., list[Any]]:
    """`read(topic, count, partition=0)`: the records."""

    def read(topic: str, count: int, partition: int = 0) -> list[Any]:
        with KafkaConsumer(**access, consumer_timeout_ms=20_000) as consumer:
            place = TopicPartition(topic, partition)
            consumer.assign([place])
            consumer.seek_to_beginning(place)
            found: list[Any] = []
            for record in consumer:
                found.append(record)
                if len(found) == count:
                    return found
            return found

    return read


VALUES = [b"first", b"", b"third, longer than twelve bytes", b"4"]


@pytest.mark.parametrize("layout", ["z", "Z", "u", "U", "vz", "vu"])
@pytest.mark.parametrize("offset", [0, 3])
def test_every_layout_of_bytes(
    producer: KafkaProducer, topic: str, read: Any, layout: str, offset: int
) -> None:
    values = [*VALUES, None, b"last"]
    keys = [None, b"k", None, b"", b"key", b"k"]
    skipped = [b"skipped"] * offset
    batch = Batch(
        value=Array(layout, skipped + values), key=Array(layout, skipped + keys), offset=offset
    )
    assert len(producer.send_columns(topic, batch).get(10)) == 6
    records = read(topic, 6)
    assert [one.value for one in records] == values
    assert [one.key for one in records] == keys


def test_one_column_a_key_beside_it_and_the_name_of_one(
    producer: KafkaProducer, make_topic: Any, read: Any
) -> None:
    topic = make_topic(3)
    keys = [b"a", b"b", b"c", b"d"]
    producer.send_columns(topic, Array("z", VALUES), key=Array("Z", keys)).get(10)
    batch = Batch(value=Array("z", VALUES), id=Array("z", keys))
    found = producer.send_columns(topic, batch, key="id").get(10)
    assert sum(one.count for one in found) == 4
    places = {key: (murmur2(key) & 0x7FFFFFFF) % 3 for key in keys}
    for partition in range(3):
        wanted = [v for k, v in zip(keys, VALUES, strict=True) if places[k] == partition]
        if wanted:
            records = read(topic, 2 * len(wanted), partition)
            assert [one.value for one in records] == wanted * 2


def test_times_and_partitions_of_their_own(
    producer: KafkaProducer, make_topic: Any, read: Any
) -> None:
    topic = make_topic(2)
    batch = Batch(
        value=Array("z", VALUES),
        timestamp=Array("tsu:UTC", [1000, 2999, None, 5000]),
        partition=Array("i", [1, 0, 1, None]),
    )
    found = producer.send_columns(topic, batch).get(10)
    assert sum(one.count for one in found if one.partition == 1) >= 2
    records = read(topic, 2, 1)
    assert [one.timestamp for one in records[:1]] == [1]
    assert records[1].timestamp > 1_600_000_000_000
    # What is said for all stands above the columns.
    producer.send_columns(topic, batch, partition=0, timestamp_ms=77).get(10)
    last = read(topic, sum(one.count for one in found if one.partition == 0) + 4)[-4:]
    assert [(one.value, one.timestamp) for one in last] == [(value, 77) for value in VALUES]


def test_streams_of_batches(producer: KafkaProducer, topic: str, read: Any) -> None:
    stream = Stream([Array("z", VALUES), Array("z", []), Array("z", VALUES[::-1])])
    assert len(producer.send_columns(topic, stream).get(10)) == 8
    assert [one.value for one in read(topic, 8)] == VALUES + VALUES[::-1]


def test_buffers_of_rows_and_of_fixed_strings(
    producer: KafkaProducer, topic: str, read: Any
) -> None:
    rows = memoryview(b"abcdef\x00\x00").cast("B", (4, 2))
    assert len(producer.send_columns(topic, rows).get(10)) == 4
    strings = (ctypes.c_char * 3 * 2)(*[(ctypes.c_char * 3)(*s) for s in (b"xy\0", b"xyz")])
    producer.send_columns(topic, memoryview(strings)).get(10)
    values = [one.value for one in read(topic, 6)]
    assert values == [b"ab", b"cd", b"ef", b"\0\0", b"xy\0", b"xyz"]


def test_what_was_consumed_can_be_produced_again(
    producer: KafkaProducer, make_topic: Any, access: dict[str, Any], read: Any
) -> None:
    source, target = make_topic(), make_topic()
    pairs = [(b"k%d" % n, b"v%d" % n) for n in range(1000)]
    producer.send_many(source, pairs, timestamp_ms=5).get(10)
    with KafkaConsumer(**access) as consumer:
        place = TopicPartition(source, 0)
        consumer.assign([place])
        consumer.seek_to_beginning(place)
        got = 0
        while got < 1000:
            columns = consumer.poll_columns(timeout_ms=5000)
            got += len(producer.send_columns(target, columns, partition=0).get(10))
    records = read(target, 1000)
    assert [(one.key, one.value) for one in records] == pairs
    assert {one.timestamp for one in records} == {5}


@pytest.mark.parametrize(
    ("columns", "key", "text"),
    [
        (3, None, "Arrow array, batch or stream"),
        (memoryview(b"abc"), None, "no column of bytes"),
        (memoryview(b"abcdef").cast("B", (3, 2)), "id", "has none"),
        (Array("i", [1]), None, "no column of bytes"),
        (Array("z", [b"v"]), "id", "this is one column"),
        (Batch(key=Array("z", [b"v"])), None, "no column is called value"),
        (Batch(value=Array("z", [b"v"])), "id", "no column is called id"),
        (Batch(value=Array("i", [1])), None, "format 'i'"),
        (Batch(value=Array("z", [b"v"]), timestamp=Array("i", [1])), None, "timestamp"),
        (Batch(value=Array("z", [b"v"]), partition=Array("l", [1])), None, "partition"),
        (Array("z", [b"v", b"w"]), Array("z", [b"k"]), "2 values have 1 keys"),
        (Batch(value=Array("z", [b"v"]), partition=Array("i", [9])), None, "partitions 0 to 0"),
        (Array("z", [b"v"], damage=True), None, "outside of its column"),
    ],
)
def test_what_is_no_column_is_said(
    producer: KafkaProducer, topic: str, columns: Any, key: Any, text: str
) -> None:
    with pytest.raises((TypeError, ValueError, errors.IllegalStateError), match=text):
        producer.send_columns(topic, columns, key=key)
    assert producer.send(topic, b"fine").get(10).offset == 0


def test_a_stream_is_released_as_it_is_read(producer: KafkaProducer, topic: str) -> None:
    arrays = [Array("z", VALUES) for _ in range(10)]
    producer.send_columns(topic, Stream(arrays))
    assert all(array.given == array.released > 0 for array in arrays)
