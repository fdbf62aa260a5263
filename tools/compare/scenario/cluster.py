"""The cluster, its settings, and what a single broker says to the rest of administration."""

# ruff: noqa: B023 - what is made in a turn of a loop is called in that turn alone

from __future__ import annotations

from typing import Any

from codec import KEYS, VERSIONS, request
from peer import Peer

TOPIC, BROKER, LOGGER, METRICS, GROUP = 2, 4, 8, 16, 32


def run(peer: Peer) -> None:
    """All steps about the cluster."""
    about(peer)
    describe_configs(peer)
    alter_configs(peer)
    increments(peer)
    log_dirs(peer)
    elections(peer)
    reassignments(peer)
    quotas(peer)
    security(peer)
    features(peer)
    transactions(peer)


def about(peer: Peer) -> None:
    """ApiVersions and DescribeCluster."""
    for version in VERSIONS["ApiVersions"]:
        said = {"client_software_name": "compare", "client_software_version": "1"}
        peer.step("versions", "ApiVersions", version, **said)
        if version >= 3:
            bad = {"client_software_name": "no good!", "client_software_version": ""}
            peer.step("versions to a bad name", "ApiVersions", version, **bad)
    frame = request("ApiVersions", 3, 7, {"client_software_name": "a"})
    frame = frame[:2] + (99).to_bytes(2, "big") + frame[4:]
    peer.raw("versions in a later version", "ApiVersions", 4, frame, 0)
    for version in VERSIONS["DescribeCluster"]:
        peer.step("cluster", "DescribeCluster", version)
        rights = {"include_cluster_authorized_operations": True}
        peer.step("cluster with rights", "DescribeCluster", version, **rights)
        if version >= 1:
            peer.step("controllers", "DescribeCluster", version, endpoint_type=2)
            peer.step("cluster of another kind", "DescribeCluster", version, endpoint_type=9)
        if version >= 2:
            peer.step("fenced brokers", "DescribeCluster", version, include_fenced_brokers=True)


def described(kind: int, name: str, keys: list[str] | None = None) -> dict[str, Any]:
    """A resource of DescribeConfigs."""
    return {"resource_type": kind, "resource_name": name, "configuration_keys": keys}


def describe_configs(peer: Peer) -> None:
    """DescribeConfigs."""
    topic = peer.make_topic("configs", 1, retention_ms="1000", cleanup_policy="compact,delete")
    me = str(peer.node)
    for version in VERSIONS["DescribeConfigs"]:

        def step(label: str, *resources: dict[str, Any], at: int = version, **more: Any) -> None:
            asked = {"resources": list(resources), **more}
            peer.step(f"configs {label}", "DescribeConfigs", at, **asked)

        step("of a topic", described(TOPIC, topic))
        step("of a topic, with synonyms", described(TOPIC, topic), include_synonyms=True)
        step("of a broker", described(BROKER, me))
        step("of a broker, with synonyms", described(BROKER, me), include_synonyms=True)
        step("of all brokers", described(BROKER, ""), include_synonyms=True)
        if version >= 3:
            keys = ["retention.ms", "segment.bytes"]
            step("explained", described(TOPIC, topic, keys), include_documentation=True)
        step("some", described(TOPIC, topic, ["retention.ms", "no.such.thing", "retention.ms"]))
        step("none", described(TOPIC, topic, []))
        step("of two", described(TOPIC, topic, ["segment.ms"]), described(BROKER, me, ["node.id"]))
        step("of one twice", *[described(TOPIC, topic, ["segment.ms"])] * 2)
        step("of no such topic", described(TOPIC, peer.named("nobody")))
        step("of a bad name", described(TOPIC, "a b"), described(TOPIC, ""))
        step("of another broker", described(BROKER, str(peer.node + 7), ["log.dirs"]))
        step("of a broker without a number", described(BROKER, "me"))
        step("of an unknown kind", described(99, "x"), described(0, "x"))
        step("of loggers", described(LOGGER, me, ["kafka"]))
        step("of metrics", described(METRICS, "x"))
        step("of a group", described(GROUP, "x"))
        step("of nothing")
    for version in VERSIONS["ListConfigResources"]:
        peer.step("resources", "ListConfigResources", version)
        if version:
            for kinds in ([TOPIC], [BROKER], [TOPIC, BROKER], [GROUP, METRICS], [LOGGER], [77]):
                asked = {"resource_types": kinds}
                peer.step(f"resources of {kinds}", "ListConfigResources", version, **asked)


