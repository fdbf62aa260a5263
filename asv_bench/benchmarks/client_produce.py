"""mqlog's own producer, to a broker in a process of its own."""

from __future__ import annotations

from mqlog import KafkaProducer
from mqlog.testing import Broker

from .wire import create_topic

RECORDS = 50_000


class Produce:
    """Per round of 50,000 records that are acknowledged in the end."""

    params = ([100, 1000], ["none", "lz4", "zstd"])
    param_names = ["value bytes", "codec"]
    number = 1
    repeat = (5, 20, 5.0)
    warmup_time = 0.1
    timeout = 120

    def setup(self, value_bytes: int, codec: str) -> None:
        self.broker = Broker(durability="os")
        create_topic(self.broker.bootstrap_servers, "bench")
        self.producer = KafkaProducer(
            bootstrap_servers=self.broker.bootstrap_servers,
            batch_size=1_000_000,
            max_request_size=2_000_000,
            compression_type=codec,
        )
        self.values = [b"%08d" % number + bytes(value_bytes - 8) for number in range(RECORDS)]
        assert self.producer.send("bench", self.values[0]).get(30).offset == 0

    def teardown(self, value_bytes: int, codec: str) -> None:
        self.producer.close()
        self.broker.close()

    def time_send(self, value_bytes: int, codec: str) -> None:
        for value in self.values:
            self.producer.send("bench", value)
        self.producer.flush()

    def time_callbacks(self, value_bytes: int, codec: str) -> None:
        done: list[int] = []
        for value in self.values:
            self.producer.send("bench", value).add_callback(lambda told: done.append(told.offset))
        self.producer.flush()

    def time_futures(self, value_bytes: int, codec: str) -> None:
        for future in [self.producer.send("bench", value) for value in self.values]:
            future.get()

    def time_list(self, value_bytes: int, codec: str) -> None:
        self.producer.send_many("bench", self.values)
        self.producer.flush()

    def time_round_trips(self, value_bytes: int, codec: str) -> None:
        for value in self.values[:200]:
            self.producer.send("bench", value).get()
