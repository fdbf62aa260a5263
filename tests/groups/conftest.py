"""The broker of tests/wire: ours, or the one that MQLOG_TEST_BOOTSTRAP names (a real Kafka)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from wire.conftest import (  # noqa: F401 - fixtures and a hook
    ORACLE,
    address,
    conn,
    connect,
    make_topic,
    oracle,
    pytest_collection_modifyitems,
    topic,
)

from mqlog.testing import Broker

# Kafka allows no shorter one by default.
SHORT_MS = 6_000 if ORACLE else 2_000


@pytest.fixture(scope="session")
def broker() -> Iterator[Any]:
    """A broker with short sessions; `None` when the oracle is asked instead."""
    if ORACLE:
        yield None
        return
    config = {"group.initial.rebalance.delay.ms": 0, "group.min.session.timeout.ms": SHORT_MS}
    with Broker(config=config) as running:
        yield running


@pytest.fixture(scope="session")
def short_ms() -> int:
    """The shortest session that the broker allows."""
    return SHORT_MS
