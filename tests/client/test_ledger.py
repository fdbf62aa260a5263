"""Faults of all kinds between a producer, a broker and a consumer: nothing is lost or doubled.

`acks=all`, idempotent, five in flight. The faults and their order come from a seed.
"""

from __future__ import annotations

import random
import re
import time
from typing import Any

import pytest

from mqlog.testing import Broker

from . import scripted_faults as faults
from .clients import consumer, producer, reader, take
from .ledger import PARTITIONS, Ledger
from .proxy import Proxy
from .scripted import Api, Cluster, Exchange
from .scripted_log import HEADER

SETTINGS: dict[str, Any] = {
    "request_timeout_ms": 1_000,
    "delivery_timeout_ms": 60_000,
    "linger_ms": 1,
    "batch_size": 1_000,
}
READER: dict[str, Any] = {"request_timeout_ms": 1_000, "fetch_max_wait_ms": 50}


#: Where a flipped bit is noticed: inside a record, which its batch's CRC covers.
VALUE = re.compile(rb"\d:\d\d+")


class Faults:
    """One fault after the other on a proxy and the broker behind it."""

    def __init__(self, proxy: Proxy, broker: Broker, seed: int) -> None:
        self.proxy, self.broker = proxy, broker
        self.random = random.Random(seed)
        self.counts: dict[str, int] = {}

    def one(self) -> None:
        """Break something for a moment, then mend it."""
        rng = self.random
        kinds = {
            "cut": lambda: self.proxy.cut(),
            "reset": lambda: self.proxy.cut(reset=True),
            "delay": lambda: self.proxy.set(delay_s=rng.random() * 0.1),
            "throttle": lambda: self.proxy.set(bytes_per_s=20_000),
            "lost answers": lambda: self.proxy.set(only="down", swallow=True),
            "lost requests": lambda: self.proxy.set(only="up", swallow=True),
            "half open": lambda: self.proxy.set(freeze=True),
            "corrupt records": lambda: self.proxy.set(spoil=VALUE),
            "corrupt lengths": lambda: self.proxy.set(oversize=0.3),
            "cut in a frame": lambda: self.proxy.set(cut_after=rng.randrange(20_000)),
            "refusal": lambda: (self.proxy.refuse(), self.proxy.cut()),
            "SIGKILL": self.kill,
        }
        name = rng.choice(list(kinds))
        self.counts[name] = self.counts.get(name, 0) + 1
        kinds[name]()
        time.sleep(0.02 + rng.random() * 0.25)
        self.proxy.heal()
        if not name.startswith(("delay", "throttle")):
            self.proxy.cut()
        time.sleep(0.02 + rng.random() * 0.1)

    def kill(self) -> None:
        self.broker.kill()
        self.broker.restart()


def run_over_faults(count: int, seed: int) -> str:
    with Proxy(seed=seed) as proxy:
        advertised = {"advertised.listeners": f"PLAINTEXT://{proxy.address}"}
        with Broker(durability="os", config=advertised) as broker:
            proxy.forward_to(broker.host, broker.port)
            create(broker, "ledger")
            with (
                producer(proxy.address, **SETTINGS) as writer,
                reader(proxy.address, "ledger", *range(PARTITIONS), **READER) as follower,
            ):
                ledger = Ledger(writer, follower, "ledger", seed=seed)
                breaking = Faults(proxy, broker, seed)
                try:
                    for _ in range(count):
                        breaking.one()
                finally:
                    proxy.heal()
                    ledger.settle()
                    log = everything(broker)
                    ledger.finish([len(log[number]) for number in range(PARTITIONS)])
                return f"{ledger.check(log)}; {breaking.counts}"


def create(broker: Broker, topic: str) -> None:
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": f"{broker.host}:{broker.port}"})
    admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(30)


def everything(broker: Broker) -> dict[int, list[tuple[int, bytes]]]:
    """The log, read by somebody else's client straight from the broker's files."""
    from pathlib import Path

    from mqlog import _records

    broker.stop()
    found: dict[int, list[tuple[int, bytes]]] = {}
    for folder in sorted((Path(broker.data_dir) / "topics").glob("*/*")):
        records = found.setdefault(int(folder.name), [])
        for segment in sorted(folder.glob("*.log")):
            for batch in _records.decode_batches(segment.read_bytes()):
                records += [(one.offset, one.value) for one in batch.records() if one.value]
    broker.start()
    return found


def test_twenty_faults() -> None:
    print(run_over_faults(20, seed=1))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [11, 12])
def test_two_hundred_faults(seed: int) -> None:
    print(run_over_faults(200, seed=seed))


# -- leaders that move -----------------------------------------------------------------------------


