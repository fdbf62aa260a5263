"""franz-go: produce and read back with every codec."""

from __future__ import annotations

import re

import pytest

from .programs import HERE, franz_go, run
from .records import CODECS, COUNT, same, stored

pytestmark = pytest.mark.interop
MODULE = re.compile(r"franz-go v([\d.]+)")
CLIENT = "franz-go " + MODULE.findall((HERE / "go" / "go.mod").read_text())[0]


@pytest.mark.parametrize("codec", CODECS)
def test_produce_and_read_back(bootstrap: str, topic: str, codec: str) -> None:
    out = run([*franz_go("interop"), bootstrap, topic, codec, str(COUNT)])
    assert out.decode().strip().endswith(f"ok {COUNT}")
    codecs, kept = stored(bootstrap, topic)
    # It leaves a batch alone that compression would not shrink.
    assert codecs - {"none"} == {codec} - {"none"}
    same(kept)
