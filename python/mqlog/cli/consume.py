"""`mqlog consume`: read a topic, over one plain connection to each leader. Works with any Kafka."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import click

from mqlog._records import Record, iter_batches
from mqlog.cli import admin
from mqlog.cli.moments import milliseconds
from mqlog.cli.records import formatter, to_json
from mqlog.cli.topic import connection_options
from mqlog.connection import Api, Cluster
from mqlog.errors import MqlogError, UsageError
from mqlog.protocol.fetch import FetchRequest, FetchResponse

#: The newest Fetch that names topics instead of ids.
_BY_NAME = 12
_WAIT_MS, _SHORT_WAIT_MS = 500, 50
_ANSWER_BYTES, _PARTITION_BYTES = 32 << 20, 4 << 20
#: Leadership moves: ask again, so often at most.
_MOVED, _PATIENCE = frozenset({5, 6, 74, 76}), 50
_ABORT = 0


@click.command()
@click.argument("topic")
@click.option("--partition", "-p", "partitions", type=click.IntRange(min=0), multiple=True)
@click.option(
    "--offset",
    "-o",
    "where",
    default="start",
    show_default=True,
    metavar="WHERE",
    help="start, end, OFFSET, -N (N before the end), or @TIME (ISO 8601 or ms since 1970).",
)
@click.option("--count", "-n", type=click.IntRange(min=1), help="Stop after so many records.")
@click.option("--exit", "-e", "stop", is_flag=True, help="Stop at the end, do not wait for more.")
@click.option(
    "--format",
    "-f",
    "text",
    default=r"%s\n",
    show_default=True,
    help="%t topic, %p partition, %o offset, %k key, %s value, %K %S their lengths (-1: null), "
    "%T timestamp in ms, %h headers.",
)
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line; produce reads them.")
@click.option("--grep", metavar="REGEX", help="Only records whose key or value matches.")
@click.option(
    "--isolation",
    type=click.Choice(["committed", "uncommitted"]),
    default="committed",
    show_default=True,
    help="Whether records of open and aborted transactions are left out.",
)
@connection_options
def consume(
    topic: str,
    partitions: tuple[int, ...],
    where: str,
    count: int | None,
    stop: bool,
    text: str,
    as_json: bool,
    grep: str | None,
    isolation: str,
    bootstrap: str,
    timeout: float,
) -> None:
    """Print the records of a topic, and wait for more until Ctrl-C."""
    made: Callable[[int, Record], bytes] = formatter(topic, text)
    if as_json:
        made = lambda partition, record: to_json(topic, partition, record)  # noqa: E731
    try:
        pattern = re.compile(grep.encode()) if grep is not None else None
    except re.error as error:
        raise UsageError(f"--grep {grep!r}: {error}") from None
    out = sys.stdout.buffer
    left = count
    with Cluster(bootstrap, timeout_s=timeout) as cluster:
        reader = Reader(cluster, topic, partitions, isolation == "committed")
        reader.begin(where)
        while left is None or left > 0:
            for partition, record in reader.poll():
                if pattern is not None and not _matches(pattern, record):
                    continue
                out.write(made(partition, record))
                if left is not None:
                    left -= 1
                    if not left:
                        break
            out.flush()
            if stop and reader.at_end:
                return


def _matches(pattern: re.Pattern[bytes], record: Record) -> bool:
    return any(data is not None and pattern.search(data) for data in (record.key, record.value))


class Reader:
    """Positions in the partitions of a topic, and the fetches that move them."""

    def __init__(
        self, cluster: Cluster, topic: str, partitions: tuple[int, ...], committed: bool
    ) -> None:
        self._cluster, self._topic, self._committed = cluster, topic, committed
        self._metadata, self._found = admin.find_topic(cluster, topic)
        known = sorted(p.partition_index for p in self._found.partitions)
        missing = [index for index in partitions if index not in known]
        if missing:
            raise MqlogError(f"topic {topic!r} has no partition {missing[0]}; it has {len(known)}")
        self._wanted = frozenset(partitions or known)
        self._next: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._failures = 0

    @property
    def at_end(self) -> bool:
        """Whether everything that was there when it began has been read."""
        return all(self._next[index] >= end for index, end in self._ends.items())

    def begin(self, where: str) -> None:
        """Find the first offset of each partition."""
        starts, self._ends = self._offsets(admin.EARLIEST), self._offsets(admin.LATEST)
        if where.startswith("@"):
            times = self._offsets(milliseconds(where[1:]))
            for index, end in self._ends.items():
                at = times.get(index, -1)
                self._next[index] = end if at < 0 else at
        elif where in ("start", "end"):
            self._next = dict(starts if where == "start" else self._ends)
        elif re.fullmatch(r"-[0-9]+", where):
            back = int(where)
            self._next = {i: max(starts[i], end + back) for i, end in self._ends.items()}
        elif where.isascii() and where.isdecimal():
            self._next = dict.fromkeys(self._ends, int(where))
            for index, end in self._ends.items():
                if not starts[index] <= int(where) <= end:
                    raise MqlogError(
                        f"partition {index} of {self._topic!r} holds offsets {starts[index]} to "
                        f"{end}, not {where}; -p reads one partition"
                    )
        else:
            raise UsageError(f"--offset {where!r} is neither start, end, OFFSET, -N nor @TIME")

    def _offsets(self, timestamp: int) -> dict[int, int]:
        found = admin.offsets(self._cluster, self._metadata, self._found, timestamp)
        return {index: offset for index, offset in found.items() if index in self._wanted}

    def poll(self) -> Iterator[tuple[int, Record]]:
        """Ask each leader once; the records that came, with their partition."""
        leaders = admin.by_leader(self._found)
        wait_ms = _WAIT_MS if len(leaders) == 1 else _SHORT_WAIT_MS
        for leader, indexes in leaders.items():
            mine = [index for index in indexes if index in self._next]
            if not mine:
                continue
            parts = [
                FetchRequest.FetchPartition(
                    index, fetch_offset=self._next[index], partition_max_bytes=_PARTITION_BYTES
                )
                for index in mine
            ]
            request = FetchRequest(
                max_wait_ms=wait_ms,
                min_bytes=1,
                max_bytes=_ANSWER_BYTES,
                isolation_level=int(self._committed),
                topics=[FetchRequest.FetchTopic(self._topic, partitions=parts)],
            )
            connection = self._cluster.node(leader, self._metadata)
            answer = connection.call(Api.FETCH, request, FetchResponse, newest=_BY_NAME)
            for part in (p for t in answer.responses for p in t.partitions):
                yield from self._records(part)

    def _records(self, part: Any) -> Iterator[tuple[int, Record]]:
        index = part.partition_index
        if part.error_code in _MOVED and self._failures < _PATIENCE:
            self._failures += 1
            time.sleep(_WAIT_MS / 1000)
            self._metadata, self._found = admin.find_topic(self._cluster, self._topic)
            return
        admin.check(part.error_code, None, f"partition {index} of {self._topic!r}")
        self._failures = 0
        aborted = sorted(
            (one.first_offset, one.producer_id) for one in part.aborted_transactions or ()
        )
        gone: set[int] = set()
        for batch in iter_batches(part.records or b""):
            while aborted and aborted[0][0] <= batch.base_offset:
                gone.add(aborted.pop(0)[1])
            if batch.is_control:
                if _is_abort(batch.records()):
                    gone.discard(batch.producer_id)
            elif not (batch.is_transactional and batch.producer_id in gone):
                for record in batch.records():
                    if record.offset >= self._next[index]:
                        yield index, record
            self._next[index] = batch.next_offset


def _is_abort(records: list[Record]) -> bool:
    key = records[0].key if records else None
    return key is not None and int.from_bytes(key[2:4], "big") == _ABORT
