"""The programs of other people's clients: a tool that is missing is named, and skips the test."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
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


def python(name: str, folder: str = "members") -> list[str]:
    """A script of a Python client."""
    # The clients warn of their own use of Python.
    return [sys.executable, "-W", "ignore", str(HERE / folder / f"{name}.py")]


def kcat() -> list[str]:
    """A member that is kcat."""
    need("kcat")
    return python("kcat")


def kafkajs(name: str) -> list[str]:
    """A script of KafkaJS, which is installed beside it."""
    need("node", "npm")
    folder = BUILD / "kafkajs"
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("package.json", f"{name}.js"):
        shutil.copy(HERE / "kafkajs" / file, folder)
    run(["npm", "install", "--no-audit", "--no-fund", "--silent"], cwd=folder)
    return ["node", str(folder / f"{name}.js")]


def java(name: str) -> list[str]:
    """A class of the Java client, compiled as it starts."""
    jars = classpath(HERE / "java" / "pom.xml")
    return ["java", "-cp", jars, str(HERE / "java" / f"{name}.java")]


def franz_go(name: str) -> list[str]:
    """What franz-go is asked to do."""
    need("go")
    folder = BUILD / "go"
    shutil.copytree(HERE / "go", folder, dirs_exist_ok=True)
    env = {**os.environ, "GOFLAGS": "-mod=mod"}
    subprocess.run(["go", "build", "-o", "member", "."], cwd=folder, env=env, check=True)
    return [str(folder / "member"), name]
