"""Many members: ten thousand in one group, five hundred at once, more than a group may have."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable

import pytest

from mqlog.testing import Broker

from .idle import (
    FULL,
    OK,
    UNKNOWN_MEMBER,
    Idle,
    coordinated,
    describe,
    leave,
    need_descriptors,
)
from .link import Link
from .reader import REBALANCING
from .test_ledger import rss_kb

MANY, AT_ONCE = 10_000, 500
#: What ten thousand members may cost the broker, their connections among it.
MANY_KB = 128 << 10


def address_of(broker: Broker) -> tuple[str, int]:
    """Where it listens."""
    return broker.host, broker.port


async def opened(address: tuple[str, int], count: int) -> list[Link]:
    """Connections, a hundred at a time: the accept queue is finite."""
    links: list[Link] = []
    while len(links) < count:
        some = range(min(100, count - len(links)))
        links += await asyncio.gather(*(Link.open(address) for _ in some))
    return links


def close(links: Iterable[Link]) -> None:
    """Close them all."""
    for link in links:
        link.close()


class Bystander:
    """A group of one, somewhere else, that must not notice anything."""

    def __init__(self, link: Link, group: str = "elsewhere") -> None:
        self.member = Idle(link, group)
        self._over = asyncio.Event()

    async def watch(self) -> int:
        """Heartbeats until `over`; how many there were."""
        beats = 0
        while not self._over.is_set():
            assert await self.member.beat() == OK
            beats += 1
            await asyncio.sleep(0.05)
        return beats

    def over(self) -> None:
        """No more."""
        self._over.set()


@pytest.mark.ours
async def test_ten_thousand_members_in_one_group() -> None:
    need_descriptors(MANY + 1_000)
    # Long enough for all to come before the first generation begins.
    config = {"group.initial.rebalance.delay.ms": 2_000}
    with Broker(config=config) as broker:
        address = address_of(broker)
        admin = await Link.open(address)
        await coordinated(admin, "many")
        bystander = Bystander(await Link.open(address))
        await bystander.member.settle()
        watching = asyncio.create_task(bystander.watch())
        before = rss_kb(broker.pid)
        members = [Idle(link, "many") for link in await opened(address, MANY)]

        assert set(await asyncio.gather(*(one.join() for one in members))) == {OK}
        assert len({one.id for one in members}) == MANY
        assert {one.generation for one in members} == {members[0].generation}
        assert [one.leads for one in members].count(True) == 1
        assert set(await asyncio.gather(*(one.sync() for one in members))) == {OK}
        settled = rss_kb(broker.pid)
        assert set(await asyncio.gather(*(one.beat() for one in members))) == {OK}

        found = await describe(admin, "many")
        assert found.group_state == "Stable"
        assert {one.member_id for one in found.members} == {one.id for one in members}
        assert all(one.member_id.encode() == one.member_assignment for one in found.members)

        bystander.over()
        beats = await watching
        assert (await describe(admin, "elsewhere")).group_state == "Stable"
        assert bystander.member.generation == 1

        # One record of the log holds them all; it is larger than an ordinary batch.
        broker.kill()
        close([admin, bystander.member.link, *(one.link for one in members)])
        broker.start()
        links = await opened(address, 100)
        admin = links[0]
        await coordinated(admin, "many")
        assert await describe(admin, "many") == found
        for number, one in enumerate(members):
            one.link = links[number % len(links)]
        assert set(await asyncio.gather(*(one.beat() for one in members))) == {OK}

        # Half of them one by one, and the rest in one request.
        half = members[: MANY // 2]
        went = await asyncio.gather(*(leave(one.link, "many", [one.id]) for one in half))
        assert all(codes == {OK} for codes in went)
        rest = [one.id for one in members[MANY // 2 :]]
        assert await leave(admin, "many", rest) == {OK}
        assert await leave(admin, "many", rest[:1]) == {OK, UNKNOWN_MEMBER}
        found = await describe(admin, "many")
        assert (found.group_state, found.members) == ("Empty", [])
        after = rss_kb(broker.pid)
        close(links)
        print(f"\n{before=} kB {settled=} kB {after=} kB, {beats} heartbeats elsewhere")
        assert max(settled, after) - before < MANY_KB


@pytest.fixture
async def admin(address: tuple[str, int]) -> AsyncIterator[Link]:
    """A connection to the broker under test."""
    link = await Link.open(address)
    yield link
    link.close()


async def test_five_hundred_join_at_once(address: tuple[str, int], admin: Link) -> None:
    group, other = f"at-once-{time.time_ns()}", f"elsewhere-{time.time_ns()}"
    await coordinated(admin, group)
    await coordinated(admin, other)
    bystander = Bystander(await Link.open(address), other)
    await bystander.member.settle()
    watching = asyncio.create_task(bystander.watch())
    members = [Idle(link, group) for link in await opened(address, AT_ONCE)]
    everybody = asyncio.Event()
    lives = [asyncio.create_task(one.live(everybody)) for one in members]

    async def together() -> bool:
        found = await describe(admin, group)
        return found.group_state == "Stable" and len(found.members) == AT_ONCE

    while not await together():
        for life in lives:
            if life.done():
                life.result()
        await asyncio.sleep(0.1)
    everybody.set()
    await asyncio.gather(*lives)
    assert {one.generation for one in members} == {members[0].generation}
    found = await describe(admin, group)
    assert {one.member_id for one in found.members} == {one.id for one in members}
    assert await leave(admin, group, [one.id for one in members]) == {OK}
    bystander.over()
    await watching
    close([bystander.member.link, *(one.link for one in members)])


@pytest.mark.ours
async def test_group_max_size() -> None:
    with Broker(config={"group.initial.rebalance.delay.ms": 500, "group.max.size": 5}) as broker:
        links = await opened(address_of(broker), 9)
        admin, *rest = links
        await coordinated(admin, "full")
        members = [Idle(link, "full", rebalance_ms=3_600_000) for link in rest]
        inside, outside = members[:5], members[5:]
        await asyncio.gather(*(one.settle() for one in inside))
        assert {await one.join() for one in outside} == {FULL}
        assert {await one.beat() for one in inside} == {OK}, "nobody is disturbed"

        # One goes: there is room for one of three.
        assert await leave(admin, "full", [inside.pop().id]) == {OK}
        late = outside.pop(0)
        joining = asyncio.create_task(late.join())
        while len((await describe(admin, "full")).members) < 5:
            await asyncio.sleep(0.02)
        assert set(await asyncio.gather(joining, *(one.join() for one in inside))) == {OK}
        inside.append(late)
        assert set(await asyncio.gather(*(one.sync() for one in inside))) == {OK}
        assert {await one.join() for one in outside} == {FULL}
        assert len((await describe(admin, "full")).members) == 5

        # Other groups have room of their own.
        stranger = Idle(outside[0].link, "other")
        await stranger.settle()
        close(links)

        # A limit that is lower after a restart: the group shrinks to it.
        broker.restart(config={"group.max.size": 3})
        links = await opened(address_of(broker), 6)
        admin = links[0]
        await coordinated(admin, "full")
        for one, link in zip(inside, links[1:], strict=True):
            one.link = link
            assert await one.beat() == REBALANCING
        # Kafka has those who fit wait for their rebalance timeout.
        codes = await asyncio.gather(*(one.join() for one in inside))
        assert sorted(codes) == [OK, OK, OK, FULL, FULL]
        close(links)
