"""A native client that a test scripts: requests are answered by a function, time passes at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mqlog import _native, protocol
from mqlog.client.driver import Driver
from mqlog.client.heart import Word
from mqlog.client.metadata import TopicMetadata
from mqlog.client.structs import PartitionInfo


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


class FakeHeart:
    """Heartbeats that find what the test says."""

    def __init__(self) -> None:
        self.who: Any = None
        self.beating = False
        self.polls = 0
        self._word: Any = None

    def start(self, who: Any, node: int) -> None:
        self.who, self.beating = who, True
        self._word = Word(who.generation, "fine")

    def stop(self) -> None:
        self.beating = False

    def polled(self) -> None:
        self.polls += 1

    def word(self) -> Any:
        return self._word

    def find(self, state: str, code: int = 0) -> None:
        self._word = Word(self.who.generation, state, code)


@dataclass
class At:
    position: int | None
    epoch: int = -1
    paused: bool = False
    high_watermark: int = -1
    last_stable: int = -1


class FakeReading:
    """The native consumer's partitions, without records."""

    def __init__(self) -> None:
        self.at: dict[tuple[str, int], At] = {}
        self.valid: list[tuple[str, int]] = []

    def add(self, starts: Any) -> None:
        for topic, index, offset, epoch in starts:
            self.at.setdefault((topic, index), At(offset, epoch))

    def remove(self, places: Any) -> None:
        for place in places:
            self.at.pop(tuple(place), None)

    def seek(self, topic: str, index: int, offset: int | None, epoch: int) -> bool:
        if (topic, index) in self.at:
            self.at[topic, index] = At(offset, epoch)
        return (topic, index) in self.at

    def validated(self, topic: str, index: int) -> bool:
        self.valid.append((topic, index))
        return True

    def truncated(self, topic: str, index: int, end: int) -> bool:
        return (self.at[topic, index].position or 0) > end

    def pause(self, topic: str, index: int, on: bool) -> bool:
        self.at[topic, index].paused = on
        return True

    def all_facts(self) -> list[tuple[str, int, At]]:
        return [(*place, at) for place, at in sorted(self.at.items())]

    def facts(self, topic: str, index: int) -> At | None:
        return self.at.get((topic, index))


class FakeCluster:
    """A snapshot that a test changes."""

    controller = 1
    cluster_id = "c"

    def __init__(self, **topics: int) -> None:
        self.revision = 1
        self.wanted: set[str] = set()
        #: Topics that there is an error code of.
        self.broken: dict[str, int] = {}
        self._topics = topics

    def set(self, **topics: int) -> None:
        self._topics |= topics
        self.revision += 1

    def want(self, topics: Any) -> None:
        self.wanted |= set(topics)

    def snapshot(self) -> FakeCluster:
        return self

    def topics(self) -> list[str]:
        return sorted(self._topics)

    def topic(self, name: str) -> TopicMetadata | None:
        if name in self.broken:
            return TopicMetadata(name, bytes(16), False, self.broken[name], ())
        if name not in self._topics:
            return None
        parts = tuple(PartitionInfo(name, i, 1, 3, (1,), (1,)) for i in range(self._topics[name]))
        return TopicMetadata(name, bytes(16), name.startswith("__"), 0, parts)
