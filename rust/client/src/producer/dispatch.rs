//! Sending: which batches leave for which broker, in which request.

use std::collections::VecDeque;
use std::time::Instant;

use mqlog_protocol::ApiKey;
use mqlog_record::Codec;

use super::batch::{Batch, Slot};
use super::idempotence::ask;
use super::lane::Next;
use super::request::{encode, Part, FIRST_ZSTD, NEWEST, NEWEST_BY_NAME, NO_ID};
use super::sender::{Event, Sender};
use crate::connection::Connection;
use crate::request::{Purpose, Request};
use crate::ClientError;

/// A broker, as far as producing goes.
#[derive(Debug, Default)]
pub(crate) struct Node {
    /// Partitions that have something for it, each once.
    pub(super) lanes: VecDeque<Slot>,
    pub(super) flying: usize,
    pub(super) opening: bool,
    pub(super) connection: Option<Connection>,
    /// It asked for a pause.
    pub(super) not_before: Option<Instant>,
    pub(super) last_error: Option<ClientError>,
}

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(super) node: i32,
    pub(super) connection: Connection,
    pub(super) version: i16,
    pub(super) acks: i16,
    /// The partitions in it, with their topics' ids as it names them.
    pub(super) parts: Vec<(Slot, [u8; 16])>,
    pub(super) left: Instant,
}

/// A request that is being put together.
struct Draft {
    flight: u64,
    node: i32,
    acks: Option<i16>,
    size: usize,
    room: usize,
    parts: Vec<Part>,
    zstd: bool,
}

impl Draft {
    /// Whether a batch may go along.
    fn takes(&self, batch: &Batch) -> bool {
        let fits = self.parts.is_empty() || self.size + batch.size() <= self.room;
        fits && self.acks.is_none_or(|acks| acks == batch.acks)
    }
}

impl Sender {
    /// Sends all that may leave now.
    pub(super) fn send(&mut self, now: Instant) {
        let nodes: Vec<i32> = self.nodes.keys().copied().collect();
        for node in nodes {
            while self.send_to(node, now) {}
        }
    }

    /// Sends one request to a node; false if there is none to send.
    fn send_to(&mut self, node: i32, now: Instant) -> bool {
        let Some(connection) = self.connection(node, now) else {
            return false;
        };
        self.last_flight += 1;
        let mut draft = Draft {
            flight: self.last_flight,
            node,
            acks: None,
            size: 0,
            room: self.shared.config.max_request_size,
            parts: Vec::new(),
            zstd: false,
        };
        let lanes = self.nodes.get(&node).map_or(0, |node| node.lanes.len());
        for _ in 0..lanes {
            let next = self
                .nodes
                .get_mut(&node)
                .and_then(|node| node.lanes.pop_front());
            let Some(slot) = next else { break };
            self.add(&mut draft, slot, now);
        }
        if draft.parts.is_empty() {
            return false;
        }
        self.launch(draft, connection);
        true
    }

    /// The connection to a node, if a request may go there now.
    fn connection(&mut self, number: i32, now: Instant) -> Option<Connection> {
        let most = self.shared.config.max_in_flight;
        let node = self.nodes.get_mut(&number)?;
        if node.lanes.is_empty() || node.flying >= most {
            return None;
        }
        if let Some(when) = node.not_before.filter(|when| *when > now) {
            self.soonest = Some(self.soonest.map_or(when, |soonest| soonest.min(when)));
            return None;
        }
        if let Some(connection) = node.connection.as_ref().filter(|one| one.is_open()) {
            return Some(connection.clone());
        }
        node.connection = None;
        if !std::mem::replace(&mut node.opening, true) {
            let (cluster, events) = (self.cluster.clone(), self.events.clone());
            tokio::spawn(async move {
                let opened = cluster.connection(number, Purpose::General).await;
                // Without a receiver there is nothing to send any more; so below.
                let _ = events.send(Event::Opened(number, opened));
            });
        }
        None
    }

