"""Groups under members that do what they like, clocks that jump, crashes and full disks.

The oracle is a second, naive coordinator (`naive_groups`), written from Kafka's rules. After every
step everything that can be asked for is compared: states, members, assignments, offsets. What the
rules leave open, as the winner of a tie, must only be one of the possible outcomes.

That it can fail was shown by bugs put in on purpose, in fencing, sessions, rebalances, who may
commit, what is deleted and what a restart finds: each was caught.
"""

from __future__ import annotations

from operator import itemgetter
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from .group_pair import SUBSCRIPTIONS, TICK_MS, Asked, Pair
from .naive_state import COMPLETING, PREPARING, STABLE, Group, Member

GROUPS = ["a", "b", "grüppe"]
#: Members' instance ids; who has none is dynamic.
SLOTS = [None, None, None, "s1", "s2"]
DATA = sorted(SUBSCRIPTIONS)
versions = st.sampled_from
#: Most happens in one group, so that it gets somewhere.
busy = st.sampled_from([GROUPS[0]] * 4 + GROUPS)
groups = st.sampled_from([GROUPS[0]] * 8 + GROUPS * 2 + [""])
slots = st.integers(0, len(SLOTS) - 1)
datas = st.sampled_from([*DATA, DATA[-1], DATA[-1]])
# No lambdas: to name them Hypothesis parses this file in the midst of a run, and Python 3.11's
# parser at times miscounts its depth there (SystemError).
protocols = st.one_of(
    st.lists(st.tuples(st.just("x"), datas), min_size=1, max_size=1),
    st.lists(
        st.tuples(st.sampled_from(["x", "y", "z"]), datas), max_size=3, unique_by=itemgetter(0)
    ),
)
topics = st.sampled_from(["t", "t", "t", "u", "nowhere"])
parts = st.sampled_from([0, 0, 1, 1, 2, 3])
shifts = st.sampled_from([0] * 6 + [-1, 1])


def times(slot: int) -> tuple[int, int]:
    """Session and rebalance timeout: no two deadlines of different members coincide."""
    session, rebalance = [(20, 30), (90, 30), (40, 10), (60, 5), (120, 60)][slot]
    return 1_000 * session + 7 * slot + 1, 1_000 * rebalance + 7 * slot + 4


def holds_nothing(machine: Groups) -> bool:
    """No request waits to be sent with others."""
    return not machine.held


