"""`mqlog topic` against a running broker."""

from __future__ import annotations

import os
import socket
import threading
import uuid
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from .command import Done, mqlog
from .terminal import Terminal


@pytest.fixture
def name() -> str:
    """A topic that no other test has."""
    return f"t-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def topic(bootstrap: str) -> Any:
    """`topic(command, ...)`, sent to the broker."""

    def run(command: str, *arguments: object) -> Done:
        return mqlog("topic", command, *arguments, env={"MQLOG_BOOTSTRAP": bootstrap})

    return run


def described(topic: Any, name: str, *options: str) -> Any:
    done = topic("describe", name, "-o", "json", *options)
    assert done.code == 0, done
    return done.json()[0]


def produce(bootstrap: str, name: str, count: int) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "compression.type": "zstd"})
    for number in range(count):
        producer.produce(name, f"value {number}".encode(), partition=0)
    assert producer.flush(30) == 0


def test_create_list_describe_delete(topic: Any, name: str) -> None:
    made = topic("create", name, "-p", 2, "--set", "retention.ms=3600000", "-o", "json")
    assert made.code == 0, made
    topic_id = made.json()[0]["topic_id"]
    assert {"name": name, "partitions": 2, "replicas": 1, "topic_id": topic_id} in topic(
        "list", "-o", "json"
    ).json()
    shown = described(topic, name)
    # A Kafka tells what is set for its cluster too.
    mine = [row for row in shown["settings"] if row["set_by"] == "topic"]
    assert mine == [{"setting": "retention.ms", "value": "3600000", "set_by": "topic"}]
    assert [p["partition"] for p in shown["partitions"]] == [0, 1]
    for partition in shown["partitions"]:
        assert (partition["start_offset"], partition["end_offset"]) == (0, 0)
        assert os.path.isdir(partition["directory"])
    assert topic("delete", name, "--yes").out == f"deleted {name}\n"
    assert name not in topic("list").out


@pytest.mark.ours
def test_describe_is_a_table_for_people(topic: Any, name: str) -> None:
    topic("create", name)
    lines = topic("describe", name).out.splitlines()
    assert lines[0].startswith(f"topic {name}, id ")
    assert lines[2].split()[:2] == ["PARTITION", "LEADER"]
    assert lines[3].split()[:3] == ["0", "1", "0"]
    assert lines[-1] == "all settings are at their default (--all shows them)"


@pytest.mark.ours
def test_describe_says_that_compacted_topics_are_not_cleaned(topic: Any, name: str) -> None:
    topic("create", name, "--set", "cleanup.policy=delete,compact")
    last = topic("describe", name).out.splitlines()[-1]
    assert last.startswith("cleanup.policy=compact: records need keys.")
    assert last.endswith("mqlog does not clean yet.")
    assert topic("alter", name, "--unset", "cleanup.policy").code == 0
    assert "clean" not in topic("describe", name).out


def test_describe_all_has_every_setting_with_its_source(topic: Any, name: str) -> None:
    topic("create", name)
    settings = {row["setting"]: row for row in described(topic, name, "--all")["settings"]}
    assert settings["retention.ms"]["value"] == "604800000"
    assert settings["retention.ms"]["set_by"] == "default"
    assert len(settings) > 20


def test_alter(topic: Any, name: str) -> None:
    topic("create", name, "--set", "retention.ms=1000")
    done = topic("alter", name, "--set", "segment.bytes=2000000", "--partitions", 3)
    assert (done.code, done.out) == (0, f"altered topic {name}\n")
    assert topic("alter", name, "--unset", "retention.ms").code == 0
    shown = described(topic, name)
    assert len(shown["partitions"]) == 3
    mine = [row for row in shown["settings"] if row["set_by"] == "topic"]
    assert [(row["setting"], row["value"]) for row in mine] == [("segment.bytes", "2000000")]


def test_alter_refuses_what_a_topic_does_not_have(topic: Any, name: str) -> None:
    topic("create", name, "-p", 2)
    done = topic("alter", name, "--set", "retention.mz=1")
    assert done.code == 1
    assert done.err == (
        f"mqlog: cannot alter topic '{name}': Unknown topic config name: retention.mz "
        "(INVALID_CONFIG); did you mean retention.ms?\n"
    )
    done = topic("alter", name, "--unset", "retention.mz")
    assert done.code == 2
    assert done.err == (
        f"mqlog: cannot alter topic '{name}': it has no setting 'retention.mz'; "
        "did you mean retention.ms?\n"
    )
    done = topic("alter", name, "-p", 1)
    assert done.code == 1
    assert done.err == (
        f"mqlog: cannot give topic '{name}' 1 partitions: The topic {name} currently has "
        "2 partition(s); 1 would not be an increase. (INVALID_PARTITIONS)\n"
    )


