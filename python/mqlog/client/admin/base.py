"""What all of administration stands on: asking, and turning answers into kafka-python's shapes."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from mqlog.client.admin.types import ACLOperation
from mqlog.client.driver import Driver
from mqlog.client.flow import Call, Flow, Refresh, Target, gather, retrying
from mqlog.client.metadata import refreshed
from mqlog.client.offsets import Coordinators
from mqlog.errors import ClosedError, KafkaError, NoError, NotControllerError, for_code

T = TypeVar("T")
NO_OPERATIONS = -(1 << 31)
#: How much longer an answer is waited for than the broker was given.
GRACE_MS = 5_000


class AdminBase:
    """Runs flows for the methods of the administrator."""

    _config: Mapping[str, Any]
    _driver: Driver
    _coordinators: Coordinators
    _closed: bool

    def _run(self, flow: Flow[T], what: str, timeout_ms: float | None = None) -> T:
        """A flow's result, within the time given or default_api_timeout_ms."""
        if self._closed:
            flow.close()
            raise ClosedError("the admin client is closed")
        if timeout_ms is None:
            setting, limit = "default_api_timeout_ms", self._config["default_api_timeout_ms"]
        else:
            setting, limit = "timeout_ms", timeout_ms
        return self._driver.run(flow, limit, what, setting)

    def _timeout(self, timeout_ms: float | None) -> int:
        """What a broker is told about its time."""
        return int(self._config["request_timeout_ms"] if timeout_ms is None else timeout_ms)

    def _ask(self, request: Any, target: Target = "any", **how: Any) -> Flow[Any]:
        """One answer; asked for again where a broker cannot be reached or says it will pass."""

        def attempt() -> Flow[Any]:
            answer = yield Call(request, target, "admin", **how)
            error = KafkaError.of(getattr(answer, "error_code", 0))
            if error.retriable:
                raise error
            return answer

        return retrying(attempt)

    def _ask_controller(
        self, request: Any, codes: Callable[[Any], Iterable[int]], **how: Any
    ) -> Flow[Any]:
        """An answer of whoever is the controller."""

        def attempt() -> Flow[Any]:
            answer = yield Call(request, "controller", "admin", **how)
            if NotControllerError.code in codes(answer):
                yield Refresh([])
                raise NotControllerError
            return answer

        return retrying(attempt)

    def _nodes(self) -> Flow[list[int]]:
        """The brokers that are up."""
        snapshot = yield from refreshed([])
        return sorted(snapshot.brokers())

    def _at_nodes(self, nodes: Iterable[int], request: Any, **how: Any) -> Flow[list[Any]]:
        """The same question to several brokers."""
        return gather(self._ask(request, node, **how) for node in nodes)

    def _at_coordinator(self, group: str, ask: Callable[[int], Flow[T]]) -> Flow[T]:
        """At the group's coordinator, waited for while it is found or reads its log."""
        return self._coordinators.calling(group, ask)


def check(code: int, message: str | None = None, about: str = "", **where: Any) -> None:
    """Raises the error of a code, in the broker's words if there are any."""
    if code:
        text = message or str(KafkaError.of(code))
        named = about and about != where.get("topic")
        raise KafkaError.of(code, f"{about}: {text}" if named else text, **where)


def outcome(code: int) -> type[KafkaError]:
    """The class of a code; NoError if all is well."""
    return NoError if code == 0 else _class(code)


def _class(code: int) -> type[KafkaError]:
    try:
        return for_code(code)
    except KeyError:
        return type(KafkaError.of(code))


def plain(message: Any) -> dict[str, Any]:
    """A message as dicts and lists: ids as UUIDs, operations as their names."""
    found = {
        field.name: _plain(field.name, getattr(message, field.name))
        for field in dataclasses.fields(message)
    }
    found.pop("throttle_time_ms", None)
    for name in [name for name in found if name.endswith("_authorized_operations")]:
        found["authorized_operations"] = found.pop(name)
    return found


def _plain(name: str, value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return plain(value)
    if isinstance(value, list):
        return [_plain("", one) for one in value]
    if name.endswith("authorized_operations"):
        return operations(value)
    if name.endswith("_id") and isinstance(value, bytes):
        return uuid.UUID(bytes=value)
    return value


def operations(bits: int) -> list[str] | None:
    """The names of allowed operations; None where the broker does not tell."""
    if bits == NO_OPERATIONS:
        return None
    return [one.name for one in ACLOperation if one > ACLOperation.ALL and bits >> one & 1]
