"""Kafka's own command-line classes against mqlog: each ends and says what it does with Kafka.

What they say with Kafka 4.3.1 is kept in kafka_tools.json. `MQLOG_TEST_ORACLE=HOST:PORT` names a
Kafka that is asked as well; with `MQLOG_TEST_UPDATE_GOLDEN=1` the file is written from it, and the
table of docs/compatibility.md from the file.
"""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import Any

import pytest

from .commands import COMMANDS, Command, plain, run_all
from .programs import HERE, classpath

pytestmark = pytest.mark.interop
ORACLE = os.environ.get("MQLOG_TEST_ORACLE", "")
UPDATE = bool(os.environ.get("MQLOG_TEST_UPDATE_GOLDEN"))
RECORDED = HERE / "kafka_tools.json"
PAGE = HERE.parent.parent / "docs" / "compatibility.md"
BEGIN, END = "<!-- commands -->", "<!-- end of commands -->"


@pytest.fixture(scope="module")
def tools() -> str:
    """The classpath of Kafka's tools."""
    return classpath(HERE / "java" / "tools" / "pom.xml")


def said(tools: str, bootstrap: str, folder: Path) -> list[dict[str, Any]]:
    """What every command says to a broker."""
    folder.mkdir()
    name = uuid.uuid4().hex[:10]
    outcomes = run_all(tools, bootstrap, name, folder)
    assert len(outcomes) == len(COMMANDS), outcomes[-1:]
    rows = []
    for command, outcome in zip(COMMANDS, outcomes, strict=True):
        code, lines, reasons = plain(command, outcome, bootstrap, name)
        rows.append({"command": command.text, "code": code, "says": lines, "known": reasons})
    return rows


def row(command: Command, kafka: dict[str, Any], reasons: list[str]) -> str:
    """A line of the table."""
    shown = command.arguments.replace("--bootstrap-server {b}", "").strip()
    shown = shown.replace("{t}", "T").replace("{g}", "G").replace("{d}/", "").replace("|", "\\|")
    note = "; ".join(dict.fromkeys(reasons)) or "the same"
    return f"| {command.tool} | `{shown}` | {kafka['code']} | {note} |"


@pytest.mark.timeout(600)
def test_every_command_says_what_it_says_with_kafka(tools: str, tmp_path: Path) -> None:
    from mqlog.testing import Broker

    sides = {}
    with Broker(config={"group.initial.rebalance.delay.ms": 0}) as broker:
        sides["mqlog"] = said(tools, broker.bootstrap_servers, tmp_path / "mqlog")
    if ORACLE:
        sides["kafka"] = said(tools, ORACLE, tmp_path / "kafka")
    if ORACLE and UPDATE:
        text = json.dumps(sides["kafka"], indent=1, ensure_ascii=False)
        RECORDED.write_text(text + "\n")
    recorded = json.loads(RECORDED.read_text())
    assert [one["command"] for one in recorded] == [command.text for command in COMMANDS]
    wrong = [
        f"{side}: {kafka['command']}\n  kafka {kafka['code']} {kafka['says']}"
        f"\n  {side} {one['code']} {one['says']}"
        for side, rows in sides.items()
        for kafka, one in zip(recorded, rows, strict=True)
        if (kafka["code"], kafka["says"]) != (one["code"], one["says"])
    ]
    assert not wrong, "\n".join(wrong)

    table = [
        row(command, kafka, kafka["known"] + mine["known"])
        for command, kafka, mine in zip(COMMANDS, recorded, sides["mqlog"], strict=True)
    ]
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    shown, _, after = rest.partition(END)
    head = "| class | arguments | exit code of both | what they say |\n|---|---|---|---|\n"
    wanted = f"\n\n{head}" + "\n".join(table) + "\n\n"
    if UPDATE:
        PAGE.write_text(before + BEGIN + wanted + END + after)
    else:
        assert shown == wanted, "MQLOG_TEST_UPDATE_GOLDEN=1 writes the table anew"
