"""Runs flows over the native client, in the thread that asks for it.

A driver belongs to one client object. Tasks that were started go on whenever some task is waited
for, so a request that takes long (joining a group) does not hold up a poll that returns earlier.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any, Protocol, TypeVar

from mqlog import _native, protocol
from mqlog.client.flow import After, All, Backoff, Call, Flow, Purpose, Refresh, Sleep, Target, Tell
from mqlog.errors import (
    KafkaError,
    KafkaProtocolError,
    KafkaTimeoutError,
    ProtocolError,
    UnsupportedVersionError,
)

T = TypeVar("T")

#: The longest a thread waits without looking around.
LONGEST_WAIT_MS = 100.0
_KEYS = {name: key for key, (_, name) in protocol._APIS.items()}


class Pending(Protocol):
    """Something the native client is about to know."""

    def done(self) -> bool:
        """Whether `result` returns at once."""

    def result(self) -> Any:
        """What it is, or raises what went wrong."""


class Native(Protocol):
    """What a driver needs of `_native.Client`. Nothing here waits, except `wait`."""

    def version(self, target: Target, purpose: Purpose, api: int, newest: int) -> Pending:
        """The version to speak to the target, connecting if need be."""

    def call(
        self,
        target: Target,
        purpose: Purpose,
        api: int,
        version: int,
        body: bytes,
        answer_ms: float | None,
    ) -> Pending:
        """One request; the answer's body."""

    def refresh(self, topics: list[str] | None) -> Pending:
        """Fresh metadata in the snapshot."""

    def snapshot(self) -> Any:
        """What is known of the cluster now."""

    def ticket(self) -> int:
        """To be taken before conditions are looked at."""

    def wait(self, ticket: int, timeout_ms: float) -> None:
        """Until something is done after the ticket; runs signal handlers."""


class Task:
    """A flow under way."""

    def __init__(self, flow: Generator[Any, Any, Any]) -> None:
        self._flow = flow
        self._waiting: _Waiting = _Ready(None)
        self._busy = False
        self.done = False
        self.value: Any = None
        self.error: BaseException | None = None
        #: The last error that was backed off from.
        self.last: KafkaError | None = None

    def result(self) -> Any:
        """What the flow returned, or raises what it raised."""
        if self.error is not None:
            raise self.error
        return self.value

    def close(self) -> None:
        """Give up; the flow's `finally` runs."""
        if not self.done:
            self.done = True
            self._waiting.close()
            if not self._busy:
                self._flow.close()

    def advance(self, driver: Driver) -> float:
        """Runs until it must wait; for how long at most, in monotonic seconds."""
        if self._busy:  # user code that it called runs another flow
            return float("inf")
        while not self.done:
            try:
                due = self._waiting.due()
                if due > 0:
                    return due
                value = self._waiting.value()
            except Exception as error:  # noqa: BLE001 - the flow decides
                self._step(driver, error)
            else:
                self._step(driver, None, value)
        return 0.0

    def _step(self, driver: Driver, error: Exception | None, value: Any = None) -> None:
        self._busy = True
        try:
            step = self._flow.send(value) if error is None else self._flow.throw(error)
            if isinstance(step, Backoff):
                self.last = step.error
            self._waiting = driver.begin(step)
        except StopIteration as end:
            self.done, self.value = True, end.value
        except BaseException as failure:  # noqa: BLE001 - it is kept for who asks for the result
            self.done, self.error = True, failure
        finally:
            self._busy = False


class Driver:
    """Runs the flows of one client."""

    def __init__(
        self, native: Native, *, retry_backoff_ms: float, retry_backoff_max_ms: float
    ) -> None:
        self.native = native
        self._backoff_ms = retry_backoff_ms, retry_backoff_max_ms
        self._tasks: list[Task] = []

    def start(self, flow: Flow[Any]) -> Task:
        """Begins a flow that goes on whenever the driver turns."""
        task = Task(flow)
        self._tasks.append(task)
        return task

    def advance(self) -> float:
        """Lets every task go on, without waiting; when to look again, in monotonic seconds."""
        due = float("inf")
        for task in list(self._tasks):
            wait = task.advance(self)
            due = 0.0 if task.done else min(due, wait)
        self._tasks = [task for task in self._tasks if not task.done]
        return due

    def turn(self, until: float) -> None:
        """Lets every task go on, and waits for one of them, until a monotonic time at most."""
        ticket = self.native.ticket()
        self.sleep(ticket, min(self.advance(), until))

    def sleep(self, ticket: int, until: float) -> None:
        """Waits for what rings after the ticket, until a monotonic time at most."""
        left = (until - time.monotonic()) * 1000
        if left > 0:
            self.native.wait(ticket, min(left, LONGEST_WAIT_MS))

    def wait(self, task: Task, timeout_ms: float) -> bool:
        """Goes on until the task is done, or the time has passed; whether it is done."""
        until = time.monotonic() + timeout_ms / 1000
        self.turn(until)
        while not task.done and time.monotonic() < until:
            self.turn(until)
        return task.done

    def run(self, flow: Flow[T], timeout_ms: float, what: str, setting: str = "timeout_ms") -> T:
        """A flow's result. KafkaTimeoutError with the last error if it takes longer."""
        task = self.start(flow)
        try:
            if not self.wait(task, timeout_ms):
                raise late(task, timeout_ms, what, setting)
        finally:
            task.close()
        value: T = task.result()
        return value

    def close(self) -> None:
        """Gives up what is under way."""
        for task in self._tasks:
            task.close()
        self._tasks.clear()

    def begin(self, step: Any) -> _Waiting:
        """Starts what a flow asked for."""
        match step:
            case Call():
                return _Exchange(self.native, step)
            case Sleep(ms):
                return _Timer(ms)
            case Backoff(attempt, _):
                import random

                first, most = self._backoff_ms
                return _Timer(
                    min(first * 2 ** min(attempt - 1, 32), most) * random.uniform(0.8, 1.2)
                )
            case Refresh(topics):
                return _Refreshing(self.native, topics)
            case After(task):
                return _Ending(task)
            case Tell(function):
                return _Told(function)
            case All(flows):
                return _Several(self, [Task(flow) for flow in flows])
        raise TypeError(f"a flow yielded {step!r}")


