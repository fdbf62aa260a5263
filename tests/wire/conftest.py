"""The broker under test: ours, or the one that MQLOG_TEST_BOOTSTRAP names (a real Kafka)."""

from __future__ import annotations

import itertools
import os
import uuid
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

with warnings.catch_warnings():
    # kafka-python uses a deprecated function when it is imported; warnings are errors here.
    warnings.simplefilter("ignore")
    import kafka.record.default_records  # noqa: F401

from .client import Connection, Topic, eventually

ORACLE = os.environ.get("MQLOG_TEST_BOOTSTRAP", "")

_names = itertools.count()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of our own limits and hooks have nothing to say about another broker."""
    for item in items:
        if ORACLE and item.get_closest_marker("ours"):
            item.add_marker(pytest.mark.skip(reason="about mqlog alone"))


@pytest.fixture(scope="session")
def oracle() -> bool:
    """Whether the tests run against a real Kafka."""
    return bool(ORACLE)


@pytest.fixture(scope="session")
def broker() -> Iterator[Any]:
    """A broker in a process of its own; `None` when the oracle is asked instead."""
    if ORACLE:
        yield None
        return
    from mqlog.testing import Broker

    with Broker(config={"group.initial.rebalance.delay.ms": 0}) as running:
        yield running


@pytest.fixture(scope="session")
def address(broker: Any) -> tuple[str, int]:
    """Where the broker listens."""
    return split_address(ORACLE or broker.bootstrap_servers)


def split_address(bootstrap: str) -> tuple[str, int]:
    """`host:port` in two."""
    host, _, port = bootstrap.split(",", maxsplit=1)[0].rpartition(":")
    return host.strip("[]"), int(port)


@pytest.fixture
def connect(address: tuple[str, int]) -> Iterator[Callable[[], Connection]]:
    """Opens connections that are closed after the test."""
    opened: list[Connection] = []

    def one() -> Connection:
        opened.append(Connection(address))
        return opened[-1]

    yield one
    for connection in opened:
        connection.close()


@pytest.fixture
def conn(connect: Callable[[], Connection]) -> Connection:
    """One connection."""
    return connect()


MakeTopic = Callable[..., Topic]


def create_topic(conn: Connection, partitions: int = 1, **configs: str) -> Topic:
    """Makes a topic with a new name; `configs` use `_` for `.`."""
    name = f"wire-{os.getpid()}-{next(_names)}"
    answer = conn.call(
        "CreateTopics",
        7,
        topics=[
            {
                "name": name,
                "num_partitions": partitions,
                "replication_factor": 1,
                "assignments": [],
                "configs": [
                    {"name": key.replace("_", "."), "value": value}
                    for key, value in configs.items()
                ],
            }
        ],
        timeout_ms=10_000,
        validate_only=False,
    )
    created = answer.topics[0]
    assert created.error_code == 0, created

    topic = Topic(name=name, id=uuid.UUID(str(created.topic_id)), partitions=partitions)

    def ready() -> bool:
        found = conn.metadata([name]).topics[0]
        parts = found.partitions if found.error_code == 0 else []
        return len(parts) == partitions and all(part.error_code == 0 for part in parts)

    def serves(partition: int) -> bool:
        # Kafka shows a topic before its log can be used.
        return conn.list_offset(topic, -1, partition=partition).error_code == 0

    eventually(ready)
    if ORACLE:
        for partition in range(partitions):
            eventually(lambda one=partition: serves(one))
    return topic


@pytest.fixture
def make_topic(conn: Connection) -> MakeTopic:
    """`make_topic(partitions, **configs)`."""
    return lambda *args, **configs: create_topic(conn, *args, **configs)


@pytest.fixture
def topic(make_topic: MakeTopic) -> Topic:
    """A topic of one partition."""
    return make_topic()
