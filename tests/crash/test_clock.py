"""A wall clock that jumps back an hour: nothing stalls, nothing is deleted, order holds."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from mqlog.testing import Broker

from .cycles import compare, live_and_end, producers

PRODUCERS = {"acks-1": (False, {"acks": 1}), "idempotent": (True, {"acks": "all"})}
LIBRARIES = ("/usr/lib/*/faketime/libfaketime.so.1", "/usr/lib64/faketime/libfaketime.so.1")


def libfaketime() -> Path:
    """The library that lies about the time."""
    found = [path for pattern in LIBRARIES for path in sorted(Path("/").glob(pattern[1:]))]
    if not found:
        pytest.skip("needs libfaketime")
    return found[0]


def test_a_clock_that_goes_back_an_hour_changes_nothing(tmp_path: Path) -> None:
    when = tmp_path / "now"
    when.write_text("+0\n")
    environment = {
        "LD_PRELOAD": str(libfaketime()),
        "FAKETIME_TIMESTAMP_FILE": str(when),
        "FAKETIME_NO_CACHE": "1",
        # Timeouts go by the monotonic clock, which no administrator sets.
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    rng = random.Random(1)
    retention = {"log.retention.ms": 600_000, "log.retention.check.interval.ms": 100}
    with (
        Broker(tmp_path / "data", config=retention, env=environment) as broker,
        producers(broker, PRODUCERS) as loads,
    ):

        def clock_goes_back_and_the_broker_is_killed() -> None:
            when.write_text("-3600\n")
            half_way = sum(load.answers for load in loads)
            while sum(load.answers for load in loads) < half_way + 1_000:
                time.sleep(0.01)
            broker.kill()

        live_and_end(loads, clock_goes_back_and_the_broker_is_killed, acked=2_000, rng=rng)
        broker.start()
        compare(broker, loads)
        # An hour on again, as after a correction: still within the records' retention.
        when.write_text("+0\n")
        live_and_end(loads, broker.kill, acked=2_000, rng=rng)
        broker.start()
        compare(broker, loads, all_of_it=True)
