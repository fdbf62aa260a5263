"""What is volatile in an answer, and is made equal before answers are compared, by named rules.

A rule replaces a value by a label only if it is what the rule says: an address is replaced if it
is the broker's own, a time if it is about now. Everything else is compared as it is.
"""

from __future__ import annotations

import json
import re
import struct
import time
from collections import Counter
from typing import Any

from peer import Peer, Step

#: How far from now a time may be, in ms, to count as the time of this run.
RUN_MS = 3_600_000
_MEMBER = re.compile(r"(?<=-)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TIMES = {"log_append_time_ms", "last_timestamp", "last_fetch_timestamp", "timestamp",
          "last_caught_up_timestamp"}  # fmt: skip
_METADATA = {"high_watermark", "log_end_offset", "leader_epoch"}
#: Lists without an order of their own, (API, path): what tells their items apart.
UNORDERED: dict[tuple[str, str], str] = {
    ("ApiVersions", "api_keys"): "api_key",
    ("ApiVersions", "supported_features"): "name",
    ("ApiVersions", "finalized_features"): "name",
    ("Metadata", "topics"): "name",
    ("Metadata", "topics.partitions"): "partition_index",
    ("CreateTopics", "topics"): "name",
    ("CreateTopics", "topics.configs"): "name",
    ("DeleteTopics", "responses"): "name",
    ("CreatePartitions", "results"): "name",
    ("DescribeConfigs", "results"): "resource_name",
    ("DescribeConfigs", "results.configs"): "name",
    ("AlterConfigs", "responses"): "resource_name",
    ("IncrementalAlterConfigs", "responses"): "resource_name",
    ("ListConfigResources", "config_resources"): "resource_name",
    ("DescribeLogDirs", "results.topics"): "name",
    ("DescribeLogDirs", "results.topics.partitions"): "partition_index",
    ("AlterReplicaLogDirs", "results"): "topic_name",
    ("AlterReplicaLogDirs", "results.partitions"): "partition_index",
    ("Produce", "responses"): "name",
    ("Produce", "responses.partition_responses"): "index",
    ("Fetch", "responses.partitions"): "partition_index",
    ("ListOffsets", "topics"): "name",
    ("ListOffsets", "topics.partitions"): "partition_index",
    ("DeleteRecords", "topics.partitions"): "partition_index",
    ("OffsetForLeaderEpoch", "topics.partitions"): "partition",
    ("OffsetCommit", "topics"): "name",
    ("OffsetFetch", "topics"): "name",
    ("OffsetFetch", "topics.partitions"): "partition_index",
    ("OffsetFetch", "groups"): "group_id",
    ("OffsetFetch", "groups.topics"): "name",
    ("OffsetFetch", "groups.topics.partitions"): "partition_index",
    ("OffsetDelete", "topics.partitions"): "partition_index",
    ("ListGroups", "groups"): "group_id",
    ("DescribeGroups", "groups"): "group_id",
    ("DescribeGroups", "groups.members"): "client_id",
    ("JoinGroup", "members"): "metadata",
    ("DeleteGroups", "results"): "group_id",
    ("ElectLeaders", "replica_election_results"): "topic",
    ("DescribeClientQuotas", "entries"): "entity",
    ("AlterClientQuotas", "entries"): "entity",
    ("DescribeUserScramCredentials", "results"): "user",
    ("DescribeProducers", "topics.partitions.active_producers"): "producer_id",
    ("ListTransactions", "unknown_state_filters"): "",
    ("DescribeTransactions", "transaction_states"): "transactional_id",
}
#: Lists that tell of the whole broker: only what this run made is compared.
SHARED = {
    ("Metadata", "topics", "name"),
    ("ListGroups", "groups", "group_id"),
    ("ListConfigResources", "config_resources", "resource_name"),
    ("ElectLeaders", "replica_election_results", "topic"),
    ("DescribeTopicPartitions", "topics", "name"),
}
NAMES = {
    "throttle": "throttle_time_ms",
    "address": "host and port that are the broker's own",
    "cluster id": "the broker's own cluster id",
    "uuid": "ids of topics by the topic's name, others in order of their first appearance",
    "member id": "the uuid in a member's id, in order of its first appearance",
    "producer id": "producer ids, in order of their first appearance",
    "session id": "ids of fetch sessions, in order of their first appearance",
    "time": "times of this hour",
    "directory": "the log directory, and the size of its disk",
    "metadata": "offsets and epochs of the metadata log",
    "order": "lists without an order: sorted by name",
    "others": "topics, groups and resources that this run did not make",
    "records": "records as batches, the epoch of the leader left out",
}


