"""Features, the metadata quorum and registration of brokers, in a cluster of one."""

from __future__ import annotations

import struct
import time
from typing import Any

import pytest

from .client import Connection, Topic, request_header
from .conftest import MakeTopic

UNKNOWN_TOPIC_OR_PARTITION = 3
INVALID_REQUEST = 42
INVALID_UPDATE_VERSION = 95
BROKER_ID_NOT_REGISTERED = 102
METADATA_VERSION, LEVEL = "metadata.version", 30
UPGRADE, SAFE, UNSAFE = 1, 2, 3
METADATA = "__cluster_metadata"


def features(conn: Connection, version: int) -> Any:
    """ApiVersions."""
    software = {"client_software_name": "wire", "client_software_version": "1.0"}
    return conn.call("ApiVersions", version, **(software if version >= 3 else {}))


@pytest.mark.parametrize("version", [3, 4])
def test_features_are_told(conn: Connection, version: int) -> None:
    answer = features(conn, version)
    supported = {f.name: (f.min_version, f.max_version) for f in answer.supported_features}
    final = {f.name: (f.min_version_level, f.max_version_level) for f in answer.finalized_features}
    low, high = supported[METADATA_VERSION]
    assert low <= LEVEL == high
    assert final[METADATA_VERSION] == (LEVEL, LEVEL)
    assert answer.finalized_features_epoch >= 0


@pytest.mark.ours
def test_features_that_do_not_work_are_not_told(conn: Connection) -> None:
    answer = features(conn, 4)
    assert [f.name for f in answer.supported_features] == [METADATA_VERSION]
    assert [f.name for f in answer.finalized_features] == [METADATA_VERSION]


def test_the_features_epoch_goes_up_with_the_metadata(
    conn: Connection, make_topic: MakeTopic
) -> None:
    before = features(conn, 4).finalized_features_epoch
    make_topic()
    assert features(conn, 4).finalized_features_epoch > before


def update(conn: Connection, version: int, *asked: tuple[str, int, int], **more: Any) -> Any:
    """UpdateFeatures of (feature, level, upgrade type): error, text and results."""
    listed = []
    for feature, level, kind in asked:
        one: dict[str, Any] = {"feature": feature, "max_version_level": level}
        one |= {"upgrade_type": kind} if version else {"allow_downgrade": kind != UPGRADE}
        listed.append(one)
    answer = conn.call("UpdateFeatures", version, timeout_ms=10_000, feature_updates=listed, **more)
    results = [(r.feature, r.error_code) for r in answer.results] if version <= 1 else []
    return answer.error_code, answer.error_message, results


@pytest.mark.parametrize("version", range(3))
def test_features_stay(conn: Connection, version: int) -> None:
    same = (METADATA_VERSION, LEVEL, UPGRADE)
    done = [(METADATA_VERSION, 0)] if version <= 1 else []
    assert update(conn, version, same) == (0, None, done)
    assert update(conn, version) == (0, None, [])
    if version:
        assert update(conn, version, same, validate_only=True) == (0, None, done)
    for name, level, kind, why in [
        (METADATA_VERSION, -1, UPGRADE, "A feature version cannot be less than 0."),
        (METADATA_VERSION, 0, SAFE, "Local controller {} only supports versions {}"),
        (METADATA_VERSION, LEVEL + 1, UPGRADE, "Local controller {} only supports versions {}"),
        ("no.such.version", 1, UPGRADE, "Local controller {} does not support this feature."),
        ("no.such.version", 0, UNSAFE, "Feature no.such.version not found."),
        ("", 1, UPGRADE, "Local controller {} does not support this feature."),
    ]:
        # One that cannot be done is in the way of all.
        code, text, results = update(conn, version, same, (name, level, kind))
        assert (code, results) == (INVALID_UPDATE_VERSION, [])
        me = conn.metadata([]).brokers[0].node_id
        low = features(conn, 4).supported_features
        found = next(f for f in low if f.name == METADATA_VERSION)
        reason = why.format(me, f"{found.min_version}-{found.max_version}")
        assert text == (
            "The update failed for all features since the following feature had an error: "
            f"Invalid update version {level} for feature {name}. {reason}"
        )


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("kind", [0, 7])
def test_unknown_upgrade_types(conn: Connection, version: int, kind: int) -> None:
    code, text, _ = update(conn, version, (METADATA_VERSION, LEVEL, kind))
    assert code == INVALID_UPDATE_VERSION
    assert text.endswith("The controller does not support the given upgrade type.")


