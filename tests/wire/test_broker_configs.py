"""Settings of the broker: told with their source, altered while it runs, kept, taken back."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .client import Connection, Topic, eventually
from .conftest import create_topic, split_address

INVALID_CONFIG = 40
INVALID_REQUEST = 42
TOPIC, BROKER = 2, 4
SET, DELETE, APPEND, SUBTRACT = range(4)
DYNAMIC_BROKER, DYNAMIC_DEFAULT, STATIC, DEFAULT = 2, 3, 4, 5
UNKNOWN_TYPE, BOOLEAN, STRING, INT, SHORT, LONG, DOUBLE, LIST, CLASS, PASSWORD = range(10)
WEEK_MS = str(7 * 24 * 3_600_000)

Change = tuple[str, int, str | None]


def describe(conn: Connection, name: str, *keys: str, version: int = 4, **more: Any) -> Any:
    """DescribeConfigs of a broker with synonyms: the whole result."""
    one = {"resource_type": BROKER, "resource_name": name, "configuration_keys": list(keys) or None}
    more.setdefault("include_synonyms", True)
    return conn.call("DescribeConfigs", version, resources=[one], **more).results[0]


def entry(conn: Connection, name: str, key: str) -> Any:
    """One setting."""
    (one,) = describe(conn, name, key).configs
    return one


def told(conn: Connection, name: str, key: str) -> tuple[str, int, list[tuple[str, str, int]]]:
    """A setting's value, source and synonyms."""
    one = entry(conn, name, key)
    return one.value, one.config_source, [(s.name, s.value, s.source) for s in one.synonyms]


def alter(
    conn: Connection, name: str, *changes: Change, version: int = 1, validate_only: bool = False
) -> tuple[int, str | None]:
    """IncrementalAlterConfigs of a broker: error and text."""
    configs = [{"name": key, "config_operation": op, "value": to} for key, op, to in changes]
    one = {"resource_type": BROKER, "resource_name": name, "configs": configs}
    body = {"resources": [one], "validate_only": validate_only}
    (answer,) = conn.call("IncrementalAlterConfigs", version, **body).responses
    return answer.error_code, answer.error_message


@pytest.fixture
def me(conn: Connection) -> str:
    """The broker's id as a resource name."""
    return str(conn.metadata([]).brokers[0].node_id)


@pytest.fixture(autouse=True)
def as_before(conn: Connection, me: str) -> Iterator[None]:
    """Takes back what a test set: other tests ask the same broker."""
    yield
    for name in (me, ""):
        found = [
            one.name
            for one in describe(conn, name).configs
            if one.config_source in (DYNAMIC_BROKER, DYNAMIC_DEFAULT)
            and one.name != "min.insync.replicas"  # Kafka's own
        ]
        assert alter(conn, name, *((key, DELETE, None) for key in found)) == (0, None)


@pytest.mark.parametrize("version", range(1, 5))
def test_all_settings_of_the_broker(
    conn: Connection, address: tuple[str, int], me: str, version: int
) -> None:
    answer = describe(conn, me, version=version)
    assert (answer.error_code, answer.resource_type, answer.resource_name) == (0, BROKER, me)
    found = {one.name: one for one in answer.configs}
    assert len(found) > 250
    assert found["node.id"].value == me
    for name, value, read_only in [
        ("message.max.bytes", "1048588", False),
        ("log.segment.bytes", "1073741824", False),
        ("log.cleanup.policy", "delete", False),
        ("num.partitions", "1", True),
        ("log.retention.hours", "168", True),
        ("log.retention.ms", None, False),
        ("auto.create.topics.enable", "true", True),
    ]:
        one = found[name]
        assert (one.value, one.read_only, one.config_source) == (value, read_only, DEFAULT), name
        own = [] if value is None else [(name, value, DEFAULT)]
        assert [(s.name, s.value, s.source) for s in one.synonyms] == own, name
    secret = found["ssl.keystore.password"]
    assert (secret.is_sensitive, secret.value) == (True, None)
    place = conn.call("DescribeLogDirs", 4, topics=[]).results[0].log_dir
    assert (found["log.dirs"].value, found["log.dirs"].config_source) == (place, STATIC)
    assert found["listeners"].config_source == STATIC
    assert f"PLAINTEXT://{address[0]}:{address[1]}" in found["listeners"].value.split(",")
    if version >= 3:
        types = {"node.id": INT, "log.retention.ms": LONG, "log.cleanup.policy": LIST}
        types |= {"auto.create.topics.enable": BOOLEAN, "ssl.keystore.password": PASSWORD}
        types |= {"compression.type": STRING, "log.cleaner.min.cleanable.ratio": DOUBLE}
        assert {name: found[name].config_type for name in types} == types


