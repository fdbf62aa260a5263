"""What an administrator does, with every client: topics, settings, groups."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from .programs import franz_go, java, kafkajs, need, python, run
from .records import mqlog

CASES = [
    pytest.param("confluent-kafka", lambda: python("confluent", "admins"), id="confluent-kafka"),
    pytest.param("kafka-python", lambda: python("kafka_python", "admins"), id="kafka-python"),
    pytest.param("aiokafka", lambda: python("aiokafka", "admins"), id="aiokafka"),
    pytest.param("KafkaJS", lambda: kafkajs("admin"), id="kafkajs", marks=pytest.mark.interop),
    pytest.param("Java", lambda: java("Administrator"), id="java", marks=pytest.mark.interop),
    pytest.param("franz-go", lambda: franz_go("admin"), id="franz-go", marks=pytest.mark.interop),
]
SAYS = [
    "partitions 3",
    "retention 1000000",
    "retention 2000000",
    "listed true",
    "state Empty",
    "listed false",
    "there false",
]
#: aiokafka has no call that deletes a group.
KEEPS_GROUPS = {"aiokafka"}


@pytest.fixture
def group(bootstrap: str, topic: str) -> str:
    """A group without members that has committed something."""
    name = f"admin-{uuid.uuid4().hex[:12]}"
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": name})
    consumer.commit(offsets=[TopicPartition(topic, 0, 3)], asynchronous=False)
    consumer.close()
    return name


@pytest.mark.parametrize(("client", "program"), CASES)
def test_topics_settings_and_groups(bootstrap: str, group: str, client: str, program: Any) -> None:
    topic = f"admin-{uuid.uuid4().hex[:12]}"
    said = run([*program(), bootstrap, topic, group]).decode().splitlines()
    says = [line for line in SAYS if client not in KEEPS_GROUPS or line != "listed false"]
    assert [line.replace("True", "true").replace("False", "false") for line in said] == says
    left = {row["group"] for row in mqlog("group", "list", "--bootstrap", bootstrap)}
    assert (group in left) == (client in KEEPS_GROUPS)
    assert topic not in {row["name"] for row in mqlog("topic", "list", "--bootstrap", bootstrap)}


@pytest.mark.interop
@pytest.mark.parametrize("client", ["kcat"])
def test_kcat_lists_and_looks_up(bootstrap: str, topic: str, client: str) -> None:
    """It administers nothing; it tells of topics and finds offsets."""
    need("kcat")
    run(["kcat", "-b", bootstrap, "-t", topic, "-p", "0", "-P"], stdin=b"a\nb\nc\n")
    told = json.loads(run(["kcat", "-b", bootstrap, "-L", "-J", "-t", topic]))
    (found,) = told["topics"]
    assert (found["topic"], len(found["partitions"])) == (topic, 1)
    assert f"{told['brokers'][0]['name']}" == bootstrap
    out = run(["kcat", "-b", bootstrap, "-Q", "-t", f"{topic}:0:-1"]).decode()
    assert "offset 3" in out
