"""The differences that are known, each with its reason. One that is not here fails the run."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from peer import Step


@dataclass
class Reason:
    """Why a field of an answer may differ. Patterns are matched against the whole text."""

    api: str
    path: str
    why: str
    label: str = ".*"
    count: int = field(default=0, compare=False)

    def covers(self, step: Step, path: str) -> bool:
        """Whether it is about this field."""
        patterns = ((self.api, step.api), (self.label, step.label), (self.path, path))
        return all(re.fullmatch(pattern, text) for pattern, text in patterns)


def _names(*names: str) -> str:
    return "|".join(re.escape(name) for name in names)


#: What the configuration file of the one or the other says, and where each keeps its data.
_STARTED = _names(
    "advertised.listeners", "broker.id", "controller.listener.names",
    "controller.quorum.bootstrap.servers", "default.replication.factor",
    "inter.broker.listener.name", "listeners", "log.dir", "log.dirs", "min.insync.replicas",
    "node.id", "offsets.topic.replication.factor", "process.roles",
    "share.coordinator.state.topic.min.isr", "share.coordinator.state.topic.num.partitions",
    "share.coordinator.state.topic.replication.factor", "transaction.state.log.min.isr",
    "transaction.state.log.num.partitions", "transaction.state.log.replication.factor",
)  # fmt: skip
#: Defaults of ours that are not Kafka's.
_DEFAULTS = _names(
    "flush.ms", "log.flush.interval.ms", "log.flush.offset.checkpoint.interval.ms",
    "metric.reporters", "offsets.topic.num.partitions", "offsets.topic.segment.bytes",
)  # fmt: skip
_TOPIC_TIMES = _names("retention.ms", "segment.ms", "segment.jitter.ms")
_CONFIGS = r"results\[[^]]*\]\.configs"

REASONS: list[Reason] = [
    Reason("ApiVersions", r"api_keys\[.*", "not served yet, so not stated"),
    Reason("ApiVersions", r"(supported|finalized)_features\[.*", "a feature is told when it works"),
    Reason("CreateTopics", r".*\.configs\[mqlog\.validate\]", "a setting of ours"),
    Reason("CreateTopics", rf".*\.configs\[({_DEFAULTS})\]\.value", "a default of ours"),
    Reason(
        "CreateTopics",
        r".*\.configs\[min\.insync\.replicas\]\.config_source",
        "Kafka sets it for the cluster when it formats; there are no replicas here",
    ),
    Reason(
        "CreateTopics",
        r".*\.error_message",
        "Kafka goes on about log directories that are not to be used; there is one here",
        "create too many replicas",
    ),
    Reason(
        "Metadata",
        r"brokers|cluster_id|controller_id",
        "where the whole request is refused, Kafka leaves out the brokers too",
        "metadata by .*",
    ),
    Reason(
        "Metadata",
        r"(topics\[.*\]\.)?error_code",
        "UNKNOWN_SERVER_ERROR of Kafka; INVALID_TOPIC_EXCEPTION says what is wrong",
        "metadata by no id",
    ),
    Reason(
        "Produce",
        r".*\.error_code",
        "a codec that does not exist: UNSUPPORTED_COMPRESSION_TYPE says so",
        "produce an unknown codec",
    ),
    Reason("Produce", r".*\.error_message", "we say why"),
    Reason("Produce", r".*\.log_start_offset", "where nothing was written, it is not looked up"),
    Reason(
        "Produce|ListOffsets|DeleteRecords|OffsetCommit|OffsetDelete",
        r"(topics|responses)(\[.*\])?",
        "a topic asked with no partitions is told with none; Kafka leaves it out",
        ".* (of|to) nothing",
    ),
    Reason("DescribeProducers", r".*\.error_message", "we say why"),
    Reason(
        "Fetch",
        r".*\.aborted_transactions",
        "none: null where there can be none; Kafka sends an empty list with errors",
    ),
    Reason(
        "Fetch",
        r".*\.records",
        "whole batches only; Kafka may cut the last, which its reader drops",
        "fetch a batch and a half",
    ),
    Reason(
        "Fetch",
        r"responses",
        "Kafka tells errors at the end, so a topic may come twice; here it comes once",
        "session with a topic that is not there",
    ),
    Reason(
        "ListOffsets",
        r"topics\[.*\]\.partitions",
        "a partition asked twice is refused: once by Kafka, here as often as it is asked",
        "offset of one twice",
    ),
    Reason("FindCoordinator", r".*\.error_message", "we say why", "find of a share"),
    Reason("DescribeConfigs", rf"{_CONFIGS}\[mqlog\..*\]", "a setting of ours"),
    Reason("DescribeConfigs", rf"{_CONFIGS}\[({_STARTED})\].*", "how the two were started"),
    Reason("DescribeConfigs", rf"{_CONFIGS}\[({_DEFAULTS})\].*", "a default of ours"),
    Reason(
        "DescribeConfigs",
        rf"{_CONFIGS}\[({_TOPIC_TIMES})\]\.synonyms.*",
        "the setting in hours, where the default comes from; Kafka tells none",
    ),
    Reason(
        "DescribeConfigs",
        rf"{_CONFIGS}\[.*\]\.documentation",
        "the words are ours",
        "configs explained",
    ),
    Reason(
        "DescribeConfigs",
        rf"{_CONFIGS}\[producer\.id\.expiration\.ms\]\.read_only",
        "logs are told once; a restart changes it",
    ),
    Reason(
        "DescribeConfigs",
        rf"results.*\.error_(code|message)|{_CONFIGS}.*",
        "loggers, client metrics and groups have no settings here",
        "configs of (loggers|metrics|a group)",
    ),
    Reason(
        "AlterConfigs",
        r".*",
        "Kafka never answers a resource that is named twice; refused here",
        "alter one twice",
    ),
    Reason(
        "IncrementalAlterConfigs",
        r".*\.error_(code|message)",
        "UNKNOWN_SERVER_ERROR of Kafka; INVALID_REQUEST says what is wrong",
        "change by an unknown operation",
    ),
    Reason(
        "UpdateFeatures",
        r"error_message",
        "there is one level of metadata.version, so nothing to go down to",
        "feature (beyond its range|by an unknown way)",
    ),
    Reason(
        "DescribeQuorum",
        r".*\.replica_directory_id",
        "the metadata log has no directory of its own that had to be told from others",
    ),
    Reason(
        "DescribeQuorum",
        r"nodes\[0\]\.listeners\[.*\]",
        "no listener is for controllers alone",
    ),
]
