//! A consumer: what its fetcher and its reader share, and what Python may ask of it.
//!
//! The fetcher's tasks run on the I/O thread and only ever take the `state` lock, briefly. Who
//! reads takes the `reader` lock first and the `state` lock inside it.

use std::collections::HashSet;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use mqlog_protocol::fetch_response::AbortedTransaction;
use tokio::sync::watch;

use crate::bell::{Bell, Woken};
use crate::budget::Budget;
use crate::columns::ColumnPool;
use crate::config::ConsumerConfig;
use crate::fetched::{End, Queue};
use crate::fetcher;
use crate::io::lock;
use crate::positions::{Event, Facts, Handle, Phase, Positions, Readable, Start};
use crate::reader::Reader;
use crate::{ClientError, Cluster};

/// The consumer's core: it fetches what is assigned, ahead of who reads.
#[derive(Debug)]
pub struct Consumer {
    shared: Arc<Shared>,
    reader: Mutex<Reader>,
    generation: u32,
}

/// What the fetcher's tasks and the reader share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub cluster: Arc<Cluster>,
    pub config: ConsumerConfig,
    pub state: Mutex<State>,
    /// Rung when there is something to read or to decide.
    pub bell: Arc<Bell>,
    pub metrics: Metrics,
    pub pool: Arc<ColumnPool>,
    /// Told when partitions come, go or move: their leaders are looked up.
    pub assigned: watch::Sender<()>,
    /// What may be read ahead.
    pub budget: Arc<Budget>,
    /// Counts changes after which records that were given out may not be wanted any more.
    revision: AtomicU64,
    closed: AtomicBool,
    /// A task ended that should not have.
    broken: AtomicBool,
}

/// What is kept under the lock.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub positions: Positions,
    pub queue: Queue,
    /// Errors that are not about one partition's place, to be told once.
    errors: Vec<Event>,
    /// Something needs a decision that nobody was told of yet.
    fresh: bool,
    /// What the reader has begun and not finished.
    pub reading: Option<Handle>,
    /// Nodes that a task fetches from.
    pub nodes: HashSet<i32>,
}

/// Counters since the consumer was made.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Fetch requests answered.
    pub fetches: AtomicU64,
    /// Bytes of their answers.
    pub fetched_bytes: AtomicU64,
    /// Batches in them.
    pub batches: AtomicU64,
    /// Records given out.
    pub records: AtomicU64,
    /// Bytes of these, as they lie in batches, decompressed.
    pub record_bytes: AtomicU64,
    /// Batches that were damaged.
    pub corrupt_batches: AtomicU64,
    /// Fetches that failed as a whole.
    pub failed_fetches: AtomicU64,
}

impl Shared {
    pub fn is_closed(&self) -> bool {
        self.closed.load(Acquire)
    }

    /// Nothing will be fetched any more: nobody may wait for it.
    pub fn break_down(&self) {
        self.broken.store(true, Release);
        self.bell.ring();
    }

    /// A change after which who holds records must look whether they are still wanted.
    pub fn revise(&self) {
        self.revision.fetch_add(1, Release);
    }
}

impl Shared {
    /// All before it was read: what a partition comes to.
    pub fn finish(&self, state: &mut State, handle: Handle, end: End) {
        let Some(one) = state.positions.get(handle) else {
            return;
        };
        match end {
            End::OutOfRange(offset) => one.phase = Phase::Unset(Some(offset)),
            // Told until somebody moves the partition.
            End::Error(error) => one.phase = Phase::Stopped(error),
            End::Denied(error) => {
                one.phase = Phase::Fetching;
                let (topic, partition, offset) = (one.topic.clone(), one.partition, one.read);
                state.tell(Event::Error {
                    error,
                    topic,
                    partition,
                    offset,
                });
            }
        }
        state.freshen();
        self.budget.wanted.send_replace(());
        self.bell.ring();
    }
}

/// Errors kept for who asks: more would say the same.
const ERRORS: usize = 16;

impl State {
    /// A partition needs a decision.
    pub fn freshen(&mut self) {
        self.fresh = true;
    }

