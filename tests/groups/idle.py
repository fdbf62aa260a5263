"""Members that own nothing but their own name: for groups of hundreds and thousands."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterable

import pytest

from mqlog.protocol.describe_groups import DescribeGroupsRequest, DescribeGroupsResponse
from mqlog.protocol.find_coordinator import FindCoordinatorRequest
from mqlog.protocol.heartbeat import HeartbeatRequest
from mqlog.protocol.join_group import JoinGroupRequest
from mqlog.protocol.leave_group import LeaveGroupRequest
from mqlog.protocol.sync_group import SyncGroupRequest

from .link import FIND, HEARTBEAT, JOIN, LEAVE, SYNC, Link
from .reader import NEEDS_ID, REBALANCING
from .styles import subscription

DESCRIBE = (15, 5)
OK, UNKNOWN_MEMBER, FULL = 0, 25, 81
_SAID = subscription("nothing", ())


class Idle:
    """A member; a generation's assignment of it is its id."""

    def __init__(
        self, link: Link, group: str, *, session_ms: int = 30_000, rebalance_ms: int = 60_000
    ) -> None:
        self.link, self.group = link, group
        self.id, self.generation, self.leads = "", -1, False
        self._times = session_ms, rebalance_ms
        self._members: list[str] = []

    async def join(self) -> int:
        """Come into the next generation; an error code."""
        protocol = JoinGroupRequest.JoinGroupRequestProtocol("idle", _SAID)
        while True:
            request = JoinGroupRequest(
                self.group, *self._times, self.id, None, "consumer", [protocol]
            )
            answer = await self.link.call(JOIN, request)
            if answer.error_code != NEEDS_ID:
                break
            self.id = answer.member_id
        if answer.error_code == OK:
            self.id, self.generation = answer.member_id, answer.generation_id
            self.leads = answer.leader == self.id
            self._members = [one.member_id for one in answer.members]
        return int(answer.error_code)

    async def sync(self) -> int:
        """Give or get the assignment; an error code."""
        Given = SyncGroupRequest.SyncGroupRequestAssignment  # noqa: N806 - a class
        given = [Given(who, who.encode()) for who in self._members] if self.leads else []
        request = SyncGroupRequest(
            self.group, self.generation, self.id, None, "consumer", "idle", given
        )
        answer = await self.link.call(SYNC, request)
        if answer.error_code == OK:
            assert answer.assignment == self.id.encode()
        return int(answer.error_code)

    async def beat(self) -> int:
        """The error code of a heartbeat."""
        request = HeartbeatRequest(self.group, self.generation, self.id)
        return int((await self.link.call(HEARTBEAT, request)).error_code)

    async def settle(self) -> None:
        """Join and sync until it has an assignment."""
        while True:
            assert await self.join() == OK
            code = await self.sync()
            if code == OK:
                return
            assert code == REBALANCING, code

    async def live(self, until: asyncio.Event) -> None:
        """Be a member that joins again whenever it is asked to."""
        while not until.is_set():
            await self.settle()
            while not until.is_set():
                code = await self.beat()
                if code == REBALANCING:
                    break
                assert code == OK, code
                await asyncio.sleep(0.2)


async def leave(link: Link, group: str, members: Iterable[str]) -> set[int]:
    """One LeaveGroup of many members; the error codes in the answer."""
    who = [LeaveGroupRequest.MemberIdentity(member) for member in members]
    answer = await link.call(LEAVE, LeaveGroupRequest(group, members=who))
    return {answer.error_code, *(one.error_code for one in answer.members)}


async def describe(link: Link, group: str) -> DescribeGroupsResponse.DescribedGroup:
    """DescribeGroups of one."""
    answer = await link.call(DESCRIBE, DescribeGroupsRequest([group]))
    found: DescribeGroupsResponse.DescribedGroup = answer.groups[0]
    return found


async def coordinated(link: Link, group: str) -> None:
    """Wait until the group's coordinator serves."""
    for _ in range(300):
        answer = await link.call(FIND, FindCoordinatorRequest(coordinator_keys=[group]))
        if answer.coordinators[0].error_code == OK:
            found = await describe(link, group)
            if found.error_code not in (14, 15, 16):
                return
        await asyncio.sleep(0.1)
    raise AssertionError(f"no coordinator for {group}")


def need_descriptors(count: int) -> None:
    """Let this process and what it starts have so many descriptors open, or skip."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        pytest.skip(f"needs {count} descriptors; the hard limit is {hard}")
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
