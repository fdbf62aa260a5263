"""`mqlog serve`: the command line of the broker. What it does then is `mqlog.broker.serve`."""

from __future__ import annotations

import os
from typing import Any

import click


class Setting(click.ParamType):  # type: ignore[type-arg] # generic since click 8.2
    """`NAME=VALUE`, split at the first `=`; the value may be empty."""

    name = "NAME=VALUE"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """The two halves; the broker's configuration knows which names and values are legal."""
        if isinstance(value, tuple):
            return value
        name, separator, text = str(value).partition("=")
        if not separator or not name:
            self.fail(f"{value!r} is not NAME=VALUE, as in log.retention.ms=3600000", param, ctx)
        return name, text


@click.command(short_help="Run a broker on a data directory.")
@click.argument(
    "data_dir", required=False, type=click.Path(file_okay=False), envvar="MQLOG_DATA_DIR"
)
@click.option(
    "--listen",
    multiple=True,
    metavar="HOST:PORT",
    help="Where to serve; port 0 takes a free one. May be repeated.  [default: localhost:9092]",
)
@click.option(
    "--advertise",
    metavar="HOST:PORT",
    help="The address told to clients.  [default: the one each of them reached]",
)
@click.option(
    "--set",
    "settings",
    type=Setting(),
    multiple=True,
    help="Any broker setting by its Kafka name, as in --set message.max.bytes=2000000.",
)
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False),
    envvar="MQLOG_CONFIG",
    show_envvar=True,
    help="A TOML file of settings.",
)
@click.option(
    "--durability",
    type=click.Choice(["fsync", "os"]),
    help="What acks=all waits for: the disk, or the kernel as Kafka does.  [default: fsync]",
)
@click.option("--io-threads", type=click.IntRange(min=1), help="Threads that move bytes.")
@click.option("--log-format", type=click.Choice(["text", "json"]), help="[default: text]")
@click.option("--stay-on-io-error", is_flag=True, help="Serve reads on after the disk failed.")
def serve(
    data_dir: str | None,
    listen: tuple[str, ...],
    advertise: str | None,
    settings: tuple[tuple[str, str], ...],
    config: str | None,
    durability: str | None,
    io_threads: int | None,
    log_format: str | None,
    stay_on_io_error: bool,
) -> int:
    """Run a broker on DATA_DIR (default: ./mqlog-data, or MQLOG_DATA_DIR) until Ctrl-C or SIGTERM.

    A line that begins `mqlog ready` on standard output says that clients can connect. Settings
    come from, the later the stronger: defaults, --config, MQLOG_... environment variables (the
    Kafka name in capitals with _ for dots), --set and the options, what clients change while it
    runs.

    \b
    Exit codes: 0 stopped by a signal · 1 cannot start · 2 wrong usage · 74 the disk failed
                75 the data directory is in use · 78 a setting is not legal
    """
    from mqlog.broker import serve as broker
    from mqlog.broker.settings import data_directory, load

    options = [(name, value, "--set") for name, value in settings]
    if listen:
        options.append(("listeners", ",".join(listen), "--listen"))
    if advertise:
        options.append(("advertised.listeners", advertise, "--advertise"))
    if durability:
        options.append(("mqlog.durability", durability, "--durability"))
    if io_threads:
        options.append(("mqlog.io.threads", str(io_threads), "--io-threads"))
    if log_format:
        options.append(("mqlog.log.format", log_format, "--log-format"))
    if stay_on_io_error:
        options.append(("mqlog.stay.on.io.error", "true", "--stay-on-io-error"))
    loaded = load(file=config, environ=os.environ, options=options)
    return broker.run(loaded, data_dir or data_directory(loaded))
