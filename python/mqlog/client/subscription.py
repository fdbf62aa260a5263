"""What a consumer reads: topics, a pattern of them, or partitions that the user assigned."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from mqlog.client.structs import TopicPartition
from mqlog.errors import IllegalStateError

_LEGAL = re.compile(r"[a-zA-Z0-9._-]{1,249}\Z")


class ConsumerRebalanceListener(ABC):
    """Told when partitions of a subscribed consumer come and go, inside `poll` and `close`.

    The consumer may be used in these methods: committing in `on_partitions_revoked` reaches the
    group before another member gets the partitions. What they raise is raised by `poll`, after the
    rebalance is finished.
    """

    @abstractmethod
    def on_partitions_revoked(self, revoked: set[TopicPartition]) -> Any:
        """These go to other members; until this returns nobody else has them."""

    @abstractmethod
    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> Any:
        """These have come; with a cooperative assignor without those that stayed."""

    def on_partitions_lost(self, lost: set[TopicPartition]) -> Any:
        """These were taken away, others may have them already; committing them is too late."""
        return self.on_partitions_revoked(lost)


class Subscription:
    """Either topics, or a pattern, or partitions; changing between them needs `unsubscribe`."""

    def __init__(self) -> None:
        #: The topics that the group shares; of a pattern, those that match now.
        self.topics: frozenset[str] = frozenset()
        self.pattern: re.Pattern[str] | None = None
        self.listener: ConsumerRebalanceListener | None = None
        #: Partitions that the user assigned; None if there are none.
        self.assigned: frozenset[TopicPartition] | None = None

    @property
    def by_group(self) -> bool:
        """Whether a group shares partitions out."""
        return self.pattern is not None or bool(self.topics)

    def subscribe(self, topics: Any, pattern: str | None, listener: Any) -> None:
        """Read these topics, or those that match, as members of the group share them out."""
        if self.assigned is not None:
            raise IllegalStateError("partitions are assigned: unsubscribe() before subscribing")
        if bool(topics) == (pattern is not None):
            raise ValueError("give either topics or a pattern")
        methods = ("on_partitions_revoked", "on_partitions_assigned")
        if listener is not None and not all(hasattr(listener, method) for method in methods):
            raise TypeError("listener must be a ConsumerRebalanceListener")
        if pattern is not None:
            self._change(bool(self.topics) and self.pattern is None)
            self.pattern = re.compile(pattern)
        else:
            names = frozenset(_names(topics))
            self._change(self.pattern is not None)
            self.topics = names
        self.listener = listener

    def _change(self, kind: bool) -> None:
        if kind:
            raise IllegalStateError(
                "topics and a pattern exclude each other: unsubscribe() in between"
            )

    def match(self, topics: Iterable[str], internal: Iterable[str]) -> bool:
        """Takes the topics that a pattern matches now; whether they changed."""
        assert self.pattern is not None
        hidden = frozenset(internal)
        matched = frozenset(
            name for name in topics if name not in hidden and self.pattern.match(name)
        )
        changed = matched != self.topics
        self.topics = matched
        return changed

    def assign(self, partitions: Iterable[Any]) -> None:
        """Read these partitions, without a group."""
        if self.by_group:
            raise IllegalStateError("topics are subscribed: unsubscribe() before assigning")
        self.assigned = frozenset(map(partition, partitions))

    def unsubscribe(self) -> None:
        """Read nothing."""
        self.__init__()  # type: ignore[misc]


def partition(value: Any) -> TopicPartition:
    """A TopicPartition, also of another client. TypeError if it is none."""
    topic, index = getattr(value, "topic", None), getattr(value, "partition", None)
    if not isinstance(topic, str) or not isinstance(index, int) or isinstance(index, bool):
        raise TypeError(f"{value!r} is no TopicPartition")
    if index < 0:
        raise ValueError(f"{value!r}: partitions are numbered from 0")
    return TopicPartition(topic, index)


def _names(topics: Any) -> list[str]:
    if isinstance(topics, str) or not isinstance(topics, Iterable):
        raise TypeError(f"topics must be a list of names, not {topics!r}")
    names = list(topics)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"{name!r} is no name of a topic")
        if not _LEGAL.match(name) or name in (".", ".."):
            raise ValueError(
                f"topic {name!r} is not legal: a name is up to 249 ASCII letters, digits, "
                "'.', '_' and '-'"
            )
    return names
