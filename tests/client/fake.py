"""A native client that a test scripts: requests are answered by a function, time passes at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mqlog import _native, protocol
from mqlog.client.driver import Driver


class Pending:
    def __init__(self, outcome: Any, ready: Callable[[], bool] = lambda: True) -> None:
        self._outcome = outcome
        self._ready = ready

    def done(self) -> bool:
        return self._ready()

    def result(self) -> Any:
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


class Later:
    """An answer that comes when `release` is called."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.released = False

    def release(self) -> None:
        self.released = True


@dataclass
class FakeNative:
    """`answer` gets each request and its target; what it raises or returns is what comes back."""

    answer: Callable[[Any, Any], Any]
    #: The newest version of an API that the broker speaks.
    newest: dict[int, int] = field(default_factory=dict)
    asked: list[Any] = field(default_factory=list)
    metadata: Any = None

    def version(self, target: Any, purpose: str, api: int, newest: int) -> Pending:
        return Pending(min(newest, self.newest.get(api, newest)))

    def call(
        self, target: Any, purpose: str, api: int, version: int, body: bytes, answer_ms: Any
    ) -> Pending:
        request = _native.decode("request", api, version, body)
        self.asked.append(request)
        try:
            answer = self.answer(request, target)
        except Exception as error:
            return Pending(error)
        if isinstance(answer, Later):
            return Pending(self._encoded(api, version, answer.answer), lambda: answer.released)
        return Pending(self._encoded(api, version, answer))

    def _encoded(self, api: int, version: int, answer: Any) -> bytes:
        if isinstance(answer, bytes):
            return answer
        assert isinstance(answer, protocol.response_class(api)), answer
        return _native.encode("response", api, version, answer)

    def refresh(self, topics: Any) -> Pending:
        self.asked.append(("refresh", topics))
        return Pending(None)

    def snapshot(self) -> Any:
        return self.metadata

    def ticket(self) -> int:
        return 0

    def wait(self, ticket: int, timeout_ms: float) -> None:
        time.sleep(min(timeout_ms, 1) / 1000)


def driver(native: FakeNative) -> Driver:
    return Driver(native, retry_backoff_ms=1, retry_backoff_max_ms=4)
