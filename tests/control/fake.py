"""A world made of dictionaries, and a broker whose disk does what the test says."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from mqlog import _native
from mqlog._records import iter_batches
from mqlog.broker.control import Codec, Control
from mqlog.broker.settings import Given, Settings
from mqlog.broker.world import Partition, Producer, Segment, Shape, Topic

PEER, LOCAL = ("192.0.2.7", 40_000), ("127.0.0.1", 9092)
CODEC = Codec(_native.decode, _native.encode)


def _text(data: bytes, at: int) -> tuple[str, int]:
    """A string with its length before it, and where it ends."""
    end = at + 2 + int.from_bytes(data[at : at + 2], "big")
    return data[at + 2 : end].decode(), end


def _shape(topic: Topic | None) -> Shape | None:
    return None if topic is None else Shape(topic.topic_id, topic.name, len(topic.partitions))


class Image:
    """Metadata that never changes: `applied` gives the next one."""

    def __init__(
        self,
        topics: Mapping[bytes, Topic] | None = None,
        configs: Mapping[tuple[int, str], dict[str, str]] | None = None,
        next_id: int = 0,
    ) -> None:
        self.topics = dict(topics or {})
        self._configs = dict(configs or {})
        self._next_id = next_id

    def topic(self, name: str) -> Topic | None:
        return next((topic for topic in self.topics.values() if topic.name == name), None)

    def topic_by_id(self, topic_id: bytes) -> Topic | None:
        return self.topics.get(topic_id)

    def shape(self, name: str) -> Shape | None:
        return _shape(self.topic(name))

    def shape_by_id(self, topic_id: bytes) -> Shape | None:
        return _shape(self.topic_by_id(topic_id))

    def topic_names(self) -> list[str]:
        return sorted(topic.name for topic in self.topics.values())

    def configs(self, resource_type: int, name: str) -> dict[str, str]:
        return dict(self._configs.get((resource_type, name), {}))

    def config_resources(self) -> list[tuple[int, str]]:
        return sorted(key for key, values in self._configs.items() if values)

    def next_producer_id(self) -> int:
        return self._next_id

    def applied(self, records: Sequence[tuple[Any, ...]]) -> Image:
        """The image after these records; fails on one that makes no sense here."""
        new = Image(self.topics, self._configs, self._next_id)
        for record in records:
            new._apply(record)
        return new

    def _apply(self, record: tuple[Any, ...]) -> None:
        match record:
            case ("topic", bytes(topic_id), str(name)):
                assert topic_id not in self.topics
                assert self.topic(name) is None, f"{name} is there already"
                self.topics[topic_id] = Topic(topic_id, name, [])
            case ("partition", topic_id, index, leader, epoch, replicas, isr):
                topic = self.topics[topic_id]
                assert index == len(topic.partitions), "partitions come one after the other"
                made = [*topic.partitions, Partition(leader, epoch, replicas, isr)]
                self.topics[topic_id] = topic._replace(partitions=made)
            case ("remove_topic", topic_id):
                gone = self.topics.pop(topic_id)
                self._configs.pop((2, gone.name), None)
            case ("config", kind, name, key, value):
                values = self.configs(kind, name)
                values.pop(key, None)
                if value is not None:
                    values[key] = value
                self._configs[kind, name] = values
            case ("producer_ids", next_id):
                assert next_id > self._next_id, "ids only go up"
                self._next_id = next_id
            case _:
                raise AssertionError(f"no such record: {record}")


class World:
    """What decisions may look at; tests set the fields."""

    node_id = 1
    cluster_id = "cluster"
    data_dir = "/data"

    def __init__(self, **given: str) -> None:
        """`given` are static settings; `_` in a name stands for `.`."""
        texts = {name.replace("_", "."): Given(value, "test") for name, value in given.items()}
        self.settings = Settings(texts)
        self.held = Image()
        self.wall_ms = 1_700_000_000_000
        self.logs: dict[tuple[bytes, int], list[Segment]] = {}
        self._ids = itertools.count(1)

    def now_ms(self) -> int:
        return self.wall_ms

    def image(self) -> Image:
        return self.held

    def metadata_end(self) -> int:
        return 0

    def new_topic_id(self) -> bytes:
        return next(self._ids).to_bytes(8, "big") * 2

    def partition_size(self, topic_id: bytes, index: int) -> int | None:
        return sum(segment.size for segment in self.segments(topic_id, index))

    def segments(self, topic_id: bytes, index: int) -> list[Segment]:
        return self.logs.get((topic_id, index), [])

    def producers(self, topic_id: bytes, index: int) -> list[Producer] | None:
        return [] if topic_id in self.held.topics else None

    def disk_space(self) -> tuple[int, int]:
        return 1000, 400

    def reachable_at(self, listener: str, local: tuple[str, int]) -> tuple[str, int]:
        return local

    def add_topic(self, name: str, partitions: int = 1, **configs: str) -> bytes:
        """Put a topic into the image; `_` in a config's name stands for `.`."""
        topic_id = self.new_topic_id()
        records: list[tuple[Any, ...]] = [("topic", topic_id, name)]
        records += [("partition", topic_id, i, 1, 0, [1], [1]) for i in range(partitions)]
        records += [("config", 2, name, k.replace("_", "."), v) for k, v in configs.items()]
        self.held = self.held.applied(records)
        return topic_id


