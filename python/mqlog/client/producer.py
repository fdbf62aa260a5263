"""The producer, with kafka-python's methods and results."""

from __future__ import annotations

import atexit
import logging
import os
import re
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any

from mqlog import _native
from mqlog._futures import FutureRecordMetadata, RecordMetadata
from mqlog._producer import ProducerBase
from mqlog._send_result import FutureSendResult, OffsetRange, SendResult
from mqlog.client.config import ProducerConfig
from mqlog.client.exit import FORGOTTEN_S, at_exit
from mqlog.client.native import connect
from mqlog.client.partitioner import DefaultPartitioner, StickyPartitioner
from mqlog.errors import ClosedError, IllegalArgumentError, KafkaTimeoutError

__all__ = [
    "FutureRecordMetadata",
    "FutureSendResult",
    "KafkaProducer",
    "OffsetRange",
    "RecordMetadata",
    "SendResult",
]

log = logging.getLogger("mqlog.client")

#: How long the end of the interpreter waits for records that are on their way, in seconds.
EXIT_S = 5.0
_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")


class KafkaProducer(ProducerBase):
    """Sends records to topics.

        with KafkaProducer(bootstrap_servers="localhost:9092") as producer:
            producer.send("flights", b"...", key=b"N14228").get(timeout=10)

    Settings are keywords, or a dict with Kafka's dotted names; `mqlog.client.config` lists them
    all. Making one connects: NoBrokersAvailable if nobody answers within `bootstrap_timeout_ms`
    (default 30 s).

    Any thread may use it. By default each record is written once and, per partition, in the order
    of the calls (`enable_idempotence`), and is acknowledged when all in-sync replicas have it
    (`acks="all"`). Records wait up to `linger_ms` (5) for others to share a request with; waiting
    for one, or `flush`, sends them at once. What could not be written within `delivery_timeout_ms`
    (2 minutes) fails. In a child of a fork every call raises UsedAfterForkError.
    """

    def __init__(self, configs: Mapping[str, Any] | None = None, /, **settings: Any) -> None:
        self._closed = True
        self._pid = os.getpid()
        self._config = config = ProducerConfig(configs, settings)
        self._client, self._driver = connect(config)
        self._producer = _native.Producer(self._client.client, config.native())
        super().__init__(self._producer, config["acks"])
        self._set_prepare(_prepare(config, self._producer, self._topic_number))
        self._closed = False
        self._exit = at_exit(self, lambda producer: producer.close(EXIT_S))
        log.debug("producer %s is ready", config["client_id"])

    @property
    def config(self) -> Mapping[str, Any]:
        """The settings in force, by name."""
        return self._config

    def bootstrap_connected(self) -> bool:
        """Whether any broker is connected."""
        return self._client.client.bootstrap_connected()

    def partitions_for(self, topic: str) -> set[int]:
        """The partitions of a topic, asked for if need be, for up to `max_block_ms`.

        Raises KafkaTimeoutError if they cannot be learned in time, and what the broker says of the
        topic.
        """
        count, _ = self._producer.partitions(self._topic_number(topic))
        return set(range(count))

    def flush(self, timeout: float | None = None) -> None:
        """Sends what was given before the call, and waits until all of it has an end: success or
        failure, which the futures tell. `timeout` in seconds; None waits for as long as it takes,
        which `delivery_timeout_ms` bounds.

        Raises KafkaTimeoutError if that takes longer.
        """
        if not self._producer.flush(None if timeout is None else timeout * 1000):
            left = self._producer.unfinished()
            raise KafkaTimeoutError(
                f"flush took longer than timeout={timeout} s: {left} records are not acknowledged; "
                "they go on until delivery_timeout_ms"
            )

    def close(self, timeout: float | None = None) -> None:
        """Sends what is there, waits for its end and for callbacks, and closes the connections.

        `timeout` in seconds, None: as long as it takes. What is not done by then fails with
        ClosedError, and a warning in the log says how many records that were. Twice is as good as
        once; calls of other methods raise ClosedError afterwards.
        """
        if timeout is not None and timeout < 0:
            raise ValueError(f"timeout={timeout}: must be at least 0 seconds, or None")
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self._exit)
        if self._pid != os.getpid():
            return
        start = time.monotonic()
        try:
            done = self._producer.flush(None if timeout is None else timeout * 1000)
        finally:
            left = self._producer.unfinished()
            self._producer.close()
            self._driver.close()
            self._client.close()
        if not done and left:
            log.warning(
                "the producer was closed with %d records not acknowledged within timeout=%s s: "
                "they are lost, unless they were on their way",
                left,
                timeout,
            )
        used = time.monotonic() - start
        self._callbacks.join(None if timeout is None else max(timeout - used, FORGOTTEN_S))
        self._config.close("key_serializer", "value_serializer")

    def metrics(self) -> dict[str, dict[str, float]]:
        """What was counted since the producer was made, by kafka-python's groups and names."""
        per = self._producer.metrics()
        averages = {
            "batch-size-avg": _ratio(per["bytes_sent"], per["batches_sent"]),
            "compression-rate-avg": _ratio(per["bytes_sent"], per["bytes_raw"]),
            "records-per-request-avg": _ratio(per["records_sent"], per["requests"]),
            "request-latency-avg": _ratio(per["request_micros"], per["requests"]) / 1000,
        }
        totals = {
            "record-send-total": per["records_sent"],
            "record-error-total": per["record_errors"],
            "record-retry-total": per["record_retries"],
            "batch-split-total": per["batches_split"],
            "byte-total": per["bytes_sent"],
            "request-total": per["requests"],
            "produce-throttle-time-total": per["throttle_millis"],
            "producer-epoch-total": per["epochs"],
            "buffer-total-bytes": per["memory_limit"],
            "buffer-available-bytes": max(per["memory_limit"] - per["memory_used"], 0),
        }
        return {
            "producer-metrics": {**totals, **averages},
            "client-metrics": self._client.metrics(),
        }

    def __enter__(self) -> KafkaProducer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_closed", True) or self._pid != os.getpid():
            return
        warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
        self.close(FORGOTTEN_S)

    def __repr__(self) -> str:
        return f"<KafkaProducer client_id={self._config['client_id']}>"

    def _check_topic(self, name: str) -> None:
        super()._check_topic(name)
        if not _TOPIC.fullmatch(name) or name in (".", ".."):
            raise IllegalArgumentError(
                f"topic {name!r}: must be 1 to 249 of the characters a-z A-Z 0-9 . _ -"
            )
        if self._closed:
            raise ClosedError("the producer is closed")


