"""A TCP proxy that fails on purpose, for any broker that advertises the proxy's address.

    with Proxy(seed=7) as proxy:                        # its port is known before the broker's
        with Broker(config={"advertised.listeners": f"PLAINTEXT://{proxy.address}"}) as broker:
            proxy.forward_to(broker.host, broker.port)
            proxy.cut()                                 # every connection, now

One thread a direction. `Fault` objects say what happens to the bytes that go one way.
"""

from __future__ import annotations

import random
import re
import socket
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass

CHUNK = 1 << 16
TICK_S = 0.05


@dataclass
class Fault:
    """What happens to bytes, in both directions unless `only` is `up` (to the broker) or `down`."""

    only: str = ""
    delay_s: float = 0.0
    bytes_per_s: float = 0.0
    """0: as fast as they come."""
    swallow: bool = False
    """A black hole: read and thrown away; the connection stays."""
    freeze: bool = False
    """Half open: not even read."""
    corrupt: float = 0.0
    """The chance that a chunk has one bit flipped, anywhere: also where nothing can notice it."""
    spoil: re.Pattern[bytes] | None = None
    """One bit of the first match in a chunk is flipped: where the caller knows it is noticed."""
    oversize: float = 0.0
    """The chance that a chunk's first bit is flipped: a frame's length is negative then."""
    cut_after: int = -1
    """Bytes after which the connection is cut; -1 never."""
    reset: bool = False
    """A cut is a RST instead of a FIN."""


class _Pair:
    """One client connection and its other half."""

    def __init__(self, proxy: Proxy, client: socket.socket, broker: socket.socket) -> None:
        self.proxy = proxy
        self.client, self.broker = client, broker
        self.passed = 0
        self._threads = [
            threading.Thread(target=self._run, args=one, daemon=True, name="proxy-pipe")
            for one in ((client, broker, "up"), (broker, client, "down"))
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, source: socket.socket, target: socket.socket, way: str) -> None:
        proxy = self.proxy
        try:
            source.settimeout(TICK_S)
            while proxy.running:
                fault = proxy.fault
                active = fault if fault.only in ("", way) else Fault()
                if active.freeze:
                    time.sleep(TICK_S)
                    continue
                try:
                    data = source.recv(CHUNK)
                except TimeoutError:
                    continue
                if not data:
                    break
                if not self._pass(active, target, data):
                    break
        except OSError:
            pass
        self.close(reset=proxy.fault.reset)

    def _pass(self, fault: Fault, target: socket.socket, data: bytes) -> bool:
        proxy = self.proxy
        if fault.delay_s:
            time.sleep(fault.delay_s)
        if fault.bytes_per_s:
            time.sleep(min(len(data) / fault.bytes_per_s, 5))
        if fault.swallow:
            return True
        if fault.corrupt and proxy.random.random() < fault.corrupt:
            data = self._flip(data, proxy.random.randrange(len(data)))
        found = fault.spoil.search(data) if fault.spoil is not None else None
        if found is not None and found.end() > found.start():
            data = self._flip(data, proxy.random.randrange(*found.span()))
        if proxy.random.random() < fault.oversize:
            data = bytes([data[0] ^ 0x80]) + data[1:]
        if 0 <= fault.cut_after < self.passed + len(data):
            target.sendall(data[: max(0, fault.cut_after - self.passed)])
            return False
        target.sendall(data)
        self.passed += len(data)
        return True

    def _flip(self, data: bytes, at: int) -> bytes:
        self.proxy.corrupted += 1
        out = bytearray(data)
        out[at] ^= 1 << self.proxy.random.randrange(8)
        return bytes(out)

    def close(self, *, reset: bool = False) -> None:
        """Close both halves."""
        for one in (self.client, self.broker):
            if reset:
                with suppress(OSError):
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            with suppress(OSError):
                one.close()

    @property
    def alive(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(5)


class Proxy:
    """Listens on a port of 127.0.0.1; `seed` decides what chance decides."""

    def __init__(self, *, seed: int = 0) -> None:
        self.random = random.Random(seed)
        self.fault = Fault()
        self.running = True
        self.corrupted = 0
        self._target: tuple[str, int] | None = None
        self._pairs: list[_Pair] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host, self.port = self._listener.getsockname()[:2]
        self._refusing = False
        self._thread = threading.Thread(target=self._accept, daemon=True, name="proxy-accept")
        self._thread.start()

    @property
    def address(self) -> str:
        """HOST:PORT for clients."""
        return f"{self.host}:{self.port}"

    def forward_to(self, host: str, port: int) -> None:
        """Where connections made from now on go."""
        self._target = (host, port)

    def _accept(self) -> None:
        while self.running:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._refusing or self._target is None:
                client.close()
                continue
            try:
                broker = socket.create_connection(self._target, timeout=2)
            except OSError:
                client.close()
                continue
            for one in (client, broker):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._pairs = [one for one in self._pairs if one.alive]
                self._pairs.append(_Pair(self, client, broker))

    def refuse(self, on: bool = True) -> None:
        """Close each new connection at once, or stop doing so."""
        self._refusing = on

    def cut(self, *, reset: bool = False) -> None:
        """Cut every connection."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            pair.close(reset=reset)

    def set(self, **fault: object) -> None:
        """Have these things happen from now on: the fields of `Fault`; none: all is well."""
        self.fault = Fault(**fault)  # type: ignore[arg-type]

    def heal(self) -> None:
        """Pass everything on again. Connections that lost bytes are cut: they cannot go on."""
        fault = self.fault
        damaged = fault.swallow or fault.corrupt or fault.spoil or fault.oversize
        self.fault = Fault()
        self._refusing = False
        if damaged:
            self.cut()

    def close(self) -> None:
        """Cut all and stop listening."""
        self.running = False
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            pair.close()
            pair.join()
        self._thread.join(5)

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
