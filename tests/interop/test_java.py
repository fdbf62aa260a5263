"""Apache Kafka's own Java client: produce and read back with every codec."""

from __future__ import annotations

import re

import pytest

from .programs import HERE, classpath, run
from .records import CODECS, COUNT, same, stored

pytestmark = pytest.mark.interop
POM = HERE / "java" / "pom.xml"
CLIENT = "Java client " + re.findall(r"<version>([\d.]+)</version>", POM.read_text())[1]


@pytest.fixture(scope="module")
def jars() -> str:
    """The classpath of the client."""
    return classpath(POM)


@pytest.mark.parametrize("codec", CODECS)
def test_produce_and_read_back(bootstrap: str, topic: str, codec: str, jars: str) -> None:
    program = str(HERE / "java" / "Interop.java")
    out = run(["java", "-cp", jars, program, bootstrap, topic, codec, str(COUNT)])
    assert out.decode().strip().endswith(f"ok {COUNT}")
    codecs, kept = stored(bootstrap, topic)
    assert codecs == {codec}
    same(kept)
