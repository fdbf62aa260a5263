"""SIGKILL while groups commit: what was answered is there, and the members still are members."""

from __future__ import annotations

import asyncio
import random

import pytest

from mqlog.testing import Broker

from .committer import Committer, compare_all, make_topic
from .idle import OK
from .link import Link

pytestmark = pytest.mark.ours

GROUPS = 20


async def run(cycles: int, seed: int) -> None:
    """Cycles of commits, SIGKILL, restart and comparison."""
    rng = random.Random(seed)
    config = {"group.initial.rebalance.delay.ms": 0}
    with Broker(config=config) as broker:
        address = broker.host, broker.port
        admin = await Link.open(address)
        await make_topic(admin)
        committers = [Committer(address, f"g{n}", session_ms=30_000) for n in range(GROUPS)]
        for one in committers:
            await one.begin()
        admin.close()
        for _ in range(cycles):
            over = asyncio.Event()
            lives = [asyncio.create_task(one.go_on(over)) for one in committers]
            await asyncio.sleep(rng.uniform(0.2, 0.6))
            await asyncio.to_thread(broker.kill)
            over.set()
            await asyncio.gather(*lives)
            await asyncio.to_thread(broker.start)
            await compare_all(address, committers)
            for one in committers:
                await one.again()
                assert await one.beat() == OK
        assert min(one.answered for one in committers) > cycles
        for one in committers:
            one.close()


async def test_five_kills_undo_no_answered_commit() -> None:
    await run(5, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(0)
async def test_a_hundred_kills_undo_no_answered_commit() -> None:
    await run(100, seed=2)
