//! What was fetched and waits to be read: whole batches, in the order they arrived.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use mqlog_protocol::fetch_response::AbortedTransaction;
use mqlog_record::{peek_size, Batch, BatchHeader, Batches, Marker};

use crate::budget::Pin;
use crate::positions::{Handle, Positions, Readable};
use crate::ClientError;

/// One partition's part of one answer.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub handle: Handle,
    pub topic: Arc<str>,
    pub partition: i32,
    /// Whole batches, each of them checked as far as a batch can be without its records.
    pub records: Bytes,
    /// Where the batch to be read next begins.
    pub at: usize,
    pub aborted: Aborted,
    /// What comes after the records.
    pub end: Option<End>,
    /// Keeps the memory counted that the records pin.
    pub pin: Option<Arc<Pin>>,
}

/// What the reader comes to after the records before it.
#[derive(Debug)]
pub(crate) enum End {
    /// The broker has nothing at the offset asked for.
    OutOfRange(i64),
    /// What follows cannot be read.
    Error(ClientError),
    /// What follows may not be read now: it is asked for again later.
    Denied(ClientError),
}

/// The queue of everything that was fetched.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    entries: VecDeque<Fetched>,
}

impl Queue {
    pub fn push(&mut self, fetched: Fetched) {
        self.entries.push_back(fetched);
    }

    /// Puts back what was begun.
    pub fn push_front(&mut self, fetched: Fetched) {
        self.entries.push_front(fetched);
    }

    /// The first that may be read. What is stale goes, what is paused stays.
    pub fn pop(&mut self, positions: &Positions) -> Option<Fetched> {
        let mut at = 0;
        while let Some(entry) = self.entries.get(at) {
            match positions.is_readable(entry.handle) {
                Readable::Paused => at += 1,
                Readable::Stale => drop(self.entries.remove(at)),
                Readable::Yes => return self.entries.remove(at),
            }
        }
        None
    }

    /// Takes out an end that all before was read of.
    pub fn pop_end(&mut self, positions: &mut Positions) -> Option<(Handle, End)> {
        let at = self.entries.iter().position(|entry| {
            let one = positions.get(entry.handle);
            let read = one.is_some_and(|one| !one.paused && one.read == one.fetch_offset);
            entry.records.is_empty() && read
        })?;
        let entry = self.entries.remove(at)?;
        Some((entry.handle, entry.end?))
    }

    /// Whether something waits for a paused partition.
    pub fn has_paused(&self, positions: &Positions) -> bool {
        let paused = |entry: &Fetched| positions.is_readable(entry.handle) == Readable::Paused;
        self.entries.iter().any(paused)
    }

    /// Whether `pop` would give something.
    pub fn is_ready(&self, positions: &Positions) -> bool {
        let ready = |entry: &Fetched| positions.is_readable(entry.handle) == Readable::Yes;
        self.entries.iter().any(ready)
    }

    /// Drops what nobody will read.
    pub fn drop_stale(&mut self, positions: &Positions) {
        self.entries
            .retain(|entry| positions.is_readable(entry.handle) != Readable::Stale);
    }

    /// Drops what was fetched for paused partitions: they begin again at their positions.
    pub fn drop_paused(&mut self, positions: &mut Positions) {
        let mut kept = VecDeque::with_capacity(self.entries.len());
        for entry in self.entries.drain(..) {
            match positions.get(entry.handle) {
                Some(one) if one.paused => {
                    let (topic, partition) = (one.topic.clone(), one.partition);
                    positions.restart(&topic, partition);
                }
                Some(_) => kept.push_back(entry),
                None => {}
            }
        }
        self.entries = kept;
    }
}

/// Which producers' transactions are to be skipped, along the log.
#[derive(Debug, Default)]
pub(crate) struct Aborted {
    /// By first offset, the last one first.
    begins: Vec<AbortedTransaction>,
    open: HashSet<i64>,
}

