"""A broker that sends nonsense costs an error with a name, never memory, time or the process."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from mqlog import _native
from mqlog.errors import CorruptMessageError, KafkaError

from . import scripted_faults as faults
from .clients import consumer, named, producer, reader, take, values
from .programs import good
from .scripted import Action, Api, Cluster

LIMITS: dict[str, Any] = {
    "request_timeout_ms": 1_000,
    "delivery_timeout_ms": 2_000,
    "max_block_ms": 2_000,
    "bootstrap_timeout_ms": 2_000,
}
READER: dict[str, Any] = {
    "request_timeout_ms": 1_000,
    "default_api_timeout_ms": 2_000,
    "bootstrap_timeout_ms": 2_000,
    "fetch_max_wait_ms": 50,
}

#: Answers that are no answers, and a word of the error that names it.
NONSENSE: dict[str, tuple[Action, str]] = {
    "garbage": (faults.garbage(), ""),
    "half a frame, then the end": (faults.mid_frame(), "cut in the middle"),
    "a frame that ends too early": (faults.truncated(3), ""),
    "a negative length": (faults.length(-1), ""),
    "an oversized length": (faults.length(0x7FFF_FFFF), "receive_message_max_bytes"),
    "a length of zero": (faults.length(0), ""),
    "a wrong correlation id": (faults.wrong_correlation(), "correlation"),
    "the end": (faults.close(), "clos"),
    "a web server": (faults.raw(b"HTTP/1.1 400 Bad Request\r\n\r\n"), ""),
    "silence": (faults.silent(), ""),
    "a byte a second": (faults.drip(1.0), ""),
}
nonsense = pytest.mark.parametrize("name", NONSENSE)


@nonsense
def test_produce_is_answered_by(name: str) -> None:
    action, word = NONSENSE[name]
    with Cluster() as cluster:
        cluster.create("t")
        rule = cluster.always(Api.PRODUCE, action)
        with producer(cluster.bootstrap_servers, **LIMITS) as client:
            future = client.send("t", b"v")
            with pytest.raises(KafkaError) as caught:
                future.get(8)
            assert word in str(caught.value)
            assert rule.taken
            cluster.forget_rules()
            assert client.send("t", b"again").get(8).offset >= 0
        assert cluster.values("t")[-1] == b"again"
        assert cluster.values("t").count(b"v") <= 1, "however often it was sent"


@nonsense
@pytest.mark.parametrize("api", [Api.METADATA, Api.API_VERSIONS], ids=["metadata", "versions"])
def test_what_a_client_begins_with_is_answered_by(api: Api, name: str) -> None:
    action, word = NONSENSE[name]
    with Cluster() as cluster:
        cluster.create("t")
        cluster.always(api, action)
        with (
            pytest.raises(KafkaError, match=word or None),
            producer(cluster.bootstrap_servers, **LIMITS) as client,
        ):
            client.send("t", b"v").get(8)


@nonsense
def test_fetch_is_answered_by(name: str) -> None:
    """A consumer goes on as soon as the broker does; nothing is lost or read twice."""
    action, _ = NONSENSE[name]
    with Cluster() as cluster:
        cluster.create("t")
        cluster.fill("t", [b"a", b"b"])
        rule = cluster.on(Api.FETCH, action, times=2)
        with reader(cluster.bootstrap_servers, "t", **READER) as client:
            got: list[Any] = []
            while len(got) < 2:  # at most two errors: then the rule has been used up
                try:
                    got += take(client, 2 - len(got), timeout_s=10)
                except KafkaError as error:
                    assert rule.taken <= 2
                    named(error)
            assert values(got) == [b"a", b"b"]
        assert rule.taken >= 1


@nonsense
@pytest.mark.parametrize("api", ["FIND_COORDINATOR", "JOIN_GROUP", "SYNC_GROUP", "OFFSET_FETCH"])
def test_a_group_survives(api: str, name: str) -> None:
    """Once each, everywhere on the way into a group."""
    action, _ = NONSENSE[name]
    with Cluster() as cluster:
        cluster.create("t")
        cluster.fill("t", [b"a"])
        cluster.on(getattr(Api, api), action)
        settings = {**READER, "group_id": "g", "heartbeat_interval_ms": 100}
        settings |= {"max_poll_interval_ms": 2_000, "session_timeout_ms": 1_000}
        with consumer(cluster.bootstrap_servers, "t", **settings) as client:
            got = []
            for _ in range(40):  # an error may come up; the next poll goes on
                try:
                    got += take(client, 1, timeout_s=1)
                except KafkaError:
                    continue
                if got:
                    break
            assert values(got) == [b"a"]


# -- error codes at every place --------------------------------------------------------------------

CODES = [-1, 1, 2, 3, 5, 6, 7, 9, 10, 14, 15, 16, 19, 20, 22, 25, 27, 29, 30, 35, 41, 42, 44,
         45, 46, 47, 53, 56, 58, 59, 70, 71, 74, 75, 76, 78, 79, 82, 87, 89, 90, 100, 103, 106,
         123, 999]  # fmt: skip
DUPLICATE_SEQUENCE_NUMBER = 46
some_or_all = pytest.mark.parametrize(
    "codes", [CODES[::4], pytest.param(CODES, marks=pytest.mark.slow)], ids=["some", "all"]
)
RETRIABLE = (5, 6, 7, 9, 16, 19, 20)
PLACES = {
    "metadata": Api.METADATA,
    "api versions": Api.API_VERSIONS,
    "produce": Api.PRODUCE,
    "producer id": Api.INIT_PRODUCER_ID,
}
FETCHING = {
    "fetch": Api.FETCH,
    "list offsets": Api.LIST_OFFSETS,
    "coordinator": Api.FIND_COORDINATOR,
    "join": Api.JOIN_GROUP,
    "sync": Api.SYNC_GROUP,
    "offset fetch": Api.OFFSET_FETCH,
    "commit": Api.OFFSET_COMMIT,
    "heartbeat": Api.HEARTBEAT,
    "leave": Api.LEAVE_GROUP,
}


@some_or_all
@pytest.mark.parametrize("place", PLACES)
def test_any_code_once_in_the_answer_of(place: str, codes: list[int]) -> None:
    """Either it went well the next time, or the record's error has a name."""
    for code in codes:
        with Cluster() as cluster:
            cluster.create("t")
            cluster.on(PLACES[place], faults.error(code))
            try:
                with producer(cluster.bootstrap_servers, **LIMITS) as client:
                    offset = client.send("t", b"v").get(8).offset
                    if code != DUPLICATE_SEQUENCE_NUMBER:  # which says that it is there
                        assert cluster.values("t") == [b"v"]
                    assert offset in (0, -1), code
            except KafkaError as error:
                named(error, code)
                if code in RETRIABLE and place != "api versions":
                    raise


