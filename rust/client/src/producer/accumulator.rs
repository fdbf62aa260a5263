//! Where records wait: per partition one open batch, and what is sealed until the sender takes it.
//!
//! One lock, held for one record, one chunk of many, or one round of the sender; nobody waits for
//! anything while holding it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use mqlog_protocol::ErrorCode;
use tokio::sync::Notify;

use super::append::Appender;
use super::batch::{Batch, BatchState, Open, Slot};
use super::completions::Completions;
use super::memory::Memory;
use super::metrics::Metrics;
use super::partitioner::Sticky;
use crate::config::ProducerConfig;
use crate::io::lock;
use crate::metadata::Topic as Known;
use crate::recycle::Recycler;
use crate::{random, Bell, ClientError};

/// Buffers that wait to be used again take at most this, or `buffer_memory`: fresh memory costs
/// more than all else that is done to a record.
const KEPT_BUFFERS: usize = 64 << 20;

/// What user threads and the sender share.
#[derive(Debug)]
pub(crate) struct Accumulator {
    pub(crate) config: ProducerConfig,
    pub(crate) memory: Arc<Memory>,
    pub(crate) bell: Bell,
    /// For the sender: there is something to do.
    pub(crate) wake: Notify,
    pub(crate) completions: Arc<Completions>,
    pub(crate) metrics: Metrics,
    pub(super) recycler: Arc<Recycler>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) topics: Vec<Topic>,
    pub(super) numbers: HashMap<Arc<str>, u32>,
    pub(super) last_serial: u64,
    /// Batches that were opened and not completed when last looked at, in order.
    pub(super) incomplete: VecDeque<Arc<BatchState>>,
    /// Those that were opened, in the order in which they have lingered enough.
    pub(super) opened: VecDeque<(Instant, Slot, u64)>,
    /// Those that do not linger any more.
    pub(super) due: Vec<(Slot, u64)>,
    pub(super) sealed: Vec<Batch>,
    /// Whether the sender looks again without being told.
    pub(super) timed: bool,
    pub(super) closed: Option<ClientError>,
}

#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: Arc<str>,
    /// What is wrong with it for good.
    pub(super) error: Option<ErrorCode>,
    pub(super) slots: Vec<Partition>,
    /// Partitions that have a leader.
    pub(super) available: Vec<i32>,
    pub(super) sticky: Sticky,
}

#[derive(Debug, Default)]
pub(super) struct Partition {
    pub(super) open: Option<Open>,
    /// What its last batch took: the next buffer starts with as much.
    pub(super) last_size: usize,
}

impl Accumulator {
    pub(crate) fn new(config: ProducerConfig) -> Accumulator {
        Accumulator {
            memory: Memory::new(config.buffer_memory),
            bell: Bell::default(),
            wake: Notify::new(),
            completions: Arc::default(),
            metrics: Metrics::default(),
            recycler: Recycler::new(KEPT_BUFFERS.min(config.buffer_memory)),
            state: Mutex::default(),
            config,
        }
    }

    /// The number of a topic, and whether it is new.
    pub(crate) fn topic(&self, name: &str) -> (u32, bool) {
        let mut state = lock(&self.state);
        if let Some(number) = state.numbers.get(name) {
            return (*number, false);
        }
        let number = state.topics.len() as u32;
        let name: Arc<str> = name.into();
        state.numbers.insert(name.clone(), number);
        state.topics.push(Topic {
            name,
            error: None,
            slots: Vec::new(),
            available: Vec::new(),
            sticky: Sticky::new(random::number()),
        });
        (number, true)
    }

    /// How many topics have a number.
    pub(crate) fn topic_count(&self) -> usize {
        lock(&self.state).topics.len()
    }

    /// The names of all topics, by number.
    pub(crate) fn names(&self) -> Vec<Arc<str>> {
        let state = lock(&self.state);
        state
            .topics
            .iter()
            .map(|topic| topic.name.clone())
            .collect()
    }

    /// The partitions of a topic: all, and those with a leader. `None` if they are not known yet.
    pub(crate) fn partitions(&self, topic: u32) -> Result<Option<(i32, Vec<i32>)>, ClientError> {
        let state = lock(&self.state);
        if let Some(error) = &state.closed {
            return Err(error.clone());
        }
        let Some(topic) = state.topics.get(topic as usize) else {
            return Err(unknown_number(topic));
        };
        match (topic.slots.len(), topic.error) {
            (0, Some(code)) => Err(ClientError::about(code, &topic.name, -1)),
            (0, None) => Ok(None),
            (count, _) => Ok(Some((count as i32, topic.available.clone()))),
        }
    }

    /// What metadata says of a topic now. Partitions never become fewer under a batch.
    pub(crate) fn learn(&self, name: &str, known: Option<&Known>) {
        let mut state = lock(&self.state);
        let Some(number) = state.numbers.get(name).copied() else {
            return;
        };
        let Some(topic) = state.topics.get_mut(number as usize) else {
            return;
        };
        let Some(known) = known else { return };
        topic.error =
            (!known.error.retriable() && known.error != ErrorCode::None).then_some(known.error);
        let leaders = known.partitions.iter().filter(|one| one.leader >= 0);
        topic.available = leaders.map(|one| one.index).collect();
        let count = known.partitions.iter().map(|one| one.index + 1).max();
        let count = usize::try_from(count.unwrap_or(0)).unwrap_or(0);
        if count > topic.slots.len() {
            topic.slots.resize_with(count, Partition::default);
        }
    }

    /// Bytes of a batch at most, unless a single record takes more.
    #[inline]
    pub(super) fn most(&self) -> usize {
        self.config.batch_size.min(self.config.max_request_size)
    }

