//! One record on its way into a batch.

use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use mqlog_record::{Content, HEADER_LEN};

use super::accumulator::{now_ms, partition, seal, unknown_number, Accumulator, State};
use super::batch::{BatchState, Open, Room, Slot};
use super::memory::Turn;
use super::partitioner::for_key;
use crate::ClientError;

/// The first buffer of a partition that nothing is known of: a thousand of them cost little.
const FIRST_BUFFER: usize = 1024;

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
        let timestamp = record.timestamp.unwrap_or_else(now_ms);
        let put = open_batch(&mut self.state, slot).and_then(|open| {
            let index = open.put(timestamp, &record.content)?;
            Some((&open.state, index))
        });
        let (batch, index) = put.ok_or(Refused::Memory { size })?;
        Ok(Appended {
            batch,
            index,
            timestamp,
        })
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
        let reserved = shared
            .memory
            .reserve(wanted, turn)
            .or_else(|| (wanted > size).then(|| shared.memory.reserve(size, turn))?);
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
        let open = Open::new(serial, topic.name.clone(), slot, acks, room);
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
