"""Fetch sessions: partitions are named once, and only what changed is asked and answered."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from . import batches
from .client import Connection, Topic, fetch_body
from .conftest import MakeTopic, create_topic, split_address

OFFSET_OUT_OF_RANGE = 1
UNKNOWN_TOPIC_OR_PARTITION = 3
FETCH_SESSION_ID_NOT_FOUND = 70
INVALID_FETCH_SESSION_EPOCH = 71
UNKNOWN_TOPIC_ID = 100
FETCH_SESSION_TOPIC_ID_ERROR = 106
VERSIONS = [7, 12, 13, 18]

Connect = Callable[[], Connection]
Wanted = list[tuple[Topic, int, int]]
Part = tuple[int, list[int], int]


class Client:
    """A client with one session; it counts its epoch."""

    def __init__(self, conn: Connection, version: int) -> None:
        self.conn = conn
        self.version = version
        self.id = self.epoch = 0

    def ask(self, wanted: Wanted, **options: Any) -> Any:
        """The next fetch of the session; the whole answer."""
        options = {"max_wait_ms": 0, "session": (self.id, self.epoch)} | options
        answer = self.conn.fetch_raw(wanted, version=self.version, **options)
        if answer.error_code == 0:
            self.id, self.epoch = answer.session_id, self.epoch + 1
        return answer

    def full(self, wanted: Wanted, **options: Any) -> list[Part]:
        """The fetch that makes the session."""
        self.epoch = 0
        answer = self.ask(wanted, **options)
        assert answer.error_code == 0
        assert answer.session_id > 0
        return told(answer)

    def more(self, *wanted: tuple[Topic, int, int], **options: Any) -> list[Part]:
        """What an incremental fetch tells; `wanted` is what changes."""
        before = self.id
        answer = self.ask(list(wanted), **options)
        assert (answer.error_code, answer.session_id) == (0, before)
        return told(answer)


def told(answer: Any) -> list[Part]:
    """(partition, base offsets, error) in the order of the answer."""
    parts = [part for topic in answer.responses for part in topic.partitions]
    return [
        (
            part.partition_index,
            [b.base_offset for b in batches.parse(part.records)],
            part.error_code,
        )
        for part in parts
    ]


@pytest.fixture(params=VERSIONS)
def client(conn: Connection, request: pytest.FixtureRequest) -> Client:
    """A client of each version."""
    return Client(conn, request.param)


def test_behaviour_39_only_what_changed_is_told(
    conn: Connection, make_topic: MakeTopic, client: Client
) -> None:
    topic = make_topic(3)
    conn.produce(topic, b"v", partition=1)
    wanted = [(topic, partition, 0) for partition in range(3)]
    assert client.full(wanted) == [(0, [], 0), (1, [0], 0), (2, [], 0)]
    # The offset has not moved: the records are there still, and nothing else is news.
    assert client.more() == [(1, [0], 0)]
    assert client.more((topic, 1, 1)) == []
    assert client.more() == []
    conn.produce(topic, b"v", partition=2)
    assert client.more() == [(2, [0], 0)]
    assert client.more((topic, 2, 1)) == []


def test_behaviour_39_new_marks_are_news(
    conn: Connection, make_topic: MakeTopic, client: Client
) -> None:
    topic = make_topic(2)
    for _ in range(3):
        conn.produce(topic, b"v")
    client.full([(topic, 0, 3), (topic, 1, 0)])
    assert client.more() == []
    part = {"partition_index": 0, "offset": 2}
    named = {"name": topic.name, "partitions": [part]}
    conn.call("DeleteRecords", 2, topics=[named], timeout_ms=10_000)
    assert client.more() == [(0, [], 0)]
    assert client.more() == []


def test_behaviour_39_forgotten_partitions(
    conn: Connection, make_topic: MakeTopic, client: Client
) -> None:
    topic = make_topic(3)
    for partition in range(3):
        conn.produce(topic, b"v", partition=partition)
    client.full([(topic, 0, 0), (topic, 1, 0)])
    told = client.more((topic, 2, 0), forgotten=[(topic, [0, 7])])
    assert sorted(told) == [(1, [0], 0), (2, [0], 0)]
    told = client.more(forgotten=[(topic, [1])])
    assert told == [(2, [0], 0)]
    # With nothing left there is no session.
    answer = client.ask([], forgotten=[(topic, [2])])
    assert (answer.error_code, answer.session_id, list(answer.responses)) == (0, 0, [])


def test_behaviour_39_errors_are_told_until_they_end(
    conn: Connection, topic: Topic, client: Client
) -> None:
    conn.produce(topic, b"v")
    error = [(0, [], OFFSET_OUT_OF_RANGE)]
    assert client.full([(topic, 0, 5)]) == error
    assert client.more() == error
    assert client.more((topic, 0, 1)) == [(0, [], 0)]
    assert client.more() == []


def test_behaviour_39_wrong_ids_and_epochs(conn: Connection, topic: Topic, client: Client) -> None:
    client.full([(topic, 0, 0)])
    mine, epoch = client.id, client.epoch
    wrong = [
        ((mine ^ 1, epoch), FETCH_SESSION_ID_NOT_FOUND),
        ((0, epoch), FETCH_SESSION_ID_NOT_FOUND),
        ((mine, epoch + 1), INVALID_FETCH_SESSION_EPOCH),
        ((mine, epoch + 1_000_000), INVALID_FETCH_SESSION_EPOCH),
    ]
    for session, error in wrong:
        answer = client.ask([], session=session, max_wait_ms=60_000)
        assert (answer.error_code, list(answer.responses)) == (error, [])
        assert answer.session_id == 0
    # None of it has hurt the session; a request sent again is too late.
    assert client.more() == []
    answer = client.ask([], session=(mine, epoch))
    assert answer.error_code == INVALID_FETCH_SESSION_EPOCH


def test_behaviour_39_no_session_wanted(conn: Connection, topic: Topic, client: Client) -> None:
    conn.produce(topic, b"v")
    for session in ((0, -1), (12345, -1)):
        answer = client.ask([(topic, 0, 0)], session=session)
        assert (answer.error_code, answer.session_id, told(answer)) == (0, 0, [(0, [0], 0)])


def test_behaviour_39_the_final_epoch_ends_it(
    conn: Connection, topic: Topic, client: Client
) -> None:
    conn.produce(topic, b"v")
    client.full([(topic, 0, 0)])
    mine, epoch = client.id, client.epoch
    answer = client.ask([(topic, 0, 0)], session=(mine, -1))
    assert (answer.session_id, told(answer)) == (0, [(0, [0], 0)])
    gone = client.ask([], session=(mine, epoch))
    assert gone.error_code == FETCH_SESSION_ID_NOT_FOUND


def test_behaviour_39_a_new_full_fetch_replaces_it(
    conn: Connection, topic: Topic, client: Client
) -> None:
    client.full([(topic, 0, 0)])
    mine, epoch = client.id, client.epoch
    client.full([(topic, 0, 0)])
    assert client.id != mine
    gone = client.ask([], session=(mine, epoch))
    assert gone.error_code == FETCH_SESSION_ID_NOT_FOUND


def test_behaviour_39_it_belongs_to_no_connection(
    conn: Connection, connect: Connect, topic: Topic, client: Client
) -> None:
    client.full([(topic, 0, 0)])
    client.conn.close()
    client.conn = connect()
    client.conn.produce(topic, b"v")
    assert client.more() == [(0, [0], 0)]


def test_behaviour_39_an_incremental_fetch_waits(
    connect: Connect, topic: Topic, client: Client
) -> None:
    client.full([(topic, 0, 0)])
    writer = connect()
    session = (client.id, client.epoch)
    body = fetch_body([], version=client.version, session=session, max_wait_ms=600_000)
    client.conn.send("Fetch", client.version, **body)
    assert client.conn.silent_for(0.05)
    writer.produce(topic, b"v")
    assert told(client.conn.receive("Fetch", client.version)[0]) == [(0, [0], 0)]


def test_behaviour_39_names_and_ids_do_not_mix(conn: Connection, topic: Topic) -> None:
    for first, then in ((12, 13), (13, 12)):
        client = Client(conn, first)
        client.full([(topic, 0, 0)])
        client.version = then
        assert client.ask([(topic, 0, 0)]).error_code == FETCH_SESSION_TOPIC_ID_ERROR


def test_behaviour_39_unknown_topics_keep_their_place(
    conn: Connection, topic: Topic, client: Client
) -> None:
    nobody = Topic(name="wire-nobody", id=uuid.uuid4(), partitions=1)
    unknown = UNKNOWN_TOPIC_ID if client.version >= 13 else UNKNOWN_TOPIC_OR_PARTITION
    expected = [(0, [], 0), (0, [], unknown)]
    assert sorted(client.full([(nobody, 0, 0), (topic, 0, 0)])) == expected
    assert client.more() == [(0, [], unknown)]
    assert client.more(forgotten=[(nobody, [0])]) == []


def test_behaviour_39_those_served_go_to_the_end(
    conn: Connection, make_topic: MakeTopic, client: Client
) -> None:
    """Else the first of many full partitions would starve the others."""
    topic = make_topic(3)
    for partition in range(3):
        conn.produce(topic, b"v" * 100, partition=partition)
    first = client.full([(topic, partition, 0) for partition in range(3)], max_bytes=1)
    assert first == [(0, [0], 0), (1, [], 0), (2, [], 0)]
    seen = [client.more(max_bytes=1) for _ in range(6)]
    served = [part for one in seen for part, found, _ in one if found]
    assert sorted(served[:3]) == [0, 1, 2]
    assert served[3:] == served[:3]


@pytest.fixture(scope="module")
def small() -> Iterator[Connection]:
    """A broker with two places for sessions."""
    from mqlog.testing import Broker

    config = {"max.incremental.fetch.session.cache.slots": 2}
    with (
        Broker(config=config) as running,
        Connection(split_address(running.bootstrap_servers)) as conn,
    ):
        yield conn


@pytest.mark.ours
def test_behaviour_39_without_a_place_the_fetch_is_served_still(small: Connection) -> None:
    topic = create_topic(small, 2)
    small.produce(topic, b"v")
    clients = [Client(small, 13) for _ in range(2)]
    for one in clients:
        one.full([(topic, 0, 0)])
    for _ in range(100):
        # A client that never goes on with its session, larger than the others.
        answer = Client(small, 13).ask([(topic, 0, 0), (topic, 1, 0)])
        assert (answer.error_code, answer.session_id) == (0, 0)
        assert told(answer) == [(0, [0], 0), (1, [], 0)]
    assert [one.more() for one in clients] == [[(0, [0], 0)]] * 2
    # A place that is given back is taken.
    clients[0].ask([], session=(clients[0].id, -1))
    Client(small, 13).full([(topic, 0, 0)])
    assert clients[1].more() == [(0, [0], 0)]
