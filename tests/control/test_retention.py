"""Retention: exactly the segments the rule says, never the active one, log starts respected."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mqlog.broker.retention import new_log_start
from mqlog.broker.world import Segment

from .fake import Broker, World

NOW = 10_000
CHECK_MS = 300_000


def log(*segments: tuple[int, int, int], start: int = 0) -> list[Segment]:
    """Segments of (records, bytes, newest timestamp), the last one active; made at time 5,000."""
    made = []
    for number, (records, size, newest) in enumerate(segments, 1):
        made.append(Segment(start, size, newest, 5_000, number == len(segments)))
        start += records
    return made


def kept_by_kafkas_rules(segments: list[Segment], age_ms: int, size: int) -> int:
    """How many segments go, in the two passes that Kafka makes: by size, then by age."""
    gone = 0
    if size >= 0:
        surplus = sum(segment.size for segment in segments) - size
        for segment in segments[:-1]:
            if surplus - segment.size < 0:
                break
            surplus -= segment.size
            gone += 1
    if age_ms >= 0:
        for segment in segments[gone:-1]:
            newest = segment.max_timestamp
            if NOW - (newest if newest >= 0 else segment.created_ms) <= age_ms:
                break
            gone += 1
    return gone


parts = st.tuples(
    st.integers(1, 3), st.integers(0, 5), st.sampled_from([-1, 0, 4_000, 5_000, NOW, NOW + 1])
)
limits = st.integers(-1, 12)
ages = st.sampled_from([-1, 0, 1, 4_999, 5_000, 5_001, 6_000, 10_000])


@given(st.lists(parts, min_size=1, max_size=6), ages, limits, st.integers(0, 9))
def test_the_segments_that_the_rule_says(
    given_: list[tuple[int, int, int]], age_ms: int, size: int, start: int
) -> None:
    segments = log(*given_, start=start)
    gone = kept_by_kafkas_rules(segments, age_ms, size)
    wanted = segments[gone].base_offset if gone else None
    assert new_log_start(segments, NOW, age_ms, size) == wanted


@given(st.lists(parts, max_size=6))
def test_minus_one_is_no_limit(given_: list[tuple[int, int, int]]) -> None:
    assert new_log_start(log(*given_), NOW, -1, -1) is None


@given(parts)
def test_the_active_segment_stays_however_old_and_large(only: tuple[int, int, int]) -> None:
    assert new_log_start(log(only), NOW, 0, 0) is None


def test_a_young_segment_keeps_the_old_ones_behind_it() -> None:
    segments = log((1, 1, 0), (1, 1, NOW), (1, 1, 0), (1, 1, NOW))
    assert new_log_start(segments, NOW, 1_000, -1) == 1


def run_retention(broker: Broker) -> list[tuple[object, ...]]:
    """Let the timer fire once; the file operations it asks for."""
    for _ in range(100):
        broker.now_ms += broker.control.next_timer_ms(broker.now_ms)
        broker.step()
        if broker.files:
            return [operation for operations in broker.files.values() for operation in operations]
    return []


def old_and_new() -> list[Segment]:
    return log((10, 100, 0), (10, 100, 2_000_000_000_000), start=5)


def test_each_topic_has_its_own_rule() -> None:
    world = World(log_retention_ms="1000")
    broker = Broker(world)
    wanted = []
    for name, configs, goes in [
        ("default", {}, True),
        ("both", {"cleanup_policy": "compact,delete"}, True),
        ("large", {"retention_ms": "-1", "retention_bytes": "100"}, True),
        ("fits", {"retention_ms": "-1", "retention_bytes": "101"}, False),
        ("forever", {"retention_ms": "-1"}, False),
        ("compacted", {"cleanup_policy": "compact"}, False),
        ("kept", {"cleanup_policy": ""}, False),
        ("offline", {}, False),
    ]:
        topic_id = world.add_topic(name, 2, **configs)
        if name != "offline":
            world.logs[topic_id, 1] = old_and_new()
        if goes:
            wanted.append(("advance_log_start", topic_id, 1, 15))
    assert sorted(run_retention(broker)) == sorted(wanted)


def test_the_hours_of_the_broker_are_the_default() -> None:
    for hours, goes in (("1", True), ("-1", False)):
        world = World(log_retention_hours=hours)
        topic_id = world.add_topic("t")
        world.logs[topic_id, 0] = log((10, 1, world.wall_ms - 3_600_001), (1, 1, 0))
        assert bool(run_retention(Broker(world))) == goes
        world.logs[topic_id, 0] = log((10, 1, world.wall_ms - 3_600_000), (1, 1, 0))
        assert not run_retention(Broker(world))


def test_the_first_check_comes_soon_and_the_next_after_the_interval() -> None:
    world = World(log_retention_ms="0")
    world.logs[world.add_topic("t"), 0] = old_and_new()
    broker = Broker(world)
    broker.step()
    broker.now_ms = 29_999
    broker.step()
    assert not broker.files
    broker.now_ms = 30_000
    broker.step()
    assert len(broker.files) == 1
    broker.finish()
    broker.now_ms += CHECK_MS - 1
    broker.step()
    assert not broker.files
    broker.now_ms += 1
    broker.step()
    assert len(broker.files) == 1


def test_checks_never_overlap() -> None:
    world = World(log_retention_ms="0")
    world.logs[world.add_topic("t"), 0] = old_and_new()
    broker = Broker(world)
    run_retention(broker)
    for _ in range(5):
        broker.now_ms += CHECK_MS
        broker.step()
        assert len(broker.files) == 1, "the disk is still at the first one"


def test_many_partitions_let_requests_through() -> None:
    world = World(log_retention_ms="0")
    for number in range(10):
        topic_id = world.add_topic(f"t{number}", 100)
        world.logs.update({(topic_id, index): old_and_new() for index in range(100)})
    broker = Broker(world)
    broker.step()
    broker.now_ms = 30_000
    from mqlog.protocol.init_producer_id import InitProducerIdRequest

    token = broker.send(22, 4, InitProducerIdRequest(transactional_id="x"))
    steps = 0
    while token not in broker.answers:
        broker.step()
        steps += 1
    assert steps == 1
    assert not broker.files, "the partitions take more than a step"
    assert len(run_retention(broker)) == 1000
