"""Running clients that are no Python packages: what is missing is named, and skips the test."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent.parent / "build" / "interop"
TIMEOUT_S = 300


def need(*tools: str) -> None:
    """Skip, naming the first tool that this machine does not have."""
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")


def run(command: list[str], cwd: Path | None = None, stdin: bytes = b"") -> bytes:
    """Standard output of a program; what it said becomes the failure if it fails."""
    done = subprocess.run(
        command, cwd=cwd, input=stdin, capture_output=True, timeout=TIMEOUT_S, check=False
    )
    if done.returncode:
        said = (done.stdout[-2000:] + done.stderr[-4000:]).decode(errors="replace")
        pytest.fail(f"{command[0]} exited with {done.returncode}:\n{said}")
    return done.stdout


def classpath(pom: Path) -> str:
    """The jars that a pom.xml asks for, fetched from Maven Central."""
    need("java", "mvn")
    out = BUILD / f"java-classpath-{pom.parent.name}"
    BUILD.mkdir(parents=True, exist_ok=True)
    goal = ["dependency:build-classpath", f"-Dmdep.outputFile={out}"]
    run(["mvn", "-q", "-B", "-f", str(pom), *goal])
    return out.read_text().strip()
