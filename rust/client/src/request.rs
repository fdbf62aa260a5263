//! What is asked of a broker, and on which of the connections to it.

use std::time::Duration;

use bytes::Bytes;
use mqlog_protocol::ApiKey;

/// What a connection is for: what waits at the broker must not hold up what does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Purpose {
    /// Produce, metadata.
    General,
    /// Fetch, which may wait at the broker.
    Fetch,
    /// JoinGroup, which is parked there for as long as other members take.
    Join,
    /// Heartbeats, commits, leaving: not behind a join.
    Group,
    /// Administration, which may take long, and time out without hurting what else is in flight.
    Admin,
}

/// A request, encoded.
#[derive(Debug, Clone)]
pub struct Request {
    /// What is asked.
    pub api: ApiKey,
    /// In which version; see [`Connection::version`].
    pub version: i16,
    /// The body, in pieces that are written one after the other without a copy.
    pub body: Vec<Bytes>,
    /// Whether the broker answers (not so for Produce with acks=0).
    pub answered: bool,
    /// Without an answer for so long, the connection is closed.
    pub timeout: Duration,
    /// Answers up to so many bytes get their memory at once; see [`Request::expecting`].
    pub expected: usize,
}

impl Request {
    /// A request that is answered.
    pub fn new(api: ApiKey, version: i16, body: Vec<Bytes>, timeout: Duration) -> Request {
        Request {
            api,
            version,
            body,
            answered: true,
            timeout,
            expected: 0,
        }
    }

    /// The same without an answer: its future ends when the request is written.
    #[must_use]
    pub fn unanswered(self) -> Request {
        Request {
            answered: false,
            ..self
        }
    }

    /// The same, whose answer may well have `bytes`: memory for it is reserved whole when its
    /// length is read. Longer answers get theirs as they arrive.
    #[must_use]
    pub fn expecting(self, bytes: usize) -> Request {
        Request {
            expected: bytes,
            ..self
        }
    }
}
