"""Topics: list, describe, create, delete."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from mqlog.client.admin.base import AdminBase, check, plain
from mqlog.client.admin.types import ConfigSourceType, ConfigType, NewTopic
from mqlog.client.flow import Flow
from mqlog.errors import KafkaError, KafkaTimeoutError
from mqlog.protocol.create_topics import CreateTopicsRequest, CreateTopicsResponse
from mqlog.protocol.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse
from mqlog.protocol.metadata import MetadataRequest, MetadataResponse

#: The first versions: of Metadata with topic ids, of CreateTopics with the broker's defaults,
#: of DeleteTopics with topic ids.
_BY_ID, _DEFAULTS, _DELETE_BY_ID = 12, 4, 6
PAUSE_S = 0.1


class TopicAdmin(AdminBase):
    """The administrator's methods about topics."""

    def list_topics(self) -> list[str]:
        """The names of all topics."""
        return [topic["name"] for topic in self.describe_topics()]

    def describe_topics(self, topics: Iterable[Any] | None = None) -> list[dict[str, Any]]:
        """Topics with their partitions: by name or `uuid.UUID`, or all.

        A topic that is not there has its `error_code`.
        """
        return self._run(self._metadata(topics), "describing topics")["topics"]  # type: ignore[no-any-return]

    def _metadata(self, topics: Iterable[Any] | None) -> Flow[dict[str, Any]]:
        wanted, oldest = None, 0
        if topics is not None:
            wanted = []
            for topic in topics:
                by_id = isinstance(topic, uuid.UUID)
                oldest = _BY_ID if by_id else oldest
                wanted.append(
                    MetadataRequest.MetadataRequestTopic(topic.bytes, None)
                    if by_id
                    else MetadataRequest.MetadataRequestTopic(name=topic)
                )

        def request(version: int) -> MetadataRequest:
            return MetadataRequest(
                wanted,
                allow_auto_topic_creation=version < 4,  # older ones cannot say no
                include_cluster_authorized_operations=8 <= version <= 10,
                include_topic_authorized_operations=version >= 8,
            )

        answer: MetadataResponse = yield from self._ask(
            request, kind=MetadataRequest, oldest=oldest
        )
        check(answer.error_code, about="describing topics")
        return plain(answer)

    def create_topics(
        self,
        new_topics: Any,
        timeout_ms: float | None = None,
        validate_only: bool = False,
        raise_errors: bool = True,
        wait_for_metadata: bool = False,
    ) -> dict[str, Any]:
        """Creates topics.

        `new_topics` is a list of names or NewTopics, or a dict of names to dicts with
        `num_partitions`, `replication_factor`, `assignments` and `configs`, each of them optional.
        With `raise_errors` the first topic that is refused raises; else `error_code` says so.
        `wait_for_metadata` waits until each partition has a leader.
        """
        if validate_only and wait_for_metadata:
            raise ValueError("validate_only makes no topics to wait for (wait_for_metadata)")
        topics = [_creatable(topic) for topic in _new_topics(new_topics)]
        if not topics:
            raise ValueError(f"new_topics={new_topics!r}: no topic to create")
        request = CreateTopicsRequest(topics, self._timeout(timeout_ms), validate_only)
        defaults = any(
            not topic.assignments and -1 in (topic.num_partitions, topic.replication_factor)
            for topic in topics
        )
        flow = self._ask_controller(
            request,
            lambda answer: [topic.error_code for topic in answer.topics],
            oldest=_DEFAULTS if defaults else 0,
        )
        answer: CreateTopicsResponse = self._run(flow, "creating topics", timeout_ms)
        if raise_errors:
            for told in answer.topics:
                check(told.error_code, told.error_message, told.name, topic=told.name)
        if wait_for_metadata:
            self.wait_for_topics([topic.name for topic in topics])
        result = plain(answer)
        for one in result["topics"]:
            configs = one.pop("configs")
            if configs:
                one["configs"] = {config.pop("name"): _config(config) for config in configs}
        return result

    def wait_for_topics(self, topic_names: Iterable[str], timeout_ms: float = 10_000) -> None:
        """Waits until each partition of these topics has a leader; KafkaTimeoutError if not."""
        names = list(topic_names)
        end = time.monotonic() + timeout_ms / 1000
        while True:
            described = {topic["name"]: topic for topic in self.describe_topics(names)}
            missing = {name: why for name in names if (why := _unready(described.get(name)))}
            if not missing:
                return
            if time.monotonic() >= end:
                text = ", ".join(f"{name}: {why}" for name, why in sorted(missing.items()))
                raise KafkaTimeoutError(f"topics not ready within {timeout_ms:g} ms: {text}")
            time.sleep(PAUSE_S)

    def delete_topics(
        self, topics: Iterable[Any], timeout_ms: float | None = None, raise_errors: bool = True
    ) -> dict[str, Any]:
        """Deletes topics, by name or `uuid.UUID`."""
        wanted = list(topics)
        by_id = any(isinstance(topic, uuid.UUID) for topic in wanted)
        states = [
            DeleteTopicsRequest.DeleteTopicState(None, topic.bytes)
            if isinstance(topic, uuid.UUID)
            else DeleteTopicsRequest.DeleteTopicState(topic)
            for topic in wanted
        ]
        limit = self._timeout(timeout_ms)

        def request(version: int) -> DeleteTopicsRequest:
            if version >= _DELETE_BY_ID:
                return DeleteTopicsRequest(topics=states, timeout_ms=limit)
            return DeleteTopicsRequest(topic_names=wanted, timeout_ms=limit)

        flow = self._ask_controller(
            request,
            lambda answer: [one.error_code for one in answer.responses],
            kind=DeleteTopicsRequest,
            oldest=_DELETE_BY_ID if by_id else 0,
        )
        answer: DeleteTopicsResponse = self._run(flow, "deleting topics", timeout_ms)
        if raise_errors:
            for told in answer.responses:
                check(told.error_code, told.error_message, told.name or "", topic=told.name)
        result = plain(answer)
        result["topics"] = result.pop("responses")
        return result