class Groups(RuleBasedStateMachine):
    """Three groups, members of five kinds."""

    def __init__(self) -> None:
        super().__init__()
        #: Everybody there ever was in a group: slot and id.
        self.known: dict[str, list[tuple[int, str]]] = {name: [] for name in ["", *GROUPS]}
        self.held: list[Asked] = []
        self.hold = 0
        self.refusing: str | None = None

    @initialize(
        delay_ms=st.sampled_from([0, 0, 3_050]), come=st.lists(slots, max_size=4), data=st.data()
    )
    def begin(self, delay_ms: int, come: list[int], data: st.DataObject) -> None:
        """Mostly there is a group that has settled; what is interesting takes too long to get."""
        self.pair = Pair(GROUPS, delay_ms)
        self.go_on(GROUPS[0], come, [("x", DATA[-2])], 7, 9, True, 0, data)

    # -- helpers -----------------------------------------------------------------------------------

    def group(self, name: str) -> Group:
        shard = self.pair.naive.shards[self.pair.shard_of[name]]
        return shard.groups.get(name) or Group(name, 0)

    def ask(self, *asked: Asked) -> None:
        """Send, or keep for a burst."""
        self.held += asked
        if len(self.held) > self.hold:
            self.send()

    def send(self, ms: int = TICK_MS) -> None:
        held, self.held, self.hold = self.held, [], 0
        refusing = None if self.refusing is None else self.pair.shard_of[self.refusing]
        if refusing is not None and self.pair.naive.shards[refusing].down_until is not None:
            refusing = None
        elif held and ms > TICK_MS:
            refusing = None  # what fails would depend on which is first, request or expiry
        if self.pair.turn(*held, ms=ms, refusing=refusing):
            self.refusing = None
        for name in GROUPS:
            group = self.group(name)
            known = {who for _, who in self.known[name]}
            for who in [*group.members, *group.pending]:
                if who not in known:
                    member = group.members.get(who)
                    slot = SLOTS.index(member.instance) if member and member.instance else 0
                    self.known[name].append((slot, who))
        self.check()

    def check(self) -> None:
        """Compare all that can be asked for."""
        self.pair.look()

    def who(self, data: st.DataObject, name: str) -> tuple[str, str | None]:
        """Somebody of a group, mostly one who is in it, with or without its instance id."""
        group = self.group(name)
        here = [
            (one.id, one.instance) for one in group.members.values() if one.id in self.pair.real
        ]
        if here and data.draw(st.integers(0, 4)):
            return data.draw(st.sampled_from(here))
        others = [(who, SLOTS[slot]) for slot, who in self.known[name] if who in self.pair.real]
        return data.draw(st.sampled_from([*others[-6:], ("", None), ("", "s1"), ("nobody", None)]))

    # -- requests ----------------------------------------------------------------------------------

    @rule(name=groups, slot=slots, said=protocols, version=versions([3, 5, 5, 9]), data=st.data())
    def join(self, name: str, slot: int, said: Any, version: int, data: st.DataObject) -> None:
        who, instance = "", SLOTS[slot]
        again = [one for one in self.known[name] if one[1] in self.pair.real]
        if again and data.draw(st.booleans()):
            slot, who = data.draw(st.sampled_from(again[-6:]))
            instance = SLOTS[slot]
            if who in self.group(name).pending:
                instance = None
        kind = data.draw(st.sampled_from(["consumer"] * 8 + ["connect", ""]))
        one = times(slot)
        if not data.draw(st.integers(0, 30)):
            one = (data.draw(st.sampled_from([5_999, 1_800_001])), one[1])
        self.ask(self.pair.join(name, who, instance, one, said, version, kind))

    @rule(name=groups, version=versions([0, 3, 5]), shift=shifts, data=st.data())
    def sync(self, name: str, version: int, shift: int, data: st.DataObject) -> None:
        group = self.group(name)
        who, instance = self.who(data, name)
        given = {
            one: data.draw(st.binary(max_size=2)) for one in group.members if one in self.pair.real
        }
        kind = data.draw(st.sampled_from([None, group.type, group.type, "connect"]))
        protocol = data.draw(st.sampled_from([None, group.protocol, group.protocol, "z"]))
        generation = group.generation + shift
        self.ask(self.pair.sync(name, who, instance, generation, given, version, kind, protocol))

    @rule(name=groups, version=versions([0, 4]), shift=shifts, data=st.data())
    def heartbeat(self, name: str, version: int, shift: int, data: st.DataObject) -> None:
        who, instance = self.who(data, name)
        generation = self.group(name).generation + shift
        self.ask(self.pair.heartbeat(name, who, instance, generation, version))

    @rule(name=groups, version=versions([0, 3, 5]), count=st.integers(1, 2), data=st.data())
    def leave(self, name: str, version: int, count: int, data: st.DataObject) -> None:
        self.ask(self.pair.leave(name, [self.who(data, name) for _ in range(count)], version))

    @rule(
        name=groups,
        version=versions([2, 6, 7, 9, 10]),
        shift=shifts,
        alone=st.booleans(),
        some=st.dictionaries(
            topics, st.dictionaries(parts, st.integers(0, 99), max_size=2), min_size=1
        ),
        metadata=st.sampled_from(["", "", "m", "äöüßé", "longer"]),
        keep_ms=st.sampled_from([-1, -1, 120_000]),
        data=st.data(),
    )
    def commit(
        self, name: str, version: int, shift: int, alone: bool, some: Any, metadata: str,
        keep_ms: int, data: st.DataObject,
    ) -> None:  # fmt: skip
        who = ("", None, -1)
        if not alone:
            who = (*self.who(data, name), self.group(name).generation + shift)
        made = [
            (topic, [(part, offset, offset % 3, metadata) for part, offset in held.items()])
            for topic, held in some.items()
        ]
        self.ask(self.pair.commit(name, who, made, keep_ms, version))

    @rule(
        names=st.lists(groups, min_size=1, max_size=2, unique=True),
        some=st.none() | st.dictionaries(topics, st.lists(parts, max_size=2, unique=True)),
        version=versions([2, 5, 7, 8, 10]),
    )
    def fetch(self, names: list[str], some: Any, version: int) -> None:
        asked = [(name, some if some is None else list(some.items())) for name in names]
        self.ask(self.pair.fetch(version, *asked))

    @rule(
        name=groups,
        some=st.dictionaries(
            topics, st.lists(parts, min_size=1, max_size=2, unique=True), min_size=1
        ),
    )
    def delete_offsets(self, name: str, some: dict[str, list[int]]) -> None:
        self.ask(self.pair.delete_offsets(name, list(some.items())))

    @rule(names=st.lists(st.sampled_from(GROUPS), min_size=1, max_size=2, unique=True))
    def delete(self, names: list[str]) -> None:
        self.ask(self.pair.delete(*names))

    @rule(names=st.lists(groups, min_size=1, max_size=2, unique=True), version=versions([0, 5, 6]))
    def describe(self, names: list[str], version: int) -> None:
        self.ask(self.pair.describe(version, *names))

    # -- members that do as they should ------------------------------------------------------------

    @rule(
        name=busy,
        come=st.lists(slots, max_size=3),
        said=protocols,
        rounds=st.integers(1, 5),
        lazy=st.sampled_from([9, 9, 0, 1]),
        at_once=st.booleans(),
        pause=st.sampled_from([0, 0, 0, 5_100, 10_100, 30_100, 60_100]),
        data=st.data(),
    )
    def go_on(
        self, name: str, come: list[int], said: Any, rounds: int, lazy: int, at_once: bool,
        pause: int, data: st.DataObject,
    ) -> None:  # fmt: skip
        """Some come, and all but perhaps one do what a good client does next, a few times."""
        self.send()
        said = said or [("x", DATA[-1])]
        asked = [self.pair.join(name, "", SLOTS[slot], times(slot), said, 5) for slot in come]
        for _ in range(rounds):
            group = self.group(name)
            join = self.pair.join
            asked += [join(name, who, None, times(0), said, 5) for who in group.pending]
            for at, member in enumerate(group.members.values()):
                if at != lazy and member.id in self.pair.real:
                    asked += self.next_of(group, member, data)
            batches = [asked] if at_once else [[one] for one in asked]
            for batch in batches:
                self.held = batch
                self.send()
            asked = []
            self.send(4_000 if group.first else TICK_MS)
        if pause:
            self.send(pause)

    @rule(
        name=busy,
        leads=st.booleans(),
        pause=st.sampled_from([0, 5_100, 10_100, 30_100, 60_100]),
        data=st.data(),
    )
    def somebody_joins_again(self, name: str, leads: bool, pause: int, data: st.DataObject) -> None:
        """A member wants a rebalance, or missed an answer; the others may not hear of it."""
        group = self.group(name)
        here = [one for one in group.members.values() if one.id in self.pair.real]
        here = [one for one in here if (one.id == group.leader) == leads] or here
        if not here:
            return
        one = data.draw(st.sampled_from(here))
        times = (one.session_ms, one.rebalance_ms)
        self.ask(self.pair.join(name, one.id, one.instance, times, one.protocols, 5))
        if pause:
            self.send(pause)

    @rule(name=busy, version=versions([5, 9]), data=st.data())
    def static_member_returns(self, name: str, version: int, data: st.DataObject) -> None:
        """It starts anew, and says what it said, mostly."""
        here = [one for one in self.group(name).members.values() if one.instance]
        if not here:
            return
        one = data.draw(st.sampled_from(here))
        said = data.draw(st.sampled_from([one.protocols] * 3 + [[("x", b"")]]))
        times = (one.session_ms, one.rebalance_ms)
        self.ask(self.pair.join(name, "", one.instance, times, said, version))

    def next_of(self, group: Group, member: Member, data: st.DataObject) -> list[Asked]:
        """What one member asks next."""
        name, generation = group.name, group.generation
        slot = SLOTS.index(member.instance)
        if group.state == PREPARING and member.joining is None:
            version = 9 if member.instance else 5
            one = (member.session_ms, member.rebalance_ms) if member.instance else times(slot)
            return [
                self.pair.join(name, member.id, member.instance, one, member.protocols, version)
            ]
        if group.state in (COMPLETING, STABLE) and member.id in group.unsynced:
            given = (
                {one: one.encode() for one in group.members} if member.id == group.leader else {}
            )
            who = (member.id, member.instance, generation)
            return [self.pair.sync(name, *who, given, 3, None, None)]
        part = data.draw(parts)
        return [
            self.pair.heartbeat(name, member.id, member.instance, generation, 4),
            self.pair.commit(
                name, (member.id, member.instance, generation), [("t", [(part, 7, 1, "")])], -1, 7
            ),
        ]

    # -- time and trouble --------------------------------------------------------------------------

    @rule(ms=st.sampled_from([1_000, 3_000, 10_000, 20_100, 30_100, 300_000, 700_000]))
    def time_passes(self, ms: int) -> None:
        self.send(ms)

    @rule(count=st.integers(2, 4))
    def burst(self, count: int) -> None:
        """What comes next comes at once."""
        self.hold = count

    @rule(name=busy)
    def disk_fills(self, name: str) -> None:
        """The next write of this shard fails."""
        self.refusing = name

    @precondition(holds_nothing)
    @rule()
    def crash(self) -> None:
        self.pair.crash()
        self.check()

    @precondition(holds_nothing)
    @rule(topic=st.sampled_from(["t", "u"]))
    def recreate(self, topic: str) -> None:
        if all(shard.down_until is None for shard in self.pair.naive.shards):
            self.pair.recreate(topic)
            self.check()

    def teardown(self) -> None:
        if not hasattr(self, "pair"):
            return
        self.send()
        for _ in range(4):
            self.send(1_000_000)
        assert self.pair.broker.asked.keys() == self.pair.broker.answers.keys(), "all are answered"
        assert all(not group.members for name in GROUPS for group in [self.group(name)])


