"""A Kafka cluster of scripted nodes: real sockets, a small log, and every way to misbehave.

    with Cluster(nodes=2) as cluster:
        cluster.create("t", partitions=3)
        cluster.on(Api.PRODUCE, faults.error(6), nth=1)      # the second Produce is refused
        ... clients at cluster.bootstrap_servers ...
        assert cluster.values("t") == [...]

A rule belongs to an API, perhaps to one node, and to the nth request since it was made; its action
(see `scripted_faults.py`) gets the `Exchange` and does what it likes with the socket. What no rule
takes is answered as Kafka does. All nodes see the same logs, as if replication took no time.
"""

from __future__ import annotations

import ssl
import struct
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from socket import SHUT_RDWR, create_server, socket
from typing import Any

from mqlog import _native
from mqlog.protocol import ZERO_UUID, request_class, response_class

from .scripted_groups import Groups
from .scripted_log import PartitionLog

MAX_REQUEST = 1 << 28
UNSUPPORTED_VERSION = 35


class Api:
    """Keys of the APIs that the scripted nodes answer."""

    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    HEARTBEAT = 12
    LEAVE_GROUP = 13
    SYNC_GROUP = 14
    SASL_HANDSHAKE = 17
    API_VERSIONS = 18
    CREATE_TOPICS = 19
    INIT_PRODUCER_ID = 22
    OFFSET_FOR_LEADER_EPOCH = 23
    SASL_AUTHENTICATE = 36

    ALL = (0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 17, 18, 19, 22, 23, 36)


@cache
def flexible_from(key: int) -> int:
    """The first version of an API whose headers have tagged fields."""
    first, last = _native.versions(key)
    for version in range(first, last + 1):
        request = request_class(key)()
        with suppress(Exception):
            body = _native.encode("request", key, version, request)
            if len(_native.encode_request(key, version, 0, None, request)) - len(body) > 10:
                return version
    return last + 1


def newest_versions() -> dict[int, tuple[int, int]]:
    """What a node offers if it is not told otherwise: all that the codec knows."""
    return {key: _native.versions(key) for key in Api.ALL}


class HangUp(Exception):
    """An action that wants the connection closed."""


@dataclass
class Exchange:
    """One request under way."""

    node: Node
    connection: Peer
    api: int
    version: int
    correlation: int
    request: Any
    number: int
    """Requests of this API that the cluster saw before this one."""

    @property
    def cluster(self) -> Cluster:
        """The cluster of the node."""
        return self.node.cluster

    def apply(self, *, dry: bool = False) -> Any:
        """Do what is asked and return the response; `dry`: only its shape, nothing is done."""
        from .scripted_answers import answer

        return answer(self, dry=dry)

    def frame(self, response: Any) -> bytes:
        """The response's frame without its length."""
        header = struct.pack(">i", self.correlation)
        if self.version >= flexible_from(self.api) and self.api != Api.API_VERSIONS:
            header += b"\0"
        return header + _native.encode("response", self.api, self.version, response)

    def send(self, response: Any) -> None:
        """Send a response as it should be."""
        frame = self.frame(response)
        self.write(struct.pack(">i", len(frame)) + frame)

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.connection.socket.sendall(data)


Action = Callable[[Exchange], None]


@dataclass
class Rule:
    """When an action is taken: requests `nth`, ..., `nth + times - 1` that match."""

    api: int | None
    action: Action
    nth: int
    times: int
    node: int | None
    when: Callable[[Exchange], bool] | None
    seen: int = 0
    taken: int = 0


