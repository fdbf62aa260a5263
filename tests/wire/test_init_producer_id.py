"""Producer ids: given once, never again, whatever happens to the broker in between."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .batches import batch
from .client import Connection, Topic
from .conftest import create_topic, split_address

OUT_OF_ORDER_SEQUENCE_NUMBER = 45
INVALID_PRODUCER_EPOCH = 47


@pytest.fixture
def own() -> Iterator[Any]:
    """A broker that may be killed."""
    from mqlog.testing import Broker

    with Broker() as running:
        yield running


def open_to(own: Any) -> Connection:
    """A new connection to a broker that may have moved."""
    return Connection(split_address(own.bootstrap_servers))


def new_id(conn: Connection) -> int:
    """A producer id."""
    values = {"transactional_id": None, "transaction_timeout_ms": 60_000}
    values |= {"producer_id": -1, "producer_epoch": -1}
    answer = conn.call("InitProducerId", 4, **values)
    assert (answer.error_code, answer.producer_epoch) == (0, 0)
    return int(answer.producer_id)


def send(conn: Connection, topic: Topic, producer: tuple[int, int, int]) -> tuple[int, int]:
    """Error and base offset of one record with this id, epoch and sequence."""
    answer = conn.produce_raw(topic, batch([b"v"], producer=producer))
    return answer.error_code, answer.base_offset


@pytest.mark.ours
@pytest.mark.parametrize("end", ["kill", "stop"])
def test_behaviour_26_no_id_is_given_twice_across_restarts(own: Any, end: str) -> None:
    given: list[int] = []
    for _ in range(3):
        with open_to(own) as conn:
            given += [new_id(conn) for _ in range(40)]
        getattr(own, end)()
        own.restart()
    with open_to(own) as conn:
        given.append(new_id(conn))
    assert len(set(given)) == len(given)


@pytest.mark.ours
def test_behaviour_24_sequences_survive_a_crash(own: Any) -> None:
    with open_to(own) as conn:
        topic = create_topic(conn)
        pid, other = new_id(conn), new_id(conn)
        assert [send(conn, topic, (pid, 0, n)) for n in range(7)] == [(0, n) for n in range(7)]
        assert send(conn, topic, (other, 0, 0)) == (0, 7)
        assert send(conn, topic, (other, 3, 0)) == (0, 8)
    own.kill()
    own.restart()
    with open_to(own) as conn:
        # What was not answered in time is sent again: it is known, and where it went.
        assert [send(conn, topic, (pid, 0, n)) for n in range(2, 7)] == [
            (0, n) for n in range(2, 7)
        ]
        assert send(conn, topic, (pid, 0, 8)) == (OUT_OF_ORDER_SEQUENCE_NUMBER, -1)
        assert send(conn, topic, (other, 0, 1)) == (INVALID_PRODUCER_EPOCH, -1)
        assert send(conn, topic, (other, 3, 0)) == (0, 8)
        assert send(conn, topic, (pid, 0, 7)) == (0, 9)
        assert conn.list_offset(topic, -1).offset == 10
