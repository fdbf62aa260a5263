"""Every setting of the three classes: name, default, what it may be; and what they mean together.

Names are Kafka's with `_` for `.`, plus kafka-python's own; a dict with Kafka's dotted names may
come first. Times are milliseconds, sizes bytes. `Config` checks them all at once and gives what the
native core takes: dicts with the field names of `rust/client/src/config.rs`, times with `_ms`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from mqlog.client import settings as s
from mqlog.client.assignors import assignors
from mqlog.client.settings import Setting
from mqlog.errors import KafkaConfigurationError

log = logging.getLogger("mqlog.client")

MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")

_NO_KERBEROS = f"is of GSSAPI, which is not offered; use {', '.join(MECHANISMS)}"
_NO_PROXY = "is not offered: connections go straight to the brokers"
#: TCP_NODELAY, as `socket` writes it; importing that for two numbers takes a while.
_NODELAY = (6, 1, 1)

#: What all three classes share.
COMMON = [
    Setting("bootstrap_servers", "localhost:9092", s.addresses),
    Setting("client_id", "mqlog", s.name),
    Setting("request_timeout_ms", 30_000, s.milliseconds(1)),
    Setting("default_api_timeout_ms", 60_000, s.milliseconds(0)),
    Setting("bootstrap_timeout_ms", 30_000, s.optional(s.milliseconds(0))),
    Setting("socket_connection_setup_timeout_ms", 10_000, s.milliseconds(1)),
    Setting("socket_connection_setup_timeout_max_ms", 30_000, s.anything),
    Setting("connections_max_idle_ms", 540_000, s.milliseconds(1)),
    Setting("reconnect_backoff_ms", 50, s.milliseconds(0)),
    # Java's: with kafka-python's 30 s, who tries all the time finds a broker that was away for a
    # minute half a minute late.
    Setting("reconnect_backoff_max_ms", 1_000, s.milliseconds(0)),
    Setting("retry_backoff_ms", 100, s.milliseconds(0)),
    Setting("retry_backoff_max_ms", 1_000, s.milliseconds(0)),
    Setting("metadata_max_age_ms", 300_000, s.milliseconds(1)),
    Setting("receive_message_max_bytes", 100_000_000, s.integer(1024)),
    Setting("receive_buffer_bytes", None, s.optional(s.integer(-1))),
    Setting("send_buffer_bytes", None, s.optional(s.integer(-1))),
    # An `mqlog.client.IoThread` that several clients share; None makes one for this client.
    Setting("io_thread", None, s.anything),
    Setting("security_protocol", "PLAINTEXT", s.choice(*PROTOCOLS)),
    Setting("ssl_check_hostname", True, s.boolean),
    Setting("ssl_cafile", None, s.optional(s.pem)),
    Setting("ssl_certfile", None, s.optional(s.pem)),
    Setting("ssl_keyfile", None, s.optional(s.pem)),
    Setting("sasl_mechanism", None, s.optional(s.choice(*MECHANISMS))),
    Setting("sasl_plain_username", None, s.optional(s.text)),
    Setting("sasl_plain_password", None, s.optional(s.text)),
    # Not offered: refused where they would change what happens.
    Setting(
        "ssl_context",
        None,
        s.refused("is not used: TLS is native; give ssl_cafile, ssl_certfile, ssl_keyfile", None),
    ),
    Setting(
        "ssl_password",
        None,
        s.refused("is not offered: decrypt the key first (openssl pkey -in KEY -out PLAIN)", None),
    ),
    Setting("ssl_crlfile", None, s.refused("is not offered: revocation is not checked", None)),
    Setting("ssl_ciphers", None, s.refused("is not offered: only safe ciphers are used", None)),
    Setting("sasl_kerberos_name", None, s.refused(_NO_KERBEROS, None)),
    Setting("sasl_kerberos_service_name", "kafka", s.refused(_NO_KERBEROS, None, "kafka")),
    Setting("sasl_kerberos_domain_name", None, s.refused(_NO_KERBEROS, None)),
    Setting(
        "sasl_oauth_token_provider",
        None,
        s.refused(f"is of OAUTHBEARER, which is not offered; use {', '.join(MECHANISMS)}", None),
    ),
    Setting("proxy_url", None, s.refused(_NO_PROXY, None)),
    Setting("socks5_proxy", None, s.refused(_NO_PROXY, None)),
    Setting("kafka_client", None, s.refused("is of kafka-python: the core is native here", None)),
    Setting(
        "socket_options",
        [_NODELAY],
        s.refused(
            "only TCP_NODELAY, which is always on; see send_buffer_bytes, receive_buffer_bytes",
            None,
            [],
            [_NODELAY],
            (_NODELAY,),
        ),
    ),
    Setting("client_dns_lookup", "use_all_dns_ips", s.choice("use_all_dns_ips", "default")),
    # Harmless: versions are negotiated, metrics are always kept.
    Setting("api_version", None, s.anything),
    Setting("api_version_auto_timeout_ms", 2_000, s.anything),
    Setting("sock_chunk_bytes", 4_096, s.anything),
    Setting("sock_chunk_buffer_count", 1_000, s.anything),
    Setting("selector", None, s.anything),
    Setting("metric_reporters", [], s.anything),
    Setting("metric_group_prefix", "", s.anything),
    Setting("metrics", None, s.anything),
    Setting("metrics_enabled", True, s.anything),
    Setting("metrics_num_samples", 2, s.anything),
    Setting("metrics_sample_window_ms", 30_000, s.anything),
    Setting("metrics_recording_level", "INFO", s.anything),
    Setting("enable_metrics_push", False, s.anything),
]

PRODUCER = [
    Setting("key_serializer", None, s.optional(s.serializer("serialize"))),
    Setting("value_serializer", None, s.optional(s.serializer("serialize"))),
    Setting("acks", "all", s.acks),
    Setting("enable_idempotence", True, s.boolean),
    Setting("retries", s.INT32, s.count()),
    Setting("max_in_flight_requests_per_connection", 5, s.integer(1, 1000)),
    Setting("delivery_timeout_ms", 120_000, s.milliseconds(0)),
    Setting("linger_ms", 5, s.milliseconds(0)),
    # Kafka: 16384. Here a buffer grows with what is in it, so a larger limit costs nothing.
    Setting("batch_size", 262_144, s.integer(0)),
    Setting("buffer_memory", 33_554_432, s.integer(0, (1 << 62))),
    Setting("max_block_ms", 60_000, s.milliseconds(0)),
    Setting("max_request_size", 1_048_576, s.integer(0)),
    Setting(
        "compression_type",
        None,
        s.optional(s.choice("none", "gzip", "snappy", "lz4", "zstd")),
    ),
    Setting("compression_level", None, s.optional(s.integer(-(1 << 17), 22))),
    Setting("partitioner", None, s.anything),
    Setting("allow_auto_create_topics", True, s.boolean),
    Setting(
        "transactional_id", None, s.refused("transactions are not offered by this client", None)
    ),
    Setting("transaction_timeout_ms", 60_000, s.anything),
]

CONSUMER = [
    Setting("client_rack", "", s.name),
    Setting("group_id", None, s.optional(s.name)),
    Setting("group_instance_id", None, s.optional(s.instance_id)),
    Setting(
        "group_protocol",
        "classic",
        s.refused("only classic groups are offered", "classic", "CLASSIC"),
    ),
    Setting("key_deserializer", None, s.optional(s.serializer("deserialize"))),
    Setting("value_deserializer", None, s.optional(s.serializer("deserialize"))),
    Setting("enable_incremental_fetch_sessions", True, s.boolean),
    Setting("fetch_min_bytes", 1, s.integer(0)),
    Setting("fetch_max_wait_ms", 500, s.milliseconds(0)),
    Setting("fetch_max_bytes", 52_428_800, s.integer(0)),
    Setting("max_partition_fetch_bytes", 1_048_576, s.integer(0)),
    Setting("prefetch_max_bytes", 67_108_864, s.integer(0, 1 << 62)),
    Setting("max_decompressed_bytes", 268_435_456, s.integer(1 << 20, 1 << 62)),
    Setting("check_crcs", True, s.boolean),
    Setting("isolation_level", "read_uncommitted", s.anything),
    Setting("auto_offset_reset", "latest", s.offset_reset),
    Setting("enable_auto_commit", True, s.boolean),
    Setting("auto_commit_interval_ms", 5_000, s.milliseconds(0)),
    Setting("default_offset_commit_callback", None, s.optional(s.function)),
    Setting("allow_auto_create_topics", True, s.boolean),
    Setting("exclude_internal_topics", True, s.boolean),
    Setting("partition_assignment_strategy", ("range", "cooperative-sticky"), s.anything),
    Setting("max_poll_records", 500, s.count(1)),
    Setting("max_poll_interval_ms", 300_000, s.milliseconds(1)),
    Setting("session_timeout_ms", 45_000, s.milliseconds(1)),
    Setting("heartbeat_interval_ms", 3_000, s.milliseconds(1)),
    Setting("consumer_timeout_ms", float("inf"), s.patience),
    Setting("max_in_flight_requests_per_connection", 5, s.anything),
    Setting("legacy_iterator", False, s.anything),
]

ADMIN = [Setting("max_in_flight_requests_per_connection", 5, s.anything)]

#: What other clients call them.
ELSEWHERE = {
    "sasl_username": "sasl_plain_username",
    "sasl_password": "sasl_plain_password",
    "sasl_mechanisms": "sasl_mechanism",
    "ssl_ca_location": "ssl_cafile",
    "ssl_truststore_location": "ssl_cafile",
    "ssl_certificate_location": "ssl_certfile",
    "ssl_keystore_location": "ssl_certfile",
    "ssl_key_location": "ssl_keyfile",
    "ssl_endpoint_identification_algorithm": "ssl_check_hostname",
    "sasl_jaas_config": "sasl_plain_username, sasl_plain_password",
    "queue_buffering_max_kbytes": "buffer_memory",
    "queued_max_messages_kbytes": "prefetch_max_bytes",
    "message_max_bytes": "max_request_size",
    "message_timeout_ms": "delivery_timeout_ms",
    "partitioner_class": "partitioner",
    "compression_codec": "compression_type",
}


class Config(Mapping[str, Any]):
    """The checked settings of one client, by name. `given` are those that the user wrote.

    Raises KafkaConfigurationError for an unknown name, a value that cannot be, or several that
    contradict each other.
    """

    def __init__(
        self,
        table: list[Setting],
        dotted: Mapping[str, Any] | None,
        given: Mapping[str, Any],
    ) -> None:
        known = {setting.name: setting for setting in (*COMMON, *table)}
        written = _written(dotted, given, known)
        self.given = frozenset(written)
        self._values = {
            name: _checked(setting, written.get(name, setting.default))
            for name, setting in known.items()
        }
        self._raw = {name: setting.default for name, setting in known.items()} | written
        self._check_sasl()
        self._check_tls()
        self._raise_limit("retry_backoff_ms", "retry_backoff_max_ms")
        self._raise_limit("reconnect_backoff_ms", "reconnect_backoff_max_ms")

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def close(self, *names: str) -> None:
        """Closes the user's objects that are the values of these settings, where they can be."""
        for name in names:
            close = getattr(self[name], "close", None)
            if close is not None:
                close()

    def net(self) -> dict[str, Any]:
        """What `_native.Client` takes: how to reach the cluster."""
        secure = self["security_protocol"]
        key = self["ssl_keyfile"] or self["ssl_certfile"]
        tls = {
            "ca_pem": self["ssl_cafile"],
            "cert_pem": self["ssl_certfile"],
            "key_pem": key,
            "check_hostname": self["ssl_check_hostname"],
        }
        sasl = {
            "mechanism": self["sasl_mechanism"],
            "username": self["sasl_plain_username"],
            "password": self["sasl_plain_password"],
        }
        same = (
            "client_id",
            "request_timeout_ms",
            "reconnect_backoff_ms",
            "reconnect_backoff_max_ms",
            "retry_backoff_ms",
            "retry_backoff_max_ms",
            "metadata_max_age_ms",
            "connections_max_idle_ms",
        )
        return {
            **{name: self[name] for name in same},
            "bootstrap": self["bootstrap_servers"],
            "client_rack": self.get("client_rack", ""),
            "tls": tls if secure in ("SSL", "SASL_SSL") else None,
            "sasl": sasl if secure.startswith("SASL_") else None,
            "connect_timeout_ms": self["socket_connection_setup_timeout_ms"],
            "receive_max_bytes": self["receive_message_max_bytes"],
            "send_buffer": _size(self["send_buffer_bytes"]),
            "receive_buffer": _size(self["receive_buffer_bytes"]),
            "allow_auto_create": self.get("allow_auto_create_topics", False),
        }

    def _fail(self, name: str, problem: str) -> NoReturn:
        raise KafkaConfigurationError(name, self._raw[name], problem)

    def _below(self, low: str, high: str) -> None:
        """The first must be below the other; the one that was written is named."""
        if self[low] >= self[high]:
            if low in self.given or high not in self.given:
                self._fail(low, f"must be less than {high}={self[high]:g}")
            self._fail(high, f"must be more than {low}={self[low]:g}")

    def _raise_limit(self, name: str, limit: str) -> None:
        """A first back-off above the longest is the longest."""
        self._values[limit] = max(self[name], self[limit])

    def _check_sasl(self) -> None:
        protocol, mechanism = self["security_protocol"], self["sasl_mechanism"]
        if not protocol.startswith("SASL_"):
            if mechanism is not None:
                self._fail(
                    "sasl_mechanism",
                    f"is not used with security_protocol={protocol}; "
                    "SASL_SSL and SASL_PLAINTEXT use it",
                )
            return
        if mechanism is None:
            names = ", ".join(MECHANISMS)
            self._fail("sasl_mechanism", f"security_protocol={protocol} needs one of {names}")
        for name in ("sasl_plain_username", "sasl_plain_password"):
            if self[name] is None:
                self._fail(name, f"sasl_mechanism={mechanism} needs it")

    def _check_tls(self) -> None:
        protocol, certificate = self["security_protocol"], self["ssl_certfile"]
        if self["ssl_keyfile"] is not None and certificate is None:
            self._fail("ssl_keyfile", "a key needs its certificate: ssl_certfile")
        if certificate and not self["ssl_keyfile"] and b"PRIVATE KEY-----" not in certificate:
            self._fail("ssl_certfile", "holds no private key: ssl_keyfile must name its file")
        if protocol.endswith("SSL"):
            return
        for name in ("ssl_cafile", "ssl_certfile"):
            if self[name] is not None:
                tls = protocol.replace("PLAINTEXT", "SSL")
                self._fail(name, f"is not used with security_protocol={protocol}; {tls} uses it")


