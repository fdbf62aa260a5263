"""Groups that commit all the time, and remember what was answered."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable

from mqlog.protocol.create_topics import CreateTopicsRequest
from mqlog.protocol.offset_commit import OffsetCommitRequest
from mqlog.protocol.offset_fetch import OffsetFetchRequest

from .idle import OK, Idle, coordinated
from .link import COMMIT, CREATE, OFFSETS, Link, Lost

TOPIC, PARTITIONS = "committed", 4
PAUSE_S = 0.02


async def make_topic(link: Link) -> None:
    """The topic that committers commit for."""
    topic = CreateTopicsRequest.CreatableTopic(TOPIC, PARTITIONS, 1)
    answer = await link.call(CREATE, CreateTopicsRequest([topic], 60_000))
    assert answer.topics[0].error_code == OK, answer


class Committer:
    """A member alone in its group. It commits ever higher offsets and says that it lives."""

    def __init__(self, address: tuple[str, int], group: str, *, session_ms: int) -> None:
        self._address, self._session_ms = address, session_ms
        self.ballast = 0
        """Bytes of metadata beside the offset's own digits."""
        self.group = group
        self.sent, self.answered = 0, 0
        self.codes: Counter[int] = Counter()
        """Error codes of commits."""
        self.beats: Counter[int] = Counter()
        """Error codes of heartbeats."""
        self.lost = 0
        """How often its connection was closed."""

    async def begin(self) -> None:
        """Become a member."""
        link = await Link.open(self._address)
        await coordinated(link, self.group)
        self._member = Idle(link, self.group, session_ms=self._session_ms)
        await self._member.settle()

    async def again(self) -> None:
        """Connect again, still the same member."""
        self.close()
        self._member.link = await Link.open(self._address)

    def close(self) -> None:
        """Close its connection."""
        self._member.link.close()

    async def commit(self) -> int:
        """Commit the next offset for all partitions; the error code."""
        self.sent += 1
        Part = OffsetCommitRequest.OffsetCommitRequestPartition  # noqa: N806 - a class
        text = f"{self.sent} " + "x" * self.ballast
        parts = [Part(index, self.sent, -1, text) for index in range(PARTITIONS)]
        topic = OffsetCommitRequest.OffsetCommitRequestTopic(TOPIC, partitions=parts)
        member, number = self._member, self.sent
        request = OffsetCommitRequest(self.group, member.generation, member.id, topics=[topic])
        answer = await member.link.call(COMMIT, request)
        (code,) = {part.error_code for part in answer.topics[0].partitions}
        self.codes[code] += 1
        if code == OK:
            self.answered = number
        return int(code)

    async def beat(self) -> int:
        """The error code of a heartbeat."""
        code = await self._member.beat()
        self.beats[code] += 1
        return code

    async def go_on(self, over: asyncio.Event) -> None:
        """Commit and heartbeat in turn until `over`; a closed connection is opened again."""
        while not over.is_set():
            try:
                await self.commit()
                await self.beat()
                await asyncio.sleep(PAUSE_S)
            except Lost:
                self.lost += 1
                await asyncio.sleep(PAUSE_S)
                if not over.is_set():
                    await self._reconnect()

    async def _reconnect(self) -> None:
        try:
            await self.again()
        except Lost:
            await asyncio.sleep(PAUSE_S)

    async def compare(self, link: Link) -> None:
        """What is committed is what was answered last, or was sent after it."""
        await coordinated(link, self.group)
        asked = OffsetFetchRequest.OffsetFetchRequestGroup(self.group, topics=None)
        (group,) = (await link.call(OFFSETS, OffsetFetchRequest(groups=[asked]))).groups
        assert group.error_code == OK, group
        found = {
            part.partition_index: (part.committed_offset, part.metadata)
            for topic in group.topics
            for part in topic.partitions
        }
        if not found:
            assert self.answered == 0, f"{self.group}: all of {self.answered} commits are gone"
            return
        assert found.keys() == set(range(PARTITIONS))
        (one,) = set(found.values())  # the partitions of one request are kept together
        offset, metadata = one
        assert self.answered <= offset <= self.sent, (
            f"{self.group}: {self.answered} was answered, {self.sent} sent, {offset} is there"
        )
        assert metadata.rstrip("x") == f"{offset} "


async def compare_all(address: tuple[str, int], committers: Iterable[Committer]) -> None:
    """Compare all; nobody has been dropped."""
    link = await Link.open(address)
    for one in committers:
        await one.compare(link)
    link.close()
