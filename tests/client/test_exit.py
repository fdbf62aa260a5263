"""The end of the interpreter: what was sent is flushed within a bound, nothing hangs or is said."""

from __future__ import annotations

import pytest

from . import scripted_faults as faults
from .programs import HEAD, good, run
from .scripted import Api, Cluster


def test_an_open_producer_is_flushed() -> None:
    program = """
    p = KafkaProducer(bootstrap_servers=servers, linger_ms=60_000, delivery_timeout_ms=120_000)
    for number in range(100): p.send("t", b"%d" % number)
    """
    with Cluster() as cluster:
        cluster.create("t")
        good(program, cluster.bootstrap_servers)
        assert cluster.values("t") == [b"%d" % number for number in range(100)]


def test_callbacks_come_before_the_end() -> None:
    program = """
    p = KafkaProducer(bootstrap_servers=servers, linger_ms=200)
    for number in range(5):
        p.send("t", b"v").add_callback(lambda m: say(m.offset))
    """
    with Cluster() as cluster:
        cluster.create("t")
        assert good(program, cluster.bootstrap_servers).lines() == list("01234")


@pytest.mark.parametrize("where", ["at module level", "in a function", "in a cycle"])
def test_an_open_consumer(where: str) -> None:
    body = """
    c = KafkaConsumer("t", bootstrap_servers=servers, group_id="g", auto_offset_reset="earliest",
                      heartbeat_interval_ms=100)
    while not c.poll(timeout_ms=100): pass
    """
    program = {
        "at module level": body,
        "in a function": "def main():\n" + body.replace("\n    ", "\n        ") + "\nmain()",
        "in a cycle": body + "\n    box = [c]; box.append(box); del c, box\n",
    }[where]
    with Cluster() as cluster:
        cluster.create("t")
        cluster.fill("t", [b"v"])
        good(program.replace("\ndef", "\ndef"), cluster.bootstrap_servers)


@pytest.mark.parametrize("way", ["pass", "raise SystemExit(3)", "del c", "c = None"])
def test_a_consumer_that_nobody_closed_leaves_its_group(way: str) -> None:
    """Else a program that is started again waits for its old self: for session_timeout_ms."""
    program = f"""
    from mqlog import ConsumerRebalanceListener
    class Listener(ConsumerRebalanceListener):
        def on_partitions_assigned(self, places): pass
        def on_partitions_revoked(self, places):
            if places: say("revoked")
    c = KafkaConsumer(bootstrap_servers=servers, group_id="g", auto_offset_reset="earliest")
    c.subscribe(["t"], listener=Listener())
    next(c)
    {way}
    if {way!r} != "pass":
        os._exit(0)  # so that it is not the exit that does it
    """
    with Cluster() as cluster:
        cluster.create("t")
        cluster.fill("t", [b"v"])
        group = cluster.groups.group("g")
        ended = run(program, cluster.bootstrap_servers)
        assert (ended.out, ended.err) == ("", ""), ended
        assert len(cluster.requests(Api.LEAVE_GROUP)) == 1
        assert not group.members
        assert not group.offsets, "nobody said that the record was done with"


def test_a_broker_that_never_answers_does_not_hold_up_the_exit() -> None:
    program = """
    p = KafkaProducer(bootstrap_servers=servers)
    p.send("t", b"v")
    time.sleep(0.3)
    """
    with Cluster() as cluster:
        cluster.create("t")
        cluster.always(Api.PRODUCE, faults.silent())
        ended = run(program, cluster.bootstrap_servers, timeout_s=60)
        assert ended.code == 0, ended
        assert "Traceback" not in ended.err, ended.err
        assert "t" in ended.err, "what was lost is said"


