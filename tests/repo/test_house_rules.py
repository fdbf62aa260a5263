"""What the architecture forbids, checked where it is written down: manifests and imports."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WORKSPACE = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
#: Layer by layer: a crate uses only crates of earlier lines.
LAYERS = [["record", "protocol", "cython"], ["log", "client"], ["meta"], ["server"], ["python"]]


def uses(crate: str, *sections: str) -> set[str]:
    manifest = tomllib.loads((ROOT / "rust" / crate / "Cargo.toml").read_text())
    names = {name for section in sections for name in manifest.get(section, {})}
    return {name.removeprefix("mqlog-") for name in names if name.startswith("mqlog-")}


def modules(package: str) -> list[Path]:
    return sorted((ROOT / "python" / "mqlog" / package).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Every module that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {node.module or ""} | {f"{node.module}.{name.name}" for name in node.names}
    return found


def test_tidy_finds_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "tools/tidy.py"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_every_crate_has_its_layer() -> None:
    assert sorted(flat(LAYERS)) == sorted(
        member.removeprefix("rust/") for member in WORKSPACE["members"]
    )


def flat(layers: list[list[str]]) -> list[str]:
    return [crate for layer in layers for crate in layer]


@pytest.mark.parametrize("layer", range(len(LAYERS)))
def test_crates_use_lower_layers_only(layer: int) -> None:
    below = set(flat(LAYERS[:layer]))
    for crate in LAYERS[layer]:
        assert uses(crate, "dependencies", "build-dependencies") <= below, crate


def test_cargo_test_needs_no_python() -> None:
    tested = {member.removeprefix("rust/") for member in WORKSPACE["default-members"]}
    assert tested == set(flat(LAYERS)) - {"python", "cython"}
    for crate in tested:
        manifest = (ROOT / "rust" / crate / "Cargo.toml").read_text()
        assert "pyo3" not in manifest, crate


@pytest.mark.parametrize("crate", flat(LAYERS))
def test_every_crate_takes_the_lints_of_the_workspace(crate: str) -> None:
    manifest = tomllib.loads((ROOT / "rust" / crate / "Cargo.toml").read_text())
    assert manifest["lints"] == {"workspace": True}
    assert manifest["package"]["version"] == {"workspace": True}


def test_base_install_needs_click_alone() -> None:
    assert PROJECT["project"]["dependencies"] == ["click>=8.1"]
    known = {*sys.stdlib_module_names, "click", "mqlog"}
    foreign = {
        (path.relative_to(ROOT).as_posix(), name)
        for path in modules(".")
        for name in imported(path)
        if name.split(".")[0] not in known
    }
    assert foreign == set()


def test_client_and_broker_do_not_know_each_other() -> None:
    for package, other in (("client", "broker"), ("broker", "client")):
        for path in modules(package):
            assert not any(name.startswith(f"mqlog.{other}") for name in imported(path)), path


def test_the_broker_prints_in_one_place_and_asks_no_clock_for_decisions() -> None:
    """Only these may touch the world; what decides takes it as an argument."""
    may = {"runtime.py", "serve.py", "journal.py", "listeners.py"}
    for path in modules("broker"):
        if path.name not in may:
            touched = imported(path) & {"time", "os", "socket", "threading", "random", "signal"}
            assert touched == set(), path.name


def test_cython_touches_no_file_and_no_socket() -> None:
    for path in sorted((ROOT / "cython" / "mqlog").glob("*.pyx")):
        for line in path.read_text().splitlines():
            if re.match(r"\s*(from|import|cimport)\s", line):
                assert not re.search(r"\b(os|io|socket|stdio|unistd|posix)\b", line), line
            assert not re.search(r"\b(open|fopen)\(", line), line


def test_unsafe_is_explained() -> None:
    """The workspace's lints deny it; a crate that switched them off would show here."""
    clippy = WORKSPACE["lints"]["clippy"]
    assert clippy["undocumented_unsafe_blocks"] == "deny"
    assert clippy["unwrap_used"] == "deny"
    for path in sorted((ROOT / "rust").glob("*/src/lib.rs")):
        assert path.read_text().startswith("//!"), f"{path}: says what it is first"
