"""A thousand topics are created at once: no member expires, and commits go on and stay."""

from __future__ import annotations

import asyncio

import pytest

from mqlog.protocol.create_topics import CreateTopicsRequest
from mqlog.testing import Broker

from .committer import Committer, compare_all, make_topic
from .idle import OK, describe
from .link import CREATE, Link

pytestmark = pytest.mark.ours

GROUPS, SESSION_MS = 20, 2_000


async def test_nobody_expires_while_a_thousand_topics_are_made() -> None:
    config = {"group.initial.rebalance.delay.ms": 0, "group.min.session.timeout.ms": SESSION_MS}
    with Broker(config=config) as broker:
        address = broker.host, broker.port
        admin = await Link.open(address)
        await make_topic(admin)
        committers = [Committer(address, f"g{n}", session_ms=SESSION_MS) for n in range(GROUPS)]
        for one in committers:
            await one.begin()
        over = asyncio.Event()
        lives = [asyncio.create_task(one.go_on(over)) for one in committers]
        before = sum(one.codes[OK] for one in committers)
        topics = [CreateTopicsRequest.CreatableTopic(f"many-{n}", 1, 1) for n in range(1_000)]
        answer = await admin.call(CREATE, CreateTopicsRequest(topics, 60_000))
        assert {one.error_code for one in answer.topics} == {OK}
        meanwhile = sum(one.codes[OK] for one in committers) - before
        assert meanwhile > 0, "nothing was committed meanwhile"
        over.set()
        await asyncio.gather(*lives)
        for one in committers:
            assert (set(one.codes), set(one.beats), one.lost) == ({OK}, {OK}, 0)
            assert (await describe(admin, one.group)).group_state == "Stable"
            one.close()
        admin.close()
        broker.kill()
        broker.start()
        await compare_all(address, committers)
        print(f"{meanwhile} commits of {GROUPS} groups meanwhile")
