//! What one log and one data directory are told. Names follow Kafka's topic settings.

use std::path::PathBuf;

/// Settings of one partition's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// `segment.bytes`: a segment is closed before it grows beyond this.
    pub segment_bytes: u32,
    /// `segment.ms`: a segment is closed when its first batch is this old.
    pub segment_ms: i64,
    /// `index.interval.bytes`: bytes of log between two index entries.
    pub index_interval_bytes: u32,
    /// `retention.ms`; -1 keeps everything. Kept for the policy, the log does not act on it.
    pub retention_ms: i64,
    /// `retention.bytes`; -1 keeps everything. Kept for the policy, the log does not act on it.
    pub retention_bytes: i64,
    /// `file.delete.delay.ms`: how long a removed segment's file stays.
    pub file_delete_delay_ms: i64,
    /// `max.message.bytes`: largest batch, as sent.
    pub max_message_bytes: usize,
    /// `message.timestamp.type=LogAppendTime`.
    pub log_append_time: bool,
    /// `message.timestamp.before.max.ms`.
    pub ts_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub ts_after_max_ms: i64,
    /// `mqlog.validate=records`: batches are opened before they are stored.
    pub validate_records: bool,
    /// `cleanup.policy` holds `compact`: records need keys.
    pub compact: bool,
    /// The broker's own: written from the reserve even when the disk is full, but for its last
    /// quarter.
    pub essential: bool,
    /// `flush.ms`: how long written bytes may stay unflushed when nobody waits for them.
    pub flush_ms: i64,
    /// Producers remembered per partition; the longest idle one is forgotten beyond it.
    pub max_producers: usize,
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig {
            segment_bytes: 1 << 30,
            segment_ms: 604_800_000,
            index_interval_bytes: 4096,
            retention_ms: 604_800_000,
            retention_bytes: -1,
            file_delete_delay_ms: 60_000,
            max_message_bytes: 1_048_588,
            log_append_time: false,
            ts_before_max_ms: i64::MAX,
            ts_after_max_ms: 3_600_000,
            validate_records: false,
            compact: false,
            essential: false,
            flush_ms: 100,
            max_producers: 100_000,
        }
    }
}

/// What makes bytes count as committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// They are flushed to the device.
    Fsync,
    /// The kernel has them.
    Os,
}

/// How a data directory is opened.
#[derive(Debug, Clone)]
pub struct DataDirOptions {
    /// The directory; made if it does not exist.
    pub path: PathBuf,
    /// What makes bytes count as committed.
    pub durability: Durability,
    /// Cluster id for a new directory; a random one if `None`.
    pub cluster_id: Option<String>,
    /// Node id for a new directory; an existing one must have the same.
    pub node_id: i32,
    /// Milliseconds between checkpoints.
    pub checkpoint_interval_ms: u64,
    /// Bytes of appends between checkpoints.
    pub checkpoint_bytes: u64,
    /// Segment files open at once, at least 16.
    pub fd_budget: usize,
    /// Bytes appended and not flushed beyond which [`crate::DataDir::over_unflushed`] holds.
    pub unflushed_max: u64,
    /// Whether one `syncfs` may stand for many `fdatasync`.
    pub syncfs: bool,
    /// Bytes held back for a full disk, at most an eighth of it; 0 keeps no reserve.
    pub reserve_bytes: u64,
    /// Bytes that `cut/` may hold.
    pub cut_max_bytes: u64,
    /// Bytes of index entries kept for closed segments (`log.index.cache.bytes`).
    pub index_cache_bytes: usize,
    /// `producer.id.expiration.ms`.
    pub producer_expiration_ms: i64,
    /// Threads that recover partitions at start.
    pub recovery_threads: usize,
    /// Threads of the pool.
    pub pool_threads: usize,
    /// Faults for tests that prove that tests catch them.
    #[doc(hidden)]
    pub bugs: Bugs,
}

impl DataDirOptions {
    /// The defaults for a directory.
    pub fn new(path: impl Into<PathBuf>) -> DataDirOptions {
        DataDirOptions {
            path: path.into(),
            durability: Durability::Fsync,
            cluster_id: None,
            node_id: 0,
            checkpoint_interval_ms: 30_000,
            checkpoint_bytes: 256 << 20,
            fd_budget: 512,
            unflushed_max: 128 << 20,
            syncfs: true,
            reserve_bytes: 16 << 20,
            cut_max_bytes: 1 << 30,
            index_cache_bytes: 32 << 20,
            producer_expiration_ms: 86_400_000,
            recovery_threads: 2,
            pool_threads: 4,
            bugs: Bugs::default(),
        }
    }
}

/// Faults that a test can switch on to prove that the crash lab would notice them.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bugs {
    pub(crate) no_dir_fsync: bool,
    pub(crate) ack_before_flush: bool,
    pub(crate) checkpoint_before_flush: bool,
    pub(crate) trust_index: bool,
    pub(crate) reuse_offsets: bool,
}

#[doc(hidden)]
impl Bugs {
    /// The fault of this name, alone.
    pub fn named(name: &str) -> Option<Bugs> {
        let mut bugs = Bugs::default();
        match name {
            "no_dir_fsync" => bugs.no_dir_fsync = true,
            "ack_before_flush" => bugs.ack_before_flush = true,
            "checkpoint_before_flush" => bugs.checkpoint_before_flush = true,
            "trust_index" => bugs.trust_index = true,
            "reuse_offsets" => bugs.reuse_offsets = true,
            _ => return None,
        }
        Some(bugs)
    }
}
