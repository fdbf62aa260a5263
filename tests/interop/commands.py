"""The commands of Kafka that test_kafka_tools.py runs, in order, and how they are run.

`{b}` is the broker's address, `{t}` a topic, `{g}` a group, `{d}` a folder with files.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .programs import HERE, run

TOOLS = "org.apache.kafka.tools."
CLASSES = {
    "ConfigCommand": "kafka.admin.ConfigCommand",
    "BrokerApiVersionsCommand": TOOLS + "BrokerApiVersionsCommand",
    "ConsumerGroupCommand": TOOLS + "consumer.group.ConsumerGroupCommand",
    "ConsoleConsumer": TOOLS + "consumer.ConsoleConsumer",
    "ReassignPartitionsCommand": TOOLS + "reassign.ReassignPartitionsCommand",
}
LINES = "a:1\nb:2\nc:3\na:4\n"


class Command(NamedTuple):
    """One command. `shape`: its numbers are measurements, so only its words are compared.

    `mine`: it tells of all that the broker has, and only what this run made is compared.
    """

    tool: str
    arguments: str
    stdin: str = ""
    shape: bool = False
    mine: bool = False

    @property
    def text(self) -> str:
        """As it is shown in tables."""
        return f"{self.tool} {self.arguments}"


class Outcome(NamedTuple):
    """What became of it."""

    code: int
    out: str
    err: str


def _commands() -> Iterator[Command]:
    b = "--bootstrap-server {b}"
    for arguments in (
        "--create --topic {t} --partitions 3 --replication-factor 1 --config retention.ms=1000000",
        "--create --topic {t} --partitions 3",
        "--create --topic {t} --if-not-exists",
        "--create --topic {t}-b",
        "--list --topic {t}.*",
        "--list --exclude-internal --topic {t}",
        "--describe --topic {t}",
        "--describe --topic {t}.* --topics-with-overrides",
        "--describe --topic {t} --under-replicated-partitions",
        "--describe --topic {t} --at-min-isr-partitions",
        "--describe --topic {t} --unavailable-partitions",
        "--alter --topic {t} --partitions 4",
        "--alter --topic {t} --partitions 2",
        "--describe --topic {t}-nobody",
        "--delete --topic {t}-b",
        "--delete --topic {t}-nobody",
    ):
        yield Command("TopicCommand", f"{b} {arguments}")
    for arguments in (
        "--alter --entity-type topics --entity-name {t} --add-config cleanup.policy=[compact]",
        "--alter --entity-type topics --entity-name {t} --add-config segment.ms=600000",
        "--describe --entity-type topics --entity-name {t}",
        "--alter --entity-type topics --entity-name {t} --delete-config segment.ms,cleanup.policy",
        "--describe --entity-type topics --entity-name {t}",
        "--alter --entity-type topics --entity-name {t} --add-config segment.ms=soon",
        "--alter --entity-type topics --entity-name {t} --delete-config no.such.thing",
        "--alter --entity-type brokers --entity-name 1 --add-config log.cleaner.threads=2",
        "--describe --entity-type brokers --entity-name 1",
        "--alter --entity-type brokers --entity-name 1 --delete-config log.cleaner.threads",
        "--alter --entity-type brokers --entity-default --add-config log.retention.ms=700000000",
        "--describe --entity-type brokers --entity-default",
        "--alter --entity-type brokers --entity-default --delete-config log.retention.ms",
        "--alter --entity-type users --entity-name {t} --add-config producer_byte_rate=1000000",
        "--describe --entity-type users --entity-name {t}",
        "--alter --entity-type users --entity-name {t} --delete-config producer_byte_rate",
        "--describe --entity-type users --entity-name {t}",
    ):
        yield Command("ConfigCommand", f"{b} {arguments}")
    key = "--reader-property parse.key=true --reader-property key.separator=:"
    yield Command("ConsoleProducer", f"{b} --topic {{t}} {key}", LINES)
    yield Command(
        "ConsoleProducer", f"{b} --topic {{t}} --compression-codec zstd {key}", "a:5\nc:6\n"
    )
    one = "--partition 0 --offset earliest --timeout-ms 2000"
    show = " ".join(
        f"--formatter-property print.{what}=true"
        for what in ("key", "offset", "partition", "headers")
    )
    yield Command("ConsoleConsumer", f"{b} --topic {{t}} {one} {show}")
    again = "--from-beginning --group {g} --max-messages 6 --timeout-ms 20000"
    yield Command("ConsoleConsumer", f"{b} --topic {{t}} {again}")
    for arguments in (
        "--topic {t}",
        "--topic {t} --time earliest",
        "--topic {t} --time max-timestamp --partitions 3",
        "--topic {t} --time 0",
        "--topic-partitions {t}:0-2",
        "--topic {t}-nobody",
    ):
        yield Command("GetOffsetShell", f"{b} {arguments}")
    for arguments in (
        "--list",
        "--list --state Empty",
        "--describe --group {g}",
        "--describe --group {g} --state",
        "--describe --group {g} --members --verbose",
        "--describe --group {g}-nobody",
        "--reset-offsets --group {g} --topic {t} --to-earliest --dry-run",
        "--reset-offsets --group {g} --topic {t}:0 --shift-by -1 --execute",
        "--reset-offsets --group {g} --topic {t} --to-datetime 2020-01-01T00:00:00.000 --execute",
        "--reset-offsets --group {g} --topic {t} --to-latest --execute",
        "--reset-offsets --group {g} --all-topics --to-current --export --dry-run",
        "--describe --group {g}",
        "--delete-offsets --group {g} --topic {t}:0",
        "--delete-offsets --group {g} --topic {t}-nobody",
        "--delete --group {g}",
        "--delete --group {g}-nobody",
    ):
        yield Command("ConsumerGroupCommand", f"{b} {arguments}", mine="--list" in arguments)
    yield Command("DeleteRecordsCommand", f"{b} --offset-json-file {{d}}/records.json")
    yield Command("GetOffsetShell", f"{b} --topic {{t}} --time -2")
    yield Command("LogDirsCommand", f"{b} --describe --topic-list {{t}}", shape=True)
    yield Command("LogDirsCommand", f"{b} --describe --topic-list {{t}} --broker-list 77")
    one = "--election-type preferred --topic {t} --partition 0"
    yield Command("LeaderElectionCommand", f"{b} {one}")
    yield Command(
        "LeaderElectionCommand", f"{b} --election-type unclean --topic {{t}} --partition 1"
    )
    yield Command("LeaderElectionCommand", f"{b} --election-type preferred --all-topic-partitions")
    yield Command("ReassignPartitionsCommand", f"{b} --list")
    file = "--reassignment-json-file {d}/move.json"
    yield Command("ReassignPartitionsCommand", f"{b} --execute {file}")
    yield Command("ReassignPartitionsCommand", f"{b} --verify {file}")
    for arguments in ("cluster-id", "list-endpoints", "unregister --id 77"):
        yield Command("ClusterTool", f"{arguments} {b}")
    yield Command("FeatureCommand", f"{b} describe")
    yield Command("FeatureCommand", f"{b} upgrade --feature metadata.version=999")
    yield Command("MetadataQuorumCommand", f"{b} describe --status", shape=True)
    yield Command("AclCommand", f"{b} --list")
    yield Command("TransactionsCommand", f"{b} list")
    some = "--topic {t} --max-messages 50"
    yield Command("VerifiableProducer", f"{b} {some} --value-prefix 7 --acks -1", shape=True)
    some = "--group-id {g}-v --topic {t} --max-messages 50 --reset-policy earliest"
    yield Command("VerifiableConsumer", f"{b} {some}", shape=True)
    some = "--num-records 500 --record-size 100 --throughput -1"
    yield Command("ProducerPerformance", f"{b} --topic {{t}} {some}", shape=True)
    some = "--topic {t} --num-records 500 --group {g}-p --timeout 20000"
    yield Command("ConsumerPerformance", f"{b} {some}", shape=True)
    yield Command("TopicCommand", f"{b} --delete --topic {{t}}")


COMMANDS = list(_commands())


def run_all(jars: str, bootstrap: str, name: str, folder: Path) -> list[Outcome]:
    """Run every command against a broker, in one JVM."""
    places = {"b": bootstrap, "t": f"t-{name}", "g": f"g-{name}", "d": str(folder)}
    _files(folder, places["t"])
    lines = []
    for command in COMMANDS:
        words = [word.format(**places) for word in shlex.split(command.arguments)]
        main = CLASSES.get(command.tool, TOOLS + command.tool)
        lines.append("\x1f".join([main, command.stdin.replace("\n", "\x1e"), *words]))
    script = folder / "commands"
    script.write_text("\n".join(lines) + "\n")
    program = str(HERE / "java" / "tools" / "Tools.java")
    out = run(["java", "-cp", jars, program, str(script)], cwd=folder).decode()
    parts = [one.split("\x1f") for one in out.split("\x1d")[:-1]]
    return [Outcome(int(code), said, failed) for code, said, failed in parts]


def _files(folder: Path, topic: str) -> None:
    records = [{"topic": topic, "partition": 0, "offset": 1}]
    (folder / "records.json").write_text(json.dumps({"partitions": records, "version": 1}))
    parts = [{"topic": topic, "partition": 0, "replicas": [1], "log_dirs": ["any"]}]
    (folder / "move.json").write_text(json.dumps({"version": 1, "partitions": parts}))


#: What is another in every run, or on every broker: pattern and what is put for it.
VOLATILE = [
    (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d[,:.]\d{3}", "TIME"),
    (r"TopicId: \S+", "TopicId: ID"),
    (r"(Cluster ID|ClusterId):\s+\S+", r"\1: ID"),
    (r'"logDir":"[^"]*"', '"logDir":"DIR"'),
    (r'"log_dirs":\["/[^"]*"\]', '"log_dirs":["DIR"]'),
    (r"\b(consumer|console-consumer)-\S+-[0-9a-f-]{36}\b", "MEMBER"),
    (r"Epoch: \d+", "Epoch: N"),
]
#: What is known to differ: pattern, what is put for it on both sides, and why.
KNOWN = [
    (
        r"Topic: \S+-b\s.*Configs: min\S+$|min\.insync\.replicas=1( sensitive=false syn.*)?,?",
        "",
        "Kafka sets `min.insync.replicas` for the cluster when it formats",
    ),
    (
        r", DEFAULT_CONFIG:log\.(retention|roll)\.hours=168",
        "",
        "mqlog also tells the setting in hours where a default is from",
    ),
    (
        r"Feature: (?!metadata)\S+\s+Supported.*|SupportedMinVersion: \S+",
        "",
        "mqlog tells only features that work, at one level",
    ),
    (r"only supports versions \d+-\d+", "", "mqlog tells only features that work, at one level"),
    (
        r"CurrentVoters: .*",
        "CurrentVoters: ...",
        "mqlog has no listener for controllers alone",
    ),
]
_NOISE = re.compile(r"(\[TIME\]|SLF4J|WARN|at |\.\.\. \d+ more)")


def _outline(line: str) -> str:
    """JSON in one order, the first element of each list; other lines as they are."""

    def of(value: object) -> object:
        if isinstance(value, dict):
            return {key: of(one) for key, one in value.items()}
        return [of(one) for one in value[:1]] if isinstance(value, list) else value

    try:
        return json.dumps(of(json.loads(line)), sort_keys=True)
    except ValueError:
        return line


def plain(
    command: Command, outcome: Outcome, bootstrap: str, name: str
) -> tuple[int, list[str], list[str]]:
    """Code, lines in an order of their own without what is volatile, and what is known of them."""
    text = (outcome.out + outcome.err).replace(bootstrap, "BROKER").replace(name, "NAME")
    text = text.replace(bootstrap.rpartition(":")[2], "PORT")
    for pattern, label in VOLATILE:
        text = re.sub(pattern, label, text)
    if command.shape:
        text = "\n".join(map(_outline, text.splitlines()))
        text = re.sub(r"-?\b\d+([.,]\d+)*", "N", text)
    reasons = []
    lines = text.splitlines()
    for pattern, label, why in KNOWN:
        made = [re.sub(pattern, label, line) for line in lines]
        if made != lines:
            reasons.append(why)
        lines = made
    lines = [re.sub(r"\s+", " ", line).strip() for line in lines]
    kept = [line for line in lines if line and not _NOISE.match(line)]
    if command.mine:
        kept = [line for line in kept if "NAME" in line]
    return outcome.code, sorted(set(kept) if command.shape else kept), reasons
