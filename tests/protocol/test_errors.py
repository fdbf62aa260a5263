"""The error classes against kafka-python's own table of Kafka's codes."""

from __future__ import annotations

import pickle

import kafka.errors
import pytest

from mqlog import errors
from mqlog.errors import KafkaError

OURS = {
    cls.code: cls
    for cls in vars(errors).values()
    if isinstance(cls, type) and issubclass(cls, KafkaError) and "code" in vars(cls)
    if cls.code
}

#: Codes that kafka-python still calls by an older name.
RENAMED = {
    -1: "UNKNOWN_SERVER_ERROR",
    6: "NOT_LEADER_OR_FOLLOWER",
    10: "MESSAGE_TOO_LARGE",
    17: "INVALID_TOPIC_EXCEPTION",
    39: "INVALID_REPLICA_ASSIGNMENT",
}


def test_every_code_of_kafka_has_a_class() -> None:
    assert sorted(OURS) == [-1, *range(1, 134)]
    for code, cls in OURS.items():
        assert errors.for_code(code) is cls
        assert type(KafkaError.of(code)) is cls


def test_names_and_flags_are_kafkas() -> None:
    theirs = {
        cls.errno: cls
        for cls in vars(kafka.errors).values()
        if isinstance(cls, type) and issubclass(cls, kafka.errors.BrokerResponseError)
        if isinstance(getattr(cls, "errno", None), int)
    }
    shared = set(theirs) & set(OURS)
    assert len(shared) > 100
    for code in shared:
        assert OURS[code].name == RENAMED.get(code, theirs[code].message)
        assert isinstance(OURS[code](), errors.AuthorizationError) == issubclass(
            theirs[code], kafka.errors.AuthorizationError
        )
        # Kafka has a client fetch a damaged batch again; kafka-python does not.
        assert OURS[code].retriable == (theirs[code].retriable or code == 2)


def test_an_error_says_what_it_means_or_what_was_said() -> None:
    assert str(KafkaError.of(41)).startswith("The broker asked is not the active controller")
    assert str(KafkaError.of(40, "retention.ms=x: not a number")) == "retention.ms=x: not a number"
    unknown = KafkaError.of(999)
    assert isinstance(unknown, errors.UnknownServerError)
    assert "999" in str(unknown)
    with pytest.raises(KeyError):
        errors.for_code(0)


def test_flags_follow_the_tree() -> None:
    assert errors.NotControllerError.retriable
    assert errors.NotLeaderOrFollowerError.needs_metadata
    assert not errors.InvalidRecordError.retriable
    for cls in OURS.values():
        assert cls.retriable == issubclass(cls, errors.RetriableError)
        assert cls.needs_metadata == issubclass(cls, errors.MetadataError)


#: What never reaches a user of kafka-python, so no code names it.
DELIBERATELY_MISSING = {
    "Cancelled",
    "MetadataEmptyBrokerList",
    "TooManyInFlightRequests",
    "TransactionAbortedError",
    "UnknownBrokerIdError",
}


def test_every_name_of_kafka_python_is_there() -> None:
    theirs = {name: cls for name, cls in vars(kafka.errors).items() if isinstance(cls, type)}
    missing = {name for name in theirs if not hasattr(errors, name)}
    assert missing == DELIBERATELY_MISSING
    for name in theirs.keys() - missing:
        assert issubclass(getattr(errors, name), KafkaError), name


def test_an_error_says_what_it_is_about() -> None:
    error = KafkaError.of(3, topic="t", partition=2, hint="create it")
    assert str(error) == "t-2: The broker knows no such topic or partition; create it"
    assert (error.topic, error.partition, error.hint, error.offset) == ("t", 2, "create it", None)
    assert str(KafkaError.of(3, "gone", topic="t")) == "t: gone"
    assert str(KafkaError.of(10)) == str(errors.MessageTooLargeError())


def test_errors_of_the_client_have_their_place() -> None:
    assert errors.KafkaConnectionError().code is None
    assert errors.NoBrokersAvailable.retriable
    assert errors.NoBrokersAvailable.needs_metadata
    assert issubclass(errors.NoBrokersAvailable, errors.KafkaTimeoutError)
    assert issubclass(errors.RecordTooLargeError, errors.MessageSizeTooLargeError)
    assert errors.SaslAuthenticationFailedError.fatal
    assert not errors.KafkaConnectionError.fatal
    with pytest.raises(ValueError, match="a_b=3: too large"):
        raise errors.KafkaConfigurationError("a_b", 3, "too large")


@pytest.mark.parametrize(
    "error",
    [
        KafkaError.of(41, "detail"),
        KafkaError.of(1, topic="t", partition=0, offset=7, hint="seek"),
        errors.ConfigError("a.b", 3, "too large"),
        errors.KafkaConfigurationError("a_b", 3, "too large"),
        errors.KafkaProtocolError("garbage"),
        errors.LogTruncationError("cut", divergent_offsets={("t", 0): None}),
        errors.NoBrokersAvailable(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_survive_pickling(error: Exception) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
