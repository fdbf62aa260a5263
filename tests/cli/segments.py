"""Segment files whose every byte the test knows."""

from __future__ import annotations

from pathlib import Path

from mqlog import _native

TIME_MS = 1_700_000_000_000


def batch(base_offset: int, count: int, codec: str = "none", **more: object) -> bytes:
    """A batch of `count` records: a key with every other one, one with headers and raw bytes."""
    records = [
        (
            TIME_MS + number,
            f"key {number}".encode() if number % 2 else None,
            b"\xff\xfe" if number == 3 else f"value {base_offset + number}".encode(),
            [("name", b"header"), ("name", None)] if number == 1 else [],
        )
        for number in range(count)
    ]
    return _native.build_batch(records, codec, base_offset=base_offset, **more)  # type: ignore[arg-type]


def segment(folder: Path, base_offset: int, *batches: bytes) -> Path:
    """A segment file of these bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{base_offset:020}.log"
    path.write_bytes(b"".join(batches))
    return path


def partition(folder: Path) -> list[Path]:
    """Two segments: every codec, an idempotent producer, a control batch, an offset gap."""
    marker = _native.build_control_batch(
        commit=True, producer_id=7, producer_epoch=1, coordinator_epoch=2, timestamp=TIME_MS
    )
    first = [
        batch(0, 5),
        batch(5, 2, "gzip", leader_epoch=0),
        batch(7, 2, "snappy", leader_epoch=1),
        batch(9, 2, "lz4", producer_id=7, producer_epoch=1, base_sequence=0),
    ]
    second = [
        batch(20, 2, "zstd", producer_id=7, producer_epoch=1, base_sequence=2, transactional=True),
        (22).to_bytes(8, "big") + marker[8:],
        batch(23, 1, log_append_time=TIME_MS + 5),
    ]
    return [segment(folder, 0, *first), segment(folder, 20, *second)]
