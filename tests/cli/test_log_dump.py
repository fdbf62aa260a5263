"""`mqlog log dump`: what is in segments, without a broker."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from mqlog import _records

from .command import golden, mqlog
from .segments import batch, partition, segment

FIXTURES = Path(__file__).parent.parent / "fixtures" / "batches"


@pytest.mark.parametrize("options", [[], ["--records"]], ids=["batches", "records"])
def test_text(tmp_path: Path, options: list[str]) -> None:
    partition(tmp_path)
    done = mqlog("log", "dump", tmp_path, *options)
    assert (done.code, done.err) == (0, "")
    golden(f"dump{''.join(options)}.txt", done.out.replace(str(tmp_path), "DIR"))


def test_json_is_one_object_a_batch_and_loses_nothing(tmp_path: Path) -> None:
    files = partition(tmp_path)
    done = mqlog("log", "dump", tmp_path, "--records", "--output", "json")
    assert done.code == 0
    rows = done.lines()
    read = [(f, b) for f in files for b in _records.decode_batches(f.read_bytes())]
    assert [(row["segment"], row["base_offset"], row["codec"]) for row in rows] == [
        (str(file), batch.base_offset, batch.codec) for file, batch in read
    ]
    for row, (_, one) in zip(rows, read, strict=True):
        for shown, record in zip(row["records"], one.records(), strict=True):
            assert shown["offset"] == record.offset
            assert shown["time"] == record.timestamp
            assert _bytes(shown["key"]) == record.key
            assert _bytes(shown["value"]) == record.value
            assert [(name, _bytes(value)) for name, value in shown["headers"]] == record.headers


def _bytes(shown: object) -> bytes | None:
    if isinstance(shown, dict):
        return base64.b64decode(shown["base64"])
    return None if shown is None else str(shown).encode()


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*.batch")), ids=lambda path: path.stem)
def test_batches_that_others_wrote(path: Path) -> None:
    done = mqlog("log", "dump", path, "--records", "-o", "json")
    assert (done.code, done.err) == (0, "")
    read = _records.decode_batches(path.read_bytes())
    assert [row["crc"] for row in done.lines()] == [f"{one.crc:08x}" for one in read]
    assert sum(len(row["records"]) for row in done.lines()) == sum(
        len(one.records()) for one in read
    )


def test_from_offset_begins_with_the_batch_that_holds_it(tmp_path: Path) -> None:
    partition(tmp_path)
    done = mqlog("log", "dump", tmp_path, "--from-offset", "8", "-o", "json")
    assert [row["base_offset"] for row in done.lines()] == [7, 9, 20, 22, 23]


def test_limit_counts_batches(tmp_path: Path) -> None:
    partition(tmp_path)
    done = mqlog("log", "dump", tmp_path, "--from-offset", "5", "--limit", "2", "-o", "json")
    assert (done.code, [row["base_offset"] for row in done.lines()]) == (0, [5, 7])


def test_damage_is_shown_where_it_is_and_the_rest_goes_on(tmp_path: Path) -> None:
    good, bad, last = batch(0, 3), bytearray(batch(3, 3)), batch(6, 1)
    bad[-1] ^= 1
    path = segment(tmp_path, 0, good, bytes(bad), last)
    done = mqlog("log", "dump", path, "-o", "json")
    assert done.code == 65
    first, damage, third = done.lines()
    assert (first["base_offset"], third["base_offset"]) == (0, 6)
    assert damage["damaged"] == str(path)
    assert (damage["from_byte"], damage["to_byte"]) == (len(good), len(good) + len(bad))
    assert damage["offset"] == 3


def test_records_that_do_not_decompress(tmp_path: Path) -> None:
    data = bytearray(batch(0, 3, "zstd"))
    data[-4:] = b"\0\0\0\0"
    # With a right checksum only opening the batch tells.
    data[17:21] = _records.crc32c(bytes(data[21:])).to_bytes(4, "big")
    path = segment(tmp_path, 0, bytes(data), batch(3, 1))
    assert mqlog("log", "dump", path).code == 0
    done = mqlog("log", "dump", path, "--records", "-o", "json")
    assert done.code == 65
    first, second = done.lines()
    assert first["damaged"] == str(path)
    assert first["problem"]
    assert second["records"][0]["value"] == "value 3"


@pytest.mark.parametrize(
    ("make", "code", "said"),
    [
        pytest.param(lambda folder: folder / "none", 2, "does not exist", id="missing"),
        pytest.param(lambda folder: folder, 2, "no segment files", id="empty directory"),
    ],
)
def test_nothing_to_read(tmp_path: Path, make: object, code: int, said: str) -> None:
    assert callable(make)
    done = mqlog("log", "dump", make(tmp_path))
    assert done.code == code
    assert said in done.err
    assert done.out == ""


def test_an_empty_segment(tmp_path: Path) -> None:
    path = segment(tmp_path, 0)
    done = mqlog("log", "dump", path)
    assert (done.code, done.out, done.err) == (0, f"segment {path}\n", "")
    done = mqlog("log", "dump", path, "-o", "json")
    assert (done.code, done.out, done.err) == (0, "", "")
