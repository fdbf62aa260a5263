"""What a consumer does between records: joining, committing, finding its place. Never waits."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from mqlog.client.commits import Callback, CommitFuture, Commits, Offsets
from mqlog.client.driver import Driver, Task
from mqlog.client.flow import Flow
from mqlog.client.group import Group
from mqlog.client.heart import Heart
from mqlog.client.metadata import Snapshot, counts, refreshed
from mqlog.client.offsets import Coordinators, Identity, committed
from mqlog.client.positions import Positions, Reading
from mqlog.client.structs import ConsumerGroupMetadata, OffsetAndMetadata, TopicPartition
from mqlog.client.subscription import Subscription
from mqlog.errors import IllegalStateError, KafkaError, UnknownTopicOrPartitionError

log = logging.getLogger("mqlog.client")

#: How long an automatic commit before a rebalance may take; the group waits meanwhile.
COMMIT_FOR_OTHERS_MS = 5_000


class Cluster(Protocol):
    """What the native client is asked about topics. Nothing here waits."""

    def want(self, topics: Iterable[str]) -> None:
        """Keep the metadata of these topics fresh."""

    def snapshot(self) -> Snapshot:
        """What is known now."""


class Control:
    """The decisions of one consumer. All methods are for the thread that uses it."""

    def __init__(
        self,
        config: Mapping[str, Any],
        driver: Driver,
        cluster: Cluster,
        reading: Reading,
        heart: Heart,
    ) -> None:
        self._config = config
        self._cluster = cluster
        self._coordinators = Coordinators()
        self._heart = heart
        self._join: Task | None = None
        self._look: Task | None = None
        self._looked = float("-inf")
        self._seen: tuple[int, frozenset[str]] | None = None
        self._revision = -1
        self._missing: set[str] = set()
        self.driver = driver
        self.subscription = Subscription()
        self.positions = Positions(config, driver, self._coordinators, reading)
        self.group: Group | None = None
        self._commits: Commits | None = None
        group: str | None = config["group_id"]
        if group is not None:
            self.group = Group(config, self.subscription, self._coordinators, self, heart)
            self._commits = Commits(
                group, driver, self._coordinators, self._identity, self.group.refused
            )
        self._auto = group is not None and config["enable_auto_commit"]
        self._default_callback: Callback | None = config["default_offset_commit_callback"]
        self._interval = config["auto_commit_interval_ms"] / 1000
        self._next_commit = time.monotonic() + self._interval

    # -- Reader, for the group -------------------------------------------------------------------

    def owned(self) -> set[TopicPartition]:
        """What is read."""
        return set(self.positions.owned)

    def add(self, places: Iterable[TopicPartition]) -> None:
        """Read these as well."""
        self.positions.add(places)

    def remove(self, places: Iterable[TopicPartition]) -> None:
        """No longer read these."""
        self.positions.remove(places)

    def watch(self, topics: frozenset[str]) -> Snapshot:
        """Keep the metadata of these topics fresh; what is known now."""
        self._cluster.want(topics | self.subscription.topics)
        return self._cluster.snapshot()

    def commit_for_others(self) -> Flow[None]:
        """An automatic commit before a rebalance; that it fails is told, and no reason to wait."""
        if not self._auto or self._commits is None:
            return
        self._next_commit = time.monotonic() + self._interval
        try:
            yield from self._commits.flow(self.positions.all(), COMMIT_FOR_OTHERS_MS)
        except KafkaError as error:
            log.warning("an automatic commit failed, so records may be read again: %s", error)

    def _identity(self) -> Identity:
        assert self.group is not None
        return self.group.identity()

    # -- what a poll begins with -----------------------------------------------------------------

    def polled(self) -> None:
        """The user polls: commits what is due, as all that was given out before is done with."""
        self._heart.polled()
        if self._commits is not None:
            self._commits.call_back()
            if self._auto and time.monotonic() >= self._next_commit and self._commits.idle:
                self._next_commit = time.monotonic() + self._interval
                self._auto_commit()

    def _auto_commit(self) -> None:
        assert self._commits is not None
        try:
            self._identity()
        except KafkaError:
            return  # it joins again; what it has by then is committed next
        self._commits.send(self.positions.all(), self._default_callback).add_errback(_complain)

    def turn(self) -> float:
        """Goes on with all that is under way; when to look again, in monotonic seconds.

        Raises what the user has to know.
        """
        self._heart.polled()
        self._look_at_topics()
        self._match()
        self._member()
        self.positions.turn()
        due = self.driver.advance()
        if self._join is not None and self._join.done:
            due = 0.0
        return due

    def _look_at_topics(self) -> None:
        """Topics that cannot be read are told: once, if they may come; else raised."""
        snapshot = self._cluster.snapshot()
        if snapshot.revision == self._revision:
            return
        self._revision = snapshot.revision
        wanted = self.subscription.topics | {place.topic for place in self.positions.owned}
        for name in sorted(wanted):
            topic = snapshot.topic(name)
            if topic is None or not topic.error_code:
                self._missing.discard(name)
                continue
            error = KafkaError.of(topic.error_code, topic=name)
            if not error.retriable:
                raise error
            if isinstance(error, UnknownTopicOrPartitionError) and name not in self._missing:
                self._missing.add(name)
                log.warning("topic %s does not exist yet; its records are read once it does", name)

    def _match(self) -> None:
        """A pattern takes what matches when metadata comes, asked for at its greatest age."""
        if self.subscription.pattern is None:
            return
        now = time.monotonic()
        age = self._config["metadata_max_age_ms"] / 1000
        if self._look is not None and self._look.done:
            task, self._look = self._look, None
            self._retake(task.result())
        elif self._look is None and now - self._looked >= age:
            self._looked = now
            self._look = self.driver.start(refreshed(None))

    def _retake(self, snapshot: Snapshot) -> None:
        names = snapshot.topics()
        hidden = []
        if self._config["exclude_internal_topics"]:
            topics = ((name, snapshot.topic(name)) for name in names)
            hidden = [name for name, topic in topics if topic is not None and topic.internal]
        if self.subscription.match(names, hidden):
            self._cluster.want(self.subscription.topics)
            if self.group is not None:
                self.group.rejoin("the topics that match its pattern changed")

    def _member(self) -> None:
        """Joins and rejoins. Without a group a subscription reads all partitions."""
        if not self.subscription.by_group:
            return
        if self.group is None:
            self._read_all()
            return
        if self._join is not None:
            if not self._join.done:
                return
            task, self._join = self._join, None
            task.result()
        # A pattern that nothing matches is no reason to join.
        if self.subscription.topics and self.group.needs_join():
            self._join = self.driver.start(self.group.join())

    def _read_all(self) -> None:
        """All partitions of the topics; the listener hears what comes and goes."""
        snapshot = self._cluster.snapshot()
        seen = snapshot.revision, self.subscription.topics
        if seen == self._seen:
            return
        self._seen = seen
        known = counts(snapshot, self.subscription.topics)
        wanted = {TopicPartition(topic, i) for topic, count in known.items() for i in range(count)}
        gone, new = self.owned() - wanted, wanted - self.owned()
        listener = self.subscription.listener
        if gone and listener is not None:
            listener.on_partitions_revoked(gone)
        self.remove(gone)
        self.add(sorted(new))
        if new and listener is not None:
            listener.on_partitions_assigned(new)

    # -- what the user changes -------------------------------------------------------------------

    def subscribe(self, topics: Any, pattern: str | None, listener: Any) -> None:
        """See Subscription."""
        before = self.subscription.topics, self.subscription.pattern
        self.subscription.subscribe(topics, pattern, listener)
        if pattern is not None:
            self._looked = float("-inf")
        else:
            self._cluster.want(self.subscription.topics)
        changed = (self.subscription.topics, self.subscription.pattern) != before
        if changed and self.group is not None:
            self.group.rejoin("its subscription changed")

    def assign(self, places: Iterable[Any]) -> None:
        """Exactly these partitions, without the group; those read already go on."""
        self.commit_now()
        self.subscription.assign(places)
        wanted = self.subscription.assigned or frozenset()
        self._cluster.want({place.topic for place in wanted})
        self.positions.remove(self.owned() - wanted)
        self.positions.add(sorted(wanted))

    def unsubscribe(self, timeout_ms: float) -> None:
        """Nothing; a member leaves its group."""
        self.commit_now()
        self._give_up()
        if self.group is not None and self.subscription.by_group:
            flow = self.group.leave("the consumer unsubscribed")
            self.driver.run(flow, timeout_ms, f"leaving group {self._config['group_id']!r}")
            self.group.rejoin("it subscribed")
        self.positions.remove(self.owned())
        self.subscription.unsubscribe()

    def _give_up(self) -> None:
        for task in (self._join, self._look):
            if task is not None:
                task.close()
        self._join = self._look = None

    def commit_now(self) -> None:
        """Begins an automatic commit, if there are any."""
        if self._auto:
            self._auto_commit()

    def commits(self) -> Commits:
        """Raises where there is no group to commit to."""
        if self._commits is None:
            raise IllegalStateError("committing needs group_id")
        return self._commits

    def committed(
        self, places: list[TopicPartition]
    ) -> Flow[dict[TopicPartition, OffsetAndMetadata]]:
        """What the group has committed."""
        group: str | None = self._config["group_id"]
        if group is None:
            raise IllegalStateError("asking for committed offsets needs group_id")
        stable = self._config["isolation_level"] == "read_committed"
        return self._coordinators.calling(
            group, lambda node: committed(node, group, places, stable=stable)
        )

    def send_commit(self, offsets: Offsets, callback: Callback | None) -> CommitFuture:
        """An asynchronous commit."""
        return self.commits().send(offsets, callback or self._default_callback)

    def metadata(self) -> ConsumerGroupMetadata:
        """The membership."""
        return ConsumerGroupMetadata() if self.group is None else self.group.metadata()

    def close(self, *, autocommit: bool, timeout_ms: float) -> None:
        """Commits, gives back, leaves: as far as the time reaches. The first error is raised."""
        self._give_up()
        what = f"leaving group {self._config['group_id']!r}"
        try:
            self.driver.run(self._farewell(autocommit), timeout_ms, what)
        finally:
            self._heart.stop()
            if self._commits is not None:
                self._commits.call_back()
            self.driver.close()

    def forgotten(self, timeout_ms: float) -> None:
        """Leaves the group, and calls nobody's code."""
        self._give_up()
        try:
            if self.group is not None and self.subscription.by_group:
                what = f"leaving group {self._config['group_id']!r}"
                self.driver.run(self.group.part("nobody closed the consumer"), timeout_ms, what)
        finally:
            self._heart.stop()
            self.driver.close()

    def _farewell(self, autocommit: bool) -> Flow[None]:
        if self._commits is not None:
            if autocommit:
                yield from self.commit_for_others()
            yield from self._commits.flow({})
        if self.group is not None and self.subscription.by_group:
            yield from self.group.leave("the consumer was closed")


def _complain(error: Any) -> None:
    log.warning("an automatic commit failed; the next one comes: %s", error)
