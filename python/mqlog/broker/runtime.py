"""A running broker: the native engine, the control loop, and the world that decisions see."""

from __future__ import annotations

import os
import time
import traceback
import weakref
from collections.abc import Callable, Sequence

from mqlog import _native
from mqlog.broker.cluster import shown_directory
from mqlog.broker.control import Codec, Control
from mqlog.broker.journal import Journal
from mqlog.broker.listeners import Listener
from mqlog.broker.settings import Address, Given, Settings, advertised
from mqlog.broker.world import Partition, Producer, Segment, Shape, Topic

_POLL_EVENTS = 256


class _Image:
    """`world.Image` over a native snapshot."""

    __slots__ = ("_native",)

    def __init__(self, native: _native.Image) -> None:
        self._native = native

    def topic(self, name: str) -> Topic | None:
        return _topic(self._native.topic(name))

    def topic_by_id(self, topic_id: bytes) -> Topic | None:
        return _topic(self._native.topic_by_id(topic_id))

    def shape(self, name: str) -> Shape | None:
        found = self._native.shape(name)
        return None if found is None else Shape(*found)

    def shape_by_id(self, topic_id: bytes) -> Shape | None:
        found = self._native.shape_by_id(topic_id)
        return None if found is None else Shape(*found)

    def topic_names(self) -> list[str]:
        return self._native.topic_names()

    def configs(self, resource_type: int, name: str) -> dict[str, str]:
        return self._native.configs(resource_type, name)

    def config_resources(self) -> list[tuple[int, str]]:
        return self._native.config_resources()

    def next_producer_id(self) -> int:
        return self._native.next_producer_id()


def _topic(found: _native.TopicFacts | None) -> Topic | None:
    if found is None:
        return None
    topic_id, name, partitions = found
    return Topic(topic_id, name, [Partition(*partition) for partition in partitions])


class Runtime:
    """One broker in this process. `start`, then `run` on a thread of your choice, then `close`."""

    def __init__(
        self,
        settings: Settings,
        data_dir: str,
        listeners: Sequence[Listener],
        journal: Journal | None = None,
    ) -> None:
        """Nothing is opened yet."""
        self.data_dir = os.path.abspath(data_dir)
        # Clients are told where the data is and, once known, where the listeners are.
        place = Given(shown_directory(self), "data directory")
        self.settings = Settings({**settings.given, "log.dirs": place})
        self.node_id = settings.integer("node.id")
        self.cluster_id = ""
        self.addresses: list[Address] = []
        self.journal = journal or Journal()
        self._advertised = advertised(settings)
        self._stopping = False
        self.native = _native.Broker(
            data_dir=self.data_dir,
            listeners=[(one.name, one.host, one.port) for one in listeners],
            advertised=self._advertised,
            durability=settings.text("mqlog.durability"),
            io_threads=settings.integer("mqlog.io.threads"),
            settings=settings.raw(),
        )
        self._control = Control(self, Codec(_native.decode, _native.encode), self._report)

    def start(self) -> _native.StartFacts:
        """Recover the data directory and serve; StartError says what is in the way."""
        facts = self.native.start()
        self.cluster_id = facts["cluster_id"]
        self.addresses = [Address(host, port) for host, port in facts["addresses"]]
        bound = ",".join(f"PLAINTEXT://{address}" for address in self.addresses)
        self.settings.given["listeners"] = Given(bound, "listeners")
        _close_after_fork(self)
        return facts

    def run(self) -> int:
        """Decide until `stop`; return the exit code."""
        while not self._stopping:
            wait_s = self._control.next_timer_ms(self.native.mono_ms()) / 1e3
            events, horizon_ms = self.native.poll(_POLL_EVENTS, wait_s)
            effects = self._control.step(events, self.native.mono_ms(), horizon_ms)
            if effects:
                self.native.submit(effects)
            if self._control.offline and not self._may_stay():
                return os.EX_IOERR
        return os.EX_OK

    def _may_stay(self) -> bool:
        if not self.settings.boolean("mqlog.stay.on.io.error"):
            self.journal.error("data directory went offline, exiting", reason=self._control.offline)
            return False
        if self._control.offline:
            self.journal.error("data directory went offline", reason=self._control.offline)
            self._control.offline = None
        return True

    def stop(self) -> None:
        """Make `run` return soon; may be called on any thread."""
        self._stopping = True
        self.native.wake()

    def close(self) -> None:
        """Close the listeners, flush, mark the shutdown as clean."""
        self.native.shutdown()

    def _report(self, what: str, error: BaseException) -> None:
        where = traceback.extract_tb(error.__traceback__)[-1:]
        at = f"{where[0].filename}:{where[0].lineno}" if where else ""
        self.journal.warning(f"{what} refused, connection closed", error=repr(error), at=at)

    # -- the world that decisions see --------------------------------------------------------------

    def now_ms(self) -> int:
        """See `world.World`."""
        return time.time_ns() // 1_000_000

    def image(self) -> _Image:
        """See `world.World`."""
        return _Image(self.native.image())

    def metadata_end(self) -> int:
        """See `world.World`."""
        return self.native.metadata_end()

    def new_topic_id(self) -> bytes:
        """See `world.World`."""
        return os.urandom(16)

    def partition_size(self, topic_id: bytes, index: int) -> int | None:
        """See `world.World`."""
        return self.native.partition_size(topic_id, index)

    def segments(self, topic_id: bytes, index: int) -> list[Segment]:
        """See `world.World`."""
        return [Segment(*segment) for segment in self.native.segments(topic_id, index)]

    def producers(self, topic_id: bytes, index: int) -> list[Producer] | None:
        """See `world.World`."""
        found = self.native.producers(topic_id, index)
        return None if found is None else [Producer(*producer) for producer in found]

    def disk_space(self) -> tuple[int, int]:
        """See `world.World`."""
        space = os.statvfs(self.data_dir)
        return space.f_blocks * space.f_frsize, space.f_bavail * space.f_frsize

    def reachable_at(self, listener: str, local: tuple[str, int]) -> tuple[str, int]:
        """See `world.World`."""
        return self._advertised or local


_running: weakref.WeakSet[Runtime] = weakref.WeakSet()
_hook: Callable[[], None] | None = None


def _close_after_fork(runtime: Runtime) -> None:
    """Have a forked child close this broker's files and sockets: they would outlive the parent."""
    global _hook
    _running.add(runtime)
    if _hook is None:
        _hook = _close_inherited
        os.register_at_fork(after_in_child=_hook)


def _close_inherited() -> None:
    prefixes = tuple(f"{runtime.data_dir}/" for runtime in _running)
    ports = {address.port for runtime in _running for address in runtime.addresses}
    if not prefixes:
        return
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
            if target.startswith(prefixes) or _is_ours(int(name), target, ports):
                os.close(int(name))
        except OSError:
            continue  # the descriptor of the listing itself


def _is_ours(fd: int, target: str, ports: set[int]) -> bool:
    if not target.startswith("socket:"):
        return False
    import socket

    handle = socket.socket(fileno=os.dup(fd))
    try:
        name = handle.getsockname()
        return isinstance(name, tuple) and name[1] in ports
    finally:
        handle.close()
