"""kcat: produce and read back with every codec."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from .programs import need, run
from .records import CODECS, COUNT, pairs, same, stored

pytestmark = pytest.mark.interop
SEPARATOR = b"\x1f"


def _version() -> str:
    if shutil.which("kcat") is None:
        return "kcat"
    said = subprocess.run(["kcat", "-V"], capture_output=True, text=True, check=False).stdout
    words = said.split()
    return f"kcat {words[words.index('Version') + 1]}" if "Version" in words else "kcat"


CLIENT = _version()


@pytest.mark.parametrize("codec", CODECS)
def test_produce_and_read_back(bootstrap: str, topic: str, codec: str) -> None:
    need("kcat")
    # -Z: what is empty on the line is null in the record.
    lines = b"\n".join((key or b"") + SEPARATOR + (value or b"") for key, value in pairs())
    common = ["kcat", "-b", bootstrap, "-t", topic, "-p", "0", "-K", SEPARATOR.decode()]
    linger = ["-X", "linger.ms=50", "-X", "enable.idempotence=true"]
    run([*common, "-P", "-Z", "-z", codec, *linger], stdin=lines + b"\n")

    form = "%o\\t%K\\t%k\\t%S\\t%s\\n"
    out = run(["kcat", "-b", bootstrap, "-t", topic, "-p", "0", "-C", "-e", "-q", "-f", form])
    got = []
    for number, line in enumerate(out.splitlines()):
        offset, key_size, key, value_size, value = line.split(b"\t")
        assert int(offset) == number
        got.append((None if key_size == b"-1" else key, None if value_size == b"-1" else value))
    same(got, COUNT)
    codecs, kept = stored(bootstrap, topic)
    # librdkafka leaves a batch alone that compression would not shrink.
    assert codecs - {"none"} == {codec} - {"none"}
    same(kept)