def _ratio(some: float, of: float) -> float:
    return some / of if of else 0.0


class _Prepare:
    """What happens to a record before it is bytes with a place: the user's own functions."""

    def __init__(
        self, config: ProducerConfig, producer: _native.Producer, number: Callable[[str], int]
    ) -> None:
        self._key = _serializing(config["key_serializer"])
        self._value = _serializing(config["value_serializer"])
        self._partitioner = _partitioner(config["partitioner"])
        self._producer = producer
        # Not the bound method: it would keep the producer alive.
        self._number = weakref.WeakMethod(number)
        self._topics: dict[str, int] = {}

    def one(
        self, topic: str, value: Any, key: Any, headers: Any, partition: int | None
    ) -> tuple[Any, Any, int | None]:
        """Value and key as bytes, and the partition if there is a partitioner."""
        key_bytes = key if self._key is None else self._key(topic, headers, key)
        value_bytes = value if self._value is None else self._value(topic, headers, value)
        if partition is None and self._partitioner is not None:
            partition = self._partitioner(topic, key, key_bytes, value, value_bytes, self)
            if partition is None:
                raise ValueError(f"the partitioner gave no partition for a record of {topic}")
        return value_bytes, key_bytes, partition

    def many(
        self, topic: str, values: Iterable[Any], keys: Iterable[Any] | None, headers: Any,
        partition: int | None,
    ) -> tuple[list[Any], list[Any], list[int | None] | None]:  # fmt: skip
        """The same for the records of one call."""
        if keys is None:
            pairs = [
                one if isinstance(one, tuple) and len(one) == 2 else (None, one) for one in values
            ]
        else:
            pairs = list(zip(keys, values, strict=True))
        done = [self.one(topic, value, key, headers, partition) for key, value in pairs]
        places = None if self._partitioner is None else [place for _, _, place in done]
        return [value for value, _, _ in done], [key for _, key, _ in done], places

    def topics(self) -> set[str]:
        """The topics that were sent to."""
        return set(self._topics)

    def partitions_for_topic(self, topic: str) -> set[int]:
        """All partitions of a topic."""
        return set(range(self._partitions(topic)[0]))

    def available_partitions_for_topic(self, topic: str) -> set[int]:
        """Those that have a leader."""
        return set(self._partitions(topic)[1])

    def _partitions(self, topic: str) -> tuple[int, list[int]]:
        if topic not in self._topics:
            number = self._number()
            if number is None:
                raise ClosedError("the producer is gone")
            self._topics[topic] = number(topic)
        return self._producer.partitions(self._topics[topic])


def _prepare(
    config: ProducerConfig, producer: _native.Producer, number: Callable[[str], int]
) -> _Prepare | None:
    """None if there is nothing to do but what is native."""
    serializers = config["key_serializer"], config["value_serializer"]
    if serializers == (None, None) and _partitioner(config["partitioner"]) is None:
        return None
    return _Prepare(config, producer, number)


def _serializing(given: Any) -> Callable[[str, Any, Any], Any] | None:
    """A serializer as a function of topic, headers and data."""
    if given is None:
        return None
    method = getattr(given, "serialize", None)
    if method is None:
        return lambda topic, headers, data: given(data)
    found: Callable[[str, Any, Any], Any] = method
    return lambda topic, headers, data: found(topic, headers or [], data)


def _partitioner(given: Any) -> Callable[..., int | None] | None:
    """A partitioner as a function of what `Partitioner.partition` gets; None for the native one."""
    if given is None or type(given) in (DefaultPartitioner, StickyPartitioner):
        return None
    method: Callable[..., int | None] | None = getattr(given, "partition", None)
    if method is not None:
        return method

    def choose(
        topic: str, key: Any, key_bytes: bytes | None, value: Any, value_bytes: Any, cluster: Any
    ) -> int | None:
        every = sorted(cluster.partitions_for_topic(topic))
        led = sorted(cluster.available_partitions_for_topic(topic))
        chosen: int | None = given(key_bytes, every, led)
        return chosen

    return choose
