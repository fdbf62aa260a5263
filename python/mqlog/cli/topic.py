"""`mqlog topic`: topics of a running broker, over one plain connection. Works with any Kafka."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from mqlog.cli import admin
from mqlog.cli.output import Row, output_option, show
from mqlog.connection import DEFAULT_TIMEOUT_S, Cluster
from mqlog.errors import MqlogError, TopicAlreadyExistsError

F = TypeVar("F", bound=Callable[..., Any])


def connection_options(command: F) -> F:
    """Add `--bootstrap`, with the name that Kafka's tools have for it, and `--timeout`."""
    command = click.option(
        "--timeout",
        type=click.FloatRange(min=0.001),
        default=DEFAULT_TIMEOUT_S,
        show_default=True,
        metavar="SECONDS",
        help="How long to wait for the broker, for each request.",
    )(command)
    return click.option(
        "--bootstrap",
        "--bootstrap-server",
        "-b",
        default="127.0.0.1:9092",
        show_default=True,
        envvar="MQLOG_BOOTSTRAP",
        show_envvar=True,
        metavar="HOST:PORT",
        help="A broker; of several, separated by commas, the first that answers.",
    )(command)


class Setting(click.ParamType):  # type: ignore[type-arg] # generic since click 8.2
    """`NAME=VALUE`."""

    name = "NAME=VALUE"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Split at the first `=`."""
        if isinstance(value, tuple):
            return value
        name, separator, text = str(value).partition("=")
        if not separator or not name:
            self.fail(f"{value!r} is not NAME=VALUE, as in retention.ms=3600000", param, ctx)
        return name, text


@click.group()
def topic() -> None:
    """List, create, describe, alter, delete and trim topics, of mqlog or any Kafka broker."""


@topic.command("list")
@click.option("--internal", is_flag=True, help="Topics the broker keeps for itself as well.")
@connection_options
@output_option
def list_(bootstrap: str, timeout: float, internal: bool, output: str) -> None:
    """List the topics."""
    with Cluster(bootstrap, timeout_s=timeout) as cluster:
        show(admin.list_topics(cluster, internal=internal), output, empty="no topics")


@topic.command()
@click.argument("name")
@click.option("--partitions", "-p", type=click.IntRange(min=1), help="Default: the broker's.")
@click.option("--replicas", type=click.IntRange(min=1), help="Default: the broker's.")
@click.option("--set", "settings", type=Setting(), multiple=True, help="A topic setting.")
@click.option("--if-not-exists", is_flag=True, help="It is fine if the topic exists.")
@connection_options
@output_option
def create(
    name: str,
    partitions: int | None,
    replicas: int | None,
    settings: tuple[tuple[str, str], ...],
    if_not_exists: bool,
    bootstrap: str,
    timeout: float,
    output: str,
) -> None:
    """Create a topic."""
    with Cluster(bootstrap, timeout_s=timeout) as cluster:
        try:
            made = admin.create_topic(
                cluster, name, partitions or -1, replicas or -1, dict(settings)
            )
        except TopicAlreadyExistsError:
            if not if_not_exists:
                raise
            _, found = admin.find_topic(cluster, name)
            made = {
                "name": name,
                "partitions": len(found.partitions),
                "topic_id": admin.hex_id(found.topic_id),
            }
        show([made], output)


@topic.command()
@click.argument("name")
@click.option("--all", "everything", is_flag=True, help="Settings that are at their default too.")
@connection_options
@output_option
def describe(name: str, everything: bool, bootstrap: str, timeout: float, output: str) -> None:
    """Show a topic's partitions, offsets, sizes and settings."""
    with Cluster(bootstrap, timeout_s=timeout) as cluster:
        found, partitions = admin.partitions_of(cluster, name)
        known = admin.configs_of(cluster, name)
    settings = [row for row in known if everything or row["set_by"] != admin.DEFAULT]
    if output == "json":
        whole = {
            "name": name,
            "topic_id": admin.hex_id(found.topic_id),
            "internal": found.is_internal,
            "partitions": partitions,
            "settings": settings,
        }
        show([whole], output)
        return
    click.echo(f"topic {name}, id {admin.hex_id(found.topic_id) or 'none'}\n")
    # A column that has nothing to say is left out for people; programs get every key.
    shown = [
        {
            key: value
            for key, value in row.items()
            if any(r.get(key) is not None for r in partitions)
        }
        for row in partitions
    ]
    keys = dict.fromkeys(key for row in shown for key in row)
    show([{key: row.get(key) for key in keys} for row in shown], output, empty="no partitions")
    click.echo()
    show(settings, output, empty="all settings are at their default (--all shows them)")
    if _is_never_cleaned(known) and not found.is_internal:
        click.echo(
            "\ncleanup.policy=compact: records need keys. Old values of a key are kept for now: "
            "mqlog does not clean yet."
        )


