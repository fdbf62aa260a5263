"""FindCoordinator: which broker looks after a group or a transactional id."""

from __future__ import annotations

from typing import Any

import pytest

from .client import Connection, eventually

GROUP, TRANSACTION, SHARE = 0, 1, 2
INVALID_REQUEST, TRANSACTIONAL_ID_AUTHORIZATION_FAILED = 42, 53


def found(conn: Connection, version: int, key_type: int, keys: list[str]) -> list[Any]:
    """The answers, one per key whatever the version."""
    if version >= 4:
        values: dict[str, Any] = {"key_type": key_type, "coordinator_keys": keys}
        return list(conn.call("FindCoordinator", version, **values).coordinators)
    values = {"key": keys[0]} | ({"key_type": key_type} if version else {})
    return [conn.call("FindCoordinator", version, **values)]


@pytest.mark.parametrize("version", range(7))
def test_the_broker_coordinates_groups(
    conn: Connection, address: tuple[str, int], version: int
) -> None:
    keys = ["first", ""][: 2 if version >= 4 else 1]

    def answers() -> list[Any]:
        # Kafka makes its internal topic at the first request, and says 15 until it is there.
        got = found(conn, version, GROUP, keys)
        return got if all(one.error_code == 0 for one in got) else []

    for one in eventually(answers):
        assert (one.host, one.port) == address
        assert one.node_id == conn.metadata([]).brokers[0].node_id


@pytest.mark.parametrize(("version", "key_type"), [(1, 9), (3, SHARE), (4, 9), (6, -1), (6, SHARE)])
def test_unknown_key_types_are_refused(conn: Connection, version: int, key_type: int) -> None:
    for one in found(conn, version, key_type, ["a"]):
        assert (one.error_code, one.node_id, one.host, one.port) == (INVALID_REQUEST, -1, "", -1)


@pytest.mark.ours
@pytest.mark.parametrize("version", [1, 6])
def test_transactional_ids_get_an_error_that_no_client_retries(
    conn: Connection, version: int
) -> None:
    (one,) = found(conn, version, TRANSACTION, ["a"])
    assert (one.error_code, one.node_id) == (TRANSACTIONAL_ID_AUTHORIZATION_FAILED, -1)


def test_no_keys_no_answers(conn: Connection) -> None:
    assert found(conn, 6, GROUP, []) == []
