"""What KafkaConsumer stands on: polling, one thread at a time, and the end."""

from __future__ import annotations

import atexit
import logging
import sys
import time
from collections.abc import Mapping
from typing import Any, TypeVar

from mqlog import _native
from mqlog._consumer import ConsumerBase
from mqlog.client.config import ConsumerConfig
from mqlog.client.control import Control
from mqlog.client.exit import FORGOTTEN_S, at_exit
from mqlog.client.flow import Flow
from mqlog.client.heart import NativeHeart
from mqlog.client.native import connect
from mqlog.client.structs import TopicPartition
from mqlog.errors import (
    ClosedError,
    IllegalStateError,
    KafkaError,
    RetriableError,
    UsedAfterForkError,
)

T = TypeVar("T")
log = logging.getLogger("mqlog.client")

#: How long `close` waits for a thread that polls, at most.
HANDOVER_S = 1.0


class Polling(ConsumerBase):
    """A consumer as far as its user does not see it; records are `ConsumerBase`'s."""

    def __init__(self, dotted: Mapping[str, Any] | None, settings: Mapping[str, Any]) -> None:
        self._closed = True
        config = self._config = ConsumerConfig(dotted, settings)
        self._core, driver = connect(config)
        self._native = _native.Consumer(self._core.client, config.native())
        self._attach(
            self._native,
            max_poll_records=config["max_poll_records"],
            key_deserializer=config["key_deserializer"],
            value_deserializer=config["value_deserializer"],
            place=TopicPartition,
        )
        self._control = Control(
            config, driver, self._core, self._native, NativeHeart(self._native, config)
        )
        self._stop = False
        self._closed = False
        self._exit = at_exit(self, Polling._forgotten)

    @property
    def config(self) -> Mapping[str, Any]:
        """The settings in force, by name."""
        return self._config

    def _refill(self) -> bool:
        """Polls for the iterator; False when nothing came for consumer_timeout_ms."""
        if self._stop or self._closed:
            return False
        return bool(self._wait(self._native.is_ready, self._config["consumer_timeout_ms"]))

    def _wait(self, take: Any, timeout_ms: float) -> Any:
        """Polls until `take` gets something; None once the time has passed."""
        if timeout_ms < 0:
            raise ValueError(f"timeout_ms={timeout_ms}: must not be negative")
        until = time.monotonic() + timeout_ms / 1000
        control, driver = self._control, self._control.driver
        control.polled()
        while True:
            ticket = self._core.ticket()
            due = control.turn()
            self._decide()
            found = take()
            if found:
                return found
            if self._stop or time.monotonic() >= until:
                return None
            driver.sleep(ticket, min(due, until))

    def _decide(self) -> None:
        """Answers what the core could not decide, or raises it."""
        for event in self._native.events():
            what, *told = event
            if what == "error":
                raise told[0]
            topic, index, offset = told[:3]
            place = TopicPartition(topic, index)
            if what == "validate":
                self._control.positions.doubted(place, offset, told[3])
            elif offset is not None:
                self._control.positions.out_of_range(place, offset)

    def _until(self, condition: Any, timeout_ms: float) -> None:
        until = time.monotonic() + timeout_ms / 1000
        while not condition() and time.monotonic() < until:
            ticket = self._core.ticket()
            due = self._control.turn()
            if not condition():
                self._control.driver.sleep(ticket, min(due, until))

    def _run(self, flow: Flow[T], what: str, timeout_ms: float | None = None) -> T:
        limit, setting = timeout_ms, "timeout_ms"
        if limit is None:
            limit, setting = self._config["default_api_timeout_ms"], "default_api_timeout_ms"
        return self._control.driver.run(flow, limit, what, setting)

    def metrics(self) -> dict[str, dict[str, Any]]:
        """Counters by name: `consumer` of records and fetches, `connections` of requests."""
        return {"consumer": self._native.metrics(), "connections": self._core.metrics()}

    def bootstrap_connected(self) -> bool:
        """Whether any connection is open."""
        return self._core.client.bootstrap_connected()

    def close(self, autocommit: bool = True, timeout_ms: float | None = None) -> None:
        """Commits where that is automatic, leaves the group, and closes the connections.

        Takes `timeout_ms` (`request_timeout_ms`) at most; what could not be done by then is logged.
        A thread that polls returns at once. Twice is as good as once.
        """
        if self._closed:
            return
        try:
            self._native.check()
        except UsedAfterForkError:  # its threads and sockets are the parent's, to close
            self._closed = True
            return
        limit = self._config["request_timeout_ms"] if timeout_ms is None else timeout_ms
        self._stop = True
        self._take_over()
        try:
            self._settle()
            self._control.close(autocommit=autocommit, timeout_ms=limit)
        except RetriableError as error:
            log.warning("the consumer was closed before all was done: %s", error)
        finally:
            self._end()
            self._config.close("key_deserializer", "value_deserializer")

    def _end(self) -> None:
        self._closed = True
        atexit.unregister(self._exit)
        self._release()
        self._native.close()
        self._core.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True) and not sys.is_finalizing():
            self._forgotten()

    def _forgotten(self) -> None:
        """Leaves the group, whose other members else wait for this one for session_timeout_ms.

        Nothing is committed: nobody has said that the last records were done with.
        """
        try:
            self._native.check()
            self._acquire()
        except UsedAfterForkError:
            self._closed = True
            return
        except IllegalStateError:
            return  # a daemon thread polls on
        self._stop = True
        try:
            self._control.forgotten(FORGOTTEN_S * 1000)
        except KafkaError as error:
            log.debug("a consumer that was not closed did not leave its group: %s", error)
        finally:
            self._end()

    def _take_over(self) -> None:
        """Enters; a thread that polls is woken and leaves."""
        end = time.monotonic() + HANDOVER_S
        while True:
            try:
                self._acquire()
                return
            except IllegalStateError:
                if time.monotonic() >= end:
                    raise
            self._core.client.wake()
            time.sleep(0.001)

    def _use(self) -> _Use:
        return _Use(self)


class _Use:
    """One thread's use of a consumer, from method to method; also nested."""

    __slots__ = ("_consumer",)

    def __init__(self, consumer: Polling) -> None:
        self._consumer = consumer

    def __enter__(self) -> None:
        consumer = self._consumer
        if consumer._closed:
            raise ClosedError("the consumer is closed")
        consumer._acquire()
        # What the iterator has given out counts from here on.
        consumer._settle()

    def __exit__(self, *_: object) -> None:
        self._consumer._release()
