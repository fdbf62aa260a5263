"""What produce and fetch cost while members of groups send heartbeats, beside the same without.

    python tools/bench/beside_members.py --wire DIR [--members 1000] [--reps 5]

DIR holds `kwire`, as for run.py, whose workloads W1 and W4 these are, under the same conditions.
One broker; runs with and without members take turns. Cost is the CPU of the broker's process per
record: the plain total, and the total less what the heartbeats alone cost just before.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import machine
from contenders import CLIENT_CORE, Contender, Failed
from group_load import Link, Load, Member
from report import DISTURBED
from run import DELAY, MQLOG
from workloads import WORKLOADS

from mqlog.connection import Connection
from mqlog.protocol.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse

Run = dict[str, float]
CHOSEN = ("W1", "W4")
GROUP_SIZE, HEARTBEAT_S = 100, 3.0


class Beating:
    """Members of groups of 100 that send a heartbeat every 3 s, until they leave."""

    def __init__(self, port: int, count: int) -> None:
        self.members = [
            Member(Link(port), f"beating{number // GROUP_SIZE}") for number in range(count)
        ]
        self.load = Load([member.link for member in self.members])
        if count:
            Member.join_all(self.load, self.members, 0)
        self.late: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat)
        if count:
            self._thread.start()

    def _beat(self) -> None:
        frames = [member.heartbeat() for member in self.members]
        while not self._over.is_set():
            self.late += self.load.paced(frames, HEARTBEAT_S, HEARTBEAT_S)

    def end(self) -> None:
        """All leave."""
        self._over.set()
        if self.members:
            self._thread.join()
            self.load.count([member.leave() for member in self.members], len(self.members))
        self.load.close()


class Session:
    """One broker, runs that take turns."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options = options
        mqlog = MQLOG.format(mqlog=shlex.quote(str(options.mqlog)), how="os", delay=DELAY)
        self.contender = Contender("mqlog", mqlog, options.wire, folder)
        self.runs: list[dict[str, object]] = []

    def run(self) -> None:
        """All repetitions; who begins changes."""
        self.contender.start()
        with Connection.open(f"127.0.0.1:{self.contender.port}") as admin:
            asked = FindCoordinatorRequest(coordinator_keys=["beating"])
            admin.call(10, asked, FindCoordinatorResponse)
        self.contender.warm_up(1e6)
        for rep in range(self.options.reps):
            counts = [0, self.options.members]
            for count in counts if rep % 2 == 0 else counts[::-1]:
                self.turn(rep, count)

    def turn(self, rep: int, count: int) -> None:
        """W1, then W4, with so many members."""
        beating = Beating(self.contender.port, count)
        try:
            topic = f"beside-{rep}-{count}"
            self.contender.create(topic, 1)
            alone = self.cores(self.options.idle_seconds) if count else 0.0
            for name in CHOSEN:
                self.note(rep, count, name, alone, self.measure(name, topic))
            self.contender.delete(topic)
            time.sleep(1)
        finally:
            beating.end()
        if beating.late:
            late = sorted(beating.late)
            self.runs.append({"members": count, "p99_ms": late[len(late) * 99 // 100] * 1e3})

    def cores(self, seconds: float) -> float:
        """What the broker uses while nothing is produced or fetched."""
        time.sleep(HEARTBEAT_S)
        before = machine.cpu_seconds(self.contender.pid)
        time.sleep(seconds)
        return (machine.cpu_seconds(self.contender.pid) - before) / seconds

    def measure(self, name: str, topic: str) -> Run:
        """One run of kwire."""
        workload = WORKLOADS[name]
        machine.wait_idle(self.options.idle, self.options.wait)
        if workload.kind != "fetch":
            machine.warm_memory(self.options.warm_memory)
        arguments = f"{workload.arguments} -T {self.options.seconds:g}"
        known, busy, since = self.known(), machine.busy_seconds(), time.monotonic()
        figures: Run = self.contender.run(workload.kind, topic, workload.partitions, arguments)
        took = time.monotonic() - since
        others = machine.busy_seconds() - busy - (self.known() - known)
        return {**figures, "other_cores": others / took}

    def known(self) -> float:
        """CPU seconds of the broker, of kwire, and of the heartbeats here."""
        own = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(x.ru_utime + x.ru_stime for x in own) + machine.cpu_seconds(self.contender.pid)

    def note(self, rep: int, count: int, name: str, alone: float, figures: Run) -> None:
        """Keep a run."""
        total = figures["broker_ns_rec"]
        less = total - alone * figures["secs"] * 1e9 / figures["records"]
        run = {"rep": rep, "members": count, "w": name, "ns_rec": total, "less_ns_rec": less}
        run |= {"heartbeat_cores": alone, "rec_s": figures["rec_s"]}
        run["other_cores"] = round(figures["other_cores"], 2)
        self.runs.append(run)
        print(json.dumps(run), file=sys.stderr, flush=True)

    def table(self) -> str:
        """Medians as Markdown."""
        rows = [
            "| workload | ns/record alone | beside members | ratio | less heartbeats | ratio |",
            "|---|---|---|---|---|---|",
        ]
        for name in CHOSEN:
            mine = [run for run in self.runs if run.get("w") == name]
            alone = self._median(mine, "ns_rec", 0)
            total = self._median(mine, "ns_rec", self.options.members)
            less = self._median(mine, "less_ns_rec", self.options.members)
            rows.append(
                f"| {name} {WORKLOADS[name].title} | {alone:.3g} | {total:.3g} "
                f"| {total / alone:.2f}x | {less:.3g} | {less / alone:.2f}x |"
            )
        late = self._median(self.runs, "p99_ms", self.options.members)
        rows.append(f"\nHeartbeats meanwhile: p99 {late:.3g} ms.")
        return "\n".join(rows)

    @staticmethod
    def _median(runs: list[dict[str, object]], field: str, members: int) -> float:
        mine = [run for run in runs if run["members"] == members and field in run]
        quiet = [run for run in mine if float(str(run.get("other_cores", 0))) < DISTURBED]
        return statistics.median(float(str(run[field])) for run in quiet or mine)


def main() -> None:
    """Run, then print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    add = parser.add_argument
    add("--wire", type=Path, required=True, help="folder of kwire")
    add("--mqlog", type=Path, default=Path(sys.executable).parent / "mqlog")
    add("--members", type=int, default=1000)
    add("--reps", type=int, default=5)
    add("--seconds", type=float, default=4, help="length of a run at most")
    add("--idle-seconds", type=float, default=6, help="how long heartbeats are measured alone")
    add("--warm-memory", type=float, default=4, metavar="GIB", help="0: leave it cold")
    add("--idle", type=float, default=0.3, help="cores that others may use when a run begins")
    add("--wait", type=float, default=60, help="seconds to wait for that, at most")
    add("--dir", type=Path, help="where data goes (default: a temporary folder)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is stopped
    os.sched_setaffinity(0, {int(CLIENT_CORE)})
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    folder = Path(tempfile.mkdtemp(prefix="mqlog-bench-", dir=options.dir))
    session = Session(options, folder)
    try:
        session.run()
        print(session.table())
    finally:
        session.contender.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        raise SystemExit(f"bench: {failure}")
