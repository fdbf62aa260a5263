//! The task that sends: takes batches from the accumulator, keeps a few requests on their way to
//! each broker, and settles what the answers say.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mqlog_record::Codec;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::accumulator::Accumulator;
use super::batch::{pack, Batch, Slot};
use super::dispatch::{Flight, Node};
use super::idempotence::Identity;
use super::lane::Lane;
use crate::cluster::Cluster;
use crate::connection::Connection;
use crate::ClientError;

/// Batches up to this size are compressed at once: handing them to another thread costs more.
const SMALL: usize = 16 * 1024;
/// How often old batches are looked for, while there are any.
pub(super) const TICK: Duration = Duration::from_millis(50);
/// How often the sender looks around when it has nothing to do.
const IDLE: Duration = Duration::from_secs(60);

/// What the sender is told.
#[derive(Debug)]
pub(crate) enum Event {
    Answer(u64, Result<Bytes, ClientError>),
    Opened(i32, Result<Connection, ClientError>),
    Packed(Slot, u64, Result<Bytes, ClientError>),
    Identity(Result<(i64, i16), ClientError>),
}

/// The task's state; `dispatch` sends, `settle` takes answers.
#[derive(Debug)]
pub(crate) struct Sender {
    pub(super) shared: Arc<Accumulator>,
    pub(super) cluster: Arc<Cluster>,
    pub(super) lanes: HashMap<Slot, Lane>,
    pub(super) identity: Identity,
    pub(super) nodes: HashMap<i32, Node>,
    /// Partitions without a leader.
    pub(super) homeless: Vec<Slot>,
    pub(super) flights: HashMap<u64, Flight>,
    pub(super) last_flight: u64,
    pub(super) events: UnboundedSender<Event>,
    /// When something that could not leave may.
    pub(super) soonest: Option<Instant>,
    pub(super) next_look: Instant,
    revision: Option<u64>,
    topics: Vec<Arc<str>>,
}

impl Sender {
    pub(crate) fn new(
        shared: Arc<Accumulator>,
        cluster: Arc<Cluster>,
        events: UnboundedSender<Event>,
    ) -> Sender {
        Sender {
            shared,
            cluster,
            lanes: HashMap::new(),
            identity: Identity::default(),
            nodes: HashMap::new(),
            homeless: Vec::new(),
            flights: HashMap::new(),
            last_flight: 0,
            events,
            soonest: None,
            next_look: Instant::now(),
            revision: None,
            topics: Vec::new(),
        }
    }

