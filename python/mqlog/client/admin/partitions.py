"""Partitions: more of them, their records, leaders, replicas and offsets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from mqlog.client.admin.base import GRACE_MS, check, outcome, plain
from mqlog.client.admin.topics import TopicAdmin
from mqlog.client.admin.types import ElectionType, IsolationLevel, NewPartitions, one_of
from mqlog.client.assignors import by_topic
from mqlog.client.flow import Call, Flow
from mqlog.client.offsets import at_leaders, list_offsets
from mqlog.client.structs import OffsetAndTimestamp, TopicPartition
from mqlog.client.subscription import partition as as_partition
from mqlog.errors import ElectionNotNeededError, KafkaError
from mqlog.protocol.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
)
from mqlog.protocol.create_partitions import CreatePartitionsRequest, CreatePartitionsResponse
from mqlog.protocol.delete_records import DeleteRecordsRequest, DeleteRecordsResponse
from mqlog.protocol.describe_topic_partitions import (
    DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse,
)
from mqlog.protocol.elect_leaders import ElectLeadersRequest, ElectLeadersResponse
from mqlog.protocol.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
)


class PartitionAdmin(TopicAdmin):
    """The administrator's methods about partitions."""

    def create_partitions(
        self,
        topic_partitions: Mapping[str, Any],
        timeout_ms: float | None = None,
        validate_only: bool = False,
        raise_errors: bool = True,
    ) -> CreatePartitionsResponse:
        """Gives topics more partitions.

        The dict maps each topic to the number it shall have, to a NewPartitions, or to a dict of
        `count` and `assignments`.
        """
        request = CreatePartitionsRequest(
            [_more(name, how) for name, how in topic_partitions.items()],
            self._timeout(timeout_ms),
            validate_only,
        )
        flow = self._ask_controller(
            request, lambda answer: [one.error_code for one in answer.results]
        )
        answer: CreatePartitionsResponse = self._run(flow, "creating partitions", timeout_ms)
        if raise_errors:
            for told in answer.results:
                check(told.error_code, told.error_message, told.name, topic=told.name)
        return answer

    def delete_records(
        self,
        records_to_delete: Mapping[Any, int],
        timeout_ms: float | None = None,
        partition_leader_id: int | None = None,
    ) -> dict[TopicPartition, dict[str, Any]]:
        """Deletes all records before these offsets (-1: all there are), by partition.

        Returns `low_watermark`, the first offset that is left, for each. `partition_leader_id`
        asks that node instead of the leaders.
        """
        wanted = {as_partition(place): offset for place, offset in records_to_delete.items()}
        limit = self._timeout(timeout_ms)

        def ask(node: int, parts: dict[TopicPartition, int]) -> Flow[dict[TopicPartition, Any]]:
            topics = [
                DeleteRecordsRequest.DeleteRecordsTopic(
                    topic,
                    [
                        DeleteRecordsRequest.DeleteRecordsPartition(
                            index, wanted[TopicPartition(topic, index)]
                        )
                        for index in indexes
                    ],
                )
                for topic, indexes in by_topic(parts).items()
            ]
            answer: DeleteRecordsResponse = yield Call(
                DeleteRecordsRequest(topics, limit), node, "admin", answer_ms=limit + GRACE_MS
            )
            return {
                TopicPartition(topic.name, told.partition_index): (
                    KafkaError.of(told.error_code, topic=topic.name, partition=told.partition_index)
                    if told.error_code
                    else plain(told)
                )
                for topic in answer.topics
                for told in topic.partitions
            }

        if partition_leader_id is None:
            flow = at_leaders(wanted, ask, patient=False)
        else:
            flow = _all_or_error(ask(partition_leader_id, dict.fromkeys(wanted, -1)))
        return self._run(flow, "deleting records", timeout_ms)

    def elect_leaders(
        self,
        election_type: Any,
        topic_partitions: Any = None,
        timeout_ms: float | None = None,
        raise_errors: bool = True,
    ) -> ElectLeadersResponse:
        """Has leaders elected: of a dict of topics to partitions, of a list of topics, or of all.

        That a partition has the wanted leader already is no error.
        """
        kind = one_of(ElectionType, election_type)
        places = self._topic_partitions(topic_partitions)

        def request(version: int) -> ElectLeadersRequest:
            topics = [ElectLeadersRequest.TopicPartitions(*item) for item in places.items()]
            return ElectLeadersRequest(int(kind), topics, self._timeout(timeout_ms))

        flow = self._ask_controller(
            request,
            lambda answer: [answer.error_code],
            kind=ElectLeadersRequest,
            oldest=1 if kind is ElectionType.UNCLEAN else 0,
        )
        answer: ElectLeadersResponse = self._run(flow, "electing leaders", timeout_ms)
        if raise_errors:
            check(answer.error_code, about="electing leaders")
            for topic in answer.replica_election_results:
                for told in topic.partition_result:
                    if told.error_code != ElectionNotNeededError.code:
                        where: dict[str, Any] = {"topic": topic.topic}
                        where["partition"] = told.partition_id
                        check(told.error_code, told.error_message, **where)
        return answer

    def _topic_partitions(self, given: Any) -> dict[str, list[int]]:
        if isinstance(given, Mapping):
            return {topic: list(indexes) for topic, indexes in given.items()}
        return {
            topic["name"]: [part["partition_index"] for part in topic["partitions"]]
            for topic in self.describe_topics(given)
        }

    def alter_partition_reassignments(
        self, reassignments: Mapping[Any, Iterable[int] | None], timeout_ms: float | None = None
    ) -> dict[TopicPartition, type[KafkaError] | None]:
        """Moves partitions to other replicas (node ids); None ends a move that is under way.

        Returns for each what was wrong, or None.
        """
        topics: dict[str, list[Any]] = defaultdict(list)
        for place, replicas in reassignments.items():
            nodes = None if replicas is None else list(replicas)
            if nodes is not None and (not nodes or not all(isinstance(n, int) for n in nodes)):
                raise ValueError(f"{place}: replicas must be node ids, or None to end a move")
            topics[place.topic].append(
                AlterPartitionReassignmentsRequest.ReassignablePartition(place.partition, nodes)
            )
        request = AlterPartitionReassignmentsRequest(
            self._timeout(timeout_ms),
            topics=[
                AlterPartitionReassignmentsRequest.ReassignableTopic(*item)
                for item in topics.items()
            ],
        )
        flow = self._ask_controller(request, lambda answer: [answer.error_code])
        answer: AlterPartitionReassignmentsResponse = self._run(
            flow, "reassigning partitions", timeout_ms
        )
        check(answer.error_code, answer.error_message, "reassigning partitions")
        return {
            TopicPartition(topic.name, told.partition_index): (
                outcome(told.error_code) if told.error_code else None
            )
            for topic in answer.responses
            for told in topic.partitions
        }

    def list_partition_reassignments(
        self, topic_partitions: Any = None, timeout_ms: float | None = None
    ) -> dict[TopicPartition, dict[str, list[int]]]:
        """Moves under way: of a dict of topics to partitions, of TopicPartitions, or of all."""
        kind = ListPartitionReassignmentsRequest.ListPartitionReassignmentsTopics
        topics = None
        if isinstance(topic_partitions, Mapping):
            topics = [kind(name, list(indexes)) for name, indexes in topic_partitions.items()]
        elif topic_partitions is not None:
            topics = [kind(*item) for item in by_topic(topic_partitions).items()]
        request = ListPartitionReassignmentsRequest(self._timeout(timeout_ms), topics)
        flow = self._ask_controller(request, lambda answer: [answer.error_code])
        answer: ListPartitionReassignmentsResponse = self._run(
            flow, "listing reassignments", timeout_ms
        )
        check(answer.error_code, answer.error_message, "listing reassignments")
        return {
            TopicPartition(topic.name, told.partition_index): {
                "replicas": told.replicas,
                "adding_replicas": told.adding_replicas,
                "removing_replicas": told.removing_replicas,
            }
            for topic in answer.topics
            for told in topic.partitions
        }

    def describe_topic_partitions(
        self,
        topics: Iterable[str],
        response_partition_limit: int = 2000,
        cursor: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Topics page by page, with eligible leader replicas: `topics` and `next_cursor`."""
        kind = DescribeTopicPartitionsRequest
        place = None
        if cursor is not None:
            place = kind.Cursor(cursor["topic_name"], cursor["partition_index"])
        request = kind(
            [kind.TopicRequest(name) for name in topics], response_partition_limit, place
        )
        answer: DescribeTopicPartitionsResponse = self._run(
            self._ask(request), "describing partitions"
        )
        return plain(answer)

    def list_partition_offsets(
        self,
        topic_partition_specs: Mapping[Any, int],
        isolation_level: Any = IsolationLevel.READ_UNCOMMITTED,
        timeout_ms: float | None = None,
    ) -> dict[TopicPartition, OffsetAndTimestamp]:
        """The offset of a place (OffsetSpec) or time (milliseconds) in each partition.

        Where no record is that young the offset is -1.
        """
        specs = {as_partition(place): int(spec) for place, spec in topic_partition_specs.items()}
        level = one_of(IsolationLevel, isolation_level)
        committed_only = level is IsolationLevel.READ_COMMITTED
        flow = list_offsets(specs, committed_only=committed_only, patient=False)
        found = self._run(flow, "listing offsets", timeout_ms)
        return {place: at or OffsetAndTimestamp(-1, -1) for place, at in found.items()}


def _more(name: str, how: Any) -> CreatePartitionsRequest.CreatePartitionsTopic:
    assignments: Any = None
    if isinstance(how, Mapping):
        count, assignments = how["count"], how.get("assignments")
    elif isinstance(how, NewPartitions):
        count, assignments = how.total_count, how.new_assignments
    else:
        count = how
    kind = CreatePartitionsRequest.CreatePartitionsAssignment
    placed = None if assignments is None else [kind(list(nodes)) for nodes in assignments]
    return CreatePartitionsRequest.CreatePartitionsTopic(name, count, placed)


def _all_or_error(flow: Flow[dict[TopicPartition, Any]]) -> Flow[dict[TopicPartition, Any]]:
    found = yield from flow
    for told in found.values():
        if isinstance(told, KafkaError):
            raise told
    return found
