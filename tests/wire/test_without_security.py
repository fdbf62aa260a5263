"""ACLs, SCRAM credentials and transactions, asked of a broker that has none of them."""

from __future__ import annotations

from typing import Any

import pytest

from .client import Connection, eventually

INVALID_REQUEST = 42
SECURITY_DISABLED = 54
RESOURCE_NOT_FOUND = 91
DUPLICATE_RESOURCE = 92
TRANSACTIONAL_ID_NOT_FOUND = 105
INVALID_REGULAR_EXPRESSION = 128

FILTER: dict[str, Any] = {
    "resource_type_filter": 2,
    "resource_name_filter": "wire",
    "pattern_type_filter": 3,
    "principal_filter": None,
    "host_filter": None,
    "operation": 1,
    "permission_type": 1,
}
ACL: dict[str, Any] = {
    "resource_type": 2,
    "resource_name": "wire",
    "resource_pattern_type": 3,
    "principal": "User:wire",
    "host": "*",
    "operation": 3,
    "permission_type": 3,
}
REFUSED = (SECURITY_DISABLED, "No Authorizer is configured.")


@pytest.mark.parametrize("version", [1, 2, 3])
def test_acls_without_authorizer(conn: Connection, version: int) -> None:
    told = conn.call("DescribeAcls", version, **FILTER)
    text = "No Authorizer is configured on the broker"
    assert (told.error_code, told.error_message) == (SECURITY_DISABLED, text)
    assert list(told.resources) == []
    for count in range(3):
        made = conn.call("CreateAcls", version, creations=[ACL] * count).results
        assert [(r.error_code, r.error_message) for r in made] == [REFUSED] * count
        gone = conn.call("DeleteAcls", version, filters=[FILTER] * count).filter_results
        assert [(r.error_code, r.error_message) for r in gone] == [REFUSED] * count
        assert all(list(r.matching_acls) == [] for r in gone)


def test_scram_credentials_of_nobody(conn: Connection) -> None:
    for users in (None, []):
        told = conn.call("DescribeUserScramCredentials", 0, users=users)
        assert (told.error_code, list(told.results)) == (0, [])
    asked = [{"name": name} for name in ("a", "b", "a", "")]
    told = conn.call("DescribeUserScramCredentials", 0, users=asked)
    missing = "Attempt to describe a user credential that does not exist: "
    twice = "Cannot describe SCRAM credentials for the same user twice in a single request: a"
    assert told.error_code == 0
    assert {r.user: (r.error_code, r.error_message) for r in told.results} == {
        "a": (DUPLICATE_RESOURCE, twice),
        "b": (RESOURCE_NOT_FOUND, missing + "b"),
        "": (RESOURCE_NOT_FOUND, missing),
    }


@pytest.mark.parametrize("version", range(3))
def test_no_transactions_are_listed(conn: Connection, version: int) -> None:
    more: dict[str, Any] = {"duration_filter": 5} if version >= 1 else {}
    if version >= 2:
        more["transactional_id_pattern"] = "wire-nobody-.*"
    known = ["Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit"]
    known += ["CompleteAbort", "Dead", "PrepareEpochFence"]
    odd = ["Bogus", "ongoing", ""]
    told = conn.call(
        "ListTransactions", version, state_filters=known + odd, producer_id_filters=[-5], **more
    )
    assert (told.error_code, list(told.transaction_states)) == (0, [])
    assert set(told.unknown_state_filters) == set(odd)


def test_a_pattern_that_is_none(conn: Connection) -> None:
    values = {"state_filters": [], "producer_id_filters": [], "duration_filter": -1}
    told = conn.call("ListTransactions", 2, **values, transactional_id_pattern="a(")
    assert told.error_code == INVALID_REGULAR_EXPRESSION


def test_unknown_transactions(conn: Connection, oracle: bool) -> None:
    def described(*ids: str) -> list[tuple[str, int]]:
        answer = conn.call("DescribeTransactions", 0, transactional_ids=list(ids))
        return [(t.transactional_id, t.error_code) for t in answer.transaction_states]

    if oracle:
        # Kafka says that it is not the coordinator until somebody has looked for one.
        conn.call("FindCoordinator", 4, key_type=1, coordinator_keys=["wire-nobody"])
        one = [("wire-nobody", TRANSACTIONAL_ID_NOT_FOUND)]
        eventually(lambda: described("wire-nobody") == one)
    assert described("wire-nobody", "", "wire-nobody") == [
        ("wire-nobody", TRANSACTIONAL_ID_NOT_FOUND),
        ("", INVALID_REQUEST),
        ("wire-nobody", TRANSACTIONAL_ID_NOT_FOUND),
    ]
    assert described() == []