    /// Runs until the producer is closed.
    pub(crate) async fn run(mut self, mut events: UnboundedReceiver<Event>) {
        let guard = Guard(self.shared.clone());
        let mut metadata = self.cluster.watch();
        while self.shared.closed().is_none() {
            let now = Instant::now();
            self.soonest = None;
            self.learn();
            let again = self.collect(now);
            self.send(now);
            self.look_after(now);
            let until = self.wake_at(now, again);
            let shared = self.shared.clone();
            tokio::select! {
                biased;
                event = events.recv() => {
                    let mut next = event;
                    while let Some(event) = next {
                        self.take(event);
                        next = events.try_recv().ok();
                    }
                    self.shared.bell.ring();
                }
                () = shared.wake.notified() => {}
                changed = metadata.changed() => if changed.is_err() { break },
                () = tokio::time::sleep_until(until.into()) => {}
            }
        }
        drop(guard);
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Answer(flight, answer) => {
                if let Some(request) = self.flights.remove(&flight) {
                    if let Some(node) = self.nodes.get_mut(&request.node) {
                        node.flying -= 1;
                    }
                    self.answered(flight, &request, answer);
                }
            }
            Event::Opened(number, opened) => {
                let node = self.nodes.entry(number).or_default();
                node.opening = false;
                match opened {
                    Ok(connection) => {
                        node.connection = Some(connection);
                        node.last_error = None;
                    }
                    Err(error) => {
                        node.last_error = Some(error);
                        self.cluster.request_update();
                        // The leader may be another by the time somebody tells.
                        let lanes = std::mem::take(&mut node.lanes);
                        for slot in lanes {
                            self.relist(slot);
                        }
                    }
                }
            }
            Event::Packed(slot, serial, packed) => self.packed(slot, serial, packed),
            Event::Identity(Ok((id, epoch))) => {
                self.identity.asked = false;
                self.identity.failures = 0;
                self.identity.set(id, epoch);
            }
            Event::Identity(Err(error)) => {
                self.identity.asked = false;
                self.identity.failures += 1;
                self.no_identity(&error);
            }
        }
    }

    /// Takes new metadata.
    fn learn(&mut self) {
        let known = self.cluster.snapshot();
        let names = self.shared.topic_count();
        if self.revision == Some(known.revision) && self.topics.len() == names {
            return;
        }
        self.revision = Some(known.revision);
        self.topics = self.shared.names();
        for name in &self.topics {
            self.shared
                .learn(name, known.topics.get(name).map(|topic| &**topic));
        }
        self.shared.bell.ring();
        for slot in std::mem::take(&mut self.homeless) {
            self.relist(slot);
        }
    }

    /// Takes what user threads left.
    fn collect(&mut self, now: Instant) -> Option<Instant> {
        let (sealed, due, again) = self.shared.collect(now);
        for batch in sealed {
            let slot = batch.state.slot;
            self.queue(batch);
            self.list(slot);
        }
        for (slot, serial) in due {
            let lane = self.lane(slot);
            lane.due = Some(lane.due.unwrap_or(0).max(serial));
            self.list(slot);
        }
        again
    }

    fn lane(&mut self, slot: Slot) -> &mut Lane {
        let topics = &self.topics;
        self.lanes.entry(slot).or_insert_with(|| {
            let topic = topics.get(slot.topic as usize).cloned();
            Lane::new(topic.unwrap_or_else(|| "".into()))
        })
    }

    /// Puts a sealed batch into its lane, and has it compressed.
    pub(super) fn queue(&mut self, mut batch: Batch) {
        let (codec, level) = (self.shared.config.codec, self.shared.config.level);
        let (slot, serial) = (batch.state.slot, batch.state.serial);
        self.shared.metrics.bytes_raw.add(batch.records.len());
        if codec == Codec::None {
            return self.lane(slot).ready.push_back((batch, false));
        }
        if batch.records.len() <= SMALL {
            match pack(codec, level, &batch.records, &self.shared.memory) {
                Ok(packed) => {
                    batch.records = packed;
                    batch.codec = codec;
                    self.lane(slot).ready.push_back((batch, false));
                }
                Err(error) => self.fail(&batch, &error),
            }
            return;
        }
        let (memory, events) = (self.shared.memory.clone(), self.events.clone());
        let records = batch.records.clone();
        self.lane(slot).ready.push_back((batch, true));
        self.cluster.io().pool().run(move || {
            let job = std::panic::AssertUnwindSafe(|| pack(codec, level, &records, &memory));
            let packed = std::panic::catch_unwind(job)
                .unwrap_or_else(|_| Err(ClientError::State("the compressor failed".to_owned())));
            // The sender may be gone, and then nobody wants it.
            let _ = events.send(Event::Packed(slot, serial, packed));
        });
    }

    fn packed(&mut self, slot: Slot, serial: u64, packed: Result<Bytes, ClientError>) {
        let codec = self.shared.config.codec;
        let Some(lane) = self.lanes.get_mut(&slot) else {
            return;
        };
        let place = lane
            .ready
            .iter()
            .position(|(batch, _)| batch.state.serial == serial);
        let Some(at) = place else { return };
        match (packed, lane.ready.get_mut(at)) {
            (Ok(records), Some((batch, busy))) => {
                batch.records = records;
                batch.codec = codec;
                *busy = false;
            }
            (Err(error), _) => {
                if let Some((batch, _)) = lane.ready.remove(at) {
                    self.fail(&batch, &error);
                }
            }
            (Ok(_), None) => {}
        }
        self.list(slot);
    }

    /// Puts a lane into the list of the node it sends to, unless it stands there.
    pub(super) fn list(&mut self, slot: Slot) {
        if self.lanes.get(&slot).is_some_and(|lane| !lane.listed) {
            self.relist(slot);
        }
    }

    /// The same, also if it was taken out of a list just now.
    pub(super) fn relist(&mut self, slot: Slot) {
        let Some(lane) = self.lanes.get_mut(&slot) else {
            return;
        };
        lane.listed = true;
        let metadata = self.cluster.snapshot();
        match metadata.leader(&lane.topic, slot.partition) {
            Some((node, _)) => self.nodes.entry(node).or_default().lanes.push_back(slot),
            None => self.homeless.push(slot),
        }
    }

    /// When to look again if nothing happens.
    fn wake_at(&self, now: Instant, again: Option<Instant>) -> Instant {
        let idle = self.lanes.values().all(Lane::is_idle);
        let longest = if idle { now + IDLE } else { self.next_look };
        [again, self.soonest]
            .into_iter()
            .flatten()
            .fold(longest, Instant::min)
    }
}

/// Nobody waits for a sender that is gone.
struct Guard(Arc<Accumulator>);

impl Drop for Guard {
    fn drop(&mut self) {
        let ended = ClientError::State("the producer's sender has ended".to_owned());
        let error = self.0.closed().unwrap_or(ended);
        self.0.abort(&error);
        self.0.completions.close();
    }
}
