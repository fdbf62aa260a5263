//! Reads a log as a consumer does: batch by batch, checked, seeking past what is damaged.

use mqlog_log::{Partition, ReadError, ReadUpTo};
use mqlog_record::{BatchHeader, Batches};

/// A batch as it came out of the log.
#[derive(Debug, Clone)]
pub struct Stored {
    pub header: BatchHeader,
    pub bytes: Vec<u8>,
}

/// How a read ended.
#[derive(Debug)]
pub enum Got {
    /// Whole batches, and where the next read begins.
    Batches(Vec<Stored>, i64),
    /// The offset cannot be read; the next that can.
    Hole(i64),
}

/// One fetch, with the checks that the broker makes before it serves old bytes.
pub fn fetch(
    partition: &Partition,
    offset: i64,
    max_bytes: usize,
    up_to: ReadUpTo,
) -> Result<Got, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("a fetch at {offset}: {error}");
    for _ in 0..100 {
        let range = match partition.read(offset, max_bytes, true, up_to) {
            Err(ReadError::NeedsPool) => partition.read_blocking(offset, max_bytes, true, up_to),
            result => result,
        };
        let range = match range {
            Err(ReadError::NeedsPool) => continue,
            Err(ReadError::Corrupt { to, .. }) if to > offset => return Ok(Got::Hole(to)),
            Err(error) => return Err(wrong(&error)),
            Ok(range) => range,
        };
        match range.check() {
            Err(ReadError::NeedsPool) => continue,
            Err(ReadError::Corrupt { to, .. }) if to > offset => return Ok(Got::Hole(to)),
            Err(error) => return Err(wrong(&error)),
            Ok(()) => {}
        }
        let mut bytes = Vec::new();
        range.read_into(&mut bytes).map_err(|error| wrong(&error))?;
        return parse(&bytes, offset, range.next_offset);
    }
    Err(wrong(&"comes to no end"))
}

fn parse(bytes: &[u8], offset: i64, next: i64) -> Result<Got, String> {
    let mut found = Vec::new();
    let mut walk = Batches::new(bytes);
    let mut end = i64::MIN;
    for batch in walk.by_ref() {
        let batch = batch.map_err(|bad| format!("a fetch at {offset} got {:?}", bad.error))?;
        if !batch.verify_crc() {
            return Err(format!(
                "a fetch at {offset} got a batch with a wrong checksum"
            ));
        }
        if batch.header.base_offset < end {
            return Err(format!("a fetch at {offset} got offsets out of order"));
        }
        end = batch.header.next_offset();
        found.push(Stored {
            header: batch.header,
            bytes: batch.bytes.to_vec(),
        });
    }
    if walk.position() != bytes.len() {
        return Err(format!("a fetch at {offset} got a part of a batch"));
    }
    if found
        .first()
        .is_some_and(|first| first.header.next_offset() <= offset)
    {
        return Err(format!("a fetch at {offset} got what lies before it"));
    }
    if !found.is_empty() && next < end {
        return Err(format!(
            "a fetch at {offset} goes on at {next}, inside what it got"
        ));
    }
    Ok(Got::Batches(found, next))
}

/// Everything from the log start to its end.
pub fn read_all(partition: &Partition) -> Result<Vec<Stored>, String> {
    let mut all: Vec<Stored> = Vec::new();
    let mut offset = partition.log_start();
    loop {
        let before = offset;
        match fetch(partition, offset, 16 << 10, ReadUpTo::LogEnd)? {
            Got::Hole(to) => offset = to,
            Got::Batches(batches, _) if batches.is_empty() => return Ok(all),
            Got::Batches(batches, next) => {
                all.extend(batches);
                offset = next;
            }
        }
        if offset <= before {
            return Err(format!("a fetch at {before} says to go on at {offset}"));
        }
    }
}