def read_back(peer: Peer, label: str, topic: str, *keys: str) -> None:
    """What a topic's settings are now."""
    asked = [described(TOPIC, topic, list(keys))]
    peer.step(f"{label}, read back", "DescribeConfigs", 4, resources=asked, include_synonyms=True)


def alter_configs(peer: Peer) -> None:
    """AlterConfigs: all of a resource's settings at once."""
    for version in VERSIONS["AlterConfigs"]:
        topic = peer.make_topic(f"alter-{version}", 1, retention_ms="1000")

        def step(label: str, *resources: Any, at: int = version, **more: Any) -> None:
            listed = [
                {
                    "resource_type": kind,
                    "resource_name": name,
                    "configs": [{"name": key, "value": value} for key, value in settings],
                }
                for kind, name, *settings in resources
            ]
            peer.step(f"alter {label}", "AlterConfigs", at, resources=listed, **more)

        def wait(name: str = topic) -> None:
            settled(peer, name)

        step("only tried", (TOPIC, topic, ("segment.ms", "60000")), validate_only=True)
        step("one", (TOPIC, topic, ("segment.ms", "60000")))
        wait()
        read_back(peer, "alter one", topic, "segment.ms", "retention.ms")
        step("a bad value", (TOPIC, topic, ("segment.ms", "long")))
        step("out of range", (TOPIC, topic, ("segment.bytes", "1")))
        step("an unknown one", (TOPIC, topic, ("no.such.thing", "1")))
        step("to null", (TOPIC, topic, ("segment.ms", None)))
        step("no such topic", (TOPIC, peer.named("nobody"), ("segment.ms", "60000")))
        step("a bad name", (TOPIC, "a b", ("segment.ms", "60000")))
        if version == 2:
            step("one twice", *[(TOPIC, topic, ("segment.ms", "60000"))] * 2, within_s=3.0)
        step("a setting twice", (TOPIC, topic, ("segment.ms", "1"), ("segment.ms", "60000")))
        step("another broker", (BROKER, str(peer.node + 7), ("log.cleaner.threads", "2")))
        step("a broker without a number", (BROKER, "me", ("log.cleaner.threads", "2")))
        step("an unknown kind", (99, "x", ("a", "b")))
        step("all away", (TOPIC, topic))
        wait()
        read_back(peer, "alter all away", topic, "segment.ms", "retention.ms")
        step("nothing")


def settled(peer: Peer, topic: str) -> None:
    """Wait until what was altered before is seen: a mark after it is."""
    peer.marks += 1
    mark = str(10_000 + peer.marks)
    change = {"name": "file.delete.delay.ms", "config_operation": 0, "value": mark}
    one = {"resource_type": TOPIC, "resource_name": topic, "configs": [change]}
    peer.ask("IncrementalAlterConfigs", 1, resources=[one])

    def seen() -> bool:
        asked = [described(TOPIC, topic, ["file.delete.delay.ms"])]
        told = peer.ask("DescribeConfigs", 4, resources=asked)["results"][0]
        return bool(told["configs"][0]["value"] == mark)

    peer.settle(f"the settings of {topic}", seen)


