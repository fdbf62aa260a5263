"""Settings: names, values, and what they mean together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer

from mqlog.client.config import AdminConfig, ConsumerConfig, ProducerConfig
from mqlog.errors import KafkaConfigurationError


def producer(**given: Any) -> ProducerConfig:
    return ProducerConfig(None, given)


def consumer(**given: Any) -> ConsumerConfig:
    return ConsumerConfig(None, given)


def problem(make: Any, *args: Any, **given: Any) -> str:
    with pytest.raises(KafkaConfigurationError) as caught:
        make(*args, **given)
    return str(caught.value)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (KafkaProducer, ProducerConfig),
        (KafkaConsumer, ConsumerConfig),
        (KafkaAdminClient, AdminConfig),
    ],
    ids=["producer", "consumer", "admin"],
)
def test_every_setting_of_kafka_python_is_known_with_its_default(theirs: Any, ours: Any) -> None:
    config = ours(None, {})
    assert set(theirs.DEFAULT_CONFIG) - set(config) == set()
    differ = {
        # linger_ms=5 is Kafka's since 4.0, and retries is a number there. Batches are larger here,
        # and a broker that is back is found within a second.
        "batch_size", "linger_ms", "retries", "client_id", "partitioner", "socket_options",
        "kafka_client", "bootstrap_servers", "default_offset_commit_callback",
        "metric_group_prefix",
        "partition_assignment_strategy", "selector", "receive_message_max_bytes",
        "reconnect_backoff_max_ms",
    }  # fmt: skip
    for name in theirs.DEFAULT_CONFIG.keys() - differ:
        assert config[name] == theirs.DEFAULT_CONFIG[name], name


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    assert problem(producer, linger=3) == (
        "linger=3: there is no such setting; did you mean linger_ms?"
    )
    assert "did you mean max_poll_records?" in problem(consumer, max_poll_record=3)
    assert "did you mean sasl_plain_username?" in problem(producer, sasl_username="u")
    assert problem(producer, zzz=1).endswith("there is no such setting")
    assert "no such setting" in problem(producer, group_id="g")


def test_dotted_names_are_kafkas() -> None:
    config = ConsumerConfig({"group.id": "g", "enable.auto.commit": "false"}, {"client_id": "c"})
    assert (config["group_id"], config["enable_auto_commit"], config["client_id"]) == (
        "g", False, "c",
    )  # fmt: skip
    assert "given twice" in problem(ConsumerConfig, {"group.id": "g"}, {"group_id": "h"})
    assert "did you mean linger_ms?" in problem(ProducerConfig, {"linger.msec": 3}, {})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("localhost", [("localhost", 9092)]),
        ("a:1,b:2, c", [("a", 1), ("b", 2), ("c", 9092)]),
        (["a:1", "[::1]:2"], [("a", 1), ("::1", 2)]),
        ("[fe80::1%eth0]", [("fe80::1%eth0", 9092)]),
        ("::1", [("::1", 9092)]),
        ("SASL_SSL://broker:9093", [("broker", 9093)]),
        ([("h", 1)], [("h", 1)]),
    ],
)
def test_addresses(given: Any, expected: Any) -> None:
    assert consumer(bootstrap_servers=given)["bootstrap_servers"] == expected


@pytest.mark.parametrize(
    "given", ["", [], "a:0", "a:70000", "a:b", "a b", "http//x", 3, [3], "a:1:2"]
)
def test_what_is_no_address(given: Any) -> None:
    assert problem(consumer, bootstrap_servers=given).startswith("bootstrap_servers=")


@pytest.mark.parametrize(
    ("given", "end"),
    [
        ({"acks": 2}, 'acks=2: must be 0, 1 or "all"'),
        ({"acks": True}, 'acks=True: must be 0, 1 or "all"'),
        ({"batch_size": -1}, "must be a whole number from 0 to 2147483647"),
        ({"batch_size": 1.5}, "must be a whole number from 0 to 2147483647"),
        ({"linger_ms": "soon"}, "must be milliseconds from 0 to 2147483647"),
        ({"linger_ms": float("nan")}, "must be milliseconds from 0 to 2147483647"),
        ({"compression_type": "brotli"}, "must be one of none, gzip, snappy, lz4, zstd"),
        ({"compression_level": 3}, "needs compression_type=gzip, lz4 or zstd"),
        ({"enable_idempotence": "maybe"}, "must be True or False"),
        ({"value_serializer": 3}, "must be callable or have a method serialize"),
        ({"transactional_id": "t"}, "transactions are not offered by this client"),
        ({"security_protocol": "TLS"}, "must be one of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"),
        ({"sasl_mechanism": "GSSAPI"}, "must be one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512"),
        ({"socks5_proxy": "socks5://x"}, "is not offered: connections go straight to the brokers"),
        ({"ssl_cafile": "/nowhere.pem"}, "cannot be read: no such file or directory"),
        ({"acks": 1, "enable_idempotence": True}, 'enable_idempotence=True needs acks="all"'),
        ({"retries": 0, "enable_idempotence": True}, "needs at least 1"),
        (
            {"max_in_flight_requests_per_connection": 6, "enable_idempotence": True},
            "needs at most 5",
        ),
        ({"delivery_timeout_ms": 1000}, "must be at least linger_ms + request_timeout_ms = 30005"),
    ],
    ids=str,
)  # fmt: skip
def test_what_a_producer_may_not_be_told(given: dict[str, Any], end: str) -> None:
    assert problem(producer, **given).endswith(end)


@pytest.mark.parametrize(
    ("given", "end"),
    [
        ({"auto_offset_reset": "by_duration:1h"}, "is no ISO 8601 duration such as P3D or PT1H30M"),
        ({"auto_offset_reset": "first"}, '"by_duration:PT1H"'),
        ({"isolation_level": "serial"}, "must be read_uncommitted or read_committed"),
        ({"group_instance_id": "a"}, "needs group_id"),
        ({"group_id": "g", "group_instance_id": "ä"}, "ASCII letters, digits, '.', '_' and '-'"),
        ({"group_id": ""}, "must be text that is not empty, or None for no group"),
        ({"group_protocol": "consumer"}, "only classic groups are offered"),
        (
            {"group_id": "g", "session_timeout_ms": 5000, "heartbeat_interval_ms": 5000},
            "heartbeat_interval_ms=5000: must be less than session_timeout_ms=5000",
        ),
        (
            {"request_timeout_ms": 400},
            "request_timeout_ms=400: must be more than fetch_max_wait_ms=500",
        ),
        ({"consumer_timeout_ms": "soon"}, "must be milliseconds, or below 0 for ever"),
        ({"fetch_max_wait_ms": 30000}, "must be less than request_timeout_ms=30000"),
    ],
    ids=str,
)
def test_what_a_consumer_may_not_be_told(given: dict[str, Any], end: str) -> None:
    assert problem(consumer, **given).endswith(end)


def test_a_default_gives_way_to_what_was_written(caplog: pytest.LogCaptureFixture) -> None:
    assert not producer(acks=1)["enable_idempotence"]
    assert "acks=1 turns idempotence off" in caplog.text
    assert producer(acks="all", retries=float("inf")).native()["idempotent"]
    assert producer(request_timeout_ms=200_000)["delivery_timeout_ms"] == 200_005
    assert consumer(group_id="g", session_timeout_ms=3000)["heartbeat_interval_ms"] == 1000
    assert consumer(retry_backoff_ms=5000)["retry_backoff_max_ms"] == 5000
    big = consumer(fetch_max_bytes=1 << 30)
    assert big.net()["receive_max_bytes"] == (1 << 30) + (1 << 20)


def test_security_is_checked_as_a_whole(tmp_path: Path) -> None:
    plain = {"sasl_mechanism": "PLAIN", "sasl_plain_username": "u", "sasl_plain_password": "p"}
    net = producer(security_protocol="SASL_PLAINTEXT", **plain).net()
    assert net["sasl"] == {"mechanism": "PLAIN", "username": "u", "password": "p"}
    assert net["tls"] is None
    assert "needs one of PLAIN" in problem(producer, security_protocol="SASL_SSL")
    assert "needs it" in problem(
        producer, security_protocol="SASL_SSL", sasl_mechanism="SCRAM-SHA-256"
    )
    assert "SASL_SSL and SASL_PLAINTEXT use it" in problem(producer, **plain)
    secret = problem(producer, sasl_plain_password=b"hunter2")
    assert "hunter2" not in secret

    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    certificate.write_text("-----BEGIN CERTIFICATE-----\n")
    key.write_text("-----BEGIN PRIVATE KEY-----\n")
    tls = producer(
        security_protocol="SSL", ssl_cafile=str(certificate), ssl_certfile=certificate,
        ssl_keyfile=key, ssl_check_hostname=False,
    ).net()["tls"]  # fmt: skip
    assert tls["key_pem"] == key.read_bytes()
    assert tls["ca_pem"] == tls["cert_pem"] == certificate.read_bytes()
    assert tls["check_hostname"] is False
    assert "holds no private key" in problem(
        producer, security_protocol="SSL", ssl_certfile=certificate
    )
    assert "SSL uses it" in problem(producer, ssl_cafile=certificate)
    certificate.write_text("nothing")
    assert "is no PEM file" in problem(producer, security_protocol="SSL", ssl_cafile=certificate)


def test_settings_that_change_nothing_are_taken_silently() -> None:
    import selectors
    import socket

    config = consumer(
        api_version=(2, 6), selector=selectors.DefaultSelector, metric_reporters=[object],
        socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)], metrics_enabled=False,
    )  # fmt: skip
    assert config.net()["bootstrap"] == [("localhost", 9092)]
