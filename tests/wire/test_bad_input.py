"""What must not hurt: each kind of garbage ends its connection or gets its error, is counted, costs
little, and no other connection notices."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from mqlog.testing import Broker

from .batches import CODECS, CONTROL, batch, compress
from .client import Closed, Connection, Topic, api_key, eventually
from .conftest import create_topic, split_address

pytestmark = pytest.mark.ours

CORRUPT_MESSAGE, INVALID_TOPIC, INVALID_RECORD = 2, 17, 87
INT_MAX, INT_MIN = 2**31 - 1, -(2**31)


@pytest.fixture(scope="module")
def engine() -> Iterator[Broker]:
    """A broker in this process: its counters can be read."""
    with Broker(in_process=True, durability="os") as running:
        yield running


@pytest.fixture
def bystander(engine: Broker) -> Iterator[Connection]:
    """A well-behaved connection; it works before and after."""
    with Connection(split_address(engine.bootstrap_servers)) as connection:
        connection.call("ApiVersions", 0)
        yield connection
        connection.call("ApiVersions", 0)


@pytest.fixture
def attacker(engine: Broker, bystander: Connection) -> Iterator[Connection]:
    """A connection that will misbehave."""
    with Connection(split_address(engine.bootstrap_servers)) as connection:
        yield connection


Counts = Callable[[str, int], None]


@pytest.fixture
def counts(engine: Broker) -> Counts:
    """`counts(name, n)`: the counter went up by at least n since the test began."""
    before = engine.native.stats()

    def check(name: str, at_least: int = 1) -> None:
        eventually(lambda: engine.native.stats()[name] >= before[name] + at_least)

    return check


TLS_HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(190)


@pytest.mark.parametrize(
    ("sent", "counter"),
    [
        pytest.param(TLS_HELLO, "closed_tls", id="tls"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "closed_http", id="http get"),
        pytest.param(b"POST /topics HTTP/1.1\r\n\r\n", "closed_http", id="http post"),
        pytest.param(struct.pack(">i", INT_MAX), "closed_frame_length", id="2 GiB"),
        pytest.param(struct.pack(">i", -1), "closed_frame_length", id="negative length"),
        pytest.param(struct.pack(">i", 0), "closed_malformed", id="empty frame"),
        pytest.param(struct.pack(">i", 4) + b"abcd", "closed_malformed", id="no header"),
        pytest.param(
            struct.pack(">ihhih", 10, 9999, 0, 1, -1), "closed_unsupported", id="unknown key"
        ),
        pytest.param(
            struct.pack(">ihhih", 10, 3, 99, 1, -1), "closed_unsupported", id="unknown version"
        ),
        pytest.param(
            struct.pack(">ihhih", 10, 3, -1, 1, -1), "closed_unsupported", id="negative version"
        ),
        pytest.param(
            struct.pack(">ihhih", 10, 3, 1, 1, 32767), "closed_malformed", id="client id too long"
        ),
    ],
)
def test_the_connection_is_closed_and_counted(
    attacker: Connection, counts: Counts, sent: bytes, counter: str
) -> None:
    attacker.send_bytes(sent)
    assert attacker.closed_by_broker()
    counts(counter, 1)


def test_random_bytes(engine: Broker, bystander: Connection, counts: Counts) -> None:
    import random

    rng = random.Random(20130101)
    for _ in range(200):
        with Connection(split_address(engine.bootstrap_servers)) as one:
            with suppress(ConnectionError):
                one.send_bytes(rng.randbytes(rng.randrange(1, 400)))
            one.socket.shutdown(socket.SHUT_WR)
            with suppress(Closed, ConnectionError):
                while True:
                    one.read_frame()
    counts("connections_accepted", 200)
    eventually(lambda: engine.native.stats()["connections_open"] <= 2)


def test_a_frame_that_never_ends_holds_back_nobody(
    attacker: Connection, bystander: Connection
) -> None:
    whole = attacker.frame("ApiVersions", 0)
    attacker.send_bytes(struct.pack(">i", len(whole)) + whole[:3])
    for _ in range(20):
        bystander.call("ApiVersions", 0)


def test_a_frame_may_come_byte_by_byte(attacker: Connection) -> None:
    whole = attacker.frame("ApiVersions", 0)
    for byte in struct.pack(">i", len(whole)) + whole:
        attacker.send_bytes(bytes([byte]))
    attacker.receive("ApiVersions", 0)


def test_a_large_frame_is_not_believed_before_the_first_request(
    attacker: Connection, counts: Counts
) -> None:
    # 1 MiB until a connection has sent something valid, socket.request.max.bytes afterwards.
    attacker.send_bytes(struct.pack(">i", (1 << 20) + 1))
    assert attacker.closed_by_broker()
    counts("closed_frame_length", 1)


def test_a_large_frame_is_read_after_it(attacker: Connection) -> None:
    attacker.call("ApiVersions", 0)
    attacker.send_bytes(struct.pack(">i", 2 << 20))
    assert attacker.silent_for(0.2)


# Where each request has an array: (API, version, body up to the array's length).
ARRAYS = [
    ("Metadata", 1, b""),
    ("Fetch", 4, struct.pack(">iiiib", -1, 0, 0, 1 << 20, 0)),
    ("ListOffsets", 1, struct.pack(">i", -1)),
    ("Produce", 3, struct.pack(">hhi", -1, 1, 1000)),
    ("CreateTopics", 1, b""),
    ("DeleteTopics", 1, b""),
    ("CreatePartitions", 0, b""),
    ("DeleteRecords", 0, b""),
    ("DescribeConfigs", 1, b""),
    ("AlterConfigs", 0, b""),
    ("IncrementalAlterConfigs", 0, b""),
    ("DescribeLogDirs", 1, b""),
    ("OffsetForLeaderEpoch", 2, b""),
]


@pytest.mark.parametrize("count", [INT_MAX, INT_MAX // 8, 1 << 20, INT_MIN, -2])
@pytest.mark.parametrize(("name", "version", "before"), ARRAYS, ids=[a[0] for a in ARRAYS])
def test_counts_that_the_bytes_cannot_hold(
    attacker: Connection, name: str, version: int, before: bytes, count: int
) -> None:
    head = struct.pack(">hhih", api_key(name), version, 1, -1)
    attacker.send_frame(head + before + struct.pack(">i", count) + b"\0" * 40)
    assert attacker.closed_by_broker()


def test_overlong_varints(attacker: Connection, counts: Counts) -> None:
    whole = attacker.frame("Metadata", 9, topics=[], allow_auto_topic_creation=False)
    header = whole[: whole.index(b"\0", 10) + 1]
    attacker.send_frame(header[:-1] + b"\xff" * 11 + b"\0" * 8)
    assert attacker.closed_by_broker()
    counts("closed_malformed", 1)


BOMB = bytes(64 << 20)


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_a_bomb_is_stored_unopened_or_refused(
    engine: Broker, bystander: Connection, attacker: Connection, codec: str
) -> None:
    payload = compress(CODECS[codec], BOMB)
    opened = create_topic(bystander, mqlog_validate="records", max_message_bytes="8388608")
    closed = create_topic(bystander, max_message_bytes="8388608")
    data = batch(payload=payload, codec=CODECS[codec])
    attacker.call("ApiVersions", 0)  # now it may send more than 1 MiB
    # Header mode never opens it; record mode does, within its bounds, and says no.
    assert attacker.produce_raw(closed, data).error_code == 0
    assert attacker.produce_raw(opened, data).error_code in (CORRUPT_MESSAGE, INVALID_RECORD)
    # What was stored is given back as it is, and looked at by time without trouble.
    assert attacker.fetch(closed).records[61:] == payload
    attacker.list_offset(closed, 1)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        pytest.param(batch(crc=1), CORRUPT_MESSAGE, id="crc"),
        pytest.param(batch(attributes=CONTROL), INVALID_RECORD, id="control bit"),
        pytest.param(b"\0" * 8 + struct.pack(">i", INT_MAX) + bytes(60), INVALID_RECORD, id="len"),
    ],
)
def test_bad_batches_get_their_error(
    bystander: Connection, attacker: Connection, counts: Counts, data: bytes, error: int
) -> None:
    topic: Topic = create_topic(bystander)
    assert attacker.produce_raw(topic, data).error_code == error
    counts("batches_refused", 1)
    bystander.produce(topic)


@pytest.mark.parametrize(
    "name",
    ["../x", "..", ".", "a/b", "a\0b", "", "x" * 250, "é", "a b", "C:\\x", "\u202e"],
)
def test_names_that_are_no_names(engine: Broker, attacker: Connection, name: str) -> None:
    asked: dict[str, Any] = {
        "name": name,
        "num_partitions": 1,
        "replication_factor": 1,
        "assignments": [],
        "configs": [],
    }
    answer = attacker.call("CreateTopics", 7, topics=[asked], timeout_ms=1000, validate_only=False)
    assert answer.topics[0].error_code == INVALID_TOPIC
    found = attacker.call(
        "Metadata",
        12,
        topics=[{"topic_id": None, "name": name}],
        allow_auto_topic_creation=True,
        include_topic_authorized_operations=False,
    )
    assert found.topics[0].error_code == INVALID_TOPIC
    assert name not in engine.native.image().topic_names()


def test_strings_that_are_not_utf8_are_closed(attacker: Connection, counts: Counts) -> None:
    attacker.send_frame(struct.pack(">hhih", 3, 1, 1, -1) + struct.pack(">ih", 1, 2) + b"\xff\xfe")
    assert attacker.closed_by_broker()
    counts("closed_malformed", 1)
