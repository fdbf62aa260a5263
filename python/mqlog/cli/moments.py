"""Moments as people write them."""

from __future__ import annotations

from datetime import datetime

from mqlog.errors import UsageError


def milliseconds(text: str) -> int:
    """ISO 8601 (local time unless it says otherwise) or ms since 1970, as ms. UsageError if not."""
    if text.isascii() and text.isdecimal():
        return int(text)
    try:
        return int(datetime.fromisoformat(text).astimezone().timestamp() * 1000)
    except (ValueError, OverflowError):
        raise UsageError(
            f"{text!r} is no time: give ISO 8601, as 2026-01-31T12:00+01:00, or ms since 1970"
        ) from None
