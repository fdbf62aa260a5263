"""What is wrong with a message is said by name: the message, the field, the value, the limit."""

from __future__ import annotations

from typing import Any

import pytest

from mqlog import _native
from mqlog.errors import MqlogError, ProtocolError
from mqlog.protocol.create_topics import CreateTopicsRequest
from mqlog.protocol.delete_topics import DeleteTopicsRequest

Topic = CreateTopicsRequest.CreatableTopic


def create(*topics: Any, **values: Any) -> CreateTopicsRequest:
    return CreateTopicsRequest(topics=list(topics), **values)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (create(Topic(name=3)), "CreateTopicsRequest.topics.name: expected str, got int"),  # type: ignore[arg-type]
        (create(7), "expected CreateTopicsRequest.CreatableTopic, got int"),
        (create(timeout_ms=1 << 40), "v7: timeout_ms: 1099511627776 is outside the range of int32"),
        (create(timeout_ms=1 << 70), "timeout_ms: expected an int of 64 bits, got int"),
        (create(validate_only=1), "CreateTopicsRequest.validate_only: expected bool, got int"),
        (create(Topic(name="\ud800")), "topics.name: expected str without surrogates, got str"),
        (create(Topic(name="x" * 40_000)), "v7: name: length 40000 exceeds 32767"),
        (CreateTopicsRequest(topics=None), "v7: topics: null is not allowed in version 7"),  # type: ignore[arg-type]
        (CreateTopicsRequest(topics="ab"), "CreateTopicsRequest.topics: expected list, got str"),  # type: ignore[arg-type]
        (Topic(), "expected CreateTopicsRequest, got CreatableTopic"),
    ],
)
def test_a_value_that_its_field_cannot_hold(message: Any, text: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        _native.encode("request", 19, 7, message)
    assert text in str(caught.value)
    assert isinstance(caught.value, MqlogError)
    assert isinstance(caught.value, ValueError)


def test_a_value_that_the_version_lacks() -> None:
    state = DeleteTopicsRequest.DeleteTopicState
    by_id = DeleteTopicsRequest(topics=[state(topic_id=b"\1" * 16)])
    with pytest.raises(ProtocolError, match=r"v5: topics: version 5 cannot carry a value other"):
        _native.encode("request", 20, 5, by_id)
    short = DeleteTopicsRequest(topics=[state(topic_id=b"\1" * 15)])
    with pytest.raises(ProtocolError, match=r"topics\.topic_id: expected 16 bytes, got bytes"):
        _native.encode("request", 20, 6, short)


def test_bytes_that_are_not_the_message() -> None:
    with pytest.raises(ProtocolError, match=r"CreateTopicsRequest v7: topics at byte 5: \d+ elem"):
        _native.decode("request", 19, 7, b"\xff\xff\xff\xff\x0f")
    with pytest.raises(ProtocolError, match=r"timeout_ms at byte 1: needs 4 bytes, 2 remain"):
        _native.decode("request", 19, 7, b"\1\0\0")
    with pytest.raises(ProtocolError, match=r"has no version 8 \(it has 2..=7\)"):
        _native.decode("request", 19, 8, b"")


def test_apis_and_kinds_that_do_not_exist() -> None:
    with pytest.raises(LookupError, match="API key 999"):
        _native.decode("request", 999, 0, b"")
    with pytest.raises(LookupError, match="no message named"):
        _native.decode_named("Fetch", 0, b"")
    with pytest.raises(ValueError, match="expected 'request' or 'response'"):
        _native.decode("reply", 19, 7, b"")
