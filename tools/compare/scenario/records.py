"""Records: written, read, found, deleted."""

# ruff: noqa: B023 - what is made in a turn of a loop is called in that turn alone

from __future__ import annotations

import gzip
import struct
from typing import Any

from codec import VERSIONS, uvarint
from peer import Peer

from mqlog._records import crc32c

#: A moment in 2024: what is stored does not depend on when this runs.
MOMENT = 1_717_171_717_000
BAD_ID = b"\x07" * 16


def batch(
    *values: bytes | None,
    at: int = MOMENT,
    codec: int = 0,
    attributes: int = 0,
    producer: tuple[int, int, int] = (-1, -1, -1),
    magic: int = 2,
    crc_xor: int = 0,
    count: int | None = None,
) -> bytes:
    """A batch, each record a millisecond after the one before; any field can be made wrong."""
    body = b""
    for number, value in enumerate(values):
        key = b"k%d" % number
        sized = _zigzag(-1) if value is None else _zigzag(len(value)) + value
        record = b"\0" + _zigzag(number) + _zigzag(number) + _zigzag(len(key)) + key + sized + b"\0"
        body += _zigzag(len(record)) + record
    if codec == 1:
        body = gzip.compress(body, mtime=0)
    last = len(values) - 1
    tail = struct.pack(">hiqqqhii", codec | attributes, last, at, at + max(last, 0), *producer,
                       len(values) if count is None else count) + body  # fmt: skip
    crc = crc32c(tail) ^ crc_xor
    return struct.pack(">qiibI", 0, len(tail) + 9, -1, magic, crc) + tail


def _zigzag(number: int) -> bytes:
    return uvarint(((number << 1) ^ (number >> 63)) & (1 << 64) - 1)


def run(peer: Peer) -> None:
    """All steps about records."""
    produce(peer)
    idempotent(peer)
    fetch(peer)
    sessions(peer)
    list_offsets(peer)
    epochs(peer)
    delete(peer)


def produce(peer: Peer) -> None:
    """Produce, good and bad, in each version."""
    topic = peer.make_topic("produce", 2, max_message_bytes="2000")
    compact = peer.make_topic("produce-compact", 1, cleanup_policy="compact")
    appended = peer.make_topic("produce-appended", 1, message_timestamp_type="LogAppendTime")
    nobody = peer.named("nobody")
    for version in VERSIONS["Produce"]:

        def step(
            label: str, *parts: tuple[int, bytes | None], at: int = version, **values: Any
        ) -> None:
            name = values.pop("topic", topic)
            data = [{"index": index, "records": records} for index, records in parts]
            one = {"name": name, "topic_id": peer.ids.get(name, BAD_ID), "partition_data": data}
            asked = {"acks": -1, "timeout_ms": 20_000, "topic_data": [one], **values}
            peer.step(f"produce {label}", "Produce", at, **asked)

        step("two records", (0, batch(b"a", b"b")))
        if version < 3:
            continue
        step("to two partitions", (1, batch(b"a")), (0, batch(b"c")))
        step("for the leader alone", (0, batch(b"d")), acks=1)
        step("compressed", (0, batch(b"e" * 500, b"f" * 500, codec=1)))
        step("a null value", (0, batch(None)))
        step("by broker's time", (0, batch(b"g")), topic=appended)
        step("nothing to a partition", (0, b""))
        step("to no such topic", (0, batch(b"a")), topic=nobody)
        step("to no such partition", (7, batch(b"a")), (0, batch(b"a")), (-1, batch(b"a")))
        step("a wrong CRC", (0, batch(b"a", crc_xor=1)))
        step("an old format", (0, batch(b"a", magic=1)))
        step("too large", (0, batch(b"x" * 3000)))
        step("a wrong count", (0, batch(b"a", count=2)))
        step("no records", (0, batch()))
        step("a keyed one to a compacted topic", (0, batch(b"a")), topic=compact)
        step("two batches", (0, batch(b"a") + batch(b"b")))
        step("one cut", (0, batch(b"a")[:-1]))
        step("a control batch", (0, batch(b"a", attributes=0x20)))
        step("an unknown codec", (0, batch(b"a", attributes=5)))
        step("with acks 2", (0, batch(b"a")), acks=2)
        step("to nothing")
        peer.unanswered(
            "produce without an answer",
            "Produce",
            version,
            acks=0,
            timeout_ms=20_000,
            topic_data=[{"name": topic, "topic_id": peer.ids[topic],
                         "partition_data": [{"index": 0, "records": batch(b"h")}]}],
        )  # fmt: skip


