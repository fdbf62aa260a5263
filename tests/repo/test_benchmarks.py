"""Every benchmark runs, once, with its first parameters: what nobody runs rots."""

from __future__ import annotations

import importlib
import inspect
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "asv_bench"
MODULES = sorted(
    path.stem
    for path in (FOLDER / "benchmarks").glob("*.py")
    if path.stem not in ("__init__", "wire")
)


def benchmarks(module: str) -> Iterator[tuple[type, str]]:
    """The classes of a module and their timed or tracked methods."""
    sys.path.insert(0, str(FOLDER))
    try:
        loaded = importlib.import_module(f"benchmarks.{module}")
    finally:
        sys.path.remove(str(FOLDER))
    for _, found in inspect.getmembers(loaded, inspect.isclass):
        for name in vars(found):
            if name.startswith(("time_", "track_")):
                yield found, name


def first_parameters(benchmark: Any) -> tuple[Any, ...]:
    params = benchmark.params
    many = params if isinstance(params, tuple) else (params,)
    return next(itertools.product(*many))


@pytest.mark.parametrize("module", MODULES)
def test_benchmark(module: str) -> None:
    found = list(benchmarks(module))
    assert found
    for kind, name in found:
        benchmark: Any = kind()
        parameters = first_parameters(benchmark)
        benchmark.setup(*parameters)
        try:
            getattr(benchmark, name)(*parameters)
        finally:
            getattr(benchmark, "teardown", lambda *_: None)(*parameters)


def test_the_table_is_complete() -> None:
    text = (FOLDER / "README.md").read_text()
    assert [module for module in MODULES if f"`{module}.py`" not in text] == []
