"""What a user reads when something is wrong: cause, value, limit, setting, next step."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import pytest

from mqlog import KafkaAdminClient, TopicPartition
from mqlog.errors import (
    CommitFailedError,
    CorruptMessageError,
    KafkaError,
    MessageTooLargeError,
    MqlogError,
)

from . import scripted_faults as faults
from .certificates import Certificates
from .clients import consumer, producer, reader, take
from .scripted import Api, Cluster

LIMITS: dict[str, Any] = {
    "request_timeout_ms": 2_000,
    "delivery_timeout_ms": 3_000,
    "max_block_ms": 1_500,
    "bootstrap_timeout_ms": 1_500,
}


def error_of(servers: str, **settings: Any) -> str:
    """The text of the error that a record's sender sees."""
    with pytest.raises(MqlogError) as caught:
        send_one(servers, "t", **settings)
    return str(caught.value)


def send_one(servers: str, topic: str, **settings: Any) -> None:
    client = producer(servers, **{**LIMITS, **settings})
    try:
        client.send(topic, b"v").get(8)
    finally:
        client.close(timeout=0)


def says(text: str, *words: str) -> None:
    missing = [word for word in words if word.lower() not in text.lower()]
    assert not missing, f"no {missing} in: {text}"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


def test_broker_down() -> None:
    address = f"127.0.0.1:{free_port()}"
    says(error_of(address), address, "refused", "bootstrap_servers")


def test_a_name_that_is_no_host() -> None:
    says(error_of("no-such-host.invalid:9092"), "no-such-host.invalid", "bootstrap_servers")


def test_the_first_failure_comes_in_the_time_given() -> None:
    def use() -> None:
        client = consumer(f"127.0.0.1:{free_port()}", "t", bootstrap_timeout_ms=500, group_id="g")
        try:
            while time.monotonic() < started + 5:
                client.poll(timeout_ms=100)
        finally:
            client.close(timeout_ms=0)

    started = time.monotonic()
    with pytest.raises(KafkaError):
        use()
    assert time.monotonic() < started + 2


