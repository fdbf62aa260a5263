"""Power loss on a real file system: what `acks=all` acknowledged is there afterwards.

The file system is shut down as a power failure would: dirty pages and what the journal has not
written are gone. acks=1 promises nothing here, so it takes no part.
"""

from __future__ import annotations

import random

import pytest

from mqlog.testing import Broker

from .cycles import CONFIG, compare, live_and_end, producers
from .loopfs import LoopFs, unavailable

ACKED_PER_CYCLE = 3_000
PRODUCERS = {
    "acks-all": (False, {"acks": "all"}),
    "idempotent": (True, {"acks": "all"}),
}


def run(cycles: int, seed: int, durability: str = "fsync") -> None:
    """Cycles of load, power loss, restart and comparison."""
    why = unavailable()
    if why:
        pytest.skip(why)
    rng = random.Random(seed)
    with (
        LoopFs(1_024) as disk,
        Broker(disk.path / "data", config=CONFIG, durability=durability) as broker,
        producers(broker, PRODUCERS) as loads,
    ):

        def power_fails() -> None:
            disk.power_off(broker.pid)
            broker.kill()

        for _ in range(cycles):
            live_and_end(loads, power_fails, acked=ACKED_PER_CYCLE, rng=rng)
            disk.power_on()
            broker.start()
            compare(broker, loads)
        compare(broker, loads, all_of_it=True)


@pytest.mark.timeout(600)
def test_two_power_failures_lose_nothing() -> None:
    run(2, seed=1)


@pytest.mark.timeout(600)
def test_what_was_not_flushed_is_lost() -> None:
    """The power failures are real: `--durability os` promises less, and it shows."""
    with pytest.raises(AssertionError, match="acknowledged"):
        run(3, seed=3, durability="os")


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_a_hundred_power_failures_lose_nothing() -> None:
    run(100, seed=2)
