"""Golden frames and the objects they stand for."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parent.parent / "fixtures" / "frames"


class Golden(NamedTuple):
    """One message in one version, as Kafka's Java classes encoded it."""

    name: str
    version: int
    values: dict[str, Any]
    body: bytes
    module: str

    @property
    def cls(self) -> type[Any]:
        """Our class of the message."""
        return message_class(self.module, self.name)

    @property
    def message(self) -> Any:
        """Our object with the golden values."""
        return build(self.cls, self.values)


def golden() -> Iterator[Golden]:
    """Every golden frame."""
    for path in sorted(FOLDER.glob("*.tsv")):
        for line in path.read_text().splitlines():
            name, version, values, body = line.split("\t")
            yield Golden(name, int(version), json.loads(values), bytes.fromhex(body), path.stem)


def message_class(module: str, name: str) -> type[Any]:
    """Our class of a message."""
    found: type[Any] = getattr(import_module(f"mqlog.protocol.{module}"), name)
    return found


@cache
def hints(cls: type[Any]) -> dict[str, Any]:
    """The types of a class's fields."""
    return typing.get_type_hints(cls)


def build(cls: type[Any], values: dict[str, Any]) -> Any:
    """An object of a class from JSON values, in which bytes are hex; the rest are defaults."""
    return cls(**{name: convert(hints(cls)[name], value) for name, value in values.items()})


def convert(hint: Any, value: Any) -> Any:
    """A JSON value as what its type says."""
    if isinstance(hint, types.UnionType):
        return None if value is None else convert(typing.get_args(hint)[0], value)
    if typing.get_origin(hint) is list:
        return [convert(typing.get_args(hint)[0], item) for item in value]
    if dataclasses.is_dataclass(hint):
        assert isinstance(hint, type)
        return build(hint, value)
    return bytes.fromhex(value) if hint is bytes else value