def idempotent(peer: Peer) -> None:
    """Producer ids, sequences, and what DescribeProducers tells of them."""
    topic = peer.make_topic("idempotent", 1)

    def gives_ids() -> bool:
        asked = {"transactional_id": None, "transaction_timeout_ms": 60_000}
        return bool(peer.ask("InitProducerId", 4, **asked)["error_code"] == 0)

    # A Kafka that was just started has no block of ids yet.
    peer.settle("producer ids", gives_ids)
    for version in VERSIONS["InitProducerId"]:

        def init(label: str, at: int = version, **values: Any) -> dict[str, Any]:
            asked = {"transactional_id": None, "transaction_timeout_ms": 60_000, **values}
            return peer.step(f"id {label}", "InitProducerId", at, **asked)

        first = init("for a new one")
        init("for another")
        if version >= 3:
            again = {"producer_id": first["producer_id"], "producer_epoch": 0}
            init("for one that is back", **again)
            init("of an epoch without an id", producer_id=-1, producer_epoch=3)
        init("of an empty transaction", transactional_id="")
        init("without a time", transaction_timeout_ms=-1)
    for version in (3, 7, 9, 12, 13):
        who = peer.ask("InitProducerId", 4, transactional_id=None, transaction_timeout_ms=60_000)

        def send(label: str, sequence: int, epoch: int = 0, at: int = version) -> None:
            records = batch(b"s", b"t", producer=(who["producer_id"], epoch, sequence))
            parts = [{"index": 0, "records": records}]
            one = {"name": topic, "topic_id": peer.ids[topic], "partition_data": parts}
            asked = {"acks": -1, "timeout_ms": 20_000, "topic_data": [one]}
            peer.step(f"sequence {label}", "Produce", at, **asked)

        send("not from 0", 5)
        send("0", 0)
        send("0 again", 0)
        send("2", 2)
        send("0 once more", 0)
        send("with a gap", 9)
        send("of a newer epoch, not from 0", 4, 1)
        send("of a newer epoch", 0, 1)
        send("of an older epoch", 2, 0)
    for label, name, parts in (
        ("of one", topic, [0]),
        ("of no such partition", topic, [0, 9, -1]),
        ("of no such topic", peer.named("nobody"), [0]),
        ("of none", topic, []),
    ):
        asked = [{"name": name, "partition_indexes": parts}]
        peer.step(f"producers {label}", "DescribeProducers", 0, topics=asked)


def filled(peer: Peer, name: str, partitions: int = 1, **configs: str) -> str:
    """A topic with three batches of three records in each partition."""
    topic = peer.make_topic(name, partitions, **configs)
    for partition in range(partitions):
        for number in range(3):
            records = batch(b"one", b"two", b"three", at=MOMENT + 10_000 * number)
            parts = [{"index": partition, "records": records}]
            data = [{"name": topic, "partition_data": parts}]
            peer.ask("Produce", 9, acks=-1, timeout_ms=20_000, topic_data=data)
    return topic


def asked(peer: Peer, topic: str, *parts: tuple[int, int], **more: Any) -> dict[str, Any]:
    """A topic of a fetch: partition and offset."""
    size = {"partition_max_bytes": 1 << 20, **more}
    listed = [{"partition": index, "fetch_offset": offset, **size} for index, offset in parts]
    return {"topic": topic, "topic_id": peer.ids.get(topic, BAD_ID), "partitions": listed}


