"""Flows: decisions of a client as generators that do no I/O.

A flow yields a step, is sent what came of it, and returns its result:

    def cluster_id() -> Flow[str]:
        answer = yield Call(MetadataRequest(topics=[]))
        return answer.cluster_id

What a step meets is thrown into the flow as a KafkaError. `driver.py` runs flows in the caller's
thread; anything else that understands the steps may, too.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Any, Literal, NamedTuple, TypeVar

from mqlog.errors import KafkaError

T = TypeVar("T")

#: A node's id, or whoever is there, or the controller.
Target = int | Literal["any", "controller"]
#: Which of a node's connections: see `docs/internals/client.md`.
Purpose = Literal["general", "join", "group", "admin"]


class Call(NamedTuple):
    """One request, once; answered with the response.

    `request` may be a function of the version that is spoken, where that decides what is asked;
    then `kind` is the request's class. `newest` and `oldest` bound the version. `answer_ms` is how
    long the broker may take, `request_timeout_ms` if None.
    """

    request: Any
    target: Target = "any"
    purpose: Purpose = "general"
    kind: type[Any] | None = None
    newest: int | None = None
    oldest: int = 0
    answer_ms: float | None = None


class Sleep(NamedTuple):
    """Let some time pass, in milliseconds."""

    ms: float


class Backoff(NamedTuple):
    """Wait before trying again; `attempt` failed with `error` (the first attempt is 1).

    If the flow's time does not reach, it ends in a KafkaTimeoutError that tells the error.
    """

    attempt: int
    error: KafkaError


class Refresh(NamedTuple):
    """Fresh metadata of some topics, or all there are; answered with the driver's snapshot."""

    topics: list[str] | None


class All(NamedTuple):
    """Several flows at once; answered with their results, in order. The first error ends all."""

    flows: list[Generator[Any, Any, Any]]


class Tell(NamedTuple):
    """Call a function of the user's; answered with what it returns. It may use the client."""

    function: Callable[[], Any]


class After(NamedTuple):
    """Wait for a task that the driver runs already, however it ends."""

    task: Any


Step = Call | Sleep | Backoff | Refresh | All | Tell | After
Flow = Generator[Step, Any, T]


def retrying(
    attempt: Callable[[], Flow[T]], failed: Callable[[KafkaError], None] | None = None
) -> Flow[T]:
    """Repeats what fails with a retriable error, for as long as the time lasts.

    `failed` hears of each such error first, to forget what led to it.
    """
    number = 0
    while True:
        number += 1
        try:
            return (yield from attempt())
        except KafkaError as error:
            if not error.retriable:
                raise
            if failed is not None:
                failed(error)
            yield Backoff(number, error)


def gather(flows: Iterable[Flow[T]]) -> Flow[list[T]]:
    """Several flows at once."""
    results: list[T] = yield All(list(flows))
    return results
