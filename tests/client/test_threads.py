"""Several threads at one client."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest

from mqlog.errors import IllegalStateError

from . import scripted_faults as faults
from .clients import consumer, producer, reader
from .scripted import Api, Cluster

THREADS = 8
EACH = 500


def in_threads(work: Any) -> None:
    """Run `work(number)` in THREADS threads; the first error is raised."""
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_many_send() -> None:
    with Cluster() as cluster:
        cluster.create("t", partitions=3)
        with producer(cluster.bootstrap_servers, linger_ms=1) as client:

            def work(number: int) -> None:
                futures = [
                    client.send("t", b"%d" % index, key=b"%d" % number) for index in range(EACH)
                ]
                for index, future in enumerate(futures):
                    if index % 100 == 0:
                        future.get(20)
                client.flush(20)
                offsets = [future.get(0).offset for future in futures]
                assert offsets == sorted(offsets), "one key, one order"

            in_threads(work)
        records = [
            (key, value)
            for part in cluster.topics["t"].partitions
            for _, key, value in part.log.records()
        ]
        assert len(records) == THREADS * EACH
        assert set(Counter(records).values()) == {1}
        for number in range(THREADS):
            mine = [int(value or 0) for key, value in records if key == b"%d" % number]
            assert mine == list(range(EACH)), "in the order each thread sent them"


def test_callbacks_from_many_threads() -> None:
    seen: list[int] = []
    with Cluster() as cluster:
        cluster.create("t")
        with producer(cluster.bootstrap_servers) as client:

            def work(number: int) -> None:
                for _ in range(200):
                    client.send("t", b"v").add_callback(lambda found: seen.append(found.offset))

            in_threads(work)
            client.flush(20)
        assert sorted(seen) == list(range(THREADS * 200))


def test_one_thread_closes_what_others_use() -> None:
    from mqlog.errors import KafkaError

    with Cluster() as cluster:
        cluster.create("t")
        client = producer(cluster.bootstrap_servers, linger_ms=1)
        ended = []

        def work(number: int) -> None:
            if number == 0:
                client.send("t", b"first").get(10)
                client.close(timeout=10)
                return
            try:
                while True:
                    client.send("t", b"v").get(10)
            except KafkaError:
                ended.append(number)

        in_threads(work)
        assert len(ended) == THREADS - 1


def test_a_consumer_belongs_to_one_thread_at_a_time() -> None:
    with Cluster() as cluster:
        cluster.create("t")
        with reader(cluster.bootstrap_servers, "t") as client:
            begun = threading.Event()

            def other() -> None:
                begun.set()
                client.poll(timeout_ms=3_000)

            thread = threading.Thread(target=other)
            thread.start()
            begun.wait()
            cluster.wait(lambda: cluster.requests(Api.FETCH))
            with pytest.raises(IllegalStateError, match="thread"):
                client.poll(timeout_ms=10)
            cluster.fill("t", [b"wakes it"])
            thread.join()
            client.seek_to_beginning()
            assert client.poll(timeout_ms=5_000), "and afterwards it is free again"


def test_a_consumer_closed_by_another_thread() -> None:
    from mqlog.errors import MqlogError

    with Cluster() as cluster:
        cluster.create("t")
        cluster.always(Api.FETCH, faults.silent())
        client = consumer(cluster.bootstrap_servers, "t", request_timeout_ms=5_000)
        timer = threading.Timer(0.3, lambda: client.close())
        timer.start()
        with suppress(MqlogError):
            client.poll(timeout_ms=3_000)
        timer.join()
        with pytest.raises(IllegalStateError):
            client.poll(timeout_ms=10)
