"""A broker in a process of its own: `python -m mqlog serve`."""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping

from mqlog.testing.broker import BrokerError

_READY = re.compile(rb"^mqlog ready listening on \S+:(\d+) ")
_STOP_TIMEOUT_S = 30.0
_LOG_TAIL = 4_000


class Subprocess:
    """One run. Its log goes to an unlinked file, so that no pipe can fill up."""

    def __init__(
        self,
        data_dir: str,
        host: str,
        port: int,
        config: Mapping[str, str],
        env: Mapping[str, str],
        timeout_s: float,
    ) -> None:
        """Start it and wait until it serves."""
        # -P: a file of the test's folder must not stand in for a module.
        command = [sys.executable, "-P", "-m", "mqlog", "serve", data_dir]
        command += ["--listen", f"{host}:{port}"]
        for name, value in config.items():
            command += ["--set", f"{name}={value}"]
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
        self._ended = ""
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, **env},
            bufsize=0,
        )
        self.pid = self._process.pid
        try:
            self.port = self._wait_ready(time.monotonic() + timeout_s, timeout_s)
        except BaseException:
            self.kill()
            raise

    def _wait_ready(self, deadline: float, timeout_s: float) -> int:
        stdout = self._process.stdout
        assert stdout is not None
        seen = b""
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while True:
                left = deadline - time.monotonic()
                if left <= 0:
                    self.kill()
                    raise BrokerError(
                        f"the broker was not ready after {timeout_s:g} s{self._tail()}"
                    )
                if not selector.select(left):
                    continue
                chunk = os.read(stdout.fileno(), 4096)
                seen += chunk
                for line in seen.split(b"\n")[:-1]:
                    ready = _READY.match(line)
                    if ready:
                        return int(ready[1])
                if not chunk:
                    code = self._process.wait()
                    self._close_pipes()
                    raise BrokerError(f"the broker exited with code {code}{self._tail()}")

    def running(self) -> bool:
        """Say whether the process lives."""
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """What the process ended with; None while it lives."""
        return self._process.poll()

    def stop(self) -> None:
        """SIGTERM, and wait."""
        if self.running():
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.kill()
                text = f"the broker did not stop within {_STOP_TIMEOUT_S:g} s of SIGTERM"
                raise BrokerError(text + self._tail()) from None
        self._close_pipes()

    def kill(self) -> None:
        """SIGKILL, and wait."""
        if self.running():
            self._process.kill()
        self._process.wait()
        self._close_pipes()

    def _close_pipes(self) -> None:
        if self._process.stdout is not None:
            self._process.stdout.close()
        if not self._log.closed:
            self._ended = self.log()
            self._log.close()

    def log(self) -> str:
        """Return what it wrote to standard error."""
        if self._log.closed:
            return self._ended
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode(errors="replace")

    def _tail(self) -> str:
        text = self.log()[-_LOG_TAIL:].strip()
        return f"; its log ends with:\n{text}" if text else " and wrote nothing"