    /// Adds the next batch of a lane, which just left its list, to a request, if there is one that
    /// may go along. The lane goes back to the list if it has more.
    fn add(&mut self, draft: &mut Draft, slot: Slot, now: Instant) {
        let next = self.next(slot, draft.node, now);
        let identity = self.shared.config.idempotent.then_some(&self.identity);
        let Some(lane) = self.lanes.get_mut(&slot) else {
            return;
        };
        let taken = lane
            .candidate(&next)
            .is_some_and(|batch| draft.takes(batch));
        let at = match next {
            Next::Again(at) if taken => Some(at),
            Next::First if taken => lane.admit(identity),
            _ => None,
        };
        let nameless = taken && at.is_none();
        let part = at.and_then(|at| lane.sent.get(at)).and_then(|batch| {
            draft.acks = Some(batch.acks);
            draft.zstd |= batch.codec == Codec::Zstd;
            draft.size += batch.size();
            if batch.attempts > 0 {
                self.shared.metrics.record_retries.add(batch.count as usize);
            }
            Some(Part {
                slot,
                topic: lane.topic.clone(),
                header: batch.header().ok()?,
                records: batch.records.clone(),
            })
        });
        if let (Some(at), Some(part)) = (at, part) {
            lane.leaves(at, draft.flight, draft.node);
            draft.parts.push(part);
        }
        if next != Next::Nothing {
            self.relist(slot);
        }
        if nameless || next == Next::Identity {
            self.ask_identity();
        }
    }

    /// What a lane sends next to `node`; an open batch that is due is sealed first.
    fn next(&mut self, slot: Slot, node: i32, now: Instant) -> Next {
        for _ in 0..2 {
            let Some(lane) = self.lanes.get_mut(&slot) else {
                return Next::Nothing;
            };
            lane.listed = false;
            let leader = self.cluster.snapshot().leader(&lane.topic, slot.partition);
            if leader.is_none_or(|(leader, _)| leader != node) {
                return Next::Later;
            }
            let next = lane.next(node, now, &mut self.identity);
            let rises = std::mem::take(&mut self.identity.rises);
            self.shared.metrics.epochs.add(rises);
            if let Some(when) = lane.not_before.filter(|when| *when > now) {
                self.soonest = Some(self.soonest.map_or(when, |soonest| soonest.min(when)));
            }
            let Next::Open(serial) = next else {
                return next;
            };
            lane.due = None;
            match self.shared.seal(slot, serial) {
                Some(batch) => self.queue(batch),
                None => return Next::Nothing,
            }
        }
        Next::Later
    }

    fn ask_identity(&mut self) {
        if std::mem::replace(&mut self.identity.asked, true) {
            return;
        }
        let (cluster, events) = (self.cluster.clone(), self.events.clone());
        let failures = self.identity.failures;
        tokio::spawn(async move {
            if failures > 0 {
                cluster.backoff(failures).await;
            }
            let _ = events.send(Event::Identity(ask(&cluster).await));
        });
    }

    fn launch(&mut self, draft: Draft, connection: Connection) {
        let Draft {
            flight,
            node,
            mut parts,
            size,
            zstd,
            acks,
            ..
        } = draft;
        let acks = acks.unwrap_or(-1);
        let metadata = self.cluster.snapshot();
        let id = |topic: &str| metadata.topic(topic).map_or(NO_ID, |topic| topic.id);
        let named = parts.iter().all(|part| id(&part.topic) != NO_ID);
        let newest = if named { NEWEST } else { NEWEST_BY_NAME };
        let timeout = self.cluster.config().request_timeout;
        let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        let made = version(&connection, newest, zstd).and_then(|version| {
            let body = encode(version, acks, timeout_ms, &mut parts, id)?;
            let request = Request::new(ApiKey::Produce, version, body, timeout);
            Ok((version, request))
        });
        let flying = Flight {
            node,
            version: made.as_ref().map_or(0, |(version, _)| *version),
            acks,
            parts: parts
                .iter()
                .map(|part| (part.slot, id(&part.topic)))
                .collect(),
            left: Instant::now(),
            connection: connection.clone(),
        };
        self.flights.insert(flight, flying);
        if let Some(node) = self.nodes.get_mut(&node) {
            node.flying += 1;
        }
        self.shared.metrics.requests.add(1);
        self.shared.metrics.bytes_sent.add(size);
        let events = self.events.clone();
        match made {
            Ok((_, request)) => {
                let pending = connection.send(match acks {
                    0 => request.unanswered(),
                    _ => request,
                });
                tokio::spawn(async move {
                    let _ = events.send(Event::Answer(flight, pending.await));
                });
            }
            Err(error) => _ = events.send(Event::Answer(flight, Err(error))),
        }
    }
}

/// The version to speak.
fn version(connection: &Connection, newest: i16, zstd: bool) -> Result<i16, ClientError> {
    let version = connection.version(ApiKey::Produce, newest)?;
    let oldest = if zstd { FIRST_ZSTD } else { 3 };
    match version < oldest {
        true => Err(connection.unsupported(ApiKey::Produce, oldest, newest)),
        false => Ok(version),
    }
}