def increments(peer: Peer) -> None:
    """IncrementalAlterConfigs: set, delete, append, subtract."""
    for version in VERSIONS["IncrementalAlterConfigs"]:
        topic = peer.make_topic(f"increment-{version}", 1, retention_ms="1000")

        def step(label: str, *changes: Any, at: int = version, **more: Any) -> None:
            kind, name = more.pop("kind", TOPIC), more.pop("name", topic)
            listed = [
                {"name": key, "config_operation": operation, "value": value}
                for key, operation, value in changes
            ]
            one = {"resource_type": kind, "resource_name": name, "configs": listed}
            asked = {"resources": [one] * more.pop("times", 1), **more}
            peer.step(f"change {label}", "IncrementalAlterConfigs", at, **asked)

        policy = "cleanup.policy"
        step("only tried", ("segment.ms", 0, "60000"), validate_only=True)
        step("two", ("segment.ms", 0, "60000"), ("retention.ms", 1, None))
        step("by appending", (policy, 2, "compact"))
        settled(peer, topic)
        read_back(peer, "changed", topic, "segment.ms", "retention.ms", policy)
        step("by subtracting", (policy, 3, "delete"))
        step("by appending what is there", (policy, 2, "compact"))
        settled(peer, topic)
        read_back(peer, "changed again", topic, policy)
        step("by appending to a number", ("segment.ms", 2, "1"))
        step("by an unknown operation", ("segment.ms", 9, "1"))
        step("to null", ("segment.ms", 0, None))
        step("to a bad value", ("segment.ms", 0, "long"))
        step("an unknown one", ("no.such.thing", 0, "1"))
        step("an unknown one away", ("no.such.thing", 1, None))
        step("one twice", ("segment.ms", 0, "1"), ("segment.ms", 1, None))
        step("a resource twice", ("segment.ms", 0, "60000"), times=2)
        step("no such topic", ("segment.ms", 0, "60000"), name=peer.named("nobody"))
        step("nothing")
        me, threads = str(peer.node), "log.cleaner.threads"
        step("the broker", (threads, 0, "1"), kind=BROKER, name=me, validate_only=True)
        step("the broker to nonsense", (threads, 0, "many"), kind=BROKER, name=me)
        step("what a broker keeps", ("node.id", 0, "9"), kind=BROKER, name=me)
        step("another broker", (threads, 0, "2"), kind=BROKER, name=str(peer.node + 7))
        step("a broker without a number", (threads, 0, "2"), kind=BROKER, name="me")
        step("an unknown kind", (threads, 0, "2"), kind=99, name="x")


def log_dirs(peer: Peer) -> None:
    """DescribeLogDirs, AlterReplicaLogDirs."""
    topic = peer.make_topic("dirs", 2)
    for version in VERSIONS["DescribeLogDirs"]:
        for label, topics in (
            ("of one", [{"topic": topic, "partitions": [0, 1]}]),
            ("of no such partition", [{"topic": topic, "partitions": [0, 7]}]),
            ("of no such topic", [{"topic": peer.named("nobody"), "partitions": [0]}]),
            ("of nothing", []),
        ):
            peer.step(f"dirs {label}", "DescribeLogDirs", version, topics=topics)
    own = peer.ask("DescribeLogDirs", 4, topics=[])["results"][0]["log_dir"]
    for version in VERSIONS["AlterReplicaLogDirs"]:
        nobody = peer.named("nobody")
        for label, path, name, parts in (
            ("to where it is", own, topic, [0]),
            ("to nowhere", "/no/such/folder", topic, [0, 1]),
            ("to a relative path", "here", topic, [0]),
            ("of no such partition", own, topic, [9]),
            ("of no such topic", own, nobody, [0]),
        ):
            dirs = [{"path": path, "topics": [{"name": name, "partitions": parts}]}]
            peer.step(f"move {label}", "AlterReplicaLogDirs", version, dirs=dirs)
        peer.step("move nothing", "AlterReplicaLogDirs", version, dirs=[])


def elections(peer: Peer) -> None:
    """ElectLeaders."""
    topic = peer.make_topic("elect", 2)
    for version in VERSIONS["ElectLeaders"]:
        some = [{"topic": topic, "partitions": [0, 1, 7]}]
        some += [{"topic": peer.named("nobody"), "partitions": [0]}]
        for kind in (0, 1, 2) if version else (0,):
            asked = {"election_type": kind, "timeout_ms": 20_000}
            peer.step(f"elect {kind}", "ElectLeaders", version, topic_partitions=some, **asked)
            peer.step(f"elect {kind} for nobody", "ElectLeaders", version, **asked)
        peer.step("elect for all", "ElectLeaders", version, topic_partitions=None)
        late = {"topic_partitions": some[:1], "timeout_ms": -1}
        peer.step("elect without time", "ElectLeaders", version, **late)