@some_or_all
@pytest.mark.parametrize("place", FETCHING)
def test_any_code_once_to_a_member(place: str, codes: list[int]) -> None:
    """No code hangs a consumer or makes it lose or repeat a record within its life."""
    for code in codes:
        with Cluster() as cluster:
            cluster.create("t")
            cluster.fill("t", [b"a", b"b", b"c"])
            cluster.on(FETCHING[place], faults.error(code))
            settings = {**READER, "group_id": "g", "heartbeat_interval_ms": 100}
            got: list[Any] = []
            try:
                with consumer(cluster.bootstrap_servers, "t", **settings) as client:
                    for _ in range(20):
                        try:
                            got += take(client, 3 - len(got), timeout_s=1)
                            if len(got) >= 3:
                                client.commit()
                                break
                        except KafkaError as error:
                            named(error, code)
            except KafkaError as error:
                named(error, code)
            offsets = [record.offset for record in got]
            assert offsets == sorted(set(offsets)), (code, offsets)


@pytest.mark.parametrize("where", ["top", "inner"])
@pytest.mark.parametrize("code", [70, 71, 74, 75, 78, 100, 103, 106])
def test_fetch_recovers_from(code: int, where: str) -> None:
    with Cluster() as cluster:
        cluster.create("t")
        cluster.fill("t", [b"a"])
        cluster.on(Api.FETCH, faults.error(code, where=where), nth=1, times=2)
        with reader(cluster.bootstrap_servers, "t", **READER) as client:
            got = values(take(client, 1))
            cluster.fill("t", [b"b"])
            got += values(take(client, 1))
            assert got == [b"a", b"b"]


