//! One record on its way into a batch.

use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use mqlog_record::{Codec, Content, HEADER_LEN};

use super::accumulator::{now_ms, partition, seal, unknown_number, Accumulator, State};
use super::batch::{BatchState, Open, Room, Slot};
use super::memory::Turn;
use super::partitioner::for_key;
use crate::ClientError;

/// The first buffer of a partition that nothing is known of: a thousand of them cost little.
const FIRST_BUFFER: usize = 1024;
/// When there is not room enough for a whole batch: less than this is waited for, or a full
/// producer would send its records one by one.
const LEAST_BUFFER: usize = 16 * 1024;

/// A record on its way in.
#[derive(Debug, Clone, Copy)]
pub struct Append<'a> {
    /// The topic's number.
    pub topic: u32,
    /// The partition, if the caller chose it.
    pub partition: Option<i32>,
    /// -1, 0 or 1.
    pub acks: i16,
    /// In ms; `None` is now.
    pub timestamp: Option<i64>,
    /// Key, value, headers.
    pub content: Content<'a>,
}

/// Where a record went.
#[derive(Debug)]
pub struct Appended<'a> {
    /// Its batch.
    pub batch: &'a Arc<BatchState>,
    /// Its place there.
    pub index: u32,
    /// Its timestamp, in ms.
    pub timestamp: i64,
}

/// Why a record is not in.
#[derive(Debug)]
pub enum Refused {
    /// Memory is full; to be tried again when the bell rang.
    Memory {
        /// Bytes that are missing.
        size: usize,
    },
    /// The topic's partitions are not known yet; to be tried again when the bell rang.
    Metadata,
    /// The topic has no such partition.
    Partition {
        /// How many it has.
        count: i32,
    },
    /// It never will be.
    Error(ClientError),
}

/// The accumulator, locked.
pub(crate) struct Appender<'a> {
    pub(super) shared: &'a Accumulator,
    pub(super) state: MutexGuard<'a, State>,
}

