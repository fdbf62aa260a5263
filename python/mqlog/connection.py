"""One plain connection to a Kafka broker: a socket, one request at a time, no background threads.

    with Connection.open("127.0.0.1:9092") as connection:
        answer = connection.call(Api.METADATA, MetadataRequest(topics=None), MetadataResponse)

It is what the command line uses, against mqlog and any other Kafka broker: versions are
negotiated on connecting, messages are the generated classes of `mqlog.protocol`. It is not the
client: it keeps no metadata, retries nothing and knows neither TLS nor SASL. `Cluster` finds the
broker that leads a partition, with one such connection to each.
"""

from __future__ import annotations

import socket
import struct
import time
from enum import IntEnum
from typing import TYPE_CHECKING, TypeVar

from mqlog import _native
from mqlog.errors import MqlogError, ProtocolError, UsageError
from mqlog.protocol.api_versions import ApiVersionsRequest, ApiVersionsResponse
from mqlog.protocol.metadata import MetadataRequest, MetadataResponse

if TYPE_CHECKING:
    from types import TracebackType

T = TypeVar("T")

DEFAULT_PORT = 9092
DEFAULT_TIMEOUT_S = 30.0
#: Longest answer read, in bytes: more is not Kafka but something else that talks.
MAX_RESPONSE_BYTES = 256 * 1024 * 1024
UNSUPPORTED_VERSION = 35
READ_BYTES = 1 << 20


class Api(IntEnum):
    """The APIs the command line calls, by their key on the wire."""

    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    DESCRIBE_GROUPS = 15
    LIST_GROUPS = 16
    API_VERSIONS = 18
    CREATE_TOPICS = 19
    DELETE_TOPICS = 20
    DELETE_RECORDS = 21
    DESCRIBE_CONFIGS = 32
    DESCRIBE_LOG_DIRS = 35
    CREATE_PARTITIONS = 37
    DELETE_GROUPS = 42
    INCREMENTAL_ALTER_CONFIGS = 44
    OFFSET_DELETE = 47


class ConnectionFailed(MqlogError):
    """The broker cannot be reached, or stopped talking; the text says which and what to try."""


def parse_address(text: str) -> tuple[str, int]:
    """`HOST`, `HOST:PORT` or `[IPV6]:PORT` as host and port. UsageError if it is none of these."""
    host, separator, port = text.rpartition(":")
    bare_ipv6 = ":" in host and not host.startswith("[")
    if not separator or text.endswith("]") or bare_ipv6:
        host, port = text, str(DEFAULT_PORT)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise UsageError(f"address {text!r} is not HOST:PORT with a port from 1 to 65535")
    return host, int(port)


