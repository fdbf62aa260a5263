"""Every call that waits honours the time it was given, whatever the broker does.

The assertions leave a second for a busy machine; `tools/client_limits.py` prints what it takes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from mqlog import KafkaAdminClient, TopicPartition
from mqlog.errors import KafkaError

from . import scripted_faults as faults
from .clients import consumer, producer, reader
from .scripted import Action, Api, Cluster

LIMIT_MS = 500
SLACK_S = 1.0

#: What a broker may do to the request that is waited for.
SILENT: dict[str, Action] = {
    "never answers": faults.silent(),
    "hangs up": faults.close(),
    "says it will pass": faults.error(5),
    "drips": faults.drip(0.3),
}


def timed(call: Callable[[], Any], limit_s: float = LIMIT_MS / 1000) -> Any:
    """Make a call that must not take longer; what it gave or raised."""
    started = time.monotonic()
    try:
        result = call()
    except KafkaError as error:
        result = error
    took = time.monotonic() - started
    assert took < limit_s + SLACK_S, f"{took:.2f} s instead of {limit_s} s: {result!r}"
    return result


silence = pytest.mark.parametrize("how", SILENT)


@silence
def test_send_with_a_full_buffer(how: str) -> None:
    with Cluster() as cluster:
        cluster.create("t")
        client = producer(
            cluster.bootstrap_servers,
            buffer_memory=65_536,
            max_block_ms=LIMIT_MS,
            max_in_flight_requests_per_connection=1,
        )
        client.send("t", b"first").get(10)
        cluster.always(Api.PRODUCE, SILENT[how])
        for _ in range(20):
            result = timed(lambda: client.send("t", b"x" * 10_000))
            if isinstance(result, KafkaError):
                break
        assert isinstance(result, KafkaError), "a full buffer takes nothing more"
        for word in ("buffer_memory", "65536", "max_block_ms"):
            assert word in str(result).replace(",", "").replace("_536", "536"), str(result)
        timed(lambda: client.close(timeout=LIMIT_MS / 1000))


@silence
@pytest.mark.parametrize("call", ["get", "flush", "close"])
def test_waiting_for_a_record(how: str, call: str) -> None:
    with Cluster() as cluster:
        cluster.create("t")
        cluster.always(Api.PRODUCE, SILENT[how])
        client = producer(cluster.bootstrap_servers)
        future = client.send("t", b"v")
        calls: dict[str, Callable[[], Any]] = {
            "get": lambda: future.get(timeout=LIMIT_MS / 1000),
            "flush": lambda: client.flush(timeout=LIMIT_MS / 1000),
            "close": lambda: client.close(timeout=LIMIT_MS / 1000),
        }
        result = timed(calls[call])
        if call != "close":
            assert isinstance(result, KafkaError), result
        timed(lambda: client.close(timeout=0), 0)


@silence
def test_delivery_time_out(how: str) -> None:
    with Cluster() as cluster:
        cluster.create("t")
        cluster.always(Api.PRODUCE, SILENT[how])
        with producer(
            cluster.bootstrap_servers, request_timeout_ms=300, delivery_timeout_ms=LIMIT_MS
        ) as client:
            future = client.send("t", b"v")
            assert isinstance(timed(lambda: future.get()), KafkaError)


@silence
@pytest.mark.parametrize("api", [Api.API_VERSIONS, Api.METADATA])
def test_send_without_metadata(how: str, api: int) -> None:
    with Cluster() as cluster:
        cluster.create("t")
        cluster.always(api, SILENT[how])
        settings = {"max_block_ms": LIMIT_MS, "bootstrap_timeout_ms": LIMIT_MS}

        def use() -> None:
            client = producer(cluster.bootstrap_servers, **settings)
            try:
                client.send("t", b"v").get(timeout=LIMIT_MS / 1000)
            finally:
                client.close(timeout=0)

        assert isinstance(timed(use, 3 * LIMIT_MS / 1000), KafkaError)


def test_partitions_for_a_topic_that_is_not_there() -> None:
    with Cluster() as cluster:
        client = producer(cluster.bootstrap_servers, max_block_ms=LIMIT_MS)
        timed(lambda: client.partitions_for("missing"))
        client.close(timeout=0)


STEPS = [Api.API_VERSIONS, Api.METADATA, Api.FIND_COORDINATOR, Api.JOIN_GROUP, Api.SYNC_GROUP,
         Api.OFFSET_FETCH, Api.LIST_OFFSETS, Api.FETCH]  # fmt: skip


@silence
@pytest.mark.parametrize("api", STEPS)
def test_poll(how: str, api: int) -> None:
    with Cluster() as cluster:
        cluster.create("t")
        cluster.always(api, SILENT[how])

        def use() -> Any:
            client = consumer(
                cluster.bootstrap_servers, "t", group_id="g", bootstrap_timeout_ms=LIMIT_MS
            )
            try:
                return client.poll(timeout_ms=LIMIT_MS)
            finally:
                client.close(timeout_ms=0)

        timed(use, 2 * LIMIT_MS / 1000)


@silence
@pytest.mark.parametrize("call", ["commit", "committed", "position", "end_offsets", "close"])
def test_calls_of_a_member(how: str, call: str) -> None:
    with Cluster() as cluster:
        cluster.create("t")
        cluster.fill("t", [b"v"])
        limits = {"default_api_timeout_ms": LIMIT_MS, "request_timeout_ms": 20_000}
        client = consumer(cluster.bootstrap_servers, "t", group_id="g", **limits)
        place = TopicPartition("t", 0)
        deadline = time.monotonic() + 20
        while not client.poll(timeout_ms=100):
            assert time.monotonic() < deadline
        for api in (Api.OFFSET_COMMIT, Api.OFFSET_FETCH, Api.LIST_OFFSETS, Api.LEAVE_GROUP):
            cluster.always(api, SILENT[how])
        calls: dict[str, Callable[[], Any]] = {
            "commit": client.commit,
            "committed": lambda: client.committed(place),
            "position": lambda: (client.seek_to_end(place), client.position(place)),
            "end_offsets": lambda: client.end_offsets([place]),
            "close": lambda: client.close(timeout_ms=LIMIT_MS),
        }
        result = timed(calls[call])
        if call in ("commit", "committed", "end_offsets"):
            assert isinstance(result, KafkaError), result
        timed(lambda: client.close(timeout_ms=0), 0)


@silence
@pytest.mark.parametrize("call", ["list_topics", "describe_cluster", "create", "groups"])
def test_administration(how: str, call: str) -> None:
    with Cluster() as cluster:
        cluster.create("t")
        client = KafkaAdminClient(
            bootstrap_servers=cluster.bootstrap_servers,
            default_api_timeout_ms=LIMIT_MS,
            retry_backoff_ms=10,
        )
        client.list_topics()
        cluster.always(None, SILENT[how])
        calls: dict[str, Callable[[], Any]] = {
            "list_topics": client.list_topics,
            "describe_cluster": client.describe_cluster,
            "create": lambda: client.create_topics(["u"]),
            "groups": lambda: client.list_groups(),
        }
        assert isinstance(timed(calls[call]), KafkaError)
        timed(client.close)


def test_an_address_that_swallows_everything() -> None:
    """Not even a connection: the time limit of the call, not of the socket."""
    import socket

    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        filler = [socket.socket() for _ in range(4)]
        for one in filler:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        servers = f"127.0.0.1:{full.getsockname()[1]}"

        def use() -> None:
            client = producer(servers, max_block_ms=LIMIT_MS, bootstrap_timeout_ms=LIMIT_MS)
            try:
                client.send("t", b"v").get(timeout=LIMIT_MS / 1000)
            finally:
                client.close(timeout=0)

        assert isinstance(timed(use, 3 * LIMIT_MS / 1000), KafkaError)
        for one in filler:
            one.close()


def test_the_iterator_ends_after_consumer_timeout_ms() -> None:
    with Cluster() as cluster:
        cluster.create("t")
        cluster.fill("t", [b"a", b"b"])
        with reader(cluster.bootstrap_servers, "t", consumer_timeout_ms=LIMIT_MS) as client:
            assert [record.value for record in client] == [b"a", b"b"]
            timed(lambda: list(client))
