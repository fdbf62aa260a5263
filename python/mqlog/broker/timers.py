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
    """Calls `fire(now_ms)` once at its deadline, unless moved or stopped before."""

    __slots__ = ("_timers", "deadline_ms", "fire", "queued_ms")

    def __init__(self, timers: Timers, fire: Callable[[int], None]) -> None:
        """Make a timer that is not running."""
        self._timers = timers
        self.fire = fire
        self.deadline_ms: int | None = None
        self.queued_ms: int | None = None

    def set(self, deadline_ms: int) -> None:
        """Run, or run anew, until `deadline_ms` (monotonic)."""
        self.deadline_ms = deadline_ms
        if self.queued_ms is None or deadline_ms < self.queued_ms:
            self._timers.queue(self, deadline_ms)

    def stop(self) -> None:
        """Do not fire."""
        self.deadline_ms = None


class Timers:
    """All timers of one state machine."""

    def __init__(self) -> None:
        """Nothing runs."""
        self._heap: list[tuple[int, int, Timer]] = []
        self._count = 0
        self._stale = 0

    def queue(self, timer: Timer, at_ms: int) -> None:
        """Look at `timer` at `at_ms`; for `Timer` only."""
        if timer.queued_ms is not None:
            self._stale += 1
        timer.queued_ms = at_ms
        self._count += 1
        heapq.heappush(self._heap, (at_ms, self._count, timer))
        if self._stale > _STALE_KEPT and self._stale * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].queued_ms == entry[0]]
            heapq.heapify(self._heap)
            self._stale = 0

    def next_ms(self) -> int | None:
        """Return the earliest moment at which one may be due."""
        return self._heap[0][0] if self._heap else None

    def run(self, horizon_ms: int, now_ms: int) -> None:
        """Fire what is due at `horizon_ms`, the earliest first."""
        while self._heap and self._heap[0][0] <= horizon_ms:
            at_ms, _, timer = heapq.heappop(self._heap)
            if timer.queued_ms != at_ms:
                self._stale -= 1
                continue
            timer.queued_ms = None
            deadline = timer.deadline_ms
            if deadline is None:
                continue
            if deadline > horizon_ms:
                self.queue(timer, deadline)
                continue
            timer.deadline_ms = None
            timer.fire(now_ms)