# -- records ---------------------------------------------------------------------------------------


def test_a_bad_crc_is_named_with_its_place() -> None:
    """What came before it is delivered; a second fetch that is whole is believed."""
    with Cluster() as cluster:
        cluster.create("t")
        cluster.fill("t", [b"a", b"b"])
        cluster.fill("t", [b"c"])
        cluster.always(Api.FETCH, faults.records(faults.flip(-3)))
        with reader(cluster.bootstrap_servers, "t", **READER) as client:
            assert values(take(client, 2)) == [b"a", b"b"]
            with pytest.raises(CorruptMessageError) as caught:
                take(client, 1, timeout_s=10)
            assert (caught.value.topic, caught.value.partition, caught.value.offset) == ("t", 0, 2)
            for word in ("t", "0", "2"):
                assert word in str(caught.value)
            cluster.forget_rules()
            client.seek(next(iter(client.assignment())), 2)
            assert values(take(client, 1)) == [b"c"]


def test_a_crc_that_was_bad_once_is_nobody_s_business() -> None:
    with Cluster() as cluster:
        cluster.create("t")
        cluster.fill("t", [b"a"])
        cluster.on(Api.FETCH, faults.records(faults.flip(-3)))
        with reader(cluster.bootstrap_servers, "t", **READER) as client:
            assert values(take(client, 1)) == [b"a"]


def forged(change: Any) -> Any:
    """A change of a batch's bytes whose CRC is right again."""
    return faults.records(lambda data: faults.resealed(change(data)))


def put(data: bytes, at: int, form: str, value: int) -> bytes:
    return data[:at] + struct.pack(form, value) + data[at + struct.calcsize(form) :]


LIES: dict[str, Any] = {
    "more records than there are": lambda data: put(data, 57, ">i", 2_000_000_000),
    "fewer than none": lambda data: put(data, 57, ">i", -5),
    "fewer than there are": lambda data: put(data, 57, ">i", 1),
    "a codec that is none": lambda data: put(data, 21, ">h", 7),
    "compressed, and it is not": lambda data: put(data, 21, ">h", 4),
    "another magic": lambda data: put(data, 16, ">b", 9),
    "an offset delta below none": lambda data: put(data, 23, ">i", -7),
    "a record longer than the batch": lambda data: data[:61] + b"\xfe\xff\xff\xff\x0f" + data[66:],
    "a varint without end": lambda data: data[:61] + b"\xff" * (len(data) - 61),
    "nothing but the header": lambda data: data[:61],
}


@pytest.mark.parametrize("name", LIES)
def test_a_batch_that_lies(name: str) -> None:
    with Cluster() as cluster:
        cluster.create("t")
        cluster.fill("t", [b"a" * 50, b"b" * 50])
        cluster.always(Api.FETCH, forged(LIES[name]))
        with (
            reader(cluster.bootstrap_servers, "t", **READER) as client,
            pytest.raises(KafkaError, match=r"(?s)t.*0"),
        ):
            take(client, 3, timeout_s=5)


PLACED: dict[str, Any] = {
    "offsets that go back": lambda data: data + put(data, 0, ">q", 0),
    "offsets far above": lambda data: put(data, 0, ">q", 1 << 40),
    "a negative offset": lambda data: put(data, 0, ">q", -9),
    "a length below the header": lambda data: put(data, 8, ">i", 3),
    "a negative length": lambda data: put(data, 8, ">i", -1),
}


@pytest.mark.parametrize("name", PLACED)
def test_a_batch_at_the_wrong_place(name: str) -> None:
    """Headers lie outside the CRC: no position may follow from one that cannot be."""
    with Cluster() as cluster:
        cluster.create("t")
        cluster.fill("t", [b"a", b"b"])
        cluster.always(Api.FETCH, faults.records(PLACED[name]))
        with reader(cluster.bootstrap_servers, "t", **READER) as client:
            got: list[Any] = []
            try:
                got = take(client, 3, timeout_s=3)
            except KafkaError as error:
                named(error)
            assert values(got) in ([], [b"a", b"b"])
            assert 0 <= client.position(next(iter(client.assignment()))) <= 2


