"""What a setting is: its type, its default, what values are legal. Texts of errors are Kafka's."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

UNKNOWN, BOOLEAN, STRING, INT, SHORT, LONG, DOUBLE, LIST, CLASS, PASSWORD = range(10)

TYPE_NAMES = {
    "boolean": BOOLEAN,
    "string": STRING,
    "int": INT,
    "short": SHORT,
    "long": LONG,
    "double": DOUBLE,
    "list": LIST,
    "class": CLASS,
    "password": PASSWORD,
}
_BITS = {SHORT: 15, INT: 31, LONG: 63}
_NUMBER = {SHORT: "SHORT", INT: "INT", LONG: "LONG", DOUBLE: "DOUBLE"}

#: What may stand around a value. Not all that `str.strip` takes: `int` refuses some of that.
_BLANK = " \t\n\v\f\r"

#: Says what is wrong with a value that has the right type, or None.
Check = Callable[[str], str | None]


class ConfigDef(NamedTuple):
    """One setting. `effect` says whether it changes anything here."""

    name: str
    kind: int
    default: str | None
    check: Check | None
    effect: bool
    doc: str
    #: Broker settings that stand in for a topic's, the first one first: (name, factor to its unit).
    synonyms: tuple[tuple[str, int], ...] = ()
    #: Whether the value can be altered while the broker runs.
    dynamic: bool = True

    def problem(self, value: str) -> str | None:
        """Return what is wrong with `value` in Kafka's words, or None."""
        wrong = type_problem(self.kind, value) or (self.check(value) if self.check else None)
        if wrong is None:
            return None
        return f"Invalid value {value} for configuration {self.name}: {wrong}"


def type_problem(kind: int, value: str) -> str | None:
    """Say why `value` is not of type `kind`, or None."""
    text = value.strip(_BLANK)
    if kind == BOOLEAN:
        legal = text.lower() in ("true", "false")
        return None if legal else "Expected value to be either true or false"
    if kind in _BITS:
        digits = text[1:] if text[:1] in "+-" else text
        # isascii: int() takes other scripts' digits and underscores, Kafka does not.
        if digits.isascii() and digits.isdigit() and len(digits) < 25:
            number, edge = int(text), 1 << _BITS[kind]
            if -edge <= number < edge:
                return None
        return f"Not a number of type {_NUMBER[kind]}"
    if kind == DOUBLE:
        try:
            float(text)
        except ValueError:
            return "Not a number of type DOUBLE"
    return None


def split_list(value: str) -> list[str]:
    """Return the elements of a list value."""
    return [part.strip() for part in value.split(",") if part.strip()]


def at_least(low: int) -> Check:
    """Allow `low` and above."""
    return lambda value: None if float(value) >= low else f"Value must be at least {low}"


def between(low: float, high: float) -> Check:
    """Allow `low` to `high`, both included."""

    def check(value: str) -> str | None:
        if float(value) < low:
            return f"Value must be at least {low:g}"
        return f"Value must be no more than {high:g}" if float(value) > high else None

    return check


def between_or(low: int, high: int, other: int) -> Check:
    """Allow `low` to `high`, and `other`."""
    text = f"Value must be between {low} and {high} or equal to {other}"
    return lambda value: None if int(value) == other or low <= int(value) <= high else text


def one_of(*words: str) -> Check:
    """Allow these words."""
    return lambda value: None if value in words else f"String must be one of: {', '.join(words)}"


def list_of(*words: str) -> Check:
    """Allow any number of these words."""

    def check(value: str) -> str | None:
        for part in split_list(value):
            if part not in words:
                return f"String must be one of: {', '.join(words)}"
        return None

    return check
