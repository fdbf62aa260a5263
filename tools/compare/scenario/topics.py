"""Topics: made, grown, described, deleted."""

# ruff: noqa: B023 - what is made in a turn of a loop is called in that turn alone

from __future__ import annotations

from typing import Any

from codec import VERSIONS
from peer import Peer


def run(peer: Peer) -> None:
    """All steps about topics."""
    create(peer)
    grow(peer)
    metadata(peer)
    describe_partitions(peer)
    delete(peer)


def create(peer: Peer) -> None:
    """CreateTopics, good and bad."""
    taken = peer.make_topic("taken", 1)
    dotted = peer.make_topic("with.dot", 1)
    me = peer.node

    def topic(name: str, partitions: int = 1, factor: int = 1, **more: Any) -> dict[str, Any]:
        return {"name": name, "num_partitions": partitions, "replication_factor": factor, **more}

    def config(name: str, value: str | None) -> dict[str, Any]:
        return {"name": name, "value": value}

    def placed(*parts: tuple[int, list[int]]) -> dict[str, Any]:
        listed = [{"partition_index": index, "broker_ids": ids} for index, ids in parts]
        return {"num_partitions": -1, "replication_factor": -1, "assignments": listed}

    for version in VERSIONS["CreateTopics"]:

        def step(label: str, *topics: dict[str, Any], at: int = version, **more: Any) -> None:
            values = {"topics": list(topics), "timeout_ms": 20_000, **more}
            peer.step(f"create {label}", "CreateTopics", at, **values)

        new = peer.named(f"create-{version}")
        configs = [config("retention.ms", "86400000"), config("cleanup.policy", "delete")]
        step("one", topic(new, 2, configs=configs))
        peer.settle_topic(new, 2)
        step("nothing")
        step("what is there", topic(taken))
        step("one twice", topic(new + "-x"), topic(new + "-x"))
        step("a bad name", topic("a b"), topic(""), topic("."), topic(".."), topic("x" * 250))
        step("a collision", topic(dotted.replace(".", "_")))
        step("too many replicas", topic(new + "-x", factor=3))
        step("no replicas", topic(new + "-x", factor=0))
        step("no partitions", topic(new + "-x", 0), topic(new + "-y", -2))
        step("by default", topic(new + "-x", -1, -1), validate_only=True)
        step("only tried", topic(new + "-x", 3, configs=configs), validate_only=True)
        step("a bad value", topic(new + "-x", configs=[config("retention.ms", "long")]))
        step("an unknown setting", topic(new + "-x", configs=[config("no.such.thing", "1")]))
        step("a null value", topic(new + "-x", configs=[config("retention.ms", None)]))
        step("a setting twice", topic(new + "-x", configs=[*configs, *configs]), validate_only=True)
        step("placed", topic(new + "-p") | placed((0, [me]), (1, [me])))
        peer.settle_topic(new + "-p", 2)
        step("placed on nobody", topic(new + "-x") | placed((0, [me + 7])))
        step("placed twice", topic(new + "-x") | placed((0, [me, me])))
        step("placed with a gap", topic(new + "-x") | placed((0, [me]), (2, [me])))
        step("placed with a count", placed((0, [me])) | topic(new + "-x", 1, 1))
        step("placed on none", topic(new + "-x") | placed((0, [])))
        step("without time", topic(new + "-late"), timeout_ms=-1)


def grow(peer: Peer) -> None:
    """CreatePartitions."""
    me = peer.node

    def more(name: str, count: int, assignments: Any = None) -> dict[str, Any]:
        given = None if assignments is None else [{"broker_ids": ids} for ids in assignments]
        return {"name": name, "count": count, "assignments": given}

    for version in VERSIONS["CreatePartitions"]:
        topic = peer.make_topic(f"grow-{version}", 2)

        def step(label: str, *topics: dict[str, Any], at: int = version, **values: Any) -> None:
            values = {"timeout_ms": 20_000, "topics": list(topics), **values}
            peer.step(f"grow {label}", "CreatePartitions", at, **values)

        step("only tried", more(topic, 5), validate_only=True)
        step("to three", more(topic, 3))
        peer.settle_topic(topic, 3)
        step("to four, placed", more(topic, 4, [[me]]))
        peer.settle_topic(topic, 4)
        step("to what it has", more(topic, 4))
        step("to fewer", more(topic, 1))
        step("to none", more(topic, 0), more(topic + "-x", 2))
        step("below none", more(topic, -1))
        step("one twice", more(topic, 5), more(topic, 6))
        step("what is not there", more(peer.named("nobody"), 2))
        step("with too few places", more(topic, 6, [[me]]))
        step("with no places", more(topic, 6, []))
        step("on nobody", more(topic, 5, [[me + 7]]))
        step("on one twice", more(topic, 5, [[me, me]]))
        step("of nothing")
        step("without time", more(topic, 9), timeout_ms=-1)


