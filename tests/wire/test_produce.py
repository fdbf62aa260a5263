"""What the broker demands of a batch, and what it makes of it."""

from __future__ import annotations

import gzip
import itertools
import struct
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import cramjam
import pytest
import zstandard

from . import batches
from .batches import CODECS, CONTROL, LOG_APPEND_TIME, TRANSACTIONAL, Rec, batch
from .client import NO_ID, Connection, Topic, eventually, produce_body, walk
from .conftest import MakeTopic

CORRUPT_MESSAGE = 2
UNKNOWN_TOPIC_OR_PARTITION = 3
MESSAGE_TOO_LARGE = 10
INVALID_REQUIRED_ACKS = 21
INVALID_TIMESTAMP = 32
OUT_OF_ORDER_SEQUENCE_NUMBER = 45
INVALID_PRODUCER_EPOCH = 47
UNSUPPORTED_COMPRESSION_TYPE = 76
INVALID_RECORD = 87
UNKNOWN_TOPIC_ID = 100

Connect = Callable[[], Connection]


def refused(conn: Connection, topic: Topic, data: bytes | None, **options: Any) -> int:
    """The error of a produce, which must leave no trace in the log."""
    before = conn.list_offset(topic, -1).offset
    answer = conn.produce_raw(topic, data, **options)
    assert answer.error_code != 0
    assert answer.base_offset == -1
    assert conn.list_offset(topic, -1).offset == before
    return int(answer.error_code)


@pytest.mark.parametrize("version", range(3, 14))
def test_produce_every_version(conn: Connection, topic: Topic, version: int) -> None:
    for offset in range(2):
        answer = conn.produce_raw(topic, batch([b"%d" % version]), version=version)
        assert (answer.error_code, answer.base_offset) == (0, offset)
        if version >= 5:
            assert answer.log_start_offset == 0
    assert [rec.value for _, rec in batches.records(conn.read(topic))] == [b"%d" % version] * 2


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(None, id="null"),
        pytest.param(b"", id="empty"),
        pytest.param(batch() + batch(), id="two batches"),
        pytest.param(batches.legacy(0), id="magic 0"),
        pytest.param(batches.legacy(1), id="magic 1"),
    ],
)
@pytest.mark.parametrize("version", [3, 9, 12])
def test_behaviour_12_exactly_one_batch_of_magic_2(
    conn: Connection, topic: Topic, data: bytes | None, version: int
) -> None:
    assert refused(conn, topic, data, version=version) in (INVALID_RECORD, CORRUPT_MESSAGE)
    conn.produce(topic)


@pytest.mark.parametrize("version", [3, 6])
def test_behaviour_12_zstd_needs_version_7(conn: Connection, topic: Topic, version: int) -> None:
    data = batch(codec=CODECS["zstd"])
    assert refused(conn, topic, data, version=version) == UNSUPPORTED_COMPRESSION_TYPE
    assert conn.produce_raw(topic, data, version=7).error_code == 0


@pytest.mark.parametrize(
    ("data", "error"),
    [
        pytest.param(batch(crc=0xBADC0DE), CORRUPT_MESSAGE, id="crc"),
        pytest.param(batch(count=2), INVALID_RECORD, id="count"),
        pytest.param(batch([b"a", b"b"], last_offset_delta=0), INVALID_RECORD, id="last offset"),
        pytest.param(batch(count=0, last_offset_delta=-1), INVALID_RECORD, id="no records"),
        pytest.param(batch(count=-1, last_offset_delta=-2), INVALID_RECORD, id="negative count"),
        pytest.param(batch(producer=(5, 0, -1)), INVALID_RECORD, id="negative sequence"),
        pytest.param(batch(attributes=CONTROL), INVALID_RECORD, id="control"),
        pytest.param(
            batch(attributes=CONTROL | TRANSACTIONAL, producer=(5, 0, 0)),
            INVALID_RECORD,
            id="transactional control",
        ),
        pytest.param(batch(length=20), CORRUPT_MESSAGE, id="short length"),
        pytest.param(batch(length=-1), CORRUPT_MESSAGE, id="negative length"),
        pytest.param(batch()[:40], CORRUPT_MESSAGE, id="truncated"),
        pytest.param(batch()[:5], CORRUPT_MESSAGE, id="five bytes"),
    ],
)
def test_behaviour_13_batch_checks(conn: Connection, topic: Topic, data: bytes, error: int) -> None:
    assert refused(conn, topic, data) in (error, INVALID_RECORD, CORRUPT_MESSAGE)
    conn.produce(topic)


