"""What the client's tests run against.

Most need a real broker: ours, or the one that MQLOG_TEST_BOOTSTRAP names. MQLOG_TEST_SECURITY says
how to talk to that one: `plaintext`, `ssl`, `sasl_plaintext` or `sasl_ssl`, with

    MQLOG_TEST_CAFILE, MQLOG_TEST_CERTFILE, MQLOG_TEST_KEYFILE      PEM files
    MQLOG_TEST_MECHANISM, MQLOG_TEST_USER, MQLOG_TEST_PASSWORD      SCRAM-SHA-256 unless said

`tools/client_matrix.py` runs all of it. Tests of the scripted broker need none of this.
"""

from __future__ import annotations

import itertools
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

with warnings.catch_warnings():
    # kafka-python uses a deprecated function when it is imported; warnings are errors here.
    warnings.simplefilter("ignore")
    import kafka  # noqa: F401

from . import certificates as making
from .certificates import Certificates

ORACLE = os.environ.get("MQLOG_TEST_BOOTSTRAP", "")
SECURITY = os.environ.get("MQLOG_TEST_SECURITY", "plaintext").upper()

_names = itertools.count()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of our own limits and hooks have nothing to say about another broker."""
    here = Path(__file__).parent
    for item in items:
        if ORACLE and here in item.path.parents and item.get_closest_marker("ours"):
            item.add_marker(pytest.mark.skip(reason="about mqlog alone"))


@pytest.fixture(scope="session")
def oracle() -> bool:
    """Whether the tests run against a real Kafka."""
    return bool(ORACLE)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority, servers and a client, made once."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    return making.make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def broker() -> Iterator[Any]:
    """A broker in a process of its own; `None` when the oracle is asked instead."""
    if ORACLE:
        yield None
        return
    from mqlog.testing import Broker

    with Broker(durability="os", config={"group.initial.rebalance.delay.ms": 0}) as running:
        yield running


@pytest.fixture(scope="session")
def servers(broker: Any) -> str:
    """What `bootstrap_servers` is set to."""
    return ORACLE or str(broker.bootstrap_servers)


@pytest.fixture(scope="session")
def security() -> dict[str, Any]:
    """The settings that get a client of ours in."""
    settings: dict[str, Any] = {"security_protocol": SECURITY}
    if "SSL" in SECURITY.split("_"):
        settings["ssl_cafile"] = os.environ["MQLOG_TEST_CAFILE"]
        if "MQLOG_TEST_CERTFILE" in os.environ:
            settings["ssl_certfile"] = os.environ["MQLOG_TEST_CERTFILE"]
            settings["ssl_keyfile"] = os.environ["MQLOG_TEST_KEYFILE"]
    if SECURITY.startswith("SASL"):
        settings["sasl_mechanism"] = os.environ.get("MQLOG_TEST_MECHANISM", "SCRAM-SHA-256")
        settings["sasl_plain_username"] = os.environ["MQLOG_TEST_USER"]
        settings["sasl_plain_password"] = os.environ["MQLOG_TEST_PASSWORD"]
    return settings


@pytest.fixture(scope="session")
def confluent_security(security: dict[str, Any]) -> dict[str, Any]:
    """The same for confluent-kafka."""
    names = {
        "security_protocol": "security.protocol",
        "ssl_cafile": "ssl.ca.location",
        "ssl_certfile": "ssl.certificate.location",
        "ssl_keyfile": "ssl.key.location",
        "sasl_mechanism": "sasl.mechanism",
        "sasl_plain_username": "sasl.username",
        "sasl_plain_password": "sasl.password",
    }
    return {names[name]: value for name, value in security.items()}


@pytest.fixture(scope="session")
def access(servers: str, security: dict[str, Any]) -> dict[str, Any]:
    """All that a client of ours needs to get in: `KafkaProducer(**access, ...)`."""
    return {"bootstrap_servers": servers, **security}


@pytest.fixture
def make_topic(servers: str, confluent_security: dict[str, Any]) -> Callable[..., str]:
    """`make_topic(partitions=1, **configs)`: a new topic's name; made by another client."""
    from confluent_kafka.admin import AdminClient, NewTopic

    def make(partitions: int = 1, **configs: str) -> str:
        admin = AdminClient({"bootstrap.servers": servers, **confluent_security})
        name = f"client-{os.getpid()}-{next(_names)}"
        settings = {key.replace("_", "."): value for key, value in configs.items()}
        new = NewTopic(name, num_partitions=partitions, replication_factor=1, config=settings)
        admin.create_topics([new])[name].result(30)

        def led() -> bool:
            topics = admin.list_topics(name, timeout=10).topics
            parts = topics[name].partitions if name in topics else {}
            return len(parts) == partitions and all(one.leader >= 0 for one in parts.values())

        eventually(led)
        return name

    return make


@pytest.fixture
def topic(make_topic: Callable[..., str]) -> str:
    """A topic of one partition."""
    return make_topic()


def eventually(condition: Callable[[], Any], timeout_s: float = 30.0) -> Any:
    """Wait until something holds and return it."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return found
