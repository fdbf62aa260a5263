"""A running `mqlog serve` under seeded requests of every API and version that it advertises.

`FUZZ_INPUTS` and `FUZZ_SEED` choose another run; the long one is ten million. What
became of each pair is printed (`pytest -s`).
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from mqlog import _native
from mqlog.connection import Api, Connection
from mqlog.protocol import request_class
from mqlog.protocol.metadata import MetadataRequest, MetadataResponse
from mqlog.testing import Broker

from .mutant import Mutant

SMOKE, LONG = 50_000, 10_000_000
#: ApiVersions, sent behind every frame: its answer tells that the frame is dealt with.
OUTCOMES = ("not answered", "answered", "several")
PROBE_ID = 0x7E577E57
PROBE = struct.pack(">ihhih", 10, 18, 0, PROBE_ID, -1)
#: A frame whose length says that more is to come waits for it; it is given up after this.
SILENCE_S = 0.1


def served(broker: Broker) -> list[tuple[int, int]]:
    """Every API and version that is advertised."""
    from mqlog.protocol.api_versions import ApiVersionsRequest

    frame = _native.encode_request(18, 0, 1, None, ApiVersionsRequest())
    with socket.create_connection((broker.host, broker.port)) as sock:
        sock.sendall(struct.pack(">i", len(frame)) + frame)
        answer = exactly(sock, struct.unpack(">i", exactly(sock, 4))[0])
    listed = _native.decode("response", 18, 0, answer[4:]).api_keys
    # Produce 0 to 2 are advertised and refused: there is nothing to encode.
    known = [(a, max(a.min_version, _native.versions(a.api_key)[0])) for a in listed]
    return [(a.api_key, v) for a, first in known for v in range(first, a.max_version + 1)]


def exactly(sock: socket.socket, size: int) -> bytes:
    """That many bytes; ConnectionError if the broker closes first."""
    data = b""
    while len(data) < size:
        more = sock.recv(min(1 << 16, size - len(data)))
        if not more:
            raise ConnectionError("closed")
        data += more
    return data


def rss_mib(pid: int) -> float:
    """Resident memory of a process."""
    line = next(x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmRSS" in x)
    return int(line.split()[1]) / 1024


class Bystander(threading.Thread):
    """A client that behaves, all the time."""

    def __init__(self, broker: Broker) -> None:
        super().__init__(daemon=True)
        self.broker = broker
        self.rounds = 0
        self.stop = threading.Event()
        self.error: Exception | None = None

    def run(self) -> None:
        """Asks for the metadata until it is told to stop."""
        try:
            with Connection.open(self.broker.bootstrap_servers) as connection:
                while not self.stop.wait(0.01):
                    connection.call(Api.METADATA, MetadataRequest(topics=[]), MetadataResponse)
                    self.rounds += 1
        except Exception as error:
            self.error = error


def exchange(sock: socket.socket, frame: bytes) -> str:
    """Sends a frame and a probe; says what came before the probe's answer."""
    with suppress(ConnectionError):
        sock.sendall(frame + PROBE)
    answers = 0
    try:
        while True:
            size, correlation = struct.unpack(">ii", exactly(sock, 8))
            exactly(sock, size - 4)
            if correlation == PROBE_ID:
                return OUTCOMES[min(answers, 2)]
            answers += 1
    except TimeoutError:
        return "waits"
    except ConnectionError:
        return "closed"


def fuzz(broker: Broker, inputs: int, seed: int) -> Counter[tuple[int, int, str]]:
    """Sends the inputs; what became of each, by API, version and outcome."""
    pairs = served(broker)
    topic_id = make_topic(broker)
    mutant = Mutant(seed, topic_id)
    outcomes: Counter[tuple[int, int, str]] = Counter()
    sock: socket.socket | None = None
    try:
        for number in range(inputs):
            key, version = pairs[number % len(pairs)]
            if sock is None:
                sock = socket.create_connection((broker.host, broker.port))
                sock.settimeout(SILENCE_S)
            outcome = exchange(sock, mutant.frame(key, version, number & 0xFFFFFF))
            outcomes[key, version, outcome] += 1
            if outcome in ("closed", "waits"):
                sock.close()
                sock = None
    finally:
        if sock is not None:
            sock.close()
    return outcomes


def make_topic(broker: Broker) -> bytes:
    """The topic `t` that the requests name; its id."""
    with Connection.open(broker.bootstrap_servers) as connection:
        wanted = MetadataRequest.MetadataRequestTopic(name="t")
        request = MetadataRequest(topics=[wanted], allow_auto_topic_creation=True)
        while True:
            answer = connection.call(Api.METADATA, request, MetadataResponse)
            if answer.topics[0].error_code == 0:
                return answer.topics[0].topic_id


def run(inputs: int, seed: int) -> None:
    """Fuzzes and checks what must hold afterwards."""
    print(f"{inputs} inputs, seed {seed}")
    with Broker(durability="os") as broker:
        bystander = Bystander(broker)
        bystander.start()
        fuzz(broker, 2_000, seed + 1)  # warm
        idle = rss_mib(broker.pid)
        outcomes = fuzz(broker, inputs, seed)
        grown = rss_mib(broker.pid) - idle
        bystander.stop.set()
        bystander.join(10)
        for key, version in dict.fromkeys((key, version) for key, version, _ in sorted(outcomes)):
            name = request_class(key).__name__.removesuffix("Request")
            row = {o: n for (k, v, o), n in sorted(outcomes.items()) if (k, v) == (key, version)}
            print(f"{name} {version}: {row}")
        print(f"total {Counter(o for *_, o in outcomes.elements())}, RSS {grown:+.1f} MiB")
        assert bystander.error is None
        assert bystander.rounds > 0
        assert broker.running
        assert "panicked" not in broker.log
        assert "decision refused" not in broker.log
        assert grown < 64, f"grew by {grown:.1f} MiB (seed {seed})"
        assert outcomes.total() == inputs


def test_a_smoke() -> None:
    run(int(os.environ.get("FUZZ_INPUTS", SMOKE)), int(os.environ.get("FUZZ_SEED", 1)))


@pytest.mark.slow
def test_ten_million() -> None:
    run(int(os.environ.get("FUZZ_INPUTS", LONG)), int(os.environ.get("FUZZ_SEED", 7)))
