//! The border to whoever makes decisions: requests and completions go out as [`ControlEvent`]s,
//! answers come back through `Broker::reply` and find their connection by token.
//!
//! A connection has at most one request here, and decodes nothing else until it is answered.

use std::net::SocketAddr;

use mqlog_log::TopicId;

use crate::replay::Replay;

/// What the broker asks for decisions. `submit` is called on I/O threads: it must not block.
pub trait ControlPlane: Send + Sync {
    /// Takes one event. Order is the order of arrival per connection.
    fn submit(&self, event: ControlEvent);
}

/// One request that Rust does not answer by itself.
#[derive(Debug, Clone)]
pub struct ControlRequest {
    /// Names the waiting connection; pass it to `Broker::reply` exactly once.
    pub token: u64,
    /// API key of the request.
    pub api_key: i16,
    /// Version of the request; within the range that is advertised.
    pub api_version: i16,
    /// The client's name for itself.
    pub client_id: Option<String>,
    /// The request after its header.
    pub body: Vec<u8>,
    /// The client's address.
    pub peer: SocketAddr,
    /// The address that the client reached.
    pub local: SocketAddr,
    /// Name of the listener that accepted the connection.
    pub listener: String,
    /// When the request was read, monotonic nanoseconds of the broker's clock.
    pub arrival_ns: u64,
}

/// What happened, in the order in which it happened as far as one connection can tell.
#[derive(Debug, Clone)]
pub enum ControlEvent {
    /// A client asks.
    Request(ControlRequest),
    /// The connection of this token is gone; an answer would be dropped.
    Disconnected {
        /// The token of the request that was in flight.
        token: u64,
    },
    /// A proposal is durable and published, or was refused.
    Proposed {
        /// The id given to `Broker::propose`.
        id: u64,
        /// Why it was refused.
        result: Result<(), String>,
    },
    /// A group of file operations is done.
    FilesDone {
        /// The id given to `Broker::files`.
        id: u64,
        /// One result per operation: its value (a new log start, ...), or error code and message.
        results: Vec<Result<i64, (i16, String)>>,
    },
    /// A coordinator's log has been read.
    Loaded {
        /// The id given to `Broker::load`.
        id: u64,
        /// What it holds, or why it cannot be read.
        result: Result<Replay, String>,
    },
    /// What lay below a mark is gone.
    Trimmed {
        /// The id given to `Broker::trim`.
        id: u64,
        /// Why it is not.
        result: Result<(), String>,
    },
    /// Nothing is appended to this partition, and nobody hears of what it held, until it is loaded.
    AppendFailed {
        /// Topic.
        topic_id: TopicId,
        /// Partition.
        partition: i32,
        /// What happened.
        reason: String,
    },
    /// The data directory went offline; nothing can be appended any more.
    DirOffline(String),
}

/// A control plane that knows nothing: for tests of the data plane and as the smallest example.
pub struct NoControl;

impl ControlPlane for NoControl {
    fn submit(&self, _event: ControlEvent) {}
}