def test_behaviour_13_codec_that_does_not_exist(conn: Connection, topic: Topic) -> None:
    # Kafka says UNKNOWN_SERVER_ERROR (-1); what we say tells the client what is wrong, for good.
    assert refused(conn, topic, batch(codec=7)) in (UNSUPPORTED_COMPRESSION_TYPE, -1)
    conn.produce(topic)


def test_behaviour_13_wrong_crc_is_corrupt_message(conn: Connection, topic: Topic) -> None:
    assert refused(conn, topic, batch(crc=1)) == CORRUPT_MESSAGE


def test_behaviour_13_other_partitions_of_the_request_are_not_touched(
    conn: Connection, make_topic: MakeTopic
) -> None:
    topic = make_topic(3)
    body = produce_body(topic, [(0, batch()), (1, batch(crc=1)), (2, batch())])
    answer = conn.call("Produce", 9, **body)
    errors = {p.index: p.error_code for p in answer.responses[0].partition_responses}
    assert errors == {0: 0, 1: CORRUPT_MESSAGE, 2: 0}


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("version", [3, 8, 9])
def test_behaviour_14_null_key_on_a_compacted_topic(
    conn: Connection, make_topic: MakeTopic, codec: str, version: int
) -> None:
    if codec == "zstd" and version < 7:
        pytest.skip("zstd needs version 7")
    topic = make_topic(cleanup_policy="compact")
    data = batch([Rec(b"0", key=b"k"), Rec(b"1"), Rec(b"2")], codec=CODECS[codec])
    answer = conn.produce_raw(topic, data, version=version)
    assert answer.error_code == INVALID_RECORD
    if version >= 8:
        # Kafka names the records in the order it meets them, one or all.
        errors = [one.batch_index for one in answer.record_errors]
        assert errors[:1] == [1]
        assert set(errors) <= {1, 2}
        assert answer.error_message
    keyed = batch([Rec(b"0", key=b"k"), Rec(None, key=b"")], codec=CODECS[codec])
    assert conn.produce_raw(topic, keyed, version=version).error_code == 0
    assert conn.list_offset(topic, -1).offset == 2


@pytest.mark.parametrize("codec", ["none", "gzip"])
def test_behaviour_15_max_message_bytes(
    conn: Connection, make_topic: MakeTopic, codec: str
) -> None:
    topic = make_topic(max_message_bytes="1000")
    # The size that counts is the batch's as sent, its header included.
    data = batch([b"x" * 900], codec=CODECS["none"])
    filler = 1000 - len(data) + 900
    exact, over = batch([b"x" * filler]), batch([b"x" * (filler + 1)])
    assert (len(exact), len(over)) == (1000, 1001)
    assert conn.produce_raw(topic, exact).error_code == 0
    assert refused(conn, topic, over) == MESSAGE_TOO_LARGE
    big = batch([b"x" * 5000], codec=CODECS[codec])
    if codec == "none":
        assert refused(conn, topic, big) == MESSAGE_TOO_LARGE
    else:
        assert conn.produce_raw(topic, big).error_code == 0


def test_behaviour_16_create_time(conn: Connection, topic: Topic) -> None:
    now = int(time.time() * 1000)
    times = [now - 5, now, now - 9]
    data = batch([Rec(timestamp=t) for t in times], base_timestamp=now)
    assert conn.produce_raw(topic, data).log_append_time_ms == -1
    stored = conn.read(topic)
    assert [rec.timestamp for _, rec in batches.records(stored)] == times
    assert (stored[0].attributes, stored[0].max_timestamp) == (0, now)


