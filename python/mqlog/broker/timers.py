"""Timers of a state machine: a heap that is told late of what moves.

Setting a timer further away, as every heartbeat does, only moves a number; the heap finds out when
the old moment comes.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

#: Entries that no timer needs any more, before the heap is rebuilt.
_STALE_KEPT = 1024


class Timer:
    """Fires once at its deadline, unless moved or stopped before."""

    __slots__ = ("_timers", "deadline_ms", "entry")

    def __init__(self, timers: Timers) -> None:
        """Make a timer that is not running."""
        self._timers = timers
        self.deadline_ms: int | None = None
        #: Where the heap has it; not after the deadline.
        self.entry: Entry | None = None

    def set(self, deadline_ms: int) -> None:
        """Run, or run anew, until `deadline_ms` (monotonic)."""
        self.deadline_ms = deadline_ms
        if self.entry is None or deadline_ms < self.entry[0]:
            self._timers.queue(self, deadline_ms)

    def stop(self) -> None:
        """Do not fire."""
        self.deadline_ms = None
        if self.entry is not None:
            self.entry = None
            self._timers.abandon()

    def fire(self) -> None:
        """Do what the timer is for."""
        raise NotImplementedError


#: A moment, a number that no other entry has, and the timer.
Entry = tuple[int, int, Timer]


class Alarm(Timer):
    """A timer that calls something."""

    __slots__ = ("call",)

    def __init__(self, timers: Timers, call: Callable[[], None]) -> None:
        """Make an alarm that is not running."""
        super().__init__(timers)
        self.call = call

    def fire(self) -> None:
        """Call it."""
        self.call()


class Timers:
    """All timers of one state machine."""

    def __init__(self) -> None:
        """Nothing runs."""
        self._heap: list[Entry] = []
        self._count = 0
        #: Entries that their timers have left.
        self._stale = 0

    def queue(self, timer: Timer, at_ms: int) -> None:
        """Look at `timer` at `at_ms`; for `Timer` only."""
        left, self._count = timer.entry, self._count + 1
        timer.entry = (at_ms, self._count, timer)
        heapq.heappush(self._heap, timer.entry)
        if left is not None:
            self.abandon()

    def abandon(self) -> None:
        """Count an entry that its timer has left; for `Timer` only."""
        self._stale += 1
        if self._stale > _STALE_KEPT and self._stale * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].entry is entry]
            heapq.heapify(self._heap)
            self._stale = 0

    def next_ms(self) -> int | None:
        """Return the earliest moment at which one may be due."""
        return self._heap[0][0] if self._heap else None

    def run(self, horizon_ms: int) -> None:
        """Fire what is due at `horizon_ms`, the earliest first."""
        while self._heap and self._heap[0][0] <= horizon_ms:
            entry = heapq.heappop(self._heap)
            timer = entry[2]
            if timer.entry is not entry:
                self._stale -= 1
                continue
            timer.entry, deadline = None, timer.deadline_ms
            if deadline is not None and deadline > entry[0]:
                # Due as well, perhaps, but in its turn.
                self.queue(timer, deadline)
            elif deadline is not None:
                timer.deadline_ms = None
                timer.fire()
