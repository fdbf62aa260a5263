"""Where a consumer is in its partitions, as far as that needs a decision.

A partition begins where its group has committed, else where `auto_offset_reset` says. The native
consumer tells what happens later: an offset that is no longer there, a leader whose log may end
before the position. What has to be asked is asked in the background, between polls too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from mqlog.client.driver import Driver, Task
from mqlog.client.flow import Flow
from mqlog.client.offsets import (
    EARLIEST,
    LATEST,
    Coordinators,
    EpochEnd,
    committed,
    ends_of_epochs,
    list_offsets,
)
from mqlog.client.settings import duration_ms
from mqlog.client.structs import OffsetAndMetadata, TopicPartition
from mqlog.errors import LogTruncationError, NoOffsetForPartitionError, OffsetOutOfRangeError

log = logging.getLogger("mqlog.client")

BY_DURATION = "by_duration:"
NO_EPOCH = -1


class Facts(Protocol):
    """What the native consumer knows of a partition."""

    @property
    def position(self) -> int | None:
        """The offset that is given out next."""

    @property
    def epoch(self) -> int:
        """Leader epoch of what lies before it; -1 if unknown."""

    @property
    def paused(self) -> bool:
        """Whether it is paused."""

    @property
    def high_watermark(self) -> int:
        """Up to where consumers may read; -1 if unknown."""

    @property
    def last_stable(self) -> int:
        """Up to where every transaction is decided; -1 if unknown."""


class Reading(Protocol):
    """The native consumer, as far as positions go. Nothing here waits."""

    def add(self, starts: list[tuple[str, int, int | None, int]]) -> None:
        """Reads more partitions: topic, partition, offset or None, leader epoch or -1."""

    def remove(self, places: list[tuple[str, int]]) -> None:
        """Reads them no longer."""

    def seek(self, topic: str, partition: int, offset: int | None, epoch: int) -> bool:
        """Goes on at an offset, or waits for one."""

    def validated(self, topic: str, partition: int) -> bool:
        """The leader has what was fetched."""

    def truncated(self, topic: str, partition: int, end: int) -> bool:
        """The leader's log ends below what was fetched; whether the user has got more than that."""

    def pause(self, topic: str, partition: int, on: bool) -> bool:
        """Gives out nothing of it, or goes on."""

    def facts(self, topic: str, partition: int) -> Facts | None:
        """What is known of a partition that is read."""

    def all_facts(self) -> Sequence[tuple[str, int, Facts]]:
        """What is known of all of them."""


