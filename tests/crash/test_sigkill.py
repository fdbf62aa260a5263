"""SIGKILL while producers send: nothing acknowledged is lost, no offset is given twice.

Each cycle kills the broker with requests in flight after at least 10,000 acknowledged records, has
it recover, lets the same producers finish what they retry, and compares every log with a ledger.
"""

from __future__ import annotations

import random

import pytest

from mqlog.testing import Broker

from .cycles import CONFIG, compare, live_and_end, producers

ACKED_PER_CYCLE = 10_000
PRODUCERS = {
    "acks-1": (False, {"acks": 1}),
    "acks-all": (False, {"acks": "all"}),
    "idempotent": (True, {"acks": "all"}),
    "idempotent-lz4": (True, {"acks": "all", "compression.type": "lz4"}),
}


def run(cycles: int, seed: int) -> None:
    """Cycles of load, SIGKILL, restart and comparison."""
    rng = random.Random(seed)
    with Broker(config=CONFIG) as broker, producers(broker, PRODUCERS) as loads:
        for _ in range(cycles):
            live_and_end(loads, broker.kill, acked=ACKED_PER_CYCLE, rng=rng)
            broker.start()
            compare(broker, loads)
        # What was there once stays.
        compare(broker, loads, all_of_it=True)


@pytest.mark.timeout(600)
def test_twenty_kills_lose_nothing() -> None:
    run(20, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_two_hundred_kills_lose_nothing() -> None:
    run(200, seed=2)
