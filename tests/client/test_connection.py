"""Connections: who is reached, what an error says, waiting, sharing, forks."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from mqlog import _native
from mqlog.errors import (
    ClosedError,
    KafkaConnectionError,
    KafkaProtocolError,
    UnsupportedVersionError,
)

from . import scripted_faults as faults
from .native import ask, client, failure, find_coordinator, known
from .scripted import Api, Cluster


def test_a_real_broker_is_reached(access: dict[str, Any], make_topic: Callable[..., str]) -> None:
    name = make_topic(3)
    native = client(**access)
    snapshot = known(native)
    assert name in snapshot.topics()
    partitions = snapshot.partitions(name)
    assert partitions is not None
    assert [one[0] for one in partitions] == [0, 1, 2]
    nodes = [broker[0] for broker in snapshot.brokers()]
    assert all(one[1] in nodes and one[3] == 0 for one in partitions)
    assert snapshot.leader(name, 0) == partitions[0][1:3]
    topic = snapshot.topic(name)
    assert topic is not None
    assert snapshot.topic_name(topic[1]) == name
    coordinator = ask(native, Api.FIND_COORDINATOR, find_coordinator("g"), nodes[0])
    assert len(coordinator.coordinators) == 1
    assert native.bootstrap_connected()
    metrics = native.metrics()
    assert metrics["requests"] == metrics["answers"] >= 3
    assert metrics["bytes_in"] > metrics["bytes_out"] > 0
    native.close()
    assert not native.bootstrap_connected()


def test_many_calls_at_once_are_answered_each_with_its_own(access: dict[str, Any]) -> None:
    native = client(**access)
    api, version = Api.FIND_COORDINATOR, 4
    assert native.version("any", "general", api, version).result() == version
    groups = [f"group-{number}" for number in range(200)]
    calls = [
        native.call(
            "any",
            "general" if number % 2 else "admin",
            api,
            version,
            _native.encode("request", api, version, find_coordinator(group)),
        )
        for number, group in enumerate(groups)
    ]
    answers = [_native.decode("response", api, version, call.result()) for call in calls]
    assert [answer.coordinators[0].key for answer in answers] == groups
    assert all(call.answered_by() is not None for call in calls)
    native.close()


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    error = failure(bootstrap_servers=f"127.0.0.1:{port}")
    assert isinstance(error, KafkaConnectionError)
    assert error.retriable
    assert str(error) == f"cannot connect to 127.0.0.1:{port}: connection refused"


def test_every_address_is_named_with_its_reason() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    error = failure(bootstrap_servers=[f"127.0.0.1:{port}", "nowhere.invalid:9092"])
    assert f"127.0.0.1:{port}: connection refused" in str(error)
    assert "nowhere.invalid:9092: the name cannot be resolved" in str(error)


def test_a_name_with_several_addresses_is_reached_at_any_of_them() -> None:
    # localhost may be ::1 first; the node listens on 127.0.0.1 only.
    with Cluster() as cluster:
        native = client(bootstrap_servers=f"localhost:{cluster.nodes[0].port}")
        assert known(native).brokers()
        native.close()


def test_a_web_server_is_recognised() -> None:
    with Cluster() as cluster:
        cluster.always(Api.API_VERSIONS, faults.raw(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
        error = failure(bootstrap_servers=cluster.bootstrap_servers)
    assert isinstance(error, KafkaProtocolError)
    assert "web server" in str(error)


def test_an_advertised_address_that_nobody_reaches_is_named() -> None:
    with Cluster() as cluster:
        node = cluster.nodes[0]
        node.advertised = ("127.0.0.1", 1)
        native = client(bootstrap_servers=cluster.bootstrap_servers)
        known(native)
        with pytest.raises(KafkaConnectionError) as raised:
            native.version(node.id, "general", Api.METADATA, 1).result()
        native.close()
    assert "127.0.0.1:1: connection refused" in str(raised.value)
    assert f"127.0.0.1:{node.port} says that node {node.id}" in str(raised.value)
    assert "advertised.listeners" in str(raised.value)
    assert raised.value.hint is not None


def test_an_api_that_a_broker_does_not_have() -> None:
    versions = {key: _native.versions(key) for key in Api.ALL if key != Api.FIND_COORDINATOR}
    with Cluster(versions=versions) as cluster:
        native = client(bootstrap_servers=cluster.bootstrap_servers)
        with pytest.raises(UnsupportedVersionError, match="serves no version of FindCoordinator"):
            ask(native, Api.FIND_COORDINATOR, find_coordinator("g"))
        native.close()


def test_a_half_open_connection_is_given_up() -> None:
    with Cluster() as cluster:
        cluster.on(Api.METADATA, faults.silent())
        native = client(bootstrap_servers=cluster.bootstrap_servers, request_timeout_ms=200)
        with pytest.raises(KafkaConnectionError, match="request_timeout_ms"):
            known(native)
        assert known(native).brokers(), "the next connection is a new one"
        native.close()


def test_a_signal_ends_the_wait() -> None:
    class Alarm(Exception):
        pass

    def ring(*_: object) -> None:
        raise Alarm

    with Cluster() as cluster:
        cluster.on(Api.METADATA, faults.silent())
        native = client(bootstrap_servers=cluster.bootstrap_servers)
        before = signal.signal(signal.SIGALRM, ring)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(Alarm):
                native.refresh(None).result()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        native.close()


def test_another_thread_may_close_while_one_waits() -> None:
    with Cluster() as cluster:
        cluster.on(Api.METADATA, faults.silent())
        native = client(bootstrap_servers=cluster.bootstrap_servers)
        pending = native.refresh(None)
        threading.Timer(0.05, native.close).start()
        with pytest.raises(ClosedError):
            pending.result()
        with pytest.raises(ClosedError):
            native.refresh(None)
        native.close()


def test_clients_may_share_a_thread() -> None:
    with Cluster() as cluster:
        io = _native.IoThread()
        first, second = (client(io, bootstrap_servers=cluster.bootstrap_servers) for _ in range(2))
        del io
        assert known(first).brokers() == known(second).brokers()
        del first
        assert known(second).brokers()


def test_what_is_wanted_is_kept_fresh() -> None:
    with Cluster() as cluster:
        cluster.create("here")
        native = client(bootstrap_servers=cluster.bootstrap_servers, retry_backoff_ms=10)
        native.want(["here", "later"])
        cluster.wait(lambda: native.snapshot().topics() == ["here"])
        cluster.create("later")
        cluster.wait(lambda: native.snapshot().topics() == ["here", "later"])
        cluster.move("here", to=0)
        native.request_update()
        cluster.wait(lambda: native.snapshot().leader("here", 0) == (0, 1))
        native.close()


FORKED = """
import os, sys
from tests.client.native import ask, client, known
from mqlog.errors import UsedAfterForkError

native = client(bootstrap_servers=sys.argv[1])
snapshot = known(native)
pending = native.refresh(None)
before = os.listdir("/proc/self/fd")
child = os.fork()
if child == 0:
    caught = 0
    for use in (native.snapshot, lambda: snapshot.revision, pending.done, native.close):
        try:
            use()
        except UsedAfterForkError:
            caught += 1
    del native, snapshot, pending
    ours = client(bootstrap_servers=sys.argv[1])
    works = bool(known(ours).brokers())
    os._exit(0 if caught == 4 and works else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
pending.result()
assert known(native).brokers()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_of_a_fork_makes_its_own() -> None:
    with Cluster() as cluster:
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", FORKED, cluster.bootstrap_servers],
            check=True,
            timeout=60,
        )
        assert cluster.nodes[0].accepted == 2
