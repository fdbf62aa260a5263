"""ListTransactions, DescribeTransactions: this broker has none."""

from __future__ import annotations

import re
from typing import Any

from mqlog.broker import codes
from mqlog.broker.flow import Decision
from mqlog.broker.world import World

#: Characters of a pattern that are looked at.
MAX_PATTERN = 4096
STATES = frozenset(
    {
        "Empty",
        "Ongoing",
        "PrepareCommit",
        "PrepareAbort",
        "CompleteCommit",
        "CompleteAbort",
        "Dead",
        "PrepareEpochFence",
    }
)


def list_transactions(_world: World, request: Any) -> Decision:
    """Answer ListTransactions: an empty list, and which filters mean nothing."""
    from mqlog.protocol.list_transactions import ListTransactionsResponse as Response

    yield from ()
    pattern = request.transactional_id_pattern or ""
    if len(pattern) > MAX_PATTERN:
        return Response(error_code=codes.INVALID_REGULAR_EXPRESSION)
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError):
        return Response(error_code=codes.INVALID_REGULAR_EXPRESSION)
    unknown = dict.fromkeys(name for name in request.state_filters if name not in STATES)
    return Response(unknown_state_filters=list(unknown))


def describe_transactions(_world: World, request: Any) -> Decision:
    """Answer DescribeTransactions: no id is known."""
    from mqlog.protocol.describe_transactions import DescribeTransactionsResponse as Response

    yield from ()
    return Response(
        transaction_states=[
            Response.TransactionState(
                codes.TRANSACTIONAL_ID_NOT_FOUND if name else codes.INVALID_REQUEST, name
            )
            for name in request.transactional_ids
        ]
    )
