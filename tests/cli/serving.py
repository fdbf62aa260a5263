"""A `mqlog serve` that a test reads, signals and buries."""

from __future__ import annotations

import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .command import MQLOG, environment

END_S = 20
READY = re.compile(
    r"mqlog ready listening on (?P<host>\S+):(?P<port>\d+) data (?P<data>.+) "
    r"cluster (?P<cluster>\S{22}) pid (?P<pid>\d+)\n"
)


class Serving:
    """A running broker: its ready line, and how it ended."""

    def __init__(self, *arguments: object, env: Mapping[str, str] | None, cwd: Path | None) -> None:
        """Start it and wait for the ready line."""
        self._err = tempfile.TemporaryFile()  # noqa: SIM115, closed by end()
        self.process = subprocess.Popen(
            [*MQLOG, "serve", *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._err,
            text=True,
            errors="surrogateescape",
            env=environment(env),
            cwd=cwd,
        )
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline()
        ready = READY.fullmatch(self.line)
        if ready is None:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"{self.line!r} is no ready line; {self.log()}")
        self.host, self.port = ready["host"], int(ready["port"])
        self.data, self.pid = ready["data"], int(ready["pid"])
        self.cluster = ready["cluster"]

    @property
    def bootstrap(self) -> str:
        """HOST:PORT."""
        return f"{self.host}:{self.port}"

    def log(self) -> str:
        """What it wrote to standard error so far."""
        self._err.seek(0)
        return self._err.read().decode()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(END_S)

    def end(self) -> None:
        """Leave nothing behind."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._err.close()


@contextmanager
def serving(
    *arguments: object,
    listen: str | None = "127.0.0.1:0",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Iterator[Serving]:
    """`mqlog serve ARGUMENTS` for as long as the block lasts."""
    where = ["--listen", listen] if listen else []
    one = Serving(*arguments, *where, env=env, cwd=cwd)
    try:
        yield one
    finally:
        one.end()
