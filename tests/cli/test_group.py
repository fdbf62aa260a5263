"""`mqlog group` against a running broker, with groups of an unmodified client."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from .command import Done, mqlog
from .serving import serving


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker whose groups begin at once."""
    settings = ("--set", "group.initial.rebalance.delay.ms=0")
    with serving(tmp_path_factory.mktemp("data"), *settings) as broker:
        yield broker.bootstrap


@pytest.fixture
def name() -> str:
    """A topic or group that no other test has."""
    return f"g-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def run(bootstrap: str) -> Any:
    """`run("list", ...)`: the command, sent to the broker."""

    def one(*arguments: object) -> Done:
        return mqlog("group", *arguments, env={"MQLOG_BOOTSTRAP": bootstrap})

    return one


@pytest.fixture
def topic(bootstrap: str, name: str) -> str:
    """A topic of 3 partitions with 10 records each, at 1000, 1001, ... ms."""
    made = mqlog("topic", "create", name, "-p", 3, env={"MQLOG_BOOTSTRAP": bootstrap})
    assert made.code == 0, made
    producer = Producer({"bootstrap.servers": bootstrap})
    for number in range(30):
        producer.produce(name, b"v", partition=number % 3, timestamp=1000 + number // 3)
    assert producer.flush(30) == 0
    return name


def committed(run: Any, group: str) -> dict[int, tuple[int | None, int | None]]:
    """Partition: what is committed, and the lag."""
    done = run("describe", group, "-o", "json")
    assert done.code == 0, done
    rows = done.json()[0]["partitions"]
    return {row["partition"]: (row["committed"], row["lag"]) for row in rows}


@pytest.fixture
def consumer(bootstrap: str, topic: str, name: str) -> Iterator[Consumer]:
    """The only member of group `name`, which has read and committed everything."""
    member = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": name,
            "client.id": "reader",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    member.subscribe([topic])
    read = 0
    while read < 30:
        read += len(member.consume(30, 1.0))
    member.commit(asynchronous=False)
    yield member
    member.close()


def test_a_group_with_a_member(run: Any, name: str, consumer: Consumer) -> None:
    row = {"group": name, "state": "Stable", "protocol_type": "consumer", "type": "classic"}
    assert row in run("list", "-o", "json").json()
    assert row not in run("list", "--state", "Empty", "-o", "json").json()
    (found,) = run("describe", name, "-o", "json").json()
    assert (found["state"], found["members"], found["lag"]) == ("Stable", 1, 0)
    assert {row["client"] for row in found["partitions"]} == {"reader"}
    assert {row["host"] for row in found["partitions"]} == {"127.0.0.1"}
    (member,) = run("describe", name, "--members", "-o", "json").json()[0]["rows"]
    assert (member["partitions"], member["assigned"]) == (3, [f"{name}:0,1,2"])
    table = run("describe", name)
    assert table.out.startswith(f"group {name}, stable, range, 1 member, lag 0\n")
    for refused in (
        run("seek", name, "--to", "start", "--all-topics"),
        run("delete", name, "--yes"),
        run("delete", name, "--topic", name, "--yes"),
    ):
        assert refused.code == 1
        assert "stop" in refused.err
    dry = run("seek", name, "--to", "start", "--all-topics", "--dry-run")
    assert (dry.code, "nothing was changed" in dry.out) == (0, True)
    assert committed(run, name) == dict.fromkeys(range(3), (10, 0))


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        ("start", 0),
        ("end", 10),
        ("7", 7),
        ("+2", 6),
        ("-3", 1),
        ("-9", 0),
        ("99", 10),
        ("@1004", 4),
        ("@1970-01-01T00:00:01.006+00:00", 6),
        ("@2999-01-01", 10),
    ],
)
def test_seek(run: Any, topic: str, to: str, expected: int) -> None:
    assert run("seek", topic, "--to", "4", "--topic", topic).code == 0
    done = run("seek", topic, "--to", to, "--topic", f"{topic}:0,2", "-o", "json")
    assert done.code == 0, done
    assert [row["after"] for row in done.json()] == [expected, expected]
    assert {row["before"] for row in done.json()} == {4}
    assert ("is taken" in done.err) == (to in ("-9", "99"))
    assert {i: at for i, (at, _) in committed(run, topic).items()} == {
        0: expected,
        1: 4,
        2: expected,
    }


def test_seek_by_file(run: Any, topic: str, tmp_path: Path) -> None:
    file = tmp_path / "offsets"
    row = f'{{"topic": "{topic}", "partition": 2, "offset": 6}}'
    file.write_text(f'"{topic}",0,3\n{row}\nno-such-topic,0,1\n')
    done = run("seek", topic, "--to", file)
    assert done.code == 0, done
    assert "skipped partition 0 of no-such-topic" in done.err
    assert committed(run, topic) == {0: (3, 7), 2: (6, 4)}
    file.write_text(f"{topic},0,3\n{topic},zero,1\n")
    done = run("seek", topic, "--to", file)
    assert done.code == 2
    assert f"{file}:2: " in done.err


def test_a_client_goes_on_where_it_was_put(run: Any, topic: str, bootstrap: str) -> None:
    assert run("seek", topic, "--to", "8", "--topic", topic).code == 0
    client = Consumer({"bootstrap.servers": bootstrap, "group.id": topic})
    asked = [TopicPartition(topic, index) for index in range(3)]
    assert [one.offset for one in client.committed(asked, timeout=10)] == [8, 8, 8]
    client.close()


def test_delete(run: Any, topic: str) -> None:
    assert run("seek", topic, "--to", "end", "--topic", topic).code == 0
    assert run("delete", topic, "--topic", f"{topic}:1", "--yes").code == 0
    assert set(committed(run, topic)) == {0, 2}
    done = run("delete", topic, "nobody", "--yes")
    assert (done.code, done.out) == (1, f"deleted {topic}\n")
    assert "GROUP_ID_NOT_FOUND" in done.err
    gone = run("describe", topic)
    assert (gone.code, "mqlog group list" in gone.err) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["describe"], "name groups, or ask for --all"),
        (["describe", "g", "--all"], "name groups, or ask for --all"),
        (["seek", "g", "--to", "end"], "which partitions?"),
        (["seek", "g", "--to", "nonsense", "--all-topics"], "nor a file"),
        (["seek", "g", "--to", "@yesterday", "--all-topics"], "is no time"),
        (["delete", "g"], "add --yes"),
    ],
)
def test_wrong_usage(run: Any, arguments: list[str], says: str) -> None:
    done = run(*arguments)
    assert done.code == 2
    assert says in done.err