def metadata(peer: Peer) -> None:
    """Metadata of topics by name and id, and of all."""
    topic = peer.make_topic("metadata", 2)
    other = peer.make_topic("metadata-b", 1)
    nobody = peer.named("nobody")
    for version in VERSIONS["Metadata"]:
        own = {"allow_auto_topic_creation": False}

        def step(label: str, topics: Any, at: int = version, **values: Any) -> None:
            peer.step(f"metadata {label}", "Metadata", at, topics=topics, **{**own, **values})

        step("of all", None if version else [])
        if version:
            step("of none", [])
        step("of one", [{"name": topic}])
        step("of two", [{"name": topic}, {"name": other}])
        step("of one twice", [{"name": topic}, {"name": topic}])
        if version >= 4:
            step("of what is not there", [{"name": nobody}, {"name": topic}])
            step("of bad names", [{"name": "a b"}, {"name": ""}, {"name": "x" * 250}])
        if 8 <= version <= 10:
            step("with rights on the cluster", [], include_cluster_authorized_operations=True)
        if version >= 8:
            step("with rights", [{"name": topic}], include_topic_authorized_operations=True)
        if version >= 10:
            known = {"name": None, "topic_id": peer.ids[topic]}
            step("by id", [known])
            step("by an unknown id", [{"name": None, "topic_id": b"\x07" * 16}])
            step("by no id", [{"name": None, "topic_id": bytes(16)}])
            step("by id and name", [{"name": topic, "topic_id": peer.ids[topic]}])


def describe_partitions(peer: Peer) -> None:
    """DescribeTopicPartitions, page by page."""
    topic = peer.make_topic("pages", 5)
    other = peer.make_topic("pages-b", 3)

    def step(label: str, *names: str, **values: Any) -> None:
        topics = [{"name": name} for name in names]
        peer.step(f"partitions {label}", "DescribeTopicPartitions", 0, topics=topics, **values)

    step("of two", topic, other)
    step("in the other order", other, topic)
    step("of all", response_partition_limit=2000)
    step("the first three", topic, other, response_partition_limit=3)
    step("over the seam", topic, other, response_partition_limit=7)
    at = {"topic_name": topic, "partition_index": 3}
    step("from a cursor", topic, other, cursor=at)
    step("from a cursor, two", topic, other, cursor=at, response_partition_limit=2)
    step("from one past", topic, other, cursor={"topic_name": topic, "partition_index": 9})
    step("from a bad cursor", topic, cursor={"topic_name": topic, "partition_index": -1})
    step("at most none", topic, response_partition_limit=0)
    step("of what is not there", peer.named("nobody"))
    step("of a bad name", "a b")
    step("of one twice", topic, topic)


def delete(peer: Peer) -> None:
    """DeleteTopics by name, by id, and what is refused."""
    nobody = peer.named("nobody")
    for version in VERSIONS["DeleteTopics"]:
        topics = [peer.make_topic(f"delete-{version}-{number}") for number in range(4)]

        def step(label: str, *names: str, at: int = version, **values: Any) -> None:
            if at >= 6:
                values = {"topics": [{"name": name} for name in names], **values}
            else:
                values = {"topic_names": list(names), **values}
            peer.step(f"delete {label}", "DeleteTopics", at, **{"timeout_ms": 20_000, **values})

        step("one", topics[0])
        peer.settle_gone(topics[0])
        step("it again", topics[0])
        step("nothing")
        step("two", topics[1], nobody)
        step("one twice", topics[2], topics[2])
        step("a bad name", "a b")
        if version >= 6:
            by_id = {"name": None, "topic_id": peer.ids[topics[3]]}
            step("by an unknown id", topics=[{"name": None, "topic_id": b"\x07" * 16}])
            step("by no id", topics=[{"name": None}])
            step("by both", topics=[{"name": topics[2], "topic_id": peer.ids[topics[2]]}])
            step("by name and by id", topics=[{"name": topics[3]}, by_id])
            step("by id", topics=[by_id])
            peer.settle_gone(topics[3])
        step("without time", topics[2], timeout_ms=-1)
