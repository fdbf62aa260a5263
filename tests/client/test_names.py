"""Names of kafka-python: code that imports from it works when the package is called mqlog."""

from __future__ import annotations

import importlib
import subprocess
import sys

import kafka
import kafka.partitioner
import kafka.structs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mqlog
import mqlog.structs
from mqlog.partitioner import murmur2
from mqlog.serializer import DefaultSerializer, JsonSerializer

#: Coroutines have their own client.
MISSING = {"AsyncConsumerRebalanceListener"}


def test_every_name_of_the_package_is_there() -> None:
    assert {name for name in kafka.__all__ if not hasattr(mqlog, name)} == MISSING
    assert set(mqlog.__all__) <= set(dir(mqlog))
    for name in mqlog.__all__:
        assert getattr(mqlog, name) is getattr(mqlog, name)
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        mqlog.Nonsense  # noqa: B018


@pytest.mark.parametrize(
    "module", ["admin", "consumer", "partitioner", "producer", "serializer", "structs"]
)
def test_every_name_of_its_modules_is_there(module: str) -> None:
    theirs = importlib.import_module(f"kafka.{module}")
    ours = importlib.import_module(f"mqlog.{module}")
    names = getattr(theirs, "__all__", None) or [
        name
        for name, value in vars(theirs).items()
        if getattr(value, "__module__", "").startswith("kafka.") and not name.endswith("Wrapper")
    ]
    missing = {name for name in names if not hasattr(ours, name)}
    assert {
        name for name in missing if "Transaction" not in name and "Producer" not in name
    } == set()


@pytest.mark.parametrize("name", sorted(set(vars(kafka.structs)) & {
    "TopicPartition", "TopicPartitionReplica", "OffsetAndMetadata", "OffsetAndTimestamp",
    "ConsumerGroupMetadata",
}))  # fmt: skip
def test_structs_have_kafka_pythons_fields(name: str) -> None:
    theirs, ours = getattr(kafka.structs, name), getattr(mqlog.structs, name)
    assert ours._fields == theirs._fields


def test_importing_the_package_is_cheap() -> None:
    code = "import sys, mqlog; print(sorted(n for n in sys.modules if n.startswith('mqlog')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['mqlog']"
    code = "import sys; from mqlog import KafkaConsumer; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@given(st.binary(max_size=40))
def test_murmur2_is_kafka_pythons(data: bytes) -> None:
    assert murmur2(data) == kafka.partitioner.murmur2(data)


def test_serializers() -> None:
    text, data = DefaultSerializer(), JsonSerializer()
    assert text.serialize("t", [], "ä") == "ä".encode()
    assert text.serialize("t", [], b"x") == b"x"
    assert text.deserialize("t", [], "ä".encode()) == "ä"
    assert data.deserialize("t", [], data.serialize("t", [], {"a": [1, None]})) == {"a": [1, None]}
    for one in (text, data):
        assert one.serialize("t", [], None) is None
        assert one.deserialize("t", [], None) is None
        one.close()
