"""One broker for the tests of `mqlog topic`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .serving import serving


@pytest.fixture(scope="session")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """HOST:PORT of it."""
    with serving(tmp_path_factory.mktemp("data")) as broker:
        yield broker.bootstrap
