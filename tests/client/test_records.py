"""Records as objects: what they hold, how they are made, and what a deserializer may do."""

from __future__ import annotations

import gc
import pickle
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import kafka.consumer.fetcher
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqlog import _native
from mqlog._consumer import ConsumerBase, ObjectRecord, Record
from mqlog.errors import ClosedError, CorruptMessageError, IllegalStateError

from .reading import Offline

Headers = list[tuple[str, bytes | None]]
Row = tuple[int, bytes | None, bytes | None, Headers]
HEADERS: Headers = [("trace", b"1"), ("empty", b""), ("null", None), ("trace", b"2")]


def row(value: bytes | None, key: bytes | None = None, headers: Headers | None = None) -> Row:
    return (1_700_000_000_000, key, value, headers or [])


@pytest.fixture
def offline() -> Iterator[Offline]:
    with Offline() as consumer:
        yield consumer  # type: ignore[misc]


def read(consumer: Offline, *rows: Row, **batch: Any) -> list[Record]:
    """The rows in one batch, by iterating."""
    consumer.feed(_native.build_batch(rows, **batch))
    return list(consumer)


def test_a_record_has_the_fields_of_kafka_python(offline: Offline) -> None:
    [record] = read(offline, row(b"value", b"key", HEADERS), leader_epoch=7)
    assert (record.topic, record.partition, record.offset, record.leader_epoch) == ("t", 0, 0, 7)
    assert (record.timestamp, record.timestamp_type) == (1_700_000_000_000, 0)
    assert (record.key, record.value, record.headers) == (b"key", b"value", HEADERS)
    sizes = record.serialized_key_size, record.serialized_value_size, record.serialized_header_size
    assert sizes == (3, 5, 21)
    assert record.checksum is None
    fields = kafka.consumer.fetcher.ConsumerRecord._fields
    assert record._fields == fields
    assert tuple(record) == tuple(getattr(record, name) for name in fields)
    assert (record[6], record[-1], len(record)) == (b"key", 21, 13)
    assert record._asdict()["value"] == b"value"


def test_null_is_not_empty(offline: Offline) -> None:
    null, empty = read(offline, row(None), row(b"", b""))
    assert (null.key, null.value, null.headers) == (None, None, [])
    assert (null.serialized_key_size, null.serialized_value_size) == (-1, -1)
    assert null.serialized_header_size == -1
    assert (empty.key, empty.value, empty.serialized_value_size) == (b"", b"", 0)


def test_log_append_time_stands_for_every_record(offline: Offline) -> None:
    records = read(offline, row(b"a"), row(b"b"), log_append_time=42)
    assert [(one.timestamp, one.timestamp_type) for one in records] == [(42, 1), (42, 1)]


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_every_codec_is_read(offline: Offline, codec: str) -> None:
    values = [b"value %d" % number * 20 for number in range(1000)]
    records = read(offline, *map(row, values), codec=codec)
    assert [record.value for record in records] == values
    assert [record.offset for record in records] == list(range(1000))


@settings(deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.integers(-1, 2**62),
            st.none() | st.binary(max_size=40),
            st.none() | st.binary(max_size=200),
            st.lists(st.tuples(st.text(max_size=8), st.none() | st.binary(max_size=8)), max_size=3),
        ),
        min_size=1,
        max_size=30,
    ),
    codec=st.sampled_from(["none", "lz4", "zstd"]),
    step=st.integers(1, 40),
)
def test_records_are_what_was_written(rows: list[Row], codec: str, step: int) -> None:
    with Offline() as consumer:
        assert isinstance(consumer, Offline)
        consumer.feed(_native.build_batch(rows, codec))
        found: list[Record] = []
        while taken := consumer._take_records(step):
            assert len(taken["t", 0]) <= step
            found += taken["t", 0]
    assert [(one.timestamp, one.key, one.value, one.headers) for one in found] == rows


def test_records_compare_hash_and_print(offline: Offline) -> None:
    one, other = read(offline, row(b"a", b"k", HEADERS), row(b"a", b"k", HEADERS))
    same = Record(*one)
    assert (same == one, hash(same) == hash(one), one == other) == (True, True, False)
    assert one != tuple(one)
    assert repr(one).startswith("ConsumerRecord(topic='t', partition=0, leader_epoch=-1, offset=0,")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(one, protocol)) == one


