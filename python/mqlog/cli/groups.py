"""What `mqlog group` asks of a cluster: one function a question, rows or errors as the answer.

Works against any Kafka. A group's questions go to its coordinator, which is waited for while it
is being found or is reading its log.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from mqlog import _native
from mqlog.cli import admin
from mqlog.cli.output import Row
from mqlog.connection import Api, Cluster, Connection
from mqlog.errors import KafkaError, MqlogError
from mqlog.protocol.delete_groups import DeleteGroupsRequest, DeleteGroupsResponse
from mqlog.protocol.describe_groups import DescribeGroupsRequest, DescribeGroupsResponse
from mqlog.protocol.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from mqlog.protocol.list_groups import ListGroupsRequest, ListGroupsResponse
from mqlog.protocol.offset_commit import OffsetCommitRequest, OffsetCommitResponse
from mqlog.protocol.offset_delete import OffsetDeleteRequest, OffsetDeleteResponse
from mqlog.protocol.offset_fetch import OffsetFetchRequest, OffsetFetchResponse

T = TypeVar("T")
Place = tuple[str, int]
#: The coordinator is being found, or reads its log: ask again.
WAIT = frozenset({14, 15, 16})
NOT_FOUND, NON_EMPTY = 69, 68
PAUSE_S = 0.1
#: The newest version that speaks of topics by name, and of FindCoordinator for one key; the first
#: with several groups in one OffsetFetch.
_BY_NAME, _ONE_KEY, _GROUPS = 9, 3, 8
_CONSUMER = "consumer"
_NEWEST_ASSIGNMENT = 3
HINTS = {
    NOT_FOUND: "; `mqlog group list` shows those that exist",
    NON_EMPTY: "; stop its members first",
    86: "; its members read that topic: stop them first",
}


def check(code: int, message: str | None, subject: str) -> None:
    """Raise the error of `code` unless it is 0."""
    if code:
        error = KafkaError.of(code)
        text = f"{subject}: {message or error} ({error.name}){HINTS.get(code, '')}"
        raise KafkaError.of(code, text)


def patient(cluster: Cluster, ask: Callable[[], tuple[int, T]], subject: str) -> T:
    """Ask until the coordinator serves; `ask` returns an error code and an answer."""
    end = time.monotonic() + cluster.timeout_s
    while True:
        code, answer = ask()
        if code not in WAIT or time.monotonic() >= end:
            check(code if code in WAIT else 0, None, subject)
            return answer
        time.sleep(PAUSE_S)


def coordinator(cluster: Cluster, group: str) -> Connection:
    """The connection to the broker that keeps a group."""

    def ask() -> tuple[int, FindCoordinatorResponse]:
        request = FindCoordinatorRequest(key=group, key_type=0)
        found = cluster.any.call(
            Api.FIND_COORDINATOR, request, FindCoordinatorResponse, newest=_ONE_KEY
        )
        return found.error_code, found

    found = patient(cluster, ask, f"cannot find the coordinator of group {group!r}")
    check(found.error_code, found.error_message, f"no coordinator for group {group!r}")
    return cluster.node(found.node_id, cluster.metadata([]))


def list_groups(cluster: Cluster, states: Iterable[str]) -> list[Row]:
    """One row a group, by name, from every broker."""
    metadata = cluster.metadata([])
    rows: list[Row] = []
    for broker in metadata.brokers:
        connection = cluster.node(broker.node_id, metadata)

        def ask(connection: Connection = connection) -> tuple[int, ListGroupsResponse]:
            request = ListGroupsRequest(states_filter=list(states))
            answer = connection.call(Api.LIST_GROUPS, request, ListGroupsResponse)
            return answer.error_code, answer

        answer = patient(cluster, ask, f"{connection.address} cannot list its groups")
        check(answer.error_code, None, f"{connection.address} cannot list its groups")
        rows += [
            {
                "group": one.group_id,
                "state": one.group_state or None,
                "protocol_type": one.protocol_type or None,
                "type": one.group_type or None,
            }
            for one in answer.groups
        ]
    return sorted(rows, key=lambda row: str(row["group"]))


def describe(cluster: Cluster, group: str) -> DescribeGroupsResponse.DescribedGroup:
    """A group and its members; one that is not there is an error."""
    connection = coordinator(cluster, group)

    def ask() -> tuple[int, DescribeGroupsResponse.DescribedGroup]:
        request = DescribeGroupsRequest([group])
        answer = connection.call(Api.DESCRIBE_GROUPS, request, DescribeGroupsResponse)
        return answer.groups[0].error_code, answer.groups[0]

    found = patient(cluster, ask, f"cannot describe group {group!r}")
    # Before version 6 a group that is not there is a dead one.
    code = NOT_FOUND if found.group_state == "Dead" else found.error_code
    check(code, None, f"group {group!r}")
    return found


def committed(cluster: Cluster, group: str) -> dict[Place, tuple[int, str]]:
    """Every offset that a group has committed, with its metadata."""
    connection = coordinator(cluster, group)
    asked = OffsetFetchRequest.OffsetFetchRequestGroup(group, topics=None)

    def ask() -> tuple[int, Any]:
        version = connection.version(Api.OFFSET_FETCH, _BY_NAME)
        if version is not None and version >= _GROUPS:
            request = OffsetFetchRequest(groups=[asked])
        else:
            request = OffsetFetchRequest(group, None)
        answer = connection.call(Api.OFFSET_FETCH, request, OffsetFetchResponse, newest=_BY_NAME)
        found: Any = answer.groups[0] if answer.groups else answer
        return found.error_code, found

    found = patient(cluster, ask, f"cannot read the offsets of group {group!r}")
    check(found.error_code, None, f"offsets of group {group!r}")
    return {
        (topic.name, part.partition_index): (part.committed_offset, part.metadata or "")
        for topic in found.topics
        for part in topic.partitions
        if part.committed_offset >= 0
    }


def owners(described: DescribeGroupsResponse.DescribedGroup) -> dict[Place, Any]:
    """Which member has which partition, of a consumer group whose assignments can be read."""
    found: dict[Place, Any] = {}
    if described.protocol_type != _CONSUMER:
        return found
    for member in described.members:
        for topic, index in assignment(member.member_assignment):
            found[topic, index] = member
    return found


def assignment(data: bytes) -> list[Place]:
    """The partitions in a ConsumerProtocolAssignment; none if the bytes are none."""
    version = int.from_bytes(data[:2], "big", signed=True) if len(data) >= 2 else -1
    if version < 0:
        return []
    try:
        decoded = _native.decode_named(
            "ConsumerProtocolAssignment", min(version, _NEWEST_ASSIGNMENT), data[2:]
        )
    except ValueError:
        return []
    topics = decoded.assigned_partitions
    return [(topic.topic, index) for topic in topics for index in topic.partitions]


def offsets_at(cluster: Cluster, places: Iterable[Place], timestamp: int) -> dict[Place, int]:
    """The offset of a time, or the first or next one, of these partitions that exist."""
    wanted = set(places)
    found: dict[Place, int] = {}
    for name in sorted({topic for topic, _ in wanted}):
        try:
            metadata, topic = admin.find_topic(cluster, name)
        except KafkaError:
            continue  # it was deleted; what was committed for it may still be there
        at = admin.offsets(cluster, metadata, topic, timestamp)
        found |= {(name, index): offset for index, offset in at.items() if (name, index) in wanted}
    return found


def lag_rows(cluster: Cluster, group: str) -> tuple[Any, list[Row]]:
    """The group, and one row for each partition that it has committed or is assigned."""
    described = describe(cluster, group)
    positions, members = committed(cluster, group), owners(described)
    places = sorted({*positions, *members})
    ends = offsets_at(cluster, places, admin.LATEST)
    rows: list[Row] = []
    for place in places:
        offset, end = positions.get(place, (None, ""))[0], ends.get(place)
        member = members.get(place)
        rows.append(
            {
                "topic": place[0],
                "partition": place[1],
                "committed": offset,
                "end": end,
                "lag": None if offset is None or end is None else max(0, end - offset),
                "client": member.client_id if member else None,
                "host": member.client_host.removeprefix("/") if member else None,
                "member": member.member_id if member else None,
            }
        )
    return described, rows


def member_rows(described: DescribeGroupsResponse.DescribedGroup) -> list[Row]:
    """One row a member, with what it is assigned."""
    rows: list[Row] = []
    for member in sorted(described.members, key=lambda member: member.member_id):
        topics: dict[str, list[int]] = defaultdict(list)
        for topic, index in assignment(member.member_assignment):
            topics[topic].append(index)
        rows.append(
            {
                "member": member.member_id,
                "instance": member.group_instance_id,
                "client": member.client_id,
                "host": member.client_host.removeprefix("/"),
                "partitions": sum(map(len, topics.values())),
                "assigned": [f"{topic}:{','.join(map(str, i))}" for topic, i in topics.items()],
            }
        )
    return rows


def commit(cluster: Cluster, group: str, positions: Mapping[Place, int]) -> None:
    """Commit offsets for a group that has no members."""
    connection = coordinator(cluster, group)
    topics: dict[str, list[Any]] = defaultdict(list)
    for (topic, index), offset in sorted(positions.items()):
        part = OffsetCommitRequest.OffsetCommitRequestPartition(index, offset)
        topics[topic].append(part)
    asked = [
        OffsetCommitRequest.OffsetCommitRequestTopic(name, partitions=parts)
        for name, parts in topics.items()
    ]
    subject = f"cannot move group {group!r}"

    def ask() -> tuple[int, list[tuple[str, int, int]]]:
        answer = connection.call(
            Api.OFFSET_COMMIT,
            OffsetCommitRequest(group, topics=asked),
            OffsetCommitResponse,
            newest=_BY_NAME,
        )
        codes = [
            (topic.name, part.partition_index, part.error_code)
            for topic in answer.topics
            for part in topic.partitions
        ]
        return next((code for _, _, code in codes if code), 0), codes

    for topic, index, code in patient(cluster, ask, subject):
        check(code, None, f"{subject} in partition {index} of {topic!r}")


def delete(cluster: Cluster, groups: Iterable[str]) -> tuple[list[str], MqlogError | None]:
    """Delete groups; the names of those that are gone, and the first refusal."""
    deleted: list[str] = []
    refused: MqlogError | None = None
    for group in groups:
        connection = coordinator(cluster, group)

        def ask(connection: Connection = connection, group: str = group) -> tuple[int, int]:
            request = DeleteGroupsRequest([group])
            answer = connection.call(Api.DELETE_GROUPS, request, DeleteGroupsResponse)
            return answer.results[0].error_code, answer.results[0].error_code

        try:
            check(patient(cluster, ask, f"group {group!r}"), None, f"cannot delete group {group!r}")
            deleted.append(group)
        except MqlogError as error:
            refused = refused or error
    return deleted, refused


def delete_offsets(cluster: Cluster, group: str, places: Iterable[Place]) -> None:
    """Forget what a group has committed for these partitions."""
    connection = coordinator(cluster, group)
    topics: dict[str, list[Any]] = defaultdict(list)
    for topic, index in places:
        topics[topic].append(OffsetDeleteRequest.OffsetDeleteRequestPartition(index))
    asked = [
        OffsetDeleteRequest.OffsetDeleteRequestTopic(name, parts) for name, parts in topics.items()
    ]
    subject = f"cannot delete offsets of group {group!r}"

    def ask() -> tuple[int, OffsetDeleteResponse]:
        request = OffsetDeleteRequest(group, asked)
        answer = connection.call(Api.OFFSET_DELETE, request, OffsetDeleteResponse)
        return answer.error_code, answer

    answer = patient(cluster, ask, subject)
    check(answer.error_code, None, subject)
    for name, part in ((topic.name, part) for topic in answer.topics for part in topic.partitions):
        check(part.error_code, None, f"{subject} in partition {part.partition_index} of {name!r}")
