"""Random messages, read and written by us and by kafka-python: same bytes, same values."""

from __future__ import annotations

import dataclasses
import random
from typing import Any
from uuid import UUID

import kafka.protocol.api_message
import pytest
from frames import build, message_class
from golden import Maker
from hypothesis import given, settings
from hypothesis import strategies as st
from model import Message, messages

from mqlog import _native

SPECS = {message.name: message for message in messages()}


def subclasses(cls: type[Any]) -> list[type[Any]]:
    return [one for child in cls.__subclasses__() for one in (child, *subclasses(child))]


THEIRS: dict[str, Any] = {
    cls.__name__: cls
    for cls in subclasses(kafka.protocol.api_message.ApiMessage)
    if cls.__name__ in SPECS
}


def shared_versions(name: str) -> range:
    """The versions that both sides have."""
    first, last = THEIRS[name]._valid_versions
    spec = SPECS[name].versions
    return range(max(first, spec.min), min(last, spec.max) + 1)


def their_name(theirs: Any, name: str) -> str:
    """Some of the fields that hold authorized operations are called just that."""
    short = "authorized_operations"
    return short if name.endswith(short) and hasattr(theirs, short) else name


def agree(spec: Message, version: int, struct: str, ours: Any, theirs: Any) -> None:
    """Every field that the version has holds the same on both sides."""
    for field in spec.structs[struct]:
        if not field.versions.min <= version <= field.versions.max:
            continue
        mine = getattr(ours, field.name)
        other = getattr(theirs, their_name(theirs, field.name))
        inner = field.element if field.struct else None
        if field.array and mine is not None and other is not None:
            assert len(mine) == len(other), field.name
            for one, two in zip(mine, other, strict=True):
                same(spec, version, inner, one, two)
        else:
            same(spec, version, inner, mine, other)


def same(spec: Message, version: int, struct: str | None, mine: Any, other: Any) -> None:
    """One value; theirs may be a UUID, or None for an absent default."""
    if isinstance(other, set):  # kafka-python reads authorized operations as a set of bits
        assert mine & 0xFFFFFFFF == sum(1 << bit for bit in other)
    elif isinstance(other, UUID):
        assert mine == other.bytes
    elif dataclasses.is_dataclass(mine) and other is not None:
        assert struct is not None
        agree(spec, version, struct, mine, other)
    elif other is not None or mine is None:
        assert mine == other


def test_most_messages_have_a_counterpart() -> None:
    assert len(THEIRS) >= 104
    assert sum(len(shared_versions(name)) for name in THEIRS) >= 477


@pytest.mark.parametrize("name", sorted(THEIRS))
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_both_sides_agree(name: str, seed: int) -> None:
    spec = SPECS[name]
    for version in shared_versions(name):
        values, _ = Maker(spec, version, random.Random(seed)).struct(name)
        if name == "ApiVersionsResponse":
            values["error_code"] = 0  # with an error kafka-python reads it as v0, as it should
        ours = build(message_class(spec.module, name), values)
        body = _native.encode_named(name, version, ours)
        theirs = THEIRS[name][version].decode(body)
        agree(spec, version, name, ours, theirs)
        theirs._header = None  # its DeleteTopicsRequest cannot encode what it decoded without this
        again = bytes(theirs.encode())
        assert again == body, f"v{version}"
        assert _native.decode_named(name, version, again) == ours
