//! What can go wrong in a client, with what a user needs to know to mend it.

use std::sync::Arc;
use std::time::Duration;

use mqlog_protocol::{ApiKey, DecodeError, EncodeError, ErrorCode};

/// An error of the client. `Display` is the whole sentence that a user reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody could be connected to.
    #[error("cannot connect to {address}: {reason}{}", next(.hint))]
    Connect {
        /// `HOST:PORT`.
        address: Arc<str>,
        /// Without a number: "connection refused".
        reason: String,
        /// The next step; may be empty.
        hint: String,
    },
    /// A connection ended with requests unanswered.
    #[error("the connection to {address} ended: {reason}{}", next(.hint))]
    Disconnected {
        /// `HOST:PORT`.
        address: Arc<str>,
        /// What was seen.
        reason: String,
        /// The next step; may be empty.
        hint: String,
    },
    /// TLS could not be agreed on.
    #[error("TLS with {address} failed: {reason}{}", next(.hint))]
    Tls {
        /// `HOST:PORT`.
        address: Arc<str>,
        /// What was wrong, such as the certificate.
        reason: String,
        /// The next step; may be empty.
        hint: String,
    },
    /// Who we are was not believed.
    #[error("{address} refused to authenticate: {reason}{}", next(.hint))]
    Authentication {
        /// `HOST:PORT`.
        address: Arc<str>,
        /// In the broker's words where it has some.
        reason: String,
        /// The next step; may be empty.
        hint: String,
    },
    /// Something took longer than a setting allows.
    #[error("{what} took longer than {} ms ({setting}){}", .limit.as_millis(), next(.last))]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        limit: Duration,
        /// The setting that says so.
        setting: &'static str,
        /// The last error met meanwhile; may be empty.
        last: String,
    },
    /// The broker and this client have no version of an API in common.
    #[error("{address} serves {theirs} of {api:?}; this client needs one of {ours}")]
    Unsupported {
        /// `HOST:PORT`.
        address: Arc<str>,
        /// Which API.
        api: ApiKey,
        /// "versions 0 to 2", "no version".
        theirs: String,
        /// "0 to 4".
        ours: String,
    },
    /// The broker sent bytes that are not what they should be.
    #[error("{address} does not keep to the protocol: {what}")]
    Protocol {
        /// `HOST:PORT`.
        address: Arc<str>,
        /// What was wrong with them.
        what: String,
    },
    /// The broker answered with an error code.
    #[error("{}{}", at(.topic, *.partition), said(*.code, .message))]
    Broker {
        /// The code.
        code: ErrorCode,
        /// The topic it is about; empty if none.
        topic: Arc<str>,
        /// The partition it is about; -1 if none.
        partition: i32,
        /// The broker's words; if empty, what the code means is said.
        message: String,
    },
    /// A record that no batch may hold.
    #[error(
        "{}a record of {size} bytes is larger than {setting}={limit}{}",
        at(.topic, -1), next(.hint)
    )]
    RecordTooLarge {
        /// Its topic.
        topic: Arc<str>,
        /// Its bytes in a batch.
        size: usize,
        /// The most allowed.
        limit: usize,
        /// Which setting says so.
        setting: &'static str,
        /// The next step.
        hint: String,
    },
    /// No room for a record, for as long as it may wait.
    #[error(
        "no room for {size} bytes within max_block_ms={}: {used} of buffer_memory={limit} bytes \
         wait to be sent{}",
        .waited.as_millis(), next(.last)
    )]
    BufferFull {
        /// Bytes asked for.
        size: usize,
        /// Bytes in use.
        used: usize,
        /// `buffer_memory`.
        limit: usize,
        /// `max_block_ms`.
        waited: Duration,
        /// Why nothing leaves; may be empty.
        last: String,
    },
    /// A batch that cannot be read.
    #[error("{topic}-{partition}, batch at offset {offset}: {what}; seek past it to go on")]
    Corrupt {
        /// Its topic.
        topic: Arc<str>,
        /// Its partition.
        partition: i32,
        /// Its base offset.
        offset: i64,
        /// What is wrong with it.
        what: String,
    },
    /// A setting whose value turns out to be of no use.
    #[error("{setting}: {problem}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A call that cannot be right in the state the client is in.
    #[error("{0}")]
    State(String),
    /// The client was closed.
    #[error("the {0} is closed")]
    Closed(&'static str),
    /// A handle used in a child of the process that made it.
    #[error(
        "this {0} was made before a fork, and its threads stayed with the parent: \
         make another in the child"
    )]
    Forked(&'static str),
}

impl ClientError {
    /// An error code without more to say than its meaning.
    pub fn code(code: ErrorCode) -> ClientError {
        ClientError::Broker {
            code,
            topic: Arc::from(""),
            partition: -1,
            message: String::new(),
        }
    }

    /// An error code about a partition, or a topic (partition -1).
    pub fn about(code: ErrorCode, topic: &Arc<str>, partition: i32) -> ClientError {
        ClientError::Broker {
            code,
            topic: topic.clone(),
            partition,
            message: String::new(),
        }
    }

    /// Whether the same request may succeed if it is sent again.
    pub fn is_retriable(&self) -> bool {
        match self {
            ClientError::Connect { .. } | ClientError::Disconnected { .. } => true,
            ClientError::Broker { code, .. } => code.retriable(),
            _ => false,
        }
    }

    /// An answer that could not be decoded.
    pub fn decode(address: &Arc<str>, error: &DecodeError) -> ClientError {
        ClientError::Protocol {
            address: address.clone(),
            what: error.to_string(),
        }
    }

    /// A request that cannot be written in the version the broker speaks.
    pub fn encode(error: &EncodeError) -> ClientError {
        ClientError::State(error.to_string())
    }
}

fn next(text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!("; {text}")
    }
}

fn said(code: ErrorCode, message: &str) -> &str {
    if message.is_empty() {
        code.message()
    } else {
        message
    }
}

fn at(topic: &str, partition: i32) -> String {
    match (topic, partition) {
        ("", _) => String::new(),
        (topic, -1) => format!("{topic}: "),
        (topic, partition) => format!("{topic}-{partition}: "),
    }
}