impl Appender<'_> {
    /// Appends one record. `turn` is the caller's place among those who wait for memory.
    #[inline]
    pub(crate) fn append(
        &mut self,
        record: &Append<'_>,
        turn: &mut Turn,
    ) -> Result<Appended<'_>, Refused> {
        let slot = self.ready(record, turn)?;
        let timestamp = record.timestamp.unwrap_or_else(now_ms);
        let full = Refused::Memory { size: 0 };
        let Some(open) = open_batch(&mut self.state, slot) else {
            return Err(full);
        };
        let index = open.put(timestamp, &record.content).ok_or(full)?;
        Ok(Appended {
            batch: &open.state,
            index,
            timestamp,
        })
    }

    /// Appends one record, to be followed by others for as long as they go to the same batch.
    #[inline]
    pub(crate) fn run(&mut self, record: &Append<'_>, turn: &mut Turn) -> Result<Run<'_>, Refused> {
        let slot = self.ready(record, turn)?;
        let (most, full) = (self.shared.most(), Refused::Memory { size: 0 });
        let topic = self.state.topics.get(slot.topic as usize);
        let partitions = topic.map_or(0, |topic| topic.slots.len() as u32);
        let Some(open) = open_batch(&mut self.state, slot) else {
            return Err(full);
        };
        let start = open.size();
        let timestamp = record.timestamp.unwrap_or_else(now_ms);
        let first = open.put(timestamp, &record.content).ok_or(full)?;
        Ok(Run {
            open,
            first,
            count: 1,
            start,
            most,
            partitions,
            keyless: record.partition.is_none() && record.content.key.is_none(),
        })
    }

    /// The slot of a record, with an open batch that has room for it.
    #[inline]
    fn ready(&mut self, record: &Append<'_>, turn: &mut Turn) -> Result<Slot, Refused> {
        let size = record.content.size_bound();
        let mut slot = self.slot(record)?;
        if !self.fits(slot, record.acks, size) {
            self.check_size(record.topic, size)?;
            // A record without a key moves on to another partition when it fills a batch.
            if self.seal(slot) {
                slot = self.slot(record)?;
            }
            if !self.fits(slot, record.acks, size) {
                self.open(slot, record.acks, size, turn)?;
            }
        }
        Ok(slot)
    }

    /// Whether `size` bytes go into the open batch of a slot, whose buffer may grow for them.
    #[inline]
    fn fits(&mut self, slot: Slot, acks: i16, size: usize) -> bool {
        let most = self.shared.most();
        let Some(open) = open_batch(&mut self.state, slot) else {
            return false;
        };
        let whole = open.size().saturating_add(size);
        if open.acks != acks || whole > most {
            return false;
        }
        let needed = whole - HEADER_LEN;
        needed <= open.capacity() || open.grow(&self.shared.memory, larger(needed, most))
    }

    /// Seals the open batch of a slot, if there is one.
    fn seal(&mut self, slot: Slot) -> bool {
        let Some(batch) = seal(&mut self.state, slot) else {
            return false;
        };
        let first = self.state.sealed.is_empty();
        self.state.sealed.push(batch);
        if first {
            self.shared.wake.notify_one();
        }
        true
    }

    #[inline]
    fn slot(&mut self, record: &Append<'_>) -> Result<Slot, Refused> {
        let state = &mut *self.state;
        if let Some(error) = &state.closed {
            return Err(Refused::Error(error.clone()));
        }
        let Some(topic) = state.topics.get_mut(record.topic as usize) else {
            return Err(Refused::Error(unknown_number(record.topic)));
        };
        let count = topic.slots.len() as i32;
        if count == 0 {
            return Err(match topic.error {
                Some(code) => Refused::Error(ClientError::about(code, &topic.name, -1)),
                None => Refused::Metadata,
            });
        }
        let partition = match (record.partition, record.content.key) {
            (Some(partition), _) if (0..count).contains(&partition) => partition,
            (Some(_), _) => return Err(Refused::Partition { count }),
            (None, Some(key)) => for_key(key, count as u32) as i32,
            (None, None) => topic.sticky.partition(&topic.available, count),
        };
        Ok(Slot {
            topic: record.topic,
            partition,
        })
    }

    /// Opens a batch with room for `size` bytes, in place of what the slot may have open.
    #[cold]
    fn open(&mut self, slot: Slot, acks: i16, size: usize, turn: &mut Turn) -> Result<(), Refused> {
        self.seal(slot);
        let (shared, config) = (self.shared, &self.shared.config);
        let most = shared.most();
        let last = partition(&mut self.state, slot).map_or(0, |slot| slot.last_size);
        let wanted = larger(size.max(last.min(most)), most).max(FIRST_BUFFER.min(most));
        let reserved = shared.memory.reserve(wanted, turn).or_else(|| {
            shared
                .memory
                .reserve(size.max(wanted.min(LEAST_BUFFER)), turn)
        });
        let Some(reserved) = reserved else {
            // Whatever is open leaves, so that there will be room.
            shared.wake.notify_one();
            return Err(Refused::Memory { size });
        };
        let room = Room::new(&shared.recycler, reserved.bytes(), reserved);
        let state = &mut *self.state;
        state.last_serial += 1;
        let serial = state.last_serial;
        let Some(topic) = state.topics.get_mut(slot.topic as usize) else {
            return Err(Refused::Metadata);
        };
        let sums = config.codec == Codec::None;
        let open = Open::new(serial, topic.name.clone(), slot, acks, room, sums);
        state.incomplete.push_back(open.state.clone());
        state
            .opened
            .push_back((open.opened + config.linger, slot, serial));
        if let Some(slot) = topic.slots.get_mut(slot.partition as usize) {
            slot.open = Some(open);
        }
        if !std::mem::replace(&mut state.timed, true) || config.linger == Duration::ZERO {
            shared.wake.notify_one();
        }
        Ok(())
    }

    fn check_size(&self, topic: u32, size: usize) -> Result<(), Refused> {
        let config = &self.shared.config;
        let whole = size.saturating_add(HEADER_LEN);
        let (limit, setting) = match () {
            () if whole > config.max_request_size => (config.max_request_size, "max_request_size"),
            () if size > config.buffer_memory => (config.buffer_memory, "buffer_memory"),
            () => return Ok(()),
        };
        Err(Refused::Error(ClientError::RecordTooLarge {
            topic: self
                .state
                .topics
                .get(topic as usize)
                .map_or_else(|| "".into(), |topic| topic.name.clone()),
            size: whole,
            limit,
            setting,
            hint: format!("raise {setting}, and max.message.bytes of the topic if need be"),
        }))
    }
}

#[inline]
fn open_batch(state: &mut State, slot: Slot) -> Option<&mut Open> {
    partition(state, slot)?.open.as_mut()
}

/// A buffer for `needed` bytes that will be more: a power of two, as long as that is not more than
/// a batch can use.
fn larger(needed: usize, most: usize) -> usize {
    let doubled = needed.checked_next_power_of_two().unwrap_or(needed);
    doubled.min(most).max(needed)
}

/// Records on their way into one batch.
pub(crate) struct Run<'a> {
    open: &'a mut Open,
    first: u32,
    count: u32,
    start: usize,
    most: usize,
    partitions: u32,
    keyless: bool,
}

impl<'a> Run<'a> {
    /// Appends one more record, if it goes to this batch and fits as the batch is.
    #[inline]
    pub(crate) fn put(&mut self, record: &Append<'_>) -> bool {
        let mine = match (record.partition, record.content.key) {
            (Some(partition), _) => partition == self.open.state.slot.partition,
            (None, Some(key)) => {
                for_key(key, self.partitions) as i32 == self.open.state.slot.partition
            }
            (None, None) => self.keyless,
        };
        let whole = self.open.size().saturating_add(record.content.size_bound());
        if !mine || record.acks != self.open.acks || whole > self.most {
            return false;
        }
        let put = self
            .open
            .put(record.timestamp.unwrap_or(0), &record.content);
        self.count += u32::from(put.is_some());
        put.is_some()
    }

    /// Bytes appended so far.
    pub(crate) fn bytes(&self) -> usize {
        self.open.size() - self.start
    }

    /// The batch, the place of the first record there, and how many they are.
    pub(crate) fn end(self) -> (&'a Arc<BatchState>, u32, u32) {
        (&self.open.state, self.first, self.count)
    }
}