    /// Adds an error to be told once, unless it waits already.
    pub fn tell(&mut self, error: Event) {
        if self.errors.len() < ERRORS && !self.errors.contains(&error) {
            self.errors.push(error);
            self.fresh = true;
        }
    }

    fn is_ready(&self) -> bool {
        let reading = |handle| self.positions.is_readable(handle) == Readable::Yes;
        self.fresh || self.reading.is_some_and(reading) || self.queue.is_ready(&self.positions)
    }
}

impl Consumer {
    /// A consumer without partitions. `bell` is rung when something changes; it may be shared.
    pub fn new(cluster: Arc<Cluster>, config: ConsumerConfig, bell: Arc<Bell>) -> Consumer {
        let budget = Budget::new(config.prefetch_max_bytes);
        let shared = Arc::new(Shared {
            cluster,
            config,
            state: Mutex::default(),
            bell,
            metrics: Metrics::default(),
            pool: Arc::default(),
            assigned: watch::Sender::default(),
            budget,
            revision: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            broken: AtomicBool::new(false),
        });
        shared.cluster.io().spawn(fetcher::direct(shared.clone()));
        Consumer {
            shared,
            reader: Mutex::default(),
            generation: crate::fork::generation(),
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn reader(&self) -> &Mutex<Reader> {
        &self.reader
    }

    /// The error for a call that can do nothing: closed, or made before a fork.
    pub fn check(&self) -> Result<(), ClientError> {
        if crate::fork::generation() != self.generation {
            Err(ClientError::Forked("consumer"))
        } else if self.shared.is_closed() {
            Err(ClientError::Closed("consumer"))
        } else if self.shared.broken.load(Acquire) {
            Err(ClientError::State(
                "the consumer's fetcher failed, which is a fault of mqlog: make another consumer"
                    .to_owned(),
            ))
        } else {
            Ok(())
        }
    }

    /// Makes these the partitions that are read. Those read already go on where they are.
    pub fn assign(&self, starts: Vec<Start>) -> Result<(), ClientError> {
        self.want(&starts);
        self.change(|positions| positions.assign(starts))
    }

    /// Adds partitions; those read already go on where they are.
    pub fn add(&self, starts: Vec<Start>) -> Result<(), ClientError> {
        self.want(&starts);
        self.change(|positions| starts.into_iter().for_each(|start| positions.add(start)))
    }

    /// Takes partitions out; what was read ahead for them is dropped.
    pub fn remove(&self, gone: &[(Arc<str>, i32)]) -> Result<(), ClientError> {
        self.change(|positions| {
            for (topic, partition) in gone {
                positions.remove(topic, *partition);
            }
        })
    }

    /// Moves a partition to an offset; without one it waits for the next seek. `epoch` is the
    /// leader epoch of what lies before, or -1. False if the partition is not assigned.
    pub fn seek(
        &self,
        topic: &str,
        partition: i32,
        offset: Option<i64>,
        epoch: i32,
    ) -> Result<bool, ClientError> {
        self.change(|positions| positions.seek(topic, partition, offset, epoch))
    }

    /// Goes on after an [`Event::Validate`] that found nothing wrong.
    pub fn validated(&self, topic: &str, partition: i32) -> Result<bool, ClientError> {
        self.change(|positions| positions.validated(topic, partition))
    }

    /// Answers an [`Event::Validate`] that found the leader's log to end at `end`. True if the user
    /// has got more than that: then a seek is awaited. Else what was fetched beyond is dropped.
    pub fn truncated(&self, topic: &str, partition: i32, end: i64) -> Result<bool, ClientError> {
        self.change(|positions| positions.truncated(topic, partition, end))
    }

    /// Pauses a partition, or goes on with it. False if it is not assigned.
    pub fn pause(&self, topic: &str, partition: i32, on: bool) -> Result<bool, ClientError> {
        self.change(|positions| match positions.find_mut(topic, partition) {
            Some(one) => {
                one.paused = on;
                true
            }
            None => false,
        })
    }

    fn want(&self, starts: &[Start]) {
        let topics: HashSet<&Arc<str>> = starts.iter().map(|start| &start.topic).collect();
        for topic in topics {
            self.shared.cluster.want(topic);
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Positions) -> T) -> Result<T, ClientError> {
        self.check()?;
        let mut state = lock(&self.shared.state);
        let result = change(&mut state.positions);
        let State {
            positions, queue, ..
        } = &mut *state;
        queue.drop_stale(positions);
        drop(state);
        self.shared.revise();
        self.shared.assigned.send_replace(());
        // Something paused or put back may be readable now.
        self.shared.bell.ring();
        Ok(result)
    }

    /// Takes batches in as if a broker had sent them: for tests and fuzzers. `aborted` are producer
    /// ids with the first offsets of their transactions. False if the partition waits for nothing.
    pub fn feed(
        &self,
        topic: &str,
        partition: i32,
        batches: Bytes,
        aborted: Vec<AbortedTransaction>,
    ) -> Result<bool, ClientError> {
        self.check()?;
        Ok(self.shared.feed(topic, partition, batches, aborted))
    }

    /// What is known of a partition; `None` if it is not assigned.
    pub fn facts(&self, topic: &str, partition: i32) -> Option<Facts> {
        let state = lock(&self.shared.state);
        state
            .positions
            .find(topic, partition)
            .map(|one| one.facts())
    }

    /// All partitions with what is known of them.
    pub fn all_facts(&self) -> Vec<(Arc<str>, i32, Facts)> {
        let state = lock(&self.shared.state);
        let all = state.positions.iter();
        all.map(|one| (one.topic.clone(), one.partition, one.facts()))
            .collect()
    }

    /// What needs a decision. A partition is told again every time until it is moved; other
    /// errors once.
    pub fn events(&self) -> Vec<Event> {
        let mut guard = lock(&self.shared.state);
        let state = &mut *guard;
        while let Some((handle, end)) = state.queue.pop_end(&mut state.positions) {
            self.shared.finish(state, handle, end);
        }
        state.fresh = false;
        let mut events = std::mem::take(&mut state.errors);
        events.extend(state.positions.iter().filter_map(|one| one.event()));
        events
    }

    /// Whether there is something to read, or to decide that was not told yet.
    pub fn is_ready(&self) -> bool {
        lock(&self.shared.state).is_ready()
    }

    /// Waits until there is, or the bell rings for something else, for `timeout` at most.
    pub fn wait(&self, timeout: Duration) -> Woken {
        let ticket = self.shared.bell.ticket();
        if self.is_ready() {
            return Woken::Rung;
        }
        self.shared.bell.wait(ticket, timeout)
    }

    /// Counts changes after which records that were given out may not be wanted any more.
    pub fn revision(&self) -> &AtomicU64 {
        &self.shared.revision
    }

    /// The counters.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Bytes that were read ahead, or are read just now.
    pub fn buffered(&self) -> usize {
        self.shared.budget.pinned()
    }

    /// Ends the fetcher. What was given out stays valid. From any thread; waits for nothing.
    pub fn close(&self) {
        self.shared.closed.store(true, Release);
        if crate::fork::generation() != self.generation {
            return;
        }
        let mut state = lock(&self.shared.state);
        let dropped = std::mem::take(&mut state.queue);
        state.positions = Positions::default();
        drop(state);
        drop(dropped);
        self.shared.revise();
        self.shared.assigned.send_replace(());
        self.shared.budget.wanted.send_replace(());
        self.shared.bell.ring();
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.close();
    }
}

impl Metrics {
    /// Names and values.
    pub fn all(&self) -> [(&'static str, u64); 7] {
        [
            ("fetches", self.fetches.load(Relaxed)),
            ("fetched_bytes", self.fetched_bytes.load(Relaxed)),
            ("batches", self.batches.load(Relaxed)),
            ("records", self.records.load(Relaxed)),
            ("record_bytes", self.record_bytes.load(Relaxed)),
            ("corrupt_batches", self.corrupt_batches.load(Relaxed)),
            ("failed_fetches", self.failed_fetches.load(Relaxed)),
        ]
    }
}
