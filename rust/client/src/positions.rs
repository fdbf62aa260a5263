//! The partitions that a consumer reads: where it is in each, who is asked, what is known of them.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::Instant;

use crate::metadata::Metadata;
use crate::ClientError;

/// Names one assignment of a partition since its last seek: what was fetched for another is stale.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Handle {
    slot: usize,
    generation: u64,
}

/// What may be done with a partition.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Phase {
    /// It has no offset: a seek is awaited. The offset that the broker did not have, if any.
    Unset(Option<i64>),
    /// Whether the offset is still in the leader's log is being found out.
    Validating,
    /// It is fetched.
    Fetching,
    /// What was fetched ends in something that the reader must come to first.
    Ending,
    /// Nothing goes on until a seek.
    Stopped(ClientError),
}

/// One partition.
#[derive(Debug)]
pub(crate) struct Assigned {
    pub topic: Arc<str>,
    pub partition: i32,
    pub handle: Handle,
    /// What the user has not got yet begins here; of no meaning while `Unset`.
    pub position: i64,
    /// Leader epoch of what lies before `position`; -1 if unknown.
    pub epoch: i32,
    /// The offset after the last chunk that was moved out, and after what was skipped since.
    pub given: i64,
    pub read: i64,
    /// The offset that is fetched next, and the leader epoch of the batch before it.
    pub fetch_offset: i64,
    pub fetch_epoch: i32,
    /// A batch at this offset was damaged: it is fetched once more before that is believed.
    pub suspect: Option<i64>,
    pub phase: Phase,
    pub paused: bool,
    pub leader: Option<i32>,
    pub leader_epoch: i32,
    /// What was fetched is known to be in the log of the leader of this epoch; -1 if of none.
    pub confirmed: i32,
    /// A closer replica to ask, until when.
    pub replica: Option<(i32, Instant)>,
    /// Not asked for before.
    pub not_before: Option<Instant>,
    pub failures: u32,
    pub marks: Marks,
}

/// What brokers last told of a partition; -1 is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    /// Up to where consumers may read.
    pub high_watermark: i64,
    /// Up to where every transaction is decided.
    pub last_stable: i64,
    /// The first offset.
    pub log_start: i64,
}

const UNKNOWN: Marks = Marks {
    high_watermark: -1,
    last_stable: -1,
    log_start: -1,
};

/// What a user may know of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The offset that is given out next; `None` without one.
    pub position: Option<i64>,
    /// Leader epoch of what lies before it; -1 if unknown.
    pub epoch: i32,
    /// Whether it is paused.
    pub paused: bool,
    /// What brokers last told.
    pub marks: Marks,
}

/// A partition to begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Its topic.
    pub topic: Arc<str>,
    /// Its number.
    pub partition: i32,
    /// Where to begin; `None` waits for a seek.
    pub offset: Option<i64>,
    /// Leader epoch of what lies before; -1 if unknown.
    pub epoch: i32,
}

/// What needs a decision.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A partition has no offset: seek.
    Unset {
        /// Its topic.
        topic: Arc<str>,
        /// Its partition.
        partition: i32,
        /// The offset that the broker did not have; `None` if there never was one.
        out_of_range: Option<i64>,
    },
    /// The leader changed: find out whether it has what was fetched, then say so
    /// (`validated`, `truncated`), or seek.
    Validate {
        /// Its topic.
        topic: Arc<str>,
        /// Its partition.
        partition: i32,
        /// Up to where it was fetched.
        offset: i64,
        /// Leader epoch of what lies before that.
        epoch: i32,
        /// The leader's epoch.
        leader_epoch: i32,
    },
    /// Something to raise.
    Error {
        /// What.
        error: ClientError,
        /// About this topic; empty if none.
        topic: Arc<str>,
        /// And partition; -1 if none.
        partition: i32,
        /// At this offset; -1 if none.
        offset: i64,
    },
}

impl Assigned {
    fn begin(&mut self, offset: Option<i64>, epoch: i32) {
        self.position = offset.unwrap_or(-1);
        self.epoch = epoch;
        self.rewind();
        self.phase = match offset {
            Some(_) => Phase::Fetching,
            None => Phase::Unset(None),
        };
        self.confirmed = -1;
        self.not_before = None;
        self.failures = 0;
    }

    /// All that was read ahead of the user is read again.
    fn rewind(&mut self) {
        (self.given, self.read, self.fetch_offset) = (self.position, self.position, self.position);
        self.fetch_epoch = self.epoch;
        self.suspect = None;
    }

