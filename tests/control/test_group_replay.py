"""What a shard's log says is what the shard knows, at every instant.

After each step of the group model the shards are built again from their logs and compared with
the living ones: members, assignments, generations, offsets with metadata and leader epoch, and the
times from which they expire. The log is written anew all the time, slice by slice among requests,
and the process dies meanwhile.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import event, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test

from mqlog.broker import shard as shards
from mqlog.broker.group import State
from mqlog.broker.group_log import decode_group, decode_offset
from mqlog.broker.shard import Shard, Shared

from .group_pair import PARTITIONS, Pair
from .test_group_model import GROUPS, TICK_MS, Groups, busy, holds_nothing

SETTLED = (State.EMPTY, State.STABLE)


def living(pair: Pair, index: int) -> Shard | None:
    """A shard of the broker; None while it is read."""
    place = pair.broker.control.groups._places[index]
    assert place.index == index
    return place.shard


def rebuilt(pair: Pair, live: Shard) -> Shard:
    """What a new process would make of its log."""
    shared = Shared(lambda: "")
    shared.wall_ms = pair.broker.world.wall_ms
    fresh = Shard(live.index, live.settings, shared)
    fresh.restore(*pair.broker._replay(pair.at(live.index)))
    return fresh


def offsets(shard: Shard) -> dict[Any, Any]:
    """All offsets, with all that is known of them."""
    return {
        (group, *at): decode_offset(value)
        for group, held in shard.offsets.of.items()
        for at, value in held.items()
    }


def check_replay(pair: Pair) -> None:
    """Compare every shard with its log."""
    for index in range(PARTITIONS):
        live = living(pair, index)
        if live is None:
            continue
        fresh = rebuilt(pair, live)
        assert offsets(fresh) == offsets(live)
        assert fresh.live_bytes == live.live_bytes, "what a rewrite is decided by"
        kept = {name for name, group in live.groups.items() if group.saved is not None}
        assert fresh.groups.keys() == kept | live.offsets.of.keys()
        for name, again in fresh.groups.items():
            group = live.groups[name]
            assert again.saved == group.saved
            if group.saved is None:
                assert (again.generation, again.members, again.state) == (0, {}, State.EMPTY)
            elif len(again.members) > live.settings.max_size:
                # A static member that did not come back in time is one too many (as in Kafka).
                assert again.state is State.PREPARING
                saved = {one.member_id for one in decode_group(group.saved).members}
                assert again.members.keys() == saved
                assert again.generation <= group.generation
            elif group.state in SETTLED:
                assert (again.record(), again.state) == (group.record(), group.state)
                assert again.topics == group.topics
            else:
                assert again.record() == decode_group(group.saved), "until it has settled"
                assert again.generation <= group.generation


class Replay(Groups):
    """The model, with logs that are written anew whenever they are worth it."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = shards.REWRITE_BYTES, shards.REWRITE_SLICE
        shards.REWRITE_BYTES, shards.REWRITE_SLICE = 1_000, 2

    def check(self) -> None:
        before = [len(log) for log in self.logs()]
        super().check()
        after = [len(log) for log in self.logs()]
        assert self.pair.slow or before == after, "who looks writes nothing"
        check_replay(self.pair)

    def logs(self) -> list[list[Any]]:
        """The records of each partition."""
        return [self.pair.broker.logs.get(self.pair.at(index), []) for index in range(PARTITIONS)]

    @rule(name=busy, count=st.integers(1, 4), data=st.data())
    def commit_again(self, name: str, count: int, data: st.DataObject) -> None:
        """Offsets that replace each other, so that the log is dead for the most part."""
        self.send()
        before = self.pair.broker.trims
        for offset in range(count):
            self.ask(self.commit_of(name, offset, data))
        if self.pair.broker.trims > before:
            event("the log was written anew")

    @rule(slow=st.booleans())
    def rewrites_take_long(self, slow: bool) -> None:
        """Or each is over before the next request."""
        self.pair.slow = slow

    def commit_of(self, name: str, offset: int, data: st.DataObject) -> Any:
        """A commit that is accepted if there is any."""
        group = self.group(name)
        ids = [one for one in group.members.values() if one.id in self.pair.real]
        who = ("", None, -1)
        if ids:
            one = data.draw(st.sampled_from(ids))
            who = (one.id, one.instance, group.generation)
        topics = [("t", [(part, offset, part, f"m{part}") for part in range(3)])]
        return self.pair.commit(name, who, topics, -1, 8)

    @precondition(holds_nothing)
    @rule(name=busy, steps=st.integers(1, 5), data=st.data())
    def crash_in_the_middle(self, name: str, steps: int, data: st.DataObject) -> None:
        """The process dies some steps after a write, perhaps in the middle of a rewrite."""
        self.refusing = None
        due = self.pair.naive.check_at <= self.pair.naive.now + TICK_MS
        if due or any(one.down_until is not None for one in self.pair.naive.shards):
            self.send()
            return
        self.pair.crash_after(self.commit_of(name, steps, data), steps)
        self.check()

    def teardown(self) -> None:
        try:
            if hasattr(self, "pair"):
                self.pair.slow = False
                self.pair.broker.finish()
            super().teardown()
        finally:
            shards.REWRITE_BYTES, shards.REWRITE_SLICE = self.kept


TestReplay = Replay.TestCase
TestReplay.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@pytest.mark.slow
def test_replay_for_longer() -> None:
    run_state_machine_as_test(
        Replay, settings=settings(max_examples=3_000, stateful_step_count=60, deadline=None)
    )


def test_a_log_that_is_written_anew_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "REWRITE_BYTES", 1_000)
    pair = Pair(GROUPS, 0)
    most = 0
    for offset in range(200):
        topics = [("t", [(part, offset, 3, "why") for part in range(3)])]
        pair.turn(*(pair.commit(name, ("", None, -1), topics, -1, 8) for name in GROUPS))
        check_replay(pair)
        most = max(most, *(len(log) for log in pair.broker.logs.values()))
    assert pair.broker.trims > 5
    assert most < 100, "it stays small"
    pair.turn(pair.delete(*GROUPS))
    check_replay(pair)
    last = [value for log in pair.broker.logs.values() for value in dict(log).values()]
    assert last, "of what is deleted a null value is left"
    assert not any(last)
    pair.crash()
    pair.look()


@pytest.mark.parametrize("slices", range(6))
def test_what_ends_during_a_rewrite_has_ended(slices: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "REWRITE_BYTES", 1_000)
    monkeypatch.setattr(shards, "REWRITE_SLICE", 1)
    pair = Pair(GROUPS, 0)
    pair.slow = True
    topics = [("t", [(part, 1, 3, "why") for part in range(3)])]
    for _ in range(100):
        pair.turn(pair.commit("a", ("", None, -1), topics, -1, 8))
        if pair.broker.control.busy:
            break
    assert pair.broker.control.busy, "a rewrite is under way"
    for _ in range(slices):
        pair.turn()
    pair.turn(pair.delete_offsets("a", [("t", [1, 2])]))
    check_replay(pair)
    pair.slow = False
    pair.look()
    assert pair.broker.trims == 1
    check_replay(pair)
    pair.crash()
    pair.look()
