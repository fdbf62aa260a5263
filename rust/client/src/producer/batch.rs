//! A batch from its first record to its end, and what its futures learn of it.

use std::sync::atomic::{
    AtomicU32, AtomicUsize,
    Ordering::{AcqRel, Relaxed},
};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use bytes::Bytes;
use mqlog_record::{
    compress, crc32c, put_record, BatchHeader, Codec, Content, RunningCrc, HEADER_LEN,
};

use super::completions::Completions;
use super::memory::{Memory, Reserved};
use crate::io::lock;
use crate::recycle::{Buffer, Recycler};
use crate::ClientError;

/// A partition, by the producer's own number of its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slot {
    /// See `Producer::topic`.
    pub topic: u32,
    /// The partition.
    pub partition: i32,
}

/// How a batch ended.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It is in the log.
    Written {
        /// The offset of the first record; -1 if the broker did not say.
        base_offset: i64,
        /// The time the broker gave all records, or -1: they keep theirs.
        log_append_time: i64,
    },
    /// It is not, or nobody knows.
    Failed(Arc<Failure>),
}

/// Why a batch failed.
#[derive(Debug)]
pub struct Failure {
    /// Why.
    pub error: ClientError,
    /// Records that the broker refused, by their place, if it named any; the others are refused
    /// with them.
    pub records: Vec<(i32, String)>,
}

impl Failure {
    /// The error of one record.
    pub fn of(&self, index: u32) -> ClientError {
        let ClientError::Broker {
            code,
            topic,
            partition,
            ..
        } = &self.error
        else {
            return self.error.clone();
        };
        if self.records.is_empty() {
            return self.error.clone();
        }
        let named = self.records.iter().find(|(at, _)| *at as u32 == index);
        ClientError::Broker {
            code: *code,
            topic: topic.clone(),
            partition: *partition,
            message: match named {
                Some((_, why)) => why.clone(),
                None => format!(
                    "the batch of this record was refused for {} other of its records",
                    self.records.len()
                ),
            },
        }
    }
}

/// What the futures of a batch share.
#[derive(Debug)]
pub struct BatchState {
    /// Batches are numbered in the order in which they were opened.
    pub serial: u64,
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition.
    pub slot: Slot,
    count: AtomicU32,
    pub(super) outcome: OnceLock<Outcome>,
    pub(super) parts: OnceLock<Vec<(u32, Arc<BatchState>)>>,
    whole: Option<Whole>,
    watchers: Mutex<Vec<(Arc<Completions>, u64)>>,
}

/// What a part of a split batch knows of it.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) state: Arc<BatchState>,
    pub(super) parts_left: Arc<AtomicUsize>,
}

impl BatchState {
    pub(super) fn new(
        serial: u64,
        topic: Arc<str>,
        slot: Slot,
        whole: Option<Whole>,
    ) -> Arc<BatchState> {
        Arc::new(BatchState {
            serial,
            topic,
            slot,
            count: AtomicU32::new(0),
            outcome: OnceLock::new(),
            parts: OnceLock::new(),
            whole,
            watchers: Mutex::default(),
        })
    }

    /// Records in it so far.
    pub fn count(&self) -> u32 {
        self.count.load(Relaxed)
    }

    /// How the batch of record `index` ended, with the record's place in that batch; `None` before
    /// its end. The two differ from this batch if it was split.
    pub fn outcome(&self, index: u32) -> Option<(&Outcome, u32)> {
        let Some(parts) = self.parts.get() else {
            return self.outcome.get().map(|outcome| (outcome, index));
        };
        let at = parts.partition_point(|(first, _)| *first <= index);
        let (first, part) = parts.get(at.checked_sub(1)?)?;
        part.outcome(index - first)
    }

    /// Whether all of its records have an end.
    pub fn is_complete(&self) -> bool {
        match self.parts.get() {
            Some(parts) => parts.iter().all(|(_, part)| part.is_complete()),
            None => self.outcome.get().is_some(),
        }
    }

    /// Puts `token` into the queue when the batch is complete. False if it is already: then
    /// nothing is put.
    pub fn watch(&self, queue: &Arc<Completions>, token: u64) -> bool {
        let mut watchers = lock(&self.watchers);
        if self.is_complete() {
            return false;
        }
        watchers.push((queue.clone(), token));
        true
    }