def test_a_port_that_speaks_something_else() -> None:
    with Cluster() as cluster:
        cluster.always(None, faults.raw(b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n"))
        says(error_of(cluster.bootstrap_servers), cluster.bootstrap_servers, "HTTP", "port")


def test_a_port_that_speaks_first() -> None:
    with Cluster() as cluster:
        cluster.on_accept = lambda peer: peer.socket.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
        says(error_of(cluster.bootstrap_servers), cluster.bootstrap_servers, "port")


def test_plaintext_to_a_tls_port(certificates: Certificates) -> None:
    with Cluster(tls=certificates.server_context()) as cluster:
        says(
            error_of(cluster.bootstrap_servers),
            cluster.bootstrap_servers,
            "TLS",
            "security_protocol",
        )


def test_tls_to_a_plaintext_port(certificates: Certificates) -> None:
    with Cluster() as cluster:
        text = error_of(
            cluster.bootstrap_servers,
            security_protocol="SSL",
            ssl_cafile=certificates.file("ca.pem"),
        )
        says(text, cluster.bootstrap_servers, "TLS", "security_protocol")


@pytest.mark.parametrize(
    ("certificate", "authority", "words"),
    [
        ("server", "other-ca", ["ssl_cafile"]),
        ("expired", "ca", ["expired"]),
        ("stranger", "ca", ["127.0.0.1", "name"]),
    ],
)
def test_a_bad_certificate(
    certificates: Certificates, certificate: str, authority: str, words: list[str]
) -> None:
    with Cluster(tls=certificates.server_context(certificate)) as cluster:
        text = error_of(
            cluster.bootstrap_servers,
            security_protocol="SSL",
            ssl_cafile=certificates.file(f"{authority}.pem"),
        )
        says(text, cluster.bootstrap_servers, "certificate", *words)


def test_a_client_certificate_that_is_missing(certificates: Certificates) -> None:
    with Cluster(tls=certificates.server_context(ask_client=True)) as cluster:
        text = error_of(
            cluster.bootstrap_servers,
            security_protocol="SSL",
            ssl_cafile=certificates.file("ca.pem"),
        )
        says(text, cluster.bootstrap_servers, "certificate", "ssl_certfile")


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_a_wrong_password(mechanism: str) -> None:
    with Cluster(users={"alice": "secret"}) as cluster:
        started = time.monotonic()
        text = error_of(
            cluster.bootstrap_servers,
            security_protocol="SASL_PLAINTEXT",
            sasl_mechanism=mechanism,
            sasl_plain_username="alice",
            sasl_plain_password="guessed",
        )
        says(text, "alice", mechanism, "sasl_plain_password")
        assert "guessed" not in text
        assert time.monotonic() < started + 1.5 + 1, "no use in trying again"


def test_no_password_where_one_is_asked() -> None:
    with Cluster(users={"alice": "secret"}) as cluster:
        says(error_of(cluster.bootstrap_servers), cluster.bootstrap_servers, "clos")


def test_an_advertised_address_that_nobody_reaches() -> None:
    with Cluster() as cluster:
        cluster.create("t")
        port = free_port()
        cluster.nodes[0].advertised = ("127.0.0.1", port)
        says(error_of(cluster.bootstrap_servers), f"127.0.0.1:{port}", "advertised")


def test_an_unknown_topic() -> None:
    with Cluster() as cluster:
        with pytest.raises(KafkaError) as caught:
            send_one(cluster.bootstrap_servers, "missing")
        says(str(caught.value), "missing", "max_block_ms")


def test_a_record_too_large_for_the_client() -> None:
    with Cluster() as cluster:
        cluster.create("t")
        with (
            producer(cluster.bootstrap_servers, max_request_size=1000, **LIMITS) as client,
            pytest.raises(MessageTooLargeError) as caught,
        ):
            client.send("t", b"x" * 2000).get(8)
        says(str(caught.value).replace(",", ""), "2", "1000", "max_request_size", "t")


def test_a_record_too_large_for_the_broker() -> None:
    with Cluster() as cluster:
        cluster.create("t")
        cluster.always(Api.PRODUCE, faults.error(10))
        with (
            producer(cluster.bootstrap_servers, **LIMITS) as client,
            pytest.raises(MessageTooLargeError) as caught,
        ):
            client.send("t", b"x" * 2000).get(8)
        says(str(caught.value), "t", "max.message.bytes")


def test_a_fenced_member() -> None:
    with Cluster() as cluster:
        cluster.create("t")
        cluster.fill("t", [b"v"])
        settings = {"group_id": "g", "group_instance_id": "one", "heartbeat_interval_ms": 100}
        first = consumer(cluster.bootstrap_servers, "t", **settings)
        take(first, 1)
        second = consumer(cluster.bootstrap_servers, "t", **settings)
        take(second, 1, timeout_s=2)
        with pytest.raises(KafkaError) as caught:
            take(first, 1, timeout_s=10)
        says(str(caught.value), "group_instance_id", "one")
        second.close()
        first.close()


def test_max_poll_interval_exceeded(caplog: pytest.LogCaptureFixture) -> None:
    with Cluster() as cluster:
        cluster.create("t")
        cluster.fill("t", [b"v"])
        client = consumer(
            cluster.bootstrap_servers,
            "t",
            group_id="g",
            enable_auto_commit=False,
            max_poll_interval_ms=500,
            heartbeat_interval_ms=100,
        )
        take(client, 1)
        cluster.wait(lambda: not cluster.groups.group("g").members)
        with pytest.raises(CommitFailedError) as caught:
            client.commit()
        says(str(caught.value), "max_poll_interval_ms", "500", "max_poll_records")
        assert not cluster.groups.group("g").offsets
        cluster.fill("t", [b"w"])
        assert take(client, 1), "poll joins again"
        client.close()


def test_a_corrupt_batch() -> None:
    with Cluster() as cluster:
        cluster.create("t")
        cluster.fill("t", [b"v"])
        cluster.always(Api.FETCH, faults.records(faults.flip()))
        with (
            reader(cluster.bootstrap_servers, "t") as client,
            pytest.raises(CorruptMessageError) as caught,
        ):
            take(client, 1, timeout_s=8)
        says(str(caught.value), "t", "offset 0", "CRC", "seek")


def test_a_callback_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    done = threading.Event()

    def bad(metadata: Any) -> None:
        raise ValueError("of the user")

    with Cluster() as cluster:
        cluster.create("t")
        with producer(cluster.bootstrap_servers) as client:
            client.send("t", b"v").add_callback(bad)
            client.send("t", b"w").add_callback(lambda _: done.set())
            client.flush(10)
            assert done.wait(10), "the others still come"
    says(caplog.text, "of the user", "bad", "callback")


def test_a_bad_partition() -> None:
    with Cluster() as cluster:
        cluster.create("t", partitions=2)
        with (
            producer(cluster.bootstrap_servers, **LIMITS) as client,
            pytest.raises((MqlogError, ValueError)) as caught,
        ):
            client.send("t", b"v", partition=5).get(8)
        says(str(caught.value), "t", "5", "1")


def test_a_closed_client() -> None:
    with Cluster() as cluster:
        cluster.create("t")
        client = producer(cluster.bootstrap_servers)
        client.close()
        with pytest.raises(MqlogError, match=r"(?i)closed"):
            client.send("t", b"v")
        other = reader(cluster.bootstrap_servers, "t")
        other.close()
        with pytest.raises(MqlogError, match=r"(?i)closed"):
            other.poll()
        admin = KafkaAdminClient(bootstrap_servers=cluster.bootstrap_servers)
        admin.close()
        with pytest.raises(MqlogError, match=r"(?i)closed"):
            admin.list_topics()


def test_values_that_are_no_bytes() -> None:
    with Cluster() as cluster:
        cluster.create("t")
        with producer(cluster.bootstrap_servers) as client:
            with pytest.raises(TypeError, match=r"(?s)int.*value_serializer"):
                client.send("t", 5)
            with pytest.raises(TypeError, match=r"(?s)key"):
                client.send("t", b"v", key=5)


def test_a_partition_that_is_not_assigned() -> None:
    from mqlog.errors import IllegalStateError

    with Cluster() as cluster:
        cluster.create("t")
        with (
            reader(cluster.bootstrap_servers, "t") as client,
            pytest.raises((IllegalStateError, AssertionError), match=r"(?s)t.*3.*assign"),
        ):
            client.seek(TopicPartition("t", 3), 0)
