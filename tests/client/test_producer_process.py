"""A producer and its process: Ctrl-C, forks, the end of the interpreter."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mqlog import KafkaProducer, errors
from mqlog.testing import Broker

from .conftest import eventually

pytestmark = pytest.mark.ours


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A script in a process of its own."""
    command = [sys.executable, "-c", textwrap.dedent(script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def stop(pid: int) -> None:
    """Stops a process, and waits until it stands still."""
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: " T " in Path(f"/proc/{pid}/stat").read_text())


@pytest.fixture
def silent() -> Any:
    """A broker that is stopped: it keeps its connections and answers nothing."""
    with Broker(durability="os") as broker:
        yield broker
        os.kill(broker.pid, signal.SIGCONT)


@pytest.mark.parametrize("what", ["get", "flush", "send", "partitions"])
def test_ctrl_c_returns_at_once(silent: Broker, what: str) -> None:
    with KafkaProducer(
        bootstrap_servers=silent.bootstrap_servers, buffer_memory=100_000, linger_ms=0
    ) as producer:
        future = producer.send("t", b"v")
        future.get(10)
        stop(silent.pid)
        calls: dict[str, Callable[[], Any]] = {
            "get": lambda: producer.send("t", b"v").get(60),
            "flush": lambda: (producer.send("t", b"v"), producer.flush()),
            "send": lambda: [producer.send("t", bytes(10_000)) for _ in range(100)],
            "partitions": lambda: producer.partitions_for("another"),
        }

        def interrupt() -> None:
            time.sleep(0.3)
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            calls[what]()
        thread.join()
        os.kill(silent.pid, signal.SIGCONT)
        # It is as good as before.
        assert producer.send("t", b"v").get(20).topic == "t"


def test_a_child_of_a_fork_is_told_so(access: dict[str, Any], topic: str) -> None:
    with KafkaProducer(**access) as producer:
        future = producer.send(topic, b"v")
        future.get(10)
        waiting = producer.send(topic, b"v")
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            said = []
            for call in (
                lambda: producer.send(topic, b"v"),
                lambda: producer.send_many(topic, [b"v"]),
                lambda: producer.send("another", b"v"),
                producer.flush,
                producer.metrics,
                lambda: producer.partitions_for(topic),
                lambda: waiting.get(5) if not waiting.is_done else producer.flush(),
            ):
                try:
                    call()
                    said.append("nothing")
                except errors.UsedAfterForkError:
                    said.append("forked")
                except BaseException as error:
                    said.append(repr(error))
            producer.close()
            os.write(write_end, ",".join(said).encode())
            os._exit(0)
        os.close(write_end)
        with os.fdopen(read_end) as pipe:
            assert pipe.read() == ",".join(["forked"] * 7)
        assert os.waitpid(child, 0)[1] == 0
        assert producer.send(topic, b"the parent goes on").get(10).topic == topic


def test_the_end_of_the_interpreter_is_bounded_and_says_what_is_lost(silent: Broker) -> None:
    script = """
        import logging, os, signal, sys, time
        import mqlog.client.producer as module
        logging.basicConfig(format="%(message)s")
        module.EXIT_S = 0.3
        producer = module.KafkaProducer(bootstrap_servers=sys.argv[1])
        producer.send("t", b"v").get(10)
        os.kill(int(sys.argv[2]), signal.SIGSTOP)
        while " T " not in open(f"/proc/{sys.argv[2]}/stat").read():
            time.sleep(0.01)
        for _ in range(7):
            producer.send("t", b"lost").add_errback(lambda error: print(type(error).__name__))
    """
    start = time.monotonic()
    done = run(script, silent.bootstrap_servers, str(silent.pid))
    assert done.returncode == 0, done.stderr
    assert "7 records not acknowledged" in done.stderr
    assert done.stdout.split() == ["ClosedError"] * 7
    assert time.monotonic() - start < 20


def test_threads_that_are_no_daemons_may_send_to_their_end(
    access: dict[str, Any], topic: str
) -> None:
    script = """
        import json, sys, threading, time
        from mqlog import KafkaProducer
        producer = KafkaProducer(**json.loads(sys.argv[1]))
        def work():
            time.sleep(0.3)
            for _ in range(3):
                print(producer.send(sys.argv[2], b"v").get(10).offset)
        threading.Thread(target=work).start()
    """
    done = run(script, json.dumps(access), topic)
    assert (done.stdout.split(), done.stderr) == (["0", "1", "2"], "")