class Positions:
    """The partitions that are read."""

    def __init__(
        self,
        config: Mapping[str, Any],
        driver: Driver,
        coordinators: Coordinators,
        reading: Reading,
    ) -> None:
        self._group: str | None = config["group_id"]
        self._policy: str = config["auto_offset_reset"]
        self._committed_only = config["isolation_level"] == "read_committed"
        self._driver = driver
        self._coordinators = coordinators
        self._reading = reading
        self.owned: set[TopicPartition] = set()
        #: Without a position: where to get one, None for what is committed.
        self._awaited: dict[TopicPartition, str | None] = {}
        self._task: Task | None = None
        self._checks: dict[TopicPartition, Task] = {}
        self._warned = False

    def add(self, places: Iterable[TopicPartition]) -> None:
        """Read these as well, from where they were committed."""
        new = [place for place in places if place not in self.owned]
        self.owned.update(new)
        self._awaited.update(dict.fromkeys(new))
        self._reading.add([(*place, None, NO_EPOCH) for place in sorted(new)])

    def remove(self, places: Iterable[TopicPartition]) -> None:
        """Read these no longer."""
        gone = self.owned.intersection(places)
        self.owned -= gone
        for place in gone:
            self._awaited.pop(place, None)
            self._checks.pop(place, None)
        self._reading.remove(sorted(gone))

    def seek(self, place: TopicPartition, offset: int, epoch: int = NO_EPOCH) -> None:
        """Go on at an offset."""
        self._awaited.pop(place, None)
        self._checks.pop(place, None)
        self._reading.seek(*place, offset, epoch)

    def reset(self, places: Iterable[TopicPartition], where: str) -> None:
        """Go on at "earliest", "latest" or "by_duration:..."; looked up with the next turn."""
        for place in places:
            self._checks.pop(place, None)
            self._awaited[place] = where
            self._reading.seek(*place, None, NO_EPOCH)

    def at(self, place: TopicPartition) -> OffsetAndMetadata | None:
        """The position, as it is committed; None while there is none."""
        facts = self._reading.facts(*place)
        if facts is None or facts.position is None:
            return None
        return OffsetAndMetadata(facts.position, "", facts.epoch)

    def all(self) -> dict[TopicPartition, OffsetAndMetadata]:
        """Every position that there is."""
        return {
            TopicPartition(topic, index): OffsetAndMetadata(facts.position, "", facts.epoch)
            for topic, index, facts in self._reading.all_facts()
            if facts.position is not None
        }

    @property
    def awaits(self) -> bool:
        """Whether some partition has no position yet."""
        return bool(self._awaited)

    def turn(self) -> None:
        """Looks up what is missing, without waiting; raises what was found to be wrong."""
        if self._task is not None and self._task.done:
            task, self._task = self._task, None
            task.result()
        for place, check in list(self._checks.items()):
            if check.done:
                del self._checks[place]
                check.result()
        if self._awaited and self._task is None:
            self._task = self._driver.start(self._settle(dict(self._awaited)))

    # -- events of the native consumer -----------------------------------------------------------

    def out_of_range(self, place: TopicPartition, offset: int) -> None:
        """The broker has no such offset (any more, or yet)."""
        if place not in self.owned or place in self._awaited:
            return
        if self._policy == "none":
            raise OffsetOutOfRangeError(
                f"{place.topic}-{place.partition}: offset {offset} is outside what the partition "
                "holds, and auto_offset_reset=none says not to choose another; seek() to go on",
                topic=place.topic,
                partition=place.partition,
                offset=offset,
                hint="seek() to go on",
            )
        log.warning(
            "%s-%d: offset %d is outside what the partition holds; going on at the %s",
            *place, offset, self._policy,
        )  # fmt: skip
        self.reset([place], self._policy)

    def doubted(self, place: TopicPartition, offset: int, epoch: int) -> None:
        """The leader changed: does its log hold what was read?"""
        if place in self.owned and place not in self._checks:
            self._checks[place] = self._driver.start(self._validate(place, offset, epoch))

    def _validate(self, place: TopicPartition, offset: int, epoch: int) -> Flow[None]:
        found = yield from ends_of_epochs({place: epoch})
        if place not in self._checks:  # it was moved or taken away meanwhile
            return
        end = found[place]
        if end.offset >= offset:
            self._reading.validated(*place)
        elif end.offset < 0 or self._reading.truncated(*place, end.offset):
            self._truncated(place, offset, end)

    def _truncated(self, place: TopicPartition, offset: int, end: EpochEnd) -> None:
        known = end.offset >= 0
        text = (
            f"{place.topic}-{place.partition}: the leader's log does not hold what was read up to "
            f"offset {offset}: it was cut"
        )
        safe = OffsetAndMetadata(end.offset, "", end.leader_epoch) if known else None
        if self._policy == "none":
            where = f"seek({end.offset})" if known else "seek()"
            raise LogTruncationError(
                f"{text}; {where} to go on",
                divergent_offsets={place: safe},
                topic=place.topic,
                partition=place.partition,
                offset=offset,
                hint=f"{where} to go on",
            )
        if safe is not None:
            log.warning("%s; going on at offset %d, where it still agrees", text, safe.offset)
            self._reading.seek(*place, safe.offset, end.leader_epoch)
        else:
            log.warning("%s; going on at the %s", text, self._policy)
            self._awaited[place] = self._policy
            self._reading.seek(*place, None, NO_EPOCH)

    # -- lookups ---------------------------------------------------------------------------------

    def _settle(self, wanted: dict[TopicPartition, str | None]) -> Flow[None]:
        """Gives partitions their positions; those that were moved meanwhile keep theirs."""
        group = self._group
        first = [place for place, where in wanted.items() if where is None]
        if first and group is not None:
            found = yield from self._coordinators.calling(
                group,
                lambda node: committed(node, group, first, stable=self._committed_only),
            )
            for place, at in found.items():
                self._arrive(place, None, at.offset, at.leader_epoch)
        rest = {
            place: where
            for place, where in wanted.items()
            if self._awaited.get(place, "gone") == where
        }
        if self._policy == "none":
            self._refuse([place for place, where in rest.items() if where is None])
        yield from self._look_up(rest)

    def _refuse(self, places: list[TopicPartition]) -> None:
        if places:
            names = ", ".join(f"{topic}-{index}" for topic, index in sorted(places))
            raise NoOffsetForPartitionError(
                f"group {self._group!r} has committed no offset for {names}, and "
                "auto_offset_reset=none says not to choose one; seek() first",
                topic=places[0].topic,
                partition=places[0].partition,
                hint="seek() first",
            )

    def _look_up(self, wanted: dict[TopicPartition, str | None]) -> Flow[None]:
        times = {place: _timestamp(where or self._policy) for place, where in wanted.items()}
        found = yield from list_offsets(times, committed_only=self._committed_only)
        skips = [place for place, where in wanted.items() if where is None]
        # Where no record is that young, whatever comes is.
        none = dict.fromkeys([place for place, at in found.items() if at is None], LATEST)
        found |= yield from list_offsets(none, committed_only=self._committed_only)
        if self._policy == "latest" and skips and not self._warned:
            yield from self._warn({place: at.offset for place in skips if (at := found[place])})
        for place, at in found.items():
            if at is not None:
                self._arrive(place, wanted[place], at.offset, at.leader_epoch)

    def _arrive(
        self, place: TopicPartition, where: str | None, offset: int, epoch: int | None
    ) -> None:
        if self._awaited.get(place, "gone") == where:
            del self._awaited[place]
            self._reading.seek(*place, offset, NO_EPOCH if epoch is None else epoch)

    def _warn(self, ends: dict[TopicPartition, int]) -> Flow[None]:
        """Once: that records which exist are not read is what users wonder about most."""
        starts = yield from list_offsets(dict.fromkeys(ends, EARLIEST))
        skipped = sum(end - (start.offset if (start := starts[place]) else end)
                      for place, end in ends.items())  # fmt: skip
        if skipped > 0:
            self._warned = True
            log.warning(
                "auto_offset_reset=latest skips %d records of %s, as no offset is committed; "
                "auto_offset_reset=earliest reads them",
                skipped,
                ", ".join(sorted({place.topic for place in ends})),
            )


def _timestamp(where: str) -> int:
    if where.startswith(BY_DURATION):
        return int(time.time() * 1000) - duration_ms(where.removeprefix(BY_DURATION))
    return EARLIEST if where == "earliest" else LATEST
