"""From SIGKILL to ready."""

from __future__ import annotations

from mqlog.testing import Broker

from .wire import Client, batch, create_topic, produce_frame


class Recovery:
    """A broker with this many partitions and 64 MiB that no checkpoint covers."""

    params = [1, 100, 1000]
    param_names = ["partitions"]
    number = 1
    repeat = (3, 5, 30.0)
    warmup_time = 0
    timeout = 120

    def setup(self, partitions: int) -> None:
        self.broker = Broker(durability="os")
        create_topic(self.broker.bootstrap_servers, "bench", partitions)
        self._fill(partitions)
        self.broker.kill()

    def _fill(self, partitions: int) -> None:
        one = batch(600, 100)
        wide = min(partitions, 100)
        client = Client(self.broker.bootstrap_servers)
        rounds = (64 << 20) // (len(one) * wide)
        client.exchange(produce_frame("bench", one, wide), rounds)
        client.close()

    def teardown(self, partitions: int) -> None:
        self.broker.close()

    def time_ready(self, partitions: int) -> None:
        self.broker.start()
        self.broker.kill()
