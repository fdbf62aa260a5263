"""Heartbeats: what a group needs of them, and those of the native consumer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from mqlog.client.offsets import Identity


class Word(NamedTuple):
    """What the heartbeats found: `state` is fine, rebalance, lost (see `code`) or late.

    `late` is a member that was not polled for max_poll_interval_ms.
    """

    generation: int
    state: str
    code: int = 0


class Heart(Protocol):
    """Heartbeats of one member."""

    def start(self, who: Identity, node: int) -> None:
        """Beats for a generation, at the group's coordinator; ends what went on before."""

    def stop(self) -> None:
        """No more heartbeats."""

    def polled(self) -> None:
        """The user polls: max_poll_interval_ms counts from now."""

    def word(self) -> Word | None:
        """What was found last; None if nothing was started."""


class NativeHeart:
    """The heartbeats of the native consumer, as `Group` knows them."""

    def __init__(self, native: Any, config: Mapping[str, Any]) -> None:
        self._native = native
        self._times = {
            name: config[name]
            for name in ("heartbeat_interval_ms", "session_timeout_ms", "max_poll_interval_ms")
        }
        self.stop = native.heartbeat_stop
        self.polled = native.poll_mark

    def start(self, who: Identity, node: int) -> None:
        """See Heart."""
        self._native.heartbeat_start(
            {
                "group": who.group,
                "member_id": who.member,
                "instance_id": who.instance,
                "generation": who.generation,
                "coordinator": node,
                **self._times,
            }
        )

    def word(self) -> Word | None:
        """See Heart."""
        standing = self._native.standing()
        return None if standing is None else Word(*standing)
