//! What a broker is started with.
//!
//! Broker settings carry Kafka's names where Kafka has the setting; [`BrokerConfig::set`] takes
//! them as text. Defaults of topic settings stay text in [`BrokerConfig::raw`] and are read by
//! [`crate::topic_config`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use mqlog_log::Durability;
use thiserror::Error;

/// One address to listen on. Several with the same name form one listener: `localhost` is
/// 127.0.0.1 and ::1. Port 0 takes a free port, the same one for all addresses of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Kafka's listener name, e.g. `PLAINTEXT`.
    pub name: String,
    /// Where to bind.
    pub address: SocketAddr,
}

/// Everything a broker needs to know before it starts.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// The data directory; made if it does not exist.
    pub data_dir: PathBuf,
    /// Addresses to serve; at least one.
    pub listeners: Vec<Listener>,
    /// What clients are told to connect to; without it the address each of them reached.
    pub advertised: Option<(String, u16)>,
    /// `node.id`: this broker's number.
    pub node_id: i32,
    /// Cluster id for a new data directory; a random one if not given.
    pub cluster_id: Option<String>,
    /// I/O threads.
    pub io_threads: usize,
    /// What `acks=all` promises.
    pub durability: Durability,
    /// `log.flush.offset.checkpoint.interval.ms`: how often is written down from where a start
    /// after a crash must look.
    pub checkpoint_interval_ms: u64,
    /// `auto.create.topics.enable`.
    pub auto_create_topics: bool,
    /// `broker.rack`, told to clients.
    pub rack: Option<String>,
    /// Bounds on what clients can make grow.
    pub limits: Limits,
    /// Every setting as given, by its name: defaults of topic settings are looked up here.
    pub raw: BTreeMap<String, String>,
}

/// Bounds on what clients can make grow.
#[derive(Debug, Clone)]
pub struct Limits {
    /// `socket.request.max.bytes`: largest frame.
    pub request_max_bytes: usize,
    /// Largest frame until a connection's first valid request.
    pub first_request_max_bytes: usize,
    /// `queued.max.request.bytes`: request bytes held over all connections.
    pub queued_max_request_bytes: usize,
    /// `max.connections`.
    pub max_connections: usize,
    /// `max.connections.per.ip`.
    pub max_connections_per_ip: usize,
    /// `connections.max.idle.ms`.
    pub connections_max_idle_ms: u64,
    /// `max.incremental.fetch.session.cache.slots`.
    pub fetch_session_slots: usize,
    /// `fetch.max.bytes`: largest answer to a fetch, whatever the client asks for.
    pub fetch_max_bytes: usize,
    /// Bytes appended and not flushed before producers are no longer read.
    pub unflushed_max_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            request_max_bytes: 100 << 20,
            first_request_max_bytes: 1 << 20,
            queued_max_request_bytes: 256 << 20,
            max_connections: i32::MAX as usize,
            max_connections_per_ip: i32::MAX as usize,
            connections_max_idle_ms: 600_000,
            fetch_session_slots: 1_000,
            fetch_max_bytes: 55 << 20,
            unflushed_max_bytes: 128 << 20,
        }
    }
}

impl BrokerConfig {
    /// The defaults, serving `data_dir` on `address`.
    pub fn new(data_dir: impl Into<PathBuf>, address: SocketAddr) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        BrokerConfig {
            data_dir: data_dir.into(),
            listeners: vec![Listener {
                name: "PLAINTEXT".to_owned(),
                address,
            }],
            advertised: None,
            node_id: 1,
            cluster_id: None,
            io_threads: (cores / 2).max(1),
            durability: Durability::Fsync,
            checkpoint_interval_ms: 30_000,
            auto_create_topics: true,
            rack: None,
            limits: Limits::default(),
            raw: BTreeMap::new(),
        }
    }

    /// Takes one setting by its name. Names that mean nothing here are kept in `raw`.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), ConfigError> {
        let limits = &mut self.limits;
        match name {
            "socket.request.max.bytes" => limits.request_max_bytes = number(name, value, 1)?,
            "queued.max.request.bytes" => {
                // Kafka's -1 means no bound; here it means the default, because memory has one.
                limits.queued_max_request_bytes = match value {
                    "-1" => Limits::default().queued_max_request_bytes,
                    _ => number(name, value, 1)?,
                }
            }
            "max.connections" => limits.max_connections = number(name, value, 0)?,
            "max.connections.per.ip" => limits.max_connections_per_ip = number(name, value, 0)?,
            "connections.max.idle.ms" => {
                limits.connections_max_idle_ms = number::<u64>(name, value, 1)?
            }
            "max.incremental.fetch.session.cache.slots" => {
                limits.fetch_session_slots = number(name, value, 0)?
            }
            "fetch.max.bytes" => limits.fetch_max_bytes = number(name, value, 1024)?,
            "log.flush.offset.checkpoint.interval.ms" => {
                self.checkpoint_interval_ms = number(name, value, 1)?
            }
            "node.id" | "broker.id" => self.node_id = number(name, value, 0)?,
            "broker.rack" => self.rack = (!value.is_empty()).then(|| value.to_owned()),
            "auto.create.topics.enable" => self.auto_create_topics = boolean(name, value)?,
            _ => {}
        }
        self.raw.insert(name.to_owned(), value.to_owned());
        Ok(())
    }
}

/// A setting whose value makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{name} = {value:?}: {expected}")]
pub struct ConfigError {
    /// Name of the setting.
    pub name: String,
    /// Its value as given.
    pub value: String,
    /// What it should have been.
    pub expected: String,
}

pub(crate) fn invalid(name: &str, value: &str, expected: impl Into<String>) -> ConfigError {
    ConfigError {
        name: name.to_owned(),
        value: value.to_owned(),
        expected: expected.into(),
    }
}

pub(crate) fn number<T>(name: &str, value: &str, min: T) -> Result<T, ConfigError>
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    match value.trim().parse::<T>() {
        Ok(n) if n >= min => Ok(n),
        _ => Err(invalid(
            name,
            value,
            format!("expected a whole number of at least {min}"),
        )),
    }
}

pub(crate) fn boolean(name: &str, value: &str) -> Result<bool, ConfigError> {
    match value.trim().to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(invalid(name, value, "expected true or false")),
    }
}