def late(task: Task, timeout_ms: float, what: str, setting: str) -> KafkaTimeoutError:
    """The error of a task that took too long."""
    text = f"{what} took longer than {timeout_ms:g} ms ({setting})"
    if task.last is not None:
        text = f"{text}; {task.last}"
    error = KafkaTimeoutError(text)
    error.__cause__ = task.last
    return error


class _Waiting:
    """What a task waits for."""

    def due(self) -> float:
        """0 if it is there; else when to look again, in monotonic seconds."""
        return 0.0

    def value(self) -> Any:
        """What it is, or raises."""

    def close(self) -> None:
        """It is no longer wanted."""


class _Ready(_Waiting):
    def __init__(self, value: Any) -> None:
        self._value = value

    def value(self) -> Any:
        return self._value


class _Ending(_Waiting):
    def __init__(self, task: Task) -> None:
        self._task = task

    def due(self) -> float:
        return 0.0 if self._task.done else float("inf")


class _Told(_Waiting):
    def __init__(self, function: Callable[[], Any]) -> None:
        self._error: Exception | None = None
        self._value: Any = None
        try:
            self._value = function()
        except Exception as error:  # noqa: BLE001 - raised in the flow
            self._error = error

    def value(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._value


class _Timer(_Waiting):
    def __init__(self, ms: float) -> None:
        self._until = time.monotonic() + ms / 1000

    def due(self) -> float:
        return 0.0 if time.monotonic() >= self._until else self._until


class _Refreshing(_Waiting):
    def __init__(self, native: Native, topics: list[str] | None) -> None:
        self._native = native
        self._pending = native.refresh(topics)

    def due(self) -> float:
        return 0.0 if self._pending.done() else float("inf")

    def value(self) -> Any:
        self._pending.result()
        return self._native.snapshot()


class _Exchange(_Waiting):
    """A request: which version is spoken, then the answer."""

    def __init__(self, native: Native, call: Call) -> None:
        self._native = native
        self._call = call
        self._api = _KEYS[(call.kind or type(call.request)).__name__.removesuffix("Request")]
        self._version: int | None = None
        newest = _native.versions(self._api)[1]
        if call.newest is not None:
            newest = min(newest, call.newest)
        self._pending = native.version(call.target, call.purpose, self._api, newest)

    def due(self) -> float:
        if not self._pending.done():
            return float("inf")
        if self._version is None:
            version: int = self._pending.result()
            if version < self._call.oldest:
                name = protocol._APIS[self._api][1]
                raise UnsupportedVersionError(
                    f"the broker speaks version {version} of {name}; "
                    f"this needs {self._call.oldest} or later"
                )
            self._pending = self._send(version)
            self._version = version
        return 0.0 if self._pending.done() else float("inf")

    def _send(self, version: int) -> Pending:
        call = self._call
        request = call.request(version) if call.kind is not None else call.request
        try:
            body = _native.encode("request", self._api, version, request)
        except ProtocolError as error:
            raise UnsupportedVersionError(f"{error}; the broker speaks no newer one") from None
        return self._native.call(
            call.target, call.purpose, self._api, version, body, call.answer_ms
        )

    def value(self) -> Any:
        answer = self._pending.result()
        assert self._version is not None
        try:
            return _native.decode("response", self._api, self._version, answer)
        except ProtocolError as error:
            raise KafkaProtocolError(f"a broker does not keep to the protocol: {error}") from None


class _Several(_Waiting):
    def __init__(self, driver: Driver, tasks: list[Task]) -> None:
        self._driver = driver
        self._tasks = tasks

    def due(self) -> float:
        first = float("inf")
        waiting = False
        for task in self._tasks:
            due = task.advance(self._driver)
            if task.error is not None:
                return 0.0
            if not task.done:
                waiting, first = True, min(first, due)
        return first if waiting else 0.0

    def value(self) -> list[Any]:
        try:
            for task in self._tasks:
                if task.error is not None:
                    raise task.error
            return [task.value for task in self._tasks]
        finally:
            self.close()

    def close(self) -> None:
        for task in self._tasks:
            task.close()
