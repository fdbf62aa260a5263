//! What can go wrong, by who has to deal with it: the start ([`LogError`]), a produce
//! ([`AppendError`]), a fetch ([`ReadError`]).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mqlog_record::RecordError;
use thiserror::Error;

use crate::disk::Trouble;

/// Why a data directory or a partition cannot be opened, changed or kept.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum LogError {
    /// Another process serves the directory.
    #[error("data directory {path} is in use by process {pid}: stop it, or use another directory")]
    Locked {
        /// Process id in the lock file, 0 if it cannot be read.
        pid: u32,
        /// The directory.
        path: PathBuf,
    },
    /// The directory was written by a newer mqlog.
    #[error("{path} has format version {found}, this mqlog knows up to {known}: upgrade it")]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// A file that cannot be rebuilt is damaged.
    #[error("{path} is damaged: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The directory belongs to another node.
    #[error("data directory {path} belongs to node {found}, not {wanted}: check node.id")]
    WrongNode {
        /// The directory.
        path: PathBuf,
        /// Node id in it.
        found: i32,
        /// Node id asked for.
        wanted: i32,
    },
    /// A partition's directory, or every log file in it, is gone.
    #[error("{path} is missing: restore it from a backup, or delete the topic")]
    Missing {
        /// The partition's directory.
        path: PathBuf,
    },
    /// A call to the system failed.
    #[error("{action} {path}: {error}{}", advice(error))]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// The system's answer.
        error: Arc<io::Error>,
    },
    /// Partition or directory went offline earlier.
    #[error("offline: {0}")]
    Offline(Arc<str>),
    /// The partition was deleted.
    #[error("the partition was deleted")]
    Deleted,
    /// An offset outside of what the operation allows.
    #[error("offset {offset} is outside of {least}..={most}")]
    OutOfRange {
        /// The offset asked for.
        offset: i64,
        /// The least possible.
        least: i64,
        /// The largest possible.
        most: i64,
    },
    /// Bytes that recovery would have to cut have no room.
    #[error("{path}: {reason}")]
    Recovery {
        /// The partition's directory.
        path: PathBuf,
        /// What keeps it from being recovered, and what to do.
        reason: String,
    },
    /// The handle was made before a fork.
    #[error("used in process {here} after a fork of process {made}: open it again in the child")]
    UsedAfterFork {
        /// Process that made the handle.
        made: u32,
        /// This process.
        here: u32,
    },
}

/// What to do about it, where that is known.
fn advice(error: &io::Error) -> &'static str {
    match Trouble::of(error) {
        Trouble::Full => ": free space",
        _ => "",
    }
}

impl LogError {
    pub(crate) fn io(action: &'static str, path: &Path, error: io::Error) -> LogError {
        LogError::Io {
            action,
            path: path.to_path_buf(),
            error: Arc::new(error),
        }
    }

    /// Kafka's error code for a client whose request ran into this.
    pub fn code(&self) -> i16 {
        match self {
            LogError::OutOfRange { .. } => code::OFFSET_OUT_OF_RANGE,
            LogError::Deleted => code::UNKNOWN_TOPIC_OR_PARTITION,
            _ => code::KAFKA_STORAGE_ERROR,
        }
    }
}

/// Kafka's error codes that the log itself decides on.
pub(crate) mod code {
    pub const OFFSET_OUT_OF_RANGE: i16 = 1;
    pub const CORRUPT_MESSAGE: i16 = 2;
    pub const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
    pub const MESSAGE_TOO_LARGE: i16 = 10;
    pub const INVALID_TIMESTAMP: i16 = 32;
    pub const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;
    pub const INVALID_PRODUCER_EPOCH: i16 = 47;
    pub const INVALID_TXN_STATE: i16 = 48;
    pub const KAFKA_STORAGE_ERROR: i16 = 56;
    pub const UNSUPPORTED_COMPRESSION_TYPE: i16 = 76;
    pub const INVALID_RECORD: i16 = 87;
}

