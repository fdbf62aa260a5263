//! What a client is told. Python checks names and types (`client/config.py`); this is what is left.

use std::sync::Arc;
use std::time::Duration;

/// How to reach a cluster and what to say there; shared by producers, consumers and admins.
#[derive(Debug, Clone)]
pub struct NetConfig {
    /// `(host, port)` of the brokers to ask first.
    pub bootstrap: Vec<(String, u16)>,
    /// Told to the brokers with every request.
    pub client_id: String,
    /// Of this client, for fetching from the nearest replica; empty if unknown.
    pub client_rack: String,
    /// TLS, if it is spoken.
    pub tls: Option<TlsConfig>,
    /// SASL, if the brokers ask for it.
    pub sasl: Option<SaslConfig>,
    /// `request_timeout_ms`: an answer later than that closes the connection.
    pub request_timeout: Duration,
    /// `socket_connection_setup_timeout_ms`: for TCP, TLS, versions and SASL together.
    pub connect_timeout: Duration,
    /// `reconnect_backoff_ms`, doubled after every failure ...
    pub reconnect_backoff: Duration,
    /// ... to `reconnect_backoff_max_ms`.
    pub reconnect_backoff_max: Duration,
    /// `retry_backoff_ms`, doubled after every failure ...
    pub retry_backoff: Duration,
    /// ... to `retry_backoff_max_ms`.
    pub retry_backoff_max: Duration,
    /// `metadata_max_age_ms`: older metadata is asked for again.
    pub metadata_max_age: Duration,
    /// `connections_max_idle_ms`: unused connections are closed.
    pub connections_max_idle: Duration,
    /// `receive_message_max_bytes`: longer answers are refused by their length.
    pub receive_max_bytes: usize,
    /// `send_buffer_bytes` and `receive_buffer_bytes` of sockets; `None` leaves them to the system.
    pub send_buffer: Option<usize>,
    /// See `send_buffer`.
    pub receive_buffer: Option<usize>,
    /// `allow_auto_create_topics`: whether asking for a topic's metadata may make it.
    pub allow_auto_create: bool,
}

/// TLS as `ssl_*` settings describe it. Certificates and keys are PEM.
#[derive(Debug, Clone, Default)]
pub struct TlsConfig {
    /// Trusted authorities; without them the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// The client's certificate chain.
    pub cert_pem: Option<Vec<u8>>,
    /// Its key (PKCS#1, PKCS#8 or SEC1).
    pub key_pem: Option<Vec<u8>>,
    /// Whether the broker's certificate must be for its host name (`ssl_check_hostname`).
    pub check_hostname: bool,
}

/// SASL as `sasl_*` settings describe it.
#[derive(Clone)]
pub struct SaslConfig {
    /// Which mechanism.
    pub mechanism: SaslMechanism,
    /// `sasl_plain_username`, also of SCRAM.
    pub username: String,
    /// `sasl_plain_password`, also of SCRAM.
    pub password: String,
}

impl std::fmt::Debug for SaslConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A password does not get into a log this way.
        write!(f, "SaslConfig({:?}, {:?})", self.mechanism, self.username)
    }
}

/// The mechanisms that are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaslMechanism {
    /// RFC 4616.
    Plain,
    /// RFC 5802 with SHA-256 (RFC 7677).
    ScramSha256,
    /// RFC 5802 with SHA-512.
    ScramSha512,
}

/// What makes a producer.
#[derive(Debug, Clone)]
pub struct ProducerConfig {
    /// Default acks: -1 (all), 0 or 1.
    pub acks: i16,
    /// `enable_idempotence`.
    pub idempotent: bool,
    /// `linger_ms`.
    pub linger: Duration,
    /// `batch_size`, bytes of a batch before compression.
    pub batch_size: usize,
    /// `buffer_memory`, bytes of all batches that are not done.
    pub buffer_memory: usize,
    /// `max_block_ms`: how long an append waits for memory or metadata.
    pub max_block: Duration,
    /// `max_request_size`, bytes.
    pub max_request_size: usize,
    /// `max_in_flight_requests_per_connection`.
    pub max_in_flight: usize,
    /// `delivery_timeout_ms`: from the first record of a batch to its end.
    pub delivery_timeout: Duration,
    /// `retries`: how often a batch is sent again.
    pub retries: u32,
    /// The codec, as in the batch's attributes.
    pub codec: mqlog_record::Codec,
    /// Its level, on its own scale.
    pub level: Option<i32>,
}

/// What makes a consumer.
#[derive(Debug, Clone)]
pub struct ConsumerConfig {
    /// `fetch_min_bytes`.
    pub min_bytes: i32,
    /// `fetch_max_wait_ms`.
    pub max_wait: Duration,
    /// `fetch_max_bytes` of one answer.
    pub max_bytes: i32,
    /// `max_partition_fetch_bytes`.
    pub partition_max_bytes: i32,
    /// `prefetch_max_bytes`: read ahead of the user, over all partitions.
    pub prefetch_max_bytes: usize,
    /// `check_crcs`.
    pub check_crcs: bool,
    /// `isolation_level=read_committed`.
    pub read_committed: bool,
    /// `enable_incremental_fetch_sessions`.
    pub sessions: bool,
    /// The most that one batch may decompress to.
    pub max_decompressed_bytes: usize,
}

/// What keeps a member in its group.
#[derive(Debug, Clone)]
pub struct MemberConfig {
    /// `group_id`.
    pub group: Arc<str>,
    /// Given by the coordinator.
    pub member_id: Arc<str>,
    /// `group_instance_id` of a static member.
    pub instance_id: Option<Arc<str>>,
    /// Of the generation that was joined.
    pub generation: i32,
    /// The coordinator's node.
    pub coordinator: i32,
    /// `heartbeat_interval_ms`.
    pub heartbeat_interval: Duration,
    /// `session_timeout_ms`.
    pub session_timeout: Duration,
    /// `max_poll_interval_ms`.
    pub max_poll_interval: Duration,
}
