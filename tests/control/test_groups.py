"""Groups without a broker: time, loading, failures, and the log that is kept small."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqlog.broker import shard
from mqlog.broker.group_log import TOPIC, partition_of
from mqlog.broker.timers import Alarm, Timers
from mqlog.protocol.describe_groups import DescribeGroupsRequest
from mqlog.protocol.find_coordinator import FindCoordinatorRequest
from mqlog.protocol.heartbeat import HeartbeatRequest
from mqlog.protocol.join_group import JoinGroupRequest
from mqlog.protocol.leave_group import LeaveGroupRequest
from mqlog.protocol.list_groups import ListGroupsRequest
from mqlog.protocol.offset_commit import OffsetCommitRequest
from mqlog.protocol.offset_delete import OffsetDeleteRequest
from mqlog.protocol.offset_fetch import OffsetFetchRequest
from mqlog.protocol.sync_group import SyncGroupRequest

from .fake import Broker, World

COMMIT, FETCH, FIND, JOIN, HEARTBEAT, LEAVE, SYNC, DESCRIBE, LIST = 8, 9, 10, 11, 12, 13, 14, 15, 16
OFFSET_DELETE, SUBSCRIBED = 47, 86
UNKNOWN_TOPIC, INCONSISTENT = 3, 23
LOADING, NOT_COORDINATOR, UNKNOWN_MEMBER, NEEDS_ID, FULL = 14, 16, 25, 79, 81


def started(**settings: str) -> Broker:
    """A broker whose groups are served; they begin at once unless `settings` say otherwise."""
    settings.setdefault("group_initial_rebalance_delay_ms", "0")
    broker = Broker(World(**settings))
    broker.world.add_topic("t", 8)
    broker.call(FIND, 4, FindCoordinatorRequest(coordinator_keys=["g"]))
    return broker


def at(broker: Broker, group: str) -> tuple[bytes, int]:
    """Where a group is kept."""
    topic = broker.world.held.topic(TOPIC)
    assert topic is not None
    return topic.topic_id, partition_of(group, len(topic.partitions))


def join(group: str, member: str = "", *, session: int = 10_000, rebalance: int = 60_000) -> Any:
    protocol = JoinGroupRequest.JoinGroupRequestProtocol("range", b"")
    return JoinGroupRequest(group, session, rebalance, member, None, "consumer", [protocol])


def member(broker: Broker, group: str, **times: int) -> int:
    """The token of a JoinGroup that has its id."""
    needs = broker.call(JOIN, 5, join(group, **times))
    assert needs.error_code == NEEDS_ID
    return broker.send(JOIN, 5, join(group, needs.member_id, **times))


def settled(broker: Broker, group: str, **times: int) -> str:
    """The id of the only member of a stable group."""
    token = member(broker, group, **times)
    broker.finish()
    broker.now_ms += 1
    broker.finish()
    answer = broker.answers[token]
    given = [SyncGroupRequest.SyncGroupRequestAssignment(answer.member_id, b"all")]
    sync = SyncGroupRequest(group, answer.generation_id, answer.member_id, assignments=given)
    assert broker.call(SYNC, 3, sync).assignment == b"all"
    return str(answer.member_id)


def commit(broker: Broker, group: str, offset: int, *partitions: int, **who: Any) -> Any:
    parts = [
        OffsetCommitRequest.OffsetCommitRequestPartition(index, offset) for index in partitions
    ]
    topic = OffsetCommitRequest.OffsetCommitRequestTopic("t", partitions=parts)
    return broker.call(COMMIT, 7, OffsetCommitRequest(group, topics=[topic], **who))


def offsets(broker: Broker, group: str) -> dict[int, int]:
    answer = broker.call(FETCH, 5, OffsetFetchRequest(group, topics=None))
    assert answer.error_code == 0
    parts = [part for topic in answer.topics for part in topic.partitions]
    return {part.partition_index: part.committed_offset for part in parts}


def heartbeat(broker: Broker, group: str, who: str, generation: int = 1) -> int:
    answer = broker.call(HEARTBEAT, 3, HeartbeatRequest(group, generation, who))
    return int(answer.error_code)


def who_joins(broker: Broker, group: str) -> str:
    """The id of the first member, told by DescribeGroups."""
    answer = broker.call(DESCRIBE, 5, DescribeGroupsRequest([group]))
    return str(answer.groups[0].members[0].member_id)


def states(broker: Broker) -> dict[str, str]:
    answer = broker.call(LIST, 4, ListGroupsRequest())
    return {group.group_id: group.group_state for group in answer.groups}


# -- time ------------------------------------------------------------------------------------------


def test_a_member_that_is_silent_for_its_session_is_gone() -> None:
    broker = started()
    who = settled(broker, "g", session=10_000)
    broker.now_ms += 9_999
    assert heartbeat(broker, "g", who) == 0
    broker.now_ms += 9_999
    assert states(broker) == {"g": "Stable"}
    broker.now_ms += 1
    broker.finish()
    assert states(broker) == {"g": "Empty"}
    assert heartbeat(broker, "g", who) == UNKNOWN_MEMBER


def test_a_process_that_stood_still_drops_nobody_who_has_spoken() -> None:
    broker = started()
    speaks, silent = (settled(broker, group, session=10_000) for group in ("g", "h"))
    before = broker.now_ms
    # A minute passes. What arrived in it is still in the queue, so no timer after that may fire.
    broker.now_ms += 60_000
    broker.horizon_ms = before + 3_000
    broker.finish()
    assert states(broker) == {"g": "Stable", "h": "Stable"}
    assert heartbeat(broker, "g", speaks) == 0
    broker.horizon_ms = None
    broker.finish()
    assert states(broker) == {"g": "Stable", "h": "Empty"}
    assert heartbeat(broker, "h", silent) == UNKNOWN_MEMBER


def test_the_first_members_are_waited_for() -> None:
    broker = started(group_initial_rebalance_delay_ms="3000")
    tokens = [member(broker, "g")]
    broker.finish()
    for _ in range(3):
        broker.now_ms += 2_900
        tokens.append(member(broker, "g"))
        broker.finish()
        assert not any(token in broker.answers for token in tokens), "it is put off again"
    for _ in range(6):
        broker.now_ms += 1_000
        broker.finish()
    assert {broker.answers[token].generation_id for token in tokens} == {1}


def test_the_wait_for_the_first_ends_with_the_rebalance_timeout() -> None:
    broker = started(group_initial_rebalance_delay_ms="3000")
    tokens = []
    for _ in range(10):
        tokens.append(member(broker, "g", rebalance=10_000))
        broker.finish()
        broker.now_ms += 1_000
    broker.now_ms += 1_000
    broker.finish()
    assert broker.answers[tokens[0]].generation_id == 1


def test_who_never_syncs_is_dropped() -> None:
    broker = started()
    token = member(broker, "g", session=600_000, rebalance=5_000)
    broker.finish()
    broker.now_ms += 1
    broker.finish()
    assert broker.answers[token].generation_id == 1
    assert states(broker) == {"g": "CompletingRebalance"}
    broker.now_ms += 5_000
    broker.finish()
    assert states(broker) == {"g": "Empty"}


def test_an_id_that_nobody_comes_back_with_holds_nobody_up() -> None:
    broker = started()
    who = settled(broker, "g")
    answer = broker.call(JOIN, 5, join("g", session=6_000))
    assert answer.error_code == NEEDS_ID
    token = broker.send(JOIN, 5, join("g", who))
    broker.finish()
    assert token not in broker.answers, "the group waits for the newcomer"
    broker.now_ms += 6_000
    broker.finish()
    assert broker.answers[token].generation_id == 2


def test_a_group_that_waits_for_its_first_members_keeps_its_kind() -> None:
    broker = started(group_initial_rebalance_delay_ms="3000")
    token = member(broker, "g")
    broker.finish()
    other = join("g")
    other.protocol_type = "connect"
    leave = LeaveGroupRequest("g", member_id=str(who_joins(broker, "g")))
    assert broker.call(LEAVE, 1, leave).error_code == 0
    assert broker.answers[token].error_code == UNKNOWN_MEMBER
    assert broker.call(JOIN, 3, other).error_code == INCONSISTENT
    broker.now_ms += 3_000
    broker.finish()
    assert states(broker) == {"g": "Empty"}
    broker.send(JOIN, 3, other)
    broker.finish()
    assert states(broker) == {"g": "PreparingRebalance"}


def test_a_full_group_takes_nobody() -> None:
    broker = started(group_max_size="2", group_initial_rebalance_delay_ms="3000")
    tokens = [member(broker, "g"), member(broker, "g")]
    for _ in range(10):
        broker.now_ms += 1_000
        broker.finish()
    assert all(broker.answers[token].error_code == 0 for token in tokens)
    assert broker.call(JOIN, 5, join("g")).error_code == FULL


def test_a_thousand_members_settle_at_once() -> None:
    broker = started()
    tokens = [broker.send(JOIN, 3, join("g")) for _ in range(1_000)]
    broker.finish()
    broker.now_ms += 1
    broker.finish()
    answers = [broker.answers[token] for token in tokens]
    # The first was alone for a moment: the others came while it had to join again.
    late = [one for one in answers if one.generation_id == 1]
    assert len({one.member_id for one in answers}) == 1_000
    assert sum(len(one.members) for one in answers) in (1_000, 1_001), len(late)


def test_a_commit_of_no_partition_that_there_is_makes_no_group() -> None:
    broker = started()
    assert commit(broker, "g", 1, 8).topics[0].partitions[0].error_code == UNKNOWN_TOPIC
    assert states(broker) == {}
    commit(broker, "g", 1, 8, 7)
    assert states(broker) == {"g": "Empty"}


def test_a_static_member_that_reads_something_else_now_is_believed() -> None:
    broker = started()

    def comes(*topics: str) -> Any:
        names = b"".join(len(name).to_bytes(2, "big") + name.encode() for name in topics)
        said = b"\0\0" + len(topics).to_bytes(4, "big") + names + b"\xff" * 4
        asked = join("g")
        asked.group_instance_id = "a"
        asked.protocols[0].metadata = said
        return broker.send(JOIN, 9, asked)

    token = comes("s")
    broker.finish()
    first = broker.answers[token]
    sync = SyncGroupRequest("g", first.generation_id, first.member_id)
    assert broker.call(SYNC, 3, sync).error_code == 0
    token = comes("s", "t")
    broker.finish()
    assert broker.answers[token].generation_id == first.generation_id
    mine = {"generation_id_or_member_epoch": 1, "member_id": broker.answers[token].member_id}
    commit(broker, "g", 5, 0, **mine)
    part = OffsetDeleteRequest.OffsetDeleteRequestPartition(0)
    delete = OffsetDeleteRequest("g", [OffsetDeleteRequest.OffsetDeleteRequestTopic("t", [part])])
    for _ in range(2):
        answer = broker.call(OFFSET_DELETE, 0, delete)
        assert answer.topics[0].partitions[0].error_code == SUBSCRIBED
        broker.restart()


# -- the log ---------------------------------------------------------------------------------------


def test_a_restart_finds_members_generations_and_offsets() -> None:
    broker = started()
    who = settled(broker, "g")
    mine = {"generation_id_or_member_epoch": 1, "member_id": who}
    commit(broker, "g", 5, 0, 1, **mine)
    commit(broker, "simple", 7, 2)
    broker.restart()
    assert (offsets(broker, "g"), offsets(broker, "simple")) == ({0: 5, 1: 5}, {2: 7})
    assert states(broker) == {"g": "Stable", "simple": "Empty"}
    assert heartbeat(broker, "g", who) == 0
    broker.now_ms += 10_001
    broker.finish()
    assert states(broker)["g"] == "Empty", "its session began at the restart"


def test_while_a_log_is_read_clients_are_told_to_wait() -> None:
    broker = started()
    commit(broker, "g", 5, 0)
    broker.full.add(at(broker, "g"))
    assert commit(broker, "g", 6, 0) == "close"
    parts = commit(broker, "g", 6, 0).topics[0].partitions
    assert parts[0].error_code in (LOADING, NOT_COORDINATOR)
    broker.now_ms += 1_000
    broker.finish()
    assert offsets(broker, "g") == {0: 5}, "what was not written was not kept"
    assert commit(broker, "g", 7, 0).topics[0].partitions[0].error_code == 0


def test_while_a_log_is_read_heartbeats_are_answered_with_success() -> None:
    broker = started()
    who = settled(broker, "g")
    broker.restart(settle=False)
    # All in one step: the log is asked for, and not yet there.
    tokens = [
        broker.send(HEARTBEAT, 4, HeartbeatRequest("g", 1, who)),
        broker.send(LEAVE, 2, LeaveGroupRequest("g", "nobody")),
    ]
    broker.finish()
    assert [broker.answers[token].error_code for token in tokens] == [0, LOADING]
    assert heartbeat(broker, "g", who, generation=7) != 0, "once it is read, they are looked at"


def test_who_waits_in_a_shard_that_is_lost_is_told() -> None:
    broker = started(group_initial_rebalance_delay_ms="3000")
    token = member(broker, "g")
    broker.finish()
    broker.full.add(at(broker, "g"))
    assert commit(broker, "g", 1, 0).topics[0].partitions[0].error_code == UNKNOWN_MEMBER
    broker.now_ms += 60_000
    broker.finish()
    other = next(name for name in map(str, range(999)) if at(broker, name) == at(broker, "g"))
    commit(broker, other, 1, 0)
    broker.finish()
    assert token in broker.answers


def test_the_log_is_written_anew_when_most_of_it_is_dead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shard, "REWRITE_BYTES", 100_000)
    broker = started()
    who = settled(broker, "g", session=600_000)
    mine = {"generation_id_or_member_epoch": 1, "member_id": who}
    for offset in range(1_000):
        commit(broker, "g", offset, *range(8), **mine)
    log = broker.logs[at(broker, "g")]
    assert len(log) < 4_000, "it was trimmed"
    broker.restart()
    assert offsets(broker, "g") == dict.fromkeys(range(8), 999)
    assert heartbeat(broker, "g", who) == 0


def test_offsets_expire_from_when_the_group_was_left() -> None:
    broker = started(offsets_retention_minutes="10", offsets_retention_check_interval_ms="60000")
    who = settled(broker, "g", session=30_000)
    mine = {"generation_id_or_member_epoch": 1, "member_id": who}
    commit(broker, "g", 5, 0, **mine)
    commit(broker, "simple", 5, 0)

    def pass_minutes(count: int, *, alive: bool) -> None:
        for _ in range(count * 3):
            broker.now_ms += 20_000
            broker.world.wall_ms += 20_000
            if alive:
                assert heartbeat(broker, "g", who) == 0
            broker.finish()

    pass_minutes(12, alive=True)
    assert (offsets(broker, "g"), offsets(broker, "simple")) == ({0: 5}, {})
    assert "simple" not in states(broker)
    pass_minutes(9, alive=False)
    assert offsets(broker, "g") == {0: 5}
    pass_minutes(4, alive=False)
    assert offsets(broker, "g") == {}
    broker.restart()
    assert states(broker) == {}


@pytest.mark.parametrize(
    ("name", "partition"), [("", 0), ("a", 1), ("group", 15), ("zażółć", 3), ("😀", 3)]
)
def test_a_group_lives_where_kafka_puts_it(name: str, partition: int) -> None:
    value = 0
    units = name.encode("utf-16-be")
    for high, low in zip(units[::2], units[1::2], strict=True):
        value = (value * 31 + high * 256 + low) % 2**32
    assert partition_of(name, 16) == (value & 0x7FFF_FFFF) % 16 == partition


# -- timers ----------------------------------------------------------------------------------------

_ACTS = st.tuples(st.sampled_from(["set", "stop", "run"]), st.integers(0, 4), st.integers(0, 30))


@given(st.lists(_ACTS, max_size=60))
def test_timers_fire_as_a_list_of_deadlines_would(acts: list[tuple[str, int, int]]) -> None:
    timers, fired = Timers(), []
    alarms = [Alarm(timers, lambda i=i: fired.append(i)) for i in range(5)]
    deadlines: dict[int, int] = {}
    now = 0
    for act, which, amount in acts:
        if act == "set":
            alarms[which].set(now + amount)
            deadlines[which] = now + amount
        elif act == "stop":
            alarms[which].stop()
            deadlines.pop(which, None)
        else:
            now += amount
            timers.run(now)
            due = {i for i, deadline in deadlines.items() if deadline <= now}
            assert sorted(fired) == sorted(due)
            assert [deadlines[i] for i in fired] == sorted(deadlines[i] for i in due)
            fired.clear()
            deadlines = {i: deadline for i, deadline in deadlines.items() if i not in due}
            upcoming = timers.next_ms()
            assert not deadlines or (upcoming or 0) <= min(deadlines.values())
