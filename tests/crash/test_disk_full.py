"""A full disk: the produce that finds no room fails, everything else goes on; room comes back."""

from __future__ import annotations

import time

import pytest
from confluent_kafka.admin import AdminClient

from mqlog.testing import Broker, BrokerError

from .cycles import producers
from .load import QUIET, Load, read
from .loopfs import LoopFs, unavailable

PRODUCERS = {
    "fills": (False, {"acks": "all", "retries": 0}),
    "filler": (False, {"acks": "all", "retries": 0}),
}
MIB = 1 << 20


def fill(load: Load) -> None:
    """Send until the broker says that it has no room."""
    load.burst = 1_000_000
    load.start()
    deadline = time.monotonic() + 60
    while not load.ledger.refused:
        assert time.monotonic() < deadline, "the disk does not get full"
        time.sleep(0.01)
    load.pause()


def sends_again(load: Load) -> bool:
    """Send a little; whether any of it was taken."""
    before = load.answers
    load.start()
    time.sleep(0.2)
    load.pause()
    return load.answers > before


@pytest.mark.timeout(600)
def test_a_full_disk_refuses_serves_and_recovers() -> None:
    why = unavailable()
    if why:
        pytest.skip(why)
    with (
        LoopFs(40) as disk,
        Broker(disk.path / "data", config={"log.segment.delete.delay.ms": 0}) as broker,
        producers(broker, PRODUCERS) as (load, filler),
    ):
        load.start()
        time.sleep(0.3)
        load.pause()
        fill(filler)
        assert all("KAFKA_STORAGE_ERROR" in refusal for refusal in filler.refusals), filler.refusals
        # It serves what it has, and a restart finds all of it.
        for _ in range(2):
            read(broker.bootstrap_servers, load.topic, load.ledger)
            filler.ledger.start_over()
            read(broker.bootstrap_servers, filler.topic, filler.ledger)
            broker.kill()
            broker.start()
        # A topic less is room enough: nobody has to touch the broker.
        admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers, **QUIET})
        admin.delete_topics(["filler"])["filler"].result(30)
        deadline = time.monotonic() + 30
        while not sends_again(load):
            assert time.monotonic() < deadline, "there is room and nothing is taken"
        read(broker.bootstrap_servers, load.topic, load.ledger)


@pytest.mark.timeout(600)
def test_a_start_without_a_byte_of_room_says_what_to_do() -> None:
    why = unavailable()
    if why:
        pytest.skip(why)
    with (
        LoopFs(40) as disk,
        Broker(disk.path / "data") as broker,
        producers(broker, {"kept": (False, {"acks": "all", "retries": 0})}) as (load,),
    ):
        load.start()
        time.sleep(0.3)
        load.pause()
        # What it held back for itself is enough, once.
        disk.fill()
        broker.kill()
        broker.start()
        read(broker.bootstrap_servers, load.topic, load.ledger)
        broker.kill()
        disk.fill()
        with pytest.raises(BrokerError, match=r"No space left on device .*free space"):
            broker.start()
        disk.make_room()
        broker.start()
        read(broker.bootstrap_servers, load.topic, load.ledger)
        assert sends_again(load)
