"""A client of one socket that says exactly what a test tells it to.

Messages are encoded and decoded by kafka-python's classes, so the project's codec is never
checked against itself.
"""

from __future__ import annotations

import socket
import struct
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

from kafka.protocol import admin, consumer, metadata, producer

from . import batches

TIMEOUT_S = 30.0
NO_ID = uuid.UUID(int=0)

_MODULES = (metadata, producer, consumer, admin)


def message(name: str) -> Any:
    """kafka-python's class of this name, such as `FetchRequest`."""
    for module in _MODULES:
        if hasattr(module, name):
            return getattr(module, name)
    raise KeyError(name)


def _fill(struct_field: Any, values: dict[str, Any], version: int) -> dict[str, Any]:
    """`values` with every nested dict turned into an object, and defaults for what is absent."""
    fields = {one.name: one for one in struct_field._fields}
    unknown = {name for name in values if name not in fields and not name.startswith("_")}
    assert not unknown, f"there is no {unknown} among {list(fields)}"
    filled: dict[str, Any] = {}
    for name, one in fields.items():
        value = values.get(name, one.default)
        if name not in values:
            if one._tag is not None:
                continue
        elif one.is_struct_array() and value is not None:
            value = [_struct(one, item, version) for item in value]
        elif one.is_struct() and value is not None:
            value = _struct(one, value, version)
        filled[name] = value
    return filled


class _Part(SimpleNamespace):
    """A struct inside a message; kafka-python reads it by attribute."""

    def __getattr__(self, name: str) -> Any:
        return self.__dict__["defaults"][name]


def _struct(struct_field: Any, values: dict[str, Any], version: int) -> _Part:
    filled = _fill(struct_field, values, version)
    tags = {one.name for one in struct_field._fields if one._tag is not None and one.name in values}
    defaults = {one.name: one.default for one in struct_field._fields}
    return _Part(tags=tags, unknown_tags=None, defaults=defaults, **filled)


def request_body(name: str, version: int, values: dict[str, Any]) -> bytes:
    """A request's body without its header."""
    cls = message(name + "Request")
    filled = _fill(cls._struct, values, version)
    return bytes(cls(version=version, **filled).encode(version=version))


def request_header(key: int, version: int, correlation: int, *, flexible: bool) -> bytes:
    """A request header, v2 if `flexible`, else v1, with client id `wire`."""
    head = struct.pack(">hhih", key, version, correlation, 4) + b"wire"
    return head + b"\0" if flexible else head


def is_flexible(name: str, version: int) -> bool:
    """Whether this request's version has tagged fields."""
    return bool(message(name + "Request").flexible_version_q(version))


def api_key(name: str) -> int:
    """The key of an API."""
    return int(message(name + "Request").API_KEY)


class Closed(Exception):
    """The broker closed the connection."""


