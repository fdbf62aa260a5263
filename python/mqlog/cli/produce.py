"""`mqlog produce`: lines to records, one request at a time. Works with any Kafka."""

from __future__ import annotations

import os
import select
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

import click

from mqlog import _native
from mqlog.cli import admin
from mqlog.cli.records import NewRecord, from_json, partition_of, unescape
from mqlog.cli.topic import Setting, connection_options
from mqlog.connection import Api, Cluster
from mqlog.errors import KafkaError, MqlogError, UsageError
from mqlog.protocol.produce import ProduceRequest, ProduceResponse

#: The newest Produce that names topics instead of ids.
_BY_NAME = 12
#: A batch is sent when it has so many bytes or records, or when no line has come for a moment.
BATCH_BYTES, BATCH_RECORDS, QUIET_S = 512 * 1024, 10_000, 0.05
MAX_LINE_BYTES = 64 << 20
_READ_BYTES = 1 << 20
_RETRIES, _RETRY_S = 20, 0.25
_PROGRESS_S = 0.5


@click.command()
@click.argument("topic")
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False))
@click.option("--key-separator", "-k", metavar="TEXT", help="What stands between key and value.")
@click.option("--header", "-H", "headers", type=Setting(), multiple=True, help="On every record.")
@click.option("--json", "as_json", is_flag=True, help="Lines are objects, as consume writes them.")
@click.option("--partition", "-p", type=click.IntRange(min=0), help="Default: the key decides.")
@click.option("--null-value", metavar="TEXT", help="A value of this text is null: a tombstone.")
@click.option(
    "--compression",
    "-z",
    type=click.Choice(["none", "gzip", "snappy", "lz4", "zstd"]),
    default="none",
    show_default=True,
)
@click.option("--acks", type=click.Choice(["all", "1", "0"]), default="all", show_default=True)
@connection_options
def produce(
    topic: str,
    files: tuple[str, ...],
    key_separator: str | None,
    headers: tuple[tuple[str, str], ...],
    as_json: bool,
    partition: int | None,
    null_value: str | None,
    compression: str,
    acks: str,
    bootstrap: str,
    timeout: float,
) -> None:
    """Send each line of FILES, or of standard input, as a record."""
    if key_separator == "":
        raise UsageError("--key-separator is empty")
    separator = None if key_separator is None else unescape(key_separator).encode()
    fixed = tuple((name, value.encode()) for name, value in headers)
    null = None if null_value is None else null_value.encode()

    def record(line: bytes) -> NewRecord:
        if as_json:
            one = from_json(line)
            where = one.partition if partition is None else partition
            return one._replace(headers=one.headers + fixed, partition=where)
        key: bytes | None = None
        value = line
        if separator is not None:
            key, found, value = line.partition(separator)
            if not found:
                raise UsageError(f"no {key_separator!r} between key and value")
        return NewRecord(key, None if value == null else value, fixed, partition, None)

    with Cluster(bootstrap, timeout_s=timeout) as cluster:
        sender = Sender(cluster, topic, compression, {"all": -1, "1": 1, "0": 0}[acks])
        try:
            for name in files or ("-",):
                _send_lines(sender, name, record)
            sender.flush()
        except KeyboardInterrupt:
            click.echo(f"{sender.sent} records were acknowledged", err=True)
            raise
        except MqlogError as error:
            raise type(error)(f"{error}; {sender.sent} records were acknowledged before") from None
    sender.progress(last=True)


def _send_lines(sender: Sender, name: str, record: Callable[[bytes], NewRecord]) -> None:
    fd = sys.stdin.fileno() if name == "-" else os.open(name, os.O_RDONLY)
    try:
        for number, line in enumerate(_lines(fd, name), 1):
            if line is None:
                sender.flush()
                continue
            try:
                sender.add(record(line))
            except UsageError as error:
                raise UsageError(f"{name}: line {number}: {error}") from None
    finally:
        if name != "-":
            os.close(fd)


def _lines(fd: int, name: str) -> Iterator[bytes | None]:
    """Lines without their ends; None when none has come for a moment."""
    held = b""
    while True:
        if not select.select([fd], [], [], QUIET_S)[0]:
            yield None
            select.select([fd], [], [])
        data = os.read(fd, _READ_BYTES)
        lines = (held + data).split(b"\n")
        held = lines.pop()
        yield from lines
        if len(held) > MAX_LINE_BYTES:
            raise UsageError(f"{name}: a line is longer than {MAX_LINE_BYTES} bytes")
        if not data:
            if held:
                yield held
            return


