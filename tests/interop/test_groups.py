"""Consumer groups of every client: two members share a topic, and go on after a SIGKILL."""

from __future__ import annotations

import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Producer

from .programs import franz_go, java, kafkajs, kcat, python
from .records import mqlog

PARTITIONS, COUNT, PATIENCE_S = 4, 100, 40
Place = tuple[int, int]


@pytest.fixture(scope="module")
def broker() -> Iterator[Any]:
    """A broker of our own: it is killed."""
    from mqlog.testing import Broker

    with Broker(config={"group.initial.rebalance.delay.ms": 500}) as one:
        yield one


CASES = [
    *(
        pytest.param(
            "confluent-kafka", lambda: python("confluent"), mode, id=f"confluent-kafka-{mode}"
        )
        for mode in ("eager", "cooperative", "static")
    ),
    *(
        pytest.param(
            "kafka-python", lambda: python("kafka_python"), mode, id=f"kafka-python-{mode}"
        )
        for mode in ("eager", "static")
    ),
    *(
        pytest.param("aiokafka", lambda: python("aiokafka"), mode, id=f"aiokafka-{mode}")
        for mode in ("eager", "static")
    ),
    *(
        pytest.param("kcat", kcat, mode, id=f"kcat-{mode}", marks=pytest.mark.interop)
        for mode in ("eager", "cooperative", "static")
    ),
    pytest.param(
        "KafkaJS", lambda: kafkajs("member"), "eager", id="kafkajs-eager", marks=pytest.mark.interop
    ),
    *(
        pytest.param(
            "Java", lambda: java("Member"), mode, id=f"java-{mode}", marks=pytest.mark.interop
        )
        for mode in ("eager", "cooperative", "static")
    ),
    *(
        pytest.param(
            "franz-go",
            lambda: franz_go("member"),
            mode,
            id=f"franz-go-{mode}",
            marks=pytest.mark.interop,
        )
        for mode in ("eager", "cooperative", "static")
    ),
]


class Member:
    """A client in a process of its own, and what it has read."""

    #: Those that nobody has closed.
    living: list[Member] = []

    def __init__(self, program: list[str], *arguments: str) -> None:
        self.living.append(self)
        self.read: list[Place] = []
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the member
        self.process = subprocess.Popen(
            [*program, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
        )
        self._reader = threading.Thread(target=self._follow, daemon=True)
        self._reader.start()

    def _follow(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                partition, offset = line.split()
                self.read.append((int(partition), int(offset)))

    def said(self) -> str:
        """The end of what it wrote to standard error."""
        self._said.seek(0)
        return self._said.read()[-6000:].decode(errors="replace")

    def close(self) -> None:
        """Let it leave its group."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            code = self.process.wait(PATIENCE_S)
        finally:
            said = self.end()
        assert code == 0, said

    def end(self) -> str:
        """Whatever becomes of it: its process and its files go; what it said."""
        self.living.remove(self)
        assert self.process.stdin is not None
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self._reader.join()
        said = self.said()
        self._said.close()
        return said


@pytest.fixture(autouse=True)
def none_is_left() -> Iterator[None]:
    """A test that fails leaves its members; the next ones are not to hear of them."""
    yield
    for member in list(Member.living):
        member.end()


def until(what: str, done: Callable[[], bool], *members: Member) -> None:
    end = time.monotonic() + PATIENCE_S
    while not done():
        for member in members:
            assert member.process.poll() is None, member.said()
        assert time.monotonic() < end, (what, [len(member.read) for member in members])
        time.sleep(0.05)


def members_of(bootstrap: str, group: str) -> int:
    """How many members share a settled group."""
    (found,) = mqlog("group", "describe", group, "--bootstrap", bootstrap)
    return int(str(found["members"])) if found["state"] == "Stable" else 0


def produce(bootstrap: str, topic: str, count: int) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "log_level": 0})
    for number in range(count):
        producer.produce(topic, b"v", partition=number % PARTITIONS)
    assert producer.flush(30) == 0


@pytest.mark.parametrize(("client", "program", "mode"), CASES)
def test_a_group(broker: Any, client: str, program: Any, mode: str) -> None:
    bootstrap, words = broker.bootstrap_servers, program()
    topic = f"group-{client}-{mode}".lower()
    mqlog("topic", "create", topic, "--partitions", str(PARTITIONS), "--bootstrap", bootstrap)
    produce(bootstrap, topic, COUNT)
    where = (bootstrap, topic, topic, mode)
    first = Member(words, *where)
    until("all is read", lambda: len(first.read) == COUNT, first)
    assert sorted(first.read) == [(p, o) for p in range(4) for o in range(COUNT // PARTITIONS)]

    if mode != "static":
        second = Member(words, *where)
        until("both share", lambda: members_of(bootstrap, topic) == 2, first)
        produce(bootstrap, topic, COUNT)
        new = lambda: {*first.read, *second.read}  # noqa: E731
        until("the new is read", lambda: len(new()) == 2 * COUNT, first, second)
        assert second.read, "it has its share"
        second.close()
        total = 2 * COUNT
    else:
        # It comes back under the same name, within its session: nobody else is there to notice.
        first.close()
        first = Member(words, *where)
        produce(bootstrap, topic, COUNT)
        until("only the new is read", lambda: len(first.read) >= COUNT, first)
        assert min(offset for _, offset in first.read) == COUNT // PARTITIONS
        total = 2 * COUNT

    broker.kill()
    broker.restart()
    produce(bootstrap, topic, 8)
    until("it goes on", lambda: sum(o >= total // PARTITIONS for _, o in first.read) == 8, first)
    first.close()
    again = Member(words, *where)
    produce(bootstrap, topic, 4)
    until("it resumes", lambda: len(again.read) >= 4, again)
    again.close()
    assert min(offset for _, offset in again.read) == total // PARTITIONS + 2, "from the commit"
