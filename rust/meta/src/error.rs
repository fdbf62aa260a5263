//! What can go wrong with metadata, with the values a person needs to act on it.

use crate::record::TopicId;

/// Why bytes are not a metadata record or an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end before a field does.
    #[error("metadata record {record} ends inside field '{field}' ({left} bytes left)")]
    Truncated {
        /// Name of the record.
        record: &'static str,
        /// Name of the field.
        field: &'static str,
        /// Bytes that remained.
        left: usize,
    },
    /// Bytes remain after the last field.
    #[error("metadata record {record} has {left} bytes after its last field")]
    Trailing {
        /// Name of the record.
        record: &'static str,
        /// Bytes that remained.
        left: usize,
    },
    /// A field holds something it cannot.
    #[error("metadata record {record}: field '{field}' is not valid: {why}")]
    Invalid {
        /// Name of the record.
        record: &'static str,
        /// Name of the field.
        field: &'static str,
        /// What is wrong.
        why: &'static str,
    },
    /// A record type this build does not know.
    #[error(
        "metadata record type {kind} (version {version}) is unknown to this mqlog: the data \
         directory was written by a newer one; start that version instead"
    )]
    UnknownType {
        /// Type number found.
        kind: u16,
        /// Version found.
        version: u16,
    },
    /// A known record in a version this build does not know.
    #[error(
        "metadata record {record} has version {version}, this mqlog reads up to {ours}: the data \
         directory was written by a newer one; start that version instead"
    )]
    NewerVersion {
        /// Name of the record.
        record: &'static str,
        /// Version found.
        version: u16,
        /// Newest version this build reads.
        ours: u16,
    },
}

/// Why a record does not fit the image it is applied to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// A live topic has that name.
    #[error("topic '{name}' already exists")]
    TopicNameTaken {
        /// The name.
        name: String,
    },
    /// A live topic has that id.
    #[error("topic id {} already exists", hex(.id))]
    TopicIdTaken {
        /// The id.
        id: TopicId,
    },
    /// No topic has that id.
    #[error("no topic has id {}", hex(.id))]
    UnknownTopicId {
        /// The id.
        id: TopicId,
    },
    /// No topic has that name.
    #[error("no topic is named '{name}'")]
    UnknownTopicName {
        /// The name.
        name: String,
    },
    /// Partitions are added one after the other.
    #[error("topic '{topic}' has {count} partitions, partition {index} cannot be next")]
    PartitionGap {
        /// The topic.
        topic: String,
        /// Partitions it has.
        count: usize,
        /// Index asked for.
        index: i32,
    },
    /// A leader epoch went back.
    #[error("leader epoch of '{topic}'-{index} cannot go back from {current} to {asked}")]
    EpochBackwards {
        /// The topic.
        topic: String,
        /// The partition.
        index: i32,
        /// Its epoch.
        current: i32,
        /// Epoch asked for.
        asked: i32,
    },
    /// A producer id would be given out twice.
    #[error("next producer id cannot go back from {current} to {asked}")]
    ProducerIdsBackwards {
        /// Next id in the image.
        current: i64,
        /// Next id asked for.
        asked: i64,
    },
}

/// Why the metadata log cannot be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum MetaError {
    /// A record does not fit: nothing was written.
    #[error("metadata proposal refused: {0}")]
    Refused(#[from] ApplyError),
    /// More than one batch can hold.
    #[error("metadata proposal has {bytes} bytes, at most {limit} fit: split it")]
    TooLarge {
        /// Bytes it has.
        bytes: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// An earlier proposal was written but not flushed.
    #[error(
        "metadata log: an earlier proposal could not be made durable ({0}), so whether it counts \
         is not known: restart to find out"
    )]
    Unsettled(String),
    /// The engine below refused.
    #[error("metadata log: {0}")]
    Log(String),
    /// A stored record cannot be read.
    #[error("metadata log at offset {offset}: {source}")]
    Decode {
        /// Offset of the record.
        offset: i64,
        /// Why.
        source: DecodeError,
    },
    /// A stored record does not fit what came before it.
    #[error("metadata log at offset {offset}: {source}")]
    Apply {
        /// Offset of the record.
        offset: i64,
        /// Why.
        source: ApplyError,
    },
    /// The log begins after where every readable image ends.
    #[error(
        "metadata log starts at offset {log_start} but the newest readable image ends at \
         {image}: records between are gone ({detail}); restore meta/ from a backup"
    )]
    Gap {
        /// First offset of the log.
        log_start: i64,
        /// Offset that the image stands for.
        image: i64,
        /// Which image files were skipped, and why.
        detail: String,
    },
    /// A file of `meta/` failed.
    #[error("{path}: {what}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What was being done.
        what: &'static str,
        /// The kernel's error.
        source: std::io::Error,
    },
    /// An image file of a newer format.
    #[error("{path} has image version {version}, this mqlog reads up to {ours}")]
    NewerImage {
        /// The file.
        path: String,
        /// Version found.
        version: u16,
        /// Newest version this build reads.
        ours: u16,
    },
}

/// 32 hex digits.
pub(crate) fn hex(id: &TopicId) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