class Sender:
    """Records by partition, until there are enough for a request."""

    def __init__(self, cluster: Cluster, topic: str, codec: str, acks: int) -> None:
        self._cluster, self._topic, self._codec, self._acks = cluster, topic, codec, acks
        self._find()
        self._held: dict[int, list[NewRecord]] = defaultdict(list)
        self._bytes = self._records = self._turn = 0
        self._told = time.monotonic()
        self.sent = 0

    def _find(self) -> None:
        self._metadata, self._found = admin.find_topic(self._cluster, self._topic)
        self._count = len(self._found.partitions)

    def add(self, record: NewRecord) -> None:
        """Take a record; send what is there if that is enough."""
        index = record.partition
        if index is None:
            index = self._turn if record.key is None else partition_of(record.key, self._count)
        elif not 0 <= index < self._count:
            raise UsageError(
                f"topic {self._topic!r} has no partition {index}; it has {self._count}"
            )
        self._held[index].append(record)
        self._records += 1
        self._bytes += len(record.key or b"") + len(record.value or b"") + 16
        if self._bytes >= BATCH_BYTES or self._records >= BATCH_RECORDS:
            self.flush()

    def flush(self) -> None:
        """Send what is held, and wait until it is acknowledged."""
        if not self._held:
            return
        now_ms = time.time_ns() // 1_000_000
        batches = {
            index: _native.build_batch(
                [(now_ms if one.timestamp is None else one.timestamp, *one[:3]) for one in records],
                self._codec,
            )
            for index, records in self._held.items()
        }
        count, self._records, self._bytes = self._records, 0, 0
        self._held.clear()
        # Records without a key stay together, one batch here, the next there.
        self._turn = (self._turn + 1) % self._count
        for attempt in range(_RETRIES + 1):
            refused = self._send(batches)
            if not refused:
                break
            error = next(iter(refused.values()))
            if not error.retriable or attempt == _RETRIES:
                raise error
            batches = {index: batches[index] for index in refused}
            time.sleep(_RETRY_S)
            self._find()
        self.sent += count
        self.progress()

    def _send(self, batches: dict[int, bytes]) -> dict[int, KafkaError]:
        """Send to each leader what is its; what was refused."""
        refused: dict[int, KafkaError] = {}
        leaders = admin.by_leader(self._found)
        for leader, indexes in leaders.items():
            mine = [index for index in indexes if index in batches]
            if not mine:
                continue
            parts = [ProduceRequest.PartitionProduceData(i, batches[i]) for i in mine]
            data = [ProduceRequest.TopicProduceData(self._topic, partition_data=parts)]
            request = ProduceRequest(None, self._acks, 30_000, data)
            connection = self._cluster.node(leader, self._metadata)
            if self._acks == 0:
                connection.send(Api.PRODUCE, request, newest=_BY_NAME)
                continue
            answer = connection.call(Api.PRODUCE, request, ProduceResponse, newest=_BY_NAME)
            refused |= _refusals(answer, self._topic)
        led = {index for indexes in leaders.values() for index in indexes}
        for index in set(batches) - led:
            refused[index] = KafkaError.of(5, f"partition {index} of {self._topic!r} has no leader")
        return refused

    def progress(self, *, last: bool = False) -> None:
        """Tell a terminal how far it is."""
        now = time.monotonic()
        if not sys.stderr.isatty() or (not last and now - self._told < _PROGRESS_S):
            return
        self._told = now
        click.echo(f"\r{self.sent:,} records sent to {self._topic}", err=True, nl=last)


def _refusals(answer: ProduceResponse, topic: str) -> dict[int, KafkaError]:
    refused: dict[int, KafkaError] = {}
    parts: Iterable[ProduceResponse.PartitionProduceResponse] = (
        part for one in answer.responses for part in one.partition_responses
    )
    for part in parts:
        if part.error_code:
            error = KafkaError.of(part.error_code)
            text = f"partition {part.index} of {topic!r}: {part.error_message or error}"
            refused[part.index] = KafkaError.of(part.error_code, f"{text} ({error.name})")
    return refused
