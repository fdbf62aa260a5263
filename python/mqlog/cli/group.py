"""`mqlog group`: consumer groups of a running cluster. Works with any Kafka."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from mqlog.cli import admin, groups
from mqlog.cli.groups import Place
from mqlog.cli.moments import milliseconds
from mqlog.cli.output import Row, output_option, show
from mqlog.cli.topic import confirm, connection_options
from mqlog.connection import Cluster
from mqlog.errors import MqlogError, UsageError

_EXPORT_FIELDS = 3


@click.group()
def group() -> None:
    """List, describe, move and delete consumer groups, of mqlog or any Kafka broker."""


@group.command("list")
@click.option("--state", "states", multiple=True, help="Only groups in this state, as Stable.")
@connection_options
@output_option
def list_(states: tuple[str, ...], bootstrap: str, timeout: float, output: str) -> None:
    """List the groups."""
    with Cluster(bootstrap, timeout_s=timeout) as cluster:
        show(groups.list_groups(cluster, states), output, empty="no groups")


@group.command()
@click.argument("names", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All groups.")
@click.option("--members", is_flag=True, help="Members and what they are assigned, not lag.")
@connection_options
@output_option
def describe(
    names: tuple[str, ...],
    everything: bool,
    members: bool,
    bootstrap: str,
    timeout: float,
    output: str,
) -> None:
    """Show a group's state, and per partition what it has committed and how far it lags."""
    if bool(names) == everything:
        raise click.UsageError("name groups, or ask for --all")
    with Cluster(bootstrap, timeout_s=timeout) as cluster:
        found = [str(row["group"]) for row in groups.list_groups(cluster, ())] if everything else ()
        described = [_described(cluster, name, members=members) for name in (*names, *found)]
    if output == "json":
        show(described, output)
        return
    for number, one in enumerate(described):
        if number:
            click.echo()
        _print(one, members=members)


def _described(cluster: Cluster, name: str, *, members: bool) -> Row:
    found, rows = groups.lag_rows(cluster, name)
    lags = [row["lag"] for row in rows if row["lag"] is not None]
    whole: Row = {
        "group": name,
        "state": found.group_state,
        "protocol_type": found.protocol_type or None,
        "protocol": found.protocol_data or None,
        "members": len(found.members),
        "lag": sum(lags) if lags else None,
    }
    whole["rows" if members else "partitions"] = groups.member_rows(found) if members else rows
    return whole


def _print(one: Row, *, members: bool) -> None:
    facts = [f"group {one['group']}", str(one["state"]).lower()]
    facts += [str(one["protocol"])] if one["protocol"] else []
    facts.append(f"{one['members']} member{'' if one['members'] == 1 else 's'}")
    if one["lag"] is not None:
        facts.append(f"lag {one['lag']}")
    click.echo(", ".join(facts))
    rows = one["rows" if members else "partitions"]
    if rows:
        click.echo()
        shown = [key for key in rows[0] if any(row[key] is not None for row in rows)]
        show([{key: row[key] for key in shown} for row in rows], "table")
    if not members:
        _print_totals(rows)


def _print_totals(rows: Iterable[Row]) -> None:
    lags: dict[str, int] = {}
    for row in rows:
        lags[row["topic"]] = lags.get(row["topic"], 0) + (row["lag"] or 0)
    if len(lags) > 1:
        click.echo()
        show([{"topic": topic, "lag": lag} for topic, lag in lags.items()], "table")


@group.command()
@click.argument("name")
@click.option(
    "--to",
    required=True,
    metavar="WHERE",
    help="start, end, OFFSET, +N or -N (from what is committed), @TIME (ISO 8601 or ms since "
    "1970), or a FILE of topic,partition,offset lines, as Kafka's tool exports.",
)
@click.option(
    "--topic",
    "topics",
    multiple=True,
    metavar="TOPIC[:P,P]",
    help="Only this topic, or these partitions of it.",
)
@click.option("--all-topics", is_flag=True, help="Every topic the group has committed.")
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@connection_options
@output_option
def seek(
    name: str,
    to: str,
    topics: tuple[str, ...],
    all_topics: bool,
    dry_run: bool,
    bootstrap: str,
    timeout: float,
    output: str,
) -> None:
    """Move what a group has committed; it must have no members."""
    target = _target(to)
    from_file = isinstance(target, dict)
    if (bool(topics) + all_topics) != (0 if from_file else 1):
        problem = "a file says which" if from_file else "name topics, or ask for --all-topics"
        raise click.UsageError(f"which partitions? {problem}")
    with Cluster(bootstrap, timeout_s=timeout) as cluster:
        members = _members(cluster, name)
        if members and not dry_run:
            clients = ", ".join(sorted({member.client_id for member in members}))
            raise MqlogError(
                f"group {name!r} has {len(members)} members ({clients}): stop them first"
            )
        before = {place: offset for place, (offset, _) in groups.committed(cluster, name).items()}
        if isinstance(target, dict):
            places: Iterable[Place] = target
        else:
            places = before if all_topics else _places(cluster, topics)
        after = _positions(cluster, target, before, sorted(places))
        if not dry_run and after:
            groups.commit(cluster, name, after)
    rows = [
        {"topic": place[0], "partition": place[1], "before": before.get(place), "after": offset}
        for place, offset in after.items()
    ]
    show(rows, output, empty="nothing to move: the group has committed nothing")
    if dry_run and output == "table":
        click.echo("nothing was changed (--dry-run)")


