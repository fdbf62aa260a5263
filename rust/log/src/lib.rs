//! One partition's log and the data directory that holds many.
//!
//! A [`DataDir`] is opened once per process; it hands out [`Partition`]s. A batch is checked
//! without a lock ([`check_batch`]), appended ([`Partition::append`]), flushed by the directory's
//! flusher, and read back as ranges of whole stored batches ([`Partition::read`]). What may be
//! acknowledged and read is what lies below the high watermark; nothing below it is ever lost or
//! given to other bytes. `docs/internals/` says how: ownership, disk, commit and recovery.
//!
//! What it is not: it knows no topics by name, no sockets and no cluster; what to retain, who
//! leads and which settings hold is decided elsewhere.
//!
//! ```
//! use std::sync::Arc;
//! use mqlog_log::{check_batch, AppendMode, DataDir, DataDirOptions, LogConfig, ReadUpTo};
//! use mqlog_log::{RealDisk, SystemClock};
//! use mqlog_record::{BatchBuilder, Codec};
//!
//! # let path = std::env::temp_dir().join(format!("mqlog-doc-{}", std::process::id()));
//! let options = DataDirOptions::new(&path);
//! let dir = DataDir::open(Arc::new(RealDisk), Arc::new(SystemClock::new()), options)?;
//! let config = Arc::new(LogConfig::default());
//! let partition = dir.create_partitions(&[([7; 16], 0, config.clone(), 0)])?.remove(0);
//!
//! let mut builder = BatchBuilder::new(Codec::Lz4);
//! builder.append(Some(b"key"), Some(b"value"), 1_700_000_000_000, &[])?;
//! let mut batch = builder.build()?;
//! let now_ms = 1_700_000_000_000;
//! let checked = check_batch(&mut batch, &config, true, now_ms)?;
//! let mut answers = Vec::new();
//! partition.append(&mut [checked], AppendMode::Assign, &mut answers, now_ms);
//! assert_eq!(answers[0].as_ref().unwrap().base_offset, 0);
//! assert_eq!(partition.high_watermark(), 0);
//!
//! dir.flush_once()?;
//! assert_eq!(partition.high_watermark(), 1);
//! let range = partition.read(0, 1 << 20, true, ReadUpTo::HighWatermark)?;
//! let mut bytes = Vec::new();
//! range.read_into(&mut bytes)?;
//! assert_eq!(bytes, batch);
//! dir.shutdown();
//! # std::fs::remove_dir_all(&path)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod append;
mod atomic_file;
mod check;
mod checkpoint;
mod clock;
mod config;
mod cut;
mod dir;
pub mod disk;
mod epochs;
mod error;
mod files;
mod flush;
#[cfg(test)]
mod format_v1;
mod holes;
mod hook;
mod identity;
mod idx_file;
mod index;
mod lookup;
mod marks;
mod os;
mod partition;
mod pool;
mod producer;
mod quarantine;
mod range;
mod read;
mod real;
mod recover;
mod resync;
mod retention;
mod scan;
mod segment;
mod shared;
pub mod sim;
mod snapshot;
mod stats;
mod topic_dirs;
mod truncate;
mod waiters;

pub use append::{AppendMode, Appended};
pub use check::{check_batch, Checked};
pub use clock::{Clock, SystemClock};
#[doc(hidden)]
pub use config::Bugs;
pub use config::{DataDirOptions, Durability, LogConfig};
pub use dir::{DataDir, OpenedPartition, Wanted, META_TOPIC_ID};
pub use disk::{Disk, DiskFile};
pub use epochs::EpochStart;
pub use error::{AppendError, LogError, ReadError};
pub use holes::{Hole, HoleKind};
pub use hook::{AppendHook, Verdict};
pub use identity::{random_id, Identity};
pub use lookup::TimedOffset;
pub use marks::Mark;
pub use partition::{Partition, Recovery, SegmentInfo, State};
pub use pool::Job;
pub use producer::{ProducerBatch, ProducerInfo};
pub use range::ReadRange;
pub use read::ReadUpTo;
pub use real::RealDisk;
pub use segment::Segment;
pub use shared::OfflineHook;
pub use stats::DirStats;
pub use waiters::Wake;

/// A topic's id, which unlike its name is never used again.
pub type TopicId = [u8; 16];
