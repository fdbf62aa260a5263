"""A person at a terminal: reads what the command shows, types, presses Ctrl-C."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from types import TracebackType

from .command import MQLOG, TIMEOUT_S, environment

PATIENCE_S = 0.5
# The first terminal that a session opens is the one whose Ctrl-C it gets. What runs the tests may
# have switched that signal off.
AT_TERMINAL = """
import os, signal, sys
os.close(os.open(os.ttyname(0), os.O_RDWR))
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """`mqlog ARGUMENTS` with a terminal for standard input, output and error."""

    def __init__(self, *arguments: str) -> None:
        self._fd, theirs = pty.openpty()
        self.shown = ""
        self._process = subprocess.Popen(
            [sys.executable, "-c", AT_TERMINAL, *MQLOG, *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment(),
            start_new_session=True,
        )
        os.close(theirs)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._fd)

    def wait_for(self, text: str) -> None:
        """Read until `text` is shown."""
        while text not in self.shown:
            assert self._read(), f"{text!r} is not in {self.shown!r}"

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._fd, keys)

    def end(self, *, press: bytes = b"") -> int:
        """Read to the end; the exit code.

        `press` is pressed again where nothing happens: a signal that comes just before Python's
        `input` begins to wait is seen only after the next key.
        """
        while self._read(press):
            pass
        return self._process.wait(TIMEOUT_S)

    def _read(self, press: bytes = b"") -> bool:
        while press and not select.select([self._fd], [], [], PATIENCE_S)[0]:
            self.type(press)
        try:
            some = os.read(self._fd, 4096)
        except OSError:  # how Linux says that the other side is closed
            return False
        self.shown += some.decode()
        return bool(some)
