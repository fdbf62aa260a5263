"""A flush that fails once: the broker says so and exits, and acknowledges nothing it cannot keep.

strace makes one call of a running broker fail with EIO, as a device would.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mqlog.testing import Broker

from .cycles import producers
from .load import read

PRODUCERS = {"acks-all": (False, {"acks": "all"}), "idempotent": (True, {"acks": "all"})}


@contextmanager
def failing(pid: int, call: str, when: int, trace: Path) -> Iterator[None]:
    """Have the `when`th `call` of a process fail with EIO."""
    command = ["strace", "-f", "-q", "-y", "-o", str(trace), "-p", str(pid)]
    command += ["-e", "trace=fdatasync,fsync,syncfs"]
    command += ["-e", f"inject={call}:error=EIO:when={when}"]
    strace = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        wait_attached(pid, strace)
        yield
    finally:
        strace.terminate()
        strace.communicate(timeout=30)


def wait_attached(pid: int, strace: subprocess.Popen[str]) -> None:
    """Wait until strace follows every thread; skip if it may not."""
    deadline = time.monotonic() + 10
    tasks = Path(f"/proc/{pid}/task")
    while any("TracerPid:\t0" in (task / "status").read_text() for task in tasks.iterdir()):
        if strace.poll() is not None:
            _, said = strace.communicate()
            pytest.skip(f"strace may not attach: {said.strip()}")
        assert time.monotonic() < deadline, "strace does not attach"
        time.sleep(0.01)


@pytest.mark.parametrize("call", ["fdatasync", "syncfs"])
def test_a_failed_flush_ends_the_broker_and_loses_nothing(call: str, tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    trace = tmp_path / "trace"
    with Broker(tmp_path / "data") as broker, producers(broker, PRODUCERS) as loads:
        with failing(broker.pid, call, 5, trace):
            for load in loads:
                load.start()
            deadline = time.monotonic() + 60
            while broker.running:
                assert time.monotonic() < deadline, "the broker runs on"
                time.sleep(0.01)
            for load in loads:
                load.pause(wait=False)
        assert broker.exit_code == os.EX_IOERR, broker.log
        assert "went offline" in broker.log, broker.log
        assert not flushed_after_failure(trace.read_text()), "a flush that failed was tried again"
        # The device works again: the same producers finish, and all that was promised is there.
        broker.start()
        for load in loads:
            load.pause()
            read(broker.bootstrap_servers, load.topic, load.ledger)
            assert load.answers > 0


def flushed_after_failure(trace: str) -> list[str]:
    """Flushes of the same file, by the same call, that came after the one made to fail.

    Threads that write a file of their own, such as a snapshot, may still finish theirs.
    """
    lines = [line.split(maxsplit=1) for line in trace.splitlines()]
    end = next(n for n, (_, line) in enumerate(lines) if "(INJECTED)" in line)
    thread = lines[end][0]
    begun = [line for tid, line in lines[: end + 1] if tid == thread and "resumed>" not in line]
    call = begun[-1].split(">")[0]
    return [line for _, line in lines[end + 1 :] if line.startswith(call)]
