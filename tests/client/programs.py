"""Programs in processes of their own: for what must not happen to the one that runs the tests."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from typing import Any

#: What every program begins with.
HEAD = """
import os, signal, sys, threading, time
from mqlog import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from mqlog.errors import *
import mqlog.errors as errors
servers = sys.argv[1]
def say(*words):
    print(*words, flush=True)
def rss_mb():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6
"""


@dataclass(frozen=True)
class Ended:
    """How a program ended."""

    code: int
    out: str
    err: str
    seconds: float

    def lines(self) -> list[str]:
        """What it said."""
        return self.out.splitlines()


#: Python 3.12 and later warn whoever forks beside threads, which is what is tested here.
FORKS = ("-W", "ignore:This process:DeprecationWarning")


def start(
    source: str, *arguments: str, options: tuple[str, ...] = (), head: str = HEAD
) -> subprocess.Popen[str]:
    """Start a program; `head` comes first."""
    environment = {**os.environ, "PYTHONFAULTHANDLER": "1"}
    return subprocess.Popen(
        [sys.executable, *FORKS, *options, "-c", head + textwrap.dedent(source), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def finish(process: subprocess.Popen[str], timeout_s: float = 30.0) -> Ended:
    """Wait for a program; one that hangs is killed and shows where."""
    started = time.monotonic()
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.send_signal(6)
        out, err = process.communicate()
        raise AssertionError(f"it hung:\n{out}\n{err}") from None
    return Ended(process.returncode, out, err, time.monotonic() - started)


def run(source: str, *arguments: str, timeout_s: float = 30.0, **options: Any) -> Ended:
    """Run a program to its end."""
    return finish(start(source, *arguments, **options), timeout_s)


def good(source: str, *arguments: str, **options: Any) -> Ended:
    """Run a program that must end well and say nothing to stderr."""
    ended = run(source, *arguments, **options)
    assert ended.code == 0, f"exit code {ended.code}\n{ended.out}\n{ended.err}"
    assert ended.err == "", ended.err
    return ended
