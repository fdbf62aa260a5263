"""A broker in threads of this process."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Mapping

from mqlog.broker.journal import Journal
from mqlog.broker.listeners import resolve
from mqlog.broker.runtime import Runtime
from mqlog.broker.settings import Address, load
from mqlog.errors import StartError
from mqlog.testing.broker import BrokerError

_STOP_TIMEOUT_S = 30.0


class InProcess:
    """One run; its control loop has a Python thread of its own."""

    def __init__(self, data_dir: str, host: str, port: int, config: Mapping[str, str]) -> None:
        """Start it; it serves when this returns."""
        settings = load(options=[(name, value, "config") for name, value in config.items()])
        self._log = io.StringIO()
        journal = Journal(stream=self._log)
        self._runtime = Runtime(settings, data_dir, resolve([Address(host, port)]), journal)
        try:
            self._runtime.start()
        except StartError as error:
            raise BrokerError(str(error)) from error
        self.native = self._runtime.native
        self.port = self._runtime.addresses[0].port
        self.pid = os.getpid()
        self._thread = threading.Thread(target=self._runtime.run, name="mqlog-control", daemon=True)
        self._thread.start()

    def running(self) -> bool:
        """Say whether the control loop runs."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Stop the loop and shut down cleanly."""
        if self._end_loop():
            self._runtime.close()

    def kill(self) -> None:
        """Drop everything without flushing: what the kernel has is what is left."""
        if self._end_loop():
            self.native.kill()

    def _end_loop(self) -> bool:
        if not self._thread.is_alive():
            return False
        self._runtime.stop()
        self._thread.join(_STOP_TIMEOUT_S)
        if self._thread.is_alive():
            raise BrokerError(f"the control loop did not end within {_STOP_TIMEOUT_S:g} s")
        return True

    def log(self) -> str:
        """Return what the broker wrote."""
        return self._log.getvalue()
