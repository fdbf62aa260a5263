//! One connection to a broker: requests in, answers out, in order.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mqlog_protocol::schema::Versions;
use mqlog_protocol::ApiKey;

use crate::ClientError;

/// What a connection is for: what waits at the broker must not hold up what does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Purpose {
    /// Produce, metadata, administration.
    General,
    /// Fetch, which may wait at the broker.
    Fetch,
    /// Joins, syncs and heartbeats, which wait there too.
    Group,
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

/// A connection that is open, or was. Clones are the same connection.
#[derive(Debug, Clone)]
pub struct Connection {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    node: i32,
    address: Arc<str>,
}

impl Connection {
    /// The node at the other end; below 0 for a bootstrap server whose id is not known.
    pub fn node_id(&self) -> i32 {
        self.shared.node
    }

    /// `HOST:PORT` of the other end.
    pub fn address(&self) -> &Arc<str> {
        &self.shared.address
    }

    /// The versions of an API that the broker serves; `None` if it does not know the API.
    pub fn versions(&self, _api: ApiKey) -> Option<Versions> {
        None
    }

    /// The newest version of an API that the broker and our tables both know, `newest` at most.
    pub fn version(&self, api: ApiKey, _newest: i16) -> Result<i16, ClientError> {
        Err(self.unsupported(api, 0, 0))
    }

    /// The error that says that no version of these is spoken.
    pub fn unsupported(&self, api: ApiKey, oldest: i16, newest: i16) -> ClientError {
        ClientError::Unsupported {
            address: self.shared.address.clone(),
            api,
            theirs: "no version".to_owned(),
            ours: format!("{oldest} to {newest}"),
        }
    }

    /// Whether requests may be sent. It may be closed the next moment.
    pub fn is_open(&self) -> bool {
        false
    }

    /// Requests that wait for their answers.
    pub fn in_flight(&self) -> usize {
        0
    }

    /// Sends a request, now: requests go out in the order of the calls, not of the awaits. The
    /// future gives the answer's body (empty for a request without an answer); dropping it drops
    /// the answer. To be called on the I/O thread.
    pub fn send(
        &self,
        request: Request,
    ) -> impl Future<Output = Result<Bytes, ClientError>> + Send + 'static {
        let _ = request;
        let address = self.shared.address.clone();
        async move {
            Err(ClientError::Disconnected {
                address,
                reason: "closed".to_owned(),
                hint: String::new(),
            })
        }
    }
}
