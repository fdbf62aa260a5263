"""The error codes that decisions here can answer with; Kafka's numbers."""

NONE = 0
UNKNOWN_SERVER_ERROR = -1
OFFSET_OUT_OF_RANGE = 1
UNKNOWN_TOPIC_OR_PARTITION = 3
INVALID_TOPIC_EXCEPTION = 17
UNSUPPORTED_VERSION = 35
TOPIC_ALREADY_EXISTS = 36
INVALID_PARTITIONS = 37
INVALID_REPLICATION_FACTOR = 38
INVALID_REPLICA_ASSIGNMENT = 39
INVALID_CONFIG = 40
INVALID_REQUEST = 42
POLICY_VIOLATION = 44
TRANSACTIONAL_ID_AUTHORIZATION_FAILED = 53
KAFKA_STORAGE_ERROR = 56
TOPIC_DELETION_DISABLED = 73
UNKNOWN_TOPIC_ID = 100
MISMATCHED_ENDPOINT_TYPE = 114

#: Kafka's text for a topic that is not there.
NO_SUCH_TOPIC = "This server does not host this topic-partition."
NO_SUCH_TOPIC_ID = "This server does not host this topic ID."


class Refusal(Exception):
    """A request, or one part of it, is answered with an error."""

    def __init__(self, code: int, message: str | None) -> None:
        """Keep the code and the text that the client sees."""
        super().__init__(message)
        self.code = code
        self.message = message
