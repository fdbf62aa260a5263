"""`mqlog log` on the files of a broker that an unmodified client filled with every codec."""

from __future__ import annotations

import random
import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from confluent_kafka import Producer

from .command import golden, mqlog
from .segments import TIME_MS
from .serving import serving

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
A_BATCH = 3
BIG = 700_000


class Written(NamedTuple):
    """A data directory and two partitions in it: one of all codecs, one of several segments."""

    data: Path
    codecs: Path
    segments: Path


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    data = tmp_path_factory.mktemp("written")
    with serving(data) as broker:
        where = [
            directory(broker.bootstrap, "codecs", "retention.ms=-1"),
            directory(broker.bootstrap, "segments", "segment.bytes=1048576"),
        ]
        for codec in CODECS:
            produce(
                broker.bootstrap, "codecs", codec, [f"{codec} {i}" * 20 for i in range(A_BATCH)]
            )
        noise = random.Random(4).randbytes(BIG)
        for _ in range(3):
            produce(broker.bootstrap, "segments", "none", [noise])
        assert broker.stop() == 0
    return Written(data, *where)


def directory(bootstrap: str, topic: str, setting: str) -> Path:
    """Make a topic; where its partition is."""
    assert mqlog("topic", "create", topic, "--set", setting, "-b", bootstrap).code == 0
    (shown,) = mqlog("topic", "describe", topic, "-b", bootstrap, "-o", "json").json()
    return Path(shown["partitions"][0]["directory"])


def produce(bootstrap: str, topic: str, codec: str, values: list[Any]) -> None:
    """One batch."""
    producer = Producer(
        {"bootstrap.servers": bootstrap, "compression.type": codec, "linger.ms": 10_000}
    )
    # Once it knows the partition, nothing is sent before the flush.
    producer.list_topics(topic, timeout=30)
    for number, value in enumerate(values):
        producer.produce(topic, value, f"key {number}", timestamp=TIME_MS, headers={"n": b"\xff"})
    assert producer.flush(30) == 0


def only(folder: Path) -> Path:
    """The one segment of a partition."""
    (segment,) = folder.glob("*.log")
    return segment


def test_dump_for_people(written: Written) -> None:
    done = mqlog("log", "dump", written.codecs, "--records")
    assert (done.code, done.err) == (0, "")
    text = done.out.replace(str(written.codecs), "DIR")
    # How well a codec does is the affair of the client's libraries.
    golden("dump-of-broker.txt", re.sub(r"\b(position|size|crc) \w+", r"\1 *", text))


def test_dump_for_programs(written: Written) -> None:
    rows = mqlog("log", "dump", written.codecs, "--records", "-o", "json").lines()
    assert [row["codec"] for row in rows] == CODECS
    ends = [row["position"] + row["size"] for row in rows]
    assert [row["position"] for row in rows] == [0, *ends[:-1]]
    assert ends[-1] == only(written.codecs).stat().st_size
    values = [record["value"] for row in rows for record in row["records"]]
    assert values == [f"{codec} {i}" * 20 for codec in CODECS for i in range(A_BATCH)]


def test_a_directory_is_its_segments(written: Written) -> None:
    files = sorted(written.segments.glob("*.log"))
    assert [int(file.stem) for file in files] == [0, 1, 2]
    whole = mqlog("log", "dump", written.segments).out
    assert whole == "".join(mqlog("log", "dump", file).out for file in files)
    rows = mqlog("log", "dump", written.segments, "--from-offset", "1", "-o", "json").lines()
    assert [(row["segment"], row["base_offset"]) for row in rows] == [
        (str(file), offset) for offset, file in enumerate(files) if offset
    ]


@pytest.mark.parametrize("options", [[], ["--records"]], ids=["headers", "records"])
def test_the_whole_data_directory_is_sound(written: Written, options: list[str]) -> None:
    done = mqlog("log", "verify", written.data, "-o", "json", *options)
    assert (done.code, done.err) == (0, "")
    found = done.json()
    meta = mqlog("log", "verify", written.data / "meta", "-o", "json").json()
    ours = {"segments": 1 + 3, "batches": len(CODECS) + 3, "records": len(CODECS) * A_BATCH + 3}
    assert found == {"faults": [], **{key: ours[key] + meta[key] for key in ours}}


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("command", ["dump", "verify"])
def test_a_flipped_byte_is_found_and_placed(
    written: Written, tmp_path: Path, command: str, codec: str
) -> None:
    shutil.copytree(written.codecs, tmp_path, dirs_exist_ok=True)
    rows = mqlog("log", "dump", tmp_path, "-o", "json").lines()
    hurt = rows[CODECS.index(codec)]
    path = only(tmp_path)
    data = bytearray(path.read_bytes())
    data[hurt["position"] + random.Random(codec).randrange(21, hurt["size"])] ^= 0x10
    path.write_bytes(bytes(data))
    done = mqlog("log", command, tmp_path, "-o", "json")
    assert done.code == 65
    if command == "verify":
        (fault,) = done.json()["faults"]
    else:
        (fault,) = [row for row in done.lines() if "damaged" in row]
        assert [row for row in done.lines() if row in rows] == [r for r in rows if r != hurt]
    assert fault["damaged"] == str(path)
    assert fault["from_byte"] == hurt["position"]
    assert fault["to_byte"] == hurt["position"] + hurt["size"]
    assert fault["offset"] == hurt["base_offset"]