class Connection:
    """One TCP connection to the broker."""

    def __init__(self, address: tuple[str, int], timeout_s: float = TIMEOUT_S) -> None:
        self.socket = socket.create_connection(address, timeout=timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.correlation = 0
        self._buffer = b""

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the socket."""
        self.socket.close()

    def send_bytes(self, data: bytes) -> None:
        """Sends `data` as it is."""
        self.socket.sendall(data)

    def send_frame(self, frame: bytes) -> None:
        """Sends `frame` with its length before it."""
        self.send_bytes(struct.pack(">i", len(frame)) + frame)

    def frame(self, name: str, version: int, **values: Any) -> bytes:
        """A request's frame without its length; takes the next correlation id."""
        self.correlation += 1
        flexible = is_flexible(name, version)
        head = request_header(api_key(name), version, self.correlation, flexible=flexible)
        return head + request_body(name, version, values)

    def send(self, name: str, version: int, **values: Any) -> int:
        """Sends a request and returns its correlation id."""
        self.send_frame(self.frame(name, version, **values))
        return self.correlation

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            try:
                more = self.socket.recv(1 << 16)
            except ConnectionError as error:
                raise Closed from error
            if not more:
                raise Closed
            self._buffer += more
        out, self._buffer = self._buffer[:size], self._buffer[size:]
        return out

    def read_frame(self) -> bytes:
        """The next answer's frame; `Closed` if there is none."""
        (size,) = struct.unpack(">i", self._exactly(4))
        return self._exactly(size)

    def receive(self, name: str, version: int) -> Any:
        """The next answer, decoded; its `correlation` is that of the header."""
        data = self.read_frame()
        (correlation,) = struct.unpack_from(">i", data)
        body = data[4:]
        if is_flexible(name, version) and name != "ApiVersions":
            assert body[0] == 0, "tags in a response header"
            body = body[1:]
        cls = message(name + "Response")
        answer = cls.decode(body, version=version)
        return answer, correlation

    def call(self, name: str, version: int, **values: Any) -> Any:
        """A request and its answer."""
        sent = self.send(name, version, **values)
        answer, correlation = self.receive(name, version)
        assert correlation == sent, f"answer to {correlation}, asked {sent}"
        return answer

    def closed_by_broker(self) -> bool:
        """Whether the broker closes this connection without another byte."""
        with suppress(ConnectionError):
            return self._buffer == b"" and self.socket.recv(1) == b""
        return True

    def silent_for(self, seconds: float) -> bool:
        """Whether the broker sends nothing for this long."""
        self.socket.settimeout(seconds)
        try:
            return self.socket.recv(1, socket.MSG_PEEK) is None
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(TIMEOUT_S)

    # Shorthands for what nearly every test does.

    def produce_raw(
        self,
        topic: Topic,
        records: bytes | None,
        *,
        partition: int = 0,
        acks: int = -1,
        version: int = 9,
        transactional_id: str | None = None,
    ) -> Any:
        """Produces these bytes; the partition's answer."""
        answer = self.call(
            "Produce",
            version,
            **produce_body(
                topic, [(partition, records)], acks=acks, transactional_id=transactional_id
            ),
        )
        return answer.responses[0].partition_responses[0]

    def produce(self, topic: Topic, *values: Any, partition: int = 0, **options: Any) -> int:
        """Produces one batch of `values`, which must succeed; its base offset."""
        data = batches.batch(values or (b"v",), **options)
        answer = self.produce_raw(topic, data, partition=partition)
        assert answer.error_code == 0, answer
        return int(answer.base_offset)

    def fetch_raw(
        self,
        topic: Topic | list[tuple[Topic, int, int]],
        offset: int = 0,
        *,
        partition: int = 0,
        version: int = 12,
        **options: Any,
    ) -> Any:
        """A fetch without a session unless `options` say so; the whole answer."""
        wanted = topic if isinstance(topic, list) else [(topic, partition, offset)]
        return self.call("Fetch", version, **fetch_body(wanted, version=version, **options))

    def fetch(self, topic: Topic, offset: int = 0, **options: Any) -> Any:
        """The one partition's part of a fetch's answer."""
        answer = self.fetch_raw(topic, offset, **options)
        assert answer.error_code == 0, answer
        return answer.responses[0].partitions[0]

    def read(self, topic: Topic, offset: int = 0, **options: Any) -> list[batches.Batch]:
        """The batches a fetch gives."""
        part = self.fetch(topic, offset, **options)
        assert part.error_code == 0, part
        return batches.parse(part.records)

    def list_offset(
        self, topic: Topic, timestamp: int, *, partition: int = 0, version: int = 10, **more: Any
    ) -> Any:
        """The partition's answer of ListOffsets."""
        isolation = {"isolation_level": more.pop("isolation_level", 0)} if version >= 2 else {}
        part = {"partition_index": partition, "timestamp": timestamp, **more}
        answer = self.call(
            "ListOffsets",
            version,
            replica_id=-1,
            **isolation,
            topics=[{"name": topic.name, "partitions": [part]}],
        )
        return answer.topics[0].partitions[0]

    def metadata(self, topics: list[str] | None, version: int = 12, **options: Any) -> Any:
        """Metadata of these topics."""
        named = None if topics is None else [{"name": name} for name in topics]
        if version >= 4:
            options.setdefault("allow_auto_topic_creation", False)
        return self.call("Metadata", version, topics=named, **options)


class Topic(SimpleNamespace):
    """A topic that a test made: `name`, `id`, `partitions`."""

    name: str
    id: uuid.UUID
    partitions: int


def produce_body(
    topic: Topic,
    parts: list[tuple[int, bytes | None]],
    *,
    acks: int = -1,
    transactional_id: str | None = None,
) -> dict[str, Any]:
    """A Produce request of any version."""
    data = [{"index": index, "records": records} for index, records in parts]
    named = {"name": topic.name, "topic_id": topic.id, "partition_data": data}
    return {
        "transactional_id": transactional_id,
        "acks": acks,
        "timeout_ms": 10_000,
        "topic_data": [named],
    }


def fetch_body(
    wanted: list[tuple[Topic, int, int]],
    *,
    version: int = 12,
    max_wait_ms: int = 500,
    min_bytes: int = 1,
    max_bytes: int = 1 << 26,
    partition_max_bytes: int = 1 << 24,
    isolation_level: int = 0,
    session: tuple[int, int] = (0, -1),
    forgotten: list[tuple[Topic, list[int]]] | None = None,
    **partition_options: Any,
) -> dict[str, Any]:
    """A Fetch request of any version for (topic, partition, offset) in this order."""
    topics: list[dict[str, Any]] = []
    for topic, partition, offset in wanted:
        part = {
            "partition": partition,
            "fetch_offset": offset,
            "partition_max_bytes": partition_max_bytes,
            **partition_options,
        }
        if not topics or topics[-1]["topic"] != topic.name:
            topics.append({"topic": topic.name, "topic_id": topic.id, "partitions": []})
        topics[-1]["partitions"].append(part)
    body: dict[str, Any] = {
        "replica_id": -1,
        "max_wait_ms": max_wait_ms,
        "min_bytes": min_bytes,
        "max_bytes": max_bytes,
        "isolation_level": isolation_level,
        "topics": topics,
    }
    if version >= 7:
        body |= {"session_id": session[0], "session_epoch": session[1]}
        body["forgotten_topics_data"] = [
            {"topic": topic.name, "topic_id": topic.id, "partitions": parts}
            for topic, parts in forgotten or []
        ]
    return body


def eventually(check: Callable[[], Any], timeout_s: float = TIMEOUT_S) -> Any:
    """Repeats `check` until it gives something true; an error after `timeout_s`."""
    end = time.monotonic() + timeout_s
    while True:
        result = check()
        if result:
            return result
        assert time.monotonic() < end, f"still {result!r} after {timeout_s} s"
        time.sleep(0.02)


def walk(connection: Connection, topic: Topic, end: int) -> Iterator[batches.Batch]:
    """All batches from 0 to `end`, moving on by what each batch says."""
    offset = 0
    while offset < end:
        got = connection.read(topic, offset)
        assert got, f"nothing at {offset} of {end}"
        yield from got
        offset = got[-1].next_offset
