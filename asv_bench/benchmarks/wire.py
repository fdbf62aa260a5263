"""A bare client: frames encoded once, sent as they are, answers counted and not looked at."""

from __future__ import annotations

import socket
import struct

from mqlog import _native
from mqlog.connection import Api, Cluster
from mqlog.protocol.api_versions import ApiVersionsRequest
from mqlog.protocol.create_topics import CreateTopicsRequest, CreateTopicsResponse
from mqlog.protocol.fetch import FetchRequest
from mqlog.protocol.produce import ProduceRequest

PRODUCE, PRODUCE_VERSION = 0, 9
FETCH, FETCH_VERSION = 1, 11


def batch(records: int, value_bytes: int, codec: str = "none") -> bytes:
    """One batch of records without keys, with values that compress about as text does."""
    words = b"carrier=UA flight=1545 origin=EWR dest=IAH delay=2 "
    value = (words * (value_bytes // len(words) + 1))[:value_bytes]
    rows = [(1_700_000_000_000 + n, None, b"%08d" % n + value[8:], []) for n in range(records)]
    return _native.build_batch(rows, codec)


def create_topic(bootstrap: str, name: str, partitions: int = 1) -> None:
    """Make a topic."""
    topic = CreateTopicsRequest.CreatableTopic(
        name=name, num_partitions=partitions, replication_factor=1
    )
    request = CreateTopicsRequest(topics=[topic], timeout_ms=30_000)
    with Cluster(bootstrap) as cluster:
        answer = cluster.any.call(Api.CREATE_TOPICS, request, CreateTopicsResponse)
    assert [made.error_code for made in answer.topics] == [0]


def frame(api: int, version: int, request: object) -> bytes:
    """A request with its length before it."""
    body = _native.encode_request(api, version, 1, "bench", request)
    return struct.pack(">i", len(body)) + body


def produce_frame(topic: str, records: bytes, partitions: int = 1) -> bytes:
    """The batch to each of the first partitions, acks=all."""
    parts = [ProduceRequest.PartitionProduceData(index, records) for index in range(partitions)]
    data = ProduceRequest.TopicProduceData(name=topic, partition_data=parts)
    request = ProduceRequest(acks=-1, timeout_ms=30_000, topic_data=[data])
    return frame(PRODUCE, PRODUCE_VERSION, request)


def fetch_frame(topic: str, offset: int, max_bytes: int) -> bytes:
    """Partition 0 from `offset` on, at once."""
    part = FetchRequest.FetchPartition(0, fetch_offset=offset, partition_max_bytes=max_bytes)
    wanted = FetchRequest.FetchTopic(topic=topic, partitions=[part])
    request = FetchRequest(max_bytes=max_bytes, min_bytes=1, topics=[wanted])
    return frame(FETCH, FETCH_VERSION, request)


class Client:
    """One connection."""

    def __init__(self, bootstrap: str) -> None:
        host, _, port = bootstrap.rpartition(":")
        self._socket = socket.create_connection((host, int(port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray(1 << 20)
        # Until a connection's first valid request a broker takes no large one.
        self.exchange(frame(Api.API_VERSIONS, 0, ApiVersionsRequest()), 1)

    def close(self) -> None:
        self._socket.close()

    def exchange(self, request: bytes, times: int, in_flight: int = 5) -> int:
        """Send a frame many times, at most `in_flight` unanswered; the bytes that came back."""
        got = 0
        for number in range(times):
            if number >= in_flight:
                got += self._answer()
            self._socket.sendall(request)
        for _ in range(min(times, in_flight)):
            got += self._answer()
        return got

    def _answer(self) -> int:
        size = int.from_bytes(self._exactly(4), "big")
        left = size
        while left:
            read = self._socket.recv_into(self._buffer, min(left, len(self._buffer)))
            if not read:
                raise ConnectionError("the broker closed the connection")
            left -= read
        return size

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            some = self._socket.recv(size - len(data))
            if not some:
                raise ConnectionError("the broker closed the connection")
            data += some
        return data
