"""The least that a flushed write can cost: write what is in flight to its files, flush, repeat."""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
#: Up to as many files are flushed one by one, more by one syncfs.
FEW = 2


def flush_loop(
    folder: Path, files: int, request_bytes: int, in_flight: int, seconds: float
) -> tuple[float, float]:
    """Requests a second, and the 99th percentile of a round in microseconds."""
    paths = [folder / f"loop-{number}" for number in range(files)]
    flags = os.O_CREAT | os.O_TRUNC | os.O_WRONLY
    opened = [os.open(path, flags, 0o600) for path in paths]
    data, ends, rounds = os.urandom(request_bytes), [0] * files, []
    count, started = 0, time.monotonic()
    try:
        while time.monotonic() - started < seconds:
            begun = time.monotonic()
            dirty = set()
            for _ in range(in_flight):
                which = count % files
                count += 1
                ends[which] += os.pwrite(opened[which], data, ends[which])
                dirty.add(which)
            if len(dirty) > FEW:
                _libc.syncfs(opened[0])
            else:
                for which in dirty:
                    os.fdatasync(opened[which])
            rounds.append(time.monotonic() - begun)
        spent = time.monotonic() - started
    finally:
        for file, path in zip(opened, paths, strict=True):
            os.close(file)
            path.unlink()
    rounds.sort()
    return count / spent, rounds[len(rounds) * 99 // 100] * 1e6
