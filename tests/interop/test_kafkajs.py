"""KafkaJS: produce and read back with every codec.

Its public consumer always joins a group, so records are read with the fetch of its own cluster
object, which is what the consumer uses underneath.
"""

from __future__ import annotations

import json

import pytest

from .programs import HERE, kafkajs, run
from .records import CODECS, COUNT, same, stored

pytestmark = pytest.mark.interop
PACKAGE = HERE / "kafkajs" / "package.json"
CLIENT = "KafkaJS " + json.loads(PACKAGE.read_text())["dependencies"]["kafkajs"]


@pytest.mark.parametrize("codec", CODECS)
def test_produce_and_read_back(bootstrap: str, topic: str, codec: str) -> None:
    out = run([*kafkajs("interop"), bootstrap, topic, codec, str(COUNT)])
    assert out.decode().strip().endswith(f"ok {COUNT}")
    codecs, kept = stored(bootstrap, topic)
    assert codecs == {codec}
    same(kept)
