"""CPU time per record of Python's Kafka clients, against one broker in one session.

    python tools/bench/clients.py [--only NAME ...] [--reps 5] [--sizes 100 1000] [--out FILE]
    python tools/bench/clients.py --bootstrap HOST:PORT        # another broker than our own

The broker has core 0, each case a process of its own on core 1. Cases take turns, repetition by
repetition. Printed are the medians of the process's CPU time (all its threads) per record, of what
it costs relative to confluent-kafka's plain `produce`, and of records per second; the least and the
largest show what the machine did meanwhile. A line of JSON per run goes to --out.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

#: What a case gets: servers, topic, how many records, bytes of a value.
Case = Callable[[str, str, int, int], dict[str, float]]
CASES: dict[str, Case] = {}
#: Records of a case, for a measurement of about a second.
BYTES = {100: 2_000_000, 1000: 500_000}
BATCH = 100_000


def case(function: Case) -> Case:
    """Registers a case under its name."""
    CASES[function.__name__] = function
    return function


def value_of(size: int) -> bytes:
    """Half noise, half the same byte."""
    return os.urandom(size // 2) + b"x" * (size - size // 2)


class Meter:
    """CPU time and time of a stretch of code."""

    def __init__(self) -> None:
        self.cpu, self.wall = time.process_time(), time.perf_counter()

    def stop(self, count: int) -> dict[str, float]:
        """Per record."""
        cpu, wall = time.process_time() - self.cpu, time.perf_counter() - self.wall
        return {"ns": cpu / count * 1e9, "per_s": count / wall}


@contextmanager
def ours(servers: str, **settings: Any) -> Iterator[Any]:
    """Our producer, warm."""
    from mqlog.client.producer import KafkaProducer

    given = {"batch_size": 1_000_000, "linger_ms": 5, **settings}
    with KafkaProducer(bootstrap_servers=servers, **given) as producer:
        yield producer


@case
def send(servers: str, topic: str, count: int, size: int) -> dict[str, float]:
    """One `send` per record; futures ignored."""
    value = value_of(size)
    with ours(servers) as producer:
        producer.send(topic, value).get(10)
        meter = Meter()
        put = producer.send
        for _ in range(count):
            put(topic, value)
        producer.flush()
        return meter.stop(count)


@case
def send_default(servers: str, topic: str, count: int, size: int) -> dict[str, float]:
    """The same with our default settings."""
    from mqlog.client.producer import KafkaProducer

    value = value_of(size)
    with KafkaProducer(bootstrap_servers=servers) as producer:
        producer.send(topic, value).get(10)
        meter = Meter()
        put = producer.send
        for _ in range(count):
            put(topic, value)
        producer.flush()
        return meter.stop(count)


@case
def send_keyed(servers: str, topic: str, count: int, size: int) -> dict[str, float]:
    """One `send` with a key per record."""
    value = value_of(size)
    keys = [b"key-%d" % n for n in range(1000)]
    with ours(servers) as producer:
        producer.send(topic, value).get(10)
        meter = Meter()
        put = producer.send
        for _ in range(count // 1000):
            for key in keys:
                put(topic, value, key)
        producer.flush()
        return meter.stop(count // 1000 * 1000)


@case
def send_get(servers: str, topic: str, count: int, size: int) -> dict[str, float]:
    """Every future is waited for, in bulk."""
    value = value_of(size)
    with ours(servers) as producer:
        producer.send(topic, value).get(10)
        meter = Meter()
        put = producer.send
        for _ in range(count // BATCH):
            for future in [put(topic, value) for _ in range(BATCH)]:
                future.get(30)
        return meter.stop(count // BATCH * BATCH)


@case
def send_callback(servers: str, topic: str, count: int, size: int) -> dict[str, float]:
    """A callback for every record."""
    value = value_of(size)
    done = 0

    def delivered(_: object) -> None:
        nonlocal done
        done += 1

    with ours(servers) as producer:
        producer.send(topic, value).get(10)
        meter = Meter()
        put = producer.send
        for _ in range(count):
            put(topic, value).add_callback(delivered)
        producer.flush()
        while done < count:
            time.sleep(0.001)
        return meter.stop(count)


@case
def send_many(servers: str, topic: str, count: int, size: int) -> dict[str, float]:
    """Lists of values."""
    values = [value_of(size) for _ in range(1000)] * 10
    with ours(servers) as producer:
        producer.send(topic, values[0]).get(10)
        meter = Meter()
        for _ in range(count // len(values)):
            producer.send_many(topic, values)
        producer.flush()
        return meter.stop(count // len(values) * len(values))


@case
def send_columns(servers: str, topic: str, count: int, size: int) -> dict[str, float]:
    """Columns: rows of bytes."""
    rows = memoryview(value_of(size) * 10_000).cast("B", (10_000, size))
    with ours(servers) as producer:
        producer.send(topic, b"warm").get(10)
        meter = Meter()
        for _ in range(count // 10_000):
            producer.send_columns(topic, rows)
        producer.flush()
        return meter.stop(count // 10_000 * 10_000)


@case
def send_columns_lz4(servers: str, topic: str, count: int, size: int) -> dict[str, float]:
    """The same, compressed."""
    rows = memoryview(value_of(size) * 10_000).cast("B", (10_000, size))
    with ours(servers, compression_type="lz4") as producer:
        producer.send(topic, b"warm").get(10)
        meter = Meter()
        for _ in range(count // 10_000):
            producer.send_columns(topic, rows)
        producer.flush()
        return meter.stop(count // 10_000 * 10_000)


def confluent(servers: str, topic: str, count: int, size: int, **more: Any) -> dict[str, float]:
    """confluent-kafka's `produce`, as fast as its settings make it."""
    from confluent_kafka import Producer

    value = value_of(size)
    producer = Producer(
        {
            "bootstrap.servers": servers,
            "linger.ms": 5,
            "batch.size": 1_000_000,
            "batch.num.messages": 100_000,
            "queue.buffering.max.messages": 1_000_000,
            "acks": "all",
            "enable.idempotence": True,
        }
    )
    producer.produce(topic, value, **more)
    producer.flush()
    meter = Meter()
    for number in range(count):
        while True:
            try:
                producer.produce(topic, value, **more)
                break
            except BufferError:
                producer.poll(0.01)
        if not number % 1000:
            producer.poll(0)
    producer.flush()
    return meter.stop(count)


