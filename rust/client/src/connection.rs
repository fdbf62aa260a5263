//! One connection to a broker: requests in, answers out, in order.
//!
//! `send` writes to the socket itself if nothing waits to be written before; the connection's task
//! (`pump.rs`) reads, writes what the socket did not take, and watches the clock.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use mqlog_protocol::schema::Versions;
use mqlog_protocol::ApiKey;
use tokio::sync::oneshot;

use crate::exchange::{Peer, Shared};
use crate::metrics::Metrics;
use crate::transport::Sink;
use crate::ClientError;

pub use crate::request::{Purpose, Request};

/// A connection that is open, or was. Clones are the same connection.
#[derive(Debug, Clone)]
pub struct Connection {
    pub(crate) shared: Arc<Shared>,
}

/// The future of an answer.
#[derive(Debug)]
#[must_use = "the answer may be an error"]
pub struct Pending(pub(crate) oneshot::Receiver<Result<Bytes, ClientError>>);

impl Future for Pending {
    type Output = Result<Bytes, ClientError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let closed = |_| Err(ClientError::Closed("client"));
        Pin::new(&mut self.0)
            .poll(cx)
            .map(|answer| answer.unwrap_or_else(closed))
    }
}

impl Connection {
    pub(crate) fn new(peer: Peer, sink: Arc<Sink>, metrics: Arc<Metrics>) -> Connection {
        Connection {
            shared: Arc::new(Shared::new(peer, sink, metrics)),
        }
    }

    /// The node at the other end; below 0 for a bootstrap server whose id is not known.
    pub fn node_id(&self) -> i32 {
        self.shared.peer.node
    }

    /// `HOST:PORT` of the other end.
    pub fn address(&self) -> &Arc<str> {
        &self.shared.peer.address
    }

    /// The versions of an API that the broker serves; `None` if it does not know the API.
    pub fn versions(&self, api: ApiKey) -> Option<Versions> {
        *self.shared.versions.get()?.get(api as usize)?
    }

    /// The newest version of an API that the broker and our tables both know, `newest` at most.
    pub fn version(&self, api: ApiKey, newest: i16) -> Result<i16, ClientError> {
        let oldest = api.versions().min;
        let newest = newest.min(api.versions().max);
        match self.versions(api) {
            Some(theirs) if theirs.min <= newest && oldest <= theirs.max.min(newest) => {
                Ok(theirs.max.min(newest))
            }
            _ => Err(self.unsupported(api, oldest, newest)),
        }
    }

    /// The error that says that no version of these is spoken.
    pub fn unsupported(&self, api: ApiKey, oldest: i16, newest: i16) -> ClientError {
        let range = |from, to| match from == to {
            true => format!("{from}"),
            false => format!("{from} to {to}"),
        };
        ClientError::Unsupported {
            address: self.shared.peer.address.clone(),
            api,
            theirs: match self.versions(api) {
                Some(theirs) => format!("versions {}", range(theirs.min, theirs.max)),
                None => "no version".to_owned(),
            },
            ours: range(oldest, newest),
        }
    }

    /// Whether requests may be sent. It may be closed the next moment.
    pub fn is_open(&self) -> bool {
        !self.shared.is_over()
    }

    /// Requests that wait for their answers.
    pub fn in_flight(&self) -> usize {
        self.shared.in_flight()
    }

    /// The broker said in an answer that it keeps us waiting for so long (KIP-219): that time does
    /// not count for requests in flight.
    pub fn throttled(&self, by: Duration) {
        self.shared.throttled(by);
    }

    /// Ends it; whoever waits gets `error`.
    pub fn close(&self, error: ClientError) {
        self.shared.fail(error);
    }

    /// Sends a request, now: requests go out in the order of the calls, not of the awaits. The
    /// future gives the answer's body (empty for a request without an answer); dropping it drops
    /// the answer. To be called on the I/O thread.
    pub fn send(&self, request: Request) -> Pending {
        self.shared.send(request, true)
    }
}
