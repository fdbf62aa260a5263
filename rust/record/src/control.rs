//! Control batches: the markers that end a transaction in a partition.

use crate::header::{CONTROL, TRANSACTIONAL};
use crate::{BatchBuilder, Codec, Record, RecordError};

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i16)]
pub enum Marker {
    /// Its records are to be skipped by read-committed consumers.
    Abort = 0,
    /// Its records are visible.
    Commit = 1,
}

/// The content of a marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlRecord {
    /// How the transaction ended.
    pub marker: Marker,
    /// Epoch of the coordinator that decided, so that a late marker of an older one is refused.
    pub coordinator_epoch: i32,
}

impl ControlRecord {
    /// Reads a record of a control batch; `None` if it is no transaction marker.
    pub fn parse(record: &Record<'_>) -> Option<ControlRecord> {
        let (version, kind) = record.key?.split_first_chunk::<2>()?;
        if i16::from_be_bytes(*version) < 0 {
            return None;
        }
        let marker = match i16::from_be_bytes(*kind.first_chunk()?) {
            0 => Marker::Abort,
            1 => Marker::Commit,
            _ => return None,
        };
        let (version, epoch) = record.value?.split_first_chunk::<2>()?;
        if i16::from_be_bytes(*version) < 0 {
            return None;
        }
        let coordinator_epoch = i32::from_be_bytes(*epoch.first_chunk()?);
        Some(ControlRecord {
            marker,
            coordinator_epoch,
        })
    }
}

/// A batch with one marker of producer `id` at `epoch`, `timestamp` in ms.
pub fn control_batch(
    content: ControlRecord,
    id: i64,
    epoch: i16,
    timestamp: i64,
) -> Result<Vec<u8>, RecordError> {
    let [kind_high, kind_low] = (content.marker as i16).to_be_bytes();
    let [e0, e1, e2, e3] = content.coordinator_epoch.to_be_bytes();
    let mut builder = BatchBuilder::new(Codec::None)
        .producer(id, epoch, -1)
        .attributes(TRANSACTIONAL | CONTROL);
    let key = [0, 0, kind_high, kind_low];
    builder.append(Some(&key), Some(&[0, 0, e0, e1, e2, e3]), timestamp, &[])?;
    builder.build()
}
