"""`Broker`: one broker that a test starts, kills and restarts."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol

from mqlog.errors import MqlogError


class BrokerError(MqlogError):
    """A broker did not start, or did not stop; the text ends with the end of its log."""


class Engine(Protocol):
    """One run of a broker: in a process of its own, or in threads of this one."""

    port: int
    pid: int

    def stop(self) -> None:
        """Stop cleanly."""

    def kill(self) -> None:
        """Stop as a crash would."""

    def running(self) -> bool:
        """Say whether it serves."""

    def log(self) -> str:
        """Return what it wrote."""


class Broker:
    """A broker on 127.0.0.1, for as long as the `with` block lasts.

    `data_dir`: kept afterwards if given, else a temporary one that is removed. `config`: settings
    by their Kafka names. `durability`: `fsync` or `os`. `port`: 0 takes a free one and keeps it
    over restarts. `in_process`: threads of this process instead of a process of its own.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        *,
        in_process: bool = False,
        durability: str = "fsync",
        config: Mapping[str, object] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        env: Mapping[str, str] | None = None,
        start_timeout_s: float = 30.0,
    ) -> None:
        """Start it; BrokerError says why it does not."""
        self._temporary = data_dir is None
        self.data_dir = os.fspath(data_dir or tempfile.mkdtemp(prefix="mqlog-test-"))
        self.config = {"mqlog.durability": durability}
        self.config.update({name: _text(value) for name, value in (config or {}).items()})
        self.host = host
        self._port = port
        self._in_process = in_process
        self._env = dict(env or {})
        self._start_timeout_s = start_timeout_s
        self._engine: Engine | None = None
        try:
            self.start()
        except BaseException:
            self._remove_temporary()
            raise

    # -- life --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start a broker that is not running, on the port it had."""
        if self._engine is not None and self._engine.running():
            raise BrokerError("the broker is running; stop() or kill() it first")
        self.stop()  # lets go of what is left of one that ended by itself
        if self._in_process:
            from mqlog.testing.in_process import InProcess

            self._engine = InProcess(self.data_dir, self.host, self._port, self.config)
        else:
            from mqlog.testing.subprocess import Subprocess

            self._engine = Subprocess(
                self.data_dir, self.host, self._port, self.config, self._env, self._start_timeout_s
            )
        self._port = self._engine.port

    def stop(self) -> None:
        """Stop cleanly, as SIGTERM does; nothing if it is not running."""
        if self._engine is not None:
            self._engine.stop()

    def kill(self) -> None:
        """SIGKILL: nothing is flushed, nothing is said."""
        self._running_engine().kill()

    def restart(self, *, config: Mapping[str, object] | None = None) -> None:
        """Stop if it runs, then start again with the same directory and port."""
        self.stop()
        self.config.update({name: _text(value) for name, value in (config or {}).items()})
        self.start()

    def __enter__(self) -> Broker:
        """Return itself: it runs already."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop, and remove a temporary data directory."""
        self.close()

    def close(self) -> None:
        """Stop, and remove a temporary data directory."""
        try:
            self.stop()
        finally:
            self._remove_temporary()

    def _remove_temporary(self) -> None:
        if self._temporary:
            shutil.rmtree(self.data_dir, ignore_errors=True)

    # -- facts -------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """Port it listens on."""
        return self._port

    @property
    def bootstrap_servers(self) -> str:
        """HOST:PORT, as clients want it."""
        return f"{self.host}:{self._port}"

    @property
    def pid(self) -> int:
        """Process id of the broker; ours if it is in-process."""
        return self._running_engine().pid

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._engine is not None and self._engine.running()

    @property
    def exit_code(self) -> int | None:
        """What its process ended with: negative if a signal did it, None while it runs."""
        return getattr(self._engine, "exit_code", None)

    @property
    def log(self) -> str:
        """What the broker wrote in this run."""
        return self._engine.log() if self._engine is not None else ""

    @property
    def faults(self) -> Any:
        """Switches for faults in the engine. In-process only: no network reaches them."""
        engine = self._running_engine()
        if not self._in_process:
            raise BrokerError("faults need Broker(in_process=True)")
        return engine.native.faults  # type: ignore[attr-defined]

    @property
    def native(self) -> Any:
        """The `mqlog._native.Broker`. In-process only."""
        engine = self._running_engine()
        if not self._in_process:
            raise BrokerError("the native handle needs Broker(in_process=True)")
        return engine.native  # type: ignore[attr-defined]

    def _running_engine(self) -> Engine:
        if self._engine is None or not self._engine.running():
            raise BrokerError("the broker is not running; start() or restart() it")
        return self._engine


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
