"""Frames that Kafka's Java classes wrote mean the same to us, in both directions."""

from __future__ import annotations

import itertools

import pytest
from frames import Golden, golden

from mqlog import _native
from mqlog.protocol import request_class, response_class

MODULES = {
    name: list(group) for name, group in itertools.groupby(golden(), key=lambda one: one.module)
}


@pytest.mark.parametrize("module", MODULES)
def test_read_and_written_as_kafka_does(module: str) -> None:
    for one in MODULES[module]:
        message = one.message
        assert _native.decode_named(one.name, one.version, one.body) == message, one[:2]
        assert _native.encode_named(one.name, one.version, message) == one.body, one[:2]


def by_key(one: Golden) -> int | None:
    """The API key of a request or response."""
    from model import messages

    return {message.name: message.key for message in messages()}.get(one.name)


def test_messages_are_found_by_api_key() -> None:
    for one in (*MODULES["create_topics"], *MODULES["describe_cluster"]):
        key = by_key(one)
        assert key is not None
        kind = "request" if one.name.endswith("Request") else "response"
        assert (request_class if kind == "request" else response_class)(key) is one.cls
        assert _native.decode(kind, key, one.version, one.body) == one.message
        assert _native.encode(kind, key, one.version, one.message) == one.body


def test_a_request_has_its_header_in_front() -> None:
    requests = {one.version: one for one in MODULES["create_topics"] if "Request" in one.name}
    frame = _native.encode_request(19, 7, 258, "me", requests[7].message)
    assert frame == b"\0\x13\0\x07\0\0\x01\x02\0\x02me\0" + requests[7].body
    frame = _native.encode_request(19, 4, 1, None, requests[4].message)
    assert frame == b"\0\x13\0\x04\0\0\0\x01\xff\xff" + requests[4].body
