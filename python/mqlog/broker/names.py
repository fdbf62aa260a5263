"""What a topic may be called. Texts are Kafka's."""

from __future__ import annotations

import re

from mqlog.broker import codes
from mqlog.broker.codes import Refusal

MAX_NAME_LENGTH = 249
#: Topics that only the broker writes to.
INTERNAL = frozenset({"__consumer_offsets", "__transaction_state", "__share_group_state"})
_LEGAL = re.compile(r"[a-zA-Z0-9._-]+\Z")


def name_problem(name: str) -> str | None:
    """Say why a topic cannot have this name, or None."""
    if not name:
        return "Topic name is invalid: the empty string is not allowed"
    if name in (".", ".."):
        return f"Topic name is invalid: '{name}' is not allowed"
    if len(name) > MAX_NAME_LENGTH:
        return (
            f"Topic name is invalid: the length of '{name}' is longer than the max allowed "
            f"length {MAX_NAME_LENGTH}"
        )
    if not _LEGAL.match(name):
        return (
            f"Topic name is invalid: '{name}' contains one or more characters other than "
            "ASCII alphanumerics, '.', '_' and '-'"
        )
    return None


def check_name(name: str) -> None:
    """Refuse a name that no topic can have."""
    problem = name_problem(name)
    if problem:
        raise Refusal(codes.INVALID_TOPIC_EXCEPTION, problem)


def collision_key(name: str) -> str:
    """Return what two names share if they differ only in `.` and `_` (metrics confuse them)."""
    return name.replace(".", "_")