@pytest.mark.parametrize("version", range(1, 5))
def test_what_was_not_asked_for_is_not_told(conn: Connection, me: str, version: int) -> None:
    answer = describe(
        conn, me, "num.partitions", "no.such.thing", version=version, include_synonyms=False
    )
    assert [(one.name, list(one.synonyms)) for one in answer.configs] == [("num.partitions", [])]


def test_other_brokers_are_not_known(conn: Connection, me: str) -> None:
    other = str(int(me) + 1)
    change = ("log.retention.ms", SET, "1")
    for name, shown, altered in [
        (
            other,
            f"Unexpected broker id, expected {me} or empty string, but received {other}",
            f"Unexpected broker id, expected {me}, but received {other}",
        ),
        (
            "x",
            "Broker id must be an integer, but it is: x",
            "Node id must be an integer, but it is: x",
        ),
    ]:
        answer = describe(conn, name)
        assert (answer.error_code, answer.error_message) == (INVALID_REQUEST, shown)
        assert list(answer.configs) == []
        assert alter(conn, name, change) == (INVALID_REQUEST, altered)


@pytest.mark.parametrize("version", range(2))
def test_set_for_this_broker_and_for_all(conn: Connection, me: str, version: int) -> None:
    key = "log.retention.ms"
    hours = ("log.retention.hours", "168", DEFAULT)

    def put(name: str, value: str | None) -> None:
        change = (key, DELETE if value is None else SET, value)
        assert alter(conn, name, change, version=version) == (0, None)

    assert told(conn, me, key) == (None, DEFAULT, [])
    put("", "777")
    everywhere = (key, "777", DYNAMIC_DEFAULT)
    eventually(lambda: told(conn, me, key) == ("777", DYNAMIC_DEFAULT, [everywhere, hours]))
    put(me, "12345")
    own = (key, "12345", DYNAMIC_BROKER)
    eventually(lambda: told(conn, me, key) == ("12345", DYNAMIC_BROKER, [own, everywhere, hours]))
    # The cluster-wide resource shows what was set for it, nothing else.
    assert told(conn, "", key) == ("777", DYNAMIC_DEFAULT, [everywhere])
    assert not describe(conn, "", "num.partitions").configs
    put("", None)
    eventually(lambda: told(conn, me, key) == ("12345", DYNAMIC_BROKER, [own, hours]))
    put(me, None)
    eventually(lambda: told(conn, me, key) == (None, DEFAULT, []))


def test_topics_follow(conn: Connection, me: str, topic: Topic) -> None:
    def retention() -> tuple[str, int]:
        one = {"resource_type": TOPIC, "resource_name": topic.name}
        one |= {"configuration_keys": ["retention.ms"]}
        (result,) = conn.call("DescribeConfigs", 4, resources=[one]).results
        return result.configs[0].value, result.configs[0].config_source

    assert retention() == (WEEK_MS, DEFAULT)
    for name, source in (("", DYNAMIC_DEFAULT), (me, DYNAMIC_BROKER)):
        assert alter(conn, name, ("log.retention.ms", SET, f"{source}000000")) == (0, None)
        eventually(lambda source=source: retention() == (f"{source}000000", source))
    for name in (me, ""):
        assert alter(conn, name, ("log.retention.ms", DELETE, None)) == (0, None)
    eventually(lambda: retention() == (WEEK_MS, DEFAULT))