def _new_topics(given: Any) -> list[NewTopic]:
    if isinstance(given, str):
        raise TypeError(f"new_topics must be a list or a dict, not {given!r}")
    if isinstance(given, Mapping):
        for name, how in given.items():
            if not isinstance(how, Mapping):
                raise TypeError(
                    f"new_topics[{name!r}] must be a dict of what is special, not {how!r}"
                )
        return [
            NewTopic(
                name,
                how.get("num_partitions", -1),
                how.get("replication_factor", -1),
                how.get("assignments") or {},
                how.get("configs") or {},
            )
            for name, how in given.items()
        ]
    return [NewTopic(topic) if isinstance(topic, str) else topic for topic in given]


def _creatable(topic: NewTopic) -> CreateTopicsRequest.CreatableTopic:
    kind = CreateTopicsRequest
    assigned = topic.replica_assignments
    return kind.CreatableTopic(
        topic.name,
        -1 if assigned else topic.num_partitions,
        -1 if assigned else topic.replication_factor,
        [kind.CreatableReplicaAssignment(index, list(nodes)) for index, nodes in assigned.items()],
        [
            kind.CreatableTopicConfig(name, None if value is None else str(value))
            for name, value in topic.topic_configs.items()
        ],
    )


def _config(config: dict[str, Any]) -> dict[str, Any]:
    config["config_source"] = _name(ConfigSourceType, config["config_source"])
    if "config_type" in config:
        config["config_type"] = _name(ConfigType, config["config_type"])
    return config


def _name(kind: Any, value: int) -> str:
    try:
        name: str = kind(value).name
    except ValueError:
        return "UNKNOWN"
    return name


def _unready(topic: dict[str, Any] | None) -> str | None:
    """Why a topic cannot be used yet."""
    if topic is None:
        return "not known"
    if topic["error_code"]:
        return KafkaError.of(topic["error_code"]).name
    if not topic["partitions"]:
        return "no partitions"
    leaderless = [part["partition_index"] for part in topic["partitions"] if part["leader_id"] < 0]
    return f"no leader of {leaderless}" if leaderless else None
