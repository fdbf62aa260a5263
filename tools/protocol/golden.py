#!/usr/bin/env python3
"""Write tests/fixtures/frames: every (message, version) with random values, encoded by Kafka.

    python tools/protocol/golden.py CLASSPATH [SEED]

CLASSPATH holds the jars of Kafka 4.3.1 (for `java -cp`); Java 17 or newer does the encoding. One
file for each module, one line for each message: name, version, values as JSON, bytes as hex.
In the values, bytes are hex too. The files are golden: tests read them, nobody edits them.
"""

from __future__ import annotations

import base64
import json
import random
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from model import Field, Message, Span, messages, snake

HERE = Path(__file__).parent
FRAMES = HERE.parents[1] / "tests/fixtures/frames"
PACKAGES = {
    "group": "org.apache.kafka.coordinator.group.generated",
    "transaction": "org.apache.kafka.coordinator.transaction.generated",
    "share": "org.apache.kafka.coordinator.share.generated",
}
BITS = {"int8": 8, "int16": 16, "int32": 32, "int64": 64, "uint16": 16, "uint32": 32}
TEXTS = ("", "a", "orders", "käse-☃", "x" * 130)


def java_class(message: Message) -> str:
    """The Java class that holds a message."""
    family = message.kind.partition("-")[0]
    suffix = "Data" if family in ("request", "response", "header") else ""
    return f"{PACKAGES.get(family, 'org.apache.kafka.common.message')}.{message.name}{suffix}"


class Maker:
    """Makes the values of one message in one version, twice: as ours and as Kafka's JSON."""

    def __init__(self, message: Message, version: int, seed: random.Random) -> None:
        """`seed` is used up as values are made."""
        self.message, self.version, self.random = message, version, seed

    def has(self, span: Span) -> bool:
        """Whether the version is in a range."""
        return span.min <= self.version <= span.max

    def struct(self, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """A struct with the fields that this version has; some tagged ones are left out."""
        ours, kafkas = {}, {}
        for field in self.message.structs[name]:
            if self.has(field.versions) and not (self.has(field.tagged) and self.chance(3)):
                ours[field.name], kafkas[camel(field.name)] = self.field(field)
        return ours, kafkas

    def chance(self, one_in: int) -> bool:
        """True one time in so many."""
        return self.random.randrange(one_in) == 0

    def field(self, field: Field) -> tuple[Any, Any]:
        """A field's value, null where that is legal one time in four."""
        if self.has(field.nullable) and self.chance(4):
            return None, None
        if field.array:
            pairs = [self.one(field) for _ in range(self.random.randrange(3))]
            return [ours for ours, _ in pairs], [kafkas for _, kafkas in pairs]
        return self.one(field)

    def one(self, field: Field) -> tuple[Any, Any]:
        """A value of a field's type, or of its elements'."""
        kind = field.element
        if field.struct:
            return self.struct(kind)
        if kind in BITS:
            low = 0 if kind.startswith("u") else -(1 << BITS[kind] - 1)
            value: Any = self.random.choice((low, 0, 1, self.random.randrange(100), low))
            value = value if value != low or self.chance(2) else low + (1 << BITS[kind]) - 1
            return value, value
        if kind in ("bytes", "records", "uuid"):
            size = 16 if kind == "uuid" else self.random.choice((0, 1, 5, 200))
            data = self.random.randbytes(size)
            if kind == "uuid":
                return data.hex(), base64.urlsafe_b64encode(data).decode().rstrip("=")
            return data.hex(), base64.b64encode(data).decode()
        choices = {"bool": (True, False), "float64": (0.0, 1.5, -2.25e10), "string": TEXTS}
        value = self.random.choice(choices[kind])
        return value, value


def camel(name: str) -> str:
    """`topic_id` to `topicId`, as in Kafka's JSON."""
    return KAFKA_NAMES[name]


def kafka_names() -> dict[str, str]:
    """Every field's name in Kafka's JSON by ours."""
    names = {}
    for line in (HERE / "messages.txt").read_text().splitlines():
        if line.startswith("  "):
            name = line.split()[0]
            names[snake(name)] = name[0].lower() + name[1:]
    return names


KAFKA_NAMES = kafka_names()


def main() -> None:
    """Make values, have them encoded, write both."""
    classpath, seed = sys.argv[1], random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 431)
    todo, lines = [], []
    for message in messages():
        for version in range(message.versions.min, message.versions.max + 1):
            ours, kafkas = Maker(message, version, seed).struct(message.name)
            todo.append((message, version, ours))
            lines.append(f"{java_class(message)}\t{version}\t{json.dumps(kafkas)}\n")
    command = ["java", "-cp", classpath, str(HERE / "Golden.java")]
    sent = "".join(lines)
    done = subprocess.run(command, input=sent, text=True, stdout=subprocess.PIPE, check=False)
    encoded = done.stdout.splitlines()
    if done.returncode or len(encoded) != len(todo):
        sys.exit(f"Kafka refused line {len(encoded)}: {lines[len(encoded)]}")
    files = defaultdict(list)
    for (message, version, ours), body in zip(todo, encoded, strict=True):
        values = json.dumps(ours, ensure_ascii=False, separators=(",", ":"))
        files[message.module].append(f"{message.name}\t{version}\t{values}\t{body}\n")
    FRAMES.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (FRAMES / f"{name}.tsv").write_text("".join(content))
    print(f"{len(todo)} messages in {len(files)} files")


if __name__ == "__main__":
    main()
