"""Apache Kafka's own DumpLogSegments reads the segments of every codec, and has no complaint."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from confluent_kafka import Producer

from .programs import HERE, classpath, run
from .records import CODECS, mqlog, pair

pytestmark = pytest.mark.interop
COUNT = 200
DUMP = "org.apache.kafka.tools.DumpLogSegments"
COMPLAINTS = re.compile(r"isvalid: false|mismatch|Non-?secutive|exception|error", re.IGNORECASE)


@pytest.fixture(scope="module")
def tools() -> str:
    """The classpath of Kafka's tools."""
    return classpath(HERE / "java" / "tools" / "pom.xml")


def test_every_codec(bootstrap: str, topic: str, tools: str, tmp_path: Path) -> None:
    for codec in CODECS:
        producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "compression.type": codec,
                "enable.idempotence": True,
                "linger.ms": 50,
            }
        )
        for number in range(COUNT):
            key, value = pair(number)
            producer.produce(topic, value, key, partition=0)
        assert producer.flush(30) == 0
    (described,) = mqlog("topic", "describe", topic, "--bootstrap", bootstrap)
    partitions = described["partitions"]
    assert isinstance(partitions, list)
    (segment,) = Path(partitions[0]["directory"]).glob("*.log")

    options = ["--deep-iteration", "--files", str(segment)]
    out = run(["java", "-cp", tools, DUMP, *options], cwd=tmp_path).decode()
    lines = out.splitlines()
    assert [line for line in lines if COMPLAINTS.search(line)] == []
    records = [line for line in lines if line.startswith("| offset: ")]
    offsets = [int(line.split()[2]) for line in records]
    assert offsets == list(range(COUNT * len(CODECS)))
    batches = Counter(re.findall(r"compresscodec: (\w+) .*isvalid: true", out))
    assert set(batches) == set(CODECS)
    assert sum(batches.values()) == len([line for line in lines if line.startswith("baseOffset")])
