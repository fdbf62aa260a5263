"""What producers were promised, and whether the log keeps it: the oracle of the crash tests."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

_NONE = -1


class Places:
    """Which record is at an offset: numbers by offset, -1 where none is."""

    def __init__(self) -> None:
        self._numbers = array("q")

    def __getitem__(self, offset: int) -> int:
        return self._numbers[offset] if offset < len(self._numbers) else _NONE

    def __setitem__(self, offset: int, number: int) -> None:
        missing = offset + 1 - len(self._numbers)
        if missing > 0:
            self._numbers.extend([_NONE] * missing)
        self._numbers[offset] = number

    def __len__(self) -> int:
        return len(self._numbers)


class Ledger:
    """One topic: `sent` counts records from 0, each is named by its number."""

    def __init__(self, partitions: int, *, idempotent: bool) -> None:
        self.idempotent = idempotent
        self.sent = 0
        self.refused = 0
        self.acked = [Places() for _ in range(partitions)]
        self.seen = [Places() for _ in range(partitions)]
        self._checked = [0] * partitions

    def ack(self, partition: int, offset: int, number: int) -> None:
        """A producer was told that its record is there."""
        before = self.acked[partition][offset]
        assert before in (_NONE, number), (
            f"partition {partition} offset {offset} was acknowledged for record {before} "
            f"and for record {number}"
        )
        self.acked[partition][offset] = number

    def least_end(self, partition: int) -> int:
        """The log must end here or later."""
        return len(self.acked[partition])

    def next_unchecked(self, partition: int) -> int:
        """Where the last check ended."""
        return self._checked[partition]

    def start_over(self) -> None:
        """Have the next check compare everything."""
        self._checked = [0] * len(self._checked)

    def check(self, records: Iterable[tuple[int, int, int]], ends: list[int]) -> None:
        """Compare with what a consumer reads: (partition, offset, number) from where the last
        check ended up to `ends`, the log ends by partition.
        """
        found = [Places() for _ in ends]
        for partition, offset, number in records:
            assert 0 <= number < self.sent, f"record {number} was never sent"
            before = self.seen[partition][offset]
            assert before in (_NONE, number), (
                f"partition {partition} offset {offset} was record {before} and is {number}"
            )
            found[partition][offset] = number
            self.seen[partition][offset] = number
        for partition, end in enumerate(ends):
            self._check_partition(partition, found[partition], end)
            self._checked[partition] = end

    def _check_partition(self, partition: int, found: Places, end: int) -> None:
        acked, start = self.acked[partition], self._checked[partition]
        missing = [
            (offset, acked[offset], found[offset])
            for offset in range(start, len(acked))
            if acked[offset] not in (_NONE, found[offset])
        ]
        assert not missing, (
            f"partition {partition}, which ends at {end}: {len(missing)} acknowledged records are "
            f"not where they were promised (offset, record, what is there): {missing[:5]}"
        )
        if self.idempotent:
            # A partition's records rise: each is there once, in the order it was sent.
            last = max((self.seen[partition][offset] for offset in range(start)), default=_NONE)
            for number in filter(
                lambda number: number != _NONE, map(found.__getitem__, range(start, end))
            ):
                assert number > last, f"partition {partition}: record {number} comes after {last}"
                last = number
