"""CreateTopics: what is made, what is told of it, and what is refused, topic by topic."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from .client import NO_ID, Connection, Topic, eventually

UNKNOWN_TOPIC_OR_PARTITION = 3
REQUEST_TIMED_OUT = 7
INVALID_TOPIC_EXCEPTION = 17
TOPIC_ALREADY_EXISTS = 36
INVALID_PARTITIONS = 37
INVALID_REPLICATION_FACTOR = 38
INVALID_REPLICA_ASSIGNMENT = 39
INVALID_CONFIG = 40
INVALID_REQUEST = 42
VERSIONS = range(2, 8)
DYNAMIC_TOPIC, DEFAULT = 1, 5


def fresh() -> str:
    """A name no topic has."""
    return f"wire-create-{uuid.uuid4().hex}"


def wanted(name: str | None = None, **more: Any) -> dict[str, Any]:
    """A topic to be made."""
    base = {"num_partitions": 1, "replication_factor": 1, "assignments": [], "configs": []}
    return {"name": fresh() if name is None else name} | base | more


def create(
    conn: Connection,
    *topics: dict[str, Any],
    version: int = 7,
    validate_only: bool = False,
    timeout_ms: int = 10_000,
) -> list[Any]:
    """The answers, in the order of `topics`."""
    answer = conn.call(
        "CreateTopics",
        version,
        topics=list(topics),
        timeout_ms=timeout_ms,
        validate_only=validate_only,
    )
    names = list(dict.fromkeys(topic["name"] for topic in topics))
    found = {one.name: one for one in answer.topics}
    assert len(answer.topics) == len(found) == len(names)
    return [found[name] for name in names]


def exists(conn: Connection, name: str) -> bool:
    """Whether Metadata knows this topic."""
    return bool(conn.metadata([name]).topics[0].error_code == 0)


def settings(*pairs: tuple[str, str | None]) -> list[dict[str, Any]]:
    """Settings as CreateTopics takes them."""
    return [{"name": name, "value": value} for name, value in pairs]


@pytest.mark.parametrize("version", VERSIONS)
def test_behaviour_46_create_every_version(conn: Connection, version: int) -> None:
    topic = wanted(num_partitions=3, configs=settings(("retention.ms", "1234")))
    (made,) = create(conn, topic, version=version)
    assert (made.error_code, made.error_message) == (0, None)
    if version >= 5:
        assert (made.num_partitions, made.replication_factor) == (3, 1)
        told = {one.name: one for one in made.configs}
        assert (told["retention.ms"].value, told["retention.ms"].config_source) == (
            "1234",
            DYNAMIC_TOPIC,
        )
        assert told["cleanup.policy"].config_source == DEFAULT
        assert not any(one.is_sensitive or one.read_only for one in made.configs)
    eventually(lambda: exists(conn, topic["name"]))
    told = conn.metadata([topic["name"]]).topics[0]
    assert sorted(part.partition_index for part in told.partitions) == [0, 1, 2]
    if version >= 7:
        assert made.topic_id == told.topic_id != NO_ID


def test_behaviour_46_errors_are_told_topic_by_topic(conn: Connection) -> None:
    topics = [
        wanted(),
        wanted("bad/name"),
        wanted(configs=settings(("no.such.setting", "1"))),
        wanted(num_partitions=0),
        wanted(replication_factor=2),
        wanted(),
    ]
    made = create(conn, *topics)
    assert [one.error_code for one in made] == [
        0,
        INVALID_TOPIC_EXCEPTION,
        INVALID_CONFIG,
        INVALID_PARTITIONS,
        INVALID_REPLICATION_FACTOR,
        0,
    ]
    for one, topic in zip(made, topics, strict=True):
        assert (one.error_message is None) == (one.error_code == 0)
        assert (one.topic_id in (None, NO_ID)) == (one.error_code != 0)
        if one.error_code:
            assert (one.num_partitions, one.replication_factor) == (-1, -1)
        else:
            eventually(lambda name=topic["name"]: exists(conn, name))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("retention.ms", "soon"),
        ("retention.ms", "-2"),
        ("retention.ms", None),
        ("retention.ms", ""),
        ("segment.bytes", "13"),
        ("segment.bytes", "99999999999"),
        ("cleanup.policy", "shred"),
        ("compression.type", "rar"),
        ("max.message.bytes", "-1"),
        ("message.timestamp.type", "Never"),
        ("min.cleanable.dirty.ratio", "1.5"),
        ("preallocate", "maybe"),
        ("RETENTION.MS", "1"),
        ("", "1"),
    ],
)
def test_behaviour_46_bad_settings(conn: Connection, name: str, value: str | None) -> None:
    topic = wanted(configs=settings((name, value)))
    (made,) = create(conn, topic)
    assert made.error_code == INVALID_CONFIG
    assert name in made.error_message
    assert not exists(conn, topic["name"])


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a b", "a\0b", "\u00e9", "x" * 250, "../etc/passwd", "a:b"]
)
def test_behaviour_41_bad_names(conn: Connection, name: str) -> None:
    (made,) = create(conn, wanted(name))
    assert made.error_code == INVALID_TOPIC_EXCEPTION
    assert made.error_message


@pytest.mark.parametrize("name", ["x", "A-Z_0.9", "...", "-", "_"])
def test_behaviour_41_good_names(conn: Connection, name: str) -> None:
    (made,) = create(conn, wanted(name), validate_only=True)
    assert made.error_code == 0


def test_behaviour_41_names_that_collide(conn: Connection) -> None:
    stem = fresh()
    (made,) = create(conn, wanted(stem + ".x"))
    assert made.error_code == 0
    (made,) = create(conn, wanted(stem + "_x"))
    assert made.error_code == INVALID_TOPIC_EXCEPTION
    assert stem + ".x" in made.error_message


def test_behaviour_46_once_only(conn: Connection) -> None:
    name = fresh()
    codes = [create(conn, wanted(name))[0].error_code for _ in range(2)]
    assert codes == [0, TOPIC_ALREADY_EXISTS]
    codes = [create(conn, wanted(name), validate_only=True)[0].error_code]
    assert codes == [TOPIC_ALREADY_EXISTS]


def test_behaviour_46_twice_in_one_request(conn: Connection) -> None:
    name, other = fresh(), fresh()
    made = create(conn, wanted(name), wanted(other), wanted(name))
    assert [one.error_code for one in made] == [INVALID_REQUEST, 0]
    assert not exists(conn, name)


@pytest.mark.parametrize("version", VERSIONS)
def test_behaviour_46_validate_only(conn: Connection, version: int) -> None:
    good, bad = wanted(num_partitions=2), wanted(num_partitions=-5)
    made = create(conn, good, bad, version=version, validate_only=True)
    assert [one.error_code for one in made] == [0, INVALID_PARTITIONS]
    if version >= 5:
        assert (made[0].num_partitions, made[0].replication_factor) == (2, 1)
    assert not exists(conn, good["name"])


@pytest.mark.parametrize("version", [4, 5, 7])
def test_behaviour_46_minus_one_means_the_default(conn: Connection, version: int) -> None:
    topic = wanted(num_partitions=-1, replication_factor=-1)
    (made,) = create(conn, topic, version=version)
    assert made.error_code == 0
    if version >= 5:
        assert (made.num_partitions, made.replication_factor) == (1, 1)


def test_behaviour_46_assignments(conn: Connection) -> None:
    me = conn.metadata([]).brokers[0].node_id
    open_count = {"num_partitions": -1, "replication_factor": -1}

    def given(*replicas: list[int], first: int = 0, **more: int) -> dict[str, Any]:
        parts = [
            {"partition_index": first + n, "broker_ids": ids} for n, ids in enumerate(replicas)
        ]
        return wanted(assignments=parts, **(open_count | more))

    (made,) = create(conn, given([me], [me]))
    assert (made.error_code, made.num_partitions, made.replication_factor) == (0, 2, 1)
    refused = [
        given([me + 100]),
        given([me, me]),
        given([]),
        given([me], first=1),
    ]
    codes = [create(conn, one)[0].error_code for one in refused]
    assert codes == [INVALID_REPLICA_ASSIGNMENT] * 4
    both = given([me], num_partitions=1)
    assert create(conn, both)[0].error_code == INVALID_REQUEST


@pytest.mark.parametrize("count", [0, -2, -(2**31)])
def test_behaviour_46_impossible_partition_counts(conn: Connection, count: int) -> None:
    assert create(conn, wanted(num_partitions=count))[0].error_code == INVALID_PARTITIONS


@pytest.mark.parametrize("factor", [0, -2, 3, 32767])
def test_behaviour_46_impossible_replication_factors(conn: Connection, factor: int) -> None:
    (made,) = create(conn, wanted(replication_factor=factor))
    assert made.error_code == INVALID_REPLICATION_FACTOR


def test_behaviour_47_made_before_the_answer(conn: Connection) -> None:
    """No pause between the answer and the first use."""
    for _ in range(5):
        topic = wanted()
        (made,) = create(conn, topic)
        used = Topic(name=topic["name"], id=made.topic_id, partitions=1)
        # Kafka's brokers learn of a topic a moment after its controller has answered.
        eventually(lambda used=used: conn.list_offset(used, -1).error_code == 0)
        assert conn.produce(used, b"v") == 0


@pytest.mark.ours
def test_behaviour_47_usable_at_once(conn: Connection) -> None:
    for _ in range(20):
        topic = wanted(num_partitions=3)
        (made,) = create(conn, topic)
        used = Topic(name=topic["name"], id=made.topic_id, partitions=3)
        assert exists(conn, topic["name"])
        assert conn.produce(used, b"v", partition=2) == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_late_is_not_done(conn: Connection, version: int) -> None:
    name = fresh()
    (answer,) = create(conn, wanted(name), version=version, timeout_ms=-1)
    assert answer.error_code == REQUEST_TIMED_OUT
    assert not exists(conn, name)


def test_nothing_asked_nothing_made(conn: Connection) -> None:
    for version in VERSIONS:
        assert create(conn, version=version) == []


@pytest.mark.ours
def test_a_thousand_topics_in_one_request_starve_nobody(
    conn: Connection, address: tuple[str, int], topic: Topic
) -> None:
    asked = [wanted() for _ in range(1000)]
    body = {"topics": asked, "timeout_ms": 60_000, "validate_only": False}
    conn.send("CreateTopics", 7, **body)
    with Connection(address) as other:
        # All of these are answered while the thousand are made, whatever the order.
        assert [other.produce(topic, b"v") for _ in range(50)] == list(range(50))
        answer, _ = conn.receive("CreateTopics", 7)
        assert {one.error_code for one in answer.topics} == {0}
        names = [one["name"] for one in asked]
        told = other.metadata(names).topics
        assert sorted(one.name for one in told) == sorted(names)
        assert {one.error_code for one in told} == {0}
        gone = [{"name": name, "topic_id": None} for name in names]
        answer = other.call("DeleteTopics", 6, topics=gone, timeout_ms=60_000)
        assert {one.error_code for one in answer.responses} == {0}