def test_lists_are_appended_to(conn: Connection, me: str) -> None:
    key = "log.cleanup.policy"
    for change, after in [
        ((APPEND, "compact"), "delete,compact"),
        ((SUBTRACT, "delete"), "compact"),
    ]:
        assert alter(conn, me, (key, *change)) == (0, None)
        eventually(lambda after=after: entry(conn, me, key).value == after)
    assert alter(conn, me, (key, DELETE, None)) == (0, None)
    eventually(lambda: told(conn, me, key) == ("delete", DEFAULT, [(key, "delete", DEFAULT)]))


STATICS = ["log.dirs", "node.id", "num.partitions", "broker.rack", "log.retention.hours"]
STATICS += ["advertised.listeners"]


@pytest.mark.parametrize("name", ["me", ""])
@pytest.mark.parametrize("key", STATICS)
def test_static_settings_stay(conn: Connection, me: str, name: str, key: str) -> None:
    text = f"Cannot update these configs dynamically: [{key}]"
    name = me if name else ""
    assert alter(conn, name, (key, SET, "4")) == (INVALID_REQUEST, text)
    one = {"resource_type": BROKER, "resource_name": me, "configs": [{"name": key, "value": "4"}]}
    (full,) = conn.call("AlterConfigs", 2, resources=[one], validate_only=False).responses
    assert (full.error_code, full.error_message) == (INVALID_REQUEST, text)


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        (("log.retention.ms", SET, "soon"), INVALID_REQUEST, "Not a number of type LONG"),
        (("log.retention.ms", SET, ""), INVALID_REQUEST, "Not a number of type LONG"),
        (("log.segment.bytes", SET, "5"), INVALID_REQUEST, "Value must be at least 1048576"),
        (("max.connections", SET, "-1"), INVALID_REQUEST, "Value must be at least 0"),
        (("min.insync.replicas", SET, "0"), INVALID_REQUEST, "Value must be at least 1"),
        (
            ("log.cleanup.policy", SET, "nope"),
            INVALID_REQUEST,
            "String must be one of: compact, delete",
        ),
        (
            ("log.message.timestamp.type", SET, "bogus"),
            INVALID_REQUEST,
            "String must be one of: CreateTime, LogAppendTime",
        ),
        (
            ("unclean.leader.election.enable", SET, "yes"),
            INVALID_REQUEST,
            "Expected value to be either true or false",
        ),
        (
            ("compression.type", SET, "zip"),
            INVALID_REQUEST,
            "String must be one of: uncompressed, zstd, lz4, snappy, gzip, producer",
        ),
        (
            ("log.retention.ms", SET, None),
            INVALID_REQUEST,
            "Null value not supported for : log.retention.ms",
        ),
        (
            ("log.retention.ms", APPEND, "1"),
            INVALID_CONFIG,
            "Config value append is not allowed for config key: log.retention.ms",
        ),
        (
            ("log.retention.ms", SUBTRACT, "1"),
            INVALID_CONFIG,
            "Config value subtract is not allowed for config key: log.retention.ms",
        ),
        (("no.such.thing", APPEND, "1"), INVALID_CONFIG, "Unknown config name: no.such.thing"),
        (("log.retention.ms", 7, "1"), INVALID_REQUEST, "Unknown operations type 7"),
    ],
)
def test_what_is_refused(conn: Connection, me: str, change: Change, code: int, text: str) -> None:
    key, _, value = change
    if text.startswith(("Not a", "Value must", "String must", "Expected")):
        text = f"Invalid value {value} for configuration {key}: {text}"
    # One that is refused is in the way of all.
    good = ("message.max.bytes", SET, "99999")
    assert alter(conn, me, good, change) == (code, text)
    assert entry(conn, me, "message.max.bytes").config_source == DEFAULT


def test_refused_as_a_whole(conn: Connection, me: str) -> None:
    twice = [("log.retention.ms", SET, "1"), ("log.retention.ms", SET, "2")]
    assert alter(conn, me, *twice) == (INVALID_REQUEST, "Error due to duplicate config keys")
    only_here = "Cannot update these configs at default cluster level, broker id must be specified"
    for key in ("listeners", "sasl.enabled.mechanisms"):
        told = alter(conn, "", (key, SET, "PLAIN"))
        assert told == (INVALID_REQUEST, f"{only_here}: [{key}]")
    assert alter(conn, me, ("log.retention.ms", SET, "1"), validate_only=True) == (0, None)
    assert entry(conn, me, "log.retention.ms").config_source == DEFAULT


