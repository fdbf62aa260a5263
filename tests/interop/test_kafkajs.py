"""KafkaJS: produce and read back with every codec.

Its public consumer always joins a group, so records are read with the fetch of its own cluster
object, which is what the consumer uses underneath.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from .programs import BUILD, HERE, need, run
from .records import CODECS, COUNT, same, stored

pytestmark = pytest.mark.interop
PACKAGE = HERE / "kafkajs" / "package.json"
CLIENT = "KafkaJS " + json.loads(PACKAGE.read_text())["dependencies"]["kafkajs"]


@pytest.fixture(scope="module")
def folder() -> Path:
    need("node", "npm")
    made = BUILD / "kafkajs"
    made.mkdir(parents=True, exist_ok=True)
    shutil.copy(PACKAGE, made)
    shutil.copy(HERE / "kafkajs" / "interop.js", made)
    run(["npm", "install", "--no-audit", "--no-fund", "--silent"], cwd=made)
    return made


@pytest.mark.parametrize("codec", CODECS)
def test_produce_and_read_back(bootstrap: str, topic: str, codec: str, folder: Path) -> None:
    out = run(["node", "interop.js", bootstrap, topic, codec, str(COUNT)], cwd=folder)
    assert out.decode().strip().endswith(f"ok {COUNT}")
    codecs, kept = stored(bootstrap, topic)
    assert codecs == {codec}
    same(kept)
