"""A member of a group, one request at a time."""

from __future__ import annotations

import itertools
import os
from typing import Any

from .client import Connection, Topic, eventually

OK = 0
COORDINATOR_LOADING, COORDINATOR_MISSING, NOT_COORDINATOR = 14, 15, 16
UNKNOWN_TOPIC, METADATA_TOO_LARGE = 3, 12
ILLEGAL_GENERATION, INCONSISTENT_PROTOCOL, INVALID_GROUP_ID, UNKNOWN_MEMBER = 22, 23, 24, 25
INVALID_SESSION, REBALANCING = 26, 27
NON_EMPTY, NOT_FOUND = 68, 69
NEEDS_ID, FENCED, SUBSCRIBED, UNKNOWN_TOPIC_ID = 79, 82, 86, 100

_names = itertools.count()


def new_group(conn: Connection) -> str:
    """A name that no group has had, once its coordinator serves."""
    name = f"group-{os.getpid()}-{next(_names)}"

    def ready() -> bool:
        found = conn.call("FindCoordinator", 3, key=name, key_type=0)
        return found.error_code == OK and fetch_all(conn, name).error_code == OK

    assert eventually(ready)
    return name


def fetch_all(conn: Connection, group: str) -> Any:
    """OffsetFetch of everything a group has committed."""
    asked = {"group_id": group, "member_id": None, "member_epoch": -1, "topics": None}
    return conn.call("OffsetFetch", 9, groups=[asked], require_stable=False).groups[0]


def offsets(conn: Connection, group: str) -> dict[tuple[str, int], tuple[int, int, str]]:
    """What a group has committed: offset, leader epoch, metadata."""
    answer = fetch_all(conn, group)
    assert answer.error_code == OK
    return {
        (topic.name, part.partition_index): (
            part.committed_offset,
            part.committed_leader_epoch,
            part.metadata,
        )
        for topic in answer.topics
        for part in topic.partitions
    }


def commit_body(topic: Topic, parts: dict[int, Any], **values: Any) -> dict[str, Any]:
    """An OffsetCommit of any version; `parts`: offset, or (offset, epoch, metadata)."""
    asked = []
    for index, what in parts.items():
        offset, epoch, metadata = what if isinstance(what, tuple) else (what, -1, "")
        asked.append(
            {
                "partition_index": index,
                "committed_offset": offset,
                "committed_leader_epoch": epoch,
                "committed_metadata": metadata,
            }
        )
    body = {"generation_id_or_member_epoch": -1, "member_id": "", "group_instance_id": None}
    topics = [{"name": topic.name, "topic_id": topic.id, "partitions": asked}]
    return body | {"retention_time_ms": -1, "topics": topics} | values


def codes(answer: Any, asked: Any) -> list[int]:
    """The error codes of an OffsetCommit of one topic, in the order of its partitions' names."""
    found = {part.partition_index: part.error_code for part in answer.topics[0].partitions}
    return [found[index] for index in asked]


def described(conn: Connection, group: str, version: int = 5) -> Any:
    """DescribeGroups of one group."""
    return conn.call(
        "DescribeGroups", version, groups=[group], include_authorized_operations=False
    ).groups[0]


class Member:
    """A member with a connection of its own; `version` is JoinGroup's."""

    def __init__(
        self,
        conn: Connection,
        group: str,
        *,
        version: int = 5,
        instance: str | None = None,
        protocols: tuple[tuple[str, bytes], ...] = (("range", b"r"),),
    ) -> None:
        self.conn, self.group, self.version = conn, group, version
        self.instance, self.protocols = instance, protocols
        self.id, self.generation = "", -1

    def join_body(self, **values: Any) -> dict[str, Any]:
        protocols = [{"name": name, "metadata": data} for name, data in self.protocols]
        return {
            "group_id": self.group,
            "session_timeout_ms": 30_000,
            "rebalance_timeout_ms": 20_000,
            "member_id": self.id,
            "group_instance_id": self.instance,
            "protocol_type": "consumer",
            "protocols": protocols,
            "reason": None,
        } | values

    def send_join(self, **values: Any) -> None:
        """Ask to join; where the group needs an id, get it first."""
        if not self.id and self.version >= 4 and self.instance is None:
            answer = self.conn.call("JoinGroup", self.version, **self.join_body(**values))
            assert answer.error_code == NEEDS_ID, answer
            self.id = answer.member_id
        self.conn.send("JoinGroup", self.version, **self.join_body(**values))

    def joined(self) -> Any:
        """The answer to `send_join`; it must be a success."""
        answer, _ = self.conn.receive("JoinGroup", self.version)
        assert answer.error_code == OK, answer
        self.id, self.generation = answer.member_id, answer.generation_id
        return answer

    def join(self, **values: Any) -> Any:
        """Join alone."""
        self.send_join(**values)
        return self.joined()

    def send_sync(self, parts: dict[str, bytes] | None = None, version: int = 3) -> None:
        """Ask for the assignment; a leader gives it."""
        given = [{"member_id": who, "assignment": what} for who, what in (parts or {}).items()]
        self.conn.send(
            "SyncGroup",
            version,
            group_id=self.group,
            generation_id=self.generation,
            member_id=self.id,
            group_instance_id=self.instance,
            protocol_type="consumer",
            protocol_name=self.protocols[0][0],
            assignments=given,
        )

    def synced(self, version: int = 3) -> Any:
        """The answer to `send_sync`."""
        return self.conn.receive("SyncGroup", version)[0]

    def sync(self, parts: dict[str, bytes] | None = None, version: int = 3) -> Any:
        """Both."""
        self.send_sync(parts, version)
        return self.synced(version)

    def heartbeat(self, version: int = 3, **values: Any) -> int:
        """The error code of a Heartbeat."""
        body = {
            "group_id": self.group,
            "generation_id": self.generation,
            "member_id": self.id,
            "group_instance_id": self.instance,
        }
        return int(self.conn.call("Heartbeat", version, **(body | values)).error_code)

    def leave(self) -> int:
        """The error code of its LeaveGroup."""
        who = {"member_id": self.id, "group_instance_id": self.instance, "reason": None}
        answer = self.conn.call("LeaveGroup", 3, group_id=self.group, members=[who])
        return int(answer.error_code or answer.members[0].error_code)

    def commit(self, topic: Topic, parts: dict[int, Any], version: int = 7, **values: Any) -> Any:
        """The error codes of an OffsetCommit."""
        mine = {
            "generation_id_or_member_epoch": self.generation,
            "member_id": self.id,
            "group_instance_id": self.instance,
        }
        body = commit_body(topic, parts, **(mine | values))
        return codes(self.conn.call("OffsetCommit", version, group_id=self.group, **body), parts)


def settle(*members: Member) -> None:
    """Have members join and share a new generation; the first to join leads."""
    for member in members:
        member.send_join()
    answers = [member.joined() for member in members]
    leader = next(m for m, a in zip(members, answers, strict=True) if a.leader == m.id)
    parts = {member.id: member.id.encode() for member in members}
    leader.send_sync(parts)
    for member in members:
        if member is not leader:
            member.send_sync()
    for member in members:
        assert member.synced().assignment == member.id.encode()
