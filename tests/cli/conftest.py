"""One broker for the tests of commands: ours, or the one that MQLOG_TEST_BOOTSTRAP names."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from .serving import serving


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is ours alone is not asked of another broker."""
    for item in items:
        if os.environ.get("MQLOG_TEST_BOOTSTRAP") and item.get_closest_marker("ours"):
            item.add_marker(pytest.mark.skip(reason="about mqlog alone"))


@pytest.fixture(scope="session")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """HOST:PORT of it."""
    named = os.environ.get("MQLOG_TEST_BOOTSTRAP", "")
    if named:
        yield named
        return
    with serving(tmp_path_factory.mktemp("data")) as broker:
        yield broker.bootstrap
