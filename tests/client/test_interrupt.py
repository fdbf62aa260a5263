"""Ctrl-C in the main thread ends every call that waits, at once."""

from __future__ import annotations

import signal
import time

import pytest

from . import scripted_faults as faults
from .programs import finish, start
from .scripted import Api, Cluster

#: Generous: the measured figures are what `tools/client_limits.py` prints.
LIMIT_S = 2.0

#: name: (what is silent, the program up to the call, the call)
CALLS = {
    "bootstrap": (
        Api.API_VERSIONS,
        "",
        "KafkaConsumer('t', bootstrap_servers=servers, group_id='g').poll(timeout_ms=60_000)",
    ),
    "send with a full buffer": (
        Api.PRODUCE,
        "p = KafkaProducer(bootstrap_servers=servers, buffer_memory=65536, batch_size=16384)",
        "[p.send('t', b'x' * 10_000) for _ in range(100)]",
    ),
    "get": (
        Api.PRODUCE,
        "p = KafkaProducer(bootstrap_servers=servers)",
        "p.send('t', b'v').get(60)",
    ),
    "get without a limit": (
        Api.PRODUCE,
        "p = KafkaProducer(bootstrap_servers=servers)",
        "p.send('t', b'v').get()",
    ),
    "flush": (
        Api.PRODUCE,
        "p = KafkaProducer(bootstrap_servers=servers); p.send('t', b'v')",
        "p.flush()",
    ),
    "close of a producer": (
        Api.PRODUCE,
        "p = KafkaProducer(bootstrap_servers=servers); p.send('t', b'v')",
        "p.close()",
    ),
    "partitions_for": (
        Api.METADATA,
        "p = KafkaProducer(bootstrap_servers=servers)",
        "p.partitions_for('t')",
    ),
    "poll of what is not there": (
        None,
        "c = KafkaConsumer('t', bootstrap_servers=servers)",
        "c.poll(timeout_ms=60_000)",
    ),
    "for record in consumer": (
        None,
        "c = KafkaConsumer('t', bootstrap_servers=servers)",
        "[record for record in c]",
    ),
    "join": (
        Api.JOIN_GROUP,
        "c = KafkaConsumer('t', bootstrap_servers=servers, group_id='g')",
        "c.poll(timeout_ms=60_000)",
    ),
    "commit": (
        Api.OFFSET_COMMIT,
        """c = KafkaConsumer('t', bootstrap_servers=servers, group_id='g')
while not c.assignment(): c.poll(timeout_ms=100)
c.position(TopicPartition('t', 0))""",
        "c.commit()",
    ),
    "position": (
        Api.LIST_OFFSETS,
        "c = KafkaConsumer(bootstrap_servers=servers); c.assign([TopicPartition('t', 0)])",
        "c.position(TopicPartition('t', 0))",
    ),
    "administration": (
        Api.METADATA,
        "",
        "KafkaAdminClient(bootstrap_servers=servers).list_topics()",
    ),
}

PROGRAM = """
{before}
say("begins")
try:
    {call}
    say("it returned")
except KeyboardInterrupt:
    say("interrupted")
os._exit(0)
"""


def begin_silence(cluster: Cluster, api: int, call: str) -> None:
    """Never answer this API; making a producer needs Metadata once."""
    cluster.always(api, faults.silent(), nth=1 if "partitions_for" in call else 0)


@pytest.mark.parametrize("name", CALLS)
def test_ctrl_c(name: str) -> None:
    silent, before, call = CALLS[name]
    with Cluster() as cluster:
        cluster.create("t")
        if silent is not None:
            begin_silence(cluster, silent, call)
        program = PROGRAM.format(before=before, call=call)
        with start(program, cluster.bootstrap_servers) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "begins\n", finish(process).err
            time.sleep(0.4)
            process.send_signal(signal.SIGINT)
            sent = time.monotonic()
            ended = finish(process, 20)
            took = time.monotonic() - sent
        assert ended.lines() == ["interrupted"], ended
        assert took < LIMIT_S


def test_a_handler_that_does_not_raise_lets_the_call_go_on() -> None:
    program = """
    seen = []
    signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
    c = KafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest")
    c.assign([TopicPartition("t", 0)])
    say("begins")
    found = c.poll(timeout_ms=20_000)
    say(len(seen), [r.value for rs in found.values() for r in rs])
    c.close()
    """
    with Cluster() as cluster:
        cluster.create("t")
        with start(program, cluster.bootstrap_servers) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "begins\n"
            time.sleep(0.3)
            process.send_signal(signal.SIGUSR1)
            time.sleep(0.3)
            cluster.fill("t", [b"v"])
            ended = finish(process)
        assert ended.lines() == ["1 [b'v']"], ended


def test_work_goes_on_after_an_interrupt() -> None:
    program = """
    p = KafkaProducer(bootstrap_servers=servers)
    future = p.send("t", b"v")
    say("begins")
    try:
        future.get(60)
    except KeyboardInterrupt:
        say("interrupted")
    say(future.get(60).offset)
    p.close()
    """
    with Cluster() as cluster:
        cluster.create("t")
        cluster.on(Api.PRODUCE, faults.delay(2.0))
        with start(program, cluster.bootstrap_servers) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "begins\n"
            time.sleep(0.4)
            process.send_signal(signal.SIGINT)
            ended = finish(process)
        assert ended.lines() == ["interrupted", "0"], ended