@pytest.mark.parametrize("codec", CODECS)
def test_behaviour_16_log_append_time(conn: Connection, make_topic: MakeTopic, codec: str) -> None:
    topic = make_topic(message_timestamp_type="LogAppendTime")
    before = int(time.time() * 1000)
    answer = conn.produce_raw(topic, batch([b"a", b"b"], base_timestamp=5, codec=CODECS[codec]))
    after = int(time.time() * 1000)
    assert before <= answer.log_append_time_ms <= after
    (stored,) = conn.read(topic)
    assert stored.attributes & LOG_APPEND_TIME
    assert stored.max_timestamp == answer.log_append_time_ms
    assert stored.crc_ok, "the CRC covers what was changed"
    assert [rec.value for _, rec in batches.records([stored])] == [b"a", b"b"]


@pytest.mark.parametrize(
    ("setting", "shift_ms"),
    [
        ("message_timestamp_before_max_ms", -3_600_000),
        ("message_timestamp_after_max_ms", 3_600_000),
    ],
)
def test_behaviour_16_timestamp_bounds(
    conn: Connection, make_topic: MakeTopic, setting: str, shift_ms: int
) -> None:
    topic = make_topic(**{setting: "60000"})
    now = int(time.time() * 1000)
    assert refused(conn, topic, batch(base_timestamp=now + shift_ms)) == INVALID_TIMESTAMP
    assert conn.produce_raw(topic, batch(base_timestamp=now)).error_code == 0


@pytest.mark.parametrize("codec", CODECS)
def test_behaviour_17_null_empty_and_headers(conn: Connection, topic: Topic, codec: str) -> None:
    headers = (("b", b"1"), ("a", b""), ("b", None), ("", b"2"), ("b", b"1"))
    recs = [
        Rec(value, key, headers if n % 2 else (), 1_700_000_000_000 + n)
        for n, (value, key) in enumerate(itertools.product((None, b"", b"x"), repeat=2))
    ]
    conn.produce(topic, *recs, codec=CODECS[codec])
    assert [rec for _, rec in batches.records(conn.read(topic))] == recs


def new_producer(conn: Connection) -> int:
    """A producer id nobody else has."""
    answer = conn.call(
        "InitProducerId",
        4,
        transactional_id=None,
        transaction_timeout_ms=60_000,
        producer_id=-1,
        producer_epoch=-1,
    )
    assert (answer.error_code, answer.producer_epoch) == (0, 0)
    return int(answer.producer_id)


def send(conn: Connection, topic: Topic, pid: int, epoch: int, seq: int, n: int = 1) -> Any:
    """Produces `n` records with this sequence."""
    return conn.produce_raw(topic, batch([b"v"] * n, producer=(pid, epoch, seq)))


def test_behaviour_24_duplicates_of_the_last_five_batches(conn: Connection, topic: Topic) -> None:
    pid = new_producer(conn)
    offsets = [send(conn, topic, pid, 0, 3 * n, 3).base_offset for n in range(7)]
    assert offsets == [0, 3, 6, 9, 12, 15, 18]
    for n in range(2, 7):
        again = send(conn, topic, pid, 0, 3 * n, 3)
        assert (again.error_code, again.base_offset) == (0, offsets[n])
    # Older than the last five: it is known to be no new batch, but not where it went.
    assert send(conn, topic, pid, 0, 3, 3).error_code != 0
    assert conn.list_offset(topic, -1).offset == 21


def test_behaviour_24_gap_is_out_of_order(conn: Connection, topic: Topic) -> None:
    pid = new_producer(conn)
    assert send(conn, topic, pid, 0, 0, 2).error_code == 0
    assert send(conn, topic, pid, 0, 3).error_code == OUT_OF_ORDER_SEQUENCE_NUMBER
    assert send(conn, topic, pid, 0, 1).error_code == OUT_OF_ORDER_SEQUENCE_NUMBER
    assert send(conn, topic, pid, 0, 2).error_code == 0


def test_behaviour_24_unknown_producer_may_start_anywhere(conn: Connection, topic: Topic) -> None:
    pid = new_producer(conn)
    assert send(conn, topic, pid, 0, 1000).base_offset == 0
    assert send(conn, topic, pid, 0, 1001).base_offset == 1


def test_behaviour_24_epochs(conn: Connection, topic: Topic) -> None:
    pid = new_producer(conn)
    assert send(conn, topic, pid, 0, 0).error_code == 0
    assert send(conn, topic, pid, 1, 5).error_code == OUT_OF_ORDER_SEQUENCE_NUMBER
    assert send(conn, topic, pid, 1, 0).error_code == 0
    assert send(conn, topic, pid, 0, 1).error_code == INVALID_PRODUCER_EPOCH
    assert send(conn, topic, pid, 1, 1).error_code == 0


