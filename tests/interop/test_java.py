"""Apache Kafka's own Java client: produce and read back with every codec."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .programs import BUILD, HERE, need, run
from .records import CODECS, COUNT, same, stored

pytestmark = pytest.mark.interop
POM = HERE / "java" / "pom.xml"
CLIENT = "Java client " + re.findall(r"<version>([\d.]+)</version>", POM.read_text())[1]


@pytest.fixture(scope="module")
def classpath() -> str:
    need("java", "mvn")
    out: Path = BUILD / "java-classpath"
    BUILD.mkdir(parents=True, exist_ok=True)
    goal = ["dependency:build-classpath", f"-Dmdep.outputFile={out}"]
    run(["mvn", "-q", "-B", "-f", str(POM), *goal])
    return out.read_text().strip()


@pytest.mark.parametrize("codec", CODECS)
def test_produce_and_read_back(bootstrap: str, topic: str, codec: str, classpath: str) -> None:
    program = str(HERE / "java" / "Interop.java")
    out = run(["java", "-cp", classpath, program, bootstrap, topic, codec, str(COUNT)])
    assert out.decode().strip().endswith(f"ok {COUNT}")
    codecs, kept = stored(bootstrap, topic)
    assert codecs == {codec}
    same(kept)
