"""Framing, versions and the order of answers on one connection."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from kafka.protocol.metadata import ApiVersionsResponse

from . import batches
from .client import (
    Closed,
    Connection,
    Topic,
    eventually,
    fetch_body,
    produce_body,
    request_header,
)
from .conftest import split_address

UNSUPPORTED_VERSION = 35

Connect = Callable[[], Connection]


def test_behaviour_01_acks_0_is_never_answered(conn: Connection, topic: Topic) -> None:
    for _ in range(3):
        conn.send("Produce", 9, **produce_body(topic, [(0, batches.batch())], acks=0))
    # The next answer on this connection is that of the next request.
    conn.call("ApiVersions", 2)
    eventually(lambda: conn.list_offset(topic, -1).offset == 3)


@pytest.mark.parametrize("version", [3, 8, 13])
def test_behaviour_01_acks_0_closes_on_error(connect: Connect, topic: Topic, version: int) -> None:
    conn = connect()
    broken = batches.batch(crc=1)
    conn.send("Produce", version, **produce_body(topic, [(0, broken)], acks=0))
    assert conn.closed_by_broker()


def test_behaviour_02_answers_come_in_request_order(conn: Connection, topic: Topic) -> None:
    asked = []
    for number in range(40):
        match number % 4:
            case 0:
                data = batches.batch([b"%d" % number])
                acks = -1 if number % 8 else 1
                asked.append(("Produce", 9, produce_body(topic, [(0, data)], acks=acks)))
            case 1:
                named = {"topics": [{"name": topic.name}], "allow_auto_topic_creation": False}
                asked.append(("Metadata", 5, named))
            case 2:
                asked.append(("ApiVersions", 0, {}))
            case 3:
                asked.append(("DescribeCluster", 0, {}))
    sent = [conn.send(name, version, **values) for name, version, values in asked]
    got = []
    offsets = []
    for name, version, _ in asked:
        answer, correlation = conn.receive(name, version)
        got.append(correlation)
        if name == "Produce":
            offsets.append(answer.responses[0].partition_responses[0].base_offset)
    assert got == sent
    assert offsets == list(range(10)), "appended in the order of arrival"


def test_behaviour_02_a_waiting_fetch_holds_back_what_follows(
    connect: Connect, topic: Topic
) -> None:
    waiting, other = connect(), connect()
    body = fetch_body([(topic, 0, 0)], version=12, max_wait_ms=60_000)
    waiting.send("Fetch", 12, **body)
    waiting.send("ApiVersions", 0)
    assert waiting.silent_for(0.3), "the second answer overtook the first"
    other.produce(topic, b"now")
    fetched, first = waiting.receive("Fetch", 12)
    _, second = waiting.receive("ApiVersions", 0)
    assert second == first + 1
    assert fetched.responses[0].partitions[0].records


def test_behaviour_03_unsupported_api_versions_version(conn: Connection) -> None:
    # The body is nothing any version could parse.
    conn.send_frame(request_header(18, 99, 77, flexible=True) + b"\xff" * 9)
    answer = conn.read_frame()
    correlation, error = struct.unpack_from(">ih", answer)
    assert (correlation, error) == (77, UNSUPPORTED_VERSION)
    (count,) = struct.unpack_from(">i", answer, 6)
    entries = [struct.unpack_from(">hhh", answer, 10 + 6 * n) for n in range(count)]
    assert entries == [(18, 0, 4)]
    assert len(answer) == 10 + 6 * count, "a v0 body has nothing after the array"
    # The connection is as good as before.
    assert conn.call("ApiVersions", 3, client_software_name="a", client_software_version="1")


@pytest.mark.parametrize("version", range(5))
def test_behaviour_04_api_versions_answers_with_header_v0(conn: Connection, version: int) -> None:
    software = {"client_software_name": "wire", "client_software_version": "1.0"}
    correlation = conn.send("ApiVersions", version, **(software if version >= 3 else {}))
    answer = conn.read_frame()
    # Right after the correlation id comes the error code: there are no header tags.
    assert struct.unpack_from(">ih", answer) == (correlation, 0)
    ranges = {
        one.api_key: (one.min_version, one.max_version)
        for one in ApiVersionsResponse.decode(answer[4:], version=version).api_keys
    }
    assert ranges[0] == (0, 13), "librdkafka before 2.11.1 does not compress if 0 is missing"
    assert ranges[1] == (4, 18)
    assert ranges[2] == (1, 11)
    assert ranges[3] == (0, 13)
    assert ranges[18] == (0, 4)
    assert ranges[19] == (2, 7)
    assert ranges[20] == (1, 6)
    assert ranges[21] == (0, 2)
    assert ranges[22] == (0, 5)
    assert ranges[23] == (2, 4)
    assert ranges[29] == ranges[30] == ranges[31] == (1, 3)
    assert ranges[32] == (1, 4)
    assert ranges[33] == (0, 2)
    assert ranges[34] == (1, 2)
    assert ranges[35] == (1, 5)
    assert ranges[37] == (0, 3)
    assert ranges[43] == (0, 2)
    assert ranges[44] == ranges[45] == (0, 1)
    assert ranges[46] == ranges[50] == (0, 0)
    assert ranges[48] == ranges[49] == (0, 1)
    assert ranges[55] == ranges[57] == (0, 2)
    assert ranges[60] == (0, 2)
    assert ranges[61] == ranges[64] == ranges[65] == (0, 0)
    assert ranges[66] == (0, 2)
    assert ranges[74] == (0, 1)
    assert ranges[75] == (0, 0)
    assert not ranges.keys() & {71, 72}, "librdkafka pushes telemetry as soon as 71 appears"


@pytest.mark.parametrize(
    ("key", "version"),
    [(3, 14), (3, -1), (1, 3), (1, 19), (0, 14), (2, 0), (4, 0), (999, 0), (-1, 0), (32767, 1)],
)
def test_behaviour_05_unknown_key_or_version_closes(
    connect: Connect, key: int, version: int
) -> None:
    conn, other = connect(), connect()
    conn.send_frame(request_header(key, version, 1, flexible=False) + bytes(64))
    assert conn.closed_by_broker()
    other.call("ApiVersions", 0)


@pytest.mark.parametrize("version", [0, 1])
def test_behaviour_05_metadata_without_api_versions_first(
    conn: Connection, topic: Topic, version: int
) -> None:
    answer = conn.call("Metadata", version, topics=[{"name": topic.name}])
    assert answer.topics[0].error_code == 0


@pytest.mark.parametrize("version", [0, 1, 2])
def test_behaviour_05_produce_0_to_2_is_unsupported_version(
    conn: Connection, topic: Topic, version: int, oracle: bool
) -> None:
    name = topic.name.encode()
    data = b"\0" * 40
    body = struct.pack(">hii", 1, 1000, 1) + struct.pack(">h", len(name)) + name
    body += struct.pack(">iii", 1, 0, len(data)) + data
    conn.send_frame(request_header(0, version, 9, flexible=False) + body)
    try:
        answer = conn.read_frame()
    except Closed:
        return
    assert answer[:4] == struct.pack(">i", 9)
    at = 4 + 4 + 2 + len(name) + 4
    assert struct.unpack_from(">ih", answer, at) == (0, UNSUPPORTED_VERSION)


def test_behaviour_06_unknown_tagged_fields_are_skipped(conn: Connection, topic: Topic) -> None:
    # In the header, in the body, and inside the topic.
    unknown = b"\x02\x00\x01x" + b"\xd2\x09\x03abc"
    head = struct.pack(">hhih", 3, 9, 5, 4) + b"wire" + unknown
    name = topic.name.encode()
    body = b"\x02" + bytes([len(name) + 1]) + name + unknown + b"\0\0\0" + unknown
    conn.send_frame(head + body)
    answer, correlation = conn.receive("Metadata", 9)
    assert correlation == 5
    assert [one.name for one in answer.topics] == [topic.name]


def test_behaviour_06_null_and_empty_compact_arrays_differ(conn: Connection, topic: Topic) -> None:
    everything = conn.metadata(None, version=9).topics
    nothing = conn.metadata([], version=9).topics
    assert topic.name in [one.name for one in everything]
    assert nothing == []


def test_behaviour_06_metadata_v0_empty_means_all(conn: Connection, topic: Topic) -> None:
    assert topic.name in [one.name for one in conn.call("Metadata", 0, topics=[]).topics]
    assert conn.call("Metadata", 1, topics=[]).topics == []


def test_behaviour_43_throttle_time_is_zero(conn: Connection, topic: Topic) -> None:
    assert conn.call("ApiVersions", 1).throttle_time_ms == 0
    assert conn.metadata([topic.name]).throttle_time_ms == 0
    assert conn.fetch_raw(topic, max_wait_ms=0).throttle_time_ms == 0


@pytest.mark.parametrize("size", [-1, -(2**31), 2**31 - 1, 200 * 2**20])
def test_behaviour_48_bad_frame_length_closes(connect: Connect, size: int) -> None:
    conn = connect()
    conn.send_bytes(struct.pack(">i", size) + b"\0" * 32)
    assert conn.closed_by_broker()
    connect().call("ApiVersions", 0)


@pytest.mark.ours
def test_behaviour_49_idle_connections_are_closed() -> None:
    from mqlog.testing import Broker

    with Broker(config={"connections.max.idle.ms": "1000"}) as broker:
        address = split_address(broker.bootstrap_servers)
        with Connection(address) as idle, Connection(address) as silent:
            idle.call("ApiVersions", 0)
            # Neither one that asked something nor one that never did stays for ever.
            assert idle.closed_by_broker()
            assert silent.closed_by_broker()
        with Connection(address) as another:
            another.call("ApiVersions", 0)