def quorum(conn: Connection, version: int, *asked: tuple[str, list[int]]) -> Any:
    """DescribeQuorum."""
    topics = [
        {"topic_name": name, "partitions": [{"partition_index": index} for index in indexes]}
        for name, indexes in asked
    ]
    return conn.call("DescribeQuorum", version, topics=topics)


@pytest.mark.parametrize("version", range(3))
def test_the_quorum_is_this_broker(conn: Connection, make_topic: MakeTopic, version: int) -> None:
    def told() -> Any:
        answer = quorum(conn, version, (METADATA, [0]))
        assert answer.error_code == 0
        (one,) = answer.topics
        (part,) = one.partitions
        assert (one.topic_name, part.partition_index, part.error_code) == (METADATA, 0, 0)
        return answer, part

    me = conn.metadata([]).brokers[0].node_id
    answer, before = told()
    (voter,) = before.current_voters
    assert before.leader_id == voter.replica_id == me
    assert before.leader_epoch >= 1
    assert list(before.observers) == []
    assert voter.log_end_offset >= before.high_watermark >= 0
    if version >= 1:
        now = time.time() * 1000
        assert abs(voter.last_fetch_timestamp - now) < 60_000
        assert abs(voter.last_caught_up_timestamp - now) < 60_000
    if version >= 2:
        (node,) = answer.nodes
        assert node.node_id == me
        assert all(one.port > 0 for one in node.listeners)
    make_topic()
    assert told()[1].high_watermark > before.high_watermark


@pytest.mark.parametrize("version", range(3))
def test_no_other_quorum_is_known(conn: Connection, topic: Topic, version: int) -> None:
    for asked in [(METADATA, [3]), (METADATA, [0, 1]), (topic.name, [0]), ("wire-nobody", [0])]:
        answer = quorum(conn, version, asked)
        (one,) = answer.topics
        assert (answer.error_code, one.topic_name) == (0, asked[0])
        assert [p.partition_index for p in one.partitions] == asked[1]
        assert {p.error_code for p in one.partitions} == {UNKNOWN_TOPIC_OR_PARTITION}
    assert list(quorum(conn, version).topics) == []


def unregister(conn: Connection, node: int) -> tuple[int, str]:
    """UnregisterBroker, by hand: kafka-python has no class for it. Error and text."""
    conn.send_frame(request_header(64, 0, 5, flexible=True) + struct.pack(">i", node) + b"\0")
    answer = conn.read_frame()
    correlation, _, _, code, size = struct.unpack_from(">ibihb", answer)
    assert correlation == 5
    return code, answer[12 : 12 + size - 1].decode()


@pytest.mark.parametrize("node", [99, -1])
def test_unregistering_a_broker_that_is_not_there(conn: Connection, node: int) -> None:
    text = f"Broker ID {node} is not currently registered"
    assert unregister(conn, node) == (BROKER_ID_NOT_REGISTERED, text)


@pytest.mark.ours
def test_unregistering_the_broker_that_answers(conn: Connection) -> None:
    """Kafka lets a node go that comes back when it starts; the only one cannot be spared."""
    code, text = unregister(conn, conn.metadata([]).brokers[0].node_id)
    assert code == INVALID_REQUEST
    assert "only broker" in text
    assert len(conn.metadata([]).brokers) == 1