def test_behaviour_24_sequence_wraps(conn: Connection, topic: Topic) -> None:
    pid = new_producer(conn)
    assert send(conn, topic, pid, 0, 2**31 - 2, 2).base_offset == 0
    assert send(conn, topic, pid, 0, 0).base_offset == 2
    # Across the end within one batch.
    other = new_producer(conn)
    assert send(conn, topic, other, 0, 2**31 - 1, 3).base_offset == 3
    assert send(conn, topic, other, 0, 2).base_offset == 6
    assert send(conn, topic, other, 0, 2**31 - 1, 3).base_offset == 3


def test_behaviour_25_what_follows_a_failed_batch_fails(conn: Connection, topic: Topic) -> None:
    pid = new_producer(conn)
    assert send(conn, topic, pid, 0, 0).error_code == 0
    datas = [batch([b"v"], producer=(pid, 0, n)) for n in range(1, 6)]
    datas[0] = batch([b"v"], producer=(pid, 0, 1), crc=1)
    for data in datas:
        conn.send("Produce", 9, **produce_body(topic, [(0, data)]))
    answers = [conn.receive("Produce", 9)[0] for _ in datas]
    errors = [one.responses[0].partition_responses[0].error_code for one in answers]
    assert errors == [CORRUPT_MESSAGE] + [OUT_OF_ORDER_SEQUENCE_NUMBER] * 4
    assert conn.list_offset(topic, -1).offset == 1
    for seq in range(1, 6):
        assert send(conn, topic, pid, 0, seq).base_offset == seq


def test_behaviour_26_producer_ids_are_never_given_twice(connect: Connect) -> None:
    conns = [connect() for _ in range(3)]
    ids = [new_producer(conn) for _ in range(50) for conn in conns]
    assert len(set(ids)) == len(ids)
    assert min(ids) >= 0


@pytest.mark.parametrize("version", range(6))
def test_behaviour_26_init_producer_id_every_version(conn: Connection, version: int) -> None:
    ids = {"producer_id": -1, "producer_epoch": -1} if version >= 3 else {}
    values = {"transactional_id": None, "transaction_timeout_ms": 60_000, **ids}
    answer = conn.call("InitProducerId", version, **values)
    assert (answer.error_code, answer.producer_epoch, answer.throttle_time_ms) == (0, 0, 0)


def test_behaviour_26_empty_transactional_id_is_invalid(conn: Connection) -> None:
    values = {"transactional_id": "", "transaction_timeout_ms": 60_000}
    answer = conn.call("InitProducerId", 1, **values)
    assert (answer.error_code, answer.producer_id, answer.producer_epoch) == (42, -1, -1)


@pytest.mark.ours
def test_behaviour_26_transactional_ids_are_refused_for_good(conn: Connection) -> None:
    """There are no transactions yet: the error must end the client's attempts, not repeat them."""
    values = {"transactional_id": "t", "transaction_timeout_ms": 60_000}
    answer = conn.call("InitProducerId", 1, **values)
    assert (answer.producer_id, answer.producer_epoch) == (-1, -1)
    assert answer.error_code in FATAL


FATAL = {35, 42, 48, 49, 53}
"""Errors no client retries, such as UNSUPPORTED_VERSION."""


@pytest.mark.parametrize("version", [9, 11])
def test_behaviour_27_unverified_transactional_batch_is_refused(
    conn: Connection, topic: Topic, version: int
) -> None:
    pid = new_producer(conn)
    data = batch(attributes=TRANSACTIONAL, producer=(pid, 0, 0))
    answer = conn.produce_raw(topic, data, version=version, transactional_id="t")
    assert answer.error_code not in (0, *RETRIABLE)
    assert conn.list_offset(topic, -1).offset == 0


RETRIABLE = {-1, 3, 5, 6, 7, 13, 14, 15, 16, 19, 20}