impl Aborted {
    pub fn new(mut begins: Vec<AbortedTransaction>) -> Aborted {
        begins.sort_by_key(|one| std::cmp::Reverse(one.first_offset));
        Aborted {
            begins,
            open: HashSet::new(),
        }
    }

    /// Whether the records of a batch are to be skipped. Asking again changes nothing.
    pub fn skips(&mut self, header: &BatchHeader) -> bool {
        while let Some(next) = self.begins.last() {
            if next.first_offset > header.last_offset() {
                break;
            }
            self.open.insert(next.producer_id);
            self.begins.pop();
        }
        header.is_transactional() && self.open.contains(&header.producer_id)
    }

    /// The end of a transaction.
    pub fn marker(&mut self, producer: i64, marker: Marker) {
        if marker == Marker::Abort {
            self.open.remove(&producer);
        }
    }
}

/// What arrived for one partition, looked at once.
#[derive(Debug)]
pub(crate) struct Arrived {
    /// Whole batches, from the one that holds the offset asked for on.
    pub records: Bytes,
    /// The offset after them.
    pub next: i64,
    /// Leader epoch of the last one.
    pub epoch: i32,
    pub batches: u64,
    /// Why there is no more.
    pub error: Option<Bad>,
}

/// What cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Bad {
    /// A damaged batch at this offset.
    Corrupt(i64, String),
    /// A batch where none may be.
    Misplaced(String),
    /// A batch of this size that was cut off, and nothing before it.
    TooLarge(usize),
}

/// Finds the whole batches in `records`, a slice of `body`, and checks them. A batch at the end
/// that is cut off comes again with the next fetch. Offsets lie outside the checksum: they must
/// follow from what was asked for, and end at the high watermark `high` (-1: unknown).
pub(crate) fn arrive(
    body: &Bytes,
    records: &[u8],
    offset: i64,
    high: i64,
    check_crcs: bool,
) -> Arrived {
    let mut arrived = Arrived {
        records: Bytes::new(),
        next: offset,
        epoch: -1,
        batches: 0,
        error: None,
    };
    let mut end = 0;
    let mut batches = Batches::new(records);
    for batch in batches.by_ref() {
        let checked = match &batch {
            Ok(batch) => check(batch, &arrived, high, check_crcs),
            Err(bad) => Err(Bad::Corrupt(arrived.next, bad.error.to_string())),
        };
        match (batch, checked) {
            (Ok(batch), Ok(())) => {
                end = batch.position + batch.bytes.len();
                arrived.next = batch.header.next_offset();
                arrived.epoch = batch.header.partition_leader_epoch;
                arrived.batches += 1;
            }
            (_, Err(bad)) => {
                arrived.error = Some(bad);
                break;
            }
            (Err(_), Ok(())) => break,
        }
    }
    if end > 0 {
        arrived.records = body.slice_ref(records.get(..end).unwrap_or_default());
    } else if !records.is_empty() && arrived.error.is_none() {
        let size = peek_size(records).unwrap_or(records.len());
        arrived.error = Some(Bad::TooLarge(size));
    }
    arrived
}

fn check(batch: &Batch<'_>, so_far: &Arrived, high: i64, check_crcs: bool) -> Result<(), Bad> {
    let header = &batch.header;
    let (first, last) = (header.base_offset, header.last_offset());
    if header.last_offset_delta < 0 {
        let what = "its last offset lies before its first".to_owned();
        return Err(Bad::Corrupt(first, what));
    }
    // The first batch may begin before what was asked for, the others follow one another.
    if last < so_far.next || (so_far.batches > 0 && first < so_far.next) {
        let next = so_far.next;
        let what = format!("a batch of offsets {first} to {last} where {next} is expected");
        return Err(Bad::Misplaced(what));
    }
    if high >= 0 && last >= high {
        let what = format!("a batch of offsets {first} to {last} beyond the high watermark {high}");
        return Err(Bad::Misplaced(what));
    }
    if check_crcs && !batch.verify_crc() {
        let next = header.next_offset();
        let what =
            format!("its CRC32C does not match (by its header, the next batch begins at {next})");
        return Err(Bad::Corrupt(first, what));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
