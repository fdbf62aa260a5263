"""The generated files are what the tables say, and the tables are whole."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(shutil.which("rustfmt") is None, reason="rustfmt is not installed")
def test_generated_files_are_up_to_date() -> None:
    command = [sys.executable, str(ROOT / "tools/protocol/generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_package_loads_no_message_before_it_is_asked_for() -> None:
    code = "import sys, mqlog.protocol; print(sum(m.startswith('mqlog.') for m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
