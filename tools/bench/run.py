"""Measures `mqlog serve` beside a Kafka and beside the floors of this machine, in one session.

    python tools/bench/run.py --wire DIR [--kafka 'START COMMAND with {port} {dir}'] [--reps 3]
    python tools/bench/run.py --table RESULTS

DIR holds the binaries kwire, loopfloor and floor. Contenders take turns, repetition by repetition;
each has core 0 for the broker and core 1 for the load, free memory that the host backs, and none
of the data of the one before it. A line of JSON per run goes to --out, the tables to the output.
"""

from __future__ import annotations

import argparse
import json
import resource
import shlex
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, TextIO

import machine
import report
from contenders import Contender, Failed, Figures, Floors
from workloads import GROUPS, WORKLOADS, Workload

MQLOG = "{mqlog} serve {{dir}} --listen 127.0.0.1:{{port}} --durability {how} --set {delay}"
# Deleted data must give its pages back before the next run.
DELAY = "log.segment.delete.delay.ms=0"


class Session:
    """All runs of one call."""

    def __init__(self, options: argparse.Namespace, folder: Path, out: TextIO) -> None:
        self.options = options
        self.out = out
        self.runs: list[dict[str, Any]] = []
        self.wanted = {name for name in WORKLOADS if not options.only or name in options.only}
        self.wanted |= {WORKLOADS[name].source for name in self.wanted} - {""}
        mqlog = shlex.quote(str(options.mqlog))
        commands = {"mqlog": MQLOG.format(mqlog=mqlog, how="os", delay=DELAY)}
        if self.wanted & {"F1", "F100"}:
            commands["mqlog-fsync"] = MQLOG.format(mqlog=mqlog, how="fsync", delay=DELAY)
        if options.kafka:
            commands["kafka"] = options.kafka
        self.contenders = [
            Contender(name, command, options.wire, folder) for name, command in commands.items()
        ]
        self.floors = Floors(options.wire, folder)

    def emit(self, who: str, what: str, rep: int, figures: Figures) -> None:
        """Keep a result, and show the heart of it."""
        run = {**figures, "contender": who, "w": what, "rep": rep}
        self.runs.append(run)
        self.out.write(json.dumps(run) + "\n")
        self.out.flush()
        show = ("broker_ns_rec", "broker_us_req", "rec_s", "p50_us", "p99_us", "other_cores")
        show += ("start_ms", "rss_mb", "error")
        text = " ".join(f"{key}={figures[key]}" for key in show if key in figures)
        print(f"{rep} {what:5} {who:11} {text}", file=sys.stderr, flush=True)

    def start_all(self) -> None:
        """Start times, idle memory, warm-up."""
        for contender in self.contenders:
            for rep in range(self.options.starts):
                machine.wait_idle(self.options.idle, self.options.wait)
                if rep:
                    contender.stop()
                took = contender.start()
                time.sleep(5)
                resting = machine.memory_mb(contender.pid, "VmRSS")
                figures = {"start_ms": round(took, 1), "rss_mb": round(resting, 1)}
                self.emit(contender.name, "process", rep, figures)
            kafka = contender.name == "kafka"
            contender.warm_up(self.options.warm_up if kafka else min(1e6, self.options.warm_up))

    def run(self) -> None:
        """Every group, all contenders and the floors one after the other, again and again."""
        self.start_all()
        for rep in range(self.options.reps):
            for group in GROUPS:
                chosen = [workload for workload in group if workload.name in self.wanted]
                if not chosen:
                    continue
                # Who is first changes, so that no one always follows the same other.
                turn = rep % len(self.contenders)
                for contender in self.contenders[turn:] + self.contenders[:turn]:
                    self.turn(contender, chosen, rep)
                for workload in chosen:
                    self.floor(workload, rep)
            if self.wanted & {"W4", "W5", "W6f", "W7", "W8", "W8s", "W9"}:
                machine.warm_memory(self.options.warm_memory)
                self.emit("floor", "machine", rep, self.floors.machine())
        for contender in self.contenders:
            peak = round(machine.memory_mb(contender.pid, "VmHWM"), 1)
            self.emit(contender.name, "process", self.options.reps, {"hwm_mb": peak})

    def turn(self, contender: Contender, group: list[Workload], rep: int) -> None:
        """One contender's runs of a group; its data is deleted at the end."""
        topic = f"{group[0].name}-{rep}".lower()
        mine = [workload for workload in group if contender.name in workload.contenders]
        if not mine:
            return
        try:
            contender.create(topic, mine[0].partitions)
            for workload in mine:
                try:
                    self.emit(
                        contender.name, workload.name, rep, self.measure(contender, workload, topic)
                    )
                except Failed as error:
                    self.emit(contender.name, workload.name, rep, {"error": str(error)})
                    break
            contender.delete(topic)
        except Failed as error:
            self.emit(contender.name, mine[0].name, rep, {"error": str(error)})
        if not machine.alive(contender.pid):
            raise Failed(f"{contender.name} died; see {contender.folder}/broker.out")
        time.sleep(self.options.settle)

    def measure(self, contender: Contender, workload: Workload, topic: str) -> Figures:
        """One run, and how much of the cores others took meanwhile."""
        machine.wait_idle(self.options.idle, self.options.wait)
        if workload.kind != "fetch":
            machine.warm_memory(self.options.warm_memory)
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        own, cpu = children.ru_utime + children.ru_stime, machine.cpu_seconds(contender.pid)
        busy, since = machine.busy_seconds(), time.monotonic()
        arguments = f"{workload.arguments} -T {self.options.seconds:g}"
        figures = contender.run(workload.kind, topic, workload.partitions, arguments)
        took = time.monotonic() - since
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        known = children.ru_utime + children.ru_stime - own
        known += machine.cpu_seconds(contender.pid) - cpu
        figures["other_cores"] = round((machine.busy_seconds() - busy - known) / took, 2)
        if "wire_mb_s" in figures:
            moved = figures["wire_mb_s"] * 1e6 * figures["secs"]
            figures["bytes_rec"] = moved / figures["records"]
            figures["bytes_req"] = moved / figures["requests"]
        return figures

    def floor(self, workload: Workload, rep: int) -> None:
        """The floor of the run before, with the same bytes and requests in flight."""
        ours = [r for r in self.runs if (r["contender"], r["w"]) == ("mqlog", workload.name)]
        if not workload.floor or not ours or "bytes_req" not in ours[-1]:
            return
        records = ours[-1]["records"] / ours[-1]["requests"]
        machine.wait_idle(self.options.idle, self.options.wait)
        machine.warm_memory(self.options.warm_memory)
        size = round(ours[-1]["bytes_req"])
        if workload.floor == "sync":
            flight = workload.in_flight
            figures = self.floors.flushed(size, flight, records, workload.partitions)
        else:
            figures = self.floors.loop(size, workload.in_flight, records)
        if workload.floor == "loop+files":
            # One pwrite became one for each partition's file.
            facts = self.floors.machine()
            extra = (workload.partitions - 1) * facts["pwrite_1k_ns"]
            figures["broker_us_req"] += extra / 1e3
            figures["broker_ns_rec"] += extra / records
        self.emit("floor", workload.name, rep, figures)


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--wire", type=Path, help="folder of kwire, loopfloor and floor")
    add("--kafka", help="what starts a Kafka, with {port} and {dir}; it should delete at once: "
        "log.segment.delete.delay.ms=0")  # fmt: skip
    add("--mqlog", type=Path, default=Path(sys.executable).parent / "mqlog")
    add("--only", type=lambda text: set(text.split(",")), help="workloads, as in W1,W4,F1,P1000")
    add("--reps", type=int, default=3)
    add("--starts", type=int, default=3, help="starts of each broker")
    add("--seconds", type=float, default=4, help="length of a run at most")
    add("--warm-up", type=float, default=20e6, help="records for Kafka's compiler")
    add("--warm-memory", type=float, default=4, metavar="GIB", help="0: leave it cold")
    add("--settle", type=float, default=1, help="seconds after data was deleted")
    add("--idle", type=float, default=0.3, help="cores that others may use when a run begins")
    add("--wait", type=float, default=60, help="seconds to wait for that, at most")
    add("--dir", type=Path, help="where data goes (default: a temporary folder)")
    add("--out", type=Path, help="JSON lines of all runs are appended here")
    add("--table", type=Path, help="only print the tables of such a file")
    given = parser.parse_args()
    unknown = (given.only or set()) - set(WORKLOADS)
    if unknown:
        parser.error(
            f"--only: no workload {', '.join(sorted(unknown))}; there are {', '.join(WORKLOADS)}"
        )
    if given.table is None and given.wire is None:
        parser.error("--wire DIR is needed: the folder of kwire, loopfloor and floor")
    return given


def main() -> None:
    """Run, then print."""
    given = options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is stopped
    if given.table:
        print(report.table([json.loads(line) for line in given.table.read_text().splitlines()]))
        return
    # 1,000 connections, in kwire and in what is started here.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    folder = Path(tempfile.mkdtemp(prefix="mqlog-bench-", dir=given.dir))
    with open(given.out or "/dev/null", "a") as out:
        session = Session(given, folder, out)
        try:
            session.run()
        finally:
            for contender in session.contenders:
                contender.stop()
            shutil.rmtree(folder, ignore_errors=True)
            print(report.table(session.runs))


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        raise SystemExit(f"bench: {failure}")
