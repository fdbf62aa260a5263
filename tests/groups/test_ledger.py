"""Members of two groups join, leave and die at random, the broker is killed, and a ledger is kept:
every record of every partition is read at least once by each group, what is committed never goes
back, no partition is owned by two members of one generation, and no commit of an old generation
is taken once a newer one has begun.

A failure names a seed; MQLOG_LEDGER_SEED replays it, as far as the machine lets it.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from typing import Any, NamedTuple

import pytest
from wire import batches

from mqlog.protocol.create_topics import CreateTopicsRequest
from mqlog.protocol.describe_groups import DescribeGroupsRequest
from mqlog.protocol.fetch import FetchRequest
from mqlog.protocol.find_coordinator import FindCoordinatorRequest
from mqlog.protocol.produce import ProduceRequest
from mqlog.testing import Broker

from .ledger import Ledger, Sent, value
from .link import CREATE, FETCH, FIND, PRODUCE, Link, Lost
from .reader import Place, Reader, committed
from .styles import Cooperative, Range

pytestmark = pytest.mark.ours

TOPIC = "events"
SESSION_MS = 3_000
SETTLE_S = 120.0
DESCRIBE = (15, 5)
WAYS = ("leaves", "closes", "falls silent")


class Size(NamedTuple):
    """How much of everything. `events_s`: members that come or go in a second, on average."""

    members: int
    partitions: int
    seconds: float
    events_s: float
    kills: int
    records_s: int


class Run:
    """One run."""

    def __init__(self, broker: Broker, size: Size, seed: int) -> None:
        self._broker, self._size, self._rng = broker, size, random.Random(seed)
        host, _, port = broker.bootstrap_servers.rpartition(":")
        self._address = (host, int(port))
        self._sent = Sent(size.partitions)
        self._places = [
            Place(
                self._address,
                TOPIC,
                Ledger(style.name, size.partitions),
                style,
                session_ms=SESSION_MS,
            )
            for style in (Range(), Cooperative())
        ]
        self._alive: dict[asyncio.Task[None], tuple[Reader, Place]] = {}
        self._silent: list[Reader] = []
        self._producing = self._watching = True
        self._rss_kb = 0

    async def go(self) -> None:
        """All of it."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            await self._prepare()
            producer = tasks.create_task(self._produce())
            watcher = tasks.create_task(self._watch())
            killer = tasks.create_task(self._kill())
            for _ in range(self._size.members):
                self._join()
            await self._churn()
            await killer
            self._producing = False
            await producer
            ends = await self._all_committed()
            self._watching = False
            await watcher
            await self._all_leave()
        for place in self._places:
            place.ledger.check(self._sent, ends)
        self._report(ends)

    async def _prepare(self) -> None:
        link = await Link.open(self._address)
        topic = CreateTopicsRequest.CreatableTopic(TOPIC, self._size.partitions, 1)
        answer = await link.call(CREATE, CreateTopicsRequest([topic], 60_000))
        assert answer.topics[0].error_code == 0, answer
        names = [place.ledger.group for place in self._places]
        found = await link.call(FIND, FindCoordinatorRequest(coordinator_keys=names))
        assert {one.error_code for one in found.coordinators} == {0}, found
        link.close()

    # -- members -----------------------------------------------------------------------------------

    def _join(self) -> None:
        """A new member, of the eager group in three cases of five."""
        place = self._places[self._rng.random() < 0.4]
        place.ledger.counts["members"] += 1
        reader = Reader(place, self._rng)
        self._alive[self._tasks.create_task(reader.live())] = reader, place

    async def _go(self, task: asyncio.Task[None]) -> None:
        """One goes, this way or that."""
        reader, place = self._alive.pop(task)
        way = self._rng.choice(WAYS)
        place.ledger.counts[way] += 1
        if way == "leaves":
            reader.leaving = True
            return
        task.cancel()
        await asyncio.wait([task])
        if way == "closes":
            reader.close()
        else:
            self._silent.append(reader)
            if self._rng.random() < 0.7:
                self._tasks.create_task(self._come_back(reader))

    async def _come_back(self, reader: Reader) -> None:
        """A zombie: it commits for a generation that is over, in most cases."""
        await asyncio.sleep(self._rng.uniform(0, 3) * SESSION_MS / 1000)
        await reader.come_back()

    async def _churn(self) -> None:
        end = time.monotonic() + self._size.seconds
        while time.monotonic() < end:
            await asyncio.sleep(self._rng.expovariate(self._size.events_s))
            size = len(self._alive)
            grow = size < self._size.members * self._rng.uniform(0.7, 1.1)
            if grow:
                self._join()
            else:
                await self._go(self._rng.choice(list(self._alive)))

    async def _all_leave(self) -> None:
        for reader, _ in self._alive.values():
            reader.leaving = True
        await asyncio.gather(*self._alive)
        link = await Link.open(self._address)
        names = [place.ledger.group for place in self._places]
        deadline = time.monotonic() + SETTLE_S
        while True:  # the silent ones are dropped when their sessions end
            groups = (await link.call(DESCRIBE, DescribeGroupsRequest(names))).groups
            if [one.group_state for one in groups] == ["Empty"] * len(names):
                break
            assert time.monotonic() < deadline, groups
            await asyncio.sleep(0.1)
        link.close()
        for reader in self._silent:
            reader.close()

    # -- the broker --------------------------------------------------------------------------------

    async def _kill(self) -> None:
        for number in range(self._size.kills):
            await asyncio.sleep(self._size.seconds / (self._size.kills + 1))
            await asyncio.to_thread(self._broker.kill)
            for place in self._places:
                place.era = number + 1
                place.ledger.broker_died(place.era)
            await asyncio.sleep(self._rng.random())
            await asyncio.to_thread(self._broker.start)

    async def _produce(self) -> None:
        """Send at a steady pace; what has no answer is sent again, as new records."""
        link: Link | None = None
        pace_s = 0.02
        while self._producing:
            try:
                if link is None:
                    link = await Link.open(self._address)
                index = self._rng.randrange(self._size.partitions)
                await self._batch(link, index, max(1, int(self._size.records_s * pace_s)))
                await asyncio.sleep(pace_s)
            except Lost:
                if link is not None:
                    link.close()
                link = None
                await asyncio.sleep(0.05)
        if link is not None:
            link.close()

    async def _batch(self, link: Link, index: int, count: int) -> None:
        first = self._sent.numbers
        self._sent.numbers += count
        numbers = range(first, first + count)
        data = batches.batch([value(index, number) for number in numbers])
        part = ProduceRequest.PartitionProduceData(index, data)
        topic = ProduceRequest.TopicProduceData(TOPIC, partition_data=[part])
        answer = await link.call(PRODUCE, ProduceRequest(None, -1, 30_000, [topic]))
        took = answer.responses[0].partition_responses[0]
        assert took.error_code == 0, took
        for offset, number in enumerate(numbers, took.base_offset):
            self._sent.ack(index, offset, number)

    # -- what is committed -------------------------------------------------------------------------

    async def _look(self, link: Link, place: Place) -> dict[int, int] | None:
        fence = place.ledger.fence(range(self._size.partitions))
        found = await committed(link, place.ledger.group)
        if found is not None:
            place.ledger.fetched(found, fence)
        return found

    async def _watch(self) -> None:
        """Whatever happens, what is committed is never less than it was."""
        while self._watching:
            try:
                link = await Link.open(self._address)
                try:
                    await self._watch_over(link)
                finally:
                    link.close()
            except Lost:
                await asyncio.sleep(0.05)

    async def _watch_over(self, link: Link) -> None:
        while self._watching:
            for place in self._places:
                await self._look(link, place)
            if self._broker.running:
                self._rss_kb = max(self._rss_kb, rss_kb(self._broker.pid))
            await asyncio.sleep(0.25)

    async def _all_committed(self) -> list[int]:
        """The end of every partition, once all groups have committed it."""
        link = await Link.open(self._address)
        ends = await self._ends(link)
        expected = {index: end for index, end in enumerate(ends) if end}
        deadline = time.monotonic() + SETTLE_S
        for place in self._places:
            while (found := await self._look(link, place)) != expected:
                behind = expected.items() - (found or {}).items()
                assert time.monotonic() < deadline, f"{place.ledger.group} stays before {behind}"
                await asyncio.sleep(0.1)
        link.close()
        return ends

    async def _ends(self, link: Link) -> list[int]:
        wanted = [FetchRequest.FetchPartition(index) for index in range(self._size.partitions)]
        topic = FetchRequest.FetchTopic(TOPIC, partitions=wanted)
        answer = await link.call(FETCH, FetchRequest(topics=[topic]))
        found = answer.responses[0].partitions
        assert {one.error_code for one in found} == {0}, found
        parts = {one.partition_index: one.high_watermark for one in found}
        return [parts[index] for index in range(self._size.partitions)]

    def _report(self, ends: list[int]) -> None:
        print(f"{sum(ends)} records ({self._sent.count} acknowledged), ", end="")
        print(f"{self._size.kills} kills of the broker, its peak {self._rss_kb >> 10} MB")
        for place in self._places:
            ledger = place.ledger
            more = ", ".join(f"{n} {what}" for what, n in sorted(ledger.counts.items()))
            print(f"  {ledger.group}: {ledger.generations} generations; {more}")


def rss_kb(pid: int) -> int:
    """Resident memory of a process."""
    with open(f"/proc/{pid}/statm", encoding="ascii") as facts:
        return int(facts.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 10


async def run(size: Size) -> None:
    """One run with a new seed, or with that of MQLOG_LEDGER_SEED."""
    seed = int(os.environ.get("MQLOG_LEDGER_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"\nMQLOG_LEDGER_SEED={seed}")
    config: dict[str, Any] = {
        "group.min.session.timeout.ms": 1_000,
        "group.initial.rebalance.delay.ms": 200,
        "log.retention.ms": -1,  # the records' timestamps are old
    }
    with Broker(config=config) as broker:
        await Run(broker, size, seed).go()


async def test_thirty_members_come_and_go_for_twenty_seconds() -> None:
    await run(Size(30, 40, seconds=20, events_s=2, kills=1, records_s=1_000))


@pytest.mark.slow
@pytest.mark.timeout(0)
async def test_two_hundred_members_come_and_go_for_five_minutes() -> None:
    await run(Size(200, 240, seconds=300, events_s=3, kills=2, records_s=2_000))
