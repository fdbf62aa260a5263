"""One of the two brokers: sends the steps of the scenario and keeps what was answered."""

from __future__ import annotations

import socket
import struct
import time
from dataclasses import dataclass
from typing import Any

import codec

TIMEOUT_S = 30.0
#: What a step's answer is when there is none.
CLOSED = {"outcome": "the connection was closed"}
SILENT = {"outcome": "no answer"}


@dataclass
class Step:
    """What was asked, and what came."""

    label: str
    api: str
    version: int
    answer: dict[str, Any]


class Peer:
    """A broker at an address. `token` is in every name that the scenario makes."""

    def __init__(self, name: str, address: str, token: str) -> None:
        host, _, port = address.rpartition(":")
        self.name, self.address, self.token = name, (host, int(port)), token
        self.steps: list[Step] = []
        self._sockets: dict[str, socket.socket] = {}
        self._correlation = 0
        cluster = self.ask("Metadata", 12, topics=[], allow_auto_topic_creation=False)
        self.cluster_id: str = cluster["cluster_id"]
        self.node: int = cluster["brokers"][0]["node_id"]
        self.advertised: tuple[str, int] = (
            cluster["brokers"][0]["host"],
            cluster["brokers"][0]["port"],
        )
        self.ids: dict[str, bytes] = {}
        #: How often `settled` changed something.
        self.marks = 0

    def close(self) -> None:
        """Close all connections."""
        for one in self._sockets.values():
            one.close()

    def named(self, name: str) -> str:
        """A name of this run."""
        return f"{self.token}-{name}"

    # -- steps: what is compared -----------------------------------------------------------------

    def step(
        self,
        label: str,
        api: str,
        version: int,
        on: str = "main",
        within_s: float = TIMEOUT_S,
        **values: Any,
    ) -> dict[str, Any]:
        """Ask, and keep the answer under this label."""
        try:
            self._socket(on).settimeout(within_s)
            self.send(api, version, on, **values)
        except ConnectionError:
            self._drop(on)
        return self.receive(label, api, version, on)

    def send(self, api: str, version: int, on: str = "main", **values: Any) -> None:
        """Ask without waiting; `receive` is the step."""
        self._correlation += 1
        frame = codec.request(api, version, self._correlation, values)
        self._socket(on).sendall(struct.pack(">i", len(frame)) + frame)

    def receive(self, label: str, api: str, version: int, on: str = "main") -> dict[str, Any]:
        """The step of what was sent on this connection."""
        answer = self._answer(api, version, on)
        self.steps.append(Step(label, api, version, answer))
        return answer

    def unanswered(
        self, label: str, api: str, version: int, on: str = "main", **values: Any
    ) -> None:
        """A step that must not be answered; what the connection says after it is the answer."""
        self.send(api, version, on, **values)
        self.send("ApiVersions", 0, on)
        answer = self._answer("ApiVersions", 0, on)
        outcome = answer if answer in (CLOSED, SILENT) else {"outcome": "the next is answered"}
        self.steps.append(Step(label, api, version, outcome))

    def raw(self, label: str, api: str, version: int, frame: bytes, as_version: int) -> None:
        """A step of bytes as they are, answered in another version than it was asked in."""
        self._socket("raw").sendall(struct.pack(">i", len(frame)) + frame)
        answer = self._answer(api, as_version, "raw")
        self.steps.append(Step(label, api, version, answer))

    # -- beside the scenario: what is not compared -----------------------------------------------

    def ask(self, api: str, version: int, **values: Any) -> dict[str, Any]:
        """An answer that is not a step."""
        self.send(api, version, "aside", **values)
        return self._answer(api, version, "aside")

    def settle(self, what: str, done: Any) -> None:
        """Wait until something holds: Kafka answers some requests before they are carried out."""
        end = time.monotonic() + TIMEOUT_S
        while not done():
            if time.monotonic() > end:
                raise TimeoutError(f"{self.name}: {what} did not come true in {TIMEOUT_S:g} s")
            time.sleep(0.02)

    def settle_topic(self, name: str, partitions: int) -> bytes:
        """Wait until every partition of a topic serves; the topic's id."""
        asked = [{"name": name}]

        def ready() -> bool:
            told = self.ask("Metadata", 12, topics=asked, allow_auto_topic_creation=False)
            topic = told["topics"][0]
            if topic["error_code"] or len(topic["partitions"]) != partitions:
                return False
            self.ids[name] = topic["topic_id"]
            parts = [{"partition_index": i, "timestamp": -1} for i in range(partitions)]
            told = self.ask(
                "ListOffsets", 8, replica_id=-1, topics=[{"name": name, "partitions": parts}]
            )
            return not any(part["error_code"] for part in told["topics"][0]["partitions"])

        self.settle(f"topic {name} with {partitions} partitions", ready)
        return self.ids[name]

    def settle_gone(self, name: str) -> None:
        """Wait until a topic is not there any more."""
        asked = [{"name": name}]

        def gone() -> bool:
            told = self.ask("Metadata", 12, topics=asked, allow_auto_topic_creation=False)
            return bool(told["topics"][0]["error_code"] == 3)

        self.settle(f"the end of topic {name}", gone)

    def make_topic(self, name: str, partitions: int = 1, **configs: str) -> str:
        """A topic of this run, ready; no step."""
        full = self.named(name)
        given = [{"name": k.replace("_", "."), "value": v} for k, v in configs.items()]
        topic = {"name": full, "num_partitions": partitions, "replication_factor": 1}
        self.ask("CreateTopics", 5, topics=[topic | {"configs": given}], timeout_ms=20_000)
        self.settle_topic(full, partitions)
        return full

    # -- sockets ---------------------------------------------------------------------------------

    def _socket(self, on: str) -> socket.socket:
        if on not in self._sockets:
            made = socket.create_connection(self.address, timeout=TIMEOUT_S)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets[on] = made
        return self._sockets[on]

    def _drop(self, on: str) -> None:
        self._sockets.pop(on).close()

    def _answer(self, api: str, version: int, on: str) -> dict[str, Any]:
        if on not in self._sockets:
            return CLOSED
        try:
            (size,) = struct.unpack(">i", self._exactly(on, 4))
            frame = self._exactly(on, size)
        except ConnectionError:
            self._drop(on)
            return CLOSED
        except TimeoutError:
            self._drop(on)
            return SILENT
        try:
            return codec.response(api, version, frame)
        except ValueError as error:
            return {"outcome": f"not decoded: {error}", "frame": frame}

    def _exactly(self, on: str, size: int) -> bytes:
        got = b""
        while len(got) < size:
            some = self._sockets[on].recv(size - len(got))
            if not some:
                raise ConnectionResetError
            got += some
        return got
