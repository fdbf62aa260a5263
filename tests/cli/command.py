"""Running the command, and comparing what it prints with the files in golden/."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

GOLDEN = Path(__file__).parent / "golden"
TIMEOUT_S = 60
MQLOG = [sys.executable, "-P", "-m", "mqlog"]


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Standard output as one JSON value."""
        return json.loads(self.out)

    def lines(self) -> list[Any]:
        """Standard output as one JSON value a line."""
        return [json.loads(line) for line in self.out.splitlines()]


def environment(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours without what would configure mqlog, and with `env`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MQLOG_")}
    return {**kept, "COLUMNS": "100", **(env or {})}


def mqlog(
    *arguments: object, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Done:
    """Run `mqlog ARGUMENTS` to its end, with nobody at the keyboard."""
    done = subprocess.run(
        [*MQLOG, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        env=environment(env),
        cwd=cwd,
        timeout=TIMEOUT_S,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def golden(name: str, text: str) -> None:
    """Compare with golden/NAME; MQLOG_TEST_UPDATE_GOLDEN=1 writes it anew, to be read in a diff."""
    path = GOLDEN / name
    if os.environ.get("MQLOG_TEST_UPDATE_GOLDEN"):
        path.write_text(text)
    # Where a line breaks is click's affair, and differs between its releases.
    assert text.split() == path.read_text().split()