def test_a_decompression_bomb_costs_no_memory() -> None:
    program = """
    c = KafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest",
                      max_decompressed_bytes=16 << 20)
    c.assign([TopicPartition("t", 0)])
    before = rss_mb()
    try:
        for _ in range(50): c.poll(timeout_ms=100)
        say("nothing")
    except KafkaError as error:
        say(type(error).__name__, "max_decompressed_bytes" in str(error))
    say(rss_mb() - before < 100, rss_mb() - before)
    c.close()
    """
    for codec in ("zstd", "gzip"):
        data = faults.bomb(1024, codec)
        assert len(data) < 2_000_000
        with Cluster() as cluster:
            cluster.create("t")
            cluster.append("t", data)
            lines = good(program, cluster.bootstrap_servers).lines()
            assert lines[0].endswith("True"), lines
            assert lines[1].startswith("True"), lines


def test_oversized_frames_cost_no_memory() -> None:
    """A length is a promise: memory grows as bytes arrive."""
    program = """
    before = rss_mb()
    p = KafkaProducer(bootstrap_servers=servers, request_timeout_ms=1000, delivery_timeout_ms=3000)
    try:
        p.send("t", b"v").get(8)
        say("nothing")
    except KafkaError as error:
        say(type(error).__name__)
    say(rss_mb() - before < 60, rss_mb() - before)
    p.close()
    """
    with Cluster() as cluster:
        cluster.create("t")
        cluster.always(Api.PRODUCE, faults.length(99_000_000))
        lines = good(program, cluster.bootstrap_servers).lines()
        assert lines[0] != "nothing"
        assert lines[1].startswith("True"), lines


def test_reading_ahead_is_bounded() -> None:
    program = """
    c = KafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest",
                      prefetch_max_bytes=8 << 20, max_partition_fetch_bytes=1 << 20)
    c.assign([TopicPartition("t", 0)])
    before = rss_mb()
    while not c.poll(timeout_ms=100, max_records=1): pass
    time.sleep(1.5)
    say(rss_mb() - before < 60, rss_mb() - before)
    count = 1
    while count < 1000:
        count += sum(len(r) for r in c.poll(timeout_ms=100).values())
    say(count, rss_mb() - before < 90, rss_mb() - before)
    c.close()
    """
    with Cluster() as cluster:
        cluster.create("t")
        for _ in range(100):
            cluster.fill("t", [b"x" * 100_000] * 10)
        lines = good(program, cluster.bootstrap_servers).lines()
        assert lines[0].startswith("True"), lines
        assert lines[1].startswith("1000 True"), lines


def test_metadata_of_nonsense() -> None:
    """Leaders that are nowhere, partitions twice, negative numbers: an error or patience."""

    def twisted(response: Any) -> None:
        for topic in response.topics:
            for part in topic.partitions:
                part.leader_id = 77
            topic.partitions += topic.partitions
            topic.partitions[-1].partition_index = -5

    with Cluster() as cluster:
        cluster.create("t")
        rule = cluster.always(Api.METADATA, faults.edit(twisted))
        with producer(cluster.bootstrap_servers, **LIMITS) as client:
            with pytest.raises(KafkaError):
                client.send("t", b"v").get(8)
            assert rule.taken
            cluster.forget_rules()
            assert client.send("t", b"w").get(8).offset >= 0


def test_produce_answers_about_something_else() -> None:
    def twisted(response: Any) -> None:
        response.responses[0].partition_responses[0].index = 7

    def empty(response: Any) -> None:
        response.responses = []

    for change in (twisted, empty):
        with Cluster() as cluster:
            cluster.create("t")
            cluster.on(Api.PRODUCE, faults.edit(change))
            with producer(cluster.bootstrap_servers, **LIMITS) as client:
                try:
                    client.send("t", b"v").get(8)
                except KafkaError as error:
                    named(error)
            assert cluster.values("t") == [b"v"]


def test_the_codec_of_the_tests_builds_what_it_says() -> None:
    batch = _native.build_batch([(0, None, b"v", ())])
    assert faults.resealed(batch) == batch
