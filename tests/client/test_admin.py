"""The administrator, against a broker: ours or a real Kafka."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from kafka.admin import KafkaAdminClient as Theirs

import mqlog.admin
from mqlog import KafkaConsumer, TopicPartition
from mqlog.admin import (
    ACL,
    AlterConfigOp,
    ConfigResource,
    ElectionType,
    KafkaAdminClient,
    MemberToRemove,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    OffsetTimestamp,
    ResourcePattern,
    UserScramCredentialUpsertion,
)
from mqlog.errors import (
    ClosedError,
    IllegalArgumentError,
    InvalidConfigError,
    InvalidPartitionsError,
    KafkaConnectionError,
    NoBrokersAvailable,
    NoError,
    NonEmptyGroupError,
    OffsetOutOfRangeError,
    SecurityDisabledError,
    TopicAlreadyExistsError,
    UnknownMemberIdError,
    UnknownTopicOrPartitionError,
    UnsupportedVersionError,
)
from mqlog.structs import OffsetAndMetadata, OffsetAndTimestamp

from .conftest import eventually

NAMES = (f"admin-{time.time_ns()}-{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def admin(access: dict[str, Any]) -> Iterator[KafkaAdminClient]:
    with KafkaAdminClient(**access) as client:
        yield client


@pytest.fixture
def topic(admin: KafkaAdminClient) -> str:
    """A topic of two partitions."""
    name = next(NAMES)
    admin.create_topics([NewTopic(name, 2, 1)], wait_for_metadata=True)
    return name


@pytest.fixture
def produced(servers: str, confluent_security: dict[str, Any], topic: str) -> str:
    """A topic with ten records in partition 0, of the timestamps 1000, 2000 ..."""
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": servers, **confluent_security})
    for number in range(1, 11):
        producer.produce(topic, b"x", partition=0, timestamp=number * 1000)
    assert producer.flush(30) == 0
    return topic


def test_every_method_of_kafka_python_is_there() -> None:
    theirs = {name for name in vars_of(Theirs) if not name.startswith("_")}
    missing = theirs - set(vars_of(KafkaAdminClient))
    assert missing == {
        # Transactions are not offered.
        "abort_transaction", "describe_producers", "describe_transactions", "fence_producers",
        "find_hanging_transactions", "force_terminate_transaction", "list_transactions",
        # A table of kafka-python's own; `api_versions` has the facts.
        "get_broker_version_data",
        "DEFAULT_CONFIG",
    } & theirs  # fmt: skip


def vars_of(cls: type) -> list[str]:
    return [name for name in dir(cls) if name not in dir(object)]


def test_every_name_of_kafka_pythons_module_is_there() -> None:
    import kafka.admin

    missing = {name for name in kafka.admin.__all__ if not hasattr(mqlog.admin, name)}
    assert missing == {
        "AbortTransactionSpec", "PartitionProducerState", "ProducerState",
        "TransactionDescription", "TransactionListing", "TransactionState",
    }  # fmt: skip


def test_topics_are_made_listed_described_and_deleted(admin: KafkaAdminClient) -> None:
    first, second, third = (next(NAMES) for _ in range(3))
    made = admin.create_topics(
        {
            first: {"num_partitions": 3, "configs": {"retention.ms": 60000}},
            second: {"assignments": {0: [1], 1: [1]}},
            third: {},
        },
        wait_for_metadata=True,
    )
    assert [one["name"] for one in made["topics"]] == [first, second, third]
    assert made["topics"][0]["configs"]["retention.ms"]["value"] == "60000"
    assert {first, second, third} <= set(admin.list_topics())
    described = {one["name"]: one for one in admin.describe_topics([first, second])}
    assert [len(described[name]["partitions"]) for name in (first, second)] == [3, 2]
    assert "WRITE" in described[first]["authorized_operations"]
    by_id = admin.describe_topics([described[first]["topic_id"]])
    assert by_id[0]["name"] == first
    admin.delete_topics([first, described[second]["topic_id"]])
    eventually(lambda: not {first, second} & set(admin.list_topics()))


def test_topics_that_cannot_be(admin: KafkaAdminClient, topic: str) -> None:
    with pytest.raises(TopicAlreadyExistsError) as caught:
        admin.create_topics([topic])
    assert caught.value.topic == topic
    told = admin.create_topics([topic], raise_errors=False)
    assert told["topics"][0]["error_code"] == 36
    with pytest.raises(InvalidConfigError):
        admin.create_topics([NewTopic(next(NAMES), topic_configs={"no.such": "x"})])
    with pytest.raises(UnknownTopicOrPartitionError, match="nowhere"):
        admin.delete_topics(["nowhere"])
    assert admin.describe_topics(["nowhere"])[0]["error_code"] == 3
    with pytest.raises(TypeError, match=r"new_topics\['num_partitions'\] must be a dict"):
        admin.create_topics({"num_partitions": 1})  # a topic's name is left out
    with pytest.raises(ValueError, match="no topic to create"):
        admin.create_topics([])
    with pytest.raises(TypeError, match="a list or a dict"):
        admin.create_topics(topic)
    dry = next(NAMES)
    admin.create_topics([dry], validate_only=True)
    assert dry not in admin.list_topics()


def test_partitions_are_added(admin: KafkaAdminClient, topic: str) -> None:
    admin.create_partitions({topic: 3})
    admin.create_partitions({topic: NewPartitions(4)})
    admin.create_partitions({topic: {"count": 5, "assignments": [[1]]}})
    admin.wait_for_topics([topic])
    eventually(lambda: len(admin.describe_topics([topic])[0]["partitions"]) == 5)
    with pytest.raises(InvalidPartitionsError):
        admin.create_partitions({topic: 2})
    assert admin.create_partitions({topic: 2}, raise_errors=False).results[0].error_code == 37
    page = admin.describe_topic_partitions([topic], response_partition_limit=2)
    assert len(page["topics"][0]["partitions"]) == 2
    rest = admin.describe_topic_partitions([topic], cursor=page["next_cursor"])
    assert [one["partition_index"] for one in rest["topics"][0]["partitions"]] == [2, 3, 4]


def test_settings_are_described_altered_and_reset(admin: KafkaAdminClient, topic: str) -> None:
    def modified() -> dict[str, str]:
        found = admin.describe_configs([ConfigResource("topic", topic)])["topic"][topic]
        return {name: setting["value"] for name, setting in found.items()}

    before = modified()
    ok = {"topic": {topic: "OK"}}
    one = {"retention.ms": 60000, "cleanup.policy": (AlterConfigOp.SET, "delete")}
    assert admin.alter_configs([ConfigResource("topic", topic, one)]) == ok
    append = {"cleanup.policy": ("append", "compact")}
    assert admin.alter_configs([ConfigResource("topic", topic, append)]) == ok
    after = before | {"retention.ms": "60000", "cleanup.policy": "delete,compact"}
    eventually(lambda: modified() == after)
    older = [ConfigResource("topic", topic, {"segment.bytes": 1 << 20})]
    assert admin.alter_configs(older, incremental=False) == ok
    eventually(lambda: modified() == after | {"segment.bytes": "1048576"})
    assert admin.reset_configs([ConfigResource("topic", topic, ["retention.ms"])]) == ok
    eventually(lambda: "retention.ms" not in modified())
    assert admin.reset_configs([ConfigResource("topic", topic)]) == ok
    eventually(lambda: "segment.bytes" not in modified())

    with pytest.raises(ValueError, match=r"no such settings: \['nonsense'\]"):
        admin.alter_configs([ConfigResource("topic", topic, {"nonsense": 1})])
    wrong = admin.alter_configs([ConfigResource("topic", topic, {"retention.ms": "soon"})])
    assert wrong["topic"][topic].startswith("INVALID_CONFIG: ")
    every = admin.describe_configs(
        [ConfigResource("topic", topic)], include_synonyms=True, config_filter="all"
    )["topic"][topic]
    assert every["retention.ms"]["config_type"] == "LONG"
    assert every["retention.ms"]["config_source"] == "DEFAULT_CONFIG"
    chosen = [ConfigResource("topic", topic, ["retention.ms"])]
    assert list(admin.describe_configs(chosen, config_filter="all")["topic"][topic]) == [
        "retention.ms"
    ]
    with pytest.raises(UnknownTopicOrPartitionError, match="TOPIC 'nowhere'"):
        admin.describe_configs([ConfigResource("topic", "nowhere")])
    with pytest.raises(ValueError, match="its name is its node id"):
        admin.describe_configs([ConfigResource("broker", "x")])
    with suppress(UnsupportedVersionError):  # before Kafka 4.1
        assert topic in admin.list_config_resources(["topic"])["topic"]


def test_settings_of_a_broker(admin: KafkaAdminClient) -> None:
    node = str(admin.describe_cluster()["brokers"][0]["broker_id"])
    found = admin.describe_configs([ConfigResource("broker", node)], config_filter="all")
    assert "log.retention.ms" in found["broker"][node]


def test_records_are_deleted_and_offsets_listed(admin: KafkaAdminClient, produced: str) -> None:
    topic = produced
    first, other = TopicPartition(topic, 0), TopicPartition(topic, 1)

    def offset(spec: int) -> int:
        return admin.list_partition_offsets({first: spec})[first].offset

    assert (offset(OffsetSpec.EARLIEST), offset(OffsetSpec.LATEST)) == (0, 10)
    assert (offset(OffsetTimestamp(3500)), offset(OffsetSpec.MAX_TIMESTAMP)) == (3, 9)
    assert offset(10**15) == -1
    empty = admin.list_partition_offsets({other: 0}, isolation_level="read_committed")
    assert empty == {other: OffsetAndTimestamp(-1, -1)}
    assert admin.delete_records({first: 4})[first]["low_watermark"] == 4
    node = admin.describe_topics([topic])[0]["partitions"][0]["leader_id"]
    assert admin.delete_records({first: 6}, partition_leader_id=node)[first]["low_watermark"] == 6
    assert offset(OffsetSpec.EARLIEST) == 6
    with pytest.raises(OffsetOutOfRangeError, match=f"{topic}-0"):
        admin.delete_records({first: 11})
    with pytest.raises(UnknownTopicOrPartitionError, match=f"{topic}-7"):
        admin.list_partition_offsets({TopicPartition(topic, 7): 0})


def test_groups_and_their_offsets(admin: KafkaAdminClient, produced: str) -> None:
    group = next(NAMES)
    first, other = TopicPartition(produced, 0), TopicPartition(produced, 1)
    at = OffsetAndMetadata(4, "note")
    assert admin.alter_group_offsets(group, {first: at}) == {first: NoError}
    found = admin.list_group_offsets({group: [first, other]})[group]
    assert found[first][:2] == (4, "note")
    assert found[other].offset == -1
    assert set(admin.list_consumer_group_offsets(group)) == {first}
    assert admin.list_group_offsets([group]) == admin.list_group_offsets(group)
    listed = {one["group_id"]: one for one in admin.list_groups(states_filter=["empty"])}
    assert listed[group]["group_state"] == "Empty"
    assert group not in {one["group_id"] for one in admin.list_groups(states_filter=["STABLE"])}
    assert group in {one["group_id"] for one in admin.list_groups(types_filter=["classic"])}

    moved = admin.reset_group_offsets(group, {first: OffsetSpec.LATEST, other: OffsetSpec.EARLIEST})
    assert [moved[place] for place in (first, other)] == [
        {"error": NoError, "offset": 10},
        {"error": NoError, "offset": 0},
    ]
    assert admin.list_group_offsets(group)[group][first].metadata == "note"
    for spec, offset in (
        (OffsetTimestamp(2500), 2),
        (7, 7),
        (99, 10),
        (OffsetTimestamp(10**15), 10),
    ):
        assert admin.reset_group_offsets(group, {first: spec})[first]["offset"] == offset
    with pytest.raises(TypeError, match="no OffsetSpec"):
        admin.reset_group_offsets(group, {first: "end"})
    assert admin.delete_group_offsets(group, [first]) == {first: NoError}
    assert set(admin.list_group_offsets(group)[group]) == {other}
    assert admin.delete_groups([group, "nowhere"]) == {
        group: "OK", "nowhere": "GroupIdNotFoundError",
    }  # fmt: skip


def test_groups_by_the_names_of_kafka_python_2(
    admin: KafkaAdminClient, access: dict[str, Any], produced: str
) -> None:
    group = next(NAMES)
    with KafkaConsumer(produced, group_id=group, **access) as consumer:
        eventually(lambda: consumer.poll(100) or consumer.assignment())
        assert (group, "consumer") in admin.list_consumer_groups()
        told, nobody = admin.describe_consumer_groups([group, "nowhere"])
        assert (told.error_code, told.group, told.state) == (0, group, "Stable")
        assert (told.protocol_type, told.protocol) == ("consumer", "range")
        (member,) = told.members
        assert member.member_metadata.topics == [produced]
        assert (nobody.group, nobody.state, nobody.members) == ("nowhere", "Dead", [])
        assert admin.delete_consumer_groups([group]) == [(group, NonEmptyGroupError)]
    # A text is one group: its letters are not described, and above all not deleted.
    assert [one.group for one in admin.describe_consumer_groups(group)] == [group]
    assert set(admin.describe_groups(group)) == {group}
    assert admin.delete_consumer_groups(group) == [(group, NoError)]


def test_a_group_with_members(
    admin: KafkaAdminClient, servers: str, confluent_security: dict[str, Any], topic: str
) -> None:
    from confluent_kafka import Consumer

    group = next(NAMES)
    consumer = Consumer({"bootstrap.servers": servers, "group.id": group, **confluent_security})
    consumer.subscribe([topic])
    try:
        eventually(lambda: consumer.poll(0.1) or consumer.assignment())
        described = admin.describe_groups([group], include_authorized_operations=True)[group]
        assert (described["group_state"], described["error"]) == ("Stable", None)
        assert "READ" in described["authorized_operations"]
        (member,) = described["members"]
        assert member["member_metadata"].topics == [topic]
        assert member["member_assignment"].assigned_partitions[0].partitions == [0, 1]
        assert admin.delete_groups([group]) == {group: NonEmptyGroupError.__name__}
        refused = admin.alter_group_offsets(group, {TopicPartition(topic, 0): OffsetAndMetadata(0)})
        assert set(refused.values()) == {UnknownMemberIdError}
        gone = admin.remove_group_members(
            group, [MemberToRemove(member["member_id"], reason="test"), MemberToRemove("nobody")]
        )
        assert gone == {member["member_id"]: NoError, "nobody": UnknownMemberIdError}
    finally:
        consumer.close()


def test_the_cluster_is_described(admin: KafkaAdminClient, topic: str) -> None:
    cluster = admin.describe_cluster()
    (broker,) = cluster["brokers"]
    assert cluster["controller_id"] == broker["broker_id"]
    assert broker["host"]
    assert "CREATE" in cluster["authorized_operations"]
    eventually(lambda: admin.describe_log_dirs({topic: [0]})[0]["log_dirs"][0]["topics"])
    (disk,) = admin.describe_log_dirs({topic: [0]})
    (found,) = disk["log_dirs"][0]["topics"]
    assert found["name"] == topic
    assert len(found["partitions"]) == 1
    assert "metadata.version" in admin.describe_features()
    assert 3 in admin.api_versions()
    (log,) = admin.describe_metadata_quorum()["topics"]
    assert log["partitions"][0]["error"] is None
    assert admin.metrics()["answers"] > 0


def test_replicas_and_leaders(admin: KafkaAdminClient, topic: str) -> None:
    told = admin.elect_leaders(ElectionType.PREFERRED, {topic: [0]})
    assert told.replica_election_results[0].partition_result[0].error_code == 84
    place = TopicPartition(topic, 0)
    assert admin.list_partition_reassignments([place]) == {}
    assert admin.alter_partition_reassignments({place: [1]}) == {place: None}
    with pytest.raises(ValueError, match="node ids"):
        admin.alter_partition_reassignments({place: []})


def test_access_is_asked_for(admin: KafkaAdminClient) -> None:
    kinds = mqlog.admin
    pattern = ResourcePattern(kinds.ResourceType.TOPIC, "t")
    grant = ACL("User:u", "*", kinds.ACLOperation.READ, kinds.ACLPermissionType.ALLOW, pattern)
    with pytest.raises(SecurityDisabledError):
        admin.describe_acls(grant)
    with pytest.raises(IllegalArgumentError, match="is for filters only"):
        ResourcePattern(kinds.ResourceType.ANY, "t")
    with pytest.raises(IllegalArgumentError, match="no UserScramCredentialUpsertion"):
        admin.alter_user_scram_credentials(["x"])
    credential = UserScramCredentialUpsertion(
        "u", "SCRAM-SHA-256", "secret", salt=b"s", iterations=4096
    )
    assert credential.salted_password.hex().startswith("181b6079")
    assert "secret" not in repr(credential)


def test_a_closed_administrator_says_so(access: dict[str, Any]) -> None:
    dotted = {name.replace("_", "."): value for name, value in access.items()}
    with KafkaAdminClient(dotted, client_id="c") as admin:
        assert admin.config["client_id"] == "c"
    admin.close()
    with pytest.raises(ClosedError, match="the admin client is closed"):
        admin.list_topics()


def test_nobody_there_is_said_at_once() -> None:
    start = time.monotonic()
    with pytest.raises(NoBrokersAvailable, match=r"127\.0\.0\.1:1: connection refused") as caught:
        KafkaAdminClient(bootstrap_servers="127.0.0.1:1", bootstrap_timeout_ms=50)
    assert isinstance(caught.value, KafkaConnectionError)
    assert time.monotonic() - start < 30


def test_ids_are_uuids(admin: KafkaAdminClient, topic: str) -> None:
    assert isinstance(admin.describe_topics([topic])[0]["topic_id"], uuid.UUID)