@case
def confluent_produce(servers: str, topic: str, count: int, size: int) -> dict[str, float]:
    """One `produce` per record."""
    return confluent(servers, topic, count // 2, size)


@case
def confluent_callback(servers: str, topic: str, count: int, size: int) -> dict[str, float]:
    """The same with a callback."""

    def delivered(error: object, _: object) -> None:
        assert error is None

    return confluent(servers, topic, count // 2, size, on_delivery=delivered)


def child(options: argparse.Namespace) -> None:
    """One case, in this process."""
    size = options.sizes[0]
    count = int(BYTES.get(size, 500_000) * options.scale)
    figures = CASES[options.case](options.bootstrap, options.topic, count, size)
    print(json.dumps(figures))


def run(name: str, servers: str, topic: str, size: int, scale: float) -> dict[str, float]:
    """One case, in a process of its own."""
    command = ["taskset", "-c", "1", sys.executable, __file__, "--case", name, "--topic", topic]
    command += ["--bootstrap", servers, "--sizes", str(size), "--scale", str(scale)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def make_topic(servers: str, name: str) -> None:
    """A topic of one partition that keeps little."""
    from confluent_kafka.admin import AdminClient, NewTopic

    config = {"retention.bytes": str(256 << 20), "segment.bytes": str(64 << 20)}
    admin = AdminClient({"bootstrap.servers": servers})
    admin.create_topics([NewTopic(name, 1, config=config)])[name].result(30)


@contextmanager
def broker(bootstrap: str | None) -> Iterator[str]:
    """The servers to ask: those given, or a broker of our own on core 0."""
    if bootstrap:
        yield bootstrap
        return
    from mqlog.testing import Broker

    with Broker(durability="os") as running:
        subprocess.run(["taskset", "-apc", "0", str(running.pid)], check=True, capture_output=True)
        yield running.bootstrap_servers


def table(runs: list[dict[str, Any]], size: int) -> Iterator[str]:
    """Medians, and how they compare."""
    of = {
        name: [one for one in runs if one["case"] == name and one["size"] == size] for name in CASES
    }
    ns = {
        name: statistics.median(one["ns"] for one in found) for name, found in of.items() if found
    }
    yield f"{size}-byte values{'':12} ns/record  least-largest   vs produce  vs callback  records/s"
    for name, median in ns.items():
        spread = [one["ns"] for one in of[name]]
        rate = statistics.median(one["per_s"] for one in of[name])
        ratios = [
            f"{ns[base] / median:9.1f}x" if base in ns else f"{'-':>10}"
            for base in ("confluent_produce", "confluent_callback")
        ]
        yield (
            f"{name:26} {median:10.0f}  {min(spread):6.0f}-{max(spread):<6.0f}  "
            f"{ratios[0]}  {ratios[1]}  {rate:11,.0f}"
        )


def main() -> None:
    """Measures, or is the process that does."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bootstrap")
    parser.add_argument("--only", nargs="*", choices=[*CASES], default=[*CASES])
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="*", default=[100, 1000])
    parser.add_argument("--scale", type=float, default=1, help="of the number of records")
    parser.add_argument("--out")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--topic", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        return child(options)
    runs: list[dict[str, Any]] = []
    with broker(options.bootstrap) as servers:
        for rep in range(options.reps):
            for size in options.sizes:
                for name in options.only:
                    topic = f"bench-{os.getpid()}-{len(runs)}"
                    make_topic(servers, topic)
                    figures = run(name, servers, topic, size, options.scale)
                    runs.append({"case": name, "size": size, "rep": rep, **figures})
                    if options.out:
                        with open(options.out, "a") as out:
                            out.write(json.dumps(runs[-1]) + "\n")
    for size in options.sizes:
        print("\n".join(table(runs, size)), end="\n\n")
    return None


if __name__ == "__main__":
    main()
