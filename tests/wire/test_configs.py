"""Settings of topics: told in full, changed one by one, and felt by the log."""

from __future__ import annotations

import time
from typing import Any

import pytest

from .batches import Rec, batch
from .client import Connection, Topic, eventually
from .conftest import MakeTopic, create_topic, split_address

UNKNOWN_TOPIC_OR_PARTITION = 3
MESSAGE_TOO_LARGE = 10
INVALID_TIMESTAMP = 32
INVALID_CONFIG = 40
INVALID_REQUEST = 42
TOPIC, BROKER = 2, 4
SET, DELETE, APPEND, SUBTRACT = range(4)
DYNAMIC_TOPIC, DEFAULT = 1, 5


def describe(
    conn: Connection, name: str, *, keys: list[str] | None = None, version: int = 4, **more: bool
) -> Any:
    """DescribeConfigs of a topic: the whole result."""
    one = {"resource_type": TOPIC, "resource_name": name, "configuration_keys": keys}
    return conn.call("DescribeConfigs", version, resources=[one], **more).results[0]


def value(conn: Connection, topic: Topic, key: str) -> tuple[str, int]:
    """A setting's value and source."""
    (one,) = describe(conn, topic.name, keys=[key]).configs
    return one.value, one.config_source


def alter(
    conn: Connection,
    name: str,
    *changes: tuple[str, int, str | None],
    version: int = 1,
    validate_only: bool = False,
) -> int:
    """IncrementalAlterConfigs of a topic; the error."""
    configs = [{"name": key, "config_operation": op, "value": to} for key, op, to in changes]
    one = {"resource_type": TOPIC, "resource_name": name, "configs": configs}
    body = {"resources": [one], "validate_only": validate_only}
    (told,) = conn.call("IncrementalAlterConfigs", version, **body).responses
    assert (told.resource_type, told.resource_name) == (TOPIC, name)
    assert (told.error_message is None) == (told.error_code == 0)
    return int(told.error_code)


@pytest.mark.parametrize("version", range(1, 5))
def test_behaviour_46_all_settings_with_their_source(
    conn: Connection, make_topic: MakeTopic, version: int
) -> None:
    topic = make_topic(retention_ms="77777")
    more = {"include_synonyms": True}
    told = describe(conn, topic.name, version=version, **more)
    assert told.error_code == 0
    found = {one.name: one for one in told.configs}
    assert {"cleanup.policy", "segment.bytes", "min.insync.replicas", "preallocate"} <= set(found)
    set_here = {name for name, one in found.items() if one.config_source == DYNAMIC_TOPIC}
    assert set_here == {"retention.ms"}
    assert found["retention.ms"].value == "77777"
    synonyms = [(one.name, one.value) for one in found["retention.ms"].synonyms]
    assert synonyms[0] == ("retention.ms", "77777")
    assert not any(one.is_sensitive or one.read_only for one in told.configs)


def test_behaviour_46_some_settings(conn: Connection, topic: Topic) -> None:
    told = describe(conn, topic.name, keys=["segment.bytes", "no.such.setting"])
    assert [one.name for one in told.configs] == ["segment.bytes"]
    told = describe(conn, "wire-nobody")
    assert (told.error_code, list(told.configs)) == (UNKNOWN_TOPIC_OR_PARTITION, [])


@pytest.mark.parametrize("version", range(2))
def test_behaviour_46_set_and_delete(conn: Connection, topic: Topic, version: int) -> None:
    before = value(conn, topic, "retention.ms")
    assert alter(conn, topic.name, ("retention.ms", SET, "5"), version=version) == 0
    eventually(lambda: value(conn, topic, "retention.ms") == ("5", DYNAMIC_TOPIC))
    assert alter(conn, topic.name, ("retention.ms", DELETE, None), version=version) == 0
    eventually(lambda: value(conn, topic, "retention.ms") == before)


def test_behaviour_46_append_and_subtract(conn: Connection, topic: Topic) -> None:
    def policy() -> set[str]:
        return set(value(conn, topic, "cleanup.policy")[0].split(","))

    assert alter(conn, topic.name, ("cleanup.policy", APPEND, "compact")) == 0
    eventually(lambda: policy() == {"compact", "delete"})
    assert alter(conn, topic.name, ("cleanup.policy", SUBTRACT, "delete")) == 0
    eventually(lambda: policy() == {"compact"})
    assert alter(conn, topic.name, ("retention.ms", APPEND, "1")) == INVALID_CONFIG


