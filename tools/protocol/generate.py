#!/usr/bin/env python3
"""Write the generated Rust and Python from messages.txt, apis.txt and errors.txt.

    python tools/protocol/generate.py [--check]

With --check nothing is written; it fails if a file is not what the tables say.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from emit_python import python_files
from emit_rust import api_key, error_code, tables
from emit_typed import typed

ROOT = Path(__file__).resolve().parents[2]
RUST = ROOT / "rust/protocol/src"


def rustfmt(text: str) -> str:
    """Formats what rustfmt would format in place."""
    command = ["rustfmt", "--edition", "2021", "--config-path", str(ROOT)]
    return subprocess.run(command, input=text, text=True, capture_output=True, check=True).stdout


def outputs() -> dict[Path, str]:
    """Every generated file with its content."""
    files = {RUST / name: text for name, text in tables().items()}
    files[RUST / "tables.rs"] = rustfmt(files[RUST / "tables.rs"].replace("pub mod", "pub mod"))
    for name, text in {**typed(), "api_key.rs": api_key(), "error_code.rs": error_code()}.items():
        files[RUST / name] = rustfmt(text)
    files |= {ROOT / "python/mqlog" / name: text for name, text in python_files().items()}
    return files


def main() -> int:
    """Write, or compare."""
    check = "--check" in sys.argv[1:]
    files = outputs()
    stale = [path for path, text in files.items() if not path.exists() or path.read_text() != text]
    kept = set(files)
    for folder in (RUST / "tables", ROOT / "python/mqlog/protocol"):
        stale += [path for path in folder.glob("*.??") if path not in kept]
    for path in stale:
        if check:
            print(f"not up to date: {path.relative_to(ROOT)}", file=sys.stderr)
        elif path in files:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[path])
        else:
            path.unlink()
    if check and stale:
        print("run: python tools/protocol/generate.py", file=sys.stderr)
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