    /// Ends it; a second end is nothing. The producer's bell is the caller's to ring.
    pub(crate) fn complete(&self, outcome: Outcome) -> bool {
        if self.outcome.set(outcome).is_err() {
            return false;
        }
        self.ended();
        true
    }

    /// Tells whoever watches it, and what it is a part of if that was the last part.
    fn ended(&self) {
        self.tell();
        if let Some(whole) = &self.whole {
            if whole.parts_left.fetch_sub(1, AcqRel) == 1 {
                whole.state.ended();
            }
        }
    }

    /// Ends it with an error of all its records.
    pub(crate) fn fail(&self, error: &ClientError) -> bool {
        let failure = Failure {
            error: error.clone(),
            records: Vec::new(),
        };
        self.complete(Outcome::Failed(Arc::new(failure)))
    }

    fn tell(&self) {
        // Whoever comes later sees that it is complete, under the same lock.
        let watchers = std::mem::take(&mut *lock(&self.watchers));
        for (queue, token) in watchers {
            queue.put(token);
        }
    }

    /// Whether it has ended by itself, split or not.
    pub(crate) fn is_over(&self) -> bool {
        self.outcome.get().is_some()
    }
}

/// A buffer, and the memory counted for it until its last slice goes.
#[derive(Debug)]
pub(crate) struct Room {
    buffer: Buffer,
    reserved: Reserved,
}

impl Room {
    pub(crate) fn new(recycler: &Arc<Recycler>, size: usize, reserved: Reserved) -> Room {
        Room {
            buffer: recycler.take(size),
            reserved,
        }
    }

    fn len(&self) -> usize {
        self.buffer.len()
    }
}

impl AsRef<[u8]> for Room {
    fn as_ref(&self) -> &[u8] {
        self.buffer.as_ref()
    }
}

/// Compressed records, and the memory counted for them.
struct Packed {
    bytes: Vec<u8>,
    _reserved: Reserved,
}

impl AsRef<[u8]> for Packed {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A batch that takes records.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) state: Arc<BatchState>,
    pub(crate) acks: i16,
    pub(crate) opened: Instant,
    room: Room,
    at: usize,
    count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    sum: Option<Sum>,
}

/// The checksum of records that go out as they are, made while the caches still have them.
#[derive(Debug, Default)]
struct Sum {
    crc: RunningCrc,
    at: usize,
}

/// Bytes that are summed at once: they fit into the nearest cache.
const SUM_STEP: usize = 16 * 1024;

impl Open {
    /// `sums`: its records are not going to be compressed.
    pub(crate) fn new(
        serial: u64,
        topic: Arc<str>,
        slot: Slot,
        acks: i16,
        room: Room,
        sums: bool,
    ) -> Open {
        Open {
            state: BatchState::new(serial, topic, slot, None),
            acks,
            opened: Instant::now(),
            room,
            at: 0,
            count: 0,
            base_timestamp: 0,
            max_timestamp: i64::MIN,
            sum: sums.then(Sum::default),
        }
    }

    /// Appends a record and gives its place; `None` if the buffer has no room for it.
    #[inline]
    pub(crate) fn put(&mut self, timestamp: i64, content: &Content<'_>) -> Option<u32> {
        if self.count == 0 {
            self.base_timestamp = timestamp;
        }
        let delta = timestamp.wrapping_sub(self.base_timestamp);
        let room = self.room.buffer.as_mut().get_mut(self.at..)?;
        self.at += put_record(room, self.count, delta, content)?;
        self.max_timestamp = self.max_timestamp.max(timestamp);
        let index = self.count as u32;
        self.count += 1;
        self.state.count.store(index + 1, Relaxed);
        if let Some(sum) = &mut self.sum {
            if self.at - sum.at >= SUM_STEP {
                sum.go_on(self.room.as_ref(), self.at);
            }
        }
        Some(index)
    }

    /// Bytes of the batch, header included.
    pub(crate) fn size(&self) -> usize {
        HEADER_LEN + self.at
    }

    /// Bytes its buffer has.
    pub(crate) fn capacity(&self) -> usize {
        self.room.len()
    }

