"""Produce requests, 5 in flight, acks=all, to a broker in a process of its own."""

from __future__ import annotations

from mqlog.testing import Broker

from .wire import Client, batch, create_topic, fetch_frame, produce_frame

#: Name: records of 100 bytes in a batch, partitions in a request, requests in a round.
SHAPES = {
    "64 KB batches": (600, 1, 200),
    "10 records": (10, 1, 1000),
    "100 partitions x 10": (10, 100, 50),
}
VALUE_BYTES = 100


class Append:
    """Per round of requests."""

    params = (list(SHAPES), ["os", "fsync"])
    param_names = ["requests", "durability"]
    # A round writes up to 13 MB: a bounded number of them, whatever the machine.
    number = 1
    repeat = (5, 20, 5.0)
    warmup_time = 0.1
    timeout = 120

    def setup(self, shape: str, durability: str) -> None:
        records, partitions, self.requests = SHAPES[shape]
        self.broker = Broker(durability=durability)
        create_topic(self.broker.bootstrap_servers, "bench", partitions)
        self.frame = produce_frame("bench", batch(records, VALUE_BYTES), partitions)
        self.client = Client(self.broker.bootstrap_servers)
        self.client.exchange(self.frame, 2)
        # Refusals would be quick too: what was produced must be there.
        assert self.client.exchange(fetch_frame("bench", records, 1 << 20), 1) > records * 100

    def teardown(self, shape: str, durability: str) -> None:
        self.client.close()
        self.broker.close()

    def time_round(self, shape: str, durability: str) -> None:
        self.client.exchange(self.frame, self.requests)
