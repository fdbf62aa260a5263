"""`mqlog version`."""

from __future__ import annotations

import platform

import click

from mqlog.cli.output import output_option, show


@click.command()
@output_option
def version(output: str) -> None:
    """Show the version and how it was built."""
    from mqlog import _native

    row = {
        "version": _native.__version__,
        "build": "debug" if _native.DEBUG_BUILD else "release",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
    show([row], output)
