"""Groups: list, describe, delete; their offsets and members."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mqlog import _native
from mqlog.client.admin.base import AdminBase, check, outcome, plain
from mqlog.client.admin.types import GroupState, GroupType, MemberToRemove, OffsetSpec, one_of
from mqlog.client.assignors import by_topic
from mqlog.client.flow import Call, Flow, gather
from mqlog.client.offsets import Identity, commit_codes, committed, list_offsets
from mqlog.client.structs import (
    GroupInformation,
    MemberInformation,
    OffsetAndMetadata,
    TopicPartition,
)
from mqlog.client.subscription import partition as as_partition
from mqlog.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    KafkaError,
    NotCoordinatorError,
    ProtocolError,
    UnsupportedVersionError,
)
from mqlog.protocol.delete_groups import DeleteGroupsRequest, DeleteGroupsResponse
from mqlog.protocol.describe_groups import DescribeGroupsRequest, DescribeGroupsResponse
from mqlog.protocol.leave_group import LeaveGroupRequest, LeaveGroupResponse
from mqlog.protocol.list_groups import ListGroupsRequest, ListGroupsResponse
from mqlog.protocol.offset_delete import OffsetDeleteRequest, OffsetDeleteResponse

Outcomes = dict[TopicPartition, type[KafkaError]]
#: The first versions: of ListGroups with states, with types; of LeaveGroup for several members.
_STATES, _TYPES, _MANY = 4, 5, 3
#: The last version of DescribeGroups that calls a group that is not there dead, not an error.
_DEAD = 5
_NEWEST = 3
#: The coordinator is being found, or reads its log.
_WAIT = frozenset(
    {
        CoordinatorLoadInProgressError.code,
        CoordinatorNotAvailableError.code,
        NotCoordinatorError.code,
    }
)


class GroupAdmin(AdminBase):
    """The administrator's methods about groups."""

    def list_groups(
        self,
        broker_ids: Iterable[int] | None = None,
        states_filter: Iterable[Any] | None = None,
        types_filter: Iterable[Any] | None = None,
    ) -> list[dict[str, Any]]:
        """Groups with `group_id`, `protocol_type`, `group_state` and `group_type`.

        From these brokers or all; only those of certain states (GroupState) or types (GroupType).
        """
        states = [one_of(GroupState, state).value for state in states_filter or []]
        kinds = [one_of(GroupType, kind).value for kind in types_filter or []]
        request = ListGroupsRequest(states, kinds)
        oldest = _TYPES if kinds else _STATES if states else 0
        nodes = None if broker_ids is None else list(broker_ids)

        def flow() -> Flow[list[ListGroupsResponse]]:
            asked = (yield from self._nodes()) if nodes is None else nodes
            return (yield from self._at_nodes(asked, request, oldest=oldest))

        found: list[dict[str, Any]] = []
        for answer in self._run(flow(), "listing groups"):
            check(answer.error_code, about="listing groups")
            found += [plain(group) for group in answer.groups]
        return found

    def describe_groups(
        self,
        group_ids: Iterable[str],
        group_coordinator_id: int | None = None,
        include_authorized_operations: bool = False,
    ) -> dict[str, dict[str, Any]]:
        """Groups with their members and what these read, by id; `error` is None or text."""
        answers = self._describe(group_ids, group_coordinator_id, include_authorized_operations)
        return {group: _described(told) for group, told in answers.items()}

    def _describe(
        self,
        group_ids: Iterable[str],
        coordinator: int | None,
        rights: bool,
        newest: int | None = None,
    ) -> dict[str, Any]:
        def ask(group: str) -> Flow[Any]:
            def attempt(node: int) -> Flow[Any]:
                def build(version: int) -> DescribeGroupsRequest:
                    return DescribeGroupsRequest(
                        [group], include_authorized_operations=rights and version >= 3
                    )

                answer: DescribeGroupsResponse = yield Call(
                    build, node, "admin", DescribeGroupsRequest, newest
                )
                told = answer.groups[0]
                if told.error_code in _WAIT:
                    check(told.error_code, about=f"describing group {group!r}")
                return told

            return self._at(group, coordinator, attempt)

        groups = _names(group_ids)
        answers = self._run(gather(ask(group) for group in groups), "describing groups")
        return dict(zip(groups, answers, strict=True))

    def _at(self, group: str, node: int | None, ask: Any) -> Flow[Any]:
        """At the coordinator, or at the node that the user says it is."""
        return self._at_coordinator(group, ask) if node is None else ask(node)

    def delete_groups(
        self, group_ids: Iterable[str], group_coordinator_id: int | None = None
    ) -> dict[str, str]:
        """Deletes groups without members; "OK" or the name of the error's class, by id."""
        codes = self._delete(group_ids, group_coordinator_id)
        return {group: outcome(code).__name__ if code else "OK" for group, code in codes.items()}

    def _delete(self, group_ids: Iterable[str], coordinator: int | None) -> dict[str, int]:
        def ask(group: str) -> Flow[int]:
            def attempt(node: int) -> Flow[int]:
                answer: DeleteGroupsResponse = yield Call(
                    DeleteGroupsRequest([group]), node, "admin"
                )
                code = answer.results[0].error_code
                if code in _WAIT:
                    check(code, about=f"deleting group {group!r}")
                return code

            return self._at(group, coordinator, attempt)

        groups = _names(group_ids)
        codes = self._run(gather(ask(group) for group in groups), "deleting groups")
        return dict(zip(groups, codes, strict=True))

    # -- the names and shapes of kafka-python 2 ----------------------------------------------------

    def list_consumer_groups(
        self, broker_ids: Iterable[int] | None = None
    ) -> list[tuple[str, str]]:
        """Groups with their protocol types; see `list_groups`."""
        found = self.list_groups(broker_ids)
        return [(group["group_id"], group["protocol_type"]) for group in found]

    def describe_consumer_groups(
        self,
        group_ids: Iterable[str],
        group_coordinator_id: int | None = None,
        include_authorized_operations: bool = False,
    ) -> list[GroupInformation]:
        """Groups with their members; the first that cannot be described raises.

        One that is not there is Dead. See `describe_groups`.
        """
        answers = self._describe(
            group_ids, group_coordinator_id, include_authorized_operations, _DEAD
        )
        for group, told in answers.items():
            check(told.error_code, about=f"group {group!r}")
        return [_information(told) for told in answers.values()]

    def delete_consumer_groups(
        self, group_ids: Iterable[str], group_coordinator_id: int | None = None
    ) -> list[tuple[str, type[KafkaError]]]:
        """Deletes groups without members; the error's class or NoError. See `delete_groups`."""
        codes = self._delete(group_ids, group_coordinator_id)
        return [(group, outcome(code)) for group, code in codes.items()]

    # -- offsets ---------------------------------------------------------------------------------

    def list_group_offsets(self, group_specs: Any) -> dict[str, dict[TopicPartition, Any]]:
        """What groups have committed, by group and partition, as OffsetAndMetadata.

        `group_specs` is a group, a list of groups, or a dict of groups to partitions (None: all).
        Partitions that were asked for and have no offset have the offset -1.
        """
        if isinstance(group_specs, str):
            group_specs = {group_specs: None}
        elif not isinstance(group_specs, Mapping):
            group_specs = dict.fromkeys(group_specs)
        if not group_specs:
            raise ValueError("group_specs names no group")
        wanted = {
            group: None if places is None else [as_partition(place) for place in places]
            for group, places in group_specs.items()
        }
        flow = gather(self._offsets(*item) for item in wanted.items())
        return dict(zip(wanted, self._run(flow, "listing group offsets"), strict=True))

    def _offsets(
        self, group: str, places: list[TopicPartition] | None, node: int | None = None
    ) -> Flow[dict[TopicPartition, OffsetAndMetadata]]:
        found = yield from self._at(
            group, node, lambda node: committed(node, group, places, purpose="admin")
        )
        missing = {place: OffsetAndMetadata(-1) for place in places or () if place not in found}
        return {**found, **missing}

    def list_consumer_group_offsets(
        self,
        group_id: str,
        group_coordinator_id: int | None = None,
        partitions: Iterable[Any] | None = None,
    ) -> dict[TopicPartition, Any]:
        """What one group has committed; see `list_group_offsets`."""
        places = None if partitions is None else [as_partition(one) for one in partitions]
        flow = self._offsets(group_id, places, group_coordinator_id)
        return self._run(flow, "listing group offsets")

    def alter_group_offsets(
        self,
        group_id: str,
        offsets: Mapping[Any, OffsetAndMetadata],
        group_coordinator_id: int | None = None,
    ) -> Outcomes:
        """Commits offsets for a group without members; the error's class or NoError for each."""
        wanted = {as_partition(place): at for place, at in offsets.items()}
        if not wanted:
            return {}
        flow = self._commit(group_id, wanted, group_coordinator_id)
        return self._run(flow, f"altering offsets of group {group_id!r}")

    def _commit(
        self, group: str, offsets: dict[TopicPartition, OffsetAndMetadata], node: int | None
    ) -> Flow[Outcomes]:
        def attempt(node: int) -> Flow[Outcomes]:
            codes = yield from commit_codes(node, Identity(group), offsets, purpose="admin")
            for code in codes.values():
                if code in _WAIT:
                    check(code, about=f"group {group!r}")
            return {place: outcome(code) for place, code in codes.items()}

        return self._at(group, node, attempt)

    def reset_group_offsets(
        self,
        group_id: str,
        offset_specs: Mapping[Any, Any],
        group_coordinator_id: int | None = None,
    ) -> dict[TopicPartition, dict[str, Any]]:
        """Moves a group without members: to an OffsetSpec, an OffsetTimestamp, or an offset.

        Offsets outside the partition become its first or next one. Returns `error` (a class, or
        NoError) and `offset` for each.
        """
        from mqlog.client.admin.types import OffsetTimestamp

        specs = {as_partition(place): spec for place, spec in offset_specs.items()}
        for place, spec in specs.items():
            if not isinstance(spec, int) or isinstance(spec, bool):
                raise TypeError(f"{place}: {spec!r} is no OffsetSpec, OffsetTimestamp or offset")
        moving = {
            place: int(spec)
            for place, spec in specs.items()
            if isinstance(spec, OffsetSpec | OffsetTimestamp)
        }

        def flow() -> Flow[dict[TopicPartition, dict[str, Any]]]:
            now = yield from self._offsets(group_id, list(specs), group_coordinator_id)
            starts = yield from list_offsets(
                dict.fromkeys(specs, OffsetSpec.EARLIEST), patient=False
            )
            ends = yield from list_offsets(dict.fromkeys(specs, OffsetSpec.LATEST), patient=False)
            found = yield from list_offsets(moving)
            target: dict[TopicPartition, OffsetAndMetadata] = {}
            for place, spec in specs.items():
                at = found.get(place)
                offset = (at.offset if at else -1) if place in moving else int(spec)
                first, end = starts[place], ends[place]
                low, high = first.offset if first else 0, end.offset if end else 0
                offset = high if offset < 0 else min(max(offset, low), high)
                target[place] = OffsetAndMetadata(offset, now[place].metadata, -1)
            codes = yield from self._commit(group_id, target, group_coordinator_id)
            return {
                place: {"error": error, "offset": target[place].offset}
                for place, error in codes.items()
            }

        return self._run(flow(), f"resetting offsets of group {group_id!r}") if specs else {}

    def delete_group_offsets(
        self, group_id: str, partitions: Iterable[Any], group_coordinator_id: int | None = None
    ) -> Outcomes:
        """Forgets what a group has committed; the error's class or NoError for each partition."""
        topics = by_topic(as_partition(place) for place in partitions)
        if not topics:
            return {}
        kind = OffsetDeleteRequest
        request = kind(
            group_id,
            [
                kind.OffsetDeleteRequestTopic(
                    topic, [kind.OffsetDeleteRequestPartition(index) for index in indexes]
                )
                for topic, indexes in topics.items()
            ],
        )

        def attempt(node: int) -> Flow[OffsetDeleteResponse]:
            answer: OffsetDeleteResponse = yield Call(request, node, "admin")
            check(answer.error_code, about=f"group {group_id!r}")
            return answer

        flow = self._at(group_id, group_coordinator_id, attempt)
        answer: OffsetDeleteResponse = self._run(flow, f"deleting offsets of group {group_id!r}")
        return {
            TopicPartition(topic.name, told.partition_index): outcome(told.error_code)
            for topic in answer.topics
            for told in topic.partitions
        }

    # -- members ---------------------------------------------------------------------------------

    def remove_group_members(
        self,
        group_id: str,
        members: Iterable[MemberToRemove],
        group_coordinator_id: int | None = None,
    ) -> dict[str, type[KafkaError]]:
        """Removes members; the error's class or NoError, by member id, or else by instance id."""
        gone = list(members)
        if not gone:
            return {}

        def attempt(node: int) -> Flow[dict[str, type[KafkaError]]]:
            try:
                answer: LeaveGroupResponse = yield Call(_leaving(group_id, gone), node, "admin",
                                                        oldest=_MANY)  # fmt: skip
            except UnsupportedVersionError:
                return (yield from _one_by_one(node, group_id, gone))
            check(answer.error_code, about=f"group {group_id!r}")
            return {
                (told.member_id or told.group_instance_id or ""): outcome(told.error_code)
                for told in answer.members
            }

        flow = self._at(group_id, group_coordinator_id, attempt)
        found: dict[str, type[KafkaError]] = self._run(
            flow, f"removing members of group {group_id!r}"
        )
        return found


