"""Commits of one consumer: sent one after the other, so that a later one is never overtaken."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from mqlog.client.driver import Driver, Task
from mqlog.client.flow import After, Flow
from mqlog.client.offsets import Coordinators, Identity, commit
from mqlog.client.structs import OffsetAndMetadata, TopicPartition
from mqlog.errors import KafkaError

log = logging.getLogger("mqlog.client")

Offsets = Mapping[TopicPartition, OffsetAndMetadata]
Callback = Callable[[Offsets, Any], Any]


class CommitFuture:
    """An asynchronous commit; it goes on while the consumer is used."""

    def __init__(self, offsets: Offsets, callback: Callback | None) -> None:
        self.offsets = offsets
        self.is_done = False
        #: The broker's response, once it is there.
        self.value: Any = None
        #: What went wrong, if anything did.
        self.exception: BaseException | None = None
        self._heard: list[tuple[bool, Callable[[Any], Any]]] = []
        self._callback = callback

    def succeeded(self) -> bool:
        """Whether the offsets are committed."""
        return self.is_done and self.exception is None

    def failed(self) -> bool:
        """Whether they are known not to be."""
        return self.is_done and self.exception is not None

    def add_callback(self, function: Callable[[Any], Any]) -> CommitFuture:
        """Called with the response, if it succeeds."""
        return self._add(True, function)

    def add_errback(self, function: Callable[[Any], Any]) -> CommitFuture:
        """Called with the error, if it fails."""
        return self._add(False, function)

    def _add(self, good: bool, function: Callable[[Any], Any]) -> CommitFuture:
        self._heard.append((good, function))
        if self.is_done:
            self._call()
        return self

    def _end(self, value: Any, error: BaseException | None) -> None:
        self.is_done, self.value, self.exception = True, value, error

    def _call(self) -> None:
        """Calls who is to be told; what they raise is logged."""
        heard, self._heard = self._heard, []
        calls = [function for good, function in heard if good == (self.exception is None)]
        told = self.value if self.exception is None else self.exception
        for function in calls:
            _safely(function, told)
        callback, self._callback = self._callback, None
        if callback is not None:
            _safely(callback, self.offsets, told)


def _safely(function: Callable[..., Any], *told: Any) -> None:
    try:
        function(*told)
    except Exception:
        log.exception("the callback %r of a commit failed", function)


class Commits:
    """The commits of one consumer."""

    def __init__(
        self,
        group: str,
        driver: Driver,
        coordinators: Coordinators,
        identity: Callable[[], Identity],
        refused: Callable[[Identity, KafkaError], KafkaError],
    ) -> None:
        self._group = group
        self._driver = driver
        self._coordinators = coordinators
        self._identity = identity
        self._refused = refused
        self._queue: deque[CommitFuture] = deque()
        self._sender: Task | None = None
        self._ended: deque[CommitFuture] = deque()

    def send(self, offsets: Offsets, callback: Callback | None) -> CommitFuture:
        """Begins a commit that is tried once."""
        future = CommitFuture(offsets, callback)
        self._queue.append(future)
        if self._sender is None or self._sender.done:
            self._sender = self._driver.start(self._send_all())
        return future

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be answered."""
        return self._sender is None or self._sender.done

    def call_back(self) -> None:
        """Calls who waits for commits that have ended."""
        while self._ended:
            self._ended.popleft()._call()

    def run(self, offsets: Offsets, timeout_ms: float) -> None:
        """Commits, after all that was begun before, and waits."""
        self._driver.run(self.flow(offsets), timeout_ms, f"committing to group {self._group!r}")

    def flow(self, offsets: Offsets, limit_ms: float = float("inf")) -> Flow[Any]:
        """Commits after all that was begun before, again while that may help, within the limit."""
        until = time.monotonic() + limit_ms / 1000
        while self._sender is not None and not self._sender.done:
            yield After(self._sender)
        if not offsets:
            return None

        def attempt(node: int) -> Flow[Any]:
            return self._commit(node, offsets)

        def failed(error: KafkaError) -> None:
            if time.monotonic() >= until:
                raise error

        return (yield from self._coordinators.calling(self._group, attempt, failed))

    def _commit(self, node: int, offsets: Offsets) -> Flow[Any]:
        who = self._identity()
        try:
            return (yield from commit(node, who, offsets))
        except KafkaError as error:
            told = self._refused(who, error)
            if told is error:
                raise
            raise told from error

    def _send_all(self) -> Flow[None]:
        while self._queue:
            yield from self._send_one()

    def _send_one(self) -> Flow[None]:
        """The next of those that wait: once, and whoever waits hears what came of it."""
        future = self._queue.popleft()
        try:
            node = yield from self._coordinators.find(self._group)
            value = yield from self._commit(node, future.offsets)
        except KafkaError as error:
            self._coordinators.forget(self._group, error)
            future._end(None, error)
        else:
            future._end(value, None)
        self._ended.append(future)