def _members(cluster: Cluster, name: str) -> list[Any]:
    try:
        return list(groups.describe(cluster, name).members)
    except MqlogError as error:
        if getattr(error, "code", None) == groups.NOT_FOUND:
            return []  # a new group may begin anywhere
        raise


def _target(text: str) -> str | dict[Place, int]:
    if text in ("start", "end") or text.removeprefix("+").removeprefix("-").isdecimal():
        return text
    if text.startswith("@"):
        return f"@{milliseconds(text[1:])}"
    path = Path(text)
    if not path.is_file():
        raise UsageError(f"--to {text!r} is neither start, end, a number, @TIME nor a file")
    return _read(path)


def _read(path: Path) -> dict[Place, int]:
    """The lines of a file: topic,partition,offset, or JSON objects with these names."""
    found: dict[Place, int] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            if line.lstrip().startswith("{"):
                row = json.loads(line)
                place, offset = (str(row["topic"]), int(row["partition"])), int(row["offset"])
            else:
                fields = next(csv.reader([line]))
                if len(fields) != _EXPORT_FIELDS:
                    raise ValueError(line)
                place, offset = (fields[0], int(fields[1])), int(fields[2])
        except (ValueError, KeyError, TypeError):
            raise UsageError(f"{path}:{number}: {line!r} is not topic,partition,offset") from None
        found[place] = offset
    return found


def _places(cluster: Cluster, topics: Iterable[str]) -> list[Place]:
    places: list[Place] = []
    for text in topics:
        name, separator, numbers = text.rpartition(":")
        if not separator:
            name, numbers = text, ""
        _, topic = admin.find_topic(cluster, name)
        known = sorted(p.partition_index for p in topic.partitions)
        try:
            wanted = [int(number) for number in numbers.split(",")] if numbers else known
        except ValueError:
            raise UsageError(f"--topic {text!r} is not TOPIC or TOPIC:0,1,...") from None
        missing = [index for index in wanted if index not in known]
        if missing:
            raise MqlogError(f"topic {name!r} has no partition {missing[0]}; it has {len(known)}")
        places += [(name, index) for index in wanted]
    return places


def _positions(
    cluster: Cluster, target: str | dict[Place, int], before: dict[Place, int], places: list[Place]
) -> dict[Place, int]:
    """Where each partition goes, within what it holds."""
    starts = groups.offsets_at(cluster, places, admin.EARLIEST)
    ends = groups.offsets_at(cluster, places, admin.LATEST)
    timed: dict[Place, int] = {}
    if isinstance(target, str) and target.startswith("@"):
        timed = groups.offsets_at(cluster, places, int(target[1:]))
    after: dict[Place, int] = {}
    for place in places:
        if place not in starts or place not in ends:
            click.echo(f"skipped partition {place[1]} of {place[0]}: it is not there", err=True)
            continue
        start, end = starts[place], ends[place]
        if isinstance(target, dict):
            wanted = target[place]
        elif target == "start":
            wanted = start
        elif target == "end":
            wanted = end
        elif target.startswith("@"):
            wanted = timed.get(place, -1)
            wanted = end if wanted < 0 else wanted  # nothing is that new
        elif target[0] in "+-":
            wanted = before.get(place, start) + int(target)
        else:
            wanted = int(target)
        after[place] = min(max(wanted, start), end)
        if after[place] != wanted:
            click.echo(
                f"partition {place[1]} of {place[0]} holds {start} to {end}, not {wanted}: "
                f"{after[place]} is taken",
                err=True,
            )
    return after


@group.command()
@click.argument("names", nargs=-1, required=True)
@click.option(
    "--topic",
    "topics",
    multiple=True,
    metavar="TOPIC[:P,P]",
    help="Only what the group has committed for this topic, or these partitions of it.",
)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@connection_options
def delete(
    names: tuple[str, ...], topics: tuple[str, ...], yes: bool, bootstrap: str, timeout: float
) -> None:
    """Delete groups that have no members, with what they have committed."""
    what = f"the offsets of {', '.join(topics)} in" if topics else "groups"
    confirm(yes, f"Delete {what} {', '.join(names)}?")
    with Cluster(bootstrap, timeout_s=timeout) as cluster:
        if topics:
            for name in names:
                groups.delete_offsets(cluster, name, _places(cluster, topics))
            click.echo(f"deleted offsets of {', '.join(names)}")
            return
        deleted, refused = groups.delete(cluster, names)
    if deleted:
        click.echo(f"deleted {', '.join(deleted)}")
    if refused:
        raise refused
