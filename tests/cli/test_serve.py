"""`mqlog serve`: from the ready line to the last one."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

import pytest

from mqlog.connection import Cluster, Connection

from .command import mqlog
from .serving import serving


def has_ipv6_loopback() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_ready_means_that_clients_can_connect(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as broker:
        assert (broker.data, broker.pid) == (str(tmp_path / "data"), broker.process.pid)
        with Cluster(broker.bootstrap) as cluster:
            metadata = cluster.metadata(None)
        assert metadata.cluster_id == broker.cluster
        assert [(b.host, b.port) for b in metadata.brokers] == [("127.0.0.1", broker.port)]


def test_the_data_directory_is_private_and_keeps_its_cluster(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(data) as first:
        assert data.stat().st_mode & 0o777 == 0o700
        assert first.stop() == 0
    with serving(data) as second:
        assert second.cluster == first.cluster


def test_the_default_directory(tmp_path: Path) -> None:
    with serving(cwd=tmp_path) as broker:
        assert broker.data == str(tmp_path / "mqlog-data")
    with serving(cwd=tmp_path, env={"MQLOG_DATA_DIR": "other"}) as broker:
        assert broker.data == str(tmp_path / "other")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly(tmp_path: Path, number: int) -> None:
    with serving(tmp_path) as broker:
        mqlog("topic", "create", "t", "-b", broker.bootstrap)
        assert broker.stop(number) == 0
        assert f"{signal.Signals(number).name}: stopping" in broker.log()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((broker.host, broker.port))
    with serving(tmp_path) as again:
        assert again.log() == ""  # nothing was recovered


def test_sigterm_twice_is_still_a_clean_stop(tmp_path: Path) -> None:
    with serving(tmp_path) as broker:
        mqlog("topic", "create", "t", "-b", broker.bootstrap)
        for _ in range(100):  # whatever it is doing, another one arrives
            broker.process.send_signal(signal.SIGTERM)
        assert broker.stop() == 0
        assert broker.log().count("SIGTERM: stopping") == 1
    with serving(tmp_path) as again:
        assert again.log() == ""


def test_open_connections_do_not_hold_the_shutdown(tmp_path: Path) -> None:
    with serving(tmp_path) as broker:
        idle = socket.create_connection((broker.host, broker.port))
        half = socket.create_connection((broker.host, broker.port))
        half.sendall(b"\0\0\0\x40\0\x12")
        with idle, half, Connection.open(broker.bootstrap):
            assert broker.stop() == 0
            assert idle.recv(1) == b""


def test_sigkill_is_recovered_from_and_said(tmp_path: Path) -> None:
    with serving(tmp_path) as broker:
        mqlog("topic", "create", "t", "-p", "2", "-b", broker.bootstrap)
        broker.stop(signal.SIGKILL)
    with serving(tmp_path) as again:
        assert "recovered after an unclean stop partitions=2" in again.log()
        assert mqlog("topic", "list", "-b", again.bootstrap, "-o", "json").json()[0]["name"] == "t"


def test_one_process_a_directory(tmp_path: Path) -> None:
    with serving(tmp_path) as broker:
        second = mqlog("serve", tmp_path, "--listen", "127.0.0.1:0")
        assert (second.code, second.out) == (75, "")
        assert second.err == (
            f"mqlog: data directory {tmp_path} is in use by process {broker.pid}: "
            "stop it, or use another directory\n"
        )
        assert mqlog("topic", "list", "-b", broker.bootstrap).code == 0


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with serving(tmp_path / "one") as broker:
        second = mqlog("serve", tmp_path / "two", "--listen", broker.bootstrap)
    assert (second.code, second.out) == (1, "")
    assert second.err.startswith(
        f"mqlog: cannot listen on {broker.bootstrap}: Address already in use"
    )


def test_localhost_is_both_loopbacks(tmp_path: Path) -> None:
    with serving(tmp_path, listen="localhost:0") as broker:
        assert broker.host == "localhost"
        assert broker.log() == ""
        for host in ("127.0.0.1", "[::1]")[: 1 + has_ipv6_loopback()]:
            with Cluster(f"{host}:{broker.port}") as cluster:
                (told,) = cluster.metadata(None).brokers
                assert (told.host, told.port) == (host.strip("[]"), broker.port)


def test_advertise_is_what_clients_are_told(tmp_path: Path) -> None:
    with (
        serving(tmp_path, "--advertise", "broker.example:9999") as broker,
        Cluster(broker.bootstrap) as cluster,
    ):
        (told,) = cluster.metadata(None).brokers
        assert (told.host, told.port) == ("broker.example", 9999)


def test_two_listeners(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.2", 0))
        second = f"127.0.0.2:{free.getsockname()[1]}"
    with serving(tmp_path, "--listen", "127.0.0.1:0", "--listen", second, listen=None) as broker:
        assert broker.host == "127.0.0.1"
        for bootstrap in (broker.bootstrap, second):
            with Cluster(bootstrap) as cluster:
                metadata = cluster.metadata(None)
            assert metadata.cluster_id == broker.cluster
            assert [f"{b.host}:{b.port}" for b in metadata.brokers] == [bootstrap]


def test_others_may_connect_and_nobody_is_asked_who_they_are(tmp_path: Path) -> None:
    with serving(tmp_path, listen="0.0.0.0:0") as broker:
        assert broker.log().endswith(
            " warning anyone who can reach this address can read and delete everything: "
            f"there is no authentication listen=0.0.0.0:{broker.port}\n"
        )


def test_the_log_as_json(tmp_path: Path) -> None:
    with serving(tmp_path, "--log-format", "json", listen="0.0.0.0:0") as broker:
        assert broker.stop() == 0
        warning, stopping, stopped = [json.loads(line) for line in broker.log().splitlines()]
    assert (warning["level"], warning["listen"]) == ("warning", f"0.0.0.0:{broker.port}")
    assert {"time", "level", "text"} <= warning.keys()
    assert (stopping["level"], stopping["text"]) == ("info", "SIGTERM: stopping")
    assert (stopped["text"], stopped["code"]) == ("stopped", 0)


def test_a_newer_format_is_refused_by_name(tmp_path: Path) -> None:
    with serving(tmp_path) as broker:
        broker.stop()
    identity = tmp_path / "mqlog.json"
    identity.write_text(identity.read_text().replace('"format": 1', '"format": 99'))
    done = mqlog("serve", tmp_path, "--listen", "127.0.0.1:0")
    assert done.code == 1
    assert f"{identity} has format version 99, this mqlog knows up to 1" in done.err


def test_a_directory_that_cannot_be_made() -> None:
    done = mqlog("serve", "/proc/nothing", "--listen", "127.0.0.1:0")
    assert (done.code, done.out) == (1, "")
    assert done.err == "mqlog: create /proc/nothing: No such file or directory (os error 2)\n"


def test_a_directory_whose_name_is_no_text(tmp_path: Path) -> None:
    name = os.fsdecode(b"d\xff")
    for env in ({}, {"PYTHONIOENCODING": "utf-8:strict"}):
        with serving(name, cwd=tmp_path, env=env) as broker:
            mqlog("topic", "create", "t", "--if-not-exists", "-b", broker.bootstrap)
            described = mqlog("topic", "describe", "t", "-b", broker.bootstrap, "-o", "json")
            assert described.json()[0]["partitions"][0]["bytes"] == 0
            assert broker.stop() == 0
    done = mqlog("log", "dump", tmp_path / name, env={"PYTHONIOENCODING": "utf-8:strict"})
    assert (done.code, done.err) == (0, "")


def test_a_directory_that_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("precious")
    for done in (mqlog("serve", file), mqlog("serve", env={"MQLOG_DATA_DIR": str(file)})):
        assert (done.code, done.out) == (2, "")
        assert f"Directory '{file}' is a file" in done.err
    below = mqlog("serve", file / "data", "--listen", "127.0.0.1:0")
    assert (below.code, below.out) == (1, "")
    assert below.err == f"mqlog: create {file / 'data'}: Not a directory (os error 20)\n"
    assert file.read_text() == "precious"
