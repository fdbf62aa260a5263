//! The 61 bytes before the records: read without copying, patched in place.

use crate::{crc32c, Codec, RecordError, HEADER_LEN, LENGTH_OVERHEAD};

const LEADER_EPOCH: usize = 12;
const MAGIC: usize = 16;
const CRC: usize = 17;
/// The checksum covers everything from here to the end of the batch.
const ATTRIBUTES: usize = 21;
const MAX_TIMESTAMP: usize = 35;
/// `batch_length` of a batch without records.
const LEAST_LENGTH: i32 = (HEADER_LEN - LENGTH_OVERHEAD) as i32;

pub(crate) const CODEC_MASK: i16 = 0x07;
pub(crate) const LOG_APPEND_TIME: i16 = 0x08;
pub(crate) const TRANSACTIONAL: i16 = 0x10;
pub(crate) const CONTROL: i16 = 0x20;

/// A batch's header fields, under Kafka's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record (of the batch as first written: compaction keeps it).
    pub base_offset: i64,
    /// Bytes that follow this field: the batch's size less 12.
    pub batch_length: i32,
    /// Epoch of the leader that appended the batch; -1 if unknown.
    pub partition_leader_epoch: i32,
    /// Batch format, always 2.
    pub magic: i8,
    /// CRC-32C from `attributes` on.
    pub crc: u32,
    /// Bits 0-2 codec, 3 log append time, 4 transactional, 5 control, 6 delete horizon.
    pub attributes: i16,
    /// Offset of the last record less `base_offset`.
    pub last_offset_delta: i32,
    /// Timestamp that the records' deltas count from, in ms.
    pub base_timestamp: i64,
    /// Largest timestamp of the batch, or the broker's time of append, in ms.
    pub max_timestamp: i64,
    /// Idempotent producer, or -1.
    pub producer_id: i64,
    /// Its epoch, or -1.
    pub producer_epoch: i16,
    /// Sequence number of the first record, or -1.
    pub base_sequence: i32,
    /// Number of records.
    pub records_count: i32,
}

/// `N` bytes at `at`. The caller has checked the length; zeros where it has not.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .unwrap_or([0; N])
}

impl BatchHeader {
    /// A batch of ours without records, a producer or a place.
    pub const EMPTY: BatchHeader = BatchHeader {
        base_offset: 0,
        batch_length: 0,
        partition_leader_epoch: -1,
        magic: 2,
        crc: 0,
        attributes: 0,
        last_offset_delta: -1,
        base_timestamp: -1,
        max_timestamp: -1,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        records_count: 0,
    };

    /// Reads a header from the start of `bytes` and checks magic and the least length, not the
    /// checksum and not whether the whole batch is there.
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, RecordError> {
        if bytes.len() < HEADER_LEN {
            return Err(RecordError::TooShort {
                needed: HEADER_LEN,
                have: bytes.len(),
            });
        }
        let header = BatchHeader {
            base_offset: i64::from_be_bytes(array(bytes, 0)),
            batch_length: i32::from_be_bytes(array(bytes, 8)),
            partition_leader_epoch: i32::from_be_bytes(array(bytes, LEADER_EPOCH)),
            magic: i8::from_be_bytes(array(bytes, MAGIC)),
            crc: u32::from_be_bytes(array(bytes, CRC)),
            attributes: i16::from_be_bytes(array(bytes, ATTRIBUTES)),
            last_offset_delta: i32::from_be_bytes(array(bytes, 23)),
            base_timestamp: i64::from_be_bytes(array(bytes, 27)),
            max_timestamp: i64::from_be_bytes(array(bytes, MAX_TIMESTAMP)),
            producer_id: i64::from_be_bytes(array(bytes, 43)),
            producer_epoch: i16::from_be_bytes(array(bytes, 51)),
            base_sequence: i32::from_be_bytes(array(bytes, 53)),
            records_count: i32::from_be_bytes(array(bytes, 57)),
        };
        if header.magic != 2 {
            return Err(RecordError::Magic(header.magic));
        }
        if header.batch_length < LEAST_LENGTH {
            return Err(RecordError::BatchLength(header.batch_length));
        }
        Ok(header)
    }

