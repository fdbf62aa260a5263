"""Runs the record fuzzer with the Cython modules built under AddressSanitizer.

    python tools/asan_fuzz.py [--batches 200000] [TEST ...]

The installed package is copied, its Cython modules are compiled again with -fsanitize=address, and
the tests run against the copy with gcc's libasan loaded first and Python's objects in plain malloc,
so that a read beyond a `bytes` or a buffer of the core is seen. The Rust code itself is not
instrumented; its memory is, as it comes from the same malloc.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import mqlog

ROOT = Path(__file__).resolve().parent.parent
TESTS = ["tests/client/test_record_fuzz.py"]


def main() -> int:
    """The exit code of the tests."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--batches", type=int, default=200_000)
    parser.add_argument("tests", nargs="*", default=TESTS)
    options = parser.parse_args()
    library = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"], check=True, capture_output=True, text=True
    ).stdout.strip()
    with tempfile.TemporaryDirectory(prefix="mqlog-asan-") as folder:
        package = Path(folder) / "mqlog"
        shutil.copytree(Path(mqlog.__file__).parent, package)
        flags = "-fsanitize=address -fno-omit-frame-pointer"
        environment = {**os.environ, "CFLAGS": flags, "LDFLAGS": "-fsanitize=address"}
        built = Path(folder) / "built"
        built.mkdir()
        script = str(ROOT / "tools" / "build_cython.py")
        subprocess.run([sys.executable, script, str(built)], check=True, env=environment)
        for module in built.glob("_*.so"):
            shutil.copy2(module, package)
        environment = {
            **os.environ,
            "LD_PRELOAD": library,
            "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1",
            "PYTHONMALLOC": "malloc",
            "PYTHONPATH": folder,
            "MQLOG_FUZZ_BATCHES": str(options.batches),
        }
        command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider"]
        command += ["--timeout", "0", "-o", "addopts=--import-mode=importlib", *options.tests]
        return subprocess.run(command, check=False, cwd=ROOT, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
