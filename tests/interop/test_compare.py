"""tools/compare: the same requests to Kafka and to mqlog, answers compared field by field.

`MQLOG_TEST_ORACLE=HOST:PORT` names a Kafka that was started for tests
(`group.initial.rebalance.delay.ms=0`). Without it two mqlog are compared, which must agree.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).resolve().parents[2] / "tools" / "compare"
ORACLE = os.environ.get("MQLOG_TEST_ORACLE", "")
CONFIG = {"group.initial.rebalance.delay.ms": 0, "offsets.topic.num.partitions": 8}


def compare(kafka: str, mqlog: str) -> subprocess.CompletedProcess[str]:
    words = ["--kafka", kafka, "--mqlog", mqlog]
    return subprocess.run(
        [sys.executable, str(TOOL), *words], capture_output=True, text=True, check=False
    )


def test_every_served_version_is_answered_as_kafka_answers_it() -> None:
    from mqlog.testing import Broker

    with Broker(config=CONFIG) as broker:
        if ORACLE:
            done = compare(ORACLE, broker.bootstrap_servers)
            assert done.returncode == 0, done.stdout[-8000:] + done.stderr
            assert "compare: 0 faults" in done.stdout
            return
        with Broker(config=CONFIG) as other:
            done = compare(other.bootstrap_servers, broker.bootstrap_servers)
    assert "\nUNKNOWN " not in done.stdout, done.stdout[-8000:]
    assert "NOT ASKED" not in done.stdout
    found = re.search(r"(\d+) steps for (\d+) \(API, version\)", done.stdout)
    assert found is not None, done.stderr
    assert int(found[1]) > 2000
    # Every reason is one that two of ours do not need.
    assert done.returncode == 1
    assert "UNUSED" in done.stdout


def test_a_difference_without_a_reason_fails() -> None:
    from mqlog.testing import Broker

    other = CONFIG | {"message.max.bytes": 5000}
    with Broker(config=CONFIG) as one, Broker(config=other) as two:
        done = compare(one.bootstrap_servers, two.bootstrap_servers)
    assert done.returncode == 1
    assert re.search(r"UNKNOWN CreateTopics v7 .*max\.message\.bytes\]\.value", done.stdout)
