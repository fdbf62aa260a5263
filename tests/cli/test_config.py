"""`mqlog config` against a running broker."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from .command import Done, mqlog
from .serving import serving

ORACLE = os.environ.get("MQLOG_TEST_BOOTSTRAP", "")


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker of our own: its settings are changed. Or the Kafka that is asked."""
    if ORACLE:
        yield ORACLE
        return
    with serving(tmp_path_factory.mktemp("data"), "--set", "num.partitions=3") as broker:
        yield broker.bootstrap


@pytest.fixture
def run(bootstrap: str) -> Any:
    """`run("list", ...)`: the command, sent to the broker."""

    def one(*arguments: object) -> Done:
        return mqlog("config", *arguments, env={"MQLOG_BOOTSTRAP": bootstrap})

    return one


@pytest.fixture
def topic(bootstrap: str) -> str:
    """A new topic."""
    name = f"c-{uuid.uuid4().hex[:12]}"
    assert mqlog("topic", "create", name, env={"MQLOG_BOOTSTRAP": bootstrap}).code == 0
    return name


@pytest.mark.ours
def test_what_was_set_is_listed_with_where(run: Any, topic: str) -> None:
    rows = {row["setting"]: row for row in run("list", "-o", "json").json()}
    assert (rows["num.partitions"]["value"], rows["num.partitions"]["set_by"]) == (
        "3",
        "broker, static",
    )
    everything = run("list", "--all", "-o", "json").json()
    assert len(everything) > 200
    assert run("list", "--topic", topic).out == (
        "all settings are at their default (--all shows them)\n"
    )


def test_a_topic_is_changed_and_changed_back(run: Any, topic: str) -> None:
    where = ("--topic", topic)
    done = run("set", "retention.ms=1000", "cleanup.policy=delete", *where)
    assert (done.code, done.out) == (0, f"altered topic {topic!r}: retention.ms, cleanup.policy\n")
    assert run("get", "retention.ms", *where).out == "1000\n"
    assert run("set", "--append", "cleanup.policy=compact", *where).code == 0
    assert run("get", "cleanup.policy", *where).out == "delete,compact\n"
    assert run("set", "--subtract", "cleanup.policy=delete", *where).code == 0
    assert run("set", "--unset", "retention.ms", *where).code == 0
    rows = run("list", *where, "-o", "json").json()
    # A Kafka tells what is set for its cluster too.
    mine = [(row["setting"], row["value"]) for row in rows if row["set_by"] == "topic"]
    assert mine == [("cleanup.policy", "compact")]


def test_a_broker_is_changed(run: Any) -> None:
    assert run("set", "log.retention.ms=5000", "--cluster").code == 0
    (row,) = run("get", "log.retention.ms", "-o", "json").json()
    assert (row["value"], row["set_by"]) == ("5000", "cluster, dynamic")
    assert run("set", "log.retention.ms=6000", "--broker", "1").code == 0
    (row,) = run("get", "log.retention.ms", "-o", "json").json()
    assert (row["value"], row["set_by"]) == ("6000", "broker, dynamic")
    assert run("set", "--unset", "log.retention.ms").code == 0
    assert run("set", "--unset", "log.retention.ms", "--cluster").code == 0


def test_a_dry_run_changes_nothing(run: Any, topic: str) -> None:
    where = ("--topic", topic, "--dry-run")
    assert (
        run("set", "retention.ms=1000", *where).out
        == f"could alter topic {topic!r}: retention.ms\n"
    )
    assert run("get", "retention.ms", "--topic", topic).out == "604800000\n"
    refused = run("set", "retention.ms=soon", *where)
    assert (refused.code, "INVALID_CONFIG" in refused.err) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["get", "num.partition"], 2, "did you mean num.partitions?"),
        (["get", "nonsense"], 2, "has no setting 'nonsense'"),
        (["set"], 2, "nothing to change"),
        (["set", "num.partitions"], 2, "is not NAME=VALUE"),
        (["set", "num.partitions=9"], 1, "INVALID_REQUEST"),
        (["list", "--topic", "t", "--broker", "1"], 2, "exclude each other"),
        (["list", "--broker", "77"], 1, "there is no broker 77"),
        (["list", "--topic", "no-such-topic"], 1, "UNKNOWN_TOPIC_OR_PARTITION"),
    ],
)
def test_what_is_refused(run: Any, arguments: list[str], code: int, says: str) -> None:
    done = run(*arguments)
    assert (done.code, done.out) == (code, "")
    assert says in done.err