    /// Locks it for one or several records.
    pub(crate) fn lock(&self) -> Appender<'_> {
        Appender {
            shared: self,
            state: lock(&self.state),
        }
    }

    /// Lets a batch linger no longer.
    pub(crate) fn make_due(&self, batch: &BatchState) {
        let mut state = lock(&self.state);
        let slot = batch.slot;
        if open_serial(&state, slot) != Some(batch.serial) {
            return;
        }
        let first = state.due.is_empty();
        state.due.push((slot, batch.serial));
        drop(state);
        if first {
            self.wake.notify_one();
        }
    }

    /// Lets no batch linger, and gives the number of the last.
    pub(crate) fn flush(&self) -> u64 {
        let mut state = lock(&self.state);
        let all = std::mem::take(&mut state.opened);
        state
            .due
            .extend(all.iter().map(|(_, slot, serial)| (*slot, *serial)));
        let last = state.last_serial;
        drop(state);
        self.wake.notify_one();
        last
    }

    /// Whether all batches up to number `last` are complete.
    pub(crate) fn is_flushed(&self, last: u64) -> bool {
        let mut state = lock(&self.state);
        forget_complete(&mut state);
        state
            .incomplete
            .front()
            .is_none_or(|first| first.serial > last)
    }

    /// Records whose batches are not complete.
    pub(crate) fn unfinished(&self) -> u64 {
        let mut state = lock(&self.state);
        forget_complete(&mut state);
        let left = state.incomplete.iter().filter(|one| !one.is_complete());
        left.map(|one| u64::from(one.count())).sum()
    }

    /// Takes no more records; the first reason counts.
    pub(crate) fn close(&self, error: ClientError) {
        lock(&self.state).closed.get_or_insert(error);
        self.memory.bell().ring();
        self.bell.ring();
        self.wake.notify_one();
    }

    /// Takes no more records and ends all there are with `error`.
    pub(crate) fn abort(&self, error: &ClientError) {
        self.close(error.clone());
        let (open, sealed, incomplete) = {
            let mut state = lock(&self.state);
            let slots = state.topics.iter_mut().flat_map(|topic| &mut topic.slots);
            let open: Vec<_> = slots.filter_map(|slot| slot.open.take()).collect();
            let sealed = std::mem::take(&mut state.sealed);
            (open, sealed, std::mem::take(&mut state.incomplete))
        };
        for batch in &incomplete {
            batch.fail(error);
        }
        // Memory goes back only here: without the lock.
        drop((open, sealed));
        self.bell.ring();
    }

    /// Why it takes no records any more.
    pub(crate) fn closed(&self) -> Option<ClientError> {
        lock(&self.state).closed.clone()
    }

    // --- For the sender. ---

    /// What was sealed, and which batches are due, since the last call. Also says when to look
    /// again.
    pub(crate) fn collect(&self, now: Instant) -> (Vec<Batch>, Vec<(Slot, u64)>, Option<Instant>) {
        let wanted = self.memory.is_wanted();
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        let mut due = std::mem::take(&mut state.due);
        while let Some((when, slot, serial)) = state.opened.front().copied() {
            let stale = open_serial(state, slot) != Some(serial);
            if !stale && when > now && !wanted {
                break;
            }
            state.opened.pop_front();
            if !stale {
                due.push((slot, serial));
            }
        }
        forget_complete(state);
        let next = state.opened.front().map(|(when, ..)| *when);
        state.timed = next.is_some();
        (std::mem::take(&mut state.sealed), due, next)
    }

    /// Seals the open batch of a slot, if it still is number `serial`.
    pub(crate) fn seal(&self, slot: Slot, serial: u64) -> Option<Batch> {
        let mut state = lock(&self.state);
        if open_serial(&state, slot) != Some(serial) {
            return None;
        }
        seal(&mut state, slot)
    }

    /// Fails open batches that are older than `delivery_timeout`, which only a partition without a
    /// leader or a broker that takes nothing makes them.
    pub(crate) fn expired(&self, oldest: Instant) -> Vec<Batch> {
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        let old: Vec<Slot> = state
            .topics
            .iter()
            .flat_map(|topic| &topic.slots)
            .filter_map(|slot| slot.open.as_ref())
            .filter(|open| open.opened < oldest)
            .map(|open| open.state.slot)
            .collect();
        old.into_iter()
            .filter_map(|slot| seal(state, slot))
            .collect()
    }
}

pub(super) fn unknown_number(number: u32) -> ClientError {
    ClientError::State(format!("topic number {number} was never given"))
}

fn forget_complete(state: &mut State) {
    while state
        .incomplete
        .front()
        .is_some_and(|first| first.is_complete())
    {
        state.incomplete.pop_front();
    }
}

pub(super) fn partition(state: &mut State, slot: Slot) -> Option<&mut Partition> {
    let topic = state.topics.get_mut(slot.topic as usize)?;
    topic.slots.get_mut(usize::try_from(slot.partition).ok()?)
}

fn open_serial(state: &State, slot: Slot) -> Option<u64> {
    let topic = state.topics.get(slot.topic as usize)?;
    let partition = topic.slots.get(usize::try_from(slot.partition).ok()?)?;
    Some(partition.open.as_ref()?.state.serial)
}

pub(super) fn seal(state: &mut State, slot: Slot) -> Option<Batch> {
    let found = partition(state, slot)?;
    let open = found.open.take()?;
    found.last_size = open.size();
    if let Some(topic) = state.topics.get_mut(slot.topic as usize) {
        topic.sticky.leave(slot.partition);
    }
    Some(open.seal())
}

/// Now, in ms since 1970.
#[inline]
pub(crate) fn now_ms() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_sec * 1000 + now.tv_nsec / 1_000_000
}