TestGroups = Groups.TestCase
TestGroups.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)


@pytest.mark.slow
def test_groups_for_longer() -> None:
    run_state_machine_as_test(
        Groups, settings=settings(max_examples=3_000, stateful_step_count=60, deadline=None)
    )


@pytest.mark.parametrize("late", [None, "s1"])
def test_a_member_that_is_late_for_a_rebalance(late: str | None) -> None:
    pair = Pair(GROUPS, 0)

    def join(instance: str | None, client: str, who: str = "") -> Asked:
        one = (120_000, 5_004) if client == "late" else (120_008, 5_011)
        return pair.join("a", who, instance, one, [("x", b"")], 3 if instance is None else 5)

    def group() -> Group:
        return pair.naive.shards[pair.shard_of["a"]].groups["a"]

    pair.turn(join(late, "late"))
    pair.turn(join(None, "here"))
    pair.turn(join(late, "late", next(iter(group().members))))
    leader, other = group().members
    pair.turn(pair.sync("a", leader, late, 2, {}, 3, None, None))
    pair.turn(pair.sync("a", other, None, 2, {}, 3, None, None))
    pair.turn(join(None, "more"), join(None, "here", other))
    assert group().state == PREPARING
    pair.turn(ms=10_000)
    pair.look()
    assert (group().generation, len(group().members)) == (3, 2 if late is None else 3)
    pair.turn(ms=400_000)
    pair.look()


