//! Reaching brokers: one connection per node and purpose, opened once for all who ask; or whoever
//! can be reached at all.
//!
//! Connections are opened by tasks of their own, so that a caller who gives up early does not undo
//! what was begun.

use std::collections::BTreeSet;
use std::sync::Weak;
use std::time::Duration;

use mqlog_protocol::ApiKey;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, Instant};

use crate::cluster::{delay, Cluster};
use crate::connection::{Connection, Purpose};
use crate::flight::{Flight, Landing};
use crate::io::lock;
use crate::metadata::Broker;
use crate::metrics::Metrics;
use crate::open::{open, Place};
use crate::random::shuffle;
use crate::ClientError;

/// How long one address may be silent before the next one is tried beside it.
const STAGGER: Duration = Duration::from_millis(500);

/// The connection to a node for a purpose.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    pub(crate) open: Option<Connection>,
    pub(crate) opening: Flight<Result<Connection, ClientError>>,
    failures: u32,
    retry_at: Option<Instant>,
    pub(crate) error: Option<(Instant, ClientError)>,
}

impl Cluster {
    /// The connection to a node, opened if need be: once, for all who ask meanwhile. After a
    /// failure the next attempt waits for `reconnect_backoff`. A node that is not in the metadata
    /// is an error, and has it asked for.
    pub async fn connection(&self, node: i32, purpose: Purpose) -> Result<Connection, ClientError> {
        if self.is_closed() {
            return Err(ClientError::Closed("client"));
        }
        let landing = {
            let mut state = lock(&self.state);
            let slot = state.slots.entry((node, purpose)).or_default();
            match &slot.open {
                Some(open) if open.is_open() => return Ok(open.clone()),
                _ => {}
            }
            match slot.opening.join() {
                Some(landing) => landing,
                None => {
                    let (lander, landing) = slot.opening.start();
                    let me = self.me.clone();
                    self.io().spawn(async move {
                        lander.land(open_slot(&me, node, purpose).await);
                    });
                    landing
                }
            }
        };
        wait(landing).await
    }

    fn place(&self, node: i32) -> Result<Place, ClientError> {
        let bootstrap = usize::try_from(-1 - i64::from(node)).ok();
        let known = match bootstrap {
            Some(index) => self.common.config.bootstrap.get(index).map(|at| Place {
                node,
                host: at.0.as_str().into(),
                port: at.1,
            }),
            None => self.snapshot().brokers.get(&node).map(Place::from),
        };
        known.ok_or_else(|| {
            self.request_update();
            ClientError::Connect {
                address: format!("node {node}").into(),
                reason: "the cluster's metadata does not name it".to_owned(),
                hint: String::new(),
            }
        })
    }

    /// A connection to some node: an open one rather than another, a known broker rather than a
    /// bootstrap server. The error names every address that was tried.
    pub async fn any(&self, purpose: Purpose) -> Result<Connection, ClientError> {
        if let Some(open) = self.any_open(purpose, |_| true) {
            return Ok(open);
        }
        let mut candidates = self.candidates(purpose).into_iter();
        let mut asking = JoinSet::new();
        let mut errors = Vec::new();
        loop {
            if let (Some(node), Some(me)) = (candidates.next(), self.me.upgrade()) {
                asking.spawn(async move { me.connection(node, purpose).await });
            } else if asking.is_empty() {
                return Err(all_failed(errors));
            }
            let more = candidates.len() > 0;
            let done = tokio::select! {
                done = asking.join_next() => done,
                () = sleep(STAGGER), if more => continue,
            };
            match done {
                Some(Ok(Ok(connection))) => return Ok(connection),
                // To try a wrong password everywhere locks accounts.
                Some(Ok(Err(
                    error @ (ClientError::Authentication { .. } | ClientError::Closed(_)),
                ))) => return Err(error),
                Some(Ok(Err(error))) => errors.push(error),
                Some(Err(_)) => errors.push(ClientError::Closed("client")),
                None => {}
            }
        }
    }

    /// The same for a request that is written already: the one that is open may be of a broker of
    /// another version than the one that was asked for it.
    pub(crate) async fn any_speaking(
        &self,
        purpose: Purpose,
        api: ApiKey,
        version: i16,
    ) -> Result<Connection, ClientError> {
        let speaks = |open: &Connection| {
            let spoken = open.versions(api);
            spoken.is_some_and(|versions| versions.contains(version))
        };
        match self.any_open(purpose, speaks) {
            Some(open) => Ok(open),
            None => self.any(purpose).await,
        }
    }

    fn any_open(&self, purpose: Purpose, fits: impl Fn(&Connection) -> bool) -> Option<Connection> {
        let state = lock(&self.state);
        let open = state
            .slots
            .iter()
            .filter(|((_, its), _)| *its == purpose)
            .filter_map(|(_, slot)| slot.open.as_ref())
            .filter(|open| open.is_open() && fits(open));
        open.min_by_key(|open| (open.node_id() < 0, open.in_flight()))
            .cloned()
    }

    /// Whom to ask, in which order: brokers, bootstrap servers, those that failed just now.
    fn candidates(&self, purpose: Purpose) -> Vec<i32> {
        let metadata = self.snapshot();
        let mut brokers: Vec<i32> = metadata.brokers.keys().copied().collect();
        shuffle(&mut brokers);
        let known: BTreeSet<_> = metadata
            .brokers
            .values()
            .map(|one| Place::from(one).address())
            .collect();
        let mut servers: Vec<i32> = (0..self.common.config.bootstrap.len())
            .filter_map(|index| Some(-1 - i32::try_from(index).ok()?))
            .filter(|node| {
                let place = self.place(*node);
                place.is_ok_and(|place| !known.contains(&place.address()))
            })
            .collect();
        shuffle(&mut servers);
        brokers.extend(servers);
        let now = Instant::now();
        let state = lock(&self.state);
        brokers.sort_by_key(|node| {
            let slot = state.slots.get(&(*node, purpose));
            slot.and_then(|slot| slot.retry_at)
                .is_some_and(|at| at > now)
        });
        brokers
    }