class ProducerConfig(Config):
    """The settings of a KafkaProducer."""

    def __init__(self, dotted: Mapping[str, Any] | None, given: Mapping[str, Any]) -> None:
        super().__init__(PRODUCER, dotted, given)
        self._check_idempotence()
        least = self["linger_ms"] + self["request_timeout_ms"]
        if self["delivery_timeout_ms"] < least:
            if "delivery_timeout_ms" in self.given:
                self._fail(
                    "delivery_timeout_ms",
                    f"must be at least linger_ms + request_timeout_ms = {least:g}",
                )
            self._values["delivery_timeout_ms"] = least
        if self["compression_level"] is not None and self["compression_type"] in (None, "none"):
            self._fail("compression_level", "needs compression_type=gzip, lz4 or zstd")

    def native(self) -> dict[str, Any]:
        """What `_native._Producer` takes."""
        same = (
            "acks",
            "linger_ms",
            "batch_size",
            "buffer_memory",
            "max_block_ms",
            "max_request_size",
            "delivery_timeout_ms",
            "retries",
        )
        return {
            **{name: self[name] for name in same},
            "idempotent": self["enable_idempotence"],
            "max_in_flight": self["max_in_flight_requests_per_connection"],
            "codec": self["compression_type"] or "none",
            "level": self["compression_level"],
        }

    def _check_idempotence(self) -> None:
        """What idempotence needs; a default gives way with a warning, as in kafka-python."""
        if not self["enable_idempotence"]:
            return
        in_flight = "max_in_flight_requests_per_connection"
        conflicts = [
            (self["acks"] != -1, "acks", 'enable_idempotence=True needs acks="all"'),
            (self["retries"] == 0, "retries", "enable_idempotence=True needs at least 1"),
            (self[in_flight] > 5, in_flight, "enable_idempotence=True needs at most 5"),
        ]
        for wrong, name, problem in conflicts:
            if not wrong:
                continue
            if "enable_idempotence" in self.given:
                self._fail(name, problem)
            log.warning("%s=%s turns idempotence off: a retry may write a record twice", name,
                        self._raw[name])  # fmt: skip
            self._values["enable_idempotence"] = False