class Rules:
    """The rules as they stand for one broker, and how often each was used."""

    def __init__(self, peer: Peer) -> None:
        self.peer, self.used = peer, Counter[str]()
        self._labels: dict[str, dict[Any, str]] = {}

    def apply(self, step: Step) -> Any:
        """The answer of a step, without what is volatile."""
        return self._value(step.api, "", "", step.answer)

    def _use(self, rule: str, value: Any) -> Any:
        self.used[rule] += 1
        return value

    def _label(self, rule: str, value: Any) -> str:
        known = self._labels.setdefault(rule, {})
        return str(self._use(rule, known.setdefault(value, f"<{rule} {len(known) + 1}>")))

    def _value(self, api: str, path: str, name: str, value: Any) -> Any:
        if isinstance(value, dict):
            prefix = f"{path}." if path else ""
            return {key: self._value(api, prefix + key, key, one) for key, one in value.items()}
        if isinstance(value, list):
            return self._list(api, path, name, value)
        return self._scalar(api, path, name, value)

    def _list(self, api: str, path: str, name: str, items: list[Any]) -> Any:
        for shared, where, key in SHARED:
            if (shared, where) == (api, path):
                mine = [one for one in items if self._is_mine(one, key)]
                self.used["others"] += len(items) - len(mine)
                items = mine
        key = UNORDERED.get((api, path))
        if key is not None:
            self.used["order"] += len(items) > 1
        made = [self._value(api, path, name, one) for one in items]
        if key is not None:
            made.sort(key=lambda one: _text([one.get(key), one] if key else one))
        return made

    def _uuid(self, value: bytes) -> str:
        if len(set(value)) == 1:
            return value.hex()  # none, or one that the scenario made up
        known = {topic_id: name for name, topic_id in self.peer.ids.items()}
        if value in known:
            return str(self._use("uuid", f"<id of {known[value]}>"))
        return self._label("uuid", value)

    def _is_mine(self, item: dict[str, Any], key: str) -> bool:
        name = item[key]
        if item.get("error_code") or name is None:
            return True
        return bool(self.peer.token in name or not name)

    def _scalar(self, api: str, path: str, name: str, value: Any) -> Any:
        for rule in (_simple, _own, _metadata):
            made = rule(self.peer, api, path, name, value)
            if made is not None:
                return self._use(*made)
        if isinstance(value, bytes):
            if name == "records":
                return self._use("records", batches(value))
            if len(value) == 16 and name.endswith("_id"):
                return self._uuid(value)
            return value.hex()
        if name == "producer_id" and value >= 0 and api != "DescribeTransactions":
            return self._label("producer id", value)
        if name == "session_id" and value > 0:
            return self._label("session id", value)
        if isinstance(value, str):
            return _MEMBER.sub(lambda found: self._label("member id", found[0]), value)
        return value


Made = tuple[str, Any] | None


def _simple(peer: Peer, api: str, path: str, name: str, value: Any) -> Made:
    if name == "throttle_time_ms":
        return "throttle", "<throttle>"
    if name in _TIMES and isinstance(value, int) and abs(value - time.time() * 1000) < RUN_MS:
        return "time", "<now>"
    if name == "log_dir" or (name in ("total_bytes", "usable_bytes") and value > 0):
        return "directory", "<directory>"
    return None


def _own(peer: Peer, api: str, path: str, name: str, value: Any) -> Made:
    host, port = peer.advertised
    if name == "host" and value == host:
        return "address", "<host>"
    if name == "port" and value == port:
        return "address", "<port>"
    if name == "cluster_id" and value == peer.cluster_id:
        return "cluster id", "<cluster>"
    return None


def _metadata(peer: Peer, api: str, path: str, name: str, value: Any) -> Made:
    if name == "finalized_features_epoch" and value > 0:
        return "metadata", "<epoch>"
    if api == "DescribeQuorum" and name in _METADATA and value > 0:
        return "metadata", "<of the metadata>"
    return None


def batches(data: bytes) -> list[Any]:
    """The batches of a fetch; what is cut at its end is said to be."""
    found: list[Any] = []
    at = 0
    while len(data) - at >= 61:
        (
            base,
            length,
            _,
            magic,
            crc,
            attributes,
            last,
            first,
            newest,
            pid,
            epoch,
            sequence,
            count,
        ) = struct.unpack_from(">qiibIhiqqqhii", data, at)
        end = at + 12 + length
        if end > len(data):
            break
        near = abs(newest - time.time() * 1000) < RUN_MS
        found.append(
            {
                "base_offset": base,
                "length": length,
                "magic": magic,
                "crc": "<now>" if near else crc,
                "attributes": attributes,
                "last_offset_delta": last,
                "times": "<now>" if near else [first, newest],
                "producer": "<producer>" if pid >= 0 else [pid, epoch, sequence],
                "count": count,
                "records": data[at + 61 : end].hex(),
            }
        )
        at = end
    if at < len(data):
        found.append("a cut batch")
    return found


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=lambda data: data.hex())


Fault = tuple[str, Any, Any]


def differences(kafka: Any, mqlog: Any, path: str = "") -> list[Fault]:
    """Every field in which two answers differ: path, what Kafka says, what mqlog says."""
    if isinstance(kafka, dict) and isinstance(mqlog, dict):
        found: list[Fault] = []
        for key in [*kafka, *(key for key in mqlog if key not in kafka)]:
            where = f"{path}.{key}" if path else key
            found += differences(kafka.get(key, "-absent-"), mqlog.get(key, "-absent-"), where)
        return found
    if isinstance(kafka, list) and isinstance(mqlog, list):
        return _lists(kafka, mqlog, path)
    return [] if kafka == mqlog else [(path, kafka, mqlog)]


_IDENTITY = ("name", "api_key", "resource_name", "group_id")


def _lists(kafka: list[Any], mqlog: list[Any], path: str) -> list[Fault]:
    key = next(
        (k for k in _IDENTITY if all(isinstance(x, dict) and k in x for x in kafka + mqlog)), ""
    )
    if key and kafka + mqlog and len({x[key] for x in kafka}) == len(kafka):
        theirs, ours = ({f"[{x[key]}]": x for x in side} for side in (kafka, mqlog))
        if len(ours) == len(mqlog):
            found: list[Fault] = []
            for name in [*theirs, *(name for name in ours if name not in theirs)]:
                one, other = theirs.get(name, "-absent-"), ours.get(name, "-absent-")
                found += differences(one, other, path + name)
            return found
    if len(kafka) != len(mqlog):
        return [(path, kafka, mqlog)]
    pairs = enumerate(zip(kafka, mqlog, strict=True))
    return [fault for i, (one, other) in pairs for fault in differences(one, other, f"{path}[{i}]")]
