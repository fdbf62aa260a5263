"""What every client writes and must read back, and what the broker is asked to have stored."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
COUNT = 500

Pair = tuple[bytes | None, bytes | None]


def pair(number: int) -> Pair:
    """Key and value of a record: some keys and some values are null, never both."""
    key = None if number % 7 == 3 else f"k{number}".encode()
    value = None if number % 14 == 5 else f"v{number}-{'x' * (number % 200)}".encode()
    return key, value


def pairs(count: int = COUNT) -> list[Pair]:
    """All of them, in order."""
    return [pair(number) for number in range(count)]


def header(number: int) -> tuple[str, bytes]:
    """The one header of a record."""
    return "number", str(number).encode()


def mqlog(*arguments: str) -> list[dict[str, object]]:
    """Run the command; its JSON, an array or an object a line."""
    command = [sys.executable, "-P", "-m", "mqlog", *arguments, "--output", "json"]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if out.startswith("["):
        parsed: list[dict[str, object]] = json.loads(out)
        return parsed
    return [json.loads(line) for line in out.splitlines()]


def stored(bootstrap: str, topic: str) -> tuple[set[str], list[Pair]]:
    """Codecs and records in the segments of partition 0, read without any client."""
    (described,) = mqlog("topic", "describe", topic, "--bootstrap", bootstrap)
    partitions = described["partitions"]
    assert isinstance(partitions, list)
    directory = partitions[0]["directory"]
    assert directory, "the broker under test runs on this machine, so its directory is known"
    codecs: set[str] = set()
    found: list[Pair] = []
    for batch in mqlog("log", "dump", directory, "--records"):
        codecs.add(str(batch["codec"]))
        records = batch["records"]
        assert isinstance(records, list)
        found += [(_bytes(record["key"]), _bytes(record["value"])) for record in records]
    return codecs, found


def same(got: Iterable[Pair], count: int = COUNT) -> None:
    """Fail with the first record that differs, not with a page of them."""
    got = list(got)
    for number, (have, want) in enumerate(zip(got, pairs(count), strict=False)):
        assert have == want, f"record {number}"
    assert len(got) == count


def _bytes(text: object) -> bytes | None:
    return None if text is None else str(text).encode()
