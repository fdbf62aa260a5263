"""Tables and JSON: every command that lists things prints either."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
Row = dict[str, Any]


def output_option(command: F) -> F:
    """Add `--output table|json`."""
    option = click.option(
        "--output",
        "-o",
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="A table for people, or JSON for programs.",
    )
    return option(command)


def show(rows: Sequence[Row], output: str, *, empty: str = "nothing") -> None:
    """Print rows as a table with a heading, or as a JSON array of objects."""
    if output == "json":
        click.echo(json.dumps(list(rows), indent=2))
    elif rows:
        click.echo(table(rows))
    else:
        click.echo(empty)


def table(rows: Sequence[Row]) -> str:
    """Columns named after the first row's keys; numbers to the right."""
    names = list(rows[0])
    cells = [[_text(row[name]) for name in names] for row in rows]
    widths = [max(len(name), *(len(line[i]) for line in cells)) for i, name in enumerate(names)]
    right = [all(_is_number(row[name]) for row in rows) for name in names]

    def line(values: Sequence[str]) -> str:
        padded = (
            value.rjust(width) if to_right else value.ljust(width)
            for value, width, to_right in zip(values, widths, right, strict=True)
        )
        return "  ".join(padded).rstrip()

    heading = [name.upper().replace("_", " ") for name in names]
    return "\n".join([line(heading), *(line(row) for row in cells)])


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ",".join(str(item) for item in value) or "-"
    return str(value)