@pytest.mark.parametrize("version", [9, 12, 13])
def test_behaviour_44_unknown_topics_have_a_retriable_error(
    conn: Connection, topic: Topic, version: int
) -> None:
    expected = UNKNOWN_TOPIC_ID if version >= 13 else UNKNOWN_TOPIC_OR_PARTITION
    for identity in (uuid4(), NO_ID):
        nobody = Topic(name="wire-nobody", id=identity, partitions=1)
        answer = conn.produce_raw(nobody, batch(), version=version)
        assert (answer.error_code, answer.base_offset) == (expected, -1)
    answer = conn.produce_raw(topic, batch(), partition=7, version=version)
    assert (answer.error_code, answer.base_offset) == (UNKNOWN_TOPIC_OR_PARTITION, -1)


@pytest.mark.parametrize("acks", [2, -2, 100])
def test_behaviour_45_invalid_acks(conn: Connection, topic: Topic, acks: int) -> None:
    assert refused(conn, topic, batch(), acks=acks) == INVALID_REQUIRED_ACKS


@pytest.mark.parametrize("acks", [1, -1])
def test_behaviour_45_acknowledged_is_readable(connect: Connect, topic: Topic, acks: int) -> None:
    writer, reader = connect(), connect()
    for n in range(20):
        answer = writer.produce_raw(topic, batch([b"%d" % n]), acks=acks)
        assert answer.base_offset == n
        if acks == -1:
            assert reader.fetch(topic, n, max_wait_ms=0).high_watermark == n + 1
        else:
            eventually(lambda at=n: reader.read(topic, at))
    part = reader.fetch(topic, 0)
    assert batches.parse(part.records)[-1].next_offset <= part.high_watermark


def gzip_twice(data: bytes) -> bytes:
    """Two gzip members one after the other."""
    half = len(data) // 2
    return gzip.compress(data[:half]) + gzip.compress(data[half:])


def zstd_stream(data: bytes) -> bytes:
    """A frame whose header does not tell the size."""
    compressor = zstandard.ZstdCompressor().compressobj()
    return compressor.compress(data) + compressor.flush()


FRAMINGS = {
    "snappy raw": (2, lambda data: bytes(cramjam.snappy.compress_raw(data))),
    "snappy xerial": (2, batches.xerial),
    "snappy xerial, many blocks": (2, lambda data: batches.xerial(data, 100)),
    "lz4 linked, no size": (3, lambda data: bytes(cramjam.lz4.compress(data))),
    "gzip members": (1, gzip_twice),
    "gzip stored": (1, lambda data: gzip.compress(data, 0)),
    "zstd with size": (4, lambda data: zstandard.compress(data)),
    "zstd long window": (4, lambda data: zstandard.ZstdCompressor(level=19).compress(data)),
    "zstd stream": (4, zstd_stream),
}


@pytest.mark.parametrize("codec", CODECS)
def test_behaviour_50_codecs_are_stored_as_sent(conn: Connection, topic: Topic, codec: str) -> None:
    data = batch([b"x" * 1000, b"y" * 1000], codec=CODECS[codec])
    assert conn.produce_raw(topic, data).error_code == 0
    (stored,) = conn.read(topic)
    # Base offset and leader epoch are the broker's; all else is the producer's, bit for bit.
    assert stored.raw[17:] == data[17:]
    assert (stored.base_offset, stored.leader_epoch >= 0) == (0, True)


@pytest.mark.parametrize("framing", FRAMINGS)
def test_behaviour_50_every_framing_comes_back(
    conn: Connection, topic: Topic, framing: str
) -> None:
    codec, pack = FRAMINGS[framing]
    plain = b"".join(batches.record(Rec(b"z" * 300), n, 0) for n in range(20))
    packed = pack(plain)
    data = batch([b""] * 20, codec=codec, payload=packed)
    assert conn.produce_raw(topic, data).error_code == 0
    (stored,) = conn.read(topic)
    assert stored.raw[61:] == packed
    assert stored.payload == plain


def test_behaviour_11_positions_move_by_last_offset_delta(conn: Connection, topic: Topic) -> None:
    sizes = [1, 7, 2, 100, 1, 31]
    for size in sizes:
        conn.produce(topic, *[struct.pack(">i", size)] * size)
    seen = list(walk(conn, topic, sum(sizes)))
    assert [one.last_offset_delta + 1 for one in seen] == sizes
    assert [one.base_offset for one in seen] == list(itertools.accumulate(sizes, initial=0))[:-1]