class Connection:
    """A connected broker whose versions are known. Not for use by several threads at once."""

    def __init__(self, sock: socket.socket, address: str, client_id: str, timeout_s: float) -> None:
        self._socket = sock
        self._address = address
        self._client_id = client_id
        self._timeout_s = timeout_s
        self._correlation_id = 0
        self._versions: dict[int, tuple[int, int]] = {}

    @classmethod
    def open(
        cls, address: str, *, client_id: str = "mqlog-cli", timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> Connection:
        """Connect to `HOST:PORT` and ask which versions it speaks.

        `timeout_s` bounds connecting and, later, each call. ConnectionFailed if nobody answers,
        UsageError if the address is none.
        """
        host, port = parse_address(address)
        try:
            sock = socket.create_connection((host, port), timeout=timeout_s)
        except OSError as error:
            raise ConnectionFailed(
                f"cannot connect to {address}: {_reason(error)}; "
                "is the broker running there? --bootstrap HOST:PORT names another"
            ) from error
        except UnicodeError:
            raise UsageError(f"address {address!r}: {host!r} is no host name") from None
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = cls(sock, address, client_id, timeout_s)
        try:
            connection._negotiate()
        except BaseException:
            sock.close()
            raise
        return connection

    @property
    def address(self) -> str:
        """`HOST:PORT` as it was given."""
        return self._address

    def close(self) -> None:
        """Close the socket; calls after it fail."""
        self._socket.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def version(self, api: Api, newest: int | None = None) -> int | None:
        """The newest version of the API that both sides know, at most `newest`; None: none."""
        theirs = self._versions.get(api)
        if theirs is None:
            return None
        ours = _native.versions(api)
        best = min(ours[1], theirs[1], ours[1] if newest is None else newest)
        return best if best >= max(ours[0], theirs[0]) else None

    def call(
        self, api: Api, request: object, response_type: type[T], *, newest: int | None = None
    ) -> T:
        """Send one request and wait for its answer; error codes inside it are the caller's to read.

        `newest` is the newest version that the request was filled in for; without it, any.

        ConnectionFailed if the broker does not answer in time or hangs up, ProtocolError if its
        bytes are not the answer or it has no version of the API that we know.
        """
        version = self.version(api, newest)
        if version is None:
            theirs = self._versions.get(api)
            has = f"versions {theirs[0]} to {theirs[1]}" if theirs else "no version"
            first, last = _native.versions(api)
            raise ProtocolError(
                f"{self._address} has {has} of {api.name}; mqlog needs one of {first} to {last}"
            )
        answer = self._exchange(api, version, request)
        return self._decoded(api, version, answer, response_type)

    def send(self, api: Api, request: object, *, newest: int | None = None) -> None:
        """Send one request that is not answered: Produce with acks 0."""
        version = self.version(api, newest)
        if version is None:
            raise ProtocolError(f"{self._address} has no version of {api.name} that mqlog knows")
        self._write(api, version, request)

    def _negotiate(self) -> None:
        """Kafka's rule: a version the broker lacks is answered in version 0, with error 35."""
        request = ApiVersionsRequest(client_software_name="mqlog", client_software_version="0")
        answer = self._exchange(Api.API_VERSIONS, 3, request)
        if answer[4:6] == struct.pack(">h", UNSUPPORTED_VERSION):
            answer = self._exchange(Api.API_VERSIONS, 0, request)
            versions = self._decoded(Api.API_VERSIONS, 0, answer, ApiVersionsResponse)
        else:
            versions = self._decoded(Api.API_VERSIONS, 3, answer, ApiVersionsResponse)
        if versions.error_code:
            raise ProtocolError(
                f"{self._address} refused ApiVersions with error code {versions.error_code}"
            )
        self._versions = {v.api_key: (v.min_version, v.max_version) for v in versions.api_keys}

    def _decoded(self, api: Api, version: int, frame: bytes, response_type: type[T]) -> T:
        correlation_id, body = _native.response_header(api, version, frame)
        if correlation_id != self._correlation_id:
            raise ProtocolError(
                f"{self._address} answered request {correlation_id}, "
                f"not {self._correlation_id}: the connection is out of step"
            )
        message = _native.decode("response", api, version, frame[body:])
        if not isinstance(message, response_type):
            raise TypeError(f"{api.name} is answered by {type(message).__name__}")
        return message

    def _write(self, api: Api, version: int, request: object) -> None:
        self._correlation_id += 1
        frame = _native.encode_request(api, version, self._correlation_id, self._client_id, request)
        self._socket.settimeout(self._timeout_s)
        self._socket.sendall(struct.pack(">i", len(frame)) + frame)

    def _exchange(self, api: Api, version: int, request: object) -> bytes:
        deadline = time.monotonic() + self._timeout_s
        try:
            self._write(api, version, request)
            (size,) = struct.unpack(">i", self._read(4, deadline))
            if not 4 <= size <= MAX_RESPONSE_BYTES:
                raise ProtocolError(
                    f"{self._address} does not speak Kafka's protocol without TLS: its answer "
                    f"begins with {struct.pack('>i', size)!r}; check the port"
                )
            return self._read(size, deadline)
        except TimeoutError as error:
            raise ConnectionFailed(
                f"{self._address} did not answer {api.name} within {self._timeout_s:g} s; "
                "--timeout SECONDS waits longer"
            ) from error
        except OSError as error:
            raise ConnectionFailed(f"{self._address}: {_reason(error)}") from error

    def _read(self, size: int, deadline: float) -> bytes:
        """Exactly `size` bytes; memory grows as they arrive, not as they are announced."""
        got = bytearray()
        while len(got) < size:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
            some = self._socket.recv(min(size - len(got), READ_BYTES))
            if not some:
                raise ConnectionFailed(
                    f"{self._address} closed the connection before it answered; "
                    "is it a plaintext Kafka listener?"
                )
            got += some
        return bytes(got)


class Cluster:
    """The brokers behind a bootstrap address; a connection to each that was needed.

    `bootstrap` may be several addresses, separated by commas: the first that answers is taken.
    """

    def __init__(self, bootstrap: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._first = self._open_any(
            [part for part in bootstrap.split(",") if part.strip()] or [bootstrap]
        )
        self._others: dict[int, Connection] = {}

    def _open_any(self, addresses: list[str]) -> Connection:
        for address in addresses[:-1]:
            try:
                return Connection.open(address.strip(), timeout_s=self._timeout_s)
            except ConnectionFailed:
                continue
        return Connection.open(addresses[-1].strip(), timeout_s=self._timeout_s)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        for connection in (self._first, *self._others.values()):
            connection.close()

    @property
    def timeout_s(self) -> float:
        """How long an answer is waited for."""
        return self._timeout_s

    @property
    def any(self) -> Connection:
        """The bootstrap connection: right for all that any broker answers."""
        return self._first

    def metadata(self, topics: list[str] | None) -> MetadataResponse:
        """Brokers and these topics, or all topics; none is created by asking."""
        wanted = None
        if topics is not None:
            wanted = [MetadataRequest.MetadataRequestTopic(name=name) for name in topics]
        request = MetadataRequest(topics=wanted, allow_auto_topic_creation=False)
        return self._first.call(Api.METADATA, request, MetadataResponse)

    def node(self, node_id: int, metadata: MetadataResponse) -> Connection:
        """The connection to one broker of `metadata`."""
        if len(metadata.brokers) == 1:
            return self._first  # also right where the advertised name does not resolve from here
        known = self._others.get(node_id)
        if known is not None:
            return known
        for broker in metadata.brokers:
            if broker.node_id == node_id:
                host = f"[{broker.host}]" if ":" in broker.host else broker.host
                made = Connection.open(f"{host}:{broker.port}", timeout_s=self._timeout_s)
                self._others[node_id] = made
                return made
        raise ConnectionFailed(f"broker {node_id} leads a partition but is not in the metadata")


def _reason(error: OSError) -> str:
    """What an OSError means, without its number."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (error.strerror or str(error)).lower()
