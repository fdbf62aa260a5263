//! The brokers of a cluster: who they are, connections to them, who leads what.

use std::sync::Arc;
use std::time::Duration;

use mqlog_protocol::CurrentLeader;
use tokio::sync::watch;

use crate::config::NetConfig;
use crate::connection::{Connection, Purpose};
use crate::io::IoThread;
use crate::metadata::{Broker, Metadata};
use crate::ClientError;

/// A cluster as one client sees it. Its futures run on the client's I/O thread.
#[derive(Debug)]
pub struct Cluster {
    config: NetConfig,
    io: Arc<IoThread>,
    metadata: watch::Sender<Arc<Metadata>>,
}

impl Cluster {
    /// Nothing is connected to until somebody asks.
    pub fn new(config: NetConfig, io: Arc<IoThread>) -> Arc<Cluster> {
        Arc::new(Cluster {
            config,
            io,
            metadata: watch::Sender::default(),
        })
    }

    /// What it was told.
    pub fn config(&self) -> &NetConfig {
        &self.config
    }

    /// The thread its futures run on.
    pub fn io(&self) -> &Arc<IoThread> {
        &self.io
    }

    /// What is known now.
    pub fn snapshot(&self) -> Arc<Metadata> {
        self.metadata.borrow().clone()
    }

    /// Tells of each new snapshot.
    pub fn watch(&self) -> watch::Receiver<Arc<Metadata>> {
        self.metadata.subscribe()
    }

    /// Keeps the metadata of a topic; it is asked for soon if it is not there.
    pub fn want(&self, _topic: &str) {}

    /// No longer keeps the metadata of a topic.
    pub fn forget(&self, _topic: &str) {}

    /// Has the metadata asked for again soon, after the back-off if that failed before.
    pub fn request_update(&self) {}

    /// Asks for the metadata of the wanted topics and waits for it. Who asks meanwhile shares the
    /// answer. One attempt: an error is the caller's to deal with.
    pub async fn update(&self) -> Result<Arc<Metadata>, ClientError> {
        Err(ClientError::Closed("client"))
    }

    /// Asks about some topics, or all there are, and puts what is told into the snapshot. One
    /// attempt.
    pub async fn fetch_metadata(
        &self,
        _topics: Option<Vec<Arc<str>>>,
    ) -> Result<Arc<Metadata>, ClientError> {
        Err(ClientError::Closed("client"))
    }

    /// Takes a leader that a broker named in an answer (KIP-951), if it is newer than what is
    /// known.
    pub fn apply_hint(
        &self,
        topic: &str,
        partition: i32,
        leader: CurrentLeader,
        node: Option<Broker>,
    ) {
        self.metadata.send_if_modified(|metadata| {
            match metadata.hinted(topic, partition, leader, node) {
                Some(next) => {
                    *metadata = Arc::new(next);
                    true
                }
                None => false,
            }
        });
    }

    /// A connection that is open now, without waiting.
    pub fn open(&self, _node: i32, _purpose: Purpose) -> Option<Connection> {
        None
    }

    /// The connection to a node, opened if need be: once, for all who ask meanwhile. After a
    /// failure the next attempt waits for `reconnect_backoff`.
    pub async fn connection(
        &self,
        _node: i32,
        _purpose: Purpose,
    ) -> Result<Connection, ClientError> {
        Err(ClientError::Closed("client"))
    }

    /// A connection to some node: an open one rather than another, a known broker rather than a
    /// bootstrap server. The error names every address that was tried.
    pub async fn any(&self, _purpose: Purpose) -> Result<Connection, ClientError> {
        Err(ClientError::Closed("client"))
    }

    /// A connection to the controller.
    pub async fn controller(&self, _purpose: Purpose) -> Result<Connection, ClientError> {
        Err(ClientError::Closed("client"))
    }

    /// Why nothing gets through, if nothing does: the last failure to connect or to get metadata
    /// since one last succeeded. For the errors of those who waited.
    pub fn last_error(&self) -> Option<ClientError> {
        None
    }

    /// Waits before attempt number `attempt` (the first repetition is 1): `retry_backoff`,
    /// doubled each time up to `retry_backoff_max`, jittered by 20 %.
    pub async fn backoff(&self, attempt: u32) {
        tokio::time::sleep(delay(
            attempt,
            self.config.retry_backoff,
            self.config.retry_backoff_max,
        ))
        .await;
    }

    /// Closes all connections; whoever waits gets [`ClientError::Closed`]. From any thread.
    pub fn close(&self) {}

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        false
    }
}

fn delay(attempt: u32, first: Duration, most: Duration) -> Duration {
    let doubled = first.saturating_mul(1 << attempt.saturating_sub(1).min(16));
    doubled.min(most)
}