def fetch(peer: Peer) -> None:
    """Fetch without a session."""
    topic = filled(peer, "fetch", 2)
    empty = peer.make_topic("fetch-empty", 1)
    nobody = peer.named("nobody")
    for version in VERSIONS["Fetch"]:

        def step(label: str, *topics: dict[str, Any], at: int = version, **values: Any) -> None:
            given = {"max_wait_ms": 10, "min_bytes": 1, "max_bytes": 1 << 24, **values}
            peer.step(f"fetch {label}", "Fetch", at, topics=list(topics), **given)

        step("all", asked(peer, topic, (0, 0)))
        step("from inside a batch", asked(peer, topic, (0, 4)))
        step("two partitions", asked(peer, topic, (1, 6), (0, 3)))
        step("at the end", asked(peer, topic, (0, 9)))
        step("of an empty one", asked(peer, empty, (0, 0)))
        step("beyond the end", asked(peer, topic, (0, 10)))
        step("before the start", asked(peer, topic, (0, -1)))
        step("of no such partition", asked(peer, topic, (7, 0), (0, 8)))
        step("of no such topic", asked(peer, nobody, (0, 0)))
        step("committed", asked(peer, topic, (0, 6)), isolation_level=1)
        step("at least one batch", asked(peer, topic, (0, 0), (1, 0)), max_bytes=1)
        step("a byte of a partition", asked(peer, topic, (0, 0), partition_max_bytes=1))
        step("a batch and a half", asked(peer, topic, (0, 0), partition_max_bytes=140))
        step("nothing of nothing")
        if version >= 9:
            step("of this epoch", asked(peer, topic, (0, 6), current_leader_epoch=0))
            step("of a later epoch", asked(peer, topic, (0, 6), current_leader_epoch=5))
        if version >= 12:
            step("after an epoch", asked(peer, topic, (0, 6), last_fetched_epoch=0))
            step("after a later epoch", asked(peer, topic, (0, 6), last_fetched_epoch=4))
        if version < 15:
            step("as a follower", asked(peer, topic, (0, 6)), replica_id=peer.node + 7)


def sessions(peer: Peer) -> None:
    """Fetch with a session that goes on."""
    topic = filled(peer, "session", 3)
    nobody = peer.named("nobody")
    for version in (v for v in VERSIONS["Fetch"] if v >= 7):
        session = 0

        def step(
            label: str, epoch: int, *topics: dict[str, Any], at: int = version, **values: Any
        ) -> dict[str, Any]:
            given = {"max_wait_ms": 10, "min_bytes": 1, "max_bytes": 1 << 24, **values}
            given = {"session_id": session, "session_epoch": epoch, **given}
            return peer.step(f"session {label}", "Fetch", at, topics=list(topics), **given)

        def forget(*partitions: int) -> dict[str, Any]:
            one = {"topic": topic, "topic_id": peer.ids[topic], "partitions": list(partitions)}
            return {"forgotten_topics_data": [one]}

        begun = step("begun", 0, asked(peer, topic, (0, 6), (1, 9)))
        session = begun.get("session_id", 0)
        step("again", 1)
        step("moved on", 2, asked(peer, topic, (0, 9)))
        step("with nothing new", 3)
        step("with one more", 4, asked(peer, topic, (2, 3)))
        step("with one that is not there", 5, asked(peer, topic, (8, 0)))
        step("with a topic that is not there", 6, asked(peer, nobody, (0, 0)))
        step("without those", 7, **forget(8, 2))
        step("out of turn", 12)
        step("in turn", 8)
        step("forgetting a stranger", 9, **forget(7))
        step("ended", -1, asked(peer, topic, (0, 6)))
        step("after its end", 1)
        session = 1_234_567
        step("that never was", 1)
        step("that never was, ended", -1, asked(peer, topic, (0, 6)))


