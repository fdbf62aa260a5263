"""Membership in a classic group: joining, sharing partitions out, leaving. Flows.

    unjoined --JoinGroup, SyncGroup--> stable --rebalance, subscription, partitions--> joining again

An eager member gives all its partitions back before it joins; a cooperative one keeps them, and
gives back after the leader's word what went to others, which needs a second rebalance. Heartbeats
are the native client's (`Heart`); what they find out is read by `check`, which never waits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from mqlog.client import assignors
from mqlog.client.assignors import Assignor
from mqlog.client.flow import Backoff, Call, Flow, Refresh, Tell
from mqlog.client.heart import Heart
from mqlog.client.metadata import Snapshot, counts
from mqlog.client.offsets import Coordinators, Identity
from mqlog.client.structs import ConsumerGroupMetadata, MemberState, TopicPartition
from mqlog.client.subscription import Subscription
from mqlog.errors import (
    CommitFailedError,
    FencedInstanceIdError,
    IllegalGenerationError,
    InconsistentGroupProtocolError,
    InvalidSessionTimeoutError,
    KafkaError,
    KafkaProtocolError,
    MaxPollIntervalExceededError,
    MemberIdRequiredError,
    ProtocolError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)

# Messages are imported where they are made: their classes take a while, and most are never needed.
if TYPE_CHECKING:
    from mqlog.protocol.join_group import JoinGroupResponse
    from mqlog.protocol.leave_group import LeaveGroupRequest, LeaveGroupResponse
    from mqlog.protocol.sync_group import SyncGroupResponse

log = logging.getLogger("mqlog.client")

PROTOCOL_TYPE = "consumer"
NO_GENERATION = -1
#: How much longer than others may take to join the answer to a JoinGroup is waited for.
JOIN_GRACE_MS = 5_000
_MANY_LEAVE = 3


class Reader(Protocol):
    """What a group needs of the consumer that reads."""

    def owned(self) -> set[TopicPartition]:
        """What it reads."""

    def add(self, places: Iterable[TopicPartition]) -> None:
        """Read these as well."""

    def remove(self, places: Iterable[TopicPartition]) -> None:
        """No longer read these."""

    def commit_for_others(self) -> Flow[None]:
        """Commit where it is, if that is automatic, before others get the partitions."""

    def watch(self, topics: frozenset[str]) -> Snapshot:
        """Keep the metadata of these topics fresh; what is known now."""


class Group:
    """One consumer's membership."""

    def __init__(
        self,
        config: Mapping[str, Any],
        subscription: Subscription,
        coordinators: Coordinators,
        reader: Reader,
        heart: Heart,
    ) -> None:
        self._config = config
        self._group: str = config["group_id"]
        self._instance: str | None = config["group_instance_id"]
        self._subscription = subscription
        self._coordinators = coordinators
        self._reader = reader
        self._heart = heart
        self._assignors: list[Assignor] = config["partition_assignment_strategy"]
        #: Only if every assignor can: the group may choose any of them.
        self.cooperative = all(one.cooperative for one in self._assignors)
        self._member = ""
        self._generation = NO_GENERATION
        self._why: str | None = "it is new"
        self._joining = False
        self._lost = False
        self._exceeded = False
        #: What ended the membership for good.
        self._over: KafkaError | None = None
        #: What it was given, in which generation: sticky assignors tell the leader.
        self._last: tuple[frozenset[TopicPartition], int] = frozenset(), NO_GENERATION
        #: As the leader: the topics of all, and how many partitions were shared out.
        self._shared: tuple[frozenset[str], dict[str, int]] | None = None
        self._revision = -1

    # -- what the consumer asks ------------------------------------------------------------------

    def identity(self) -> Identity:
        """Who commits. CommitFailedError if it is no member, though it should be one."""
        if not self._subscription.by_group:
            return Identity(self._group, instance=self._instance)
        if not self._joining:
            self._check_heart()  # it may have left since the last poll
        if self._generation != NO_GENERATION:
            return Identity(self._group, self._generation, self._member, self._instance)
        if self._exceeded:
            raise MaxPollIntervalExceededError(f"the offsets were not committed: {self._late()}")
        raise CommitFailedError(
            f"the offsets were not committed: the consumer is no member of group "
            f"{self._group!r} now; poll() joins it"
        )

    def metadata(self) -> ConsumerGroupMetadata:
        """The membership as the user sees it."""
        if self._joining:
            state = MemberState.REBALANCING
        elif self._generation == NO_GENERATION:
            state = MemberState.UNJOINED
        else:
            state = MemberState.STABLE
        return ConsumerGroupMetadata(
            self._group, self._generation, self._member, self._instance, state
        )

    def rejoin(self, why: str) -> None:
        """Join again with the next poll."""
        self._why = self._why or why

    def needs_join(self) -> bool:
        """Whether `join` is to be run. Looks at the heartbeats and the metadata; never waits.

        Raises what ends the membership for good.
        """
        if self._joining:
            return False
        if self._over is not None:
            raise self._over
        self._check_heart()
        self._check_partitions()
        return self._why is not None

    def refused(self, who: Identity, error: KafkaError) -> KafkaError:
        """A commit failed: joins again if the group does not know this generation any more.

        Returns what to raise: if the member is of a newer generation by now, only this commit came
        too late.
        """
        if not self._subscription.by_group:
            return error
        if isinstance(error, FencedInstanceIdError):
            return self._fenced()
        if not isinstance(error, CommitFailedError):
            return error
        forget = isinstance(error.__cause__, UnknownMemberIdError)
        if who.generation == self._generation:
            self._leave_behind(forget_member=forget)
        elif self.cooperative and not forget:
            return KafkaError.of(
                RebalanceInProgressError.code,
                f"group {self._group!r} rebalanced meanwhile; call poll() and commit again",
                hint="call poll() and commit again",
            )
        return error

    def _check_heart(self) -> None:
        word = self._heart.word()
        if word is None or word.generation != self._generation:
            return
        if word.state == "rebalance":
            self.rejoin("the group rebalances")
        elif word.state == "late":
            log.error("%s", self._late())
            self._exceeded = True
            self._leave_behind(forget_member=True)
        elif word.state == "lost":
            self._lost_by(word.code)

    def _lost_by(self, code: int) -> None:
        if code == FencedInstanceIdError.code:
            raise self._fenced()
        if code not in (UnknownMemberIdError.code, IllegalGenerationError.code):
            self._heart.stop()
            self._leave_behind(forget_member=False)
            raise KafkaError.of(code, f"group {self._group!r}: {KafkaError.of(code)}")
        log.warning("group %s went on without this member: %s", self._group, KafkaError.of(code))
        self._leave_behind(forget_member=code == UnknownMemberIdError.code)

    def _leave_behind(self, *, forget_member: bool) -> None:
        """The generation is over, and others may have the partitions already."""
        self._generation = NO_GENERATION
        if forget_member:
            self._member = ""
        self._lost = True
        self.rejoin("it lost its place")

    def _check_partitions(self) -> None:
        """The leader shares out again when topics or their partitions come or go."""
        if self._shared is None:
            return
        topics, shared = self._shared
        snapshot = self._reader.watch(topics)
        if snapshot.revision != self._revision:
            self._revision = snapshot.revision
            if counts(snapshot, topics) != shared:
                self.rejoin("topics or their partitions changed")

    def _late(self) -> str:
        limit = self._config["max_poll_interval_ms"]
        return (
            f"poll() was not called for max_poll_interval_ms={limit:g}, so the consumer left group "
            f"{self._group!r} and others got its partitions; raise it, or lower "
            f"max_poll_records={self._config['max_poll_records']}"
        )

    def _fenced(self) -> FencedInstanceIdError:
        self._over = FencedInstanceIdError(
            f"another consumer with group_instance_id={self._instance!r} has joined group "
            f"{self._group!r}; give each its own",
            hint="give each consumer its own group_instance_id",
        )
        self._heart.stop()
        self._generation = NO_GENERATION
        self._lost = True
        return self._over

    # -- joining ---------------------------------------------------------------------------------

    def join(self) -> Flow[None]:
        """Becomes a member of the next generation. Runs across polls; ends stable or raises."""
        log.info("joining group %s, because %s", self._group, self._why)
        self._joining = True
        failed: list[KafkaError] = []
        try:
            yield from self._prepare(failed)
            told = yield from self._attempts(failed)
            yield from self._complete(told, failed)
        except BaseException:
            self.rejoin("joining failed")
            raise
        finally:
            self._joining = False
        if failed:
            raise failed[0]

    def _prepare(self, failed: list[KafkaError]) -> Flow[None]:
        """Gives back what others may get."""
        owned = self._reader.owned()
        if self._lost:
            yield from self._lose(failed)
            return
        yield from self._reader.commit_for_others()
        if self.cooperative:
            gone = {place for place in owned if place.topic not in self._subscription.topics}
            if gone:
                yield from self._tell("on_partitions_revoked", gone, failed)
        else:
            gone = owned
            yield from self._tell("on_partitions_revoked", gone, failed)
        self._reader.remove(gone)

    def _lose(self, failed: list[KafkaError]) -> Flow[None]:
        """What it had is not its own any more."""
        self._lost = False
        self._last = frozenset(), NO_GENERATION
        owned = self._reader.owned()
        self._reader.remove(owned)
        if owned:
            yield from self._tell("on_partitions_lost", owned, failed)

    def _tell(
        self, method: str, places: set[TopicPartition], failed: list[KafkaError]
    ) -> Flow[None]:
        """Calls the listener; what it raises is kept."""
        listener = self._subscription.listener
        if listener is None:
            return
        function: Callable[..., Any] | None = getattr(listener, method, None)
        if function is None:  # a listener of before partitions could be lost
            function = listener.on_partitions_revoked
        call = function
        try:
            yield Tell(lambda: call(places))
        except Exception as error:  # noqa: BLE001 - told once the rebalance is finished
            problem = KafkaError(f"{type(listener).__name__}.{method} raised {error!r}")
            problem.__cause__ = error
            failed.append(problem)

    def _attempts(self, failed: list[KafkaError]) -> Flow[bytes]:
        """Joins until it is in; what the leader decided for this member."""
        number = 0
        while True:
            number += 1
            try:
                told: bytes = yield from self._coordinators.calling(self._group, self._attempt)
            except MemberIdRequiredError:
                continue  # with the id that was given
            except RebalanceInProgressError as error:
                yield Backoff(number, error)
            except (UnknownMemberIdError, IllegalGenerationError) as error:
                self._leave_behind(forget_member=isinstance(error, UnknownMemberIdError))
                yield from self._lose(failed)
                yield Backoff(number, error)
            else:
                return told

    def _attempt(self, node: int) -> Flow[bytes]:
        """JoinGroup and SyncGroup, once."""
        from mqlog.protocol.sync_group import SyncGroupRequest

        joined = yield from self._join_group(node)
        self._heart.start(
            Identity(self._group, joined.generation_id, joined.member_id, self._instance), node
        )
        self._generation, self._member = joined.generation_id, joined.member_id
        self._exceeded = False
        shared: dict[str, bytes] = {}
        self._shared = None
        if joined.leader == joined.member_id:
            shared = yield from self._share(joined)
        request = SyncGroupRequest(
            self._group,
            self._generation,
            self._member,
            self._instance,
            PROTOCOL_TYPE,
            joined.protocol_name,
            [SyncGroupRequest.SyncGroupRequestAssignment(*item) for item in shared.items()],
        )
        answer_ms = self._config["max_poll_interval_ms"] + JOIN_GRACE_MS
        answer: SyncGroupResponse = yield Call(request, node, "join", answer_ms=answer_ms)
        if answer.error_code:
            raise self._refused(answer.error_code)
        return answer.assignment

    def _join_group(self, node: int) -> Flow[JoinGroupResponse]:
        from mqlog.protocol.join_group import JoinGroupRequest

        self._why = None  # what has changed up to now goes into this request
        owned = self._reader.owned()
        places, generation = self._last
        protocols = [
            JoinGroupRequest.JoinGroupRequestProtocol(
                one.name,
                assignors.subscription(one, self._subscription.topics, owned, places, generation),
            )
            for one in self._assignors
        ]
        rebalance_ms = self._config["max_poll_interval_ms"]
        request = JoinGroupRequest(
            self._group,
            int(self._config["session_timeout_ms"]),
            int(rebalance_ms),
            self._member,
            self._instance,
            PROTOCOL_TYPE,
            protocols,
        )
        self._heart.stop()
        answer: JoinGroupResponse = yield Call(
            request, node, "join", answer_ms=rebalance_ms + JOIN_GRACE_MS
        )
        if answer.error_code:
            if answer.error_code == MemberIdRequiredError.code:
                self._member = answer.member_id
            raise self._refused(answer.error_code)
        if answer.protocol_type not in (None, PROTOCOL_TYPE):
            raise InconsistentGroupProtocolError(
                f"group {self._group!r} is of type {answer.protocol_type!r}, not of consumers"
            )
        return answer

    def _refused(self, code: int) -> KafkaError:
        """The error of a code, with what may be done about it."""
        names = ", ".join(one.name for one in self._assignors)
        session = self._config["session_timeout_ms"]
        hints = {
            InconsistentGroupProtocolError.code: (
                f"partition_assignment_strategy={names} has nothing in common with its members"
            ),
            InvalidSessionTimeoutError.code: f"session_timeout_ms={session:g} is not allowed",
        }
        if code == FencedInstanceIdError.code:
            return self._fenced()
        known = KafkaError.of(code)
        hint = hints.get(code)
        text = f"group {self._group!r}: {known}"
        return KafkaError.of(code, f"{text} {hint}" if hint else text)

    def _assignor(self, name: str | None) -> Assignor:
        for one in self._assignors:
            if one.name == name:
                return one
        raise KafkaProtocolError(f"group {self._group!r} chose the assignor {name!r}, not offered")

    def _share(self, joined: JoinGroupResponse) -> Flow[dict[str, bytes]]:
        """As the leader: what each member is told."""
        assignor = self._assignor(joined.protocol_name)
        try:
            members = [
                assignors.read_member(assignor, one.member_id, one.group_instance_id, one.metadata)
                for one in joined.members
            ]
        except ProtocolError as error:
            raise KafkaProtocolError(f"group {self._group!r}, a member's words: {error}") from None
        topics = frozenset(topic for member in members for topic in member.topics)
        if joined.skip_assignment:  # it leads again what it shared out before
            snapshot = self._reader.watch(topics)
            self._revision, self._shared = snapshot.revision, (topics, counts(snapshot, topics))
            return {}
        snapshot = yield Refresh(sorted(topics))
        self._reader.watch(topics)
        known = counts(snapshot, topics)
        self._revision, self._shared = snapshot.revision, (topics, known)
        plan = assignor.assign(known, members)
        return {member: assignors.assignment(places) for member, places in plan.items()}

    def _complete(self, told: bytes, failed: list[KafkaError]) -> Flow[None]:
        """Takes what was assigned, and gives back what went to others."""
        try:
            assigned = set(assignors.read_assignment(told))
        except ProtocolError as error:
            raise KafkaProtocolError(f"group {self._group!r}, the leader's: {error}") from None
        wanted = self._subscription.topics
        if any(place.topic not in wanted for place in assigned):
            self.rejoin("the subscription changed meanwhile")
            assigned = {place for place in assigned if place.topic in wanted}
        owned = self._reader.owned()
        revoked, added = owned - assigned, assigned - owned
        if revoked:
            yield from self._reader.commit_for_others()
            yield from self._tell("on_partitions_revoked", revoked, failed)
            self._reader.remove(revoked)
            self.rejoin("what it gave back is to be shared out")
        self._last = frozenset(assigned), self._generation
        self._reader.add(added)
        log.info("group %s, generation %d: has %s", self._group, self._generation, sorted(assigned))
        if added or not self.cooperative:
            yield from self._tell("on_partitions_assigned", added, failed)

    # -- leaving ---------------------------------------------------------------------------------

    def leave(self, reason: str) -> Flow[None]:
        """Gives everything back, and tells the coordinator, unless the member is static."""
        failed: list[KafkaError] = []
        owned = self._reader.owned()
        if self._lost or self._generation == NO_GENERATION:
            yield from self._lose(failed)
        else:
            yield from self._tell("on_partitions_revoked", owned, failed)
            self._reader.remove(owned)
        yield from self.part(reason)
        if failed:
            raise failed[0]

    def part(self, reason: str) -> Flow[None]:
        """Tells the coordinator, unless the member is static, and no listener."""
        self._heart.stop()
        member, self._member, self._generation = self._member, "", NO_GENERATION
        self._shared, self._why = None, "it left"
        if member and self._instance is None:
            yield from self._coordinators.calling(
                self._group, lambda node: _leave(node, self._group, member, reason)
            )


def _leave(node: int, group: str, member: str, reason: str) -> Flow[None]:
    from mqlog.protocol.leave_group import LeaveGroupRequest

    def request(version: int) -> LeaveGroupRequest:
        if version < _MANY_LEAVE:
            return LeaveGroupRequest(group, member)
        return LeaveGroupRequest(
            group, members=[LeaveGroupRequest.MemberIdentity(member, reason=reason)]
        )

    answer: LeaveGroupResponse = yield Call(request, node, "group", LeaveGroupRequest)
    told = [answer.error_code, *(one.error_code for one in answer.members)]
    code = next((code for code in told if code), 0)
    if code and code != UnknownMemberIdError.code:  # then it is gone already
        raise KafkaError.of(code, f"leaving group {group!r}: {KafkaError.of(code)}")
