"""The house rules that no other linter knows, as a check that fails with file and line.

Arrows: which crate may use which, and that `client` and `broker` never import each other. Size:
100 columns, file lengths as a ratchet (generated files are left out; a file may shrink its entry,
never grow it). Leftovers: markers of unfinished work, paths of somebody's machine.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = 100
LINES = 500

# docs/internals and the Cargo manifests say the same thing.
CRATES = {
    "record": set[str](),
    "protocol": set[str](),
    "log": {"record"},
    "meta": {"record", "protocol", "log"},
    "server": {"protocol", "log", "meta", "record"},
    "client": {"protocol", "record"},
    "cython": set[str](),
    "python": {"record", "protocol", "log", "meta", "server", "client", "cython"},
}
PYTHON_APART = [("client", "broker"), ("broker", "client")]
# Hand-written files that are longer than LINES: they may only shrink.
LONG = {
    "rust/server/src/fetch.rs": 502,
    "tools/protocol/Golden.java": 600,
    "tests/wire/test_produce.py": 560,
}
GENERATED = re.compile(
    r"rust/protocol/src/(tables|messages|tables\.rs|messages\.rs|error_code\.rs|api_key\.rs)"
    r"|python/mqlog/(protocol/|errors\.py)|tests/fixtures/|tools/protocol/.*\.txt"
)
SOURCE = {".rs", ".py", ".pyx", ".pxd", ".pyi", ".toml", ".sh", ".java", ".md"}
# Spelled so that this line is no hit itself.
UNFINISHED = re.compile(r"\b(T[O]DO|F[I]XME|X[X]X)\b|t[o]do!\(|unimplemente[d]!\(")
MACHINE = re.compile(r"(?<![\w./-])/(work|root|home)/\w")


def tracked() -> Iterator[Path]:
    """The files git knows, relative to the root."""
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            yield Path(name)


def crate_arrows() -> Iterator[str]:
    """Cargo makes a forbidden use a compile error; this keeps the manifests honest."""
    for crate, allowed in CRATES.items():
        path = ROOT / "rust" / crate / "Cargo.toml"
        manifest = tomllib.loads(path.read_text())
        used = {
            name.removeprefix("mqlog-")
            for section in ("dependencies", "build-dependencies")
            for name in manifest.get(section, {})
            if name.startswith("mqlog-")
        }
        for name in sorted(used - allowed):
            yield f"rust/{crate}/Cargo.toml: mqlog-{crate} may not use mqlog-{name}"


def python_arrows() -> Iterator[str]:
    """`client` and `broker` never import each other."""
    for package, other in PYTHON_APART:
        pattern = re.compile(rf"^\s*(from|import)\s+(mqlog\.{other}|\.\.{other})\b", re.MULTILINE)
        for path in sorted((ROOT / "python" / "mqlog" / package).glob("**/*.py")):
            for match in pattern.finditer(path.read_text()):
                line = path.read_text().count("\n", 0, match.start()) + 1
                where = path.relative_to(ROOT)
                yield f"{where}:{line}: mqlog.{package} may not import mqlog.{other}"


def stubs() -> Iterator[str]:
    """Every Cython module has a stub for mypy."""
    for path in sorted((ROOT / "cython" / "mqlog").glob("*.pyx")):
        if not (ROOT / "python" / "mqlog" / f"{path.stem}.pyi").exists():
            yield f"{path.relative_to(ROOT)}: no python/mqlog/{path.stem}.pyi"


def contents(path: Path) -> Iterator[str]:
    """Size and leftovers of one file."""
    name = path.as_posix()
    if path.suffix not in SOURCE or GENERATED.match(name):
        return
    lines = (ROOT / path).read_text().splitlines()
    limit = LONG.get(name, LINES)
    wide = path.suffix in {".rs", ".pyx", ".pxd"}  # ruff looks at the others
    if len(lines) > limit and path.suffix != ".md":
        yield f"{name}: {len(lines)} lines, at most {limit}: is there a seam?"
    for number, line in enumerate(lines, 1):
        if len(line) > COLUMNS and wide and "tests" not in path.parts:
            yield f"{name}:{number}: {len(line)} columns, at most {COLUMNS}"
        if UNFINISHED.search(line) and path.suffix != ".md":
            yield f"{name}:{number}: unfinished: {line.strip()}"
        if MACHINE.search(line):
            yield f"{name}:{number}: a path of one machine: {line.strip()}"


def main() -> int:
    """Prints what is wrong, a line each; 1 if anything is."""
    faults = [*crate_arrows(), *python_arrows(), *stubs()]
    files = sorted(tracked())
    for path in files:
        faults.extend(contents(path))
    for fault in faults:
        print(fault)
    print(f"tidy: {len(files)} files, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