def run_over_moves(count: int, seed: int, *, hints: bool) -> str:
    """Two scripted nodes: leaders move, answers get lost, codes of all kinds come back."""
    rng = random.Random(seed)
    with Cluster(nodes=2, hints=hints) as cluster:
        cluster.create("t", partitions=PARTITIONS)
        with (
            producer(cluster.bootstrap_servers, **SETTINGS) as writer,
            reader(cluster.bootstrap_servers, "t", *range(PARTITIONS), **READER) as follower,
        ):
            ledger = Ledger(writer, follower, "t", seed=seed)
            try:
                for _ in range(count):
                    one_fault(cluster, rng)
                    time.sleep(0.01 + rng.random() * 0.05)
            finally:
                cluster.forget_rules()
                ledger.settle()
                log = {
                    number: [
                        (offset, value or b"")
                        for offset, _, value in cluster.partition("t", number).log.records()
                    ]
                    for number in range(PARTITIONS)
                }
                ledger.finish([len(log[number]) for number in range(PARTITIONS)])
            return ledger.check(log)


def one_fault(cluster: Cluster, rng: random.Random) -> None:
    produce, fetch = Api.PRODUCE, Api.FETCH
    retriable = rng.choice((2, 3, 5, 6, 7, 9, 13, 19, 20, 56))
    actions = [
        lambda: cluster.move("t", rng.randrange(PARTITIONS)),
        lambda: cluster.move("t", rng.randrange(PARTITIONS)),
        lambda: cluster.on(produce, faults.error(retriable)),
        lambda: cluster.on(produce, faults.error(rng.choice((7, 19, 20)), applied=True)),
        lambda: cluster.on(produce, faults.close()),
        lambda: cluster.on(produce, faults.close(applied=True)),
        lambda: cluster.on(produce, faults.mid_frame()),
        lambda: cluster.on(produce, faults.silent(applied=True, for_s=1.5)),
        lambda: cluster.on(produce, faults.wrong_correlation()),
        lambda: cluster.on(fetch, faults.error(rng.choice((5, 6, 9, 70, 71, 74, 75, 100, 106)))),
        lambda: cluster.on(fetch, faults.mid_frame()),
        lambda: cluster.on(fetch, faults.records(faults.flip())),
        lambda: cluster.nodes[rng.randrange(2)].cut(),
    ]
    rng.choice(actions)()


@pytest.mark.parametrize("hints", [True, False])
def test_leaders_move(hints: bool) -> None:
    print(run_over_moves(40, seed=3, hints=hints))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(4))
def test_leaders_move_often(seed: int) -> None:
    print(run_over_moves(400, seed=seed, hints=bool(seed % 2)))


@pytest.mark.parametrize("last", [0, 45])
def test_a_batch_whose_answer_was_lost_and_that_arrives_damaged_again_and_again(last: int) -> None:
    """The broker has it, the client cannot know. Others must not push it out of what the broker
    remembers (5 batches); and if they did, what came after it was taken, so it must be there.
    """

    def is_second(exchange: Exchange) -> bool:
        data = exchange.request.topic_data[0].partition_data[0].records
        return bool(HEADER.unpack_from(data)[11] == 1)  # its first sequence

    with Cluster() as cluster:
        cluster.create("t")
        with producer(cluster.bootstrap_servers, **SETTINGS) as writer:
            writer.send("t", b"0").get(10)
            cluster.on(Api.PRODUCE, faults.close(applied=True))
            cluster.on(Api.PRODUCE, faults.error(2), times=12, when=is_second)
            cluster.on(Api.PRODUCE, faults.error(last), when=is_second, times=last and 1)
            futures = []
            for number in range(1, 40):
                futures.append(writer.send("t", b"%d" % number))
                time.sleep(0.01)
            offsets = [future.get(20).offset for future in futures]
        assert cluster.values("t") == [b"%d" % number for number in range(40)]
        assert offsets == [-1 if last and number == 1 else number for number in range(1, 40)]


def test_a_node_that_goes_away_and_comes_back() -> None:
    with Cluster(nodes=2) as cluster:
        cluster.create("t", leader=0)
        with producer(cluster.bootstrap_servers, **SETTINGS) as writer:
            for number in range(50):
                writer.send("t", b"%d" % number)
                if number == 10:
                    cluster.nodes[0].stop()
                    cluster.move("t")
                if number == 30:
                    cluster.nodes[0].start()
                    cluster.move("t")
            writer.flush(20)
        assert cluster.values("t") == [b"%d" % number for number in range(50)]
        with consumer(cluster.bootstrap_servers, "t", group_id="g") as follower:
            assert len(take(follower, 50)) == 50
