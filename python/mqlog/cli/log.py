"""`mqlog log`: what is in segment files, read offline by the Cython decoder."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from mqlog._records import Batch, CorruptBatch, Record
from mqlog.cli import EXIT_DAMAGED
from mqlog.cli.output import Row, output_option, show
from mqlog.cli.segments import SEGMENT, Damage, segment_files, walk

LOG_EPILOG = "Exit codes: 0 sound, 2 wrong usage, 65 damaged bytes found, 74 a file cannot be read"


@click.group(epilog=LOG_EPILOG)
def log() -> None:
    """Read segment files: `dump` shows what is in them, `verify` finds what is damaged.

    PATH is a segment, or a directory: of a partition, a topic or a whole broker. Files are only
    read. A running broker may be appending: what it is writing just now can look torn.
    """


@log.command(epilog=LOG_EPILOG)
@click.argument("path", type=click.Path(exists=True))
@click.option("--records", is_flag=True, help="The records in each batch too.")
@click.option("--from-offset", type=int, default=0, metavar="N", help="Skip batches below.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Batches at most.")
@click.option(
    "--output",
    "-o",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Lines for people, or one JSON object a line.",
)
def dump(path: str, records: bool, from_offset: int, limit: int | None, output: str) -> int:
    """Print batches, and their records, in order."""
    damaged = 0
    shown = 0
    for file in segment_files(path):
        if output == "text":
            click.echo(f"segment {file}")
        for item in walk(file):
            if isinstance(item, Damage):
                damaged += 1
                _print(damage_row(file, item), output)
                continue
            if item.batch.last_offset < from_offset:
                continue
            if shown == limit:
                return EXIT_DAMAGED if damaged else 0
            shown += 1
            damaged += _dump_batch(file, item.position, item.batch, records, output)
    return EXIT_DAMAGED if damaged else 0


def _dump_batch(file: Path, position: int, batch: Batch, records: bool, output: str) -> int:
    """Print one batch; 1 if its records cannot be read."""
    row = batch_row(position, batch)
    if not records:
        _print({"segment": str(file), **row} if output == "json" else row, output)
        return 0
    try:
        read = batch.records()
    except CorruptBatch as error:
        _print({"damaged": str(file), **row, "problem": error.args[0]}, output)
        return 1
    if output == "json":
        listed = [record_row(record) for record in read]
        _print({"segment": str(file), **row, "records": listed}, output)
    else:
        _print(row, output)
        for record in read:
            _print(record_row(record), output, indent="    ")
    return 0


@log.command(epilog=LOG_EPILOG)
@click.argument("path", type=click.Path(exists=True))
@click.option("--records", is_flag=True, help="Decompress and read every record as well.")
@output_option
def verify(path: str, records: bool, output: str) -> int:
    """Check every batch's length, checksum and offsets; list what is damaged."""
    faults: list[Row] = []
    batches = count = 0
    files = segment_files(path)
    for batch in _valid(files, records, faults):
        batches += 1
        count += batch.records_count
    if output == "json":
        summary = {"segments": len(files), "batches": batches, "records": count, "faults": faults}
        click.echo(json.dumps(summary, indent=2))
    else:
        if faults:
            show(faults, output)
            click.echo()
        click.echo(
            f"{counted(len(files), 'segment')}, {counted(batches, 'batch', 'batches')}, "
            f"{counted(count, 'record')}: "
            + (counted(len(faults), "damaged range") if faults else "sound")
        )
    return EXIT_DAMAGED if faults else 0


def counted(count: int, one: str, many: str = "") -> str:
    """`1 batch`, `2 batches`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _valid(files: list[Path], records: bool, faults: list[Row]) -> Iterator[Batch]:
    """The valid batches of all files; what is wrong is added to `faults`."""
    previous: Path | None = None
    expected: int | None = None
    for file in files:
        base = int(file.stem) if file.stem.isdigit() else None
        if previous is None or previous.parent != file.parent:
            expected = base
        elif expected is not None and base is not None and base < expected:
            faults.append(
                _fault(
                    file,
                    0,
                    0,
                    f"its name is below offset {expected}, where the segment before it ended",
                )
            )
        previous = file
        for item in walk(file):
            if isinstance(item, Damage):
                faults.append(damage_row(file, item))
                expected = None
                continue
            batch, start = item.batch, item.position
            end = start + batch.size
            if base is not None and batch.base_offset < base:
                faults.append(
                    _fault(
                        file,
                        start,
                        end,
                        f"base offset {batch.base_offset} is below the segment's name",
                    )
                )
            elif expected is not None and batch.base_offset < expected:
                faults.append(
                    _fault(
                        file,
                        start,
                        end,
                        f"base offset {batch.base_offset} again: {expected} comes next",
                    )
                )
            if records:
                try:
                    batch.records()
                except CorruptBatch as error:
                    faults.append(_fault(file, start, end, error.args[0]))
            expected = batch.next_offset
            yield batch


def batch_row(position: int, batch: Batch) -> Row:
    """A batch's header, under the names Kafka uses."""
    return {
        "position": position,
        "size": batch.size,
        "base_offset": batch.base_offset,
        "last_offset": batch.last_offset,
        "count": batch.records_count,
        "leader_epoch": batch.partition_leader_epoch,
        "codec": batch.codec,
        "time": batch.max_timestamp,
        "time_type": "log append" if batch.is_log_append_time else "create",
        "producer_id": batch.producer_id,
        "producer_epoch": batch.producer_epoch,
        "base_sequence": batch.base_sequence,
        "transactional": batch.is_transactional,
        "control": batch.is_control,
        "crc": f"{batch.crc:08x}",
    }


def record_row(record: Record) -> Row:
    """A record; bytes that are not UTF-8 become {"base64": ...}."""
    return {
        "offset": record.offset,
        "time": record.timestamp,
        "key": readable(record.key),
        "value": readable(record.value),
        "headers": [[name, readable(value)] for name, value in record.headers],
    }


def readable(data: bytes | None) -> Any:
    """Bytes as something JSON can carry, without loss."""
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def damage_row(file: Path, damage: Damage) -> Row:
    """A damaged range as a row."""
    problem = damage.problem
    if damage.at_end and SEGMENT.match(file.name):
        problem += "; nothing valid follows: the broker cuts it off at its next start"
    elif damage.at_end:
        problem += "; nothing valid follows" if damage.start else "; is this file a segment?"
    return _fault(file, damage.start, damage.end, problem, damage.expected_offset)


def _fault(file: Path, start: int, end: int, problem: str, offset: int | None = None) -> Row:
    return {
        "damaged": str(file),
        "from_byte": start,
        "to_byte": end,
        "offset": offset,
        "problem": problem,
    }


#: What most batches have: said only where it differs, to people.
_USUAL = {
    "time_type": "create",
    "producer_id": -1,
    "producer_epoch": -1,
    "base_sequence": -1,
    "transactional": False,
    "control": False,
    "headers": [],
}


def _print(row: Row, output: str, indent: str = "") -> None:
    if output == "json":
        click.echo(json.dumps(row))
        return
    parts = []
    for name, value in row.items():
        if name in _USUAL and value == _USUAL[name]:
            continue
        plain = isinstance(value, str) and name not in ("key", "value")
        parts.append(f"{name} {value if plain else json.dumps(value)}")
    click.echo(indent + "  ".join(parts))
