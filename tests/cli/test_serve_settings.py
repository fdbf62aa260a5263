"""Settings of `mqlog serve`: where they come from, which wins, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mqlog.connection import Api, Connection
from mqlog.protocol.describe_configs import DescribeConfigsRequest, DescribeConfigsResponse

from .command import mqlog
from .serving import Serving, serving


def partitions(broker: Serving) -> int:
    """How many partitions a topic gets when nobody says: num.partitions, as the broker has it."""
    made = mqlog("topic", "create", "t", "-b", broker.bootstrap, "-o", "json").json()
    count: int = made[0]["partitions"]
    return count


def test_later_layers_win(tmp_path: Path) -> None:
    file = tmp_path / "mqlog.toml"
    file.write_text("num.partitions = 2\n")
    env = {"MQLOG_NUM_PARTITIONS": "3"}
    with serving(tmp_path / "0") as broker:
        assert partitions(broker) == 1
    with serving(tmp_path / "1", "--config", file) as broker:
        assert partitions(broker) == 2
    with serving(tmp_path / "2", env={"MQLOG_CONFIG": str(file)}) as broker:
        assert partitions(broker) == 2
    with serving(tmp_path / "3", "--config", file, env=env) as broker:
        assert partitions(broker) == 3
    with serving(tmp_path / "4", "--config", file, "--set", "num.partitions=4", env=env) as broker:
        assert partitions(broker) == 4


def test_every_option_is_a_setting(tmp_path: Path) -> None:
    options = ["--durability", "os", "--io-threads", "3", "--advertise", "localhost:4711"]
    with serving(tmp_path, *options, "--set", "message.max.bytes=2000") as broker:
        threads = [path.read_text() for path in Path(f"/proc/{broker.pid}/task").glob("*/comm")]
        found = broker_settings(broker)
    assert sum(name.startswith("mqlog-io-") for name in threads) == 3
    assert {name: value for name, (value, default) in found.items() if not default} == {
        "mqlog.durability": "os",
        "mqlog.io.threads": "3",
        "advertised.listeners": "localhost:4711",
        "listeners": f"PLAINTEXT://{broker.bootstrap}",
        "log.dirs": str(tmp_path),
        "message.max.bytes": "2000",
    }


def broker_settings(broker: Serving) -> dict[str, tuple[str | None, bool]]:
    """Value of each setting as a client is told, and whether it is the default."""
    resource = DescribeConfigsRequest.DescribeConfigsResource(4, "1", None)
    with Connection.open(broker.bootstrap) as connection:
        answer = connection.call(
            Api.DESCRIBE_CONFIGS, DescribeConfigsRequest([resource]), DescribeConfigsResponse
        )
    (result,) = answer.results
    assert result.error_code == 0
    return {config.name: (config.value, config.config_source == 5) for config in result.configs}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["--durability", "os"], ["--set", "mqlog.durability=fsync"]),
        (["--set", "mqlog.durability=fsync"], ["--durability", "os"]),
    ],
    ids=["option first", "option last"],
)
def test_options_win_over_set(tmp_path: Path, before: list[str], after: list[str]) -> None:
    with serving(tmp_path, *before, *after) as broker:
        assert broker_settings(broker)["mqlog.durability"] == ("os", False)


def test_the_last_set_wins(tmp_path: Path) -> None:
    twice = ["--set", "num.partitions=2", "--set", "num.partitions=5"]
    with serving(tmp_path, *twice) as broker:
        assert partitions(broker) == 5


def test_log_dirs_names_the_directory_unless_the_argument_does(tmp_path: Path) -> None:
    for arguments, expected in (([], "set"), (["argument"], "argument")):
        with serving(*arguments, "--set", "log.dirs=set", cwd=tmp_path) as broker:
            assert broker.data == str(tmp_path / expected)


@pytest.mark.parametrize("text", ['"log.retention.ms" = 7', "[log.retention]\nms = 7"])
def test_toml_may_quote_or_nest(tmp_path: Path, text: str) -> None:
    file = tmp_path / "mqlog.toml"
    file.write_text(text)
    with serving(tmp_path / "data", "--config", file) as broker:
        mqlog("topic", "create", "t", "-b", broker.bootstrap)
        (topic,) = mqlog(
            "topic", "describe", "t", "--all", "-b", broker.bootstrap, "-o", "json"
        ).json()
    (found,) = [row for row in topic["settings"] if row["setting"] == "retention.ms"]
    assert (found["value"], found["set_by"]) == ("7", "broker, static")


WRONG_SIZE = (
    "mqlog: message.max.bytes='x': "
    "Invalid value x for configuration message.max.bytes: Not a number of type INT"
)
NO_VARIABLE = (
    "mqlog: MQLOG_NUM_PARTITION=1: no setting has this variable; "
    "did you mean MQLOG_NUM_PARTITIONS?\n"
)
NOWHERE = "clients need a host they can reach and a port from 1 to 65535"
NO_DURABILITY = (
    "Invalid value maybe for configuration mqlog.durability: String must be one of: fsync, os"
)
NO_SUCH = "there is no such setting"
MEANT = "; did you mean log.retention.ms?"


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (
            ["--set", "message.max.bytes=x"],
            78,
            f"{WRONG_SIZE} (set by --set)\n",
        ),
        (
            ["--set", "foo=1"],
            78,
            "mqlog: foo='1': there is no such setting (set by --set)\n",
        ),
        (
            ["--set", "log.retention.mz=5"],
            78,
            f"mqlog: log.retention.mz='5': {NO_SUCH}{MEANT} (set by --set)\n",
        ),
        (
            ["--set", "retention.ms=5"],
            78,
            f"mqlog: retention.ms='5': {NO_SUCH}{MEANT} (set by --set)\n",
        ),
        (
            ["--listen", "127.0.0.1"],
            78,
            "mqlog: listeners=127.0.0.1: expected HOST:PORT with a port from 0 to 65535\n",
        ),
        (
            ["--listen", "SSL://127.0.0.1:1"],
            78,
            "mqlog: listeners=SSL://127.0.0.1:1: listener SSL: only PLAINTEXT is served\n",
        ),
        (
            ["--listen", "127.0.0.1:65536"],
            78,
            "mqlog: listeners=127.0.0.1:65536: expected HOST:PORT with a port from 0 to 65535\n",
        ),
        (
            ["--listen", "300.1.1.1:0"],
            78,
            "mqlog: listeners=300.1.1.1: the host cannot be resolved: name or service not known\n",
        ),
        (
            ["--listen", "[zz::1]:0"],
            78,
            "mqlog: listeners=zz::1: the host cannot be resolved: name or service not known\n",
        ),
        (
            ["--listen", "[::1%lo]:0"],
            78,
            "mqlog: listeners=::1%lo: an address with a zone cannot be served; [::] is all\n",
        ),
        (
            ["--listen", f"{'x' * 70}:0"],
            78,
            f"mqlog: listeners='{'x' * 70}': this is no host name\n",
        ),
        (
            ["--listen", ""],
            78,
            "mqlog: listeners='': at least one HOST:PORT is needed\n",
        ),
        (["--advertise", "host:0"], 78, f"mqlog: advertised.listeners=host:0: {NOWHERE}\n"),
        (["--advertise", ":9092"], 78, f"mqlog: advertised.listeners=:9092: {NOWHERE}\n"),
        (
            ["--advertise", "0.0.0.0:9092"],
            78,
            f"mqlog: advertised.listeners=0.0.0.0:9092: {NOWHERE}\n",
        ),
        (
            ["--advertise", "a:1,b:2"],
            78,
            "mqlog: advertised.listeners=a:1,b:2: all listeners share one address\n",
        ),
        (
            ["--set", "log.dirs=a,b"],
            78,
            "mqlog: log.dirs='a,b': a broker has one data directory: give one\n",
        ),
        (
            ["--set", "mqlog.durability=maybe"],
            78,
            f"mqlog: mqlog.durability='maybe': {NO_DURABILITY} (set by --set)\n",
        ),
        (["--io-threads", "0"], 2, "Error: Invalid value for '--io-threads'"),
        (["--durability", "maybe"], 2, "'maybe' is not one of 'fsync', 'os'"),
        (["--set", "x"], 2, "'x' is not NAME=VALUE, as in log.retention.ms=3600000"),
        (["--config", "/none.toml"], 2, "File '/none.toml' does not exist"),
        (["--nonsense"], 2, "No such option"),
        (["a", "b"], 2, "unexpected extra argument"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_wrong(tmp_path: Path, options: list[str], code: int, said: str) -> None:
    done = mqlog("serve", *options, cwd=tmp_path)
    assert (done.code, done.out) == (code, "")
    assert said == done.err if said.startswith("mqlog:") else said in done.err
    assert list(tmp_path.iterdir()) == []  # refused before anything was made


@pytest.mark.parametrize(
    ("env", "said"),
    [
        (
            {"MQLOG_MESSAGE_MAX_BYTES": "x"},
            f"{WRONG_SIZE} (set by environment variable MQLOG_MESSAGE_MAX_BYTES)\n",
        ),
        (
            {"MQLOG_NUM_PARTITION": "1"},
            NO_VARIABLE,
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_wrong_in_the_environment(tmp_path: Path, env: dict[str, str], said: str) -> None:
    done = mqlog("serve", env=env, cwd=tmp_path)
    assert (done.code, done.err) == (78, said)


def test_variables_of_other_commands_are_no_settings(tmp_path: Path) -> None:
    with serving(tmp_path, env={"MQLOG_BOOTSTRAP": "127.0.0.1:9"}) as broker:
        assert broker.log() == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "message.max.bytes = 'x'",
            f"{WRONG_SIZE} (set by FILE)\n",
        ),
        ("a = [", "mqlog: --config=FILE: is not TOML: Invalid value (at end of document)\n"),
        ("a = 1", "mqlog: a='1': there is no such setting (set by FILE)\n"),
    ],
    ids=["value", "not TOML", "name"],
)
def test_what_is_wrong_in_a_file(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "mqlog.toml"
    file.write_text(text)
    done = mqlog("serve", "--config", file, cwd=tmp_path)
    assert (done.code, done.err.replace(str(file), "FILE")) == (78, said)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "mqlog.toml"
    file.write_bytes(b"num.partitions = '\xff'")
    done = mqlog("serve", "--config", file, cwd=tmp_path)
    assert (done.code, done.out) == (78, "")
    assert done.err.startswith(f"mqlog: --config={file}: is not TOML: 'utf-8' codec can't decode")