def _is_never_cleaned(settings: list[Row]) -> bool:
    """Whether this is a compacted topic of an mqlog, by the settings that it alone has."""
    values = {row["setting"]: row["value"] or "" for row in settings}
    return "mqlog.validate" in values and "compact" in values.get("cleanup.policy", "").split(",")


@topic.command()
@click.argument("name")
@click.option("--set", "settings", type=Setting(), multiple=True, help="A topic setting.")
@click.option("--unset", multiple=True, metavar="NAME", help="Back to the default.")
@click.option("--partitions", "-p", type=click.IntRange(min=1), help="More partitions.")
@connection_options
def alter(
    name: str,
    settings: tuple[tuple[str, str], ...],
    unset: tuple[str, ...],
    partitions: int | None,
    bootstrap: str,
    timeout: float,
) -> None:
    """Change a topic's settings or raise its number of partitions."""
    if not (settings or unset or partitions):
        raise click.UsageError("nothing to change: give --set, --unset or --partitions")
    with Cluster(bootstrap, timeout_s=timeout) as cluster:
        if settings or unset:
            admin.alter_configs(cluster, name, dict(settings), unset)
        if partitions:
            admin.set_partitions(cluster, name, partitions)
    click.echo(f"altered topic {name}")


@topic.command()
@click.argument("names", nargs=-1, required=True)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@connection_options
def delete(names: tuple[str, ...], yes: bool, bootstrap: str, timeout: float) -> None:
    """Delete topics and all their records."""
    confirm(yes, f"Delete {', '.join(names)} and all records in them?")
    with Cluster(bootstrap, timeout_s=timeout) as cluster:
        deleted, refused = admin.delete_topics(cluster, names)
    if deleted:
        click.echo(f"deleted {', '.join(deleted)}")
    if refused:
        raise refused


@topic.command()
@click.argument("name")
@click.option(
    "--before",
    required=True,
    metavar="OFFSET",
    help="The first offset to keep; `end` deletes all there are now.",
)
@click.option(
    "--partition",
    "-p",
    "partitions",
    type=click.IntRange(min=0),
    multiple=True,
    help="Default: all.",
)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@connection_options
@output_option
def trim(
    name: str,
    before: str,
    partitions: tuple[int, ...],
    yes: bool,
    bootstrap: str,
    timeout: float,
    output: str,
) -> None:
    """Delete a topic's records below an offset."""
    offset = admin.LATEST if before == "end" else _offset(before)
    confirm(yes, f"Delete the records of {name} before {before}?")
    with Cluster(bootstrap, timeout_s=timeout) as cluster:
        show(admin.trim(cluster, name, partitions, offset), output)


def _offset(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 1 << 63):
        raise click.BadParameter(f"{text!r} is neither an offset nor `end`", param_hint="--before")
    return int(text)


def confirm(yes: bool, question: str) -> None:
    """Ask before something is deleted; `yes`: it was answered already."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("this deletes data and nobody can be asked here: add --yes")
    if not click.confirm(question):
        raise MqlogError("nothing was deleted")
