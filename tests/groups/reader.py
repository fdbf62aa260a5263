"""A member of a classic group that reads a topic and commits, until it leaves or dies."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from typing import Any

from wire import batches

from mqlog.protocol.fetch import FetchRequest
from mqlog.protocol.heartbeat import HeartbeatRequest
from mqlog.protocol.join_group import JoinGroupRequest
from mqlog.protocol.leave_group import LeaveGroupRequest
from mqlog.protocol.offset_commit import OffsetCommitRequest
from mqlog.protocol.offset_fetch import OffsetFetchRequest
from mqlog.protocol.sync_group import SyncGroupRequest

from . import styles
from .ledger import Ledger
from .link import COMMIT, FETCH, HEARTBEAT, JOIN, LEAVE, OFFSETS, SYNC, Link, Lost

LOADING, NOT_COORDINATOR = 14, 16
ILLEGAL_GENERATION, UNKNOWN_MEMBER, REBALANCING, NEEDS_ID = 22, 25, 27, 79
AGAIN_S, BEAT_S, WAIT_MS = 0.1, 0.5, 200


class Place:
    """Where members find their group, and how it works."""

    def __init__(
        self,
        address: tuple[str, int],
        topic: str,
        ledger: Ledger,
        style: styles.Style,
        *,
        session_ms: int,
    ) -> None:
        self.address, self.topic, self.ledger, self.style = address, topic, ledger, style
        self.session_ms = session_ms
        self.era = 0


class Reader:
    """One member, with a connection for its group and one for data."""

    def __init__(self, place: Place, rng: random.Random) -> None:
        self._place, self._rng, self._ledger = place, rng, place.ledger
        self.id, self.generation = "", -1
        self.owned: dict[int, int] = {}
        """The next offset of each partition that it owns."""
        self._saved: dict[int, int] = {}
        self._must_join = True
        self._beat = 0.0
        self.leaving = False
        self._group: Link | None = None
        self._data: Link | None = None

    async def live(self) -> None:
        """Be a member until `leaving` is set; cancelled, it dies where it stands."""
        while True:
            try:
                await self._connect()
                while not self.leaving:
                    await self._turn()
                await self._leave()
                self.close()
                return
            except Lost:
                self.close()
                await asyncio.sleep(AGAIN_S * self._rng.random() + 0.05)

    def close(self) -> None:
        """Close its sockets."""
        for link in (self._group, self._data):
            if link is not None:
                link.close()
        self._group = self._data = None

    async def come_back(self) -> None:
        """After a silence, commit as if nothing had happened; it never lives again."""
        self._ledger.counts["came back"] += 1
        self.close()
        try:
            self._group = await Link.open(self._place.address, self._place.era)
            self._saved = dict.fromkeys(self.owned, -1)
            await self._commit()
        except Lost:
            self._ledger.counts["came back to nobody"] += 1
        finally:
            self.close()

    async def _connect(self) -> None:
        place = self._place
        self._group = await Link.open(place.address, place.era)
        self._data = await Link.open(place.address, place.era)

    async def _call(self, api: tuple[int, int], message: object) -> Any:
        assert self._group is not None
        return await self._group.call(api, message)

    async def _turn(self) -> None:
        if self._must_join:
            await self._join()
            return
        await self._read()
        await self._commit()
        if not self._must_join and time.monotonic() >= self._beat:
            await self._heartbeat()

    # -- membership --------------------------------------------------------------------------------

    async def _join(self) -> None:
        place, style = self._place, self._place.style
        if not style.keeps:
            self._drop()
        said = styles.subscription(place.topic, self.owned)
        protocol = JoinGroupRequest.JoinGroupRequestProtocol(style.name, said)
        request = JoinGroupRequest(
            self._ledger.group,
            place.session_ms,
            place.session_ms,
            self.id,
            None,
            "consumer",
            [protocol],
        )
        link = self._group
        assert link is not None
        answer = await self._reading_on(link.call(JOIN, request))
        if answer.error_code == NEEDS_ID:
            self.id = answer.member_id
        elif answer.error_code:
            await self._refused(answer.error_code)
        else:
            self.id, self.generation = answer.member_id, answer.generation_id
            self._ledger.generation(self.generation, link.era)
            await self._sync(answer, link)

    async def _reading_on(self, joining: Any) -> Any:
        """Wait for the others; a cooperative member reads on meanwhile."""
        waiting = asyncio.ensure_future(joining)
        try:
            while self.owned and not waiting.done():
                await self._read()
            return await waiting
        finally:
            waiting.cancel()
            with suppress(asyncio.CancelledError, *Lost):
                await waiting

    async def _sync(self, joined: Any, link: Link) -> None:
        place, given = self._place, []
        if joined.leader == self.id:
            says = {one.member_id: styles.owned_in(one.metadata) for one in joined.members}
            plan = place.style.share(says, self._ledger.partitions)
            self._ledger.plan(self.generation, plan)
            given = [
                SyncGroupRequest.SyncGroupRequestAssignment(
                    who, styles.assignment(place.topic, parts)
                )
                for who, parts in plan.items()
            ]
        request = SyncGroupRequest(
            self._ledger.group,
            self.generation,
            self.id,
            None,
            "consumer",
            place.style.name,
            given,
        )
        answer = await link.call(SYNC, request)
        if answer.error_code:
            await self._refused(answer.error_code)
            return
        mine = styles.assigned_in(answer.assignment)
        self._ledger.assigned(self.generation, self.id, mine, link.era)
        await self._own(mine)

    async def _own(self, mine: frozenset[int]) -> None:
        lost, new = self.owned.keys() - mine, mine - self.owned.keys()
        if lost:
            await self._commit()  # what it has read of them
            if self.generation < 0:
                return
        for index in lost:
            del self.owned[index]
        found = await self._committed(new) if new else {}
        if found is None:  # the group is being loaded
            return
        for index in new:
            self.owned[index] = self._saved[index] = max(found.get(index, -1), 0)
        self._must_join = bool(lost) and self._place.style.keeps
        self._beat = time.monotonic() + BEAT_S

    async def _committed(self, parts: frozenset[int]) -> dict[int, int] | None:
        fence = self._ledger.fence(parts)
        found = await committed(self._group, self._ledger.group)
        if found is not None:
            self._ledger.fetched(found, fence)
        return found

    async def _heartbeat(self) -> None:
        self._beat = time.monotonic() + BEAT_S
        request = HeartbeatRequest(self._ledger.group, self.generation, self.id)
        answer = await self._call(HEARTBEAT, request)
        self._ledger.counts["heartbeats"] += 1
        if answer.error_code == REBALANCING:
            await self._commit()  # an eager member is about to let go
            self._must_join = True
        elif answer.error_code:
            await self._refused(answer.error_code)

    async def _leave(self) -> None:
        self._ledger.counts["left"] += 1
        if not self._must_join:
            await self._commit()
        if self.id:
            who = LeaveGroupRequest.MemberIdentity(self.id)
            await self._call(LEAVE, LeaveGroupRequest(self._ledger.group, members=[who]))

    async def _refused(self, code: int) -> None:
        """Do what Kafka's clients do when a group answers with this."""
        self._ledger.counts[f"refused {code}"] += 1
        if code in (LOADING, NOT_COORDINATOR):
            await asyncio.sleep(AGAIN_S)
            return
        assert code in (UNKNOWN_MEMBER, ILLEGAL_GENERATION, REBALANCING), code
        self._must_join = True
        if code != REBALANCING:
            self._drop()  # others may own them by now
            self.generation = -1
        if code == UNKNOWN_MEMBER:
            self.id = ""

    def _drop(self) -> None:
        self.owned.clear()
        self._saved.clear()

    # -- records -----------------------------------------------------------------------------------

    async def _read(self) -> None:
        if not self.owned:
            await asyncio.sleep(WAIT_MS / 1000)
            return
        wanted = [
            FetchRequest.FetchPartition(index, fetch_offset=at, partition_max_bytes=1 << 16)
            for index, at in self.owned.items()
        ]
        topic = FetchRequest.FetchTopic(self._place.topic, partitions=wanted)
        request = FetchRequest(max_wait_ms=WAIT_MS, min_bytes=1, max_bytes=1 << 20, topics=[topic])
        assert self._data is not None
        answer = await self._data.call(FETCH, request)
        for part in answer.responses[0].partitions if answer.responses else ():
            assert part.error_code == 0, part
            index = part.partition_index
            for offset, record in batches.records(batches.parse(part.records)):
                if offset >= self.owned[index]:
                    self._ledger.saw(index, offset, record.value)
                    self.owned[index] = offset + 1

    async def _commit(self) -> None:
        offsets = {at: end for at, end in self.owned.items() if end > self._saved[at]}
        if not offsets:
            return
        parts = [
            OffsetCommitRequest.OffsetCommitRequestPartition(index, end)
            for index, end in offsets.items()
        ]
        topic = OffsetCommitRequest.OffsetCommitRequestTopic(self._place.topic, partitions=parts)
        request = OffsetCommitRequest(self._ledger.group, self.generation, self.id, topics=[topic])
        fence = self._ledger.fence(offsets)
        answer = await self._call(COMMIT, request)
        codes = {part.error_code for part in answer.topics[0].partitions}
        assert len(codes) == 1, codes
        code = codes.pop()
        if code:
            await self._refused(code)
            return
        self._ledger.commit_answered(self.generation, offsets, fence)
        self._saved.update(offsets)


async def committed(link: Link | None, group: str) -> dict[int, int] | None:
    """All that a group has committed, by partition; None while it is being loaded."""
    assert link is not None
    asked = OffsetFetchRequest.OffsetFetchRequestGroup(group, topics=None)
    answer = (await link.call(OFFSETS, OffsetFetchRequest(groups=[asked]))).groups[0]
    if answer.error_code in (LOADING, NOT_COORDINATOR):
        return None
    assert answer.error_code == 0, answer
    return {
        part.partition_index: part.committed_offset
        for topic in answer.topics
        for part in topic.partitions
    }
