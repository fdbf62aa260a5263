//! A batch that is too large for the broker becomes two.

use std::sync::atomic::AtomicUsize;
use std::sync::Arc;

use mqlog_record::{put_record, Codec, Content};

use super::batch::{counted, pack, Batch, BatchState, Whole};
use super::memory::Memory;

impl Batch {
    /// Two batches of half the records each, where it was, with its numbers; futures follow.
    /// `None` if it has one record only, or cannot be read again.
    pub(crate) fn split(
        &self,
        memory: &Arc<Memory>,
        level: Option<i32>,
        limit: usize,
    ) -> Option<[Batch; 2]> {
        let half = self.count / 2;
        if half == 0 {
            return None;
        }
        let whole = [&self.header().ok()?[..], &self.records].concat();
        let batch = mqlog_record::Batches::new(&whole).next()?.ok()?;
        let open = batch.open(limit).ok()?;
        let parts_left = Arc::new(AtomicUsize::new(2));
        let mut parts = [0, half].map(|first| {
            let whole = Some(Whole {
                state: self.state.clone(),
                parts_left: parts_left.clone(),
            });
            let state = &self.state;
            let part = BatchState::new(state.serial, state.topic.clone(), state.slot, whole);
            Part::new(self, part, first)
        });
        for (index, record) in open.records().enumerate() {
            let record = record.ok()?;
            parts[usize::from(index as i32 >= half)].put(&record)?;
        }
        let [first, second] = parts;
        let made = [first.seal(memory, level)?, second.seal(memory, level)?];
        // A batch that failed for its time-out may still be on its way, and stays failed.
        if let Some(outcome) = self.state.outcome.get() {
            made.iter()
                .for_each(|part| _ = part.state.complete(outcome.clone()));
        }
        let states = vec![
            (0, made[0].state.clone()),
            (half as u32, made[1].state.clone()),
        ];
        self.state.parts.set(states).ok()?;
        Some(made)
    }
}

/// One half of a batch while it is split.
struct Part<'a> {
    of: &'a Batch,
    state: Arc<BatchState>,
    first: i32,
    records: Vec<u8>,
    count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl<'a> Part<'a> {
    fn new(of: &'a Batch, state: Arc<BatchState>, first: i32) -> Part<'a> {
        Part {
            of,
            state,
            first,
            records: Vec::new(),
            count: 0,
            base_timestamp: 0,
            max_timestamp: i64::MIN,
        }
    }

    fn put(&mut self, record: &mqlog_record::Record<'_>) -> Option<()> {
        let headers: Vec<_> = record.headers().collect();
        let content = Content {
            key: record.key,
            value: record.value,
            headers: &headers,
        };
        if self.count == 0 {
            self.base_timestamp = record.timestamp;
        }
        let delta = record.timestamp.wrapping_sub(self.base_timestamp);
        let start = self.records.len();
        self.records.resize(start + content.size_bound(), 0);
        let room = self.records.get_mut(start..)?;
        let written = put_record(room, self.count, delta, &content)?;
        self.records.truncate(start + written);
        self.max_timestamp = self.max_timestamp.max(record.timestamp);
        self.count += 1;
        Some(())
    }

    fn seal(self, memory: &Arc<Memory>, level: Option<i32>) -> Option<Batch> {
        let codec = self.of.codec;
        let records = match codec {
            Codec::None => counted(memory, self.records),
            codec => pack(codec, level, &self.records, memory).ok()?,
        };
        Some(Batch {
            state: self.state,
            acks: self.of.acks,
            opened: self.of.opened,
            records,
            crc: None,
            codec,
            count: self.count,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            numbers: self.of.numbers.map(|numbers| numbers.plus(self.first)),
            place: 0,
            attempts: self.of.attempts,
            flight: None,
            unknown: false,
            proven: false,
            last_error: None,
        })
    }
}