class ConsumerConfig(Config):
    """The settings of a KafkaConsumer."""

    def __init__(self, dotted: Mapping[str, Any] | None, given: Mapping[str, Any]) -> None:
        super().__init__(CONSUMER, dotted, given)
        isolation = {0: "read_uncommitted", 1: "read_committed"}.get(
            self["isolation_level"], self["isolation_level"]
        )
        if isolation not in ("read_uncommitted", "read_committed"):
            self._fail("isolation_level", "must be read_uncommitted or read_committed")
        self._values["isolation_level"] = isolation
        self._below("fetch_max_wait_ms", "request_timeout_ms")
        self._below("request_timeout_ms", "connections_max_idle_ms")
        if self["group_id"] is not None:
            self._check_group()
        elif self["group_instance_id"] is not None:
            self._fail("group_instance_id", "needs group_id")
        self._values["partition_assignment_strategy"] = assignors(
            self["partition_assignment_strategy"]
        )
        # An answer holds a little more than its records, and at least one batch of them.
        least = min(self["fetch_max_bytes"] + self["max_partition_fetch_bytes"], s.INT32)
        self._values["receive_message_max_bytes"] = max(self["receive_message_max_bytes"], least)

    def native(self) -> dict[str, Any]:
        """What `_native._Consumer` takes."""
        return {
            "min_bytes": self["fetch_min_bytes"],
            "max_wait_ms": self["fetch_max_wait_ms"],
            "max_bytes": self["fetch_max_bytes"],
            "partition_max_bytes": self["max_partition_fetch_bytes"],
            "prefetch_max_bytes": self["prefetch_max_bytes"],
            "check_crcs": self["check_crcs"],
            "read_committed": self["isolation_level"] == "read_committed",
            "sessions": self["enable_incremental_fetch_sessions"],
            "max_decompressed_bytes": self["max_decompressed_bytes"],
        }

    def _check_group(self) -> None:
        if "heartbeat_interval_ms" not in self.given:
            third = self["session_timeout_ms"] / 3
            self._values["heartbeat_interval_ms"] = min(self["heartbeat_interval_ms"], third)
        self._below("heartbeat_interval_ms", "session_timeout_ms")
        if self["group_id"] == "":
            self._fail("group_id", "must be text that is not empty, or None for no group")


