"""Checks that settings share: each takes what the user wrote and returns what it means.

A check raises ValueError with the problem; whoever calls it names the setting.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

Check = Callable[[Any], Any]

#: The longest time in milliseconds (24 days), and what infinity becomes.
FOREVER_MS = (1 << 31) - 1
INT32 = (1 << 31) - 1


class Setting(NamedTuple):
    """One setting: its name, its default, what it may be."""

    name: str
    default: Any
    check: Check


def integer(low: int = 0, high: int = INT32) -> Check:
    """A whole number, also as text."""

    def check(value: Any) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, str):
            value = _parsed(int, value)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return value

    return check


def count(low: int = 0) -> Check:
    """A whole number, or infinity for the largest."""
    whole = integer(low)
    return lambda value: INT32 if value == float("inf") else whole(value)


def milliseconds(low: float = 0) -> Check:
    """A time in milliseconds; infinity is the longest there is."""

    def check(value: Any) -> float:
        if isinstance(value, str):
            value = _parsed(float, value)
        if not isinstance(value, int | float) or isinstance(value, bool) or not value >= low:
            raise ValueError(f"must be milliseconds from {low} to {FOREVER_MS}")
        return min(value, FOREVER_MS)

    return check


def _parsed(kind: type[int | float], text: str) -> int | float | None:
    try:
        return kind(text)
    except ValueError:
        return None


def patience(value: Any) -> float:
    """A time in milliseconds to wait; negative or infinite is for ever."""
    try:
        ms = float(value)
    except (TypeError, ValueError):
        ms = float("nan")
    if ms != ms:
        raise ValueError("must be milliseconds, or below 0 for ever")
    return ms if ms >= 0 else float("inf")


def boolean(value: Any) -> bool:
    """True or False, also as text."""
    text = value.lower() if isinstance(value, str) else value
    if text in (True, "true"):
        return True
    if text in (False, "false"):
        return False
    raise ValueError("must be True or False")


def text(value: Any) -> str:
    """Some text."""
    if not isinstance(value, str) or not value:
        raise ValueError("must be text that is not empty")
    return value


def name(value: Any) -> str:
    """Text that may be empty."""
    if not isinstance(value, str):
        raise ValueError("must be text")
    return value


def optional(check: Check) -> Check:
    """None, or what `check` allows."""
    return lambda value: None if value is None else check(value)


def choice(*allowed: Any) -> Check:
    """One of a few values."""

    def check(value: Any) -> Any:
        if value not in allowed:
            raise ValueError(f"must be one of {', '.join(map(str, allowed))}")
        return value

    return check


def function(value: Any) -> Any:
    """Something to call."""
    if not callable(value):
        raise ValueError("must be callable")
    return value


def serializer(method: str) -> Check:
    """A function of the value, or an object with `serialize` or `deserialize`."""

    def check(value: Any) -> Any:
        if not callable(value) and not callable(getattr(value, method, None)):
            raise ValueError(f"must be callable or have a method {method}")
        return value

    return check


def pem(value: Any) -> bytes:
    """The content of a PEM file, given its path."""
    if not isinstance(value, str) and not hasattr(value, "__fspath__"):
        raise ValueError("must be the path of a PEM file")
    try:
        with open(value, "rb") as file:
            content = file.read()
    except OSError as error:
        raise ValueError(f"cannot be read: {(error.strerror or str(error)).lower()}") from None
    if b"-----BEGIN " not in content:
        raise ValueError("is no PEM file: it has no line that starts with -----BEGIN")
    return content


def anything(value: Any) -> Any:
    """Accepted and not used: it changes nothing that a user could see."""
    return value


def refused(why: str, *harmless: Any) -> Check:
    """Not offered: only values that change nothing are let through."""

    def check(value: Any) -> Any:
        if value not in harmless:
            raise ValueError(why)
        return value

    return check


def acks(value: Any) -> int:
    """How many replicas answer for a record: "all" is -1."""
    known = {"all": -1, "-1": -1, -1: -1, "1": 1, 1: 1, "0": 0, 0: 0}
    if isinstance(value, bool) or not isinstance(value, str | int) or value not in known:
        raise ValueError('must be 0, 1 or "all"')
    return known[value]


_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([^\[\]:/,\s]+))(?::(\d{1,5}))?\Z")
DEFAULT_PORT = 9092


def addresses(value: Any) -> list[tuple[str, int]]:
    """`HOST[:PORT]` or `[IPV6][:PORT]`, several in a list or separated by commas."""
    entries = value.split(",") if isinstance(value, str) else value
    if not isinstance(entries, list | tuple | set) or not entries:
        raise ValueError("must be HOST:PORT, or several in a list or separated by commas")
    return [
        _address(entry) for entry in entries if not isinstance(entry, str) or entry.strip()
    ] or (addresses([]))


def _address(entry: Any) -> tuple[str, int]:
    if isinstance(entry, tuple) and len(entry) == 2:
        entry = f"[{entry[0]}]:{entry[1]}" if ":" in str(entry[0]) else f"{entry[0]}:{entry[1]}"
    if not isinstance(entry, str):
        raise ValueError(f"{entry!r} is not HOST:PORT")
    # kafka-python lets a listener's protocol stand before the address.
    place = entry.strip().rpartition("://")[2]
    if place.count(":") > 1 and _is_ipv6(place):
        return place, DEFAULT_PORT
    match = _ADDRESS.match(place)
    port = int(match[3] or DEFAULT_PORT) if match else 0
    if match is None or not 0 < port < 65536:
        raise ValueError(f"{entry.strip()!r} is not HOST:PORT with a port from 1 to 65535")
    return match[1] or match[2], port


def _is_ipv6(text: str) -> bool:
    import ipaddress

    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


_DURATION = re.compile(
    r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?\Z", re.IGNORECASE
)
_UNIT_S = (86400, 3600, 60, 1)


def duration_ms(text: str) -> int:
    """An ISO 8601 duration such as P3D or PT1H30M, in milliseconds."""
    match = _DURATION.match(text)
    if match is None or not any(match.groups()):
        raise ValueError(f"{text!r} is no ISO 8601 duration such as P3D or PT1H30M")
    parts = zip(match.groups(), _UNIT_S, strict=True)
    return round(sum(float(part) * unit for part, unit in parts if part) * 1000)


def offset_reset(value: Any) -> str:
    """Where to begin without a committed offset."""
    value = {"smallest": "earliest", "largest": "latest"}.get(value, value)
    if isinstance(value, str) and value.startswith("by_duration:"):
        duration_ms(value.removeprefix("by_duration:"))
    elif value not in ("earliest", "latest", "none"):
        raise ValueError('must be "earliest", "latest", "none" or "by_duration:PT1H"')
    return str(value)


_INSTANCE = re.compile(r"[A-Za-z0-9._-]{1,249}\Z")


def instance_id(value: Any) -> str:
    """The name of a static member."""
    if not isinstance(value, str) or not _INSTANCE.match(value) or value in (".", ".."):
        raise ValueError("must be up to 249 ASCII letters, digits, '.', '_' and '-'")
    return value
