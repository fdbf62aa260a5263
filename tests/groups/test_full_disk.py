"""A full disk: commits go on from the reserve, members stay, and when not even that is left no
commit is answered that a crash undoes.
"""

from __future__ import annotations

import asyncio
import time

import pytest
from crash.loopfs import LoopFs, unavailable
from wire import batches

from mqlog.protocol.create_topics import CreateTopicsRequest
from mqlog.protocol.delete_topics import DeleteTopicsRequest
from mqlog.protocol.produce import ProduceRequest
from mqlog.testing import Broker

from .committer import Committer, compare_all, make_topic
from .idle import OK
from .link import CREATE, PRODUCE, Link, Lost
from .reader import LOADING, NOT_COORDINATOR

pytestmark = pytest.mark.ours

GROUPS, SESSION_MS = 8, 3_000
DELETE = (20, 5)
STORAGE_ERROR = 56


async def fill(link: Link, topic: str) -> None:
    """Produce until there is no room, with ever smaller records."""
    for size in (1 << 19, 1 << 16, 1 << 12, 100):
        for _ in range(1_000):
            part = ProduceRequest.PartitionProduceData(0, batches.batch([bytes(size)]))
            named = ProduceRequest.TopicProduceData(topic, partition_data=[part])
            answer = await link.call(PRODUCE, ProduceRequest(None, -1, 30_000, [named]))
            code = answer.responses[0].partition_responses[0].error_code
            if code:
                assert code == STORAGE_ERROR, code
                break
        else:
            raise AssertionError(f"the disk does not get full of {size}")


@pytest.mark.timeout(300)
async def test_commits_on_a_full_disk() -> None:
    why = unavailable()
    if why:
        pytest.skip(why)
    config = {
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": SESSION_MS,
        "log.segment.delete.delay.ms": 0,
    }
    with LoopFs(40) as disk, Broker(disk.path / "data", config=config) as broker:
        address = broker.host, broker.port
        admin = await Link.open(address)
        await make_topic(admin)
        filler = CreateTopicsRequest.CreatableTopic("filler", 1, 1)
        await admin.call(CREATE, CreateTopicsRequest([filler], 60_000))
        committers = [Committer(address, f"g{n}", session_ms=SESSION_MS) for n in range(GROUPS)]
        for one in committers:
            await one.begin()
        over = asyncio.Event()
        lives = [asyncio.create_task(one.go_on(over)) for one in committers]

        await fill(admin, "filler")
        full = [one.answered for one in committers]
        while any(one.answered < at + 3 for one, at in zip(committers, full, strict=True)):
            await asyncio.sleep(0.02)
        for one in committers:
            # The write that finds the disk full may be a commit: its shard is loaded anew then.
            assert {*one.codes, *one.beats} <= {OK, LOADING, NOT_COORDINATOR}

        # Commits of 16 kB from eight groups: the reserve does not last for long.
        for one in committers:
            one.ballast = 4_000
        deadline = time.monotonic() + 8
        while not any(one.lost for one in committers) and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        broker.kill()
        over.set()
        await asyncio.gather(*lives)
        broker.start()
        await compare_all(address, committers)
        print({one.group: (one.sent, one.answered, one.lost) for one in committers})

        # Room comes back, and with it everything.
        admin.close()
        admin = await Link.open(address)
        answer = await admin.call(DELETE, DeleteTopicsRequest(topic_names=["filler"]))
        assert answer.responses[0].error_code == OK
        for one in committers:
            await one.again()
            await takes_commits(one)
            assert await one.beat() == OK
        broker.kill()
        broker.start()
        await compare_all(address, committers)
        for one in committers:
            one.close()
        admin.close()


async def takes_commits(one: Committer) -> None:
    """Wait until a commit is answered."""
    deadline = time.monotonic() + 30
    while True:
        try:
            if await one.commit() == OK:
                return
        except Lost:
            await one.again()
        assert time.monotonic() < deadline, "there is room and nothing is taken"
        await asyncio.sleep(0.1)