/// Why a batch was not appended.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The bytes are no batch, were damaged on their way, or break the format's rules.
    #[error("{0}")]
    Record(RecordError),
    /// Single records of the batch are refused.
    #[error("{message}")]
    Records {
        /// What is wrong with them all.
        message: String,
        /// Which records (index in the batch), and why.
        errors: Vec<(i32, String)>,
    },
    /// A control batch from a client.
    #[error("clients may not write control batches")]
    Control,
    /// A transactional batch, and transactions are not there yet.
    #[error("transactions are not supported")]
    Transactional,
    /// The batch claims to carry the broker's time.
    #[error("producers may not set the timestamp type to LogAppendTime")]
    TimestampType,
    /// A timestamp too far from the broker's clock.
    #[error("timestamp {timestamp} ms is outside of {least}..={most} ({setting})")]
    Timestamp {
        /// The batch's timestamp, in ms.
        timestamp: i64,
        /// The least accepted now.
        least: i64,
        /// The largest accepted now.
        most: i64,
        /// The setting that says so.
        setting: &'static str,
    },
    /// The sequence number does not follow the last one.
    #[error("producer {producer_id} epoch {epoch}: sequence {sequence} came, {expected} was due")]
    OutOfOrderSequence {
        /// Producer id.
        producer_id: i64,
        /// Producer epoch of the batch.
        epoch: i16,
        /// Its first sequence number.
        sequence: i32,
        /// The one expected.
        expected: i32,
    },
    /// A newer instance of the producer has written.
    #[error("producer {producer_id}: epoch {epoch} is older than {current}")]
    ProducerEpoch {
        /// Producer id.
        producer_id: i64,
        /// Epoch of the batch.
        epoch: i16,
        /// The producer's current epoch.
        current: i16,
    },
    /// A batch that brings its offset brings the wrong one.
    #[error("batch has offset {offset}, the log ends at {log_end}")]
    Offset {
        /// The batch's offset.
        offset: i64,
        /// The offset due.
        log_end: i64,
    },
    /// The write failed, or the disk is full, or the partition is offline.
    #[error("{0}")]
    Storage(Arc<str>),
    /// The partition was deleted.
    #[error("the partition was deleted")]
    Deleted,
}

impl AppendError {
    /// Kafka's error code.
    pub fn code(&self) -> i16 {
        match self {
            AppendError::Record(error) if error.is_corrupt() => code::CORRUPT_MESSAGE,
            AppendError::Record(RecordError::TooLarge { .. }) => code::MESSAGE_TOO_LARGE,
            AppendError::Record(RecordError::UnknownCodec(_)) => code::UNSUPPORTED_COMPRESSION_TYPE,
            AppendError::Record(_) | AppendError::Records { .. } | AppendError::Control => {
                code::INVALID_RECORD
            }
            AppendError::Transactional => code::INVALID_TXN_STATE,
            AppendError::TimestampType | AppendError::Timestamp { .. } => code::INVALID_TIMESTAMP,
            AppendError::OutOfOrderSequence { .. } => code::OUT_OF_ORDER_SEQUENCE_NUMBER,
            AppendError::ProducerEpoch { .. } => code::INVALID_PRODUCER_EPOCH,
            AppendError::Offset { .. } => code::OFFSET_OUT_OF_RANGE,
            AppendError::Storage(_) => code::KAFKA_STORAGE_ERROR,
            AppendError::Deleted => code::UNKNOWN_TOPIC_OR_PARTITION,
        }
    }

    /// Single records that are to blame: index in the batch, and why.
    pub fn record_errors(&self) -> &[(i32, String)] {
        match self {
            AppendError::Records { errors, .. } => errors,
            _ => &[],
        }
    }
}

/// Why nothing was read.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// No such offset: below the log start or above what may be read.
    #[error("offset {offset} is outside of {log_start}..={limit}")]
    OutOfRange {
        /// The offset asked for.
        offset: i64,
        /// The first offset.
        log_start: i64,
        /// The end of what may be read.
        limit: i64,
    },
    /// The answer needs a read that may wait for the device: ask again from the pool.
    #[error("needs a read from the device")]
    NeedsPool,
    /// The offset lies in bytes that are damaged or lost.
    #[error(
        "offsets {from}..{to} in {segment} are {kind}: see `mqlog log verify {segment}`; seek to \
         {to}, or delete the records before it"
    )]
    Corrupt {
        /// First offset that cannot be read.
        from: i64,
        /// First offset after them.
        to: i64,
        /// The segment's file.
        segment: PathBuf,
        /// Damaged or lost.
        kind: &'static str,
    },
    /// Partition or directory is offline.
    #[error("offline: {0}")]
    Offline(Arc<str>),
    /// The partition was deleted.
    #[error("the partition was deleted")]
    Deleted,
    /// The system could not read.
    #[error("{0}")]
    Io(LogError),
}

impl ReadError {
    /// Kafka's error code.
    pub fn code(&self) -> i16 {
        match self {
            ReadError::OutOfRange { .. } => code::OFFSET_OUT_OF_RANGE,
            ReadError::Corrupt { .. } => code::CORRUPT_MESSAGE,
            ReadError::Deleted => code::UNKNOWN_TOPIC_OR_PARTITION,
            _ => code::KAFKA_STORAGE_ERROR,
        }
    }
}

impl From<LogError> for ReadError {
    fn from(error: LogError) -> ReadError {
        match error {
            LogError::Offline(reason) => ReadError::Offline(reason),
            LogError::Deleted => ReadError::Deleted,
            other => ReadError::Io(other),
        }
    }
}
