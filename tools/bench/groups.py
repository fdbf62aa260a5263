"""What a broker's consumer groups cost: CPU per request, latency, rebalances, idle members.

    python tools/bench/groups.py --mqlog '.venv/bin/mqlog serve {dir} --listen 127.0.0.1:{port}' \\
        --kafka 'START-KAFKA {dir} {port}'

Each command starts a broker on an empty directory; `{dir}` and `{port}` are filled in. Brokers run
on core 0, this program on core 1. CPU is the broker process's, from /proc; the load is raw frames
over plain sockets, one request in flight per connection.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import machine
from contenders import BROKER_CORE, free_port
from group_load import Link, Load, Member, commit_frame

from mqlog.connection import Connection
from mqlog.errors import MqlogError
from mqlog.protocol.create_topics import CreateTopicsRequest, CreateTopicsResponse
from mqlog.protocol.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from mqlog.protocol.offset_fetch import OffsetFetchRequest, OffsetFetchResponse

Figures = dict[str, float]
PARTITIONS = 1000


class Started:
    """A broker on an empty directory."""

    def __init__(self, command: str, folder: Path) -> None:
        self.command, self.folder = command, folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.port = free_port()
        self.start()

    def start(self) -> float:
        """Start, or start again; seconds until it answers."""
        data = self.folder / "data"
        words = [w.format(port=self.port, dir=data) for w in shlex.split(self.command)]
        since = time.monotonic()
        with open(self.folder / "broker.out", "ab") as out:
            self._process = subprocess.Popen(
                ["taskset", "-c", BROKER_CORE, *words], stdout=out, stderr=out
            )
        while True:
            try:
                self.admin = Connection.open(f"127.0.0.1:{self.port}")
                break
            except MqlogError:
                if time.monotonic() > since + 60:
                    raise
                time.sleep(0.01)
        took = time.monotonic() - since
        self.pid = machine.listener(self.port) or self._process.pid
        return took

    def stop(self) -> None:
        """End it."""
        self.admin.close()
        machine.terminate(self.pid)
        self._process.wait()

    def prepare(self) -> None:
        """Make the topics."""
        topic = CreateTopicsRequest.CreatableTopic("g", PARTITIONS, 1)
        self.admin.call(19, CreateTopicsRequest([topic], 60_000), CreateTopicsResponse)
        self.coordinator()

    def coordinator(self) -> None:
        """Wait until groups are served."""
        for _ in range(600):
            asked = FindCoordinatorRequest(coordinator_keys=["g"])
            found = self.admin.call(10, asked, FindCoordinatorResponse).coordinators[0]
            if found.error_code == 0 and self.fetch("none") == 0:
                return
            time.sleep(0.05)
        raise SystemExit("no coordinator within 30 s")

    def fetch(self, group: str) -> int:
        """The error code of an OffsetFetch of all that a group has."""
        asked = OffsetFetchRequest.OffsetFetchRequestGroup(group, topics=None)
        answer = self.admin.call(9, OffsetFetchRequest(groups=[asked]), OffsetFetchResponse)
        return int(answer.groups[0].error_code)

    def links(self, count: int) -> list[Link]:
        """So many connections."""
        return [Link(self.port) for _ in range(count)]


def closed_loop(broker: Started, links: list[Link], frames: list[bytes], seconds: float) -> Figures:
    """Every connection asks again as soon as it is answered."""
    load = Load(links)
    load.run(frames, seconds / 3)
    before = machine.cpu_seconds(broker.pid)
    done = load.run(frames, seconds)
    cost = machine.cpu_seconds(broker.pid) - before
    return {"us_req": cost / len(done) * 1e6, "req_s": len(done) / seconds, **percentiles(done)}


def percentiles(latencies: list[float]) -> Figures:
    """Median and 99th percentile of seconds, in ms."""
    ordered = sorted(latencies)
    last = len(ordered) - 1
    at = {"p50_ms": last // 2, "p99_ms": last * 99 // 100}
    return {name: ordered[index] * 1e3 for name, index in at.items()}


def settle(
    broker: Started, group: str, count: int, partitions: int
) -> tuple[list[Member], Figures]:
    """Members join at once, then once more because their leader does."""
    members = [Member(link, group) for link in broker.links(count)]
    load = Load([member.link for member in members])
    since = time.monotonic()
    Member.join_all(load, members, partitions)
    first = time.monotonic() - since
    since = time.monotonic()
    Member.join_all(load, members, partitions)
    return members, {"first_s": first, "again_s": time.monotonic() - since}


def idle(broker: Started, count: int, seconds: float) -> Figures:
    """Members of groups of 100 that send a heartbeat every 3 s."""
    rss = machine.memory_mb(broker.pid, "VmRSS")
    members = []
    for group in range(count // 100):
        some = [Member(link, f"idle{group}") for link in broker.links(100)]
        members += some
    Member.join_all(Load([member.link for member in members]), members, 0)
    load = Load([member.link for member in members])
    frames = [member.heartbeat() for member in members]
    load.paced(frames, 3.0, 3.0)
    before = machine.cpu_seconds(broker.pid)
    done = load.paced(frames, 3.0, seconds)
    cost = machine.cpu_seconds(broker.pid) - before
    grown = machine.memory_mb(broker.pid, "VmRSS") - rss
    load.close()
    return {"cores": cost / seconds, "mb": grown, "heartbeats": len(done), **percentiles(done)}


def many_commits(broker: Started, commits: float) -> Figures:
    """So many offsets, 100 a request, then a restart."""
    links = broker.links(10)
    load = Load(links)
    frames = [commit_frame(f"many{i}", range(100)) for i in range(len(links))]
    since, before = time.monotonic(), machine.cpu_seconds(broker.pid)
    load.count(frames, int(commits / 100))
    took = time.monotonic() - since
    cost = machine.cpu_seconds(broker.pid) - before
    load.close()
    broker.stop()
    since = time.monotonic()
    broker.start()
    broker.coordinator()
    again = time.monotonic() - since
    return {"commits_s": commits / took, "us_commit": cost / commits * 1e6, "restart_s": again}


def measure(name: str, command: str, options: argparse.Namespace) -> dict[str, Figures]:
    """All workloads on one broker."""
    broker = Started(command, Path(options.folder) / name)
    results: dict[str, Figures] = {}

    def note(what: str, figures: Figures) -> None:
        results[what] = figures
        print(name, what, {k: round(v, 3) for k, v in figures.items()}, file=sys.stderr, flush=True)

    try:
        broker.prepare()
        links = broker.links(50)
        members = [Member(link, f"one{i}") for i, link in enumerate(links)]
        Member.join_all(Load(links), members, 1)
        for frames in ([m.heartbeat() for m in members], [m.commit(range(1)) for m in members]):
            Load(links).run(frames, options.warm_up / 2)
        note("heartbeat", closed_loop(broker, links, [m.heartbeat() for m in members], 3))
        note("commit", closed_loop(broker, links, [m.commit(range(1)) for m in members], 3))
        done = Load(links[:20]).paced([m.commit(range(1)) for m in members[:20]], 0.01, 5)
        note("commit 2,000/s", percentiles(done))
        note("join 100", settle(broker, "hundred", 100, 100)[1])
        note("join 500 x 1,000", settle(broker, "five", 500, PARTITIONS)[1])
        if options.idle:
            note("idle", idle(broker, options.idle, 9))
        if options.commits:
            note("many commits", many_commits(broker, options.commits))
        note("memory", {"peak_mb": machine.memory_mb(broker.pid, "VmHWM")})
    finally:
        broker.stop()
        shutil.rmtree(broker.folder, ignore_errors=True)
    return results


def main() -> None:
    """Measure what was named, print a line of JSON each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--mqlog", help="command that starts mqlog")
    parser.add_argument("--kafka", help="command that starts Kafka")
    parser.add_argument("--idle", type=int, default=10_000, help="idle members")
    parser.add_argument("--commits", type=float, default=0, help="commits before the restart")
    parser.add_argument(
        "--warm-up", type=float, default=10, help="seconds, for code that is compiled while it runs"
    )
    parser.add_argument("--folder", default=tempfile.gettempdir() + "/mqlog-bench-groups")
    options = parser.parse_args()
    os.sched_setaffinity(0, {1})
    for name in ("mqlog", "kafka"):
        command = getattr(options, name)
        if command:
            print(json.dumps({"broker": name, **measure(name, command, options)}), flush=True)


if __name__ == "__main__":
    main()
