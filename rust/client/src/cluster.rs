//! The brokers of a cluster: who they are, connections to them, who leads what.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use mqlog_protocol::CurrentLeader;
use tokio::sync::{watch, Notify};
use tokio::time::{sleep, Instant};

use crate::config::NetConfig;
use crate::connection::{Connection, Purpose};
use crate::flight::Flight;
use crate::io::{lock, IoThread};
use crate::metadata::{Broker, Metadata};
use crate::metrics::Metrics;
use crate::open::Common;
use crate::random::between;
use crate::reach::Slot;
use crate::recycle::Recycler;
use crate::tls::TlsContext;
use crate::{refresh, ClientError};

/// Receive buffers that are kept for use again.
const RECYCLED: usize = 64 * 1024 * 1024;

/// A cluster as one client sees it. Its futures run on the client's I/O thread.
#[derive(Debug)]
pub struct Cluster {
    pub(crate) me: Weak<Cluster>,
    io: Arc<IoThread>,
    pub(crate) common: Arc<Common>,
    metadata: watch::Sender<Arc<Metadata>>,
    pub(crate) asked: Arc<Notify>,
    pub(crate) closed: watch::Sender<bool>,
    pub(crate) state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) slots: BTreeMap<(i32, Purpose), Slot>,
    /// Connections that are no longer handed out, but may have requests in flight.
    pub(crate) retired: Vec<Connection>,
    pub(crate) wanted: BTreeSet<Arc<str>>,
    /// Counts the topics that were added to `wanted`.
    pub(crate) additions: u64,
    /// A wanted topic is not known yet: no reason to wait.
    pub(crate) urgent: bool,
    pub(crate) refresh: Flight<(u64, Result<Arc<Metadata>, ClientError>)>,
    /// When all that is wanted was last told.
    pub(crate) refreshed: Option<Instant>,
    pub(crate) refresh_error: Option<(Instant, ClientError)>,
}

impl Cluster {
    /// Nothing is connected to until somebody asks. The error is about certificates and keys.
    pub fn new(config: NetConfig, io: Arc<IoThread>) -> Result<Arc<Cluster>, ClientError> {
        let tls = config.tls.as_ref().map(TlsContext::new).transpose()?;
        let common = Arc::new(Common {
            config,
            tls,
            recycler: Recycler::new(RECYCLED),
            metrics: Arc::default(),
        });
        let cluster = Arc::new_cyclic(|me| Cluster {
            me: me.clone(),
            io,
            common,
            metadata: watch::Sender::default(),
            asked: Arc::default(),
            closed: watch::Sender::new(false),
            state: Mutex::default(),
        });
        cluster.io.spawn(refresh::keep_fresh(
            Arc::downgrade(&cluster),
            cluster.asked.clone(),
            cluster.closed.subscribe(),
        ));
        Ok(cluster)
    }

    /// What it was told.
    pub fn config(&self) -> &NetConfig {
        &self.common.config
    }

    /// The thread its futures run on.
    pub fn io(&self) -> &Arc<IoThread> {
        &self.io
    }

