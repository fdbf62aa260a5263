"""SIGKILL while producers send: nothing acknowledged is lost, no offset is given twice.

Each cycle kills the broker with requests in flight after at least 10,000 acknowledged records, has
it recover, lets the same producers finish what they retry, and compares every log with a ledger.
"""

from __future__ import annotations

import random
import time

import pytest

from mqlog.testing import Broker

from .load import Load, create_topics, read

ACKED_PER_CYCLE = 10_000
CONFIG = {"log.flush.offset.checkpoint.interval.ms": 1_000}
PRODUCERS = {
    "acks-1": (False, {"acks": 1}),
    "acks-all": (False, {"acks": "all"}),
    "idempotent": (True, {"acks": "all"}),
    "idempotent-lz4": (True, {"acks": "all", "compression.type": "lz4"}),
}


def run(cycles: int, seed: int) -> None:
    """Cycles of load, SIGKILL, restart and comparison."""
    rng = random.Random(seed)
    with Broker(config=CONFIG) as broker:
        create_topics(broker.bootstrap_servers, list(PRODUCERS))
        loads = [
            Load(broker.bootstrap_servers, name, idempotent=idempotent, **config)
            for name, (idempotent, config) in PRODUCERS.items()
        ]
        for cycle in range(cycles):
            in_flight = one_life(broker, loads, rng)
            assert in_flight > 0, f"cycle {cycle}: nothing was in flight"
            for load in loads:
                load.pause()
                read(broker.bootstrap_servers, load.topic, load.ledger)
        # What was there once stays: everything again, from the beginning.
        for load in loads:
            load.ledger.start_over()
            read(broker.bootstrap_servers, load.topic, load.ledger)
            assert load.ledger.refused == 0


def one_life(broker: Broker, loads: list[Load], rng: random.Random) -> int:
    """Load until enough is acknowledged, SIGKILL, restart. Says what was in flight."""
    before = sum(load.answers for load in loads)
    for load in loads:
        load.start()
    while sum(load.answers for load in loads) - before < ACKED_PER_CYCLE:
        time.sleep(0.01)
    time.sleep(rng.random() * 0.3)
    broker.kill()
    in_flight = sum(load.in_flight for load in loads)
    for load in loads:
        load.pause(wait=False)
    broker.start()
    return in_flight


def test_twenty_kills_lose_nothing() -> None:
    run(20, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_two_hundred_kills_lose_nothing() -> None:
    run(200, seed=2)