def test_records_can_be_made_by_hand() -> None:
    made = Record("t", 0, -1, 5, 0, 0, b"key", "text", HEADERS)
    assert (made.offset, made.value, made.headers) == (5, "text", HEADERS)
    assert (made.serialized_key_size, made.serialized_value_size) == (3, 4)
    with pytest.raises(TypeError, match="ObjectRecord holds anything"):
        Record("t", 0, -1, 5, 0, 0, None, {"a": 1})  # type: ignore[arg-type]


def test_plain_records_are_not_the_collectors_business(offline: Offline) -> None:
    [record] = read(offline, row(b"a", b"k", HEADERS))
    assert not gc.is_tracked(record)


def test_one_topic_is_one_string(offline: Offline) -> None:
    one, other = read(offline, row(b"a")) + read(offline, row(b"b"), base_offset=1)
    assert one.topic is other.topic


# -- deserializers ---------------------------------------------------------------------------------


def test_text_makes_plain_records() -> None:
    with Offline(value_deserializer=bytes.decode) as consumer:
        [record] = read(consumer, row("grün".encode(), b"k"))  # type: ignore[arg-type]
    assert (record.key, record.value, record.serialized_value_size) == (b"k", "grün", 5)
    assert type(record) is Record
    assert not gc.is_tracked(record)


def test_other_objects_make_records_that_are_collected() -> None:
    class Node:
        record: Any = None

    with Offline(value_deserializer=lambda data: Node()) as consumer:
        [record] = read(consumer, row(b"v", b"k", HEADERS))  # type: ignore[arg-type]
    assert type(record) is ObjectRecord
    assert isinstance(record, Record)
    assert (record.key, record.headers, record.serialized_value_size) == (b"k", HEADERS, 1)
    node = weakref.ref(record.value)
    record.value.record = record
    del record
    gc.collect()
    assert node() is None, "the cycle was not found"


def test_a_deserializer_object_gets_topic_and_headers() -> None:
    class Deserializer:
        def deserialize(self, topic: str, headers: Headers, data: bytes | None) -> Any:
            return [topic, headers, data]

    with Offline(key_deserializer=Deserializer()) as consumer:
        [record] = read(consumer, row(b"v", None, HEADERS))  # type: ignore[arg-type]
    assert record.key == ["t", HEADERS, None]


def picky(data: bytes | None) -> str:
    if data == b"bad":
        raise ValueError("not to my taste")
    return (data or b"").decode()


def test_a_deserializer_that_raises_leaves_the_position_at_its_record() -> None:
    rows = [row(b"a"), row(b"bad"), row(b"c")]
    with Offline(value_deserializer=picky) as consumer:
        assert isinstance(consumer, Offline)
        consumer.feed(_native.build_batch(rows))
        assert next(consumer).value == "a"
        for _ in range(2):
            with pytest.raises(ValueError, match="not to my taste") as raised:
                next(consumer)
            [note] = raised.value.__notes__
            assert note == (
                "while deserializing the value of t-0 at offset 1; seek to 2 to skip it"
            )
        assert consumer.position("t") == 1
        consumer.core.seek("t", 0, 2)
        consumer.feed(_native.build_batch(rows))
        assert next(consumer).value == "c"


def test_a_poll_gives_what_is_before_a_record_that_cannot_be_made() -> None:
    rows = [row(b"a"), row(b"b"), row(b"bad"), row(b"c")]
    with Offline(value_deserializer=picky) as consumer:
        assert isinstance(consumer, Offline)
        consumer.feed(_native.build_batch(rows))
        assert [one.value for one in consumer._take_records(10)["t", 0]] == ["a", "b"]
        assert consumer.position("t") == 2
        with pytest.raises(ValueError, match="not to my taste"):
            consumer._take_records(10)
        assert consumer.position("t") == 2


def test_what_a_poll_was_kept_from_handing_over_comes_again() -> None:
    interrupt = True

    def interrupted(data: bytes | None) -> bytes | None:
        if interrupt and data == b"b":
            raise KeyboardInterrupt
        return data

    batch = _native.build_batch([row(b"a"), row(b"b")])
    with Offline(value_deserializer=interrupted) as consumer:
        assert isinstance(consumer, Offline)
        consumer.feed(batch)
        with pytest.raises(KeyboardInterrupt):
            consumer._take_records(10)
        assert consumer.position("t") == 0
        interrupt = False
        consumer.feed(batch)
        assert [one.value for one in consumer._take_records(10)["t", 0]] == [b"a", b"b"]