    /// What its connections count.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.common.metrics
    }

    /// What is known now.
    pub fn snapshot(&self) -> Arc<Metadata> {
        self.metadata.borrow().clone()
    }

    /// Tells of each new snapshot.
    pub fn watch(&self) -> watch::Receiver<Arc<Metadata>> {
        self.metadata.subscribe()
    }

    /// Keeps the metadata of a topic; it is asked for at once if it is not there.
    pub fn want(&self, topic: &str) {
        let mut state = lock(&self.state);
        if state.wanted.contains(topic) {
            return;
        }
        state.wanted.insert(topic.into());
        state.additions += 1;
        if self.metadata.borrow().topic(topic).is_none() {
            state.urgent = true;
            self.asked.notify_one();
        }
    }

    /// Keeps the metadata of these topics and of no others.
    pub fn want_only<T: AsRef<str>>(&self, topics: impl IntoIterator<Item = T>) {
        let topics: BTreeSet<Arc<str>> = topics.into_iter().map(|t| t.as_ref().into()).collect();
        lock(&self.state)
            .wanted
            .retain(|name| topics.contains(name));
        for topic in &topics {
            self.want(topic);
        }
    }

    /// No longer keeps the metadata of a topic.
    pub fn forget(&self, topic: &str) {
        lock(&self.state).wanted.remove(topic);
        self.change(|metadata| metadata.without(topic));
    }

    /// Has the metadata asked for again soon, after the back-off if that was done or failed just
    /// now.
    pub fn request_update(&self) {
        self.asked.notify_one();
    }

    /// Asks for the metadata of the wanted topics and waits for it. Who asks meanwhile shares the
    /// answer. One attempt: an error is the caller's to deal with.
    pub async fn update(&self) -> Result<Arc<Metadata>, ClientError> {
        let me = self.me.upgrade().ok_or(ClientError::Closed("client"))?;
        refresh::update(&me).await
    }

    /// Asks about some topics, or all there are, and puts what is told into the snapshot, where it
    /// stays until the next refresh. `create`: whether asking may make a topic. One attempt.
    pub async fn fetch_metadata(
        &self,
        topics: Option<Vec<Arc<str>>>,
        create: bool,
    ) -> Result<Arc<Metadata>, ClientError> {
        refresh::fetch(self, topics, create).await
    }

    /// Takes a leader that a broker named in an answer (KIP-951), if it is newer than what is
    /// known and can be reached; asks for the metadata otherwise.
    pub fn apply_hint(
        &self,
        topic: &str,
        partition: i32,
        leader: CurrentLeader,
        node: Option<Broker>,
    ) {
        let taken = self.change(|metadata| metadata.hinted(topic, partition, leader, node));
        if !taken {
            self.request_update();
        }
    }

    /// Replaces the snapshot; connections to brokers that moved are not handed out any more.
    pub(crate) fn change(&self, next: impl FnOnce(&Metadata) -> Option<Metadata>) -> bool {
        let changed = self
            .metadata
            .send_if_modified(|metadata| match next(metadata) {
                Some(next) => {
                    *metadata = Arc::new(next);
                    true
                }
                None => false,
            });
        if changed {
            self.retire_moved();
        }
        changed
    }

    /// A connection that is open now, without waiting.
    pub fn open(&self, node: i32, purpose: Purpose) -> Option<Connection> {
        let state = lock(&self.state);
        let open = state.slots.get(&(node, purpose))?.open.as_ref()?;
        open.is_open().then(|| open.clone())
    }

    /// A connection to the controller.
    pub async fn controller(&self, purpose: Purpose) -> Result<Connection, ClientError> {
        let known = self.snapshot().controller;
        let controller = match known {
            Some(node) => Some(node),
            None => self.update().await?.controller,
        };
        match controller {
            Some(node) => self.connection(node, purpose).await,
            None => self.any(purpose).await,
        }
    }

    /// Why nothing gets through, if something does not: the last failure to connect or to get
    /// metadata that was not followed by a success. For the errors of those who waited.
    pub fn last_error(&self) -> Option<ClientError> {
        let state = lock(&self.state);
        let slots = state.slots.values().filter_map(|slot| slot.error.as_ref());
        slots
            .chain(&state.refresh_error)
            .max_by_key(|(at, _)| *at)
            .map(|(_, error)| error.clone())
    }

    /// Waits before attempt number `attempt` (the first repetition is 1): `retry_backoff`,
    /// doubled each time up to `retry_backoff_max`, jittered by 20 %.
    pub async fn backoff(&self, attempt: u32) {
        let config = &self.common.config;
        sleep(delay(
            attempt,
            config.retry_backoff,
            config.retry_backoff_max,
        ))
        .await;
    }

    /// Closes all connections; whoever waits gets [`ClientError::Closed`]. From any thread.
    pub fn close(&self) {
        self.closed.send_replace(true);
        let mut state = lock(&self.state);
        let open = state.slots.values_mut().filter_map(|slot| slot.open.take());
        let mut open: Vec<_> = open.collect();
        open.append(&mut state.retired);
        drop(state);
        for connection in open {
            connection.close(ClientError::Closed("client"));
        }
    }

    /// Connections that are open now.
    pub fn connected(&self) -> usize {
        let state = lock(&self.state);
        let open = state.slots.values().filter_map(|slot| slot.open.as_ref());
        open.filter(|open| open.is_open()).count()
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // In a child of a fork a lost thread may hold any lock.
        if !self.io.is_forked() {
            self.close();
        }
    }
}

/// How long to wait before an attempt: doubled each time, jittered by 20 %.
pub(crate) fn delay(attempt: u32, first: Duration, most: Duration) -> Duration {
    let doubled = first.saturating_mul(1 << attempt.saturating_sub(1).min(16));
    doubled.min(most).mul_f64(between(0.8, 1.2))
}
