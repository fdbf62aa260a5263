"""`mqlog config`: settings of brokers and topics of a running cluster. Works with any Kafka."""

from __future__ import annotations

from typing import Any

import click

from mqlog.cli import configs
from mqlog.cli.configs import Change, Resource
from mqlog.cli.output import output_option, show
from mqlog.cli.topic import Setting, connection_options
from mqlog.connection import Cluster


@click.group()
def config() -> None:
    """List, read and change settings of brokers and topics, of mqlog or any Kafka broker.

    Without --topic or --broker it is the broker that --bootstrap names.
    """


def resource_options(command: Any) -> Any:
    """Add `--topic`, `--broker` and `--cluster`."""
    command = click.option(
        "--cluster", "whole", is_flag=True, help="The default for all brokers of the cluster."
    )(command)
    command = click.option("--broker", type=click.IntRange(min=0), help="A broker, by its id.")(
        command
    )
    return click.option("--topic", metavar="NAME", help="A topic.")(command)


def _resource(cluster: Cluster, topic: str | None, broker: int | None, whole: bool) -> Resource:
    if (topic is not None) + (broker is not None) + whole > 1:
        raise click.UsageError("--topic, --broker and --cluster exclude each other")
    if topic is not None:
        return Resource(configs.TOPIC, topic)
    if whole:
        return Resource(configs.BROKER, "")
    return Resource(configs.BROKER, str(configs.this_broker(cluster) if broker is None else broker))


@config.command("list")
@resource_options
@click.option("--all", "everything", is_flag=True, help="Settings at their default too.")
@connection_options
@output_option
def list_(
    topic: str | None,
    broker: int | None,
    whole: bool,
    everything: bool,
    bootstrap: str,
    timeout: float,
    output: str,
) -> None:
    """List settings that somebody set, with where that was."""
    with Cluster(bootstrap, timeout_s=timeout) as cluster:
        rows = configs.describe(cluster, _resource(cluster, topic, broker, whole))
    if not everything:
        rows = [row for row in rows if row["set_by"] != "default"]
    show(rows, output, empty="all settings are at their default (--all shows them)")


@config.command()
@click.argument("names", nargs=-1, required=True)
@resource_options
@connection_options
@output_option
def get(
    names: tuple[str, ...],
    topic: str | None,
    broker: int | None,
    whole: bool,
    bootstrap: str,
    timeout: float,
    output: str,
) -> None:
    """Show settings by name. A single one is printed as its bare value."""
    with Cluster(bootstrap, timeout_s=timeout) as cluster:
        rows = configs.describe(cluster, _resource(cluster, topic, broker, whole), names)
    if output == "table" and len(rows) == 1:
        value = rows[0]["value"]
        click.echo("" if value is None else value)
        return
    show(rows, output)


@config.command("set")
@click.argument("settings", nargs=-1, type=Setting())
@click.option("--unset", multiple=True, metavar="NAME", help="Back to the default.")
@click.option("--append", type=Setting(), multiple=True, help="Add to a list.")
@click.option("--subtract", type=Setting(), multiple=True, help="Take from a list.")
@click.option("--dry-run", is_flag=True, help="Have it checked, and change nothing.")
@resource_options
@connection_options
def set_(
    settings: tuple[tuple[str, str], ...],
    unset: tuple[str, ...],
    append: tuple[tuple[str, str], ...],
    subtract: tuple[tuple[str, str], ...],
    dry_run: bool,
    topic: str | None,
    broker: int | None,
    whole: bool,
    bootstrap: str,
    timeout: float,
) -> None:
    """Change settings, all or none: NAME=VALUE ..."""
    changes = [
        *(Change(configs.SET, name, value) for name, value in settings),
        *(Change(configs.UNSET, name, None) for name in unset),
        *(Change(configs.APPEND, name, value) for name, value in append),
        *(Change(configs.SUBTRACT, name, value) for name, value in subtract),
    ]
    if not changes:
        raise click.UsageError("nothing to change: give NAME=VALUE, --unset, --append, --subtract")
    with Cluster(bootstrap, timeout_s=timeout) as cluster:
        resource = _resource(cluster, topic, broker, whole)
        configs.alter(cluster, resource, changes, dry_run=dry_run)
    verb = "could alter" if dry_run else "altered"
    click.echo(f"{verb} {resource.text}: {', '.join(change.name for change in changes)}")
