"""Settings: the same as Kafka's, and which layer wins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mqlog.broker.broker_configs import broker_configs
from mqlog.broker.config_types import PASSWORD, type_problem
from mqlog.broker.settings import Settings, load, parse_address, variable
from mqlog.broker.topic_configs import TOPIC_CONFIGS
from mqlog.errors import ConfigError

# What a Kafka 4.3.1 says of its settings in DescribeConfigs.
KAFKA = json.loads(
    (Path(__file__).parents[1] / "fixtures" / "kafka_configs.json").read_text(encoding="utf-8")
)

#: Defaults that differ, ours and why.
OTHER_DEFAULTS = {
    "flush.ms": ("100", "acks=1 is flushed soon; Kafka leaves it to the kernel"),
    "log.flush.interval.ms": ("100", "the default of flush.ms"),
    "log.flush.offset.checkpoint.interval.ms": ("30000", "a start has less to read again"),
    "log.dir": ("mqlog-data", "the directory of `mqlog serve` without an argument"),
    "node.id": ("1", "one broker needs no number; Kafka demands one"),
    "broker.id": ("1", "the same"),
    "offsets.topic.num.partitions": ("16", "one broker; 50 logs would be idle"),
    "offsets.topic.replication.factor": ("1", "there is one broker"),
    "offsets.topic.segment.bytes": ("4194304", "read at every start, and trimmed by segments"),
    "metric.reporters": ("", "Kafka names a Java class"),
}
#: Settings that Kafka can alter while it runs and we cannot.
STATIC_HERE = {
    "listeners": "sockets are bound once, at the start",
    "producer.id.expiration.ms": "the logs are told once, at the start",
}
#: Topic settings whose default comes from a broker setting here; Kafka shows no synonym while
#: none of these has been set.
OTHER_SYNONYMS = {
    "flush.ms": ["log.flush.interval.ms"],
    "retention.ms": ["log.retention.ms", "log.retention.minutes", "log.retention.hours"],
    "segment.ms": ["log.roll.ms", "log.roll.hours"],
    "segment.jitter.ms": ["log.roll.jitter.ms", "log.roll.jitter.hours"],
}


def ours(name: str) -> bool:
    return name.startswith("mqlog.")


def test_every_setting_of_kafka_is_there_and_no_other() -> None:
    assert {name for name in broker_configs() if not ours(name)} == set(KAFKA["broker"])
    assert {name for name in TOPIC_CONFIGS if not ours(name)} == set(KAFKA["topic"])


@pytest.mark.parametrize("kind", ["topic", "broker"])
def test_types_and_defaults_are_kafkas(kind: str) -> None:
    table = TOPIC_CONFIGS if kind == "topic" else broker_configs()
    for name, theirs in KAFKA[kind].items():
        config = table[name]
        assert config.kind == theirs["type"], name
        assert (config.kind == PASSWORD) == theirs["sensitive"], name
        if name in OTHER_DEFAULTS:
            assert config.default == OTHER_DEFAULTS[name][0] != theirs["default"], name
        else:
            assert config.default == theirs["default"], name
        if kind == "broker":
            assert config.dynamic == (not theirs["read_only"] and name not in STATIC_HERE), name


def test_topic_settings_have_kafkas_synonyms() -> None:
    for name, theirs in KAFKA["topic"].items():
        found = [synonym for synonym, _ in TOPIC_CONFIGS[name].synonyms]
        assert found == (theirs["synonyms"] or OTHER_SYNONYMS.get(name, [])), name


def test_every_default_is_legal() -> None:
    for config in (*TOPIC_CONFIGS.values(), *broker_configs().values()):
        if config.default is not None:
            assert config.problem(config.default) is None
        for synonym, factor in config.synonyms:
            stand_in = broker_configs()[synonym]
            if stand_in.default is not None and factor > 1:
                # The hours of log.retention.hours are the milliseconds of retention.ms.
                assert int(stand_in.default) * factor == int(config.default or "")


def test_what_has_no_effect_says_so() -> None:
    for config in (*TOPIC_CONFIGS.values(), *broker_configs().values()):
        assert ("changes nothing here" in config.doc) == (not config.effect), config.name


layers = st.lists(st.sampled_from(["file", "environment", "option"]), unique=True)


@given(layers)
def test_later_layers_win(tmp_path_factory: pytest.TempPathFactory, used: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "mqlog.toml"
    path.write_text("num.partitions = 2\n" if "file" in used else "")
    environ = {"MQLOG_NUM_PARTITIONS": "3"} if "environment" in used else {}
    options = [("num.partitions", n, "--set") for n in ("9", "4")] if "option" in used else []
    found = load(file=str(path), environ=environ, options=options).integer("num.partitions")
    wanted = {"file": 2, "environment": 3, "option": 4}
    assert found == max([1, *(wanted[layer] for layer in used)])


def test_a_file_may_use_tables_quotes_lists_and_numbers(tmp_path: Path) -> None:
    path = tmp_path / "mqlog.toml"
    path.write_text(
        '"log.retention.ms" = 5\nlisteners = ["localhost:1", "localhost:2"]\n'
        "[log]\nsegment.bytes = 2097152\n[auto.create.topics]\nenable = false\n"
    )
    settings = load(file=str(path))
    assert settings.raw() == {
        "log.retention.ms": "5",
        "listeners": "localhost:1,localhost:2",
        "log.segment.bytes": "2097152",
        "auto.create.topics.enable": "false",
    }
    assert settings.boolean("auto.create.topics.enable") is False


def test_every_setting_has_a_variable_of_its_own() -> None:
    names = list(broker_configs())
    assert len({variable(name) for name in names}) == len(names)
    assert variable("log.retention.ms") == "MQLOG_LOG_RETENTION_MS"
    assert variable("mqlog.io.threads") == "MQLOG_IO_THREADS"


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        ({"options": [("num.partition", "1", "--set")]}, ["num.partition", "num.partitions?"]),
        ({"options": [("retention.ms", "1", "--set")]}, ["retention.ms", "log.retention.ms?"]),
        ({"options": [("num.partitions", "0", "--set x")]}, ["0", "at least 1", "--set x"]),
        ({"options": [("num.partitions", "1_0", "--set")]}, ["1_0", "type INT"]),
        ({"options": [("log.segment.bytes", "1", "--set")]}, ["1", "1048576"]),
        ({"environ": {"MQLOG_NUM_PARTITION": "1"}}, ["MQLOG_NUM_PARTITIONS?"]),
        ({"environ": {"MQLOG_NUM_PARTITIONS": "x"}}, ["'x'", "variable MQLOG_NUM_PARTITIONS"]),
    ],
)
def test_what_is_wrong_is_named(given_: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(**given_)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("text", ["= 1", "num = {partitions = [{}]}"])
def test_a_file_that_is_no_settings_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mqlog.toml"
    path.write_text(text)
    with pytest.raises(ConfigError):
        load(file=str(path))


@given(st.integers(-(2**70), 2**70), st.sampled_from([(4, 15), (3, 31), (5, 63)]))
def test_numbers_fit_their_type(number: int, kind: tuple[int, int]) -> None:
    code, bits = kind
    fits = -(2**bits) <= number < 2**bits
    assert (type_problem(code, str(number)) is None) == fits


@given(st.text(max_size=6))
@example("0\x1f")
def test_no_text_breaks_a_check(text: str) -> None:
    for config in TOPIC_CONFIGS.values():
        problem = config.problem(text)
        assert problem is None or config.name in problem


@given(st.sampled_from(["h", "127.0.0.1", "", "::1"]), st.integers(0, 65535))
def test_addresses_are_read_as_they_are_written(host: str, port: int) -> None:
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    assert parse_address("listeners", f" PLAINTEXT://{shown} ") == (host, port)
    assert str(parse_address("listeners", shown)) == shown


@pytest.mark.parametrize("text", ["h", "h:", "h:-1", "h:65536", "h:1x", "SSL://h:1", "h:²"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="listeners"):
        parse_address("listeners", text)


def test_without_anything_said_all_is_default() -> None:
    settings = Settings()
    assert settings.raw() == {}
    for name, config in broker_configs().items():
        assert settings.get(name) == config.default
