"""A small ext4 in a file, mounted through a loop device: a disk that can lose power or be full.

Needs root and loop devices; `unavailable()` says what is missing.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import struct
import subprocess
import tempfile
import time
from pathlib import Path

# linux/fs.h: _IOR('X', 125, __u32); no log flush: what the journal has not written is lost.
_FS_IOC_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = 2
_TOOLS = ("mkfs.ext4", "mount", "umount", "losetup")


def unavailable() -> str:
    """Why there can be no loop file system here; empty if there can."""
    if os.geteuid() != 0:
        return "needs root, to mount a loop file system"
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        return f"needs {', '.join(missing)}"
    try:
        with LoopFs(8):
            return ""
    except subprocess.CalledProcessError as error:
        return f"cannot mount a loop file system: {error.stderr.strip()}"


class LoopFs:
    """A mounted file system of `megabytes`, for as long as the `with` block lasts."""

    def __init__(self, megabytes: int) -> None:
        self._dir = Path(tempfile.mkdtemp(prefix="mqlog-loop-"))
        self._image = self._dir / "image"
        self.path = self._dir / "mount"
        """Where it is mounted."""
        self._mounted = False
        try:
            self.path.mkdir()
            with self._image.open("wb") as image:
                image.truncate(megabytes << 20)
            _run("mkfs.ext4", "-q", "-m", "0", str(self._image))
            self._mount()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> LoopFs:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _mount(self) -> None:
        _run("mount", "-o", "loop", str(self._image), str(self.path))
        self._mounted = True

    def _umount(self) -> None:
        # A process that was just killed may hold it for a moment longer.
        for attempt in range(50):
            try:
                _run("umount", str(self.path))
            except subprocess.CalledProcessError:
                if attempt == 49:
                    raise
                time.sleep(0.1)
            else:
                self._mounted = False
                return

    def fill(self) -> None:
        """Leave no byte of room, until `make_room`."""
        with (self.path / "ballast").open("ab", buffering=0) as ballast:
            for size in (1 << 20, 1 << 12, 1):
                try:
                    while ballast.write(bytes(size)) == size:
                        pass
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise

    def make_room(self) -> None:
        """Give back what `fill` took."""
        (self.path / "ballast").unlink()

    def power_off(self, pid: int) -> None:
        """What is not on the disk never gets there. The process that writes to it is stopped
        first, as a power failure would: a flush under way must not tell anybody that it worked.
        """
        _freeze(pid)
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, _FS_IOC_SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(fd)

    def power_on(self) -> None:
        """Mount what is left; nothing may have a file open on it."""
        self._umount()
        self._mount()

    def close(self) -> None:
        """Unmount and remove."""
        if self._mounted:
            self._umount()
        shutil.rmtree(self._dir, ignore_errors=True)


def _freeze(pid: int) -> None:
    """SIGSTOP, and wait until no thread runs on: each stands still, or is in a call to the disk
    from which it will not return.
    """
    os.kill(pid, signal.SIGSTOP)
    tasks = Path(f"/proc/{pid}/task")
    deadline = time.monotonic() + 10
    while any(_state(task) not in "TtDZX" for task in tasks.iterdir()):
        assert time.monotonic() < deadline, "a thread does not stop"
        time.sleep(0.001)


def _state(task: Path) -> str:
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