    pub(crate) fn retire_moved(&self) {
        let metadata = self.snapshot();
        let mut state = lock(&self.state);
        let state = &mut *state;
        state.retired.retain(Connection::is_open);
        state.slots.retain(|(node, _), slot| {
            let place = metadata.brokers.get(node).map(Place::from);
            let moved = match (&slot.open, place) {
                (Some(open), Some(place)) => *open.address() != place.address(),
                // A node that is gone for now may finish what it was asked.
                (Some(open), None) => !open.is_open(),
                (None, place) => place.is_none() && !slot.opening.is_up(),
            };
            if *node < 0 || !moved {
                return true;
            }
            state.retired.extend(slot.open.take());
            false
        });
    }
}

impl From<&Broker> for Place {
    fn from(broker: &Broker) -> Place {
        Place {
            node: broker.id,
            host: broker.host.clone(),
            port: broker.port,
        }
    }
}

async fn wait(
    landing: Landing<Result<Connection, ClientError>>,
) -> Result<Connection, ClientError> {
    match landing.wait().await {
        Some(opened) => opened,
        None => Err(ClientError::Closed("client")),
    }
}

/// The one attempt that all who ask for a connection wait for.
async fn open_slot(
    cluster: &Weak<Cluster>,
    node: i32,
    purpose: Purpose,
) -> Result<Connection, ClientError> {
    let gone = ClientError::Closed("client");
    let (retry_at, mut closed, common) = {
        let cluster = cluster.upgrade().ok_or(gone.clone())?;
        let state = lock(&cluster.state);
        let slot = state.slots.get(&(node, purpose));
        (
            slot.and_then(|slot| slot.retry_at),
            cluster.closed.subscribe(),
            cluster.common.clone(),
        )
    };
    if let Some(at) = retry_at {
        tokio::select! {
            () = sleep_until(at) => {}
            _ = closed.wait_for(|closed| *closed) => return Err(gone),
        }
    }
    // After the wait: it may have moved.
    let place = cluster.upgrade().ok_or(gone.clone())?.place(node)?;
    let opened = tokio::select! {
        opened = open(&common, &place) => opened,
        _ = closed.wait_for(|closed| *closed) => Err(gone.clone()),
    };
    match cluster.upgrade() {
        Some(cluster) => cluster.opened(node, purpose, opened),
        None => {
            if let Ok(connection) = opened {
                connection.close(gone.clone());
            }
            Err(gone)
        }
    }
}

impl Cluster {
    fn opened(
        &self,
        node: i32,
        purpose: Purpose,
        opened: Result<Connection, ClientError>,
    ) -> Result<Connection, ClientError> {
        let opened = opened.map_err(|error| self.advertised(node, error));
        let metrics = &self.common.metrics;
        let mut state = lock(&self.state);
        let slot = state.slots.entry((node, purpose)).or_default();
        match &opened {
            Ok(connection) => {
                Metrics::add(&metrics.connections_opened, 1);
                slot.open = Some(connection.clone());
                slot.failures = 0;
                slot.retry_at = None;
                slot.error = None;
            }
            Err(ClientError::Closed(_)) => {}
            Err(error) => {
                Metrics::add(&metrics.connections_failed, 1);
                slot.failures = slot.failures.saturating_add(1);
                let config = &self.common.config;
                let pause = delay(
                    slot.failures,
                    config.reconnect_backoff,
                    config.reconnect_backoff_max,
                );
                let now = Instant::now();
                slot.retry_at = Some(now + pause);
                slot.error = Some((now, error.clone()));
            }
        }
        drop(state);
        if self.is_closed() {
            // It was opened while `close` went over the others.
            self.close();
            return Err(ClientError::Closed("client"));
        }
        if opened.is_err() && node >= 0 {
            self.request_update();
        }
        opened
    }

    /// A broker that others name and nobody reaches: its advertised address is the likely cause.
    fn advertised(&self, node: i32, error: ClientError) -> ClientError {
        let source = self.snapshot().source.clone();
        match error {
            ClientError::Connect {
                address,
                reason,
                hint,
            } if node >= 0 && hint.is_empty() && *source != *address => ClientError::Connect {
                hint: format!(
                    "{source} says that node {node} is reached at {address}: check the \
                     advertised.listeners of that broker"
                ),
                address,
                reason,
            },
            other => other,
        }
    }
}

/// What to say when nobody answered.
fn all_failed(mut errors: Vec<ClientError>) -> ClientError {
    if errors.len() == 1 {
        return errors.remove(0);
    }
    if errors.is_empty() {
        return ClientError::Setting {
            setting: "bootstrap_servers",
            problem: "names no server".to_owned(),
        };
    }
    // What no later attempt mends comes first.
    if let Some(index) = errors.iter().position(|error| !error.is_retriable()) {
        return errors.swap_remove(index);
    }
    let count = errors.len();
    let mut reasons: Vec<String> = errors.iter().map(reason).collect();
    reasons.sort();
    ClientError::Connect {
        address: format!("any of {count} brokers").into(),
        reason: reasons.join("; "),
        hint: String::new(),
    }
}

fn reason(error: &ClientError) -> String {
    match error {
        ClientError::Connect {
            address,
            reason,
            hint,
        }
        | ClientError::Disconnected {
            address,
            reason,
            hint,
        } => match hint.as_str() {
            "" => format!("{address}: {reason}"),
            hint => format!("{address}: {reason} ({hint})"),
        },
        other => other.to_string(),
    }
}
