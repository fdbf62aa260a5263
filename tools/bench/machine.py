"""The machine under the measurement: memory made warm, cores idle, processes counted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
GIB = 1 << 30
# Population is one system call; the exit gives the pages back to the kernel, not to the host.
_TOUCH = """
import mmap, sys
mmap.mmap(-1, int(sys.argv[1]), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE)
"""


def warm_memory(gib: float) -> None:
    """Have the host back `gib` GiB of the guest's free memory.

    On a virtual machine a page that the guest has not used for a while must first be given by the
    host, 2 to 3 us per 4 KiB: more than all else that a produce costs.
    """
    facts = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(facts["MemAvailable"].split()[0]) * 1024
    size = min(int(gib * GIB), available // 2)
    if size > 0:
        subprocess.run([sys.executable, "-c", _TOUCH, str(size)], check=True)


def busy_seconds() -> float:
    """Seconds that all cores together have worked since boot."""
    times = [int(x) for x in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(times) - times[3] - times[4]) / TICKS


def wait_idle(limit: float, seconds: float) -> None:
    """Wait until fewer than `limit` cores are busy, at most so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        before, since = busy_seconds(), time.monotonic()
        time.sleep(0.5)
        if (busy_seconds() - before) / (time.monotonic() - since) < limit:
            return


def listener(port: int) -> int | None:
    """The process that listens on a TCP port."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            field = line.split()
            if field[3] == "0A" and int(field[1].rsplit(":", 1)[1], 16) == port:
                inodes.add(f"socket:[{field[9]}]")
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(os.readlink(fd) in inodes for fd in (process / "fd").iterdir()):
                return int(process.name)
        except OSError:
            continue
    return None


def memory_mb(pid: int, key: str) -> float:
    """VmRSS or VmHWM of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) / 1024
    return 0.0


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def alive(pid: int) -> bool:
    """Whether a process runs (and is no zombie)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def terminate(pid: int, seconds: float = 30) -> None:
    """SIGTERM, then SIGKILL."""
    os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.02)
    if alive(pid):
        os.kill(pid, signal.SIGKILL)