class Peer:
    """One accepted connection."""

    def __init__(self, node: Node, sock: socket) -> None:
        self.node = node
        self.socket = sock
        self.sasl: Any = None
        self.authenticated = node.cluster.users is None
        self.thread = threading.Thread(target=self._run, daemon=True, name="scripted-peer")

    def _run(self) -> None:
        cluster = self.node.cluster
        try:
            context = cluster.tls
            if context is not None:
                self.socket = context.wrap_socket(self.socket, server_side=True)
            if cluster.on_accept is not None:
                cluster.on_accept(self)
            while self._one():
                pass
        except (OSError, HangUp):
            pass
        except Exception as error:
            cluster.crashes.append(error)
        finally:
            self.close()

    def close(self) -> None:
        """Close at once."""
        with suppress(OSError):
            self.socket.shutdown(SHUT_RDWR)
        with suppress(OSError):
            self.socket.close()

    def exactly(self, size: int) -> bytes:
        """This many bytes; HangUp at the end of the stream."""
        out = bytearray()
        while len(out) < size:
            some = self.socket.recv(min(size - len(out), 1 << 18))
            if not some:
                raise HangUp
            out += some
        return bytes(out)

    def _one(self) -> bool:
        size = int.from_bytes(self.exactly(4), "big")
        if size > MAX_REQUEST:
            return False
        frame = self.exactly(size)
        key, version, correlation, client = struct.unpack_from(">hhih", frame)
        cluster = self.node.cluster
        offered = cluster.versions.get(key)
        cluster.clients.add(frame[10 : 10 + max(client, 0)].decode())
        if offered is None:
            return False  # as a broker does with an API it has never heard of
        if not offered[0] <= version <= offered[1]:
            return self._refuse_version(key, version, correlation)
        position = 10 + max(client, 0)
        if version >= flexible_from(key):
            position += 1  # clients send no tags
        request = _native.decode("request", key, version, frame[position:])
        exchange = Exchange(self.node, self, key, version, correlation, request, 0)
        action = cluster._register(exchange)
        if action is not None:
            action(exchange)
        else:
            response = exchange.apply()
            if response is not None:
                exchange.send(response)
        return True

    def _refuse_version(self, key: int, version: int, correlation: int) -> bool:
        if key != Api.API_VERSIONS:
            return False
        response = response_class(key)()
        response.error_code = UNSUPPORTED_VERSION
        low, high = self.node.cluster.versions[key]
        response.api_keys = [type(response).ApiVersion(key, low, high)]
        body = struct.pack(">i", correlation) + _native.encode("response", key, 0, response)
        self.socket.sendall(struct.pack(">i", len(body)) + body)
        return True


class Node:
    """One broker of a cluster: a port that listens."""

    def __init__(self, cluster: Cluster, node_id: int, host: str) -> None:
        self.cluster = cluster
        self.id = node_id
        self.sessions: dict[int, Any] = {}
        self.peers: list[Peer] = []
        self.accepted = 0
        self._listener = create_server((host, 0))
        self.host, self.port = self._listener.getsockname()[:2]
        #: What Metadata tells clients; a test may set it to a proxy's, or to nothing that answers.
        self.advertised = (host, self.port)
        self.up = True
        self._thread = threading.Thread(target=self._accept, daemon=True, name="scripted-accept")
        self._thread.start()

    def _accept(self) -> None:
        while self.up:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            peer = Peer(self, sock)
            self.peers = [one for one in self.peers if one.thread.is_alive()] + [peer]
            peer.thread.start()

    def stop(self) -> None:
        """Stop listening and cut every connection."""
        self.up = False
        with suppress(OSError):
            self._listener.shutdown(SHUT_RDWR)
        self._listener.close()
        self.cut()
        self._thread.join(5)

    def cut(self) -> None:
        """Cut every connection."""
        for peer in list(self.peers):
            peer.close()

    def start(self) -> None:
        """Listen again, on the same port."""
        self._listener = create_server((self.host, self.port))
        self.up = True
        self.sessions.clear()
        self._thread = threading.Thread(target=self._accept, daemon=True, name="scripted-accept")
        self._thread.start()


@dataclass
class Partition:
    """A partition: who leads it, and its log."""

    leader: int
    epoch: int = 0
    log: PartitionLog = field(default_factory=PartitionLog)


@dataclass
class Topic:
    """A topic: its id and partitions."""

    id: bytes
    partitions: list[Partition]


