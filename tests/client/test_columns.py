"""Records as columns: what they hold, and that numpy and Arrow's readers see them uncopied."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqlog import _native
from mqlog._columns import RecordColumns
from mqlog.client.structs import OffsetAndMetadata, TopicPartition

from .reading import Offline

Headers = list[tuple[str, bytes | None]]
Row = tuple[int, bytes | None, bytes | None, Headers]

ROWS: list[Row] = [
    (1_700_000_000_000 + number, None if number % 3 else b"key %d" % number,
     None if number == 7 else b"value %d" % number * (number % 5), [("h", b"%d" % number)])
    for number in range(20)
]  # fmt: skip


@pytest.fixture
def offline() -> Iterator[Offline]:
    with Offline() as consumer:
        yield consumer  # type: ignore[misc]


@pytest.fixture
def columns(offline: Offline) -> RecordColumns:
    return offline.feed(_native.build_batch(ROWS))._take_columns()


def address(view: memoryview) -> int:
    np = pytest.importorskip("numpy")
    return int(np.asarray(view).__array_interface__["data"][0])


def test_columns_hold_the_records(columns: RecordColumns) -> None:
    assert len(columns) == 20
    assert columns.topics == ("t",)
    assert columns.topic_indexes.tolist() == [0] * 20
    assert columns.partitions.tolist() == [0] * 20
    assert columns.offsets.tolist() == list(range(20))
    assert columns.timestamps.tolist() == [row[0] for row in ROWS]
    assert columns.keys() == [row[1] for row in ROWS]
    assert columns.values() == [row[2] for row in ROWS]
    assert columns.next_offsets == {TopicPartition("t", 0): OffsetAndMetadata(20, "", -1)}
    assert repr(columns) == "<RecordColumns: 20 records of t>"


def test_a_binary_column_shows_its_parts(columns: RecordColumns) -> None:
    value = columns.value
    assert (len(value), value.null_count, value[7], value[-1]) == (20, 1, None, ROWS[-1][2])
    starts, data = value.offsets, value.data
    assert len(starts) == 21
    assert bytes(data[starts[4] : starts[5]]) == ROWS[4][2]
    assert value.validity is not None
    bits = [value.validity[index // 8] >> index % 8 & 1 for index in range(20)]
    assert bits == [int(row[2] is not None) for row in ROWS]
    for outside in (20, -21):
        with pytest.raises(IndexError, match="of 20 records"):
            value[outside]


def test_without_nulls_there_is_no_bitmap(offline: Offline) -> None:
    value = offline.feed(_native.build_batch([(0, None, b"", [])]))._take_columns().value
    assert (value.null_count, value.validity, value.to_list()) == (0, None, [b""])


def test_headers_come_on_request(offline: Offline) -> None:
    rows: list[Row] = [
        (0, None, b"a", [("x", b"1"), ("x", None)]),
        (0, None, b"b", []),
        (0, None, b"c", [("ü", b"")]),
    ]
    batch = _native.build_batch(rows)
    plain = offline.feed(batch)._take_columns()
    assert not plain.has_headers
    with pytest.raises(ValueError, match="headers=True"):
        plain.headers()
    offline.core.seek("t", 0, 0)
    full = offline.feed(batch)._take_columns(headers=True)
    assert full.has_headers
    assert full.headers() == [row[3] for row in rows]


def test_several_batches_and_partitions_make_one(offline: Offline) -> None:
    offline.core.add([("u", 3, 10, -1)])
    offline.feed(*(_native.build_batch(ROWS, "lz4", base_offset=start) for start in (0, 20)))
    offline.core._feed("u", 3, _native.build_batch(ROWS, base_offset=10, leader_epoch=4), [])
    columns = offline._take_columns()
    assert len(columns) == 60
    assert columns.topics == ("t", "u")
    assert columns.topic_indexes.tolist() == [0] * 40 + [1] * 20
    assert columns.partitions.tolist() == [0] * 40 + [3] * 20
    assert columns.offsets.tolist() == [*range(40), *range(10, 30)]
    assert columns.values() == [row[2] for row in ROWS] * 3
    assert columns.next_offsets == {
        TopicPartition("t", 0): OffsetAndMetadata(40, "", -1),
        TopicPartition("u", 3): OffsetAndMetadata(30, "", 4),
    }


def test_records_and_bytes_are_limited(offline: Offline) -> None:
    offline.feed(_native.build_batch([(0, None, b"x" * 1000, []) for _ in range(10)]))
    assert len(offline._take_columns(3)) == 3
    assert offline.position("t") == 3
    assert len(offline._take_columns(max_bytes=2500)) == 2
    assert len(offline._take_columns(max_bytes=1)) == 1, "one always comes"
    assert len(offline._take_columns(0)) == 0
    assert len(offline._take_columns()) == 4
    empty = offline._take_columns(headers=True)
    assert (len(empty), empty.topics, empty.values(), empty.headers()) == (0, (), [], [])


def test_views_are_read_only_and_outlive_the_consumer() -> None:
    with Offline() as consumer:
        assert isinstance(consumer, Offline)
        columns = consumer.feed(_native.build_batch(ROWS))._take_columns()
    del consumer
    offsets, data = columns.offsets, columns.value.data
    assert offsets.readonly
    assert data.readonly
    del columns
    gc.collect()
    assert offsets.tolist() == list(range(20))
    assert bytes(data) == b"".join(row[2] or b"" for row in ROWS)


def test_memory_that_somebody_looks_at_is_not_used_again(offline: Offline) -> None:
    kept = []
    for start in range(0, 400, 20):
        offline.feed(_native.build_batch(ROWS, base_offset=start))
        columns = offline._take_columns()
        kept.append((start, columns.offsets, columns.value.data))
    for start, offsets, data in kept:
        assert offsets.tolist() == list(range(start, start + 20))
        assert bytes(data) == b"".join(row[2] or b"" for row in ROWS)


# -- readers ---------------------------------------------------------------------------------------


def test_numpy_sees_the_memory(columns: RecordColumns) -> None:
    np = pytest.importorskip("numpy")
    offsets = np.asarray(columns.offsets)
    assert offsets.dtype == np.int64
    assert not offsets.flags.writeable
    assert offsets.__array_interface__["data"][0] == address(columns.offsets)
    assert offsets.sum() == 190
    sizes = np.diff(np.asarray(columns.value.offsets))
    assert sizes.tolist() == [len(row[2] or b"") for row in ROWS]


def check_table(table: Any, rows: list[Row]) -> None:
    """What a pyarrow table holds."""
    assert table.column_names[:6] == ["topic", "partition", "offset", "timestamp", "key", "value"]
    assert table["topic"].to_pylist() == ["t"] * len(rows)
    assert table["offset"].to_pylist() == list(range(len(rows)))
    assert table["key"].to_pylist() == [row[1] for row in rows]
    assert table["value"].to_pylist() == [row[2] for row in rows]


def test_pyarrow_reads_without_a_copy(offline: Offline) -> None:
    pa = pytest.importorskip("pyarrow")
    columns = offline.feed(_native.build_batch(ROWS))._take_columns(headers=True)
    table = pa.table(columns)
    table.validate(full=True)
    check_table(table, ROWS)
    assert table.schema.field("topic").type == pa.dictionary(pa.int32(), pa.string())
    assert table.schema.field("timestamp").type == pa.timestamp("ms", "UTC")
    assert table["timestamp"].cast(pa.int64()).to_pylist() == [row[0] for row in ROWS]
    headers = [[tuple(pair.values()) for pair in pairs] for pairs in table["headers"].to_pylist()]
    assert headers == [row[3] for row in ROWS]
    assert table["offset"].chunk(0).buffers()[1].address == address(columns.offsets)
    validity, starts, data = table["value"].chunk(0).buffers()
    assert columns.value.validity is not None
    assert validity.address == address(columns.value.validity)
    assert starts.address == address(columns.value.offsets)
    assert data.address == address(columns.value.data)
    array = pa.array(columns)
    array.validate(full=True)
    assert array.field("value").buffers()[2].address == address(columns.value.data)
    assert pa.schema(columns) == table.schema


def test_empty_columns_are_an_empty_table(offline: Offline) -> None:
    pa = pytest.importorskip("pyarrow")
    for headers in (False, True):
        columns = offline._take_columns(headers=headers)
        table = pa.table(columns)
        table.validate(full=True)
        assert (table.num_rows, table.num_columns) == (0, 7 if headers else 6)
        pa.array(columns).validate(full=True)


def test_a_child_outlives_its_parent_on_another_thread(offline: Offline) -> None:
    pa = pytest.importorskip("pyarrow")
    value = pa.array(offline.feed(_native.build_batch(ROWS))._take_columns()).field("value")
    offline.core.close()
    gc.collect()
    assert value.to_pylist() == [row[2] for row in ROWS]
    held = [value]
    del value
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()


def test_capsules_nobody_takes_give_their_memory_back(columns: RecordColumns) -> None:
    for _ in range(1000):
        columns.__arrow_c_schema__()
        columns.__arrow_c_array__()
        columns.__arrow_c_stream__()


def test_polars_reads_without_a_copy(columns: RecordColumns) -> None:
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame(columns)
    assert frame["value"].to_list() == [row[2] for row in ROWS]
    assert frame["key"].to_list() == [row[1] for row in ROWS]
    assert frame["topic"].cast(pl.String).to_list() == ["t"] * 20
    assert frame["timestamp"].dt.timestamp("ms").to_list() == [row[0] for row in ROWS]
    for name, view in [("offset", columns.offsets), ("partition", columns.partitions)]:
        seen = frame[name].to_numpy(allow_copy=False)
        assert seen.__array_interface__["data"][0] == address(view)


def test_pandas_reads_through_pyarrow(columns: RecordColumns) -> None:
    pa = pytest.importorskip("pyarrow")
    pd = pytest.importorskip("pandas")
    table = pa.table(columns)
    frame = table.to_pandas(types_mapper=pd.ArrowDtype)
    assert frame["offset"].tolist() == list(range(20))
    assert [None if value is pd.NA else value for value in frame["value"]] == [
        row[2] for row in ROWS
    ]
    arrow = frame["value"].array.__arrow_array__()
    chunk = arrow.chunk(0) if isinstance(arrow, pa.ChunkedArray) else arrow
    assert chunk.buffers()[2].address == address(columns.value.data)


def test_duckdb_queries_it(columns: RecordColumns) -> None:
    duckdb = pytest.importorskip("duckdb")
    found = duckdb.sql(
        'select topic, count(*), sum("offset"), count(key), max(octet_length("value")) '
        "from columns group by topic"
    ).fetchall()
    longest = max(len(row[2] or b"") for row in ROWS)
    assert found == [("t", 20, 190, sum(row[1] is not None for row in ROWS), longest)]


@settings(deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.integers(0, 2**41),
            st.none() | st.binary(max_size=9),
            st.none() | st.binary(max_size=90),
            st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=5)), max_size=2),
        ),
        min_size=1,
        max_size=70,
    ),
    step=st.integers(1, 80),
)
def test_columns_are_what_was_written(rows: list[Row], step: int) -> None:
    pa = pytest.importorskip("pyarrow")
    with Offline() as consumer:
        assert isinstance(consumer, Offline)
        consumer.feed(_native.build_batch(rows))
        parts = []
        while len(part := consumer._take_columns(step, headers=True)):
            parts.append(part)
    tables = [pa.table(part) for part in parts]
    for table in tables:
        table.validate(full=True)
    table = pa.concat_tables(tables).unify_dictionaries()
    check_table(table, rows)
    headers = [pairs for part in parts for pairs in part.headers()]
    assert headers == [row[3] for row in rows]
