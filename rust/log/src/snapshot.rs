//! The `.snapshot` file: producer state at an offset.

use std::path::{Path, PathBuf};

use crate::atomic_file::{self, Reader, Unusable, Writer};
use crate::disk::Disk;
use crate::producer::{ProducerBatch, ProducerInfo};
use crate::segment::{file_name, parse_name};

const MAGIC: &[u8; 4] = b"MQPS";
const VERSION: u16 = 1;
/// The newest ones that are kept, besides the one a checkpoint names.
const KEPT: usize = 2;

pub(crate) fn path(dir: &Path, offset: i64) -> PathBuf {
    dir.join(file_name(offset, "snapshot"))
}

pub(crate) fn encode(offset: i64, producers: &[ProducerInfo]) -> Vec<u8> {
    let mut out = Writer::new(MAGIC, VERSION, 0);
    out.i64(offset);
    out.u32(producers.len() as u32);
    for producer in producers {
        out.i64(producer.id);
        out.i16(producer.epoch);
        out.i32(producer.coordinator_epoch);
        out.i64(producer.first_transaction_offset);
        out.i64(producer.last_timestamp);
        out.u8(producer.batches.len() as u8);
        for batch in &producer.batches {
            out.i64(batch.last_offset);
            out.i32(batch.base_sequence);
            out.i32(batch.last_sequence);
            out.i64(batch.timestamp);
        }
    }
    out.finish()
}

fn parse_producer(reader: &mut Reader<'_>) -> Option<ProducerInfo> {
    let mut producer = ProducerInfo {
        id: reader.i64()?,
        epoch: reader.i16()?,
        coordinator_epoch: reader.i32()?,
        first_transaction_offset: reader.i64()?,
        last_timestamp: reader.i64()?,
        batches: Vec::new(),
    };
    for _ in 0..reader.u8()? {
        producer.batches.push(ProducerBatch {
            last_offset: reader.i64()?,
            base_sequence: reader.i32()?,
            last_sequence: reader.i32()?,
            timestamp: reader.i64()?,
        });
    }
    Some(producer)
}

/// Loads the snapshot at an offset.
pub(crate) fn load(
    disk: &dyn Disk,
    dir: &Path,
    offset: i64,
) -> Result<Vec<ProducerInfo>, Unusable> {
    let parse = |_, reader: &mut Reader<'_>| {
        if reader.i64()? != offset {
            return None;
        }
        let count = reader.u32()?;
        (0..count).map(|_| parse_producer(reader)).collect()
    };
    atomic_file::read(disk, &path(dir, offset), MAGIC, VERSION, parse)
}

/// Offsets of the snapshots among `names`, rising.
pub(crate) fn offsets(names: &[String]) -> Vec<i64> {
    let mut offsets: Vec<i64> = names
        .iter()
        .filter_map(|name| parse_name(name, "snapshot"))
        .collect();
    offsets.sort_unstable();
    offsets
}

/// Removes all but the newest two and the one at `named`.
pub(crate) fn prune(disk: &dyn Disk, dir: &Path, named: i64) {
    let Ok(names) = disk.list(dir) else {
        return;
    };
    let offsets = offsets(&names);
    let old = offsets.len().saturating_sub(KEPT);
    for offset in offsets.iter().take(old).filter(|offset| **offset != named) {
        // One that stays costs nothing but its bytes, and is pruned next time.
        let _ = disk.unlink(&path(dir, *offset));
    }
}
