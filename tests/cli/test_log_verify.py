"""`mqlog log verify`: damage of every kind is found, and sound files are sound."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from .command import Done, golden, mqlog
from .segments import batch, partition, segment


def verify(path: Path, *options: str) -> tuple[int, list[dict[str, object]], Done]:
    """Exit code and faults."""
    done = mqlog("log", "verify", path, "-o", "json", *options)
    return done.code, done.json()["faults"], done


def test_sound(tmp_path: Path) -> None:
    partition(tmp_path)
    done = mqlog("log", "verify", tmp_path, "--records")
    assert (done.code, done.out, done.err) == (0, "2 segments, 7 batches, 15 records: sound\n", "")


def test_json_counts(tmp_path: Path) -> None:
    partition(tmp_path)
    done = mqlog("log", "verify", tmp_path, "-o", "json")
    assert done.json() == {"segments": 2, "batches": 7, "records": 15, "faults": []}


def test_text_of_damage(tmp_path: Path) -> None:
    first, second = partition(tmp_path)
    data = bytearray(first.read_bytes())
    data[100] ^= 0x40
    first.write_bytes(bytes(data))
    second.write_bytes(second.read_bytes()[:-3])
    done = mqlog("log", "verify", tmp_path)
    assert done.code == 65
    # The widths of the columns follow the longest path.
    words = done.out.replace(str(tmp_path), "DIR")
    plain = "".join(" ".join(line.split()) + "\n" for line in words.splitlines())
    golden("verify-damaged.txt", plain)


def test_a_torn_tail_is_named_as_one(tmp_path: Path) -> None:
    whole = batch(0, 3)
    path = segment(tmp_path, 0, whole, batch(3, 4)[:-1])
    code, faults, _ = verify(path)
    assert code == 65
    (fault,) = faults
    assert (fault["from_byte"], fault["to_byte"]) == (len(whole), path.stat().st_size)
    assert fault["offset"] == 3
    assert "nothing valid follows" in str(fault["problem"])


@pytest.mark.parametrize("tail", [1, 60, 61, 4096])
def test_zeros_at_the_end(tmp_path: Path, tail: int) -> None:
    whole = batch(0, 3)
    code, faults, _ = verify(segment(tmp_path, 0, whole, bytes(tail)))
    assert code == 65
    assert [fault["from_byte"] for fault in faults] == [len(whole)]


def test_every_byte_that_flips_is_found(tmp_path: Path) -> None:
    """But for the base offset's low bits and the leader epoch: they lie outside the checksum."""
    parts = [batch(0, 2), batch(2, 2, "lz4"), batch(4, 2)]
    whole = b"".join(parts)
    start, end = len(parts[0]), len(parts[0]) + len(parts[1])
    seen = random.Random(20131231).sample(range(start + 16, end), 12)
    for at in [start + 8, start + 11, *seen]:
        data = bytearray(whole)
        data[at] ^= 1 << (at % 8)
        code, faults, done = verify(segment(tmp_path, 0, bytes(data)))
        assert code == 65, f"byte {at}"
        assert (faults[0]["from_byte"], faults[0]["to_byte"]) == (start, end), f"byte {at}"
        assert done.json()["batches"] == 2


def test_an_offset_given_twice(tmp_path: Path) -> None:
    path = segment(tmp_path, 0, batch(0, 3), batch(2, 3))
    code, faults, _ = verify(path)
    assert code == 65
    assert faults[0]["problem"] == "base offset 2 again: 3 comes next"


def test_an_offset_below_the_segments_name(tmp_path: Path) -> None:
    code, faults, _ = verify(segment(tmp_path, 10, batch(4, 3)))
    assert code == 65
    assert "below the segment's name" in str(faults[0]["problem"])


def test_segments_that_overlap(tmp_path: Path) -> None:
    segment(tmp_path, 0, batch(0, 30))
    segment(tmp_path, 20, batch(30, 1))
    code, faults, _ = verify(tmp_path)
    assert code == 65
    assert "its name is below offset 30" in str(faults[0]["problem"])


def test_partitions_of_one_directory_do_not_mix(tmp_path: Path) -> None:
    partition(tmp_path / "0")
    partition(tmp_path / "1")
    done = mqlog("log", "verify", tmp_path)
    assert (done.code, done.out) == (0, "4 segments, 14 batches, 30 records: sound\n")


def test_only_records_opens_batches(tmp_path: Path) -> None:
    from mqlog import _records

    data = bytearray(batch(0, 3))
    data[61:64] = b"\xff\xff\xff"
    data[17:21] = _records.crc32c(bytes(data[21:])).to_bytes(4, "big")
    path = segment(tmp_path, 0, bytes(data))
    assert verify(path)[0] == 0
    code, faults, _ = verify(path, "--records")
    assert (code, len(faults)) == (65, 1)


def test_a_valid_batch_inside_a_value_is_found_after_damage_only_as_itself(tmp_path: Path) -> None:
    from mqlog import _native

    inner = batch(1, 1)
    outer = _native.build_batch([(0, None, inner, [])], base_offset=0)
    code, _, done = verify(segment(tmp_path, 0, outer, batch(1, 1)))
    assert (code, done.json()["batches"]) == (0, 2)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / f"{0:020}.log"
    path.mkdir()
    done = mqlog("log", "verify", tmp_path)
    assert (done.code, done.err) == (74, f"mqlog: {path}: is a directory\n")


def test_an_empty_segment(tmp_path: Path) -> None:
    done = mqlog("log", "verify", segment(tmp_path, 0))
    assert (done.code, done.out, done.err) == (0, "1 segment, 0 batches, 0 records: sound\n", "")


@pytest.mark.parametrize("content", [b"#", b"a list\nof things\n" * 9, bytes(range(256)) * 40])
def test_a_file_that_is_no_segment(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    code, faults, _ = verify(path)
    assert code == 65
    (fault,) = faults
    assert (fault["from_byte"], fault["to_byte"]) == (0, len(content))
    assert str(fault["problem"]).endswith("; is this file a segment?")
