"""Those who are measured: a broker behind a start command, and the floors of the machine."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import machine
from flush_loop import flush_loop

BROKER_CORE, CLIENT_CORE = "0", "1"
Figures = dict[str, Any]


class Failed(Exception):
    """A run did not work; the text is what kwire or the broker said."""


def free_port() -> int:
    """A port whose successor is free as well: Kafka's controller takes that one."""
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            try:
                two.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port


class Contender:
    """One broker, pinned to core 0; kwire runs on core 1."""

    def __init__(self, name: str, command: str, tools: Path, folder: Path) -> None:
        self.name = name
        self.command = command
        self.kwire_path = tools / "kwire"
        self.folder = folder / name
        self.port = 0
        self.pid = 0

    def start(self) -> float:
        """Start with an empty directory; milliseconds until Metadata is answered."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.port = free_port()
        data = self.folder / "data"
        words = [w.format(port=self.port, dir=data) for w in shlex.split(self.command)]
        since = time.monotonic()
        with open(self.folder / "broker.out", "wb") as out:
            starter = subprocess.Popen(
                ["taskset", "-c", BROKER_CORE, *words],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        try:
            self._run("ready", timeout=90)
        except Failed as error:
            if starter.poll() is None:
                starter.kill()
            said = (self.folder / "broker.out").read_text(errors="replace")[-500:]
            raise Failed(f"{self.name} did not start: {error}; it said: {said}")
        took = (time.monotonic() - since) * 1e3
        self._starter = starter
        self.pid = machine.listener(self.port) or starter.pid
        return took

    def stop(self) -> None:
        """Stop it, and remove what it has written."""
        if self.pid:
            machine.terminate(self.pid)
            self._starter.wait()
            self.pid = 0
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, verb: str, *arguments: str, timeout: float = 120) -> str:
        command = ["taskset", "-c", CLIENT_CORE, str(self.kwire_path), verb]
        command += ["-b", f"127.0.0.1:{self.port}", *arguments]
        try:
            done = subprocess.run(
                command, check=False, capture_output=True, text=True, timeout=timeout
            )
        except subprocess.TimeoutExpired:
            raise Failed(f"kwire {verb}: no answer within {timeout:g} s")
        if done.returncode:
            raise Failed(done.stderr.strip()[-300:] or f"kwire {verb}: code {done.returncode}")
        return done.stdout

    def create(self, topic: str, partitions: int) -> None:
        """Make a topic, and wait a moment until it has settled."""
        self._run("create", "-t", topic, "-p", str(partitions))
        time.sleep(0.3)

    def delete(self, topic: str) -> None:
        """Delete a topic; its pages are free once the broker has unlinked the files."""
        self._run("delete", "-t", topic)

    def run(self, kind: str, topic: str, partitions: int, arguments: str) -> Figures:
        """One measured run."""
        common = ["-t", topic, "-p", str(partitions), "-P", str(self.pid)]
        figures: Figures = json.loads(self._run(kind, *common, *arguments.split()))
        return figures

    def warm_up(self, records: float) -> None:
        """What is measured later, unmeasured: for code that is compiled while it runs."""
        for topic, partitions, arguments in (
            ("warm1", 1, f"-s 100 -R 600 -n {records:.0f} -T 25"),
            ("warm6", 1, f"-s 100 -R 10 -n {records / 10:.0f} -T 15"),
            ("warm7", 1, f"-s 100 -R 1 -f 1 -n {records / 200:.0f} -T 8"),
            ("warm9", 100, f"-s 100 -R 10 -m 100 -n {records / 10:.0f} -T 8"),
        ):
            self.create(topic, partitions)
            self.run("produce", topic, partitions, arguments)
            self.run("fetch", topic, partitions, f"-n {records:.0f} -T 8")
            self.delete(topic)


class Floors:
    """The least that the machine lets anybody spend."""

    def __init__(self, tools: Path, folder: Path) -> None:
        self.tools = tools
        self.folder = folder / "floor"
        self.folder.mkdir(parents=True, exist_ok=True)

    def _tool(self, *command: str) -> str:
        path = str(self.tools / command[0])
        done = subprocess.run(
            [path, str(self.folder), *command[1:]],
            check=False,
            capture_output=True,
            text=True,
            timeout=180,
        )
        if done.returncode:
            raise Failed(f"{command[0]}: {done.stderr.strip()[-300:]}")
        return done.stdout

    def flushed(self, size: int, in_flight: int, records: float, files: int) -> Figures:
        """Requests of so many bytes over files, written and flushed together."""
        rate, p99 = flush_loop(self.folder, files, size, in_flight, 4)
        return {"rec_s": rate * records, "p99_us": p99}

    def loop(self, size: int, in_flight: int, records: float) -> Figures:
        """Requests of so many bytes: read, CRC32C, pwrite, answer."""
        text = self._tool("loopfloor", str(size), str(in_flight), "3", "0")
        found = re.search(r"([\d.]+) requests/s, server ([\d.]+) us.* p50 (\d+) p99 (\d+)", text)
        if not found:
            raise Failed(f"loopfloor said: {text}")
        rate, cost, p50, p99 = map(float, found.groups())
        return {
            "broker_us_req": cost,
            "broker_ns_rec": cost * 1e3 / records,
            "rec_s": rate * records,
            "p50_us": p50,
            "p99_us": p99,
        }

    def machine(self) -> Figures:
        """The sendfile, pwrite and ping-pong figures; takes 20 s."""
        text = self._tool("floor")

        def number(pattern: str) -> float:
            found = re.search(pattern, text, re.MULTILINE)
            if not found:
                raise Failed(f"floor said nothing like {pattern}: {text}")
            return float(found[1])

        return {
            "sendfile_ns_kb": min(
                number(r"^loopback_sendfile_64K .*sender (\d+)"),
                number(r"^loopback_sendfile_1024K .*sender (\d+)"),
            ),
            "pwrite_1k_ns": number(r"^pwrite_1K .* (\d+) ns CPU"),
            "pingpong_p50_us": number(r"^pingpong_64B p50 ([\d.]+)"),
            "pingpong_us": number(r"^pingpong_64B .* ([\d.]+) us CPU"),
        }
