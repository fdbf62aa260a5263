//! Reading a coordinator's log: the last value of every key, as `docs/internals/groups.md` has it.
//! Runs in the pool.

use std::collections::hash_map::Entry;
use std::collections::HashMap;
use std::sync::Arc;

use mqlog_log::{Partition, ReadError, ReadUpTo};
use mqlog_record::{BatchError, Batches, RecordError};
use thiserror::Error;

/// Bytes of log in memory at once, unless one batch is larger.
const STEP: usize = 4 << 20;
/// Most bytes a batch may open to.
const MAX_UNCOMPRESSED: usize = 64 << 20;
/// Versions of a key: an offset's, the older one too, and a group's.
const OFFSET_KEYS: [i16; 2] = [0, 1];
const GROUP_KEY: i16 = 2;

/// What a coordinator's log holds. Values are as they were written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replay {
    /// Group, topic, partition, value.
    pub offsets: Vec<(String, String, i32, Vec<u8>)>,
    /// Group, value.
    pub groups: Vec<(String, Vec<u8>)>,
    /// Bytes of the log that were read.
    pub bytes: u64,
    /// Records whose key says nothing to this version.
    pub skipped: u64,
    /// Where reading ended.
    pub end: i64,
}

#[derive(Debug, Error)]
pub(crate) enum ReplayError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("batch at offset {offset}: {error}")]
    Batch { offset: i64, error: BatchError },
    #[error("records of the batch at offset {offset}: {error}")]
    Records { offset: i64, error: RecordError },
}

#[derive(PartialEq, Eq, Hash)]
enum Key {
    Offset(String, String, i32),
    Group(String),
}

/// Reads `partition` from its log start to the end it has now.
pub(crate) fn replay(partition: &Arc<Partition>) -> Result<Replay, ReplayError> {
    let mut replay = Replay::default();
    let mut last: HashMap<Key, Vec<u8>> = HashMap::new();
    let (mut offset, end) = (partition.log_start(), partition.log_end());
    let mut bytes = Vec::new();
    while offset < end {
        let range = partition.read_blocking(offset, STEP, true, ReadUpTo::LogEnd)?;
        if range.len == 0 {
            break;
        }
        range.check()?;
        bytes.clear();
        range.read_into(&mut bytes)?;
        replay.bytes += bytes.len() as u64;
        take(
            &bytes,
            partition.log_start(),
            &mut last,
            &mut replay.skipped,
        )?;
        offset = range.next_offset;
    }
    replay.end = offset;
    for (key, value) in last {
        match key {
            Key::Group(group) => replay.groups.push((group, value)),
            Key::Offset(group, topic, index) => replay.offsets.push((group, topic, index, value)),
        }
    }
    Ok(replay)
}

fn take(
    bytes: &[u8],
    log_start: i64,
    last: &mut HashMap<Key, Vec<u8>>,
    skipped: &mut u64,
) -> Result<(), ReplayError> {
    for batch in Batches::new(bytes) {
        let batch = batch.map_err(|error| ReplayError::Batch {
            offset: log_start,
            error,
        })?;
        if batch.header.is_control() {
            continue;
        }
        let fault = |error| ReplayError::Records {
            offset: batch.header.base_offset,
            error,
        };
        let open = batch.open(MAX_UNCOMPRESSED).map_err(fault)?;
        for record in open.records() {
            let record = record.map_err(fault)?;
            if record.offset < log_start {
                continue;
            }
            let Some(key) = record.key.and_then(parse) else {
                *skipped += 1;
                continue;
            };
            match (last.entry(key), record.value) {
                (Entry::Occupied(mut held), Some(value)) => {
                    let held = held.get_mut();
                    held.clear();
                    held.extend_from_slice(value);
                }
                (Entry::Occupied(held), None) => drop(held.remove()),
                (Entry::Vacant(room), Some(value)) => drop(room.insert(value.to_vec())),
                (Entry::Vacant(_), None) => {}
            }
        }
    }
    Ok(())
}

fn parse(mut key: &[u8]) -> Option<Key> {
    let version = i16::from_be_bytes(cut(&mut key)?);
    if OFFSET_KEYS.contains(&version) {
        let (group, topic) = (text(&mut key)?, text(&mut key)?);
        return Some(Key::Offset(
            group,
            topic,
            i32::from_be_bytes(cut(&mut key)?),
        ));
    }
    (version == GROUP_KEY).then(|| text(&mut key).map(Key::Group))?
}

fn cut<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

fn text(bytes: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(i16::from_be_bytes(cut(bytes)?)).ok()?;
    let (head, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    String::from_utf8(head.to_vec()).ok()
}
