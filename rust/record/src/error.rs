//! What can be wrong with bytes that claim to be a record batch.

use thiserror::Error;

use crate::Codec;

/// Why a batch, a record or a compressed block was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Fewer bytes than the structure needs.
    #[error("needs {needed} bytes, has {have}")]
    TooShort {
        /// Bytes the structure needs.
        needed: usize,
        /// Bytes there are.
        have: usize,
    },
    /// A batch format other than 2.
    #[error("batch magic is {0}, only 2 is supported")]
    Magic(i8),
    /// The length field is below what any batch has.
    #[error("batch length field is {0}, the least is 49")]
    BatchLength(i32),
    /// The bytes hold more or less than exactly one batch.
    #[error("batch declares {declared} bytes, {actual} were given")]
    SizeMismatch {
        /// Bytes by the length field, the 12 before it included.
        declared: usize,
        /// Bytes given.
        actual: usize,
    },
    /// The batch is larger than the caller allows.
    #[error("batch is {size} bytes, the limit is {limit}")]
    TooLarge {
        /// Bytes of the batch.
        size: usize,
        /// The limit it broke.
        limit: usize,
    },
    /// The checksum does not match the bytes.
    #[error("batch CRC32C is {computed:#010x}, its header says {stored:#010x}")]
    Crc {
        /// The header's checksum.
        stored: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// Count and last offset delta contradict each other, or there is no record.
    #[error("batch has {count} records and last offset delta {last_offset_delta}")]
    Count {
        /// The header's record count.
        count: i32,
        /// The header's last offset delta.
        last_offset_delta: i32,
    },
    /// More records than the bytes can hold.
    #[error("batch claims {count} records in {bytes} bytes, a record takes at least 7")]
    CountBytes {
        /// The header's record count.
        count: i32,
        /// Bytes of the records section.
        bytes: usize,
    },
    /// Attribute bits 0-2 name no codec.
    #[error("compression codec {0} does not exist, known are 0-4")]
    UnknownCodec(u8),
    /// A producer id without a valid epoch or sequence.
    #[error("producer {id} with epoch {epoch} and base sequence {sequence}: none may be negative")]
    Producer {
        /// Producer id.
        id: i64,
        /// Producer epoch.
        epoch: i16,
        /// Base sequence.
        sequence: i32,
    },
    /// A variable-length integer that does not end in time.
    #[error("varint at byte {0} of the records is too long or cut off")]
    Varint(usize),
    /// A length that is negative or beyond the bytes that remain.
    #[error("length {length} at byte {position} of the records, {remaining} bytes remain")]
    Length {
        /// The length read.
        length: i64,
        /// Where it was read.
        position: usize,
        /// Bytes after it.
        remaining: usize,
    },
    /// A record's fields do not fill its length exactly.
    #[error("record at byte {position} of the records does not end where its length says")]
    RecordEnd {
        /// Where the record begins.
        position: usize,
    },
    /// Offset deltas of a new batch must count up from zero.
    #[error("record {index} has offset delta {delta}")]
    OffsetDelta {
        /// Position of the record in the batch.
        index: i32,
        /// Its offset delta.
        delta: i32,
    },
    /// Bytes after the last record.
    #[error("{0} bytes follow the last record")]
    Trailing(usize),
    /// The compressed bytes are damaged.
    #[error("{codec} data is damaged: {reason}")]
    Compressed {
        /// Codec of the batch.
        codec: Codec,
        /// What the codec says.
        reason: String,
    },
    /// Decompression would exceed the caller's limit.
    #[error("{codec} data decompresses to more than {limit} bytes")]
    Bomb {
        /// Codec of the batch.
        codec: Codec,
        /// The limit, in bytes.
        limit: usize,
    },
    /// A record too large to be written.
    #[error("{0} bytes do not fit into a batch, whose length is a 31-bit number")]
    Unwritable(usize),
}

impl RecordError {
    /// True if the bytes were damaged on their way (Kafka: CORRUPT_MESSAGE); false if they are
    /// what the sender meant, but against the rules (INVALID_RECORD).
    pub fn is_corrupt(&self) -> bool {
        matches!(
            self,
            Self::Crc { .. }
                | Self::TooShort { .. }
                | Self::SizeMismatch { .. }
                | Self::BatchLength(_)
        )
    }
}
