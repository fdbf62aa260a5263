"""The broker's interpreter stands still: requests wait, and no member that has spoken expires."""

from __future__ import annotations

import pytest
from wire.conftest import split_address
from wire.held import while_held

from mqlog.testing import Broker

pytestmark = pytest.mark.ours

SESSION_MS = 2_000

# Another process: members of a session much shorter than the interpreter is held. Some beat all the
# time, some wait for others in JoinGroup or SyncGroup, and one has died.
CLIENT = """
import sys, threading, time, warnings
warnings.simplefilter("ignore")
import wire.conftest
from wire.client import Connection
from wire.conftest import create_topic
from wire.groups import OK, REBALANCING, UNKNOWN_MEMBER, Member, described, new_group, settle

address = sys.argv[1], int(sys.argv[2])
short = {"session_timeout_ms": int(sys.argv[3]), "rebalance_timeout_ms": 600_000}
first = Connection(address, timeout_s=120)
topic = create_topic(first)
alive = []

def say():
    # All ask before any is answered: none is silent because another has to wait.
    for one in alive:
        one.conn.send("Heartbeat", 3, group_id=one.group, generation_id=one.generation,
                      member_id=one.id, group_instance_id=None)
    return [one.conn.receive("Heartbeat", 3)[0].error_code for one in alive]

def member(group):
    return Member(Connection(address, timeout_s=120), group)

def alone(group):
    one = member(group)
    one.join(**short)
    one.sync({one.id: b"all"})
    say()
    return one

dead = alone(new_group(first))
for _ in range(20):
    alive.append(alone(new_group(first)))
joins = alone(new_group(first))
alive.append(joins)
newcomer = member(joins.group)
newcomer.send_join(**short)            # waits for `joins`, which comes afterwards
leader = alone(new_group(first))
follower = member(leader.group)
follower.send_join(**short)
leader.send_join(**short)
for one in (follower, leader):
    one.joined()
follower.send_sync()                   # waits for `leader`, which comes afterwards
alive.append(leader)
expected = [OK] * 20 + [REBALANCING, OK]
assert say() == expected
print("ready", flush=True)
assert sys.stdin.readline() == "held\\n"
deadline = time.monotonic() + float(sys.stdin.readline())
heard, rounds = [set() for _ in alive], [0] * len(alive)

def live(number):
    # Each for itself: what it asks while the interpreter is held is answered when it runs again.
    while time.monotonic() < deadline:
        heard[number].add(alive[number].heartbeat())
        rounds[number] += 1
        time.sleep(0.05)

lives = [threading.Thread(target=live, args=(number,)) for number in range(len(alive))]
for one in lives:
    one.start()
for one in lives:
    one.join()
assert heard == [{code} for code in expected], f"a member that has spoken was dropped: {heard}"
rounds = min(rounds)
for one in alive[:20]:
    assert one.commit(topic, {0: rounds}) == [OK]
    assert set(say()) <= {OK, REBALANCING}
joins.send_join(**short)
for one in (joins, newcomer):
    one.joined()
leader.sync({leader.id: b"1", follower.id: b"2"})
assert follower.synced().assignment == b"2"
joins.sync({})
assert say() == [OK] * 22
for _ in range(300):
    if described(first, dead.group).group_state == "Empty":
        break
    say()
    time.sleep(0.1)
assert dead.heartbeat() == UNKNOWN_MEMBER, "it has not spoken"
print(rounds, flush=True)
"""


def run(held_s: int) -> None:
    """Hold it for so long."""
    config = {"group.initial.rebalance.delay.ms": 0, "group.min.session.timeout.ms": SESSION_MS}
    with Broker(in_process=True, config=config) as broker:
        host, port = split_address(broker.bootstrap_servers)
        rounds = while_held(CLIENT, [host, str(port), str(SESSION_MS)], held_s, held_s + 0.5)
    assert rounds >= 1


def test_nobody_expires_while_the_interpreter_is_held() -> None:
    run(5)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_nobody_expires_in_a_minute() -> None:
    run(60)
