"""Answers of our coordinator in the form that the naive one gives them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .fake import Broker
from .naive_state import NOT_COORDINATOR

COMMIT, FETCH, JOIN, HEARTBEAT, LEAVE, SYNC = 8, 9, 11, 12, 13, 14
DESCRIBE, LIST, DELETE, OFFSET_DELETE = 15, 16, 42, 47


class Reader:
    """Knows the naive names of members: `symbols`."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.symbols: dict[str, str] = {"": ""}

    def read(self, api: int, version: int, answer: Any) -> Any:
        """An answer with symbols for ids."""
        return answer if answer == "close" else _READERS[api](self, version, answer)

    def symbol(self, real: str) -> str:
        return self.symbols.get(real, real)

    def _read_join(self, version: int, answer: Any) -> dict[str, Any]:
        if answer.error_code:
            assert (answer.generation_id, answer.leader, answer.members) == (-1, "", [])
            said = {"code": answer.error_code, "member": self.symbol(answer.member_id)}
            return shown(JOIN, version, said)
        members = {
            (self.symbol(one.member_id), one.group_instance_id, one.metadata)
            for one in answer.members
        }
        assert len(members) == len(answer.members)
        said = {
            "code": 0,
            "generation": answer.generation_id,
            "type": answer.protocol_type,
            "protocol": answer.protocol_name,
            "leader": self.symbol(answer.leader),
            "member": self.symbol(answer.member_id),
            "members": members,
            "skip": answer.skip_assignment,
        }
        return shown(JOIN, version, said)

    def _read_sync(self, version: int, answer: Any) -> dict[str, Any]:
        if answer.error_code:
            assert answer.assignment == b""
            return {"code": answer.error_code}
        said = {
            "code": 0,
            "type": answer.protocol_type,
            "protocol": answer.protocol_name,
            "assignment": answer.assignment,
        }
        return shown(SYNC, version, said)

    def _read_leave(self, _version: int, answer: Any) -> dict[str, Any]:
        members = [
            (self.symbol(one.member_id), one.group_instance_id, one.error_code)
            for one in answer.members
        ]
        return shown(LEAVE, 3, {"code": answer.error_code, "members": members})

    def _name(self, topic: Any, version: int) -> str:
        if version < 10:
            return str(topic.name)
        found = self.broker.world.held.topic_by_id(topic.topic_id)
        return found.name if found else "nowhere"

    def _read_commit(self, version: int, answer: Any) -> dict[str, Any]:
        return {
            "parts": [
                (self._name(topic, version), part.partition_index, part.error_code)
                for topic in answer.topics
                for part in topic.partitions
            ]
        }

    def _read_fetch(self, version: int, answer: Any) -> dict[str, Any]:
        groups = answer.groups if version >= 8 else [answer]
        said = {
            getattr(group, "group_id", ""): (
                group.error_code,
                sorted(
                    (
                        self._name(topic, version), part.partition_index, part.committed_offset,
                        part.committed_leader_epoch, part.metadata, part.error_code,
                    )
                    for topic in group.topics
                    for part in topic.partitions
                ),
            )
            for group in groups
        }  # fmt: skip
        return shown(FETCH, version, {"groups": said})

    def _read_delete_offsets(self, _version: int, answer: Any) -> dict[str, Any]:
        parts = [
            (topic.name, part.partition_index, part.error_code)
            for topic in answer.topics
            for part in topic.partitions
        ]
        return shown(OFFSET_DELETE, 0, {"code": answer.error_code, "parts": parts})

    def _read_describe(self, _version: int, answer: Any) -> dict[str, Any]:
        return {
            "groups": {
                group.group_id: (
                    group.error_code, group.group_state, group.protocol_type, group.protocol_data,
                    {
                        (
                            self.symbol(one.member_id), one.group_instance_id, one.client_id,
                            one.member_metadata, one.member_assignment,
                        )
                        for one in group.members
                    },
                )
                for group in answer.groups
            }
        }  # fmt: skip

    def _read_list(self, _version: int, answer: Any) -> dict[str, Any]:
        groups = {(one.group_id, one.protocol_type, one.group_state) for one in answer.groups}
        return {"code": answer.error_code, "groups": groups}

    def _read_delete(self, _version: int, answer: Any) -> dict[str, Any]:
        return {"codes": {one.group_id: one.error_code for one in answer.results}}


_READERS: dict[int, Callable[[Reader, int, Any], Any]] = {
    JOIN: Reader._read_join,
    SYNC: Reader._read_sync,
    HEARTBEAT: lambda _reader, _version, answer: {"code": answer.error_code},
    LEAVE: Reader._read_leave,
    COMMIT: Reader._read_commit,
    FETCH: Reader._read_fetch,
    OFFSET_DELETE: Reader._read_delete_offsets,
    DESCRIBE: Reader._read_describe,
    LIST: Reader._read_list,
    DELETE: Reader._read_delete,
}


def shown(api: int, version: int, answer: Any) -> Any:
    """What this version has room for; lists of answers without what no version tells."""
    if answer == "close":
        return answer
    said = dict(answer)
    if said.get("code") == NOT_COORDINATOR:
        return {"code": NOT_COORDINATOR}
    gone = {
        JOIN: [("type", 7), ("skip", 9)],
        SYNC: [("type", 5), ("protocol", 5)],
    }.get(api, [])  # fmt: skip
    for name, since in gone:
        if version < since:
            said.pop(name, None)
    if api == JOIN and version < 5 and "members" in said:
        said["members"] = {(who, None, data) for who, _, data in said["members"]}
    if api == DESCRIBE and version < 4:
        said["groups"] = {
            name: (*facts, {(who, None, *rest) for who, _, *rest in members})
            for name, (*facts, members) in said["groups"].items()
        }
    if api == FETCH and version < 8:
        [(code, parts)] = said["groups"].values()
        said["groups"] = {"": (code, parts)}
    if api == FETCH and version < 5:
        said["groups"] = {
            name: (
                code,
                [(topic, part, offset, -1, *rest) for topic, part, offset, _, *rest in parts],
            )
            for name, (code, parts) in said["groups"].items()
        }
    return said
