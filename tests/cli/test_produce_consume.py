"""`mqlog produce` and `mqlog consume` against a running broker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import uuid
import warnings
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

with warnings.catch_warnings():
    # kafka-python uses a deprecated function when it is imported; warnings are errors here.
    warnings.simplefilter("ignore")
    from kafka.partitioner.default import murmur2 as kafka_murmur2

from mqlog.cli.records import from_json, murmur2

from .command import MQLOG, Done, environment, mqlog


@pytest.fixture
def env(bootstrap: str) -> dict[str, str]:
    return {"MQLOG_BOOTSTRAP": bootstrap}


@pytest.fixture
def topic(env: dict[str, str]) -> str:
    """A new topic of 3 partitions."""
    name = f"p-{uuid.uuid4().hex[:12]}"
    assert mqlog("topic", "create", name, "-p", 3, env=env).code == 0
    return name


@pytest.fixture
def send(env: dict[str, str], topic: str) -> Any:
    """`send(b"lines", options...)`: produce to the topic."""

    def one(data: bytes, *options: object) -> Done:
        command = [*MQLOG, "produce", topic, *map(str, options)]
        done = subprocess.run(
            command, input=data, capture_output=True, env=environment(env), timeout=60, check=False
        )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    return one


@pytest.fixture
def read(env: dict[str, str], topic: str) -> Any:
    """`read(options...)`: what consume prints of the topic, up to its end."""

    def one(*options: object) -> Done:
        return mqlog("consume", topic, "-e", *options, env=env)

    return one


def test_lines_come_back(send: Any, read: Any) -> None:
    assert send("one\ntwo\n\nvier ü".encode(), "-p", 1) == Done(0, "", "")
    assert read().out == "one\ntwo\n\nvier ü\n"
    assert (
        read("-f", r"%p:%o %K %S\t%s|").out
        == "1:0 -1 3\tone|1:1 -1 3\ttwo|1:2 -1 0\t|1:3 -1 7\tvier ü|"
    )
    assert read("-n", 2).out == "one\ntwo\n"


def test_keys_headers_and_tombstones(send: Any, read: Any) -> None:
    done = send(b"a=1\nb=-\na=2=3\n", "-k", "=", "-H", "x=y", "-H", "x=z", "--null-value", "-")
    assert done == Done(0, "", "")
    rows = {row["value"]: row for row in read("--json").lines()}
    assert rows["1"]["key"] == rows["2=3"]["key"] == "a"
    assert rows["1"]["partition"] == rows["2=3"]["partition"]
    assert rows[None]["key"] == "b"
    assert rows["1"]["headers"] == [["x", "y"], ["x", "z"]]


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_many_lines_with_every_codec(send: Any, read: Any, codec: str) -> None:
    lines = [f"line {number} {'x' * (number % 100)}" for number in range(30_000)]
    assert send("\n".join(lines).encode(), "-z", codec) == Done(0, "", "")
    assert sorted(read().out.splitlines()) == sorted(lines)


def test_json_goes_round(send: Any, read: Any, topic: str, bootstrap: str, env: Any) -> None:
    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce(topic, b"\xff\0", key=None, partition=2, headers=[("h", None), ("h", b"\xfe")])
    producer.produce(topic, None, key=b"", partition=0, timestamp=1234)
    assert producer.flush(30) == 0
    said = read("--json").out
    assert send(said.encode(), "--json") == Done(0, "", "")

    def facts(rows: list[Any]) -> list[Any]:
        return [{k: v for k, v in row.items() if k != "offset"} for row in rows]

    rows = read("--json").lines()
    assert len(rows) == 4
    for partition in (0, 2):
        before, after = facts([row for row in rows if row["partition"] == partition])
        assert before == after


def test_keys_go_where_other_clients_put_them(
    send: Any, read: Any, topic: str, bootstrap: str
) -> None:
    keys = [f"key-{number}" for number in range(50)]
    assert send("\n".join(f"{key}:v" for key in keys).encode(), "-k", ":").code == 0
    ours = {row["key"]: row["partition"] for row in read("--json").lines()}
    producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2"})
    for key in keys:
        producer.produce(topic, b"v", key=key.encode())
    assert producer.flush(30) == 0
    rows = read("--json").lines()[50:]
    theirs = {row["key"]: row["partition"] for row in read("--json").lines()}
    assert len(rows) == 50
    assert theirs == ours


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("start", range(10)),
        ("end", range(0)),
        ("7", range(7, 10)),
        ("-3", range(7, 10)),
        ("-99", range(10)),
        ("@1004", range(4, 10)),
        ("@1970-01-01T00:00:01.008+00:00", range(8, 10)),
        ("@2999-01-01", range(0)),
    ],
)
def test_where_to_begin(send: Any, read: Any, where: str, expected: range) -> None:
    rows = [{"value": str(n), "timestamp": 1000 + n, "partition": 0} for n in range(10)]
    assert send("\n".join(map(json.dumps, rows)).encode(), "--json").code == 0
    done = read("-p", 0, "-o", where)
    assert (done.code, done.out.split()) == (0, [str(n) for n in expected])


def test_grep(send: Any, read: Any) -> None:
    assert send(b"apple=1\nbanana=2\ncherry=an\n", "-k", "=").code == 0
    assert sorted(read("--grep", "^.*an", "-f", r"%k\n").out.split()) == ["banana", "cherry"]


def test_it_waits_for_more(send: Any, topic: str, env: dict[str, str]) -> None:
    command = [*MQLOG, "consume", topic, "-o", "end", "-f", r"%s\n"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment(env)) as follower:
        assert follower.stdout is not None
        line = b""
        for number in range(100):  # it begins at the end that it finds, whenever that is
            assert send(b"news %d" % number).code == 0
            if os.get_blocking(follower.stdout.fileno()):
                os.set_blocking(follower.stdout.fileno(), False)
            line = follower.stdout.readline() or line
            if line:
                break
        assert line.startswith(b"news ")
        follower.terminate()
        assert follower.wait(30) == -signal.SIGTERM


def test_a_slow_pipe_is_sent_as_it_comes(topic: str, env: dict[str, str], read: Any) -> None:
    command = [*MQLOG, "produce", topic, "-p", "0"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=environment(env)) as producer:
        assert producer.stdin is not None
        for number in range(3):
            producer.stdin.write(b"line %d\n" % number)
            producer.stdin.flush()
            end = time.monotonic() + 20
            while read("-p", 0).out.count("\n") <= number:
                assert time.monotonic() < end
        producer.stdin.close()
        assert producer.wait(20) == 0


def test_files_are_sent_in_order(tmp_path: Path, topic: str, env: Any, read: Any) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(f"{name}1\n{name}2\n")
    done = mqlog("produce", topic, tmp_path / "a", tmp_path / "b", "-p", 0, "--acks", 0, env=env)
    assert done == Done(0, "", "")
    assert read("-p", 0).out == "a1\na2\nb1\nb2\n"


@pytest.mark.parametrize(
    ("data", "options", "says"),
    [
        (b"a=1\nplain\n", ["-k", "="], "-: line 2: no '=' between key and value"),
        (b"{}\n[1]\n", ["--json"], "-: line 2: no JSON object"),
        (b'{"value": 1}\n', ["--json"], "line 1: value is neither a string, null nor"),
        (b'{"value": {"base64": "?"}}\n', ["--json"], "value: no base64"),
        (b"x\n", ["-p", "3"], "has no partition 3; it has 3"),
        (b'{"partition": 9}\n', ["--json"], "has no partition 9"),
        (b"x\n", ["-k", ""], "--key-separator is empty"),
    ],
)
def test_lines_that_are_no_records(send: Any, data: bytes, options: list[str], says: str) -> None:
    done = send(data, *options)
    assert done.code == 2
    assert says in done.err


def test_a_record_that_is_too_large(send: Any) -> None:
    done = send(b"x" * 2_000_000)
    assert (done.code, "MESSAGE_TOO_LARGE" in done.err) == (1, True)
    assert "0 records were acknowledged before" in done.err


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["-o", "99"], 1, "holds offsets 0 to 0, not 99"),
        (["-o", "soon"], 2, "is neither start, end"),
        (["-f", "%x"], 2, "%x is none of"),
        (["--grep", "("], 2, "--grep"),
        (["-p", "7"], 1, "has no partition 7"),
    ],
)
def test_what_cannot_be_read(read: Any, options: list[str], code: int, says: str) -> None:
    done = read(*options)
    assert (done.code, done.out) == (code, "")
    assert says in done.err


def test_a_topic_that_is_not_there(env: dict[str, str]) -> None:
    for command in ("produce", "consume"):
        done = mqlog(command, "no-such-topic", env=env)
        assert (done.code, "UNKNOWN_TOPIC_OR_PARTITION" in done.err) == (1, True)


def test_another_client_reads_what_was_produced(send: Any, topic: str, bootstrap: str) -> None:
    assert send(b"k|v\n", "-k", "|", "-p", 0, "-z", "zstd", "-H", "a=b").code == 0
    client = Consumer({"bootstrap.servers": bootstrap, "group.id": "x"})
    client.assign([TopicPartition(topic, 0, 0)])
    message = client.poll(20)
    assert (message.key(), message.value(), message.headers()) == (b"k", b"v", [("a", b"b")])
    client.close()


@given(st.binary(max_size=40))
def test_the_hash_is_kafkas(data: bytes) -> None:
    assert murmur2(data) == kafka_murmur2(data) & 0xFFFF_FFFF


def test_headers_may_be_an_object() -> None:
    assert from_json(b'{"headers": {"a": "b", "c": null}}').headers == (("a", b"b"), ("c", None))
