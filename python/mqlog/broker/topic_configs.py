"""Every setting a topic can have: Kafka 4.3.1's, and our own that begin with `mqlog.`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mqlog.broker.config_types import (
    BOOLEAN,
    DOUBLE,
    INT,
    LIST,
    LONG,
    STRING,
    Check,
    ConfigDef,
    at_least,
    between,
    between_or,
    list_of,
    one_of,
)

_NEVER = str(2**63 - 1)
_HOUR = 3_600_000
_NOT_HERE = " Accepted for compatibility; it changes nothing here."


def _throttled(name: str) -> Check:
    legal = re.compile(r"(\*|(\d+:\d+(,\d+:\d+)*)?)\Z")
    rule = (
        f"{name} must be the literal '*' or a list of replicas in the following format: "
        "[partitionId]:[brokerId],[partitionId]:[brokerId],..."
    )
    return lambda value: None if legal.match(value.strip()) else rule


def _def(
    name: str,
    kind: int,
    default: str,
    check: Check | None,
    doc: str,
    *synonyms: tuple[str, int] | str,
    effect: bool = True,
) -> ConfigDef:
    chain = tuple((item, 1) if isinstance(item, str) else item for item in synonyms)
    text = doc if effect else doc + _NOT_HERE
    return ConfigDef(name, kind, default, check, effect, text, chain)


_TABLE = [
    _def(
        "cleanup.policy", LIST, "delete", list_of("compact", "delete"),
        "What happens to old records: delete whole segments, or compact (records need keys).",
        "log.cleanup.policy",
    ),
    _def(
        "compression.gzip.level", INT, "-1", between_or(1, 9, -1),
        "gzip level when the broker compresses.", "compression.gzip.level", effect=False,
    ),
    _def(
        "compression.lz4.level", INT, "9", between(1, 17),
        "lz4 level when the broker compresses.", "compression.lz4.level", effect=False,
    ),
    _def(
        "compression.type", STRING, "producer",
        one_of("uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"),
        "Codec of stored batches; they are kept as the producer sent them.",
        "compression.type", effect=False,
    ),
    _def(
        "compression.zstd.level", INT, "3", between(-131072, 22),
        "zstd level when the broker compresses.", "compression.zstd.level", effect=False,
    ),
    _def(
        "delete.retention.ms", LONG, "86400000", at_least(0),
        "How long compaction keeps tombstones, in ms.",
        "log.cleaner.delete.retention.ms", effect=False,
    ),
    _def(
        "file.delete.delay.ms", LONG, "60000", at_least(0),
        "How long a removed segment's file stays on disk, in ms.", "log.segment.delete.delay.ms",
    ),
    _def(
        "flush.messages", LONG, _NEVER, at_least(1),
        "Records after which a flush is forced; see flush.ms.",
        "log.flush.interval.messages", effect=False,
    ),
    _def(
        "flush.ms", LONG, "100", at_least(0),
        "Records acknowledged with acks=1 are flushed to disk within this time, in ms.",
        "log.flush.interval.ms",
    ),
    _def(
        "follower.replication.throttled.replicas", LIST, "",
        _throttled("follower.replication.throttled.replicas"),
        "Replicas whose following is throttled.", effect=False,
    ),
    _def(
        "index.interval.bytes", INT, "4096", at_least(0),
        "Bytes of log between two index entries.", "log.index.interval.bytes",
    ),
    _def(
        "leader.replication.throttled.replicas", LIST, "",
        _throttled("leader.replication.throttled.replicas"),
        "Replicas whose leading is throttled.", effect=False,
    ),
    _def(
        "local.retention.bytes", LONG, "-2", at_least(-2),
        "Bytes kept locally of a tiered log; -2: retention.bytes.",
        "log.local.retention.bytes", effect=False,
    ),
    _def(
        "local.retention.ms", LONG, "-2", at_least(-2),
        "How long a tiered log is kept locally, in ms; -2: retention.ms.",
        "log.local.retention.ms", effect=False,
    ),
    _def(
        "max.compaction.lag.ms", LONG, _NEVER, at_least(1),
        "Longest time a record may stay uncompacted, in ms.",
        "log.cleaner.max.compaction.lag.ms", effect=False,
    ),
    _def(
        "max.message.bytes", INT, "1048588", at_least(0),
        "Largest record batch a producer may send, in bytes.", "message.max.bytes",
    ),
    _def(
        "message.timestamp.after.max.ms", LONG, "3600000", at_least(0),
        "How far a record's timestamp may lie in the future, in ms.",
        "log.message.timestamp.after.max.ms",
    ),
    _def(
        "message.timestamp.before.max.ms", LONG, _NEVER, at_least(0),
        "How far a record's timestamp may lie in the past, in ms.",
        "log.message.timestamp.before.max.ms",
    ),
    _def(
        "message.timestamp.type", STRING, "CreateTime", one_of("CreateTime", "LogAppendTime"),
        "Whether records keep the producer's time or get the broker's.",
        "log.message.timestamp.type",
    ),
    _def(
        "min.cleanable.dirty.ratio", DOUBLE, "0.5", between(0, 1),
        "Share of a log that must be uncompacted before compaction.",
        "log.cleaner.min.cleanable.ratio", effect=False,
    ),
    _def(
        "min.compaction.lag.ms", LONG, "0", at_least(0),
        "Shortest time a record stays uncompacted, in ms.",
        "log.cleaner.min.compaction.lag.ms", effect=False,
    ),
    _def(
        "min.insync.replicas", INT, "1", at_least(1),
        "Replicas that must have a record before acks=all is answered.",
        "min.insync.replicas", effect=False,
    ),
    _def(
        "mqlog.validate", STRING, "header", one_of("header", "records"),
        "What is checked on produce: the batch header, or every record inside too.",
        "mqlog.validate",
    ),
    _def(
        "preallocate", BOOLEAN, "false", None,
        "Reserve a segment's blocks when it is made.", "log.preallocate", effect=False,
    ),
    _def(
        "remote.log.copy.disable", BOOLEAN, "false", None,
        "Stop copying segments to the remote tier.", effect=False,
    ),
    _def(
        "remote.log.delete.on.disable", BOOLEAN, "false", None,
        "Delete the remote tier when tiering is switched off.", effect=False,
    ),
    _def(
        "remote.storage.enable", BOOLEAN, "false", None,
        "Tier closed segments; only false is accepted.", effect=False,
    ),
    _def(
        "retention.bytes", LONG, "-1", at_least(-1),
        "Bytes of log above which the oldest segments are deleted, per partition; -1: no limit.",
        "log.retention.bytes",
    ),
    _def(
        "retention.ms", LONG, "604800000", at_least(-1),
        "Age after which segments are deleted, in ms; -1: never.",
        "log.retention.ms", ("log.retention.minutes", 60_000), ("log.retention.hours", _HOUR),
    ),
    _def(
        "segment.bytes", INT, "1073741824", at_least(1024 * 1024),
        "Size at which a new segment is begun, in bytes.", "log.segment.bytes",
    ),
    _def(
        "segment.index.bytes", INT, "10485760", at_least(4),
        "Largest index of a segment, in bytes.", "log.index.size.max.bytes", effect=False,
    ),
    _def(
        "segment.jitter.ms", LONG, "0", at_least(0),
        "Most that segment.ms is shortened by, at random, in ms.",
        "log.roll.jitter.ms", ("log.roll.jitter.hours", _HOUR), effect=False,
    ),
    _def(
        "segment.ms", LONG, "604800000", at_least(1),
        "Age at which a new segment is begun, in ms.",
        "log.roll.ms", ("log.roll.hours", _HOUR),
    ),
    _def(
        "unclean.leader.election.enable", BOOLEAN, "false", None,
        "Let a replica that is behind become leader.",
        "unclean.leader.election.enable", effect=False,
    ),
]  # fmt: skip

TOPIC_CONFIGS: dict[str, ConfigDef] = {config.name: config for config in _TABLE}


def contradiction(effective: Mapping[str, str]) -> str | None:
    """Say which of a topic's settings contradict each other, in Kafka's words, or None."""
    least = int(effective["min.compaction.lag.ms"])
    most = int(effective["max.compaction.lag.ms"])
    if least > most:
        return (
            f"conflict topic config setting min.compaction.lag.ms ({least}) > "
            f"max.compaction.lag.ms ({most})"
        )
    if effective["remote.storage.enable"].strip().lower() == "true":
        return (
            "Tiered Storage functionality is disabled in the broker. "
            "Topic cannot be configured with remote log storage."
        )
    return None