@pytest.mark.parametrize("version", range(3))
def test_alter_configs_replaces_all(conn: Connection, me: str, version: int) -> None:
    def put(**configs: str) -> None:
        listed = [{"name": k.replace("_", "."), "value": v} for k, v in configs.items()]
        one = {"resource_type": BROKER, "resource_name": me, "configs": listed}
        answer = conn.call("AlterConfigs", version, resources=[one], validate_only=False)
        assert answer.responses[0].error_code == 0

    def now() -> dict[str, str]:
        found = describe(conn, me).configs
        return {one.name: one.value for one in found if one.config_source == DYNAMIC_BROKER}

    put(log_retention_ms="5", message_max_bytes="99999")
    eventually(lambda: now() == {"log.retention.ms": "5", "message.max.bytes": "99999"})
    put(log_retention_ms="6")
    eventually(lambda: now() == {"log.retention.ms": "6"})
    put()
    eventually(lambda: now() == {})


def test_unknown_settings_are_kept_and_their_values_not_told(conn: Connection, me: str) -> None:
    assert alter(conn, me, ("no.such.thing", SET, "secret")) == (0, None)
    eventually(lambda: describe(conn, me, "no.such.thing").configs)
    one = entry(conn, me, "no.such.thing")
    assert (one.value, one.is_sensitive, one.read_only) == (None, True, True)
    assert (one.config_source, one.config_type) == (DYNAMIC_BROKER, UNKNOWN_TYPE)
    assert [(s.name, s.value, s.source) for s in one.synonyms] == [
        ("no.such.thing", None, DYNAMIC_BROKER)
    ]


@pytest.mark.ours
def test_a_restart_keeps_what_was_set(tmp_path: Path) -> None:
    from mqlog.testing import Broker

    static = {"log.retention.ms": 99_000_000, "message.max.bytes": 500_000}
    with Broker(tmp_path, config=static) as own:
        with Connection(split_address(own.bootstrap_servers)) as conn:
            assert told(conn, "1", "message.max.bytes")[:2] == ("500000", STATIC)
            assert alter(conn, "1", ("message.max.bytes", SET, "600000")) == (0, None)
            assert alter(conn, "", ("log.retention.ms", SET, "98000000")) == (0, None)
            topic = create_topic(conn)
        own.kill()
        own.start()
        with Connection(split_address(own.bootstrap_servers)) as conn:
            assert told(conn, "1", "message.max.bytes") == (
                "600000",
                DYNAMIC_BROKER,
                [
                    ("message.max.bytes", "600000", DYNAMIC_BROKER),
                    ("message.max.bytes", "500000", STATIC),
                    ("message.max.bytes", "1048588", DEFAULT),
                ],
            )
            assert told(conn, "1", "log.retention.ms")[:2] == ("98000000", DYNAMIC_DEFAULT)
            # The log feels it too, before anything is set again.
            assert conn.produce(topic, b"x" * 550_000) == 0
            assert alter(conn, "1", ("message.max.bytes", DELETE, None)) == (0, None)
            assert told(conn, "1", "message.max.bytes")[:2] == ("500000", STATIC)


@pytest.mark.ours
def test_connection_limits_are_felt_at_once(tmp_path: Path) -> None:
    from mqlog.testing import Broker

    with Broker(tmp_path) as own, Connection(split_address(own.bootstrap_servers)) as conn:
        for name, key in itertools.product(
            ("1", ""), ("max.connections", "max.connections.per.ip")
        ):
            assert alter(conn, name, (key, SET, "1")) == (0, None)
            with Connection(split_address(own.bootstrap_servers)) as refused:
                assert refused.closed_by_broker()
            assert alter(conn, name, (key, DELETE, None)) == (0, None)
            with Connection(split_address(own.bootstrap_servers)) as welcome:
                welcome.call("ApiVersions", 0)