    /// The header of a batch that a producer makes of records, as they go out: length and checksum
    /// are given by what is known of their bytes, whatever the fields said.
    pub fn seal(mut self, len: usize, crc: u32) -> Result<[u8; HEADER_LEN], RecordError> {
        let size = HEADER_LEN.saturating_add(len);
        self.batch_length =
            i32::try_from(size - LENGTH_OVERHEAD).map_err(|_| RecordError::Unwritable(size))?;
        let mut out = self.to_bytes();
        let own = crate::crc32c(out.get(ATTRIBUTES..).unwrap_or_default());
        let crc = crate::crc::combine(own, crc, len);
        put(&mut out, CRC, &crc.to_be_bytes());
        Ok(out)
    }

    /// The 61 bytes of this header.
    pub(crate) fn to_bytes(self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        let fields: [(usize, &[u8]); 13] = [
            (0, &self.base_offset.to_be_bytes()),
            (8, &self.batch_length.to_be_bytes()),
            (LEADER_EPOCH, &self.partition_leader_epoch.to_be_bytes()),
            (MAGIC, &self.magic.to_be_bytes()),
            (CRC, &self.crc.to_be_bytes()),
            (ATTRIBUTES, &self.attributes.to_be_bytes()),
            (23, &self.last_offset_delta.to_be_bytes()),
            (27, &self.base_timestamp.to_be_bytes()),
            (MAX_TIMESTAMP, &self.max_timestamp.to_be_bytes()),
            (43, &self.producer_id.to_be_bytes()),
            (51, &self.producer_epoch.to_be_bytes()),
            (53, &self.base_sequence.to_be_bytes()),
            (57, &self.records_count.to_be_bytes()),
        ];
        for (at, bytes) in fields {
            put(&mut out, at, bytes);
        }
        out
    }

    /// Bytes of the whole batch.
    pub fn size(&self) -> usize {
        usize::try_from(self.batch_length).unwrap_or(0) + LENGTH_OVERHEAD
    }

    /// Offset of the last record; stops at `i64::MAX`.
    pub fn last_offset(&self) -> i64 {
        self.base_offset
            .saturating_add(i64::from(self.last_offset_delta))
    }

    /// Offset after the batch, where a reader goes on; stops at `i64::MAX`.
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// How the records are compressed.
    pub fn codec(&self) -> Result<Codec, RecordError> {
        Codec::try_from((self.attributes & CODEC_MASK) as u8)
    }

    /// A transaction's commit or abort marker, or another record the broker wrote.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// Part of a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// `max_timestamp` is the time of append and stands for every record's timestamp.
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }

    /// Written by an idempotent producer.
    pub fn has_producer(&self) -> bool {
        self.producer_id >= 0
    }
}

/// Total bytes of the batch that begins at `bytes`, by its first 12 bytes; `None` if they are not
/// all there or the length is impossible.
pub fn peek_size(bytes: &[u8]) -> Option<usize> {
    let length = i32::from_be_bytes(*bytes.get(8..LENGTH_OVERHEAD)?.first_chunk()?);
    if length < LEAST_LENGTH {
        return None;
    }
    usize::try_from(length)
        .ok()
        .map(|length| length + LENGTH_OVERHEAD)
}

/// The checksum that the whole batch `batch` should carry.
pub(crate) fn compute_crc(batch: &[u8]) -> u32 {
    crc32c(batch.get(ATTRIBUTES..).unwrap_or_default())
}

/// Whether the checksum in the header of the whole batch `batch` matches its bytes.
pub fn verify_crc(batch: &[u8]) -> bool {
    batch.len() >= HEADER_LEN && u32::from_be_bytes(array(batch, CRC)) == compute_crc(batch)
}

fn put(batch: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(field) = batch.get_mut(at..at + bytes.len()) {
        field.copy_from_slice(bytes);
    }
}

/// Writes the checksum into a finished batch.
pub(crate) fn seal(batch: &mut [u8]) {
    let crc = compute_crc(batch);
    put(batch, CRC, &crc.to_be_bytes());
}

/// Gives a checked batch its place in the log. Both fields lie outside the checksum.
pub fn assign(batch: &mut [u8], base_offset: i64, leader_epoch: i32) {
    put(batch, 0, &base_offset.to_be_bytes());
    put(batch, LEADER_EPOCH, &leader_epoch.to_be_bytes());
}

/// Stamps a checked batch with the broker's time, in ms, and renews its checksum.
pub fn set_log_append_time(batch: &mut [u8], now_ms: i64) {
    let attributes = i16::from_be_bytes(array(batch, ATTRIBUTES)) | LOG_APPEND_TIME;
    put(batch, ATTRIBUTES, &attributes.to_be_bytes());
    put(batch, MAX_TIMESTAMP, &now_ms.to_be_bytes());
    seal(batch);
}