    /// The reader came to `next`, with a chunk or without.
    pub fn reached(&mut self, next: i64, chunk: bool) {
        // What nobody sees moves the position too, once all before it was handed over.
        if !chunk && self.position == self.given {
            (self.position, self.given) = (next, next);
        }
        if chunk {
            self.given = next;
        }
        self.read = next;
    }

    /// The user got everything before `offset`.
    pub fn advance(&mut self, offset: i64, epoch: i32) {
        self.epoch = epoch;
        self.position = offset;
        if offset == self.given {
            self.position = self.read;
            self.given = self.read;
        }
    }

    /// Whom to ask: the closer replica, or the leader.
    pub fn node(&self, now: Instant) -> Option<i32> {
        match self.replica {
            Some((node, until)) if now < until => Some(node),
            _ => self.leader,
        }
    }

    pub fn facts(&self) -> Facts {
        let position = (!matches!(self.phase, Phase::Unset(_))).then_some(self.position);
        Facts {
            position,
            epoch: self.epoch,
            paused: self.paused,
            marks: self.marks,
        }
    }

    /// What needs a decision about it.
    pub fn event(&self) -> Option<Event> {
        let (topic, partition) = (self.topic.clone(), self.partition);
        match &self.phase {
            Phase::Unset(out_of_range) => Some(Event::Unset {
                topic,
                partition,
                out_of_range: *out_of_range,
            }),
            Phase::Validating => Some(Event::Validate {
                topic,
                partition,
                offset: self.fetch_offset,
                epoch: self.fetch_epoch,
                leader_epoch: self.leader_epoch,
            }),
            Phase::Stopped(error) if !self.paused => Some(Event::Error {
                error: error.clone(),
                topic,
                partition,
                offset: self.position,
            }),
            _ => None,
        }
    }

    /// What was fetched last came from an older leader.
    fn is_doubtful(&self) -> bool {
        self.fetch_epoch >= 0 && self.fetch_epoch.max(self.confirmed) < self.leader_epoch
    }
}

/// All assigned partitions.
#[derive(Debug, Default)]
pub(crate) struct Positions {
    slots: Vec<Option<Assigned>>,
    index: HashMap<Arc<str>, HashMap<i32, usize>>,
    generations: u64,
}

