"""The `mqlog` command.

Each subcommand is a module here, imported when it is asked for, so that `mqlog serve` starts
quickly and lean. Subcommands raise; `main` turns what they raise into one line on standard error
and an exit code.
"""

from __future__ import annotations

import io
import os
import sys
from importlib import import_module
from typing import Any

import click

from mqlog.errors import ConfigError, DataDirectoryInUseError, MqlogError, UsageError

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_DAMAGED = 65
EXIT_UNREACHABLE = 69
EXIT_IO = 74
EXIT_BUSY = 75
EXIT_CONFIG = 78
EXIT_INTERRUPTED = 130

EXIT_CODES = """\b
Exit codes:
    0  done
    1  the broker, or mqlog, refused
    2  wrong usage: no such option, argument or topic setting
   65  mqlog log: damaged bytes were found
   69  no broker answered
   74  a file or disk failed; mqlog serve: the data directory went offline
   75  the data directory is in use by another process
   78  mqlog serve: a setting is not legal
  130  interrupted (Ctrl-C)
"""


class Lazy(click.Group):
    """A group whose commands live in modules of their own: name -> (module, attribute, help)."""

    def __init__(self, *args: Any, lazy: dict[str, tuple[str, str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order they are written here."""
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        if cmd_name not in self._lazy:
            return None
        module, attribute, _ = self._lazy[cmd_name]
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in --help, without importing a command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in self._lazy.items()])


@click.group(
    cls=Lazy,
    lazy={
        "serve": ("mqlog.cli.serve", "serve", "Run a broker on a data directory."),
        "produce": ("mqlog.cli.produce", "produce", "Send lines as records."),
        "consume": ("mqlog.cli.consume", "consume", "Print the records of a topic."),
        "topic": ("mqlog.cli.topic", "topic", "List, create, describe, alter, delete, trim."),
        "group": ("mqlog.cli.group", "group", "List, describe, seek, delete consumer groups."),
        "config": (
            "mqlog.cli.config",
            "config",
            "List, read and change broker and topic settings.",
        ),
        "log": ("mqlog.cli.log", "log", "Read segment files while no broker runs, or beside it."),
        "version": ("mqlog.cli.version", "version", "Show the version and how it was built."),
    },
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EXIT_CODES,
)
def cli() -> None:
    """The event log for Python: a Kafka-compatible broker.

    mqlog serve starts one; any Kafka client can use it.
    """


def main(args: list[str] | None = None) -> None:
    """Run the command and exit with its code."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # paths may be no text at all
    try:
        code = cli.main(args=args, prog_name="mqlog", standalone_mode=False)
        sys.stdout.flush()
    except (click.exceptions.Abort, KeyboardInterrupt):
        _complain("interrupted")
        _abandon_output()
        code = EXIT_INTERRUPTED
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except BrokenPipeError:
        _abandon_output()
        code = EXIT_FAILED
    except (MqlogError, OSError) as error:
        _complain(str(error) if isinstance(error, MqlogError) else os_error(error))
        code = exit_code(error)
    sys.exit(code if isinstance(code, int) else 0)


def exit_code(error: Exception) -> int:
    """The exit code that an error means."""
    from mqlog.connection import ConnectionFailed  # sockets only where there was an error

    if isinstance(error, ConnectionFailed):
        return EXIT_UNREACHABLE
    if isinstance(error, ConfigError):
        return EXIT_CONFIG
    if isinstance(error, UsageError):
        return EXIT_USAGE
    if isinstance(error, DataDirectoryInUseError):
        return EXIT_BUSY
    if isinstance(error, OSError):
        return EXIT_IO
    return EXIT_FAILED


def os_error(error: OSError) -> str:
    """An OSError as file and reason."""
    reason = (error.strerror or str(error)).lower()
    return f"{error.filename}: {reason}" if error.filename else reason


def _abandon_output() -> None:
    """Let the interpreter flush to nowhere at its exit: the reader has left, or does not read."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(text: str) -> None:
    click.echo(f"mqlog: {text}", err=True)