@pytest.mark.parametrize("daemon", [True, False])
def test_threads_that_wait(daemon: bool) -> None:
    """A daemon thread is left where it stands; for others the interpreter waits."""
    program = f"""
    p = KafkaProducer(bootstrap_servers=servers)
    c = KafkaConsumer("t", bootstrap_servers=servers, auto_offset_reset="earliest")
    def poll():
        while {daemon} or time.monotonic() < end: c.poll(timeout_ms=100)
    def send():
        while {daemon} or time.monotonic() < end: p.send("t", b"v").get(10)
    end = time.monotonic() + 1
    for work in (poll, send, send):
        threading.Thread(target=work, daemon={daemon}).start()
    time.sleep(0.5)
    say("ends")
    """
    with Cluster() as cluster:
        cluster.create("t")
        for _ in range(3):
            ended = run(program, cluster.bootstrap_servers)
            assert (ended.code, ended.lines(), ended.err) == (0, ["ends"], ""), ended


@pytest.mark.parametrize("call", ["p.send('t', b'v').get()", "c.poll(timeout_ms=600_000)"])
def test_a_daemon_thread_deep_in_a_call(call: str) -> None:
    program = f"""
    p = KafkaProducer(bootstrap_servers=servers, delivery_timeout_ms=120_000)
    c = KafkaConsumer("t", bootstrap_servers=servers, auto_offset_reset="earliest")
    def work():
        {call}
    threading.Thread(target=work, daemon=True).start()
    time.sleep(0.5)
    say("ends")
    """
    with Cluster() as cluster:
        cluster.create("t")
        cluster.always(Api.PRODUCE, faults.silent())
        ended = run(program, cluster.bootstrap_servers, timeout_s=60)
        assert (ended.code, ended.lines()) == (0, ["ends"]), ended
        assert all("not acknowledged" in line for line in ended.err.splitlines()), ended.err


def test_errors_of_a_daemon_thread_are_told_to_the_end() -> None:
    """Only the ClosedError that the end itself makes is kept quiet."""
    program = """
    p = KafkaProducer(bootstrap_servers=servers)
    def work():
        try:
            while True: p.send("t", b"v")
        except ClosedError as error:
            raise ValueError("of the program's own") from error
    threading.Thread(target=work, daemon=True).start()
    time.sleep(0.3)
    """
    # Handlers run in reverse: this one waits after the producer's has closed it.
    late = "import atexit, time; atexit.register(time.sleep, 0.5)\n"
    with Cluster() as cluster:
        cluster.create("t")
        ended = run(program, cluster.bootstrap_servers, head=late + HEAD)
        assert ended.code == 0, ended
        assert "ValueError: of the program's own" in ended.err, ended


def test_an_exception_ends_the_program() -> None:
    program = """
    p = KafkaProducer(bootstrap_servers=servers)
    p.send("t", b"v").add_callback(print)
    c = KafkaConsumer("t", bootstrap_servers=servers, group_id="g", auto_offset_reset="earliest")
    c.poll(timeout_ms=200)
    raise SystemExit(3)
    """
    with Cluster() as cluster:
        cluster.create("t")
        ended = run(program, cluster.bootstrap_servers)
        assert ended.code == 3, ended
        assert ended.err == ""
        assert cluster.values("t") == [b"v"]


def test_leaving_a_client_to_the_collector() -> None:
    program = """
    import gc
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        p = KafkaProducer(bootstrap_servers=servers); p.send("t", b"v").get(10)
        c = KafkaConsumer("t", bootstrap_servers=servers); c.poll(timeout_ms=50)
        del p, c
    gc.collect()
    end = time.monotonic() + 10
    def threads(): return len(os.listdir("/proc/self/task"))
    def files(): return len(os.listdir("/proc/self/fd"))
    while (files() > before + 2 or threads() > 3) and time.monotonic() < end:
        time.sleep(0.05)
    say(len(os.listdir("/proc/self/fd")) - before <= 2, threads() <= 3)
    """
    with Cluster() as cluster:
        cluster.create("t")
        ended = run(program, cluster.bootstrap_servers, options=("-W", "ignore"))
        assert ended.lines() == ["True True"], ended
