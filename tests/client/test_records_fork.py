"""Records and columns of a process that forks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FORKING = """
import gc, os
from client.reading import Offline
from mqlog import _native
from mqlog.errors import UsedAfterForkError

consumer = Offline()
batch = _native.build_batch([(0, None, b"%d" % number, []) for number in range(10)], "lz4")
consumer.feed(batch)
next(consumer)
other = Offline()
columns = other.feed(batch)._take_columns()
view = columns.value.data
uses = [
    lambda: next(consumer), lambda: list(consumer), lambda: consumer._take_records(1),
    consumer._take_columns, consumer.core.events, consumer.core.check,
    lambda: consumer.core.seek("t", 0, 0), lambda: consumer.core.wait(10_000),
    lambda: consumer.core.heartbeat_stop(),
]
for _ in range(20):
    child = os.fork()
    if child == 0:
        for use in uses:
            try:
                use()
                os._exit(1)
            except UsedAfterForkError as error:
                if "make another in the child" not in str(error):
                    os._exit(2)
        if bytes(view) != b"0123456789":
            os._exit(3)
        del consumer, other, columns, view, uses, use
        gc.collect()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
assert [record.offset for record in consumer] == list(range(1, 10))
"""


def test_the_child_of_a_fork_is_told_to_make_its_own() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKING],
        cwd=Path(__file__).parent.parent, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
