//! Counters of a data directory.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What a data directory has done since it was opened.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct DirStats {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl DirStats {
            /// Every counter with its name.
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }

        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub $name: AtomicU64,)*
        }

        impl Counters {
            pub fn read(&self) -> DirStats {
                DirStats { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Batches appended.
    appends,
    /// Bytes appended.
    append_bytes,
    /// Flush rounds.
    flushes,
    /// Files flushed one by one.
    file_syncs,
    /// `syncfs` calls.
    fs_syncs,
    /// Flushes an append had to wait for because no descriptor was left.
    forced_flushes,
    /// Checkpoints written.
    checkpoints,
    /// Partitions whose tail was read and checked at start.
    recovered_partitions,
    /// Bytes read and checked at start.
    recovered_bytes,
    /// Bytes cut off at start.
    cut_bytes,
    /// Damaged or lost ranges found.
    quarantined_ranges,
    /// Appends undone because the disk was full.
    full_disk,
    /// Segment files opened.
    file_opens,
    /// Segment files closed to stay within the budget.
    file_evictions,
    /// Partitions that went offline.
    offline_partitions,
}

impl Counters {
    pub fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}
