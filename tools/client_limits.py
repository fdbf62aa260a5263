"""How exactly the client keeps the time it is given, and how soon Ctrl-C ends a call.

    python tools/client_limits.py [--reps 5]

Prints tables: the milliseconds that each call took beyond its limit of 500 ms while the broker was
silent, and the milliseconds from SIGINT until the call had ended. The broker is the scripted one of
the tests; the tests assert generously, this shows the figures.
"""

from __future__ import annotations

import argparse
import logging
import signal
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mqlog import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from mqlog.errors import MqlogError
from tests.client import scripted_faults as faults
from tests.client.clients import consumer, producer
from tests.client.programs import HEAD, start
from tests.client.scripted import Api, Cluster
from tests.client.test_interrupt import CALLS, begin_silence

LIMIT_MS = 500
PLACE = TopicPartition("t", 0)


def sending(cluster: Cluster) -> tuple[Callable[[], Any], Any]:
    """A full buffer."""
    client = producer(cluster.bootstrap_servers, buffer_memory=65_536, max_block_ms=LIMIT_MS)
    client.send("t", b"first").get(10)
    cluster.always(Api.PRODUCE, faults.silent())
    for _ in range(10):
        try:
            client.send("t", b"x" * 10_000)
        except MqlogError:
            break
    return lambda: client.send("t", b"x" * 10_000), client


def waiting(call: str) -> Callable[[Cluster], tuple[Callable[[], Any], Any]]:
    """A record that is never acknowledged."""

    def prepare(cluster: Cluster) -> tuple[Callable[[], Any], Any]:
        cluster.always(Api.PRODUCE, faults.silent())
        client = producer(cluster.bootstrap_servers)
        future = client.send("t", b"v")
        seconds = LIMIT_MS / 1000
        calls: dict[str, Callable[[], Any]] = {
            "get": lambda: future.get(timeout=seconds),
            "flush": lambda: client.flush(timeout=seconds),
            "close": lambda: client.close(timeout=seconds),
        }
        return calls[call], client

    return prepare


def partitions(cluster: Cluster) -> tuple[Callable[[], Any], Any]:
    """Metadata that never comes."""
    client = producer(cluster.bootstrap_servers, max_block_ms=LIMIT_MS)
    cluster.always(Api.METADATA, faults.silent())
    return lambda: client.partitions_for("t"), client


def polling(api: int) -> Callable[[Cluster], tuple[Callable[[], Any], Any]]:
    """A poll that gets no further than this API."""

    def prepare(cluster: Cluster) -> tuple[Callable[[], Any], Any]:
        client = consumer(cluster.bootstrap_servers, "t", group_id="g")
        cluster.always(api, faults.silent())  # making one has connected once
        return lambda: client.poll(timeout_ms=LIMIT_MS), client

    return prepare


def member(call: str) -> Callable[[Cluster], tuple[Callable[[], Any], Any]]:
    """Calls of a consumer that has joined."""

    def prepare(cluster: Cluster) -> tuple[Callable[[], Any], Any]:
        cluster.fill("t", [b"v"])
        client = consumer(
            cluster.bootstrap_servers,
            "t",
            group_id="g",
            default_api_timeout_ms=LIMIT_MS,
            request_timeout_ms=20_000,
        )
        while not client.poll(timeout_ms=100):
            pass
        for api in (Api.OFFSET_COMMIT, Api.OFFSET_FETCH, Api.LIST_OFFSETS, Api.LEAVE_GROUP):
            cluster.always(api, faults.silent())
        calls: dict[str, Callable[[], Any]] = {
            "commit": client.commit,
            "committed": lambda: client.committed(PLACE),
            "end_offsets": lambda: client.end_offsets([PLACE]),
            "close": lambda: client.close(timeout_ms=LIMIT_MS),
        }
        return calls[call], client

    return prepare