class Cluster:
    """The nodes, and what they share. `versions`: what they offer (API key -> lowest, highest).

    `hints`: answers of nodes that do not lead name the leader (KIP-951). `sessions`: incremental
    fetches. `tls`: a server-side context. `users`: SASL, name -> password; None lets everybody in.
    """

    def __init__(
        self,
        nodes: int = 1,
        *,
        versions: dict[int, tuple[int, int]] | None = None,
        hints: bool = True,
        sessions: bool = True,
        auto_create: int = 0,
        tls: ssl.SSLContext | None = None,
        users: dict[str, str] | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.versions = newest_versions() if versions is None else versions
        self.hints = hints
        self.sessions = sessions
        self.auto_create = auto_create
        self.tls = tls
        self.users = users
        self.cluster_id = "scripted"
        self.topics: dict[str, Topic] = {}
        self.groups = Groups(self.changed)
        self.rules: list[Rule] = []
        self.log: list[tuple[int, int, int, Any]] = []
        """(node, API, version, request) of every request, in the order they came."""
        self.crashes: list[Exception] = []
        """Faults of the script itself; leaving the `with` block raises the first."""
        self.clients: set[str] = set()
        self.on_accept: Callable[[Peer], None] | None = None
        self.next_producer_id = 1000
        self.coordinator = 0
        self.counts: dict[int, int] = {}
        self.nodes = [Node(self, number, host) for number in range(nodes)]

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.close()
        if self.crashes and kind is None:
            raise self.crashes[0]

    def close(self) -> None:
        """Stop all nodes; what is parked is let go."""
        with self.changed:
            self.groups.closed = True
            self.changed.notify_all()
        for node in self.nodes:
            if node.up:
                node.stop()
            for peer in node.peers:
                peer.thread.join(5)

    @property
    def bootstrap_servers(self) -> str:
        """Every node's real address, comma separated."""
        return ",".join(f"{node.host}:{node.port}" for node in self.nodes)

    # -- what tests set up -------------------------------------------------------------------------

    def create(self, name: str, partitions: int = 1, *, leader: int | None = None) -> Topic:
        """Make a topic whose leaders go round the nodes, or are all `leader`."""
        with self.changed:
            topic = self.topics[name] = Topic(
                uuid.uuid4().bytes,
                [
                    Partition(number % len(self.nodes) if leader is None else leader)
                    for number in range(partitions)
                ],
            )
            return topic

    def fill(
        self, name: str, values: Iterable[bytes | None], partition: int = 0, **batch: Any
    ) -> None:
        """Append one batch of these values."""
        records = [(int(time.time() * 1000), None, value, ()) for value in values]
        self.append(name, _native.build_batch(records, **batch), partition)

    def append(self, name: str, data: bytes, partition: int = 0) -> None:
        """Append batches as a producer would."""
        with self.changed:
            part = self.topics[name].partitions[partition]
            error, _ = part.log.append(data, part.epoch)
            assert error == 0, error
            self.changed.notify_all()

    def move(self, name: str, partition: int = 0, to: int | None = None) -> None:
        """Give a partition to another node, one leader epoch up."""
        with self.changed:
            part = self.topics[name].partitions[partition]
            part.leader = (part.leader + 1) % len(self.nodes) if to is None else to
            part.epoch += 1
            self.changed.notify_all()

    def on(
        self,
        api: int | None,
        action: Action,
        *,
        nth: int = 0,
        times: int = 1,
        node: int | None = None,
        when: Callable[[Exchange], bool] | None = None,
    ) -> Rule:
        """Take `action` for requests `nth` to `nth + times - 1`, counted from now, that match."""
        rule = Rule(api, action, nth, times, node, when)
        with self.changed:
            self.rules.append(rule)
        return rule

    def always(self, api: int | None, action: Action, **options: Any) -> Rule:
        """Take `action` for every request of an API from now on."""
        return self.on(api, action, times=1 << 30, **options)

    def forget_rules(self) -> None:
        """Behave again."""
        with self.changed:
            self.rules.clear()

    def _register(self, exchange: Exchange) -> Action | None:
        with self.changed:
            exchange.number = self.counts.get(exchange.api, 0)
            self.counts[exchange.api] = exchange.number + 1
            self.log.append((exchange.node.id, exchange.api, exchange.version, exchange.request))
            self.changed.notify_all()
            for rule in self.rules:
                if rule.api not in (None, exchange.api):
                    continue
                if rule.node not in (None, exchange.node.id):
                    continue
                if rule.when is not None and not rule.when(exchange):
                    continue
                rule.seen += 1
                if rule.nth < rule.seen <= rule.nth + rule.times:
                    rule.taken += 1
                    return rule.action
        return None

    # -- what tests look at ------------------------------------------------------------------------

    def partition(self, name: str, number: int = 0) -> Partition:
        """One partition."""
        return self.topics[name].partitions[number]

    def values(self, name: str, partition: int = 0) -> list[bytes | None]:
        """All values of a partition, in order."""
        with self.changed:
            return self.partition(name, partition).log.values()

    def requests(self, api: int, node: int | None = None) -> list[Any]:
        """Every request of an API that came."""
        with self.changed:
            return [
                request for at, key, _, request in self.log if key == api and node in (None, at)
            ]

    def wait(self, condition: Callable[[], Any], timeout_s: float = 10.0) -> Any:
        """Wait until something holds; what it gave. AssertionError if it never does."""
        deadline = time.monotonic() + timeout_s
        while not (found := condition()):  # without the lock: it may ask a client
            left = deadline - time.monotonic()
            assert left > 0, "it did not happen in time"
            with self.changed:
                self.changed.wait(min(left, 0.02))
        return found

    def find(self, name: str, topic_id: bytes) -> tuple[str, Topic | None]:
        """A topic by name, or by id if there is one."""
        if topic_id != ZERO_UUID:
            for known, topic in self.topics.items():
                if topic.id == topic_id:
                    return known, topic
            return name, None
        return name, self.topics.get(name)