def test_a_deserializer_may_not_read_itself() -> None:
    readers: list[Offline] = []
    with Offline(value_deserializer=lambda data: next(readers[0])) as consumer:
        assert isinstance(consumer, Offline)
        readers.append(consumer)
        consumer.feed(_native.build_batch([row(b"a"), row(b"b")]))
        with pytest.raises(IllegalStateError, match="of its own consumer"):
            next(consumer)


# -- reading ---------------------------------------------------------------------------------------


def test_refill_is_called_once_for_max_poll_records() -> None:
    batches = [
        _native.build_batch([row(b"%d" % n) for n in range(10)], base_offset=start)
        for start in range(0, 100, 10)
    ]
    with Offline(max_poll_records=25) as consumer:
        assert isinstance(consumer, Offline)
        consumer.feed(*batches)
        assert [one.offset for one in consumer] == list(range(100))
        assert consumer.refills == 5, "four times with records, and the last"


def test_the_position_is_the_next_record_that_was_not_given_out(offline: Offline) -> None:
    offline.feed(_native.build_batch([row(b"%d" % n) for n in range(10)]))
    assert offline.position("t") == 0
    offline.take(4)
    assert offline.position("t") == 4
    taken = offline._take_records(3)
    assert [one.offset for one in taken["t", 0]] == [4, 5, 6]
    assert offline.position("t") == 7
    assert len(offline._take_columns()) == 0, "what iterating left comes again when it is fetched"
    assert offline.position("t") == 7


def test_nothing_is_given_out_after_a_seek_or_a_revoke(offline: Offline) -> None:
    batch = _native.build_batch([row(b"%d" % n) for n in range(10)])
    offline.feed(batch).take(3)
    offline.core.seek("t", 0, 8)
    offline.feed(batch)
    assert [one.offset for one in offline] == [8, 9]
    offline.core.seek("t", 0, 0)
    offline.feed(batch).take(3)
    offline.core.remove([("t", 0)])
    assert list(offline) == []


def test_a_paused_partition_gives_nothing_until_it_goes_on(offline: Offline) -> None:
    batch = _native.build_batch([row(b"%d" % n) for n in range(10)])
    offline.feed(batch).take(3)
    offline.core.pause("t", 0, on=True)
    assert list(offline) == []
    assert offline.position("t") == 3
    offline.core.pause("t", 0, on=False)
    offline.feed(batch)
    assert [one.offset for one in offline] == [3, 4, 5, 6, 7, 8, 9]


def test_a_chunk_is_half_a_megabyte_or_one_record(offline: Offline) -> None:
    large = b"x" * 400_000
    records = read(offline, row(large), row(large), row(b"y" * 3_000_000), row(b"z"))
    assert [len(one.value) for one in records] == [400_000, 400_000, 3_000_000, 1]


def test_damage_is_an_error_behind_what_is_good(offline: Offline) -> None:
    good = _native.build_batch([row(b"a"), row(b"b")])
    bad = bytearray(_native.build_batch([row(b"c")], base_offset=2))
    bad[-3] ^= 1
    offline.feed(good, bytes(bad))
    assert [one.value for one in offline._take_records(10)["t", 0]] == [b"a", b"b"]
    assert offline._take_records(10) == {}
    for _ in range(2):
        with pytest.raises(CorruptMessageError) as raised:
            list(offline)
        assert (raised.value.topic, raised.value.partition) == ("t", 0)
        assert raised.value.offset == 2
        assert "the next batch begins at 3" in str(raised.value)
    offline.core.seek("t", 0, 3)
    assert list(offline) == []


def test_a_bomb_is_an_error() -> None:
    with Offline(max_decompressed_bytes=1 << 20) as consumer:
        assert isinstance(consumer, Offline)
        consumer.feed(_native.build_batch([row(bytes(2 << 20))], "zstd"))
        with pytest.raises(CorruptMessageError, match="decompresses to more than 1048576 bytes"):
            list(consumer)


