"""`mqlog log` and who reads its output: one who leaves early, one who does not read, Ctrl-C."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

from .command import MQLOG, TIMEOUT_S, environment
from .segments import batch, segment

MANY = 3000  # batches whose dump is longer than any pipe
DUMP = ["log", "dump", "--records"]


@pytest.fixture
def long(tmp_path: Path) -> Path:
    """A segment whose dump does not fit in a pipe."""
    return segment(tmp_path, 0, *(batch(offset, 1) for offset in range(MANY)))


def start(*arguments: object) -> subprocess.Popen[bytes]:
    """The command, its output in pipes; what runs the tests may have switched Ctrl-C off."""
    return subprocess.Popen(
        [*MQLOG, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


@pytest.mark.parametrize("output", ["text", "json"])
def test_one_who_leaves_gets_no_error_message(long: Path, output: str) -> None:
    with start(*DUMP, long, "-o", output) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(TIMEOUT_S) == 1


def test_head(long: Path) -> None:
    command = shlex.join([*MQLOG, *DUMP, str(long)]) + " | head -n 1"
    done = subprocess.run(
        ["/bin/sh", "-c", command], capture_output=True, env=environment(), check=True
    )
    assert done.stdout.decode() == f"segment {long}\n"
    assert done.stderr == b""


def test_ctrl_c_does_not_wait_for_one_who_does_not_read(long: Path) -> None:
    with start(*DUMP, long) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert os.read(process.stdout.fileno(), 1)  # the rest of the pipe fills up
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_S) == 130
        assert process.stderr.read().strip() == b"mqlog: interrupted"


def test_ctrl_c_ends_a_verification(tmp_path: Path) -> None:
    # Zeros to look through, far more than can be done before the signal comes.
    path = segment(tmp_path, 0, batch(0, 1))
    os.truncate(path, 1 << 38)
    with start("log", "verify", path) as process:
        assert process.stderr is not None
        wait_until_open(process, path)
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_S) == 130
        assert process.stderr.read().strip() == b"mqlog: interrupted"


def wait_until_open(process: subprocess.Popen[bytes], path: Path) -> None:
    """Until the process has opened the file."""
    folder = Path(f"/proc/{process.pid}/fd")
    while process.poll() is None:
        for link in folder.iterdir():
            try:
                if link.readlink() == path:
                    return
            except OSError:
                continue  # it has just been closed
    raise AssertionError("it ended before it opened the file")
