"""Batches written by Apache Kafka and kafka-python are read as kafka-python's reader reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mqlog import _records

FOLDER = Path(__file__).parent.parent / "fixtures" / "batches"
DESCRIPTION: dict[str, list[dict[str, Any]]] = json.loads((FOLDER / "batches.json").read_text())


def test_every_file_is_described() -> None:
    assert sorted(DESCRIPTION) == sorted(path.stem for path in FOLDER.glob("*.batch"))


def as_text(data: bytes | None) -> str | None:
    return None if data is None else data.hex()


def described(batch: _records.Batch) -> dict[str, Any]:
    return {
        "position": batch.position,
        "base_offset": batch.base_offset,
        "last_offset_delta": batch.last_offset_delta,
        "leader_epoch": batch.partition_leader_epoch,
        "crc": batch.crc,
        "attributes": batch.attributes,
        "first_timestamp": batch.base_timestamp,
        "max_timestamp": batch.max_timestamp,
        "producer_id": batch.producer_id,
        "producer_epoch": batch.producer_epoch,
        "base_sequence": batch.base_sequence,
        "records_count": batch.records_count,
        "records": [
            {
                "offset": record.offset,
                "timestamp": record.timestamp,
                "key": as_text(record.key),
                "value": as_text(record.value),
                "headers": [[name, as_text(value)] for name, value in record.headers],
            }
            for record in batch.records()
        ],
    }


@pytest.mark.parametrize("name", sorted(DESCRIPTION))
def test_read_as_their_writers_do(name: str) -> None:
    data = (FOLDER / f"{name}.batch").read_bytes()
    assert [described(batch) for batch in _records.decode_batches(data)] == DESCRIPTION[name]


def test_flags() -> None:
    def only(name: str) -> list[_records.Batch]:
        return _records.decode_batches((FOLDER / f"{name}.batch").read_bytes())

    markers = only("java-markers")
    assert [batch.is_control for batch in markers] == [False, True, False, True]
    assert all(batch.is_transactional for batch in markers)
    # Key: version 0, then 1 for commit, 0 for abort.
    assert [b.records()[0].key for b in markers if b.is_control] == [b"\0\0\0\1", b"\0\0\0\0"]
    (stamped,) = only("java-append-time")
    assert stamped.is_log_append_time
    assert {(r.timestamp, r.timestamp_type) for r in stamped.records()} == {
        (stamped.max_timestamp, 1)
    }
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        assert [batch.codec for batch in only(f"python-{codec}-mixed")] == [codec]
    compacted = only("java-compacted")
    assert [b.records_count for b in compacted[:2]] == [0, 0]
    assert [b.next_offset for b in compacted] == [10, 15, 25, 30, 40]