def test_read_committed_skips_what_was_aborted() -> None:
    def batch(offset: int, value: bytes, producer: int) -> bytes:
        return _native.build_batch(
            [row(value)], base_offset=offset, producer_id=producer, producer_epoch=0,
            base_sequence=0, transactional=producer >= 0,
        )  # fmt: skip

    def marker(offset: int, producer: int, *, commit: bool) -> bytes:
        made = _native.build_control_batch(commit=commit, producer_id=producer, producer_epoch=0)
        return offset.to_bytes(8, "big") + made[8:]

    log = [
        batch(0, b"aborted", 1),
        batch(1, b"committed", 2),
        batch(2, b"plain", -1),
        marker(3, 1, commit=False),
        batch(4, b"committed later", 1),
        marker(5, 2, commit=True),
        marker(6, 1, commit=True),
    ]
    for isolation, values in [
        ("read_committed", [b"committed", b"plain", b"committed later"]),
        ("read_uncommitted", [b"aborted", b"committed", b"plain", b"committed later"]),
    ]:
        with Offline(isolation_level=isolation) as consumer:
            assert isinstance(consumer, Offline)
            consumer.feed(*log, aborted=[(1, 0)])
            assert [one.value for one in consumer] == values
            assert consumer.position("t") == 7, "markers move the position, and nobody sees them"


@settings(deadline=None)
@given(
    damage=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=4),
    codec=st.sampled_from(["none", "lz4", "zstd", "snappy", "gzip"]),
    keep=st.floats(0, 1),
)
def test_mutated_batches_do_no_harm(damage: list[tuple[int, int]], codec: str, keep: float) -> None:
    rows = [row(b"value %d" % number, b"key", HEADERS) for number in range(8)]
    data = bytearray(_native.build_batch(rows, codec))
    data += _native.build_batch(rows, codec, base_offset=8)
    for place, byte in damage:
        data[place % len(data)] = byte
    del data[round(len(data) * keep) :]
    with Offline(check_crcs=False) as consumer:
        assert isinstance(consumer, Offline)
        records, error = consumer.decode(bytes(data))
        again, _ = consumer.decode(bytes(data))
    for record in records:
        assert len(tuple(record)) == 13
        assert record.offset >= 0
    assert again == records
    assert error is None or isinstance(error, CorruptMessageError)


# -- who may use it --------------------------------------------------------------------------------


def test_another_thread_is_kept_out_of_what_is_in_use(offline: Offline) -> None:
    offline.feed(_native.build_batch([row(b"a")]))
    raised: list[BaseException] = []

    def use() -> None:
        try:
            offline._take_records(1)
        except IllegalStateError as error:
            raised.append(error)

    offline._acquire()
    offline._acquire()
    offline._release()
    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert len(raised) == 1
    assert "used by another thread" in str(raised[0])
    assert len(offline._take_records(1)["t", 0]) == 1, "the same thread may nest"
    offline._release()
    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert len(raised) == 1


def test_threads_that_iterate_together_get_each_record_once() -> None:
    total = 20_000
    batches = [
        _native.build_batch([row(b"%d" % n) for n in range(start, start + 500)], base_offset=start)
        for start in range(0, total, 500)
    ]
    found: list[list[int]] = [[] for _ in range(4)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with Offline() as consumer:
            assert isinstance(consumer, Offline)
            consumer.feed(*batches)

            def iterate(mine: list[int]) -> None:
                while True:
                    try:
                        mine.append(int(next(consumer).value))
                    except IllegalStateError:
                        continue
                    except StopIteration:
                        return

            threads = [threading.Thread(target=iterate, args=(mine,)) for mine in found]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    finally:
        sys.setswitchinterval(before)
    assert sorted(number for mine in found for number in mine) == list(range(total))


def test_a_consumer_that_is_not_attached_says_so() -> None:
    bare = ConsumerBase()
    for use in (lambda: next(bare), lambda: bare._take_records(1), bare._take_columns):
        with pytest.raises(IllegalStateError, match="not attached"):
            use()


def test_a_consumer_in_a_cycle_is_collected_with_records_at_hand() -> None:
    for _ in range(20):
        consumer = Offline(value_deserializer=lambda data: data)
        consumer.me = consumer  # type: ignore[attr-defined]
        consumer.feed(_native.build_batch([row(b"a"), row(b"b")]))
        next(consumer)
        gone = weakref.ref(consumer)
        del consumer
        gc.collect()
        assert gone() is None


def test_a_closed_consumer_says_so(offline: Offline) -> None:
    offline.feed(_native.build_batch([row(b"a")]))
    offline.core.close()
    offline.core.close()
    for use in (lambda: offline._take_records(1), offline._take_columns):
        with pytest.raises(ClosedError, match="consumer is closed"):
            use()
