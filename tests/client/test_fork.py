"""A fork: the child's handles say what to do, the parent's go on, the child ends cleanly."""

from __future__ import annotations

from .programs import good
from .scripted import Cluster

SETUP = """
p = KafkaProducer(bootstrap_servers=servers)
p.send("t", b"before").get(10)
future = p.send("t", b"with callback").add_callback(lambda _: None)
c = KafkaConsumer("t", bootstrap_servers=servers, group_id="g", auto_offset_reset="earliest",
                  heartbeat_interval_ms=100)
records = []
while len(records) < 2:
    for found in c.poll(timeout_ms=100).values():
        records += found
a = KafkaAdminClient(bootstrap_servers=servers)
"""

CHILD = """
pid = os.fork()
if pid == 0:
    calls = {
        "send": lambda: p.send("t", b"child"),
        "flush": lambda: p.flush(),
        "partitions_for": lambda: p.partitions_for("t"),
        "get": lambda: p.send("t", b"child").get(1),
        "poll": lambda: c.poll(timeout_ms=100),
        "next": lambda: next(iter(c)),
        "commit": lambda: c.commit(),
        "list_topics": lambda: a.list_topics(),
    }
    bad = 0
    for name, call in calls.items():
        try:
            call()
            say("child:", name, "returned"); bad = 1
        except UsedAfterForkError as error:
            assert "fork" in str(error), error
        except BaseException as error:
            say("child:", name, repr(error)); bad = 1
    p.close(); c.close(); a.close()
    del p, c, a, future, records
    sys.exit(bad)
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
say("child ended with", code)
p.send("t", b"after").get(10)
while len(records) < 3:
    for found in c.poll(timeout_ms=100).values():
        records += found
c.commit()
say([r.value for r in records])
p.close(); c.close(); a.close()
"""


def test_handles_in_a_child() -> None:
    with Cluster() as cluster:
        cluster.create("t")
        ended = good(SETUP + CHILD, cluster.bootstrap_servers)
        assert ended.lines() == [
            "child ended with 0",
            "[b'before', b'with callback', b'after']",
        ]
        assert len(cluster.groups.group("g").members) == 0


def test_the_child_has_none_of_the_sockets() -> None:
    program = (
        SETUP
        + """
def sockets():
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink("/proc/self/fd/" + name)
        except OSError:
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found
before = sockets()
pid = os.fork()
if pid == 0:
    left = before & sockets()
    say("before", len(before) > 0, "left", len(left))
    os._exit(0)
os.waitpid(pid, 0)
p.send("t", b"still there").get(10)
p.close(); c.close(); a.close()
"""
    )
    with Cluster() as cluster:
        cluster.create("t")
        assert good(program, cluster.bootstrap_servers).lines() == ["before True left 0"]


def test_new_handles_in_a_child_work() -> None:
    program = (
        SETUP
        + """
pid = os.fork()
if pid == 0:
    with KafkaProducer(bootstrap_servers=servers) as mine:
        say("child wrote at", mine.send("t", b"child").get(10).offset)
    sys.exit(0)
say("child ended with", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
p.close(); c.close(); a.close()
"""
    )
    with Cluster() as cluster:
        cluster.create("t")
        ended = good(program, cluster.bootstrap_servers)
        assert ended.lines() == ["child wrote at 2", "child ended with 0"]


def test_multiprocessing_with_fork() -> None:
    program = (
        SETUP
        + """
import multiprocessing
def work(number):
    with KafkaProducer(bootstrap_servers=servers) as mine:
        return mine.send("t", b"%d" % number).get(10).offset
with multiprocessing.get_context("fork").Pool(2) as pool:
    say(sorted(pool.map(work, range(4))))
p.close(); c.close(); a.close()
"""
    )
    with Cluster() as cluster:
        cluster.create("t")
        assert good(program, cluster.bootstrap_servers).lines() == ["[2, 3, 4, 5]"]


def test_a_fork_while_threads_send() -> None:
    program = """
    p = KafkaProducer(bootstrap_servers=servers, linger_ms=1)
    stop = threading.Event()
    sent = [0] * 4
    def run(number):
        while not stop.is_set():
            p.send("t", b"v").get(10)
            sent[number] += 1
    threads = [threading.Thread(target=run, args=(n,)) for n in range(4)]
    for thread in threads: thread.start()
    for _ in range(20):
        pid = os.fork()
        if pid == 0:
            try:
                p.send("t", b"child")
                os._exit(1)
            except UsedAfterForkError:
                del p
                os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert code == 0, code
        time.sleep(0.01)
    stop.set()
    for thread in threads: thread.join()
    p.close()
    say(all(sent))
    """
    with Cluster() as cluster:
        cluster.create("t")
        assert good(program, cluster.bootstrap_servers).lines() == ["True"]
        assert b"child" not in cluster.values("t")
