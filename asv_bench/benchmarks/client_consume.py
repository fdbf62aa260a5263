"""mqlog's own consumer, from the page cache of a broker in a process of its own."""

from __future__ import annotations

from mqlog import KafkaConsumer, TopicPartition
from mqlog.testing import Broker

from .wire import Client, batch, create_topic, produce_frame

RECORDS = 200_000
IN_BATCH = 2_000


class Consume:
    """Per round of 200,000 records."""

    params = ([100, 1000], ["none", "lz4", "zstd"])
    param_names = ["value bytes", "codec"]
    number = 1
    repeat = (5, 20, 5.0)
    warmup_time = 0.1
    timeout = 120

    def setup(self, value_bytes: int, codec: str) -> None:
        self.broker = Broker(durability="os")
        create_topic(self.broker.bootstrap_servers, "bench")
        filler = Client(self.broker.bootstrap_servers)
        one = batch(min(IN_BATCH, 800_000 // value_bytes), value_bytes, codec)
        self.count = RECORDS // min(IN_BATCH, 800_000 // value_bytes)
        filler.exchange(produce_frame("bench", one), self.count)
        filler.close()
        self.consumer = KafkaConsumer(
            bootstrap_servers=self.broker.bootstrap_servers,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=50,
        )
        self.place = TopicPartition("bench", 0)
        self.consumer.assign([self.place])

    def teardown(self, value_bytes: int, codec: str) -> None:
        self.consumer.close()
        self.broker.close()

    def time_records(self, value_bytes: int, codec: str) -> None:
        self.consumer.seek_to_beginning(self.place)
        for count, record in enumerate(self.consumer, 1):
            record.value  # noqa: B018 - reading it is the work
            if count == RECORDS:
                break

    def time_poll(self, value_bytes: int, codec: str) -> None:
        self.consumer.seek_to_beginning(self.place)
        count = 0
        while count < RECORDS:
            count += sum(map(len, self.consumer.poll(timeout_ms=1000).values()))

    def time_columns(self, value_bytes: int, codec: str) -> None:
        self.consumer.seek_to_beginning(self.place)
        count = 0
        while count < RECORDS:
            count += len(self.consumer.poll_columns(timeout_ms=1000))