def administration(cluster: Cluster) -> tuple[Callable[[], Any], Any]:
    """A call of the admin client."""
    client = KafkaAdminClient(
        bootstrap_servers=cluster.bootstrap_servers, default_api_timeout_ms=LIMIT_MS
    )
    client.list_topics()
    cluster.always(None, faults.silent())
    return client.list_topics, client


def bootstrap(cluster: Cluster) -> tuple[Callable[[], Any], Any]:
    """The first connection."""
    cluster.always(Api.API_VERSIONS, faults.silent())

    def call() -> None:
        client = producer(
            cluster.bootstrap_servers, bootstrap_timeout_ms=LIMIT_MS, max_block_ms=LIMIT_MS
        )
        try:
            client.send("t", b"v").get(timeout=LIMIT_MS / 1000)
        finally:
            client.close(timeout=0)

    return call, None


WAITS: dict[str, Callable[[Cluster], tuple[Callable[[], Any], Any]]] = {
    "bootstrap": bootstrap,
    "send, full buffer": sending,
    "future.get": waiting("get"),
    "flush": waiting("flush"),
    "producer.close": waiting("close"),
    "partitions_for": partitions,
    "poll, connecting to the coordinator": polling(Api.API_VERSIONS),
    "poll, joining": polling(Api.JOIN_GROUP),
    "poll, fetching": polling(Api.FETCH),
    "commit": member("commit"),
    "committed": member("committed"),
    "end_offsets": member("end_offsets"),
    "consumer.close": member("close"),
    "admin.list_topics": administration,
}


def close(client: Any) -> None:
    """Close without waiting for the broker, which says nothing any more."""
    if isinstance(client, KafkaProducer):
        client.close(timeout=0)
    elif isinstance(client, KafkaConsumer):
        client.close(timeout_ms=0)
    elif client is not None:
        client.close()


def beyond(prepare: Callable[[Cluster], tuple[Callable[[], Any], Any]]) -> float:
    """Milliseconds that the call took beyond its limit."""
    with Cluster() as cluster:
        cluster.create("t")
        call, client = prepare(cluster)
        began = time.perf_counter()
        with suppress(MqlogError):
            call()
        took = (time.perf_counter() - began) * 1000
        close(client)
    return took - LIMIT_MS


#: Says when the handler has run and the call has ended, by the clock that this process reads too.
INTERRUPTED = """
{before}
say("begins")
try:
    {call}
except KeyboardInterrupt:
    pass
say(time.clock_gettime(time.CLOCK_MONOTONIC))
os._exit(0)
"""


def interrupted(name: str) -> float:
    """Milliseconds from SIGINT until the call had ended."""
    silent, before, call = CALLS[name]
    with Cluster() as cluster:
        cluster.create("t")
        if silent is not None:
            begin_silence(cluster, silent, call)
        program = INTERRUPTED.format(before=before, call=call)
        with start(program, cluster.bootstrap_servers, head=HEAD) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.5)
            sent = time.clock_gettime(time.CLOCK_MONOTONIC)
            process.send_signal(signal.SIGINT)
            ended = float(process.stdout.readline())
            process.communicate(timeout=20)
    return (ended - sent) * 1000


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--reps", type=int, default=5)
    reps = range(parser.parse_args().reps)
    logging.disable(logging.CRITICAL)
    print("| call, limit 500 ms, silent broker | beyond, median ms | worst ms |\n|---|---|---|")
    for name, prepare in WAITS.items():
        took = [beyond(prepare) for _ in reps]
        print(f"| {name} | {statistics.median(took):.1f} | {max(took):.1f} |", flush=True)
    print("\n| call | Ctrl-C ends it, median ms | worst ms |\n|---|---|---|")
    for name in CALLS:
        took = [interrupted(name) for _ in reps]
        print(f"| {name} | {statistics.median(took):.1f} | {max(took):.1f} |", flush=True)


if __name__ == "__main__":
    main()