    /// Makes the buffer `size` bytes, if memory allows.
    pub(crate) fn grow(&mut self, memory: &Memory, size: usize) -> bool {
        let more = size.saturating_sub(self.room.len());
        if !memory.extend(&mut self.room.reserved, more) {
            return false;
        }
        self.room.buffer = std::mem::take(&mut self.room.buffer).grown(size);
        true
    }

    /// Takes no more records.
    pub(crate) fn seal(self) -> Batch {
        let size = self.at;
        let crc = self.sum.map(|mut sum| {
            sum.go_on(self.room.as_ref(), size);
            sum.crc.value()
        });
        Batch {
            state: self.state,
            acks: self.acks,
            opened: self.opened,
            crc,
            records: Bytes::from_owner(self.room).slice(..size),
            codec: Codec::None,
            count: self.count,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            numbers: None,
            place: 0,
            attempts: 0,
            flight: None,
            unknown: false,
            proven: false,
            last_error: None,
        }
    }
}

impl Sum {
    fn go_on(&mut self, records: &[u8], to: usize) {
        self.crc
            .update(records.get(self.at..to).unwrap_or_default());
        self.at = to;
    }
}

/// What makes a batch known to the broker when it comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Numbers {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
    pub(crate) sequence: i32,
}

impl Numbers {
    /// Those of a record `by` places later. After the largest number comes 0.
    pub(crate) fn plus(self, by: i32) -> Numbers {
        let sequence = self.sequence.wrapping_add(by) & i32::MAX;
        Numbers { sequence, ..self }
    }
}

/// A batch that takes no more records.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) state: Arc<BatchState>,
    pub(crate) acks: i16,
    pub(crate) opened: Instant,
    pub(crate) records: Bytes,
    /// Of the records, if it is known.
    pub(crate) crc: Option<u32>,
    pub(crate) codec: Codec,
    pub(crate) count: i32,
    pub(super) base_timestamp: i64,
    pub(super) max_timestamp: i64,
    /// Given when it is first sent.
    pub(crate) numbers: Option<Numbers>,
    /// Which of its partition's batches it is, as the broker counts them.
    pub(crate) place: u64,
    pub(crate) attempts: u32,
    /// The request that carries it.
    pub(crate) flight: Option<u64>,
    /// Whether an attempt ended so that the broker may have it.
    pub(crate) unknown: bool,
    /// A later batch of its epoch is in the log, so that it must be there as well.
    pub(crate) proven: bool,
    pub(crate) last_error: Option<ClientError>,
}

impl Batch {
    /// Bytes it takes in a request.
    pub(crate) fn size(&self) -> usize {
        HEADER_LEN + self.records.len()
    }

    /// The bytes before its records, with the checksum of all.
    pub(crate) fn header(&self) -> Result<[u8; HEADER_LEN], ClientError> {
        let numbers = self.numbers.unwrap_or(Numbers {
            id: -1,
            epoch: -1,
            sequence: -1,
        });
        let header = BatchHeader {
            attributes: self.codec as i16,
            last_offset_delta: self.count - 1,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: numbers.id,
            producer_epoch: numbers.epoch,
            base_sequence: numbers.sequence,
            records_count: self.count,
            ..BatchHeader::EMPTY
        };
        let crc = self.crc.unwrap_or_else(|| crc32c(&self.records));
        let sealed = header.seal(self.records.len(), crc);
        sealed.map_err(|error| ClientError::State(error.to_string()))
    }
}

pub(super) fn counted(memory: &Arc<Memory>, bytes: Vec<u8>) -> Bytes {
    let reserved = memory.force(bytes.capacity());
    Bytes::from_owner(Packed {
        bytes,
        _reserved: reserved,
    })
}

/// Records, compressed; counted even beyond the limit, as they take the place of larger ones.
pub(crate) fn pack(
    codec: Codec,
    level: Option<i32>,
    records: &[u8],
    memory: &Arc<Memory>,
) -> Result<Bytes, ClientError> {
    let mut bytes = Vec::with_capacity(records.len() / 2 + 64);
    compress(codec, level, records, &mut bytes)
        .map_err(|error| ClientError::State(error.to_string()))?;
    bytes.shrink_to_fit();
    Ok(counted(memory, bytes))
}
