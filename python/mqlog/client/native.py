"""The native client, as the driver and the three classes use it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from mqlog import _native
from mqlog.client.config import Config
from mqlog.client.driver import Driver
from mqlog.client.flow import Backoff, Flow, Refresh
from mqlog.client.metadata import Snapshot
from mqlog.errors import (
    KafkaConfigurationError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    NoBrokersAvailable,
    SaslAuthenticationFailedError,
    UsedAfterForkError,
)

#: Without `bootstrap_timeout_ms`, how long addresses that refuse at once are tried again.
PATIENCE_S = 2.0


class IoThread:
    """A thread for the sockets of several clients: give the same one to each as `io_thread`."""

    def __init__(self) -> None:
        self._native = _native.IoThread()


class Native:
    """A `_native.Client` whose snapshots are ours."""

    def __init__(self, config: Config) -> None:
        shared = config["io_thread"]
        if shared is not None and not isinstance(shared, IoThread):
            raise KafkaConfigurationError("io_thread", shared, "must be an mqlog.IoThread")
        self.client = _native.Client(config.net(), None if shared is None else shared._native)
        # What is called most goes straight through.
        self.version = self.client.version
        self.call = self.client.call
        self.ticket = self.client.ticket
        self.wait = self.client.wait
        self.refresh = self.client.refresh
        self._snapshot = Snapshot(self.client.snapshot())
        self._wanted: frozenset[str] = frozenset()

    def snapshot(self) -> Snapshot:
        """What is known of the cluster now."""
        if self.client.revision() != self._snapshot.revision:
            self._snapshot = Snapshot(self.client.snapshot())
        return self._snapshot

    def want(self, topics: Iterable[str]) -> None:
        """Keep the metadata of these topics fresh, and of no others."""
        wanted = frozenset(topics)
        if wanted != self._wanted:
            self._wanted = wanted
            self.client.want(sorted(wanted))

    def metrics(self) -> dict[str, Any]:
        """Counters by name."""
        return self.client.metrics()

    def close(self) -> None:
        """Closes all connections; in a child of a fork they are the parent's."""
        with suppress(UsedAfterForkError):
            self.client.close()


def connect(config: Config) -> tuple[Native, Driver]:
    """Connects to whoever answers first. NoBrokersAvailable with the reason if nobody does."""
    native = Native(config)
    driver = Driver(
        native,
        retry_backoff_ms=config["retry_backoff_ms"],
        retry_backoff_max_ms=config["retry_backoff_max_ms"],
    )
    limit = config["bootstrap_timeout_ms"]
    patience = float("inf") if "bootstrap_timeout_ms" in config.given else PATIENCE_S
    try:
        driver.run(_bootstrap(patience), limit, "connecting", "bootstrap_timeout_ms")
    except (KafkaTimeoutError, KafkaConnectionError) as error:
        native.close()
        last = error.__cause__ if isinstance(error, KafkaTimeoutError) else error
        raise NoBrokersAvailable(
            f"{last or error}; none of bootstrap_servers={_shown(config)} could be reached",
            hint=last.hint if isinstance(last, KafkaError) else None,
        ) from None
    except SaslAuthenticationFailedError as error:
        native.close()
        user = config["sasl_plain_username"]
        raise type(error)(f"{error} (sasl_plain_username={user})", hint=error.hint) from None
    except BaseException:
        native.close()
        raise
    return native, driver


def _bootstrap(patience_s: float) -> Flow[None]:
    start, attempt = time.monotonic(), 0
    while True:
        try:
            yield Refresh([])
            return
        except KafkaError as error:
            if not error.retriable or time.monotonic() - start >= patience_s:
                raise
            attempt += 1
            yield Backoff(attempt, error)


def _shown(config: Config) -> str:
    places = config["bootstrap_servers"]
    hosts = [(f"[{host}]" if ":" in host else host, port) for host, port in places]
    return ",".join(f"{host}:{port}" for host, port in hosts)