impl Positions {
    pub fn iter(&self) -> impl Iterator<Item = &Assigned> {
        self.slots.iter().flatten()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Assigned> {
        self.slots.iter_mut().flatten()
    }

    /// The partition, if nobody moved it since the handle was given.
    pub fn get(&mut self, handle: Handle) -> Option<&mut Assigned> {
        let found = self.slots.get_mut(handle.slot)?.as_mut()?;
        (found.handle == handle).then_some(found)
    }

    /// Whether what was fetched for a handle may be read.
    pub fn is_readable(&self, handle: Handle) -> Readable {
        match self.slots.get(handle.slot).and_then(Option::as_ref) {
            Some(found) if found.handle == handle && found.paused => Readable::Paused,
            Some(found) if found.handle == handle => Readable::Yes,
            _ => Readable::Stale,
        }
    }

    pub fn find(&self, topic: &str, partition: i32) -> Option<&Assigned> {
        let slot = *self.index.get(topic)?.get(&partition)?;
        self.slots.get(slot)?.as_ref()
    }

    pub fn find_mut(&mut self, topic: &str, partition: i32) -> Option<&mut Assigned> {
        let slot = *self.index.get(topic)?.get(&partition)?;
        self.slots.get_mut(slot)?.as_mut()
    }

    /// Adds a partition; one that is there already goes on as it is.
    pub fn add(&mut self, start: Start) {
        if self.find(&start.topic, start.partition).is_some() {
            return;
        }
        let slot = match self.slots.iter().position(Option::is_none) {
            Some(free) => free,
            None => {
                self.slots.push(None);
                self.slots.len() - 1
            }
        };
        let mut one = Assigned {
            topic: start.topic.clone(),
            partition: start.partition,
            handle: self.handle(slot),
            position: -1,
            epoch: -1,
            given: -1,
            read: -1,
            fetch_offset: -1,
            fetch_epoch: -1,
            suspect: None,
            phase: Phase::Unset(None),
            paused: false,
            leader: None,
            leader_epoch: -1,
            confirmed: -1,
            replica: None,
            not_before: None,
            failures: 0,
            marks: UNKNOWN,
        };
        one.begin(start.offset, start.epoch);
        if let Some(room) = self.slots.get_mut(slot) {
            *room = Some(one);
        }
        let partitions = self.index.entry(start.topic).or_default();
        partitions.insert(start.partition, slot);
    }

    pub fn remove(&mut self, topic: &str, partition: i32) -> bool {
        let Some(partitions) = self.index.get_mut(topic) else {
            return false;
        };
        let Some(slot) = partitions.remove(&partition) else {
            return false;
        };
        if partitions.is_empty() {
            self.index.remove(topic);
        }
        if let Some(room) = self.slots.get_mut(slot) {
            *room = None;
        }
        true
    }

    /// Makes these all there are: the others go, new ones begin.
    pub fn assign(&mut self, starts: Vec<Start>) {
        let mut wanted: HashMap<&str, Vec<i32>> = HashMap::new();
        for start in &starts {
            wanted
                .entry(&start.topic)
                .or_default()
                .push(start.partition);
        }
        let gone: Vec<_> = self
            .iter()
            .filter(|one| {
                let kept = wanted.get(&*one.topic);
                !kept.is_some_and(|kept| kept.contains(&one.partition))
            })
            .map(|one| (one.topic.clone(), one.partition))
            .collect();
        for (topic, partition) in gone {
            self.remove(&topic, partition);
        }
        for start in starts {
            self.add(start);
        }
    }

    /// Moves a partition; without an offset it waits for one. False if it is not assigned.
    pub fn seek(&mut self, topic: &str, partition: i32, offset: Option<i64>, epoch: i32) -> bool {
        self.renew(topic, partition, |one| one.begin(offset, epoch))
    }

    /// Goes on after a validation that found nothing wrong.
    pub fn validated(&mut self, topic: &str, partition: i32) -> bool {
        match self.find_mut(topic, partition) {
            Some(one) if one.phase == Phase::Validating => {
                one.phase = Phase::Fetching;
                one.confirmed = one.leader_epoch;
                true
            }
            _ => false,
        }
    }

    /// What was fetched for it so far becomes stale, then `change` is made.
    fn renew(&mut self, topic: &str, partition: i32, change: impl FnOnce(&mut Assigned)) -> bool {
        let slot = self
            .index
            .get(topic)
            .and_then(|found| found.get(&partition));
        let Some(slot) = slot.copied() else {
            return false;
        };
        let handle = self.handle(slot);
        if let Some(one) = self.slots.get_mut(slot).and_then(Option::as_mut) {
            one.handle = handle;
            change(one);
        }
        true
    }

    fn handle(&mut self, slot: usize) -> Handle {
        self.generations += 1;
        Handle {
            slot,
            generation: self.generations,
        }
    }

    /// After a validation that found the leader's log to end at `end`, below what was fetched.
    /// What was read ahead is dropped; if the user has got more than that, the partition waits for
    /// a seek, and that is said by `true`.
    pub fn truncated(&mut self, topic: &str, partition: i32, end: i64) -> bool {
        let beyond = |one: &Assigned| one.phase == Phase::Validating && one.position > end;
        if self.find(topic, partition).is_some_and(beyond) {
            return true;
        }
        let leader = self.find(topic, partition).map(|one| one.leader_epoch);
        self.restart(topic, partition);
        if let Some(one) = self.find_mut(topic, partition) {
            one.confirmed = leader.unwrap_or(-1);
            one.phase = Phase::Fetching;
        }
        false
    }

    /// What was read ahead of the user is dropped and fetched again.
    pub fn restart(&mut self, topic: &str, partition: i32) {
        self.renew(topic, partition, |one| {
            one.rewind();
            if one.phase != Phase::Validating {
                one.phase = Phase::Fetching;
            }
        });
    }

    /// Takes over who leads what. Says whether positions must be validated, and whether a
    /// partition has no leader.
    pub fn lead(&mut self, metadata: &Metadata) -> (bool, bool) {
        let mut missing = false;
        for one in self.iter_mut() {
            let leader = metadata.leader(&one.topic, one.partition);
            let node = leader.map(|(node, _)| node);
            if node != one.leader {
                one.leader = node;
                one.replica = None;
                one.not_before = None;
            }
            missing |= node.is_none();
            one.leader_epoch = leader.map_or(one.leader_epoch, |(_, epoch)| epoch);
        }
        (self.doubts(), missing)
    }

    /// Stops fetching every partition that a new leader raises a doubt about, and says whether
    /// there is one.
    pub fn doubts(&mut self) -> bool {
        let mut found = false;
        for one in self.iter_mut() {
            if one.phase == Phase::Fetching && one.leader.is_some() && one.is_doubtful() {
                one.phase = Phase::Validating;
                found = true;
            }
        }
        found
    }
}

/// Whether something fetched may be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readable {
    Yes,
    /// Later, perhaps.
    Paused,
    /// Never again.
    Stale,
}

#[cfg(test)]
mod tests;