def _names(group_ids: Iterable[str]) -> list[str]:
    """Groups that were named; a text is one of them, not its letters."""
    return [group_ids] if isinstance(group_ids, str) else list(group_ids)


def _leaving(group: str, members: list[MemberToRemove]) -> LeaveGroupRequest:
    kind = LeaveGroupRequest.MemberIdentity
    identities = [kind(one.member_id or "", one.group_instance_id, one.reason) for one in members]
    return LeaveGroupRequest(group, members=identities)


def _one_by_one(
    node: int, group: str, members: list[MemberToRemove]
) -> Flow[dict[str, type[KafkaError]]]:
    """Before Kafka 2.3 members leave one at a time, and there are no static ones."""
    found: dict[str, type[KafkaError]] = {}
    for one in members:
        if not one.member_id:
            raise UnsupportedVersionError("the broker removes members by member_id only")
        answer: LeaveGroupResponse = yield Call(
            LeaveGroupRequest(group, one.member_id), node, "admin", newest=_MANY - 1
        )
        found[one.member_id] = outcome(answer.error_code)
    return found


def _described(told: Any) -> dict[str, Any]:
    """A group, its members' words read where they are a consumer's."""
    found = plain(told)
    code, message = found.pop("error_code"), found.pop("error_message", None)
    found["error"] = str(KafkaError.of(code, message)) if code else None
    if told.protocol_type == "consumer":
        for member in found["members"]:
            for name, kind in (
                ("member_metadata", "ConsumerProtocolSubscription"),
                ("member_assignment", "ConsumerProtocolAssignment"),
            ):
                member[name] = _words(kind, member[name])
    return found


def _information(told: Any) -> GroupInformation:
    group = _described(told)
    members = [
        MemberInformation(*(member[name] for name in MemberInformation._fields))
        for member in group["members"]
    ]
    return GroupInformation(
        told.error_code,
        group["group_id"],
        group["group_state"],
        group["protocol_type"],
        group["protocol_data"],
        members,
        group["authorized_operations"],
    )


def _words(kind: str, data: bytes) -> Any:
    version = int.from_bytes(data[:2], "big", signed=True) if len(data) >= 2 else -1
    if version < 0:
        return data
    try:
        return _native.decode_named(kind, min(version, _NEWEST), data[2:])
    except ProtocolError:
        return data