@pytest.mark.parametrize(
    "command",
    [
        ["describe"],
        ["delete", "--yes"],
        ["trim", "--before", "end", "--yes"],
        ["alter", "--partitions", "2"],
        ["alter", "--set", "retention.ms=1"],
    ],
    ids=" ".join,
)
def test_a_name_that_is_almost_right(topic: Any, name: str, command: list[str]) -> None:
    topic("create", name)
    done = topic(command[0], name[:-1], *command[1:])
    assert done.code == 1
    assert done.err.endswith(f"(UNKNOWN_TOPIC_OR_PARTITION); did you mean {name!r}?\n")
    assert name[:-1] not in topic("list").out.split()  # asking creates nothing


def test_delete_says_what_it_did_before_it_says_what_it_could_not(topic: Any, name: str) -> None:
    topic("create", f"{name}-1")
    topic("create", f"{name}-2")
    done = topic("delete", f"{name}-1", "nowhere", f"{name}-2", "--yes")
    assert (done.code, done.out) == (1, f"deleted {name}-1, {name}-2\n")
    assert done.err.startswith("mqlog: cannot delete topic 'nowhere': ")


def test_trim(topic: Any, name: str, bootstrap: str) -> None:
    topic("create", name)
    produce(bootstrap, name, 10)
    assert topic("trim", name, "--before", 4, "-y", "-o", "json").json() == [
        {"partition": 0, "start_offset": 4}
    ]
    (partition,) = described(topic, name)["partitions"]
    assert (partition["start_offset"], partition["end_offset"]) == (4, 10)
    assert partition["bytes"] > 0
    done = topic("trim", name, "--before", 11, "-y")
    assert done.code == 1
    assert f"cannot trim partition 0 of topic '{name}' to 11" in done.err
    assert "OFFSET_OUT_OF_RANGE" in done.err
    assert topic("trim", name, "--before", "end", "-y", "-o", "json").json() == [
        {"partition": 0, "start_offset": 10}
    ]


def test_log_verify_reads_what_the_broker_wrote(topic: Any, name: str, bootstrap: str) -> None:
    topic("create", name)
    produce(bootstrap, name, 1000)
    (partition,) = described(topic, name)["partitions"]
    done = mqlog("log", "verify", partition["directory"], "--records")
    assert done.code == 0
    assert done.out.startswith("1 segment, ")
    assert done.out.endswith(", 1,000 records: sound\n")


