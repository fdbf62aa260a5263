"""Fetch requests of 1 MiB, from the page cache, to a broker in a process of its own."""

from __future__ import annotations

from mqlog.testing import Broker

from .wire import Client, batch, create_topic, fetch_frame, produce_frame

LOG_BYTES = 64 << 20
FETCH_BYTES = 1 << 20
ROUND = 200


class Read:
    """Per round of 200 fetches; the log holds batches of this size."""

    params = [1_000, 64_000]
    param_names = ["batch bytes"]
    number = 1
    repeat = (5, 20, 5.0)
    warmup_time = 0.1
    timeout = 120

    def setup(self, batch_bytes: int) -> None:
        self.broker = Broker(durability="os")
        create_topic(self.broker.bootstrap_servers, "bench")
        one = batch(batch_bytes // 107, 100)
        self.client = Client(self.broker.bootstrap_servers)
        self.client.exchange(produce_frame("bench", one), LOG_BYTES // len(one))
        self.frame = fetch_frame("bench", 0, FETCH_BYTES)

    def teardown(self, batch_bytes: int) -> None:
        self.client.close()
        self.broker.close()

    def time_round(self, batch_bytes: int) -> None:
        got = self.client.exchange(self.frame, ROUND, in_flight=2)
        assert got > ROUND * FETCH_BYTES // 2