def test_behaviour_46_refused_changes_change_nothing(conn: Connection, topic: Topic) -> None:
    bad = [("retention.ms", SET, "soon"), ("no.such.setting", SET, "1"), ("segment.bytes", SET, "")]
    for one in bad:
        assert alter(conn, topic.name, ("max.message.bytes", SET, "9"), one) == INVALID_CONFIG
    twice = [("retention.ms", SET, "1"), ("retention.ms", SET, "2")]
    assert alter(conn, topic.name, *twice) == INVALID_REQUEST
    assert alter(conn, topic.name, ("retention.ms", SET, "1"), validate_only=True) == 0
    assert alter(conn, "wire-nobody", ("retention.ms", SET, "1")) == UNKNOWN_TOPIC_OR_PARTITION
    told = describe(conn, topic.name).configs
    assert not [one.name for one in told if one.config_source == DYNAMIC_TOPIC]


@pytest.mark.parametrize("version", range(3))
def test_behaviour_46_alter_configs_replaces_all(
    conn: Connection, make_topic: MakeTopic, version: int
) -> None:
    topic = make_topic(retention_ms="5", segment_bytes="2000000")
    one = {"resource_type": TOPIC, "resource_name": topic.name}
    one |= {"configs": [{"name": "segment.bytes", "value": "3000000"}]}
    answer = conn.call("AlterConfigs", version, resources=[one], validate_only=False)
    assert answer.responses[0].error_code == 0
    eventually(lambda: value(conn, topic, "segment.bytes") == ("3000000", DYNAMIC_TOPIC))
    assert value(conn, topic, "retention.ms")[1] == DEFAULT


def test_behaviour_46_config_resources_are_listed(conn: Connection, topic: Topic) -> None:
    answer = conn.call("ListConfigResources", 1, resource_types=[TOPIC, BROKER])
    found = {(one.resource_type, one.resource_name) for one in answer.config_resources}
    me = conn.metadata([]).brokers[0].node_id
    assert {(TOPIC, topic.name), (BROKER, str(me))} <= found


def test_behaviour_15_a_new_limit_is_felt(conn: Connection, topic: Topic) -> None:
    big = batch([b"x" * 5000])
    assert conn.produce_raw(topic, big).error_code == 0
    assert alter(conn, topic.name, ("max.message.bytes", SET, "1000")) == 0
    eventually(lambda: conn.produce_raw(topic, big).error_code == MESSAGE_TOO_LARGE)
    assert alter(conn, topic.name, ("max.message.bytes", DELETE, None)) == 0
    eventually(lambda: conn.produce_raw(topic, big).error_code == 0)


def test_behaviour_16_timestamp_settings_are_felt(conn: Connection, topic: Topic) -> None:
    old = batch([Rec(timestamp=1_000_000)], base_timestamp=1_000_000)
    assert alter(conn, topic.name, ("message.timestamp.before.max.ms", SET, "60000")) == 0
    eventually(lambda: conn.produce_raw(topic, old).error_code == INVALID_TIMESTAMP)
    assert alter(conn, topic.name, ("message.timestamp.type", SET, "LogAppendTime")) == 0
    since = int(time.time() * 1000) - 1000
    eventually(lambda: conn.produce_raw(topic, old).log_append_time_ms >= since)


@pytest.mark.ours
@pytest.mark.parametrize(
    "setting", [{"retention_bytes": "1000000", "retention_ms": "-1"}, {"retention_ms": "1000"}]
)
def test_retention_and_segment_bytes_are_felt(setting: dict[str, str]) -> None:
    """Kafka looks every five minutes; here a broker that looks often is asked."""
    from mqlog.testing import Broker

    config = {"log.retention.check.interval.ms": 200}
    with (
        Broker(config=config) as own,
        Connection(split_address(own.bootstrap_servers)) as conn,
    ):
        topic = create_topic(conn, segment_bytes=str(1 << 20), **setting)
        kept = create_topic(conn, segment_bytes=str(1 << 20), retention_ms="-1")
        for n in range(4):
            for one in (topic, kept):
                assert conn.produce(one, b"x" * 600_000) == n
        eventually(lambda: conn.list_offset(topic, -2).offset >= 2)
        assert conn.list_offset(topic, -1).offset == 4
        assert conn.list_offset(kept, -2).offset == 0
