"""Every example runs, prints what it should, and is in the table of examples/README.md."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mqlog.testing import Broker

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TIMEOUT_S = 60


def run(name: str, *arguments: str) -> list[str]:
    """The lines an example prints; it must end well and complain of nothing."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, cwd=EXAMPLES
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    """A broker for the examples that want one."""
    with Broker() as running:
        yield running


def test_confluent(broker: Broker) -> None:
    lines = run("confluent.py", broker.bootstrap_servers)
    assert lines[:10] == [f"acknowledged at offset {offset}" for offset in range(10)]
    assert lines[10:] == [f"{n} key {n} value {n}" for n in range(10)]
    # Run again, it finds its topic and what is in it.
    assert len(run("confluent.py", broker.bootstrap_servers)) == 10 + 20


def test_asyncio_client(broker: Broker) -> None:
    lines = run("asyncio_client.py", broker.bootstrap_servers)
    assert lines[:10] == [f"acknowledged at offset {offset}" for offset in range(10)]
    assert lines[10:] == [f"{n} value {n}" for n in range(10)]


def test_broker_in_a_test() -> None:
    assert run("broker_in_a_test.py") == [
        "1000 records were acknowledged; all of them survived the crash"
    ]


def test_read_segments(tmp_path: Path) -> None:
    from mqlog import _native

    records = [(7, b"k", b"v", []), (8, None, b"w", [])]
    batch = _native.build_batch(records, "lz4", base_offset=3)
    path = tmp_path / f"{3:020}.log"
    path.write_bytes(batch + batch[:-1] + b"?")
    *lines, last = run("read_segments.py", str(tmp_path))
    assert lines == ["3 7 b'k' b'v'", "4 8 None b'w'"]
    assert last.startswith(f"{path}: ")
    assert last.endswith(f"at byte {len(batch)}")


def test_the_table_is_complete() -> None:
    listed = re.findall(r"\]\((\w+\.py)\)", (EXAMPLES / "README.md").read_text())
    assert sorted(listed) == sorted(os.path.basename(path) for path in EXAMPLES.glob("*.py"))
