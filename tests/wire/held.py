"""A broker in this process whose interpreter is held, and a client in another that goes on."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path


def while_held(program: str, arguments: list[str], held_s: float, looked_at_s: float) -> int:
    """The number that a program prints of what it got done while the interpreter was held.

    It says "ready", reads "held" and for how many seconds it is to look, and prints it then.
    """
    hold = ctypes.PyDLL(None).sleep  # PyDLL keeps the GIL, unlike CDLL
    client = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", program, *arguments],
        cwd=Path(__file__).parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with client:
        assert client.stdin
        assert client.stdout
        assert client.stdout.readline() == "ready\n"
        client.stdin.write(f"held\n{looked_at_s}\n")
        client.stdin.flush()
        hold(held_s)
        done = int(client.stdout.readline())
    assert client.returncode == 0
    return done
