"""What --help says, word for word: it is read more often than any page of documentation."""

from __future__ import annotations

import re

import pytest

from mqlog import _native

from .command import golden, mqlog

COMMANDS = [
    *("", "serve", "version", "produce", "consume"),
    *("topic", "topic list", "topic create", "topic describe"),
    *("topic alter", "topic delete", "topic trim"),
    *("group", "group list", "group describe", "group seek", "group delete"),
    *("config", "config list", "config get", "config set"),
    *("log", "log dump", "log verify"),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str) -> None:
    done = mqlog(*command.split(), "--help")
    assert (done.code, done.err) == (0, "")
    golden(f"help-{command.replace(' ', '-') or 'mqlog'}.txt", done.out)


def test_no_command_is_left_out() -> None:
    found = {
        f"{group} {command}".strip()
        for group in ("", "topic", "group", "config", "log")
        for command in re.findall(r"^  ([a-z]+)  ", mqlog(*group.split(), "-h").out, re.MULTILINE)
    }
    assert {"", *found} == set(COMMANDS)


def test_exit_codes_are_those_that_are_told() -> None:
    import mqlog.cli as cli

    told = re.findall(r"^ +(\d+)  ", mqlog("--help").out, re.MULTILINE)
    codes = {value for name, value in vars(cli).items() if re.fullmatch(r"EXIT_[A-Z]+", name)}
    assert {int(code) for code in told} == {0} | {c for c in codes if isinstance(c, int)}


def test_no_command_is_usage() -> None:
    done = mqlog()
    assert done.code == 2
    assert "Usage: mqlog" in done.out + done.err


@pytest.mark.parametrize("arguments", [["nonsense"], ["topic", "nonsense"], ["log", "nonsense"]])
def test_no_such_command(arguments: list[str]) -> None:
    done = mqlog(*arguments)
    assert done.code == 2
    assert "No such command 'nonsense'" in done.err


def test_version() -> None:
    done = mqlog("version", "--output", "json")
    assert done.code == 0
    assert done.json()[0]["version"] == _native.__version__
