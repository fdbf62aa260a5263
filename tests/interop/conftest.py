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
    client = getattr(item.module, "CLIENT", None)  # type: ignore[attr-defined]
    if client and callspec and "codec" in callspec.params and _decides(report):
        _CLIENTS.setdefault(client, {})[callspec.params["codec"]] = report.outcome


def _decides(report: pytest.TestReport) -> bool:
    return report.when == "call" or report.outcome != "passed"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table: clients by codecs. Under pytest-xdist the workers hold it, so there is none."""
    if not _CLIENTS:
        return
    terminalreporter.section("clients")
    wide = max(map(len, _CLIENTS))
    terminalreporter.write_line("client".ljust(wide) + "".join(f"{c:>9}" for c in CODECS))
    for client, results in sorted(_CLIENTS.items()):
        cells = "".join(f"{results.get(codec, '-'):>9}" for codec in CODECS)
        terminalreporter.write_line(client.ljust(wide) + cells)
