"""CPU time per record of Python's Kafka clients, side by side against one broker.

    python tools/bench/clients.py [--reps 5] [--records 3e6] [--only CASE ...] [--sizes 100 1000]
        [--codecs none lz4 zstd] [--out RUNS.jsonl]
    python tools/bench/clients.py --table RUNS.jsonl

The broker (`mqlog serve --durability os`, or --bootstrap with --pid) has core 0, the client core 1.
Contenders take turns, repetition by repetition; medians and their ratios are printed. The consume
cases read a topic that confluent-kafka has filled with batches of 1 MB. confluent-kafka is set up
for throughput, see `client_cases.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import machine
from client_cases import CASES, CONFLUENT_WRITER, WARM, value
from confluent_kafka.admin import AdminClient, NewTopic

HERE = Path(__file__).resolve().parent
ECHO = """
import os, socket
os.sched_setaffinity(0, {0})
with socket.create_server(("127.0.0.1", 0)) as server:
    print(server.getsockname()[1], flush=True)
    while True:
        peer, _ = server.accept()
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with peer:
            while peer.recv(4096):
                peer.sendall(bytes(60))
"""
#: Rows: title, our case, against which and how many times, ns at most for 100 B and for 1 KB.
ROWS: list[tuple[str, str, list[tuple[str, float, float]], float, float]] = [
    ("consume, columns", "consume_columns", [("confluent_consume", 9, 2.5)], 60, 400),
    (
        "consume, for record in consumer",
        "consume_records",
        [("confluent_consume", 2.8, 1.4), ("confluent_poll", 6, 2.5)],
        200,
        700,
    ),
    ("consume, batches()", "consume_batches", [("confluent_consume", 2.8, 1.4)], 200, 700),
    ("produce, columns", "produce_columns", [("confluent_produce", 15, 3)], 60, 500),
    ("produce, list", "produce_list", [("confluent_produce", 15, 3)], 60, 500),
    ("produce, send()", "produce_send", [("confluent_produce", 6, 2.5)], 150, 600),
    ("produce, futures awaited", "produce_futures", [("confluent_callback", 3.3, 2.4)], 500, 1000),
    ("produce, callbacks", "produce_callback", [("confluent_callback", 3.3, 2.4)], 500, 1000),
]
#: Slower cases move fewer records.
SCALE = {"confluent_poll": 0.5, "confluent_produce": 0.5, "confluent_callback": 0.5}


class Bench:
    """One session against one broker."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options = options
        self.process: subprocess.Popen[bytes] | None = None
        self.servers, self.broker = options.bootstrap, options.pid
        if not self.servers:
            self._serve(folder)
        # Somebody else's, so that no case depends on ours.
        self.admin = AdminClient({"bootstrap.servers": self.servers})
        self.echo = subprocess.Popen([sys.executable, "-c", ECHO], stdout=subprocess.PIPE)
        assert self.echo.stdout is not None
        self.echo_port = int(self.echo.stdout.readline())

    def _serve(self, folder: Path) -> None:
        mqlog = Path(sys.executable).parent / "mqlog"
        command = ["taskset", "-c", "0", str(mqlog), "serve", str(folder / "data")]
        command += ["--listen", "127.0.0.1:0", "--durability", "os"]
        command += ["--set", "log.segment.delete.delay.ms=0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        line = self.process.stdout.readline().decode().split()
        self.servers = line[line.index("on") + 1].replace("localhost", "127.0.0.1")
        self.broker = int(line[line.index("pid") + 1])

    def close(self) -> None:
        """End what was started."""
        self.echo.kill()
        self.echo.wait()
        if self.process is not None:
            self.process.terminate()
            self.process.wait()

    def create(self, topic: str) -> None:
        """A topic of one partition."""
        settings = {"max.message.bytes": "4000000", "retention.ms": "-1"}
        new = NewTopic(topic, num_partitions=1, replication_factor=1, config=settings)
        self.admin.create_topics([new])[topic].result(30)
        time.sleep(0.3)

    def delete(self, topic: str) -> None:
        """And its data."""
        self.admin.delete_topics([topic])[topic].result(30)

    def fill(self, size: int, codec: str) -> str:
        """The topic that is consumed."""
        from confluent_kafka import Producer

        topic = f"filled-{size}-{codec}-{os.getpid()}"
        self.create(topic)
        producer = Producer(
            {"bootstrap.servers": self.servers, "compression.type": codec, **CONFLUENT_WRITER}
        )
        data = [value(size) for _ in range(100)]
        for number in range(self.count(size) + 2 * WARM):
            while True:
                try:
                    producer.produce(topic, data[number % 100])
                    break
                except BufferError:
                    producer.poll(0.01)
        producer.flush()
        return topic

    def count(self, size: int) -> int:
        """Records of a case: fewer if they are larger."""
        return int(self.options.records / max(1, size / 200))

    def start(
        self, case: str, topic: str, source: str, size: int, codec: str, core: int | None = 1
    ) -> subprocess.Popen[str]:
        """One case in a process of its own."""
        arguments = {
            "case": case,
            "servers": self.servers,
            "broker": self.broker,
            "topic": topic,
            "source": source,
            "records": int(self.count(size) * SCALE.get(case, 1)),
            "size": size,
            "codec": codec,
            "idempotent": self.options.idempotent,
            "core": core if (os.cpu_count() or 1) > 1 else None,
            "echo": f"127.0.0.1:{self.echo_port}",
        }
        command = [sys.executable, str(HERE / "client_cases.py"), json.dumps(arguments)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)

    def run(self, case: str, topic: str, source: str, size: int, codec: str) -> dict[str, Any]:
        """One case, to its end."""
        return ended(self.start(case, topic, source, size, codec))

    def rounds(self) -> Iterator[dict[str, Any]]:
        """Every case, again and again."""
        only = self.options.only or [one for one in CASES if one != "follow_columns"]
        wanted = [one for one in CASES if one in only]
        for size in self.options.sizes:
            for codec in self.options.codecs:
                source = self.fill(size, codec)
                for rep in range(self.options.reps):
                    turn = rep % len(wanted)
                    for case in wanted[turn:] + wanted[:turn]:
                        alone = case in ("round_trip", "ping_pong")
                        if alone and (size, codec) != (self.options.sizes[0], "none"):
                            continue
                        topic = source
                        if "consume" not in case and "poll" not in case:
                            topic = f"{case}-{size}-{codec}-{rep}-{os.getpid()}"
                            self.create(topic)
                            machine.warm_memory(self.options.warm_memory)
                        machine.wait_idle(0.3, 10)
                        figures = self.run(case, topic, source, size, codec)
                        if topic != source:
                            self.delete(topic)
                        yield {"case": case, "size": size, "codec": codec, "rep": rep, **figures}
                self.delete(source)


def ended(process: subprocess.Popen[str], timeout_s: float = 300) -> dict[str, Any]:
    """The figures of a case, or its error."""
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
    if process.returncode or not out:
        return {"error": (err.strip().splitlines() or ["it did not end"])[-1]}
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def together(bench: Bench, size: int) -> dict[str, Any]:
    """Producer, broker and consumer at once, in columns: CPU time of all three, and the rate."""
    topic = f"together-{size}-{os.getpid()}"
    bench.create(topic)
    reader = bench.start("follow_columns", topic, "", size, "none", core=None)
    writer = bench.start("produce_columns", topic, "", size, "none", core=None)
    sent, read = ended(writer), ended(reader)
    bench.delete(topic)
    run: dict[str, Any] = {"case": "together", "size": size, "codec": "none"}
    for one in (sent, read):
        if "error" in one:
            return {**run, **one}
    # The broker's share is what it used while the reader ran, which is the longer of the two.
    total = sent["client_ns"] + read["client_ns"] + read["broker_ns"]
    return {**run, "sum_ns": round(total, 1), "rec_s": read["rec_s"]}


def import_times(reps: int = 15) -> Iterator[dict[str, Any]]:
    """Milliseconds that an import adds to the start of the interpreter."""
    lines = {
        "nothing": "pass",
        "import mqlog": "import mqlog",
        "from mqlog import all three": (
            "from mqlog import KafkaProducer, KafkaConsumer, KafkaAdminClient"
        ),
        "import confluent_kafka": "import confluent_kafka",
    }
    took: dict[str, list[float]] = defaultdict(list)
    for _ in range(reps):
        for name, line in lines.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", line], check=True)
            took[name].append((time.perf_counter() - began) * 1000)
    base = statistics.median(took.pop("nothing"))
    for name, found in took.items():
        yield {"case": name, "ms": round(statistics.median(found) - base, 1)}


def table(runs: list[dict[str, Any]]) -> Iterator[str]:
    """Medians and ratios as Markdown."""
    found: dict[tuple[str, int, str], dict[str, list[float]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for run in runs:
        for field in ("client_ns", "broker_ns", "rec_s", "rss_grown_mb", "p50_us", "p99_us"):
            if field in run:
                found[run["case"], run.get("size", 0), run.get("codec", "")][field].append(
                    run[field]
                )

    def median(case: str, size: int, codec: str, field: str = "client_ns") -> float | None:
        values = found[case, size, codec][field]
        return statistics.median(values) if values else None

    yield "| path | size, codec | mqlog ns/record | rec/s | +RSS MB | at most | against | ratio | |"
    yield "|---|---|---|---|---|---|---|---|---|"
    shapes = sorted({(run["size"], run["codec"]) for run in runs if "client_ns" in run})
    for size, codec in shapes:
        for title, case, against, small, large in ROWS:
            ours = median(case, size, codec)
            if ours is None:
                continue
            limit = small if size <= 200 else large
            for other, ratio_small, ratio_large in against:
                theirs = median(other, size, codec)
                if theirs is None:
                    continue
                least = ratio_small if size <= 200 else ratio_large
                holds = ours <= limit and theirs / ours >= least
                rate, memory = (
                    median(case, size, codec, field) for field in ("rec_s", "rss_grown_mb")
                )
                yield (
                    f"| {title} | {size} B, {codec} | {ours:.0f} | {rate:,.0f} | {memory:.0f} "
                    f"| {limit:.0f} | {other} {theirs:.0f} | {theirs / ours:.1f}x (>= {least:g}x) "
                    f"| {'holds' if holds else 'short'} |"
                )
    yield ""
    for run in runs:
        if "sum_ns" in run:
            yield (
                f"- producer + broker + consumer, columns, {run['size']} B: "
                f"{run['sum_ns']:.0f} ns/record, {run['rec_s']:,} records/s"
            )
        elif "ms" in run:
            yield f"- `{run['case']}`: {run['ms']} ms"
        elif "error" in run:
            yield f"- FAILED {run['case']} {run['size']} {run['codec']}: {run['error']}"
    size = min((run["size"] for run in runs if "p50_us" in run), default=0)
    trip, floor = (
        median("round_trip", size, "none", "p50_us"),
        median("ping_pong", size, "none", "p50_us"),
    )
    if trip and floor:
        tail = median("round_trip", size, "none", "p99_us")
        yield (
            f"- `send().get()` one at a time: p50 {trip:.0f} µs, p99 {tail:.0f} µs; "
            f"ping-pong p50 {floor:.0f} µs: {trip / floor:.1f}x"
        )


def main() -> int:
    """Run and print, or print what was run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--bootstrap", help="a broker that runs already, with --pid")
    parser.add_argument("--pid", type=int, default=0)
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--records", type=float, default=3e6)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--codecs", nargs="+", default=["none", "lz4", "zstd"])
    parser.add_argument("--only", nargs="+", choices=list(CASES))
    parser.add_argument("--idempotent", action="store_true", help="confluent-kafka too")
    parser.add_argument("--warm-memory", type=float, default=1.0, help="GiB made warm before a run")
    parser.add_argument("--out", default="")
    parser.add_argument("--table", help="print the table of an earlier --out")
    options = parser.parse_args()
    if options.table:
        runs = [json.loads(line) for line in Path(options.table).read_text().splitlines()]
        print("\n".join(table(runs)))
        return 0
    runs = []
    with tempfile.TemporaryDirectory(prefix="mqlog-bench-") as folder:
        bench = Bench(options, Path(folder))
        try:
            for run in bench.rounds():
                runs.append(run)
                print(json.dumps(run), file=sys.stderr, flush=True)
            if not options.only:
                runs += [together(bench, size) for size in options.sizes]
                runs += import_times()
        finally:
            bench.close()
    if options.out:
        Path(options.out).write_text("".join(json.dumps(run) + "\n" for run in runs))
    names = ("mqlog", "confluent-kafka")
    print(f"CPython {platform.python_version()}, " + ", ".join(f"{n} {version(n)}" for n in names))
    print("\n".join(table(runs)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
