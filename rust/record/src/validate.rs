//! The checks a broker makes before it accepts a producer's batch.
//!
//! Whether control and transactional batches are welcome is the caller's decision.

use crate::header::{compute_crc, BatchHeader};
use crate::{Codec, OpenBatch, RecordError, HEADER_LEN};

/// The least a record takes: its length, attributes, two deltas, two lengths, header count.
const RECORD_LEAST: usize = 7;

/// What opening a batch tells beyond its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordsInfo {
    /// Smallest timestamp of a record, in ms.
    pub min_timestamp: i64,
    /// Largest timestamp of a record, in ms.
    pub max_timestamp: i64,
    /// Whether any record has no key, which a compacted topic cannot take.
    pub null_keys: bool,
    /// Bytes of the records section, uncompressed.
    pub uncompressed: usize,
}

/// Checks that `batch` is exactly one batch of at most `max_size` bytes that may get offsets:
/// length, format, checksum, record count, codec, producer fields. Opens nothing.
pub fn validate_header(batch: &[u8], max_size: usize) -> Result<BatchHeader, RecordError> {
    let header = BatchHeader::parse(batch)?;
    if header.size() != batch.len() {
        return Err(RecordError::SizeMismatch {
            declared: header.size(),
            actual: batch.len(),
        });
    }
    if batch.len() > max_size {
        return Err(RecordError::TooLarge {
            size: batch.len(),
            limit: max_size,
        });
    }
    let computed = compute_crc(batch);
    if computed != header.crc {
        return Err(RecordError::Crc {
            stored: header.crc,
            computed,
        });
    }
    check_count(&header)?;
    check_producer(&header)?;
    Ok(header)
}

fn check_count(header: &BatchHeader) -> Result<(), RecordError> {
    let (count, last_offset_delta) = (header.records_count, header.last_offset_delta);
    if count < 1 || last_offset_delta != count - 1 {
        return Err(RecordError::Count {
            count,
            last_offset_delta,
        });
    }
    let bytes = header.size() - HEADER_LEN;
    let least = (count as usize).saturating_mul(RECORD_LEAST);
    if header.codec()? == Codec::None && least > bytes {
        return Err(RecordError::CountBytes { count, bytes });
    }
    Ok(())
}

/// A marker is written by the broker and has no sequence; any other batch with a producer id has.
fn check_producer(header: &BatchHeader) -> Result<(), RecordError> {
    let sequenced = header.is_control() || header.base_sequence >= 0;
    if header.has_producer() && (header.producer_epoch < 0 || !sequenced) {
        return Err(RecordError::Producer {
            id: header.producer_id,
            epoch: header.producer_epoch,
            sequence: header.base_sequence,
        });
    }
    Ok(())
}

/// Opens `batch`, decompressing to `max_uncompressed` bytes at most, and walks every record:
/// lengths, offset deltas from 0 in steps of 1, nothing left over. Call [`validate_header`] first.
pub fn validate_records(batch: &[u8], max_uncompressed: usize) -> Result<RecordsInfo, RecordError> {
    let open = OpenBatch::new(batch, max_uncompressed)?;
    let mut info = RecordsInfo {
        min_timestamp: i64::MAX,
        max_timestamp: i64::MIN,
        null_keys: false,
        uncompressed: open.body().len(),
    };
    for (index, record) in (0..).zip(open.records()) {
        let record = record?;
        if record.offset_delta != index {
            return Err(RecordError::OffsetDelta {
                index,
                delta: record.offset_delta,
            });
        }
        info.min_timestamp = info.min_timestamp.min(record.timestamp);
        info.max_timestamp = info.max_timestamp.max(record.timestamp);
        info.null_keys |= record.key.is_none();
    }
    Ok(info)
}
