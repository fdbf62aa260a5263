"""DeleteRecords: which partitions are worked on, and what is refused before."""

from __future__ import annotations

import pytest

from mqlog.protocol.delete_records import DeleteRecordsRequest

from .fake import Broker

DELETE_RECORDS = 21
Part = DeleteRecordsRequest.DeleteRecordsPartition


def request(name: str, *parts: tuple[int, int]) -> DeleteRecordsRequest:
    topic = DeleteRecordsRequest.DeleteRecordsTopic(name, [Part(*part) for part in parts])
    return DeleteRecordsRequest([topic])


def test_each_partition_has_its_own_answer() -> None:
    broker = Broker()
    topic_id = broker.world.add_topic("t", 3)
    asked = request("t", (0, 5), (1, -1), (2, 9), (3, 0), (-1, 0), (0, -2))
    token = broker.send(DELETE_RECORDS, 2, asked)
    broker.step()
    [(number, operations)] = broker.files.items()
    assert operations == [
        ("delete_records", topic_id, 0, 5),
        ("delete_records", topic_id, 1, -1),
        ("delete_records", topic_id, 2, 9),
    ]
    assert token not in broker.answers, "answered before the log start is on disk"
    broker.files_done(number, [(5, 0, None), (7, 0, None), (99, 1, "out of range")])
    broker.step()
    [topic] = broker.answers[token].topics
    found = [(p.partition_index, p.low_watermark, p.error_code) for p in topic.partitions]
    assert found == [(0, 5, 0), (1, 7, 0), (2, -1, 1), (3, -1, 3), (-1, -1, 3), (0, -1, 1)]


def test_unknown_topics_cost_no_file_operation() -> None:
    broker = Broker()
    token = broker.send(DELETE_RECORDS, 0, request("t", (0, 0)))
    broker.step()
    assert not broker.files
    assert broker.answers[token].topics[0].partitions[0].error_code == 3


@pytest.mark.parametrize(
    ("policy", "code"),
    [("delete", 0), ("compact", 44), ("compact,delete", 0), ("delete, compact", 0), ("", 0)],
)
@pytest.mark.parametrize("dynamic", [True, False])
def test_a_compacted_topic_keeps_its_start(policy: str, code: int, dynamic: bool) -> None:
    broker = Broker()
    own = {"cleanup_policy": policy} if dynamic else {}
    broker.world.add_topic("t", 1, **own)
    if not dynamic:
        default = ("config", 4, "", "log.cleanup.policy", policy)
        broker.world.held = broker.world.held.applied([default])
    for offset in (0, -1):
        answer = broker.call(DELETE_RECORDS, 2, request("t", (0, offset)))
        assert answer.topics[0].partitions[0].error_code == code
    if code:
        answer = broker.call(DELETE_RECORDS, 2, request("t", (0, -2), (1, 0)))
        # As in Kafka: the policy is looked at before the offset, the partition before both.
        assert [part.error_code for part in answer.topics[0].partitions] == [44, 3]