class AdminConfig(Config):
    """The settings of a KafkaAdminClient."""

    def __init__(self, dotted: Mapping[str, Any] | None, given: Mapping[str, Any]) -> None:
        super().__init__(ADMIN, dotted, given)


def _written(
    dotted: Mapping[str, Any] | None, given: Mapping[str, Any], known: Mapping[str, Setting]
) -> dict[str, Any]:
    """What the user wrote, by our names."""
    written: dict[str, Any] = {}
    for source in (dotted or {}, given):
        for key, value in source.items():
            name = str(key).replace(".", "_").replace("-", "_")
            if name not in known:
                raise KafkaConfigurationError(key, value, _unknown(name, known))
            if name in written:
                raise KafkaConfigurationError(key, value, "is given twice")
            written[name] = value
    return written


def _unknown(name: str, known: Mapping[str, Setting]) -> str:
    import difflib

    near = ELSEWHERE.get(name) or next(iter(difflib.get_close_matches(name, known, 1)), None)
    return f"there is no such setting; did you mean {near}?" if near else "there is no such setting"


def _checked(setting: Setting, value: Any) -> Any:
    try:
        return setting.check(value)
    except ValueError as error:
        shown = "***" if "password" in setting.name else value
        raise KafkaConfigurationError(setting.name, shown, str(error)) from None


def _size(value: int | None) -> int | None:
    """A socket buffer; -1 leaves it to the system, as in Kafka."""
    return None if value == -1 else value