def test_create_again(topic: Any, name: str) -> None:
    topic("create", name, "-p", 2)
    done = topic("create", name)
    assert done.code == 1
    assert done.err == (
        f"mqlog: cannot create topic '{name}': Topic '{name}' already exists. "
        "(TOPIC_ALREADY_EXISTS); --if-not-exists accepts that, `mqlog topic alter` changes it\n"
    )
    done = topic("create", name, "--if-not-exists", "-o", "json")
    assert (done.code, done.json()[0]["partitions"]) == (0, 2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["describe", "none"], "UNKNOWN_TOPIC_OR_PARTITION); `mqlog topic list` shows those"),
        (["delete", "none", "--yes"], "UNKNOWN_TOPIC_OR_PARTITION); `mqlog topic list` shows"),
        (["trim", "none", "--before", "end", "--yes"], "UNKNOWN_TOPIC_OR_PARTITION"),
        (["alter", "none", "--partitions", "2"], "UNKNOWN_TOPIC_OR_PARTITION"),
        (["alter", "none", "--set", "retention.ms=1"], "UNKNOWN_TOPIC_OR_PARTITION"),
        (["alter", "none", "--unset", "retention.ms"], "UNKNOWN_TOPIC_OR_PARTITION"),
        (["create", "../x"], "INVALID_TOPIC_EXCEPTION"),
        (["create", "x" * 250], "INVALID_TOPIC_EXCEPTION"),
        (["create", "many", "--replicas", "2"], "INVALID_REPLICATION_FACTOR"),
        (
            ["create", "wrong", "--set", "nonsense=1"],
            "nonsense (INVALID_CONFIG); `mqlog topic describe --all TOPIC` shows those that exist",
        ),
        (
            ["create", "wrong", "--set", "retention.mz=1"],
            "Unknown topic config name: retention.mz (INVALID_CONFIG); did you mean retention.ms?",
        ),
        (["create", "wrong", "--set", "retention.ms=x"], "Not a number of type LONG (INVALID"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_what_the_broker_refuses(topic: Any, arguments: list[str], said: str) -> None:
    done = topic(*arguments)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("mqlog: ")
    assert done.err.count("\n") == 1
    assert said in done.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create"], "Missing argument 'NAME'"),
        (["create", "x", "--set", "novalue"], "is not NAME=VALUE, as in retention.ms=3600000"),
        (["create", "x", "--partitions", "0"], "0 is not in the range x>=1"),
        (["alter", "x"], "nothing to change: give --set, --unset or --partitions"),
        (["delete", "x"], "this deletes data and nobody can be asked here: add --yes"),
        (["trim", "x", "--before", "soon", "--yes"], "'soon' is neither an offset nor `end`"),
        (["trim", "x", "--before", "-1", "--yes"], "'-1' is neither an offset nor `end`"),
        (["trim", "x", "--before", str(1 << 63), "--yes"], "is neither an offset nor `end`"),
        (["list", "-b", f"{'x' * 70}:1"], "is no host name"),
        (["list", "-b", ""], "address '' is not HOST:PORT with a port from 1 to 65535"),
        (["list", "--bootstrap", "host:port"], "address 'host:port' is not HOST:PORT"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage(topic: Any, arguments: list[str], said: str) -> None:
    done = topic(*arguments)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


@pytest.mark.parametrize("option", ["--bootstrap", "--bootstrap-server", "-b"])
def test_bootstrap_by_each_of_its_names(bootstrap: str, option: str) -> None:
    assert mqlog("topic", "list", option, bootstrap).code == 0


def test_the_first_bootstrap_address_that_answers_is_taken(bootstrap: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{taken.getsockname()[1]}"
        assert mqlog("topic", "list", "-b", f"{nobody}, {bootstrap}").code == 0
        assert mqlog("topic", "list", "-b", f"{bootstrap},{nobody}").code == 0
        done = mqlog("topic", "list", "-b", f"{nobody},{nobody},")
    assert done.code == 69


@pytest.mark.parametrize(
    ("answer", "code", "said", "left"),
    [
        (b"y\n", 0, "deleted {name}", False),
        (b"n\n", 1, "mqlog: nothing was deleted", True),
        (b"\n", 1, "mqlog: nothing was deleted", True),
        (b"\x03", 130, "mqlog: interrupted", True),
        (b"\x04", 130, "mqlog: interrupted", True),
    ],
    ids=["yes", "no", "return", "Ctrl-C", "Ctrl-D"],
)
def test_delete_asks(
    topic: Any, name: str, bootstrap: str, answer: bytes, code: int, said: str, left: bool
) -> None:
    topic("create", name)
    with Terminal("topic", "delete", name, "-b", bootstrap) as terminal:
        terminal.wait_for(f"Delete {name} and all records in them? [y/N]: ")
        terminal.type(answer)
        assert terminal.end(press=b"\x03" if answer == b"\x03" else b"") == code
        assert said.format(name=name) in terminal.shown
    assert (name in topic("list").out.split()) is left


def test_nobody_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refused
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = mqlog("topic", "list", "-b", address)
    assert done.code == 69
    assert done.err == (
        f"mqlog: cannot connect to {address}: connection refused; is the broker running there? "
        "--bootstrap HOST:PORT names another\n"
    )


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", 1, "does not speak Kafka's protocol without TLS"),
        (b"", 69, "closed the connection before it answered"),
        (b"\0\0", 69, "closed the connection before it answered"),
    ],
    ids=["http", "nothing", "half a length"],
)
def test_something_else_there(answer: bytes, code: int, said: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        done = mqlog("topic", "list", "-b", f"127.0.0.1:{server.getsockname()[1]}")
        thread.join()
    assert done.code == code
    assert said in done.err


def test_no_answer_in_time(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        done = mqlog("topic", "list", "-b", address, "--timeout", "0.1")
    assert done.code == 69
    assert done.err == (
        f"mqlog: {address} did not answer API_VERSIONS within 0.1 s; "
        "--timeout SECONDS waits longer\n"
    )