def list_offsets(peer: Peer) -> None:
    """ListOffsets by time and by the marks that stand for ends."""
    topic = filled(peer, "offsets", 2)
    nobody = peer.named("nobody")
    for version in VERSIONS["ListOffsets"]:

        def step(label: str, *parts: tuple[int, int], at: int = version, **values: Any) -> None:
            name, epoch = values.pop("topic", topic), values.pop("epoch", -1)
            listed = [
                {"partition_index": i, "timestamp": when, "current_leader_epoch": epoch}
                for i, when in parts
            ]
            one = {"name": name, "partitions": listed}
            values = {"replica_id": -1, "topics": [one], **values}
            peer.step(f"offset {label}", "ListOffsets", at, **values)

        step("first", (0, -2))
        step("last", (0, -1), (1, -1))
        step("last committed", (0, -1), isolation_level=1)
        for mark, first in ((-3, 7), (-4, 8), (-5, 9), (-6, 11)):
            step(f"of the mark {mark}", (0, mark))
            if version < first:
                break
        step("of an unknown mark", (0, -9))
        step("of a batch", (0, MOMENT + 10_000))
        step("inside a batch", (0, MOMENT + 10_001))
        step("between batches", (0, MOMENT + 5_000))
        step("before all", (0, 0))
        step("after all", (0, MOMENT + 99_000))
        step("of no such partition", (9, -1), (0, -1))
        step("of no such topic", (0, -1), topic=nobody)
        step("of one twice", (0, -1), (0, -2))
        step("of nothing")
        if version >= 4:
            step("of this epoch", (0, -1), epoch=0)
            step("of a later epoch", (0, -1), epoch=3)


def epochs(peer: Peer) -> None:
    """OffsetForLeaderEpoch."""
    topic = filled(peer, "epochs", 1)
    for version in VERSIONS["OffsetForLeaderEpoch"]:

        def step(label: str, *parts: tuple[int, int, int], at: int = version, **more: Any) -> None:
            listed = [
                {"partition": index, "current_leader_epoch": current, "leader_epoch": epoch}
                for index, current, epoch in parts
            ]
            one = {"topic": more.get("topic", topic), "partitions": listed}
            peer.step(f"epoch {label}", "OffsetForLeaderEpoch", at, replica_id=-1, topics=[one])

        step("of now", (0, -1, 0))
        step("known to both", (0, 0, 0))
        step("to come", (0, -1, 4))
        step("of a later leader", (0, 3, 0))
        step("of no such partition", (7, -1, 0))
        step("of no such topic", (0, -1, 0), topic=peer.named("nobody"))
        step("of nothing")


def delete(peer: Peer) -> None:
    """DeleteRecords."""
    compact = peer.make_topic("trim-compact", 1, cleanup_policy="compact")
    for version in VERSIONS["DeleteRecords"]:
        topic = filled(peer, f"trim-{version}", 2)

        def step(label: str, *parts: tuple[int, int], at: int = version, **more: Any) -> None:
            listed = [{"partition_index": index, "offset": offset} for index, offset in parts]
            one = {"name": more.pop("topic", topic), "partitions": listed}
            peer.step(f"trim {label}", "DeleteRecords", at, timeout_ms=20_000, topics=[one])

        def look(label: str, offset: int) -> None:
            given = {"max_wait_ms": 10, "min_bytes": 1, "max_bytes": 1 << 24}
            peer.step(
                f"trim {label}", "Fetch", 12, topics=[asked(peer, topic, (0, offset))], **given
            )

        step("to inside a batch", (0, 4))
        look("and read before it", 3)
        look("and read at it", 4)
        step("back", (0, 2))
        step("beyond the end", (0, 10))
        step("below nothing", (0, -2))
        step("to the end, and one that is not there", (0, -1), (9, 0), (1, 3))
        look("and read at the end", 9)
        step("of no such topic", (0, 0), topic=peer.named("nobody"))
        step("of a compacted topic", (0, 0), topic=compact)
        step("of nothing")