class Broker:
    """The control plane between requests and a disk; the test says when the disk is done."""

    def __init__(self, world: World | None = None) -> None:
        self.world = world or World()
        self.errors: list[tuple[str, BaseException]] = []
        self.control = Control(self.world, CODEC, lambda what, why: self.errors.append((what, why)))
        self.now_ms = 0
        #: Timers fire up to here; `None`: up to now.
        self.horizon_ms: int | None = None
        self.asked: dict[int, tuple[int, int]] = {}
        self.answers: dict[int, Any] = {}
        #: The image as it was when each answer was given.
        self.images: dict[int, Image] = {}
        self.proposals: dict[int, list[tuple[Any, ...]]] = {}
        self.files: dict[int, list[tuple[Any, ...]]] = {}
        #: Records of each partition that the coordinator writes to; the next append of one in
        #: `full` fails.
        self.logs: dict[tuple[bytes, int], list[tuple[bytes, bytes | None]]] = {}
        self.full: set[tuple[bytes, int]] = set()
        self.appends = self.trims = 0
        self._broken: set[tuple[bytes, int]] = set()
        self._marks: dict[tuple[bytes, int], int] = {}
        self._events: list[tuple[Any, ...]] = []
        self._tokens = itertools.count(1)

    def send(self, api_key: int, version: int, message: object, client: str = "test") -> int:
        """A request arrives; its token."""
        body = _native.encode("request", api_key, version, message)
        return self.send_bytes(api_key, version, body, client)

    def send_bytes(self, api_key: int, version: int, body: bytes, client: str = "test") -> int:
        """The same with the bytes of its body."""
        token = next(self._tokens)
        self.asked[token] = (api_key, version)
        self._events.append(
            ("request", token, api_key, version, client, body, PEER, LOCAL, "PLAINTEXT", 0)
        )
        return token

    def step(self) -> list[tuple[Any, ...]]:
        """Step once with what has happened; the effects, which are noted as well."""
        events, self._events = self._events, []
        effects = self.control.step(events, self.now_ms, self.horizon_ms)
        for effect in effects:
            match effect:
                case ("propose", number, records):
                    assert records
                    assert number not in self.proposals
                    self.proposals[number] = records
                case ("files", number, operations):
                    assert operations
                    assert number not in self.files
                    self.files[number] = operations
                case ("reply" | "reply_metadata" | "close", token, *body):
                    assert token not in self.answers, f"{self.asked[token]} is answered twice"
                    self.answers[token] = self._answer(token, effect[0], body)
                    self.images[token] = self.world.held
                case _:
                    self._groups_effect(effect)
        return effects

    def _groups_effect(self, effect: tuple[Any, ...]) -> None:
        match effect:
            case ("append", topic_id, index, batch):
                self._append((topic_id, index), batch)
            case ("reply_after", token, body, topic_id, indexes):
                assert token not in self.answers, f"{self.asked[token]} is answered twice"
                broken = any((topic_id, index) in self._broken for index in indexes)
                kind = "close" if broken else "reply"
                self.answers[token] = self._answer(token, kind, [body])
            case ("load", number, topic_id, index):
                self._broken.discard((topic_id, index))
                self._events.append(("loaded", number, None, *self._replay((topic_id, index))))
            case ("mark", topic_id, index):
                self._marks[topic_id, index] = len(self.logs.get((topic_id, index), []))
            case ("trim", number, topic_id, index):
                at = (topic_id, index)
                del self.logs[at][: self._marks.pop(at)]
                self.trims += 1
                self._events.append(("trimmed", number, None))
            case _:
                raise AssertionError(f"no such effect: {effect}")

    def _append(self, at: tuple[bytes, int], batch: bytes) -> None:
        if at in self._broken:
            return
        if at in self.full:
            self.full.discard(at)
            self._broken.add(at)
            self._events.append(("append_failed", *at, "no space left"))
            return
        self.appends += 1
        for read in iter_batches(batch):
            assert read.crc_is_valid
            self.logs.setdefault(at, []).extend((one.key, one.value) for one in read.records())

    def _replay(self, at: tuple[bytes, int]) -> tuple[list[Any], list[Any], int]:
        """What the engine finds in a log: the last value of each key."""
        last = dict(self.logs.get(at, []))
        offsets, groups = [], []
        for key, value in last.items():
            if value is None:
                continue
            if key[:2] == b"\x00\x02":
                groups.append((_text(key, 2)[0], value))
            else:
                group, end = _text(key, 2)
                topic, end = _text(key, end)
                offsets.append((group, topic, int.from_bytes(key[end:], "big"), value))
        size = sum(len(key) + len(value or b"") + 80 for key, value in self.logs.get(at, []))
        return offsets, groups, size

    def restart(self, *, settle: bool = True) -> None:
        """The process dies and comes back with what is in its logs, read if it is to `settle`."""
        self.control = Control(self.world, CODEC, lambda what, why: self.errors.append((what, why)))
        self._events, self._broken, self._marks = [], set(), {}
        self.proposals, self.files = {}, {}
        if settle:
            self.finish()

    def _answer(self, token: int, kind: str, body: list[bytes]) -> Any:
        if kind != "reply":
            return kind
        api_key, version = self.asked[token]
        return _native.decode("response", api_key, version, body[0])

    def propose_done(self, number: int, error: str | None = None) -> None:
        """The metadata log has the records of a proposal, or refuses them."""
        records = self.proposals.pop(number)
        if error is None:
            self.world.held = self.world.held.applied(records)
        self._events.append(("proposed", number, error))

    def files_done(self, number: int, results: list[tuple[int, int, str | None]]) -> None:
        """File operations are done."""
        assert len(results) == len(self.files.pop(number))
        self._events.append(("files_done", number, results))

    def finish(self, steps: int = 0) -> None:
        """Let everything happen, without failures, in at most so many steps or 3 a request."""
        steps = max(steps, 20 + 3 * (len(self.asked) - len(self.answers)))
        for _ in range(steps):
            self.step()
            for number in list(self.proposals):
                self.propose_done(number)
            for number, operations in list(self.files.items()):
                self.files_done(number, [(0, 0, None)] * len(operations))
            if not self._events and not self.control.busy:
                return
        raise AssertionError(f"still busy after {steps} steps")

    def call(self, api_key: int, version: int, message: object) -> Any:
        """Send, let everything happen, return the response (or how else it was answered)."""
        token = self.send(api_key, version, message)
        self.finish()
        return self.answers[token]
