"""One case of `clients.py` in a process of its own: prints a line of JSON.

Each case moves records through a client after a warm-up; a `Meter` counts the CPU time of this
process and of the broker's, and the wall time, between `start` and `stop`.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import machine

WARM = 20_000
#: confluent-kafka at its best here: no back-off between fetches, batches of 1 MB.
CONFLUENT_READER = {
    "fetch.queue.backoff.ms": 1,
    "queued.min.messages": 500_000,
    "queued.max.messages.kbytes": 262_144,
    "fetch.wait.max.ms": 50,
    "check.crcs": True,
}
CONFLUENT_WRITER = {
    "linger.ms": 5,
    "batch.size": 1_000_000,
    "batch.num.messages": 100_000,
    "queue.buffering.max.messages": 1_000_000,
    "acks": "all",
}
BATCH = 1_000_000


class Meter:
    """CPU and wall time of what is measured."""

    def __init__(self, broker: int) -> None:
        self._broker = broker

    def start(self) -> None:
        """Count from here."""
        self._behind = machine.cpu_seconds(self._broker)
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def stop(self, records: int) -> dict[str, Any]:
        """The figures per record."""
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        behind = machine.cpu_seconds(self._broker) - self._behind
        return {
            "records": records,
            "client_ns": round(cpu / records * 1e9, 1),
            "broker_ns": round(behind / records * 1e9, 1),
            "rec_s": round(records / wall),
        }


def value(size: int) -> bytes:
    """Half noise, half the same byte: compresses about as well as small JSON."""
    return os.urandom(size // 2) + b"x" * (size - size // 2)


# -- confluent-kafka -------------------------------------------------------------------------------


def _confluent_consumer(a: Any) -> Any:
    from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

    client = Consumer(
        {
            "bootstrap.servers": a.servers,
            "group.id": "bench",
            "enable.auto.commit": False,
            **CONFLUENT_READER,
        }
    )
    client.assign([TopicPartition(a.topic, 0, OFFSET_BEGINNING)])
    return client


def confluent_poll(a: Any, meter: Meter) -> Any:
    """`poll()` for each record, reading value and offset."""
    client, count = _confluent_consumer(a), 0
    while count < a.records + WARM:
        message = client.poll(5)
        message.value()
        message.offset()
        count += 1
        if count == WARM:
            meter.start()
    return meter.stop(count - WARM)


def confluent_consume(a: Any, meter: Meter) -> Any:
    """`consume(500)`, reading value and offset of each."""
    client, count, begun = _confluent_consumer(a), 0, 0
    while count < a.records + WARM:
        for message in client.consume(500, 5):
            message.value()
            message.offset()
            count += 1
        if not begun and count >= WARM:
            begun = count
            meter.start()
    return meter.stop(count - begun)


def _confluent_produce(a: Any, meter: Meter, **more: Any) -> Any:
    from confluent_kafka import Producer

    client = Producer(
        {"bootstrap.servers": a.servers, "compression.type": a.codec, **CONFLUENT_WRITER}
        | ({"enable.idempotence": True} if a.idempotent else {})
    )
    data = value(a.size)
    client.produce(a.topic, data, **more)
    client.flush()
    meter.start()
    for number in range(a.records):
        while True:
            try:
                client.produce(a.topic, data, **more)
                break
            except BufferError:
                client.poll(0.01)
        if not number % 1000:
            client.poll(0)
    client.flush()
    return meter.stop(a.records)


def confluent_produce(a: Any, meter: Meter) -> Any:
    """`produce()` for each record, nothing awaited."""
    return _confluent_produce(a, meter)


def confluent_callback(a: Any, meter: Meter) -> Any:
    """`produce()` with a delivery callback for each record."""
    done = [0]

    def delivered(error: Any, message: Any) -> None:
        assert error is None
        done[0] += 1

    return _confluent_produce(a, meter, on_delivery=delivered)


# -- mqlog -----------------------------------------------------------------------------------------


def _consumer(a: Any) -> Any:
    from mqlog import KafkaConsumer, TopicPartition

    client = KafkaConsumer(
        bootstrap_servers=a.servers,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        fetch_max_wait_ms=50,
    )
    client.assign([TopicPartition(a.topic, 0)])
    return client


def _producer(a: Any) -> Any:
    from mqlog import KafkaProducer

    return KafkaProducer(
        bootstrap_servers=a.servers,
        linger_ms=5,
        batch_size=BATCH,
        max_request_size=2 * BATCH,
        compression_type=None if a.codec == "none" else a.codec,
    )


def consume_columns(a: Any, meter: Meter) -> Any:
    """`poll_columns()`: offsets, timestamps, keys and values as columns."""
    client, count, begun = _consumer(a), 0, 0
    while count < a.records + WARM:
        count += len(client.poll_columns(timeout_ms=1000))
        if not begun and count >= WARM:
            begun = count
            meter.start()
    figures = meter.stop(count - begun)
    client.close()
    return figures


def follow_columns(a: Any, meter: Meter) -> Any:
    """`poll_columns()` of a topic that is being written, from its first record on."""
    client, count = _consumer(a), 0
    meter.start()
    while count < a.records:
        count += len(client.poll_columns(timeout_ms=1000))
    figures = meter.stop(count)
    client.close()
    return figures


def consume_records(a: Any, meter: Meter) -> Any:
    """`for record in consumer`, reading value and offset."""
    client, count = _consumer(a), 0
    for record in client:
        record.value  # noqa: B018 - reading it is the work
        record.offset  # noqa: B018
        count += 1
        if count == WARM:
            meter.start()
        if count == a.records + WARM:
            break
    figures = meter.stop(count - WARM)
    client.close()
    return figures


def consume_batches(a: Any, meter: Meter) -> Any:
    """`for batch in consumer.batches()`, reading value and offset of each record."""
    client, count, begun = _consumer(a), 0, 0
    for batch in client.batches(max_records=500, timeout_ms=5_000):
        for record in batch:
            record.value  # noqa: B018 - reading it is the work
            record.offset  # noqa: B018
            count += 1
        if not begun and count >= WARM:
            begun = count
            meter.start()
        if count >= a.records + WARM:
            break
    figures = meter.stop(count - begun)
    client.close()
    return figures


def produce_send(a: Any, meter: Meter) -> Any:
    """`send()` for each record, the future ignored."""
    with _producer(a) as client:
        data, send, topic = value(a.size), client.send, a.topic
        send(topic, data).get(30)
        meter.start()
        for _ in range(a.records):
            send(topic, data)
        client.flush()
        return meter.stop(a.records)


def produce_futures(a: Any, meter: Meter) -> Any:
    """`send()` for each record; every future is awaited."""
    with _producer(a) as client:
        data, send, topic = value(a.size), client.send, a.topic
        send(topic, data).get(30)
        meter.start()
        for begin in range(0, a.records, 10_000):
            futures = [send(topic, data) for _ in range(min(10_000, a.records - begin))]
            for future in futures:
                future.get()
        return meter.stop(a.records)


def produce_callback(a: Any, meter: Meter) -> Any:
    """`send().add_callback()` for each record."""
    with _producer(a) as client:
        data, send, topic, done = value(a.size), client.send, a.topic, [0]

        def delivered(metadata: Any) -> None:
            done[0] += 1

        send(topic, data).get(30)
        meter.start()
        for _ in range(a.records):
            send(topic, data).add_callback(delivered)
        client.flush()
        while done[0] < a.records:
            time.sleep(0.001)
        return meter.stop(a.records)


def produce_list(a: Any, meter: Meter) -> Any:
    """`send_many()` with lists of 10,000 values."""
    with _producer(a) as client:
        values = [value(a.size)] * 10_000
        client.send(a.topic, values[0]).get(30)
        meter.start()
        for _ in range(a.records // 10_000):
            client.send_many(a.topic, values)
        client.flush()
        return meter.stop(a.records // 10_000 * 10_000)


def produce_columns(a: Any, meter: Meter) -> Any:
    """`send_columns()` with 10,000 rows of bytes."""
    with _producer(a) as client:
        rows = memoryview(value(a.size) * 10_000).cast("B", (10_000, a.size))
        client.send(a.topic, b"v").get(30)
        meter.start()
        for _ in range(a.records // 10_000):
            client.send_columns(a.topic, rows)
        client.flush()
        return meter.stop(a.records // 10_000 * 10_000)


def copy_columns(a: Any, meter: Meter) -> Any:
    """`poll_columns()` of one topic, handed to `send_columns()` of another."""
    source, count = _consumer(SimpleNamespace(servers=a.servers, topic=a.source)), 0
    with _producer(a) as client:
        client.send(a.topic, b"v").get(30)
        meter.start()
        while count < a.records:
            columns = source.poll_columns(timeout_ms=1000)
            client.send_columns(a.topic, columns)
            count += len(columns)
        client.flush()
        figures = meter.stop(count)
    source.close()
    return figures


def round_trip(a: Any, meter: Meter) -> Any:
    """`send().get()` one at a time."""
    from mqlog import KafkaProducer

    with KafkaProducer(bootstrap_servers=a.servers) as client:
        data = value(a.size)
        for _ in range(500):
            client.send(a.topic, data).get(30)
        took = []
        for _ in range(5_000):
            began = time.perf_counter_ns()
            client.send(a.topic, data).get(30)
            took.append((time.perf_counter_ns() - began) / 1000)
    return _quantiles(took)


def ping_pong(a: Any, meter: Meter) -> Any:
    """A request of the same size and its answer between two processes that do nothing else."""
    host, _, port = a.echo.rpartition(":")
    took = []
    with socket.create_connection((host, int(port))) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = bytes(a.size + 150)
        for number in range(5_500):
            began = time.perf_counter_ns()
            sock.sendall(data)
            sock.recv(4096)
            if number >= 500:
                took.append((time.perf_counter_ns() - began) / 1000)
    return _quantiles(took)


def _quantiles(took: list[float]) -> dict[str, Any]:
    took.sort()
    return {
        "p50_us": round(statistics.median(took), 1),
        "p99_us": round(took[int(len(took) * 0.99)], 1),
    }


CASES: dict[str, Callable[[Any, Meter], Any]] = {
    case.__name__: case
    for case in (
        confluent_poll,
        confluent_consume,
        confluent_produce,
        confluent_callback,
        consume_columns,
        follow_columns,
        consume_records,
        consume_batches,
        produce_send,
        produce_futures,
        produce_callback,
        produce_list,
        produce_columns,
        copy_columns,
        round_trip,
        ping_pong,
    )
}


def main() -> None:
    """Run the case of the arguments, a JSON object."""
    a = SimpleNamespace(**json.loads(sys.argv[1]))
    if a.core is not None:
        os.sched_setaffinity(0, {a.core})
    before = machine.memory_mb(os.getpid(), "VmRSS")
    figures = CASES[a.case](a, Meter(a.broker))
    peak = machine.memory_mb(os.getpid(), "VmHWM")
    print(json.dumps({**figures, "rss_mb": round(peak), "rss_grown_mb": round(peak - before)}))
    sys.stdout.flush()
    os._exit(0)  # whatever a client does at exit is not what is measured


if __name__ == "__main__":
    main()
