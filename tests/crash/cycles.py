"""Load, an end, a start, a comparison: the cycle that kills and power failures share."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from mqlog.testing import Broker

from .load import Load, create_topics, read

CONFIG = {"log.flush.offset.checkpoint.interval.ms": 1_000}

Producers = Mapping[str, tuple[bool, Mapping[str, object]]]
"""By topic: whether it is idempotent, and what else confluent-kafka is told."""


@contextmanager
def producers(broker: Broker, wanted: Producers) -> Iterator[list[Load]]:
    """A topic and a producer for each."""
    create_topics(broker.bootstrap_servers, list(wanted))
    loads = [
        Load(broker.bootstrap_servers, topic, idempotent=idempotent, **config)
        for topic, (idempotent, config) in wanted.items()
    ]
    try:
        yield loads
    finally:
        for load in loads:
            load.close()


def live_and_end(
    loads: list[Load], end: Callable[[], None], *, acked: int, rng: random.Random
) -> None:
    """Send until so many are acknowledged and a moment longer, then `end` it all."""
    before = sum(load.answers for load in loads)
    for load in loads:
        load.start()
    while sum(load.answers for load in loads) - before < acked:
        time.sleep(0.005)
    time.sleep(rng.random() * 0.3)
    end()
    in_flight = sum(load.in_flight for load in loads)
    for load in loads:
        load.pause(wait=False)
    assert in_flight > 0, "nothing was in flight"


def compare(broker: Broker, loads: list[Load], *, all_of_it: bool = False) -> None:
    """Let the producers finish what they retry, then compare each log with its ledger."""
    for load in loads:
        load.pause()
        if all_of_it:
            load.ledger.start_over()
        read(broker.bootstrap_servers, load.topic, load.ledger)
        assert load.ledger.refused == 0, f"{load.topic}: records were refused: {load.refusals}"