@pytest.mark.parametrize("syncs", [True, False])
def test_a_static_member_returns_before_it_has_synced(syncs: bool) -> None:
    pair = Pair(GROUPS, 0)
    said = [("x", b"")]

    def join(slot: int, who: str) -> Asked:
        return pair.join("a", who, SLOTS[slot], times(slot), said, 5)

    def members() -> dict[str | None, str]:
        found = pair.naive.shards[pair.shard_of["a"]].groups["a"].members
        return {one.instance: one.id for one in found.values()}

    def beat() -> list[Asked]:
        return [pair.heartbeat("a", who, name, 2, 4) for name, who in members().items()]

    pair.turn(join(3, ""))
    pair.turn(join(4, ""))
    first = members()["s1"]
    pair.turn(join(3, first))
    pair.turn(pair.sync("a", first, "s1", 2, {first: b"all"}, 3, None, None))
    pair.turn(join(4, ""))
    if syncs:
        pair.turn(pair.sync("a", members()["s2"], "s2", 2, {}, 3, None, None))
    for _ in range(4):
        pair.turn(*beat(), ms=30_000)
        pair.look()
    group = pair.naive.shards[pair.shard_of["a"]].groups["a"]
    assert (group.state, len(group.members)) == ((STABLE, 2) if syncs else (PREPARING, 1))
