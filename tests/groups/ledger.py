"""What was sent, read and committed, and by whom: the promises of groups, checked as they run."""

from __future__ import annotations

import struct
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable

from .styles import Plan

_VALUE = struct.Struct(">iq")


def value(partition: int, number: int) -> bytes:
    """A record's value."""
    return _VALUE.pack(partition, number) + bytes([number & 0xFF]) * 20


class Sent:
    """What the producer was told that it has sent."""

    def __init__(self, partitions: int) -> None:
        self.numbers = 0
        self.acked: list[dict[int, int]] = [{} for _ in range(partitions)]

    def ack(self, partition: int, offset: int, number: int) -> None:
        """A record has its place."""
        taken = self.acked[partition].setdefault(offset, number)
        assert taken == number, f"offset {offset} of partition {partition} was given twice"

    @property
    def count(self) -> int:
        """Records acknowledged."""
        return sum(map(len, self.acked))


class Ledger:
    """One group. Its checks fail the moment that a promise is broken."""

    def __init__(self, group: str, partitions: int) -> None:
        self.group, self.partitions = group, partitions
        self.read = [array("q") for _ in range(partitions)]
        """By partition and offset: the number that was read there, -1 if none was."""
        self.counts: Counter[str] = Counter()
        self.committed = [0] * partitions
        """The highest offset of each partition whose commit was answered, or that was fetched."""
        self.begun = 0
        """The newest generation that any member was told of."""
        self._settled = 0
        self._era = 0
        self._owners: dict[int, dict[int, str]] = defaultdict(dict)
        self._plans: dict[int, list[Plan]] = defaultdict(list)

    # -- generations -------------------------------------------------------------------------------

    def broker_died(self, era: int) -> None:
        """A generation that nobody was given an assignment of may be forgotten, and come again."""
        self._era, self.begun = era, self._settled
        for generation in [one for one in self._plans if one > self._settled]:
            # A plan may be in the log all the same: its answer was on its way.
            self.counts["plans in doubt"] += len(self._plans[generation])

    def generation(self, number: int, era: int) -> None:
        """A member was told by a broker of this era that it is in a generation."""
        self.counts["joins"] += 1
        if era == self._era:
            self.begun = max(self.begun, number)

    def plan(self, generation: int, plan: Plan) -> None:
        """A leader is about to send this."""
        self.counts["plans"] += 1
        self._plans[generation].append(plan)

    def assigned(self, generation: int, member: str, parts: frozenset[int], era: int) -> None:
        """A member was given these. All of a generation must have theirs from the same plan."""
        plans = [one for one in self._plans[generation] if one.get(member, frozenset()) == parts]
        assert plans, (
            f"{self.group}: {member} got {sorted(parts)} in generation {generation}, "
            f"which is in no plan of a leader: {self._plans[generation]}"
        )
        self._plans[generation] = plans
        owners = self._owners[generation]
        for index in parts:
            owner = owners.setdefault(index, member)
            assert owner == member, (
                f"{self.group}: partition {index} is owned by {owner} and {member} "
                f"in generation {generation}"
            )
        self._settled = max(self._settled, generation)
        if era == self._era:
            self.begun = max(self.begun, generation)

    @property
    def generations(self) -> int:
        """Generations in which somebody was given partitions."""
        return len(self._owners)

    # -- offsets -----------------------------------------------------------------------------------

    def fence(self, partitions: Iterable[int]) -> tuple[int, dict[int, int]]:
        """What is known before a request: the newest generation, and what is committed."""
        return self.begun, {index: self.committed[index] for index in partitions}

    def commit_answered(
        self, generation: int, offsets: dict[int, int], fence: tuple[int, dict[int, int]]
    ) -> None:
        """A commit was taken."""
        newest, before = fence
        assert generation >= newest, (
            f"{self.group}: a commit of generation {generation} was taken "
            f"after generation {newest} had begun"
        )
        for index, offset in offsets.items():
            assert offset >= before[index], f"partition {index} went back: {before} to {offsets}"
            self.committed[index] = max(self.committed[index], offset)
        self.counts["commits"] += 1

    def fetched(self, offsets: dict[int, int], fence: tuple[int, dict[int, int]]) -> None:
        """What is committed, as the broker says."""
        for index, before in fence[1].items():
            found = offsets.get(index, -1)
            assert max(found, 0) >= before, (
                f"{self.group}: partition {index} had {before} committed, now {found}"
            )
            self.committed[index] = max(self.committed[index], found)
        self.counts["looks"] += 1

    # -- records -----------------------------------------------------------------------------------

    def saw(self, partition: int, offset: int, data: bytes | None) -> None:
        """A member has read a record."""
        _, number = _VALUE.unpack_from(data or b"")
        assert data == value(partition, number), f"record {offset} of {partition} was changed"
        numbers = self.read[partition]
        while len(numbers) <= offset:
            numbers.append(-1)
        before, numbers[offset] = numbers[offset], number
        assert before in (-1, number), f"record {offset} of {partition} is another one now"
        self.counts["reads"] += 1

    def check(self, sent: Sent, ends: list[int]) -> None:
        """Everything was read, and is what was sent."""
        for index, end in enumerate(ends):
            numbers = self.read[index]
            missing = [at for at in range(end) if at >= len(numbers) or numbers[at] < 0]
            assert not missing, f"{self.group}: {missing[:10]} of partition {index} were not read"
            acked = sent.acked[index]
            assert not acked or max(acked) < end, f"partition {index} lost records"
            for offset, number in acked.items():
                assert numbers[offset] == number, f"{self.group}: another record at {offset}"
