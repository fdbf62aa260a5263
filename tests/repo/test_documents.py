"""No page names a file, a make target, a command or an option that is not there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import click
import pytest

from mqlog.cli import cli

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
]
MAKEFILE = (ROOT / "Makefile").read_text()
README = (ROOT / "README.md").read_text()


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" not in target and not target.startswith("#"):
            assert (page.parent / target.split("#")[0]).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_paths_exist(page: Path) -> None:
    """Paths in backquotes that begin with a folder of ours."""
    folders = "rust|cython|python|tests|tools|examples|asv_bench"
    for path in re.findall(rf"`((?:{folders})/[\w./-]+)`", page.read_text()):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    for target in re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(), re.MULTILINE):
        assert target in targets, target


def test_every_target_is_explained() -> None:
    phony = set(re.findall(r"^\.PHONY: ([a-z-]+)", MAKEFILE, re.MULTILINE))
    explained = set(re.findall(r"^([a-z-]+):.*## \w", MAKEFILE, re.MULTILINE))
    assert phony == explained


def rows() -> list[tuple[list[str], str]]:
    """The README's table of commands: each with the text beside it."""
    found = []
    table = re.findall(r"^\| `mqlog ([^`]+)` \| (.*) \|$", README, re.MULTILINE)
    for line, text in table:
        group, *rest = line.replace("\\|", "|").split()
        names = rest[0].split("|") if rest and rest[0].islower() else []
        found += [([group, name], text) for name in names] or [([group], text)]
    return found


def test_the_table_of_commands_is_complete() -> None:
    groups = {path[0] for path, _ in rows()}
    assert groups == set(cli.list_commands(click.Context(cli)))


@pytest.mark.parametrize(("path", "text"), rows(), ids=lambda value: " ".join(value)[:20])
def test_commands_and_their_options_exist(path: list[str], text: str) -> None:
    command: click.Command = cli
    for word in path:
        assert isinstance(command, click.Group)
        child = command.get_command(click.Context(command), word)
        assert child is not None, word
        command = child
    options = {name for option in command.params for name in option.opts}
    assert set(re.findall(r"--[a-z][a-z-]*", text)) <= options