def reassignments(peer: Peer) -> None:
    """AlterPartitionReassignments, ListPartitionReassignments."""
    topic = peer.make_topic("move", 2)
    me = peer.node
    for version in VERSIONS["AlterPartitionReassignments"]:
        for label, name, parts in (
            ("to where they are", topic, {0: [me], 1: None}),
            ("to nobody", topic, {0: [me + 7]}),
            ("to no replicas", topic, {0: []}),
            ("to one twice", topic, {0: [me, me]}),
            ("of no such partition", topic, {9: [me], -1: None}),
            ("of no such topic", peer.named("nobody"), {0: [me], 1: None}),
            ("of nothing", topic, {}),
        ):
            listed = [{"partition_index": i, "replicas": where} for i, where in parts.items()]
            topics = [{"name": name, "partitions": listed}]
            asked = {"topics": topics, "timeout_ms": 20_000}
            peer.step(f"reassign {label}", "AlterPartitionReassignments", version, **asked)
        peer.step("reassign nothing", "AlterPartitionReassignments", version)
    known = [{"name": topic, "partition_indexes": [0, 1, 9]}]
    nobody = [{"name": peer.named("nobody"), "partition_indexes": [0]}]
    for topics in (None, [], known, nobody):
        peer.step("reassignments", "ListPartitionReassignments", 0, topics=topics)


def quotas(peer: Peer) -> None:
    """AlterClientQuotas, DescribeClientQuotas."""
    rate = "producer_byte_rate"
    for version in VERSIONS["AlterClientQuotas"]:
        user = {"entity_type": "user", "entity_name": peer.named(f"user-{version}")}
        client = {"entity_type": "client-id", "entity_name": peer.named("client")}

        def alter(label: str, *entries: Any, at: int = version, **more: Any) -> None:
            listed = [
                {
                    "entity": entity,
                    "ops": [{"key": k, "value": v or 0.0, "remove": v is None} for k, v in ops],
                }
                for entity, *ops in entries
            ]
            peer.step(f"quota {label}", "AlterClientQuotas", at, entries=listed, **more)

        def told(label: str, *parts: Any, strict: bool = False, at: int = version) -> None:
            listed = [
                {"entity_type": kind, "match_type": how, "match": what} for kind, how, what in parts
            ]
            asked = {"components": listed, "strict": strict}
            peer.step(f"quotas {label}", "DescribeClientQuotas", at, **asked)

        name = user["entity_name"]
        alter("only tried", ([user], (rate, 5.0)), validate_only=True)
        alter("of two", ([user], (rate, 1000.0)), ([user, client], (rate, 10.0)))
        peer.settle("the quotas", lambda name=name: _has_quota(peer, name, 2))
        told("of a user", ("user", 0, name))
        told("of a user alone", ("user", 0, name), strict=True)
        told("of both", ("user", 0, name), ("client-id", 0, client["entity_name"]))
        told("of a stranger", ("user", 0, peer.named("nobody")))
        told("by default", ("user", 1, None))
        told("of a kind that is none", ("planet", 0, "x"))
        told("in a way that is none", ("user", 9, "x"))
        told("of a null name", ("user", 0, None))
        told("of one kind twice", ("user", 0, "a"), ("user", 0, "b"))
        alter("without a kind", ([], (rate, 1.0)))
        alter("of a kind that is none", ([{**user, "entity_type": "planet"}], (rate, 1.0)))
        alter("of an empty name", ([{**user, "entity_name": ""}], (rate, 1.0)))
        alter("of an unknown key", ([user], ("light_years", 1.0)))
        alter("below nothing", ([user], (rate, -5.0)))
        alter("of a fraction", ([user], (rate, 1.5)))
        alter("twice", ([user], (rate, 1.0)), ([user], (rate, 2.0)))
        alter("away", ([user], (rate, None)), ([user, client], (rate, None)))
        peer.settle("no quotas", lambda name=name: _has_quota(peer, name, 0))
        told("of a user that has none", ("user", 0, name))
        alter("of nobody")


