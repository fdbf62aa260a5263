"""The scripted broker behaves as Kafka does: other clients cannot tell; its log obeys the rules."""

from __future__ import annotations

import time
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from mqlog import _native

from . import scripted_faults as faults
from .certificates import Certificates
from .scripted import Api, Cluster
from .scripted_log import (
    INVALID_PRODUCER_EPOCH,
    OUT_OF_ORDER_SEQUENCE_NUMBER,
    PartitionLog,
)


def produced(cluster: Cluster, values: list[bytes], **options: Any) -> None:
    producer = Producer(
        {
            "bootstrap.servers": cluster.bootstrap_servers,
            "enable.idempotence": True,
            "linger.ms": 0,
            "retry.backoff.ms": 10,
            **options,
        }
    )
    for value in values:
        producer.produce("t", value)
    assert producer.flush(20) == 0


def consumed(cluster: Cluster, count: int, **options: Any) -> list[bytes]:
    consumer = Consumer(
        {"bootstrap.servers": cluster.bootstrap_servers, "group.id": "g", **options}
    )
    consumer.assign([TopicPartition("t", 0, OFFSET_BEGINNING)])
    out: list[bytes] = []
    deadline = time.monotonic() + 20
    while len(out) < count and time.monotonic() < deadline:
        out += [message.value() for message in consumer.consume(100, 0.1) if not message.error()]
    consumer.close()
    return out


def test_another_client_produces_and_consumes() -> None:
    values = [b"%d" % number for number in range(100)]
    with Cluster(nodes=2) as cluster:
        cluster.create("t")
        produced(cluster, values)
        assert cluster.values("t") == values
        assert consumed(cluster, 100) == values


def test_another_client_survives_moves_and_lost_answers() -> None:
    values = [b"%d" % number for number in range(60)]
    with Cluster(nodes=2) as cluster:
        cluster.create("t")
        cluster.on(Api.PRODUCE, faults.close(applied=True), nth=1)
        cluster.on(Api.PRODUCE, faults.error(6), nth=3)
        for part in (values[:20], values[20:40], values[40:]):
            produced(cluster, part, **{"batch.num.messages": 5})
            cluster.move("t")
        assert cluster.values("t") == values


def test_two_members_of_another_client_share_a_topic() -> None:
    with Cluster() as cluster:
        cluster.create("t", partitions=4)
        members = [
            Consumer(
                {
                    "bootstrap.servers": cluster.bootstrap_servers,
                    "group.id": "g",
                    "heartbeat.interval.ms": 100,
                    "session.timeout.ms": 6000,
                }
            )
            for _ in range(2)
        ]
        for member in members:
            member.subscribe(["t"])
        deadline = time.monotonic() + 20
        while any(len(one.assignment()) != 2 for one in members):
            assert time.monotonic() < deadline, "no balance"
            for member in members:
                member.poll(0.05)
        members[0].commit(offsets=[TopicPartition("t", 0, 7)], asynchronous=False)
        for member in members:
            member.close()
        assert cluster.groups.group("g").offsets["t", 0][0] == 7
        assert not cluster.groups.group("g").members


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_another_client_logs_in_over_tls(mechanism: str, certificates: Certificates) -> None:
    with Cluster(tls=certificates.server_context(), users={"alice": "secret"}) as cluster:
        cluster.create("t")
        produced(
            cluster,
            [b"v"],
            **{
                "security.protocol": "SASL_SSL",
                "ssl.ca.location": certificates.file("ca.pem"),
                "sasl.mechanism": mechanism,
                "sasl.username": "alice",
                "sasl.password": "secret",
            },
        )
        assert cluster.values("t") == [b"v"]


def batch(count: int, producer: int, epoch: int, sequence: int) -> bytes:
    return _native.build_batch(
        [(0, None, b"v", ())] * count,
        producer_id=producer,
        producer_epoch=epoch,
        base_sequence=sequence,
    )


def test_the_log_keeps_the_rules_of_idempotence() -> None:
    log = PartitionLog()
    assert log.append(batch(2, 7, 0, 0), 0) == (0, 0)
    assert log.append(batch(3, 7, 0, 2), 0) == (0, 2)
    assert log.append(batch(2, 7, 0, 0), 0) == (0, 0), "a repeated batch keeps its offset"
    assert log.append(batch(1, 7, 0, 6), 0)[0] == OUT_OF_ORDER_SEQUENCE_NUMBER
    assert log.append(batch(1, 7, 1, 5), 0)[0] == OUT_OF_ORDER_SEQUENCE_NUMBER
    assert log.append(batch(1, 7, 1, 0), 0) == (0, 5)
    assert log.append(batch(1, 7, 0, 5), 0)[0] == INVALID_PRODUCER_EPOCH
    assert log.append(batch(1, 8, 3, 100), 0) == (0, 6), "an unknown producer begins anywhere"
    for number in range(1, 6):
        assert log.append(batch(1, 7, 1, number), 0)[0] == 0
    assert log.append(batch(1, 7, 1, 0), 0)[0] == OUT_OF_ORDER_SEQUENCE_NUMBER, "left the window"
    assert log.append(batch(1, 9, 0, 0x7FFF_FFFF), 0)[0] == 0
    assert log.append(batch(1, 9, 0, 0), 0)[0] == 0, "sequences wrap"
