"""Programs written for kafka-python print the same after `import kafka` became `import mqlog`.

The first part runs programs of our own under both packages. The second runs the examples of
kafka-python's own README, as its installed metadata carries it, with only the import changed.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import re
import sys
import textwrap
import types
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import ORACLE, eventually
from .programs import run

PROGRAMS = {
    "send and wait": """
        from PACKAGE import KafkaProducer
        from PACKAGE.errors import KafkaError
        producer = KafkaProducer(bootstrap_servers=[servers], retries=5)
        for number in range(5):
            future = producer.send(topic, b"value %d" % number, key=b"k")
            try:
                told = future.get(timeout=10)
            except KafkaError as error:
                print("failed", error)
            print(told.topic == topic, told.partition, told.offset, future.succeeded())
        producer.close()
    """,
    "callbacks": """
        from PACKAGE import KafkaProducer
        producer = KafkaProducer(bootstrap_servers=servers, linger_ms=10)
        told = []
        def well(metadata): told.append(metadata.offset)
        def badly(error): told.append(error)
        for _ in range(10):
            producer.send(topic, b"v", partition=0).add_callback(well).add_errback(badly)
        producer.flush()
        producer.close()
        print(told)
    """,
    "iterate": """
        from PACKAGE import KafkaConsumer, KafkaProducer, TopicPartition
        with KafkaProducer(bootstrap_servers=servers) as producer:
            for number in range(20):
                producer.send(topic, b"%d" % number, partition=0, headers=[("h", b"1")],
                              timestamp_ms=1000 + number)
        consumer = KafkaConsumer(topic, bootstrap_servers=servers, auto_offset_reset="earliest",
                                 consumer_timeout_ms=2000)
        for m in consumer:
            print(m.topic == topic, m.partition, m.offset, m.key, m.value, m.headers, m.timestamp)
        print(consumer.position(TopicPartition(topic, 0)))
        consumer.close()
    """,
    "commit by hand": """
        from PACKAGE import KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
        with KafkaProducer(bootstrap_servers=servers) as producer:
            for number in range(10):
                producer.send(topic, b"%d" % number, partition=0)
        def consumer():
            return KafkaConsumer(topic, bootstrap_servers=[servers], group_id=topic,
                                 enable_auto_commit=False, auto_offset_reset="earliest",
                                 consumer_timeout_ms=5000)
        first = consumer()
        for m in first:
            place = TopicPartition(m.topic, m.partition)
            first.commit({place: OffsetAndMetadata(m.offset + 1, "", -1)})
            if m.offset == 5:
                break
        first.close()
        second = consumer()
        print(next(second).value, second.committed(TopicPartition(topic, 0)))
        second.close()
    """,
    "poll": """
        from PACKAGE import KafkaConsumer, KafkaProducer, TopicPartition
        with KafkaProducer(bootstrap_servers=servers, compression_type="gzip") as producer:
            for number in range(1000):
                producer.send(topic, b"msg %d" % number, partition=0)
        consumer = KafkaConsumer(bootstrap_servers=servers, group_id=None,
                                 auto_offset_reset="earliest", max_poll_records=100)
        place = TopicPartition(topic, 0)
        consumer.assign([place])
        values, largest = [], 0
        while len(values) < 1000:
            for where, records in consumer.poll(timeout_ms=1000).items():
                assert where == place
                largest = max(largest, len(records))
                values += [record.value for record in records]
        print(values[0], values[-1], len(values), largest <= 100)
        print(consumer.beginning_offsets([place]) == {place: 0}, consumer.end_offsets([place]))
        consumer.seek(place, 990)
        print(next(consumer).value)
        consumer.seek_to_beginning()
        print(next(consumer).value)
        print(sorted(consumer.partitions_for_topic(topic)), topic in consumer.topics())
        consumer.pause(place); print(consumer.paused()); consumer.resume(place)
        print(consumer.assignment(), consumer.subscription())
        consumer.close()
    """,
    "administration": """
        from PACKAGE import KafkaAdminClient
        admin = KafkaAdminClient(bootstrap_servers=[servers])
        name = topic + "-made"
        admin.create_topics([name], timeout_ms=None, validate_only=False)
        print(name in admin.list_topics())
        admin.delete_topics([name])
        print(isinstance(admin.list_groups(), (list, dict)))
        admin.close()
    """,
    "errors": """
        from PACKAGE import KafkaConsumer, KafkaProducer
        from PACKAGE.errors import KafkaError, KafkaTimeoutError
        import PACKAGE.errors as errors
        producer = KafkaProducer(bootstrap_servers=servers, max_block_ms=1000, max_request_size=500)
        try:
            producer.send(topic, b"x" * 1000).get(5)
        except errors.MessageSizeTooLargeError as error:
            print("too large", error.retriable)
        try:
            producer.send("not a topic", b"v").get(5)
        except (KafkaError, ValueError) as error:
            print("refused")
        producer.close()
    """,
}
HEAD = """
import logging, sys, warnings
warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)
servers, topic = sys.argv[1:]
"""


@pytest.mark.ours
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_same_program(name: str, servers: str, make_topic: Callable[..., str]) -> None:
    printed = {}
    for package in ("kafka", "mqlog"):
        source = textwrap.dedent(PROGRAMS[name]).replace("PACKAGE", package)
        topic = make_topic()
        ended = run(source, servers, topic, timeout_s=60, head=HEAD)
        assert ended.code == 0, f"{package}: {ended.err}"
        printed[package] = ended.out.replace(topic, "TOPIC")
    assert printed["mqlog"] == printed["kafka"]
    assert printed["mqlog"].strip(), "and it printed something"


# -- the README's own ------------------------------------------------------------------------------


def examples() -> list[str]:
    """The Python blocks of the README of the installed kafka-python."""
    readme = importlib.metadata.metadata("kafka-python").get_payload()
    blocks = re.findall(
        r"^\.\. code-block:: python\n\n((?:    .*\n|\n)+)", str(readme), re.MULTILINE
    )
    return [textwrap.dedent(block) for block in blocks]


def test_there_are_examples() -> None:
    assert len(examples()) > 15


@pytest.mark.slow
@pytest.mark.ours
@pytest.mark.skipif(bool(ORACLE), reason="about mqlog alone")
def test_the_examples_of_the_readme(servers: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Only the import is changed; addresses and an end of waiting come from the surroundings."""
    import mqlog

    prepare(servers)
    package = types.ModuleType("examples_of_mqlog")
    package.__dict__.update({name: getattr(mqlog, name) for name in mqlog.__all__})
    surroundings = {"bootstrap_servers": servers}
    package.KafkaConsumer = functools.partial(  # type: ignore[attr-defined]
        mqlog.KafkaConsumer,
        **surroundings,
        consumer_timeout_ms=3_000,
        auto_offset_reset="earliest",
    )
    package.KafkaProducer = functools.partial(  # type: ignore[attr-defined]
        mqlog.KafkaProducer, **surroundings
    )
    sys.modules[package.__name__] = package
    space: dict[str, Any] = {}
    refused = []
    try:
        for source in examples():
            changed = source.replace("from kafka import", f"from {package.__name__} import")
            changed = changed.replace("localhost:1234", servers)
            try:
                exec(compile(changed, "README", "exec"), space)
            except mqlog.errors.KafkaConfigurationError as error:
                refused.append(str(error))
            for name in ("consumer", "producer"):
                if "K" in source and name in space and "logging" not in source:
                    opened(space[name])
    finally:
        del sys.modules[package.__name__]
        for client in OPENED:
            client.close()
        OPENED.clear()
    assert [text for text in refused if "transactional_id" not in text] == []
    assert "foo" in capsys.readouterr().out


OPENED: list[Any] = []


def opened(client: Any) -> None:
    """Remember to close it."""
    if all(client is not one for one in OPENED):
        OPENED.append(client)


def prepare(servers: str) -> None:
    """The topics that the examples read, with something in them."""
    from confluent_kafka import Producer
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": servers})
    names = ("my_favorite_topic", "foobar", "json-foo", "txn_topic", "fizzbuzz", "flipflap")
    for future in admin.create_topics([NewTopic(name, 3, 1) for name in names]).values():
        future.result(30)
    eventually(lambda: set(names) <= set(admin.list_topics(timeout=10).topics))
    producer = Producer({"bootstrap.servers": servers})
    for partition in range(3):
        for name in names:
            value = json.dumps({"foo": "bar"})
            producer.produce(name, value, partition=partition)
    producer.flush(30)
