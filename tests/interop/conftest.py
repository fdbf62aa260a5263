"""The broker under test (ours, or MQLOG_TEST_BOOTSTRAP), a topic a test, a table at the end."""

from __future__ import annotations

import os
import uuid
import warnings
from collections.abc import Iterator

import pytest

with warnings.catch_warnings():
    # kafka-python uses a deprecated function when it is imported; warnings are errors here.
    warnings.simplefilter("ignore")
    import kafka.record.default_records  # noqa: F401

from .records import CODECS, mqlog

_CLIENTS: dict[str, dict[str, str]] = {}
#: What a client was asked to do, and what became of it: every test of it has to pass.
_MATRIX: dict[str, dict[str, str]] = {}
COLUMNS = ["produce, consume", "eager", "cooperative", "static", "resume", "admin"]


@pytest.fixture(scope="session")
def bootstrap() -> Iterator[str]:
    """HOST:PORT of the broker."""
    named = os.environ.get("MQLOG_TEST_BOOTSTRAP", "")
    if named:
        yield named
        return
    from mqlog.testing import Broker

    with Broker() as broker:
        yield broker.bootstrap_servers


@pytest.fixture
def topic(bootstrap: str) -> str:
    """A new topic of one partition."""
    name = f"interop-{uuid.uuid4().hex[:12]}"
    mqlog("topic", "create", name, "--partitions", "1", "--bootstrap", bootstrap)
    return name


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Note what became of each test that names a client and a codec."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    callspec = getattr(item, "callspec", None)
    if callspec is None or not _decides(report):
        return
    client = getattr(item.module, "CLIENT", None)  # type: ignore[attr-defined]
    if client and "codec" in callspec.params:
        _CLIENTS.setdefault(client, {})[callspec.params["codec"]] = report.outcome
        _note(client.split()[0], "produce, consume", report.outcome)
    elif "client" in callspec.params:
        client, mode = callspec.params["client"], callspec.params.get("mode")
        for column in (mode, "resume") if mode else ("admin",):
            _note(client, column, report.outcome)


def _note(client: str, column: str, outcome: str) -> None:
    row = _MATRIX.setdefault(client, {})
    if row.get(column, "passed") == "passed":
        row[column] = outcome


def _decides(report: pytest.TestReport) -> bool:
    return report.when == "call" or report.outcome != "passed"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The tables. Under pytest-xdist the workers hold them, so there are none."""
    for title, columns, rows in (
        ("codecs", CODECS, _CLIENTS),
        ("clients ('-': the client does not have it)", COLUMNS, _MATRIX),
    ):
        if not rows:
            continue
        terminalreporter.section(title)
        wide = max(map(len, rows))
        heads = [max(9, len(column) + 2) for column in columns]
        line = "".join(f"{c:>{w}}" for c, w in zip(columns, heads, strict=True))
        terminalreporter.write_line(" " * wide + line)
        for client, results in sorted(rows.items()):
            cells = (f"{results.get(c, '-'):>{w}}" for c, w in zip(columns, heads, strict=True))
            terminalreporter.write_line(client.ljust(wide) + "".join(cells))
