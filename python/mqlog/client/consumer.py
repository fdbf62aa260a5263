"""KafkaConsumer: reads records, alone or as a member of a group."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any

from mqlog._columns import RecordColumns
from mqlog._consumer import Record
from mqlog.client.batch import RecordBatch
from mqlog.client.commits import Callback, CommitFuture, Offsets
from mqlog.client.metadata import refreshed
from mqlog.client.offsets import EARLIEST, LATEST, list_offsets
from mqlog.client.polling import Polling
from mqlog.client.structs import (
    ConsumerGroupMetadata,
    OffsetAndMetadata,
    OffsetAndTimestamp,
    TopicPartition,
)
from mqlog.client.subscription import ConsumerRebalanceListener
from mqlog.client.subscription import partition as as_partition
from mqlog.errors import KafkaTimeoutError, PartitionNotAssignedError

#: What is consumed; the fields of kafka-python's ConsumerRecord.
ConsumerRecord = Record


class KafkaConsumer(Polling):
    """Reads the records of topics, as `for record in consumer` or by `poll`.

        consumer = KafkaConsumer("flights", group_id="board", auto_offset_reset="earliest")
        for record in consumer:
            print(record.partition, record.offset, record.value)

    With `group_id` the members of the group share the partitions, and positions are committed;
    without one it reads all partitions of its topics. Settings are keywords, or a dict with Kafka's
    dotted names before the topics; `mqlog.client.config` lists them all. Making one connects:
    NoBrokersAvailable if nobody answers within `bootstrap_timeout_ms` (default 30 s).

    One thread at a time: another one gets IllegalStateError. `close` may be called by any; without
    it the consumer leaves its group when nobody holds it or the program ends, and commits nothing.
    """

    def __init__(self, *topics: Any, **settings: Any) -> None:
        dotted = topics[0] if topics and isinstance(topics[0], Mapping) else None
        super().__init__(dotted, settings)
        names = topics if dotted is None else topics[1:]
        try:
            if names:
                self.subscribe(names)
        except BaseException:
            self.close(autocommit=False)
            raise

    def __enter__(self) -> KafkaConsumer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # After an exception nobody knows whether the last records were done with.
        self.close(autocommit=kind is None)

    # -- what to read ----------------------------------------------------------------------------

    def subscribe(
        self,
        topics: Iterable[str] = (),
        pattern: str | None = None,
        listener: ConsumerRebalanceListener | None = None,
    ) -> None:
        """Reads these topics, or those whose names match; replaces what was subscribed before.

        The listener hears, inside `poll`, which partitions come and go. IllegalStateError after
        `assign`; ValueError unless exactly one of topics and pattern is given.
        """
        with self._use():
            self._control.subscribe(topics, pattern, listener)

    def unsubscribe(self) -> None:
        """Reads nothing any more; a member leaves its group."""
        with self._use():
            self._control.unsubscribe(self._config["default_api_timeout_ms"])

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """Reads exactly these partitions, without sharing them in a group.

        Partitions that it reads already go on where they are. IllegalStateError after `subscribe`.
        """
        wanted = list(partitions)
        if not wanted:
            self.unsubscribe()
            return
        with self._use():
            self._control.assign(wanted)

    def assignment(self) -> set[TopicPartition]:
        """The partitions that are read now."""
        return self._control.owned()

    def subscription(self) -> set[str] | None:
        """The topics that are subscribed, with a pattern those that match; None if none are."""
        subscription = self._control.subscription
        return set(subscription.topics) if subscription.by_group else None

    def pause(self, *partitions: TopicPartition) -> None:
        """Gives out no records of these partitions until `resume`; they stay assigned."""
        self._pause(partitions, True)

    def resume(self, *partitions: TopicPartition) -> None:
        """Goes on giving out records of these partitions."""
        self._pause(partitions, False)

    def _pause(self, partitions: Iterable[Any], on: bool) -> None:
        with self._use():
            for place in self._assigned(partitions):
                self._native.pause(*place, on)

    def paused(self) -> set[TopicPartition]:
        """The partitions that are paused."""
        return {
            TopicPartition(topic, index)
            for topic, index, facts in self._native.all_facts()
            if facts.paused
        }

    # -- records ---------------------------------------------------------------------------------

    def poll(
        self, timeout_ms: float = 0, max_records: int | None = None, update_offsets: bool = True
    ) -> dict[TopicPartition, list[Record]]:
        """Records that have come, by partition: at most `max_records` (`max_poll_records`).

        Waits up to `timeout_ms` for the first. What a group needs happens in here: joining,
        listeners, automatic commits. With `update_offsets=False` the positions stay, and the same
        records come again. Raises what went wrong meanwhile, such as authorization, a damaged
        batch (with its offset) or what a listener raised.
        """
        limit = self._limit(max_records)
        with self._use():
            records = self._wait(lambda: self._take_records(limit), timeout_ms)
            if records and not update_offsets:
                for place, some in records.items():
                    self._native.seek(place.topic, place.partition, some[0].offset, -1)
            return records or {}

    def poll_columns(
        self, max_records: int | None = None, timeout_ms: float = 0, *, headers: bool = False
    ) -> RecordColumns:
        """Records as columns for Arrow, numpy and others, without an object for each.

        At most `max_records`, of one partition; waits up to `timeout_ms` for the first. `len()` is
        their number. `headers` has the headers decoded, too.
        """
        if max_records is not None:
            max_records = self._limit(max_records)
        with self._use():
            found = self._wait(lambda: self._take_columns(max_records, headers=headers), timeout_ms)
            return self._take_columns(0) if found is None else found

    def batches(
        self, max_records: int | None = None, timeout_ms: float | None = None
    ) -> Iterator[RecordBatch]:
        """Batches of records as they come, each with the `next_offsets` to commit after it.

        A batch has what is there, at most `max_records` (`max_poll_records`). If nothing comes for
        `timeout_ms`, an empty one lets the loop look around. Ends when nothing came for
        `consumer_timeout_ms`.
        """
        last = time.monotonic()
        patience = self._config["consumer_timeout_ms"] / 1000
        while not self._stop:
            left = (last + patience - time.monotonic()) * 1000
            if left <= 0:
                return
            records = self.poll(min(left, float("inf") if timeout_ms is None else timeout_ms),
                                max_records)  # fmt: skip
            if records:
                last = time.monotonic()
            elif timeout_ms is None:
                continue
            positions = {place: self._control.positions.at(place) for place in records}
            yield RecordBatch(records, {place: at for place, at in positions.items() if at})

    def _limit(self, max_records: int | None) -> int:
        if max_records is None:
            return int(self._config["max_poll_records"])
        if not isinstance(max_records, int):
            raise TypeError(f"max_records must be a whole number, not {max_records!r}")
        if max_records <= 0:
            raise ValueError(f"max_records={max_records}: must be positive")
        return max_records

    # -- positions -------------------------------------------------------------------------------

    def position(self, partition: TopicPartition, timeout_ms: float | None = None) -> int | None:
        """The offset of the next record that is given out.

        Looked up if need be, for `timeout_ms` at most (then None), or `default_api_timeout_ms`
        (then KafkaTimeoutError). PartitionNotAssignedError if it is not read.
        """
        place = as_partition(partition)
        limit = self._config["default_api_timeout_ms"] if timeout_ms is None else timeout_ms
        with self._use():
            if place not in self._control.owned():
                raise _not_assigned(place)
            self._until(lambda: self._control.positions.at(place) is not None, limit)
            at = self._control.positions.at(place)
            if at is None and timeout_ms is None:
                raise KafkaTimeoutError(
                    f"the position of {place.topic}-{place.partition} was not known within "
                    f"{limit:g} ms (default_api_timeout_ms)"
                )
            return None if at is None else at.offset

    def seek(self, partition: TopicPartition, offset: int | OffsetAndMetadata) -> None:
        """Goes on at an offset. PartitionNotAssignedError if it is not read."""
        at = _offset(offset)
        with self._use():
            (place,) = self._assigned([partition])
            epoch = -1 if at.leader_epoch is None else at.leader_epoch
            self._control.positions.seek(place, at.offset, epoch)

    def seek_to_beginning(self, *partitions: TopicPartition) -> None:
        """Goes on at the first record there is; of all assigned partitions, if none is named."""
        self._reset(partitions, "earliest")

    def seek_to_end(self, *partitions: TopicPartition) -> None:
        """Goes on at the next record that is written; of all partitions, if none is named."""
        self._reset(partitions, "latest")

    def _reset(self, partitions: Iterable[Any], where: str) -> None:
        with self._use():
            places = self._assigned(partitions) or sorted(self._control.owned())
            if not places:
                raise ValueError("no partitions are assigned")
            self._control.positions.reset(places, where)

    def _assigned(self, partitions: Iterable[Any]) -> list[TopicPartition]:
        """Partitions of the user's, all of them assigned."""
        places = [as_partition(place) for place in partitions]
        for place in places:
            if place not in self._control.positions.owned:
                raise _not_assigned(place)
        return places

    def highwater(self, partition: TopicPartition) -> int | None:
        """The offset that the next record of the partition will get, as last fetched; or None."""
        place = as_partition(partition)
        facts = self._native.facts(*place)
        if facts is None:
            raise _not_assigned(place)
        return facts.high_watermark if facts.high_watermark >= 0 else None

    def lag(self, timeout_ms: float | None = None) -> dict[TopicPartition, int]:
        """How many offsets lie before the end of each assigned partition that has a position.

        What fetching has told counts; where it has told nothing yet, the brokers are asked.
        """
        committed_only = self._config["isolation_level"] == "read_committed"
        with self._use():
            positions = self._control.positions.all()
            ends: dict[TopicPartition, int] = {}
            for place in positions:
                facts = self._native.facts(*place)
                if facts is not None:
                    ends[place] = facts.last_stable if committed_only else facts.high_watermark
            unknown = [place for place in positions if ends.get(place, -1) < 0]
            ends |= self._ends(unknown, LATEST, timeout_ms)
            return {place: max(0, ends[place] - at.offset) for place, at in positions.items()}

    # -- commits ---------------------------------------------------------------------------------

    def commit(
        self, offsets: Mapping[Any, Any] | None = None, timeout_ms: float | None = None
    ) -> None:
        """Commits these offsets, or all positions, and waits.

        Offsets are those of the next records: ints or OffsetAndMetadata. CommitFailedError if the
        group has gone on without this consumer, IllegalStateError without `group_id`.
        """
        limit = self._config["default_api_timeout_ms"] if timeout_ms is None else timeout_ms
        with self._use():
            self._control.commits().run(self._offsets(offsets), limit)

    def commit_async(
        self, offsets: Mapping[Any, Any] | None = None, callback: Callback | None = None
    ) -> CommitFuture:
        """Commits while the consumer is used further; not tried again if it fails.

        The callback is called, in a later `poll` or `close`, with the offsets and the response or
        the error; without one, `default_offset_commit_callback` is.
        """
        with self._use():
            return self._control.send_commit(self._offsets(offsets), callback)

    def _offsets(self, offsets: Mapping[Any, Any] | None) -> Offsets:
        if offsets is None:
            return self._control.positions.all()
        return {as_partition(place): _offset(what) for place, what in offsets.items()}

    def committed(
        self, partition: TopicPartition, metadata: bool = False, timeout_ms: float | None = None
    ) -> int | OffsetAndMetadata | None:
        """What the group has committed for a partition: the offset, or with its metadata; or None.

        IllegalStateError without `group_id`.
        """
        place = as_partition(partition)
        with self._use():
            flow = self._control.committed([place])
            found = self._run(flow, "asking for committed offsets", timeout_ms).get(place)
        return found if metadata or found is None else found.offset

    def group_metadata(self) -> ConsumerGroupMetadata:
        """The membership: group, generation, member id, instance id and state."""
        return self._control.metadata()

    # -- lookups ---------------------------------------------------------------------------------

    def topics(self) -> set[str]:
        """The names of all topics that it may see; asks a broker."""
        with self._use():
            return set(self._run(refreshed(None), "listing topics").topics())

    def partitions_for_topic(self, topic: str) -> set[int]:
        """The numbers of a topic's partitions; empty if there is no such topic."""
        with self._use():
            known = self._core.snapshot().topic(topic)
            if known is None or known.error_code:
                known = self._run(refreshed([topic]), f"looking for topic {topic!r}").topic(topic)
        return set() if known is None else set(range(len(known.partitions)))

    def beginning_offsets(
        self, partitions: Iterable[TopicPartition], timeout_ms: float | None = None
    ) -> dict[TopicPartition, int]:
        """The first offset of each partition."""
        with self._use():
            return self._ends(partitions, EARLIEST, timeout_ms)

    def end_offsets(
        self, partitions: Iterable[TopicPartition], timeout_ms: float | None = None
    ) -> dict[TopicPartition, int]:
        """The offset that the next record of each partition will get.

        With `isolation_level=read_committed`, that of the first open transaction, if there is one.
        """
        with self._use():
            return self._ends(partitions, LATEST, timeout_ms)

    def offsets_for_times(
        self, timestamps: Mapping[TopicPartition, int], timeout_ms: float | None = None
    ) -> dict[TopicPartition, OffsetAndTimestamp | None]:
        """The first record of each partition at or after a time (milliseconds since 1970).

        None where no record is that young.
        """
        wanted = {as_partition(place): int(at) for place, at in timestamps.items()}
        for place, at in wanted.items():
            if at < 0:
                raise ValueError(f"{place}: the time {at} is negative")
        with self._use():
            return self._run(list_offsets(wanted), "looking for times", timeout_ms)

    def _ends(
        self, partitions: Iterable[Any], which: int, timeout_ms: float | None
    ) -> dict[TopicPartition, int]:
        wanted = {as_partition(place): which for place in partitions}
        if not wanted:
            return {}
        committed_only = self._config["isolation_level"] == "read_committed"
        flow = list_offsets(wanted, committed_only=committed_only)
        found = self._run(flow, "looking for offsets", timeout_ms)
        return {place: at.offset for place, at in found.items() if at is not None}


def _not_assigned(place: TopicPartition) -> PartitionNotAssignedError:
    return PartitionNotAssignedError(
        f"{place.topic}-{place.partition} is not assigned to this consumer; assignment() tells "
        "what is",
        topic=place.topic,
        partition=place.partition,
    )


def _offset(what: Any) -> OffsetAndMetadata:
    """What is to be committed; an int is an offset alone."""
    found = OffsetAndMetadata(*what) if isinstance(what, tuple) else OffsetAndMetadata(what)
    offset: object = found.offset
    if not isinstance(offset, int) or isinstance(offset, bool) or offset < 0:
        raise ValueError(f"{what!r}: must be an OffsetAndMetadata, or an offset from 0")
    return found
