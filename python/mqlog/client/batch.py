"""Records that came together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

from mqlog.client.structs import OffsetAndMetadata, TopicPartition


class RecordBatch(Sequence[Any]):
    """Some records, those of a partition together and in order. Empty if none came in time."""

    __slots__ = ("_records", "by_partition", "next_offsets")

    def __init__(
        self,
        by_partition: Mapping[TopicPartition, list[Any]],
        next_offsets: dict[TopicPartition, OffsetAndMetadata],
    ) -> None:
        #: The records of each partition.
        self.by_partition = by_partition
        #: What to commit once these are done with.
        self.next_offsets = next_offsets
        self._records = [record for records in by_partition.values() for record in records]

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._records)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self._records[index]

    def __repr__(self) -> str:
        parts = ", ".join(
            f"{topic}-{index}: {len(records)}"
            for (topic, index), records in self.by_partition.items()
        )
        return f"RecordBatch({len(self)} records, {{{parts}}})"
