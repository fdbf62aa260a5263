"""The installed package: what it says of itself, and what importing it costs."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
VERSION = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
SCRIPT = Path(sysconfig.get_path("scripts")) / "mqlog"
METADATA = importlib.metadata.metadata("mqlog")


def run(*command: object) -> str:
    """Its output; it must succeed and complain of nothing."""
    environment = {**os.environ, "COLUMNS": "100"}
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"], ["version"]])
def test_script_and_module_are_the_same_command(arguments: list[str]) -> None:
    assert run(SCRIPT, *arguments) == run(sys.executable, "-P", "-m", "mqlog", *arguments)


def test_one_version() -> None:
    assert METADATA["Version"] == VERSION
    heading, row = run(SCRIPT, "version").splitlines()
    assert (heading.split()[0], row.split()[0]) == ("VERSION", VERSION)


def test_installs_click_and_nothing_else() -> None:
    needed = [text for text in importlib.metadata.requires("mqlog") or [] if "extra ==" not in text]
    assert [re.split(r"[^\w.-]", text)[0] for text in needed] == ["click"]


def test_licence_and_python() -> None:
    assert METADATA["License-Expression"] == "Apache-2.0"
    assert METADATA["Requires-Python"] == ">=3.11"
    files = {file.name: file for file in importlib.metadata.files("mqlog") or []}
    assert files["LICENSE"].read_text() == (ROOT / "LICENSE").read_text()


def test_typed() -> None:
    package = importlib.resources.files("mqlog")
    assert package.joinpath("py.typed").is_file()
    for module in ("_native", "_records"):
        assert package.joinpath(f"{module}.pyi").is_file(), module


@pytest.mark.parametrize(
    ("module", "spared"),
    [
        ("mqlog", ["click", "numpy", "socket", "mqlog._native"]),
        ("mqlog.testing", ["click", "numpy"]),
        ("mqlog.broker.serve", ["click", "numpy", "socket", "logging", "asyncio"]),
        ("mqlog.cli", ["numpy", "socket", "mqlog._native", "mqlog._records"]),
    ],
)
def test_importing_is_lean(module: str, spared: list[str]) -> None:
    # Warnings would be printed, and run() wants silence.
    code = f"import sys, {module}; print(*sorted(sys.modules))"
    loaded = set(run(sys.executable, "-P", "-c", code).split())
    assert module in loaded
    assert loaded & set(spared) == set()