def _has_quota(peer: Peer, user: str, count: int) -> bool:
    part = {"entity_type": "user", "match_type": 0, "match": user}
    told = peer.ask("DescribeClientQuotas", 1, components=[part], strict=False)
    return len(told["entries"]) == count


def security(peer: Peer) -> None:
    """ACLs and SCRAM credentials, where there is no authorizer."""
    made = {
        "resource_type": 2,
        "resource_name": "x",
        "resource_pattern_type": 3,
        "principal": "User:a",
        "host": "*",
        "operation": 3,
        "permission_type": 3,
    }
    wanted = {
        "resource_type_filter": 2,
        "resource_name_filter": "x",
        "pattern_type_filter": 3,
        "principal_filter": None,
        "host_filter": None,
        "operation": 1,
        "permission_type": 1,
    }
    for version in VERSIONS["DescribeAcls"]:
        peer.step("rights", "DescribeAcls", version, **wanted)
        every = {**wanted, "resource_type_filter": 1, "resource_name_filter": None}
        peer.step("all rights", "DescribeAcls", version, **every)
    for count in range(3):
        for version in VERSIONS["CreateAcls"]:
            peer.step(f"give {count} rights", "CreateAcls", version, creations=[made] * count)
        for version in VERSIONS["DeleteAcls"]:
            peer.step(f"take {count} rights", "DeleteAcls", version, filters=[wanted] * count)
    for users in (None, [], ["a"], ["a", "b", "a"], [""]):
        named = None if users is None else [{"name": name} for name in users]
        peer.step(f"passwords of {users}", "DescribeUserScramCredentials", 0, users=named)


def features(peer: Peer) -> None:
    """UpdateFeatures, DescribeQuorum, UnregisterBroker."""
    for version in VERSIONS["UpdateFeatures"]:
        for label, name, level, kind in (
            ("that is none", "no.such.feature", 1, 1),
            ("beyond its range", "metadata.version", 999, 1),
            ("by an unknown way", "metadata.version", 20, 9),
            ("without a name", "", 1, 1),
        ):
            change = {"feature": name, "max_version_level": level}
            if version >= 1:
                change["upgrade_type"] = kind
            asked = {"feature_updates": [change], "timeout_ms": 20_000}
            peer.step(f"feature {label}", "UpdateFeatures", version, **asked)
        peer.step("no feature", "UpdateFeatures", version)
    for version in VERSIONS["DescribeQuorum"]:
        for label, name, part in (
            ("of the metadata", "__cluster_metadata", 0),
            ("of another partition", "__cluster_metadata", 1),
            ("of another topic", peer.named("nobody"), 0),
        ):
            topics = [{"topic_name": name, "partitions": [{"partition_index": part}]}]
            peer.step(f"quorum {label}", "DescribeQuorum", version, topics=topics)
        peer.step("quorum of nothing", "DescribeQuorum", version)
    for node in (peer.node + 7, -1):
        peer.step("unregister nobody", "UnregisterBroker", 0, broker_id=node)


def transactions(peer: Peer) -> None:
    """Transactions, of which there are none."""
    name = peer.named("transaction")
    for version in VERSIONS["ListTransactions"]:
        peer.step("transactions", "ListTransactions", version, duration_filter=-1)
        states = ["Ongoing", "bogus"]
        peer.step("transactions going on", "ListTransactions", version, state_filters=states)
        ids = {"producer_id_filters": [99]}
        peer.step("transactions of one", "ListTransactions", version, **ids)
        if version >= 2:
            for pattern in (name, "a("):
                asked = {"transactional_id_pattern": pattern}
                peer.step(f"transactions like {pattern}", "ListTransactions", version, **asked)

    def known() -> bool:
        peer.ask("FindCoordinator", 4, key_type=1, coordinator_keys=[name])
        told = peer.ask("DescribeTransactions", 0, transactional_ids=[name])
        return bool(told["transaction_states"][0]["error_code"] == 105)

    peer.settle("the coordinator of transactions", known)
    for ids in ([name], [name, "", name], []):
        peer.step(f"transactions {len(ids)}", "DescribeTransactions", 0, transactional_ids=ids)


assert KEYS["Produce"] == 0
